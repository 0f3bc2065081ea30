package bake

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// one is an answer with a target of those options, as hallmark-bake prints it.
func one(options string) []byte {
	return fmt.Appendf(nil, `{"group":{"default":{"targets":["app"]}},"target":{"app":{%s}}}`, options)
}

func TestTarget(t *testing.T) {
	got, err := parse(one(`"context":"./srv","dockerfile":"build/Dockerfile","target":"final",
		"args":{"V":"1","FROM_ENV":null},"labels":{"a":"b"},"tags":["r/app:1"],"annotations":["index:k=v"],
		"platforms":["linux/amd64","linux/arm64"],"no-cache":true,"pull":true,"network":"none","call":"build","shm-size":"64MB",
		"ulimits":["nofile=1024:1024"],"contexts":{"base":"docker-image://alpine:3","src":"https://git.example.com/x.git#v1"},
		"attest":[{"type":"sbom"}],"cache-from":[{"type":"gha"}],"cache-to":[],"output":[{"type":"image"}],"secret":[],"entitlements":[]`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Target{{Name: "app", Dir: "srv", File: "build/Dockerfile", Stage: "final", Args: map[string]string{"V": "1"},
		Labels: map[string]string{"a": "b"}, Tags: []string{"r/app:1"}, Annotations: []string{"index:k=v"},
		Platforms: []string{"linux/amd64", "linux/arm64"}, NoCache: true, NoNetwork: true, ShmSize: 64 << 20, Ulimits: []string{"nofile=1024:1024"},
		Contexts: map[string]string{"base": "docker-image://alpine:3", "src": "https://git.example.com/x.git#v1"},
		Decided:  []string{"attest", "cache-from", "output"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestRefused: what a trusted build does not have is refused by its name.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ options, want string }{
		{`"secret":[{"id":"x","src":"/home/x"}]`, "app: secret is refused"},
		{`"ssh":[{"id":"default"}]`, "ssh is refused"},
		{`"entitlements":["security.insecure"]`, "entitlements is refused"},
		{`"network":"host"`, "network=host is refused"},
		{`"network":"None"`, "network=None is refused"},
		{`"network":"sandbox"`, "network=sandbox is refused"},
		{`"extra-hosts":{"a":"1.2.3.4"}`, "extra-hosts is refused"},
		{`"dockerfile-inline":"FROM scratch"`, "dockerfile-inline is refused"},
		{`"dockerfile-inline":""`, "dockerfile-inline is refused"},
		{`"resources":{"memory":"1g"}`, "resources is refused"},
		{`"call":"check"`, "call=check is refused"},
		{`"policy":[{"disabled":true}]`, "policy is refused"},
		{`"context":".."`, "leads out of the commit"},
		{`"context":"a/../.."`, "leads out of the commit"},
		{`"context":"../x"`, "leads out of the commit"},
		{`"context":"/src"`, "path from the root"},
		{`"context":"-"`, "path from the root"},
		{`"context":"cwd://x"`, "another source"},
		{`"context":"https://git.example.com/x.git"`, "another source"},
		{`"context":"git@github.com:x/y"`, "another source"},
		{`"context":"target:x"`, "another source"},
		{`"dockerfile":"../Dockerfile"`, "leads out of the commit"},
		{`"dockerfile":"/etc/Dockerfile"`, "path from the root"},
		{`"contexts":{"base":"../base"}`, `named context "base" is refused: want docker-image`},
		{`"contexts":{"base":"docker-image://"}`, "named context"},
		{`"contexts":{"base":"target:lib"}`, "built and signed each for itself"},
		{`"contexts":{"base":"oci-layout:///x"}`, "named context"},
		{`"contexts":{"base":"https://u:hunter2@host/x"}`, "a login"},
		{`"contexts":{"base":"http://host/x"}`, "want docker-image"},
		{`"contexts":{"base":"https:///x"}`, "no URL"},
		{`"shm-size":"64q"`, "shm-size is refused"},
		{`"shm-size":"0"`, "shm-size is refused"},
		{`"shm-size":"-1m"`, "shm-size is refused"},
		{`"shm-size":"1025g"`, "1 TiB"},
		{`"shm-size":"9999999999999999999g"`, "shm-size is refused"},
		{`"shm-size":"m"`, "shm-size is refused"},
		{`"shm-size":"1gk"`, "shm-size is refused"},
		{`"devices":["x"]`, "unknown field"},
	} {
		got, err := parse(one(c.options))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want %q", c.options, got, err, c.want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a login is shown: %v", err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	many := `{"target":{`
	for i := range MaxTargets + 1 {
		many += fmt.Sprintf(`"t%d":{},`, i)
	}
	many = strings.TrimSuffix(many, ",") + `}}`
	for _, c := range []struct{ answer, want string }{
		{``, "answer of hallmark-bake"},
		{`{}`, "no target"},
		{`{"target":{}}`, "no target"},
		{`{"error":"docker-bake.hcl:3,1-2: oh https://u:hunter2@h/x"}`, "docker-bake.hcl:3,1-2"},
		{`{"target":{"a":{}}} {}`, "more than one"},
		{`{"target":{"a":[]}}`, "answer of"},
		{`{"target":{"a":{}},"extra":1}`, "unknown field"},
		{many, "at most 64"},
	} {
		if got, err := parse([]byte(c.answer)); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%.60s: %+v, %v", c.answer, got, err)
		}
	}
}

// TestHostileProgram: one that says nothing, too much, or ends badly is an error that
// does not repeat what it said.
func TestHostileProgram(t *testing.T) {
	d := Definition{Files: []File{{Name: "docker-bake.hcl"}}, Targets: []string{"app"}}
	for _, c := range []struct{ name, script, want string }{
		{"silent", "exit 0", "answer of"},
		{"failing", "echo hunter2 >&2; exit 3", "exit status 3"},
		{"endless", "while :; do echo hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2; done", "more than"},
		{"environment", `printf '{"error":"[%s]"}' "$HOME$HALLMARK_CANARY$(ls)"`, "bake file: []"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("HALLMARK_CANARY", "hunter2")
			path := filepath.Join(t.TempDir(), "program")
			if err := os.WriteFile(path, []byte("#!/bin/sh\nPATH=/bin:/usr/bin\n"+c.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			got, err := Resolve(t.Context(), path, d)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%+v, %v; want %q", got, err, c.want)
			}
		})
	}
	if _, err := Resolve(t.Context(), filepath.Join(t.TempDir(), "nothing"), d); err == nil {
		t.Error("a program that is not there answers")
	}
}

func TestDefinitionChecks(t *testing.T) {
	file := File{Name: "docker-bake.hcl"}
	for _, d := range []Definition{
		{Targets: []string{"app"}},
		{Files: []File{file}},
		{Files: make([]File, maxFiles+1), Targets: []string{"app"}},
		{Files: []File{{Name: "a", Data: make([]byte, MaxFile+1)}}, Targets: []string{"app"}},
	} {
		if _, err := Resolve(t.Context(), "/nowhere", d); fault.KindOf(err) != fault.Usage {
			t.Errorf("%d files, %v: %v", len(d.Files), d.Targets, err)
		}
	}
}

// FuzzAnswer: whatever a reader of bake files says, no target leaves the commit.
func FuzzAnswer(f *testing.F) {
	f.Add(one(`"context":"./srv","contexts":{"base":"docker-image://alpine:3"},"shm-size":"64m"`))
	f.Add(one(`"context":"a/../..","dockerfile":"/x"`))
	f.Add([]byte(`{"error":"x"}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		targets, err := parse(answer)
		if err != nil {
			return
		}
		for _, x := range targets {
			for _, p := range []string{x.Dir, x.File} {
				if p != "" && !filepath.IsLocal(p) {
					t.Fatalf("%q leads out of the commit", p)
				}
			}
		}
	})
}
