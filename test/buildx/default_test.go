package buildx

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/docker/buildx/policy"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// TestDefaultPolicy: our policy for Docker's own images decides as buildx's.
func TestDefaultPolicy(t *testing.T) {
	mine, err := sourcepolicy.CompileDefault()
	if err != nil {
		t.Fatal(err)
	}
	set := sourcepolicy.NewSet(mine)
	signatures := map[string]*Signature{"none": nil}
	for _, of := range [][2]string{
		{"moby/buildkit", "refs/tags/dockerfile/1.21.0"}, {"moby/buildkit", "refs/tags/dockerfile/1.21.0-labs"}, {"moby/buildkit", "refs/tags/dockerfile/1.22.3"}, {"moby/buildkit", "refs/tags/v0.27.0"},
		{"moby/buildkit", "refs/tags/v0.27.0-rc1"}, {"moby/buildkit", "refs/tags/v0.28.1"}, {"moby/buildkit", "refs/heads/master"}, {"docker/buildkit-syft-scanner", "refs/tags/1.10.0"},
		{"docker/buildkit-syft-scanner", "refs/tags/v1.10.0"}, {"docker/buildkit-syft-scanner", "refs/heads/main"}, {"other/repo", "refs/tags/dockerfile/1.21.0"}, {"moby/buildkit", ""},
	} {
		signatures[of[0]+" "+of[1]] = builderSignature(of[0], of[1])
	}
	signatures["another kind"] = builderSignature("moby/buildkit", "refs/tags/v0.27.0")
	signatures["another kind"].Kind = "self-signed"
	refs := []string{"docker.io/library/alpine:3", "docker.io/docker/dockerfile@" + digest1, "docker.io/docker/dockerfile:1.21.0@" + digest1, "example.org/docker/dockerfile:1.21.0"}
	for _, tag := range []string{"1", "2", "0", "1.20", "1.21", "1.21.0", "1.21.1", "1.22", "1.22.3", "1.20.9", "2.0", "latest", "labs", "master", "1-labs", "1.21-labs", "1.21.0-labs", "1.20-labs", "1.21.0-rc1", "nightly", "v1.21.0", "1.21.0.0"} {
		refs = append(refs, "docker.io/docker/dockerfile:"+tag)
	}
	refs = append(refs, "docker.io/docker/dockerfile-upstream:1.21.0", "docker.io/docker/dockerfile-upstream:master")
	for _, tag := range []string{"latest", "1", "1.9", "1.10", "1.10.0", "1.11.2", "stable-1", "1.10.0-labs"} {
		refs = append(refs, "docker.io/docker/buildkit-syft-scanner:"+tag)
	}
	for _, tag := range []string{"latest", "latest-ubuntu", "rootless", "master", "master-rootless", "master-ubuntu", "master-cache", "nightly", "nightly-ubuntu", "buildx-stable-1", "buildx-stable-1-rootless", "buildx-stable-1-gpu", "buildx-stable-x",
		"v0.26.3", "v0.27.0", "v0.27.0-rootless", "v0.27.0-ubuntu", "v0.27.0-rc1", "v0.27.0-rc1-rootless", "v0.28.1", "v1.0.0", "v0.9.0", "v0.27", "0.27.0", "rootless-ubuntu", "v0.27.0-gpu"} {
		refs = append(refs, "docker.io/moby/buildkit:"+tag)
	}
	var mu sync.Mutex
	count := 0
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, ref := range refs {
		family := "moby/buildkit "
		if strings.Contains(ref, "syft") {
			family = "docker/buildkit-syft-scanner "
		}
		for name, signature := range signatures {
			if signature != nil && !strings.HasPrefix(name, family) && !strings.Contains(ref, "1.21.0") && !strings.Contains(ref, "v0.27.0") {
				continue
			}
			group.Go(func() error {
				w := World{ID: "docker-image://" + ref, Digest: digest1, Config: `{"config":{}}`, Attested: true, Signature: signature}
				theirs := Theirs(t.Context(), w, string(policy.DefaultPolicyData()), policy.Env{}, fstest.MapFS{})
				d, err := set.Evaluate(t.Context(), sourcepolicy.Request{Source: sourcepolicy.Source{Identifier: w.ID, Platform: "linux/amd64"}, Resolver: w})
				mu.Lock()
				defer mu.Unlock()
				count++
				if err != nil || theirs.Error != "" || theirs.Allowed != d.Allowed {
					t.Errorf("%s signed for %s: buildx says %v, and we %+v %v", ref, name, theirs, d.Decision, err)
				}
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	t.Log(fmt.Sprint(count, " comparisons"))
}
