// Package testimage makes small real OCI images, from files given in code or
// from Debian's busybox-static, for tests, the demo and the benchmarks. Equal
// inputs give equal bytes, so a digest can be written down.
package testimage

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"runtime"
	"sort"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/registry"

	godigest "github.com/opencontainers/go-digest"
)

// File is one entry of a layer. A Link makes a symbolic link, a Path ending in
// "/" a directory; else a regular file with Data.
type File struct {
	Path string // without a leading slash
	Data []byte
	Mode int64 // 0: 0755 for directories, 0644 for files
	Link string
}

// Image is what Push makes an image of.
type Image struct {
	OS, Arch string // zero: linux and this machine's
	Layers   [][]File
	Env, Cmd []string
	Entry    []string // the entry point
	Labels   map[string]string
}

// Tar is an uncompressed layer with the files in order, owned by root, all dated 1970.
func Tar(files []File) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.Path, Mode: f.Mode, Size: int64(len(f.Data)), Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		switch {
		case f.Link != "":
			h.Typeflag, h.Linkname, h.Size, h.Mode = tar.TypeSymlink, f.Link, 0, 0o777
		case strings.HasSuffix(f.Path, "/"):
			h.Typeflag, h.Size = tar.TypeDir, 0
			if h.Mode == 0 {
				h.Mode = 0o755
			}
		case h.Mode == 0:
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(f.Data); err != nil {
				return nil, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// Push pushes the image to the repository of ref under its tag (or by digest alone).
func Push(ctx context.Context, c *registry.Client, ref registry.Ref, img Image) (ocispec.Descriptor, error) {
	if img.OS == "" {
		img.OS = "linux"
	}
	if img.Arch == "" {
		img.Arch = runtime.GOARCH
	}
	repo, err := c.Open(ctx, ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	config := ocispec.Image{Platform: ocispec.Platform{OS: img.OS, Architecture: img.Arch}}
	config.Config = ocispec.ImageConfig{Env: img.Env, Cmd: img.Cmd, Entrypoint: img.Entry, Labels: img.Labels}
	config.RootFS.Type = "layers"
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	for _, files := range img.Layers {
		layer, err := Tar(files)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		desc, err := repo.PushBlob(ctx, ocispec.MediaTypeImageLayer, layer)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		m.Layers = append(m.Layers, desc)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, desc.Digest)
	}
	rawConfig, err := json.Marshal(config)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if m.Config, err = repo.PushBlob(ctx, ocispec.MediaTypeImageConfig, rawConfig); err != nil {
		return ocispec.Descriptor{}, err
	}
	return PushManifest(ctx, repo, ref.Tag, m.MediaType, m)
}

// PushIndex pushes an index over the manifests, which must be in the repository already.
func PushIndex(ctx context.Context, c *registry.Client, ref registry.Ref, manifests ...ocispec.Descriptor) (ocispec.Descriptor, error) {
	repo, err := c.Open(ctx, ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests}
	index.SchemaVersion = 2
	return PushManifest(ctx, repo, ref.Tag, index.MediaType, index)
}

// PushManifest pushes v as JSON.
func PushManifest(ctx context.Context, repo *registry.Repository, tag, mediaType string, v any) (ocispec.Descriptor, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: godigest.Digest(evidence.SHA256(raw)), Size: int64(len(raw))}
	return desc, repo.PushManifest(ctx, desc, raw, tag)
}

// Busybox is the layer of a base image: Debian's busybox-static with a link for
// each of its commands, /etc/passwd and /tmp.
func Busybox() (Image, error) {
	bin, err := exec.LookPath("busybox")
	if err != nil {
		return Image{}, errors.New("busybox is missing: run make tools")
	}
	data, err := os.ReadFile(bin)
	if err != nil {
		return Image{}, err
	}
	list, err := exec.Command(bin, "--list").Output()
	if err != nil {
		return Image{}, fmt.Errorf("%s --list: %w", bin, err)
	}
	files := []File{
		{Path: "bin/"}, {Path: "etc/"}, {Path: "root/", Mode: 0o700}, {Path: "tmp/", Mode: 0o1777},
		{Path: "etc/passwd", Data: []byte("root:x:0:0:root:/root:/bin/sh\n")},
		{Path: "etc/group", Data: []byte("root:x:0:\n")},
		{Path: "bin/busybox", Data: data, Mode: 0o755},
	}
	names := strings.Fields(string(list))
	sort.Strings(names)
	for _, n := range names {
		if n != "busybox" {
			files = append(files, File{Path: path.Join("bin", n), Link: "busybox"})
		}
	}
	return Image{Layers: [][]File{files}, Env: []string{"PATH=/bin"}, Cmd: []string{"/bin/sh"}}, nil
}
