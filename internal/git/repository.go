package git

import (
	"context"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// CodeCollision is an object made so that another one has the same SHA-1.
const CodeCollision = "OBJECT_COLLISION"

// Repository is a repository that is read for a decision: one behind a URL, of which
// exactly what is asked for is fetched into a private folder, or a folder of this machine,
// which is read where it lies. Nothing in it is run or obeyed: not its configuration,
// hooks, attributes, replacements, grafts and commit-graph files; one that borrows
// objects from elsewhere (alternates) is FETCH_REFUSED. It may be used by one goroutine at
// a time. Close it.
type Repository struct {
	Location Location

	run *runner
}

// OpenRepository opens a repository. A URL is not asked before something is wanted of it.
func OpenRepository(ctx context.Context, location Location) (*Repository, *policy.Reason, error) {
	panic("not yet")
}

// Close removes what was fetched.
func (r *Repository) Close() error { panic("not yet") }

// Release is what a ref leads to: facts of which nothing is judged yet.
type Release struct {
	Git       policy.Git // as the policy sees it, without a signer
	Tag       *Tag       // nil when the ref is not an annotated tag
	Commit    *Commit
	RawTag    []byte // content of the tag object, from which its id was computed; nil without one
	RawCommit []byte // the same for the commit
	SHA256    bool   // the repository's ids are SHA-256
}

// Release reads what a ref points to now: a full name ("refs/tags/v1.0.0"), a short one,
// which must not be both a tag and a branch, the id of a commit, or "" for the default
// branch. Ids are computed here, and SHA-1 ones are looked at for collisions
// (OBJECT_COLLISION). Exactly one of the three answers is not nil. Other codes:
// TAG_MALFORMED, TAG_TARGET_TYPE, TAG_MOVED (while it was read), FETCH_REFUSED.
func (r *Repository) Release(ctx context.Context, ref string) (*Release, *policy.Reason, error) {
	panic("not yet")
}

// Moved asks again whether the release's ref points to what was read: TAG_MOVED when not.
func (r *Repository) Moved(ctx context.Context, rel *Release) (*policy.Reason, error) {
	panic("not yet")
}

// DefaultBranch is the full name of the default branch, refs/heads/…
func (r *Repository) DefaultBranch(ctx context.Context) (string, error) { panic("not yet") }

// Tags are the tags of the repository as it lists them, at most max, sorted by name; more
// is true when there are others.
func (r *Repository) Tags(ctx context.Context, max int) (tags []Tip, more bool, err error) {
	panic("not yet")
}
