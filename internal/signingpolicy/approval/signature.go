package approval

import (
	"crypto/x509"
	"errors"
	"slices"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/cms"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/sshsignature"
)

// proof is what a good signature shows.
type proof struct {
	key          *authority.Key
	userVerified bool
}

// signature verifies that the principal whom the statement names made it, with a key that may.
func (j *judge) signature(e *Envelope) (proof, int, *failure) {
	p, ok := j.doc.Principals[e.Statement.Principal]
	switch {
	case !ok:
		return proof{}, rankOther, fail(CodeNotNamed, "does not count: the policy names nobody so")
	case p.Machine:
		return proof{}, rankOther, fail(CodeNotNamed, "does not count: it is a machine, and people approve")
	}
	switch kindOf(e.Signature) {
	case kindSSH:
		return j.ssh(e, p)
	case kindOpenPGP:
		return j.openpgp(e, p)
	case kindX509:
		return j.x509(e, p)
	case kindSigstore:
		return j.sigstore(e, p)
	}
	return proof{}, rankOther, fail(CodeMalformed, "has a signature of no known kind")
}

// may says why a key may not be used for the statement. What a key may do is asked about what it
// signed, not about what is wanted of it.
func (j *judge) may(k *authority.Key, s *Statement) *failure {
	use := map[string]string{
		ActionBuild: authority.UseApprove, ActionUpdate: authority.UseUpdate, ActionTombstone: authority.UseUpdate, ActionRecover: authority.UseRecover,
	}[s.Action]
	switch {
	case !k.May(use):
		return fail(CodeKeyUse, "is signed with %s, a key that is not for this (its uses: %v; wanted: %s)", clip(k.ID()), k.Uses, use)
	case !k.ValidAt(j.want.Now):
		return fail(CodeExpired, "is signed with %s, a key that is not valid now", clip(k.ID()))
	}
	return nil
}

var sshCodes = map[sshsignature.Problem]string{
	sshsignature.Malformed: CodeMalformed, sshsignature.Kind: CodeKeyKind, sshsignature.TooWeak: CodeTooWeak,
	sshsignature.Unverified: CodeBadSignature, sshsignature.NotTouched: CodeBadSignature, sshsignature.OtherPurpose: CodeWrongNamespace,
}

func (j *judge) ssh(e *Envelope, p *authority.Principal) (proof, int, *failure) {
	failed := func(rank int, err error) (proof, int, *failure) {
		return proof{}, rank, &failure{sshCodes[sshsignature.ProblemOf(err)], err.Error()}
	}
	sig, err := sshsignature.Parse(e.Signature)
	if err != nil {
		return failed(rankOther, err)
	}
	if err := sshsignature.CheckKey(sig.Key, minRSABits); err != nil {
		return failed(rankOther, err)
	}
	h, ok := j.doc.BySSH(sig.Key)
	switch {
	case !ok:
		return proof{}, rankOther, fail(CodeKeyNotOfPrincipal, "is signed by ssh %s, which is no key of theirs", ssh.FingerprintSHA256(sig.Key))
	case h.Principal != p:
		return proof{}, rankKnownKey, fail(CodeKeyNotOfPrincipal, "is signed by ssh %s, which is a key of %s", h.Key.ID(), h.Principal.Name)
	}
	if no := j.may(h.Key, &e.Statement); no != nil {
		return proof{}, rankKnownKey, no
	}
	known := entry(h.Key.ID(), e)
	if !j.want.Memory.has(known) {
		if err := sig.Verify(PAE(e.Payload), Namespace, minRSABits); err != nil {
			return failed(rankKnownKey, err)
		}
		j.want.Memory.add(known)
	}
	if h.Key.RequireUV && !sig.Verified {
		return proof{}, rankSigned, fail(CodeNoUserVerification, "is signed by the security key %s, which was touched but did not ask for PIN or finger, as the policy demands", h.Key.ID())
	}
	return proof{h.Key, sig.Verified}, rankSigned, nil
}

var openpgpCodes = map[git.OpenPGPProblem]string{
	git.OpenPGPMalformed: CodeMalformed, git.OpenPGPWeak: CodeTooWeak, git.OpenPGPKind: CodeKeyKind,
	git.OpenPGPUnknown: CodeBadSignature, git.OpenPGPExpired: CodeExpired,
}

func (j *judge) openpgp(e *Envelope, p *authority.Principal) (proof, int, *failure) {
	claim := git.OpenPGPIssuer(e.Signature)
	if claim == "" {
		return proof{}, rankOther, fail(CodeMalformed, "has an OpenPGP signature that is not exactly one packet, or does not say by which key it is")
	}
	if h, ok := j.doc.ByOpenPGP(claim); ok && h.Principal != p {
		return proof{}, rankKnownKey, fail(CodeKeyNotOfPrincipal, "is signed by openpgp %s, which is a key of %s", claim, h.Principal.Name)
	}
	for _, k := range p.Keys {
		if k.OpenPGP() == nil || !k.OpenPGP().Has(claim) {
			continue
		}
		if no := j.may(k, &e.Statement); no != nil {
			return proof{}, rankKnownKey, no
		}
		err := k.OpenPGP().Verify(e.Signature, PAE(e.Payload), j.want.Now)
		var bad *git.OpenPGPError
		switch {
		case errors.As(err, &bad):
			return proof{}, rankKnownKey, &failure{openpgpCodes[bad.Problem], bad.Msg}
		case err != nil:
			return proof{}, rankKnownKey, &failure{CodeBadSignature, err.Error()}
		}
		return proof{key: k}, rankSigned, nil
	}
	return proof{}, rankOther, fail(CodeKeyNotOfPrincipal, "is signed by openpgp %s, which is no key of theirs", clip(claim))
}

var cmsCodes = map[cms.Problem]string{
	cms.Malformed: CodeMalformed, cms.TooWeak: CodeTooWeak, cms.Kind: CodeKeyKind, cms.Unknown: CodeKeyNotOfPrincipal, cms.Unverified: CodeBadSignature,
}

func (j *judge) x509(e *Envelope, p *authority.Principal) (proof, int, *failure) {
	var certs []*x509.Certificate
	for _, k := range p.Keys {
		if c := k.Certificate(); c != nil {
			certs = append(certs, c)
		}
	}
	sig, err := cms.Verify(e.Signature, PAE(e.Payload), certs)
	if err != nil {
		return proof{}, rankOther, &failure{cmsCodes[cms.ProblemOf(err)], err.Error()}
	}
	i := slices.IndexFunc(p.Keys, func(k *authority.Key) bool { return k.Certificate() == sig.Certificate })
	if no := j.may(p.Keys[i], &e.Statement); no != nil {
		return proof{}, rankSigned, no
	}
	return proof{key: p.Keys[i]}, rankSigned, nil
}

func (j *judge) sigstore(e *Envelope, p *authority.Principal) (proof, int, *failure) {
	if !slices.ContainsFunc(p.Keys, func(k *authority.Key) bool { return k.Kind == authority.Sigstore }) {
		return proof{}, rankOther, fail(CodeKeyNotOfPrincipal, "has a keyless signature, and the policy lists no identity of theirs")
	}
	if j.want.Keyless == nil {
		return proof{}, rankKnownKey, fail(CodeKeyKind, "has a keyless signature, and there is no trusted root to verify it with")
	}
	issuer, subject, at, err := j.want.Keyless.Verify(e.Signature, PAE(e.Payload))
	if err != nil {
		return proof{}, rankOther, fail(CodeBadSignature, "has a keyless signature that does not verify: %v", err)
	}
	h, ok := j.doc.ByIdentity(issuer, subject)
	switch {
	case !ok || h.Principal != p:
		return proof{}, rankKnownKey, fail(CodeKeyNotOfPrincipal, "is signed by %s (issuer %s), which is no identity of theirs", clip(subject), clip(issuer))
	case at.IsZero():
		return proof{}, rankKnownKey, fail(CodeBadSignature, "has a keyless signature without a trusted time")
	}
	if no := j.may(h.Key, &e.Statement); no != nil {
		return proof{}, rankSigned, no
	}
	return proof{key: h.Key}, rankSigned, nil
}
