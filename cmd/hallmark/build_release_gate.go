package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/sandbox"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/verdict"
)

// CodeObligation is a condition of the signing policy that this build does not meet.
const CodeObligation = "POLICY_OBLIGATION"

// releaseGate is the signing policy of a build (--policy with an authority.json).
type releaseGate struct {
	folder *judge.Folder
	store  *storedPolicy // in place of folder; asked each time
	job    *judge.Job    // nil until it is known who signs, and for who is no CI job
	seen   time.Time     // when job's identity was taken
	last   *judge.Result // the newest answer
}

// jobAt is the job for a question at now. What an identity says of the clock it says when it
// is new: however long the build took since, the clock may be as far off as it was then.
func (g *releaseGate) jobAt(now time.Time) *judge.Job {
	if g.job == nil {
		return nil
	}
	job := *g.job
	job.IssuedAt = job.IssuedAt.Add(now.Sub(g.seen)) // by the monotonic clock, that nobody sets
	return &job
}

// askRelease asks the signing policy about what is built, as the repository is now. Of a
// trusted build that is done when it is known who signs: the policy may ask for the job.
func (j *buildJob) askRelease(ctx context.Context, src *git.Source) (policy.Decision, error) {
	g := j.release
	if g == nil || src == nil {
		return policy.Decision{Allowed: true}, nil
	}
	if len(j.denied) > 0 { // bake reads the policy for each target
		return policy.Deny(j.denied...), nil
	}
	now := time.Now()
	req, d, err := g.request(ctx, j.app, now)
	if err != nil || !d.Allowed {
		return d, err
	}
	repo, why, err := git.OpenRepository(ctx, j.location)
	if err != nil {
		return policy.Decision{}, err
	}
	if why != nil {
		return policy.Deny(*why), nil
	}
	defer repo.Close() //nolint:errcheck // of what was fetched to look at it
	req.Repo, req.Ref, req.Build, req.Now = repo, src.Git.Ref, j.buildFacts(), now
	res, err := judge.Check(ctx, *req)
	if err != nil {
		return policy.Decision{}, err
	}
	if d := sameRelease(src, res); !d.Allowed {
		return d, nil
	}
	res.Decision.Warnings = append(d.Warnings, res.Decision.Warnings...)
	g.last = res
	if !res.Decision.Allowed {
		j.app.sayIgnored(res)
		return res.Decision, nil
	}
	return j.oblige(res), nil
}

// request is what the policy is asked with: that of the folder, or what the store has in force now.
func (g *releaseGate) request(ctx context.Context, a *app, now time.Time) (*judge.Request, policy.Decision, error) {
	yes, job := policy.Decision{Allowed: true}, g.jobAt(now)
	if g.store == nil {
		keyless, err := a.keylessApprovals(ctx, g.folder)
		return &judge.Request{Folder: g.folder, Keyless: keyless, Job: job}, yes, err
	}
	if job == nil {
		return nil, yes, fault.Usagef("--store-config: the store is asked about the repository of a CI job, and who signs is none")
	}
	answer, err := g.store.Ask(ctx, chain.Repository{Key: job.Key(), Name: job.Source.Provider + "/" + job.Source.Name, OwnerID: job.Source.OwnerID, IssuedAt: job.IssuedAt})
	if err != nil {
		return nil, yes, fmt.Errorf("the policy store: %w", err)
	}
	if len(answer.Denied) > 0 {
		return nil, policy.Deny(answer.Denied...), nil
	}
	yes.Warnings = answer.Warnings
	return &judge.Request{Folder: answer.Folder, Absent: answer.Absent, Keyless: g.store.Keyless(), Job: job}, yes, nil
}

// loadStore reads which policy store is asked, if any. As with a policy, none of that may lie
// in the source.
func (j *buildJob) loadStore(ctx context.Context) error {
	if j.o.storeConfig == "" {
		return nil // a trusted build without a signing policy
	}
	s, cfg, err := j.app.openStore(ctx, j.o.storeConfig, false, sandbox.New(signingPolicyProcess))
	if err != nil {
		return err
	}
	j.release = &releaseGate{store: s}
	var paths []string
	for _, p := range append(cfg.Files(), j.o.storeConfig) {
		real, err := filepath.Abs(p)
		if err == nil {
			real, err = filepath.EvalSymlinks(real)
		}
		if errors.Is(err, fs.ErrNotExist) { // what was seen, the first time
			continue
		}
		if err != nil {
			return err
		}
		paths = append(paths, real)
	}
	return j.outside("--store-config "+j.o.storeConfig, paths)
}

// warnings are those of the newest answer.
func (g *releaseGate) warnings() []policy.Reason {
	if g == nil || g.last == nil {
		return nil
	}
	return g.last.Decision.Warnings
}

// sameRelease demands that what was judged is what was fetched to be built.
func sameRelease(src *git.Source, res *judge.Result) policy.Decision {
	if res.Release == nil || res.Release.Git.CommitChecksum == src.Git.CommitChecksum && res.Release.Git.Checksum == src.Git.Checksum {
		return policy.Decision{Allowed: true}
	}
	return policy.Deny(policy.Reason{Code: judge.CodeCommitMismatch, Subject: src.Git.Ref, Hint: "build the ref as it is now",
		Message: fmt.Sprintf("%s leads to commit %s now, and what is built is %s", src.Git.Ref, shortID(res.Release.Git.CommitChecksum), shortID(src.Git.CommitChecksum))})
}

// oblige meets the policy's obligations, or denies.
func (j *buildJob) oblige(res *judge.Result) policy.Decision {
	d := res.Decision
	for _, o := range res.Rules.Obligations {
		if o.Type == "record-vsa" || o.Type == "no-push" && (j.o.check || j.tries()) { // every verdict is recorded
			continue
		}
		d.Allowed = false
		hint := "ask those who keep the policy how such a commit is to be built"
		if o.Type == "no-push" {
			hint = "what may be tried only is built by other means: hallmark build pushes and signs what it makes"
		}
		d.Reasons = append(d.Reasons, policy.Reason{Code: CodeObligation, Subject: o.Type, Hint: hint,
			Message: fmt.Sprintf("the signing policy allows the build on a condition that it does not meet: %s", o.Type)})
	}
	return d
}

// buildFacts are what is about to be built, for the policy.
func (j *buildJob) buildFacts() input.Build {
	o := j.o.options
	b := input.Build{Type: "image", Target: o.Target, Platforms: o.Platforms, Args: o.Args, Push: !j.o.check && !j.tries(), Network: "default"}
	if j.o.result.dest != "" {
		b.Type, b.Push = "local", false
	}
	if o.Hermetic {
		b.Network = "none"
	}
	if j.image.Host != "" {
		b.Images = append(b.Images, j.image.String())
	}
	for _, other := range j.others {
		b.Images = append(b.Images, other.String())
	}
	return b
}

// asJob takes what the certificate of a CI job says of it, and of the token that the CA
// gave the certificate for what that has no extension for.
func (g *releaseGate) asJob(ctx context.Context, s *buildSigning, c trusted.Claims, x map[string]string, t idtoken.Token) error {
	if !c.OfJob() {
		return nil
	}
	cert, err := s.signer.Certificate(ctx)
	if err != nil || cert == nil {
		return err
	}
	u, err := url.Parse(c.Repository)
	if err != nil {
		return fmt.Errorf("the identity's repository: %w", err)
	}
	if u.Port() != "" && !loopback.Host(u.Host) {
		return fmt.Errorf("the identity's repository is on %s: a signing policy names repositories by host and number, without a port", u.Host)
	}
	_, ref, _ := strings.Cut(c.Builder, "@")
	run, err := runOf(t)
	if err != nil {
		return err
	}
	run.Event, run.URL, run.HeadSHA, run.Environment = orNull(c.Event), orNull(c.Run), orNull(c.Commit), orNull(x["deploymentEnvironment"])
	owner := x["sourceRepositoryOwnerIdentifier"]
	if owner == "" {
		if owner, err = firstClaim(t, "repository_owner_id", "namespace_id"); err != nil {
			return err
		}
	}
	g.seen = time.Now()
	g.job = &judge.Job{Commit: c.Commit, Ref: c.Ref, IssuedAt: cert.NotBefore, Run: *run,
		Source: input.Source{Provider: strings.ToLower(u.Hostname()), ID: x["sourceRepositoryIdentifier"], OwnerID: owner,
			Name: strings.ToLower(strings.Trim(u.Path, "/")), URI: c.Repository, Visibility: c.Visibility},
		Builder: input.Builder{ID: c.Builder, URI: c.Builder, Ref: ref, Digest: x["buildSignerDigest"], RunnerEnvironment: c.Runner, Issuer: c.Issuer}}
	return nil
}

// runOf is the run of a job, in the words of GitHub's and GitLab's tokens. GitLab gives a
// job that is tried again a number of its own, so that each is a first attempt.
func runOf(t idtoken.Token) (*input.Run, error) {
	run := &input.Run{}
	for names, into := range map[[2]string]**string{
		{"run_id", "job_id"}: &run.ID, {"actor", "user_login"}: &run.Actor, {"actor_id", "user_id"}: &run.ActorID, {"workflow", "ci_config_ref_uri"}: &run.Workflow,
	} {
		said, err := firstClaim(t, names[0], names[1])
		if err != nil {
			return nil, err
		}
		*into = orNull(said)
	}
	attempt, err := firstClaim(t, "run_attempt", "")
	if err != nil {
		return nil, err
	}
	if n, bad := strconv.Atoi(attempt); bad == nil {
		run.Attempt = &n
	} else if job, _ := t.Text("job_id"); job != "" && attempt == "" {
		first := 1
		run.Attempt = &first
	}
	return run, nil
}

// firstClaim is the first of two claims that is there.
func firstClaim(t idtoken.Token, names ...string) (string, error) {
	for _, name := range names {
		said, ok := t.Text(name)
		if !ok {
			return "", fmt.Errorf("identity token: claim %q is no string", name)
		}
		if said != "" {
			return said, nil
		}
	}
	return "", nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// recordVerdict signs what the gate said last, beside the provenance.
func (j *buildJob) recordVerdict(ctx context.Context, at sign.Target, s *buildSigning, answer *buildAnswer) error {
	if j.release == nil || s == nil {
		return nil
	}
	res := j.release.last
	if res.Input == nil || res.Warned { // there is no policy, or it only warns: nothing passed
		return nil
	}
	digest, err := verdict.InputDigest(res.Input)
	if err != nil {
		return err
	}
	v := &verdict.Verdict{Time: time.Now(), Standing: verdict.Operator, Root: res.Policy.Root, Version: res.Policy.Version, Repository: res.Key, Ref: res.Release.Git.Ref, Commit: res.Release.Git.CommitChecksum,
		Policy: res.Policy.Digest, Input: digest, Builder: answer.BuilderID}
	if v.Root != "" {
		v.Standing = verdict.Store
	}
	if res.Release.Tag != nil {
		v.Tag = res.Release.Tag.ID
	}
	for _, a := range res.Approvals.Valid {
		if a.Decision == approval.Approve {
			v.Approvals = append(v.Approvals, a.ID)
		}
	}
	text, err := v.Predicate()
	if err != nil {
		return fmt.Errorf("the signing policy's verdict: %w", err)
	}
	st, err := sign.AttestStatement(j.image.Name(), evidence.Digest(at.Desc.Digest), verdict.PredicateType, text)
	if err != nil {
		return err
	}
	if err := s.agree(ctx, at, []*sign.Statement{st}); err != nil {
		return err
	}
	done, err := s.signer.Attach(ctx, at, st)
	if err != nil {
		return fmt.Errorf("signing the verdict of the signing policy: %w", err)
	}
	answer.Verdict = done.Ref
	return nil
}
