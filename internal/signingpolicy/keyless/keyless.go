// Package keyless verifies approvals that were signed without a key of one's own: with a
// certificate of Sigstore or of a private authority. The policy names who may, by issuer and
// subject exactly; this package says who did, under the trust that it is given.
package keyless

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// Verifier verifies bundles for [approval.Expected].
type Verifier struct{ v *verify.Verifier }

var _ approval.Keyless = (*Verifier)(nil)

// New believes what v does; signatures by bare keys count for nobody.
func New(v *verify.Verifier) *Verifier { return &Verifier{v} }

// Verify says who signed message, given a bundle with a message signature (as cosign sign-blob makes
// it, version 0.3), and the earliest of the trusted times. The error is the end of a sentence.
func (k *Verifier) Verify(text, message []byte) (issuer, subject string, at time.Time, err error) {
	none := func(format string, args ...any) (string, string, time.Time, error) {
		return "", "", time.Time{}, fmt.Errorf(format, args...)
	}
	claim, err := bundle.Parse(text)
	if err != nil {
		return none("its bundle cannot be read: %w", err)
	}
	if claim.Message == nil {
		return none("its bundle holds an attestation, not a signature of the approval")
	}
	artifact, err := verify.HashFile(bytes.NewReader(message))
	if err != nil {
		return none("%w", err)
	}
	verified, why := k.v.Claim(claim, artifact)
	if len(why) > 0 {
		return none("%s", why[0])
	}
	who := verified.Signer()
	if who.Identity == "" || who.Issuer == "" {
		return "", "", time.Time{}, errors.New("it is by a key without a certificate")
	}
	for _, t := range verified.Times() {
		if at.IsZero() || t.At.Before(at) {
			at = t.At
		}
	}
	return who.Issuer, who.Identity, at, nil
}
