package oidc

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

const (
	rehearsalPath = "/rehearse/github/token"
	maxClaims     = 64 << 10
)

// rehearsal stands in for GitHub's token endpoint in one authority.
type rehearsal struct {
	bearer [32]byte // SHA-256
	claims map[string]any
}

// GitHubClaims are the claims that a rehearsed token must have: all that the CA
// puts into a certificate. GitHub's documentation, "OpenID Connect reference".
func GitHubClaims() []string {
	return []string{"sub", "job_workflow_ref", "job_workflow_sha", "sha", "ref", "event_name", "repository",
		"repository_id", "repository_owner", "repository_owner_id", "repository_visibility", "workflow",
		"workflow_ref", "workflow_sha", "runner_environment", "run_id", "run_attempt"}
}

// EnableRehearseGitHub serves tokens with the claims of claimsJSON (an object,
// as GitHub's tokens have them) to whoever has the bearer token. It returns what
// a job finds in ACTIONS_ID_TOKEN_REQUEST_URL and ACTIONS_ID_TOKEN_REQUEST_TOKEN.
// The tokens say that our issuer made them, so nobody takes them for GitHub's.
// Call it before the Handler serves.
func (p *Provider) EnableRehearseGitHub(claimsJSON []byte) (requestURL, bearer string, err error) {
	claims, err := githubClaims(claimsJSON)
	if err != nil {
		return "", "", fmt.Errorf("claims of the rehearsal: %w", err)
	}
	bearer = random(32)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.github = &rehearsal{bearer: sha256.Sum256([]byte(bearer)), claims: claims}
	// GitHub's URL has a query too, and clients append "&audience=…".
	return p.cfg.Issuer + rehearsalPath + "?api-version=2.0", bearer, nil
}

func githubClaims(data []byte) (map[string]any, error) {
	if len(data) > maxClaims {
		return nil, fmt.Errorf("longer than %d bytes", maxClaims)
	}
	var raw map[string]json.RawMessage
	if err := strictjson.Unmarshal(data, &raw); err != nil {
		return nil, err
	}
	claims := map[string]any{}
	for name, value := range raw {
		claims[name] = value
	}
	for _, name := range []string{"email", "email_verified"} {
		if _, ok := raw[name]; ok {
			return nil, fmt.Errorf("claim %q: GitHub's tokens have none; it would make the identity ambiguous", name)
		}
	}
	for _, name := range GitHubClaims() {
		var text string
		if json.Unmarshal(raw[name], &text) != nil || text == "" {
			return nil, fmt.Errorf("claim %q is missing or no string", name)
		}
	}
	return claims, nil
}

// serveRehearsal answers as GitHub does: {"value": "<token>"}.
func (p *Provider) serveRehearsal(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	g := p.github
	p.mu.Unlock()
	if g == nil {
		oauthError(w, http.StatusNotFound, "invalid_request", "this authority was not started with --rehearse-github")
		return
	}
	scheme, bearer, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(bearer)))
	if !strings.EqualFold(scheme, "Bearer") || len(r.Header.Values("Authorization")) != 1 ||
		subtle.ConstantTimeCompare(sum[:], g.bearer[:]) != 1 {
		w.Header().Set("WWW-Authenticate", `Bearer realm="hallmark"`)
		oauthError(w, http.StatusUnauthorized, "invalid_token", "want Authorization: Bearer and the value of ACTIONS_ID_TOKEN_REQUEST_TOKEN")
		return
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || wellFormed(q) != "" || q.Get("audience") == "" {
		oauthError(w, http.StatusBadRequest, "invalid_request", "want one audience parameter")
		return
	}
	token, err := p.sign(g.claims, q.Get("audience"), TokenLifetime)
	if err != nil {
		p.cfg.Log.ErrorContext(r.Context(), "signing a token", "error", err)
		oauthError(w, http.StatusInternalServerError, "server_error", "the token could not be signed")
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"value": token})
}
