//go:build linux || darwin || freebsd

package pkcs11

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/key/pkcs11uri"
	"github.com/hallmark-dev/hallmark/internal/key/plugin"
)

// final makes an error one that must not be repeated: a token locks itself after some
// wrong PINs.
func final(err error) error { return &plugin.FinalError{Err: err} }

// Key is what one URI names, in one token. It is used by one goroutine.
type Key struct {
	uri      *pkcs11uri.URI
	m        *module
	slot     ulong
	info     tokenInfo
	session  ulong
	loggedIn bool
	pin      []byte
}

// Open loads the module and finds the one token of a URI. It does not log in.
func Open(u *pkcs11uri.URI) (*Key, error) {
	path, err := modulePath(u)
	if err != nil {
		return nil, err
	}
	for _, wait := range append(lookAgain, 0) {
		m, lerr := load(path)
		if lerr != nil {
			return nil, lerr
		}
		k := &Key{uri: u, m: m}
		if err = k.findToken(); err == nil {
			return k, nil
		}
		m.close()
		if !errors.As(err, new(*noTokenError)) {
			break
		}
		time.Sleep(wait)
	}
	return nil, err
}

// lookAgain is when a token that is not seen is looked for again: SoftHSM writes a token's
// file at each login, and who reads it at that moment sees none.
var lookAgain = []time.Duration{20 * time.Millisecond, 80 * time.Millisecond, 200 * time.Millisecond}

// noTokenError is that no token matches.
type noTokenError struct{ error }

// Close logs out and unloads.
func (k *Key) Close() {
	clear(k.pin)
	k.m.close()
}

func padded(b []byte) string { return strings.TrimRight(string(b), " \x00") }

func (k *Key) findToken() error {
	slots, err := k.m.slots()
	if err != nil {
		return err
	}
	var seen, found []string
	for _, slot := range slots {
		var si slotInfo
		var ti tokenInfo
		if k.m.getSlotInfo(slot, &si) != 0 || k.m.getTokenInfo(slot, &ti) != 0 || ti.flags&ckfTokenInitialized == 0 {
			continue
		}
		name := fmt.Sprintf("%q (serial %s)", padded(ti.label[:]), padded(ti.serial[:]))
		seen = append(seen, name)
		u, match := k.uri, true
		for _, p := range []struct {
			want string
			have []byte
		}{
			{u.Token, ti.label[:]}, {u.Manufacturer, ti.manufacturer[:]}, {u.Model, ti.model[:]}, {u.Serial, ti.serial[:]},
			{u.SlotDescription, si.description[:]}, {u.SlotManufacturer, si.manufacturer[:]},
		} {
			match = match && (p.want == "" || p.want == padded(p.have))
		}
		if match && (u.SlotID == nil || *u.SlotID == uint64(slot)) {
			found = append(found, name)
			k.slot, k.info = slot, ti
		}
	}
	switch {
	case len(seen) == 0:
		return &noTokenError{fmt.Errorf("the module %s sees no token", k.m.path)}
	case len(found) == 0:
		return &noTokenError{fmt.Errorf("no token matches; the module %s sees %s", k.m.path, list(seen))}
	case len(found) > 1:
		return fmt.Errorf("%d tokens match, %s: name one with token= or serial=", len(found), list(found))
	}
	var flags ulong = ckfSerialSession
	if rv := k.m.openSession(k.slot, flags, nil, nil, &k.session); rv != 0 {
		return fmt.Errorf("C_OpenSession: %w", rvError(rv))
	}
	return nil
}

// list bounds what a sentence names.
func list(names []string) string {
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d others", len(names)-5)
	}
	return strings.Join(names, ", ")
}

func (k *Key) tokenName() string { return fmt.Sprintf("the token %q", padded(k.info.label[:])) }

// login logs the user in, once. A wrong PIN is never tried again, and the last try that
// a token has left is left to a person.
func (k *Key) login() error {
	if k.loggedIn || k.info.flags&ckfLoginRequired == 0 {
		return nil
	}
	var pin *byte
	switch {
	case k.info.flags&ckfUserPINLocked != 0:
		return final(fmt.Errorf("%s is locked after too many wrong PINs", k.tokenName()))
	case k.info.flags&ckfProtectedPath != 0: // its reader asks
	default:
		if k.info.flags&ckfUserPINFinalTry != 0 {
			return final(fmt.Errorf("%s has one try for its PIN left, which is not used up here: log in with the right PIN by its own tools first", k.tokenName()))
		}
		var err error
		if k.pin == nil {
			if k.pin, err = findPIN(k.uri); err != nil {
				return err // nothing was tried: the file may be there the next time
			}
		}
		if len(k.pin) == 0 {
			return &plugin.FinalError{WantsPIN: true, Err: fmt.Errorf("%s wants a PIN: add ?pin-source=file:/path to the URI, or set %s", k.tokenName(), pinVariables[0])}
		}
		pin = &k.pin[0]
	}
	return k.logIn(ckuUser, pin)
}

func (k *Key) logIn(user ulong, pin *byte) error {
	n := ulong(len(k.pin))
	if pin == nil {
		n = 0
	}
	switch rv := k.m.login(k.session, user, pin, n); rv {
	case 0, ckrUserAlreadyLoggedIn:
		k.loggedIn = true
		return nil
	case ckrPINIncorrect, ckrPINInvalid, ckrPINLenRange:
		return final(fmt.Errorf("the PIN of %s is wrong (%w); it was tried once", k.tokenName(), rvError(rv)))
	case ckrPINLocked, ckrPINExpired:
		return final(fmt.Errorf("%s does not let its user in: %w", k.tokenName(), rvError(rv)))
	default:
		return fmt.Errorf("logging in to %s: %w", k.tokenName(), rvError(rv))
	}
}

// WantsPIN reports whether the token wants a PIN that is not known here.
func (k *Key) WantsPIN() bool {
	if k.info.flags&ckfLoginRequired == 0 || k.info.flags&ckfProtectedPath != 0 {
		return false
	}
	pin, err := findPIN(k.uri)
	clear(pin)
	return err == nil && len(pin) == 0
}

// find looks for the objects of a class that the URI names.
func (k *Key) find(class ulong) ([]ulong, error) {
	attrs := []attribute{ulongAttr(ckaClass, class)}
	if k.uri.Object != "" {
		attrs = append(attrs, bytesAttr(ckaLabel, []byte(k.uri.Object)))
	}
	if k.uri.ID != nil {
		attrs = append(attrs, bytesAttr(ckaID, k.uri.ID))
	}
	found, err := k.m.objects(k.session, attrs)
	if err != nil {
		return nil, fmt.Errorf("looking for keys in %s: %w", k.tokenName(), err)
	}
	return found, nil
}

// one wants exactly one of them.
func (k *Key) one(what string, found []ulong) (ulong, error) {
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, fmt.Errorf("%s has no %s that matches", k.tokenName(), what)
	}
	var names []string
	for _, o := range found {
		label, _ := k.m.attr(k.session, o, ckaLabel)
		id, _ := k.m.attr(k.session, o, ckaID)
		names = append(names, fmt.Sprintf("%q with id=%s", label, percent(id)))
	}
	slices.Sort(names)
	return 0, fmt.Errorf("%d keys match in %s, %s: name one by object= and id=", len(found), k.tokenName(), list(names))
}

func percent(id []byte) string {
	out := ""
	for _, b := range id {
		out += fmt.Sprintf("%%%02X", b)
	}
	return out
}

// errNoPublic is a token that shows no public half.
var errNoPublic = errors.New("no public key")

// Public is the key's public half: that of the public object, else of the certificate,
// else what the private key tells. It logs in only when nothing is found without.
func (k *Key) Public() (crypto.PublicKey, error) {
	public, err := k.visible()
	if !errors.Is(err, errNoPublic) || k.info.flags&ckfLoginRequired == 0 || k.loggedIn {
		return public, k.sayNoPublic(err)
	}
	if err := k.login(); err != nil {
		return nil, fmt.Errorf("%s shows no public key that matches without its PIN: %w", k.tokenName(), err)
	}
	public, err = k.visible()
	return public, k.sayNoPublic(err)
}

func (k *Key) sayNoPublic(err error) error {
	if errors.Is(err, errNoPublic) {
		return fmt.Errorf("%s has no key that matches", k.tokenName())
	}
	return err
}

func (k *Key) visible() (crypto.PublicKey, error) {
	for _, class := range []ulong{ckoPublicKey, ckoPrivateKey, ckoCertificate} {
		found, err := k.find(class)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			continue
		}
		object, err := k.one("key", found)
		if err != nil {
			return nil, err
		}
		public, err := k.publicOf(object, class)
		if err == nil || !errors.Is(err, errNoPublic) {
			return public, err
		}
	}
	return nil, errNoPublic
}

// Where says for people which key was found.
func (k *Key) Where() string {
	where := fmt.Sprintf("token %q, serial %s, %s %s", padded(k.info.label[:]), padded(k.info.serial[:]), padded(k.info.manufacturer[:]), padded(k.info.model[:]))
	for _, class := range []ulong{ckoPrivateKey, ckoPublicKey} {
		if found, err := k.find(class); err == nil && len(found) == 1 {
			if label, _ := k.m.attr(k.session, found[0], ckaLabel); len(label) > 0 {
				where += fmt.Sprintf(", object %q", label)
			}
			if id, _ := k.m.attr(k.session, found[0], ckaID); len(id) > 0 {
				where += ", id " + percent(id)
			}
			break
		}
	}
	return where + ", module " + k.m.path
}
