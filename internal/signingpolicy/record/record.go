// Package record reads and writes the records of signing policies: which policy a repository has,
// who may replace it, and which record was before. A record is an in-toto statement in a Sigstore
// bundle. Reading believes nothing: signature, approvals and order are for package chain.
package record

import (
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
)

// Names of the format.
const (
	PredicateType = "https://hallmark.dev/attestation/policy-record/v1"
	Entrypoint    = "data.hallmark.signing"
	subjectPrefix = "hallmark-policy:"
)

// Limits.
const (
	MaxSize     = 64 << 10  // bytes of a record
	MaxFile     = 256 << 10 // bytes of its bundle
	MaxPolicy   = 256 << 10 // bytes of the policy bundle
	MaxEvidence = 64
)

// Codes of refusals (docs/reasons.md). The authority document has its own.
const (
	CodeBroken = "POLICY_CHAIN_BROKEN"
)

// Action is what a record does.
type Action string

// Actions.
const (
	Set       Action = "set"       // a policy, the first or the next one
	Tombstone Action = "tombstone" // no policy any more; the people stay
	Rebind    Action = "rebind"    // another name or owner, nothing else
	Recover   Action = "recover"   // as the recover role agrees, with a delay
	Reset     Action = "reset"     // by the store's operator, when nobody can agree any more
)

// Modes of a policy.
const (
	Enforce = "enforce"
	Warn    = "warn"
)

// Record is a record that keeps all rules which one record can keep by itself.
type Record struct {
	Predicate
	// Doc is Predicate.Authority, read.
	Doc *authority.Document
	// Digest is that of Payload, the statement as it was signed.
	Digest  evidence.Digest
	Payload []byte
	// File is the bundle around it, and Claim what it holds; nil of a record that is not signed yet.
	File  []byte
	Claim *evidence.Claim
}

// Predicate is what a record says.
type Predicate struct {
	Key     string // "github.com/id/123456", "github.com/owner/42"
	Name    string // "github.com/org/app", "github.com/org"
	OwnerID string // decimal
	Version int64  // from 1
	// Prev is the digest of the record before, and Root that of the first one, or of the last
	// reset. Both are "" in the first record; Root is "" in a reset, too.
	Prev        evidence.Digest
	Root        evidence.Digest
	Action      Action
	CreatedAt   time.Time
	EffectiveAt time.Time
	Policy      *Policy
	// Authority is authority.json as it is.
	Authority      RawJSON
	Owner          *Owner // of an owner's record alone
	Source         Source
	ProposalDigest evidence.Digest
	// Evidence are the digests of the approvals' payloads.
	Evidence []evidence.Digest
}

// Policy is the policy text of a record.
type Policy struct {
	Bundle      evidence.Digest
	Size        int64 // bytes
	Entrypoint  string
	InputSchema string
	Lib         string
	Mode        string
	Files       []File
}

// File is a file that the policy was made of.
type File struct {
	Path    string `json:"path" strict:"required"`
	GitBlob string `json:"gitBlob" strict:"required"`
}

// Owner is what an owner's record says about all repositories of the owner.
type Owner struct {
	Reserve bool `json:"reserve"` // only the owner's update role makes their first records
	Require bool `json:"require"` // one without a policy may not sign
}

// Source is the commit that the record's files are of.
type Source struct {
	Commit string `json:"commit" strict:"required"`
	Ref    string `json:"ref" strict:"required"`
}

// RawJSON is a JSON text that is kept as it was.
type RawJSON []byte

// OfOwner reports whether the record is about an owner.
func (r *Record) OfOwner() bool { return kindOf(r.Key) == "owner" }
