// Package verify is the only cryptographic judgement of Hallmark: it turns a
// claim, the trust and an artifact into either a [Verified] or the reasons why
// not. Nobody else can make a Verified, and there is no way to get one that was
// not checked in full.
//
// Trusted: the trust root, the keys and the artifact's digests. Not trusted:
// everything in a claim. An attacker who can write claims can make a gate say no
// or spend a bounded effort, nothing else.
package verify

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
)

// Config says what is believed. The zero Config believes nothing.
//
// A signature with a certificate must have an SCT, a log entry and a trusted
// time (an RFC 3161 timestamp or a Rekor v1 log's promise). A signature by a
// bare key needs none of them; what it brings must hold all the same when there
// is a root to check it with, and is not reported when there is none.
type Config struct {
	// Roots are believed about certificates, logs and times, each for itself: all
	// proofs of a claim must hold under one of them. A certificate of one instance
	// with the log entry of another proves nothing.
	Roots []*trust.Root
	// Keys may sign without a certificate, at any time.
	Keys []crypto.PublicKey
	// NamedKeys may sign without a certificate, each in its window.
	NamedKeys []Key
	// Revoked is not believed any more.
	Revoked trust.Revoked
	// Witnesses must have cosigned the logs' checkpoints.
	Witnesses trust.Witnesses
	// RequireLog wants a proven log entry of bare keys' signatures, too.
	RequireLog bool
	// RequireTimestamp wants an RFC 3161 timestamp of every signature.
	RequireTimestamp bool
	// Notary is believed about Notary Project signatures, and about no others; nil
	// believes none.
	Notary *notation.Trust
	// Chains remembers chains of long-lived certificates; nil is a cache of the
	// verifier's own. Verifiers made anew, for new trust say, may go on with one.
	Chains *ChainCache
	// Now is the clock; nil is time.Now. Signatures from the future are refused.
	Now func() time.Time
}

// Verifier judges claims. It is safe for concurrent use.
type Verifier struct {
	cfg    Config
	judges []judge // one for each root
	keys   []bareKey

	revoked revocations
	leaves  notaryLeaves
}

// judge judges proofs under one trust root.
type judge struct {
	cfg    *Config
	root   *trust.Root
	chains *ChainCache
}

// maxSkew is how far a trusted time may lie ahead of the clock.
const maxSkew = 10 * time.Minute

// New checks the keys and makes a Verifier.
func New(cfg Config) (*Verifier, error) {
	v := &Verifier{cfg: cfg}
	if v.cfg.Now == nil {
		v.cfg.Now = time.Now
	}
	if v.cfg.Chains == nil {
		v.cfg.Chains = NewChainCache()
	}
	for _, root := range cfg.Roots {
		v.judges = append(v.judges, judge{&v.cfg, root, v.cfg.Chains})
	}
	v.revoked = indexRevoked(cfg.Revoked)
	var err error
	if v.keys, err = bareKeys(cfg); err != nil {
		return nil, err
	}
	if err := checkWitnesses(cfg.Witnesses); err != nil {
		return nil, err
	}
	return v, nil
}

// Claim judges one claim about an artifact. Exactly one of the results is nil.
func (v *Verifier) Claim(c *evidence.Claim, a Artifact) (*Verified, []policy.Reason) {
	var verified *Verified
	var r *refusal
	if c != nil && c.Notary != nil {
		var reasons []policy.Reason
		if verified, reasons = v.notary(c, a); verified == nil {
			return nil, reasons
		}
	} else {
		verified, r = v.claim(c, a)
	}
	if r == nil {
		r = v.notRevoked(verified, c, a)
	}
	if r != nil {
		if r.Subject == "" {
			r.Subject = a.String()
		}
		return nil, []policy.Reason{r.Reason}
	}
	return verified, nil
}

func (v *Verifier) claim(c *evidence.Claim, a Artifact) (*Verified, *refusal) {
	if c == nil || !oneOf(c.Message != nil, c.Envelope != nil, c.Simple != nil) {
		return nil, refuse(Malformed, "the claim signs neither a message nor an envelope nor a payload")
	}
	if len(c.Signature()) == 0 {
		return nil, refuse(Malformed, "the claim does not have exactly one signature")
	}
	if r := a.check(); r != nil {
		return nil, r
	}
	if len(c.Certificates) == 0 {
		return v.byKey(c, a)
	}
	return v.byCertificate(c, a)
}

// oneOf reports whether exactly one is true.
func oneOf(which ...bool) bool {
	n := 0
	for _, w := range which {
		if w {
			n++
		}
	}
	return n == 1
}

// byCertificate judges a claim whose signer a certificate names.
func (v *Verifier) byCertificate(c *evidence.Claim, a Artifact) (*Verified, *refusal) {
	if len(v.judges) == 0 {
		return nil, refuse(CertUntrusted, "a certificate signed, and there is no trust root to judge it").
			hint("give the trust root of the Sigstore instance that signed, for example with --trusted-root")
	}
	leaf, r := parseLeaf(c.Certificates[0])
	if r != nil {
		return nil, r
	}
	extra, r := bundleIntermediates(c.Certificates[1:])
	if r != nil {
		return nil, r
	}
	s := entrySubject{claim: c, artifact: a, cert: leaf, spki: leaf.RawSubjectPublicKeyInfo}
	if s.signed, r = signature(c, a, leaf.PublicKey); r != nil {
		return nil, r
	}
	out, r := v.underOneRoot(func(j judge, out *Verified) *refusal {
		if r := j.proofs(out, s); r != nil {
			return r
		}
		return j.certificate(out, leaf, extra)
	})
	if r != nil {
		return nil, r
	}
	out.format = c.Format
	if out.signer, r = identity(leaf); r != nil {
		return nil, r
	}
	return out, out.content(c, a)
}

// underOneRoot asks for proofs under each root until they hold under one. When
// they hold under none, the reason is that of the root that knows the most of
// the claim: "by no log of this root" is no news when another root knows the log.
func (v *Verifier) underOneRoot(prove func(judge, *Verified) *refusal) (*Verified, *refusal) {
	var why *refusal
	for _, j := range v.judges {
		out := &Verified{}
		r := prove(j, out)
		if r == nil {
			return out, nil
		}
		if why == nil || why.foreign && !r.foreign {
			why = r
		}
	}
	return nil, why
}

// certificate wants trusted times, and the certificate to lead to a trusted
// authority at each of them and to be in a certificate transparency log.
func (j judge) certificate(out *Verified, leaf *x509.Certificate, extra []*x509.Certificate) *refusal {
	if len(out.logs) == 0 {
		return refuse(LogMissing, "no transparency log entry shows that the signature was made in public")
	}
	if len(out.times) == 0 {
		return refuse(TimeUntrusted, "no trusted time says when the signature was made, so nothing shows that the certificate was valid then")
	}
	var times []time.Time
	for _, t := range out.times {
		times = append(times, t.At)
	}
	// A log's unsigned time is not believed, but it may not contradict either.
	for _, l := range out.logs {
		if !l.unsigned.IsZero() && !(trust.Window{Start: leaf.NotBefore, End: leaf.NotAfter}).Contains(l.unsigned) {
			return refuse(CertExpired, "the signing certificate was valid %s, but the log entry is of %s",
				trust.Window{Start: leaf.NotBefore, End: leaf.NotAfter}, stamp(l.unsigned))
		}
	}
	chains, r := j.signingChains(leaf, extra, times)
	if r != nil {
		return r
	}
	seen, path, r := j.checkSCT(leaf, chains)
	if r != nil {
		return r
	}
	out.cert = &Certificate{NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Authority: path.authority.Name(), Issuer: leaf.Issuer.String(), SCT: seen,
		SHA256: hex.EncodeToString(spkiHash(leaf.Raw))}
	return nil
}

// byKey judges a claim that a bare key signed.
func (v *Verifier) byKey(c *evidence.Claim, a Artifact) (*Verified, *refusal) {
	if len(v.keys) == 0 {
		return nil, refuse(KeyUnknown, "a key signed, and no key is trusted here").
			hint("give the signer's public key with --key")
	}
	var first *refusal
	for _, k := range v.keys {
		s := entrySubject{claim: c, artifact: a, spki: k.spki}
		var r *refusal
		if s.signed, r = signature(c, a, k.public); r != nil {
			if first == nil {
				first = r
			}
			continue
		}
		return v.proven(s, k)
	}
	if first.Code == SignatureBad {
		return nil, refuse(KeyUnknown, "the signature is not by a trusted key (%s)", v.keyNames())
	}
	return nil, first
}

// proven checks what else a key's signature brings.
func (v *Verifier) proven(s entrySubject, k bareKey) (*Verified, *refusal) {
	var out *Verified
	if len(v.judges) == 0 {
		out = &Verified{}
	} else {
		var r *refusal
		if out, r = v.underOneRoot(func(j judge, out *Verified) *refusal { return j.proofs(out, s) }); r != nil {
			return nil, r
		}
	}
	out.format, out.signer = s.claim.Format, evidence.Signer{Key: k.id}
	if v.cfg.RequireLog && len(out.logs) == 0 {
		return nil, refuse(LogMissing, "no transparency log entry shows that the signature was made in public")
	}
	if v.cfg.RequireTimestamp && !slices.ContainsFunc(out.times, isRFC3161) {
		return nil, refuse(TimeUntrusted, "the signature has no timestamp by a trusted authority")
	}
	if r := k.validAt(out.times, v.cfg.Now()); r != nil {
		return nil, r
	}
	return out, out.content(s.claim, s.artifact)
}

func isRFC3161(t evidence.Timestamp) bool { return t.Kind == "rfc3161" }

// proofs verifies timestamps and log entries and collects the trusted times.
func (j judge) proofs(out *Verified, s entrySubject) *refusal {
	var r *refusal
	if out.times, r = j.timestamps(s.claim); r != nil {
		return r
	}
	if s.cert != nil && j.cfg.RequireTimestamp && len(out.times) == 0 {
		return refuse(TimeUntrusted, "the signature has no timestamp by a trusted authority")
	}
	if out.logs, r = j.logs(s); r != nil {
		return r
	}
	if r = j.witnessed(out.logs); r != nil {
		return r
	}
	for _, l := range out.logs {
		if !l.promised.IsZero() {
			out.times = append(out.times, evidence.Timestamp{Kind: "log", By: l.origin, At: l.promised})
		}
	}
	latest := j.cfg.Now().Add(maxSkew)
	for _, t := range out.times {
		if t.At.After(latest) {
			return refuse(TimeUntrusted, "the signature is of %s, which is in the future", stamp(t.At)).hint("check this machine's clock")
		}
	}
	// Logs without times of their own are believed while the trust root does.
	for _, l := range out.logs {
		inside := func(t evidence.Timestamp) bool { return l.log.ValidFor.Contains(t.At) }
		if l.promised.IsZero() && len(out.times) > 0 && !slices.ContainsFunc(out.times, inside) {
			return refuse(LogProofBad, "the signature is of %s; the trust root believes the key of log %s %s", stamp(out.times[0].At), l.origin, l.log.ValidFor)
		}
	}
	return nil
}

// content reads what was signed, now that it is known by whom.
func (out *Verified) content(c *evidence.Claim, a Artifact) *refusal {
	switch {
	case c.Simple != nil:
		return out.simpleContent(c.Simple, a)
	case c.Envelope == nil:
		out.kind = KindMessage
		return nil
	}
	if c.Envelope.PayloadType != evidence.InTotoPayloadType {
		return refuse(Malformed, "the envelope holds %q, not an in-toto statement", clip(c.Envelope.PayloadType))
	}
	st, err := bundle.ParseStatement(c.Envelope.Payload)
	if err != nil {
		return refuse(Malformed, "the signed statement cannot be read: %s", err)
	}
	annotations, r := a.subjects(st)
	if r != nil {
		return r
	}
	out.kind, out.statement, out.annotations = KindAttestation, st, annotations
	if st.PredicateType == evidence.PredicateSign {
		out.kind = KindSignature
	}
	return nil
}
