package sources

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sorted"
)

// maxConfig is the longest image configuration that is read, in bytes.
const maxConfig = 4 << 20

// Registry resolves images in registries. What a reference names is asked once: all
// platforms of a reference are those of one digest.
type Registry struct {
	client *registry.Client

	mu   sync.Mutex
	seen map[string]func() (found, error)
}

type found struct {
	repo *registry.Repository
	desc ocispec.Descriptor
	data []byte
}

// NewRegistry makes one; nothing is asked yet.
func NewRegistry(c *registry.Client) *Registry {
	return &Registry{client: c, seen: map[string]func() (found, error){}}
}

// Config implements [Images].
func (r *Registry) Config(ctx context.Context, name, platform string) (Config, error) {
	top, err := r.resolve(ctx, name)
	if err != nil {
		return Config{}, err
	}
	want, err := platforms.Parse(platform)
	if err != nil {
		return Config{}, err
	}
	data, err := imageOf(ctx, top, name, want)
	if err != nil {
		return Config{}, err
	}
	var m struct {
		Config ocispec.Descriptor `json:"config"`
	}
	if err := json.Unmarshal(data, &m); err != nil || m.Config.Digest == "" {
		return Config{}, fmt.Errorf("%s: not the manifest of an image", name)
	}
	blob, err := top.repo.Blob(ctx, m.Config, maxConfig)
	if err != nil {
		return Config{}, err
	}
	var c struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
		Config       struct {
			Env     []string
			OnBuild []string
		} `json:"config"`
	}
	if err := json.Unmarshal(blob, &c); err != nil {
		return Config{}, fmt.Errorf("%s: its configuration is not that of an image: %w", name, err)
	}
	return Config{Digest: top.desc.Digest.String(), Env: c.Config.Env, OnBuild: c.Config.OnBuild, OS: c.OS, Arch: c.Architecture}, nil
}

func (r *Registry) resolve(ctx context.Context, name string) (found, error) {
	r.mu.Lock()
	once := r.seen[name]
	if once == nil {
		once = sync.OnceValues(func() (found, error) { return r.ask(ctx, name) })
		r.seen[name] = once
	}
	r.mu.Unlock()
	return once()
}

func (r *Registry) ask(ctx context.Context, name string) (found, error) {
	ref, err := registry.ParseRef(name)
	if err != nil {
		return found{}, err
	}
	repo, err := r.client.Open(ctx, ref)
	if err != nil {
		return found{}, err
	}
	if ref.Digest != "" { // a digest counts alone, whatever the tag is
		ref = ref.WithDigest(ref.Digest)
	}
	desc, err := repo.Resolve(ctx, ref)
	if err != nil {
		return found{}, err
	}
	data, err := repo.Manifest(ctx, desc)
	return found{repo, desc, data}, err
}

// imageOf is the manifest of an image for a platform: of an index the entry that
// BuildKit would take, else the manifest itself, whatever platform it is for.
func imageOf(ctx context.Context, top found, name string, want ocispec.Platform) ([]byte, error) {
	desc, data := top.desc, top.data
	for range 3 {
		if !isIndex(desc.MediaType) {
			return data, nil
		}
		var index ocispec.Index
		if err := json.Unmarshal(data, &index); err != nil {
			return nil, fmt.Errorf("%s: not an index: %w", name, err)
		}
		match := platforms.Only(want)
		var fit []ocispec.Descriptor
		var have []string
		for _, d := range index.Manifests {
			if d.Platform == nil || d.Platform.OS == "unknown" {
				continue
			}
			have = append(have, platforms.Format(*d.Platform))
			if match.Match(*d.Platform) {
				fit = append(fit, d)
			}
		}
		if len(fit) == 0 {
			return nil, fmt.Errorf("%s has no image for %s; it has %s", name, platforms.Format(want), strings.Join(have, ", "))
		}
		sorted.Func(fit, func(a, b ocispec.Descriptor) int {
			switch {
			case match.Less(*a.Platform, *b.Platform):
				return -1
			case match.Less(*b.Platform, *a.Platform):
				return 1
			}
			return 0
		})
		desc = fit[0]
		var err error
		if data, err = top.repo.Manifest(ctx, desc); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: indexes within indexes", name)
}

func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == "application/vnd.docker.distribution.manifest.list.v2+json"
}
