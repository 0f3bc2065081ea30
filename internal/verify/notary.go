package verify

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/notary"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/sorted"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
	"github.com/hallmark-dev/hallmark/internal/trust/revocation"
)

// notaryCase is one Notary Project signature under the statement of the trust
// policy that is for its artifact (notaryproject/specifications,
// specs/trust-store-trust-policy.md, "Signature Verification").
type notaryCase struct {
	cfg       *Config
	leaves    *notaryLeaves
	statement *notation.Statement
	claim     *evidence.Claim
	env       *evidence.NotaryEnvelope
	artifact  Artifact
	now       time.Time

	leaf   *notaryLeaf
	certs  []*x509.Certificate // leaf first, root last
	anchor *x509.Certificate   // the store's that the chain has; nil: none
	stamps []*x509.Certificate // the chain of the timestamp's authority; nil: none
	out    *Verified
	denied []policy.Reason
}

// NotarySkipped reports whether the trust policy wants signatures of a repository
// (host/repository; "" for files) not to be verified, and under which statement.
// Nothing is verified then: a caller that lets the artifact pass must say so.
func (v *Verifier) NotarySkipped(repository string) (name string, ok bool) {
	if v.cfg.Notary == nil {
		return "", false
	}
	s := statementFor(v.cfg.Notary, repository)
	if s == nil || s.Level != notation.LevelSkip {
		return "", false
	}
	return s.Name, true
}

func statementFor(t *notation.Trust, repository string) *notation.Statement {
	if repository == "" {
		return t.BlobPolicy.ForFiles()
	}
	return t.Policy.For(repository)
}

// notary judges a Notary Project signature. Checks whose failure the statement's
// level wants logged become warnings of the result, the others deny.
func (v *Verifier) notary(c *evidence.Claim, a Artifact) (*Verified, []policy.Reason) {
	n := &notaryCase{cfg: &v.cfg, leaves: &v.leaves, claim: c, env: c.Notary, artifact: a, now: v.cfg.Now(), out: &Verified{format: c.Format}}
	for _, check := range []func() *refusal{n.applicable, n.integrity} {
		if r := check(); r != nil {
			return nil, []policy.Reason{n.reason(r)}
		}
	}
	n.note(notation.Authenticity, n.authenticity())
	n.note(notation.AuthenticTimestamp, n.authenticTimestamp())
	n.note(notation.Expiry, n.expiry())
	n.revocation()
	if len(n.denied) > 0 {
		// A revocation is what a person must hear first.
		sorted.Func(n.denied, func(a, b policy.Reason) int { return rank(a) - rank(b) })
		return nil, n.denied
	}
	leaf := n.leaf
	if n.anchor != nil {
		n.leaves.keep(leaf)
	}
	n.out.signer = evidence.Signer{Subject: leaf.subject, Certificate: "sha256:" + leaf.sha256}
	n.out.kind, n.out.cert = KindSignature, &Certificate{NotBefore: leaf.cert.NotBefore, NotAfter: leaf.cert.NotAfter, Authority: n.authority(),
		Issuer: leaf.issuer, SHA256: leaf.sha256}
	n.out.trustPolicy = &policy.TrustPolicy{Name: n.statement.Name, Level: n.statement.Level}
	return n.out, nil
}

// NotaryChains are the chains of certificates, leaf first and root last, that must
// not be revoked for a Notary Project signature to be believed: the signer's, and the
// timestamp authority's where the trust policy wants a timestamp. They are given for
// a signature by somebody whom the trust policy trusts, and for no other: addresses
// in a stranger's certificate are not to be asked. Else reasons say why not.
func (v *Verifier) NotaryChains(c *evidence.Claim, a Artifact) ([][]*x509.Certificate, []policy.Reason) {
	if c == nil || c.Notary == nil {
		return nil, []policy.Reason{refuse(Malformed, "it is no Notary Project signature").Reason}
	}
	n := &notaryCase{cfg: &v.cfg, leaves: &v.leaves, claim: c, env: c.Notary, artifact: a, now: v.cfg.Now(), out: &Verified{format: c.Format}}
	for _, check := range []func() *refusal{n.applicable, n.integrity, n.authenticity} {
		if r := check(); r != nil {
			return nil, []policy.Reason{n.reason(r)}
		}
	}
	_ = n.authenticTimestamp() // for its chain: whether the time will do is not asked here
	chains := [][]*x509.Certificate{n.certs}
	if n.stamps != nil {
		chains = append(chains, n.stamps)
	}
	return chains, nil
}

func rank(r policy.Reason) int {
	if r.Code == Revoked {
		return 0
	}
	return 1
}

// reason is a refusal about this case.
func (n *notaryCase) reason(r *refusal) policy.Reason {
	if r.Subject == "" {
		r.Subject = n.artifact.String()
	}
	return r.Reason
}

// note does with a failed check what the level says.
func (n *notaryCase) note(c notation.Check, r *refusal) {
	if r == nil {
		return
	}
	switch n.statement.Action(c) {
	case notation.Enforce:
		n.denied = append(n.denied, n.reason(r))
	case notation.Log:
		n.out.warnings = append(n.out.warnings, n.reason(r))
	}
}

// applicable finds the statement for the artifact.
func (n *notaryCase) applicable() *refusal {
	switch {
	case n.claim.Message != nil || n.claim.Envelope != nil || n.claim.Simple != nil || len(n.claim.Certificates) == 0:
		return refuse(Malformed, "the claim is not exactly one Notary Project signature with its certificates")
	case n.cfg.Notary == nil:
		return refuse(CertUntrusted, "it is a Notary Project signature, and there is no trust policy to judge it by").
			hint("give the folder of notation's trust policy and stores with --notation, or take it over with hallmark trust import notation")
	}
	if r := n.artifact.check(); r != nil {
		return r
	}
	what := n.artifact.Repository
	if what == "" {
		what = "files"
	}
	switch n.statement = statementFor(n.cfg.Notary, n.artifact.Repository); {
	case n.statement == nil && notation.OnDisk(what):
		return refuse(NoTrustPolicy, "no statement of the trust policy is for %s", clip(what)).
			hint("for an image on disk only the statement with the scope * is: write one")
	case n.statement == nil:
		return refuse(NoTrustPolicy, "no statement of the trust policy is for %s", clip(what)).
			hint("name the repository in the registryScopes of a statement")
	case n.statement.Level == notation.LevelSkip:
		return refuse(TrustPolicySkips, "the statement %q of the trust policy wants signatures of %s not to be verified", clip(n.statement.Name), clip(what))
	}
	return nil
}

// integrity is what holds or not whomever one trusts: the signature is by the
// leaf's key, the certificates are a chain for signing, the headers are understood
// and do not contradict each other, and the payload names the artifact.
func (n *notaryCase) integrity() *refusal {
	if r := n.headers(); r != nil {
		return r
	}
	if n.leaf = n.leaves.read(n.claim.Certificates[0]); n.leaf == nil {
		return refuse(Malformed, "the signing certificate cannot be read")
	}
	var r *refusal
	if n.certs, r = notaryChain(n.cfg.Chains, n.cfg.Notary, n.leaf.cert, n.claim.Certificates, n.now); r != nil {
		return r
	}
	leaf := n.certs[0]
	if r := notarySignature(n.env, leaf.PublicKey); r != nil {
		return r
	}
	own := trust.Window{Start: leaf.NotBefore.Add(-maxSkew), End: leaf.NotAfter}
	if !own.Contains(n.env.SigningTime) {
		return refuse(TimeUntrusted, "the signature says that it was made at %s, but the signing certificate was valid %s",
			stamp(n.env.SigningTime), trust.Window{Start: leaf.NotBefore, End: leaf.NotAfter})
	}
	return n.payload()
}

// headers refuses what the specification wants refused and notation lets pass
// unless a plugin is named: critical headers that nobody here understands, and
// signatures from the future.
func (n *notaryCase) headers() *refusal {
	for _, name := range n.env.Critical {
		if slices.Contains(n.env.Extended, name) {
			return refuse(Malformed, "the critical header %s is not understood", clip(name)).
				hint("signatures that want a verification plugin of notation's cannot be verified here")
		}
	}
	for _, name := range n.env.Extended {
		if strings.HasPrefix(name, "io.cncf.notary.verificationPlugin") {
			return refuse(Malformed, "the signature wants to be verified by a plugin of notation's, which is not run here")
		}
	}
	if n.env.SigningTime.After(n.now.Add(maxSkew)) {
		return refuse(TimeUntrusted, "the signature says that it was made at %s, which is in the future", stamp(n.env.SigningTime)).
			hint("check this machine's clock")
	}
	if n.env.ContentType != notary.MediaTypePayload {
		return refuse(Malformed, "the envelope holds %q, not a payload of the Notary Project", clip(n.env.ContentType))
	}
	return nil
}

// payload compares what is signed with the artifact, by all that is known of it.
func (n *notaryCase) payload() *refusal {
	p, err := notary.ParsePayload(n.env.Payload)
	if err != nil {
		return refuse(Malformed, "the signed payload cannot be read: %s", err)
	}
	a := n.artifact
	switch have := a.digest(p.Digest.Algorithm()); {
	case have == nil:
		return refuse(WrongSubject, "the signature is about %s, which cannot be compared with %s", p.Digest, a)
	case string(have) != string(p.Digest.Bytes()):
		return refuse(WrongSubject, "the signature is about %s, not about %s", p.Digest, a)
	case a.Size != 0 && a.Size != p.Size:
		return refuse(WrongSubject, "the signature is about %d bytes with the digest of %s, which has %d", p.Size, a, a.Size)
	case a.MediaType != "" && a.MediaType != p.MediaType:
		return refuse(WrongSubject, "the signature is about %s as %q, but it is %q", a, clip(p.MediaType), a.MediaType)
	}
	n.out.annotations = p.Annotations
	return nil
}

// authenticity wants a certificate of the chain to be in a store of the policy,
// and the leaf's subject to be one of its identities.
func (n *notaryCase) authenticity() *refusal {
	want := notation.StoreCA
	if n.env.SigningScheme == notary.SchemeSigningAuthority {
		want = notation.StoreSigningAuthority
	}
	trusted, r := n.stores(want)
	if r != nil {
		return r
	}
	if len(trusted) == 0 {
		return refuse(CertUntrusted, "the statement %q names no %s store, and the signature is of scheme %s", clip(n.statement.Name), want, n.env.SigningScheme)
	}
	for _, c := range n.certs {
		if i := slices.IndexFunc(trusted, c.Equal); i >= 0 {
			n.anchor = trusted[i]
			break
		}
	}
	if n.anchor == nil {
		return refuse(CertUntrusted, "the signing certificate of %q leads to %q, which is in no %s store of the statement %q",
			clip(n.leaf.subject), clip(n.certs[len(n.certs)-1].Subject.String()), want, clip(n.statement.Name))
	}
	switch {
	case n.statement.AnyIdentity:
	case n.leaf.noDN != nil:
		return refuse(WrongIdentity, "signed by %q, whom no trusted identity can name: %s", clip(n.leaf.subject), n.leaf.noDN)
	case !n.statement.Trusts(n.leaf.dn):
		return refuse(WrongIdentity, "signed by %q; the statement %q trusts %s", clip(n.leaf.subject), clip(n.statement.Name), n.identities())
	}
	return nil
}

// authority names the certificate of the store that the chain leads to, and where
// the policy does not enforce that there is one, the chain's root.
func (n *notaryCase) authority() string {
	if n.anchor != nil {
		return n.cfg.Notary.Subject(n.anchor)
	}
	return n.certs[len(n.certs)-1].Subject.String()
}

func (n *notaryCase) identities() string {
	var out []string
	for _, id := range n.statement.Identities {
		out = append(out, fmt.Sprintf("%q", clip(id.String())))
	}
	if len(out) == 0 {
		return "identities that only plugins of notation's can compare"
	}
	if len(out) > 3 {
		out = append(out[:3], fmt.Sprintf("%d more", len(out)-3))
	}
	return strings.Join(out, ", ")
}

// stores are the certificates of the statement's stores of a type.
func (n *notaryCase) stores(typ string) ([]*x509.Certificate, *refusal) {
	var out []*x509.Certificate
	for _, name := range n.statement.Stores {
		if name.Type != typ {
			continue
		}
		certs, ok := n.cfg.Notary.Store(name)
		if !ok {
			return nil, refuse(CertUntrusted, "the trust store %s, which the statement %q names, does not exist", name, clip(n.statement.Name)).
				hint("put the authority's root certificate into it")
		}
		out = append(out, certs...)
	}
	return out, nil
}

func (n *notaryCase) expiry() *refusal {
	if e := n.env.Expiry; !e.IsZero() && !n.now.Before(e) {
		return refuse(SignatureExpired, "the signature was to be believed until %s", stamp(e)).hint("have the artifact signed again")
	}
	return nil
}

// revocation asks what is known about every certificate below the root, for which
// its own store stands.
func (n *notaryCase) revocation() {
	if n.statement.Action(notation.Revocation) == notation.Skip {
		return
	}
	var signedAt time.Time
	if n.env.SigningScheme == notary.SchemeSigningAuthority {
		signedAt = n.env.SigningTime
	}
	r, unchecked := n.revoked(n.certs, signedAt)
	n.note(notation.Revocation, r)
	if unchecked > 0 {
		n.out.warnings = append(n.out.warnings, n.reason(refuse(RevocationUnchecked,
			"%d of the certificates below the root name neither a CRL nor an OCSP responder, so nobody can tell whether they were revoked", unchecked)))
	}
}

// revoked is why a chain may not be relied on: one of its certificates was
// revoked, or else nothing fresh is known about one. It also counts those of which
// nothing can be known.
func (n *notaryCase) revoked(certs []*x509.Certificate, signedAt time.Time) (unknown *refusal, unchecked int) {
	for i, c := range certs[:len(certs)-1] {
		a := n.cfg.Notary.Revocation.Check(c, certs[i+1], signedAt, n.now)
		switch {
		case a.Status == revocation.NotRevocable:
			unchecked++
		case a.Status == revocation.Revoked:
			return refuse(Revoked, "the certificate of %q was revoked at %s by %q", clip(c.Subject.String()), stamp(a.At), clip(certs[i+1].Subject.String())), 0
		case a.Status == revocation.Unknown && unknown == nil:
			why := "nothing that was fetched says"
			if a.Why != "" {
				why = a.Why + ", so it does not say"
			}
			unknown = refuse(RevocationUnknown, "%s whether the certificate of %q was revoked", why, clip(c.Subject.String())).
				hint("%s fetches what %s publishes", n.fetching(), clip(strings.Join(a.Sources, ", ")))
		}
	}
	return unknown, unchecked
}

// fetching is the command that puts what is known of revocations into the trust.
func (n *notaryCase) fetching() string {
	if n.artifact.Repository == "" {
		return "hallmark trust add crl URL"
	}
	return "hallmark trust update " + clip(n.artifact.Repository) + "@" + string(n.artifact.Digests[0])
}
