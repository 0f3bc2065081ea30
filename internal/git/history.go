package git

import (
	"context"
	"errors"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Reachable looks whether the commit lies in the history of one ref, or of any branch or
// tag when ref is "". Servers give out by its id also what forks have, and what was
// proposed and never taken. A reason means that it does not.
func (s *Source) Reachable(ctx context.Context, ref string) (why *policy.Reason, err error) {
	// In a repository of its own, as what is fetched here has no trees, and is of no further use.
	h, err := newRunner(s.Location)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.remove()) }()
	id := s.Git.CommitChecksum
	if err := h.init(ctx, len(id)); err != nil {
		return nil, err
	}
	// Only parents are read: what is wrong with old commits otherwise is no reason to stop.
	args := []string{"-c", "fetch.fsckObjects=false", "-c", "remote.source.promisor=true", "-c", "remote.source.url=" + h.location.argument(),
		"-C", h.repo(), "fetch", "--quiet", "--no-tags", "--filter=tree:0", "--no-write-fetch-head", "--end-of-options", "source"}
	from := "its branches and tags"
	if ref != "" {
		from, args = ref, append(args, "+"+ref+":"+fetchedRef)
	} else {
		args = append(args, "+refs/heads/*:refs/hallmark/heads/*", "+refs/tags/*:refs/hallmark/tags/*")
	}
	if _, err := h.run(ctx, "fetching the history of "+from, args...); err != nil {
		return nil, err
	}
	out, err := h.run(ctx, "looking for "+id, "-C", h.repo(), "for-each-ref", "--count=1", "--contains="+id)
	var ge *gitError
	switch {
	case err != nil && !(errors.As(err, &ge) && strings.Contains(ge.stderr, "no such commit")):
		return nil, err
	case len(out) > 0:
		return nil, nil
	}
	return reason(CodeUnreachable, id, "build a commit of a branch or tag; a proposal of a fork is one when it was merged",
		"%s gives out commit %s, and it is not in the history of %s", s.Location, short(id), from), nil
}
