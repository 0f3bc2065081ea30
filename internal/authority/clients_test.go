package authority_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
)

const clientRules = `
rights:
- {repositories: ["public/**"], principals: [anyone], actions: [pull]}
- {repositories: [public/app, team/**], principals: [user:ci, "identity:*@team.example"], actions: [pull, push]}
- {repositories: [other/**], principals: [user:root], actions: [pull, push, delete]}
`

// stocks runs stock clients with a home of their own.
type stocks struct {
	t   *testing.T
	dir string
	env []string
}

func newStocks(t *testing.T) *stocks {
	dir := t.TempDir()
	return &stocks{t, dir, append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "DOCKER_CONFIG="+filepath.Join(dir, "docker"),
		"COSIGN_PASSWORD=x", "NOTATION_USERNAME=ci", "NOTATION_PASSWORD=secret", "NO_COLOR=1")}
}

func (s *stocks) try(stdin string, tool string, args ...string) (string, error) {
	s.t.Helper()
	cmd := exec.Command(hmtest.Tool(s.t, tool), args...)
	cmd.Dir, cmd.Env, cmd.Stdin = s.dir, s.env, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "secret") {
		s.t.Errorf("%s shows the password: %s", tool, out)
	}
	return string(out), err
}

func (s *stocks) run(stdin string, tool string, args ...string) string {
	s.t.Helper()
	out, err := s.try(stdin, tool, args...)
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, out)
	}
	return out
}

// refused wants the registry's own words in what the client says.
func (s *stocks) refused(want string, tool string, args ...string) {
	s.t.Helper()
	if out, err := s.try("", tool, args...); err == nil || !strings.Contains(strings.ToUpper(out), want) {
		s.t.Errorf("%s %s: %v\n%s\nwant %s", tool, strings.Join(args, " "), err, out, want)
	}
}

// TestStockClientsLogIn: crane, oras, cosign and notation log in by the token
// protocol, do what they may, and are told what they may not.
func TestStockClientsLogIn(t *testing.T) {
	t.Parallel()
	conf := filepath.Join(t.TempDir(), "registry.yaml")
	if err := os.WriteFile(conf, []byte(clientRules), 0o600); err != nil {
		t.Fatal(err)
	}
	r := hmtest.Start(t, authority.Config{Dir: filepath.Join(t.TempDir(), "data"), RegistryUsers: htpasswd(t, "ci", "secret"), RegistryConfig: conf})
	in := func(repo string) string { return r.Registry + "/" + repo }
	s := newStocks(t)
	if err := os.WriteFile(filepath.Join(s.dir, "layer.tar"), make([]byte, 1024), 0o600); err != nil {
		t.Fatal(err)
	}

	s.refused("UNAUTHORIZED", "crane", "append", "--insecure", "-f", "layer.tar", "-t", in("public/app:1"))
	s.run("secret\n", "crane", "auth", "login", r.Registry, "-u", "ci", "--password-stdin")
	s.run("", "crane", "append", "--insecure", "-f", "layer.tar", "-t", in("public/app:1"))
	s.run("", "crane", "copy", "--insecure", in("public/app:1"), in("team/app:1"))
	s.refused("FORBIDDEN", "crane", "append", "--insecure", "-f", "layer.tar", "-t", in("other/app:1"))
	s.refused("DENIED", "crane", "manifest", "--insecure", in("other/app:1"))
	s.refused("DENIED", "crane", "delete", "--insecure", in("team/app:1"))
	if out := s.run("", "crane", "catalog", "--insecure", r.Registry); out != "public/app\nteam/app\n" {
		t.Errorf("catalog %q", out)
	}
	image := in("team/app@" + strings.TrimSpace(s.run("", "crane", "digest", "--insecure", in("team/app:1"))))

	s.run("", "cosign", "generate-key-pair")
	s.run("", "cosign", "signing-config", "create", "--out", "none.json")
	s.run("", "cosign", "sign", "--key", "cosign.key", "--signing-config", "none.json", "--allow-http-registry", "-y", image)
	s.run("", "cosign", "verify", "--key", "cosign.pub", "--insecure-ignore-tlog", "--allow-http-registry", image)

	s.run("", "notation", "cert", "generate-test", "--default", "team.example")
	s.run("", "notation", "sign", "--insecure-registry", image)

	s.run("secret\n", "oras", "login", "--plain-http", r.Registry, "-u", "ci", "--password-stdin")
	s.run("", "oras", "push", "--plain-http", in("team/files:1"), "layer.tar:application/x-tar")
	s.run("", "oras", "attach", "--plain-http", "--artifact-type", "application/x-note", image, "layer.tar:application/x-tar")
	s.refused("FORBIDDEN", "oras", "push", "--plain-http", in("other/files:1"), "layer.tar:application/x-tar")
	if out := s.run("", "oras", "discover", "--plain-http", image); strings.Count(out, "sha256:") < 4 {
		t.Errorf("discover: %s", out)
	}

	// Somebody without a login pulls what is for anyone.
	nobody := newStocks(t)
	nobody.run("", "crane", "pull", "--insecure", in("public/app:1"), "image.tar")
	nobody.run("", "oras", "manifest", "fetch", "--plain-http", in("public/app:1"))
	nobody.refused("UNAUTHORIZED", "crane", "pull", "--insecure", in("team/app:1"), "image.tar")

	// A person logs in with an identity token; whose address is of elsewhere may nothing.
	for _, tc := range []struct {
		email string
		may   bool
	}{{"bob@team.example", true}, {"bob@elsewhere.example", false}} {
		person := newStocks(t)
		person.run(r.Token(tc.email), "crane", "auth", "login", r.Registry, "-u", "_token", "--password-stdin")
		if out, err := person.try("", "crane", "tag", "--insecure", in("team/app:1"), "bob"); (err == nil) != tc.may {
			t.Errorf("%s: %v\n%s", tc.email, err, out)
		}
	}
	forged := newStocks(t)
	forged.run(fmt.Sprintf("%sx", r.Token("bob@team.example")), "crane", "auth", "login", r.Registry, "-u", "_token", "--password-stdin")
	forged.refused("UNAUTHORIZED", "crane", "tag", "--insecure", in("team/app:1"), "bob")
}
