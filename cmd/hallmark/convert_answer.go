package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/rewrite"
)

// convertAnswer is what convert --json prints.
type convertAnswer struct {
	Image  string          `json:"image,omitempty"`  // host/repository@sha256:…; absent for a file
	DryRun bool            `json:"dryRun"`           // nothing was written
	Output string          `json:"output,omitempty"` // as the call named it
	Found  []convertedItem `json:"found"`
}

// convertedItem is one thing that was found and what became of it.
type convertedItem struct {
	Where    evidence.Location `json:"where"`
	Format   string            `json:"format"`
	Status   rewrite.Status    `json:"status"`
	Verified bool              `json:"verified"`             // under the trust of the call, before and after
	As       string            `json:"as,omitempty"`         // format of the bundle
	Bundle   string            `json:"bundle,omitempty"`     // reference of its manifest, or its path
	Digest   evidence.Digest   `json:"digest,omitempty"`     // of the bundle's bytes
	ProofBy  string            `json:"proofBy,omitempty"`    // URL of the log that gave the inclusion proof
	Reasons  []policy.Reason   `json:"reasons,omitempty"`    // why it was refused
	Unproven []policy.Reason   `json:"unverified,omitempty"` // why it does not verify
	Notes    []string          `json:"notes,omitempty"`
	Error    string            `json:"error,omitempty"` // why it failed
}

func newConvertedItem(o rewrite.Outcome) convertedItem {
	c := convertedItem{Where: o.Item.Where, Format: o.Item.Format, Status: o.Status, Verified: o.Verified, Bundle: o.As.Where.Ref,
		As: o.As.Format, ProofBy: o.ProofBy, Reasons: o.Reasons, Unproven: o.Unproven, Notes: o.Notes}
	if o.Result != nil {
		c.As, c.Digest = string(o.Result.Format), evidence.SHA256(o.Result.Bundle)
	}
	if o.Err != nil {
		c.Error = cli.OneLine(o.Err.Error())
	}
	return c
}

// writeBundles writes the bundles that were made to a file, one a line, to a folder,
// one a file, or, without a name, to stdout. Of a file those that stay as they are go
// with them, so that nothing of it is missing.
func (a *app) writeBundles(output string, outcomes []rewrite.Outcome, isFile bool) error {
	var text bytes.Buffer
	info, err := os.Stat(output)
	folder := strings.HasSuffix(output, "/") || err == nil && info.IsDir()
	for i := range outcomes {
		out := &outcomes[i]
		data, err := out.Bundle()
		if err != nil {
			return err
		}
		switch {
		case data == nil || out.Result == nil && !isFile:
			continue
		case folder:
			if err := writeToFolder(output, data, out); err != nil {
				return err
			}
		default:
			out.As.Where = evidence.Location{How: "file", Ref: output}
			text.Write(append(data, '\n'))
		}
	}
	switch {
	case folder || text.Len() == 0:
		return nil
	case output == "":
		_, err := a.Stdout.Write(text.Bytes())
		return err
	}
	return durable.WriteFile(output, text.Bytes(), 0o644)
}

// writeToFolder writes a bundle under the name of its digest, once.
func writeToFolder(dir string, data []byte, out *rewrite.Outcome) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, "sha256-"+evidence.SHA256(data).Hex()+".sigstore.json")
	out.As.Where = evidence.Location{How: "file", Ref: path}
	have, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(have, data):
		if out.Status == rewrite.Converted {
			out.Status, out.As.Format = rewrite.Existed, string(out.Result.Format)
		}
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return durable.WriteFile(path, data, 0o644)
}

// reportConverted prints what became of each and makes the exit code: of what was
// refused before that of what failed.
func (a *app) reportConverted(o *convertOptions, answer *convertAnswer, outcomes []rewrite.Outcome, report func(string, ...any)) error {
	answer.Found = []convertedItem{}
	for i := range outcomes {
		answer.Found = append(answer.Found, newConvertedItem(outcomes[i]))
	}
	if o.json {
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	}
	refused := false
	var failed error
	for i := range outcomes {
		out := &outcomes[i]
		if !o.json {
			reportOne(o, &answer.Found[i], report)
		}
		switch out.Status {
		case rewrite.Refused:
			refused = true
			_ = a.Deny(policy.Decision{Reasons: out.Reasons}) // prints; the exit code is made below
		case rewrite.Failed:
			if failed == nil {
				failed = fmt.Errorf("%s: %w", out.Item.Where.Ref, out.Err)
			} else {
				a.Say("error: %s: %s", cli.Plain(out.Item.Where.Ref), cli.OneLine(out.Err.Error()))
			}
		case rewrite.Converted:
			for _, w := range out.Unproven {
				a.Warn("[%s] it does not verify here, neither before nor as a bundle: %s", w.Code, cli.OneLine(w.Message))
			}
		}
	}
	switch {
	case refused:
		if failed != nil {
			a.Say("error: %s", cli.OneLine(failed.Error()))
		}
		return cli.DeniedError{}
	case fault.KindOf(failed) == fault.Unreachable && !o.offline:
		return fault.Hint(failed, "--offline asks no log: what a log only promised stays a promise, in a bundle of version 0.1")
	case failed != nil:
		return failed
	case !convertible(outcomes):
		return fault.NotFoundf("there is nothing of cosign's here, and no bundle")
	}
	return nil
}

// convertible reports whether anything was what this command is about.
func convertible(outcomes []rewrite.Outcome) bool {
	for _, o := range outcomes {
		if c := o.Item.Claim; c != nil && c.Notary == nil {
			return true
		}
	}
	return false
}

func reportOne(o *convertOptions, c *convertedItem, report func(string, ...any)) {
	status := string(c.Status)
	if o.dryRun && c.Status == rewrite.Converted {
		status = "would convert"
	}
	report("%-14s %s  %s", status, c.Format, cli.Plain(c.Where.Ref))
	line := func(format string, args ...any) { report("  "+format, args...) }
	if c.Status == rewrite.Converted {
		verified := "not verified"
		if c.Verified {
			verified = "verified before and after"
		}
		line("as %s, %s", c.As, verified)
	}
	if c.ProofBy != "" {
		line("inclusion proof by %s", cli.Plain(c.ProofBy))
	}
	switch {
	case c.Status == rewrite.Existed:
		line("already there: %s", cli.Plain(c.Bundle))
	case c.Bundle != "":
		line("now: %s", cli.Plain(c.Bundle))
	}
	for _, note := range c.Notes {
		line("%s", cli.Plain(note))
	}
}
