package verify

import (
	"crypto/x509"
	"encoding/hex"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// revocations is trust.Revoked by what is revoked; of several entries about one
// thing the earliest counts.
type revocations struct {
	digests    map[evidence.Digest]revokedSince
	identities map[[2]string]revokedSince // identity, issuer
	keys       map[string]revokedSince    // "sha256:…"
}

type revokedSince struct {
	since  time.Time
	reason string
}

func indexRevoked(r trust.Revoked) revocations {
	out := revocations{map[evidence.Digest]revokedSince{}, map[[2]string]revokedSince{}, map[string]revokedSince{}}
	for _, d := range r.Digests {
		earliest(out.digests, d.Digest, revokedSince{d.Since, d.Reason})
	}
	for _, i := range r.Identities {
		earliest(out.identities, [2]string{i.Identity, i.Issuer}, revokedSince{i.Since, i.Reason})
	}
	for _, k := range r.Keys {
		earliest(out.keys, k.Key, revokedSince{k.Since, k.Reason})
	}
	return out
}

func earliest[K comparable](m map[K]revokedSince, k K, r revokedSince) {
	if old, there := m[k]; !there || r.since.Before(old.since) {
		m[k] = r
	}
}

// RevokesDigests reports whether any artifact is revoked at all.
func (v *Verifier) RevokesDigests() bool { return len(v.revoked.digests) > 0 }

// DigestRevoked is why an artifact is not believed now, nil when it is not revoked. A
// claim about it is refused anyhow: this is for who lets an artifact pass for what was
// claimed about another, such as the index that lists it, or without any claim.
func (v *Verifier) DigestRevoked(d evidence.Digest) *policy.Reason {
	r := v.digestRevoked(d)
	if r == nil {
		return nil
	}
	r.Subject = string(d)
	return &r.Reason
}

func (v *Verifier) digestRevoked(d evidence.Digest) *refusal {
	r, is := v.revoked.digests[d]
	if !is || v.cfg.Now().Before(r.since) {
		return nil
	}
	return refuse(Revoked, "%s is revoked since %s: %s", d, stamp(r.since), r.reason).
		hint("do not run it; ask its publisher for the one that replaces it")
}

// notRevoked refuses a claim that verified when its artifact is revoked now, or
// its signer was when it signed.
func (v *Verifier) notRevoked(out *Verified, c *evidence.Claim, a Artifact) *refusal {
	for _, d := range a.Digests {
		if r := v.digestRevoked(d); r != nil {
			return r
		}
	}
	if r, is := v.revoked.identities[[2]string{out.signer.Identity, out.signer.Issuer}]; is {
		if r := r.signedBefore(out.times, out.signer.String()); r != nil {
			return r
		}
	}
	if len(v.revoked.keys) == 0 {
		return nil
	}
	for _, fingerprint := range signingKeys(out, c) {
		if r, is := v.revoked.keys[fingerprint]; is {
			if r := r.signedBefore(out.times, "key "+fingerprint); r != nil {
				return r
			}
		}
	}
	return nil
}

// signingKeys are the fingerprints of the bare key or of the certificate's key.
func signingKeys(out *Verified, c *evidence.Claim) []string {
	var all []string
	if out.signer.Key != "" {
		all = append(all, out.signer.Key)
	}
	if len(c.Certificates) == 0 {
		return all
	}
	leaf, err := x509.ParseCertificate(c.Certificates[0])
	if err != nil { // it was parsed to get here
		return all
	}
	return append(all, "sha256:"+hex.EncodeToString(spkiHash(leaf.RawSubjectPublicKeyInfo)))
}

// signedBefore refuses what was not shown to be signed before the revocation: every
// trusted time must lie before it, and there must be one. Whoever holds a stolen
// key can leave timestamps out, but cannot have one of the past.
func (r revokedSince) signedBefore(times []evidence.Timestamp, who string) *refusal {
	if len(times) == 0 {
		return refuse(Revoked, "%s is revoked since %s (%s), and no trusted time shows that it signed before", who, stamp(r.since), r.reason).
			hint("the publisher must sign again, as somebody who is not revoked")
	}
	for _, t := range times {
		if !t.At.Before(r.since) {
			return refuse(Revoked, "%s is revoked since %s (%s) and signed at %s", who, stamp(r.since), r.reason, stamp(t.At)).
				hint("the publisher must sign again, as somebody who is not revoked")
		}
	}
	return nil
}
