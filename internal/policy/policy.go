// Package policy has the types that every gate speaks: the input document that
// a policy judges, the decision it makes and the reasons that a person can act on.
//
// A denial is a result, never an error: an error means that the gate could not
// find out. Both fail closed.
package policy

import (
	"encoding/json"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Reason says why something was denied (or what a person should know).
type Reason struct {
	Code    string `json:"code"`              // stable, UPPER_SNAKE; documented in docs/reasons.md
	Message string `json:"message"`           // one sentence, names what was seen and what was wanted
	Subject string `json:"subject,omitempty"` // digest, reference, field or path
	Hint    string `json:"hint,omitempty"`    // what to do next; never suggests weakening a policy
}

// String is the reason on one line: "CODE message".
func (r Reason) String() string { return r.Code + " " + r.Message }

// Decision is what a gate answers. The zero Decision denies.
type Decision struct {
	Allowed  bool     `json:"allowed"`
	Reasons  []Reason `json:"reasons,omitempty"`  // why not; empty when allowed
	Warnings []Reason `json:"warnings,omitempty"` // allowed all the same
}

// Deny is a decision with one or more reasons.
func Deny(reasons ...Reason) Decision { return Decision{Reasons: reasons} }

// Input is the one document that policies of all gates are given.
// Field names follow buildx's source policy where it has them.
type Input struct {
	Kind   string    `json:"kind"` // "image" at verify and admission, "build" before a build
	Action string    `json:"action,omitempty"`
	Now    time.Time `json:"now"`

	Image        *Image `json:"image,omitempty"`
	Signatures   []Fact `json:"signatures,omitempty"`   // verified image signatures
	Attestations []Fact `json:"attestations,omitempty"` // verified attestations, with statement

	Git *Git `json:"git,omitempty"`
}

// Image is the image in question; its digest is resolved once, before anything else.
type Image struct {
	Ref    string          `json:"ref"` // as the user named it
	Host   string          `json:"host,omitempty"`
	Repo   string          `json:"repo,omitempty"`
	Tag    string          `json:"tag,omitempty"`
	Digest evidence.Digest `json:"digest"`
}

// Fact is one verified claim in the shape that policies read.
type Fact struct {
	Format        evidence.Format      `json:"format"`
	PredicateType string               `json:"predicateType,omitempty"`
	Signer        evidence.Signer      `json:"signer"`
	Times         []evidence.Timestamp `json:"times,omitempty"`
	LogIndex      *int64               `json:"logIndex,omitempty"` // nil: not in a log
	LogOrigin     string               `json:"logOrigin,omitempty"`
	Annotations   map[string]string    `json:"annotations,omitempty"` // signed ones
	Predicate     json.RawMessage      `json:"predicate,omitempty"`   // attestations only
	Statement     []byte               `json:"-"`                     // attestations only: the whole statement as signed
	// TrustPolicy is Notation's statement that a Notary Project signature was judged
	// under, and Warnings the checks that failed and that it does not enforce: at
	// level audit a fact with warnings does not say who signed.
	TrustPolicy *TrustPolicy `json:"trustPolicy,omitempty"`
	Warnings    []Reason     `json:"warnings,omitempty"`
	// About is the digest that was signed, when it is not the image's own: that of
	// an index which contains the image, or of the attestation manifest about it.
	About evidence.Digest   `json:"about,omitempty"`
	Where evidence.Location `json:"where"`
}

// TrustPolicy is a statement of a Notation trust policy.
type TrustPolicy struct {
	Name  string `json:"name"`
	Level string `json:"level"` // "strict", "permissive", "audit", or "custom" with overrides
}

// Git is the source of a build. Names are buildx's (policy input "git").
type Git struct {
	Remote         string  `json:"remote,omitempty"`
	Ref            string  `json:"ref"` // full: refs/tags/v1.2.3
	TagName        string  `json:"tagName,omitempty"`
	Checksum       string  `json:"checksum"`       // what the ref points to: tag object or commit
	CommitChecksum string  `json:"commitChecksum"` // peeled commit
	IsAnnotatedTag bool    `json:"isAnnotatedTag"`
	Tag            *Tag    `json:"tag,omitempty"`
	Commit         *Commit `json:"commit,omitempty"`
}

// Tag is an annotated tag; the bytes are verified, their meaning is the tagger's claim.
type Tag struct {
	Object           string     `json:"object"`
	Type             string     `json:"type"`
	Tag              string     `json:"tag"`
	Message          string     `json:"message"`
	Tagger           *Person    `json:"tagger,omitempty"`
	NameMatchesRef   bool       `json:"nameMatchesRef"`
	Signer           *TagSigner `json:"signer,omitempty"` // only when a signature verified
	SignatureKind    string     `json:"signatureKind"`    // "ssh", "openpgp", "x509", ""
	SignatureKeyHint string     `json:"signatureKeyHint,omitempty"`
}

// TagSigner is the key that verifiably signed a tag.
type TagSigner struct {
	Kind        string   `json:"kind"`        // "ssh", "openpgp"
	Fingerprint string   `json:"fingerprint"` // "SHA256:…" for ssh, hexadecimal for openpgp
	Principals  []string `json:"principals"`  // names that the allowed-signers list gives this key
}

// Person is a name with an e-mail address and a time: claims of whoever wrote the object.
type Person struct {
	Name  string    `json:"name"`
	Email string    `json:"email"`
	When  time.Time `json:"when"`
}

// Commit is the commit that is built.
type Commit struct {
	Tree      string   `json:"tree"`
	Parents   []string `json:"parents"`
	Author    *Person  `json:"author,omitempty"`
	Committer *Person  `json:"committer,omitempty"`
	Message   string   `json:"message"`
}
