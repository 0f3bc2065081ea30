package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/inputs"
	"github.com/hallmark-dev/hallmark/internal/build/meta"
	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// inputsResult is what --inputs adds to the answer.
type inputsResult struct {
	OutputType     string          `json:"outputType,omitempty"` // "image" or "local"
	Tags           []string        `json:"tags,omitempty"`       // all names that were given
	MetaJSON       json.RawMessage `json:"metaJSON,omitempty"`   // as docker/metadata-action's output json
	VerifyCommands []string        `json:"verifyCommands,omitempty"`
}

// takeInputs reads --inputs, which says what the flags for a build's parameters would.
func (j *buildJob) takeInputs() error {
	o := j.o
	if o.inputs == "" {
		return nil
	}
	for flag, given := range map[string]bool{"tag": o.image != "", "file": o.options.File != "", "target": o.options.Target != "",
		"platform": len(o.options.Platforms) > 0 && o.result.part == "", "build-arg": len(o.args) > 0, "label": len(o.labels) > 0} {
		if given {
			return fault.Usagef("--%s and --inputs both say it; leave it to the inputs", flag)
		}
	}
	in, err := o.readInputs(j.app, o.inputs, false)
	if err != nil {
		return err
	}
	if err := j.app.checkInputs(in, o.result); err != nil {
		return err
	}
	j.inputs = in
	if in.Context != "." {
		o.options.Dir = in.Context
	}
	o.options.File, o.options.Target = strings.TrimPrefix(in.File, o.options.Dir+"/"), in.Target
	if o.result.part == "" { // which is of one of them
		o.options.Platforms = in.Platforms
	}
	if in.ShmSize > 0 {
		o.options.ShmSize = fmt.Sprint(in.ShmSize)
	}
	for _, u := range in.Ulimits {
		o.options.Ulimits = append(o.options.Ulimits, u.String())
	}
	return j.cacheOf(in)
}

// readInputs reads --inputs.
func (o *buildOptions) readInputs(a *app, name string, bake bool) (*inputs.Inputs, error) {
	if name == "-" && o.signer.passwordStdin {
		return nil, fault.Usagef("--inputs - and --password-stdin both read stdin; name a file for one of them")
	}
	return a.readInputs(name, bake)
}

// checkInputs refuses inputs at odds with where the result goes, and says which have no effect.
func (a *app) checkInputs(in *inputs.Inputs, to output) error {
	switch {
	case in.Output == inputs.OutputLocal && to.distributed():
		return fault.Usagef("the inputs say output local: files are signed each for itself, and there is no index to put together of parts")
	case (in.Output == inputs.OutputLocal) != (to.dest != ""):
		return fault.Usagef("the inputs say output %s; --output says where to only for local: local,dest=DIR", in.Output)
	case !in.Sign && (in.Push || in.Output == inputs.OutputLocal && in.ArtifactUpload):
		return fault.Usagef("sign is false: nothing unsigned comes out of a trusted build")
	}
	for _, note := range in.Notes() {
		a.Warn("%s", note)
	}
	return nil
}

// derive settles what depends on the ref: the tags, and the lists with expressions.
func (j *buildJob) derive(src *git.Source, answer *buildAnswer) error {
	in := j.inputs
	if in == nil {
		return nil
	}
	answer.OutputType = in.Output
	var r *meta.Result
	if in.Output == inputs.OutputImage {
		c, err := j.metaContext(src)
		if err != nil {
			return err
		}
		if r, err = meta.Derive(in.Meta, c); err != nil {
			return err
		}
		for _, n := range r.Notes {
			j.app.Warn("%s", n)
		}
		if err := j.nameImages(r); err != nil {
			return err
		}
		answer.Tags = r.Tags
		if answer.MetaJSON, err = r.JSON(); err != nil {
			return err
		}
	}
	p, err := in.Pairs(r)
	if err != nil {
		return err
	}
	if err := trusted.CheckArgs(p.BuildArgs); err != nil {
		return err
	}
	j.o.options.Args, j.o.options.Labels, j.o.options.Annotations = p.BuildArgs, p.Labels, map[string]string{}
	for _, a := range p.Annotations {
		j.o.options.Annotations[strings.Join(a.Levels, ",")+":"+a.Key] = a.Value
	}
	if err := j.chooseScanner(in); err != nil {
		return err
	}
	return j.o.options.Check()
}

// metaContext is what is built, in the words of the rules for tags. The ref and the commit
// are those that were fetched; of the event only what people write about a repository is
// taken from the runner's file.
func (j *buildJob) metaContext(src *git.Source) (meta.Context, error) {
	c := meta.Context{Event: j.event(), Ref: src.Git.Ref, SHA: src.Git.CommitChecksum, Time: time.Now(), CommitTime: src.Commit.Committer.When,
		DefaultBranch: j.app.Env("CI_DEFAULT_BRANCH"), Repository: meta.Repository{URL: j.location.URL, Name: strings.TrimSuffix(filepath.Base(j.location.URL), ".git")}}
	if git.IsCommit(c.Ref) {
		c.Ref = ""
	}
	var e meta.Event
	if path := j.app.Env("GITHUB_EVENT_PATH"); path != "" {
		f, err := os.Open(path)
		if err != nil {
			return c, err
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, meta.MaxEvent+1))
		if err != nil {
			return c, err
		}
		if e, err = meta.ReadEvent(data, c.SHA); err != nil {
			return c, err
		}
		c.DefaultBranch, c.BaseRef = e.DefaultBranch, e.BaseRef
		c.Repository.Description, c.Repository.License = e.Repository.Description, e.Repository.License
	}
	var err error
	c.Ref, err = e.Ref(c.Event, c.Ref)
	return c, err
}

// event is what started the job, "" unknown. A job's identity must say the same.
func (j *buildJob) event() string {
	return cmp.Or(j.app.Env("GITHUB_EVENT_NAME"), j.app.Env("CI_PIPELINE_SOURCE"))
}

// checkEvent compares it with who signs.
func (j *buildJob) checkEvent(c trusted.Claims) policy.Decision {
	if j.inputs == nil || !c.OfJob() || c.Event == "" || c.Event == j.event() {
		return policy.Decision{Allowed: true}
	}
	return policy.Deny(policy.Reason{Code: trusted.CodeClaims, Subject: c.Event,
		Message: fmt.Sprintf("the identity is that of a job for the event %s, and the environment says %q", c.Event, j.event()),
		Hint:    "build in the job that the event started"})
}

// buildOnly builds and keeps nothing: a pull request is tried.
func (j *buildJob) buildOnly(ctx context.Context, src *git.Source, answer *buildAnswer) (d policy.Decision, err error) {
	if err := j.prepareTry(ctx, src); err != nil {
		return d, err
	}
	r, kit, done, err := j.start(ctx, src)
	if err != nil {
		return denied(err)
	}
	defer func() {
		if e := done(); err == nil {
			err = e
		}
	}()
	res, d, err := build.Try(ctx, kit, *r)
	if res != nil {
		answer.Sources = res.Sources
		if res.Excerpt != "" {
			j.app.Say("%s\n", res.Excerpt)
		}
	}
	return d, err
}

// verifyCommands are those for each image or file where there are several, with paths below the
// folder of --output.
func (j *buildJob) verifyCommands(answer *buildAnswer) []string {
	if answer.Trusted == nil || !answer.Trusted.Verified {
		return nil
	}
	var each [][]string // what is verified
	if answer.Image != "" {
		for _, name := range j.images() {
			each = append(each, []string{name + "@" + answer.Digest})
		}
	}
	for _, f := range answer.Trusted.Files {
		each = append(each, f.toVerify(""))
	}
	var list []string
	for _, program := range slices.Sorted(maps.Keys(answer.Trusted.Verify)) {
		for _, what := range each {
			list = append(list, j.commands(answer, what)[program])
		}
	}
	return list
}

// chooseScanner takes the scanner of the builder file when the inputs want an SBOM.
func (j *buildJob) chooseScanner(in *inputs.Inputs) error {
	switch {
	case !in.SBOM:
		j.trusted.build.Scanner = ""
	case j.trusted.builder.Scanner == "":
		return fault.Usagef("sbom: the builder file names no scanner")
	}
	return nil
}
