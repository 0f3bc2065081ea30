package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/cms"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/sshsignature"
)

// key reads one key of a principal.
func (p *parser) key(pr *Principal, w wireKey, place string) {
	k := &Key{Kind: w.Kind, Protection: w.Protection, RequireUV: w.RequireUV, Uses: slices.Sorted(slices.Values(w.Uses)), Attested: w.Attested}
	pr.Keys = append(pr.Keys, k)
	p.uses(pr, k, place+".uses")
	p.validity(k, w, place)
	before := len(p.reasons)
	var matter [][]byte
	switch w.Kind {
	case SSH, OpenPGP, X509:
		if w.PublicKey == nil || w.Issuer != nil || w.Subject != nil || len(*w.PublicKey) > maxKeyText {
			p.wrong(CodeMalformed, place, "", "a key of kind %s has publicKey, of at most %d bytes, and no issuer or subject", w.Kind, maxKeyText)
			return
		}
		k.PublicKey = *w.PublicKey
	case Sigstore:
		p.keyless(k, w, place)
	default:
		p.wrong(CodeKeyKind, place+".kind", "", "%q is no kind of key: ssh, openpgp, x509 and sigstore are", clip(w.Kind))
		return
	}
	switch w.Kind {
	case SSH:
		matter = p.sshKey(k, place+".publicKey")
	case OpenPGP:
		matter = p.openpgpKey(k, place+".publicKey")
	case X509:
		matter = p.x509Key(k, place+".publicKey")
	}
	if len(p.reasons) == before {
		p.protection(k, place)
		p.own(Holder{pr, k}, matter, place)
	}
}

func (p *parser) uses(pr *Principal, k *Key, place string) {
	known := []string{UseTag, UseApprove, UseUpdate, UseRecover}
	unknown := slices.ContainsFunc(k.Uses, func(u string) bool { return !contains(known, u) })
	if len(k.Uses) == 0 || unknown || len(slices.Compact(slices.Clone(k.Uses))) != len(k.Uses) {
		p.wrong(CodeUse, place, "", "want one or more of %s, each once", strings.Join(known, ", "))
	}
	if pr.Machine && slices.ContainsFunc(k.Uses, func(u string) bool { return u != UseTag }) {
		p.wrong(CodeMachine, place, "machines sign tags; people approve, update and recover", "%s is a machine, and its key may do more than sign tags", pr.Name)
	}
}

func (p *parser) validity(k *Key, w wireKey, place string) {
	if w.NotBefore != nil {
		k.NotBefore = w.NotBefore.UTC()
	}
	if w.NotAfter != nil {
		k.NotAfter = w.NotAfter.UTC()
	}
	for _, t := range []*time.Time{w.NotBefore, w.NotAfter} {
		if t != nil && (t.Year() < 1970 || t.Year() > 9999) {
			p.wrong(CodeMalformed, place, "", "notBefore and notAfter are years from 1970 on")
			return
		}
	}
	if w.NotBefore != nil && w.NotAfter != nil && !w.NotBefore.Before(*w.NotAfter) {
		p.wrong(CodeMalformed, place+".notAfter", "", "notAfter is not after notBefore: the key is never valid")
	}
	if w.AttestationRoot != nil {
		k.AttestationRoot = *w.AttestationRoot
	}
	if w.Attested != (w.AttestationRoot != nil) || w.Attested && !IsDigest(k.AttestationRoot) {
		p.wrong(CodeMalformed, place+".attestationRoot", "", "attested and attestationRoot, sha256: and 64 hexadecimal digits, are written together")
	}
}

// protection checks what is declared against what the kind of key can be.
func (p *parser) protection(k *Key, place string) {
	sk := k.Kind == SSH && sshsignature.IsSecurityKey(k.ssh)
	switch {
	case !contains([]string{Software, HSM, FIDO, Keyless}, k.Protection):
		p.wrong(CodeMalformed, place+".protection", "", "%q is no protection: software, hsm, fido and keyless are", clip(k.Protection))
	case (k.Protection == Keyless) != (k.Kind == Sigstore):
		p.wrong(CodeMalformed, place+".protection", "", "keyless is the protection of keys of kind sigstore, and of those alone")
	case k.Protection == FIDO && k.Kind == SSH && !sk:
		p.wrong(CodeMalformed, place+".protection", "", "an SSH key of type %s is no FIDO key", k.ssh.Type())
	case k.RequireUV && !sk:
		p.wrong(CodeMalformed, place+".requireUV", "", "only FIDO keys of kind ssh say whether they verified their user")
	case sk && k.Protection == Software:
		k.Protection = FIDO // a security key is at least that
	}
}

// own enters a key into the indexes: one key is one principal's, and stands once.
func (p *parser) own(h Holder, matter [][]byte, place string) {
	const hint = "give each person a key of their own: one who holds another's key could agree twice"
	if other, ok := p.doc.byID[h.Key.id]; ok {
		p.wrong(CodeShared, place, hint, "key %s is also listed under %s", clip(h.Key.id), other.Principal.Name)
		return
	}
	for _, m := range matter {
		if k, err := x509.ParsePKIXPublicKey(m); err == nil {
			if r, ok := k.(*rsa.PublicKey); ok && r.N.BitLen() > MaxRSABits { // each approval that claims it would cost milliseconds
				p.wrong(CodeKeyKind, place, "", "an RSA key has at most %d bits", MaxRSABits)
				return
			}
		}
		if other, ok := p.doc.byMatter[pin(m)]; ok {
			p.wrong(CodeShared, place, hint, "key %s is %s's key %s in another form", clip(h.Key.id), other.Principal.Name, clip(other.Key.id))
			return
		}
	}
	p.doc.byID[h.Key.id] = h
	for _, m := range matter {
		p.doc.byMatter[pin(m)] = h
	}
	if h.Key.pgp != nil {
		for _, fp := range h.Key.pgp.Fingerprints() {
			p.doc.byAlias[fp] = h
		}
	}
}

// sshKey reads "TYPE BASE64", one spelling of one key.
func (p *parser) sshKey(k *Key, place string) [][]byte {
	typ, text, two := strings.Cut(k.PublicKey, " ")
	blob, err := base64.StdEncoding.Strict().DecodeString(text)
	if !two || err != nil || strings.ContainsAny(text, " \r\n") {
		p.wrong(CodeMalformed, place, "take the first two words of the .pub file, without the comment", "the SSH key is not its type and its base64 with one blank between them")
		return nil
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil || key.Type() != typ || !bytes.Equal(key.Marshal(), blob) {
		p.wrong(CodeMalformed, place, "", "the SSH key cannot be read, or is not of the type %q that stands before it", clip(typ))
		return nil
	}
	if _, isCert := key.(*ssh.Certificate); isCert {
		p.wrong(CodeKeyKind, place, "list the key itself", "an SSH certificate is no key: who may sign is said here, not by a certificate authority")
		return nil
	}
	switch err := sshsignature.CheckKey(key, MinRSABits); sshsignature.ProblemOf(err) {
	case 0:
	case sshsignature.TooWeak:
		p.wrong(CodeTooWeak, place, "", "an RSA key has at least %d bits", MinRSABits)
		return nil
	default:
		p.wrong(CodeKeyKind, place, "", "SSH keys of type %s are not accepted", clip(typ))
		return nil
	}
	public, err := publicOfSSH(key)
	if err != nil {
		p.wrong(CodeMalformed, place, "", "the SSH key cannot be read")
		return nil
	}
	k.ssh, k.id = key, ssh.FingerprintSHA256(key)
	return [][]byte{public}
}

// publicOfSSH is the SubjectPublicKeyInfo of an SSH key; of a security key's the one of the key
// inside, whatever application it is for.
func publicOfSSH(key ssh.PublicKey) ([]byte, error) {
	if c, ok := key.(ssh.CryptoPublicKey); ok && !sshsignature.IsSecurityKey(key) {
		return x509.MarshalPKIXPublicKey(c.CryptoPublicKey())
	}
	switch key.Type() {
	case ssh.KeyAlgoSKED25519:
		var w struct {
			Type        string
			Key         []byte
			Application string
		}
		if err := ssh.Unmarshal(key.Marshal(), &w); err != nil || len(w.Key) != ed25519.PublicKeySize {
			return nil, errors.New("no Ed25519 key")
		}
		return x509.MarshalPKIXPublicKey(ed25519.PublicKey(w.Key))
	case ssh.KeyAlgoSKECDSA256:
		var w struct {
			Type, Curve string
			Point       []byte
			Application string
		}
		if err := ssh.Unmarshal(key.Marshal(), &w); err != nil {
			return nil, err
		}
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), w.Point)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKIXPublicKey(public)
	}
	return nil, errors.New("no key that is known")
}

func (p *parser) openpgpKey(k *Key, place string) [][]byte {
	key, err := git.ParseOpenPGPKey(k.PublicKey)
	var bad *git.OpenPGPError
	switch {
	case err == nil:
	case errors.As(err, &bad) && bad.Problem == git.OpenPGPWeak:
		p.wrong(CodeTooWeak, place, "", "the OpenPGP certificate has no signing key that is strong enough: RSA of at least %d bits, bound with SHA-256 or better", MinRSABits)
		return nil
	case errors.As(err, &bad) && bad.Problem == git.OpenPGPKind:
		p.wrong(CodeKeyKind, place, "", "the OpenPGP certificate has no key that may sign, of RSA, ECDSA or EdDSA")
		return nil
	default:
		p.wrong(CodeMalformed, place, "gpg --export --export-options export-minimal --armor FINGERPRINT writes it", "the OpenPGP certificate %v", err)
		return nil
	}
	k.pgp, k.id = key, key.Fingerprint()
	return key.Material()
}

// x509Key reads one certificate in PEM. Its key is pinned; nobody is asked who issued it.
func (p *parser) x509Key(k *Key, place string) [][]byte {
	block, rest := pem.Decode([]byte(k.PublicKey))
	if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0 || !strings.HasPrefix(k.PublicKey, "-----BEGIN") {
		p.wrong(CodeMalformed, place, "", "want one PEM block CERTIFICATE and nothing around it")
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		p.wrong(CodeMalformed, place, "", "the certificate cannot be read: %v", err)
		return nil
	}
	switch public := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() < MinRSABits {
			p.wrong(CodeTooWeak, place, "", "an RSA key has at least %d bits", MinRSABits)
			return nil
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
		if e, ok := public.(*ecdsa.PublicKey); ok && e.Curve == elliptic.P224() {
			p.wrong(CodeTooWeak, place, "", "an ECDSA key is on P-256 or a larger curve")
			return nil
		}
	default:
		p.wrong(CodeKeyKind, place, "", "a certificate's key of this algorithm is not accepted: RSA, ECDSA and Ed25519 are")
		return nil
	}
	k.cert, k.id = cert, cms.SPKI(cert)
	der, err := x509.MarshalPKIXPublicKey(cert.PublicKey)
	if err != nil {
		p.wrong(CodeMalformed, place, "", "the certificate's key cannot be written: %v", err)
		return nil
	}
	matter := [][]byte{cert.RawSubjectPublicKeyInfo}
	if !bytes.Equal(der, cert.RawSubjectPublicKeyInfo) {
		matter = append(matter, der) // one key in two encodings is one key
	}
	return matter
}

// keyless reads an identity: an issuer and a subject that certificates name exactly.
func (p *parser) keyless(k *Key, w wireKey, place string) {
	if w.PublicKey != nil || w.Issuer == nil || w.Subject == nil {
		p.wrong(CodeMalformed, place, "", "a key of kind sigstore has issuer and subject and no publicKey")
		return
	}
	k.Issuer, k.Subject = *w.Issuer, *w.Subject
	k.id = k.Issuer + " " + k.Subject
	u, err := url.Parse(k.Issuer)
	secure := err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" && loopback.Host(u.Host)) // as hallmark up's is
	if !secure || !plainText(k.Issuer) {
		p.wrong(CodeMalformed, place+".issuer", "", "%q is no https URL of an issuer", clip(k.Issuer))
	}
	if !plainText(k.Subject) {
		p.wrong(CodeMalformed, place+".subject", "", "%q is no identity: an e-mail address or a URI, without blanks", clip(k.Subject))
	}
}

// plainText reports whether s is short and printable without blanks.
func plainText(s string) bool {
	if s == "" || len(s) > maxIdentity {
		return false
	}
	for _, c := range []byte(s) {
		if c <= 0x20 || c >= 0x7f {
			return false
		}
	}
	return true
}
