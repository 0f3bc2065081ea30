package build

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/moby/buildkit/session/secrets"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/hallmark-dev/hallmark/internal/git"
)

// TestGitLogins: a login is served under a name of its own that nobody can guess, with its host
// behind it, and under no other.
func TestGitLogins(t *testing.T) {
	t.Parallel()
	token, err := git.TokenLogin("canary")
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	l := NewGitLogins(func(remote string, _ bool) git.Login {
		if strings.HasPrefix(remote, "https://none.example/") {
			return git.Login{}
		}
		return token
	}, func(_ context.Context, remote string, login git.Login) error {
		asked = append(asked, remote)
		if strings.Contains(remote, "moved") {
			return errors.New("it answers with a redirect")
		}
		return nil
	})
	const remote = "https://git.example:8443/acme/app.git"
	name := l.secret(remote, false)
	other := NewGitLogins(l.header, l.answers).secret(remote, false)
	elsewhere := l.secret("https://other.example/acme/app.git", false)
	if len(name) < len("hallmark-git-")+26 || name == other || name == elsewhere || name != l.secret(remote, false) {
		t.Errorf("%q %q %q", name, other, elsewhere)
	}
	if n := l.secret("https://none.example/x.git", false); n != "" {
		t.Errorf("a login for nobody: %q", n)
	}
	if n := (*GitLogins)(nil).secret(remote, false); n != "" || (*GitLogins)(nil).attachable() != nil {
		t.Errorf("logins of nobody: %q", n)
	}
	if len(asked) > 0 {
		t.Errorf("asked before BuildKit is: %v", asked)
	}
	_, _ = l.get(t.Context(), name+".git.example:8443")
	got, err := l.get(t.Context(), name+".git.example:8443")
	if len(asked) != 1 || asked[0] != remote {
		t.Errorf("asked about %v", asked)
	}
	if err != nil || got != token.Header() {
		t.Errorf("%q %v", got, err)
	}
	for _, id := range []string{"", name, name + ".", name + ".git.example", name + ".other.example", elsewhere + ".git.example:8443", "hallmark-git-.git.example:8443",
		"GIT_AUTH_TOKEN", "GIT_AUTH_HEADER", "GIT_AUTH_TOKEN.git.example:8443", "GIT_AUTH_HEADER.git.example:8443", other + ".git.example:8443"} {
		if got, err := l.get(t.Context(), id); err != nil || got != "" {
			t.Errorf("%q: %q %v", id, got, err)
		}
	}
	failed := errors.New("git says no")
	if l.explain(failed) != failed || (*GitLogins)(nil).explain(failed) != failed {
		t.Error("a failure that has nothing to do with logins is explained by one")
	}
	// The same server, at an address from which it sends git elsewhere.
	if got, err := l.get(t.Context(), l.secret("https://git.example:8443/moved.git", false)+".git.example:8443"); err == nil || got != "" {
		t.Errorf("the login of what redirects: %q", got)
	}
	if err := l.explain(failed); !errors.Is(err, failed) || !strings.Contains(err.Error(), "answers with a redirect") {
		t.Error(err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", token, token, token, token); strings.Contains(text, "canary") || strings.Contains(text, "Y2FuYXJ5") || strings.Contains(text, "basic") {
		t.Errorf("it prints itself: %s", text)
	}
}

// TestGitLoginsOnTheWire: BuildKit's own client of the service gets the login, and is told of
// any other name that there is no such secret, as it wants that said.
func TestGitLoginsOnTheWire(t *testing.T) {
	t.Parallel()
	token, err := git.TokenLogin("canary")
	if err != nil {
		t.Fatal(err)
	}
	l := NewGitLogins(func(string, bool) git.Login { return token }, func(context.Context, string, git.Login) error { return nil })
	id := l.secret("https://git.example/app.git", false) + ".git.example"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	l.Register(server)
	go server.Serve(listener)
	defer server.Stop()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := secrets.NewSecretsClient(conn)
	got, err := client.GetSecret(t.Context(), &secrets.GetSecretRequest{ID: id, Annotations: map[string]string{"a": "b"}})
	if err != nil || string(got.Data) != token.Header() {
		t.Errorf("%v %v", got, err)
	}
	if got, err := client.GetSecret(t.Context(), &secrets.GetSecretRequest{ID: "GIT_AUTH_TOKEN"}); status.Code(err) != codes.NotFound {
		t.Errorf("%v %v", got, err)
	}
}
