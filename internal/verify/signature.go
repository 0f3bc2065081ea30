package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"strconv"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// scheme is one way in which a key may sign. hash 0 is pure Ed25519, which signs
// the message itself.
type scheme struct {
	hash    crypto.Hash
	details string // dev.sigstore.common.v1.PublicKeyDetails
}

// The ways by kind of key, the usual one first. Clients of old signed with
// SHA-256 whatever the curve.
var (
	schemesP256    = []scheme{{crypto.SHA256, "PKIX_ECDSA_P256_SHA_256"}}
	schemesP384    = []scheme{{crypto.SHA384, "PKIX_ECDSA_P384_SHA_384"}, {crypto.SHA256, "PKIX_ECDSA_P384_SHA_256"}}
	schemesP521    = []scheme{{crypto.SHA512, "PKIX_ECDSA_P521_SHA_512"}, {crypto.SHA256, "PKIX_ECDSA_P521_SHA_256"}}
	schemesEd25519 = []scheme{{0, "PKIX_ED25519"}, {crypto.SHA512, "PKIX_ED25519_PH"}}
)

// schemes lists how a key may have signed; none for keys that are not used.
func schemes(pub crypto.PublicKey) []scheme {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return schemesP256
		case elliptic.P384():
			return schemesP384
		case elliptic.P521():
			return schemesP521
		}
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return schemesEd25519
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n == 2048 || n == 3072 || n == 4096 {
			return []scheme{{crypto.SHA256, "PKIX_RSA_PKCS1V15_" + strconv.Itoa(n) + "_SHA256"}}
		}
	}
	return nil
}

// verifyDigest checks a signature over a digest.
func verifyDigest(pub crypto.PublicKey, h crypto.Hash, digest, sig []byte) bool {
	if len(digest) != h.Size() {
		return false
	}
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, h, digest, sig) == nil
	case ed25519.PublicKey:
		return len(k) == ed25519.PublicKeySize && h == crypto.SHA512 &&
			ed25519.VerifyWithOptions(k, digest, sig, &ed25519.Options{Hash: h}) == nil
	}
	return false
}

// verifyData checks a signature over data, hashed with h (ignored for Ed25519).
func verifyData(pub crypto.PublicKey, h crypto.Hash, data, sig []byte) bool {
	if k, ok := pub.(ed25519.PublicKey); ok {
		return len(k) == ed25519.PublicKeySize && ed25519.Verify(k, data, sig)
	}
	if !h.Available() {
		return false
	}
	if h == crypto.SHA256 {
		sum := sha256.Sum256(data)
		return verifyDigest(pub, h, sum[:], sig)
	}
	sum := h.New()
	sum.Write(data)
	return verifyDigest(pub, h, sum.Sum(nil), sig)
}

// keyHash is the hash that a log's key signs with by its kind.
func keyHash(pub crypto.PublicKey) crypto.Hash {
	if ways := schemes(pub); len(ways) > 0 {
		return ways[0].hash
	}
	return crypto.SHA256
}

// signed is what a verified signature was made over, as logs record it.
type signed struct {
	scheme scheme
	digest []byte // of the message or of the envelope's PAE; nil for pure Ed25519
}

// signature checks the claim's signature over the artifact or the envelope.
func signature(c *evidence.Claim, a Artifact, pub crypto.PublicKey) (signed, *refusal) {
	ways := schemes(pub)
	if len(ways) == 0 {
		return signed{}, refuse(CertUntrusted, "the signer's key is of a kind or size that is not used for signing")
	}
	switch {
	case c.Envelope != nil:
		return envelopeSignature(c.Envelope, pub, ways)
	case c.Simple != nil:
		return payloadSignature(c.Simple, pub, ways)
	}
	return messageSignature(c.Message, a, pub, ways)
}

func envelopeSignature(e *evidence.Envelope, pub crypto.PublicKey, ways []scheme) (signed, *refusal) {
	if len(e.Signatures) != 1 {
		return signed{}, refuse(Malformed, "the envelope has %d signatures; exactly one is allowed", len(e.Signatures))
	}
	sig := e.Signatures[0].Sig
	for _, w := range ways {
		if w.hash == 0 {
			if ed25519.Verify(pub.(ed25519.PublicKey), e.PAE(), sig) {
				return signed{scheme: w}, nil
			}
			continue
		}
		if digest := hashPAE(w.hash, e); verifyDigest(pub, w.hash, digest, sig) {
			return signed{scheme: w, digest: digest}, nil
		}
	}
	return signed{}, refuse(SignatureBad, "the envelope's signature is not by the signer's key over this payload")
}

// hashPAE hashes an envelope's pre-authentication encoding; large payloads are
// not copied for it.
func hashPAE(h crypto.Hash, e *evidence.Envelope) []byte {
	if h == crypto.SHA256 && len(e.Payload)+len(e.PayloadType) < 2<<10 {
		var small [2<<10 + 64]byte
		sum := sha256.Sum256(append(appendPAEHeader(small[:0], e), e.Payload...))
		return sum[:]
	}
	sum := h.New()
	sum.Write(appendPAEHeader(nil, e))
	sum.Write(e.Payload)
	return sum.Sum(nil)
}

// appendPAEHeader appends what stands before the payload.
func appendPAEHeader(b []byte, e *evidence.Envelope) []byte {
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(e.PayloadType)), 10)
	b = append(append(append(b, ' '), e.PayloadType...), ' ')
	return append(strconv.AppendInt(b, int64(len(e.Payload)), 10), ' ')
}

func messageSignature(m *evidence.MessageSignature, a Artifact, pub crypto.PublicKey, ways []scheme) (signed, *refusal) {
	if r := messageHint(m, a); r != nil {
		return signed{}, r
	}
	tried := false
	for _, w := range ways {
		if w.hash == 0 {
			sum := sha256.Sum256(a.Content)
			if a.Content == nil || !bytes.Equal(sum[:], a.digest("sha256")) {
				continue
			}
			tried = true
			if ed25519.Verify(pub.(ed25519.PublicKey), a.Content, m.Signature) {
				return signed{scheme: w}, nil
			}
			continue
		}
		digest := a.digest(hashName(w.hash))
		if digest == nil {
			continue
		}
		tried = true
		if verifyDigest(pub, w.hash, digest, m.Signature) {
			return signed{scheme: w, digest: digest}, nil
		}
	}
	if !tried {
		return signed{}, refuse(WrongSubject, "the signature is of %s, which cannot be compared with %s", ways[0].details, a).
			hint("give the file itself instead of its digest")
	}
	return signed{}, refuse(SignatureBad, "the signature is not by the signer's key over %s", a)
}

// messageHint compares the digest that the claim names, which nothing
// authenticates: it only tells a wrong artifact from a wrong signature.
func messageHint(m *evidence.MessageSignature, a Artifact) *refusal {
	if len(m.Digest) == 0 {
		return nil
	}
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		if m.DigestAlgorithm != protoHash(h) {
			continue
		}
		have := a.digest(hashName(h))
		if have == nil {
			return refuse(WrongSubject, "the signature names its artifact by a %s digest, which cannot be compared with %s", hashName(h), a).
				hint("give the file itself instead of its digest")
		}
		if !bytes.Equal(have, m.Digest) {
			return refuse(WrongSubject, "the signature is about %s:%x, not about %s", hashName(h), m.Digest, a)
		}
		return nil
	}
	return refuse(Malformed, "the signature names its artifact by a %s digest, which is not used", clip(m.DigestAlgorithm))
}
