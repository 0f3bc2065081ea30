package bundlefile

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Codes of reasons that come from here (docs/reasons.md).
const (
	CodePinConflict   = "PIN_CONFLICT"   // somebody else is pinned for the repository
	CodeWrongIdentity = "WRONG_IDENTITY" // signed, by somebody else than is pinned
	CodeStale         = "TRUST_STALE"    // trust material is older than its source vouches for
)

// Pin is who signs a repository's images: exactly one identity with its issuer,
// or exactly one key. It holds for all tags and digests of the repository.
type Pin struct {
	Repository string `json:"repository" strict:"required"` // HOST/REPOSITORY, without tag and digest
	Identity   string `json:"identity,omitempty"`
	Issuer     string `json:"issuer,omitempty"`
	// SourceRepository is the certificate's Source Repository URI; empty when the
	// pinned certificate had none, and then nothing is demanded.
	SourceRepository string `json:"sourceRepository,omitempty"`
	// Log is the origin of the log that had the entry; empty when there was none.
	Log       string    `json:"log,omitempty"`
	PublicKey []byte    `json:"publicKey,omitempty"` // DER SubjectPublicKeyInfo
	PinnedAt  time.Time `json:"pinnedAt" strict:"required"`
	Rule      int       `json:"rule,omitempty"` // version of the publisher's rule that says so; 0: a person said it
}

// extensionSourceRepository is how verify names Fulcio's extension 1.3.6.1.4.1.57264.1.12.
const extensionSourceRepository = "sourceRepositoryURI"

// NewPin is the pin of a repository (HOST/REPOSITORY) on exactly the signer of a
// verified signature. A bare key's signer needs the key itself.
func NewPin(repository string, f policy.Fact, public crypto.PublicKey, now time.Time) (Pin, error) {
	p := Pin{Repository: repository, Log: f.LogOrigin, PinnedAt: now}
	switch {
	case f.Signer.Identity != "" && f.Signer.Issuer != "":
		p.Identity, p.Issuer, p.SourceRepository = f.Signer.Identity, f.Signer.Issuer, f.Signer.Extensions[extensionSourceRepository]
	case f.Signer.Key != "" && public != nil:
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return Pin{}, err
		}
		p.PublicKey = der
		if p.Fingerprint() != f.Signer.Key {
			return Pin{}, fmt.Errorf("the signature is by key %s, not by %s", f.Signer.Key, p.Fingerprint())
		}
	default:
		return Pin{}, fmt.Errorf("a signature by %s cannot be pinned: it has neither an identity with an issuer nor a key that is at hand", f.Signer)
	}
	return p, p.check()
}

func (p Pin) check() error {
	host, repo, found := strings.Cut(p.Repository, "/")
	if !found || !only(host, "0123456789abcdefghijklmnopqrstuvwxyz.-:[]") || !only(repo, "0123456789abcdefghijklmnopqrstuvwxyz._-/") || slices.Contains(strings.Split(repo, "/"), "") {
		return fmt.Errorf("repository %q: want HOST/REPOSITORY, without a tag or digest: a pin holds for all of them", clip(p.Repository))
	}
	if p.Rule < 0 {
		return fmt.Errorf("the pin of %s is of rule %d", p.Repository, p.Rule)
	}
	byIdentity := p.Identity != "" && p.Issuer != "" && len(p.PublicKey) == 0
	byKey := p.Identity == "" && p.Issuer == "" && p.SourceRepository == "" && len(p.PublicKey) > 0
	if !byIdentity && !byKey {
		return fmt.Errorf("the pin of %s names neither one identity with its issuer nor one key", p.Repository)
	}
	if byKey {
		if _, err := parsePublic(p.PublicKey); err != nil {
			return fmt.Errorf("publicKey: %w", err)
		}
	}
	if err := checkTimes(&p.PinnedAt); err != nil {
		return err
	}
	return checkText(p.Repository, p.Identity, p.Issuer, p.SourceRepository, p.Log)
}

// only reports whether s is not empty and has these characters only.
func only(s, characters string) bool {
	return s != "" && strings.Trim(s, characters) == ""
}

func (f *File) checkPins() error {
	seen := map[string]bool{}
	for i, p := range f.Pins {
		if err := p.check(); err != nil {
			return fmt.Errorf("pins[%d]: %w", i, err)
		}
		if seen[p.Repository] {
			return fmt.Errorf("pins[%d]: %s is pinned twice", i, p.Repository)
		}
		seen[p.Repository] = true
	}
	return nil
}

// Fingerprint is "sha256:…" of the pinned key, "" when an identity is pinned.
func (p Pin) Fingerprint() string {
	if len(p.PublicKey) == 0 {
		return ""
	}
	return "sha256:" + hexSHA256(p.PublicKey)
}

// Signer names the pinned signer for people.
func (p Pin) Signer() string {
	return evidence.Signer{Identity: p.Identity, Issuer: p.Issuer, Key: p.Fingerprint()}.String()
}

// Requirement is what a gate must demand for the pin: the identity, or the one
// key that may sign. Exactly one is set. The rest of the pin is judged by [Pin.Filter].
func (p Pin) Requirement() (*policy.Identity, crypto.PublicKey) {
	if len(p.PublicKey) == 0 {
		return &policy.Identity{Subject: p.Identity, Issuer: p.Issuer}, nil
	}
	public, err := parsePublic(p.PublicKey)
	if err != nil { // check has parsed it
		return &policy.Identity{}, nil // which allows nobody
	}
	return nil, public
}

// Same reports whether two pins name the same signer for the same repository.
func (p Pin) Same(o Pin) bool {
	return p.Repository == o.Repository && p.Identity == o.Identity && p.Issuer == o.Issuer &&
		p.SourceRepository == o.SourceRepository && p.Log == o.Log && string(p.PublicKey) == string(o.PublicKey)
}

// mismatch is why a verified fact is not by the pinned signer, "" if it is.
func (p Pin) mismatch(f policy.Fact) string {
	switch {
	case f.Signer.Identity != p.Identity || f.Signer.Issuer != p.Issuer,
		len(p.PublicKey) > 0 && f.Signer.Key != p.Fingerprint():
		return f.Signer.String()
	case p.SourceRepository != "" && f.Signer.Extensions[extensionSourceRepository] != p.SourceRepository:
		return fmt.Sprintf("%s from the source repository %q, not %q", f.Signer, clip(f.Signer.Extensions[extensionSourceRepository]), p.SourceRepository)
	case p.Log != "" && f.LogOrigin != p.Log:
		return fmt.Sprintf("%s in the log %q, not %q", f.Signer, clip(f.LogOrigin), p.Log)
	}
	return ""
}

// Filter leaves only what the pinned signer signed. When all signatures, or all
// attestations, are somebody else's, the reason says whose and who is pinned.
func (p Pin) Filter(in policy.Input) (policy.Input, *policy.Reason) {
	var why *policy.Reason
	keep := func(facts []policy.Fact, what string) []policy.Fact {
		var out []policy.Fact
		var others []string
		for _, f := range facts {
			if who := p.mismatch(f); who == "" {
				out = append(out, f)
			} else if len(others) < maxNamed {
				others = append(others, who)
			}
		}
		if len(out) == 0 && len(others) > 0 && why == nil {
			why = &policy.Reason{Code: CodeWrongIdentity, Subject: p.Repository,
				Message: fmt.Sprintf("%s by %s; pinned for %s is %s", what, strings.Join(others, ", "), p.Repository, p.words()),
				Hint:    "ask the publisher whether the signer has changed; until then do not run the image"}
		}
		return out
	}
	in.Signatures = keep(in.Signatures, "signature")
	in.Attestations = keep(in.Attestations, "attestation")
	return in, why
}

// maxNamed bounds how many signers one sentence names.
const maxNamed = 10

// Evaluator is a policy as package gate asks it.
type Evaluator interface {
	Evaluate(ctx context.Context, in policy.Input) (policy.Decision, error)
}

// Policy lets next judge what the pinned signer signed and nothing else. next
// demands what [Pin.Requirement] says.
func (p Pin) Policy(next Evaluator) Evaluator { return pinned{p, next} }

type pinned struct {
	pin  Pin
	next Evaluator
}

// Evaluate says no with the names of both when the pinned signer signed nothing
// that was asked for and somebody else did.
func (p pinned) Evaluate(ctx context.Context, in policy.Input) (policy.Decision, error) {
	in, why := p.pin.Filter(in)
	d, err := p.next.Evaluate(ctx, in)
	if err == nil && !d.Allowed && why != nil {
		d.Reasons = []policy.Reason{*why}
	}
	return d, err
}

// Pins are the pins of a bundle.
type Pins []Pin

// For is the pin of a repository (HOST/REPOSITORY).
func (ps Pins) For(repository string) (Pin, bool) {
	for _, p := range ps {
		if p.Repository == repository {
			return p, true
		}
	}
	return Pin{}, false
}

// Has reports whether the signer, with the origin of the log that has the signature, is
// the one that is pinned for a repository.
func (ps Pins) Has(repository string, by evidence.Signer, log string) bool {
	p, pinned := ps.For(repository)
	return pinned && p.mismatch(policy.Fact{Signer: by, LogOrigin: log}) == ""
}

// Add adds a pin. Pinning the same signer again changes nothing; another one is a
// conflict, which the reason describes.
func (f *File) Add(p Pin) *policy.Reason {
	old, pinned := Pins(f.Pins).For(p.Repository)
	switch {
	case !pinned:
		f.Pins = append(f.Pins, p)
		return nil
	case old.Same(p):
		return nil
	}
	return &policy.Reason{Code: CodePinConflict, Subject: p.Repository,
		Message: fmt.Sprintf("%s is pinned to %s since %s, not to %s", p.Repository, old.words(), old.PinnedAt.UTC().Format(time.RFC3339), p.words()),
		Hint:    "ask the publisher why the signer differs; hallmark trust remove " + p.Repository + " takes the old pin away, and only then another can be pinned"}
}

// words is the whole pin for people.
func (p Pin) words() string {
	s := p.Signer()
	if p.SourceRepository != "" {
		s += " from " + p.SourceRepository
	}
	if p.Log != "" {
		s += " in log " + p.Log
	}
	return s
}
