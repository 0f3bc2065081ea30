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
	// open opens a key by reference, and refs are those that the operator names for
	// the newest key of a service.
	open OpenKey
	refs map[string]KeyRef
}

// load reads the identity in file name, or makes it in a fresh folder.
func (k keyring) load(name string, make func() (identity, error)) (identity, error) {
	path := filepath.Join(k.dir, name)
	data, err := durable.ReadSealed(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !k.fresh {
			return identity{}, damaged(&durable.CorruptError{Path: path, Why: "it is missing"})
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
		return identity{}, damaged(err)
	}
	id, err := decodeIdentity(data)
	if err != nil {
		return identity{}, damaged(&durable.CorruptError{Path: path, Why: err.Error()})
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
			return id, damaged(&durable.CorruptError{Path: filepath.Join(k.dir, keyName(service, 1)), Why: "it has no certificate"})
		}
	}
	if !named {
		return id, nil
	}
	other, err := k.byRef(service, ref)
	switch {
	case err != nil:
		return id, err
	case !k.fresh && !sameKey(id.key.Public(), other.key.Public()):
		return id, otherKey(service, key.Fingerprint(id.key.Public()), ref.Ref, other)
	case !k.fresh && len(other.chain) == 0:
		other.chain = id.chain
	}
	return other, checkChain(service, ref.Ref, other)
}

// checkChain wants the certificates of a key elsewhere to be of it, and to be there
// where they are needed.
func checkChain(service, ref string, id identity) error {
	switch {
	case certified(service) && len(id.chain) == 0:
		return fault.Usagef("the key of the %s, %s, needs its certificates: name them with chain", serviceName(service), ref)
	case len(id.chain) > 0 && !sameKey(id.chain[0].PublicKey, id.key.Public()):
		return fault.Usagef("the first certificate for the key of the %s is not of the key in %s", serviceName(service), ref)
	}
	return nil
}

// otherKey refuses a reference that leads to another key than the recorded one.
func otherKey(service, want, ref string, other identity) error {
	return fault.Hint(fault.Usagef("the key of the %s is %s; %s holds another one, %s", serviceName(service), want, ref, key.Fingerprint(other.key.Public())),
		"what it signs would not be believed. Name the right key, or make the other one its successor: hallmark authority rotate %s --key %s", service, ref)
}

// adopt takes up where the newest keys are now and which certificates they have, and
// reports whether that is new.
func (h holders) adopt() (changed bool) {
	for service := range h {
		last := h.last(service)
		if last.Ref != last.id.ref.Ref || last.PasswordEnv != last.id.ref.PasswordEnv {
			last.Ref, last.PasswordEnv, changed = last.id.ref.Ref, last.id.ref.PasswordEnv, true
		}
		if !last.sameChain(last.id.chain) {
			changed = true
			last.setChain(last.id.chain)
		}
	}
	return changed
}

// holders loads the keys of all terms of these services, in a folder that has a state with them: those
// that still sign or answer, and of the others what is public.
func (k keyring) holders(services []string, terms map[string][]*term, now time.Time) (holders, error) {
	out := holders{}
	for _, service := range services {
		all := terms[service]
		for i, t := range all {
			h := held{term: t, n: i + 1}
			var err error
			if answers(service, all, i, now) {
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
	id.key = publicOnly{public}
	id.chain, err = t.certificates()
	return id, err
}

// publicOnly stands for a key of which only the public half is at hand.
type publicOnly struct{ public crypto.PublicKey }

func (p publicOnly) Public() crypto.PublicKey { return p.public }

func (publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the private key is not loaded: its time is over")
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
			return h, damaged(&durable.CorruptError{Path: path, Why: "it is not the key that " + stateFile + " names"})
		}
		// The chain of the file is the key's first; the state has the one that it has now.
		h.id.chain, err = t.certificates()
		return h, err
	}
	if h.id, err = k.byRef(service, ref); err != nil {
		return h, err
	}
	if public, err := t.public(); err != nil || !sameKey(public, h.id.key.Public()) {
		return h, otherKey(service, t.fingerprint(), ref.Ref, h.id)
	}
	if len(h.id.chain) == 0 {
		if h.id.chain, err = t.certificates(); err != nil {
			return h, err
		}
	}
	return h, checkChain(service, ref.Ref, h.id)
}

// byRef opens a service's key by its reference, and makes its failures say which.
func (k keyring) byRef(service string, ref KeyRef) (identity, error) {
	if k.open == nil {
		return identity{}, fmt.Errorf("the key of the %s is %s, which cannot be opened here", serviceName(service), ref.Ref)
	}
	private, err := k.open(ref)
	if err != nil {
		return identity{}, fault.Hint(fmt.Errorf("the key of the %s, %s, cannot be reached: %w", serviceName(service), ref.Ref, err),
			"nothing is signed without it: bring it back and start again")
	}
	return identity{key: reached{private, service, ref.Ref}, chain: ref.Chain, ref: ref}, nil
}

// reached is a key elsewhere: when it fails, the error says whose it is.
type reached struct {
	crypto.Signer
	service, ref string
}

func (r reached) Sign(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	sig, err := r.Signer.Sign(random, digest, o)
	if err != nil {
		return nil, fmt.Errorf("the key of the %s, %s, does not sign: %w", serviceName(r.service), r.ref, err)
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
