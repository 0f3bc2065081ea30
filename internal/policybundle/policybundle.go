// Package policybundle is a policy with all that it reads, as an OCI artifact: how it is made
// of a folder, pushed, fetched and written to a folder again.
//
// The artifact is a manifest of artifact type [ArtifactType] with one layer for each file, whose
// name is the layer's org.opencontainers.image.title, and a version. It has no time and no order
// but that of the names: the same files and version are the same digest.
//
// Who made it is not asked here: signatures are about the digest, and package gate's.
package policybundle

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/mod/semver"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// Media types.
const (
	ArtifactType  = "application/vnd.hallmark.policy.v1"
	MediaTypeFile = "application/vnd.hallmark.policy.file.v1"
)

// annotationRepository is how a manifest names the repository that it is published in: whoever can
// copy it elsewhere cannot let it be another's policy.
const annotationRepository = "dev.hallmark.policy.repository"

// Limits. What the engine reads of a policy's folder is smaller still.
const (
	MaxFiles = 256
	MaxFile  = 8 << 20  // bytes of one file
	MaxTotal = 32 << 20 // bytes of all
	maxName  = 240      // bytes of a file's path
)

// Bundle is a policy's files by their paths, with / between folders.
type Bundle struct {
	Repository string            // HOST/REPOSITORY, where it is published; "" in a folder
	Version    string            // as "1.2.0", "" in a folder that has none
	Imports    map[string]Import // by the folder that it fills
	Files      map[string][]byte
}

// CheckVersion reads a version: MAJOR.MINOR.PATCH and optionally a pre-release, by Semantic
// Versioning 2.0, with or without v before it, and without build metadata, which has no order.
func CheckVersion(s string) (string, error) {
	v := strings.TrimPrefix(s, "v")
	if !semver.IsValid("v"+v) || semver.Canonical("v"+v) != "v"+v || len(v) > 64 {
		return "", fault.Usagef("%q is no version: want one like 1.2.0 or 1.2.0-rc.1", clip(s))
	}
	return v, nil
}

func checkRepository(s string) error {
	if ref, err := registry.ParseRef(s); err != nil || ref.Scheme != registry.SchemeRegistry || ref.Name() != s {
		return fmt.Errorf("the bundle's repository: %q is not HOST/REPOSITORY", clip(s))
	}
	return nil
}

// Of reports why the bundle is not the one of a repository (HOST/REPOSITORY): nil, when it is.
func (b *Bundle) Of(repository string) *policy.Reason {
	if b.Repository == repository {
		return nil
	}
	return &policy.Reason{Code: CodeForeign, Subject: repository,
		Message: fmt.Sprintf("the policy was published as that of %s, and this is %s", b.Repository, repository),
		Hint:    "pull it from where it was published; a mirror is pulled with --origin, which names that"}
}

// Older reports whether version a comes before b.
func Older(a, b string) bool { return semver.Compare("v"+a, "v"+b) < 0 }

// Read reads a folder. Hidden files, whose names begin with a dot, are no part of it; links and
// what else is no regular file are refused.
func Read(dir string) (*Bundle, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.As(fault.Usage, err)
	}
	defer root.Close()
	b := &Bundle{Files: map[string][]byte{}, Imports: map[string]Import{}}
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && name != "." && e.Name() != RecordName && strings.HasPrefix(e.Name(), "."):
			return fs.SkipDir
		case e.IsDir():
			return nil
		case e.Name() == RecordName && name != RecordName:
			return b.addImport(root, name)
		case strings.HasPrefix(e.Name(), "."):
			return nil
		case !e.Type().IsRegular():
			return fault.Usagef("%s: a policy's folder has regular files alone, no links", path.Join(dir, name))
		}
		data, err := readFile(root, name, MaxFile)
		if err != nil {
			return err
		}
		b.Files[name] = data
		return b.check()
	})
	if err != nil {
		return nil, fault.As(fault.Usage, err)
	}
	if len(b.Files) == 0 {
		return nil, fault.Usagef("%s: no file is in it", dir)
	}
	return b, nil
}

func readFile(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", name))
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, err
}

// check holds the bundle to its limits, whoever made it.
func (b *Bundle) check() error {
	if len(b.Files) > MaxFiles {
		return fmt.Errorf("more than %d files", MaxFiles)
	}
	total := 0
	folded := map[string]string{}
	for name, data := range b.Files {
		if err := checkName(name); err != nil {
			return err
		}
		if len(data) == 0 {
			return fmt.Errorf("%s is empty", name)
		}
		if total += len(data); len(data) > MaxFile || total > MaxTotal {
			return fmt.Errorf("a file has at most %d bytes, and all together %d", MaxFile, MaxTotal)
		}
		for at := name; at != "."; at = path.Dir(at) {
			lower := strings.ToLower(at)
			if other, ok := folded[lower]; ok && other != at {
				return fmt.Errorf("%s and %s are one file on some systems", other, at)
			}
			folded[lower] = at
			if _, file := b.Files[at]; file && at != name {
				return fmt.Errorf("%s is a file and a folder", at)
			}
		}
	}
	return nil
}

// checkName takes paths that mean the same file on every system, and nothing outside.
func checkName(name string) error {
	if !fs.ValidPath(name) || name == "." || len(name) > maxName || strings.ContainsAny(name, `\:*?"<>|`) {
		return fmt.Errorf("%q is no name for a policy's file", clip(name))
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%q is no name for a policy's file", clip(name))
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".") || strings.HasSuffix(part, " ") {
			return fmt.Errorf("%q: the parts of a policy's file's name begin and end with no dot", clip(name))
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}

// manifest is what is pushed, in this order.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        layer             `json:"config"`
	Layers        []layer           `json:"layers"`
	Annotations   map[string]string `json:"annotations"`
}

type layer struct {
	MediaType   string            `json:"mediaType"`
	Digest      digest.Digest     `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Manifest is the artifact's manifest and its descriptor.
func (b *Bundle) Manifest() ([]byte, ocispec.Descriptor, error) {
	none := ocispec.Descriptor{}
	if v, err := CheckVersion(b.Version); err != nil || v != b.Version {
		return nil, none, errors.Join(err, errors.New("a bundle is published with a version"))
	}
	if err := errors.Join(checkRepository(b.Repository), b.check()); err != nil {
		return nil, none, err
	}
	config := ociartifact.EmptyConfigDescriptor()
	m := manifest{
		SchemaVersion: 2, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactType,
		Config:      layer{MediaType: config.MediaType, Digest: config.Digest, Size: config.Size},
		Annotations: map[string]string{ocispec.AnnotationVersion: b.Version, annotationRepository: b.Repository},
	}
	for _, folder := range slices.Sorted(maps.Keys(b.Imports)) {
		m.Annotations[annotationImport+folder] = b.Imports[folder].String()
	}
	for _, name := range slices.Sorted(maps.Keys(b.Files)) {
		d := registry.Describe(MediaTypeFile, b.Files[name])
		m.Layers = append(m.Layers, layer{d.MediaType, d.Digest, d.Size, map[string]string{ocispec.AnnotationTitle: name}})
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		return nil, none, err
	}
	data := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
	return data, registry.Describe(m.MediaType, data), nil
}

// Entry is a file of a manifest.
type Entry struct {
	Name string
	Desc ocispec.Descriptor
}

// Parse reads a bundle's manifest strictly. The bundle has no files yet.
func Parse(data []byte) (*Bundle, []Entry, error) {
	m, err := ociartifact.Parse(data)
	switch {
	case err != nil:
		return nil, nil, err
	case m.MediaType != ocispec.MediaTypeImageManifest || m.ArtifactType != ArtifactType:
		return nil, nil, fmt.Errorf("this is no policy bundle but %q", clip(m.Artifact()))
	case m.Subject != nil || m.Blobs != nil:
		return nil, nil, errors.New("a policy bundle has no subject and no blobs")
	}
	b := &Bundle{Files: map[string][]byte{}, Imports: map[string]Import{}}
	if b.Version, err = CheckVersion(m.Annotations[ocispec.AnnotationVersion]); err != nil || b.Version != m.Annotations[ocispec.AnnotationVersion] {
		return nil, nil, fmt.Errorf("the bundle's version: %w", cmp.Or(err, errors.New("it is not in its one spelling")))
	}
	b.Repository = m.Annotations[annotationRepository]
	if err := errors.Join(checkRepository(b.Repository), b.parseImports(m.Annotations)); err != nil {
		return nil, nil, err
	}
	if n := len(m.Layers); n == 0 || n > MaxFiles {
		return nil, nil, fmt.Errorf("%d files; a policy bundle has 1 to %d", n, MaxFiles)
	}
	var entries []Entry
	total := int64(0)
	for _, l := range m.Layers {
		name := l.Annotations[ocispec.AnnotationTitle]
		if err := checkName(name); err != nil {
			return nil, nil, err
		}
		if total += l.Size; l.Size == 0 || l.Size > MaxFile || total > MaxTotal {
			return nil, nil, fmt.Errorf("%s: a file has 1 to %d bytes, and all together %d", name, MaxFile, MaxTotal)
		}
		if l.MediaType != MediaTypeFile {
			return nil, nil, fmt.Errorf("%s: the media type %q is no policy's file", name, clip(l.MediaType))
		}
		if len(entries) > 0 && entries[len(entries)-1].Name >= name {
			return nil, nil, fmt.Errorf("%s: the files of a bundle are in the order of their names, each once", name)
		}
		entries = append(entries, Entry{name, ocispec.Descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: l.Size}})
	}
	return b, entries, b.checkFolders(entries)
}

// Push uploads the bundle by digest alone: no tag names it yet. A bundle that is there already
// is left as it is.
func (b *Bundle) Push(ctx context.Context, repo *registry.Repository) (ocispec.Descriptor, []byte, error) {
	data, desc, err := b.Manifest()
	if err != nil {
		return desc, nil, err
	}
	if _, err := repo.PushBlob(ctx, ocispec.MediaTypeEmptyJSON, []byte(ociartifact.EmptyConfig)); err != nil {
		return desc, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(b.Files)) {
		if _, err := repo.PushBlob(ctx, MediaTypeFile, b.Files[name]); err != nil {
			return desc, nil, err
		}
	}
	return desc, data, repo.PushManifest(ctx, desc, data, "")
}

// Fetch reads the bundle of a descriptor that the repository resolved.
func Fetch(ctx context.Context, repo *registry.Repository, desc ocispec.Descriptor) (*Bundle, error) {
	b, entries, err := fetchManifest(ctx, repo, desc)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if b.Files[e.Name], err = repo.Blob(ctx, e.Desc, MaxFile); err != nil {
			return nil, err
		}
	}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", repo.RefOf(desc.Digest), err)
	}
	return b, nil
}

func fetchManifest(ctx context.Context, repo *registry.Repository, desc ocispec.Descriptor) (*Bundle, []Entry, error) {
	data, err := repo.Manifest(ctx, desc)
	if err != nil {
		return nil, nil, err
	}
	b, entries, err := Parse(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", repo.RefOf(desc.Digest), err)
	}
	return b, entries, nil
}
