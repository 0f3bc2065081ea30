package rego_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

func findings(t *testing.T, text string) []string {
	t.Helper()
	found, err := rego.Lint(map[string][]byte{"p.rego": []byte(text)}, rego.LintOptions{Optional: optional})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range found {
		out = append(out, strings.TrimPrefix(r.Subject, "p.rego:")+" "+r.Code)
	}
	return out
}

// optional says which fields of these tests are always there.
func optional(path []string) bool {
	switch strings.Join(path, ".") {
	case "image.host", "image.repo", "image.ref", "http.host", "local":
		return false
	}
	return true
}

// TestLint: each trap is found in its line, and what is written instead is none.
func TestLint(t *testing.T) {
	t.Parallel()
	const head = "package docker\n\ndefault allow := false\n\n" // the next line is 5
	for _, c := range []struct {
		name, bad, good, code string
	}{
		{"not of a comparison", "allow if not input.image.labels.age > 3", "old if input.image.labels.age > 3\nallow if not old", rego.CodeNotUndefined},
		{"not of a function", `allow if not startswith(input.image.user, "v0")`, "v0 if startswith(input.image.user, \"v0\")\nallow if not v0", rego.CodeNotUndefined},
		{"not of in", `allow if not "root" in input.image.volumes`, `allow if not input.image.user == "root"`, rego.CodeNotUndefined},
		{"not of the policy's function", "f(x) if x\nallow if not f(input.image.user)", "allow if not input.image.user", rego.CodeNotUndefined},
		{"not of a computed equality", "allow if not lower(input.image.user) == \"root\"", "allow if not input.image.user == \"root\"", rego.CodeNotUndefined},
		{"not in a comprehension", `allow if count([1 | not input.image.labels.a > 1]) == 1`, "allow if count([1 | not input.image.labels.a]) == 1", rego.CodeNotUndefined},
		{"denial of another label", `deny_msg contains "x" if input.image.labels.team != "a"`, "ok if input.image.labels.team == \"a\"\ndeny_msg contains \"x\" if not ok", rego.CodeDenyUndefined},
		{"denial of an old version", `deny_msg contains "x" if semver.compare(input.image.labels.v, "1.0.0") < 0`, `deny_msg contains "x" if semver.compare(object.get(input.image.labels, "v", "0.0.0"), "1.0.0") < 0`, rego.CodeDenyUndefined},
		{"a tag beside a digest", `allow if input.image.tag == "1"`, "allow if {\n\tinput.image.tag == \"1\"\n\tnot input.image.isCanonical\n}", rego.CodeTag},
		{"denial of none", `deny_msg contains "x" if count(input.git.commit.parents) == 0`, `deny_msg contains "x" if not input.git.commit.parents`, rego.CodeCount},
		{"few of none", `allow if count(input.image.volumes) < 2`, `allow if count(input.image.volumes) > 1`, rego.CodeCount},
		{"a claimed author", `allow if input.git.commit.author.email == "a@example.org"`, `allow if verify_git_signature(input.git.commit, "k.pub")`, rego.CodeUnverified},
		{"denial under another name", `deny if input.env.args.V != "1"`, `deny if input.env.args.V == "1"`, rego.CodeDenyUndefined},
		{"a text without its tag", `deny_msg contains sprintf("%s", [input.image.tag]) if not allow`, `deny_msg contains sprintf("%s", [object.get(input.image, "tag", "?")]) if not allow`, rego.CodeDenyUndefined},
		{"a text of what is wanted", `deny_msg contains input.image.labels.x if not allow`, `deny_msg contains input.image.labels.x if input.image.labels.x`, rego.CodeDenyUndefined},
		{"allow false", "allow if input.image\nallow := false if input.local", "allow if input.local", rego.CodeAllowFalse},
		{"a text as deny_msg", `deny_msg := "no"`, `deny_msg contains "no" if not input.local`, rego.CodeMessageLost},
		{"unanchored", `allow if regex.match("docker.io/.*", input.image.ref)`, `allow if regex.match("^docker[.]io/.*$", input.image.ref)`, rego.CodeUnanchored},
		{"anywhere in a host", `allow if contains(input.http.host, "example.com")`, `allow if input.http.host == "example.com"`, rego.CodeUnanchored},
		{"end of a host", `allow if endswith(input.http.host, "example.com")`, `allow if endswith(input.http.host, ".example.com")`, rego.CodeUnanchored},
		{"beginning of a name", `allow if startswith(input.image.repo, "acme")`, `allow if startswith(input.image.repo, "acme/")`, rego.CodeUnanchored},
		{"a signature's own word", `allow if input.git.tag.sshSignature.pubKey == "SHA256:x"`, `allow if verify_git_signature(input.git.tag, "k.pub")`, rego.CodeUnverified},
		{"provenance of anybody", `allow if input.image.provenance.builderID == "https://x"`, "allow if {\n  input.image.provenance.signer.issuer == \"https://i\"\n  input.image.provenance.builderID == \"https://x\"\n}", rego.CodeUnverified},
		{"chance", `allow if rand.intn("x", 2) == 1`, "allow if 1 == 1", rego.CodeImpure},
		{"the clock", `allow if time.now_ns() > 3`, "allow if input.image.createdTime", rego.CodeImpure},
		{"who started it", `allow if input.run.actor == "me"`, `allow if "me" in input.git.tag.signer.principals`, rego.CodeActor},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := 5 + strings.Count(strings.TrimSpace(c.bad), "\n")
			if diff := cmp.Diff([]string{fmt.Sprintf("%d %s", line, c.code)}, findings(t, head+c.bad+"\n")); diff != "" {
				t.Errorf("trap:\n%s", diff)
			}
			if got := findings(t, head+c.good+"\n"); len(got) > 0 {
				t.Errorf("what is written instead: %q", got)
			}
		})
	}
	if got := findings(t, "package docker\n\nallow if input.local\n\nallow if input.image\n\ndecision := {\"allow\": allow}\n"); cmp.Diff([]string{"3 " + rego.CodeNoDefault}, got) != "" {
		t.Errorf("without a default: %q", got)
	}
}

// TestLintSaysWhatToWrite: every finding but those that are facts has a hint.
func TestLintSaysWhatToWrite(t *testing.T) {
	t.Parallel()
	found, err := rego.Lint(map[string][]byte{"p.rego": []byte("package docker\nallow if not input.image.tag > 3\nallow := false if input.x\ndeny_msg := \"a\nb\"\n")}, rego.LintOptions{})
	if err == nil || len(found) != 0 {
		t.Fatalf("%v, %v", found, err)
	}
	var ce *rego.CompileError
	if !errors.As(err, &ce) || !strings.HasPrefix(ce.Reasons[0].Subject, "p.rego:") {
		t.Errorf("%v", err)
	}
	found, err = rego.Lint(map[string][]byte{"p.rego": []byte("package docker\nallow if not input.image.user > 3\nallow := false if input.x\ndecision := {\"allow\": allow}\n"), "p_test.rego": []byte("nothing")}, rego.LintOptions{})
	if err != nil || len(found) != 3 {
		t.Fatalf("%v, %v", found, err)
	}
	for _, r := range found {
		if r.Hint == "" || r.Subject == "" {
			t.Errorf("%+v", r)
		}
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	out, err := rego.Format("p.rego", []byte("package docker\nallow  if{input.local}\n"))
	if err != nil || string(out) != "package docker\n\nallow if { input.local }\n" && string(out) != "package docker\n\nallow if input.local\n" {
		t.Errorf("%q, %v", out, err)
	}
	var ce *rego.CompileError
	if _, err := rego.Format("p.rego", []byte("package docker\nallow if {")); !errors.As(err, &ce) {
		t.Errorf("%v", err)
	}
}

// FuzzLint: whatever parses is looked at without harm, and formatted means the same.
func FuzzLint(f *testing.F) {
	f.Add("package docker\ndefault allow := false\nallow if not startswith(input.image.tag, \"v\")\ndeny_msg contains \"x\" if count(input.a) == 0\n")
	f.Add("package a\nimport data.b\nf(x) := y if { some y in x; not y.z > 1 } else := 2\n")
	f.Fuzz(func(t *testing.T, text string) {
		files := map[string][]byte{"p.rego": []byte(text)}
		if _, err := rego.Lint(files, rego.LintOptions{}); err != nil {
			return
		}
		out, err := rego.Format("p.rego", []byte(text))
		if err != nil {
			return
		}
		if _, err := rego.Lint(map[string][]byte{"p.rego": out}, rego.LintOptions{}); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
	})
}
