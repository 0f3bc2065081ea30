package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/sources"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/sourcefacts"
)

// policyEvaluators is how many sources are judged at once.
const policyEvaluators = 4

type policyEvalOptions struct {
	dockerfileOptions
	source      string
	files       []string
	labels      []string
	lock        string
	trustedRoot string
	trust       string
	verified    bool
	fields      []string
	print       bool
	explain     bool   // policy explain
	record      string // policy record: the file
	asJSON      bool
}

// policyEvalAnswer is what policy eval and explain print with --json; docs/json.md
// has the table.
type policyEvalAnswer struct {
	Allowed  bool           `json:"allowed"`
	Policies []judgedPolicy `json:"policies"`
	Sources  []judgedSource `json:"sources"`
}

type judgedPolicy struct {
	File      string          `json:"file"`
	Digest    evidence.Digest `json:"digest"`
	Cacheable bool            `json:"cacheable"`
}

type judgedSource struct {
	Source     string          `json:"source"`
	Identifier string          `json:"identifier"`
	Platform   string          `json:"platform,omitempty"`
	Uses       []judgedUse     `json:"uses,omitempty"`
	Allowed    bool            `json:"allowed"`
	Pinned     evidence.Digest `json:"pinned,omitempty"`
	Asked      []string        `json:"asked,omitempty"`
	Reasons    []policy.Reason `json:"reasons,omitempty"`
	Warnings   []policy.Reason `json:"warnings,omitempty"`
	Input      json.RawMessage `json:"input,omitempty"` // a sourcepolicy.Input
	Rules      []rego.Step     `json:"rules,omitempty"`

	unknown error // why it could not be found out whether it is allowed
}

type judgedUse struct {
	Line        int    `json:"line,omitempty"`
	Instruction string `json:"instruction"`
	Written     string `json:"written"`
}

func (o *policyEvalOptions) add(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVarP(&o.files, "file", "f", nil, "policy, a `FILE`.rego or oci://REFERENCE; or the Dockerfile whose policy lies beside it; may repeat, and all must allow")
	o.dockerfileOptions.add(c)
	f.StringArrayVar(&o.labels, "label", nil, "image label `NAME=VALUE` of the build; may repeat")
	f.StringVar(&o.lock, "lock", "", "a lock, `FILE`, for locked and moved (default hallmark.lock beside the Dockerfile or in a folder of the checkout above it)")
	f.BoolVar(&o.verified, "verified", false, "demand what hallmark build --verified does: the source is in the lock or signed by whom the trust bundle names")
	f.StringVar(&o.trustedRoot, "trusted-root", "", "trusted_root.json, a `FILE`, or public")
	f.StringVar(&o.trust, "trust", "", "trust bundle, a `FILE`")
}

// setSource takes the argument. One that is empty, as of a variable of the caller's that
// is not set, is a mistake and does not mean the Dockerfile.
func (o *policyEvalOptions) setSource(argv []string) error {
	if len(argv) == 0 {
		return nil
	}
	if argv[0] == "" {
		return fault.Hint(fault.Usagef("SOURCE is empty"), "name an image, a URL or a folder; without an argument all sources of the Dockerfile are meant")
	}
	o.source = argv[0]
	return nil
}

func newPolicyEvalCommand(a *app) *cobra.Command {
	var o policyEvalOptions
	c := &cobra.Command{
		Use:   "eval [SOURCE]",
		Short: "Ask source policies about a source, or about all of a Dockerfile",
		Long: `Ask source policies whether a source may go into a build: an image, the URL of a
git repository or of a file, or a folder. Without SOURCE all sources of the
Dockerfile are asked about. Nothing is built and no daemon is asked: what the
policies want to know is looked up in the registry, repository or web server.

The policies are the files of -f that end in .rego, or Dockerfile.rego beside the
Dockerfile, as for docker buildx. A policy reads only what lies in its folder.

--print shows what a policy would see and judges nothing; --fields says what is
to be looked up for it, as image.labels,image.signatures.

Exit code 3: a policy denies; each reason is a line. 5: nothing else is denied than
what a service that does not answer would have to say.`,
		Example: `  hallmark policy eval
  hallmark policy eval -f Dockerfile --target make --platform linux/amd64,linux/arm64
  hallmark policy eval 127.0.0.1:8420/app:1.0 -f Dockerfile.rego
  hallmark policy eval 127.0.0.1:8420/app:1.0 --print --fields image.labels,image.signatures`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
		RunE: a.policyAsk(&o),
	}
	o.add(c)
	c.Flags().BoolVar(&o.asJSON, "json", false, "print one JSON object")
	c.Flags().BoolVar(&o.print, "print", false, "print the input that a policy would see, and judge nothing")
	c.Flags().StringSliceVar(&o.fields, "fields", nil, "with --print: `FIELD`s to look up, separated by commas")
	return c
}

func newPolicyExplainCommand(a *app) *cobra.Command {
	o := policyEvalOptions{explain: true}
	c := &cobra.Command{
		Use:   "explain [SOURCE]",
		Short: "Say which rule of a policy decided, and what it saw",
		Long: `Ask source policies as policy eval does, and say of each rule whether it held, and
if not, which condition did not, with the values of the input that it names.`,
		Example: `  hallmark policy explain 127.0.0.1:8420/app:1.0
  hallmark policy explain -f Dockerfile --json`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
		RunE: a.policyAsk(&o),
	}
	o.add(c)
	c.Flags().BoolVar(&o.asJSON, "json", false, "print one JSON object")
	return c
}

// policyAsk is what eval, explain and record do.
func (a *app) policyAsk(o *policyEvalOptions) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, argv []string) error {
		if err := o.setSource(argv); err != nil {
			return err
		}
		return a.policyEval(c.Context(), o)
	}
}

// policyJob is one call of policy eval.
type policyJob struct {
	app      *app
	o        *policyEvalOptions
	resolver sourcepolicy.Resolver
	policies []*sourcepolicy.Policy
	names    []string // files of the policies
	env      sourcepolicy.Env
	lock     *lockText
	remote   string // SOURCE, when it is a git repository: whose server GIT_AUTH_TOKEN is for
	trust    *sourceTrust
	mu       sync.Mutex // of what policies print
}

func (a *app) policyEval(ctx context.Context, o *policyEvalOptions) error {
	if len(o.fields) > 0 && !o.print {
		return fault.Usagef("--fields is for --print")
	}
	j, dockerfile, err := a.preparePolicies(ctx, o)
	if err != nil {
		return a.denyMistakes(err)
	}
	all, err := j.sources(ctx, dockerfile)
	if err != nil {
		return err
	}
	answer := &policyEvalAnswer{Allowed: true, Policies: []judgedPolicy{}, Sources: make([]judgedSource, len(all))}
	for _, p := range j.policies {
		answer.Policies = append(answer.Policies, judgedPolicy{p.Name(), p.Digest(), p.Cacheable()})
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(policyEvaluators)
	for i, s := range all {
		g.Go(func() error { return j.judge(ctx, s, &answer.Sources[i]) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, s := range answer.Sources {
		answer.Allowed = answer.Allowed && s.Allowed
	}
	return j.result(answer)
}

// preparePolicies reads the policies, and says which Dockerfile is meant: "" with a
// source.
func (a *app) preparePolicies(ctx context.Context, o *policyEvalOptions) (*policyJob, string, error) {
	j := &policyJob{app: a, o: o, trust: &sourceTrust{app: a, trust: o.trust, trustedRoot: o.trustedRoot}}
	dockerfile := ""
	for _, f := range o.files {
		switch {
		case f == "-" || strings.HasSuffix(f, ".rego") || strings.HasPrefix(f, policyScheme):
			j.names = append(j.names, f)
		case dockerfile != "":
			return nil, "", fault.Usagef("-f names two Dockerfiles, %s and %s; a policy's name ends in .rego", dockerfile, f)
		default:
			dockerfile = f
		}
	}
	if dockerfile == "" {
		dockerfile = "Dockerfile"
	}
	beside := dockerfile + ".rego"
	if !slices.Contains(j.names, beside) && (len(j.names) == 0 || slices.Contains(o.files, dockerfile)) {
		if there, err := policyBeside(beside); err != nil {
			return nil, "", err
		} else if there {
			j.names = append([]string{beside}, j.names...)
		}
	}
	if o.source == "" && len(j.names) == 0 {
		if _, err := os.Stat(dockerfile); err != nil {
			return nil, "", fault.Hint(fault.As(fault.Usage, err), "-f FILE names the Dockerfile; SOURCE is an image, a URL or a folder to be asked about alone")
		}
	}
	if len(j.names) == 0 && !o.print && !o.verified {
		return nil, "", fault.Hint(fault.Usagef("no policy: there is no %s", beside), "say by which policy: -f FILE.rego")
	}
	if err := j.compile(ctx); err != nil {
		return nil, "", err
	}
	if err := j.fill(dockerfile); err != nil {
		return nil, "", err
	}
	if o.verified && !o.print {
		all, err := j.trust.lockPolicies(j.lock, true, sourcepolicy.Vouched{})
		if err != nil {
			return nil, "", err
		}
		var first []*sourcepolicy.Policy
		for _, p := range all {
			first = append(first, p.Policy)
		}
		j.policies = append(first, j.policies...)
	}
	if o.source != "" {
		dockerfile = ""
	}
	return j, dockerfile, nil
}

func (j *policyJob) compile(ctx context.Context) error {
	for _, name := range j.names {
		if strings.HasPrefix(name, policyScheme) {
			b, err := j.app.fetchPolicy(ctx, name)
			if err != nil {
				return err
			}
			p, err := compileBundle(b, b.Top(), func(line string) { j.say(name, line) })
			if err != nil {
				return err
			}
			j.policies = append(j.policies, p)
			continue
		}
		text, err := readPolicyFile(name, j.app.Stdin)
		if err != nil {
			return err
		}
		shown := name
		if name == "-" {
			shown = "stdin.rego"
		}
		opts, err := policyOptions(name, func(line string) { j.say(shown, line) })
		if err != nil {
			return err
		}
		name = shown
		p, err := sourcepolicy.Compile([]sourcepolicy.File{{Name: name, Data: text}}, opts)
		if err != nil {
			return err
		}
		j.policies = append(j.policies, p)
	}
	if j.o.print {
		p, err := fieldsPolicy(j.o.fields)
		if err != nil {
			return err
		}
		j.policies = []*sourcepolicy.Policy{p}
	}
	return nil
}

// say is what a policy prints, in one piece however many sources are judged at once.
func (j *policyJob) say(file, line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.app.Say("%s: print: %s", file, cli.OneLine(line))
}

// fieldsPolicy allows everything, and reads fields, so that they are looked up.
func fieldsPolicy(fields []string) (*sourcepolicy.Policy, error) {
	text := "package docker\n\ndecision := {\"allow\": true, \"read\": fields}\n\n"
	for _, f := range fields {
		f = "input." + strings.TrimPrefix(f, "input.")
		if ref, err := rego.CheckRef(f); err != nil || !ref {
			return nil, fault.Usagef("--fields %s: want a field of the input, like image.labels", f)
		}
		text += "fields contains " + f + "\n"
	}
	if len(fields) == 0 {
		text += "fields := set()\n"
	}
	return sourcepolicy.Compile([]sourcepolicy.File{{Name: "--fields.rego", Data: []byte(text)}}, sourcepolicy.Options{})
}

// fill says of the build what the call does.
func (j *policyJob) fill(dockerfile string) error {
	args, err := pairs("--build-arg", j.o.args)
	if err != nil {
		return err
	}
	labels, err := pairs("--label", j.o.labels)
	if err != nil {
		return err
	}
	j.env = sourcepolicy.Env{Labels: labels, Filename: filepath.Base(dockerfile), Target: j.o.target}
	if len(args) > 0 {
		j.env.Args = map[string]*string{}
	}
	for k, v := range args {
		j.env.Args[k] = &v
	}
	path := j.o.lock
	if path == "" {
		path = lockOf(filepath.Dir(dockerfile))
	}
	j.lock, err = readLockFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if j.o.lock == "" {
			err = nil
		} else {
			err = fault.As(fault.Usage, err)
		}
	}
	if err != nil {
		return err
	}
	j.resolver = sourcefacts.New(sourcefacts.Options{
		Registry: j.app.RegistryClient(), PlainHTTP: j.app.PlainHTTP, UserAgent: j.app.UserAgent(), Verifier: j.trust.verifier, Pinned: j.trust.pinned,
		GitLogin: func(remote string) (git.Login, error) { return j.app.gitLogin(remote, j.remote) },
	})
	return nil
}

// asked is one source to be judged.
type asked struct {
	source sourcepolicy.Source
	shown  string          // without logins and queries
	listed *sources.Source // nil for a source of the call
}

func (j *policyJob) sources(ctx context.Context, dockerfile string) ([]asked, error) {
	if dockerfile == "" {
		src, err := sourcepolicy.ParseSource(j.o.source)
		if err != nil {
			return nil, fault.Usagef("%s", fault.Redact(err.Error()))
		}
		in, err := sourcepolicy.SourceToInput(src)
		switch {
		case err == nil && in.Git != nil:
			j.remote = in.Git.Remote
		case err == nil && in.Local != nil && !strings.Contains(j.o.source, "://"):
			if info, err := os.Stat(j.o.source); err != nil || !info.IsDir() {
				return nil, fault.Usagef("%s: there is no such folder", fault.Redact(j.o.source))
			}
		}
		platforms := j.o.platforms
		if len(platforms) == 0 || !src.IsImage() {
			platforms = []string{""}
		}
		var out []asked
		for _, p := range platforms {
			if p != "" {
				if err := build.CheckPlatform(p); err != nil {
					return nil, err
				}
			}
			src.Platform = p
			if _, err := sourcepolicy.SourceToInput(src); err != nil {
				return nil, fault.Usagef("--platform: %w", err)
			}
			out = append(out, asked{source: src, shown: fault.Redact(j.o.source)})
		}
		return out, nil
	}
	found, err := j.app.listSources(ctx, filepath.Dir(dockerfile), []string{dockerfile}, &j.o.dockerfileOptions)
	if err != nil {
		return nil, err
	}
	var out []asked
	for i, s := range found {
		out = append(out, asked{sourcepolicy.Source{Identifier: s.Identifier, Attrs: s.Attrs, Platform: s.Platform}, fault.Redact(s.Name), &found[i]})
	}
	return out, nil
}

// judge asks the policies about one source.
func (j *policyJob) judge(ctx context.Context, s asked, out *judgedSource) error {
	*out = judgedSource{Source: s.shown, Identifier: fault.Redact(s.source.Identifier), Platform: s.source.Platform}
	r := sourcepolicy.Request{Source: s.source, Env: j.env, Now: time.Now(), Resolver: j.resolver}
	if s.listed != nil {
		for _, u := range s.listed.Uses {
			out.Uses = append(out.Uses, judgedUse{u.Line, u.Instruction, fault.Redact(u.Written)})
		}
		r.Known.Checksum = evidence.Digest(s.listed.Digest) // what was listed is what is judged
	}
	if says := j.lock.says(); says != nil {
		r.Locked = says(s.source)
	}
	traced, trace := rego.WithTrace(ctx)
	if !j.o.explain {
		traced = ctx
	}
	d, err := sourcepolicy.NewSet(j.policies...).Evaluate(traced, r)
	if err != nil {
		return err
	}
	if d.Allowed && d.Pinned != "" {
		// A build would fetch this one: it must be there.
		if _, err := j.resolver.Resolve(ctx, d.Source, []sourcepolicy.Ask{{Fact: sourcepolicy.ImageChecksum}}); err != nil {
			return fmt.Errorf("%s is pinned to %s: %w", s.shown, d.Pinned, err)
		}
	}
	out.Allowed, out.Pinned, out.Asked, out.Reasons, out.Warnings = d.Allowed, d.Pinned, d.Asked, d.Reasons, d.Warnings
	out.unknown = d.Unknown
	if j.o.print || j.o.explain || j.o.record != "" {
		if out.Input, err = d.Input.Redacted(); err != nil {
			return err
		}
	}
	if j.o.explain {
		out.Rules = trace.Steps(out.Input)
	}
	return nil
}

func (j *policyJob) result(answer *policyEvalAnswer) error {
	a := j.app
	switch {
	case j.o.print:
		return j.printInputs(answer)
	case j.o.record != "":
		return j.recorded(answer)
	}
	if j.o.asJSON {
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	}
	var denied policy.Decision
	for _, s := range answer.Sources {
		where := place(s)
		if !j.o.asJSON {
			j.printSource(s)
		}
		for _, w := range s.Warnings {
			a.Warn("[%s] %s%s", w.Code, where, cli.OneLine(w.Message))
		}
		for _, r := range s.Reasons {
			r.Message = where + r.Message
			denied.Reasons = append(denied.Reasons, r)
		}
	}
	if answer.Allowed {
		return nil
	}
	return j.deny(answer, denied)
}

// deny says why not. A service that does not answer is no denial: when nothing else is
// wrong with any source, the error is that one, and its exit code another.
func (j *policyJob) deny(answer *policyEvalAnswer, denied policy.Decision) error {
	err := j.app.Deny(denied)
	var unreachable error
	for _, s := range answer.Sources {
		switch {
		case s.Allowed:
		case fault.KindOf(s.unknown) == fault.Unreachable:
			unreachable = s.unknown
		default:
			return err
		}
	}
	return fault.Hint(unreachable, "nothing is allowed for want of an answer; try again when the service answers")
}

// place is where a Dockerfile names a source, for its reasons.
func place(s judgedSource) string {
	for _, u := range s.Uses {
		if u.Line > 0 {
			return fmt.Sprintf("line %d, %s %s: ", u.Line, u.Instruction, cli.OneLine(u.Written))
		}
	}
	if len(s.Uses) > 0 {
		return s.Source + ": "
	}
	return ""
}

func (j *policyJob) printSource(s judgedSource) {
	word := "denied"
	if s.Allowed {
		word = "allowed"
	}
	line := word + "  " + cli.OneLine(s.Source)
	if s.Platform != "" && len(s.Uses) > 0 {
		line += "  " + s.Platform
	}
	if s.Pinned != "" {
		line += "  pinned to " + string(s.Pinned)
	}
	j.app.Print("%s", line)
	for _, r := range s.Rules {
		j.app.printStep(r)
	}
}

// printStep prints what became of a rule, and the members of the input that it saw.
func (a *app) printStep(r rego.Step) {
	what := "held"
	switch {
	case r.Default:
		what = "is its default: no other " + r.Rule + " held"
	case !r.True:
		what = fmt.Sprintf("did not hold: line %d: %s", r.At, r.Text)
	}
	a.Print("  %s:%d %s %s", r.File, r.Line, r.Rule, cli.OneLine(what))
	for _, v := range r.Saw {
		a.Print("      %s = %s", v.Ref, cli.OneLine(v.Value))
	}
}

// printInputs prints the input of each source: of one source as it is, of several as
// an array.
func (j *policyJob) printInputs(answer *policyEvalAnswer) error {
	var denied policy.Decision
	inputs := []json.RawMessage{}
	for _, s := range answer.Sources {
		inputs = append(inputs, s.Input)
		denied.Reasons = append(denied.Reasons, s.Reasons...)
	}
	if len(denied.Reasons) > 0 { // a field that was asked for and could not be found out
		return j.deny(answer, denied)
	}
	if len(inputs) == 1 {
		return j.app.PrintJSON(inputs[0])
	}
	return j.app.PrintJSON(inputs)
}
