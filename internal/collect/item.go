package collect

import (
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Item is one thing that was found. Exactly one of Claim, Note and Err is set,
// but for the items of a [Tree], which may have none. A manifest with several
// claims, as cosign's older format has, gives an item for each.
type Item struct {
	Where    evidence.Location
	Manifest ocispec.Descriptor // media type, digest and size of the manifest that carries it
	Layer    ocispec.Descriptor // of that manifest, which holds the claim; zero for a manifest that holds none
	// Subject is what the item is attached to, and what its claim must be about:
	// the image, or an attestation manifest about it ([Options.Attestations]).
	Subject       evidence.Digest
	Claim         *evidence.Claim
	Format        string    // one of the Format constants, or an evidence.Format for a claim
	ArtifactType  string    // as the manifest itself says, not the listing
	PredicateType string    // as annotated: unsigned, for people and for sorting
	Created       time.Time // as annotated: unsigned; zero when absent
	Size          int64     // of what the manifest carries, bytes
	About         string    // digest of the image that a BuildKit attestation manifest names
	Statements    []Statement
	Note          string // why it was not read as a claim
	Err           error  // why it could not be read; a fault.Unreachable means that it may yet be good
}

// Statement is an in-toto statement that lies unsigned in an attestation
// manifest, by its layer.
type Statement struct {
	PredicateType string
	Layer         ocispec.Descriptor
}

// Formats of items beside evidence.Format.
const (
	FormatBundle            = "sigstore-bundle" // of a version that was not read
	FormatCosignSignature   = "cosign-signature"
	FormatCosignAttestation = "cosign-attestation"
	FormatCosignSBOM        = "cosign-sbom"
	FormatNotary            = "notary-signature"
	FormatBuildKit          = "buildkit-attestation"
	FormatImage             = "image"
	FormatIndex             = "index"
	FormatOther             = "other"
)

// HowLegacyTag is the Location.How of cosign's tags sha256-<hex>.sig, .att and .sbom.
const HowLegacyTag = "legacy-tag"

// MalformedError is evidence that cannot be read as what it says it is.
type MalformedError struct{ Err error }

func (e *MalformedError) Error() string { return e.Err.Error() }

// Unwrap is the cause.
func (e *MalformedError) Unwrap() error { return e.Err }

func malformed(format string, args ...any) error {
	return &MalformedError{Err: fmt.Errorf(format, args...)}
}
