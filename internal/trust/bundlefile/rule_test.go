package bundlefile

import (
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

func by(identity string) policy.Fact {
	return policy.Fact{Signer: evidence.Signer{Identity: identity, Issuer: "https://issuer"}}
}

func rule(n int, identity string) Rule {
	return Rule{Version: n, Repository: "example.com/app", Identity: identity, Issuer: "https://issuer"}
}

func TestRuleIsRead(t *testing.T) {
	t.Parallel()
	data, err := rule(3, "a").Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseRule(data); err != nil || got.Words() != "releases of example.com/app are signed by a via issuer https://issuer" {
		t.Error(got, err)
	}
	for name, text := range map[string]string{
		"no number":     `{"repository":"example.com/app","identity":"a","issuer":"i"}`,
		"number 0":      `{"version":0,"repository":"example.com/app","identity":"a","issuer":"i"}`,
		"no issuer":     `{"version":1,"repository":"example.com/app","identity":"a"}`,
		"nobody":        `{"version":1,"repository":"example.com/app"}`,
		"two":           `{"version":1,"repository":"example.com/app","identity":"a","issuer":"i","publicKey":"AAAA"}`,
		"no key":        `{"version":1,"repository":"example.com/app","publicKey":"AAAA"}`,
		"a tag":         `{"version":1,"repository":"example.com/app:1","identity":"a","issuer":"i"}`,
		"a pattern":     `{"version":1,"repository":"example.com/*","identity":"a","issuer":"i"}`,
		"unknown":       `{"version":1,"repository":"example.com/app","identity":"a","issuer":"i","threshold":0}`,
		"another case":  `{"version":1,"repository":"example.com/app","Identity":"a","issuer":"i"}`,
		"twice":         `{"version":1,"version":2,"repository":"example.com/app","identity":"a","issuer":"i"}`,
		"no repository": `{"version":1,"identity":"a","issuer":"i"}`,
		"long":          `{"version":1,"repository":"example.com/app","identity":"` + strings.Repeat("a", maxRule) + `","issuer":"i"}`,
		"a sentence":    `{"version":1,"repository":"example.com/app","identity":"alice@example.com via issuer https://issuer","issuer":"i"}`,
		"a comma":       `{"version":1,"repository":"example.com/app","identity":"a","issuer":"https://issuer,x"}`,
		"a wide space":  `{"version":1,"repository":"example.com/app","identity":"a","issuer":"i","sourceRepository":"a\u00a0b"}`,
		"a line":        `{"version":1,"repository":"example.com/app","identity":"a","issuer":"i","log":"a\nb"}`,
	} {
		if got, err := ParseRule([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Letters that look like others are shown as what they are.
func TestWordsAreQuoted(t *testing.T) {
	t.Parallel()
	r := Rule{Version: 1, Repository: "example.com/app", Identity: "\u0430lice@example.com", Issuer: "https://issu\u0435r", SourceRepository: "https://s\u043eurce", Log: "l\u043eg"}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if r, err = ParseRule(data); err != nil {
		t.Fatal(err)
	}
	want := `releases of example.com/app are signed by "\u0430lice@example.com" via issuer "https://issu\u0435r", from the source repository "https://s\u043eurce", in the log "l\u043eg"`
	if got := r.Words(); got != want {
		t.Error(got)
	}
}

func TestRulesAreFollowed(t *testing.T) {
	t.Parallel()
	f := &File{MediaType: MediaType}
	now := time.Unix(1e9, 0).UTC()
	for _, c := range []struct {
		name string
		rule Rule
		by   string
		code string
		now  string // who is pinned then
	}{
		{"the first by another", rule(1, "a"), "b", CodeRuleSigner, ""},
		{"the first", rule(1, "a"), "a", "", "a"},
		{"the same again", rule(1, "a"), "a", "", "a"},
		{"another of the same number", rule(1, "b"), "a", CodeRuleRollback, "a"},
		{"a later one by itself", rule(2, "b"), "b", CodeRuleSigner, "a"},
		{"a later one", rule(5, "b"), "a", "", "b"},
		{"one between", rule(4, "a"), "b", CodeRuleRollback, "b"},
		{"the old signer", rule(6, "a"), "a", CodeRuleSigner, "b"},
		{"back", rule(6, "a"), "b", "", "a"},
	} {
		why := f.Follow(c.rule, by(c.by), now)
		if (why == nil) != (c.code == "") || why != nil && why.Code != c.code {
			t.Errorf("%s: %+v", c.name, why)
		}
		p, _ := Pins(f.Pins).For("example.com/app")
		if p.Identity != c.now || len(f.Pins) > 1 {
			t.Errorf("%s: %+v", c.name, f.Pins)
		}
	}
	data, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := Parse(data); err != nil || back.Pins[0].Rule != 6 {
		t.Error(back, err)
	}
	// A pin that a person made is followed, too: by whom it names.
	f = &File{MediaType: MediaType, Pins: []Pin{{Repository: "example.com/app", Identity: "a", Issuer: "https://issuer", PinnedAt: now}}}
	if why := f.Follow(rule(1, "b"), by("b"), now); why == nil || why.Code != CodeRuleSigner {
		t.Error(why)
	}
	if why := f.Follow(rule(1, "b"), by("a"), now); why != nil || f.Pins[0].Identity != "b" {
		t.Error(why)
	}
}

func FuzzRule(f *testing.F) {
	data, err := rule(1, "a").Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRule(data)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRule(again); err != nil {
			t.Fatal(err)
		}
	})
}
