package git

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/sha1collision"
)

// Source is one ref of a repository, fetched and parsed. Its objects lie in a
// private temporary repository: what was judged is what Export writes, whatever
// happens to the original meanwhile. Close removes it.
type Source struct {
	Location Location
	Git      policy.Git // as the policy sees it; Signer only after Verify
	Tag      *Tag       // nil when the ref is not an annotated tag
	Commit   *Commit
	// Alone is a commit that was asked for by its id, and that no ref was seen to lead to.
	Alone bool

	run               *runner
	lean              bool // only tag and commit are wanted
	rawTag, rawCommit []byte
}

// Open fetches exactly one ref. ref is a full name ("refs/tags/v1.0.0") or a
// short one, which must not be both a tag and a branch. Exactly one of the
// three answers is not nil: the source, why it is denied, or an error.
func Open(ctx context.Context, location Location, ref string) (*Source, *policy.Reason, error) {
	r, err := newRunner(location)
	if err != nil {
		return nil, nil, err
	}
	s := &Source{Location: location, run: r}
	why, err := s.open(ctx, ref)
	if why != nil || err != nil {
		return nil, why, errors.Join(err, s.Close())
	}
	return s, nil, nil
}

// Close removes the fetched objects.
func (s *Source) Close() error { return s.run.remove() }

func (s *Source) open(ctx context.Context, ref string) (*policy.Reason, error) {
	tip, full, err := s.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := s.run.init(ctx, len(tip.id)); err != nil {
		return nil, err
	}
	if err := s.fetch(ctx, full); err != nil {
		return s.refused(ctx, err, full, tip.id)
	}
	got, err := s.run.run(ctx, "reading "+full, "-C", s.run.repo(), "rev-parse", "--verify", "--end-of-options", fetchedRef)
	if err != nil {
		return nil, err
	}
	if id := strings.TrimSpace(string(got)); id != tip.id {
		return moved(full, tip.id, id), nil
	}
	return s.read(ctx, full, tip)
}

// fetch fetches one ref, or one commit by its id, without what lies behind it. A lean
// source has no trees either, where the server can leave them out.
func (s *Source) fetch(ctx context.Context, ref string) error {
	args := []string{"-C", s.run.repo(), "fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head"}
	from := s.run.location.argument()
	if s.lean {
		args = append([]string{"-c", "remote.source.promisor=true", "-c", "remote.source.url=" + from}, append(args, "--filter=tree:0")...)
		from = "source"
	}
	_, err := s.run.run(ctx, "fetching "+ref, append(args, "--end-of-options", from, "+"+ref+":"+fetchedRef)...)
	if err == nil && s.lean {
		err = s.run.forgetOrigin()
	}
	return err
}

// fetchedRef is where the one ref lands in the private repository.
const fetchedRef = "refs/hallmark/source"

// refused turns git's refusal of a damaged object, on either side, into a reason.
func (s *Source) refused(ctx context.Context, err error, ref, id string) (*policy.Reason, error) {
	const hint = "make the tag anew with git tag -s"
	var ge *gitError
	switch {
	case !errors.As(err, &ge):
		return nil, err
	case strings.Contains(ge.stderr, "not our ref "+id):
		// The other side listed this very object a moment ago.
		s.Git = policy.Git{Ref: ref, Checksum: id}
		if why, lerr := s.Moved(ctx); why != nil || lerr != nil {
			return why, lerr
		}
		return reason(CodeMalformed, id, hint, "git cannot read the object that %s points to", ref), nil
	case strings.Contains(ge.stderr, "collision attack"):
		return reason(CodeCollision, ref, "find out who made it", "git refuses an object of %s that was made so that another one has the same id", ref), nil
	case !strings.Contains(ge.stderr, "fsck error"):
		return nil, err
	}
	said := ge.Error()
	for line := range strings.Lines(ge.stderr) {
		if object, ok := strings.CutPrefix(strings.TrimSpace(line), "error: object "); ok {
			said = clip(object)
			if strings.HasPrefix(object, id) {
				return reason(CodeMalformed, id, hint, "git refuses the tag object: %s", said), nil
			}
			break
		}
	}
	return reason(CodeFetchRefused, ref, "", "git refuses an object of %s: %s", ref, said), nil
}

// tip is what a server says that a ref points to.
type tip struct{ id, peeled string }

// resolve asks the other side once, for the few names that ref can mean.
func (s *Source) resolve(ctx context.Context, ref string) (tip, string, error) {
	names := []string{ref}
	if !strings.HasPrefix(ref, "refs/") {
		names = []string{"refs/tags/" + ref, "refs/heads/" + ref}
	}
	for _, n := range names {
		if err := checkRefName(n); err != nil {
			return tip{}, "", fault.Usagef("--ref: %v", err)
		}
	}
	tips, err := s.list(ctx, names)
	if err != nil {
		return tip{}, "", err
	}
	var found []string
	for _, n := range names {
		if tips[n].id != "" {
			found = append(found, n)
		}
	}
	switch {
	case len(found) == 0:
		return tip{}, "", fault.Hint(fmt.Errorf("%s has no tag or branch %s", s.Location, ref), "git ls-remote shows what it has")
	case len(found) > 1:
		return tip{}, "", fault.Hint(fault.Usagef("--ref %s is a tag and a branch", ref), "write %s", found[0])
	}
	return tips[found[0]], found[0], nil
}

// list runs ls-remote for exact names.
func (s *Source) list(ctx context.Context, names []string) (map[string]tip, error) {
	return s.run.list(ctx, names)
}

func (r *runner) list(ctx context.Context, names []string) (map[string]tip, error) {
	if r.place {
		return r.listInPlace(ctx, names)
	}
	args := []string{"ls-remote", "--quiet", "--end-of-options", r.location.argument()}
	for _, n := range names {
		args = append(args, n, n+"^{}")
	}
	out, err := r.run(ctx, "listing the refs of "+r.location.String(), args...)
	if err != nil {
		return nil, err
	}
	tips := map[string]tip{}
	for line := range strings.Lines(string(out)) {
		id, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		name, peeled := strings.CutSuffix(name, "^{}")
		if !ok || !validID(id) {
			return nil, fmt.Errorf("listing the refs of %s: an answer that is not a list of refs", r.location)
		}
		if !slices.Contains(names, name) {
			continue // ls-remote matches the ends of names
		}
		t := tips[name]
		if peeled {
			t.peeled = id
		} else {
			t.id = id
		}
		tips[name] = t
	}
	return tips, nil
}

func (r *runner) listInPlace(ctx context.Context, names []string) (map[string]tip, error) {
	args := append([]string{"-C", r.repo(), "for-each-ref", "--format=%(objectname)\t%(refname)", "--end-of-options"}, names...)
	tips := map[string]tip{}
	err := r.lines(ctx, "listing the refs of "+r.location.String(), func(line string) error {
		if id, name, ok := strings.Cut(line, "\t"); ok && validID(id) && slices.Contains(names, name) {
			tips[name] = tip{id: id}
		}
		return nil
	}, nil, args...)
	return tips, err
}

// read parses the tag and the commit and fills the policy's view.
func (s *Source) read(ctx context.Context, ref string, tip tip) (why *policy.Reason, err error) {
	s.Git = policy.Git{Remote: s.Location.String(), Ref: ref, Checksum: tip.id, CommitChecksum: tip.id}
	s.Git.TagName, _ = strings.CutPrefix(ref, "refs/tags/")
	if s.Git.TagName == ref {
		s.Git.TagName = ""
	}
	b, err := s.run.batch(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	kind, raw, err := b.object(tip.id, MaxCommitSize)
	if err != nil {
		return tooLarge(err, ref)
	}
	if kind == "tag" {
		if s.Tag, why = ParseTag(raw); why != nil {
			return why, nil
		}
		if s.Tag.ID != tip.id {
			return nil, fmt.Errorf("object %s has the content of %s", tip.id, s.Tag.ID)
		}
		if why := collides("tag", tip.id, raw); why != nil {
			return why, nil
		}
		s.rawTag = raw
		s.Git.IsAnnotatedTag, s.Git.Tag = true, policyTag(s.Tag, ref)
		s.Git.CommitChecksum = s.Tag.Object
		if s.Tag.Type != "commit" {
			// Nothing of it can be built: no signature makes it acceptable.
			_, why := Trust{}.VerifyTag(s.Tag, "refs/tags/"+s.Tag.Name, time.Time{})
			return why, nil
		}
		if tip.peeled != "" && tip.peeled != s.Tag.Object {
			return nil, fmt.Errorf("the server says that %s leads to %s, its tag object says %s", ref, tip.peeled, s.Tag.Object)
		}
		if kind, raw, err = b.object(s.Tag.Object, MaxCommitSize); err != nil {
			return tooLarge(err, ref)
		}
	}
	if kind != "commit" {
		return reason(CodeTargetType, ref, "tag the commit itself", "%s leads to a %s, not to a commit", ref, kind), nil
	}
	if s.Commit, why = ParseCommit(raw); why != nil {
		return why, nil
	}
	if s.Commit.ID != s.Git.CommitChecksum {
		return nil, fmt.Errorf("object %s has the content of %s", s.Git.CommitChecksum, s.Commit.ID)
	}
	if why := collides("commit", s.Commit.ID, raw); why != nil {
		return why, nil
	}
	s.rawCommit = raw
	s.Git.Commit = policyCommit(s.Commit)
	return nil, nil
}

// collides refuses an object that was made so that another one has its SHA-1. git looks for
// that itself in what it fetches, where it was built with SHA1DC, and nowhere else.
func collides(kind, id string, content []byte) *policy.Reason {
	return collidingMessage(kind, id, fmt.Appendf(nil, "%s %d\x00", kind, len(content)), content)
}

func collidingMessage(kind, id string, hashed ...[]byte) *policy.Reason {
	if len(id) != 40 || !sha1collision.Attacked(hashed...) {
		return nil
	}
	return reason(CodeCollision, id, "find out who made it", "the %s %s was made so that another object has the same id", kind, short(id))
}

func policyTag(t *Tag, ref string) *policy.Tag {
	tagger := t.Tagger
	return &policy.Tag{Object: t.Object, Type: t.Type, Tag: t.Name, Message: t.Message, Tagger: &tagger,
		NameMatchesRef: ref == "refs/tags/"+t.Name, SignatureKind: t.Signature.Kind, SignatureKeyHint: t.Signature.KeyHint()}
}

func policyCommit(c *Commit) *policy.Commit {
	author, committer := c.Author, c.Committer
	return &policy.Commit{Tree: c.Tree, Parents: append([]string{}, c.Parents...), Author: &author,
		Committer: &committer, Message: c.Message}
}

// sizeError is an object that is not read because of its size.
type sizeError struct {
	kind, id    string
	size, limit int64
}

func (e *sizeError) Error() string {
	return fmt.Sprintf("the %s object %s has %d bytes, more than %d", e.kind, short(e.id), e.size, e.limit)
}

// missingError is an object that the repository does not have.
type missingError struct{ id string }

func (e *missingError) Error() string {
	return "reading object " + e.id + ": git says that it is missing"
}

// tooLarge makes a denial of an object that is too large to be read.
func tooLarge(err error, ref string) (*policy.Reason, error) {
	var se *sizeError
	switch {
	case !errors.As(err, &se):
		return nil, err
	case se.kind == "tag":
		return reason(CodeMalformed, se.id, "make the tag anew with a shorter message", "the tag object is not acceptable: %v", se), nil
	}
	return reason(CodeFetchRefused, ref, "", "%v", se), nil
}

// object reads one tag or commit, refusing overlong ones unread.
func (s *Source) object(ctx context.Context, id string) (kind string, content []byte, err error) {
	b, err := s.run.batch(ctx)
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	return b.object(id, MaxCommitSize)
}

// Verify judges the tag: its name, what it points to and who signed it, with
// the keys of trust at now. It fills Git.Tag.Signer when it returns nil.
func (s *Source) Verify(trust Trust, now time.Time) *policy.Reason {
	if s.Tag == nil {
		return notAnnotated(s.Git)
	}
	signer, why := trust.VerifyTag(s.Tag, s.Git.Ref, now)
	s.Git.Tag.Signer = signer
	return why
}

func notAnnotated(g policy.Git) *policy.Reason {
	hint := "make an annotated, signed tag of the commit: hallmark tag, or git tag -s"
	if g.TagName != "" {
		return reason(CodeNotAnnotated, g.Ref, hint, "%s is a lightweight tag: nobody signed it", g.Ref)
	}
	return reason(CodeNotAnnotated, g.Ref, hint, "%s is not a tag: nobody signed it", g.Ref)
}

// Moved asks the other side again whether the ref still points to what was
// judged; call it just before signing. A reason means that it does not.
func (s *Source) Moved(ctx context.Context) (*policy.Reason, error) {
	tips, err := s.list(ctx, []string{s.Git.Ref})
	if err != nil {
		return nil, err
	}
	if t := tips[s.Git.Ref]; t.id != s.Git.Checksum {
		return moved(s.Git.Ref, s.Git.Checksum, t.id), nil
	}
	return nil, nil
}

func moved(ref, was, is string) *policy.Reason {
	if is == "" {
		return reason(CodeMoved, ref, "find out who deleted the tag, then build again", "%s was deleted while it was being built; it pointed to %s", ref, short(was))
	}
	return reason(CodeMoved, ref, "find out who moved the tag, then build again",
		"%s points to %s now; what was checked is %s", ref, short(is), short(was))
}
