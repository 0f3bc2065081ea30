package interop_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/hmtest"
)

// TestRegistryClients: stock crane and oras push, pull, copy, list, attach,
// discover and delete in the registry.
func TestRegistryClients(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	home := t.TempDir()
	tool := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(hmtest.Tool(t, name), args...)
		cmd.Env = []string{"HOME=" + home, "DOCKER_CONFIG=" + home}
		cmd.Dir = home
		var talk strings.Builder
		cmd.Stderr = &talk
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, talk.String())
		}
		return strings.TrimSpace(string(out))
	}
	image := r.Image("team/app", "content")
	digest := strings.Split(image, "@")[1]
	repo := r.Registry + "/team/app"
	if got := tool("crane", "digest", repo+":latest"); got != digest {
		t.Errorf("crane digest %s, want %s", got, digest)
	}
	tool("crane", "tag", image, "v1")
	if got := tool("crane", "ls", repo); got != "latest\nv1" {
		t.Errorf("crane ls: %q", got)
	}
	tool("crane", "copy", image, r.Registry+"/other/app:v2")
	if got := tool("crane", "catalog", r.Registry); got != "other/app\nteam/app" {
		t.Errorf("crane catalog: %q", got)
	}
	tool("crane", "pull", r.Registry+"/other/app:v2", filepath.Join(home, "app.tar"))
	tool("crane", "push", filepath.Join(home, "app.tar"), r.Registry+"/third/app:v3")

	if err := os.WriteFile(filepath.Join(home, "sbom.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool("oras", "attach", "--plain-http", "--artifact-type", "application/vnd.example.sbom", image, "sbom.json:application/json")
	tool("oras", "attach", "--plain-http", "--artifact-type", "application/vnd.example.note", image, "sbom.json:application/json")
	var found struct {
		Referrers []struct{ ArtifactType string }
	}
	out := tool("oras", "discover", "--plain-http", "--artifact-type", "application/vnd.example.sbom", "--format", "json", image)
	if err := json.Unmarshal([]byte(out), &found); err != nil || len(found.Referrers) != 1 {
		t.Errorf("oras discover: %s, %v", out, err)
	}
	tool("oras", "copy", "-r", "--from-plain-http", "--to-plain-http", repo+":v1", r.Registry+"/fourth/app:v1")
	out = tool("oras", "discover", "--plain-http", "--format", "json", r.Registry+"/fourth/app:v1")
	if err := json.Unmarshal([]byte(out), &found); err != nil || len(found.Referrers) != 2 {
		t.Errorf("referrers after oras copy -r: %s, %v", out, err)
	}
	tool("crane", "delete", r.Registry+"/fourth/app@"+digest)
	if got := tool("crane", "ls", r.Registry+"/fourth/app"); strings.Contains(got, "v1") {
		t.Errorf("after crane delete: %q", got)
	}
}
