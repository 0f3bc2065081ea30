package git

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// Tip is what a ref points to, as the repository lists it: nothing of it was fetched.
type Tip struct {
	Ref    string // full name; "HEAD" for the default branch; the id itself when that was asked for
	ID     string // the object: a tag or a commit
	Commit string // what it leads to
}

// Find asks a repository what a ref points to. ref is a full name, one below refs/
// ("tags/v1"), a short name, which must not be both a tag and a branch, the id of a
// commit, which is not looked up, or "" for the default branch.
func Find(ctx context.Context, location Location, ref string) (_ Tip, err error) {
	if validID(ref) {
		return Tip{Ref: ref, ID: ref, Commit: ref}, nil
	}
	names := []string{ref}
	switch {
	case ref == "":
		names = []string{"HEAD"}
	case !strings.HasPrefix(ref, "refs/"):
		names = []string{"refs/tags/" + ref, "refs/heads/" + ref, "refs/" + ref}
	}
	for _, n := range names {
		if n == "HEAD" {
			continue
		}
		if err := checkRefName(n); err != nil {
			return Tip{}, fault.Usagef("%s: %w", location, err)
		}
	}
	r, err := newRunner(location)
	if err != nil {
		return Tip{}, err
	}
	defer func() { err = errors.Join(err, r.remove()) }()
	tips, err := r.list(ctx, names)
	if err != nil {
		return Tip{}, err
	}
	var found []Tip
	for _, n := range names {
		if t := tips[n]; t.id != "" {
			commit := t.id
			if t.peeled != "" {
				commit = t.peeled
			}
			found = append(found, Tip{Ref: n, ID: t.id, Commit: commit})
		}
	}
	switch len(found) {
	case 0:
		return Tip{}, fault.Hint(fmt.Errorf("%s has no tag or branch %s", location, ref), "git ls-remote shows what it has")
	case 1:
		return found[0], nil
	}
	return Tip{}, fault.Hint(fmt.Errorf("%s: %s is more than one thing", location, ref), "write %s", found[0].Ref)
}
