package dial_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"

	"github.com/hallmark-dev/hallmark/internal/build/dial"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"docker", "kubectl"} { // looked for, and not run here
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	for address, options := range map[string]int{
		"unix:///run/buildkit/buildkitd.sock":                                 0,
		"tcp://127.0.0.1:1234":                                                0,
		"docker-container://buildx_buildkit_default0":                         1,
		"docker-container://b?context=desktop-linux":                          1,
		"kube-pod://buildkit-0":                                               1,
		"kube-pod://buildkit-0/?namespace=ci&container=buildkitd&context=a@b": 1,
	} {
		if got, opts, err := dial.Options(address); err != nil || got != address || len(opts) != options {
			t.Errorf("%s: %s, %d options, %v", address, got, len(opts), err)
		}
	}
	for _, bad := range []string{
		"", "unix", "/run/x.sock", "http://x", "docker://", "podman-container://x", "ssh://x", "npipe://x",
		"docker-container://", "docker-container:x", "docker-container://--privileged", "docker-container://-it", "docker-container://a b",
		"docker-container://a/b", "docker-container://a:1", "docker-container://u@a", "docker-container://a#b",
		"docker-container://a?context=--tls", "docker-container://a?context=", "docker-container://a?context=b&context=c",
		"docker-container://a?contxt=b", "docker-container://a?namespace=b", "docker-container://a?%zz",
		"kube-pod://Pod", "kube-pod://-a", "kube-pod://a?namespace=-b", "kube-pod://a?container=b%20c", "kube-pod://a?context=-x",
	} {
		if _, _, err := dial.Options(bad); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "BUILDKIT_HOST") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, _, err := dial.Options("docker-container://a?contxt=b"); err == nil || !strings.Contains(err.Error(), "did you mean context?") {
		t.Error(err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, _, err := dial.Options("kube-pod://a"); fault.KindOf(err) != fault.Unreachable || !strings.Contains(err.Error(), "kubectl is needed") {
		t.Error(err)
	}
}

// TestCommands: what is run to reach a container, by programs that only write down how they were called.
func TestCommands(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"docker", "kubectl"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho \"${0##*/} $*\" >"+dir+"/called\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for address, want := range map[string]string{
		"docker-container://b":               "docker exec -i b buildctl dial-stdio",
		"docker-container://b?context=other": "docker --context=other exec -i b buildctl dial-stdio",
		"kube-pod://p":                       "kubectl exec -i p -- buildctl dial-stdio",
		"kube-pod://p?namespace=ci&container=buildkitd&context=c1": "kubectl --context=c1 --namespace=ci exec -i p --container=buildkitd -- buildctl dial-stdio",
	} {
		name, opts, err := dial.Options(address)
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.New(t.Context(), name, opts...)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.ListWorkers(t.Context()) // the command ends at once
		c.Close()
		got, _ := os.ReadFile(filepath.Join(dir, "called"))
		if err == nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: ran %q, %v", address, got, err)
		}
	}
}
