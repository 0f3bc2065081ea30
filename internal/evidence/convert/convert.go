// Package convert rewrites cosign's older attestations as Sigstore bundles,
// without signing again, where that loses nothing.
//
// Nothing is verified here: a claim that was worth nothing is worth nothing as a
// bundle, too. What the two formats cannot both say is not left out in silence:
// the answer is a reason that names it.
package convert

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Codes of reasons why a claim is not rewritten (docs/reasons.md).
const (
	// CodeLoses: the bundle could not hold a part of the claim.
	CodeLoses = "CONVERT_LOSES"
	// CodeNothing: the claim is a bundle of the newest version already.
	CodeNothing = "CONVERT_NOTHING"
	// CodeNoProof: the log has no proof of an entry that it promised to include.
	CodeNoProof = "CONVERT_NO_PROOF"
	// CodeBreaks: the claim verifies, and the bundle would not.
	CodeBreaks = "CONVERT_BREAKS"
)

// Result is a bundle that says all that the claim says.
type Result struct {
	Bundle    []byte
	Format    evidence.Format // version 0.3, or 0.1 where only that holds everything
	MediaType string
	// Claim is the bundle as its reader understands it.
	Claim *evidence.Claim
	// Notes are sentences about what the rewriting meant for people who read it.
	Notes []string
}

// Bundle rewrites a claim: an older attestation, or a bundle of version 0.1 or
// 0.2. Exactly one of the results is set, unless there is an error: the bundle
// could not be written, or did not read as the claim.
//
// Version 0.3 wants an inclusion proof of every log entry. Cosign's older format
// has only the log's promise: with it the result is of version 0.1, unless the
// caller has fetched the proof from the log and put it into the entry.
func Bundle(c *evidence.Claim) (*Result, []policy.Reason, error) {
	switch {
	case c.Simple != nil:
		return loses("a signature in cosign's older format cannot become a bundle: it is over a payload that names the image, "+
			"and a bundle has no place for the payload, so that nothing would say which image was signed", "sign the image again: hallmark sign IMAGE")
	case c.Notary != nil:
		return loses("a Notary Project signature is over an envelope of its own, which a bundle cannot hold", "")
	case c.Format == evidence.FormatBundle03:
		return nil, []policy.Reason{{Code: CodeNothing, Message: "it is a bundle of version 0.3 already"}}, nil
	}
	if len(c.Signature()) == 0 {
		return nil, nil, fmt.Errorf("convert: the claim does not have exactly one signature")
	}
	for _, token := range c.Timestamps {
		if !names(token, c.Signature()) {
			return loses("its timestamp is over the envelope as cosign wrote it, and a bundle's timestamps are over the signature: the time of signing would be lost", "attest it again: hallmark attest IMAGE")
		}
	}
	for i := range c.LogEntries {
		if e := &c.LogEntries[i]; e.Kind == "intoto" && e.Version == "0.0.1" {
			return loses("its log entry is about the envelope as cosign wrote it, byte for byte, which a bundle does not keep: the proof that it is in the log would be lost", "attest it again: hallmark attest IMAGE")
		}
	}
	out := *c
	if e := c.Envelope; e != nil {
		out.Envelope = &evidence.Envelope{PayloadType: e.PayloadType, Payload: e.Payload, Signatures: e.Signatures}
	}
	return write(&out)
}

func loses(message, hint string) (*Result, []policy.Reason, error) {
	return nil, []policy.Reason{{Code: CodeLoses, Message: message, Hint: hint}}, nil
}

// write chooses the version that holds everything.
func write(c *evidence.Claim) (*Result, []policy.Reason, error) {
	unproven, unpromised := false, false
	for i := range c.LogEntries {
		unproven = unproven || c.LogEntries[i].Proof == nil
		unpromised = unpromised || c.LogEntries[i].Promise == nil
	}
	marshal, chain := bundle.Marshal, len(c.Certificates) > 1
	r := &Result{Format: evidence.FormatBundle03, MediaType: evidence.BundleMediaType}
	switch {
	case (unproven || chain) && unpromised:
		return loses("it has a certificate chain or a log entry without inclusion proof, which version 0.3 of the bundle cannot hold, and a log entry without promise, which version 0.1 cannot", "")
	case unproven || chain:
		marshal, r.Format, r.MediaType = bundle.Marshal01, evidence.FormatBundle01, bundle.MediaType01
		if unproven {
			r.Notes = append(r.Notes, "written as a bundle of version 0.1: its log entry has the log's promise and no inclusion proof, which later versions demand")
		}
		if chain {
			r.Notes = append(r.Notes, "written as a bundle of version 0.1: later versions hold the signer's certificate alone, without the chain to its authority")
		}
	}
	var err error
	if r.Bundle, err = marshal(c); err != nil {
		return nil, nil, fmt.Errorf("convert: %w", err)
	}
	if r.Claim, err = bundle.Parse(r.Bundle); err != nil {
		return nil, nil, fmt.Errorf("convert: the bundle that was written cannot be read: %w", err)
	}
	if !same(c, r.Claim) {
		return nil, nil, fmt.Errorf("convert: the bundle that was written does not say what the claim says")
	}
	return r, nil, nil
}

// same reports whether two claims say and prove the same, whatever their formats.
func same(a, b *evidence.Claim) bool {
	x, y := neutral(a), neutral(b)
	return x != nil && bytes.Equal(x, y)
}

// neutral is everything of a claim but the name of its format.
func neutral(c *evidence.Claim) []byte {
	plain := *c
	plain.Format, plain.MediaType = "", ""
	data, err := json.Marshal(plain)
	if err != nil {
		return nil
	}
	// A proof in a tree of one leaf has no hashes, written either way.
	return bytes.ReplaceAll(data, []byte(`"Hashes":[]`), []byte(`"Hashes":null`))
}

// SameButProofs reports whether two claims are one signature with the same log
// entries and timestamps, whatever their formats: inclusion proofs, of which a log
// gives another one every time, and certificates above the signer's may differ.
func SameButProofs(a, b *evidence.Claim) bool {
	return bytes.Equal(a.Signature(), b.Signature()) && same(bare(a), bare(b))
}

func bare(c *evidence.Claim) *evidence.Claim {
	out := *c
	out.Certificates = c.Certificates[:min(len(c.Certificates), 1)]
	if len(out.Certificates) == 0 {
		out.Certificates = nil
	}
	out.LogEntries = nil
	for _, e := range c.LogEntries {
		e.Proof = nil
		out.LogEntries = append(out.LogEntries, e)
	}
	if len(c.Timestamps) == 0 {
		out.Timestamps = nil
	}
	if e := c.Envelope; e != nil {
		out.Envelope = &evidence.Envelope{PayloadType: e.PayloadType, Payload: e.Payload, Signatures: e.Signatures}
	}
	return &out
}

// names reports whether a timestamp's DER has a digest of data in it. It is to
// tell what an honest timestamp is over; whether it holds is for package verify.
func names(token, data []byte) bool {
	sum256, sum384, sum512 := sha256.Sum256(data), sha512.Sum384(data), sha512.Sum512(data)
	return bytes.Contains(token, sum256[:]) || bytes.Contains(token, sum384[:]) || bytes.Contains(token, sum512[:])
}
