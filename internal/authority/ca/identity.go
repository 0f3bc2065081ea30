package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/fulcio/pkg/certificate"

	"github.com/hallmark-dev/hallmark/internal/idtoken"
)

const (
	clockSkew = 30 * time.Second // of another machine's issuer
	maxAge    = 24 * time.Hour   // no token for signing lives longer
)

// identity is who a certificate is for.
type identity struct {
	subject    string // what the proof of possession signs
	emails     []string
	uris       []*url.URL
	extensions certificate.Extensions
}

// authenticate verifies a token strictly and returns whom it names. Its errors
// name the claim that failed and never show the token.
func (c *CA) authenticate(raw string) (identity, error) {
	if raw == "" {
		return identity{}, errors.New("no identity token: want Authorization: Bearer or credentials.oidcIdentityToken")
	}
	t, err := idtoken.Parse(raw)
	if err != nil {
		return identity{}, err
	}
	issuer, err := c.issuerOf(t)
	if err != nil {
		return identity{}, err
	}
	if err := verifySignature(t, issuer); err != nil {
		return identity{}, err
	}
	if err := checkTimes(t, c.cfg.Now()); err != nil {
		return identity{}, err
	}
	if !slices.Contains(t.Audience, issuer.ClientID) {
		return identity{}, fmt.Errorf(`claim "aud": the token is not for %q`, issuer.ClientID)
	}
	// OpenID Connect Core 1.0, 3.1.3.7: with several audiences it must say who asked for it.
	if azp, ok := t.Text("azp"); !ok || (azp != "" && azp != issuer.ClientID) || (len(t.Audience) > 1 && azp == "") {
		return identity{}, fmt.Errorf(`claim "azp": the token was not issued to %q`, issuer.ClientID)
	}
	if issuer.Type == TypeGitHubWorkflow {
		return workflowIdentity(t, issuer)
	}
	return emailIdentity(t)
}

// issuerOf finds the configured issuer. If its URL is there with two types, the
// token's claims choose; one with the claims of both is refused.
func (c *CA) issuerOf(t idtoken.Token) (Issuer, error) {
	_, mail := t.Claims["email"]
	_, workflow := t.Claims["job_workflow_ref"]
	var same []Issuer
	for _, i := range c.cfg.Issuers {
		if i.URL == t.Issuer {
			same = append(same, i)
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

// verifySignature takes the algorithms that the issuer is configured with, never
// what the token asks for alone (RFC 8725, 3.1).
func verifySignature(t idtoken.Token, issuer Issuer) error {
	algorithms := issuer.Algorithms
	if len(algorithms) == 0 {
		algorithms = []string{"RS256"}
	}
	if !slices.Contains(algorithms, t.Algorithm) {
		return fmt.Errorf(`header "alg": tokens of this issuer must be signed with %s`, strings.Join(algorithms, " or "))
	}
	public := issuer.Keys.PublicKey(t.KeyID)
	if public == nil {
		return errors.New(`header "kid": the issuer has no such key`)
	}
	digest := sha256.Sum256(t.SigningInput())
	ok := false
	switch k := public.(type) {
	case *rsa.PublicKey:
		ok = t.Algorithm == "RS256" && k.N.BitLen() >= 2048 && rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], t.Signature) == nil
	case *ecdsa.PublicKey: // RFC 7518, 3.4: r and s, 32 bytes each
		ok = t.Algorithm == "ES256" && k.Curve == elliptic.P256() && len(t.Signature) == 64 &&
			ecdsa.Verify(k, digest[:], new(big.Int).SetBytes(t.Signature[:32]), new(big.Int).SetBytes(t.Signature[32:]))
	}
	if !ok {
		return errors.New("the identity token's signature does not match")
	}
	return nil
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

// emailIdentity is a person.
func emailIdentity(t idtoken.Token) (identity, error) {
	if t.Email == "" {
		return identity{}, errors.New(`claim "email" is missing`)
	}
	if v := string(t.Claims["email_verified"]); v != "true" {
		return identity{}, errors.New(`claim "email_verified": the issuer did not verify the e-mail address`)
	}
	local, domain, ok := strings.Cut(t.Email, "@")
	bad := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`@"(),:;<>[\]`, r) }
	if !ok || local == "" || domain == "" || len(t.Email) > 254 || strings.ContainsFunc(local, bad) || strings.ContainsFunc(domain, bad) {
		return identity{}, errors.New(`claim "email": not an e-mail address (name@host, ASCII)`)
	}
	return identity{subject: t.Email, emails: []string{t.Email},
		extensions: certificate.Extensions{Issuer: t.Issuer, Subject: t.Subject}}, nil
}

// workflowIdentity is a GitHub Actions job. Which claim becomes which extension:
// Fulcio, docs/oid-info.md.
func workflowIdentity(t idtoken.Token, issuer Issuer) (identity, error) {
	claims := map[string]string{}
	for _, name := range []string{"job_workflow_ref", "job_workflow_sha", "sha", "ref", "event_name", "repository",
		"repository_id", "repository_owner", "repository_owner_id", "repository_visibility", "workflow",
		"workflow_ref", "workflow_sha", "runner_environment", "run_id", "run_attempt"} {
		value, ok := t.Text(name)
		if !ok || value == "" {
			return identity{}, fmt.Errorf("claim %q is missing or no string", name)
		}
		claims[name] = value
	}
	server := issuer.ServerURL
	if server == "" {
		server = "https://github.com"
	}
	base, err := url.Parse(server + "/")
	if err != nil {
		return identity{}, fmt.Errorf("the issuer's server URL: %w", err)
	}
	for _, name := range []string{"job_workflow_ref", "workflow_ref", "repository", "repository_owner", "run_id", "run_attempt"} {
		if !cleanPath(claims[name]) {
			return identity{}, fmt.Errorf("claim %q does not fit into a URL as it is", name)
		}
	}
	at := func(path ...string) string { return base.JoinPath(path...).String() }
	deployment, ok := t.Text("environment")
	if !ok {
		return identity{}, errors.New(`claim "environment" is no string`)
	}
	return identity{
		subject: t.Subject,
		uris:    []*url.URL{base.JoinPath(claims["job_workflow_ref"])},
		extensions: certificate.Extensions{
			Issuer: t.Issuer, Subject: t.Subject,
			GithubWorkflowTrigger:               claims["event_name"],
			GithubWorkflowSHA:                   claims["sha"],
			GithubWorkflowName:                  claims["workflow"],
			GithubWorkflowRepository:            claims["repository"],
			GithubWorkflowRef:                   claims["ref"],
			BuildSignerURI:                      at(claims["job_workflow_ref"]),
			BuildSignerDigest:                   claims["job_workflow_sha"],
			RunnerEnvironment:                   claims["runner_environment"],
			SourceRepositoryURI:                 at(claims["repository"]),
			SourceRepositoryDigest:              claims["sha"],
			SourceRepositoryRef:                 claims["ref"],
			SourceRepositoryIdentifier:          claims["repository_id"],
			SourceRepositoryOwnerURI:            at(claims["repository_owner"]),
			SourceRepositoryOwnerIdentifier:     claims["repository_owner_id"],
			BuildConfigURI:                      at(claims["workflow_ref"]),
			BuildConfigDigest:                   claims["workflow_sha"],
			BuildTrigger:                        claims["event_name"],
			RunInvocationURI:                    at(claims["repository"], "actions/runs", claims["run_id"], "attempts", claims["run_attempt"]),
			SourceRepositoryVisibilityAtSigning: claims["repository_visibility"],
			DeploymentEnvironment:               deployment,
		},
	}, nil
}

// cleanPath refuses what joining would rewrite: a claim must not become the name
// of another workflow.
func cleanPath(s string) bool {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '%' || r == '\\' }) {
		return false
	}
	for _, segment := range strings.Split(s, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}
