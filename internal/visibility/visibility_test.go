package visibility

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/idtoken"
)

func TestWithin(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"localhost:5000": "on this machine", "127.0.0.1": "on this machine", "[::1]:5000": "on this machine",
		"10.1.2.3:5000": "in a private network", "172.31.0.1": "in a private network", "192.168.0.1:80": "in a private network",
		"100.64.0.1": "in a private network", "[fd00::1]:443": "in a private network", "[fe80::1]:443": "in a private network",
		"169.254.169.254": "in a private network", "::ffff:10.0.0.1": "in a private network",
		"8.8.8.8": "", "172.32.0.1:5000": "", "100.128.0.1": "", "11.0.0.1": "", "[2001:4860:4860::8888]:443": "", "192.169.0.1": "",
		"no-such-host.invalid": "", "no-such-host.invalid:443": "",
	} {
		if got := within(context.Background(), host); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

func TestProject(t *testing.T) {
	t.Parallel()
	for claims, want := range map[string]string{
		`{}`:                                 "",
		`{"repository_visibility":"public"}`: "",
		`{"project_visibility":"public","repository":"o/r"}`:                         "",
		`{"repository_visibility":"private","repository":"o/r"}`:                     "the project o/r is not public (repository_visibility)",
		`{"repository_visibility":"internal","repository":"o/r"}`:                    "the project o/r is not public (repository_visibility)",
		`{"project_visibility":"internal","project_path":"g/p"}`:                     "the project g/p is not public (project_visibility)",
		`{"repository_visibility":"public","project_visibility":"private"}`:          "(project_visibility)",
		`{"repository_visibility":null}`:                                             "(repository_visibility)",
		`{"repository_visibility":["private"]}`:                                      "(repository_visibility)",
		`{"repository_visibility":"PRIVATE"}`:                                        "(repository_visibility)",
		`{"repository_visibility":"","repository":"o/r"}`:                            "(repository_visibility)",
		`{"visibility":"private","repository":"o/r","project_path":"private/thing"}`: "",
	} {
		var token idtoken.Token
		if err := json.Unmarshal([]byte(claims), &token.Claims); err != nil {
			t.Fatal(err)
		}
		if got := Project(token); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: %q, want %q", claims, got, want)
		}
	}
}
