// Package registry is the one client of OCI registries and OCI image layouts:
// it resolves references, fetches and pushes manifests and blobs, lists what is
// attached to an image and attaches more.
//
// Not trusted: a registry, or whoever can write to a layout, can withhold
// content, list anything as attached, and move tags. It cannot pass off other
// bytes: digest and size of everything fetched by descriptor are checked here.
package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
)

// Limits on what is read.
const (
	MaxManifest  = ociartifact.MaxManifest // 4 MiB
	MaxReferrers = 1000                    // referrers of one subject that are listed
)

// How a referrer was found; also evidence.Location.How.
const (
	HowAPI    = "referrers-api" // distribution-spec 1.1, "Listing Referrers"
	HowTag    = "referrers-tag" // the fallback tag sha256-<hex>
	HowLayout = "layout"
)

// Referrer is a manifest that says it is about a subject, as a list shows it:
// media type, digest, size, and perhaps artifact type and annotations, none of
// them true before the manifest itself was read.
type Referrer struct {
	ocispec.Descriptor
	How string
}

// TooManyReferrersError says that a subject has more referrers than are listed.
// It comes together with the first [MaxReferrers] of them.
type TooManyReferrersError struct{ Listed int }

func (e *TooManyReferrersError) Error() string {
	return fmt.Sprintf("more than %d referrers: only the first %d were listed", e.Listed, e.Listed)
}

// Repository is an open repository or layout. It is safe for concurrent use.
type Repository struct {
	ref Ref
	b   backend
}

// backend is a place that manifests and blobs are in. Implementations need not
// check digests of what they return; they are safe for concurrent use.
type backend interface {
	resolve(ctx context.Context, ref Ref) (ocispec.Descriptor, error)
	openManifest(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	openBlob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	pushBlob(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error
	pushManifest(ctx context.Context, desc ocispec.Descriptor, data []byte, tag string) error
	deleteManifest(ctx context.Context, desc ocispec.Descriptor) error
	referrers(ctx context.Context, subject ocispec.Descriptor) ([]Referrer, error)
	attach(ctx context.Context, subject, desc ocispec.Descriptor, data []byte) error
	tags(ctx context.Context) ([]string, error)
	fail(step string, err error) error // nil stays nil
	voice() string                     // "the registry sent", "the layout holds"
}

// Ref is the reference that the repository was opened with.
func (r *Repository) Ref() Ref { return r.ref }

// RefOf is the reference of something in this repository by its digest.
func (r *Repository) RefOf(d digest.Digest) string {
	return r.ref.WithDigest(evidence.Digest(d)).String()
}

// Resolve is the descriptor of the manifest that ref names: one request. For a
// tag the registry's word is all there is, so resolve once and go on by digest.
// A tag or manifest that does not exist is an ordinary failure that says so.
func (r *Repository) Resolve(ctx context.Context, ref Ref) (ocispec.Descriptor, error) {
	if ref.Name() != r.ref.Name() {
		return ocispec.Descriptor{}, fmt.Errorf("resolve %s: this is the repository %s", ref, r.ref.Name())
	}
	desc, err := r.b.resolve(ctx, ref)
	if err != nil {
		return ocispec.Descriptor{}, r.b.fail("resolve "+ref.String(), err)
	}
	if err := checkDigest(desc); err != nil {
		return ocispec.Descriptor{}, r.b.fail("resolve "+ref.String(), err)
	}
	if ref.Digest != "" && desc.Digest.String() != string(ref.Digest) {
		return ocispec.Descriptor{}, r.b.fail("resolve "+ref.String(), fmt.Errorf("%s %w", r.b.voice(), errOtherBytes))
	}
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}, nil
}

// Manifest fetches a manifest of at most [MaxManifest] bytes; digest and size
// are those of desc. Without a media type in desc any manifest will do.
func (r *Repository) Manifest(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	return r.fetch(ctx, "fetch manifest ", desc, MaxManifest, r.b.openManifest)
}

// Blob fetches a blob of at most limit bytes; digest and size are those of desc.
func (r *Repository) Blob(ctx context.Context, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	return r.fetch(ctx, "fetch blob ", desc, limit, r.b.openBlob)
}

func (r *Repository) fetch(ctx context.Context, what string, desc ocispec.Descriptor, limit int64, open func(context.Context, ocispec.Descriptor) (io.ReadCloser, error)) ([]byte, error) {
	step := what + r.RefOf(desc.Digest)
	rc, err := r.open(ctx, desc, limit, open)
	if err != nil {
		return nil, r.b.fail(step, err)
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	if err != nil {
		return nil, r.b.fail(step, err)
	}
	return data, nil
}

// OpenBlob streams a blob. Reading it to the end fails with an error instead of
// io.EOF when digest or size are not those of desc: believe nothing before EOF.
func (r *Repository) OpenBlob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := r.open(ctx, desc, -1, r.b.openBlob)
	if err != nil {
		return nil, r.b.fail("fetch blob "+r.RefOf(desc.Digest), err)
	}
	return rc, nil
}

func (r *Repository) open(ctx context.Context, desc ocispec.Descriptor, limit int64, open func(context.Context, ocispec.Descriptor) (io.ReadCloser, error)) (io.ReadCloser, error) {
	if err := checkDigest(desc); err != nil {
		return nil, err
	}
	if limit >= 0 && desc.Size > limit {
		return nil, fmt.Errorf("%d bytes, at most %d are read", desc.Size, limit)
	}
	rc, err := open(ctx, desc)
	if err != nil {
		return nil, err
	}
	return newVerifyingReader(rc, desc, r.b.voice()), nil
}

// PushBlob uploads data and returns its descriptor.
func (r *Repository) PushBlob(ctx context.Context, mediaType string, data []byte) (ocispec.Descriptor, error) {
	desc := Describe(mediaType, data)
	return desc, r.PushBlobFrom(ctx, desc, bytes.NewReader(data))
}

// PushBlobFrom uploads a blob from a reader; desc says what it must turn out to be.
func (r *Repository) PushBlobFrom(ctx context.Context, desc ocispec.Descriptor, src io.Reader) error {
	if err := checkDigest(desc); err != nil {
		return err
	}
	return r.b.fail("push blob to "+r.ref.Name(), r.b.pushBlob(ctx, desc, src))
}

// PushManifest uploads a manifest or index and, unless tag is "", lets tag name
// it. It does not make a manifest with a subject findable on registries without
// referrers API: that is what Attach is for.
func (r *Repository) PushManifest(ctx context.Context, desc ocispec.Descriptor, data []byte, tag string) error {
	if got := Describe(desc.MediaType, data); got.Digest != desc.Digest || got.Size != desc.Size {
		return fmt.Errorf("push manifest to %s: the descriptor is not that of the manifest", r.ref.Name())
	}
	if tag != "" {
		if err := checkTag(tag); err != nil {
			return fmt.Errorf("push manifest to %s: %w", r.ref.Name(), err)
		}
	}
	step := "push manifest to " + r.ref.Name()
	if tag != "" {
		step += ":" + tag
	}
	return r.b.fail(step, r.b.pushManifest(ctx, desc, data, tag))
}

// DeleteManifest deletes a manifest by digest. On a registry without referrers
// API its entry in the fallback tag stays and leads nowhere.
func (r *Repository) DeleteManifest(ctx context.Context, desc ocispec.Descriptor) error {
	if err := checkDigest(desc); err != nil {
		return err
	}
	return r.b.fail("delete "+r.RefOf(desc.Digest), r.b.deleteManifest(ctx, desc))
}

// Referrers lists what is attached to subject, never filtered on the artifact
// type (registries get it wrong). With more than [MaxReferrers], or more pages
// than are read, it returns the first ones together with a *[TooManyReferrersError].
func (r *Repository) Referrers(ctx context.Context, subject ocispec.Descriptor) ([]Referrer, error) {
	if err := checkDigest(subject); err != nil {
		return nil, err
	}
	list, err := r.b.referrers(ctx, subject)
	var many *TooManyReferrersError
	if err != nil && !errors.As(err, &many) {
		return nil, r.b.fail("list referrers of "+r.RefOf(subject.Digest), err)
	}
	seen := make(map[digest.Digest]bool, len(list))
	out := make([]Referrer, 0, len(list))
	for _, d := range list {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		if len(out) == MaxReferrers {
			return out, &TooManyReferrersError{Listed: len(out)}
		}
		out = append(out, d)
	}
	if many != nil {
		return out, many
	}
	return out, nil
}

// Attach pushes a manifest whose subject is the given one and makes sure that
// it is listed. On a registry without referrers API it adds it to the fallback
// tag (distribution-spec, "Referrers Tag Schema") and reads back until the
// entry stays, so that signers who do the same at the same time lose nothing.
// Blobs of the manifest have to be there already.
func (r *Repository) Attach(ctx context.Context, subject ocispec.Descriptor, manifest []byte) (ocispec.Descriptor, error) {
	m, err := ociartifact.Parse(manifest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if m.Subject == nil || m.Subject.Digest != subject.Digest || m.MediaType == "" {
		return ocispec.Descriptor{}, fmt.Errorf("attach: the manifest needs a media type and the subject %s", subject.Digest)
	}
	desc := Describe(m.MediaType, manifest)
	desc.ArtifactType, desc.Annotations = m.Artifact(), m.Annotations
	if err := r.b.attach(ctx, subject, desc, manifest); err != nil {
		return ocispec.Descriptor{}, r.b.fail("attach to "+r.RefOf(subject.Digest), err)
	}
	return desc, nil
}

// Tags lists the repository's tags in the registry's order.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	tags, err := r.b.tags(ctx)
	return tags, r.b.fail("list tags of "+r.ref.Name(), err)
}

// Describe is the SHA-256 descriptor of data.
func Describe(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest(evidence.SHA256(data)), Size: int64(len(data))}
}

func checkDigest(desc ocispec.Descriptor) error {
	if _, err := evidence.ParseDigest(desc.Digest.String()); err != nil {
		return err
	}
	if desc.Size < 0 {
		return fmt.Errorf("%s: size %d", desc.Digest, desc.Size)
	}
	return nil
}
