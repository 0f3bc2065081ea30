package git

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
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

	run     *runner
	history *runner // of a URL: what was fetched for its parents, without trees; nil before
	trees   *runner // of a URL: whole commits
}

// OpenRepository opens a repository. A URL is not asked before something is wanted of it.
func OpenRepository(ctx context.Context, location Location) (*Repository, *policy.Reason, error) {
	run, err := newRunner(location)
	if err != nil {
		return nil, nil, err
	}
	r := &Repository{Location: location, run: run}
	if location.Path == "" {
		return r, nil, nil
	}
	run.place = true
	why, err := run.openInPlace(ctx)
	if why != nil || err != nil {
		return nil, why, errors.Join(err, r.Close())
	}
	return r, nil, nil
}

// Close removes what was fetched.
func (r *Repository) Close() error {
	err := r.run.remove()
	for _, other := range []*runner{r.history, r.trees} {
		if other != nil && other != r.run {
			err = errors.Join(err, other.remove())
		}
	}
	return err
}

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
	s := &Source{Location: r.Location, run: r.run, lean: true}
	why, err := r.read(ctx, s, ref)
	if why != nil || err != nil {
		return nil, why, err
	}
	return &Release{Git: s.Git, Tag: s.Tag, Commit: s.Commit, RawTag: s.rawTag, RawCommit: s.rawCommit,
		SHA256: len(s.Commit.ID) == 64}, nil, nil
}

func (r *Repository) read(ctx context.Context, s *Source, ref string) (why *policy.Reason, err error) {
	if ref == "" {
		if ref, err = r.DefaultBranch(ctx); err != nil {
			return nil, err
		}
	}
	switch {
	case validID(ref) && r.run.place:
		return s.read(ctx, ref, tip{id: ref})
	case validID(ref):
		return s.openCommit(ctx, ref, ref)
	case !r.run.place:
		return s.open(ctx, ref)
	}
	t, full, err := s.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	return s.read(ctx, full, t)
}

// Verify judges the release's tag as [VerifyTag] does; TAG_NOT_ANNOTATED when it has none.
// It fills Git.Tag.Signer when it returns no reason.
func (rel *Release) Verify(keys []TagKey, now time.Time) (*Signer, *policy.Reason) {
	if rel.Tag == nil {
		return nil, notAnnotated(rel.Git)
	}
	signer, why := VerifyTag(rel.Tag, rel.Git.Ref, keys, now)
	if why == nil {
		rel.Git.Tag.Signer = &policy.TagSigner{Kind: signer.Kind, Fingerprint: signer.Fingerprint, Principals: []string{signer.Principal}}
	}
	return signer, why
}

// Moved asks again whether the release's ref points to what was read: TAG_MOVED when not.
func (r *Repository) Moved(ctx context.Context, rel *Release) (*policy.Reason, error) {
	if validID(rel.Git.Ref) {
		return nil, nil
	}
	s := &Source{Location: r.Location, run: r.run, Git: rel.Git}
	return s.Moved(ctx)
}

// DefaultBranch is the full name of the default branch, refs/heads/…: for a folder, of
// the one that is checked out.
func (r *Repository) DefaultBranch(ctx context.Context) (string, error) {
	if !r.run.place {
		return r.run.head(ctx)
	}
	if r.run.detached {
		return "", fault.Hint(fmt.Errorf("%s has no branch checked out", r.Location), "name a tag or a branch")
	}
	out, err := r.run.run(ctx, "asking for the branch of "+r.Location.String(), "-C", r.run.repo(), "symbolic-ref", "HEAD")
	if err != nil {
		return "", err
	}
	ref := strings.TrimSpace(string(out))
	if err := checkRefName(ref); err != nil || !strings.HasPrefix(ref, "refs/heads/") {
		return "", fault.Hint(fmt.Errorf("%s has no branch checked out", r.Location), "name a tag or a branch")
	}
	return ref, nil
}

// Tags are the tags of the repository as it lists them, at most max, sorted by name; more
// is true when there are others.
func (r *Repository) Tags(ctx context.Context, max int) (tags []Tip, more bool, err error) {
	peeled := map[string]string{}
	err = r.run.refs(ctx, "refs/tags/", true, func(id, name string) error {
		if name, ok := strings.CutSuffix(name, "^{}"); ok {
			peeled[name] = id
			return nil
		}
		if len(tags) >= max {
			more = true
			return errEnough
		}
		tags = append(tags, Tip{Ref: name, ID: id, Commit: id})
		return nil
	})
	for i := range tags {
		if id, ok := peeled[tags[i].Ref]; ok {
			tags[i].Commit = id
		}
	}
	return tags, more, err
}
