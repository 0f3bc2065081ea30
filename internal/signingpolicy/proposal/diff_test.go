package proposal_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/policyforge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/proposal"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
)

type edit = func(principals, roles map[string]any)

// side is a policy of alice, bob and carol, two of whom update, as a record has it.
func side(t *testing.T, w *policyforge.World, threshold int, people []string, edits ...edit) *record.Record {
	t.Helper()
	doc, why := authority.Parse(w.Authority(policyforge.Role{Threshold: threshold, People: people}, edits...))
	if doc == nil {
		t.Fatal(why)
	}
	return &record.Record{Doc: doc, Predicate: record.Predicate{Policy: &record.Policy{Bundle: evidence.SHA256([]byte("rules")), Mode: record.Enforce, InputSchema: "v1", Lib: "v1"}}}
}

// key changes the one key of a person.
func key(name, member string, value any) edit {
	return func(principals, _ map[string]any) {
		p := maps.Clone(principals[name].(map[string]any))
		k := maps.Clone(p["keys"].([]any)[0].(map[string]any))
		if k[member] = value; value == nil {
			delete(k, member)
		}
		p["keys"] = []any{k}
		principals[name] = p
	}
}

// TestDiff: each change is named, and marked exactly where the chain has a record wait for it.
func TestDiff(t *testing.T) {
	t.Parallel()
	w := policyforge.New(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))
	all := []string{"alice", "bob", "carol"}
	recovery := w.WithRole("recover", policyforge.Role{Threshold: 1, People: []string{"cold"}, Delay: "72h"})
	recoverSoon := w.WithRole("recover", policyforge.Role{Threshold: 1, People: []string{"cold"}, Delay: "24h"})
	was := side(t, w, 2, all)
	change := func(f func(*record.Record)) *record.Record {
		r := side(t, w, 2, all)
		f(r)
		return r
	}
	rules := evidence.SHA256([]byte("other rules"))
	for name, c := range map[string]struct {
		before, after *record.Record
		want          []string // "!" begins what weakens
	}{
		"nothing":      {was, side(t, w, 2, all), nil},
		"threshold -":  {was, side(t, w, 1, all), []string{"!role: update needs 1 instead of 2"}},
		"threshold +":  {was, side(t, w, 3, all), []string{"role: update needs 3 instead of 2"}},
		"person -":     {was, side(t, w, 2, all[:2]), []string{"person: carol is removed", "role: update has carol no more"}},
		"person +":     {side(t, w, 2, all[:2]), was, []string{"person: carol is added", "key: *", "!role: update has carol"}},
		"protection +": {was, side(t, w, 2, all, key("alice", "protection", "hsm")), []string{"!key: *"}},
		"protection -": {side(t, w, 2, all, key("alice", "protection", "hsm")), was, []string{"key: *"}},
		"use +":        {was, side(t, w, 2, all, key("alice", "uses", []any{"approve", "update", "tag", "recover"})), []string{"!key: *", "!key: *"}},
		"use -":        {side(t, w, 2, all, key("alice", "uses", []any{"approve", "update", "tag"})), side(t, w, 2, all, key("alice", "uses", []any{"approve", "update"})), []string{"key: *"}},
		"valid longer": {side(t, w, 2, all, key("alice", "notAfter", "2027-01-01T00:00:00Z")), was, []string{"!key: *"}},
		"not so long":  {was, side(t, w, 2, all, key("alice", "notAfter", "2027-01-01T00:00:00Z")), []string{"key: *"}},
		"valid sooner": {side(t, w, 2, all, key("alice", "notBefore", "2026-01-01T00:00:00Z")), was, []string{"!key: *"}},
		"recovery +":   {was, side(t, w, 2, all, recovery), []string{"person: cold is added", "key: *", "!role: recover is added: 1 of cold by signed, after 72h0m0s"}},
		"recovery -":   {side(t, w, 2, all, recovery), was, []string{"person: cold is removed", "role: recover is removed: 1 of cold by signed, after 72h0m0s"}},
		"delay -":      {side(t, w, 2, all, recovery), side(t, w, 2, all, recoverSoon), []string{"!role: recover waits 24h0m0s instead of 72h0m0s"}},
		"delay +":      {side(t, w, 2, all, recoverSoon), side(t, w, 2, all, recovery), []string{"role: recover waits 72h0m0s instead of 24h0m0s"}},
		"rules":        {was, change(func(r *record.Record) { r.Policy.Bundle = rules }), []string{"rules: *"}},
		"mode":         {was, change(func(r *record.Record) { r.Policy.Mode = record.Warn }), []string{"!mode: warn instead of enforce"}},
		"mode back":    {change(func(r *record.Record) { r.Policy.Mode = record.Warn }), was, []string{"mode: enforce instead of warn"}},
		"tombstone":    {was, change(func(r *record.Record) { r.Policy = nil }), []string{"!policy: there is none any more"}},
		"revived":      {change(func(r *record.Record) { r.Policy = nil }), was, []string{"rules: *", "mode: enforce"}},
		"longer approvals": {was, change(func(r *record.Record) { d := *r.Doc; d.Approval.MaxAge *= 2; r.Doc = &d }),
			[]string{"!approvals: are valid for at most 336h0m0s instead of 168h0m0s"}},
		"carry over": {was, change(func(r *record.Record) { d := *r.Doc; d.Approval.CarryOver = true; r.Doc = &d }), []string{"!approvals: do outlive the policy's next version"}},
		"single use": {was, change(func(r *record.Record) { d := *r.Doc; d.Approval.SingleUse = true; r.Doc = &d }), []string{"approvals: are for one build"}},
		"no wait":    {was, change(func(r *record.Record) { d := *r.Doc; d.WeakeningDelay = 0; r.Doc = &d }), []string{"!delay: weaker policies wait 0s instead of 1h0m0s"}},
		"demand":     {change(func(r *record.Record) { r.Owner = &record.Owner{Require: true} }), was, []string{"!owner: policies of its repositories are not required"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := proposal.Diff(c.before, c.after)
			var lines []string
			for i, g := range got {
				text := g.Text
				if i < len(c.want) && (c.want[i] == g.What+": *" || c.want[i] == "!"+g.What+": *") {
					text = "*"
				}
				line := g.What + ": " + text
				if g.Weakens {
					line = "!" + line
				}
				lines = append(lines, line)
			}
			if d := cmp.Diff(c.want, lines); d != "" {
				t.Errorf("-want +got\n%s%v", d, got)
			}
			if weaker := chain.Weakens(c.before, c.after); proposal.Weakens(got) != (len(weaker) > 0) {
				t.Errorf("marked %v, and the chain says %q", proposal.Weakens(got), weaker)
			}
		})
	}
}

// TestDiffOfTheFirst: nothing before it is weakened.
func TestDiffOfTheFirst(t *testing.T) {
	t.Parallel()
	w := policyforge.New(time.Now())
	got := proposal.Diff(nil, side(t, w, 2, []string{"alice", "bob"}))
	if proposal.Weakens(got) || !slices.ContainsFunc(got, func(c proposal.Change) bool { return c.Text == "update is added: 2 of alice, bob by signed" }) {
		t.Errorf("%+v", got)
	}
}
