package registry

import (
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// TokenPath is where clients get tokens. No repository can have that name.
const TokenPath = "/v2/_token"

const (
	maxScopes    = 64       // of one token request
	maxTokenForm = 64 << 10 // bytes
)

// caller is who makes a request and what it may do.
type caller struct {
	principal Principal
	rules     *Rules
	open      bool     // there are no logins: everybody may do everything
	token     bool     // it came with a token, which may grant less than its principal has
	grants    []access // of the token
	problem   error    // with the credentials: then it may do nothing
}

// entitled reports whether the principal may do it, whatever its token says.
func (c caller) entitled(repo string, a Action) bool {
	if c.problem != nil {
		return false
	}
	if c.rules == nil {
		return c.open || c.principal != Anonymous
	}
	return c.rules.Allows(c.principal, repo, a)
}

// may reports whether this request may do it.
func (c caller) may(repo string, a Action) bool {
	if !c.entitled(repo, a) {
		return false
	}
	return !c.token || slices.ContainsFunc(c.grants, func(g access) bool {
		return g.Type == "repository" && g.Name == repo && slices.Contains(g.Actions, a)
	})
}

type callerKey struct{}

func callerOf(r *http.Request) caller {
	c, _ := r.Context().Value(callerKey{}).(caller) // without one: nobody, who may do nothing
	return c
}

// secured reports whether requests need to say who makes them.
func (s *Server) secured() bool { return s.cfg.Login != nil || s.cfg.Rules != nil }

// identify finds out who makes a request. Wrong credentials are refused also
// where nobody needs any.
func (s *Server) identify(r *http.Request) caller {
	c, err := s.credentials(r)
	c.problem = err
	return c
}

func (s *Server) credentials(r *http.Request) (caller, error) {
	c := caller{rules: s.cfg.Rules, open: !s.secured()}
	given := r.Header.Values("Authorization")
	if len(given) == 0 || !s.secured() {
		return c, nil
	}
	if len(given) > 1 {
		return c, errUnauthorized.with("want one Authorization header")
	}
	scheme, value, _ := strings.Cut(given[0], " ")
	if strings.EqualFold(scheme, "Bearer") && s.tokens != nil {
		claims, err := s.tokens.check(strings.TrimSpace(value))
		if err != nil {
			return c, errUnauthorized.with("%v", err)
		}
		c.principal, c.token, c.grants = Principal(claims.Subject), true, claims.Access
		return c, nil
	}
	user, password, ok := r.BasicAuth()
	if !ok {
		return c, errUnauthorized
	}
	var known bool
	if c.principal, known = s.login(r.Context(), user, password); !known {
		return c, errUnauthorized.with("the registry does not know this user with this password")
	}
	return c, nil
}

func (s *Server) login(ctx context.Context, user, password string) (Principal, bool) {
	if s.cfg.Login == nil {
		return Anonymous, false
	}
	p, ok := s.cfg.Login(ctx, user, password)
	return p, ok && p != Anonymous
}

// check lets a request go on when its caller may do a in repo. Who cannot become
// allowed by asking for a token is told so; everybody else learns where to ask.
func (s *Server) check(w http.ResponseWriter, r *http.Request, repo string, a Action) error {
	c := callerOf(r)
	switch {
	case c.problem != nil:
		s.challenge(w, scopeOf(repo, a), "invalid_token")
		return c.problem
	case c.may(repo, a):
		return nil
	case c.entitled(repo, a):
		s.challenge(w, scopeOf(repo, a), "insufficient_scope")
		return errUnauthorized.with("the token does not cover %s in this repository", a)
	case c.principal == Anonymous:
		s.challenge(w, scopeOf(repo, a), "")
		return errUnauthorized
	}
	return errDenied
}

// scopeOf is the scope that a client should ask for (distribution's
// docs/content/spec/auth/scope.md). Who pushes also reads.
func scopeOf(repo string, a Action) string {
	if a == Push {
		return "repository:" + repo + ":pull,push"
	}
	return "repository:" + repo + ":" + string(a)
}

// checkLogin lets a request go on when its caller logged in, or needs not to. A
// token without a login will do: who has one knows that logins exist.
func (s *Server) checkLogin(w http.ResponseWriter, r *http.Request, scope string) error {
	c := callerOf(r)
	switch {
	case c.problem != nil:
		s.challenge(w, scope, "invalid_token")
		return c.problem
	case c.open || c.token || c.principal != Anonymous:
		return nil
	}
	s.challenge(w, scope, "")
	return errUnauthorized
}

// challenge says how to log in (RFC 6750, section 3, and RFC 7617). There is one
// challenge only: some clients read just the first.
func (s *Server) challenge(w http.ResponseWriter, scope, problem string) {
	if s.tokens == nil {
		w.Header().Set("WWW-Authenticate", `Basic realm="hallmark registry", charset="UTF-8"`)
		return
	}
	// None of these can hold a quote: names were checked, the URL is ours.
	v := `Bearer realm="` + s.cfg.URL + TokenPath + `",service="` + s.tokens.audience + `"`
	if scope != "" {
		v += `,scope="` + scope + `"`
	}
	if problem != "" {
		v += `,error="` + problem + `"`
	}
	w.Header().Set("WWW-Authenticate", v)
}

// tokenAnswer is what a token request gets.
type tokenAnswer struct {
	Token       string `json:"token"`
	AccessToken string `json:"access_token"` // the same, under OAuth's name
	ExpiresIn   int    `json:"expires_in"`   // seconds
	IssuedAt    string `json:"issued_at"`    // RFC 3339
	Scope       string `json:"scope,omitempty"`
}

// serveToken is the token endpoint: GET with HTTP Basic or without a login
// (distribution's docs/content/spec/auth/token.md), and POST of a form (oauth.md)
// with a password, or with an identity token as refresh token.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) error {
	if s.tokens == nil {
		return errNoEndpoint
	}
	if err := allow(w, r, http.MethodGet, http.MethodPost); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache") // RFC 6749, section 5.1
	p, q, err := s.tokenRequest(w, r)
	if err != nil {
		return err
	}
	if service := q.Get("service"); service != "" && service != s.tokens.audience {
		return errTokenRequest.with("service: this registry is %s", s.tokens.audience)
	}
	grants, err := s.grant(p, q["scope"])
	if err != nil {
		return err
	}
	raw, issued, err := s.tokens.issue(p, grants)
	if err != nil {
		return err
	}
	var scopes []string
	for _, g := range grants {
		words := make([]string, len(g.Actions))
		for i, a := range g.Actions {
			words[i] = string(a)
		}
		scopes = append(scopes, "repository:"+g.Name+":"+strings.Join(words, ","))
	}
	body, err := json.Marshal(tokenAnswer{raw, raw, int(tokenLifetime.Seconds()), issued.UTC().Format(time.RFC3339), strings.Join(scopes, " ")})
	if err != nil {
		return err
	}
	writeJSON(w, r, "application/json", body)
	return nil
}

// tokenRequest says who asks, and for what.
func (s *Server) tokenRequest(w http.ResponseWriter, r *http.Request) (Principal, url.Values, error) {
	if r.Method == http.MethodGet {
		c, err := s.credentials(r)
		if err == nil && c.token {
			err = errUnauthorized.with("a token does not get another token")
		}
		return c.principal, r.URL.Query(), err
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" {
		return Anonymous, nil, errTokenRequest.with("want a form (application/x-www-form-urlencoded)")
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTokenForm))
	if err != nil {
		return Anonymous, nil, errTokenRequest.with("the form ended early or has more than %d bytes", maxTokenForm)
	}
	q, err := url.ParseQuery(string(data))
	if err != nil {
		return Anonymous, nil, errTokenRequest.with("the form cannot be read")
	}
	user, password := q.Get("username"), q.Get("password")
	switch q.Get("grant_type") {
	case "password":
	case "refresh_token":
		user, password = IdentityUser, q.Get("refresh_token")
	default:
		return Anonymous, nil, errTokenRequest.with("grant_type must be password or refresh_token")
	}
	p, ok := s.login(r.Context(), user, password)
	if !ok {
		return Anonymous, nil, errUnauthorized.with("the registry does not know this user with this password")
	}
	return p, q, nil
}

// IdentityUser is the user name with which an identity token is the password.
const IdentityUser = "_token"

// grant is the part of the scopes that p may have. What is no scope of a
// repository grants nothing.
func (s *Server) grant(p Principal, scopes []string) ([]access, error) {
	c := caller{principal: p, rules: s.cfg.Rules}
	grants := []access{}
	words := strings.Fields(strings.Join(scopes, " "))
	if len(words) > maxScopes {
		return nil, errTokenRequest.with("at most %d scopes", maxScopes)
	}
	for _, word := range words {
		name, list, ok := cutLast(word, ":")
		name, isRepository := strings.CutPrefix(name, "repository:")
		if !ok || !isRepository || checkName(name) != nil {
			continue
		}
		g := access{Type: "repository", Name: name, Actions: []Action{}}
		asked := strings.Split(list, ",")
		for _, a := range allActions {
			if (slices.Contains(asked, string(a)) || slices.Contains(asked, "*")) && c.entitled(name, a) {
				g.Actions = append(g.Actions, a)
			}
		}
		if len(g.Actions) > 0 {
			grants = append(grants, g)
		}
	}
	return grants, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
