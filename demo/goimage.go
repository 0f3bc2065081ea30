package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/mod/module"

	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// makeGoImage makes the image that Hallmark's own Dockerfile builds with, from
// this machine's Go and the modules that go.sum names, so that the build needs
// no network: busybox, /usr/local/go and a module proxy of plain files.
func (d *demo) makeGoImage(ctx context.Context) error {
	img, err := testimage.Busybox()
	if err != nil {
		return err
	}
	goroot, err := d.goenv(ctx, "GOROOT")
	if err != nil {
		return err
	}
	modcache, err := d.goenv(ctx, "GOMODCACHE")
	if err != nil {
		return err
	}
	download := exec.CommandContext(ctx, "go", "mod", "download")
	download.Dir = d.source
	if out, err := download.CombinedOutput(); err != nil {
		return fmt.Errorf("go mod download: %w\n%s", err, out)
	}
	modules, err := d.moduleFiles(modcache)
	if err != nil {
		return err
	}
	ref, err := registry.ParseRef(d.authority.Registry + "/base/golang:" + strings.TrimPrefix(runtime.Version(), "go"))
	if err != nil {
		return err
	}
	repo, err := d.client.Open(ctx, ref)
	if err != nil {
		return err
	}
	busybox, err := testimage.Tar(img.Layers[0])
	if err != nil {
		return err
	}
	first, err := repo.PushBlob(ctx, ocispec.MediaTypeImageLayer, busybox)
	if err != nil {
		return err
	}
	toolchain, err := d.pushLayer(ctx, repo, func(w *tar.Writer) error { return addToolchain(w, goroot) })
	if err != nil {
		return err
	}
	proxy, err := d.pushLayer(ctx, repo, func(w *tar.Writer) error {
		for _, file := range modules {
			if err := addFile(w, filepath.Join(modcache, "cache/download", file), path.Join("goproxy", file)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	layers := []ocispec.Descriptor{first, toolchain, proxy}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}}
	config.Config.Env = []string{
		"PATH=/usr/local/go/bin:/bin", "HOME=/root", "GOPROXY=file:///goproxy", "GONOSUMDB=*", "GOFLAGS=-mod=readonly", "GOTOOLCHAIN=local",
	}
	config.RootFS.Type = "layers"
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return err
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: layers}
	m.SchemaVersion = 2
	if m.Config, err = repo.PushBlob(ctx, ocispec.MediaTypeImageConfig, raw); err != nil {
		return err
	}
	if _, err := testimage.PushManifest(ctx, repo, ref.Tag, m.MediaType, m); err != nil {
		return err
	}
	d.args = []string{"--build-arg", "GO_IMAGE=" + ref.String()}
	return nil
}

// goenv asks Go with the caller's own environment: the demo's has another home,
// and the module cache is in the caller's.
func (d *demo) goenv(ctx context.Context, name string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", name).Output()
	if err != nil {
		return "", fmt.Errorf("go env %s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// moduleFiles lists what "go mod download" wants of the modules in go.sum that
// this machine has, below the module cache's download folder.
func (d *demo) moduleFiles(modcache string) ([]string, error) {
	sum, err := os.ReadFile(filepath.Join(d.source, "go.sum"))
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var out []string
	add := func(file string) {
		if _, err := os.Stat(filepath.Join(modcache, "cache/download", file)); err == nil && !seen[file] {
			seen[file] = true
			out = append(out, file)
		}
	}
	for _, line := range strings.Split(string(sum), "\n") {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		version, modOnly := strings.CutSuffix(f[1], "/go.mod")
		// File names as in the module proxy protocol (go.dev/ref/mod, "GOPROXY protocol").
		name, err := module.EscapePath(f[0])
		if err != nil {
			return nil, err
		}
		if version, err = module.EscapeVersion(version); err != nil {
			return nil, err
		}
		base := path.Join(name, "@v", version)
		add(base + ".mod")
		if !modOnly {
			add(base + ".info")
			add(base + ".zip")
		}
	}
	return out, nil
}

// pushLayer writes a tar to a temporary file, because its digest comes first, and pushes it.
func (d *demo) pushLayer(ctx context.Context, repo *registry.Repository, fill func(*tar.Writer) error) (ocispec.Descriptor, error) {
	f, err := os.CreateTemp(d.dir, "layer-*")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	h := sha256.New()
	w := tar.NewWriter(io.MultiWriter(f, h))
	if err := fill(w); err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := w.Close(); err != nil {
		return ocispec.Descriptor{}, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: godigest.NewDigest(godigest.SHA256, h), Size: size}
	return desc, repo.PushBlobFrom(ctx, desc, f)
}

// addToolchain adds what "go build" needs of GOROOT.
func addToolchain(w *tar.Writer, goroot string) error {
	for _, part := range []string{"bin", "src", "pkg/include", "pkg/tool", "go.env", "VERSION"} {
		err := filepath.WalkDir(filepath.Join(goroot, part), func(p string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				if err == nil && e.Name() == "testdata" {
					return filepath.SkipDir
				}
				return err
			}
			rel, err := filepath.Rel(goroot, p)
			if err != nil || strings.HasSuffix(rel, "_test.go") {
				return err
			}
			return addFile(w, p, path.Join("usr/local/go", filepath.ToSlash(rel)))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func addFile(w *tar.Writer, from, name string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", from)
	}
	h := &tar.Header{Name: name, Mode: int64(st.Mode().Perm()), Size: st.Size(), Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
