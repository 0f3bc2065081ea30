// Package bundlefile is the trust bundle: one file with everything that is
// believed before anything is looked at. It holds Sigstore trusted roots, public
// keys, Notation's trust policy and stores, what is revoked, who is pinned for
// which repository, and witnesses. docs/trust.md describes the format.
//
// Whoever can modify the file can make anything verify. It is read strictly and
// as a whole: one broken or unknown entry refuses all of it, so that a revocation
// or a pin can never be lost by being misspelt.
package bundlefile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
)

// MediaType is the format and its version.
const MediaType = "application/vnd.hallmark.trust.v1+json"

// MaxSize is the most bytes of a trust bundle that are read or written.
const MaxSize = 32 << 20

// File is a trust bundle. The zero File believes nothing. [Parse] and [File.Encode]
// hold it to the rules of docs/trust.md; between the two it may be changed freely.
type File struct {
	MediaType string   `json:"mediaType" strict:"required"`
	Roots     []Root   `json:"sigstoreRoots,omitempty" strict:"max=64"`
	Keys      []Key    `json:"keys,omitempty" strict:"max=1024"`
	Notary    *Notary  `json:"notary,omitempty"`
	Revoked   *Revoked `json:"revoked,omitempty"`
	Pins      []Pin    `json:"pins,omitempty" strict:"max=4096"`
	Witnesses []string `json:"witnesses,omitempty" strict:"max=64"` // C2SP note verifier keys
	Quorum    int      `json:"witnessQuorum,omitempty"`             // how many witnesses must have cosigned

	parsed []*trust.Root `json:"-"` // of Roots, in order
}

// Root is a Sigstore trusted root.
type Root struct {
	Name   string `json:"name" strict:"required"`
	Source Source `json:"source" strict:"required"`
	// FetchedAt is when the source gave it.
	FetchedAt time.Time `json:"fetchedAt" strict:"required"`
	// Expires is the time after which the source would not vouch for it any more;
	// nil for a file, which says nothing of that.
	Expires *time.Time `json:"expires,omitempty"`
	// TrustedRoot is a trusted_root.json.
	TrustedRoot json.RawMessage `json:"trustedRoot" strict:"required"`
}

// Source is where a trusted root comes from: exactly one of File, Mirror and Embedded.
type Source struct {
	File     string `json:"file,omitempty"`     // as it was named then
	Mirror   string `json:"mirror,omitempty"`   // URL of a TUF repository
	Embedded bool   `json:"embedded,omitempty"` // in the binary
	// TUFRoot is the root.json from which the mirror is followed, and RootSHA256
	// its hexadecimal SHA-256: what a person compares.
	TUFRoot    []byte `json:"tufRoot,omitempty"`
	RootSHA256 string `json:"rootSha256,omitempty"`
}

// Key is a public key that may sign without a certificate.
type Key struct {
	Name      string     `json:"name" strict:"required"`
	PublicKey []byte     `json:"publicKey" strict:"required"` // DER SubjectPublicKeyInfo
	From      *time.Time `json:"from,omitempty"`
	Until     *time.Time `json:"until,omitempty"` // inclusive
}

// Notary is what Notation keeps in a folder.
type Notary struct {
	TrustPolicy json.RawMessage `json:"trustPolicy,omitempty"` // a trustpolicy.json
	BlobPolicy  json.RawMessage `json:"blobPolicy,omitempty"`  // a trustpolicy.blob.json
	Stores      []Store         `json:"stores,omitempty" strict:"max=256"`
	CRLs        []CRL           `json:"crls,omitempty" strict:"max=1024"`
	OCSP        [][]byte        `json:"ocsp,omitempty" strict:"max=4096"` // DER OCSPResponse

	parsed *notation.Trust `json:"-"`
}

// Store is one of Notation's trust stores.
type Store struct {
	Type         string   `json:"type" strict:"required"` // ca, signingAuthority or tsa
	Name         string   `json:"name" strict:"required"`
	Certificates [][]byte `json:"certificates" strict:"required,max=1024"` // DER
}

// CRL is a certificate revocation list.
type CRL struct {
	URL       string    `json:"url,omitempty"` // where it is refreshed from
	FetchedAt time.Time `json:"fetchedAt" strict:"required"`
	DER       []byte    `json:"crl" strict:"required"`
}

// Revoked is trust.Revoked as it is written.
type Revoked struct {
	Digests    []trust.RevokedDigest   `json:"digests,omitempty"`
	Identities []trust.RevokedIdentity `json:"identities,omitempty"`
	Keys       []trust.RevokedKey      `json:"keys,omitempty"`
}

// Parse reads a trust bundle strictly.
func Parse(data []byte) (*File, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%d bytes; a trust bundle has at most %d", len(data), MaxSize)
	}
	var f File
	if err := strictjson.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	if f.MediaType != MediaType {
		return nil, fmt.Errorf("mediaType: %q is no trust bundle of this version (%s)", clip(f.MediaType), MediaType)
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	return &f, nil
}

// Read reads the trust bundle in a file.
func Read(path string) (*File, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("trust bundle: %w", err)
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("trust bundle: %w", err)
	}
	f, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("trust bundle %s: %w", path, err)
	}
	return f, nil
}

// Encode checks the bundle and writes it as JSON: equal bundles give equal bytes.
func (f *File) Encode() ([]byte, error) {
	f.normalise()
	if err := f.check(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(f); err != nil {
		return nil, err
	}
	if out.Len() > MaxSize {
		return nil, fmt.Errorf("%d bytes; a trust bundle has at most %d", out.Len(), MaxSize)
	}
	return out.Bytes(), nil
}

// Generation is the hexadecimal SHA-256 of everything in the bundle: verdicts
// reached under one generation say nothing about another.
func (f *File) Generation() (string, error) {
	data, err := f.Encode()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// Write replaces the file with the bundle atomically. Only the owner may read it
// with perm 0600; it holds no secrets, so what is handed on may be 0644.
func (f *File) Write(path string, perm fs.FileMode) error {
	data, err := f.Encode()
	if err != nil {
		return fmt.Errorf("trust bundle: %w", err)
	}
	return durable.WriteFile(path, data, perm)
}

// Update reads the bundle in path, or an empty one when there is none yet, lets
// change change it, and writes it back. Two updates of one file wait for each
// other; after an error the old file is still there.
func Update(path string, change func(*File) error) error {
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("trust bundle: %w", err)
	}
	unlock, err := lock(path + ".lock")
	if err != nil {
		return fmt.Errorf("trust bundle %s: %w", path, err)
	}
	defer unlock()
	f, err := Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f = &File{}
	case err != nil:
		return err
	}
	if err := change(f); err != nil {
		return err
	}
	if err := f.Write(path, 0o600); err != nil {
		return fmt.Errorf("trust bundle %s: %w", path, err)
	}
	return nil
}

func lock(path string) (unlock func(), err error) {
	l, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(l.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return func() { _ = l.Close() }, nil
}
