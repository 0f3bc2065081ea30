package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/sorted"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Limits on what of a layout is looked at.
const (
	maxIndexFile   = 16 << 20
	maxLayoutBlobs = 50000
	maxIndexDepth  = 32
)

// files are the files of a layout: those of a folder, or of an archive.
type files interface {
	// open opens a regular file and tells its size in bytes. fs.ErrNotExist is in
	// the error's chain when there is none.
	open(name string) (io.ReadCloser, int64, error)
	// names are the names in a folder, sorted.
	names(dir string) ([]string, error)
	Close() error
}

// folder reads a layout's folder.
type folder struct{ *os.Root }

// open opens a regular file: a pipe would block, a device could be anything.
func (f folder) open(name string) (io.ReadCloser, int64, error) {
	st, err := f.Stat(name)
	if err != nil {
		return nil, 0, err
	}
	if !st.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", name)
	}
	file, err := f.Open(name)
	if err != nil {
		return nil, 0, err
	}
	return file, st.Size(), nil
}

func (f folder) names(dir string) ([]string, error) {
	entries, err := fs.ReadDir(f.FS(), dir)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

// layoutReader reads an OCI image layout (image-spec, image-layout.md) wherever
// its files lie.
//
// What is attached to a subject is found by reading the manifests among the
// blobs: cosign save does not list them in index.json.
type layoutReader struct {
	where string // "the layout", "the archive"
	files func() (files, error)
}

// layoutBackend is an OCI image layout in a folder.
//
// What we attach is listed in index.json, because oras and notation look nowhere
// else. index.json is replaced atomically under a lock on the folder, and entries
// that others wrote stay as they are. Whoever made the folder is not trusted: a
// link in it that leads out of it is followed neither for reading nor for writing.
type layoutBackend struct {
	layoutReader
	dir string
}

var _ backend = (*layoutBackend)(nil)

func openLayout(dir string) (*layoutBackend, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open layout %s: %w", dir, err)
	}
	l := &layoutBackend{dir: abs}
	l.layoutReader = layoutReader{where: "the layout", files: l.open}
	return l, nil
}

func (l *layoutReader) voice() string { return l.where + " holds" }

func (l *layoutReader) fail(step string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotFound):
		return fmt.Errorf("%s: %w", strings.TrimPrefix(step, "resolve "), err)
	}
	return fault.As(fault.KindOf(err), fmt.Errorf("%s: %w", step, err))
}

// open opens the folder for reading. Links inside it that lead out of it are not followed.
func (l *layoutBackend) open() (files, error) {
	root, err := os.OpenRoot(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no folder %s", l.dir)
	}
	if err != nil {
		return nil, err
	}
	if err := checkLayoutFile(folder{root}); err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("%s is not an OCI image layout: %w", l.dir, err)
	}
	return folder{root}, nil
}

var errNoLayout = errors.New("it has no file " + ocispec.ImageLayoutFile)

func checkLayoutFile(in files) error {
	data, err := readFile(in, ocispec.ImageLayoutFile, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return errNoLayout
	}
	if err != nil {
		return err
	}
	var layout ocispec.ImageLayout
	if err := json.Unmarshal(data, &layout); err != nil || layout.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("its version is not %s", ocispec.ImageLayoutVersion)
	}
	return nil
}

func readFile(in files, name string, limit int64) ([]byte, error) {
	f, size, err := in.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", name, size, limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

func blobPath(d digest.Digest) string {
	e := evidence.Digest(d)
	return path.Join(ocispec.ImageBlobsDir, e.Algorithm(), e.Hex())
}

// layoutIndex is index.json; entries and members of others are kept as they are.
type layoutIndex struct {
	members map[string]json.RawMessage
	entries []json.RawMessage
}

func readIndex(in files) (*layoutIndex, error) {
	data, err := readFile(in, ocispec.ImageIndexFile, maxIndexFile)
	if err != nil {
		return nil, err
	}
	if err := strictjson.Valid(data, maxIndexDepth); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	x := &layoutIndex{}
	if err := json.Unmarshal(data, &x.members); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if x.members == nil {
		return nil, errors.New("index.json is not an object") // but null
	}
	if raw, ok := x.members["manifests"]; ok {
		if err := json.Unmarshal(raw, &x.entries); err != nil {
			return nil, fmt.Errorf("index.json: manifests: %w", err)
		}
	}
	return x, nil
}

// descriptors are the entries that can be used, in order.
func (x *layoutIndex) descriptors() []ocispec.Descriptor {
	var list []ocispec.Descriptor
	for _, raw := range x.entries {
		if d, ok := entryOf(raw); ok {
			list = append(list, d)
		}
	}
	return list
}

func (l *layoutReader) resolve(_ context.Context, ref Ref) (ocispec.Descriptor, error) {
	in, err := l.files()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer in.Close()
	index, err := readIndex(in)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var d ocispec.Descriptor
	switch {
	case ref.Digest != "":
		d, err = resolveDigest(in, index, digest.Digest(ref.Digest))
	case ref.Tag != "":
		d, err = resolveTag(index, ref.Tag)
	default:
		d, err = resolveOnly(in, index)
	}
	if err != nil {
		return d, err
	}
	return d, l.holds(in, d)
}

// holds checks that the manifest of an entry is there and is what the entry says:
// who is told that it is good goes on with what lies here.
func (l *layoutReader) holds(in files, d ocispec.Descriptor) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	data, err := readFile(in, blobPath(d.Digest), MaxManifest)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s no manifest %s, which its index names", l.voice(), d.Digest)
	case err != nil:
		return err
	case int64(len(data)) != d.Size:
		return fmt.Errorf("%s %w: %d instead of %d", l.voice(), errOtherBytes, len(data), d.Size)
	case d.Digest.Algorithm().FromBytes(data) != d.Digest:
		return fmt.Errorf("%s %w: the digest does not match", l.voice(), errOtherBytes)
	}
	return nil
}

func resolveTag(index *layoutIndex, tag string) (ocispec.Descriptor, error) {
	var found []ocispec.Descriptor
	for _, d := range index.descriptors() {
		if d.Annotations[ocispec.AnnotationRefName] == tag && !slices.ContainsFunc(found, func(o ocispec.Descriptor) bool { return o.Digest == d.Digest }) {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return savedByCosign(index, tag)
	case 1:
		return found[0], nil
	}
	return ocispec.Descriptor{}, fmt.Errorf("index.json gives the tag %s to %d manifests", tag, len(found))
}

func resolveDigest(in files, index *layoutIndex, want digest.Digest) (ocispec.Descriptor, error) {
	for _, d := range index.descriptors() {
		if d.Digest == want && d.MediaType != "" {
			return d, nil
		}
	}
	data, err := readFile(in, blobPath(want), MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return ocispec.Descriptor{}, ErrNotFound
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	m, err := ociartifact.Parse(data)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: mediaTypeOf(m), Digest: want, Size: int64(len(data))}, nil
}

// What cosign save calls the entries of index.json, without a tag: an image, and
// what lay under its tags .sig and .att.
const (
	annotationKind = "kind"
	kindPrefix     = "dev.cosignproject.cosign/" // image, imageIndex, sigs, atts
)

// savedByCosign finds the signatures or attestations that cosign save put beside
// the one image that it saved.
func savedByCosign(index *layoutIndex, tag string) (ocispec.Descriptor, error) {
	var image, beside []ocispec.Descriptor
	for _, d := range index.descriptors() {
		switch strings.TrimPrefix(d.Annotations[annotationKind], kindPrefix) {
		case "image", "imageIndex":
			image = append(image, d)
		case "sigs":
			if strings.HasSuffix(tag, ".sig") {
				beside = append(beside, d)
			}
		case "atts":
			if strings.HasSuffix(tag, ".att") {
				beside = append(beside, d)
			}
		}
	}
	if len(image) != 1 || len(beside) != 1 || !strings.HasSuffix(strings.TrimSuffix(strings.TrimSuffix(tag, ".sig"), ".att"), strings.ReplaceAll(image[0].Digest.String(), ":", "-")) {
		return ocispec.Descriptor{}, ErrNotFound
	}
	return beside[0], nil
}

// mediaTypeOf fills in the media type that OCI manifests may leave out.
func mediaTypeOf(m *ociartifact.Manifest) string {
	switch {
	case m.MediaType != "":
		return m.MediaType
	case m.IsIndex():
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}

// resolveOnly finds the one image of a layout; what is attached to others does not count.
func resolveOnly(in files, index *layoutIndex) (ocispec.Descriptor, error) {
	var found []ocispec.Descriptor
	for _, d := range index.descriptors() {
		if kind, ok := strings.CutPrefix(d.Annotations[annotationKind], kindPrefix); ok && (kind == "sigs" || kind == "atts") {
			continue
		}
		m, err := readManifest(in, d.Digest)
		if err == nil && m.Subject != nil || slices.ContainsFunc(found, func(o ocispec.Descriptor) bool { return o.Digest == d.Digest }) {
			continue
		}
		found = append(found, d)
	}
	switch len(found) {
	case 0:
		return ocispec.Descriptor{}, errors.New("there is no image in it")
	case 1:
		return found[0], nil
	}
	return ocispec.Descriptor{}, fault.Hint(fmt.Errorf("there are %d images in it", len(found)), "name one by its tag or digest, as in oci:DIR:TAG or oci:DIR@sha256:…")
}

func readManifest(in files, d digest.Digest) (*ociartifact.Manifest, error) {
	data, err := readFile(in, blobPath(d), MaxManifest)
	if err != nil {
		return nil, err
	}
	return ociartifact.Parse(data)
}

func (l *layoutReader) openManifest(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return l.openBlob(ctx, desc)
}

func (l *layoutReader) openBlob(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	in, err := l.files()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	f, size, err := in.open(blobPath(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing{}
	}
	if err != nil {
		return nil, err
	}
	if size != desc.Size {
		_ = f.Close()
		return nil, fmt.Errorf("%s %w: %d instead of %d", l.voice(), errOtherBytes, size, desc.Size)
	}
	return f, nil
}

// missing is ErrNotFound about a blob.
type missing struct{}

func (missing) Error() string        { return "it is not there" }
func (missing) Is(target error) bool { return target == ErrNotFound }

func (l *layoutReader) tags(context.Context) ([]string, error) {
	in, err := l.files()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	index, err := readIndex(in)
	if err != nil {
		return nil, err
	}
	var tags []string
	for _, d := range index.descriptors() {
		if tag := d.Annotations[ocispec.AnnotationRefName]; tag != "" {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags), nil
}

// referrers reads every manifest among the blobs. Listed ones come first, in
// index.json's order.
func (l *layoutReader) referrers(ctx context.Context, subject ocispec.Descriptor) ([]Referrer, error) {
	in, err := l.files()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	index, err := readIndex(in)
	if err != nil {
		return nil, err
	}
	place := map[digest.Digest]int{}
	for i, d := range index.descriptors() {
		place[d.Digest] = i - len(index.entries)
	}
	var list []Referrer
	err = eachManifest(ctx, in, func(d digest.Digest, size int64, m *ociartifact.Manifest) {
		if m.Subject != nil && m.Subject.Digest == subject.Digest {
			list = append(list, Referrer{How: HowLayout, Descriptor: ocispec.Descriptor{
				MediaType: mediaTypeOf(m), Digest: d, Size: size, ArtifactType: m.Artifact(), Annotations: m.Annotations}})
		}
	})
	sorted.Func(list, func(a, b Referrer) int {
		return cmp.Or(cmp.Compare(place[a.Digest], place[b.Digest]), cmp.Compare(a.Digest, b.Digest))
	})
	return list, err
}

// eachManifest calls fn for every blob that is a manifest.
func eachManifest(ctx context.Context, in files, fn func(digest.Digest, int64, *ociartifact.Manifest)) error {
	seen := 0
	for _, alg := range []string{"sha256", "sha384", "sha512"} {
		names, err := in.names(path.Join(ocispec.ImageBlobsDir, alg))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if seen++; seen > maxLayoutBlobs {
				return fmt.Errorf("there are more than %d blobs", maxLayoutBlobs)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			d, err := evidence.ParseDigest(alg + ":" + name)
			if err != nil {
				continue
			}
			if m, size := manifestBlob(in, digest.Digest(d)); m != nil {
				fn(digest.Digest(d), size, m)
			}
		}
	}
	return nil
}

// manifestBlob is the manifest in a blob, nil for any other blob. The first
// byte tells layers apart from JSON without reading them.
func manifestBlob(in files, d digest.Digest) (*ociartifact.Manifest, int64) {
	f, size, err := in.open(blobPath(d))
	if err != nil {
		return nil, 0
	}
	defer f.Close()
	first := make([]byte, 1)
	if size > MaxManifest {
		return nil, 0
	}
	if n, _ := f.Read(first); n != 1 || (first[0] != '{' && first[0] > ' ') {
		return nil, 0
	}
	rest, err := io.ReadAll(io.LimitReader(f, MaxManifest))
	if err != nil {
		return nil, 0
	}
	m, err := ociartifact.Parse(append(first, rest...))
	if err != nil || (m.Config == nil && !m.IsIndex() && m.Subject == nil) {
		return nil, 0
	}
	return m, size
}
