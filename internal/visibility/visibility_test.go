package visibility

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/fault"
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
		"registry": "in a private network", "registry:5000": "in a private network", "registry.corp": "in a private network",
		"registry.example.internal:443": "in a private network", "Registry.Local.": "in a private network", "nas.home.arpa": "in a private network",
	} {
		if got, err := within(context.Background(), host); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", host, got, err, want)
		}
	}
	// What cannot be found out is an error, and never "public".
	for _, host := range []string{"no-such-host.invalid", "no-such-host.invalid:443", "corp.invalid"} {
		if got, err := within(context.Background(), host); fault.KindOf(err) != fault.Unreachable || got != "" {
			t.Errorf("%s: %q, %v", host, got, err)
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
