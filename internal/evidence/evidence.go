// Package evidence has the types that every format is read into and every gate
// judges: subject, claim, envelope, statement, log entry, signer and location.
//
// A [Claim] is bytes that say something about a [Subject]. It is parsed but not
// believed: only package verify turns a claim into facts. Nothing here does any
// cryptography but hashing, and nothing here knows a wire format.
package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Digest is "algorithm:hex" in lower case, for example "sha256:9f86d0…".
// See the OCI image specification, descriptor.md, "Digests".
type Digest string

// ParseDigest accepts sha256, sha384 and sha512 digests in their only canonical
// spelling: lower-case hexadecimal of the algorithm's full length.
func ParseDigest(s string) (Digest, error) {
	alg, hexa, ok := strings.Cut(s, ":")
	size, known := map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}[alg]
	if !ok || !known {
		return "", fmt.Errorf("digest %q: want sha256:, sha384: or sha512: and the hexadecimal digits", clip(s))
	}
	if len(hexa) != size {
		return "", fmt.Errorf("digest %q: want %d hexadecimal digits, have %d", clip(s), size, len(hexa))
	}
	if i := strings.IndexFunc(hexa, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') }); i >= 0 {
		return "", fmt.Errorf("digest %q: character %d is not lower-case hexadecimal", clip(s), len(alg)+1+i)
	}
	return Digest(s), nil
}

// SHA256 is the digest of data.
func SHA256(data []byte) Digest {
	sum := sha256.Sum256(data)
	return Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// Algorithm is the part before the colon, "" for the zero digest.
func (d Digest) Algorithm() string { alg, _, _ := strings.Cut(string(d), ":"); return alg }

// Hex is the part after the colon.
func (d Digest) Hex() string { _, h, _ := strings.Cut(string(d), ":"); return h }

// Bytes is the raw digest, nil when d is not a digest.
func (d Digest) Bytes() []byte {
	b, err := hex.DecodeString(d.Hex())
	if err != nil || len(b) == 0 {
		return nil
	}
	return b
}

// Short is the algorithm and the first twelve digits, for people.
func (d Digest) Short() string {
	if len(d.Hex()) <= 12 {
		return string(d)
	}
	return d.Algorithm() + ":" + d.Hex()[:12]
}

func clip(s string) string {
	if len(s) > 160 {
		return s[:160] + "…"
	}
	return s
}

// Subject is what is talked about: an image manifest, an index or a blob.
type Subject struct {
	Name      string `json:"name,omitempty"` // host/repository or file name; informative
	Digest    Digest `json:"digest"`
	MediaType string `json:"mediaType,omitempty"` // empty for a blob
	Size      int64  `json:"size,omitempty"`
}

// Format names how a claim was written down.
type Format string

// The formats that are read. The zero Format is unknown and never verified.
const (
	FormatBundle01 Format = "sigstore-bundle-v0.1"
	FormatBundle02 Format = "sigstore-bundle-v0.2"
	FormatBundle03 Format = "sigstore-bundle-v0.3"
	// Cosign's formats before version 3, stored under tags beside the image.
	FormatCosignSignature   Format = "cosign-signature"   // simple signing
	FormatCosignAttestation Format = "cosign-attestation" // DSSE
	// Notary Project signatures by their envelope.
	FormatNotaryJWS  Format = "notary-jws"
	FormatNotaryCOSE Format = "notary-cose"
	// FormatBuildKit is a statement in an attestation manifest: it has no signature
	// of its own, and is believed where another claim covers the manifest.
	FormatBuildKit Format = "buildkit-attestation"
)

// Location says where a claim was found, so that a person can fetch it again.
type Location struct {
	How    string `json:"how"`              // "referrers-api", "referrers-tag", "legacy-tag", "layout", "file"
	Ref    string `json:"ref"`              // reference of this very claim, host/repo@sha256:… or a path
	Digest Digest `json:"digest,omitempty"` // of the manifest that carries it, or of the file
	Size   int64  `json:"size,omitempty"`
}

// Claim is one parsed signature or attestation with everything that its author
// offers as proof. Exactly one of Message, Envelope, Simple and Notary is set.
type Claim struct {
	Format       Format
	MediaType    string   // as the claim itself names its format
	Certificates [][]byte // DER, leaf first; empty when a bare key signed
	KeyHint      string   // unauthenticated hint which key signed
	LogEntries   []LogEntry
	Timestamps   [][]byte // DER RFC 3161 TimeStampResp; of a Notary claim a bare TimeStampToken
	Message      *MessageSignature
	Envelope     *Envelope
	Simple       *SimpleSigning
	Notary       *NotaryEnvelope
}

// Signature is the one signature of the claim, nil when there is none.
func (c *Claim) Signature() []byte {
	switch {
	case c.Message != nil:
		return c.Message.Signature
	case c.Simple != nil:
		return c.Simple.Signature
	case c.Notary != nil:
		return c.Notary.Signature
	case c.Envelope != nil && len(c.Envelope.Signatures) == 1:
		return c.Envelope.Signatures[0].Sig
	}
	return nil
}

// MessageSignature signs an artifact directly.
type MessageSignature struct {
	DigestAlgorithm string // "SHA2_256", …; a hint of the producer
	Digest          []byte // a hint of the producer, never trusted
	Signature       []byte
}

// SimpleSigning is cosign's older signature of an image: over a JSON document
// that names it (sigstore/cosign, specs/SIGNATURE_SPEC.md).
type SimpleSigning struct {
	Payload   []byte // as signed
	Signature []byte
}

// NotaryEnvelope is a Notary Project signature
// (notaryproject/specifications, specs/signature-specification.md), whichever of
// its two envelopes it came in. The certificates are the claim's; the claim's
// Timestamps hold the countersignature, a bare CMS TimeStampToken.
type NotaryEnvelope struct {
	Algorithm   string // as JWS names it: "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"
	Signed      []byte // what the signature is over: JWS signing input, COSE Sig_structure
	Signature   []byte // ECDSA as r||s
	ContentType string // of Payload
	Payload     []byte // JSON with the descriptor of what is signed

	SigningScheme string    // "notary.x509", "notary.x509.signingAuthority"
	SigningTime   time.Time // claimed by the signer; with signingAuthority the authority's word
	Expiry        time.Time // zero: none
	// Critical names the protected headers that a verifier must understand or refuse.
	Critical []string
	// Extended names the protected headers that the specification does not define;
	// COSE's numbers are written in decimal.
	Extended     []string
	SigningAgent string // unprotected
}

// Envelope is a DSSE envelope (github.com/secure-systems-lab/dsse, envelope.md).
type Envelope struct {
	PayloadType string
	Payload     []byte
	Signatures  []EnvelopeSignature
	// JSON is the envelope as it was written, and only kept of a
	// [FormatCosignAttestation] whose proofs are about it: cosign's timestamps and
	// log entries. A bundle holds an envelope's parts alone.
	JSON []byte
}

// EnvelopeSignature is one signature over [Envelope.PAE].
type EnvelopeSignature struct {
	KeyID string
	Sig   []byte
}

// PAE is DSSE's pre-authentication encoding (dsse protocol.md, v1): the bytes that are signed.
func (e *Envelope) PAE() []byte { return PAE(e.PayloadType, e.Payload) }

// PAE is the pre-authentication encoding of a payload and its type.
func PAE(payloadType string, payload []byte) []byte {
	b := make([]byte, 0, len(payloadType)+len(payload)+40)
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(append(append(b, ' '), payloadType...), ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	return append(append(b, ' '), payload...)
}

// LogEntry is a transparency log's word that it holds the signature.
// Shapes follow dev.sigstore.rekor.v1.TransparencyLogEntry.
type LogEntry struct {
	LogIndex       int64
	LogID          []byte
	Kind, Version  string // "hashedrekord" "0.0.2"
	IntegratedTime int64  // seconds since 1970; 0 for Rekor v2
	Promise        []byte // signed entry timestamp, Rekor v1 only
	Proof          *InclusionProof
	Body           []byte // canonicalized body
}

// InclusionProof is an RFC 6962 audit path under a signed checkpoint.
type InclusionProof struct {
	LogIndex, TreeSize int64
	RootHash           []byte
	Hashes             [][]byte
	Checkpoint         string // signed note, C2SP tlog-checkpoint
}

// Signer is who made a verified claim: a certificate's identity, a key, or the
// subject of a certificate of a Notary trust store.
type Signer struct {
	Identity   string            `json:"identity,omitempty"` // the certificate's one SAN: e-mail, URI, …
	Issuer     string            `json:"issuer,omitempty"`   // OIDC issuer that vouched for Identity
	Key        string            `json:"key,omitempty"`      // "sha256:…" of the DER SubjectPublicKeyInfo, for key signatures
	Extensions map[string]string `json:"extensions,omitempty"`

	// Subject is the distinguished name (RFC 4514) of a Notary Project signer's
	// certificate, and Certificate "sha256:…" of its DER; both only for those.
	Subject     string `json:"subject,omitempty"`
	Certificate string `json:"certificate,omitempty"`
}

// String names the signer for people.
func (s Signer) String() string {
	switch {
	case s.Identity != "":
		return s.Identity + " (issuer " + s.Issuer + ")"
	case s.Subject != "":
		return s.Subject
	}
	return "key " + s.Key
}

// Timestamp is a time that a trusted party vouched for.
type Timestamp struct {
	Kind string    `json:"kind"` // "rfc3161", "log", "signing-authority"
	By   string    `json:"by"`   // authority's name or URL
	At   time.Time `json:"at"`
}
