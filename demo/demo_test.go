package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// hallmark builds the binary under demonstration.
func hallmark(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "hallmark")
	build := exec.Command("go", "build", "-o", bin, "../cmd/hallmark")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

func play(t *testing.T, o options) string {
	t.Helper()
	var page bytes.Buffer
	if code := run(context.Background(), o, &page); code != 0 {
		t.Fatalf("exit %d", code)
	}
	return page.String()
}

// TestDemo: make demo tells the whole story, and each refusal has its reason on one line.
func TestDemo(t *testing.T) {
	page := play(t, options{hallmark: hallmark(t)})
	for _, want := range []string{
		"FROM A COMMIT TO AN ADMITTED POD",
		"$ hallmark up", "$ hallmark build", "$ hallmark verify", "$ hallmark show", "$ hallmark admit check",
		"signed by release", "SLSA v1, builder https://", "entry ", "allowed  Pod demo",
		"DENIED [TAG_UNSIGNED]", "DENIED [TAG_SIGNER]", "DENIED [NO_SIGNATURES]", "DENIED [WRONG_IDENTITY]", "DENIED [LOG_MISMATCH]",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if n := strings.Count(page, "✗"); n != 6 {
		t.Errorf("%d refusals, want 6", n)
	}
	if t.Failed() {
		t.Log(page)
	}
}

// TestDemoOnYourRepository: REPO and REF, without and with a policy of one's own.
func TestDemoOnYourRepository(t *testing.T) {
	bin, repo, rules := hallmark(t), filepath.Join(t.TempDir(), "Mine.git"), t.TempDir()
	if err := os.Mkdir(repo, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(repo, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(rules, "key")
	for _, args := range [][]string{
		{"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key},
		{"git", "init", "-q", "."},
		{"git", "add", "."},
		{"git", "commit", "-q", "-m", "mine"},
		{"git", "-c", "gpg.format=ssh", "-c", "user.signingKey=" + key, "tag", "-s", "-m", "release", "release/7"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = repo
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if page := play(t, options{hallmark: bin, repo: repo, ref: "release/7"}); !strings.Contains(page, "demo/mine:v1.0.0") {
		t.Errorf("not built from the repository:\n%s", page)
	}

	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"allowed_signers": "me " + string(public),
		"release.rego":    "package hallmark.signing\n\ndefault allow := false\n\nallow if \"me\" in input.git.tag.signer.principals\n",
	} {
		if err := os.WriteFile(filepath.Join(rules, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page := play(t, options{hallmark: bin, repo: repo, ref: "release/7", policy: rules})
	if !strings.Contains(page, "refs/tags/release/7") || !strings.Contains(page, "signed by me") {
		t.Errorf("not built from the tag under the policy:\n%s", page)
	}
}

func TestImageName(t *testing.T) {
	t.Parallel()
	for repo, want := range map[string]string{
		"https://example.com/org/App.git": "app",
		"/srv/My  Own___App":              "my--own--app",
		"/srv/-x-":                        "x",
		"/":                               "app",
	} {
		if got := imageName(repo); got != want {
			t.Errorf("imageName(%q) = %q, want %q", repo, got, want)
		}
	}
}

func TestOptionsThatDoNotFit(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]options{
		"ref without repo":    {ref: "v1"},
		"policy without repo": {policy: "x"},
		"repo without ref":    {repo: "."},
		"repo and self":       {repo: ".", ref: "v1", self: true},
		"no binary":           {hallmark: "no/such/hallmark"},
	} {
		if _, err := newDemo(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
