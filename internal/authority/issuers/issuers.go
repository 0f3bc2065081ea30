// Package issuers knows whose identity tokens the authority takes, and whom a
// token names: its own issuer's, and those that a configuration in the form of
// Fulcio's lists, whose keys it fetches and keeps for a while.
//
// Trusted: the configuration, and each issuer in it for the names that its type
// gives it. Not trusted: tokens. A token's issuer decides which keys are fetched
// only among those that the configuration names; what is fetched is bounded in
// size, time and number, and no byte of a token is in an error.
package issuers

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // ES256 and its kin
	_ "crypto/sha512"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/fulcio/pkg/certificate"

	"github.com/hallmark-dev/hallmark/internal/idtoken"
)

// Types of identities that an issuer's tokens carry, under Fulcio's names.
const (
	TypeEmail             = "email"
	TypeSPIFFE            = "spiffe"
	TypeURI               = "uri"
	TypeUsername          = "username"
	TypeGitHubWorkflow    = "github-workflow"
	TypeGitLabPipeline    = "gitlab-pipeline"
	TypeBuildkiteJob      = "buildkite-job"
	TypeCodefreshWorkflow = "codefresh-workflow"
	TypeChainguard        = "chainguard-identity"
	TypeKubernetes        = "kubernetes"
	TypeCIProvider        = "ci-provider"
)

// Types are all of them, sorted.
func Types() []string {
	return []string{TypeBuildkiteJob, TypeChainguard, TypeCIProvider, TypeCodefreshWorkflow, TypeEmail, TypeGitHubWorkflow,
		TypeGitLabPipeline, TypeKubernetes, TypeSPIFFE, TypeURI, TypeUsername}
}

const (
	clockSkew = 30 * time.Second // of another machine's issuer
	maxAge    = 24 * time.Hour   // no token for signing lives longer
)

// KeySource has the public keys of an issuer that is part of this program.
type KeySource interface {
	// PublicKey is the key with this id (JWS header "kid"), nil when there is none.
	// It is safe for concurrent use.
	PublicKey(kid string) crypto.PublicKey
}

// Issuer is an OIDC issuer whose tokens are taken. One URL may occur once for each
// type if its keys are at hand: the token's own claims then say which one it is.
type Issuer struct {
	// URL must equal the token's iss. With Wildcard each * in it stands for one or
	// more letters, digits, - and _.
	URL      string
	Wildcard bool
	ClientID string // must be in the token's aud
	Type     string // one of Types
	// Keys are at hand; nil: they are fetched (OpenID Connect Discovery 1.0).
	Keys       KeySource
	Algorithms []string // JWS algorithms of Keys; empty is RS256 alone
	CACert     []byte   // PEM: CAs that the issuer's TLS certificate may also come from

	ServerURL string // of TypeGitHubWorkflow: where the repositories are; "" is https://github.com
	// IssuerClaim, of TypeEmail: the path of the claim that has the issuer of the
	// certificate, empty for iss.
	IssuerClaim           []string
	SkipEmailVerification bool      // of TypeEmail: the issuer verifies addresses and does not say so
	SubjectDomain         string    // of TypeURI: scheme and host of subjects; of TypeUsername: the host
	TrustDomain           string    // of TypeSPIFFE
	Provider              *Provider // of TypeCIProvider

	pattern *regexp.Regexp // of Wildcard
	folded  *regexp.Regexp // the same for what [fold] makes
}

// Challenge is the claim that a client signs to prove that it has its key.
func (i Issuer) Challenge() string {
	if i.Type == TypeEmail {
		return "email"
	}
	return "sub"
}

// Identity is whom a certificate is for.
type Identity struct {
	Proof      string // what the proof of possession signs
	Emails     []string
	URIs       []*url.URL
	OtherName  string // a user name, as Fulcio's otherName (1.3.6.1.4.1.57264.1.7)
	Extensions certificate.Extensions
}

// Names are the names that the certificate has.
func (id Identity) Names() []string {
	names := slices.Clone(id.Emails)
	for _, u := range id.URIs {
		names = append(names, u.String())
	}
	if id.OtherName != "" {
		names = append(names, id.OtherName)
	}
	return names
}

// UnavailableError is an issuer that could not be asked for its keys: whether the
// token is good is not known.
type UnavailableError struct {
	Issuer string
	Err    error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("the issuer %s could not be asked for its keys: %v", e.Issuer, e.Err)
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// Message is for who sent the token: what happened on the way to the issuer is not.
func (e *UnavailableError) Message() string {
	if errors.Is(e.Err, ErrTooSoon) {
		return e.Error()
	}
	return fmt.Sprintf("the issuer %s could not be asked for its keys; the authority's log says why", e.Issuer)
}

// Config of a [Set].
type Config struct {
	Issuers []Issuer // the first that matches counts
	// Own is the issuer in whose name no other may speak, whatever a claim of its
	// tokens says; "": none.
	Own string
	Now func() time.Time
	// ServiceAccount is the folder in which Kubernetes keeps the certificate and the
	// token of the Pod's service account; "" is where it is in every Pod.
	ServiceAccount string
}

// Set is the issuers whose tokens are taken. It is safe for concurrent use.
type Set struct {
	issuers []Issuer
	own     string
	now     func() time.Time
	remotes *remotes
}

// New checks the issuers. Nothing is fetched before a token needs it.
func New(cfg Config) (*Set, error) {
	s := &Set{now: cfg.Now, own: cfg.Own, issuers: slices.Clone(cfg.Issuers)}
	if s.now == nil {
		s.now = time.Now
	}
	seen := map[[2]string]bool{}
	for n := range s.issuers {
		i := &s.issuers[n]
		if i.URL == "" || i.ClientID == "" || !slices.Contains(Types(), i.Type) || (i.Type == TypeCIProvider) != (i.Provider != nil) {
			return nil, fmt.Errorf("issuer %q: URL, client id and a known type are needed", i.URL)
		}
		for _, alg := range i.Algorithms {
			if _, known := algorithms[alg]; !known {
				return nil, fmt.Errorf("issuer %q: the algorithm %q is not known", i.URL, alg)
			}
		}
		if i.Wildcard {
			i.pattern, i.folded = wildcard(i.URL), wildcard(fold(i.URL))
		}
		k := [2]string{i.URL, i.Type}
		if seen[k] {
			return nil, fmt.Errorf("issuer %q of type %s is there twice", i.URL, i.Type)
		}
		seen[k] = true
	}
	s.remotes = newRemotes(s.now, cfg.ServiceAccount)
	return s, nil
}

// Issuers are those whose tokens are taken.
func (s *Set) Issuers() []Issuer { return slices.Clone(s.issuers) }

// wildcard takes a URL in which each * is one or more of the characters that
// Fulcio lets it be.
func wildcard(pattern string) *regexp.Regexp {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, "[-_a-zA-Z0-9]+") + "$")
}

// Authenticate verifies a token strictly and returns whom it names. Its errors
// name the claim that failed and never show the token; an *UnavailableError is no
// refusal.
func (s *Set) Authenticate(ctx context.Context, raw string) (Identity, error) {
	return s.authenticate(ctx, raw, "")
}

// AuthenticateFrom is [Set.Authenticate] for tokens of one issuer; no other is asked.
func (s *Set) AuthenticateFrom(ctx context.Context, raw, issuer string) (Identity, error) {
	if issuer == "" {
		return Identity{}, errors.New("no issuer to compare with")
	}
	return s.authenticate(ctx, raw, issuer)
}

func (s *Set) authenticate(ctx context.Context, raw, only string) (Identity, error) {
	if raw == "" {
		return Identity{}, errors.New("no identity token: want Authorization: Bearer or credentials.oidcIdentityToken")
	}
	t, err := idtoken.Parse(raw)
	if err != nil {
		return Identity{}, err
	}
	if only != "" && t.Issuer != only {
		return Identity{}, errors.New(`claim "iss": the token is of another issuer`)
	}
	issuer, err := s.issuerOf(t)
	if err != nil {
		return Identity{}, err
	}
	if err := s.verify(ctx, t, issuer); err != nil {
		return Identity{}, err
	}
	if err := checkTimes(t, s.now()); err != nil {
		return Identity{}, err
	}
	if err := checkAudience(t, issuer); err != nil {
		return Identity{}, err
	}
	id, err := issuer.identity(t)
	if err == nil && id.Extensions.Issuer != t.Issuer {
		err = s.speaksFor(issuer, id.Extensions.Issuer)
	}
	if err != nil {
		return Identity{}, err
	}
	return id, nil
}

// speaksFor refuses an issuer whose tokens name another one (IssuerClaim) if that is our
// own, or one whose tokens we take for another type of names. One that names people, too,
// is what the claim is for: Fulcio's own configuration has Google both ways.
func (s *Set) speaksFor(i Issuer, named string) error {
	name, refused := fold(named), s.own != "" && fold(named) == fold(s.own)
	for _, other := range s.issuers {
		same := fold(other.URL) == name
		if other.Wildcard {
			same = other.folded.MatchString(name)
		}
		refused = refused || same && other.Type != TypeEmail
	}
	if refused {
		return fmt.Errorf("claim %q: an issuer for which that of the token cannot speak", strings.Join(i.IssuerClaim, "."))
	}
	return nil
}

// fold makes one of the spellings in which people may take a URL for another.
func fold(issuer string) string {
	return strings.TrimRight(strings.ToLower(strings.TrimSpace(issuer)), "/")
}

// issuerOf finds the configured issuer. If its URL is there with two types, the
// token's claims choose; one with the claims of both is refused.
func (s *Set) issuerOf(t idtoken.Token) (Issuer, error) {
	_, mail := t.Claims["email"]
	_, workflow := t.Claims["job_workflow_ref"]
	var same []Issuer
	for _, i := range s.issuers {
		if !i.Wildcard && i.URL == t.Issuer {
			same = append(same, i)
		}
	}
	if len(same) == 0 {
		for _, i := range s.issuers {
			if i.Wildcard && i.pattern.MatchString(t.Issuer) {
				return i, nil
			}
		}
	}
	switch {
	case len(same) == 0:
		return Issuer{}, errors.New(`claim "iss": this CA does not take tokens of that issuer`)
	case len(same) == 1:
		return same[0], nil
	case mail && workflow:
		return Issuer{}, errors.New(`claims "email" and "job_workflow_ref": the token names a person and a workflow`)
	}
	want := TypeEmail
	if workflow {
		want = TypeGitHubWorkflow
	}
	for _, i := range same {
		if i.Type == want {
			return i, nil
		}
	}
	return Issuer{}, errors.New(`claim "iss": this CA does not take that kind of token of that issuer`)
}

// verify checks the token's signature with the issuer's keys.
func (s *Set) verify(ctx context.Context, t idtoken.Token, issuer Issuer) error {
	if issuer.Keys != nil {
		allowed := issuer.Algorithms
		if len(allowed) == 0 {
			allowed = []string{"RS256"}
		}
		if !slices.Contains(allowed, t.Algorithm) {
			return wrongAlgorithm(allowed)
		}
		public := issuer.Keys.PublicKey(t.KeyID)
		if public == nil {
			return errNoKey
		}
		return verifyWith(t, []crypto.PublicKey{public})
	}
	known, err := s.remotes.get(ctx, issuer, t.Issuer, t.KeyID)
	if err != nil {
		return &UnavailableError{Issuer: t.Issuer, Err: err}
	}
	if !slices.Contains(known.algorithms, t.Algorithm) {
		return wrongAlgorithm(known.algorithms)
	}
	candidates := known.find(t.KeyID, t.Algorithm)
	if len(candidates) == 0 {
		return errNoKey
	}
	return verifyWith(t, candidates)
}

var errNoKey = errors.New(`header "kid": the issuer has no such key`)

func wrongAlgorithm(allowed []string) error {
	return fmt.Errorf(`header "alg": tokens of this issuer must be signed with %s`, strings.Join(allowed, " or "))
}

// algorithm is a JWS signature algorithm (RFC 7518, 3.1; RFC 8037).
type algorithm struct {
	hash  crypto.Hash    // 0: Ed25519
	pss   bool           // of RSA
	curve elliptic.Curve // of ECDSA; nil: RSA, or Ed25519 without a hash
}

var algorithms = map[string]algorithm{
	"RS256": {hash: crypto.SHA256}, "RS384": {hash: crypto.SHA384}, "RS512": {hash: crypto.SHA512},
	"PS256": {hash: crypto.SHA256, pss: true}, "PS384": {hash: crypto.SHA384, pss: true}, "PS512": {hash: crypto.SHA512, pss: true},
	"ES256": {hash: crypto.SHA256, curve: elliptic.P256()}, "ES384": {hash: crypto.SHA384, curve: elliptic.P384()},
	"ES512": {hash: crypto.SHA512, curve: elliptic.P521()}, "EdDSA": {},
}

// verifyWith takes what the caller allowed, never what the token asks for alone
// (RFC 8725, 3.1): a key verifies only the algorithm of its own kind.
func verifyWith(t idtoken.Token, keys []crypto.PublicKey) error {
	alg, known := algorithms[t.Algorithm]
	for _, k := range keys {
		if known && alg.verify(k, t.SigningInput(), t.Signature) {
			return nil
		}
	}
	return errors.New("the identity token's signature does not match")
}

func (a algorithm) verify(public crypto.PublicKey, message, sig []byte) bool {
	digest := message
	if a.hash != 0 {
		h := a.hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	switch k := public.(type) {
	case *rsa.PublicKey:
		switch {
		case a.hash == 0 || a.curve != nil || k.N.BitLen() < 2048:
			return false
		case a.pss: // RFC 7518, 3.5: the salt is as long as the hash
			return rsa.VerifyPSS(k, a.hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(k, a.hash, digest, sig) == nil
	case *ecdsa.PublicKey: // RFC 7518, 3.4: r and s, each as long as the field
		n := (k.Params().BitSize + 7) / 8
		return a.curve != nil && k.Curve == a.curve && len(sig) == 2*n &&
			ecdsa.Verify(k, digest, new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:]))
	case ed25519.PublicKey:
		return a.hash == 0 && len(k) == ed25519.PublicKeySize && ed25519.Verify(k, message, sig)
	}
	return false
}

func checkTimes(t idtoken.Token, now time.Time) error {
	at := now.UTC().Format(time.RFC3339)
	if !now.Before(t.Expiry) {
		return fmt.Errorf(`claim "exp": the token expired at %s, it is %s`, t.Expiry.Format(time.RFC3339), at)
	}
	if t.IssuedAt.IsZero() {
		return errors.New(`claim "iat" (time of issue) is missing`)
	}
	if t.IssuedAt.After(now.Add(clockSkew)) {
		return fmt.Errorf(`claim "iat": the token was issued at %s, it is %s`, t.IssuedAt.Format(time.RFC3339), at)
	}
	if t.Expiry.Sub(t.IssuedAt) > maxAge {
		return errors.New(`claim "exp": the token is valid for longer than a day`)
	}
	notBefore, err := t.Time("nbf")
	if err != nil {
		return err
	}
	if notBefore.After(now.Add(clockSkew)) {
		return fmt.Errorf(`claim "nbf": the token is not valid before %s, it is %s`, notBefore.Format(time.RFC3339), at)
	}
	return nil
}

// checkAudience wants a token for our client. With several audiences it must say
// that we asked for it (OpenID Connect Core 1.0, 3.1.3.7): whoever else it is for
// could bring it here. Of other issuers a single audience is enough, because some
// name an account of their own as azp.
func checkAudience(t idtoken.Token, issuer Issuer) error {
	if !slices.Contains(t.Audience, issuer.ClientID) {
		return fmt.Errorf(`claim "aud": the token is not for %q`, issuer.ClientID)
	}
	azp, ok := t.Text("azp")
	several := len(t.Audience) > 1
	if !ok || several && azp != issuer.ClientID || issuer.Keys != nil && azp != "" && azp != issuer.ClientID {
		return fmt.Errorf(`claim "azp": the token was not issued to %q`, issuer.ClientID)
	}
	return nil
}
