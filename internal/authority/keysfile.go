package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

// KeyRef names a private key that is kept elsewhere than in the data folder.
type KeyRef struct {
	// Ref is what [OpenKey] opens, such as a key file's absolute path.
	Ref string
	// PasswordEnv is the environment variable with the password or PIN; "" is that
	// of all keys.
	PasswordEnv string
	// Chain is the key's certificates, leaf first, root last, of CA and TSA alone.
	Chain []*x509.Certificate
	// Former are keys that the service had before it was rotated, in any order, of which
	// there may be more that are not named. They have no Chain and no Former.
	Former []KeyRef
}

// shown is the reference for messages.
func (r KeyRef) shown() string { return key.Redact(r.Ref) }

// OpenKey opens a key by its reference. It is called once for each key and start.
type OpenKey func(KeyRef) (crypto.Signer, error)

// keysFile is the YAML document of [ParseKeys].
type keysFile struct {
	CA    *keysEntry `yaml:"ca"`
	CT    *keysEntry `yaml:"ct"`
	TSA   *keysEntry `yaml:"tsa"`
	Log   *keysEntry `yaml:"log"`
	LogV1 *keysEntry `yaml:"log-v1"`
}

type keysEntry struct {
	Key         string        `yaml:"key"`
	Chain       string        `yaml:"chain"`
	PasswordEnv string        `yaml:"password-env"`
	Former      []formerEntry `yaml:"former"`
	Pos         strictyaml.Pos
}

type formerEntry struct {
	Key         string `yaml:"key"`
	PasswordEnv string `yaml:"password-env"`
	Pos         strictyaml.Pos
}

// maxFormer bounds the keys that a service had: each is opened when it is needed.
const maxFormer = 100

// ParseKeys reads where the services' keys are: one YAML document whose every word
// is understood (docs/authority.md), by service. file names it in errors; what it
// names by a relative path is beside it.
func ParseKeys(file string, data []byte) (map[string]KeyRef, error) {
	docs, err := strictyaml.Documents(file, data)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, fmt.Errorf("%s: want one YAML document, found %d", file, len(docs))
	}
	var doc keysFile
	if err := docs[0].Decode(&doc); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	out := map[string]KeyRef{}
	entries := map[string]*keysEntry{ServiceCA: doc.CA, ServiceCT: doc.CT, ServiceTSA: doc.TSA, ServiceLog: doc.Log, ServiceLogV1: doc.LogV1}
	for _, service := range slices.Sorted(maps.Keys(entries)) {
		e := entries[service]
		if e == nil {
			continue
		}
		if e.Key == "" {
			return nil, e.Pos.Errorf("key is missing: where the key of the %s is", serviceName(service))
		}
		ref, err := NewKeyRef(service, e.Key, e.Chain, e.PasswordEnv, dir)
		if err != nil {
			return nil, e.Pos.Errorf("%v", err)
		}
		if len(e.Former) > maxFormer {
			return nil, e.Pos.Errorf("former: %d keys; want at most %d", len(e.Former), maxFormer)
		}
		for _, f := range e.Former {
			if f.Key == "" {
				return nil, f.Pos.Errorf("key is missing: where a former key of the %s is", serviceName(service))
			}
			one, err := NewKeyRef(service, f.Key, "", f.PasswordEnv, dir)
			if err != nil {
				return nil, f.Pos.Errorf("%v", err)
			}
			if one.Ref == ref.Ref || slices.ContainsFunc(ref.Former, func(o KeyRef) bool { return o.Ref == one.Ref }) {
				return nil, f.Pos.Errorf("key %s is named twice", key.Redact(f.Key))
			}
			ref.Former = append(ref.Former, one)
		}
		out[service] = ref
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s names no key", file)
	}
	return out, nil
}

// NewKeyRef makes a reference of what a person wrote. Paths are relative to dir;
// chain is a PEM file and may be "".
func NewKeyRef(service, ref, chain, passwordEnv, dir string) (KeyRef, error) {
	r := KeyRef{Ref: ref, PasswordEnv: passwordEnv}
	at := func(path string) string {
		if filepath.IsAbs(path) {
			return filepath.Clean(path)
		}
		return filepath.Join(dir, path)
	}
	if key.KindOf(ref) == key.KindFile {
		r.Ref = at(ref)
	}
	switch {
	case passwordEnv != "" && !key.IsVariable(passwordEnv):
		return r, errors.New("password-env is not the name of an environment variable")
	case chain != "" && !certified(service):
		return r, fmt.Errorf("chain: the key of the %s has no certificates", serviceName(service))
	case chain == "":
		return r, nil
	}
	var err error
	if r.Chain, err = readChain(at(chain)); err != nil {
		return r, fmt.Errorf("chain %s: %w", at(chain), err)
	}
	return r, nil
}

// maxChainFile bounds a chain, in bytes.
const maxChainFile = 256 << 10

// readChain reads a PEM file with certificates and nothing else.
func readChain(path string) ([]*x509.Certificate, error) {
	data, err := readBounded(path, maxChainFile)
	if err != nil {
		return nil, err
	}
	return parseChain(data)
}

func parseChain(data []byte) (chain []*x509.Certificate, err error) {
	if chain, err = ca.ParseChain(data); err != nil {
		return nil, err
	}
	for i, c := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(c); err != nil {
			return nil, fmt.Errorf("its certificate %d was not issued by the next one", i+1)
		}
	}
	return chain, nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return data, err
}

// loadKeys reads the file of keys.
func loadKeys(path string) (map[string]KeyRef, error) {
	data, err := readBounded(path, maxChainFile)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	refs, err := ParseKeys(path, data)
	return refs, fault.As(fault.Usage, err)
}

// CheckAlgorithm says why the key of a service cannot be of this kind, nil when it can.
func CheckAlgorithm(service string, public crypto.PublicKey) error {
	p256, p384 := false, false
	if k, ok := public.(*ecdsa.PublicKey); ok {
		p256, p384 = k.Curve == elliptic.P256(), k.Curve == elliptic.P384()
	}
	switch service {
	case ServiceCA, ServiceTSA:
		if !p256 && !p384 {
			return fmt.Errorf("the key of the %s must be an ECDSA key on P-256 or P-384", serviceName(service))
		}
	case ServiceCT, ServiceLogV1:
		if !p256 {
			return fmt.Errorf("the key of the %s must be an ECDSA key on P-256", serviceName(service))
		}
	case ServiceLog:
		if _, ok := public.(ed25519.PublicKey); !ok {
			return errors.New("the log's key must be an Ed25519 key")
		}
	default:
		return fmt.Errorf("no service %q has a key of the operator's", service)
	}
	return nil
}

// KeyedServices are the services whose keys may be kept elsewhere.
func KeyedServices() []string { return keyed() }
