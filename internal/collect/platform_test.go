package collect

import (
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/ociartifact"
)

// TestImageInFront: an image in front of the one that is judged, by a platform that means the
// same, would be the one that runs.
func TestImageInFront(t *testing.T) {
	t.Parallel()
	entry := func(os, arch, variant string) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(os + arch + variant), Size: 1, Platform: &ocispec.Platform{OS: os, Architecture: arch, Variant: variant}}
	}
	for name, c := range map[string]struct {
		front, good ocispec.Descriptor
		refused     bool
	}{
		"x86_64":    {entry("linux", "x86_64", ""), entry("linux", "amd64", ""), true},
		"system":    {entry("Linux", "amd64", ""), entry("linux", "amd64", ""), true},
		"no system": {entry("", "amd64", ""), entry("linux", "amd64", ""), true},
		"v1":        {entry("linux", "AMD64", "v1"), entry("linux", "amd64", ""), true},
		"arm64":     {entry("linux", "arm64", "v8"), entry("linux", "arm64", ""), true},
		"aarch64":   {entry("linux", "aarch64", "8"), entry("linux", "arm64", "v8"), true},
		"armhf":     {entry("linux", "armhf", ""), entry("linux", "arm", "v7"), true},
		"v2":        {entry("linux", "amd64", "v2"), entry("linux", "amd64", ""), false},
		"v6":        {entry("linux", "arm", "v6"), entry("linux", "arm", "v7"), false},
		"386":       {entry("linux", "386", ""), entry("linux", "amd64", ""), false},
		"windows":   {entry("windows", "amd64", ""), entry("linux", "amd64", ""), false},
		"unknown":   {entry("unknown", "unknown", ""), entry("linux", "amd64", ""), false},
	} {
		m := &ociartifact.Manifest{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{c.front, c.good}}
		got, err := newIndex(m).Image(platformOf(c.good))
		if (err != nil) != c.refused || err == nil && got.Digest != c.good.Digest || err != nil && !strings.Contains(err.Error(), "two images") {
			t.Errorf("%s: %v %v", name, got.Platform, err)
		}
		m.Manifests = []ocispec.Descriptor{c.good, c.front}
		if got, err := newIndex(m).Image(platformOf(c.good)); err != nil || got.Digest != c.good.Digest {
			t.Errorf("%s behind it: %v %v", name, got.Platform, err)
		}
		// containerd is asked whether it is so.
		if same := platforms.NewMatcher(*c.good.Platform).Match(*c.front.Platform); same != c.refused {
			t.Errorf("%s: containerd says %t", name, same)
		}
	}
}
