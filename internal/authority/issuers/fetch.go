package issuers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
)

const (
	fetchTimeout = 10 * time.Second
	maxAnswer    = 1 << 20 // bytes of a discovery document or a JWK set
	// keysLife is how long fetched keys are taken: one that the issuer withdrew is
	// gone after that. An issuer that signs a token is there to be asked.
	keysLife = time.Hour
	// minRefresh is between two fetches because of an unknown kid, which anyone can
	// write into a token; after a failure it is retryAfter.
	minRefresh = 10 * time.Second
	retryAfter = 3 * time.Second
	// maxRemotes bounds the issuers that are remembered: those of a wildcard are as
	// many as callers name.
	maxRemotes = 1000
)

// ErrTooSoon is in an [UnavailableError] about a key that was not among the issuer's a
// moment ago. It may be new: whether it is there now is not known before they are asked for
// again. Anyone can cause it.
var ErrTooSoon = fmt.Errorf("the token's key was not among them less than %v ago, and they are asked for again after that", minRefresh)

// inCluster reports whether an issuer is the cluster that a Pod runs in, by the names that
// its API server has there: with the cluster's domain, which is mostly cluster.local, as
// kubeadm has it, or without. Its keys are read with the Pod's own service account.
func inCluster(i Issuer, issuerURL string) bool {
	const name = "https://kubernetes.default.svc"
	return i.Type == TypeKubernetes && !i.Wildcard && (issuerURL == name || strings.HasPrefix(issuerURL, name+"."))
}

// remotes are the issuers whose keys are fetched.
type remotes struct {
	now     func() time.Time
	account string // folder of the Pod's service account

	mu  sync.Mutex
	all map[string]*remote // by the URL that tokens say
}

// remote is one of them.
type remote struct {
	url    string
	client *http.Client
	bearer func() (string, error) // told only to whom the cluster's CA, or ca-cert, vouches for; nil: none
	// own says that the keys must be at the issuer's own host: who sends tokens chose it
	// among those of a wildcard, and may answer there for another one to be asked.
	own  bool
	used time.Time // of remotes.mu

	ready ready // whose turn it is to ask

	mu      sync.Mutex // guards what follows, and is never held while somebody is asked
	keys    *keySet
	fetched time.Time
	failure error
	failed  time.Time
}

func newRemotes(now func() time.Time, account string) *remotes {
	if account == "" {
		account = "/var/run/secrets/kubernetes.io/serviceaccount"
	}
	return &remotes{now: now, account: account, all: map[string]*remote{}}
}

// get is the keys of an issuer, fetched again when they are old, or when none of
// them is the one that is asked for.
func (s *remotes) get(ctx context.Context, i Issuer, issuerURL, kid string) (*keySet, error) {
	r, err := s.remote(i, issuerURL)
	if err != nil {
		return nil, err
	}
	// What is known is said at once: only who needs an answer of the issuer waits for it,
	// and anyone can make up a kid.
	if keys, done, err := r.known(s.now(), kid); done {
		return keys, err
	}
	if err := r.ready.lock(ctx); err != nil {
		return nil, errors.New("the caller gave up")
	}
	defer r.ready.unlock()
	if keys, done, err := r.known(s.now(), kid); done { // by now
		return keys, err
	}
	// Others wait for this answer: it does not end with the caller who asked first.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	keys, err := r.fetch(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failure, r.failed = err, s.now()
		return nil, err
	}
	r.keys, r.fetched, r.failure = keys, s.now(), nil
	return keys, nil
}

// known is what can be said of a kid without asking the issuer, done if it can.
func (r *remote) known(now time.Time, kid string) (keys *keySet, done bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := r.keys != nil && now.Sub(r.fetched).Abs() < keysLife
	switch {
	case fresh && r.keys.has(kid):
		return r.keys, true, nil
	case fresh && now.Sub(r.fetched).Abs() < minRefresh:
		if kid == "" { // of which no issuer has a new one
			return r.keys, true, nil
		}
		return nil, true, ErrTooSoon
	case r.failure != nil && now.Sub(r.failed).Abs() < retryAfter:
		return nil, true, r.failure
	}
	return nil, false, nil
}

// remote finds or makes the memory of an issuer. When it is full, the one that was
// not asked for longest is forgotten.
func (s *remotes) remote(i Issuer, issuerURL string) (*remote, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.all[issuerURL]; r != nil {
		r.used = s.now()
		return r, nil
	}
	r := &remote{url: issuerURL, own: i.Wildcard, ready: newReady(), used: s.now()}
	if err := s.connect(r, i); err != nil {
		return nil, err
	}
	if len(s.all) >= maxRemotes {
		oldest := ""
		for name, other := range s.all {
			if oldest == "" || other.used.Before(s.all[oldest].used) {
				oldest = name
			}
		}
		delete(s.all, oldest)
	}
	s.all[issuerURL] = r
	return r, nil
}

// connect gives a remote its client: TLS, no redirect to another host.
func (s *remotes) connect(r *remote, i Issuer) error {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: fetchTimeout, ResponseHeaderTimeout: fetchTimeout,
		MaxResponseHeaderBytes: 64 << 10, MaxIdleConns: 1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
	}
	var roots *x509.CertPool // nil: the system's
	if ca, err := os.ReadFile(filepath.Join(s.account, "ca.crt")); err == nil && inCluster(i, r.url) {
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(ca) {
			return errors.New("the service account's ca.crt has no certificate that can be read")
		}
		// The API server may say that its keys are at another address of its own (jwks_uri),
		// which asks for the token, too. It is told to nobody for whom the cluster does not vouch.
		token := filepath.Join(s.account, "token")
		if _, err := os.Stat(token); err == nil { // read at each use: it is renewed
			r.bearer = func() (string, error) {
				data, err := os.ReadFile(token)
				return strings.TrimSpace(string(data)), err
			}
		}
	}
	if len(i.CACert) > 0 {
		if roots == nil {
			var err error
			if roots, err = x509.SystemCertPool(); err != nil {
				roots = x509.NewCertPool()
			}
		}
		if !roots.AppendCertsFromPEM(i.CACert) {
			return errors.New("its ca-cert has no certificate that can be read")
		}
	}
	if roots != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	r.client = &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme || len(via) > 3 {
			return errRedirect
		}
		return nil
	}}
	return nil
}

// fetch asks for the issuer's metadata and then for its keys.
func (r *remote) fetch(ctx context.Context) (*keySet, error) {
	data, err := r.get(ctx, "OIDC discovery", strings.TrimSuffix(r.url, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	said, err := parseMetadata(data)
	if err != nil {
		return nil, fmt.Errorf("OIDC discovery: %w", err)
	}
	if said.issuer != r.url {
		return nil, errors.New("OIDC discovery: it says that it is another issuer")
	}
	// Who is reached by TLS alone must not send us elsewhere without it.
	own, err := url.Parse(r.url)
	if err != nil {
		return nil, errors.New("OIDC discovery: the issuer is no URL")
	}
	keys, err := url.Parse(said.jwks)
	if err != nil || keys.Host == "" || keys.User != nil || keys.Scheme != "https" && (own.Scheme != "http" || !loopback.Host(keys.Host) || keys.Scheme != "http") {
		return nil, errors.New("OIDC discovery: jwks_uri is no https URL")
	}
	if r.own && keys.Host != own.Host {
		return nil, errors.New("OIDC discovery: jwks_uri is at another host than the issuer, which those of meta-issuers may not say")
	}
	if data, err = r.get(ctx, "the issuer's keys", said.jwks); err != nil {
		return nil, err
	}
	list, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("the issuer's keys: %w", err)
	}
	return &keySet{keys: list, algorithms: said.algorithms}, nil
}

// get is a GET that must answer 200. Errors show the host alone.
func (r *remote) get(ctx context.Context, step, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: the address cannot be used", step)
	}
	req.Header.Set("Accept", "application/json")
	if r.bearer != nil && req.URL.Scheme == "https" {
		token, err := r.bearer()
		if err != nil {
			return nil, fmt.Errorf("%s: the service account's token cannot be read", step)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, fault.HTTP(step, address, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s answered status %d", step, req.URL.Host, resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fault.HTTP(step, address, err)
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("%s: %s: the answer is longer than %d bytes", step, req.URL.Host, maxAnswer)
	}
	return data, nil
}
