package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// CodeArchiveDiffers is the code of reasons why an archive is not the image of a
// manifest (docs/reasons.md).
const CodeArchiveDiffers = "ARCHIVE_DIFFERS"

// Limits on an archive of docker save.
const (
	dockerManifest  = "manifest.json"
	maxImages       = 1000
	maxDockerLayers = 1000
)

// DockerArchive is one image in a file that docker save (or podman save) wrote.
// It has no manifest that anybody could have signed: what ties it to a signed
// image is that its configuration has the digest that the signed manifest names,
// and its layers those that the configuration or the manifest names.
type DockerArchive struct {
	path   string
	tar    *tarIndex
	config []byte
	layers []string // names in the archive, lowest first
}

// OpenDockerArchive finds an image in an archive: the only one, or the one whose
// name ends in ":" and the tag.
func OpenDockerArchive(path, tag string) (*DockerArchive, error) {
	x, err := openTar(path)
	if err != nil {
		return nil, err
	}
	a := &DockerArchive{path: path, tar: x}
	if err := a.read(tag); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}

func (a *DockerArchive) read(tag string) error {
	data, err := readFile(a.tar, dockerManifest, maxIndexFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no archive of docker save: it has no file %s", dockerManifest)
	}
	if err != nil {
		return err
	}
	images, err := dockerImages(data)
	if err != nil {
		return fmt.Errorf("%s: %w", dockerManifest, err)
	}
	image, err := pick(images, tag)
	if err != nil {
		return err
	}
	if len(image.layers) > maxDockerLayers {
		return fmt.Errorf("%d layers; at most %d are read", len(image.layers), maxDockerLayers)
	}
	a.layers = image.layers
	if a.config, err = readFile(a.tar, image.config, maxIndexFile); err != nil {
		return fmt.Errorf("its configuration: %w", err)
	}
	return nil
}

// dockerImage is an entry of manifest.json.
type dockerImage struct {
	config       string
	tags, layers []string
}

// dockerImages reads manifest.json. Its members are looked up by their exact
// names: docker itself would take others, too.
func dockerImages(data []byte) ([]dockerImage, error) {
	var entries []map[string]json.RawMessage
	if err := strictjson.Unmarshal(data, &entries); err != nil {
		return nil, err
	}
	if len(entries) == 0 || len(entries) > maxImages {
		return nil, fmt.Errorf("%d images; between 1 and %d are read", len(entries), maxImages)
	}
	out := make([]dockerImage, len(entries))
	for i, e := range entries {
		for name, into := range map[string]any{"Config": &out[i].config, "RepoTags": &out[i].tags, "Layers": &out[i].layers} {
			raw, ok := e[name]
			if !ok || string(raw) == "null" {
				continue
			}
			if err := strictjson.Unmarshal(raw, into); err != nil {
				return nil, fmt.Errorf("image %d: %s: %w", i+1, name, err)
			}
		}
		if out[i].config == "" {
			return nil, fmt.Errorf("image %d: Config: missing", i+1)
		}
	}
	return out, nil
}

func pick(images []dockerImage, tag string) (dockerImage, error) {
	var found []dockerImage
	for _, image := range images {
		matches := tag == ""
		for _, name := range image.tags {
			matches = matches || strings.HasSuffix(name, ":"+tag)
		}
		if matches {
			found = append(found, image)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return dockerImage{}, fmt.Errorf("it has no image with the tag %s", tag)
	}
	return dockerImage{}, fault.Hint(fmt.Errorf("it has %d images that this could be", len(found)), "name one by its tag: docker-archive:FILE:TAG")
}

// ConfigDigest is the digest of the image's configuration.
func (a *DockerArchive) ConfigDigest() evidence.Digest { return evidence.SHA256(a.config) }

// Check compares the archive with an image manifest that the caller believes,
// because a verified signature is about its digest: no reasons mean that loading
// the archive gives exactly that image. Each layer is read once, as a stream. An
// error means that it could not be found out.
func (a *DockerArchive) Check(ctx context.Context, manifest []byte) ([]policy.Reason, error) {
	m, err := ociartifact.Parse(manifest)
	if err != nil {
		return nil, err
	}
	if m.IsIndex() || m.Config == nil {
		return nil, fmt.Errorf("%s can only be compared with the manifest of one image, not with an index: name the platform", a.path)
	}
	differs := func(format string, args ...any) ([]policy.Reason, error) {
		return []policy.Reason{{Code: CodeArchiveDiffers, Message: fmt.Sprintf(format, args...), Subject: a.path}}, nil
	}
	config := evidence.Digest(m.Config.Digest)
	if config.Algorithm() != "sha256" || config != a.ConfigDigest() {
		return differs("the archive's configuration is %s, the signed image's %s: it is another image", a.ConfigDigest(), config)
	}
	diffIDs, err := diffIDs(a.config)
	if err != nil {
		return nil, fmt.Errorf("%s: its configuration: %w", a.path, err)
	}
	if len(a.layers) != len(diffIDs) || len(diffIDs) != len(m.Layers) {
		return differs("the archive has %d layers, its configuration names %d and the signed manifest %d", len(a.layers), len(diffIDs), len(m.Layers))
	}
	for i, name := range a.layers {
		same, err := a.layer(ctx, name, diffIDs[i], m.Layers[i])
		if err != nil {
			return nil, fmt.Errorf("%s: layer %d: %w", a.path, i+1, err)
		}
		if !same {
			return differs("layer %d of the archive (%s) is not the one of the signed image, %s", i+1, clip(name), diffIDs[i])
		}
	}
	return nil, nil
}

// layer reports whether a layer is the plain tar that the configuration names,
// or the very blob, compressed or not, that the manifest names.
func (a *DockerArchive) layer(ctx context.Context, name string, diffID evidence.Digest, blob ocispec.Descriptor) (bool, error) {
	clean, err := tarName(name)
	if err != nil {
		return false, err
	}
	rc, _, err := a.tar.follow(clean)
	if errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%s is not in the archive", clip(name))
	}
	if err != nil {
		return false, err
	}
	defer rc.Close()
	plain, packed := newHash(diffID), newHash(evidence.Digest(blob.Digest))
	if _, err := io.Copy(io.MultiWriter(plain, packed), &untilDone{ctx, rc}); err != nil {
		return false, err
	}
	return bytes.Equal(plain.Sum(nil), diffID.Bytes()) || bytes.Equal(packed.Sum(nil), evidence.Digest(blob.Digest).Bytes()), nil
}

// untilDone reads until the context ends.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Reader.Read(p)
}

// diffIDs are the digests of an image's unpacked layers, lowest first
// (image-spec, config.md, "rootfs").
func diffIDs(config []byte) ([]evidence.Digest, error) {
	var document, rootfs map[string]json.RawMessage
	if err := strictjson.Unmarshal(config, &document); err != nil {
		return nil, err
	}
	if err := strictjson.Unmarshal(document["rootfs"], &rootfs); err != nil {
		return nil, fmt.Errorf("rootfs: %w", err)
	}
	var texts []string
	if raw, ok := rootfs["diff_ids"]; ok && string(raw) != "null" {
		if err := strictjson.Unmarshal(raw, &texts); err != nil {
			return nil, fmt.Errorf("rootfs.diff_ids: %w", err)
		}
	}
	out := make([]evidence.Digest, len(texts))
	for i, text := range texts {
		d, err := evidence.ParseDigest(text)
		if err != nil {
			return nil, fmt.Errorf("rootfs.diff_ids[%d]: %w", i, err)
		}
		out[i] = d
	}
	return out, nil
}
