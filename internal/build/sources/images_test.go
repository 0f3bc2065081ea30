package sources_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	distribution "github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/build/sources"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// TestRegistry: the configuration is that of the platform's image, the digest that of
// the whole; a tag that moves meanwhile is not looked at twice.
func TestRegistry(t *testing.T) {
	t.Parallel()
	server, err := distribution.Open(t.TempDir(), distribution.Config{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(server)
	t.Cleanup(srv.Close)
	ctx, client := context.Background(), registry.NewClient(registry.Options{})
	push := func(tag string, p ocispec.Platform, env string) ocispec.Descriptor {
		d, err := testimage.Push(ctx, client, ref(t, srv.URL, "app:"+tag), testimage.Image{OS: p.OS, Arch: p.Architecture, Env: []string{env}})
		if err != nil {
			t.Fatal(err)
		}
		d.Platform = &p
		return d
	}
	amd := push("amd", ocispec.Platform{OS: "linux", Architecture: "amd64"}, "A=amd")
	v6 := push("v6", ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}, "A=v6")
	v7 := push("v7", ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, "A=v7")
	att := push("att", ocispec.Platform{OS: "unknown", Architecture: "unknown"}, "A=att")
	index, err := testimage.PushIndex(ctx, client, ref(t, srv.URL, "app:1"), att, amd, v6, v7)
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(srv.URL, "http://")
	images := sources.NewRegistry(client)
	for platform, want := range map[string]string{"linux/amd64": "A=amd", "linux/arm/v7": "A=v7", "linux/arm/v6": "A=v6", "linux/arm64": "A=v7"} {
		c, err := images.Config(ctx, host+"/app:1", platform)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{want}, c.Env); diff != "" || c.Digest != index.Digest.String() {
			t.Errorf("%s: %s %s", platform, c.Digest, diff)
		}
	}
	if _, err := testimage.PushIndex(ctx, client, ref(t, srv.URL, "app:1"), amd); err != nil {
		t.Fatal(err)
	}
	if c, err := images.Config(ctx, host+"/app:1", "linux/arm/v7"); err != nil || c.Digest != index.Digest.String() {
		t.Errorf("after the tag moved: %v, %v", c, err)
	}
	// A single image is what it is, whatever platform is asked for.
	if c, err := images.Config(ctx, host+"/app:amd", "linux/arm64"); err != nil || c.Env[0] != "A=amd" || c.Digest != amd.Digest.String() {
		t.Errorf("%v, %v", c, err)
	}
	if c, err := images.Config(ctx, host+"/app:other@"+amd.Digest.String(), "linux/amd64"); err != nil || c.Digest != amd.Digest.String() {
		t.Errorf("%v, %v", c, err)
	}
	for name, want := range map[string]string{
		"/app:1":    "has no image for linux/s390x; it has linux/amd64, linux/arm/v6, linux/arm/v7",
		"/app:none": "no such tag",
	} {
		if _, err := images.Config(ctx, host+name, "linux/s390x"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func ref(t *testing.T, base, name string) registry.Ref {
	t.Helper()
	r, err := registry.ParseRef(strings.TrimPrefix(base, "http://") + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
