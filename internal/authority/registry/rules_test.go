package registry_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
)

func rules(t testing.TB, text string) *registry.Rules {
	t.Helper()
	r, err := registry.ParseRules("registry.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const teams = `
rights:
  - repositories: ["public/**"]
    principals: [anyone]
    actions: [pull]
  - repositories: [team-a/**, shared/*-base]
    principals: [user:alice, "identity:*@a.example"]
    actions: [pull, push]
  - repositories: ["**"]
    principals: [user:root]
    actions: [pull, push, delete]
  - repositories: [news]
    principals: [authenticated]
    actions: [pull]
  - repositories: [ci/*/app]
    principals: ["identity:https://github.com/org/app/.github/workflows/release.yml@*", "identity:https://ci.example/*"]
    actions: [push]
`

func TestRights(t *testing.T) {
	t.Parallel()
	r := rules(t, teams)
	for _, tc := range []struct {
		who    registry.Principal
		repo   string
		action registry.Action
		want   bool
	}{
		{registry.Anonymous, "public/x", registry.Pull, true},
		{registry.Anonymous, "public", registry.Pull, true},
		{registry.Anonymous, "public/a/b/c", registry.Pull, true},
		{registry.Anonymous, "publicity", registry.Pull, false},
		{registry.Anonymous, "public/x", registry.Push, false},
		{registry.Anonymous, "news", registry.Pull, false},
		{"user:alice", "public/x", registry.Pull, true},
		{"user:alice", "team-a/x/y", registry.Push, true},
		{"user:alice", "team-a/x", registry.Delete, false},
		{"user:alice", "team-ab/x", registry.Push, false},
		{"user:alice", "shared/debian-base", registry.Push, true},
		{"user:alice", "shared/x/debian-base", registry.Push, false},
		{"user:alice", "shared/debian", registry.Push, false},
		{"user:bob", "team-a/x", registry.Pull, false},
		{"user:bob", "news", registry.Pull, true},
		{"user:root", "any/thing", registry.Delete, true},
		{"identity:x@a.example", "team-a/x", registry.Push, true},
		{"identity:x@evil.a.example", "team-a/x", registry.Push, false},
		{"identity:https://evil/x@a.example", "team-a/x", registry.Push, false},
		{"identity:alice", "team-a/x", registry.Push, false},
		{"user:identity:x@a.example", "team-a/x", registry.Push, false},
		{"user:x@a.example", "team-a/x", registry.Push, false},
		{"identity:https://github.com/org/app/.github/workflows/release.yml@refs/tags/v1", "ci/x/app", registry.Push, true},
		{"identity:https://github.com/org/app/.github/workflows/release.yml.evil@refs/tags/v1", "ci/x/app", registry.Push, false},
		{"identity:https://ci.example/a/b", "ci/x/app", registry.Push, true},
		{"identity:https://ci.example.evil/a/b", "ci/x/app", registry.Push, false},
		{"identity:https://ci.example/a/b", "ci/x/y/app", registry.Push, false},
		{"anyone", "team-a/x", registry.Push, false},
	} {
		if got := r.Allows(tc.who, tc.repo, tc.action); got != tc.want {
			t.Errorf("%q may %s in %s: %v", tc.who, tc.action, tc.repo, got)
		}
	}
}

func TestRulesAreStrict(t *testing.T) {
	t.Parallel()
	right := func(repo, who, action string) string {
		return "rights:\n  - repositories: [" + repo + "]\n    principals: [" + who + "]\n    actions: [" + action + "]\n"
	}
	for name, tc := range map[string]struct{ text, want string }{
		"empty":            {"", "one YAML document"},
		"two documents":    {"gc: {}\n---\ngc: {}\n", "one YAML document"},
		"unknown word":     {"right: []\n", "right"},
		"unknown action":   {right("a", "anyone", "write"), "registry.yaml:2"},
		"no action":        {right("a", "anyone", ""), "actions are missing"},
		"no principal":     {right("a", "", "pull"), "principals are missing"},
		"no repository":    {right("", "anyone", "pull"), "repositories are missing"},
		"unknown kind":     {right("a", "group:x", "pull"), `"group:x"`},
		"bare name":        {right("a", "alice", "pull"), `"alice"`},
		"star principal":   {right("a", `"*"`, "pull"), `"*"`},
		"any identity":     {right("a", `"identity:*"`, "pull"), "identity"},
		"any host":         {right("a", `"identity:https://*"`, "pull"), "identity"},
		"half a host":      {right("a", `"identity:https://ci.example*"`, "pull"), "identity"},
		"half a path":      {right("a", `"identity:https://ci.example/org*"`, "pull"), "identity"},
		"star in middle":   {right("a", `"identity:https://*/x"`, "pull"), "identity"},
		"half a domain":    {right("a", `"identity:*@*.example"`, "pull"), "identity"},
		"upper-case glob":  {right("Team/*", "anyone", "pull"), "Team/*"},
		"climbing glob":    {right("../*", "anyone", "pull"), "../*"},
		"stars in a word":  {right(`"a**"`, "anyone", "pull"), "a**"},
		"empty component":  {right("a//b", "anyone", "pull"), "a//b"},
		"long glob":        {right(strings.Repeat("a/", 20)+"a", "anyone", "pull"), "components"},
		"size of nothing":  {"quotas:\n  - repositories: [a]\n    bytes: many\n", `"many"`},
		"negative size":    {"quotas:\n  - repositories: [a]\n    bytes: -1B\n", `"-1B"`},
		"overflowing size": {"quotas:\n  - repositories: [a]\n    bytes: 99999999999TiB\n", "99999999999TiB"},
		"size with no B":   {"quotas:\n  - repositories: [a]\n    bytes: 5G\n", "5G"},
		"short grace":      {"gc: {grace: 5m}\n", "grace"},
		"short period":     {"gc: {every: 1s}\n", "every"},
		"half untagged":    {"gc: {untagged: maybe}\n", "untagged"},
	} {
		if _, err := registry.ParseRules("registry.yaml", []byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "registry.yaml") {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
	r := rules(t, "gc: {every: 12h, grace: 48h, untagged: remove}\n")
	if want := (registry.Schedule{Every: 12 * time.Hour, Grace: 48 * time.Hour, Untagged: true}); r.GC != want {
		t.Errorf("%+v", r.GC)
	}
}

func FuzzRules(f *testing.F) {
	f.Add([]byte(teams), "user:alice", "team-a/x")
	f.Add([]byte("quotas:\n  - {repositories: [\"a*b*c/**/d\"], bytes: 1GiB}\ngc: {every: 24h}\n"), "identity:a@b", "abc/d")
	f.Fuzz(func(t *testing.T, data []byte, who, repo string) {
		r, err := registry.ParseRules("registry.yaml", data)
		if err != nil {
			return
		}
		// What everybody may do, those may who logged in; "" is nobody.
		if who != "" && r.Allows(registry.Anonymous, repo, registry.Push) && !r.Allows(registry.Principal(who), repo, registry.Push) {
			t.Errorf("%q may less than a stranger", who)
		}
	})
}
