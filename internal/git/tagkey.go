package git

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/sshsignature"
)

// TagKey is one key that may sign, as a signing policy lists it. Exactly one of SSH,
// OpenPGP and X509 is set, that which Kind names.
type TagKey struct {
	Principal string // whose it is
	Kind      string // "ssh", "openpgp" or "x509"
	SSH       ssh.PublicKey
	OpenPGP   string            // one armored certificate
	X509      *x509.Certificate // its public key is what counts: no chain is built
	NotBefore time.Time         // zero: no bound; judged at our clock, never at the tag's date
	NotAfter  time.Time         // zero: no bound; not valid any more at this moment
	RequireUV bool              // a security key must say that it verified its user
}

// Signer is who made a signature that was verified.
type Signer struct {
	Key          int    // index in the keys that were given
	Principal    string // of that key
	Kind         string // "ssh", "openpgp", "x509"
	KeyID        string // as git shows it: the fingerprint for ssh and x509, 16 hexadecimal digits for openpgp
	Fingerprint  string // "SHA256:…" for ssh; hexadecimal: of the primary key for openpgp, SHA-256 of the public key (SPKI) for x509
	Namespace    string // "git" for ssh, else ""
	Hash         string // "sha256", "sha384", "sha512"; "sha3-256" and "sha3-512" from OpenPGP
	SecurityKey  bool   // a FIDO key, which somebody touched
	UserVerified bool   // and which verified its user
}

// minTagRSABits is the smallest RSA modulus of a key of a signing policy.
const minTagRSABits = 3072

// VerifyTag says who signed the tag that stands at ref (its full name): exactly one of the
// answers is not nil. The key must be one of keys and valid at now; what the tag, the
// signature or a certificate says of the time plays no part. RSA keys have at least 3072
// bits. Codes: TAG_NAME_MISMATCH, TAG_TARGET_TYPE, TAG_UNSIGNED, TAG_SIGNER, TAG_MALFORMED,
// TAG_KEY_EXPIRED, TAG_WRONG_NAMESPACE, KEY_TOO_WEAK, KEY_KIND. Whether the tag says of
// which repository it is [Tag.OfRepository] tells.
func VerifyTag(tag *Tag, ref string, keys []TagKey, now time.Time) (*Signer, *policy.Reason) {
	if why := tag.standsAt(ref); why != nil {
		return nil, why
	}
	if _, why := tag.Trailers(); why != nil {
		return nil, why
	}
	return verifyBy(tag.Signature, tag.what(), tag.ID, keys, now)
}

// VerifyCommit says who signed a commit, as [VerifyTag] does for a tag.
func VerifyCommit(c *Commit, keys []TagKey, now time.Time) (*Signer, *policy.Reason) {
	return verifyBy(c.Signature, "commit "+short(c.ID), c.ID, keys, now)
}

func verifyBy(sig Signature, what, id string, keys []TagKey, now time.Time) (*Signer, *policy.Reason) {
	v := verification{sig: sig, what: what, id: id, now: now, minRSA: minTagRSABits,
		hint: "have it made anew by somebody whose key the signing policy lists for it"}
	switch sig.Kind {
	case "ssh":
		return v.sshBy(keys)
	case "openpgp":
		return v.openpgpByAny(keys)
	case "x509":
		return v.x509By(keys)
	}
	return nil, reason(CodeUnsigned, id, "make it anew, signed: hallmark tag, or git tag -s", "%s is not signed", what)
}

// Check reports why nothing can be verified with the key: of another form than it says,
// or of a kind or strength that is never accepted.
func (k TagKey) Check() error {
	set := 0
	for _, is := range []bool{k.SSH != nil, k.OpenPGP != "", k.X509 != nil} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		return errors.New("want exactly one of an SSH key, an OpenPGP certificate and an X.509 certificate")
	case !k.NotBefore.IsZero() && !k.NotAfter.IsZero() && !k.NotBefore.Before(k.NotAfter):
		return errors.New("its life ends before it begins")
	case k.Kind == "ssh" && k.SSH != nil:
		if k.RequireUV && !sshsignature.IsSecurityKey(k.SSH) {
			return fmt.Errorf("a key of type %s cannot verify its user; security keys can", clip(k.SSH.Type()))
		}
		return sshsignature.CheckKey(k.SSH, minTagRSABits)
	case k.Kind == "openpgp" && k.OpenPGP != "":
		_, err := ParseOpenPGPKey(k.OpenPGP)
		return err
	case k.Kind == "x509" && k.X509 != nil:
		return checkX509(k.X509)
	}
	return fmt.Errorf("it is not of kind %q", clip(k.Kind))
}

// alive says why the key does not count at the time of checking; what names it.
func (v verification) alive(k TagKey, what string) *policy.Reason {
	switch {
	case !k.NotBefore.IsZero() && v.now.Before(k.NotBefore):
		return v.denied(CodeKeyExpired, "is signed by %s, a key of %s that is valid only after %s", what, k.Principal, k.NotBefore.UTC().Format(time.RFC3339))
	case !k.NotAfter.IsZero() && !v.now.Before(k.NotAfter):
		return v.denied(CodeKeyExpired, "is signed by %s, a key of %s that was valid only before %s; the date in it does not count",
			what, k.Principal, k.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

func (v verification) sshBy(keys []TagKey) (*Signer, *policy.Reason) {
	sig, why := v.readSSH()
	if why != nil {
		return nil, why
	}
	blob, fingerprint := sig.Key.Marshal(), ssh.FingerprintSHA256(sig.Key)
	var listed []int
	for i, k := range keys {
		if k.Kind == "ssh" && k.SSH != nil && bytes.Equal(k.SSH.Marshal(), blob) {
			listed = append(listed, i)
		}
	}
	if len(listed) == 0 && sig.Namespace == SignatureNamespace {
		return nil, v.notListed("ssh "+fingerprint, keys)
	}
	if why := v.checkSSH(sig); why != nil {
		return nil, why
	}
	for _, i := range listed {
		k := keys[i]
		if why = v.alive(k, "ssh "+fingerprint); why != nil {
			continue
		}
		if k.RequireUV && !sig.Verified {
			why = v.denied(CodeSigner, "is signed by ssh %s, which must verify its user (PIN or finger) and did not", fingerprint)
			continue
		}
		return &Signer{Key: i, Principal: k.Principal, Kind: "ssh", KeyID: fingerprint, Fingerprint: fingerprint,
			Namespace: sig.Namespace, Hash: sig.Hash, SecurityKey: sig.SecurityKey, UserVerified: sig.Verified}, nil
	}
	return nil, why
}

// notListed names the principals whose keys would do.
func (v verification) notListed(key string, keys []TagKey) *policy.Reason {
	const shown = 4
	var names []string
	for _, k := range keys {
		names = append(names, k.Principal)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	whose := "nobody"
	if len(names) > 0 {
		whose = strings.Join(names[:min(len(names), shown)], ", ")
	}
	if len(names) > shown {
		whose += fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return v.denied(CodeSigner, "is signed by %s, a key that the signing policy does not list for it; it lists keys of %s", key, whose)
}

// keyring is the key's one certificate as a keyring of its own.
func (k TagKey) keyring() (*Keyring, error) {
	ring, err := ParseKeyring([]byte(k.OpenPGP))
	if err == nil && len(ring.entities) != 1 {
		err = fmt.Errorf("%d certificates where one belongs", len(ring.entities))
	}
	return ring, err
}

func (v verification) openpgpByAny(keys []TagKey) (*Signer, *policy.Reason) {
	sig, raw, why := v.readOpenPGP()
	if why != nil {
		return nil, why
	}
	why = v.notListed("openpgp "+openpgpIssuer(sig), keys)
	for i, k := range keys {
		if k.Kind != "openpgp" {
			continue
		}
		ring, err := k.keyring()
		if err != nil {
			return nil, v.denied(CodeKeyKind, "cannot be judged: the OpenPGP certificate of %s cannot be read: %v", k.Principal, err)
		}
		fp, denied := v.openpgpBy(ring, sig, raw)
		if fp == "" {
			continue
		}
		if denied == nil {
			denied = v.alive(k, "openpgp "+fp)
		}
		if why = denied; why == nil {
			return &Signer{Key: i, Principal: k.Principal, Kind: "openpgp", KeyID: fmt.Sprintf("%016x", *sig.IssuerKeyId),
				Fingerprint: fp, Hash: hashName(sig.Hash)}, nil
		}
	}
	return nil, why
}
