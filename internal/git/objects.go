package git

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Objects are what a ref leads to, as it lies in the repository.
type Objects struct {
	Ref            string // full name, or the commit's id when that was asked for
	Checksum       string // the tag object, or the commit
	CommitChecksum string
	Commit         []byte // content of the commit object
	Tag            []byte // content of the tag object; nil when the ref is not an annotated tag
}

// FetchObjects fetches exactly one ref, the default branch when ref is empty, or one
// commit by its id, and reads its objects, whose grammar and ids are checked as by
// [Open]. Exactly one of the three answers is not nil.
func FetchObjects(ctx context.Context, location Location, ref string) (o *Objects, why *policy.Reason, err error) {
	r, err := newRunner(location)
	if err != nil {
		return nil, nil, err
	}
	s := &Source{Location: location, run: r, lean: true}
	defer func() { err = errors.Join(err, s.Close()) }()
	switch {
	case validID(ref):
		why, err = s.openCommit(ctx, ref, ref)
	case ref == "":
		if ref, err = r.head(ctx); err != nil {
			return nil, nil, err
		}
		fallthrough
	default:
		why, err = s.open(ctx, ref)
	}
	if why != nil || err != nil {
		return nil, why, err
	}
	o = &Objects{Ref: s.Git.Ref, Checksum: s.Git.Checksum, CommitChecksum: s.Git.CommitChecksum}
	if _, o.Commit, err = s.object(ctx, o.CommitChecksum); err == nil && o.Checksum != o.CommitChecksum {
		_, o.Tag, err = s.object(ctx, o.Checksum)
	}
	if err != nil {
		return nil, nil, err
	}
	return o, nil, nil
}

// OpenCommit is [Open] for one commit by its id, whatever refs lead to it: Git.Ref is the
// id, and nobody can move it. Whether it is the repository's own only [Source.Reachable] tells.
func OpenCommit(ctx context.Context, location Location, id string) (*Source, *policy.Reason, error) {
	if !validID(id) {
		return nil, nil, fault.Usagef("%q is not the id of a commit", clip(id))
	}
	r, err := newRunner(location)
	if err != nil {
		return nil, nil, err
	}
	s := &Source{Location: location, run: r}
	s.Alone = true
	why, err := s.openCommit(ctx, id, id)
	if why != nil || err != nil {
		return nil, why, errors.Join(err, s.Close())
	}
	return s, nil, nil
}

// OpenAt is [Open] for what a ref (its full name) led to at a moment: a tag must lead to the
// commit still, a branch must have it in its history. When the branch is gone, or the ref is
// neither, the source is Alone.
func OpenAt(ctx context.Context, location Location, ref, id string) (*Source, *policy.Reason, error) {
	if err := checkRefName(ref); err != nil || !validID(id) {
		return nil, nil, fault.Usagef("%q at %q: want the full name of a ref, and the id of a commit", clip(ref), clip(id))
	}
	r, err := newRunner(location)
	if err != nil {
		return nil, nil, err
	}
	s := &Source{Location: location, run: r}
	why, err := s.openAt(ctx, ref, id)
	if why != nil || err != nil {
		return nil, why, errors.Join(err, s.Close())
	}
	return s, nil, nil
}

func (s *Source) openAt(ctx context.Context, ref, id string) (*policy.Reason, error) {
	tips, err := s.list(ctx, []string{ref})
	if err != nil {
		return nil, err
	}
	is := tips[ref]
	if strings.HasPrefix(ref, "refs/tags/") {
		if is.id != id && is.peeled != id {
			return moved(ref, id, cmp.Or(is.peeled, is.id)), nil
		}
		why, err := s.open(ctx, ref)
		if why == nil && err == nil && s.Git.CommitChecksum != id {
			why = moved(ref, id, s.Git.CommitChecksum)
		}
		return why, err
	}
	if why, err := s.openCommit(ctx, id, ref); why != nil || err != nil || is.id == id {
		return why, err
	}
	if is.id != "" && strings.HasPrefix(ref, "refs/heads/") {
		return s.Reachable(ctx, ref)
	}
	s.Alone = true
	return nil, nil
}

// IsCommit reports whether a ref is the id of an object and no name.
func IsCommit(ref string) bool { return validID(ref) }

// openCommit fetches one commit by its id, which not every server gives out, as what a ref led to.
func (s *Source) openCommit(ctx context.Context, id, ref string) (*policy.Reason, error) {
	if err := s.run.init(ctx, len(id)); err != nil {
		return nil, err
	}
	if err := s.fetch(ctx, id); err != nil {
		return nil, err
	}
	return s.read(ctx, ref, tip{id: id})
}

// head is the full name of the default branch.
func (r *runner) head(ctx context.Context) (string, error) {
	out, err := r.run(ctx, "asking for the default branch of "+r.location.String(), "ls-remote", "--quiet", "--symref",
		"--end-of-options", r.location.argument(), "HEAD")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(out)) {
		target, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if ref, ok := strings.CutPrefix(target, "ref: "); ok && name == "HEAD" && strings.HasPrefix(ref, "refs/heads/") {
			return ref, nil
		}
	}
	return "", fault.Hint(fmt.Errorf("%s has no default branch", r.location), "name a tag or a branch")
}
