package git

import (
	"crypto/x509"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/policy"
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
	Hash         string // "sha256", "sha384" or "sha512"
	SecurityKey  bool   // a FIDO key, which somebody touched
	UserVerified bool   // and which verified its user
}

// VerifyTag says who signed the tag that stands at ref (its full name): exactly one of the
// answers is not nil. The key must be one of keys and valid at now; what the tag, the
// signature or a certificate says of the time plays no part. RSA keys have at least 3072
// bits. Codes: TAG_NAME_MISMATCH, TAG_TARGET_TYPE, TAG_UNSIGNED, TAG_SIGNER, TAG_MALFORMED,
// TAG_KEY_EXPIRED, TAG_WRONG_NAMESPACE, KEY_TOO_WEAK, KEY_KIND. Whether the tag says of
// which repository it is [Tag.OfRepository] tells.
func VerifyTag(tag *Tag, ref string, keys []TagKey, now time.Time) (*Signer, *policy.Reason) {
	panic("not yet")
}

// VerifyCommit says who signed a commit, as [VerifyTag] does for a tag.
func VerifyCommit(c *Commit, keys []TagKey, now time.Time) (*Signer, *policy.Reason) {
	panic("not yet")
}
