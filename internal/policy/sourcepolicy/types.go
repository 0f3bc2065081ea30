package sourcepolicy

import (
	"encoding/json"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Input is the document that a source policy judges: buildx's, with the same names
// and shapes (docker/buildx v0.37.2, package policy, types.go), and our extensions
// under names that buildx does not use. Exactly one of Local, Image, HTTP and Git
// is set, none of them for the question about capabilities and for a material that
// is no such source.
//
// What is false is said to be false; other members are absent when they are empty,
// as in buildx: "not input.image.user" is how its policies ask for that.
type Input struct {
	Env   Env    `json:"env"`
	Local *Local `json:"local,omitempty"`
	Image *Image `json:"image,omitempty"`
	HTTP  *HTTP  `json:"http,omitempty"`
	Git   *Git   `json:"git,omitempty"`

	Build    *Build    `json:"build,omitempty"`    // extension
	Material *Material `json:"material,omitempty"` // extension: of each entry of provenance.materials
}

// Env is the build that asks.
type Env struct {
	Args        map[string]*string `json:"args,omitempty"`     // build arguments of the call; null: taken from the environment, and not set there
	Labels      map[string]string  `json:"labels,omitempty"`   // of the call
	Filename    string             `json:"filename,omitempty"` // base name of the Dockerfile
	Target      string             `json:"target,omitempty"`   // stage that is built
	CapsRequest bool               `json:"capsRequest"`        // the question is which capabilities the policy wants
	Depth       int                `json:"depth"`              // 0: a source of the build, 1: a material of that, …
}

// Build is what the build itself may do. Unknown when the caller does not say.
type Build struct {
	Network bool `json:"network"` // RUN steps reach the network
	Cache   bool `json:"cache"`   // results of other builds are imported
}

// Local is a folder of the client.
type Local struct {
	Name string `json:"name,omitempty"` // "context", "dockerfile", or the name of a named context
}

// HTTP is a file that is downloaded.
type HTTP struct {
	URL     string              `json:"url,omitempty"`
	Schema  string              `json:"schema,omitempty"` // "http", "https"
	Host    string              `json:"host,omitempty"`
	Path    string              `json:"path,omitempty"`
	Query   map[string][]string `json:"query,omitempty"`
	HasAuth bool                `json:"hasAuth"` // a secret is sent

	Checksum string `json:"checksum,omitempty"` // fact; "sha256:…" of the body

	Locked string `json:"locked,omitempty"` // extension, as Image.Locked: of the body, perhaps sha384 or sha512
	Moved  *bool  `json:"moved,omitempty"`  // extension, as Image.Moved
}

// Git is a checkout of a repository.
type Git struct {
	Schema      string `json:"schema,omitempty"`
	Host        string `json:"host,omitempty"`
	Remote      string `json:"remote,omitempty"`
	FullURL     string `json:"fullURL,omitempty"`
	TagName     string `json:"tagName,omitempty"` // fact unless the ref is a full name
	Branch      string `json:"branch,omitempty"`  // as TagName
	Ref         string `json:"ref,omitempty"`     // as TagName; "refs/tags/v1.0.0", or a commit id
	Subdir      string `json:"subDir,omitempty"`
	IsCommitRef bool   `json:"isCommitRef"`

	IsSHA256       *bool  `json:"isSHA256,omitempty"`       // fact unless IsCommitRef
	Checksum       string `json:"checksum,omitempty"`       // fact unless IsCommitRef: the tag object or the commit
	CommitChecksum string `json:"commitChecksum,omitempty"` // as Checksum: the commit
	IsAnnotatedTag *bool  `json:"isAnnotatedTag,omitempty"` // as Checksum

	Tag    *Tag    `json:"tag,omitempty"`    // fact; what whoever made the object says
	Commit *Commit `json:"commit,omitempty"` // fact; likewise

	Locked string `json:"locked,omitempty"` // extension, as Image.Locked: the commit
	Moved  *bool  `json:"moved,omitempty"`  // extension, as Image.Moved: the ref leads to another commit now
}

// Actor is who wrote an object, by their own account.
type Actor struct {
	Name  string     `json:"name,omitempty"`
	Email string     `json:"email,omitempty"`
	When  *time.Time `json:"when,omitempty"`
}

// Commit is a commit object.
type Commit struct {
	Tree      string   `json:"tree,omitempty"`
	Parents   []string `json:"parents,omitempty"`
	Author    Actor    `json:"author"`
	Committer Actor    `json:"committer"`
	Message   string   `json:"message,omitempty"`

	PGPSignature *PGPSignature `json:"pgpSignature,omitempty"`
	SSHSignature *SSHSignature `json:"sshSignature,omitempty"`
}

// Tag is an annotated tag's object.
type Tag struct {
	Object  string `json:"object,omitempty"`
	Type    string `json:"type,omitempty"`
	Tag     string `json:"tag,omitempty"`
	Tagger  Actor  `json:"tagger"`
	Message string `json:"message,omitempty"`

	PGPSignature *PGPSignature `json:"pgpSignature,omitempty"`
	SSHSignature *SSHSignature `json:"sshSignature,omitempty"`
}

// PGPSignature is a signature that an object carries. It was not verified:
// verify_git_signature does.
type PGPSignature struct {
	Version int    `json:"version,omitempty"`
	KeyID   string `json:"keyID,omitempty"` // 16 hexadecimal digits
}

// SSHSignature is as PGPSignature.
type SSHSignature struct {
	Version int    `json:"version,omitempty"`
	PubKey  string `json:"pubKey,omitempty"` // "SHA256:…"
}

// Image is an image for one platform.
type Image struct {
	Ref          string `json:"ref,omitempty"`      // normalised, with tag and digest
	Host         string `json:"host,omitempty"`     // "docker.io"
	Repo         string `json:"repo,omitempty"`     // as people write it: "alpine", "org/app", "127.0.0.1:5000/app"
	FullRepo     string `json:"fullRepo,omitempty"` // "docker.io/library/alpine"
	Tag          string `json:"tag,omitempty"`
	Platform     string `json:"platform,omitempty"` // "linux/arm64/v8"
	OS           string `json:"os,omitempty"`
	Architecture string `json:"arch,omitempty"`
	Variant      string `json:"variant,omitempty"`
	IsCanonical  bool   `json:"isCanonical"` // named by digest

	Checksum string `json:"checksum,omitempty"` // fact unless IsCanonical: digest of the index or manifest

	CreatedTime string            `json:"createdTime,omitempty"` // facts, from the image's configuration
	Env         []string          `json:"env,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	User        string            `json:"user,omitempty"`
	Volumes     []string          `json:"volumes,omitempty"`
	WorkingDir  string            `json:"workingDir,omitempty"`

	HasProvenance *bool       `json:"hasProvenance,omitempty"` // fact: there are attestations
	Provenance    *Provenance `json:"provenance,omitempty"`    // fact
	Signatures    []Signature `json:"signatures,omitempty"`    // fact; only verified ones

	Locked       string        `json:"locked,omitempty"`       // extension: digest that hallmark.lock has for this name; unknown without a lock
	Moved        *bool         `json:"moved,omitempty"`        // extension: the name has another digest now; unknown unless it is locked
	Attestations []Attestation `json:"attestations,omitempty"` // extension, fact; SBOM, VEX and other statements
}

// Provenance is how an image was built: SLSA provenance of BuildKit, v1 or v0.2.
type Provenance struct {
	PredicateType string `json:"predicateType,omitempty"`
	BuildType     string `json:"buildType,omitempty"`
	BuilderID     string `json:"builderID,omitempty"`

	InvocationID string `json:"invocationID,omitempty"`
	StartedOn    string `json:"startedOn,omitempty"` // RFC 3339, UTC
	FinishedOn   string `json:"finishedOn,omitempty"`

	ConfigSource *ConfigSource     `json:"configSource,omitempty"`
	Frontend     string            `json:"frontend,omitempty"`
	BuildArgs    map[string]string `json:"buildArgs,omitempty"`
	RawArgs      map[string]string `json:"rawArgs,omitempty"`
	Reproducible *bool             `json:"reproducible,omitempty"`
	Hermetic     *bool             `json:"hermetic,omitempty"`

	Completeness *Completeness `json:"completeness,omitempty"`
	Materials    []Input       `json:"materials,omitempty"`

	Verified bool    `json:"verified"`         // extension: a verified signature covers this very statement
	Signer   *Signer `json:"signer,omitempty"` // extension: whose signature that is; what the statement says is this signer's word
}

// ConfigSource is where the build's instructions came from.
type ConfigSource struct {
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
	Path   string            `json:"path,omitempty"`
}

// Completeness is what the builder says that it recorded.
type Completeness struct {
	Parameters  *bool `json:"parameters,omitempty"`
	Environment *bool `json:"environment,omitempty"` // v0.2 only
	Materials   *bool `json:"materials,omitempty"`
}

// Material is what the provenance itself says of a material.
type Material struct {
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
}

// Signature is a verified signature.
type Signature struct {
	Kind            string      `json:"kind,omitempty"` // evidence/attestation.SignatureKind
	Type            string      `json:"type,omitempty"` // "bundle-v0.3", "simplesigning-v1"; else our name of the format
	Timestamps      []Timestamp `json:"timestamps,omitempty"`
	DockerReference string      `json:"dockerReference,omitempty"`
	IsDHI           bool        `json:"isDHI"`
	Signer          *Signer     `json:"signer,omitempty"`

	Covers string `json:"covers,omitempty"` // extension: "image", "index", "attestation": what was signed
	Pinned bool   `json:"pinned"`           // extension: the trust bundle pins this signer for the image's repository
}

// Timestamp is a time that a trusted party vouched for.
type Timestamp struct {
	Type      string    `json:"type,omitempty"` // "Tlog", "TimestampAuthority"
	URI       string    `json:"uri,omitempty"`
	Timestamp time.Time `json:"timestamp"`
}

// Signer is whose certificate or key a signature was made with. The names are
// those of Fulcio's certificate extensions; the last members are extensions of ours.
type Signer struct {
	CertificateIssuer                   string `json:"certificateIssuer,omitempty"`
	SubjectAlternativeName              string `json:"subjectAlternativeName,omitempty"`
	Issuer                              string `json:"issuer,omitempty"`
	BuildSignerURI                      string `json:"buildSignerURI,omitempty"`
	BuildSignerDigest                   string `json:"buildSignerDigest,omitempty"`
	RunnerEnvironment                   string `json:"runnerEnvironment,omitempty"`
	SourceRepositoryURI                 string `json:"sourceRepositoryURI,omitempty"`
	SourceRepositoryDigest              string `json:"sourceRepositoryDigest,omitempty"`
	SourceRepositoryRef                 string `json:"sourceRepositoryRef,omitempty"`
	SourceRepositoryIdentifier          string `json:"sourceRepositoryIdentifier,omitempty"`
	SourceRepositoryOwnerURI            string `json:"sourceRepositoryOwnerURI,omitempty"`
	SourceRepositoryOwnerIdentifier     string `json:"sourceRepositoryOwnerIdentifier,omitempty"`
	BuildConfigURI                      string `json:"buildConfigURI,omitempty"`
	BuildConfigDigest                   string `json:"buildConfigDigest,omitempty"`
	BuildTrigger                        string `json:"buildTrigger,omitempty"`
	RunInvocationURI                    string `json:"runInvocationURI,omitempty"`
	SourceRepositoryVisibilityAtSigning string `json:"sourceRepositoryVisibilityAtSigning,omitempty"`

	Key         string `json:"key,omitempty"`         // extension: "sha256:…" of a public key
	Subject     string `json:"subject,omitempty"`     // extension: of a Notary Project signer's certificate
	Certificate string `json:"certificate,omitempty"` // extension: "sha256:…" of that certificate
}

// Attestation is a statement about the image.
type Attestation struct {
	PredicateType string          `json:"predicateType"`
	Verified      bool            `json:"verified"`         // a verified signature covers it
	Signer        *Signer         `json:"signer,omitempty"` // of that signature
	Pinned        bool            `json:"pinned"`           // as Signature.Pinned, of a statement that was signed itself
	Predicate     json.RawMessage `json:"predicate,omitempty"`
}

// Locked is what a hallmark.lock says of a source. The zero Locked: it has nothing of
// that name.
type Locked struct {
	Digest evidence.Digest // of an image or a body
	Commit string          // of a git ref
}

// Lock is what a hallmark.lock says of sources.
type Lock func(Source) *Locked
