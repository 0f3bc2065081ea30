package bundlefile

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
)

// SigstoreRoots are the parsed trusted roots, in the order of Roots. They are not
// to be modified.
func (f *File) SigstoreRoots() []*trust.Root { return f.parsed }

// Notation is what is believed about Notary Project signatures, nil when nothing is.
func (f *File) Notation() *notation.Trust {
	if f.Notary == nil {
		return nil
	}
	return f.Notary.parsed
}

// CheckpointWitnesses are the witnesses that must have cosigned.
func (f *File) CheckpointWitnesses() trust.Witnesses {
	keys, err := f.WitnessKeys()
	if err != nil { // check has parsed them
		return trust.Witnesses{Quorum: f.Quorum}
	}
	return trust.Witnesses{Keys: keys, Quorum: f.Quorum}
}

// NamedKey is a key of the bundle, ready for use.
type NamedKey struct {
	Name        string
	Public      crypto.PublicKey
	Fingerprint string       // "sha256:…" of the DER SubjectPublicKeyInfo
	ValidFor    trust.Window // the zero Window is always
}

// PublicKeys are the keys of the bundle.
func (f *File) PublicKeys() []NamedKey {
	var out []NamedKey
	for _, k := range f.Keys {
		public, err := parsePublic(k.PublicKey)
		if err != nil {
			continue // check has parsed it
		}
		n := NamedKey{Name: k.Name, Public: public, Fingerprint: "sha256:" + hexSHA256(k.PublicKey)}
		if k.From != nil {
			n.ValidFor.Start = *k.From
		}
		if k.Until != nil {
			n.ValidFor.End = *k.Until
		}
		out = append(out, n)
	}
	return out
}

// Revocations is what is revoked.
func (f *File) Revocations() trust.Revoked {
	if f.Revoked == nil {
		return trust.Revoked{}
	}
	return trust.Revoked{Digests: f.Revoked.Digests, Identities: f.Revoked.Identities, Keys: f.Revoked.Keys}
}

// PublicRootName is the name of the public instance's root when hallmark gives it.
const PublicRootName = "public"

// EmbeddedRoot is the entry of the public instance's trusted root that is in the
// binary: what a first run works with, offline.
func EmbeddedRoot() Root {
	document, of, stale := trust.EmbeddedPublicGood()
	return Root{Name: PublicRootName, Source: Source{Embedded: true}, FetchedAt: of, Expires: &stale, TrustedRoot: document}
}

// Embedded is a bundle that believes the embedded root alone.
func Embedded() (*File, error) {
	f := &File{Roots: []Root{EmbeddedRoot()}}
	f.normalise()
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("the embedded trusted root: %w", err)
	}
	return f, nil
}

// WithRoots is the bundle with the roots that are believed where no others are
// named: its own (of publicOnly, the public instance's alone), or where it has none
// the embedded one. Nothing is fetched.
func (f *File) WithRoots(publicOnly bool) (*File, error) {
	with := *f
	if publicOnly {
		i := slices.IndexFunc(f.Roots, func(r Root) bool { return r.Name == PublicRootName })
		if i < 0 {
			with.Roots = nil
		} else {
			with.Roots, with.parsed = f.Roots[i:i+1], f.parsed[i:i+1]
		}
	}
	if len(with.Roots) == 0 {
		e, err := Embedded()
		if err != nil {
			return nil, err
		}
		with.Roots, with.parsed = e.Roots, e.parsed
	}
	return &with, nil
}

// Staleness is what in the bundle is older at now than its source vouches for: a
// warning each, or a denial where a policy wants that. Nothing of it makes
// signatures verify or fail by itself.
func (f *File) Staleness(now time.Time) []policy.Reason {
	var out []policy.Reason
	for _, r := range f.Roots {
		if r.Expires == nil || !now.After(*r.Expires) {
			continue
		}
		out = append(out, policy.Reason{Code: CodeStale, Subject: r.Name, Hint: r.refresh(),
			Message: fmt.Sprintf("the trust root %q (%s) was vouched for until %s; what was revoked or replaced since is not known", r.Name, r.Source, stamp(*r.Expires))})
	}
	return append(out, f.StaleLists(now)...)
}

// StaleLists is the part of Staleness about revocation lists, which matter whichever
// trust root is believed.
func (f *File) StaleLists(now time.Time) []policy.Reason {
	if f.Notary == nil {
		return nil
	}
	var out []policy.Reason
	for _, c := range f.Notary.CRLs {
		list, err := x509.ParseRevocationList(c.DER)
		if err != nil || list.NextUpdate.IsZero() || !now.After(list.NextUpdate) {
			continue
		}
		hint := "hallmark trust add crl FILE adds the present one"
		if c.URL != "" {
			hint = "hallmark trust update fetches the present one"
		}
		out = append(out, policy.Reason{Code: CodeStale, Subject: list.Issuer.String(), Hint: hint,
			Message: fmt.Sprintf("the revocation list of %s was to be replaced by %s; what was revoked since is not known", list.Issuer, stamp(list.NextUpdate))})
	}
	return out
}

// refresh is the command that brings a stale root up to date.
func (r Root) refresh() string {
	if r.Source.Embedded {
		return "hallmark trust import public fetches the present one"
	}
	return "hallmark trust update fetches the present one"
}

// String names a source for people.
func (s Source) String() string {
	switch {
	case s.Embedded:
		return "embedded in hallmark"
	case s.Mirror != "":
		return "from " + s.Mirror
	}
	return "from the file " + s.File
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
