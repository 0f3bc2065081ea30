package approval

import "slices"

// Quorum reports whether n of the named principals approved by signing. n below 1 is never reached.
// A principal counts once over all keys and sources.
func Quorum(valid []Approval, names []string, n int) bool {
	return QuorumFrom(valid, names, n, SourceSigned)
}

// QuorumFrom is Quorum over approvals of the given sources.
func QuorumFrom(valid []Approval, names []string, n int, sources ...string) bool {
	return n >= 1 && len(Approvers(valid, names, sources...)) >= n
}

// Approvers are the named principals with an approval of the sources (none given: signed ones)
// and without a veto, sorted.
func Approvers(valid []Approval, names []string, sources ...string) []string {
	if len(sources) == 0 {
		sources = []string{SourceSigned}
	}
	out := []string{}
	for _, a := range valid {
		if a.Decision == Approve && slices.Contains(sources, a.Source) && slices.Contains(names, a.Principal) && !vetoed(valid, a.Principal) {
			out = append(out, a.Principal)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Missing are the names that have not approved, in the order given.
func Missing(valid []Approval, names []string, sources ...string) []string {
	have := Approvers(valid, names, sources...)
	out := []string{}
	for _, n := range names {
		if !slices.Contains(have, n) && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// Vetoes are the rejects among the valid ones, of whichever source. Who may veto is the caller's to say.
func Vetoes(valid []Approval) []Approval {
	return slices.DeleteFunc(slices.Clone(valid), func(a Approval) bool { return a.Decision != Reject })
}

func vetoed(valid []Approval, principal string) bool {
	return slices.ContainsFunc(valid, func(a Approval) bool { return a.Decision == Reject && a.Principal == principal })
}
