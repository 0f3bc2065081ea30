package policy_test

import (
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

func TestIdentityMatch(t *testing.T) {
	t.Parallel()
	alice := evidence.Signer{Identity: "alice@example.org", Issuer: "https://issuer.example"}
	built := func(source string) evidence.Signer {
		return evidence.Signer{Identity: "w", Issuer: "i", Extensions: map[string]string{"sourceRepositoryURI": source}}
	}
	on := func(runner string) evidence.Signer {
		return evidence.Signer{Identity: "w", Issuer: "i", Extensions: map[string]string{"runnerEnvironment": runner}}
	}
	for _, tc := range []struct {
		name   string
		want   policy.Identity
		signer evidence.Signer
		match  bool
	}{
		{"exact", policy.Identity{Subject: "alice@example.org", Issuer: "https://issuer.example"}, alice, true},
		{"regexp", policy.Identity{SubjectRegexp: `^.*@example\.org$`, IssuerRegexp: `^https://issuer\.(example|test)$`}, alice, true},
		{"other subject", policy.Identity{Subject: "bob@example.org", Issuer: "https://issuer.example"}, alice, false},
		{"other case", policy.Identity{Subject: "Alice@example.org", Issuer: "https://issuer.example"}, alice, false},
		{"longer subject", policy.Identity{Subject: "alice@example.or", Issuer: "https://issuer.example"}, alice, false},
		{"other issuer", policy.Identity{Subject: "alice@example.org", Issuer: "https://issuer.example/"}, alice, false},
		{"source", policy.Identity{Subject: "w", Issuer: "i", Source: "https://h/acme/app"}, built("https://h/acme/app"), true},
		{"any source", policy.Identity{Subject: "w", Issuer: "i"}, built("https://h/acme/app"), true},
		{"other source", policy.Identity{Subject: "w", Issuer: "i", Source: "https://h/acme/app"}, built("https://h/evil/app"), false},
		{"longer source", policy.Identity{Subject: "w", Issuer: "i", Source: "https://h/acme/app"}, built("https://h/acme/app2"), false},
		{"other case of source", policy.Identity{Subject: "w", Issuer: "i", Source: "https://h/acme/app"}, built("https://h/Acme/app"), false},
		{"no source", policy.Identity{Subject: "alice@example.org", Issuer: "https://issuer.example", Source: "https://h/acme/app"}, alice, false},
		{"runner", policy.Identity{Subject: "w", Issuer: "i", Runner: "github-hosted"}, on("github-hosted"), true},
		{"any runner", policy.Identity{Subject: "w", Issuer: "i"}, on("self-hosted"), true},
		{"other runner", policy.Identity{Subject: "w", Issuer: "i", Runner: "github-hosted"}, on("self-hosted"), false},
		{"longer runner", policy.Identity{Subject: "w", Issuer: "i", Runner: "github-hosted"}, on("github-hosted2"), false},
		{"other case of runner", policy.Identity{Subject: "w", Issuer: "i", Runner: "github-hosted"}, on("GitHub-hosted"), false},
		{"no runner", policy.Identity{Subject: "w", Issuer: "i", Runner: "github-hosted"}, built("https://h/acme/app"), false},
		{"runner of another source", policy.Identity{Subject: "w", Issuer: "i", Source: "https://h/acme/app", Runner: "github-hosted"}, on("github-hosted"), false},
		{"key", policy.Identity{SubjectRegexp: `^.*$`, IssuerRegexp: `^.*$`}, evidence.Signer{Key: "sha256:00"}, false},
		{"newline", policy.Identity{SubjectRegexp: `^alice@example\.org$`, Issuer: "i"}, evidence.Signer{Identity: "alice@example.org\n", Issuer: "i"}, false},
	} {
		m, err := tc.want.Compile()
		if err != nil {
			t.Fatal(tc.name, err)
		}
		if m.Match(tc.signer) != tc.match {
			t.Errorf("%s: match is %v", tc.name, !tc.match)
		}
	}
	if (policy.Matcher{}).Match(alice) {
		t.Error("the zero Matcher matches")
	}
}

func TestIdentityRefused(t *testing.T) {
	t.Parallel()
	for name, i := range map[string]policy.Identity{
		"empty":         {},
		"no issuer":     {Subject: "a"},
		"no subject":    {Issuer: "a"},
		"source alone":  {Source: "https://h/acme/app"},
		"runner alone":  {Runner: "github-hosted"},
		"both subjects": {Subject: "a", SubjectRegexp: "^a$", Issuer: "b"},
		"both issuers":  {Subject: "a", Issuer: "b", IssuerRegexp: "^b$"},
		"unanchored":    {SubjectRegexp: "org/repo", Issuer: "b"},
		"no end":        {SubjectRegexp: "^org/repo", Issuer: "b"},
		"no begin":      {SubjectRegexp: "org/repo$", Issuer: "b"},
		"alternation":   {SubjectRegexp: "^a|b$", Issuer: "b"},
		"lines":         {SubjectRegexp: "(?m)^a$", Issuer: "b"},
		"optional":      {SubjectRegexp: "^?a$", Issuer: "b"},
		"broken":        {SubjectRegexp: "^(a$", Issuer: "b"},
		"stars":         {IssuerRegexp: "****", Subject: "b"},
		"empty regexp":  {SubjectRegexp: "()", Issuer: "b"},
		"escaped end":   {SubjectRegexp: `^a\$`, Issuer: "b"},
	} {
		if _, err := i.Compile(); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestCompileAnchoredAccepts(t *testing.T) {
	t.Parallel()
	for _, expr := range []string{`^a$`, `\Aa\z`, `^(a|b)$`, `(^a$)|(^b$)`, `(^a.*$)`, `^$`, `(?i)^a$`, `^.*$`} {
		re, err := policy.CompileAnchored(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if re.MatchString("x\nab\ny") {
			t.Errorf("%s matches inside of a text", expr)
		}
	}
}

// FuzzCompileAnchored: whatever is accepted matches the whole text or nothing.
func FuzzCompileAnchored(f *testing.F) {
	f.Add("^a|b$", "xb")
	f.Add("^(a|b)$", "a")
	f.Add(`(?s)\A.\z`, "\n")
	f.Fuzz(func(t *testing.T, expr, text string) {
		re, err := policy.CompileAnchored(expr)
		if err != nil {
			return
		}
		if loc := re.FindStringIndex(text); loc != nil && (loc[0] != 0 || loc[1] != len(text)) {
			t.Fatalf("%q matches a part %v of %q", expr, loc, text)
		}
	})
}
