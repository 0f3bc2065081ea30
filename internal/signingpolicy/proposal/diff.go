package proposal

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
)

// Change is one thing that two policies have differently.
type Change struct {
	What    string `json:"what"` // "person", "key", "account", "role", "approvals", "delay", "rules", "mode", "name", "owner", or "policy" of all of it
	Text    string `json:"text"`
	Weakens bool   `json:"weakens"` // what the one before would not let through, this may
}

// Diff is what a policy changes of the one before it; nil before: the first one. Both need Doc,
// Policy and Owner. That any of it weakens is what [chain.Weakens] says, which decides
// whether the policy must wait.
func Diff(before, after *record.Record) []Change {
	if before == nil {
		before = &record.Record{Doc: &authority.Document{}}
	}
	d := &differ{first: len(before.Doc.Principals) == 0}
	d.place(before, after)
	d.policy(before, after)
	d.people(before.Doc, after.Doc)
	d.roles(before.Doc, after.Doc)
	d.approvals(before.Doc, after.Doc)
	if d.first { // nothing was promised before
		for i := range d.out {
			d.out[i].Weakens = false
		}
		return d.out
	}
	if !slices.ContainsFunc(d.out, func(c Change) bool { return c.Weakens }) {
		for _, why := range chain.Weakens(before, after) { // nothing that counts as weaker goes unsaid
			d.add("policy", true, "%s", why)
		}
	}
	return d.out
}

// Weakens reports whether any of the changes does.
func Weakens(changes []Change) bool {
	return slices.ContainsFunc(changes, func(c Change) bool { return c.Weakens })
}

type differ struct {
	first bool
	out   []Change
}

func (d *differ) add(what string, weakens bool, format string, args ...any) {
	d.out = append(d.out, Change{What: what, Text: fmt.Sprintf(format, args...), Weakens: weakens})
}

func (d *differ) place(before, after *record.Record) {
	if before.Name != after.Name && before.Name != "" {
		d.add("name", false, "%s instead of %s", after.Name, before.Name)
	}
	if before.OwnerID != after.OwnerID && before.OwnerID != "" {
		d.add("owner", false, "%s instead of %s", after.OwnerID, before.OwnerID)
	}
	was, is := before.Owner, after.Owner
	if was == nil {
		was = &record.Owner{}
	}
	if is == nil {
		is = &record.Owner{}
	}
	if was.Reserve != is.Reserve {
		d.add("owner", was.Reserve, "first policies of its repositories are %sreserved", not(is.Reserve))
	}
	if was.Require != is.Require {
		d.add("owner", was.Require, "policies of its repositories are %srequired", not(is.Require))
	}
}

func not(yes bool) string {
	if yes {
		return ""
	}
	return "not "
}

func (d *differ) policy(before, after *record.Record) {
	was, is := before.Policy, after.Policy
	switch {
	case was == nil && is == nil:
	case is == nil:
		d.add("policy", true, "there is none any more")
	case was == nil:
		d.add("rules", false, "%s", is.Bundle)
		d.add("mode", false, "%s", is.Mode)
	default:
		if was.Bundle != is.Bundle {
			d.add("rules", false, "%s instead of %s: read them, nobody can compute whether they are weaker", is.Bundle, was.Bundle)
		}
		if was.Mode != is.Mode {
			d.add("mode", is.Mode != record.Enforce, "%s instead of %s", is.Mode, was.Mode)
		}
		if was.InputSchema != is.InputSchema || was.Lib != is.Lib {
			d.add("rules", false, "for input %s and library %s instead of %s and %s", is.InputSchema, is.Lib, was.InputSchema, was.Lib)
		}
	}
}

func (d *differ) people(before, after *authority.Document) {
	for _, name := range union(before.Principals, after.Principals) {
		was, is := before.Principals[name], after.Principals[name]
		switch {
		case was == nil:
			d.add("person", false, "%s is added%s", name, machine(is))
			for _, k := range is.Keys {
				d.add("key", false, "%s: %s is added", name, describe(k))
			}
			d.accounts(name, nil, is.Accounts, false)
		case is == nil:
			d.add("person", false, "%s is removed%s", name, machine(was))
		default:
			if was.Machine != is.Machine {
				d.add("person", was.Machine, "%s is %sa machine, which never approves", name, not(is.Machine))
			}
			d.keys(name, was, is)
			d.accounts(name, was.Accounts, is.Accounts, true)
		}
	}
}

func machine(p *authority.Principal) string {
	if p.Machine {
		return ", a machine"
	}
	return ""
}

func (d *differ) accounts(name string, was, is map[string]string, weakens bool) {
	for _, host := range union(was, is) {
		switch {
		case was[host] == is[host]:
		case is[host] == "":
			d.add("account", false, "%s: %s on %s is removed", name, was[host], host)
		default:
			d.add("account", weakens, "%s: %s on %s is added", name, is[host], host)
		}
	}
}

func (d *differ) keys(name string, before, after *authority.Principal) {
	byID := func(p *authority.Principal) map[string]*authority.Key {
		out := map[string]*authority.Key{}
		for _, k := range p.Keys {
			out[k.ID()] = k
		}
		return out
	}
	had, has := byID(before), byID(after)
	for _, id := range union(had, has) {
		was, is := had[id], has[id]
		switch {
		case was == nil:
			d.add("key", true, "%s: %s is added", name, describe(is))
		case is == nil:
			d.add("key", false, "%s: %s is removed", name, describe(was))
		default:
			d.key(name, was, is)
		}
	}
}

// key is about one key that both have.
func (d *differ) key(name string, was, is *authority.Key) {
	say := func(weakens bool, format string, args ...any) {
		d.add("key", weakens, "%s: %s %s %s", name, is.Kind, is.ID(), fmt.Sprintf(format, args...))
	}
	if was.Protection != is.Protection {
		say(is.Protection != authority.Software, "is said to be %s instead of %s", is.Protection, was.Protection)
	}
	if was.RequireUV != is.RequireUV {
		say(was.RequireUV, "need%s verify its user", map[bool]string{true: "s to", false: " not"}[is.RequireUV])
	}
	for _, use := range is.Uses {
		if !was.May(use) {
			say(true, "may %s", use)
		}
	}
	for _, use := range was.Uses {
		if !is.May(use) {
			say(false, "may not %s any more", use)
		}
	}
	if !was.NotBefore.Equal(is.NotBefore) {
		say(is.NotBefore.Before(was.NotBefore), "is valid from %s instead of %s", bound(is.NotBefore), bound(was.NotBefore))
	}
	if !was.NotAfter.Equal(is.NotAfter) {
		longer := is.NotAfter.IsZero() || !was.NotAfter.IsZero() && is.NotAfter.After(was.NotAfter)
		say(longer, "is valid until %s instead of %s", bound(is.NotAfter), bound(was.NotAfter))
	}
	if was.Attested != is.Attested || was.AttestationRoot != is.AttestationRoot {
		say(is.Attested, "is %sattested by its vendor", not(is.Attested))
	}
}

func bound(t time.Time) string {
	if t.IsZero() {
		return "always"
	}
	return t.UTC().Format(time.RFC3339)
}

func describe(k *authority.Key) string {
	more := ""
	if k.RequireUV {
		more = ", verifies its user"
	}
	if !k.NotAfter.IsZero() {
		more += ", until " + bound(k.NotAfter)
	}
	return fmt.Sprintf("%s %s, %s%s, may %s", k.Kind, k.ID(), k.Protection, more, strings.Join(k.Uses, ", "))
}

func (d *differ) roles(before, after *authority.Document) {
	for _, name := range union(before.Roles, after.Roles) {
		was, is := before.Roles[name], after.Roles[name]
		switch {
		case was == nil:
			d.add("role", name == authority.RoleRecover, "%s is added: %s", name, roleText(is))
		case is == nil:
			d.add("role", false, "%s is removed: %s", name, roleText(was))
		default:
			d.role(name, was, is)
		}
	}
}

func roleText(r *authority.Role) string {
	text := strings.Join(r.Principals, ", ")
	if r.Threshold > 0 {
		text = fmt.Sprintf("%d of %s by %s", r.Threshold, text, strings.Join(r.Evidence, ", "))
	}
	if r.Delay > 0 {
		text += ", after " + r.Delay.String()
	}
	return text
}

func (d *differ) role(name string, was, is *authority.Role) {
	if was.Threshold != is.Threshold {
		d.add("role", is.Threshold < was.Threshold, "%s needs %d instead of %d", name, is.Threshold, was.Threshold)
	}
	if was.Delay != is.Delay {
		d.add("role", is.Delay < was.Delay, "%s waits %s instead of %s", name, is.Delay, was.Delay)
	}
	for _, list := range []struct {
		was, is     []string
		more, fewer string
	}{{was.Principals, is.Principals, "%s has %s", "%s has %s no more"}, {was.Evidence, is.Evidence, "%s accepts %s", "%s accepts %s no more"}} {
		for _, one := range list.is {
			if !slices.Contains(list.was, one) {
				d.add("role", true, list.more, name, one)
			}
		}
		for _, one := range list.was {
			if !slices.Contains(list.is, one) {
				d.add("role", false, list.fewer, name, one)
			}
		}
	}
}

func (d *differ) approvals(before, after *authority.Document) {
	if d.first {
		d.add("approvals", false, "are valid for at most %s", after.Approval.MaxAge)
		d.add("delay", false, "weaker policies wait %s", after.WeakeningDelay)
		return
	}
	was, is := before.Approval, after.Approval
	if was.MaxAge != is.MaxAge {
		d.add("approvals", is.MaxAge > was.MaxAge, "are valid for at most %s instead of %s", is.MaxAge, was.MaxAge)
	}
	if was.CarryOver != is.CarryOver {
		d.add("approvals", is.CarryOver, "do %soutlive the policy's next version", not(is.CarryOver))
	}
	if was.SingleUse != is.SingleUse {
		d.add("approvals", was.SingleUse, "are %sfor one build", not(is.SingleUse))
	}
	if before.WeakeningDelay != after.WeakeningDelay {
		d.add("delay", after.WeakeningDelay < before.WeakeningDelay, "weaker policies wait %s instead of %s", after.WeakeningDelay, before.WeakeningDelay)
	}
}

// union are the names of both, sorted.
func union[V any](a, b map[string]V) []string {
	all := maps.Clone(b)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, a)
	return slices.Sorted(maps.Keys(all))
}
