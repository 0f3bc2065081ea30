package bundlefile

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/sorted"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
)

// maxText bounds names, reasons, identities and URLs.
const maxText = 2048

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// check holds the bundle to its rules and parses what can be parsed.
func (f *File) check() error {
	names := map[string]string{} // of roots and keys: trust remove takes them
	if err := f.checkRoots(names); err != nil {
		return err
	}
	if err := f.checkKeys(names); err != nil {
		return err
	}
	if f.Notary != nil {
		if err := f.Notary.check(); err != nil {
			return fmt.Errorf("notary.%w", err)
		}
	}
	if f.Revoked != nil {
		if err := f.Revoked.check(); err != nil {
			return fmt.Errorf("revoked.%w", err)
		}
	}
	if err := f.checkPins(); err != nil {
		return err
	}
	return f.checkWitnesses()
}

// CheckName holds names to what needs no quoting anywhere and cannot be taken
// for a repository or a store.
func CheckName(name string) error {
	ok := name != "" && len(name) <= 64 && name[0] != '-' && strings.IndexFunc(name, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-@", r)
	}) < 0
	if !ok || name == "policy" { // which trust remove takes for Notation's
		return fmt.Errorf("name %q: a name has 1 to 64 letters, digits and . _ - @ and does not begin with -; policy is none", clip(name))
	}
	return nil
}

func checkUnique(names map[string]string, path, name string) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if before, taken := names[name]; taken {
		return fmt.Errorf("%s: the name %q is taken by %s", path, name, before)
	}
	names[name] = path
	return nil
}

func (f *File) checkRoots(names map[string]string) error {
	f.parsed = nil
	for i := range f.Roots {
		r := &f.Roots[i]
		path := fmt.Sprintf("sigstoreRoots[%d]", i)
		if err := checkUnique(names, path, r.Name); err != nil {
			return err
		}
		if err := r.Source.check(); err != nil {
			return fmt.Errorf("%s.source: %w", path, err)
		}
		if err := checkTimes(&r.FetchedAt, r.Expires); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		var compact bytes.Buffer // the same document is the same generation, however it is indented
		if err := json.Compact(&compact, r.TrustedRoot); err != nil {
			return fmt.Errorf("%s.trustedRoot: not JSON", path)
		}
		root, err := trust.ParseTrustedRoot(compact.Bytes())
		if err != nil {
			return fmt.Errorf("%s.trustedRoot: %w", path, err)
		}
		f.parsed = append(f.parsed, root)
	}
	return nil
}

func (s Source) check() error {
	kinds := 0
	for _, is := range []bool{s.File != "", s.Mirror != "", s.Embedded} {
		if is {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return errors.New("exactly one of file, mirror and embedded says where the root is from")
	case (s.Mirror != "") != (len(s.TUFRoot) > 0), (s.Mirror != "") != (s.RootSHA256 != ""):
		return errors.New("a mirror, and nothing else, has tufRoot and rootSha256")
	case s.Mirror != "" && hexSHA256(s.TUFRoot) != s.RootSHA256:
		return errors.New("rootSha256 is not the checksum of tufRoot")
	}
	return checkText(s.File, s.Mirror)
}

// checkText refuses texts that are too long for a line or hold what is not printed.
func checkText(texts ...string) error {
	for _, s := range texts {
		if len(s) > maxText {
			return fmt.Errorf("%q is longer than %d characters", clip(s), maxText)
		}
		if i := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }); i >= 0 {
			return fmt.Errorf("%q holds a character that is not printed", clip(s))
		}
	}
	return nil
}

func hexSHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (f *File) checkKeys(names map[string]string) error {
	seen := map[string]bool{}
	for i := range f.Keys {
		k := &f.Keys[i]
		path := fmt.Sprintf("keys[%d]", i)
		if err := checkUnique(names, path, k.Name); err != nil {
			return err
		}
		if _, err := parsePublic(k.PublicKey); err != nil {
			return fmt.Errorf("%s.publicKey: %w", path, err)
		}
		if seen[string(k.PublicKey)] {
			return fmt.Errorf("%s: the key of %q is there twice", path, k.Name)
		}
		seen[string(k.PublicKey)] = true
		if err := checkTimes(k.From, k.Until); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if k.From != nil && k.Until != nil && k.Until.Before(*k.From) {
			return fmt.Errorf("%s.until: before from", path)
		}
	}
	return nil
}

// parsePublic reads a DER SubjectPublicKeyInfo that has one encoding only.
func parsePublic(der []byte) (crypto.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, errors.New("not a DER SubjectPublicKeyInfo")
	}
	again, err := x509.MarshalPKIXPublicKey(public)
	if err != nil || !bytes.Equal(again, der) {
		return nil, errors.New("not the one DER encoding of the key")
	}
	pem, err := key.PublicPEM(public)
	if err != nil {
		return nil, err
	}
	return key.ParsePublicPEM(pem) // which knows the kinds and sizes that may sign
}

var storeTypes = []string{"ca", "signingAuthority", "tsa"}

// CheckStore holds a store to Notation's three types and to names that are a
// folder's (notaryproject/specifications, trust-store-trust-policy.md).
func CheckStore(kind, name string) error {
	if !slices.Contains(storeTypes, kind) {
		return fmt.Errorf("store type %q is none of %s", clip(kind), strings.Join(storeTypes, ", "))
	}
	return CheckName(name)
}

func (n *Notary) check() error {
	for i, s := range n.Stores {
		if err := CheckStore(s.Type, s.Name); err != nil {
			return fmt.Errorf("stores[%d]: %w", i, err)
		}
	}
	for i, c := range n.CRLs {
		if err := cmp.Or(checkText(c.URL), checkTimes(&c.FetchedAt)); err != nil {
			return fmt.Errorf("crls[%d]: %w", i, err)
		}
	}
	var err error
	n.parsed, err = notation.New(n.parts())
	return err
}

// parts is the section in the shape that package notation reads.
func (n *Notary) parts() notation.Parts {
	p := notation.Parts{Policy: n.TrustPolicy, BlobPolicy: n.BlobPolicy, OCSP: n.OCSP}
	for _, s := range n.Stores {
		p.Stores = append(p.Stores, notation.Store(s))
	}
	for _, c := range n.CRLs {
		p.CRLs = append(p.CRLs, c.DER)
	}
	return p
}

func (r *Revoked) check() error {
	for i, d := range r.Digests {
		if _, err := evidence.ParseDigest(string(d.Digest)); err != nil {
			return fmt.Errorf("digests[%d].digest: %w", i, err)
		}
		if err := checkReason(d.Since, d.Reason); err != nil {
			return fmt.Errorf("digests[%d]: %w", i, err)
		}
	}
	for i, d := range r.Identities {
		if d.Identity == "" || d.Issuer == "" {
			return fmt.Errorf("identities[%d]: an identity is a subject and the issuer that vouches for it", i)
		}
		if err := cmp.Or(checkText(d.Identity, d.Issuer), checkReason(d.Since, d.Reason)); err != nil {
			return fmt.Errorf("identities[%d]: %w", i, err)
		}
	}
	for i, d := range r.Keys {
		if err := cmp.Or(CheckFingerprint(d.Key), checkReason(d.Since, d.Reason)); err != nil {
			return fmt.Errorf("keys[%d]: %w", i, err)
		}
	}
	return nil
}

// CheckFingerprint wants "sha256:" and 64 lower-case hexadecimal digits.
func CheckFingerprint(s string) error {
	d, err := evidence.ParseDigest(s)
	if err != nil || !strings.HasPrefix(string(d), "sha256:") {
		return fmt.Errorf("key %q: want sha256: and 64 hexadecimal digits of its DER SubjectPublicKeyInfo", clip(s))
	}
	return nil
}

// checkTimes refuses times that have no RFC 3339 form in UTC.
func checkTimes(times ...*time.Time) error {
	for _, t := range times {
		if t != nil && (t.UTC().Year() < 1 || t.UTC().Year() > 9999) {
			return errors.New("a time is out of the calendar")
		}
	}
	return nil
}

func checkReason(since time.Time, reason string) error {
	if err := checkTimes(&since); err != nil {
		return err
	}
	if since.IsZero() || strings.TrimSpace(reason) == "" {
		return errors.New("a revocation has a time and a reason")
	}
	return checkText(reason)
}

// normalise gives equal bundles one form: lists sorted, times in UTC to the second.
func (f *File) normalise() {
	f.MediaType = MediaType
	utc := func(t *time.Time) { *t = t.UTC().Truncate(time.Second) }
	own := func(t **time.Time) { // what the caller gave is not written to
		if *t != nil {
			c := **t
			utc(&c)
			*t = &c
		}
	}
	for i := range f.Roots {
		utc(&f.Roots[i].FetchedAt)
		own(&f.Roots[i].Expires)
	}
	for i := range f.Keys {
		own(&f.Keys[i].From)
		own(&f.Keys[i].Until)
	}
	for i := range f.Pins {
		utc(&f.Pins[i].PinnedAt)
	}
	sorted.Func(f.Roots, func(a, b Root) int { return cmp.Compare(a.Name, b.Name) })
	sorted.Func(f.Keys, func(a, b Key) int { return cmp.Compare(a.Name, b.Name) })
	sorted.Func(f.Pins, func(a, b Pin) int { return cmp.Compare(a.Repository, b.Repository) })
	slices.Sort(f.Witnesses)
	if n := f.Notary; n != nil {
		n.normalise(utc)
		if n.TrustPolicy == nil && n.BlobPolicy == nil && len(n.Stores)+len(n.CRLs)+len(n.OCSP) == 0 {
			f.Notary = nil
		}
	}
	if f.Revoked != nil {
		f.Revoked.normalise(utc)
	}
}

func (n *Notary) normalise(utc func(*time.Time)) {
	for i := range n.CRLs {
		utc(&n.CRLs[i].FetchedAt)
	}
	sorted.Func(n.Stores, func(a, b Store) int { return cmp.Compare(a.Type+":"+a.Name, b.Type+":"+b.Name) })
	for i := range n.Stores {
		sorted.Func(n.Stores[i].Certificates, bytes.Compare)
		n.Stores[i].Certificates = slices.CompactFunc(n.Stores[i].Certificates, bytes.Equal)
	}
	sorted.Func(n.CRLs, func(a, b CRL) int { return cmp.Or(cmp.Compare(a.URL, b.URL), bytes.Compare(a.DER, b.DER)) })
	sorted.Func(n.OCSP, bytes.Compare)
	n.OCSP = slices.CompactFunc(n.OCSP, bytes.Equal)
}

func (r *Revoked) normalise(utc func(*time.Time)) {
	for i := range r.Digests {
		utc(&r.Digests[i].Since)
	}
	for i := range r.Identities {
		utc(&r.Identities[i].Since)
	}
	for i := range r.Keys {
		utc(&r.Keys[i].Since)
	}
	sorted.Func(r.Digests, func(a, b trust.RevokedDigest) int {
		return cmp.Or(cmp.Compare(a.Digest, b.Digest), a.Since.Compare(b.Since), cmp.Compare(a.Reason, b.Reason))
	})
	sorted.Func(r.Identities, func(a, b trust.RevokedIdentity) int {
		return cmp.Or(cmp.Compare(a.Identity, b.Identity), cmp.Compare(a.Issuer, b.Issuer), a.Since.Compare(b.Since), cmp.Compare(a.Reason, b.Reason))
	})
	sorted.Func(r.Keys, func(a, b trust.RevokedKey) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), a.Since.Compare(b.Since), cmp.Compare(a.Reason, b.Reason))
	})
	r.Digests, r.Identities, r.Keys = slices.Compact(r.Digests), slices.Compact(r.Identities), slices.Compact(r.Keys)
}
