// Package authority reads authority.json: who the people of a repository are, with which keys,
// and how many of them must agree. It is data on purpose: whether a policy may be replaced by
// the next one is decided without running any policy.
package authority

import (
	"crypto/x509"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/git"
)

// Limits of a document.
const (
	MaxSize       = 64 << 10 // bytes
	MaxPrincipals = 64
	MaxRoles      = 32
	MaxKeys       = 8 // of one principal
	MinRSABits    = 3072
	MaxRSABits    = 8192

	MaxDuration      = 720 * time.Hour // of every duration in the document
	DefaultMaxAge    = 168 * time.Hour
	DefaultDelay     = 72 * time.Hour
	DefaultWeakening = time.Hour
	maxKeyText       = 16 << 10
	maxIdentity      = 2048
	accountsMax      = 8
)

// Kinds of keys.
const (
	SSH      = "ssh"
	OpenPGP  = "openpgp"
	X509     = "x509"
	Sigstore = "sigstore"
)

// Uses of keys.
const (
	UseTag     = "tag"
	UseApprove = "approve"
	UseUpdate  = "update"
	UseRecover = "recover"
)

// Protections of keys, as the authors of the document declare them.
const (
	Software = "software"
	HSM      = "hsm"
	FIDO     = "fido"
	Keyless  = "keyless"
)

// Roles with a meaning of their own; others are the policy's.
const (
	RoleUpdate  = "update"  // who replaces the policy; every document has it
	RoleRecover = "recover" // who replaces it when the update role cannot
	RoleRelease = "release" // who signs tags
)

// Evidence by which a role's members may act.
const (
	Signed            = "signed"
	GitHubEnvironment = "github-environment" // as strong as one access token
	GitHubReview      = "github-review"      // as strong as one access token
)

// Document is an authority document. One that Parse returned keeps all rules of the format; it is not
// to be changed, and any number may read it at once.
type Document struct {
	Principals map[string]*Principal
	Roles      map[string]*Role
	Approval   ApprovalRules
	// WeakeningDelay is how long a change that weakens the policy waits before it is in effect.
	WeakeningDelay time.Duration

	canonical []byte
	byID      map[string]Holder // by Key.ID
	byAlias   map[string]Holder // by fingerprint of an OpenPGP subkey
	byMatter  map[string]Holder // by SPKI pin, of all kinds
}

// Principal is a person or, when Machine is set, a machine, which never approves.
type Principal struct {
	Name     string
	Keys     []*Key
	Accounts map[string]string // numeric account id by host: "github.com": "583231"
	Machine  bool
}

// Key is one key of a principal.
type Key struct {
	Kind       string // SSH, OpenPGP, X509, Sigstore
	PublicKey  string // as the document has it; "" of Sigstore
	Issuer     string // of Sigstore: the OIDC issuer, and
	Subject    string // the certificate's one SAN, both exact
	Protection string
	RequireUV  bool // the security key must say that it verified its user
	Uses       []string
	NotBefore  time.Time // zero: no bound
	NotAfter   time.Time // the first moment at which it is not valid; zero: no bound
	// Attested says that the vendor of the device attested the key when the document was
	// submitted; AttestationRoot is "sha256:…" of the vendor's root.
	Attested        bool
	AttestationRoot string

	id   string
	ssh  ssh.PublicKey
	pgp  *git.OpenPGPKey
	cert *x509.Certificate
}

// Role is a list of principals and, with a threshold, how many of them must agree.
type Role struct {
	Name       string
	Threshold  int      // 0: the role is a list and decides nothing by itself
	Principals []string // sorted
	Evidence   []string // sorted; nil of a list
	Delay      time.Duration
}

// ApprovalRules bound approvals.
type ApprovalRules struct {
	MaxAge    time.Duration
	CarryOver bool // approvals given under an earlier version of the policy count
	SingleUse bool // one build for one approval
}

// Holder is a key and whose it is.
type Holder struct {
	Principal *Principal
	Key       *Key
}

// ID names the key: "SHA256:…" as ssh-keygen prints it, an OpenPGP fingerprint, "sha256:…" of an
// X.509 certificate's SubjectPublicKeyInfo, or "ISSUER SUBJECT" of a keyless identity.
func (k *Key) ID() string { return k.id }

// SSH is the key of kind SSH, nil of others.
func (k *Key) SSH() ssh.PublicKey { return k.ssh }

// OpenPGP is the key of kind OpenPGP, nil of others.
func (k *Key) OpenPGP() *git.OpenPGPKey { return k.pgp }

// Certificate is that of kind X509, nil of others.
func (k *Key) Certificate() *x509.Certificate { return k.cert }

// ValidAt reports whether t is within the key's bounds.
func (k *Key) ValidAt(t time.Time) bool {
	return !t.Before(k.NotBefore) && (k.NotAfter.IsZero() || t.Before(k.NotAfter))
}

// May reports whether the key has a use.
func (k *Key) May(use string) bool { return contains(k.Uses, use) }

// Has reports whether the principal is of the role.
func (r *Role) Has(principal string) bool { return contains(r.Principals, principal) }

// Accepts reports whether the role's members may act by a kind of evidence.
func (r *Role) Accepts(evidence string) bool { return contains(r.Evidence, evidence) }
