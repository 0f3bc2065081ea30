package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/tsa"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
)

// identity is a private key with the certificates that speak for it, leaf
// first; there are none for a bare key. It is one sealed file, so that a crash
// cannot part them.
type identity struct {
	key   crypto.Signer
	chain []*x509.Certificate
	ref   KeyRef // zero: the key is in this folder
}

// keyring reads the authority's identities, and makes them in a folder that is new.
type keyring struct {
	dir string
	// fresh says that the folder was never finished: only then is a missing file
	// made. Later, a new key would silently end the trust in all old evidence.
	fresh bool
	// moved is the tree of the log that another program signs for: its key is not needed.
	moved *movedLog
	// open opens a key by reference, and refs are those that the operator names for
	// the newest key of a service, and for former ones.
	open OpenKey
	refs map[string]KeyRef
	// terms are those of the folder, to tell what a key that is named is.
	terms map[string][]*term
}

// load reads the identity in file name, or makes it in a fresh folder.
func (k keyring) load(name string, make func() (identity, error)) (identity, error) {
	path := filepath.Join(k.dir, name)
	data, err := durable.ReadSealed(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !k.fresh {
			return identity{}, wayOut(&durable.CorruptError{Path: path, Why: "it is missing"})
		}
		made, err := make()
		if err != nil {
			return identity{}, fmt.Errorf("making %s: %w", path, err)
		}
		if data, err = made.encode(); err != nil {
			return identity{}, fmt.Errorf("making %s: %w", path, err)
		}
		if err := durable.WriteSealed(path, data, 0o600); err != nil {
			return identity{}, err
		}
	} else if err != nil {
		return identity{}, wayOut(err)
	}
	id, err := decodeIdentity(data)
	if err != nil {
		return identity{}, wayOut(&durable.CorruptError{Path: path, Why: err.Error()})
	}
	return id, nil
}

// encode is PKCS #8 PEM and certificate PEM (RFC 7468).
func (id identity) encode() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(id.key)
	if err != nil {
		return nil, err
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for _, c := range id.chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out, nil
}

func decodeIdentity(data []byte) (identity, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return identity{}, errors.New("it does not begin with a private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return identity{}, errors.New("its private key cannot be read")
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return identity{}, errors.New("its private key cannot sign")
	}
	id := identity{key: signer}
	for len(rest) > 0 {
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return identity{}, errors.New("something other than certificates follows the key")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return identity{}, errors.New("it has a certificate that cannot be read")
		}
		id.chain = append(id.chain, c)
	}
	if len(id.chain) > 0 {
		public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !public.Equal(id.chain[0].PublicKey) {
			return identity{}, errors.New("its certificate is not for its key")
		}
	}
	return id, nil
}

// firstHolders are the first terms of all keys, of a folder that does not name them
// yet. The keys are loaded, or made in a folder that is new.
func (k keyring) firstHolders(st *state) (holders, error) {
	make := map[string]func() (identity, error){
		ServiceCA: func() (identity, error) {
			key, cert, err := ca.NewRoot(st.Created, organization, caName(st.Host))
			return identity{key: key, chain: []*x509.Certificate{cert}}, err
		},
		ServiceTSA: func() (identity, error) {
			key, chain, err := tsa.NewChain(st.Created)
			return identity{key: key, chain: chain}, err
		},
		ServiceCT: newP256, ServiceLog: newEd25519, ServiceLogV1: newP256,
	}
	out := holders{}
	for _, service := range keyed() {
		one := k
		if service == ServiceLogV1 {
			one.fresh = st.LogV1 == nil
		}
		id, err := one.first(service, make[service])
		if err != nil {
			return nil, err
		}
		from := id
		if service != ServiceTSA && service != ServiceCA {
			// As old as the oldest key: what was signed before a state was lost stays good.
			from = out[ServiceCA][0].id
		}
		t, err := newTerm(id, from.chain[0].NotBefore)
		if err != nil {
			return nil, err
		}
		out[service] = []held{{term: t, n: 1, id: id}}
	}
	return out, nil
}

// caName is the common name of the CAs that are made here. A new key has the name of
// the old one: a client that knows only the old one can tell what it lacks.
func caName(host string) string { return "Hallmark CA on " + host }

// first loads or makes the first key of a service, or opens it by its reference.
func (k keyring) first(service string, make func() (identity, error)) (id identity, err error) {
	ref, named := k.refs[service]
	if !named || !k.fresh {
		if id, err = k.load(keyName(service, 1), make); err != nil {
			return id, err
		}
		if certified(service) && len(id.chain) == 0 {
			return id, wayOut(&durable.CorruptError{Path: filepath.Join(k.dir, keyName(service, 1)), Why: "it has no certificate"})
		}
	}
	if !named {
		return id, nil
	}
	if len(ref.Former) > 0 {
		return id, fault.Usagef("former: the %s has had one key, and %s is not it", serviceName(service), ref.Former[0].shown())
	}
	other, err := k.byRef(service, ref)
	switch {
	case err != nil:
		return id, err
	case !k.fresh && !sameKey(id.key.Public(), other.key.Public()):
		return id, k.otherKey(service, key.Fingerprint(id.key.Public()), ref, other, true)
	case !k.fresh && len(other.chain) == 0:
		other.chain = id.chain
	}
	return other, checkChain(service, ref, other)
}

// checkChain wants the certificates of a key elsewhere to be of it, and to be there
// where they are needed.
func checkChain(service string, ref KeyRef, id identity) error {
	switch {
	case certified(service) && len(id.chain) == 0:
		return fault.Usagef("the key of the %s, %s, needs its certificates: name them with chain", serviceName(service), ref.shown())
	case len(id.chain) > 0 && !sameKey(id.chain[0].PublicKey, id.key.Public()):
		return fault.Usagef("the first certificate for the key of the %s is not of the key in %s", serviceName(service), ref.shown())
	}
	return nil
}

// otherKey refuses a reference that leads to another key than the recorded one, of the
// newest term or of a former one.
func (k keyring) otherKey(service, want string, ref KeyRef, other identity, newest bool) error {
	wrong := func(what string) error {
		return fault.Usagef("the key of the %s is %s; %s holds %s, %s", serviceName(service), want, ref.shown(), what, key.Fingerprint(other.key.Public()))
	}
	if !newest {
		return fault.Hint(wrong("another one"), "it is a former key. Name where it is now under former of %s, in the file of --keys", service)
	}
	if n := termWith(k.terms[service], other.key.Public()); n > 0 {
		last := k.terms[service][len(k.terms[service])-1]
		way := "take " + service + " out of the file of --keys: its key is in the data folder"
		if last.Ref != "" {
			way = "name " + key.Redact(last.Ref) + " in the file of --keys, or take " + service + " out of it: the folder knows where the key is"
		}
		return fault.Hint(wrong(fmt.Sprintf("one that was rotated, number %d", n)), "%s", way)
	}
	return fault.Hint(wrong("another one"),
		"what it signs would not be believed. Name the right key, or make the other one its successor: hallmark authority rotate %s --key %s", service, ref.shown())
}

// termWith is the number of the term that has a key, 0 when none has.
func termWith(all []*term, public crypto.PublicKey) int {
	for i, t := range all {
		if have, err := t.public(); err == nil && sameKey(have, public) {
			return i + 1
		}
	}
	return 0
}

// adopt takes up where the keys are now and which certificates the newest have, which
// have been looked at, and reports whether that is new.
func (h holders) adopt(dir string) (changed bool, err error) {
	for service, all := range h {
		for _, one := range all {
			if one.Ref != one.id.ref.Ref || one.PasswordEnv != one.id.ref.PasswordEnv {
				one.Ref, one.PasswordEnv, changed = one.id.ref.Ref, one.id.ref.PasswordEnv, true
			}
		}
		last := h.last(service)
		if !last.sameChain(last.id.chain) {
			changed = true
			if err := last.setChain(dir, last.id.chain); err != nil {
				return changed, err
			}
		}
	}
	return changed, nil
}

// holders loads the keys of all terms of these services, in a folder that has a state with them: those
// that still sign or answer, and of the others what is public.
func (k keyring) holders(services []string, terms map[string][]*term, now time.Time) (holders, error) {
	k.terms = terms
	out := holders{}
	for _, service := range services {
		all := terms[service]
		former, err := k.former(service, now)
		if err != nil {
			return nil, err
		}
		for i, t := range all {
			h := held{term: t, n: i + 1}
			if service == ServiceLog && k.moved.is(h.n) {
				id, err := t.withoutKey()
				if err != nil {
					return nil, err
				}
				h.id = id
				out[service] = append(out[service], h)
				continue
			}
			var err error
			if one, named := former[i+1]; named {
				h.id = one
			} else if answers(service, all, i, now) {
				h, err = k.holder(service, t, i+1, i == len(all)-1)
			} else {
				h.id, err = t.withoutKey()
			}
			if err != nil {
				return nil, err
			}
			out[service] = append(out[service], h)
		}
	}
	return out, nil
}

// former opens the former keys of a service that the operator names, by the numbers of
// their terms. One that is where it is known to be and signs nothing any more is left alone.
func (k keyring) former(service string, now time.Time) (map[int]identity, error) {
	all := k.terms[service]
	out := map[int]identity{}
	for _, ref := range k.refs[service].Former {
		if i := slices.IndexFunc(all, func(t *term) bool { return t.Ref == ref.Ref }); i >= 0 && !answers(service, all, i, now) {
			continue
		}
		id, err := k.byRef(service, ref)
		if err != nil {
			return nil, err
		}
		n := termWith(all[:len(all)-1], id.key.Public())
		if _, twice := out[n]; twice || n == 0 {
			return nil, fault.Hint(fault.Usagef("former: %s holds %s, which is no former key of the %s, or one that is named twice", ref.shown(), key.Fingerprint(id.key.Public()), serviceName(service)),
				"former keys are those that hallmark authority rotate replaced: take it out")
		}
		if id.chain, err = all[n-1].certificates(); err != nil {
			return nil, err
		}
		out[n] = id
	}
	return out, nil
}

// answers reports whether a term's private key is needed at a time: for what it
// signs or will sign, and by the log for older clients for as long as it is read.
func answers(service string, all []*term, i int, now time.Time) bool {
	return service == ServiceLogV1 || service == ServiceLog && !all[i].over(now) || i+1 >= signing(all, now)
}

// withoutKey is what is public of a term.
func (t *term) withoutKey() (id identity, err error) {
	public, err := t.public()
	if err != nil {
		return id, err
	}
	id.key, id.ref = key.PublicOnly{Key: public}, KeyRef{Ref: t.Ref, PasswordEnv: t.PasswordEnv}
	id.chain, err = t.certificates()
	return id, err
}

// holder loads one term's key, from where it is now.
func (k keyring) holder(service string, t *term, n int, newest bool) (held, error) {
	h := held{term: t, n: n}
	ref := KeyRef{Ref: t.Ref, PasswordEnv: t.PasswordEnv}
	named, moved := k.refs[service]
	if moved && newest {
		ref = named
	}
	var err error
	if ref.Ref == "" {
		path := filepath.Join(k.dir, keyName(service, n))
		if h.id, err = k.load(keyName(service, n), nil); err != nil {
			return h, err
		}
		if public, err := t.public(); err != nil || !sameKey(public, h.id.key.Public()) {
			return h, wayOut(&durable.CorruptError{Path: path, Why: "it is not the key that " + stateFile + " names"})
		}
		// The chain of the file is the key's first; the state has the one that it has now.
		h.id.chain, err = t.certificates()
		return h, err
	}
	if h.id, err = k.byRef(service, ref); err != nil {
		return h, err
	}
	if public, err := t.public(); err != nil || !sameKey(public, h.id.key.Public()) {
		return h, k.otherKey(service, t.fingerprint(), ref, h.id, newest)
	}
	if len(h.id.chain) == 0 {
		if h.id.chain, err = t.certificates(); err != nil {
			return h, err
		}
	}
	return h, checkChain(service, ref, h.id)
}

// byRef opens a service's key by its reference, and makes its failures say which.
func (k keyring) byRef(service string, ref KeyRef) (identity, error) {
	if k.open == nil {
		return identity{}, fmt.Errorf("the key of the %s is %s, which cannot be opened here", serviceName(service), ref.shown())
	}
	private, err := k.open(ref)
	if err != nil {
		return identity{}, fault.Hint(fmt.Errorf("the key of the %s, %s, cannot be reached: %w", serviceName(service), ref.shown(), err),
			"nothing is signed without it: bring it back and start again")
	}
	return identity{key: reached{private, service, ref.shown()}, chain: ref.Chain, ref: ref}, nil
}

// reached is a key elsewhere: when it fails, the error says whose it is.
type reached struct {
	crypto.Signer
	service, shown string
}

func (r reached) Sign(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	sig, err := r.Signer.Sign(random, digest, o)
	if err != nil {
		return nil, fmt.Errorf("the key of the %s, %s, does not sign: %w", serviceName(r.service), r.shown, err)
	}
	return sig, nil
}

// newP256 is a bare ECDSA key: the CT log's, and that of the log for older clients.
func newP256() (identity, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return identity{key: k}, err
}

// newEd25519 is a bare Ed25519 key: the Rekor v2 log's.
func newEd25519() (identity, error) {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	return identity{key: k}, err
}
