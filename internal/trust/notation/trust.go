package notation

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hallmark-dev/hallmark/internal/trust/revocation"
)

// Limits of trust stores.
const (
	maxStores       = 1024
	maxCertificates = 1024    // of one store
	maxFile         = 1 << 20 // bytes of one file of certificates
)

// Parts is all of a Trust as data, the shape in which a trust bundle holds it.
type Parts struct {
	Policy     json.RawMessage `json:"policy,omitempty"`     // trustpolicy.json
	BlobPolicy json.RawMessage `json:"blobPolicy,omitempty"` // trustpolicy.blob.json
	Stores     []Store         `json:"stores,omitempty"`
	CRLs       [][]byte        `json:"crls,omitempty"`          // DER
	OCSP       [][]byte        `json:"ocspResponses,omitempty"` // DER
}

// Store is a trust store.
type Store struct {
	Type         string   `json:"type"` // "ca", "signingAuthority", "tsa"
	Name         string   `json:"name"`
	Certificates [][]byte `json:"certificates"` // DER
}

// Trust is what is believed about Notary Project signatures. It is not modified
// after it was made.
type Trust struct {
	Policy     *Policy // for images; nil: none
	BlobPolicy *Policy // for files; nil: none
	Revocation *revocation.Set

	// Generation is the hexadecimal SHA-256 of all of it: verdicts reached under
	// one generation say nothing about another.
	Generation string

	stores   map[StoreName][]*x509.Certificate
	subjects map[*x509.Certificate]string // of all certificates in stores
}

// Subject is the distinguished name of a store's certificate.
func (t *Trust) Subject(c *x509.Certificate) string {
	if s, ok := t.subjects[c]; ok {
		return s
	}
	return c.Subject.String()
}

// Store is the certificates of a store; ok says whether there is one of that name.
func (t *Trust) Store(n StoreName) (certs []*x509.Certificate, ok bool) {
	certs, ok = t.stores[n]
	return certs, ok
}

// Holds reports whether a certificate is in any store.
func (t *Trust) Holds(c *x509.Certificate) bool {
	for _, certs := range t.stores {
		if slices.ContainsFunc(certs, c.Equal) {
			return true
		}
	}
	return false
}

// New makes a Trust of its parts.
func New(p Parts) (*Trust, error) {
	t := &Trust{stores: map[StoreName][]*x509.Certificate{}, subjects: map[*x509.Certificate]string{}}
	var err error
	if len(p.Policy) > 0 {
		if t.Policy, err = ParsePolicy(p.Policy); err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
	}
	if len(p.BlobPolicy) > 0 {
		if t.BlobPolicy, err = ParseBlobPolicy(p.BlobPolicy); err != nil {
			return nil, fmt.Errorf("blobPolicy: %w", err)
		}
	}
	if len(p.Stores) > maxStores {
		return nil, fmt.Errorf("stores: %d; at most %d are read", len(p.Stores), maxStores)
	}
	for _, s := range p.Stores {
		name, err := parseStoreName(s.Type + ":" + s.Name)
		if err != nil {
			return nil, fmt.Errorf("stores: %w", err)
		}
		if _, twice := t.stores[name]; twice {
			return nil, fmt.Errorf("stores: %s is there twice", name)
		}
		if t.stores[name], err = s.parse(); err != nil {
			return nil, fmt.Errorf("the trust store %s: %w", name, err)
		}
		for _, c := range t.stores[name] {
			t.subjects[c] = c.Subject.String()
		}
	}
	if t.Revocation, err = revocation.New(p.CRLs, p.OCSP); err != nil {
		return nil, err
	}
	whole, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(whole)
	t.Generation = hex.EncodeToString(sum[:])
	return t, nil
}

func (s *Store) parse() ([]*x509.Certificate, error) {
	if len(s.Certificates) == 0 || len(s.Certificates) > maxCertificates {
		return nil, fmt.Errorf("it has %d certificates; want 1 to %d", len(s.Certificates), maxCertificates)
	}
	var out []*x509.Certificate
	for i, der := range s.Certificates {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read", i+1)
		}
		if err := fitFor(s.Type, cert); err != nil {
			return nil, fmt.Errorf("certificate %d (%s): %w", i+1, cert.Subject, err)
		}
		out = append(out, cert)
	}
	return out, nil
}

// fitFor wants CAs' certificates, or certificates that signed themselves; for
// timestamps only roots.
func fitFor(typ string, cert *x509.Certificate) error {
	if typ == StoreTSA {
		if cert.CheckSignatureFrom(cert) != nil || !bytes.Equal(cert.RawSubject, cert.RawIssuer) {
			return errors.New("it is not the root certificate of an authority, which alone may stand in a tsa store")
		}
		return nil
	}
	if !cert.IsCA && cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil {
		return errors.New("it is neither a CA's nor signed by itself")
	}
	return nil
}

// FromFolder reads Notation's configuration folder (~/.config/notation): the
// policies and the stores that they name.
func FromFolder(dir string) (*Trust, error) {
	p, err := ReadFolder(dir)
	if err != nil {
		return nil, err
	}
	return New(p)
}

// ReadFolder reads the parts of Notation's configuration folder. Stores that no
// statement names are left alone; one that is named and is not there is found
// missing when a signature needs it.
func ReadFolder(dir string) (Parts, error) {
	var p Parts
	var err error
	if p.Policy, err = readPolicy(dir, "trustpolicy.oci.json", "trustpolicy.json"); err != nil {
		return p, err
	}
	if p.BlobPolicy, err = readPolicy(dir, "trustpolicy.blob.json"); err != nil {
		return p, err
	}
	if p.Policy == nil && p.BlobPolicy == nil {
		return p, fmt.Errorf("%s: there is no trustpolicy.json: %w", dir, fs.ErrNotExist)
	}
	names, err := p.storeNames()
	if err != nil {
		return p, fmt.Errorf("%s: %w", dir, err)
	}
	for _, n := range names {
		s, err := readStore(filepath.Join(dir, "truststore", "x509", n.Type, n.Name), n)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return p, fmt.Errorf("the trust store %s: %w", n, err)
		default:
			p.Stores = append(p.Stores, s)
		}
	}
	return p, nil
}

// storeNames are all stores that the policies name.
func (p *Parts) storeNames() ([]StoreName, error) {
	var out []StoreName
	for _, x := range []struct {
		data  json.RawMessage
		parse func([]byte) (*Policy, error)
	}{{p.Policy, ParsePolicy}, {p.BlobPolicy, ParseBlobPolicy}} {
		if x.data == nil {
			continue
		}
		policy, err := x.parse(x.data)
		if err != nil {
			return nil, err
		}
		for _, s := range policy.Statements {
			for _, n := range s.Stores {
				if !slices.Contains(out, n) {
					out = append(out, n)
				}
			}
		}
	}
	return out, nil
}

// readPolicy reads the first of the files that is there; nil without one.
func readPolicy(dir string, names ...string) ([]byte, error) {
	for _, name := range names {
		data, err := readRegular(filepath.Join(dir, name), MaxPolicy)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return data, err
	}
	return nil, nil
}

// readRegular reads a regular file: whoever may place a link elsewhere must not
// choose what is trusted.
func readRegular(path string, limit int64) ([]byte, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file; links are not followed", path)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s has %d bytes; at most %d are read", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}

// readStore reads a folder of certificates in PEM or DER, whatever the files are
// called: a file that holds none is a mistake that is told.
func readStore(dir string, n StoreName) (Store, error) {
	s := Store{Type: n.Type, Name: n.Name}
	info, err := os.Lstat(dir)
	if err != nil {
		return s, err
	}
	if !info.IsDir() {
		return s, fmt.Errorf("%s is not a folder; links are not followed", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return s, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		data, err := readRegular(path, maxFile)
		if err != nil {
			return s, err
		}
		certs, err := Certificates(data)
		if err != nil {
			return s, fmt.Errorf("%s: %w", path, err)
		}
		s.Certificates = append(s.Certificates, certs...)
	}
	return s, nil
}

// Certificates are the certificates of a file in PEM or DER, as DER.
func Certificates(data []byte) ([][]byte, error) {
	var out [][]byte
	block, rest := pem.Decode(data)
	if block == nil {
		certs, err := x509.ParseCertificates(data)
		if err != nil || len(certs) == 0 {
			return nil, errors.New("there is no certificate in PEM or DER")
		}
		for _, c := range certs {
			out = append(out, c.Raw)
		}
		return out, nil
	}
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("there is a PEM block of type %q beside the certificates", clip(block.Type))
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, errors.New("a certificate cannot be read")
		}
		out = append(out, block.Bytes)
	}
	return out, nil
}
