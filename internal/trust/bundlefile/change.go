package bundlefile

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
	"github.com/hallmark-dev/hallmark/internal/trust/revocation"
)

// AddRoot adds a trusted root; one of the same name may be there only if it is
// the same document, or the older one of the same TUF repository. The embedded
// root gives way to the one that its instance gave.
func (f *File) AddRoot(r Root) error {
	i := slices.IndexFunc(f.Roots, func(have Root) bool { return have.Name == r.Name })
	if i >= 0 && f.Roots[i].Source.Embedded {
		f.Roots[i] = r
		return nil
	}
	if conflict := f.mergeRoot(r); conflict != nil {
		return fmt.Errorf("%s: hallmark trust remove %s takes the old one away", conflict[0], r.Name)
	}
	return nil
}

// AddKey adds a public key with its window; nil ends are open.
func (f *File) AddKey(name string, public crypto.PublicKey, from, until *time.Time) error {
	if err := CheckName(name); err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	if conflict := f.mergeKey(Key{Name: name, PublicKey: der, From: from, Until: until}); conflict != nil {
		return fmt.Errorf("%s: hallmark trust remove takes the old one away", conflict[0])
	}
	return nil
}

// AddCertificate puts a certificate into a Notation store.
func (f *File) AddCertificate(kind, name string, der []byte) error {
	if err := CheckStore(kind, name); err != nil {
		return err
	}
	if _, err := x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("not a DER certificate")
	}
	f.notary().addCertificate(kind, name, der)
	return nil
}

// AddNotary adds what was read from a folder of Notation's. It returns what
// contradicts, and has then added nothing.
func (f *File) AddNotary(p notation.Parts, now time.Time) (conflicts []string) {
	n := &Notary{TrustPolicy: p.Policy, BlobPolicy: p.BlobPolicy, OCSP: p.OCSP}
	for _, s := range p.Stores {
		n.Stores = append(n.Stores, Store(s))
	}
	for _, der := range p.CRLs {
		n.CRLs = append(n.CRLs, CRL{FetchedAt: now, DER: der})
	}
	return f.Merge(&File{Notary: n})
}

// SetTrustPolicy puts a Notation trust policy (trustpolicy.json) in the place of
// none or of the same.
func (f *File) SetTrustPolicy(document []byte) error {
	n := f.notary()
	if n.TrustPolicy != nil && !sameJSON(n.TrustPolicy, document) {
		return fmt.Errorf("there is another Notation trust policy already: hallmark trust remove policy takes it away")
	}
	if _, err := notation.ParsePolicy(document); err != nil {
		return err
	}
	n.TrustPolicy = json.RawMessage(document)
	return nil
}

// AddCRL adds a certificate revocation list, in the place of an older one of its URL.
func (f *File) AddCRL(url string, der []byte, now time.Time) error {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return fmt.Errorf("not a DER certificate revocation list")
	}
	if list.ThisUpdate.After(now.Add(10 * time.Minute)) {
		return fmt.Errorf("the revocation list of %s is of %s, which is in the future", list.Issuer, stamp(list.ThisUpdate))
	}
	if !f.mayBeSigned(list) {
		return fmt.Errorf("the revocation list is not signed by %s, whose certificate a store has", list.Issuer)
	}
	f.notary().addCRL(CRL{URL: url, FetchedAt: now, DER: der})
	return nil
}

// mayBeSigned keeps a forged list from taking the place of a true one: where the
// stores have the issuer's certificate, its key must have signed. Lists of CAs below
// the stores' can be judged only with the chains that they are about.
func (f *File) mayBeSigned(list *x509.RevocationList) bool {
	known := false
	for _, s := range f.notary().Stores {
		for _, der := range s.Certificates {
			c, err := x509.ParseCertificate(der)
			if err != nil || !bytes.Equal(c.RawSubject, list.RawIssuer) {
				continue
			}
			if list.CheckSignatureFrom(c) == nil {
				return true
			}
			known = true
		}
	}
	return !known
}

// AddOCSP adds an OCSP response; whether it is one is seen when the bundle is checked.
func (f *File) AddOCSP(der []byte) { f.notary().OCSP = append(f.notary().OCSP, der) }

// sameIssuer reports whether two lists are of one issuer, by name.
func sameIssuer(a, b []byte) bool {
	x, err := x509.ParseRevocationList(a)
	if err != nil {
		return false
	}
	y, err := x509.ParseRevocationList(b)
	return err == nil && bytes.Equal(x.RawIssuer, y.RawIssuer)
}

// RefreshOCSP adds an OCSP response that its responder gave just now, in the place of
// older ones about the same certificate. One that says revoked stays: it is believed
// however old it is.
func (f *File) RefreshOCSP(der []byte) {
	n := f.notary()
	n.OCSP = slices.DeleteFunc(n.OCSP, func(old []byte) bool { return revocation.Supersedes(der, old) })
	n.OCSP = append(n.OCSP, der)
}

// newerCRL reports whether a was issued after b, or at the same time with a higher number.
func newerCRL(a, b []byte) bool {
	x, err := x509.ParseRevocationList(a)
	if err != nil {
		return false
	}
	y, err := x509.ParseRevocationList(b)
	if err != nil {
		return false
	}
	if x.ThisUpdate.Equal(y.ThisUpdate) {
		return x.Number != nil && y.Number != nil && x.Number.Cmp(y.Number) > 0
	}
	return x.ThisUpdate.After(y.ThisUpdate)
}

// RevokeDigest, RevokeIdentity and RevokeKey add a revocation. It stays: there is
// no way to take one back but to write the file by hand.
func (f *File) RevokeDigest(r trust.RevokedDigest) {
	f.revoked().Digests = append(f.revoked().Digests, r)
}

// RevokeIdentity revokes an identity; see RevokeDigest.
func (f *File) RevokeIdentity(r trust.RevokedIdentity) {
	f.revoked().Identities = append(f.revoked().Identities, r)
}

// RevokeKey revokes a key; see RevokeDigest.
func (f *File) RevokeKey(r trust.RevokedKey) { f.revoked().Keys = append(f.revoked().Keys, r) }

// Remove takes away what has the name: a root, a key, "policy" (Notation's trust
// policy), a store as TYPE:NAME, a revocation list by its URL or "sha256:…", or the
// pin of HOST/REPOSITORY. It returns what it was, "" when there is nothing of the
// name. Revocations stay.
func (f *File) Remove(name string) string {
	count := f.size()
	f.Roots = slices.DeleteFunc(f.Roots, func(r Root) bool { return r.Name == name })
	if f.size() < count {
		return "trust root"
	}
	f.Keys = slices.DeleteFunc(f.Keys, func(k Key) bool { return k.Name == name })
	if f.size() < count {
		return "key"
	}
	f.Pins = slices.DeleteFunc(f.Pins, func(p Pin) bool { return p.Repository == name })
	if f.size() < count {
		return "pin"
	}
	if f.Notary == nil {
		return ""
	}
	n := f.Notary
	n.Stores = slices.DeleteFunc(n.Stores, func(s Store) bool { return s.Type+":"+s.Name == name })
	if f.size() < count {
		return "store"
	}
	n.CRLs = slices.DeleteFunc(n.CRLs, func(c CRL) bool { return c.URL == name || "sha256:"+hexSHA256(c.DER) == name })
	if f.size() < count {
		return "revocation list"
	}
	if name == "policy" && (n.TrustPolicy != nil || n.BlobPolicy != nil) {
		n.TrustPolicy, n.BlobPolicy = nil, nil
		return "Notation trust policy"
	}
	return ""
}

// size is the number of things that can be removed, without the trust policy.
func (f *File) size() int {
	n := len(f.Roots) + len(f.Keys) + len(f.Pins)
	if f.Notary != nil {
		n += len(f.Notary.Stores) + len(f.Notary.CRLs)
	}
	return n
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Truncate(time.Second).Equal(b.Truncate(time.Second))
}
