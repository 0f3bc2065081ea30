package hallmark_test

import (
	"encoding/json"
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

// TestMethodless runs tools/methodless.sh: with the Go that is here one look-up is changed,
// and what makes templates does the same with it. Of a Go whose text/template is another the
// build warns and changes nothing.
func TestMethodless(t *testing.T) {
	t.Parallel()
	run := func(dir string, env ...string) (stdout, stderr string) {
		t.Helper()
		var out, warnings strings.Builder
		c := exec.Command("tools/methodless.sh", dir)
		c.Env = append(os.Environ(), env...)
		c.Stdout, c.Stderr = &out, &warnings
		if err := c.Run(); err != nil {
			t.Fatalf("%v\n%s", err, warnings.String())
		}
		return strings.TrimSpace(out.String()), warnings.String()
	}
	dir := t.TempDir()
	flag, warnings := run(dir)
	if flag != "-overlay="+filepath.Join(dir, "overlay.json") || warnings != "" {
		t.Fatalf("%q, %q", flag, warnings)
	}
	var overlay struct{ Replace map[string]string }
	data, err := os.ReadFile(filepath.Join(dir, "overlay.json"))
	if err == nil {
		err = json.Unmarshal(data, &overlay)
	}
	if err != nil || len(overlay.Replace) != 1 {
		t.Fatalf("%v: %s", err, data)
	}
	for from, to := range overlay.Replace {
		before, after := lines(t, from), lines(t, to)
		if len(before) != len(after) {
			t.Fatalf("%d lines became %d", len(before), len(after))
		}
		for i := range before {
			if before[i] != after[i] && after[i] != strings.Replace(before[i], "MethodByName(fieldName)", `MethodByName("")`, 1) {
				t.Errorf("line %d became %q", i+1, after[i])
			}
		}
		if got := strings.Count(strings.Join(after, ""), "MethodByName("); got != 1 {
			t.Errorf("methods are looked up in %d places", got)
		}
	}

	test := exec.Command("go", "test", flag, "-run", "^Test(Config|Identit|Page|Keys|Check|Compile|CodeFlow|DeviceFlow)",
		"./internal/authority/issuers", "./internal/authority/monitor", "./internal/authority/oidc", "./internal/policy/cuelang")
	if out, err := test.CombinedOutput(); err != nil {
		t.Errorf("with %s: %v\n%s", flag, err, out)
	}

	for name, text := range map[string]string{
		"none": "package template\n",
		"two":  "package template\n\nvar a, b = ptr.MethodByName(fieldName),\n\tptr.MethodByName(fieldName)\n",
	} {
		std, commands := t.TempDir(), t.TempDir()
		for file, content := range map[string]string{filepath.Join(std, "exec.go"): text, filepath.Join(commands, "go"): "#!/bin/sh\necho " + std + "\n"} {
			if err := os.WriteFile(file, []byte(content), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		dir := filepath.Join(t.TempDir(), "overlay")
		flag, warnings := run(dir, "PATH="+commands+":"+os.Getenv("PATH"))
		if _, err := os.Stat(dir); flag != "" || !strings.Contains(warnings, "not as it was known") || !os.IsNotExist(err) {
			t.Errorf("%s: %q, %q, %v", name, flag, warnings, err)
		}
	}
}

func lines(t *testing.T, file string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(data), "\n")
}
