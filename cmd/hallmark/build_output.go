package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

// output is what --output says.
type output struct {
	dest     string // folder of local output; "" pushes an image
	policies string // folder that policies for consumers are written to; "" writes none
	part     string // file of one part of a distributed build; "" makes all of it
	parts    string // folder of the parts that are put together; "" builds
	run      string // of a distributed build, where the identity does not say it
}

// outputFields are the fields of a kind of output that it must have and may have.
func outputFields(kind string) (must, may string, known bool) {
	switch kind {
	case "image":
		return "", "policies parts run", true // consumers' policies are about images
	case "local":
		return "dest", "", true
	case "part":
		return "dest", "run", true
	}
	return "", "", false
}

// parseOutput reads image, local or part with their fields, and refuses every other exporter.
func parseOutput(text string) (output, error) {
	var o output
	if text == "" {
		return o, nil
	}
	kind, rest, _ := strings.Cut(strings.TrimPrefix(text, "type="), ",")
	must, may, known := outputFields(kind)
	if !known {
		return o, fault.Usagef("there is no output %q, whose files could not be signed where they land; want image, local or part", kind)
	}
	into := map[string]*string{"dest": &o.dest, "policies": &o.policies, "parts": &o.parts, "run": &o.run}
	if kind == "part" {
		into["dest"] = &o.part
	}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(part, "=")
		switch {
		case rest == "":
		case !slices.Contains(strings.Fields(must+" "+may), name):
			return o, fault.Usagef("--output %s: %q is not accepted; want image[,policies=DIR][,parts=DIR], local,dest=DIR or part,dest=FILE", text, part)
		case value == "" || *into[name] != "":
			return o, fault.Usagef("--output %s: want one value for %s", text, name)
		default:
			*into[name] = value
		}
	}
	switch {
	case must != "" && *into[must] == "":
		return o, fault.Usagef("--output %s: say where to, with %s=", text, must)
	case o.run != "" && !o.distributed():
		return o, fault.Usagef("--output %s: run= is for parts", text)
	}
	return o, nil
}

// plainOutput reads --output of a build that is not trusted: an image, perhaps with policies.
func (o *buildOptions) plainOutput() error {
	out, err := parseOutput(o.output)
	switch {
	case err != nil || o.output == "":
		return err
	case out.dest != "" || out.distributed():
		return fault.Usagef("--output %s is for --trusted; a plain build pushes an image", o.output)
	case o.noSign:
		return fault.Usagef("--output %s: with --no-sign there is no signer that a policy could name", o.output)
	}
	o.result = out
	return nil
}

// tries reports whether what is built is only tried, and neither kept nor signed.
func (j *buildJob) tries() bool { return j.inputs != nil && !j.inputs.Sign }

// make makes what was asked for: an image, or files.
func (j *buildJob) make(ctx context.Context, src *git.Source, answer *buildAnswer) (policy.Decision, error) {
	do := j.build
	switch {
	case j.tries(): // what is kept is signed
		if d, err := j.askRelease(ctx, src); err != nil || !d.Allowed || j.o.result.parts != "" { // each platform was tried
			return d, err
		}
		return j.buildOnly(ctx, src, answer)
	case j.o.result.parts != "":
		do = j.merge
	case j.o.result.dest != "":
		do = j.buildFiles
	}
	d, err := do(ctx, src, answer)
	if err != nil {
		return denied(err)
	}
	if !d.Allowed {
		return d, nil
	}
	err = j.summarize(answer)
	if j.inputs != nil {
		answer.VerifyCommands = j.verifyCommands(answer)
	}
	return d, err
}

// bundleSuffix is how the bundle beside a file is called.
const bundleSuffix = ".sigstore.json"

// buildFiles builds files into a folder beside the wanted one, signs each with its
// provenance, verifies them, and gives the folder its name last.
func (j *buildJob) buildFiles(ctx context.Context, src *git.Source, answer *buildAnswer) (_ policy.Decision, err error) {
	dest, err := filepath.Abs(j.o.result.dest)
	if err != nil {
		return policy.Decision{}, err
	}
	if there, err := os.Lstat(dest); err == nil {
		entries, err := os.ReadDir(dest)
		if !there.IsDir() || err != nil || len(entries) > 0 {
			return policy.Decision{}, fault.Usagef("--output: %s is there, and no empty folder", j.o.result.dest)
		}
	}
	signing, d, err := j.whoSigns(ctx, src)
	if err != nil || !d.Allowed {
		return d, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(dest), ".hallmark-build-")
	if err != nil {
		return policy.Decision{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := j.prepareCache(ctx, src, signing, true); err != nil {
		return policy.Decision{}, err
	}
	r, kit, done, err := j.start(ctx, src)
	if err != nil {
		return denied(err)
	}
	defer func() { err = errors.Join(err, done()) }()
	files, res, d, err := build.Export(ctx, kit, *r, dir)
	if err != nil || !d.Allowed {
		if res != nil && res.Excerpt != "" {
			j.app.Say("%s\n", res.Excerpt)
		}
		return d, err
	}
	answer.Sources, answer.BuilderID = res.Sources, r.BuilderID()
	if moved, err := j.stillAllowed(ctx, src); err != nil || !moved.Allowed {
		return moved, err
	}
	if err := signing.signFiles(ctx, dir, files, answer); err != nil {
		return policy.Decision{}, err
	}
	if verified, err := j.verifyFiles(ctx, dir, answer); err != nil || !verified.Allowed {
		return verified, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return policy.Decision{}, err
	}
	// The system call takes the place of an empty folder, and of nothing else.
	if err := syscall.Rename(dir, dest); err != nil {
		return policy.Decision{}, fmt.Errorf("--output: %s: %w", j.o.result.dest, err)
	}
	return d, j.keepCache(ctx, res.Cache, signing, answer)
}

// fileStatement is what is signed of a file, and the bundle that it is signed in.
type fileStatement struct {
	statement *sign.Statement
	kind      string // predicate type
	bundle    string // path below the folder
}

// statementsOf are those of a file: its provenance first.
func statementsOf(f build.Artifact) ([]fileStatement, error) {
	all := []fileStatement{{kind: f.Provenance.PredicateType, bundle: f.Path + bundleSuffix}}
	predicates := [][]byte{f.Provenance.Predicate}
	for _, b := range f.BOMs {
		all = append(all, fileStatement{kind: b.PredicateType, bundle: f.Path + "." + b.Name + bundleSuffix})
		predicates = append(predicates, b.Predicate)
	}
	for i := range all {
		var err error
		if all[i].statement, err = sign.AttestStatement(f.Path, f.Digest, all[i].kind, predicates[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// signFiles writes bundles beside each file: its provenance and its SBOM, signed.
func (s *buildSigning) signFiles(ctx context.Context, dir string, files []build.Artifact, answer *buildAnswer) error {
	signer, err := s.fresh(ctx)
	if err != nil {
		return err
	}
	var statements []*sign.Statement
	for _, f := range files {
		all, err := statementsOf(f)
		if err != nil {
			return err
		}
		made := builtFile{Path: f.Path, Digest: string(f.Digest), statements: all}
		for i, s := range all {
			statements = append(statements, s.statement)
			if i > 0 {
				made.SBOMs = append(made.SBOMs, s.bundle)
			} else {
				made.Bundle = s.bundle
			}
		}
		answer.trusted().Files = append(answer.trusted().Files, made)
	}
	if err := s.app.consent(signer, s.o, statements); err != nil {
		return err
	}
	for _, f := range answer.trusted().Files {
		for _, st := range f.statements {
			ended := s.show.Step("[sign] " + st.bundle)
			signed, err := signer.Sign(ctx, st.statement)
			ended(err)
			if err != nil {
				return fmt.Errorf("signing %s: %w", st.bundle, err)
			}
			if err := writeBundle(filepath.Join(dir, filepath.FromSlash(st.bundle)), signed.Reader()); err != nil {
				return err
			}
			if index, logged := signed.LogIndex(); answer.logIndex == nil && logged {
				answer.logIndex = &index
			}
		}
	}
	who, err := signer.Who(ctx)
	if err != nil {
		return err
	}
	answer.Signer, answer.Signed, answer.MadePublic = &who, true, s.o.madePublic
	return nil
}

// writeBundle refuses a name that is taken: a build may make a file of that name itself.
func writeBundle(path string, from io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Sync(), f.Close())
}
