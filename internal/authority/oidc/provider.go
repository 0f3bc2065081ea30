// Package oidc is the authority's OpenID Connect issuer: it lets people and
// rehearsed CI jobs prove who they are and gives them short-lived identity tokens
// that the CA takes.
//
// The folder is trusted: whoever can read it has the signing key and can mint a
// token for any identity; whoever can change it can add users. Files are 0600
// and sealed, so that damage is noticed. Requests are not trusted: nobody gets a
// token without a login secret, a one-time code or the bearer token of the
// rehearsal, and a web page that reaches this machine under another name (DNS
// rebinding) or from another origin is refused.
package oidc

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// TokenLifetime is how long a token is valid, as at the public issuer's order of size.
const TokenLifetime = 10 * time.Minute

const (
	defaultClientID = "sigstore"
	keyBits         = 2048
	keyFile         = "oidc.key" // sealed PKCS #8 PEM
	keyPEM          = "PRIVATE KEY"
)

// Config is what a Provider needs to know.
type Config struct {
	Issuer   string           // base URL without a trailing slash: the iss of every token
	ClientID string           // the one OAuth client and the audience; "" is "sigstore"
	Existing bool             // refuse to make a key: the folder must be one that was used before
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: silent
}

// Provider is the issuer. It is safe for concurrent use.
type Provider struct {
	cfg   Config
	dir   string
	base  *url.URL // of the issuer: what the Host header of every request must be
	key   *rsa.PrivateKey
	keyID string

	before *before // the key before, nil when there was none

	mu       sync.Mutex
	logins   map[string]*login   // by id: login pages that were handed out
	codes    map[string]*grant   // by SHA-256 of the authorization code
	devices  map[string]*device  // by SHA-256 of the device code
	oneTime  map[[32]byte]string // e-mail by SHA-256 of the one-time code
	attempts map[string]*allowance
	hashing  sync.Mutex // one password hash at a time: each takes 32 MiB

	github *rehearsal
}

// Open loads the issuer from dir, or makes its key there on first use.
func Open(dir string, cfg Config) (*Provider, error) {
	u, err := url.Parse(cfg.Issuer)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(cfg.Issuer, "/") {
		return nil, fmt.Errorf("OIDC issuer: %q is not an http(s) URL without a trailing slash", cfg.Issuer)
	}
	if u.Path != "" {
		return nil, fmt.Errorf("OIDC issuer: %q has a path; the issuer is the base URL of the authority", cfg.Issuer)
	}
	if cfg.ClientID == "" {
		cfg.ClientID = defaultClientID
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	key, err := loadKey(filepath.Join(dir, keyFile), cfg.Existing)
	if err != nil {
		return nil, err
	}
	p := &Provider{cfg: cfg, dir: dir, base: u, key: key,
		logins: map[string]*login{}, codes: map[string]*grant{}, devices: map[string]*device{},
		oneTime: map[[32]byte]string{}, attempts: map[string]*allowance{},
	}
	p.keyID = thumbprint(&key.PublicKey)
	if p.before, err = loadBefore(dir); err != nil {
		return nil, err
	}
	if _, err := readUsers(dir); err != nil { // a damaged file is noticed now, not at a login
		return nil, err
	}
	return p, nil
}

func loadKey(path string, existing bool) (*rsa.PrivateKey, error) {
	data, err := durable.ReadSealed(path)
	if errors.Is(err, fs.ErrNotExist) && !existing {
		return makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("OIDC key: %w", err)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != keyPEM || len(rest) != 0 {
		return nil, fmt.Errorf("OIDC key: %s does not hold one PEM private key", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("OIDC key: %s: not a PKCS #8 private key", path)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok || key.N.BitLen() < keyBits {
		return nil, fmt.Errorf("OIDC key: %s: want an RSA key of at least %d bits", path, keyBits)
	}
	return key, nil
}

func makeKey(path string) (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("OIDC key: %w", err)
	}
	if err := durable.WriteSealed(path, pem.EncodeToMemory(&pem.Block{Type: keyPEM, Bytes: der}), 0o600); err != nil {
		return nil, fmt.Errorf("OIDC key: %w", err)
	}
	return key, nil
}

// thumbprint names a key by what it is (RFC 7638).
func thumbprint(key *rsa.PublicKey) string {
	sum := sha256.Sum256([]byte(`{"e":"` + b64(big.NewInt(int64(key.E)).Bytes()) + `","kty":"RSA","n":"` + b64(key.N.Bytes()) + `"}`))
	return b64(sum[:])
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Issuer is the URL that every token names as its iss.
func (p *Provider) Issuer() string { return p.cfg.Issuer }

// PublicKey is the key with the id kid, nil when there is none: what the CA asks
// in the same process, without a request to itself.
func (p *Provider) PublicKey(kid string) crypto.PublicKey {
	if kid == p.keyID {
		return &p.key.PublicKey
	}
	if b := p.former(); b != nil && kid == b.keyID {
		return b.key
	}
	return nil
}

// JWKS is the public keys as a JSON Web Key Set (RFC 7517, section 5): the present
// one, and the one before while tokens of it can be valid.
func (p *Provider) JWKS() []byte {
	keys := []any{jwk(p.keyID, &p.key.PublicKey)}
	if b := p.former(); b != nil {
		keys = append(keys, jwk(b.keyID, b.key))
	}
	data, _ := json.Marshal(map[string]any{"keys": keys}) // strings only: cannot fail
	return data
}

// Handler serves /.well-known/openid-configuration, everything below /oauth2/ and,
// when enabled, the rehearsal of GitHub's token endpoint. The caller mounts it at
// these paths; see [Paths].
func (p *Provider) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.serveDiscovery)
	mux.HandleFunc("GET /oauth2/keys", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, json.RawMessage(p.JWKS())) })
	mux.HandleFunc("GET /oauth2/auth", p.shown(p.serveAuthorize))
	mux.HandleFunc("POST /oauth2/auth", p.serveLogin)
	mux.HandleFunc("POST /oauth2/token", p.serveToken)
	mux.HandleFunc("POST /oauth2/device/code", p.serveDeviceCode)
	mux.HandleFunc("GET /oauth2/device", p.shown(p.serveDevicePage))
	mux.HandleFunc("POST /oauth2/device", p.serveDeviceLogin)
	mux.HandleFunc("GET "+rehearsalPath, p.serveRehearsal)
	return p.guard(mux)
}

// Paths are the patterns under which the Handler belongs in the authority's mux.
func Paths() []string {
	return []string{"/.well-known/openid-configuration", "/oauth2/", rehearsalPath}
}

// shown answers only a browser that is about to show the page to its user, and
// programs that are no browser: a page of somebody else could open logins without
// end as images of its own (Fetch Metadata, W3C).
func (p *Provider) shown(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		dest, mode := r.Header.Get("Sec-Fetch-Dest"), r.Header.Get("Sec-Fetch-Mode")
		if dest != "" && dest != "document" || mode != "" && mode != "navigate" {
			p.errorPage(w, http.StatusForbidden, "A login page cannot be a part of another page. Open it by its address.")
			return
		}
		next(w, r)
	}
}

// OwnHost reports whether a request with this Host header was meant for the server
// at base: the host and port of base, where the scheme's own port may be said or
// not. It is the one rule of the issuer and of everything else at its address.
func OwnHost(base *url.URL, host string) bool {
	return strings.EqualFold(withoutDefaultPort(base.Scheme, host), withoutDefaultPort(base.Scheme, base.Host))
}

func withoutDefaultPort(scheme, host string) string {
	port := map[string]string{"http": ":80", "https": ":443"}[scheme]
	return strings.TrimSuffix(host, port)
}

// ownOrigin reports whether an Origin header is the issuer's own. Browsers leave
// the scheme's own port out (RFC 6454, 6.1).
func (p *Provider) ownOrigin(origin string) bool {
	host, ok := strings.CutPrefix(origin, p.base.Scheme+"://")
	return ok && OwnHost(p.base, host)
}

// guard refuses what a web page of somebody else could send: another Host (DNS
// rebinding) or another Origin. There is no CORS header anywhere.
func (p *Provider) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !OwnHost(p.base, r.Host) {
			oauthError(w, http.StatusMisdirectedRequest, "invalid_request", "the Host header must be "+p.base.Host+", the host of the issuer")
			return
		}
		if o := r.Header.Values("Origin"); r.Method != http.MethodGet && len(o) > 0 && (len(o) != 1 || !p.ownOrigin(o[0])) {
			oauthError(w, http.StatusForbidden, "invalid_request", "requests from web pages of other origins are refused")
			return
		}
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// serveDiscovery is OpenID Connect Discovery 1.0, section 4.
func (p *Provider) serveDiscovery(w http.ResponseWriter, _ *http.Request) {
	base := p.cfg.Issuer
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                base,
		"authorization_endpoint":                base + "/oauth2/auth",
		"token_endpoint":                        base + "/oauth2/token",
		"device_authorization_endpoint":         base + "/oauth2/device/code",
		"jwks_uri":                              base + "/oauth2/keys",
		"response_types_supported":              []string{"code"},
		"grant_types_supported":                 []string{"authorization_code", deviceGrant},
		"code_challenge_methods_supported":      []string{"S256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "none"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"subject_types_supported":               []string{"public"},
		"scopes_supported":                      []string{"openid", "email"},
		"claims_supported":                      []string{"iss", "sub", "aud", "exp", "iat", "nonce", "at_hash", "email", "email_verified"},
	})
}
