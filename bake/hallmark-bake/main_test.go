package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/build/bake"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// TestMain: the test's program is hallmark-bake when internal/build/bake starts it, which
// it does without any environment.
func TestMain(m *testing.M) {
	if len(os.Environ()) == 0 && len(os.Args) == 1 {
		main()
		return
	}
	os.Exit(m.Run())
}

func resolved(t *testing.T, d bake.Definition) ([]bake.Target, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return bake.Resolve(t.Context(), self, d)
}

func hcl(text string) []bake.File {
	return []bake.File{{Name: "docker-bake.hcl", Data: []byte(text)}}
}

// TestLanguages: the three languages, with what makes bake files programs.
func TestLanguages(t *testing.T) {
	const file = `
variable "TAG" { default = "dev" }
variable "HOME" { default = "none" }
function "image" {
  params = [name]
  result = "registry.example.com/${name}:${TAG}"
}
group "default" { targets = ["app"] }
target "base" {
  args = { HOME = HOME, FROM_ENV = null }
  platforms = ["linux/amd64", "linux/arm64"]
}
target "app" {
  inherits = ["base"]
  name = "app-${item}"
  matrix = { item = ["a", "b"] }
  context = "./${item}"
  tags = [image(item)]
}`
	override := bake.File{Name: "more.json", Data: []byte(`{"target":{"base":{"labels":{"x":"y"}}}}`)}
	got, err := resolved(t, bake.Definition{Files: append(hcl(file), override), Targets: []string{"default"},
		Vars: map[string]string{"TAG": "v1"}, Set: []string{"app-b.args.EXTRA=1"}})
	if err != nil {
		t.Fatal(err)
	}
	want := func(item string, args map[string]string) bake.Target {
		return bake.Target{Name: "app-" + item, Dir: item, File: "Dockerfile", Args: args, Labels: map[string]string{"x": "y"},
			Tags: []string{"registry.example.com/" + item + ":v1"}, Platforms: []string{"linux/amd64", "linux/arm64"}}
	}
	if w := []bake.Target{want("a", map[string]string{"HOME": "none"}), want("b", map[string]string{"HOME": "none", "EXTRA": "1"})}; !reflect.DeepEqual(got, w) {
		t.Errorf("HCL and JSON: got\n%+v\nwant\n%+v", got, w)
	}

	got, err = resolved(t, bake.Definition{Targets: []string{"web"}, Vars: map[string]string{"UNKNOWN": "to whom"}, DotEnv: []byte("VERSION=7\nHOME=${HOME}\n"),
		Files: []bake.File{{Name: "compose.yaml", Data: []byte("services:\n  web:\n    image: r/web:${VERSION}\n    build:\n      context: web\n      args: [\"H=${HOME}\", UNSET]\n")}}})
	if err != nil {
		t.Fatal(err)
	}
	if w := []bake.Target{{Name: "web", Dir: "web", File: "Dockerfile", Args: map[string]string{"H": ""}, Tags: []string{"r/web:7"}}}; !reflect.DeepEqual(got, w) {
		t.Errorf("compose: got\n%+v\nwant\n%+v", got, w)
	}
}

// TestNothingOfTheMachine: a bake file of a hostile commit reads no file and no variable of
// who builds.
func TestNothingOfTheMachine(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HALLMARK_CANARY", "hunter2")
	home, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	canary := filepath.Join(dir, "canary.yaml")
	if err := os.WriteFile(canary, []byte("services: {x: {build: {context: ., args: [\"A=hunter2\"]}}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	compose := func(text string) []bake.File {
		return []bake.File{{Name: "compose.yaml", Data: []byte(strings.ReplaceAll(text, "ELSEWHERE", canary))}}
	}
	for _, c := range []struct {
		name  string
		files []bake.File
		want  string // of the error; "" when a target without the canary comes out
	}{
		{"HCL variable", hcl("variable \"HALLMARK_CANARY\" { default = \"none\" }\ntarget \"x\" { args = { A = HALLMARK_CANARY } }"), ""},
		{"HCL home folder", hcl("target \"x\" { args = { A = homedir() } }"), ""},
		{"compose variable", compose("services: {x: {build: {context: ., args: [\"A=${HALLMARK_CANARY}\", HALLMARK_CANARY]}}}"), ""},
		{"compose include", compose("include: [ELSEWHERE]\nservices: {y: {build: .}}"), "too many open files"},
		{"compose extends", compose("services: {x: {extends: {file: ELSEWHERE, service: x}}}"), "too many open files"},
		{"compose env_file", compose("services: {x: {env_file: ELSEWHERE, build: .}}"), "too many open files"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := resolved(t, bake.Definition{Files: c.files, Targets: []string{"x"}})
			if said := fmt.Sprintf("%+v %v", got, err); strings.Contains(said, "hunter2") || strings.Contains(said, home.HomeDir) {
				t.Errorf("it has read of this machine: %s", said)
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v, %v; want %q", got, err, c.want)
			}
		})
	}
}

// TestMemory: a short file that asks for much memory ends the reader, not the machine.
func TestMemory(t *testing.T) {
	const text = `
variable "A" { default = join("", [for i in range(0, 1000) : "0123456789012345678901234567890123456789"]) }
variable "B" { default = join("", [for i in range(0, 1000) : A]) }
variable "C" { default = join("", [for i in range(0, 1000) : B]) }
target "x" { args = { A = C } }`
	got, err := resolved(t, bake.Definition{Files: hcl(text), Targets: []string{"x"}})
	if err == nil || !strings.Contains(err.Error(), "memory") && !strings.Contains(err.Error(), "took more") {
		t.Errorf("%d targets, %v", len(got), err)
	}
}

// TestMistakes: what is wrong is a usage error with the place.
func TestMistakes(t *testing.T) {
	big := "target \"x\" {\n name = \"x-${a}-${b}\"\n matrix = { a = range(0,9), b = range(0,9) }\n}"
	for _, c := range []struct{ text, want string }{
		{"target \"x\" {", "docker-bake.hcl:1"},
		{"target \"x\" { args = { A = NOPE } }", "docker-bake.hcl:1"},
		{"target \"x\" { args = { A = file(\"/etc/passwd\") } }", "file"},
		{"target \"x\" { inherits = [\"nope\"] }", "nope"},
		{"target \"y\" {}", "failed to find target x"},
		{"target \"x\" { secret = [\"id=k,src=/home/k\"] }", "secret is refused"},
		{"target \"x\" { entitlements = [\"network.host\"] }", "entitlements is refused"},
		{"target \"x\" { contexts = { lib = \"target:y\" } }\ntarget \"y\" {}", "each for itself"},
		{"target \"x\" { context = \"..\" }", "leads out"},
		{"variable \"TAG\" { default = \"dev\" }\nvariable \"ABI\" {}\ntarget \"x\" { args = { A = TAG } }", "variable TGA is given, and the bake files have none of this name; theirs are: ABI, TAG"},
		{strings.ReplaceAll(big, "target \"x\"", "target \"m\"") + "\ngroup \"x\" { targets = [\"m\"] }", "targets"},
	} {
		def := bake.Definition{Files: hcl(c.text), Targets: []string{"x"}}
		if strings.Contains(c.want, "TGA") {
			def.Vars = map[string]string{"TGA": "1"}
		}
		got, err := resolved(t, def)
		if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.50q: %+v, %v; want %q", c.text, got, err, c.want)
		}
	}
}

// TestRequests: what is no request of ours gets no answer.
func TestRequests(t *testing.T) {
	for _, in := range []string{"", "{", `{"file":[]}`, `[]`, strings.Repeat(" ", maxRequest+1)} {
		if out, err := serve(strings.NewReader(in)); err == nil {
			t.Errorf("%.20q: %s", in, out)
		}
	}
}
