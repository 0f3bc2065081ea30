package build_test

import (
	"context"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/hmtest/dockerd"
)

// TestInAContainer: a BuildKit in a container of Docker's is reached through docker, as
// docker buildx reaches it, and what it built is read back as from any other.
func TestInAContainer(t *testing.T) {
	w := theWorld(t)
	host := dockerd.Start(t)
	t.Setenv("DOCKER_HOST", host)
	dockerd.BuildKit(t, host, "buildx_buildkit_test0")
	kit, err := build.Connect(context.Background(), "docker-container://buildx_buildkit_test0")
	if err != nil {
		t.Fatal(err)
	}
	defer kit.Close()
	_, c := source(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY hello /hello\n", "hello": "hello\n"})
	r := request(t, w, "app/container", c)
	r.Options.Args = nil
	res, d, err := build.Run(context.Background(), kit, r)
	if err != nil || !d.Allowed {
		t.Fatal(d, err)
	}
	if len(res.Images) != 1 || !strings.Contains(statement(t, r, res.Attestations[0]), c.Commit) {
		t.Errorf("%+v", res)
	}

	_, err = build.Connect(context.Background(), "docker-container://none")
	if fault.KindOf(err) != fault.Unreachable || !strings.Contains(err.Error(), "No such container") {
		t.Errorf("a container that is not there: %v", err)
	}
}
