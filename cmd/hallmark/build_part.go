package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/inputs"
	"github.com/hallmark-dev/hallmark/internal/build/part"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

// builtPart is what build prints of a part.
type builtPart struct {
	File     string `json:"file"`
	Platform string `json:"platform"`
	Run      string `json:"run"`
}

// distributed reports whether this is one part of a build, or puts parts together.
func (o output) distributed() bool { return o.part != "" || o.parts != "" }

// checkParts settles the platforms of a distributed build: the one of a part, or all of
// those that are put together. in are the inputs, if there are any.
func (o *buildOptions) checkParts(in *inputs.Inputs) error {
	to := &o.result
	if !to.distributed() {
		return nil
	}
	if o.bake {
		return fault.Usagef("--output %s: a bake file's target is built by one machine", o.output)
	}
	var err error
	if o.options.Platforms, err = part.Normals(o.options.Platforms); err != nil {
		return err
	}
	n := len(o.options.Platforms)
	switch {
	case to.part != "" && n != 1:
		return fault.Usagef("--output part: a part is of one platform; say which with --platform")
	case to.parts != "" && n == 0:
		return fault.Usagef("--output image,parts=: say with --platform which platforms there must be")
	case to.parts != "" && o.cache != "":
		return fault.Usagef("--cache: nothing is built where parts are put together")
	case to.parts != "":
		return to.partsThere(in)
	case in == nil:
		return nil
	}
	all, err := part.Normals(in.Platforms)
	if err == nil && !slices.Contains(all, o.options.Platforms[0]) {
		err = fault.Usagef("--platform %s: the inputs ask for %s", o.options.Platforms[0], strings.Join(all, ", "))
	}
	return err
}

// partsThere looks whether there is anything to put together, before anybody is asked. What is
// built and not kept has left no parts.
func (o output) partsThere(in *inputs.Inputs) error {
	if in != nil && !in.Sign {
		return nil
	}
	entries, err := os.ReadDir(o.parts)
	if err == nil && len(entries) == 0 {
		err = errors.New("the folder is empty")
	}
	if err != nil {
		return fault.Hint(fault.Usagef("--output parts=%s: %v", o.parts, err), "the parts are what --output part,dest=FILE of each machine wrote")
	}
	return nil
}

// run is what all parts have alike and no other build.
func (j *buildJob) run() (string, error) {
	return part.Run(j.trusted.extensions, j.trusted.pipeline, j.o.result.run)
}

// checkPart is asked before anything is built: a part that could not be written at the end
// need not be made.
func (j *buildJob) checkPart() error {
	to := j.o.result.part
	if to == "" {
		return nil
	}
	if _, err := j.run(); err != nil {
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return fault.Usagef("--output: %s is there already", to)
	}
	return os.MkdirAll(filepath.Dir(to), 0o755)
}

// partOf is what every part of this build says; its platform and what it was made by are to
// be added.
func (j *buildJob) partOf(src *git.Source, r *build.Request) (*part.Part, error) {
	run, err := j.run()
	if err != nil {
		return nil, err
	}
	p := &part.Part{Run: run, Repository: j.location.URL, Ref: src.Git.Ref, Commit: src.Git.CommitChecksum, Images: j.images(), Builder: r.BuilderID(),
		Facts: j.trusted.build.Facts, Policies: r.Sources.Record()}
	o := &r.Options
	// Their order is that of the package's list of names.
	p.Parameters, err = part.Parameters([...]any{orNil(o.Annotations), orNil(o.Args), []string{o.Dir, o.File, o.Target}, orNil(o.Labels), orNil(o.Contexts),
		[]any{o.Hermetic, o.NoCache, o.ShmSize, append([]string{}, o.Ulimits...)}, j.trusted.build.Private})
	return p, err
}

// orNil makes all empty maps one, so that their digests are.
func orNil(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}

// writePart hands over what was built, signed and verified as a part: a signed statement
// about it, which is read again as whoever puts the parts together will.
func (j *buildJob) writePart(ctx context.Context, src *git.Source, r *build.Request, res *build.Result, signing *buildSigning, answer *buildAnswer) error {
	p, err := j.partOf(src, r)
	if err != nil {
		return err
	}
	p.Platform = j.o.options.Platforms[0]
	if len(res.Images) != 1 || part.NameOf(*res.Images[0].Platform) != p.Platform {
		return fmt.Errorf("BuildKit made another image than one for %s", p.Platform)
	}
	predicate, err := p.Predicate()
	if err != nil {
		return err
	}
	st, err := sign.AttestStatement(j.image.Name(), evidence.Digest(res.Index.Digest), part.PredicateType, predicate)
	if err != nil {
		return err
	}
	signer, err := signing.fresh(ctx)
	if err != nil {
		return err
	}
	if err := signing.app.consent(signer, signing.o, []*sign.Statement{st}); err != nil {
		return err
	}
	signed, err := signer.Sign(ctx, st)
	if err != nil {
		return fmt.Errorf("signing the part: %w", err)
	}
	to := j.o.result.part
	if err := writeBundle(to, signed.Reader()); err != nil {
		return fmt.Errorf("writing the part: %w", err)
	}
	reader, err := j.partReader(ctx, signing)
	if err == nil {
		_, err = reader.read(ctx, to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(to))
	}
	answer.Image, answer.Part = j.image.Name(), &builtPart{to, p.Platform, p.Run}
	return nil
}
