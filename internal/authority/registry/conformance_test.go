package registry_test

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
)

// TestConformance runs the OCI distribution specification's own suite with every
// workflow on that the specification knows and we do not refuse on purpose.
func TestConformance(t *testing.T) {
	t.Parallel()
	srv, err := registry.Open(t.TempDir(), registry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(srv)
	t.Cleanup(func() { h.Close(); _ = srv.Close() })
	conforms(t, conformance(t, h.URL))
}

// TestConformanceWithLogin is the same behind tokens and rights.
func TestConformanceWithLogin(t *testing.T) {
	t.Parallel()
	c := guarded(t, registry.Config{Rules: rules(t, "rights: [{repositories: [\"conformance/*\"], principals: [\"user:suite\"], actions: [pull, push, delete]}]\n")})
	conforms(t, conformance(t, c.url, "OCI_USERNAME=suite", "OCI_PASSWORD=secret of suite"))
}

func conforms(t *testing.T, out string) {
	t.Helper()
	for _, want := range []string{`Disabled\.+:\s+0`, `FAIL\.+:\s+0`, `Error\.+:\s+0`, `Skip\.+:\s+0`} {
		if !regexp.MustCompile(want + `\n`).MatchString(out) {
			t.Errorf("want %s:\n%s", want, out)
		}
	}
	if t.Failed() {
		return
	}
	t.Log(strings.TrimSpace(regexp.MustCompile(`Pass\.+:\s+\d+`).FindString(out)))
}

// conformance runs the suite and returns what it says.
func conformance(t *testing.T, url string, env ...string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(hmtest.Tool(t, "conformance"))
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(),
		"OCI_VERSION=1.1", "OCI_TLS=disabled", "OCI_RESULTS_DIR="+filepath.Join(dir, "results"),
		"OCI_REGISTRY="+strings.TrimPrefix(url, "http://"),
		// What the suite leaves out by itself, but for sparse manifests: a manifest
		// whose blobs are not here is refused.
		"OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_BLOBS_UPLOAD_CANCEL=true",
		"OCI_API_MANIFESTS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_TAG_PARAM=true"), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}
