package verify

import (
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Codes of the reasons why a claim is not believed. They are stable.
const (
	// Malformed: the claim is not what its format allows, or contradicts itself.
	Malformed = "MALFORMED"
	// WrongSubject: the signature is good, but about something else.
	WrongSubject = "WRONG_SUBJECT"
	// SignatureBad: the signature is not by the key or certificate that it comes with.
	SignatureBad = "SIGNATURE_BAD"
	// KeyUnknown: a bare key signed that is not among the trusted ones.
	KeyUnknown = "KEY_UNKNOWN"
	// KeyExpired: a trusted key signed at a time at which it is not believed.
	KeyExpired = "KEY_EXPIRED"
	// Revoked: the artifact, its signer or the signer's key is revoked by the trust, or
	// a certificate by its issuer.
	Revoked = "REVOKED"
	// CertUntrusted: no trusted authority issued the certificate, or not for signing.
	CertUntrusted = "CERT_UNTRUSTED"
	// CertExpired: a trusted time lies outside the certificate's validity.
	CertExpired = "CERT_EXPIRED"
	// CertIdentity: the certificate does not name exactly one identity and issuer.
	CertIdentity = "CERT_IDENTITY"
	// SCTBad: no trusted certificate transparency log has seen the certificate.
	SCTBad = "SCT_BAD"
	// LogMissing: there is no log entry where one is required.
	LogMissing = "LOG_MISSING"
	// LogUntrusted: all log entries are by logs that the trust root does not know.
	LogUntrusted = "LOG_UNTRUSTED"
	// LogProofBad: the log's promise, inclusion proof or checkpoint does not hold.
	LogProofBad = "LOG_PROOF_BAD"
	// LogUnwitnessed: too few of the known witnesses cosigned the log's checkpoint.
	LogUnwitnessed = "LOG_UNWITNESSED"
	// LogMismatch: the log entry is about another signature, signer or artifact.
	LogMismatch = "LOG_MISMATCH"
	// TimeUntrusted: no trusted time says when the signature was made, or a timestamp does not hold.
	TimeUntrusted = "TIME_UNTRUSTED"
	// WrongIdentity: signed by somebody whom Notation's trust policy does not name.
	WrongIdentity = "WRONG_IDENTITY"
	// NoTrustPolicy: no statement of Notation's trust policy is for the artifact.
	NoTrustPolicy = "NO_TRUST_POLICY"
	// TrustPolicySkips: Notation's trust policy wants nothing verified here, so nothing was.
	TrustPolicySkips = "TRUST_POLICY_SKIPS"
	// SignatureExpired: the signer said until when the signature is to be believed.
	SignatureExpired = "SIGNATURE_EXPIRED"
	// RevocationUnknown: nothing fresh says whether a certificate was revoked.
	RevocationUnknown = "REVOCATION_UNKNOWN"
	// RevocationUnchecked: a certificate does not say where its revocation would be published.
	RevocationUnchecked = "REVOCATION_UNCHECKED"
)

// refusal is a policy.Reason on its way up.
type refusal struct {
	policy.Reason
	foreign bool // the root does not know who vouches: another root may
}

func (r *refusal) Error() string { return r.String() }

func refuse(code, format string, args ...any) *refusal {
	return &refusal{Reason: policy.Reason{Code: code, Message: fmt.Sprintf(format, args...)}}
}

// unknownHere marks a refusal for want of a trusted party, not for a broken proof.
func (r *refusal) unknownHere() *refusal {
	r.foreign = true
	return r
}

// hint sets what a person can do about it.
func (r *refusal) hint(format string, args ...any) *refusal {
	r.Hint = fmt.Sprintf(format, args...)
	return r
}
