package git

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
)

// maxRemotes is how many remotes of a repository on this machine are looked at.
const maxRemotes = 8

// Remotes are where others could get the repository from: its URL, or those of the
// remotes of one on this machine, as https addresses. What is only reached by keys or
// paths is none.
func (s *Source) Remotes(ctx context.Context) []Location {
	if s.Location.Path == "" {
		return open([]string{s.Location.URL})
	}
	// The file is somebody's: it only says where to look, and what is found there must
	// be this very object.
	out, err := s.run.run(ctx, "reading the remotes", "-C", s.Location.Path, "config", "--local", "--no-includes", "--get-regexp", `^remote\..*\.url$`)
	if err != nil {
		return nil // it has none
	}
	var all []string
	for line := range strings.Lines(string(out)) {
		if _, address, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			all = append(all, address)
		}
	}
	return open(all)
}

// open are the addresses that need no login of their own to be tried.
func open(all []string) []Location {
	var found []Location
	for _, raw := range all {
		// CI systems put the job's login into the address; we look without any.
		if u, err := url.Parse(raw); err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.User != nil {
			u.User = nil
			raw = u.String()
		}
		l, err := ParseLocation(raw, true)
		if err != nil || l.URL == "" {
			continue
		}
		u, err := url.Parse(l.URL)
		if err != nil {
			continue
		}
		if u.Scheme == "ssh" { // the hosts of everybody's projects have both
			u = &url.URL{Scheme: "https", Host: u.Hostname(), Path: u.Path}
		}
		if l := (Location{URL: u.String()}); !slices.Contains(found, l) && len(found) < maxRemotes {
			found = append(found, l)
		}
	}
	return found
}

// ShownAt reports whether an address shows the source's ref, at the same object, to
// somebody without any login. why is its answer when it does not.
func (s *Source) ShownAt(ctx context.Context, l Location) (shown bool, why string, err error) {
	r, err := newRunner(l)
	if err != nil {
		return false, "", err
	}
	defer func() { err = errors.Join(err, r.remove()) }()
	r.anonymous = true
	tips, lerr := r.list(ctx, []string{s.Git.Ref})
	switch {
	case ctx.Err() != nil:
		return false, "", ctx.Err()
	case lerr != nil:
		return false, lerr.Error(), nil
	case tips[s.Git.Ref].id == "":
		return false, l.String() + " has no " + s.Git.Ref, nil
	case tips[s.Git.Ref].id != s.Git.Checksum:
		return false, s.Git.Ref + " is something else at " + l.String(), nil
	}
	return true, "", nil
}
