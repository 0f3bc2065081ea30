package hallmark_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestToolsAreBuiltAnew runs tools/install.sh with a compiler that writes down what it is
// asked for: everything is built once, and of a module that was changed everything is built
// again, whichever part of it is asked for first.
func TestToolsAreBuiltAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, from := range []string{"tools", "bake"} {
		if err := os.CopyFS(filepath.Join(dir, from), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	bin, commands := filepath.Join(dir, "bin"), filepath.Join(dir, "commands")
	if err := os.Mkdir(commands, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"go":      `[ "$1" != env ] || { echo go1; exit; }; while [ $# -gt 0 ]; do [ "$1" != -o ] || out=$2; shift; done; echo "$out" >>"$BUILT"; : >"$out"; chmod +x "$out"`,
		"runc":    "echo runc version 1",
		"apt-get": "exit 0", // nothing is installed for this
		"sudo":    "exit 0",
	} {
		if err := os.WriteFile(filepath.Join(commands, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	install := func(what string) string {
		t.Helper()
		built := filepath.Join(t.TempDir(), "built")
		if err := os.WriteFile(built, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		c := exec.Command(filepath.Join(dir, "tools", "install.sh"), what)
		c.Env = append(os.Environ(), "PATH="+commands+":"+os.Getenv("PATH"), "HALLMARK_TOOLS="+bin, "HALLMARK_TOOLS_LOCKED=", "BUILT="+built)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		said, err := os.ReadFile(built)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(strings.Join(strings.Fields(string(said)), " "), bin+"/", "")
	}
	all := " " + install("test") + " "
	for _, tool := range []string{"buildkitd", "dockerfile-frontend", "buildctl", "kube-apiserver", "etcd", "versitygw", "cosign", "cosign2", "hallmark-bake"} {
		if !strings.Contains(all, " "+tool+" ") {
			t.Errorf("%s is not built: %s", tool, all)
		}
	}
	if built := install("test"); built != "" {
		t.Errorf("built for nothing: %s", built)
	}
	if err := os.Remove(filepath.Join(bin, "etcd")); err != nil {
		t.Fatal(err)
	}
	if built := install("test"); built != "kube-apiserver etcd" {
		t.Errorf("without etcd it built %q", built)
	}
	sum := filepath.Join(dir, "tools", "buildkit", "go.sum")
	data, err := os.ReadFile(sum)
	if err == nil {
		err = os.WriteFile(sum, append(data, '\n'), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if built := install("demo"); built != "buildkitd" {
		t.Errorf("demo built %q", built)
	}
	if built := install("test"); built != "dockerfile-frontend buildctl" {
		t.Errorf("test built %q after it", built)
	}
}
