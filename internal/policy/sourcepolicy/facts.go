package sourcepolicy

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Fact names what can be found out about a source.
type Fact string

// The facts, with the members of the input that each decides.
const (
	ImageChecksum     Fact = "image.checksum"     // checksum
	ImageConfig       Fact = "image.config"       // createdTime, env, labels, user, volumes, workingDir
	ImageAttested     Fact = "image.attested"     // hasProvenance
	ImageProvenance   Fact = "image.provenance"   // provenance
	ImageSignatures   Fact = "image.signatures"   // signatures
	ImageAttestations Fact = "image.attestations" // attestations
	GitRef            Fact = "git.ref"            // ref, tagName, branch, checksum, commitChecksum, isAnnotatedTag, isSHA256
	GitObjects        Fact = "git.objects"        // commit, tag
	HTTPChecksum      Fact = "http.checksum"      // checksum

	HTTPDigest        Fact = "http.digest"        // for verify_http_pgp_signature
	BundleSignature   Fact = "bundle.signature"   // for artifact_attestation
	GitHubAttestation Fact = "github.attestation" // for github_attestation
)

// What only the caller can say. It is never fetched.
const (
	LockSays  Fact = "hallmark.lock" // locked, moved
	BuildSays Fact = "build"         // build
)

// notSaid is why it is not known.
var notSaid = map[Fact]error{
	LockSays:  errors.New("no hallmark.lock says it"),
	BuildSays: errors.New("there is no build that says it"),
}

// Ask is one fact that is wanted of a source.
type Ask struct {
	Fact     Fact
	Material bool // of what an image's provenance names: its author chose where it lies

	Algorithm string          // HTTPDigest: "sha256", "sha384", "sha512"
	Suffix    []byte          // HTTPDigest: bytes hashed after the body
	Digest    evidence.Digest // BundleSignature, GitHubAttestation: of the body
	Bundle    []byte          // BundleSignature: a Sigstore bundle
	Repo      string          // GitHubAttestation: "owner/name"
}

// Key is different for different asks: the key of Facts.Digests and Facts.Found.
func (a Ask) Key() string {
	switch a.Fact {
	case HTTPDigest:
		return a.Algorithm + ":" + hex.EncodeToString(a.Suffix)
	case BundleSignature:
		return fmt.Sprintf("%s %s %s", a.Fact, a.Digest, evidence.SHA256(a.Bundle))
	case GitHubAttestation:
		return fmt.Sprintf("%s %s %s", a.Fact, a.Digest, a.Repo)
	}
	return string(a.Fact)
}

// Facts are what was found out about a source. A nil member is not known.
type Facts struct {
	Checksum     evidence.Digest // of an image or an HTTP body; "" is not known
	Config       *ImageConfiguration
	Attested     *bool
	Provenance   *ProvenanceFact
	Signatures   *[]Signature
	Attestations *[]Attestation

	Git     *GitRefFact
	Objects *GitObjectsFact

	Digests map[string]evidence.Digest // HTTPDigest, by Ask.Key
	Found   map[string]*Signature      // BundleSignature and GitHubAttestation, by Ask.Key; nil: asked, and none verified
	Notes   []string                   // what did not verify and why, for people
}

// ImageConfiguration is what an image's configuration says.
type ImageConfiguration struct {
	CreatedTime string // RFC 3339
	Env         []string
	Labels      map[string]string
	User        string
	Volumes     []string
	WorkingDir  string
}

// ProvenanceFact is the provenance of an image for the asked platform; zero when
// it has none.
type ProvenanceFact struct {
	PredicateType string  // "https://slsa.dev/provenance/v1" or ".../v0.2"
	Predicate     []byte  // JSON
	Verified      bool    // a verified signature covers the statement
	Signer        *Signer // whose that is; nil unless Verified
}

// GitRefFact is what a ref points to.
type GitRefFact struct {
	Ref            string // full name, or a commit id
	Checksum       string // the tag object or the commit
	CommitChecksum string
}

// GitObjectsFact are raw objects, as git cat-file gives them, whose ids the engine checks.
type GitObjectsFact struct {
	GitRefFact        // what they belong to
	Commit     []byte // not nil
	Tag        []byte // nil unless Ref is an annotated tag
}

// Resolver finds facts out.
type Resolver interface {
	// Resolve answers what is asked of one source, all at once. It is called
	// concurrently for different sources, and not twice for the same fact of a
	// source within one evaluation. What it leaves out is not known, and a policy
	// that needs it denies, with err as the reason; so that one failure does not hide
	// what was found, facts and an error may come together. What was looked for and
	// is not there is known: an empty list, a zero ProvenanceFact.
	Resolve(ctx context.Context, src Source, asks []Ask) (Facts, error)
}

// has reports whether the answer to an ask is known.
func (f *Facts) has(a Ask) bool {
	switch a.Fact {
	case ImageChecksum, HTTPChecksum:
		return f.Checksum != ""
	case ImageConfig:
		return f.Config != nil
	case ImageAttested:
		return f.Attested != nil
	case ImageProvenance:
		return f.Provenance != nil
	case ImageSignatures:
		return f.Signatures != nil
	case ImageAttestations:
		return f.Attestations != nil
	case GitRef:
		return f.Git != nil
	case GitObjects:
		return f.Objects != nil
	case HTTPDigest:
		return f.Digests[a.Key()] != ""
	}
	_, ok := f.Found[a.Key()]
	return ok
}

// learn adds what is new; what is known already stays, so that nothing changes
// between two looks of a policy.
func (f *Facts) learn(n Facts) {
	if f.Checksum == "" {
		f.Checksum = n.Checksum
	}
	set(&f.Config, n.Config)
	set(&f.Attested, n.Attested)
	set(&f.Provenance, n.Provenance)
	set(&f.Signatures, n.Signatures)
	set(&f.Attestations, n.Attestations)
	set(&f.Git, n.Git)
	set(&f.Objects, n.Objects)
	if f.Git == nil && f.Objects != nil {
		ref := f.Objects.GitRefFact
		f.Git = &ref
	}
	for k, v := range n.Digests {
		if f.Digests == nil {
			f.Digests = map[string]evidence.Digest{}
		}
		if f.Digests[k] == "" {
			f.Digests[k] = v
		}
	}
	for k, v := range n.Found {
		if f.Found == nil {
			f.Found = map[string]*Signature{}
		}
		if _, ok := f.Found[k]; !ok {
			f.Found[k] = v
		}
	}
	f.Notes = append(f.Notes, n.Notes...)
}

func set[T any](to **T, from *T) {
	if *to == nil {
		*to = from
	}
}
