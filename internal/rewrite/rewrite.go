// Package rewrite turns what cosign's older versions left beside an image, or in a
// file, into bundles: it fetches the proofs that a newer bundle needs, makes sure
// that what verified before verifies afterwards, and attaches the result beside
// the old, once.
//
// What does not verify is converted, too, and that is said: it is worth as much as
// it was. A thing that verifies is never turned into one that does not.
package rewrite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/evidence/convert"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/rekor"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// Status is what became of one claim.
type Status string

// The statuses. The zero Status is none of them.
const (
	Converted Status = "converted" // there is a bundle now, or would be
	Existed   Status = "existed"   // the same is there as a bundle already
	Unchanged Status = "unchanged" // it is a newest bundle, or nothing of cosign's
	Refused   Status = "refused"   // a bundle could not say all of it
	Failed    Status = "failed"    // it could not be read, or not be found out
)

// Outcome is what became of one claim.
type Outcome struct {
	Item   collect.Item
	Status Status
	// Result is the bundle; set when Status is Converted.
	Result *convert.Result
	// As is where the same is as a bundle already; set when Status is Existed.
	As       collect.Item
	Verified bool            // it verified before, and does as a bundle
	Unproven []policy.Reason // why it does not verify, which stays so
	Reasons  []policy.Reason // why it was refused
	Notes    []string        // what a person should know of how it was done
	ProofBy  string          // base URL of the log that was asked for an inclusion proof
	Err      error           // why it failed
}

// Bundle is the bundle as it is written: what was made, or a bundle that stays as
// it is; nil for everything else.
func (o *Outcome) Bundle() ([]byte, error) {
	c := o.Item.Claim
	switch {
	case o.Result != nil:
		return o.Result.Bundle, nil
	case o.Status != Unchanged || c == nil || version(c.Format) < 1:
		return nil, nil
	case c.Format == evidence.FormatBundle01:
		return bundle.Marshal01(c)
	}
	return bundle.Marshal(c)
}

// Rewriter converts claims.
type Rewriter struct {
	Verifier *verify.Verifier
	Roots    []*trust.Root // those of Verifier
	Log      *rekor.Client // nil: no log is asked
}

// Item converts one of what was found. among is everything that was found: a bundle
// in it that says the same is not made again. An artifact without digests stands
// for whatever the claim says that it is about.
func (r *Rewriter) Item(ctx context.Context, it collect.Item, among []collect.Item, artifact verify.Artifact) Outcome {
	out := Outcome{Item: it, Status: Unchanged}
	switch {
	case it.Err != nil:
		out.Status, out.Err = Failed, it.Err
		return out
	case it.Claim == nil:
		out.Notes = []string{it.Note}
		return out
	case it.Claim.Notary != nil:
		out.Notes = []string{"a Notary Project signature stays what it is"}
		return out
	case it.Claim.Format == evidence.FormatBundle03:
		out.Notes = []string{"it is a bundle of version 0.3 already"}
		return out
	}
	if len(artifact.Digests) == 0 {
		artifact = claimed(it.Claim)
	}
	before, why := r.Verifier.Claim(it.Claim, artifact)
	out.Verified, out.Unproven = before != nil, why
	// Before a log is asked: each time it would give another proof.
	if i := r.existing(it, among, artifact, out.Verified, evidence.FormatBundle03); i >= 0 {
		out.Status, out.As = Existed, among[i]
		return out
	}
	r.convert(ctx, &out, artifact)
	if out.Status != Converted {
		return out
	}
	if out.Result.Format == it.Claim.Format {
		out.Status, out.Result = Unchanged, nil
	} else if i := r.existing(it, among, artifact, out.Verified, out.Result.Format); i >= 0 {
		out.Status, out.As, out.Result = Existed, among[i], nil
	}
	return out
}

// existing is the index of a bundle of at least a version that says the same and is
// worth as much; -1 when there is none. One that anybody put there to stand in the
// way, with proofs that do not hold, is worth less.
func (r *Rewriter) existing(it collect.Item, among []collect.Item, artifact verify.Artifact, verified bool, least evidence.Format) int {
	return slices.IndexFunc(among, func(o collect.Item) bool {
		if o.Claim == nil || version(o.Claim.Format) < version(least) || !convert.SameButProofs(o.Claim, it.Claim) {
			return false
		}
		if verified {
			ok, _ := r.Verifier.Claim(o.Claim, artifact)
			return ok != nil
		}
		for i := range o.Claim.LogEntries {
			e := &o.Claim.LogEntries[i]
			if e.Proof != nil && r.logOf(e) != "" && r.Verifier.Held(e) != nil {
				return false
			}
		}
		return true
	})
}

// version is the bundle's version after the point, less than 1 for what is no bundle.
func version(f evidence.Format) int {
	return slices.Index([]evidence.Format{"", evidence.FormatBundle01, evidence.FormatBundle02, evidence.FormatBundle03}, f)
}

func proven(c *evidence.Claim) bool {
	return !slices.ContainsFunc(c.LogEntries, func(e evidence.LogEntry) bool { return e.Proof == nil })
}

func (r *Rewriter) convert(ctx context.Context, out *Outcome, artifact verify.Artifact) {
	claim := *out.Item.Claim
	// What cannot be rewritten anyhow is no reason to ask a log.
	if _, reasons, err := convert.Bundle(&claim); reasons != nil || err != nil {
		out.refuse(reasons, err)
		return
	}
	r.shorten(&claim, out)
	if reasons, err := r.prove(ctx, &claim, out); reasons != nil || err != nil {
		out.refuse(reasons, err)
		return
	}
	result, reasons, err := convert.Bundle(&claim)
	if reasons != nil || err != nil {
		out.refuse(reasons, err)
		return
	}
	if out.Verified {
		if after, why := r.Verifier.Claim(result.Claim, artifact); after == nil {
			out.refuse([]policy.Reason{{Code: convert.CodeBreaks,
				Message: "it verifies as it is, and as a bundle it would not: " + why[0].Code + ", " + why[0].Message}}, nil)
			return
		}
	}
	out.Status, out.Result = Converted, result
	out.Notes = append(out.Notes, result.Notes...)
}

func (o *Outcome) refuse(reasons []policy.Reason, err error) {
	switch {
	case err != nil:
		o.Status, o.Err = Failed, err
	default:
		o.Status, o.Reasons = Refused, reasons
	}
}

// shorten leaves certificates above the signer's out when a trust root has every
// one of them: version 0.3 has no place for them, and wants verifiers to take them
// from their trust.
func (r *Rewriter) shorten(c *evidence.Claim, out *Outcome) {
	if len(c.Certificates) < 2 {
		return
	}
	for _, der := range c.Certificates[1:] {
		if !slices.ContainsFunc(r.Roots, func(root *trust.Root) bool { return issues(root, der) }) {
			return
		}
	}
	c.Certificates = c.Certificates[:1]
	out.Notes = append(out.Notes, "the certificates above the signer's are left out: the trust root has them")
}

func issues(root *trust.Root, der []byte) bool {
	for _, ca := range root.CAs {
		if ca.Anchor != nil && bytes.Equal(ca.Anchor.Raw, der) {
			return true
		}
		for _, i := range ca.Intermediates {
			if bytes.Equal(i.Raw, der) {
				return true
			}
		}
	}
	return false
}

// prove fetches the inclusion proofs that log entries lack, each from its own log,
// and believes none that does not hold under the log's key.
func (r *Rewriter) prove(ctx context.Context, c *evidence.Claim, out *Outcome) ([]policy.Reason, error) {
	if proven(c) {
		return nil, nil
	}
	if r.Log == nil {
		return nil, nil
	}
	c.LogEntries = slices.Clone(c.LogEntries)
	for i := range c.LogEntries {
		e := &c.LogEntries[i]
		if e.Proof != nil {
			continue
		}
		base := r.logOf(e)
		if base == "" {
			out.Notes = append(out.Notes, "the trust root does not know its log, so that no inclusion proof was asked for")
			continue
		}
		proof, err := r.Log.Proof(ctx, base, e)
		var wrong *rekor.MismatchError
		switch {
		case errors.Is(err, rekor.ErrNoEntry), errors.As(err, &wrong):
			return []policy.Reason{{Code: convert.CodeNoProof, Message: err.Error(),
				Hint: "a log that gave a promise has the entry: tell its operator"}}, nil
		case err != nil:
			return nil, err
		}
		e.Proof = proof
		if why := r.Verifier.Held(e); why != nil {
			return []policy.Reason{{Code: convert.CodeNoProof, Message: fmt.Sprintf("the proof of the log at %s does not hold: %s", base, why[0].Message),
				Hint: "a log that gave a promise has the entry: tell its operator"}}, nil
		}
		out.ProofBy = base
	}
	return nil, nil
}

// logOf is the base URL of an entry's log, "" when no trust root knows it.
func (r *Rewriter) logOf(e *evidence.LogEntry) string {
	for _, root := range r.Roots {
		for i := range root.TLogs {
			if bytes.Equal(root.TLogs[i].ID, e.LogID) {
				return root.TLogs[i].BaseURL
			}
		}
	}
	return ""
}
