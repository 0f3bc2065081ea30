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
	"io/fs"
	"path/filepath"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// identity is a private key with the certificates that speak for it, leaf
// first; there are none for a bare key. It is one sealed file, so that a crash
// cannot part them.
type identity struct {
	key   crypto.Signer
	chain []*x509.Certificate
}

// keyring reads the authority's identities, and makes them in a folder that is new.
type keyring struct {
	dir string
	// fresh says that the folder was never finished: only then is a missing file
	// made. Later, a new key would silently end the trust in all old evidence.
	fresh bool
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
