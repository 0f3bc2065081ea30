package verify

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/simplesigning"
)

// payloadSignature checks a signature over a simple signing payload.
func payloadSignature(s *evidence.SimpleSigning, pub crypto.PublicKey, ways []scheme) (signed, *refusal) {
	for _, w := range ways {
		if w.hash == 0 {
			if ed25519.Verify(pub.(ed25519.PublicKey), s.Payload, s.Signature) {
				return signed{scheme: w}, nil
			}
			continue
		}
		sum := w.hash.New()
		sum.Write(s.Payload)
		if digest := sum.Sum(nil); verifyDigest(pub, w.hash, digest, s.Signature) {
			return signed{scheme: w, digest: digest}, nil
		}
	}
	return signed{}, refuse(SignatureBad, "the signature is not by the signer's key over this payload")
}

// matchPayload compares an entry that holds the digest of a simple signing
// payload. Cosign logs it by SHA-256 whatever the signature was made with.
func (s *entrySubject) matchPayload(sum hashWire) *refusal {
	have := sha256.Sum256(s.claim.Simple.Payload)
	if sum.Algorithm != "sha256" || sum.Value != hex.EncodeToString(have[:]) {
		return refuse(LogMismatch, "the log entry is about %s:%s, not about the signed payload", clip(sum.Algorithm), clip(sum.Value))
	}
	return nil
}

// matchWritten compares an entry of cosign's version 1, which holds nothing of an
// envelope but its digest.
func (s *entrySubject) matchWritten(signer []byte, sum hashWire) *refusal {
	if s.claim.Envelope == nil || len(s.claim.Envelope.JSON) == 0 {
		return refuse(LogMismatch, "the log entry is about an envelope as cosign wrote it, which is not there")
	}
	if r := s.matchWhole(sum); r != nil {
		return r
	}
	if !s.isSigner(signer) {
		return refuse(LogMismatch, "the log entry is about another certificate or key")
	}
	return nil
}

// matchWhole compares an entry's digest of a whole envelope, every byte as it was
// written, where the envelope is there as it was written. That of a bundle is not:
// a bundle keeps an envelope's parts, from which nobody can tell how it was spelled.
func (s *entrySubject) matchWhole(sum hashWire) *refusal {
	if len(s.claim.Envelope.JSON) == 0 {
		return nil
	}
	have := sha256.Sum256(s.claim.Envelope.JSON)
	if sum.Algorithm != "sha256" || sum.Value != hex.EncodeToString(have[:]) {
		return refuse(LogMismatch, "the log entry is about another envelope")
	}
	return nil
}

// simpleContent binds a simple signing payload to the artifact. Cosign itself
// does not look at the payload's type.
func (out *Verified) simpleContent(s *evidence.SimpleSigning, a Artifact) *refusal {
	p, err := simplesigning.ParsePayload(s.Payload)
	if err != nil {
		return refuse(Malformed, "the signed payload cannot be read: %s", err)
	}
	if p.Type != simplesigning.Type {
		return refuse(Malformed, "the signed payload is a %q, not a %q", clip(p.Type), simplesigning.Type)
	}
	match, r := a.matches(map[string]string{p.Digest.Algorithm(): p.Digest.Hex()})
	if r != nil {
		return r
	}
	if !match {
		return refuse(WrongSubject, "the signature is about %s, not about %s", p.Digest, a)
	}
	out.kind, out.annotations = KindSignature, p.Annotations
	return nil
}
