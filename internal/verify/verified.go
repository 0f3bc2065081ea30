package verify

import (
	"maps"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Verified is a claim whose cryptography held. It says only what was checked.
type Verified struct {
	kind        Kind
	format      evidence.Format
	signer      evidence.Signer
	statement   *evidence.Statement
	annotations map[string]string
	times       []evidence.Timestamp
	logs        []logged
	cert        *Certificate
	trustPolicy *policy.TrustPolicy
	warnings    []policy.Reason
}

// Kind says what a verified claim is.
type Kind string

// The kinds. The zero Kind is none of them.
const (
	KindSignature   Kind = "signature"   // says "this image is signed": a statement of type sign/v1, or simple signing
	KindMessage     Kind = "message"     // a signature over an artifact's plain bytes
	KindAttestation Kind = "attestation" // a signed statement of any other type
)

// Certificate is what is known of a verified signing certificate.
type Certificate struct {
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Authority string    `json:"authority"`    // whose root it leads to
	Issuer    string    `json:"issuer"`       // distinguished name of who issued it
	SCT       time.Time `json:"sct,omitzero"` // when certificate transparency saw it; zero for Notary Project signatures
	SHA256    string    `json:"sha256"`       // of the DER, hexadecimal
}

// LogEntry is what a log has proven about a verified claim.
type LogEntry struct {
	Origin string `json:"origin"`
	// Index is the entry's; of a Rekor v1 entry without the log's promise, which
	// signs the index over all trees of the log, it is the one within the tree.
	Index int64 `json:"index"`
	// Included: an inclusion proof under a checkpoint that the log signed was
	// verified; else only the log's signed promise was.
	Included bool `json:"included"`
	// Witnesses of the trust that cosigned that checkpoint.
	Witnesses []Cosignature `json:"witnesses,omitempty"`
}

// Cosignature is a witness's word that it saw a log's checkpoint, and no other one
// that contradicts it (c2sp.org/tlog-cosignature).
type Cosignature struct {
	Name string    `json:"name"` // of the witness's key
	At   time.Time `json:"at"`   // whole seconds, UTC; the witness signed it
}

// Kind is what the claim is.
func (v *Verified) Kind() Kind { return v.kind }

// IsSignature reports whether the claim says that an image is signed, and no more.
func (v *Verified) IsSignature() bool { return v.kind == KindSignature }

// Format is the format of the claim.
func (v *Verified) Format() evidence.Format { return v.format }

// Signer is who signed.
func (v *Verified) Signer() evidence.Signer {
	s := v.signer
	s.Extensions = maps.Clone(s.Extensions)
	return s
}

// Statement is the signed in-toto statement, nil for message signatures and for
// simple signing. It is not to be modified.
func (v *Verified) Statement() *evidence.Statement { return v.statement }

// PredicateType is the statement's, "" for message signatures.
func (v *Verified) PredicateType() string {
	if v.statement == nil {
		return ""
	}
	return v.statement.PredicateType
}

// Annotations are the signed annotations of the artifact.
func (v *Verified) Annotations() map[string]string { return maps.Clone(v.annotations) }

// Times are the trusted times of the signature; none for a bare key's signature
// without timestamp and log.
func (v *Verified) Times() []evidence.Timestamp { return slices.Clone(v.times) }

// Certificate is the verified signing certificate, nil when a bare key signed.
func (v *Verified) Certificate() *Certificate {
	if v.cert == nil {
		return nil
	}
	c := *v.cert
	return &c
}

// TrustPolicy is the statement of Notation's trust policy under which a Notary
// Project signature was judged, nil for all others. At its level checks may have
// failed without a denial: [Verified.Warnings] names them.
func (v *Verified) TrustPolicy() *policy.TrustPolicy {
	if v.trustPolicy == nil {
		return nil
	}
	t := *v.trustPolicy
	return &t
}

// Warnings are checks that failed and that the trust policy does not enforce, and
// checks that could not be made.
func (v *Verified) Warnings() []policy.Reason { return slices.Clone(v.warnings) }

// LogEntries are the verified log entries. Entries that could not be checked,
// for want of a trust root, are not among them.
func (v *Verified) LogEntries() []LogEntry {
	var out []LogEntry
	for _, l := range v.logs {
		out = append(out, LogEntry{Origin: l.origin, Index: l.index, Included: l.included, Witnesses: slices.Clone(l.witnesses)})
	}
	return out
}

// LogIndex is the index of the first verified log entry.
func (v *Verified) LogIndex() (int64, bool) {
	if len(v.logs) == 0 {
		return 0, false
	}
	return v.logs[0].index, true
}

// LogOrigin is the name of the log of the first verified log entry, "" without one.
func (v *Verified) LogOrigin() string {
	if len(v.logs) == 0 {
		return ""
	}
	return v.logs[0].origin
}

// Fact is the claim in the shape that policies read. An image signature has no
// predicate worth reading; every other statement has.
func (v *Verified) Fact(where evidence.Location) policy.Fact {
	f := policy.Fact{
		Format:        v.format,
		PredicateType: v.PredicateType(),
		Signer:        v.Signer(),
		Times:         v.Times(),
		LogOrigin:     v.LogOrigin(),
		Annotations:   v.Annotations(),
		TrustPolicy:   v.TrustPolicy(),
		Warnings:      v.Warnings(),
		Where:         where,
	}
	if i, ok := v.LogIndex(); ok {
		f.LogIndex = &i
	}
	if v.kind == KindAttestation {
		f.Predicate = v.statement.Predicate
	}
	return f
}
