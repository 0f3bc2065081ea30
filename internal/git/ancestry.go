package git

import "context"

// Ancestry is on which branches a commit lies.
type Ancestry struct {
	// Known is false when the history is not all there (a shallow or damaged repository),
	// or too long to be read; Why says so. The lists then hold what was found all the
	// same, and a branch that is missing in them may still contain the commit.
	Known bool
	Why   string

	ContainedIn   []string // full names of the branches that contain it, sorted
	FirstParentIn []string // those of them that have it among their first parents
}

// Ancestry looks on which of the branches (full names; nil: all of them) the commit lies.
// A branch that does not exist contains nothing.
func (r *Repository) Ancestry(ctx context.Context, commit string, branches []string) (*Ancestry, error) {
	panic("not yet")
}

// Range is what lies between two commits.
type Range struct {
	Known      bool // false as in [Ancestry]; IsAncestor is true only when it was seen
	Why        string
	IsAncestor bool      // base lies in the history of head
	Count      int       // commits of head's history that are not in base's
	Unsigned   int       // those of them without a signature
	Commits    []*Commit // the same, newest first as they were reached, at most max
}

// Between reads the commits that head has and base has not; base "" for all of them.
func (r *Repository) Between(ctx context.Context, base, head string, max int) (*Range, error) {
	panic("not yet")
}
