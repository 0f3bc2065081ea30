package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/build/sources"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/lockfile"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/webfile"
)

type lockOptions struct {
	dockerfileOptions
	folder string
	files  []string
	lock   string
	check  bool
	update bool
	set    []string
	vars   []string
	asJSON bool
}

// lockAnswer is what policy lock prints with --json; docs/json.md has the table.
type lockAnswer struct {
	Allowed bool              `json:"allowed"`
	Lock    string            `json:"lock"`
	Written bool              `json:"written"`
	Sources []lockfile.Source `json:"sources"`
	Changes []lockChange      `json:"changes"`
	Reasons []policy.Reason   `json:"reasons,omitempty"`
}

type lockChange struct {
	Change string `json:"change"` // "added", "removed", "moved", "retagged"
	Kind   string `json:"kind"`
	Source string `json:"source"`
	Was    string `json:"was,omitempty"`
	Is     string `json:"is,omitempty"`
}

func newPolicyLockCommand(a *app) *cobra.Command {
	var o lockOptions
	c := &cobra.Command{
		Use:   "lock [CONTEXT]",
		Short: "Write down the digests of everything that a build fetches",
		Long: `Look at every source of a Dockerfile, without building: base images, images that
it copies from, URLs and git repositories that it adds, and what ONBUILD triggers
of its base images add. Their digests are written to hallmark.lock in the build
context, to be committed beside the Dockerfile.

Of a bake file it looks at all targets that hallmark bake would build: those of the
group "default" and those with tags, or that of --target. hallmark-bake reads it
(docs/trusted-build.md).

What is in the lock must stay as it is: a tag, URL or ref that leads elsewhere
now is denied, and both are shown. New sources are added to the lock, and those
that are gone are taken out.

Exit code 0: the lock is as it should be; 3: something moved, or with --check
something is not in the lock; nothing was written.`,
		Example: `  hallmark policy lock
  hallmark policy lock --check
  hallmark policy lock --update --platform linux/amd64,linux/arm64
  hallmark policy lock -f Dockerfile --target make --json .`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error {
			o.folder = contextFolder(argv)
			return a.policyLock(c.Context(), &o)
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&o.files, "file", "f", nil, "Dockerfile, or bake file (.hcl, .json, .yaml), a `FILE`; may repeat, for one lock of several (default CONTEXT/Dockerfile)")
	o.add(c)
	f.StringArrayVar(&o.set, "set", nil, "of a bake file: `TARGET.KEY=VALUE` in the place of what it says; may repeat")
	f.StringArrayVar(&o.vars, "var", nil, "of a bake file: variable `NAME=VALUE`; may repeat")
	f.StringVar(&o.lock, "lock", "", "the lock, a `FILE` (default CONTEXT/hallmark.lock)")
	f.BoolVar(&o.check, "check", false, "write nothing; deny what is not as the lock says")
	f.BoolVar(&o.update, "update", false, "show what moved, and take it into the lock")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object")
	c.MarkFlagsMutuallyExclusive("check", "update")
	return c
}

func (a *app) policyLock(ctx context.Context, o *lockOptions) error {
	if o.lock == "" {
		o.lock = filepath.Join(o.folder, lockfile.Name)
	}
	was, err := lockfile.Read(o.lock)
	absent := errors.Is(err, fs.ErrNotExist)
	switch {
	case absent && o.check:
		return fault.Hint(fault.As(fault.Usage, err), "hallmark policy lock makes it")
	case absent:
		was = &lockfile.File{}
	case err != nil:
		return err
	}
	found, err := a.lockedSources(ctx, o)
	if err != nil {
		return err
	}
	now, err := a.lookUp(ctx, found)
	if err != nil {
		return err
	}
	changes := was.Changes(now)
	answer := &lockAnswer{Lock: o.lock, Sources: shownSources(now.Sources), Changes: shownChanges(changes)}
	for _, c := range changes {
		r := c.Reason()
		if r != nil && (o.check || r.Code == lockfile.CodeMoved && !o.update) {
			answer.Reasons = append(answer.Reasons, *r)
		}
	}
	answer.Allowed = len(answer.Reasons) == 0
	if !o.asJSON {
		a.printChanges(answer)
	}
	if answer.Allowed && !o.check && (len(changes) > 0 || absent) {
		if err := now.Write(o.lock); err != nil {
			return fmt.Errorf("write the lock: %w", err)
		}
		answer.Written = true
	}
	return a.lockResult(o, answer)
}

func (a *app) printChanges(answer *lockAnswer) {
	for _, c := range answer.Changes {
		switch c.Change {
		case "added":
			a.Print("+ %s %s  %s", c.Kind, cli.OneLine(c.Source), c.Is)
		case "removed":
			a.Print("- %s %s  %s", c.Kind, cli.OneLine(c.Source), c.Was)
		default:
			a.Print("! %s %s\n    was %s\n    is  %s", c.Kind, cli.OneLine(c.Source), c.Was, c.Is)
		}
	}
}

func (a *app) lockResult(o *lockOptions, answer *lockAnswer) error {
	if o.asJSON {
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	}
	n := fmt.Sprintf("%d sources", len(answer.Sources))
	if len(answer.Sources) == 1 {
		n = "1 source"
	}
	switch {
	case !answer.Allowed:
		return a.Deny(policy.Deny(answer.Reasons...))
	case o.asJSON:
	case answer.Written:
		a.Print("%s: %s", answer.Lock, n)
	default:
		a.Print("ok: %s as %s says", n, answer.Lock)
	}
	return nil
}

func shownChanges(changes []lockfile.Change) []lockChange {
	out := []lockChange{}
	for _, c := range changes {
		c = lockfile.Change{Was: shownSource(c.Was), Is: shownSource(c.Is)}
		switch {
		case c.Was == nil:
			out = append(out, lockChange{Change: "added", Kind: c.Is.Kind, Source: c.Is.Source, Is: c.Is.Value()})
		case c.Is == nil:
			out = append(out, lockChange{Change: "removed", Kind: c.Was.Kind, Source: c.Was.Source, Was: c.Was.Value()})
		case c.Moved():
			out = append(out, lockChange{Change: "moved", Kind: c.Is.Kind, Source: c.Is.Source, Was: c.Was.Value(), Is: c.Is.Value()})
		default: // another tag object of the same commit
			out = append(out, lockChange{Change: "retagged", Kind: c.Is.Kind, Source: c.Is.Source, Was: tagName(c.Was.Tag), Is: tagName(c.Is.Tag)})
		}
	}
	return out
}

// shownSource is a source for people and logs: the values of arguments that stand in its
// URL are in the lock, which its readers keep, and not in an answer, which a CI system
// shows to whoever looks.
func shownSource(s *lockfile.Source) *lockfile.Source {
	if s == nil {
		return nil
	}
	shown := *s
	shown.Source, shown.Written = fault.Redact(s.Source), nil
	for _, w := range s.Written {
		shown.Written = append(shown.Written, fault.Redact(w))
	}
	return &shown
}

func shownSources(all []lockfile.Source) []lockfile.Source {
	out := []lockfile.Source{}
	for i := range all {
		out = append(out, *shownSource(&all[i]))
	}
	return out
}

func tagName(id string) string {
	if id == "" {
		return "a lightweight tag"
	}
	return "tag object " + id
}

// lookUp is the lock of what the sources are now. Each is asked once, however often
// and for however many platforms it is named; folders and layouts by digest are not kept.
func (a *app) lookUp(ctx context.Context, found []sources.Source) (*lockfile.File, error) {
	now := time.Now().UTC().Truncate(time.Second)
	var all []*lockfile.Source
	index := map[string]*lockfile.Source{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	files := webfile.New(webfile.Options{PlainHTTP: a.PlainHTTP, UserAgent: a.UserAgent()})
	for _, s := range found {
		if s.Kind == sources.Local || s.Kind == sources.Layout {
			continue
		}
		key := string(s.Kind) + " " + s.Name
		if have := index[key]; have != nil {
			have.Written = append(have.Written, spellings(s.Uses)...)
			slices.Sort(have.Written)
			have.Written = slices.Compact(have.Written)
			continue
		}
		l := &lockfile.Source{Kind: string(s.Kind), Source: s.Name, Written: spellings(s.Uses), Resolved: now}
		index[key], all = l, append(all, l)
		g.Go(func() error { return a.lookUpOne(ctx, files, s, l) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	f := &lockfile.File{Sources: []lockfile.Source{}}
	for _, l := range all {
		f.Sources = append(f.Sources, *l)
	}
	return f, nil
}

func (a *app) lookUpOne(ctx context.Context, files *webfile.Client, s sources.Source, l *lockfile.Source) error {
	switch s.Kind {
	case sources.Image:
		l.Digest = s.Digest
	case sources.HTTP:
		if s.Checksum != "" { // BuildKit holds the body to it
			l.Digest = s.Checksum
			return nil
		}
		f, err := files.Digest(ctx, s.Name)
		l.Digest = string(f.Digest)
		return err
	case sources.Git:
		at, err := git.ParseLocation(s.Remote, a.PlainHTTP)
		if err != nil {
			return err
		}
		if at.URL == "" {
			return fault.Usagef("%s: not the URL of a git repository", fault.Redact(s.Remote))
		}
		login, err := a.gitLogin(at.URL, "")
		if err != nil {
			return err
		}
		tip, err := git.Find(ctx, at.With(login), s.Ref)
		if err != nil {
			return err
		}
		if s.Checksum != "" && !strings.HasPrefix(tip.ID, s.Checksum) && !strings.HasPrefix(tip.Commit, s.Checksum) {
			return fault.Hint(fmt.Errorf("%s: the Dockerfile demands %s, and it is %s", fault.Redact(s.Name), s.Checksum, tip.Commit), "BuildKit would refuse it, too")
		}
		l.Commit = tip.Commit
		if tip.ID != tip.Commit {
			l.Tag = tip.ID
		}
	}
	return nil
}
