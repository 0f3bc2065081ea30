package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// Limits of an entry.
const (
	maxTable  = 1 << 20  // bytes of the table of steps and results; BuildKit reads no more
	maxBytes  = 20 << 30 // of all that it lists
	transfers = 4        // blobs at the same time
)

var errTooLarge = errors.New("it is larger than a cache may be")

// tableType is the media type of BuildKit's table of steps and results (cache/remotecache/v1).
const tableType = "application/vnd.buildkit.cacheconfig.v0"

// read reads a cache manifest: what it lists, the table first, each digest once.
func read(manifest []byte) ([]ocispec.Descriptor, error) {
	m, err := ociartifact.Parse(manifest)
	switch {
	case err != nil:
		return nil, err
	case m.MediaType != ocispec.MediaTypeImageManifest || m.Config == nil || m.Config.MediaType != tableType:
		return nil, errors.New("it is no cache manifest of BuildKit's")
	case m.Config.Size > maxTable:
		return nil, errTooLarge
	}
	all, seen, left := []ocispec.Descriptor{*m.Config}, map[digest.Digest]bool{m.Config.Digest: true}, int64(maxBytes)
	for i := range m.Layers {
		l := &m.Layers[i]
		if seen[l.Digest] {
			continue
		}
		if left -= l.Size; left < 0 {
			return nil, errTooLarge
		}
		seen[l.Digest] = true
		all = append(all, *l)
	}
	return all, nil
}

// blob is where a content store at dir has a blob (containerd's, which is an OCI layout's).
func blob(dir string, d digest.Digest) string {
	return filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded())
}

// Fetch writes all of an entry to a content store at dir, which need not be there: digests
// and sizes are those that the signed manifest lists. A reason says why that was not to be
// had; what is in dir then is not to be used.
func (f *Found) Fetch(ctx context.Context, repo *registry.Repository, dir string) ([]policy.Reason, error) {
	manifest := blob(dir, f.Desc.Digest)
	err := os.MkdirAll(filepath.Dir(manifest), 0o700)
	if err == nil {
		err = each(ctx, f.blobs, func(ctx context.Context, d *ocispec.Descriptor) error {
			r, err := repo.OpenBlob(ctx, *d)
			if err != nil {
				return err
			}
			defer r.Close()
			to, err := os.OpenFile(blob(dir, d.Digest), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			_, err = io.Copy(to, r) // to its end, where digest and size are compared
			return errors.Join(err, to.Close())
		})
	}
	if err == nil {
		err = os.WriteFile(manifest, f.manifest, 0o600)
	}
	if err != nil && ctx.Err() == nil {
		return broken(repo.RefOf(f.Desc.Digest), err), nil
	}
	return nil, ctx.Err()
}

// each transfers the blobs, several at a time.
func each(ctx context.Context, all []ocispec.Descriptor, transfer func(context.Context, *ocispec.Descriptor) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(transfers)
	for i := range all {
		g.Go(func() error { return transfer(ctx, &all[i]) })
	}
	return g.Wait()
}

// Made is what BuildKit exported to a content store.
type Made struct {
	Desc     ocispec.Descriptor // of the manifest
	manifest []byte
	dir      string
	blobs    []ocispec.Descriptor
}

// Open reads the manifest that BuildKit says it exported to the content store at dir.
func Open(dir string, d evidence.Digest) (*Made, error) {
	data, err := os.ReadFile(blob(dir, digest.Digest(d)))
	if err != nil {
		return nil, err
	}
	if evidence.SHA256(data) != d {
		return nil, fmt.Errorf("what was exported is not %s", d)
	}
	m := &Made{Desc: registry.Describe(ocispec.MediaTypeImageManifest, data), manifest: data, dir: dir}
	m.blobs, err = read(data)
	return m, err
}

func (f *Found) has(d digest.Digest) bool {
	for i := 0; f != nil && i < len(f.blobs); i++ {
		if f.blobs[i].Digest == d {
			return true
		}
	}
	return false
}

// Push uploads all of it, but what was taken from the same repository; no tag names it yet.
func (m *Made) Push(ctx context.Context, repo *registry.Repository, taken *Found) error {
	err := each(ctx, m.blobs, func(ctx context.Context, d *ocispec.Descriptor) error {
		if taken.has(d.Digest) {
			return nil
		}
		f, err := os.Open(blob(m.dir, d.Digest))
		if err != nil {
			return err
		}
		defer f.Close()
		return repo.PushBlobFrom(ctx, *d, f)
	})
	if err != nil {
		return err
	}
	return repo.PushManifest(ctx, m.Desc, m.manifest, "")
}

// Name lets the tag of this build's entry name what was pushed: of two builds that do so, the
// last one's is found. It comes after the signature.
func (b *Build) Name(ctx context.Context, m *Made) error {
	return b.Repo.PushManifest(ctx, m.Desc, m.manifest, b.This.tag(b.This.Ref, b.Who))
}

// probe is a manifest with nothing in it (OCI image-spec, "Guidance for an Empty Descriptor").
const probe = `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","artifactType":"application/vnd.hallmark.build-cache.probe",` +
	`"config":` + empty + `,"layers":[` + empty + `]}`

const empty = `{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}`

// Probe pushes a manifest with nothing in it, and is its reference: whether everybody may
// read it says whether they may read what comes after.
func Probe(ctx context.Context, repo *registry.Repository) (registry.Ref, error) {
	desc := registry.Describe(ocispec.MediaTypeImageManifest, []byte(probe))
	_, err := repo.PushBlob(ctx, ocispec.MediaTypeEmptyJSON, []byte(ociartifact.EmptyConfig))
	if err == nil {
		err = repo.PushManifest(ctx, desc, []byte(probe), "")
	}
	return repo.Ref().WithDigest(evidence.Digest(desc.Digest)), err
}
