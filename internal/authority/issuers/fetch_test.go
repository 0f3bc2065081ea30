package issuers_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
)

// remote is an issuer that serves what a test says, and counts what it is asked.
type remote struct {
	*httptest.Server
	asked atomic.Int32 // for its keys

	mu        sync.Mutex
	discovery map[string]any // added to the usual; a nil value removes one
	keys      []any
	fault     http.HandlerFunc // answers instead
}

func (r *remote) set(change func(*remote)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func newRemote(t *testing.T, tls bool) *remote {
	t.Helper()
	r := new(remote)
	handler := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.fault != nil {
			r.fault(w, q)
			return
		}
		switch q.URL.Path {
		case "/.well-known/openid-configuration":
			d := map[string]any{"issuer": r.URL, "jwks_uri": r.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"}, "x": map[string]any{"y": 1}}
			maps.Copy(d, r.discovery)
			_ = json.NewEncoder(w).Encode(d)
		case "/keys":
			r.asked.Add(1)
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": r.keys})
		default:
			http.NotFound(w, q)
		}
	})
	if tls {
		r.Server = httptest.NewTLSServer(handler)
	} else {
		r.Server = httptest.NewServer(handler)
	}
	t.Cleanup(r.Close)
	return r
}

// lab is a set of one remote issuer of workloads, with a clock that is set.
type lab struct {
	*remote
	set *issuers.Set
	now time.Time
}

func newLab(t *testing.T, change func(*issuers.Issuer)) *lab {
	t.Helper()
	l := &lab{remote: newRemote(t, false), now: time.Now()}
	i := issuers.Issuer{URL: l.URL, ClientID: "sigstore", Type: issuers.TypeBuildkiteJob}
	if change != nil {
		change(&i)
	}
	var err error
	if l.set, err = issuers.New(issuers.Config{Issuers: []issuers.Issuer{i}, Now: func() time.Time { return l.now }}); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) authenticate(t *testing.T, s signer, change map[string]any) error {
	t.Helper()
	c := map[string]any{"organization_slug": "a", "pipeline_slug": "b", "iat": l.now.Unix(), "exp": l.now.Unix() + 60}
	maps.Copy(c, change)
	_, err := l.set.Authenticate(t.Context(), s.token(t, claims(l.URL, c)))
	return err
}

func unavailable(err error) bool { return errors.As(err, new(*issuers.UnavailableError)) }

// TestOurIssuerElsewhere: an authority takes tokens of another one's issuer, by its
// discovery document and its keys.
func TestOurIssuerElsewhere(t *testing.T) {
	t.Parallel()
	var p *oidc.Provider
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.Handler().ServeHTTP(w, r) }))
	defer server.Close()
	p, err := oidc.Open(t.TempDir(), oidc.Config{Issuer: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	c, err := issuers.ParseConfig("ca", []byte(strings.ReplaceAll(entry("type: email"), issuer, server.URL)), ownIssuer)
	if err != nil {
		t.Fatal(err)
	}
	set, err := issuers.New(issuers.Config{Issuers: c.Issuers})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := p.Mint("alice@example.com", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := set.Authenticate(t.Context(), raw)
	if err != nil || id.Proof != "alice@example.com" || id.Extensions.Issuer != server.URL {
		t.Errorf("%+v, %v", id, err)
	}
}

// TestKeysAreKept: one request for many tokens, one more when the issuer has a new
// key, and no more than one in ten seconds whatever kids tokens name.
func TestKeysAreKept(t *testing.T) {
	t.Parallel()
	l, one, two := newLab(t, nil), es256(t), es256(t)
	two.kid = "2"
	l.remote.set(func(r *remote) { r.keys = []any{jwk(one.key.Public(), map[string]any{"kid": "1", "alg": "ES256"})} })
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if err := l.authenticate(t, one, nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	asked := func(want int32, step string) {
		t.Helper()
		if got := l.asked.Load(); got != want {
			t.Errorf("%s: asked %d times, want %d", step, got, want)
		}
	}
	asked(1, "twenty tokens")
	for range 5 {
		if err := l.authenticate(t, two, nil); !unavailable(err) || !errors.Is(err, issuers.ErrTooSoon) {
			t.Error(err)
		}
	}
	asked(1, "an unknown key at once") // which may be new: nobody knows
	l.now = l.now.Add(11 * time.Second)
	if err := l.authenticate(t, two, nil); err == nil || unavailable(err) || !strings.Contains(err.Error(), `"kid"`) {
		t.Error(err)
	}
	asked(2, "an unknown key later")
	l.remote.set(func(r *remote) { r.keys = append(r.keys, jwk(two.key.Public(), map[string]any{"kid": "2"})) })
	l.now = l.now.Add(11 * time.Second)
	if err := l.authenticate(t, two, nil); err != nil {
		t.Error(err)
	}
	asked(3, "a new key")
	for kid := range 20 {
		three := es256(t)
		three.kid = "x" + string(rune('a'+kid))
		_ = l.authenticate(t, three, nil)
	}
	asked(3, "made-up keys")
	// A key that was withdrawn is not taken when an hour has gone.
	l.remote.set(func(r *remote) { r.keys = r.keys[1:] })
	l.now = l.now.Add(59 * time.Minute)
	if err := l.authenticate(t, one, nil); err != nil {
		t.Error(err)
	}
	l.now = l.now.Add(2 * time.Minute)
	if err := l.authenticate(t, one, nil); err == nil || unavailable(err) {
		t.Error(err)
	}
	asked(4, "an hour later")
}

// TestKeyChoice: a token without a kid is taken only where that says which key.
func TestKeyChoice(t *testing.T) {
	t.Parallel()
	l, one, two := newLab(t, nil), es256(t), es256(t)
	one.kid = ""
	l.remote.set(func(r *remote) { r.keys = []any{jwk(one.key.Public(), nil)} })
	if err := l.authenticate(t, one, nil); err != nil {
		t.Error(err)
	}
	many := newLab(t, nil)
	many.remote.set(func(r *remote) { r.keys = []any{jwk(one.key.Public(), nil), jwk(two.key.Public(), nil)} })
	if err := many.authenticate(t, one, nil); err == nil || unavailable(err) {
		t.Error(err)
	}
	// Keys for something else, or of a kind that is not known, are passed over.
	other := newLab(t, nil)
	two.kid = "2"
	other.remote.set(func(r *remote) {
		r.keys = []any{map[string]any{"kty": "oct", "k": "AAAA", "kid": "2"}, map[string]any{"kty": "EC", "crv": "secp256k1", "kid": "2"},
			jwk(one.key.Public(), map[string]any{"use": "enc", "kid": "2"}), jwk(one.key.Public(), map[string]any{"alg": "RSA-OAEP", "kid": "2"}),
			jwk(one.key.Public(), map[string]any{"alg": "ES384", "kid": "2"}), jwk(two.key.Public(), map[string]any{"kid": "2"})}
	})
	if err := other.authenticate(t, two, nil); err != nil {
		t.Error(err)
	}
	if err := other.authenticate(t, one, nil); err == nil || unavailable(err) {
		t.Error(err)
	}
}

// TestIssuerAnswers: what an issuer may not answer. Whether the token is good is then
// not known, and the error names issuer and step.
func TestIssuerAnswers(t *testing.T) {
	t.Parallel()
	s := es256(t)
	weak, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	short := *rsaKey.Public().(*rsa.PublicKey)
	short.N = new(big.Int).Rsh(short.N, 1024)
	exponent := *rsaKey.Public().(*rsa.PublicKey)
	exponent.E = 3
	elsewhere := newRemote(t, false)
	for name, tc := range map[string]struct {
		change func(*remote)
		want   string
	}{
		"nothing listens": {func(*remote) {}, "OIDC discovery"},
		"an error":        {func(r *remote) { r.fault = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) } }, "status 502"},
		"no JSON": {func(r *remote) {
			r.fault = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }
		}, "strict JSON"},
		"a list": {func(r *remote) {
			r.fault = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) }
		}, "no JSON object"},
		"member twice": {func(r *remote) {
			r.fault = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"issuer":"a","issuer":"b"}`)) }
		}, "strict JSON"},
		"too long": {func(r *remote) {
			r.fault = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2<<20)) }
		}, "longer"},
		"redirect": {func(r *remote) {
			r.fault = func(w http.ResponseWriter, q *http.Request) {
				http.Redirect(w, q, elsewhere.URL+q.URL.Path, http.StatusFound)
			}
		}, "redirects to another host"},
		"redirect for ever": {func(r *remote) {
			r.fault = func(w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, q.URL.Path+"x", http.StatusFound) }
		}, "redirects"},
		"another issuer":      {func(r *remote) { r.discovery = map[string]any{"issuer": "https://other.example"} }, "another issuer"},
		"issuer with a slash": {func(r *remote) { r.discovery = map[string]any{"issuer": r.URL + "/"} }, "another issuer"},
		"no keys":             {func(r *remote) { r.discovery = map[string]any{"jwks_uri": nil} }, "jwks_uri"},
		"keys by plain HTTP":  {func(r *remote) { r.discovery = map[string]any{"jwks_uri": "http://keys.example/"} }, "no https URL"},
		"keys in a file":      {func(r *remote) { r.discovery = map[string]any{"jwks_uri": "file:///etc/passwd"} }, "no https URL"},
		"keys for a user":     {func(r *remote) { r.discovery = map[string]any{"jwks_uri": "https://u:p@keys.example/"} }, "no https URL"},
		"no algorithm": {func(r *remote) {
			r.discovery = map[string]any{"id_token_signing_alg_values_supported": []string{"none", "HS256"}}
		}, "no algorithm"},
		"algorithms no list": {func(r *remote) { r.discovery = map[string]any{"id_token_signing_alg_values_supported": "ES256"} }, "no list"},
		"empty set":          {func(r *remote) { r.keys = []any{} }, "no key for signatures"},
		"too many keys":      {func(r *remote) { r.keys = make([]any, 101) }, "keys"},
		"RSA-1024":           {func(r *remote) { r.keys = []any{jwk(&short, nil)} }, "RSA key of less"},
		"exponent 3":         {func(r *remote) { r.keys = []any{jwk(&exponent, nil)} }, "exponent"},
		"off the curve":      {func(r *remote) { r.keys = []any{jwk(weak.Public(), map[string]any{"y": strings.Repeat("A", 43)})} }, "not on its curve"},
		"a short coordinate": {func(r *remote) { r.keys = []any{jwk(weak.Public(), map[string]any{"x": "AAAA"})} }, "as long as its field"},
		"a padded coordinate": {func(r *remote) {
			r.keys = []any{jwk(weak.Public(), map[string]any{"x": strings.Repeat("A", 43) + "="})}
		}, "as long as its field"},
		"a short Ed25519 key": {func(r *remote) { r.keys = []any{map[string]any{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}} }, "32 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			l.remote.set(func(r *remote) { r.keys = []any{jwk(s.key.Public(), map[string]any{"kid": "1"})} })
			l.remote.set(tc.change)
			if name == "nothing listens" {
				l.remote.Close()
			}
			err := l.authenticate(t, s, nil)
			if !unavailable(err) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), l.URL) {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}

// TestIssuerComesBack: a failure is remembered for a moment, and no longer.
func TestIssuerComesBack(t *testing.T) {
	t.Parallel()
	l, s := newLab(t, nil), es256(t)
	var failures atomic.Int32
	l.remote.set(func(r *remote) {
		r.keys = []any{jwk(s.key.Public(), map[string]any{"kid": "1"})}
		r.fault = func(w http.ResponseWriter, _ *http.Request) { failures.Add(1); w.WriteHeader(503) }
	})
	for range 5 {
		if err := l.authenticate(t, s, nil); !unavailable(err) {
			t.Error(err)
		}
	}
	if n := failures.Load(); n != 1 {
		t.Errorf("asked %d times in a moment", n)
	}
	l.remote.set(func(r *remote) { r.fault = nil })
	l.now = l.now.Add(4 * time.Second)
	if err := l.authenticate(t, s, nil); err != nil {
		t.Error(err)
	}
}

// TestRemoteTokens: what else a token of a remote issuer must be.
func TestRemoteTokens(t *testing.T) {
	t.Parallel()
	s := es256(t)
	l := newLab(t, nil)
	l.remote.set(func(r *remote) { r.keys = []any{jwk(s.key.Public(), map[string]any{"kid": "1"})} })
	now := l.now.Unix()
	for name, tc := range map[string]struct {
		change map[string]any
		want   string // "": taken
	}{
		"good":                         {nil, ""},
		"an account of the issuer":     {map[string]any{"azp": "1234"}, ""},
		"two audiences, ours asked":    {map[string]any{"aud": []string{"sigstore", "other"}, "azp": "sigstore"}, ""},
		"two audiences":                {map[string]any{"aud": []string{"sigstore", "other"}}, `"azp"`},
		"two audiences, another asked": {map[string]any{"aud": []string{"sigstore", "other"}, "azp": "other"}, `"azp"`},
		"another audience":             {map[string]any{"aud": "Sigstore"}, `"aud"`},
		"expired":                      {map[string]any{"exp": now - 1}, `"exp"`},
		"for a week":                   {map[string]any{"exp": now + 7*86400}, `"exp"`},
		"not yet":                      {map[string]any{"nbf": now + 600}, `"nbf"`},
		"from tomorrow":                {map[string]any{"iat": now + 600}, `"iat"`},
	} {
		err := l.authenticate(t, s, tc.change)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) || unavailable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	rs := s
	rs.alg = "RS256" // not among the issuer's algorithms
	if err := l.authenticate(t, rs, nil); err == nil || !strings.Contains(err.Error(), `"alg"`) {
		t.Error(err)
	}
	stranger := es256(t)
	if err := l.authenticate(t, stranger, nil); err == nil || !strings.Contains(err.Error(), "signature") {
		t.Error(err)
	}
}

// TestTLS: an issuer whose certificate nobody vouches for is not asked; ca-cert
// vouches for its own issuer alone.
func TestTLS(t *testing.T) {
	t.Parallel()
	s := es256(t)
	r := newRemote(t, true)
	r.set(func(r *remote) { r.keys = []any{jwk(s.key.Public(), map[string]any{"kid": "1"})} })
	raw := s.token(t, claims(r.URL, map[string]any{"organization_slug": "a", "pipeline_slug": "b"}))
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})
	for name, tc := range map[string]struct {
		ca []byte
		ok bool
	}{"nobody": {nil, false}, "another": {[]byte(caPEM(t)), false}, "ca-cert": {certificate, true}} {
		set, err := issuers.New(issuers.Config{Issuers: []issuers.Issuer{{URL: r.URL, ClientID: "sigstore", Type: issuers.TypeBuildkiteJob, CACert: tc.ca}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = set.Authenticate(t.Context(), raw)
		if (err == nil) != tc.ok || !tc.ok && !unavailable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestManyWildcards: whatever issuers tokens name, few are remembered.
func TestManyWildcards(t *testing.T) {
	t.Parallel()
	l, s := newLab(t, nil), es256(t)
	set, err := issuers.New(issuers.Config{Issuers: []issuers.Issuer{{URL: l.URL + "/*", Wildcard: true, ClientID: "sigstore", Type: issuers.TypeKubernetes}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1100 {
		url := l.URL + "/" + strings.Repeat("x", i+1)
		if _, err := set.Authenticate(t.Context(), s.token(t, claims(url, kubernetesClaims))); !unavailable(err) {
			t.Fatal(err)
		}
	}
	if n := issuers.Remembered(set); n != 1000 {
		t.Errorf("%d issuers are remembered", n)
	}
}

// TestWildcardKeysAreAtTheIssuer: who sends tokens chooses a host under the pattern, and
// what answers there may not have another host asked.
func TestWildcardKeysAreAtTheIssuer(t *testing.T) {
	t.Parallel()
	s, r, elsewhere := es256(t), newRemote(t, false), newRemote(t, false)
	keys := []any{jwk(s.key.Public(), map[string]any{"kid": "1"})}
	elsewhere.set(func(r *remote) { r.keys = keys })
	ask := func(i issuers.Issuer, url, jwks string) error {
		t.Helper()
		r.set(func(r *remote) {
			r.fault = func(w http.ResponseWriter, q *http.Request) {
				if strings.HasSuffix(q.URL.Path, "/.well-known/openid-configuration") {
					_ = json.NewEncoder(w).Encode(map[string]any{"issuer": url, "jwks_uri": jwks, "id_token_signing_alg_values_supported": []string{"ES256"}})
					return
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
			}
		})
		i.ClientID, i.Type = "sigstore", issuers.TypeKubernetes
		set, err := issuers.New(issuers.Config{Issuers: []issuers.Issuer{i}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = set.Authenticate(t.Context(), s.token(t, claims(url, kubernetesClaims)))
		return err
	}
	wild, named := issuers.Issuer{URL: r.URL + "/*", Wildcard: true}, issuers.Issuer{URL: r.URL + "/a"}
	for jwks, ok := range map[string]bool{
		r.URL + "/other/path/keys":                                    true,
		elsewhere.URL + "/keys":                                       false, // another port is another host
		strings.Replace(r.URL, "127.0.0.1", "localhost", 1) + "/keys": false,
		"https://metadata.internal/keys":                              false,
	} {
		if err := ask(wild, r.URL+"/a", jwks); (err == nil) != ok || !ok && (!unavailable(err) || !strings.Contains(err.Error(), "another host than the issuer")) {
			t.Errorf("%s: %v", jwks, err)
		}
	}
	if n := elsewhere.asked.Load(); n != 0 {
		t.Errorf("another host was asked %d times", n)
	}
	if err := ask(named, r.URL+"/a", elsewhere.URL+"/keys"); err != nil { // whom the operator names says where its keys are
		t.Error(err)
	}
}

// TestCallerGivesUp: who waits for another's request may leave.
func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	l, s := newLab(t, nil), es256(t)
	inside, release := make(chan struct{}), make(chan struct{})
	l.remote.set(func(r *remote) {
		r.fault = func(w http.ResponseWriter, _ *http.Request) { close(inside); <-release; w.WriteHeader(500) }
	})
	done := make(chan error)
	go func() { done <- l.authenticate(t, s, nil) }()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	raw := s.token(t, claims(l.URL, nil))
	if _, err := l.set.Authenticate(ctx, raw); !unavailable(err) || !strings.Contains(err.Error(), "gave up") {
		t.Error(err)
	}
	close(release)
	if err := <-done; !unavailable(err) {
		t.Error(err)
	}
}

// TestMadeUpKeyStallsNobody: while an issuer that hangs is asked because of a kid that
// somebody made up, tokens of its known keys are taken and the unknown wait.
func TestMadeUpKeyStallsNobody(t *testing.T) {
	t.Parallel()
	l, one, two := newLab(t, nil), es256(t), es256(t)
	two.kid = "made-up"
	l.remote.set(func(r *remote) { r.keys = []any{jwk(one.key.Public(), map[string]any{"kid": "1"})} })
	if err := l.authenticate(t, one, nil); err != nil {
		t.Fatal(err)
	}
	inside, release := make(chan struct{}), make(chan struct{})
	l.remote.set(func(r *remote) {
		r.fault = func(w http.ResponseWriter, _ *http.Request) { close(inside); <-release; w.WriteHeader(500) }
	})
	l.now = l.now.Add(11 * time.Second)
	stalled, good := make(chan error, 1), make(chan error, 1)
	go func() { stalled <- l.authenticate(t, two, nil) }()
	<-inside
	go func() { good <- l.authenticate(t, one, nil) }()
	select {
	case err := <-good:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("a good token waits for the answer about another's")
	}
	select {
	case err := <-stalled:
		t.Errorf("an unknown key without an answer: %v", err)
	default:
	}
	close(release)
	if err := <-stalled; !unavailable(err) {
		t.Error(err)
	}
	if err := l.authenticate(t, one, nil); err != nil { // with a failure remembered, too
		t.Error(err)
	}
}

// FuzzKeys: what an issuer says is read or refused, never a crash.
func FuzzKeys(f *testing.F) {
	s := es256(f)
	data, _ := json.Marshal(map[string]any{"keys": []any{jwk(s.key.Public(), map[string]any{"kid": "1"})}})
	f.Add(data)
	f.Add([]byte(`{"issuer":"https://a.example","jwks_uri":"https://a.example/keys","id_token_signing_alg_values_supported":["RS256"]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) { issuers.ParseAnswers(data) })
}
