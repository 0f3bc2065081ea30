package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/review"
)

type reviewOptions struct {
	repo   string
	base   string
	asJSON bool
}

func newReviewCommand(a *app) *cobra.Command {
	o := &reviewOptions{}
	c := &cobra.Command{
		Use:   "review REF",
		Short: "Show what a release changes: commits, files, dependencies",
		Long: `Show what a release changes since another one (--base; default the tag of the
version before it): commits and authors, files, workflows that were touched, and
dependencies that go.mod, package.json, requirements and Dockerfiles name anew.
Nothing of the repository is run.`,
		Example: `  hallmark review v1.4.0
  hallmark review v1.4.0 --base v1.3.0`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error { return a.review(c.Context(), o, argv[0]) },
	}
	c.Flags().StringVarP(&o.repo, "repo", "C", ".", "the repository: a `DIR` or URL")
	c.Flags().StringVar(&o.base, "base", "", "the `REF` to compare with")
	c.Flags().BoolVar(&o.asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) review(ctx context.Context, o *reviewOptions, ref string) error {
	at, err := git.ParseLocation(o.repo, a.PlainHTTP)
	if err != nil {
		return err
	}
	repo, why, err := git.OpenRepository(ctx, at)
	if err == nil && why == nil {
		defer repo.Close() //nolint:errcheck // of what was fetched to look at it
	}
	head, base := "", ""
	if err == nil && why == nil {
		head, why, err = commitAt(ctx, repo, ref)
	}
	from := o.base
	if err == nil && why == nil {
		if from == "" {
			from, err = versionBefore(ctx, repo, ref)
		}
		if err == nil && from != "" {
			base, why, err = commitAt(ctx, repo, from)
		}
	}
	if err != nil {
		return err
	}
	if why != nil {
		return a.Deny(policy.Deny(*why))
	}
	got, err := review.Of(ctx, repo, base, head)
	if err != nil {
		return err
	}
	if o.asJSON {
		return a.PrintJSON(reviewAnswerOf(got, from))
	}
	a.printReview(got, ref, from)
	return nil
}

func commitAt(ctx context.Context, repo *git.Repository, ref string) (string, *policy.Reason, error) {
	rel, why, err := repo.Release(ctx, ref)
	if why != nil || err != nil {
		return "", why, err
	}
	return rel.Git.CommitChecksum, nil, nil
}

// versionBefore is the tag with the greatest version below that of ref, "" for none.
func versionBefore(ctx context.Context, repo *git.Repository, ref string) (string, error) {
	full := ref
	if !strings.HasPrefix(ref, "refs/") {
		full = "refs/tags/" + ref
	}
	if !judge.IsVersion(full) {
		return "", fault.Hint(fault.Usagef("%s is no version, so that nothing says which tag was before it", cli.OneLine(ref)), "--base REF names it")
	}
	tags, _, err := repo.Tags(ctx, 10_000)
	if err != nil {
		return "", err
	}
	best := ""
	for _, t := range tags {
		if judge.IsVersion(t.Ref) && judge.CompareVersions(t.Ref, full) < 0 && (best == "" || judge.CompareVersions(t.Ref, best) > 0) {
			best = t.Ref
		}
	}
	return best, nil
}

// reviewAnswer is what review prints with --json; docs/json.md has the table.
type reviewAnswer struct {
	Base       string            `json:"base,omitempty"`
	BaseRef    string            `json:"baseRef,omitempty"`
	Head       string            `json:"head"`
	IsAncestor bool              `json:"isAncestor"`
	Complete   bool              `json:"complete"` // the history was all there
	Commits    int               `json:"commits"`
	Unsigned   int               `json:"unsignedCommits"`
	Authors    []reviewedAuthor  `json:"authors"`
	Files      []reviewedFile    `json:"files"`
	FilesTotal int               `json:"filesTotal"`
	Workflows  []string          `json:"workflows"`
	Packages   []reviewedPackage `json:"dependencies"`
}

type reviewedAuthor struct {
	Name    string `json:"name"`
	Email   string `json:"email"`
	Commits int    `json:"commits"`
}

type reviewedFile struct {
	Path    string `json:"path"`
	Status  string `json:"status"`
	Added   int    `json:"added"`
	Removed int    `json:"removed"`
}

type reviewedPackage struct {
	Manifest string `json:"manifest"`
	System   string `json:"system"`
	Name     string `json:"name"`
	Version  string `json:"version,omitempty"`
	Was      string `json:"was,omitempty"`
}

func reviewAnswerOf(r *review.Review, from string) *reviewAnswer {
	out := &reviewAnswer{Base: r.Base, BaseRef: from, Head: r.Head, IsAncestor: r.Range.IsAncestor, Complete: r.Range.Known, Commits: r.Range.Count,
		Unsigned: r.Range.Unsigned, Authors: []reviewedAuthor{}, Files: []reviewedFile{}, FilesTotal: r.FilesTotal,
		Workflows: append([]string{}, r.Workflows...), Packages: []reviewedPackage{}}
	for _, x := range r.Authors {
		out.Authors = append(out.Authors, reviewedAuthor(x))
	}
	for _, f := range r.Files {
		out.Files = append(out.Files, reviewedFile{f.Path, f.Status, f.Added, f.Removed})
	}
	for _, p := range r.NewPackages {
		out.Packages = append(out.Packages, reviewedPackage{p.Manifest, p.System, p.Name, p.Version, p.Was})
	}
	return out
}

// shownFiles is how many files a person is shown.
const shownFiles = 40

func (a *app) printReview(r *review.Review, ref, from string) {
	since := "since " + strings.TrimPrefix(from, "refs/tags/")
	if from == "" {
		since = "the whole history: there is no version before it"
	}
	a.Print("%s %s, %s", cli.OneLine(ref), shortID(r.Head), cli.OneLine(since))
	a.Print("commits    %d, %d of them unsigned", r.Range.Count, r.Range.Unsigned)
	if !r.Range.Known {
		a.Warn("the history is not complete: %s", cli.OneLine(r.Range.Why))
	} else if r.Base != "" && !r.Range.IsAncestor {
		a.Warn("%s is not in the history of %s", cli.OneLine(from), cli.OneLine(ref))
	}
	for _, x := range r.Authors {
		a.Print("  %4d  %s", x.Commits, cli.OneLine(fmt.Sprintf("%s <%s>", x.Name, x.Email)))
	}
	a.Print("files      %d, +%d -%d lines, %d not counted", r.FilesTotal, r.Added, r.Removed, r.Uncounted)
	for _, f := range r.Files[:min(len(r.Files), shownFiles)] {
		note := ""
		if f.Workflow {
			note = "  WORKFLOW"
		}
		a.Print("  %-8s %s +%d -%d%s", f.Status, cli.OneLine(f.Path), f.Added, f.Removed, note)
	}
	if more := r.FilesTotal - min(len(r.Files), shownFiles); more > 0 {
		a.Print("  and %d more (--json has them)", more)
	}
	for _, w := range r.Workflows {
		a.Print("workflow   %s", cli.OneLine(w))
	}
	for _, p := range r.NewPackages {
		was := ""
		if p.Was != "" {
			was = " (was " + p.Was + ")"
		}
		a.Print("dependency %s", cli.OneLine(fmt.Sprintf("%s %s %s%s in %s", p.System, p.Name, p.Version, was, p.Manifest)))
	}
}
