package buildx

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/docker/buildx/policy"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// identifiers are what a frontend may ask for, and what it must not.
var identifiers = []string{
	"docker-image://docker.io/library/alpine:3", "docker-image://alpine", "docker-image://alpine:3", "docker-image://org/app:1", "docker-image://docker.io/org/app@" + digest1,
	"docker-image://ghcr.io/org/app:1@" + digest1, "docker-image://localhost:5000/app", "docker-image://localhost/app", "docker-image://127.0.0.1:5077/a/b/c:x_Y.z-1", "docker-image://[::1]:5000/app:1",
	"docker-image://index.docker.io/library/alpine", "docker-image://EXAMPLE.org/app", "docker-image://example.org/APP", "docker-image://", "docker-image://a@sha256:12", "docker-image://a:b:c", "docker-image://0123456789012345678901234567890123456789012345678901234567890123",
	"git://github.com/org/repo.git", "git://github.com/org/repo.git#main", "git://github.com/org/repo.git#refs/heads/main", "git://github.com/org/repo.git#refs/tags/v1:sub/dir", "git://github.com/org/repo.git#:sub", "git://github.com/org/repo#v1:/",
	"git://github.com/org/repo#v1:..", "git://github.com/org/repo#v1:a/../b", "git://github.com/o/r.git#0123456789012345678901234567890123456789", "git://github.com/o/r.git#0123456789ABCDEF012345678901234567890123", "git://github.com/o/r.git#0123456789012345678901234567890123456789012345678901234567890123",
	"git://git@github.com:org/repo.git#main", "git://https://github.com/org/repo.git#v1", "git://ssh://git@github.com/org/repo.git", "git://http://example.org:8080/r.git#x", "git://user:pw@example.org/r.git", "git://example.org/r.git?x=y#v", "git://example.org/a b", "git://%zz",
	"git://ftp://example.org/r.git", "git://refs/heads/x", "git://", "https://example.org/", "https://example.org", "http://example.org:80/a?b=c&b=d#f", "https://user:pw@example.org/a", "https://example.org/a%20b/%2e%2e", "https://EXAMPLE.org/A", "https://example.org/a?x=%zz", "https://[::1]:8443/x", "https://exa mple.org/",
	"local://context", "local://", "local://a/b", "oci-layout://x@" + digest1, "containerblob://x", "git.bundle://x", "nothing", "", "://", "HTTPS://example.org/x", "docker-image:alpine",
}

// TestIdentifiers: what is known of a source from its name is the same document.
func TestIdentifiers(t *testing.T) {
	for _, id := range identifiers {
		for _, attrs := range []map[string]string{nil, {"git.fullurl": "https://example.org/full.git", "http.authheadersecret": "x"}, {"git.fullurl": "git@example.org:full.git"}} {
			compareInputs(t, id, attrs)
		}
	}
}

func compareInputs(t *testing.T, id string, attrs map[string]string) {
	t.Helper()
	platform := &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	theirs, theirErr := policy.SourceToInput(t.Context(), nil, &gwpb.ResolveSourceMetaResponse{Source: &pb.SourceOp{Identifier: id, Attrs: attrs}}, platform, nil)
	ours, ourErr := sourcepolicy.SourceToInput(sourcepolicy.Source{Identifier: id, Attrs: attrs, Platform: "linux/arm/v7"})
	if (theirErr != nil) != (ourErr != nil) {
		t.Errorf("%q %v: buildx says %v, and we %v", id, attrs, theirErr, ourErr)
		return
	}
	if theirErr == nil {
		if a, b := plain(t, theirs), plain(t, ours); !reflect.DeepEqual(a, b) {
			t.Errorf("%q %v:\nbuildx %v\nours   %v", id, attrs, a, b)
		}
	}
}

// plain is the document without what is false: buildx leaves that out.
func plain(t *testing.T, v any) map[string]any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	delete(m, "env")
	strip(m)
	return m
}

func strip(m map[string]any) {
	for k, v := range m {
		if v == false {
			delete(m, k)
		}
		if inner, ok := v.(map[string]any); ok {
			strip(inner)
		}
	}
}

// FuzzIdentifiers: for every identifier the two say the same.
func FuzzIdentifiers(f *testing.F) {
	for _, id := range identifiers {
		f.Add(id, "https://example.org/full.git")
	}
	f.Fuzz(func(t *testing.T, id, full string) {
		if len(id) > 2000 || len(full) > 2000 || full == "" {
			return
		}
		compareInputs(t, id, map[string]string{"git.fullurl": full})
	})
}
