// Package approval makes and judges approvals: one named person's signed statement about one
// commit and tag, or about the text of a policy. Where approvals lie is not trusted; each stands
// by itself, bound to repository, commit, tag, ref, tree, policy, action and time.
package approval

import (
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Names of the format.
const (
	PayloadType   = "application/vnd.in-toto+json"
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://hallmark.dev/attestation/approval/v1"
	Namespace     = "hallmark-approval" // of SSHSIG signatures
	MediaType     = "application/vnd.hallmark.approval.v1+json"
)

// Limits.
const (
	MaxSize = 16 << 10 // bytes of an envelope
	// MaxKept is how many approvals of one commit are usual, and how many that do not count are kept
	// for people to see.
	MaxKept    = 64
	maxNote    = 1024
	maxRef     = 1024
	maxURI     = 1024
	maxSkew    = 5 * time.Minute // of the approver's clock
	minRSABits = 3072
)

// Actions.
const (
	ActionBuild     = "build"
	ActionUpdate    = "policy.update" // also of a rebind record
	ActionRecover   = "policy.recover"
	ActionTombstone = "policy.tombstone"
)

// Decisions.
const (
	Approve = "approve"
	Reject  = "reject"
)

// Sources of approvals in the policy input.
const (
	SourceSigned            = "signed"
	SourceGitHubEnvironment = "github-environment"
	SourceGitHubReview      = "github-review"
	SourceGittuf            = "gittuf"
)

// Codes of approvals that do not count.
const (
	CodeBadSignature       = "APPROVAL_BAD_SIGNATURE"
	CodeExpired            = "APPROVAL_EXPIRED"
	CodeKeyNotOfPrincipal  = "APPROVAL_KEY_NOT_OF_PRINCIPAL"
	CodeKeyUse             = "APPROVAL_KEY_USE"
	CodeMalformed          = "APPROVAL_MALFORMED"
	CodeNoUserVerification = "APPROVAL_NO_USER_VERIFICATION"
	CodeOtherAction        = "APPROVAL_OTHER_ACTION"
	CodeOtherCommit        = "APPROVAL_OTHER_COMMIT"
	CodeOtherPolicy        = "APPROVAL_OTHER_POLICY"
	CodeOtherRepository    = "APPROVAL_OTHER_REPOSITORY"
	CodeRejected           = "APPROVAL_REJECTED" // what a caller says of a veto
	CodeWrongNamespace     = "APPROVAL_WRONG_NAMESPACE"
	CodeTooMany            = "APPROVALS_TOO_MANY" // a warning
	CodeNotNamed           = "NOT_A_NAMED_APPROVER"
	CodeKeyKind            = "KEY_KIND"
	CodeTooWeak            = "KEY_TOO_WEAK"
)

// Statement is what an approver says. It is about a commit (ActionBuild: Commit, Ref, Tree and,
// of a tag, TagObject) or about a proposed policy (the other actions: Proposal).
type Statement struct {
	Action     string
	Decision   string
	Principal  string
	Repository Repository

	Commit     string // 40 or 64 lower-case hexadecimal digits
	Ref        string // full: refs/tags/v1.0.0
	TagObject  string // object id of the annotated tag; "" of other refs and of unsigned tags
	Tree       string
	TreeSHA256 string // "" or 64 lower-case hexadecimal digits
	Proposal   string // "sha256:…", the record's proposalDigest

	Policy   Policy
	Reviewed Reviewed

	IssuedAt, ExpiresAt time.Time // whole seconds, UTC
	Nonce               string    // 16 random bytes in unpadded base64url

	// Ext are members of others, by the reverse domain name of who defines them; JSON texts.
	Ext map[string]string
}

// Repository is the repository that is meant.
type Repository struct {
	Key     string // github.com/id/123456
	OwnerID string // decimal
	URI     string // https://github.com/org/app
}

// Policy is the policy in force when the statement was made; the zero Policy is none.
type Policy struct {
	Root    string // "sha256:…" of the first record
	Version int64
	Digest  string // "sha256:…" of the record; of a policy that is not stored, whatever its reader calls it
}

// Reviewed is what the approver looked at.
type Reviewed struct {
	Base string // commit from which the difference was read, or ""
	Note string // comment
}

// Envelope is an approval as it was read: well-formed, nothing verified.
type Envelope struct {
	Statement Statement
	ID        string // "sha256:…" of the payload: signatures are malleable
	Payload   []byte
	KeyID     string // what the envelope claims
	Signature []byte
}

// PAE is what is signed: DSSE's pre-authentication encoding of a payload.
func PAE(payload []byte) []byte { return evidence.PAE(PayloadType, payload) }

// Parse reads an envelope with its one signature. A refusal has code APPROVAL_MALFORMED.
func Parse(data []byte) (*Envelope, *policy.Reason) { return parse(data) }

// Kind is the kind of the signature: "ssh", "openpgp", "x509", "sigstore", or "" of none.
func (e *Envelope) Kind() string { return kindOf(e.Signature) }

// ClaimedKey is the key that the signature itself names, as [authority.Key.ID] writes it, or an
// OpenPGP key id; "" where it names none.
func (e *Envelope) ClaimedKey() string { return claimedKey(e.Signature) }

// Build is the payload of a statement, in canonical form. Nonce and times that are zero are
// filled in: random, now, and a week later. It fails when Parse would refuse the statement.
func Build(s Statement) ([]byte, error) { return build(s) }

// ParsePayload reads a payload as Parse does.
func ParsePayload(payload []byte) (*Statement, *policy.Reason) { return parsePayload(payload) }

// Attach makes the envelope of a signature over pae, as PAE made it: an SSHSIG signature armored by
// ssh-keygen -Y sign or binary, an OpenPGP signature armored or binary, a CMS signature in DER
// or PEM, or a Sigstore bundle. It does not verify the signature.
func Attach(pae, signature []byte) ([]byte, error) { return attach(pae, signature) }

// Expected is what approvals must be about. What is empty here matches no approval that has it; only
// the members that say so are left out of the comparison.
type Expected struct {
	Action     string
	Repository Repository // OwnerID and URI are compared where they are not ""
	Commit     string
	Ref        string
	TagObject  string
	Tree       string
	TreeSHA256 string // compared where both have it
	Proposal   string
	Policy     Policy
	Now        time.Time // verified time
	// Keyless verifies Sigstore bundles over a PAE at their own trusted time; nil: keyless approvals
	// are refused with KEY_KIND.
	Keyless Keyless
	Memory  *Memory // of signatures that verified before, or nil
}

// Keyless is who verifies keyless signatures.
type Keyless interface {
	// Verify says who signed message, given a Sigstore bundle with a message signature, and when
	// a trusted party saw it. The error is the end of a sentence that begins with the approval.
	Verify(bundle, message []byte) (issuer, subject string, at time.Time, err error)
}

// Found is an envelope and where it was found.
type Found struct {
	Where string // "refs/hallmark/approvals/…", "approvals/alice.json"
	Data  []byte
}

// Approval is one that counts. Those that are not signed are made by whoever asked their source.
type Approval struct {
	ID            string // "sha256:…"
	Source        string // SourceSigned, …
	Principal     string
	Account       string // "github.com/583231", "" of a signed one
	Decision      string // Approve, Reject
	Comment       string // the approver's note
	Protection    string // of the key, as the authority document declares it
	Attested      bool
	UserVerified  bool      // by the security key that signed
	Kind          string    // of key: "ssh", "openpgp", "x509", "sigstore"
	IssuedAt      time.Time // zero where the source has no time
	ExpiresAt     time.Time // likewise
	ReviewedBase  string    // commit, or ""
	Environment   string    // of SourceGitHubEnvironment
	PR            int       // of SourceGitHubReview
	Key           string    // authority's Key.ID
	Where         string    // it was found
	PolicyVersion int64     // that it was given under
}

// Rejection is one that does not count. Unless Signed is set, anybody can have made it.
type Rejection struct {
	Source           string
	ClaimedPrincipal string // "" where it cannot be read
	Code             string
	Signed           bool   // a key of the principal made it, for something else, at another time, …
	ID               string // "sha256:…", or "" where there is no payload
	Where            string
	Message          string // a sentence
}

// Result is what Judge found.
type Result struct {
	// Valid are those that count, sorted by principal; of one principal and decision the 16 newest
	// are kept. A principal counts once all the same: see Quorum.
	Valid []Approval
	// Rejected are at most MaxKept of those that do not count: first those that principals signed,
	// then those that claim to be by a principal's key.
	Rejected []Rejection
	// Ignored counts the others that do not count.
	Ignored  int
	Warnings []policy.Reason
}
