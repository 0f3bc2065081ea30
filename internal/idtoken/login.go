package idtoken

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
)

const (
	loginTimeout = 10 * time.Minute // for a person to log in
	loginScope   = "openid email"
	callbackPath = "/auth/callback"
)

// pkce is a fresh verifier and its S256 challenge (RFC 7636, section 4).
func pkce() (verifier, challenge string) {
	verifier = random()
	sum := sha256.Sum256([]byte(verifier))
	return verifier, base64.RawURLEncoding.EncodeToString(sum[:])
}

// random is 256 bits in base64url.
func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// tokenAnswer is the token endpoint's answer, good or bad (RFC 6749, 5.1 and 5.2).
type tokenAnswer struct {
	IDToken     string `json:"id_token"`
	AccessToken string `json:"access_token"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func (a tokenAnswer) err(step, host string) error {
	if a.Description != "" {
		return fmt.Errorf("%s: %s: %s: %s", step, host, printable(a.Error), printable(a.Description))
	}
	return fmt.Errorf("%s: %s: %s", step, host, printable(a.Error))
}

// printable keeps a server's text to one short line.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 200)]
}

// browser is the authorization code flow with PKCE for a program on the user's
// machine (RFC 8252): the browser comes back to a port that we listen on.
func (c *client) browser(ctx context.Context) (string, error) {
	if c.OpenBrowser == nil {
		return "", fault.Usagef("browser login: no browser can be opened here")
	}
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	d, err := c.discover(ctx)
	if err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("browser login: listening for the browser's return: %w", err)
	}
	// The public issuer has registered the name, not the address.
	redirect := fmt.Sprintf("http://localhost:%d%s", listener.Addr().(*net.TCPAddr).Port, callbackPath)
	verifier, challenge := pkce()
	state, nonce := random(), random()
	target, err := authorizationURL(d.Authorization, url.Values{
		"access_type": {"online"}, "client_id": {c.ClientID}, "response_type": {"code"}, "scope": {loginScope},
		"redirect_uri": {redirect}, "state": {state}, "nonce": {nonce},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"},
	})
	if err != nil {
		_ = listener.Close()
		return "", err
	}
	back := awaitCallback(listener, state)
	defer back.close()
	c.Say("Your browser will now be opened to log in:\n%s", target)
	go func() { // a browser command that waits for the login must not stop us from seeing it
		if err := c.OpenBrowser(target); err != nil {
			c.Say("The browser could not be opened (%v); open the address above yourself.", err)
		}
	}()
	code, err := back.wait(ctx)
	if err != nil {
		return "", err
	}
	return c.exchange(ctx, d, nonce, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {redirect},
	})
}

func authorizationURL(endpoint string, query url.Values) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", errors.New("browser login: the issuer's authorization endpoint is not a URL")
	}
	for name, values := range u.Query() {
		if _, ours := query[name]; !ours {
			query[name] = values
		}
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}

func (c *client) exchange(ctx context.Context, d discovery, nonce string, form url.Values) (string, error) {
	const step = "browser login: token endpoint"
	_, body, err := c.postForm(ctx, step, d.Token, form, c.ClientID)
	if err != nil {
		return "", err
	}
	var answer tokenAnswer
	if err := decode(step, body, &answer); err != nil {
		return "", err
	}
	if answer.Error != "" {
		return "", answer.err(step, c.Issuer)
	}
	return c.accept(step, answer, nonce)
}

// accept checks what binds the token to this login (OpenID Connect Core 1.0,
// 3.1.3.7 and 3.1.3.8). It came straight from the token endpoint, so its
// signature is left to the CA; times and audience are checked by Get.
func (c *client) accept(step string, answer tokenAnswer, nonce string) (string, error) {
	t, err := Parse(answer.IDToken)
	if err != nil {
		return "", fmt.Errorf("%s: %w", step, err)
	}
	if t.Issuer != c.Issuer {
		return "", fmt.Errorf("%s: claim \"iss\": the token is of another issuer than %s", step, c.Issuer)
	}
	if got, ok := t.Text("nonce"); nonce != "" && (!ok || got != nonce) {
		return "", fmt.Errorf("%s: claim \"nonce\": the token is not of this login", step)
	}
	if want, _ := t.Text("at_hash"); want != "" && t.Algorithm == "RS256" {
		sum := sha256.Sum256([]byte(answer.AccessToken))
		if want != base64.RawURLEncoding.EncodeToString(sum[:16]) {
			return "", fmt.Errorf("%s: claim \"at_hash\": the access token is not of this login", step)
		}
	}
	return answer.IDToken, nil
}

// callback is the one request that ends a browser login.
type callback struct {
	server *http.Server
	result chan callbackResult
}

type callbackResult struct {
	code string
	err  error
}

// awaitCallback serves the redirect. Requests with another state are answered
// and otherwise ignored, so that no page can end somebody's login.
func awaitCallback(listener net.Listener, state string) *callback {
	b := &callback{result: make(chan callbackResult, 1)}
	answer := func(w http.ResponseWriter, status int, text string) {
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'")
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text + "\n"))
	}
	b.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		switch {
		case r.Method != http.MethodGet || r.URL.Path != callbackPath || !loopback.Host(r.Host):
			answer(w, http.StatusNotFound, "This is Hallmark waiting for a login; there is nothing here.")
		case query.Get("state") != state:
			answer(w, http.StatusBadRequest, "This answer belongs to another login (state).")
		case query.Get("error") != "":
			b.finish(callbackResult{err: fmt.Errorf("browser login: the issuer refused: %s", printable(query.Get("error")+" "+query.Get("error_description")))})
			answer(w, http.StatusOK, "The login was refused. You can close this page.")
		case query.Get("code") == "":
			answer(w, http.StatusBadRequest, "This answer has no code.")
		default:
			b.finish(callbackResult{code: query.Get("code")})
			answer(w, http.StatusOK, "You are logged in. You can close this page and go back to the terminal.")
		}
	})}
	go func() { _ = b.server.Serve(listener) }()
	return b
}

// finish keeps the first result.
func (b *callback) finish(r callbackResult) {
	select {
	case b.result <- r:
	default:
	}
}

func (b *callback) wait(ctx context.Context) (string, error) {
	select {
	case r := <-b.result:
		return r.code, r.err
	case <-ctx.Done():
		return "", fmt.Errorf("browser login: nobody logged in: %w", ctx.Err())
	}
}

// close lets the answer to the browser go out first.
func (b *callback) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = b.server.Shutdown(ctx)
}
