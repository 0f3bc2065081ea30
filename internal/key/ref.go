package key

import (
	"crypto"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key/pkcs11uri"
	"github.com/hallmark-dev/hallmark/internal/key/plugin"
	"github.com/hallmark-dev/hallmark/internal/pattern"
)

// Kind is where a reference leads to.
type Kind string

// The kinds.
const (
	KindFile   Kind = "file"      // a path
	KindEnv    Kind = "env"       // env://NAME: PEM in the variable NAME
	KindPKCS11 Kind = "pkcs11"    // pkcs11:…, RFC 7512, behind the plugin of that name
	KindPlugin Kind = "plugin"    // NAME://…, behind the plugin NAME
	KindAgent  Kind = "ssh-agent" // ssh-agent://FINGERPRINT or ssh-agent://COMMENT
)

// EnvPIN is the variable with a token's PIN that the PKCS #11 plugin reads.
const EnvPIN = "HALLMARK_PKCS11_PIN"

// KindOf says where a reference leads to, without looking. "./" before it makes a path
// of anything.
func KindOf(ref string) Kind {
	if strings.HasPrefix(ref, pkcs11uri.Scheme) {
		return KindPKCS11
	}
	name, _, ok := plugin.SplitRef(ref)
	switch {
	case !ok:
		return KindFile
	case name == "env":
		return KindEnv
	case name == "ssh-agent":
		return KindAgent
	}
	return KindPlugin
}

// IsVariable reports whether an environment variable can be called that.
func IsVariable(name string) bool {
	return name != "" && (name[0] < '0' || name[0] > '9') && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_'
	})
}

// pinAttribute is the name of an attribute that may hold a PIN, and it may be misspelt.
var pinAttribute = pattern.New(`(?i)pin(?:[-_]?value=?|[a-z_%0-9-]*=)`)

// Redact is a reference as messages may show it, whatever somebody has written for one: a
// PIN in it is left out, and so is a key that a shell put where its name should be
// (env://$KEY).
func Redact(ref string) string {
	name, rest, isURL := plugin.SplitRef(ref)
	if strings.Contains(ref, "-----") || strings.ContainsFunc(ref, unicode.IsControl) || isURL && name == "env" && !IsVariable(rest) {
		if isURL {
			return name + "://…"
		}
		return "…"
	}
	for _, at := range pinAttribute().FindAllStringIndex(ref, -1) {
		value := ref[at[1]:]
		if ref[at[0]:at[1]] != "pin-source=" || !strings.HasPrefix(value, "file:") && !strings.HasPrefix(value, "/") {
			return ref[:at[1]] + "…" // what follows may belong to it
		}
	}
	return ref
}

// Load opens a key by its reference, for those who sign by Sigstore's rules; see [Open].
func Load(ref string, password Password) (Signer, Info, error) {
	private, info, err := Open(ref, password)
	if err != nil {
		return nil, Info{}, err
	}
	s, err := NewSigner(private)
	if err != nil {
		return nil, Info{}, fmt.Errorf("key %s: %w", Redact(ref), err)
	}
	return s, info, nil
}

// Open opens a key by its reference: the path of a key file, env://NAME, a PKCS #11 URI,
// ssh-agent://KEY, or NAME://KEY of any other KMS plugin of Sigstore.
//
// ECDSA and RSA keys sign digests, Ed25519 ones whole messages (crypto.Hash(0)); those
// of an ssh-agent sign whole messages only ([crypto.MessageSigner]). What is signed
// elsewhere is verified before it is returned.
//
// password is called once at most: for encrypted keys, and for a token that wants a PIN
// where neither the URI nor the variable of [EnvPIN] says it.
func Open(ref string, password Password) (crypto.Signer, Info, error) {
	private, info, err := open(ref, password)
	if err != nil {
		return nil, Info{}, fmt.Errorf("key %s: %w", Redact(ref), err)
	}
	return private, info, nil
}

func open(ref string, password Password) (crypto.Signer, Info, error) {
	switch kind := KindOf(ref); kind {
	case KindEnv:
		data, err := variable(ref)
		if err != nil {
			return nil, Info{}, err
		}
		private, info, err := Parse(data, password)
		info.Kind = kind
		return private, info, err
	case KindAgent:
		return openAgent(ref)
	case KindPKCS11, KindPlugin:
		return openPlugin(ref, kind, password)
	}
	data, err := readFile(ref)
	if err != nil {
		return nil, Info{}, err
	}
	private, info, err := Parse(data, password)
	info.Kind = KindFile
	return private, info, err
}

// variable is the PEM in the variable of an env:// reference.
func variable(ref string) ([]byte, error) {
	_, name, _ := plugin.SplitRef(ref)
	if !IsVariable(name) {
		return nil, fault.Usagef("what follows env:// is the name of an environment variable")
	}
	value, set := os.LookupEnv(name)
	switch {
	case !set:
		return nil, fault.Usagef("the environment variable %s is not set", name)
	case strings.TrimSpace(value) == "":
		return nil, fault.Usagef("the environment variable %s is empty", name)
	}
	return []byte(value), nil
}

// client makes the client for a key behind a plugin, which gets what is in env besides.
func client(ref string, kind Kind, env map[string]string) (*plugin.Client, error) {
	if len(ref) > plugin.MaxRef {
		return nil, fault.Usagef("a reference of more than %d bytes", plugin.MaxRef)
	}
	name, id := "pkcs11", ref
	if kind == KindPlugin {
		if name, id, _ = plugin.SplitRef(ref); id == "" {
			return nil, fault.Usagef("nothing follows %s://, which would name the key", name)
		}
		// A program's arguments are seen by every user of the machine.
		if strings.Contains(id, "pin-value=") {
			return nil, errPINSeen()
		}
	}
	program, err := plugin.Find(name)
	if err != nil {
		return nil, err
	}
	return plugin.NewClient(program, id, env, plugin.DefaultTimeout), nil
}

func errPINSeen() error {
	return fault.Hint(fault.Usagef("pin-value: a PIN in a reference is seen in lists of processes, and kept in files with settings"),
		"name a file that holds it, ?pin-source=file:/path, or put it in %s", EnvPIN)
}

// parsePKCS11 reads a URI that names a key to sign with.
func parsePKCS11(ref string) (*pkcs11uri.URI, error) {
	u, err := pkcs11uri.Parse(ref)
	if err != nil {
		return nil, fault.Hint(fault.As(fault.Usage, err), "for example pkcs11:token=NAME;object=KEY?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/path (RFC 7512)")
	}
	if u.PinValue != "" {
		return nil, errPINSeen()
	}
	return u, nil
}

func openPlugin(ref string, kind Kind, password Password) (crypto.Signer, Info, error) {
	if kind == KindPKCS11 {
		u, err := parsePKCS11(ref)
		if err != nil {
			return nil, Info{}, err
		}
		if u.Type == "public" {
			return nil, Info{}, fault.Usagef("type=public: a public key cannot sign")
		}
	}
	c, err := client(ref, kind, nil)
	if err != nil {
		return nil, Info{}, err
	}
	s, err := plugin.Open(c, ParsePublicPEM)
	wanted := WantsPIN(err) || err == nil && s.About().WantsPIN
	if wanted && kind == KindPKCS11 && password != nil {
		pin, perr := password(false)
		if perr != nil {
			return nil, Info{}, fmt.Errorf("PIN: %w", perr)
		}
		c, perr = client(ref, kind, map[string]string{EnvPIN: string(pin)})
		clear(pin)
		if perr != nil {
			return nil, Info{}, perr
		}
		if err == nil {
			s = s.With(c)
		} else {
			s, err = plugin.Open(c, ParsePublicPEM)
		}
	}
	if err != nil {
		return nil, Info{}, err
	}
	about := s.About()
	info := Info{Kind: kind, Program: s.Program(), Plugin: about.Plugin, Where: about.Where}
	known, err := newSigner(s)
	if err != nil {
		return nil, Info{}, err
	}
	info.Algorithm = known.name
	return s, info, nil
}

// WantsPIN reports whether a key was not opened for want of a PIN, and no PIN was tried.
func WantsPIN(err error) bool {
	var said *plugin.SaidError
	return errors.As(err, &said) && said.WantsPIN
}

// OpenPublic reads a public key by reference: a PEM file or variable with it, or that of
// a key behind a plugin. Nobody is asked for a password or a PIN.
func OpenPublic(ref string) (crypto.PublicKey, error) {
	public, err := openPublic(ref)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", Redact(ref), err)
	}
	return public, nil
}

func openPublic(ref string) (crypto.PublicKey, error) {
	var data []byte
	var err error
	switch kind := KindOf(ref); kind {
	case KindEnv:
		data, err = variable(ref)
	case KindFile:
		return openPublicFile(ref)
	case KindAgent:
		// Who only verifies links no SSH.
		return nil, fault.Hint(fault.Usagef("a key in an ssh-agent is there to sign with; verifying wants the public key in a file"), "hallmark key public %s prints it", Redact(ref))
	default:
		if kind == KindPKCS11 {
			if _, err := parsePKCS11(ref); err != nil {
				return nil, err
			}
		}
		c, err := client(ref, kind, nil)
		if err != nil {
			return nil, err
		}
		s, err := plugin.Open(c, ParsePublicPEM)
		if err != nil {
			return nil, err
		}
		return s.Public(), nil
	}
	if err != nil {
		return nil, err
	}
	return parsePublic(data)
}

// OpenPublicFile reads a public key in a PEM file, whatever its path looks like.
func OpenPublicFile(path string) (crypto.PublicKey, error) {
	public, err := openPublicFile(path)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", Redact(path), err)
	}
	return public, nil
}

func openPublicFile(path string) (crypto.PublicKey, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return parsePublic(data)
}

// parsePublic reads a public key, in PEM or of OpenSSH, wipes what it was in, and knows a private one.
func parsePublic(data []byte) (crypto.PublicKey, error) {
	defer clear(data)
	if strings.Contains(string(data), "PRIVATE KEY-----") {
		return nil, ErrPrivate
	}
	if isSSHPublic(data) {
		return parseSSHPublic(data)
	}
	return ParsePublicPEM(data)
}

// ErrPrivate is a private key where a public one was wanted.
var ErrPrivate = errors.New("a private key; verifying wants the public one")

// Try makes one signature with a key, verifies it and throws it away: a key that is there
// may still not sign, for a wrong PIN or want of rights. With digest it signs one, as the
// services of an authority do, which an ssh-agent refuses; without, a message.
func Try(private crypto.Signer, digest bool) error {
	s, err := newSigner(private)
	if err != nil {
		return err
	}
	message := []byte("hallmark tries whether this key signs; this message means nothing\n")
	var sig []byte
	if s.hash == 0 || !digest {
		sig, err = s.Sign(message)
	} else {
		h := s.hash.New()
		h.Write(message)
		sig, err = s.SignDigest(h.Sum(nil))
	}
	if err != nil {
		return err
	}
	if err := Verify(s.Public(), message, sig); err != nil {
		return fmt.Errorf("the signature that it made: %w", err)
	}
	return nil
}
