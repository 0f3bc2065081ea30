package authority

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/key"
)

// Services by the names that commands and key files call them. Each but the TUF
// repository and the issuer, which keep theirs themselves, has one key at a time.
const (
	ServiceCA    = "ca"
	ServiceCT    = "ct"
	ServiceTSA   = "tsa"
	ServiceLog   = "log"
	ServiceLogV1 = "log-v1"
	ServiceTUF   = "tuf"
	ServiceOIDC  = "oidc"
)

// keyed are the services whose keys are in the state, in the order in which they
// are loaded.
func keyed() []string { return []string{ServiceCA, ServiceTSA, ServiceCT, ServiceLog, ServiceLogV1} }

// Services are all services whose key can be rotated.
func Services() []string { return append(keyed(), ServiceTUF, ServiceOIDC) }

// serviceName is a service for people.
func serviceName(service string) string {
	return map[string]string{ServiceCA: "certificate authority", ServiceCT: "certificate transparency log", ServiceTSA: "timestamp authority",
		ServiceLog: "log", ServiceLogV1: "log for older clients", ServiceTUF: "TUF repository", ServiceOIDC: "issuer"}[service]
}

// grace is how long a key is believed after its successor signs: a certificate of
// its last second can be used for its whole life, and clocks differ.
const grace = ca.Lifetime + 5*time.Minute

// term is the time of one key in a service. Terms are numbered from 1 and never
// removed: what a key signed in its term stays good for ever.
type term struct {
	// Key is the DER SubjectPublicKeyInfo: another key in its place is refused.
	Key []byte `json:"key"`
	// Ref says where the private key is when it is not in this folder, and
	// PasswordEnv which environment variable opens it.
	Ref         string `json:"ref,omitempty"`
	PasswordEnv string `json:"password_env,omitempty"`
	// Chain is the DER certificates of CA and TSA, leaf first.
	Chain [][]byte `json:"chain,omitempty"`
	// Former are the chains that the key had before, the newest first: what was signed
	// under one is believed under that one.
	Former [][][]byte `json:"former,omitempty"`
	// Host is the name of a tree of the log that has one of its own.
	Host string `json:"host,omitempty"`
	// The key is believed from From, signs from Signs on, and is believed until
	// Until; the last term has no Until. All are whole seconds in UTC.
	From  time.Time  `json:"from"`
	Signs time.Time  `json:"signs"`
	Until *time.Time `json:"until,omitempty"`
}

// end is Until, zero when it is open.
func (t *term) end() time.Time {
	if t.Until == nil {
		return time.Time{}
	}
	return *t.Until
}

// over reports whether nothing that the key signs now would be believed.
func (t *term) over(now time.Time) bool { return t.Until != nil && now.After(*t.Until) }

func (t *term) public() (crypto.PublicKey, error) { return x509.ParsePKIXPublicKey(t.Key) }

func (t *term) certificates() ([]*x509.Certificate, error) { return parseRaw(t.Chain) }

// former are the chains of Former, parsed.
func (t *term) former() (out [][]*x509.Certificate, err error) {
	for _, raw := range t.Former {
		chain, err := parseRaw(raw)
		if err != nil {
			return nil, err
		}
		out = append(out, chain)
	}
	return out, nil
}

// setChain gives the key another chain, and keeps the one that it had if the folder has
// published it: nothing hangs on one that it has not.
func (t *term) setChain(dir string, chain []*x509.Certificate) error {
	published, err := wasPublished(dir, t.Chain)
	if err != nil {
		return err
	}
	before := t.Former
	if published {
		before = append([][][]byte{t.Chain}, before...)
	}
	t.Former = nil
	for _, raw := range before {
		if len(raw) > 0 && !sameRaw(raw, chain) {
			t.Former = append(t.Former, raw)
		}
	}
	t.Chain = nil
	for _, c := range chain {
		t.Chain = append(t.Chain, c.Raw)
	}
	return nil
}

func parseRaw(raw [][]byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, der := range raw {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// newTerm is the term of an identity, which begins with from and signs at once.
func newTerm(id identity, from time.Time) (*term, error) {
	der, err := x509.MarshalPKIXPublicKey(id.key.Public())
	if err != nil {
		return nil, err
	}
	t := &term{Key: der, Ref: id.ref.Ref, PasswordEnv: id.ref.PasswordEnv, From: from.UTC(), Signs: from.UTC()}
	for _, c := range id.chain {
		t.Chain = append(t.Chain, c.Raw)
	}
	return t, nil
}

// numbered is the name of the nth of a kind: the first has none beside its name.
func numbered(name string, n int) string {
	if n == 1 {
		return name
	}
	return name + "-" + strconv.Itoa(n)
}

// keyName is the file of a service's nth key, in the folder of keys.
func keyName(service string, n int) string { return numbered(service, n) + ".pem" }

// shardDir is the folder of a log's nth shard, and the path of its URL: each key of
// a log has a tree of its own.
func shardDir(service string, n int) string { return numbered(service, n) }

// signing is the number of the term that signs at a time: the last that has begun.
func signing(terms []*term, now time.Time) int {
	n := 1
	for i, t := range terms {
		if !now.Before(t.Signs) {
			n = i + 1
		}
	}
	return n
}

// checkTerms refuses terms that nothing here writes.
func checkTerms(terms map[string][]*term) error {
	if len(terms) != len(keyed()) {
		return errors.New("its keys are not those of all services")
	}
	for _, service := range keyed() {
		all := terms[service]
		if len(all) == 0 {
			return fmt.Errorf("it has no key of the %s", serviceName(service))
		}
		seen := map[string]bool{}
		for i, t := range all {
			bad := func(why string) error {
				return fmt.Errorf("term %d of the %s %s", i+1, serviceName(service), why)
			}
			if t == nil {
				return bad("is empty")
			}
			public, err := t.public()
			if err != nil {
				return bad("has a key that cannot be read")
			}
			if chain, err := t.certificates(); err != nil || (len(chain) > 0) != certified(service) || len(chain) > 0 && !sameKey(chain[0].PublicKey, public) {
				return bad("has certificates that are not of its key")
			}
			former, err := t.former()
			if err != nil || len(former) > 0 && !certified(service) {
				return bad("has former certificates that nothing here writes")
			}
			for _, chain := range former {
				if len(chain) == 0 || !sameKey(chain[0].PublicKey, public) {
					return bad("has former certificates that are not of its key")
				}
			}
			if t.Host != "" && (service != ServiceLog || i == 0 || !validHost(t.Host)) {
				return bad("has a name that nothing here writes")
			}
			if seen[string(t.Key)] {
				return bad("has a key that was used before")
			}
			seen[string(t.Key)] = true
			switch last := i == len(all)-1; {
			case (t.Until == nil) != last, t.Signs.Before(t.From), t.Until != nil && t.Until.Before(t.Signs):
				return bad("has an impossible time")
			case !last && all[i+1] != nil && (all[i+1].Signs.After(*t.Until) || all[i+1].Signs.Before(t.Signs)):
				return bad("does not reach its successor's")
			}
		}
	}
	return nil
}

// certified reports whether a service's key comes with certificates.
func certified(service string) bool { return service == ServiceCA || service == ServiceTSA }

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// fingerprint is of a term's key, as package key has it.
func (t *term) fingerprint() string {
	public, err := t.public()
	if err != nil {
		return ""
	}
	return key.Fingerprint(public)
}

// sameChain reports whether a term has these certificates.
func (t *term) sameChain(chain []*x509.Certificate) bool { return sameRaw(t.Chain, chain) }

func sameRaw(raw [][]byte, chain []*x509.Certificate) bool {
	if len(chain) != len(raw) {
		return false
	}
	for i, c := range chain {
		if !bytes.Equal(c.Raw, raw[i]) {
			return false
		}
	}
	return true
}

// held is a term with its number and, when it still signs or answers, its key.
type held struct {
	*term
	n  int
	id identity
}

// holders are the terms of each service, oldest first.
type holders map[string][]held

// last is the newest term of a service.
func (h holders) last(service string) held { return h[service][len(h[service])-1] }

// terms are the terms alone.
func (h holders) terms() map[string][]*term {
	out := map[string][]*term{}
	for service, all := range h {
		for _, one := range all {
			out[service] = append(out[service], one.term)
		}
	}
	return out
}

// where says where a term's private key is.
func (t *term) where(service string, n int) string {
	if t.Ref != "" {
		return t.Ref
	}
	return filepath.Join(keyDir, keyName(service, n))
}
