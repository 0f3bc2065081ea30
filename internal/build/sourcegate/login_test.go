package sourcegate

import (
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"

	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// TestWithLogin: a checkout that has a login is fetched by that secret and by no other name.
func TestWithLogin(t *testing.T) {
	t.Parallel()
	var asked []string
	s := New(Config{Policies: policyOf(t, `decision := {"allow": true}`), Login: func(remote string, submodules bool) string {
		if submodules {
			return "" // of a trusted build
		}
		asked = append(asked, remote)
		if strings.HasPrefix(remote, "https://git.example/") {
			return "secret"
		}
		return ""
	}})
	attrs := func(url string) map[string]string {
		return map[string]string{pb.AttrFullRemoteURL: url, pb.AttrAuthTokenSecret: "GIT_AUTH_TOKEN", pb.AttrAuthHeaderSecret: "GIT_AUTH_HEADER", "git.keepgitdir": "true", pb.AttrGitSkipSubmodules: "true"}
	}
	src := sourcepolicy.Source{Identifier: "git://git.example/app.git#v1:dir", Attrs: attrs("https://git.example/app.git")}
	to := s.withLogin(src)
	if to == nil || to.Identifier != src.Identifier || to.Attrs[pb.AttrAuthHeaderSecret] != "secret" || to.Attrs["git.keepgitdir"] != "true" || src.Attrs[pb.AttrAuthTokenSecret] == "" {
		t.Fatalf("%+v", to)
	}
	if _, left := to.Attrs[pb.AttrAuthTokenSecret]; left || asked[0] != "https://git.example/app.git" {
		t.Errorf("%+v %v", to, asked)
	}
	if again := s.withLogin(*to); again != nil {
		t.Errorf("it is converted for ever: %+v", again)
	}
	with := attrs("https://git.example/app.git")
	delete(with, pb.AttrGitSkipSubmodules)
	for name, other := range map[string]sourcepolicy.Source{
		"submodules":     {Identifier: src.Identifier, Attrs: with},
		"another host":   {Identifier: "git://other.example/app.git", Attrs: attrs("https://other.example/app.git")},
		"what it is not": {Identifier: "git://git.example/app.git", Attrs: attrs("https://other.example/app.git")},
		"over SSH":       {Identifier: "git://git.example/app.git", Attrs: attrs("ssh://git@git.example/app.git")},
		"an image":       {Identifier: "docker-image://git.example/app:1"},
		"a download":     {Identifier: "https://git.example/app.git"},
		"no URL":         {Identifier: "git://git.example/app.git", Attrs: attrs("https://git.example:x/app.git")},
	} {
		if to := s.withLogin(other); to != nil {
			t.Errorf("%s: %+v", name, to)
		}
	}
	got, err := solve(t, s, &pb.SourceOp{Identifier: src.Identifier, Attrs: src.Attrs}, nil)
	if err != nil || got.Attrs[pb.AttrAuthHeaderSecret] != "secret" || !s.Decision().Allowed {
		t.Errorf("%v %v %+v", got, err, s.Decision())
	}
	// What is denied is denied with a login, too.
	no := New(Config{Policies: policyOf(t, `decision := {"allow": false}`), Login: func(string, bool) string { return "secret" }})
	if _, err := solve(t, no, &pb.SourceOp{Identifier: src.Identifier, Attrs: src.Attrs}, nil); err == nil || no.Decision().Allowed {
		t.Errorf("%v %+v", err, no.Decision())
	}
}
