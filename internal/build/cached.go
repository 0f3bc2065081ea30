package build

import (
	"encoding/json"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/bklog"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Cache is what a build takes of earlier ones and leaves for later ones, both in content
// stores of this machine: what is in them, package cache verifies and signs.
type Cache struct {
	From   string          // store with an entry; "" takes none
	Digest evidence.Digest // of the entry's manifest
	To     string          // store that an entry is written to; "" leaves none
	All    bool            // also what no layer of the result is made of (mode=max)
}

// add asks for it. A store that cannot be written costs the cache and not the build.
func (c *Cache) add(opt *client.SolveOpt) {
	if c == nil {
		return
	}
	bklog.L.Logger.SetLevel(onlyErrors) // of what the content store says to stderr by itself
	if c.From != "" {
		opt.CacheImports = local("src", c.From, "digest", string(c.Digest))
	}
	if c.To != "" {
		mode := "min"
		if c.All {
			mode = "max"
		}
		opt.CacheExports = local("dest", c.To, "mode", mode, "image-manifest", "true", "oci-mediatypes", "true", "ignore-error", "true")
	}
}

// local is a content store of this machine with options, names and values in turn.
func local(options ...string) []client.CacheOptionsEntry {
	attrs := map[string]string{}
	for i := 0; i < len(options); i += 2 {
		attrs[options[i]] = options[i+1]
	}
	return []client.CacheOptionsEntry{{Type: "local", Attrs: attrs}}
}

// onlyErrors is logrus's ErrorLevel.
const onlyErrors = 2

// exported is the manifest that BuildKit says it wrote to the store; "" when it wrote none.
func exported(response map[string]string) evidence.Digest {
	var d ocispec.Descriptor
	if json.Unmarshal([]byte(response["cache.manifest"]), &d) != nil {
		return ""
	}
	made, err := evidence.ParseDigest(d.Digest.String())
	if err != nil {
		return ""
	}
	return made
}
