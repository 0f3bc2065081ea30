package chain

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
)

// Weakens says in which ways a record lets through what the one before it would not: fewer or other
// people, other keys, weaker evidence, shorter delays, a relaxed mode, no policy. Whether the new
// policy text is weaker nobody can compute; people read it.
func Weakens(before, after *record.Record) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if before.Policy != nil {
		switch {
		case after.Policy == nil:
			add("the policy is gone")
		case before.Policy.Mode == record.Enforce && after.Policy.Mode != record.Enforce:
			add("the mode is %s", after.Policy.Mode)
		}
	}
	if before.Owner != nil {
		if before.Owner.Reserve && (after.Owner == nil || !after.Owner.Reserve) {
			add("first policies are not reserved")
		}
		if before.Owner.Require && (after.Owner == nil || !after.Owner.Require) {
			add("policies are not required")
		}
	}
	return append(out, weakerPeople(before.Doc, after.Doc)...)
}

func weakerPeople(before, after *authority.Document) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, name := range slices.Sorted(maps.Keys(after.Roles)) {
		role, was := after.Roles[name], before.Roles[name]
		if was == nil {
			was = &authority.Role{}
			if name != authority.RoleRecover {
				continue // a list that nothing used
			}
			add("there is a role recover")
		}
		if role.Threshold < was.Threshold {
			add("%s needs %d instead of %d", name, role.Threshold, was.Threshold)
		}
		if role.Delay < was.Delay {
			add("%s waits %s instead of %s", name, role.Delay, was.Delay)
		}
		for _, p := range role.Principals {
			if !was.Has(p) {
				add("%s is added to %s", p, name)
			}
		}
		for _, e := range role.Evidence {
			if !was.Accepts(e) {
				add("%s accepts %s", name, e)
			}
		}
	}
	for _, name := range after.Names() {
		if p := before.Principals[name]; p != nil {
			out = append(out, weakerKeys(p, after.Principals[name])...)
		}
	}
	if after.Approval.MaxAge > before.Approval.MaxAge {
		add("approvals are valid for %s instead of %s", after.Approval.MaxAge, before.Approval.MaxAge)
	}
	if after.Approval.CarryOver && !before.Approval.CarryOver {
		add("approvals outlive the policy's next version")
	}
	if before.Approval.SingleUse && !after.Approval.SingleUse {
		add("approvals are not for one build")
	}
	if after.WeakeningDelay < before.WeakeningDelay {
		add("weaker policies wait %s instead of %s", after.WeakeningDelay, before.WeakeningDelay)
	}
	return out
}

func weakerKeys(before, after *authority.Principal) []string {
	var out []string
	keys := map[string]*authority.Key{}
	for _, k := range before.Keys {
		keys[k.ID()] = k
	}
	for _, k := range after.Keys {
		was := keys[k.ID()]
		switch {
		case was == nil:
			out = append(out, after.Name+" has a new key")
			continue
		case was.RequireUV && !k.RequireUV:
			out = append(out, after.Name+" need not verify at a key")
		case was.Protection != k.Protection && k.Protection != authority.Software: // rules may ask for it
			out = append(out, fmt.Sprintf("%s has a key that is said to be %s instead of %s", after.Name, k.Protection, was.Protection))
		case k.Attested && (!was.Attested || was.AttestationRoot != k.AttestationRoot):
			out = append(out, after.Name+" has a key that is said to be attested")
		case k.NotBefore.Before(was.NotBefore):
			out = append(out, after.Name+" has a key from earlier on")
		case !k.NotAfter.Equal(was.NotAfter) && (k.NotAfter.IsZero() || !was.NotAfter.IsZero() && k.NotAfter.After(was.NotAfter)):
			out = append(out, after.Name+" has a key for longer")
		}
		for _, use := range k.Uses {
			if !was.May(use) {
				out = append(out, fmt.Sprintf("%s has a key that may %s", after.Name, use))
			}
		}
	}
	for host, id := range after.Accounts {
		if before.Accounts[host] != id {
			out = append(out, fmt.Sprintf("%s has another account on %s", after.Name, host))
		}
	}
	if before.Machine && !after.Machine {
		out = append(out, after.Name+" is no machine any more")
	}
	slices.Sort(out)
	return out
}
