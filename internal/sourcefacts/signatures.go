package sourcefacts

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/attestation"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// maxSignatures is how many verified signatures of an image a policy is shown.
const maxSignatures = 256

func unreachable(err error) bool { return fault.KindOf(err) == fault.Unreachable }

// signatures are the verified ones of the image: of its index, of itself, and of
// attestation manifests that are about it.
func (i *image) signatures(ctx context.Context, r *Resolver, platform string, f *sourcepolicy.Facts) (*[]sourcepolicy.Signature, error) {
	if err := i.collect(ctx, r, platform); err != nil {
		return nil, err
	}
	out := []sourcepolicy.Signature{}
	for _, t := range i.tried {
		for _, why := range t.Reasons {
			f.Notes = append(f.Notes, why.Message)
		}
		covers, err := i.covers(ctx, t)
		if err != nil {
			return nil, err
		}
		if covers == "" {
			continue
		}
		if len(out) == maxSignatures {
			return nil, fmt.Errorf("more than %d signatures", maxSignatures)
		}
		s := signatureOf(t.Verified, covers)
		s.Pinned = r.pinned(i, t.Verified)
		out = append(out, s)
	}
	return &out, nil
}

// covers is what of the image a verified signature was made of; "" when it is none of
// the image.
func (i *image) covers(ctx context.Context, t gate.Tried) (string, error) {
	if t.Covers != "" {
		ours, err := i.isAbout(ctx, t.Covers)
		if err != nil || !ours {
			return "", err
		}
		return "attestation", nil
	}
	if t.Fact == nil || t.Place.Attestation {
		return "", nil
	}
	if i.index.Is && t.Item.Subject == evidence.Digest(i.root.Digest) {
		return "index", nil
	}
	return "image", nil
}

// isAbout reports whether a signed attestation manifest is about the image: it must
// say so itself, by its subject or in a statement. What the index says of it is not
// signed by who signed the manifest.
func (i *image) isAbout(ctx context.Context, manifest evidence.Digest) (bool, error) {
	about := evidence.Digest(i.one.Digest)
	items, _, _ := i.builderManifests() // one that cannot be read has no signatures that count
	n := slices.IndexFunc(items, func(it collect.Item) bool { return it.Where.Digest == manifest })
	if n < 0 {
		return false, nil
	}
	data, err := i.repo.Manifest(ctx, items[n].Manifest)
	if err != nil {
		return false, err
	}
	m, err := ociartifact.Parse(data)
	if err != nil {
		return false, err
	}
	if own := attestation.Of(m); own != nil && own.About != "" {
		return own.About == about, nil
	}
	for _, s := range items[n].Statements {
		_, err := i.read(ctx, s, items[n].Where.Ref)
		if err == nil {
			return true, nil
		}
		if unreachable(err) || ctx.Err() != nil {
			return false, err
		}
	}
	return false, nil
}

// pinned reports whether the caller's trust pins the signer for the image's repository.
func (r *Resolver) pinned(i *image, v *verify.Verified) bool {
	return r.o.Pinned != nil && r.o.Pinned(i.ref.Name(), v.Signer(), v.LogOrigin())
}

// signatureOf is a verified claim as source policies see it.
func signatureOf(v *verify.Verified, covers string) sourcepolicy.Signature {
	s := sourcepolicy.Signature{Signer: signerOf(v), Covers: covers, Type: typeOf(v.Format())}
	for _, t := range v.Times() {
		kind := "TimestampAuthority"
		if t.Kind == "log" {
			kind = "Tlog"
		}
		s.Timestamps = append(s.Timestamps, sourcepolicy.Timestamp{Type: kind, URI: t.By, Timestamp: t.At})
	}
	s.Kind = string(attestation.Signature{
		Signer: v.Signer(), CertificateIssuer: s.Signer.CertificateIssuer, Format: v.Format(), Times: len(s.Timestamps),
	}.Kind())
	return s
}

// typeOf names the format as buildx does where buildx knows it.
func typeOf(f evidence.Format) string {
	switch f {
	case evidence.FormatBundle03:
		return "bundle-v0.3"
	case evidence.FormatCosignSignature:
		return "simplesigning-v1"
	}
	return string(f)
}

func signerOf(v *verify.Verified) *sourcepolicy.Signer {
	from := v.Signer()
	out := &sourcepolicy.Signer{}
	// The certificate's extensions have the names that policies use for them.
	if data, err := json.Marshal(from.Extensions); err == nil {
		_ = json.Unmarshal(data, out) // strings into strings
	}
	out.SubjectAlternativeName, out.Issuer = from.Identity, from.Issuer
	out.Key, out.Subject, out.Certificate = from.Key, from.Subject, from.Certificate
	out.CertificateIssuer = ""
	if c := v.Certificate(); c != nil {
		out.CertificateIssuer = c.Issuer
	}
	return out
}

// attestations are the statements about the image, with who signed each.
func (i *image) attestations(ctx context.Context, r *Resolver, platform string) (*[]sourcepolicy.Attestation, error) {
	if err := i.collect(ctx, r, platform); err != nil {
		return nil, err
	}
	out := []sourcepolicy.Attestation{}
	add := func(a sourcepolicy.Attestation) error {
		if len(out) == maxSignatures {
			return fmt.Errorf("more than %d attestations", maxSignatures)
		}
		out = append(out, a)
		return nil
	}
	items, by, err := i.builderManifests()
	if err != nil {
		return nil, err
	}
	for n, it := range items {
		for _, s := range it.Statements {
			st, err := i.read(ctx, s, it.Where.Ref)
			if err != nil {
				return nil, err
			}
			if err := add(sourcepolicy.Attestation{PredicateType: st.PredicateType, Verified: by[n] != nil, Signer: by[n], Predicate: st.Predicate}); err != nil {
				return nil, err
			}
		}
	}
	for _, t := range i.tried {
		if t.Fact == nil || !t.Place.Attestation {
			continue
		}
		if err := add(sourcepolicy.Attestation{PredicateType: t.Fact.PredicateType, Verified: true, Signer: signerOf(t.Verified), Pinned: r.pinned(i, t.Verified), Predicate: t.Fact.Predicate}); err != nil {
			return nil, err
		}
	}
	return &out, nil
}

// bundleSignature verifies a Sigstore bundle of provenance of a file.
func (r *Resolver) bundleSignature(ctx context.Context, d evidence.Digest, data []byte) (*sourcepolicy.Signature, []string, error) {
	v, err := r.verifier(ctx)
	if err != nil {
		return nil, nil, err
	}
	claim, err := bundle.Parse(data)
	if err != nil {
		return nil, []string{err.Error()}, nil
	}
	verified, reasons := v.Claim(claim, verify.Artifact{Digests: []evidence.Digest{d}})
	if verified == nil || len(reasons) > 0 {
		notes := []string{}
		for _, why := range reasons {
			notes = append(notes, why.Message)
		}
		return nil, notes, nil
	}
	switch verified.PredicateType() {
	case sourcepolicy.PredicateSLSA1, sourcepolicy.PredicateSLSA02:
	default:
		return nil, []string{fmt.Sprintf("the bundle is no provenance but %q", verified.PredicateType())}, nil
	}
	s := signatureOf(verified, "")
	return &s, nil, nil
}
