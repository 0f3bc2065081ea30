package trust

import (
	"fmt"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Revoked is what is no longer believed, from a time on. A signature counts as
// made before that time only when every trusted time of it says so; one without
// a trusted time is refused always.
type Revoked struct {
	// Digests are images and files that nobody may run: nothing counts for them
	// from Since on, whenever it was signed.
	Digests []RevokedDigest
	// Identities signed for somebody else than their owner.
	Identities []RevokedIdentity
	// Keys were lost or stolen: bare keys, and keys of signing certificates.
	Keys []RevokedKey
}

// RevokedDigest is a revoked artifact.
type RevokedDigest struct {
	Digest evidence.Digest `json:"digest" strict:"required"`
	Since  time.Time       `json:"since" strict:"required"`
	Reason string          `json:"reason" strict:"required"`
}

// RevokedIdentity is a revoked identity: both parts exactly as the certificate has them.
type RevokedIdentity struct {
	Identity string    `json:"identity" strict:"required"`
	Issuer   string    `json:"issuer" strict:"required"`
	Since    time.Time `json:"since" strict:"required"`
	Reason   string    `json:"reason" strict:"required"`
}

// RevokedKey is a revoked key.
type RevokedKey struct {
	Key    string    `json:"key" strict:"required"` // "sha256:…" of the DER SubjectPublicKeyInfo
	Since  time.Time `json:"since" strict:"required"`
	Reason string    `json:"reason" strict:"required"`
}

// Artifact says in words that a digest is revoked at a time, "" when it is not.
func (r Revoked) Artifact(d evidence.Digest, now time.Time) string {
	for _, e := range r.Digests {
		if e.Digest == d && !now.Before(e.Since) {
			return since(string(d), e.Since, e.Reason)
		}
	}
	return ""
}

// Signer says in words that whoever signs at a time is revoked, "" when they are not.
func (r Revoked) Signer(s evidence.Signer, now time.Time) string {
	for _, e := range r.Identities {
		if e.Identity == s.Identity && e.Issuer == s.Issuer && !now.Before(e.Since) {
			return since(s.String(), e.Since, e.Reason)
		}
	}
	for _, e := range r.Keys {
		if e.Key == s.Key && !now.Before(e.Since) {
			return since("key "+s.Key, e.Since, e.Reason)
		}
	}
	return ""
}

func since(what string, at time.Time, reason string) string {
	return fmt.Sprintf("%s is revoked since %s: %s", what, at.UTC().Format(time.RFC3339), reason)
}
