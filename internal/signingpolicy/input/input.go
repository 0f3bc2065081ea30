// Package input is the document that a signing policy judges: kind
// hallmark.signing.input/v1 (the table in docs/signing-policy-rules.md).
//
// The gate fills in a [Document]; [Check] says what is missing before any rule is
// evaluated, because a rule about a missing member is undefined, and a denial that
// is undefined does not deny. [Schema] is the same structs as a closed JSON schema,
// against which policies are compiled. [Parse] reads a document that was kept.
//
// How a field may be absent is written at the field, and nothing else says it:
//
//   - a tag without omitempty: the member is required. A list is never null: nil
//     means that nobody looked, and is INPUT_INCOMPLETE; an empty list says that
//     there is none;
//   - omitempty: the member is absent when there is no such thing;
//   - a pointer without omitempty: the member is there, and null when it is not known.
//
// A tag is:"…" says what a text must be besides: text (not empty), time, object (an
// id of git), digest, id (a decimal number, or "local"), or one of words with | between.
package input

import (
	"fmt"
	"time"
)

// Kind names this version of the document.
const Kind = "hallmark.signing.input/v1"

// Local is what source.provider and source.id say without a CI token.
const Local = "local"

// Time is an instant: RFC 3339 in UTC with whole seconds, so that texts compare as
// instants do.
type Time string

const timeFormat = "2006-01-02T15:04:05Z"

// At is the instant as a policy sees it; parts of a second are cut off.
func At(t time.Time) Time { return Time(t.UTC().Format(timeFormat)) }

// Time is the instant; an error when the text is none.
func (t Time) Time() (time.Time, error) {
	at, err := time.Parse(timeFormat, string(t))
	if err == nil && At(at) != t { // Parse lets parts of a second pass
		err = fmt.Errorf("%q is not a time in whole seconds", string(t))
	}
	return at, err
}

// Document is all that a policy knows. V in a comment: produced by verification. C:
// whatever somebody claimed.
type Document struct {
	Kind   string `json:"kind" is:"hallmark.signing.input/v1"`
	Action string `json:"action" is:"build|policy.update"`
	Now    Time   `json:"now" is:"time"` // V: the verified time of the decision

	Source    Source      `json:"source"`
	Git       Git         `json:"git"`
	Ancestry  Ancestry    `json:"ancestry"`
	Approvals []Approval  `json:"approvals"` // V: valid ones alone
	Rejected  []Rejected  `json:"rejected"`  // why others do not count: for people, never to allow
	Scans     []Scan      `json:"scans"`
	SourceVSA []SourceVSA `json:"sourceVSA,omitempty"`
	Builder   Builder     `json:"builder"`
	Run       Run         `json:"run"`
	Build     Build       `json:"build"`
	Policy    Policy      `json:"policy"`
	Org       *Org        `json:"org,omitempty"` // the owner's verified record
}

// Source is the repository, from the CI's token or its certificate (V). Without one
// provider and id are "local", and what is not known is an empty text.
type Source struct {
	Provider      string `json:"provider" is:"text"` // "github.com"
	ID            string `json:"id" is:"id"`         // the provider's number
	OwnerID       string `json:"ownerID"`
	Name          string `json:"name"` // "org/app"
	URI           string `json:"uri"`
	Visibility    string `json:"visibility"`
	DefaultBranch string `json:"defaultBranch"`
}

// Git is what is built. Names are those of buildx's policy input.
type Git struct {
	Schema         string `json:"schema"`
	Host           string `json:"host"`
	Remote         string `json:"remote"`
	FullURL        string `json:"fullURL"`
	Ref            string `json:"ref" is:"text"` // full: "refs/tags/v1.4.0"
	TagName        string `json:"tagName"`
	Branch         string `json:"branch"`
	SubDir         string `json:"subDir"`
	IsCommitRef    bool   `json:"isCommitRef"`
	IsSHA256       bool   `json:"isSHA256"`
	Checksum       string `json:"checksum" is:"object"`       // V: what ref points to: of an annotated tag its object
	CommitChecksum string `json:"commitChecksum" is:"object"` // V: the commit
	IsAnnotatedTag bool   `json:"isAnnotatedTag"`             // V
	Tag            *Tag   `json:"tag,omitempty"`              // there exactly when isAnnotatedTag
	Commit         Commit `json:"commit"`
}

// Tag is an annotated tag. Its bytes are V, what they say is C, but for signer.
type Tag struct {
	Object            string        `json:"object" is:"object"` // what is tagged
	Type              string        `json:"type" is:"text"`     // "commit"
	Tag               string        `json:"tag" is:"text"`      // "v1.4.0"
	Tagger            Person        `json:"tagger"`             // C, the date, too
	Message           string        `json:"message"`
	PGPSignature      *PGPSignature `json:"pgpSignature,omitempty"` // C: kept for buildx's policies
	SSHSignature      *SSHSignature `json:"sshSignature,omitempty"` // C
	Signer            *Signer       `json:"signer,omitempty"`       // V: there only when a signature verified with a key of the record
	Trailers          Trailers      `json:"trailers"`               // V: what was signed
	NameMatchesRef    bool          `json:"nameMatchesRef"`         // V
	RepositoryMatches bool          `json:"repositoryMatches"`      // V: the signed trailer names this repository
}

// Person is who an object says wrote it (C).
type Person struct {
	Name  string `json:"name"`
	Email string `json:"email"`
	When  Time   `json:"when" is:"time"`
}

// PGPSignature is what an OpenPGP signature says of itself (C).
type PGPSignature struct {
	Version int    `json:"version"`
	KeyID   string `json:"keyID"`
}

// SSHSignature is what an SSH signature says of itself (C).
type SSHSignature struct {
	Version int    `json:"version"`
	PubKey  string `json:"pubKey"`
}

// Signer is the key that signed, with whose it is by the record (V).
type Signer struct {
	Verified    bool     `json:"verified"`
	Kind        string   `json:"kind" is:"text"` // "ssh", "openpgp", "x509", "sigstore"
	KeyID       string   `json:"keyID"`
	Fingerprint string   `json:"fingerprint" is:"text"` // "SHA256:…" for ssh, hexadecimal for openpgp and x509
	Principal   string   `json:"principal" is:"text"`
	Roles       []string `json:"roles"`                // "release", "update"
	Protection  string   `json:"protection" is:"text"` // "software", "fido", "hsm", "keyless"
	Attested    bool     `json:"attested"`
	Namespace   string   `json:"namespace"`
	Hash        string   `json:"hash"`
	SignedAt    *Time    `json:"signedAt" is:"time"` // null without a trusted timestamp
}

// Trailers are the signed lines Hallmark-… of a message, "" when there is no such line.
type Trailers struct {
	Repository string `json:"Repository"`
	Policy     string `json:"Policy"`
}

// Commit is the commit that is built.
type Commit struct {
	Tree      string   `json:"tree" is:"object"`
	Parents   []string `json:"parents" is:"object"`
	Author    Person   `json:"author"`    // C
	Committer Person   `json:"committer"` // C
	Message   string   `json:"message"`
	Signer    *Signer  `json:"signer,omitempty"` // V
}

// Ancestry is where the commit stands (V).
type Ancestry struct {
	ContainedIn   []string `json:"containedIn"`           // protected branches that contain the commit: "main"
	FirstParentIn []string `json:"firstParentIn"`         // those on whose line of first parents it is
	LastRelease   *Release `json:"lastRelease,omitempty"` // from the store's verdicts; absent when there is none
	// LastReleaseIsAncestor is true also when there was no release yet; absent when it
	// could not be found out.
	LastReleaseIsAncestor *bool `json:"lastReleaseIsAncestor,omitempty"`
	CommitsSince          *int  `json:"commitsSince,omitempty"`
	UnsignedCommits       *int  `json:"unsignedCommits,omitempty"`
}

// Release is a release that the gate let through.
type Release struct {
	Tag    string `json:"tag" is:"text"`
	Commit string `json:"commit" is:"object"`
}

// Approval is one valid decision of a principal about this very commit.
type Approval struct {
	ID           string `json:"id" is:"text"`
	Source       string `json:"source" is:"signed|github-environment|github-review|gittuf"`
	Principal    string `json:"principal" is:"text"`
	Account      string `json:"account"` // with the provider, "" of a signed one
	Decision     string `json:"decision" is:"approve|reject"`
	Comment      string `json:"comment"`              // C
	Protection   string `json:"protection" is:"text"` // "software", "fido", "hsm", "keyless", or "account" where nothing is signed
	Attested     bool   `json:"attested"`
	UserVerified bool   `json:"userVerified"`
	Kind         string `json:"kind" is:"text"`      // of signature: "ssh", …; "api" where nothing is signed
	IssuedAt     *Time  `json:"issuedAt" is:"time"`  // null where the source has no time
	ExpiresAt    *Time  `json:"expiresAt" is:"time"` // likewise
	ReviewedBase string `json:"reviewedBase"`        // the commit that the reviewer compared with, "" when not said
	Environment  string `json:"environment"`         // of github-environment
	PR           *int   `json:"pr,omitempty"`        // of github-review
}

// Rejected is something that looked like an approval and does not count.
type Rejected struct {
	Source           string `json:"source" is:"text"`
	ClaimedPrincipal string `json:"claimedPrincipal"` // C
	Code             string `json:"code" is:"text"`
}

// Scan is what a scanner found.
type Scan struct {
	Tool         Tool    `json:"tool"`
	Scope        string  `json:"scope" is:"builder|attested|repository"`
	Trusted      bool    `json:"trusted"`
	Completed    bool    `json:"completed"`
	Commit       string  `json:"commit"` // that was scanned, "" when not said
	ConfigDigest string  `json:"configDigest"`
	Rules        int     `json:"rules"`
	FilesScanned int     `json:"filesScanned"`
	MaxSeverity  string  `json:"maxSeverity" is:"text"` // "none", "note", "low", "medium", "high", "critical"
	Counts       Counts  `json:"counts"`
	Suppressed   int     `json:"suppressed"`
	Baseline     string  `json:"baseline"`         // the commit whose findings were left out, "" when none were
	Signer       *Signed `json:"signer,omitempty"` // of scope "attested"
	At           *Time   `json:"at" is:"time"`
}

// Tool is a scanner.
type Tool struct {
	Name    string `json:"name" is:"text"`
	Version string `json:"version"`
}

// Counts is how many findings there are of each severity.
type Counts struct {
	Critical int `json:"critical"`
	High     int `json:"high"`
	Medium   int `json:"medium"`
	Low      int `json:"low"`
	Note     int `json:"note"`
}

// Signed is the workflow identity that signed a statement (V).
type Signed struct {
	Issuer   string `json:"issuer" is:"text"`
	Identity string `json:"identity" is:"text"`
}

// SourceVSA is a verified SLSA source verification summary about the commit.
type SourceVSA struct {
	VerifierID string   `json:"verifierID" is:"text"`
	Levels     []string `json:"levels"`
	At         *Time    `json:"at" is:"time"`
	Signer     *Signed  `json:"signer,omitempty"`
}

// Builder is who builds, from the CI's token (V). Locally id is "local" and the others
// are empty.
type Builder struct {
	ID                string `json:"id" is:"text"`
	URI               string `json:"uri"` // "https://github.com/org/builder/.github/workflows/build.yml@refs/tags/v2"
	Ref               string `json:"ref"`
	Digest            string `json:"digest"`
	Version           string `json:"version"`
	RunnerEnvironment string `json:"runnerEnvironment"` // "github-hosted"
	Issuer            string `json:"issuer"`
}

// Run is the CI's run, from its token (V). Without one each member is null.
type Run struct {
	ID             *string `json:"id"`
	Attempt        *int    `json:"attempt"`
	Event          *string `json:"event"`
	Actor          *string `json:"actor"` // who started it: no authorisation
	ActorID        *string `json:"actorID"`
	ActorPrincipal *string `json:"actorPrincipal"` // whose account that is by the record
	Workflow       *string `json:"workflow"`
	HeadSHA        *string `json:"headSHA"`
	Environment    *string `json:"environment"`
	URL            *string `json:"url"`
}

// Build is what is about to be built and pushed.
type Build struct {
	Type      string            `json:"type"` // "image"
	Target    string            `json:"target"`
	Platforms []string          `json:"platforms"`
	Args      map[string]string `json:"args"`
	Push      bool              `json:"push"`
	Images    []string          `json:"images"`
	Network   string            `json:"network"`
	Caps      []string          `json:"caps"`
}

// Policy is the record that is in force (V). Of a rehearsal with a folder, which no
// store has, version is 0, root is empty and the times are null.
type Policy struct {
	Key           string   `json:"key" is:"text"` // "github.com/id/123456", or "local"
	Root          string   `json:"root"`          // digest of version 1
	Version       int      `json:"version"`
	Digest        string   `json:"digest" is:"digest"`
	OwnerID       string   `json:"ownerID"`
	StoredAt      *Time    `json:"storedAt" is:"time"`
	EffectiveAt   *Time    `json:"effectiveAt" is:"time"`
	PreviousRoots []string `json:"previousRoots"`
	Resets        int      `json:"resets"`
	Pending       bool     `json:"pending"`             // a newer version is stored and not yet in force
	Freshness     string   `json:"freshness" is:"text"` // "witnessed", "operator", "rehearsal"
	HeadTime      *Time    `json:"headTime" is:"time"`
}

// Org is the owner's record in short (V).
type Org struct {
	Key     string `json:"key" is:"text"`
	Root    string `json:"root"`
	Version int    `json:"version"`
	Digest  string `json:"digest" is:"digest"`
	Require bool   `json:"require"`
	Reserve bool   `json:"reserve"`
}
