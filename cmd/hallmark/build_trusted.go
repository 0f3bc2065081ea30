package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/daemon"
	"github.com/hallmark-dev/hallmark/internal/build/part"
	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/verify"
	"github.com/hallmark-dev/hallmark/internal/visibility"
)

// installedBuilder is --trusted without a file. No variable of the caller says where it is.
const installedBuilder = "/etc/hallmark/builder.json"

// trustedJob is what a trusted build knows beside a plain one.
type trustedJob struct {
	builder  *trusted.Builder
	hermetic bool
	tools    []trusted.Tool // that run
	signed   []trusted.SignedTool
	build    build.Trusted
	cache    *trusted.CacheEntry // that is taken
	// Of the certificate of who signs; of nobody when no job does.
	claims     trusted.Claims
	extensions map[string]string
	pipeline   string // of a token of GitLab's
	token      idtoken.Token
}

// splitSource takes URL#REF apart.
func (o *buildOptions) splitSource() error {
	source, ref, found := strings.Cut(o.source, "#")
	switch {
	case !found || !strings.Contains(source, "://"):
		return nil
	case ref == "" || strings.ContainsAny(ref, "#:"):
		return fault.Usagef("%s: want URL#REF, without a folder behind it", o.source)
	case o.ref != "" && o.ref != ref:
		return fault.Usagef("the source says #%s, and --ref %s", ref, o.ref)
	}
	o.source, o.ref = source, ref
	return nil
}

// prepareTrusted refuses what a trusted build does not take, by name.
func (j *buildJob) prepareTrusted() error {
	o := j.o
	if o.trusted == "" {
		if o.inputs != "" {
			return fault.Usagef("--inputs is for --trusted")
		}
		if o.cache != "" {
			return fault.Usagef("--cache is for --trusted; a plain build has the cache of its daemon")
		}
		return o.plainOutput()
	}
	for flag, given := range map[string]bool{"no-sign": o.noSign, "builder-id": o.options.BuilderID != "", "export": o.export, "plain-http": j.app.PlainHTTP} {
		if given {
			return trusted.Refuse("--"+flag, flag)
		}
	}
	if at := strings.LastIndexByte(o.ref, '@'); at >= 0 && git.IsCommit(o.ref[at+1:]) {
		o.ref, o.commit = o.ref[:at], o.ref[at+1:]
	}
	switch {
	case !strings.Contains(o.source, "://"):
		return trusted.Refuse("folder as its source", "SOURCE")
	case o.commit != "" && !strings.HasPrefix(o.ref, "refs/"):
		return fault.Usagef("%s@%s: want the full name of the ref (refs/heads/main) that the commit is of", o.ref, o.commit)
	case strings.HasPrefix(o.source, "ssh://"):
		return trusted.Refuse("source over SSH", "SSH")
	}
	if err := trusted.CheckEnvironment(j.app.Env); err != nil {
		return err
	}
	var err error
	o.result, err = parseOutput(o.output)
	if err == nil && o.result.dest != "" && o.image != "" {
		err = fault.Usagef("-t: files have no image's name; leave it out with --output local")
	}
	if err != nil {
		return err
	}
	if j.cache, err = parseCache(o.cache); err != nil {
		return err
	}
	if err = j.takeInputs(); err != nil {
		return err
	}
	return o.checkParts(j.inputs)
}

// loadBuilder reads the operator's builder file. As with policies, the source cannot
// bring its own.
func (j *buildJob) loadBuilder() error {
	if j.o.trusted == "" {
		return nil
	}
	if err := trusted.CheckArgs(j.o.options.Args); err != nil {
		return err
	}
	path := j.o.trusted
	real, err := filepath.Abs(path)
	if path == installedBuilder {
		err = trusted.OfRoot(path)
	}
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err != nil {
		return fault.Hint(fault.Usagef("--trusted: the builder file: %v", err), "tools/install.sh writes one for what it installs, beside it: look at it, and as root: install -D -m 644 builder.json %s", installedBuilder)
	}
	if err := j.outside("--trusted="+path, []string{real}); err != nil {
		return err
	}
	data, err := readBuilder(real)
	if err != nil {
		return err
	}
	j.trusted = &trustedJob{hermetic: j.o.options.Hermetic}
	if j.trusted.builder, err = trusted.ParseBuilder(data); err != nil {
		return fault.As(fault.Usage, fmt.Errorf("--trusted: %s: %w", path, err))
	}
	j.trusted.build.Scanner = j.trusted.builder.Scanner
	p, err := sourcepolicy.CompileDefault()
	if err != nil {
		return err
	}
	return j.addSourcePolicy(build.SourcePolicy{Policy: p, Name: "hallmark:default.rego", From: build.FromOperator}, "", nil)
}

func readBuilder(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, trusted.MaxBuilder+1))
}

// textOf is the Dockerfile of the commit.
func (j *buildJob) textOf(ctx context.Context, src *git.Source, dockerfile string) ([]byte, error) {
	dir, err := j.export(ctx, src)
	if err != nil {
		return nil, err
	}
	text, err := fileOfCommit(dir, dockerfile)
	if err != nil {
		return nil, fault.Hint(fmt.Errorf("reading the Dockerfile of the commit: %w", err), "--file names it inside the repository")
	}
	return text, nil
}

// chooseFrontend decides what reads the Dockerfile of the commit.
func (j *buildJob) chooseFrontend(ctx context.Context, src *git.Source, dockerfile string) (policy.Decision, error) {
	yes := policy.Decision{Allowed: true}
	if j.trusted == nil {
		return yes, nil
	}
	text, err := j.textOf(ctx, src, dockerfile)
	if err != nil {
		return policy.Decision{}, err
	}
	frontend, why := j.trusted.builder.Frontend(dockerfile, text)
	if why != nil {
		return policy.Deny(*why), nil
	}
	// Said aloud, so that the provenance has it.
	j.trusted.build.Frontend, j.o.options.File = frontend, strings.TrimPrefix(dockerfile, j.o.options.Dir+"/")
	return j.chooseSigned(ctx)
}

// whoSigns settles who signs, and that a job's identity is that of a job for this source.
func (j *buildJob) whoSigns(ctx context.Context, src *git.Source) (*buildSigning, policy.Decision, error) {
	yes := policy.Decision{Allowed: true}
	source := trusted.Source{Repository: j.location.URL, Ref: src.Git.Ref, Commit: src.Git.CommitChecksum}
	if git.IsCommit(source.Ref) {
		source.Ref = ""
	}
	if j.trusted != nil {
		j.o.signer.online = !j.trusted.hermetic
		j.o.signer.claims = func(t idtoken.Token) error {
			c, err := trusted.ClaimsOfToken(t)
			if err != nil {
				return err
			}
			if why := c.Check(source); len(why) > 0 {
				return &trusted.Denied{Reasons: why}
			}
			j.trusted.pipeline, j.trusted.token = part.Pipeline(t), t
			return nil
		}
	}
	signing, err := j.newSigning(ctx, src)
	if err != nil || j.trusted == nil {
		d, err := denied(err)
		return signing, d, err
	}
	who, err := named(ctx, signing)
	if err != nil {
		return nil, yes, fmt.Errorf("who signs: %w", err)
	}
	c := trusted.ClaimsOf(who)
	if why := c.Check(source); len(why) > 0 {
		return nil, policy.Deny(why...), nil
	}
	if d := j.checkEvent(c); !d.Allowed {
		return nil, d, nil
	}
	if !c.OfJob() {
		if d, err := j.belongs(ctx, src); err != nil || !d.Allowed {
			return nil, d, err
		}
	}
	if c.OfJob() {
		j.trusted.claims, j.trusted.extensions, j.o.options.BuilderID = c, who.Extensions, c.Builder
	}
	if j.trusted.build.Private, err = j.privateSource(ctx, src, c); err != nil {
		return nil, yes, err
	}
	if j.release != nil {
		if err := j.release.asJob(ctx, signing, c, who.Extensions, j.trusted.token); err != nil {
			return nil, yes, err
		}
	}
	d, err := j.askRelease(ctx, src)
	return signing, d, err
}

// belongs demands of a commit that was asked for by its id that it is the repository's, and
// of a ref that is not there that it is not believed. For a job its CI says both.
func (j *buildJob) belongs(ctx context.Context, src *git.Source) (policy.Decision, error) {
	if src == nil || !src.Alone {
		return policy.Decision{Allowed: true}, nil
	}
	if !git.IsCommit(src.Git.Ref) { // of REF@ID
		return policy.Deny(policy.Reason{Code: git.CodeUnreachable, Subject: src.Git.CommitChecksum, Hint: "build a branch or tag that is there",
			Message: fmt.Sprintf("%s is no branch or tag of %s, and who signs is no job for it", src.Git.Ref, j.location)}), nil
	}
	why, err := src.Reachable(ctx, "")
	if why != nil {
		return policy.Deny(*why), err
	}
	return policy.Decision{Allowed: err == nil}, err
}

// named is what the certificate says of who signs. That of a person would be public before
// they agreed to it, and says nothing of a build; a key has none.
func named(ctx context.Context, s *buildSigning) (evidence.Signer, error) {
	if _, asks := s.signer.NeedsConsent(); asks {
		return evidence.Signer{}, nil
	}
	cert, err := s.signer.Certificate(ctx)
	if cert == nil || err != nil {
		return evidence.Signer{}, err
	}
	return verify.Named(cert)
}

// privateSource reports whether the provenance must not show the source: a job's CI says
// it, else we look as somebody without a login.
func (j *buildJob) privateSource(ctx context.Context, src *git.Source, c trusted.Claims) (bool, error) {
	if c.OfJob() && c.Visibility != "" {
		return c.Visibility != "public", nil
	}
	why, err := visibility.Repository(ctx, src)
	if err != nil {
		j.app.Warn("whether the source is private could not be found out, so its provenance says the least: %s", cli.OneLine(err.Error()))
		return true, ctx.Err()
	}
	return why != "", nil
}

// denied makes a decision of a refusal that came as an error.
func denied(err error) (policy.Decision, error) {
	var no *trusted.Denied
	if errors.As(err, &no) {
		return policy.Deny(no.Reasons...), nil
	}
	return policy.Decision{Allowed: err == nil}, err
}

// daemon is how the daemon of a trusted build is started, after ready, which is asked when it
// is known what will run; nil for a plain one.
func (t *trustedJob) daemon(ready func() error) *daemon.Trusted {
	if t == nil {
		return nil
	}
	return &daemon.Trusted{
		Copy: func(program, from, to string) error {
			tool, err := t.builder.Copy(program, from, to)
			t.tools = append(t.tools, tool)
			return err
		},
		Provenance: func() ([]byte, error) {
			if err := ready(); err != nil {
				return nil, err
			}
			t.build.Facts = t.facts()
			return t.build.Facts.JSON()
		},
	}
}

func (t *trustedJob) facts() trusted.Facts {
	f := trusted.Facts{Hallmark: version, BuilderFile: t.builder.Digest, Tools: t.tools, Scanner: t.build.Scanner, Signed: t.signed,
		Frontend: t.build.Frontend.Image, Syntax: t.build.Frontend.Syntax, Network: trusted.NetworkHost, Cache: t.cache}
	if f.Frontend == "" {
		f.Frontend = "dockerfile.v0"
	}
	if t.hermetic {
		f.Network = trusted.NetworkNone
	}
	if t.claims.OfJob() {
		f.CI = &t.claims
	}
	return f
}

// checkVersion compares what the daemon says that it is with what the file says.
func (t *trustedJob) checkVersion(ctx context.Context, kit *build.Client) error {
	if t == nil {
		return nil
	}
	said, err := build.Version(ctx, kit)
	if err != nil {
		return err
	}
	for _, tool := range t.tools {
		if tool.Name == "buildkitd" && tool.Version != said {
			return fault.Hint(fmt.Errorf("the builder file calls this buildkitd %s, and it calls itself %q", tool.Version, said), "correct the version in the builder file")
		}
	}
	return nil
}

// request makes the commit BuildKit's git source.
func (t *trustedJob) request(r *build.Request, url string) error {
	if !build.FetchesGit(url) {
		url = strings.TrimSuffix(url, "/") + ".git" // as git servers also call it
	}
	if !build.FetchesGit(url) {
		return fault.Usagef("BuildKit would not take %s for a git repository", url)
	}
	r.Context.GitURL, r.Trusted = url, &t.build
	if git.IsCommit(r.Context.Ref) {
		r.Context.Ref = t.claims.Ref
	}
	return nil
}

// explainFlag says why a flag of other builders is not there.
func explainFlag(c *cobra.Command, err error) error {
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if why, known := trusted.Refused(name); unknown && known {
		return cli.UsageError(c, fmt.Errorf("there is no --%s: %s", name, why))
	}
	return c.Root().FlagErrorFunc()(c, err)
}
