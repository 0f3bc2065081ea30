package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/keyless"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// proposalFolder is where a repository keeps the proposal of its signing policy.
const proposalFolder = ".hallmark"

// releaseOptions say of which release of which repository a command is.
type releaseOptions struct {
	repo       string // folder or URL
	policy     string // folder of the signing policy
	repository string // key
	dirs       []string
	asJSON     bool

	storeConfig string // of a policy store, in place of policy
	require     bool   // a policy there
	undecided   bool   // the command tells itself of a store that denies, or has no policy
}

func (o *releaseOptions) policyDir() string {
	if o.policy != "" || strings.Contains(o.repo, "://") {
		return o.policy
	}
	return filepath.Join(o.repo, proposalFolder)
}

// readSigningPolicy reads the folder of a signing policy. A policy with mistakes is a
// denial.
func (a *app) readSigningPolicy(dir string) (*judge.Folder, policy.Decision, error) {
	yes := policy.Decision{Allowed: true}
	if dir == "" {
		return nil, yes, fault.Hint(fault.Usagef("no signing policy is named"), "--policy DIR names the folder with %s and %s", judge.AuthorityFile, rules.RulesFile)
	}
	folder, why, err := judge.ReadFolder(dir, rules.Options{Obligations: rules.ObligationTypes(), Print: func(line string) { a.Say("print: %s", cli.OneLine(line)) }})
	if errors.Is(err, fs.ErrNotExist) {
		err = fault.Hint(fault.As(fault.Usage, fmt.Errorf("the signing policy: %w", err)), "hallmark signing-policy init makes one; --policy DIR names another folder")
	}
	if err != nil || len(why) == 0 {
		return folder, yes, err
	}
	return nil, placed(why), nil
}

// placed is a denial whose sentences say where in the policy each mistake is.
func placed(why []policy.Reason) policy.Decision {
	for i := range why {
		if why[i].Subject != "" {
			why[i].Message = why[i].Subject + ": " + why[i].Message
		}
	}
	return policy.Deny(why...)
}

// opened is a repository and the policy under which releases of it are judged.
type opened struct {
	o      *releaseOptions
	folder *judge.Folder
	repo   *git.Repository

	keyless approval.Keyless

	store    *storedPolicy   // nil: a folder
	absent   *policy.Reason  // the store proves that there is no policy
	denied   []policy.Reason // by the store
	warnings []policy.Reason // of it
}

// openRelease reads the policy and opens the repository. A release without repository is
// denied, and the reasons were printed.
func (a *app) openRelease(ctx context.Context, o *releaseOptions) (*opened, error) {
	if o.repository != "" && !git.ValidRepositoryKey(o.repository) {
		return nil, fault.Usagef("--repository %s: want HOST/id/NUMBER, such as github.com/id/123456", cli.OneLine(o.repository))
	}
	for _, dir := range o.dirs {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return nil, fault.Usagef("--approval-dir %s: want a folder", dir)
		}
	}
	r := &opened{o: o}
	if err := a.openPolicy(ctx, r); err != nil {
		r.store.close()
		return nil, err
	}
	at, err := git.ParseLocation(o.repo, a.PlainHTTP)
	var why *policy.Reason
	if err == nil {
		r.repo, why, err = git.OpenRepository(ctx, at)
	}
	if err == nil && why != nil {
		err = a.Deny(policy.Deny(*why))
	}
	if err != nil {
		r.store.close()
		return nil, err
	}
	return r, nil
}

// openPolicy finds the policy: that of a folder, or the one that a store has in force.
func (a *app) openPolicy(ctx context.Context, r *opened) error {
	if r.o.storeConfig != "" {
		err := r.openStored(ctx, a)
		switch {
		case err != nil || r.o.undecided:
			return err
		case len(r.denied) > 0:
			return a.Deny(policy.Deny(r.denied...))
		case r.absent != nil:
			return a.Deny(policy.Deny(*r.absent))
		}
		return nil
	}
	folder, d, err := a.readSigningPolicy(r.o.policyDir())
	if err != nil {
		return err
	}
	if !d.Allowed {
		return a.Deny(d)
	}
	r.folder = folder
	r.keyless, err = a.keylessApprovals(ctx, folder)
	return err
}

// keylessApprovals verifies approvals by identities, under the trust root that verify uses;
// nil where the policy names none.
func (a *app) keylessApprovals(ctx context.Context, folder *judge.Folder) (approval.Keyless, error) {
	if !slices.ContainsFunc(folder.Authority.Keys(authority.UseApprove), func(h authority.Holder) bool { return h.Key.Kind == authority.Sigstore }) {
		return nil, nil
	}
	root, err := a.TrustedRoot(ctx, "")
	if err != nil {
		return nil, err
	}
	v, err := verify.New(verify.Config{Roots: []*trust.Root{root}, Now: time.Now})
	if err != nil {
		return nil, err
	}
	return keyless.New(v), nil
}

func (r *opened) close() {
	r.store.close()
	_ = r.repo.Close() // of what was fetched to look at it
}

// check asks the policy about a ref as it is now.
func (r *opened) check(ctx context.Context, ref string) (*judge.Result, error) {
	if ref == "" { // an empty variable in a script is no wish for the default branch
		return nil, fault.Hint(fault.Usagef("the ref is empty"), "is the variable that it comes from set?")
	}
	if len(r.denied) > 0 {
		return &judge.Result{Key: r.o.repository, Decision: policy.Deny(r.denied...)}, nil
	}
	res, err := judge.Check(ctx, judge.Request{Folder: r.folder, Absent: r.absent, Repo: r.repo, Ref: ref, Key: r.o.repository, Dirs: r.o.dirs,
		Build: input.Build{Push: true}, Keyless: r.keyless, Now: time.Now()}) // a release is pushed
	if err == nil {
		res.Decision.Warnings = slices.Concat(r.warnings, res.Decision.Warnings)
	}
	return res, err
}

// title names a release in one line: "v1.4.0 56ae342c12a9".
func title(res *judge.Result, ref string) string {
	if res.Release == nil {
		return cli.OneLine(ref)
	}
	name := res.Release.Git.Ref
	for _, prefix := range []string{"refs/tags/", "refs/heads/"} {
		name = strings.TrimPrefix(name, prefix)
	}
	return cli.OneLine(name) + " " + shortID(res.Release.Git.CommitChecksum)
}

func shortID(id string) string { return id[:min(len(id), 12)] }

// signedBy says who signed the tag, for people.
func signedBy(res *judge.Result) string {
	switch {
	case res.TagSigner != nil:
		protection := ""
		if res.Input != nil && res.Input.Git.Tag != nil && res.Input.Git.Tag.Signer != nil {
			protection = ", " + res.Input.Git.Tag.Signer.Protection
		}
		return fmt.Sprintf("signed by %s (%s %s%s)", res.TagSigner.Principal, res.TagSigner.Kind, res.TagSigner.Fingerprint, protection)
	case res.TagReason != nil:
		return "does not count: " + res.TagReason.Code
	}
	return ""
}

// approvers are who approved, sorted: who rejected, too, has not.
func approvers(res *judge.Result) []string {
	var out, rejected []string
	if res.Approvals != nil {
		for _, a := range res.Approvals.Valid {
			if a.Decision == approval.Approve {
				out = append(out, a.Principal)
			} else {
				rejected = append(rejected, a.Principal)
			}
		}
	}
	out = slices.DeleteFunc(out, func(name string) bool { return slices.Contains(rejected, name) })
	slices.Sort(out)
	return slices.Compact(out)
}

// sayFetch says, where approvals are missing, how those that lie at a remote come into the
// clone that was read: a folder is never fetched from. It reports whether it did.
func (a *app) sayFetch(r *opened, reasons []policy.Reason) bool {
	has := func(code string) bool {
		return slices.ContainsFunc(reasons, func(why policy.Reason) bool { return why.Code == code })
	}
	if r.repo.Location.URL != "" || !has(rules.CodeQuorum) || has(rules.CodeRejected) {
		return false
	}
	names := remoteNames(filepath.Join(commonDir(r.repo.Location.Path), "config"))
	if len(names) == 0 {
		return false
	}
	name := names[0]
	if slices.Contains(names, "origin") {
		name = "origin"
	}
	a.Say("Only approvals in this clone were looked at. Those at %s: git fetch %s '+refs/hallmark/*:refs/hallmark/*'", cli.OneLine(name), cli.ShellQuote(name))
	return true
}

// sayIgnored names approvals that do not count, on stderr.
func (a *app) sayIgnored(res *judge.Result) {
	if res.Approvals == nil {
		return
	}
	for _, r := range res.Approvals.Rejected {
		who := r.ClaimedPrincipal
		if who == "" {
			who = "nobody who is named"
		}
		a.Say("  ignored [%s] approval that claims to be of %s: %s", r.Code, cli.OneLine(who), cli.OneLine(r.Message))
	}
	if n := res.Approvals.Ignored; n > 0 {
		a.Say("  ignored %d more", n)
	}
}

// warnAll prints the warnings of a decision.
func (a *app) warnAll(d policy.Decision) {
	for _, w := range d.Warnings {
		a.Warn("[%s] %s", w.Code, cli.OneLine(w.Message))
	}
}
