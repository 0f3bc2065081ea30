package idtoken_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/pattern"
)

var keyFile = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "idtoken-test")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if _, err := oidc.Open(dir, oidc.Config{Issuer: "http://127.0.0.1"}); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, "oidc.key"))
})

// start runs our own issuer.
func start(t *testing.T) *oidc.Provider {
	t.Helper()
	dir := t.TempDir()
	key, err := keyFile()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "oidc.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := oidc.Open(dir, oidc.Config{Issuer: "http://" + l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: p.Handler()}}
	s.Start()
	t.Cleanup(s.Close)
	return p
}

func mint(t *testing.T, p *oidc.Provider) string {
	t.Helper()
	raw, err := p.Mint("alice@example.com", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// noLeak: no piece of a token of eight characters or more may be in an error.
func noLeak(t *testing.T, err error, secrets ...string) {
	t.Helper()
	for _, s := range secrets {
		for _, part := range strings.Split(s, ".") {
			for i := 0; i+12 <= len(part); i += 6 {
				if strings.Contains(err.Error()+fault.HintOf(err), part[i:i+12]) {
					t.Errorf("the error shows the token: %v", err)
					return
				}
			}
		}
	}
}

func TestGivenTokens(t *testing.T) {
	t.Parallel()
	p := start(t)
	raw := mint(t, p)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(raw+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]idtoken.Config{
		"flag":        {Flag: raw},
		"file":        {Flag: file},
		"environment": {Env: env("SIGSTORE_ID_TOKEN", raw)},
		"flag first":  {Flag: raw, Env: env("SIGSTORE_ID_TOKEN", "rubbish")},
	} {
		got, err := idtoken.Get(t.Context(), cfg)
		if err != nil || got.ProofSubject() != "alice@example.com" || got.Raw != raw {
			t.Errorf("%s: %v", name, err)
		}
		if s := fmt.Sprintf("%v %+v %#v %s", got, got, got, &got); strings.Contains(s, raw[:20]) {
			t.Errorf("printing a token shows it: %s", s)
		}
	}
	_, err := idtoken.Get(t.Context(), idtoken.Config{})
	if fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
		t.Errorf("nothing at all: %v", err)
	}
	_, err = idtoken.Get(t.Context(), idtoken.Config{Flag: filepath.Join(t.TempDir(), "none")})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such file: %v", err)
	}
	_, err = idtoken.Get(t.Context(), idtoken.Config{Provider: "nonsense"})
	if fault.KindOf(err) != fault.Usage {
		t.Errorf("unknown provider: %v", err)
	}
}

// TestMistypedTokensAreNotShown: what people paste into --identity-token around a
// token, and what they leave out, never reaches a message as "no such file".
func TestMistypedTokensAreNotShown(t *testing.T) {
	t.Parallel()
	raw := mint(t, start(t))
	parts := strings.Split(raw, ".")
	for name, tc := range map[string]struct {
		value string
		good  bool
	}{
		"spaces around":       {"  " + raw + " ", true},
		"line break after":    {raw + "\r\n", true},
		"with its scheme":     {"Bearer " + raw, false},
		"quoted":              {`"` + raw + `"`, false},
		"a variable's name":   {"TOKEN=" + raw, false},
		"without the start":   {raw[3:], false},
		"short, quoted":       {`"eyJhbGciOiJub25lIn0.e30.c2VjcmV0"`, false},
		"two of three parts":  {" " + parts[0] + "." + parts[1], false},
		"the claims only":     {parts[1][:200], false},
		"the signature only":  {parts[2], false},
		"like a path":         {"./" + raw[:60] + "/" + raw[60:120], false},
		"a directory of that": {"/" + parts[2][:40], false},
	} {
		for from, cfg := range map[string]idtoken.Config{
			"--identity-token": {Flag: tc.value}, "SIGSTORE_ID_TOKEN": {Env: env("SIGSTORE_ID_TOKEN", tc.value)},
		} {
			got, err := idtoken.Get(t.Context(), cfg)
			if tc.good && (err != nil || got.Raw != raw) {
				t.Errorf("%s in %s: %v", name, from, err)
			}
			if !tc.good && (err == nil || !strings.Contains(err.Error(), from)) {
				t.Errorf("%s in %s: %v", name, from, err)
			}
			if err != nil {
				noLeak(t, err, tc.value)
				if text := err.Error() + fault.HintOf(err); strings.Contains(text, strings.Trim(tc.value, " /.\"")[:20]) {
					t.Errorf("%s in %s is shown: %s", name, from, text)
				}
			}
		}
	}
	// Neither is the name of a file, which may be a token as well.
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{large, dir, filepath.Join(dir, "none"), filepath.Join(large, "below"), "  "} {
		if _, err := idtoken.Get(t.Context(), idtoken.Config{Flag: path}); err == nil || strings.Contains(err.Error(), dir) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// assemble makes a token without a real signature.
func assemble(t *testing.T, header string, claims map[string]any) string {
	t.Helper()
	data, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return encode(header) + "." + encode(string(data)) + "." + encode("signature")
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func TestBadTokensNameTheClaim(t *testing.T) {
	t.Parallel()
	now := time.Now()
	with := func(name string, value any) string {
		c := map[string]any{"iss": "https://issuer.example", "sub": "a-secret-subject", "aud": "sigstore", "exp": now.Unix() + 60, "email": "person@example.com"}
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return assemble(t, `{"alg":"RS256"}`, c)
	}
	ok := with("x", 1)
	parts := strings.Split(ok, ".")
	if _, err := idtoken.Get(t.Context(), idtoken.Config{Env: env("SIGSTORE_ID_TOKEN", ok)}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ raw, want string }{
		"expired":           {with("exp", now.Unix()-1), `"exp"`},
		"no expiry":         {with("exp", nil), `"exp"`},
		"expiry null":       {with("exp", json.RawMessage("null")), `"exp"`},
		"expiry negative":   {with("exp", -1), `"exp"`},
		"expiry huge":       {with("exp", 1e300), `"exp"`},
		"not yet":           {with("nbf", now.Unix()+3600), `"nbf"`},
		"another audience":  {with("aud", "other"), `"aud"`},
		"other audiences":   {with("aud", []string{"other", "Sigstore"}), `"aud"`},
		"empty audience":    {with("aud", []string{}), `"aud"`},
		"no audience":       {with("aud", nil), `"aud"`},
		"no issuer":         {with("iss", nil), `"iss"`},
		"no subject":        {with("sub", ""), `"sub"`},
		"subject a number":  {with("sub", 7), `"sub"`},
		"e-mail a list":     {with("email", []string{"a@b.c"}), `"email"`},
		"unverified":        {with("email_verified", false), `"email_verified"`},
		"two parts":         {parts[0] + "." + parts[1], "parts"},
		"line break inside": {parts[0] + ".\n" + parts[1] + "." + parts[2], "parts"},
		"no signature":      {parts[0] + "." + parts[1] + ".", "parts"},
		"standard base64":   {parts[0] + "." + parts[1] + "." + "+/+/", "parts"},
		"padded":            {parts[0] + "." + parts[1] + "=." + parts[2], "parts"},
		"alg none":          {assemble(t, `{"alg":"none"}`, map[string]any{}), `"alg"`},
		"no alg":            {assemble(t, `{}`, map[string]any{}), `"alg"`},
		"crit":              {assemble(t, `{"alg":"RS256","crit":["x"]}`, map[string]any{}), `"crit"`},
		"member twice":      {parts[0] + "." + encode(`{"iss":"a","iss":"b"}`) + "." + parts[2], "strict"},
		"trailing data":     {parts[0] + "." + encode(`{"iss":"a"}{}`) + "." + parts[2], "strict"},
		"no object":         {parts[0] + "." + encode(`["iss"]`) + "." + parts[2], "strict"},
		"too long":          {strings.Repeat("a", 17<<10), "longer"},
	} {
		_, err := idtoken.Get(t.Context(), idtoken.Config{Env: env("SIGSTORE_ID_TOKEN", tc.raw)})
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "SIGSTORE_ID_TOKEN") {
			t.Errorf("%s: %v", name, err)
			continue
		}
		noLeak(t, err, tc.raw)
		_, err = idtoken.Get(t.Context(), idtoken.Config{Flag: tc.raw})
		if err == nil {
			t.Errorf("%s as flag: taken", name)
			continue
		}
		noLeak(t, err, tc.raw)
	}
}

func TestGitHubActions(t *testing.T) {
	t.Parallel()
	p := start(t)
	claims := map[string]any{}
	for _, name := range oidc.GitHubClaims() {
		claims[name] = "x-" + name
	}
	data, _ := json.Marshal(claims)
	u, bearer, err := p.EnableRehearseGitHub(data)
	if err != nil {
		t.Fatal(err)
	}
	got, err := idtoken.Get(t.Context(), idtoken.Config{Env: env("ACTIONS_ID_TOKEN_REQUEST_URL", u, "ACTIONS_ID_TOKEN_REQUEST_TOKEN", bearer)})
	if err != nil || got.ProofSubject() != "x-sub" || got.Issuer != p.Issuer() {
		t.Fatalf("%v", err)
	}
	// The order: SIGSTORE_ID_TOKEN is explicit, so it comes first.
	got, err = idtoken.Get(t.Context(), idtoken.Config{Env: env("ACTIONS_ID_TOKEN_REQUEST_URL", u, "ACTIONS_ID_TOKEN_REQUEST_TOKEN", bearer, "SIGSTORE_ID_TOKEN", mint(t, p))})
	if err != nil || got.Email != "alice@example.com" {
		t.Fatalf("%v", err)
	}
	_, err = idtoken.Get(t.Context(), idtoken.Config{Env: env("ACTIONS_ID_TOKEN_REQUEST_URL", u, "ACTIONS_ID_TOKEN_REQUEST_TOKEN", bearer+"wrong")})
	if err == nil || !strings.Contains(err.Error(), "Unauthorized") {
		t.Fatalf("wrong bearer: %v", err)
	}
	noLeak(t, err, bearer)
	_, err = idtoken.Get(t.Context(), idtoken.Config{Provider: "github-actions"})
	if err == nil || !strings.Contains(fault.HintOf(err), "id-token: write") {
		t.Fatalf("without the permission: %v", err)
	}
	_, err = idtoken.Get(t.Context(), idtoken.Config{Env: env("ACTIONS_ID_TOKEN_REQUEST_URL", "http://github.example/x", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", bearer)})
	if fault.KindOf(err) != fault.Usage {
		t.Fatalf("plain http elsewhere: %v", err)
	}
	_, err = idtoken.Get(t.Context(), idtoken.Config{Env: env("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:1/x?secret=abcdefghijklm", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", bearer)})
	if fault.KindOf(err) != fault.Unreachable || !strings.Contains(err.Error(), "127.0.0.1:1") || strings.Contains(err.Error(), "abcdefgh") {
		t.Fatalf("nobody there: %v", err)
	}
}

func TestBuildkite(t *testing.T) {
	t.Parallel()
	raw := mint(t, start(t))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body map[string]string
		_ = json.NewDecoder(r.Body).Decode(&body)
		if r.Method != http.MethodPost || r.URL.Path != "/v3/jobs/job-1/oidc/tokens" || r.Header.Get("Authorization") != "Token agent-secret-1" || body["audience"] != "sigstore" {
			http.Error(w, `{"message":"no"}`, http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprintf(w, `{"token":%q}`, raw)
	}))
	t.Cleanup(s.Close)
	vars := func(token string) func(string) string {
		return env("BUILDKITE_AGENT_ACCESS_TOKEN", token, "BUILDKITE_AGENT_ENDPOINT", s.URL+"/v3", "BUILDKITE_JOB_ID", "job-1")
	}
	if got, err := idtoken.Get(t.Context(), idtoken.Config{Env: vars("agent-secret-1")}); err != nil || got.Raw != raw {
		t.Fatalf("%v", err)
	}
	_, err := idtoken.Get(t.Context(), idtoken.Config{Env: vars("agent-secret-2")})
	if err == nil || strings.Contains(err.Error(), "agent-secret") {
		t.Fatalf("wrong token: %v", err)
	}
	if _, err := idtoken.Get(t.Context(), idtoken.Config{Env: env("BUILDKITE_AGENT_ACCESS_TOKEN", "x")}); fault.KindOf(err) != fault.Usage {
		t.Fatalf("no job: %v", err)
	}
}

func TestGoogleMetadata(t *testing.T) {
	t.Parallel()
	raw := mint(t, start(t))
	var flavor sync.Map
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/computeMetadata/v1/instance/service-accounts/default/identity" || r.Header.Get("Metadata-Flavor") != "Google" ||
			r.URL.Query().Get("audience") != "sigstore" || r.URL.Query().Get("format") != "full" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		if _, other := flavor.Load("other"); !other {
			w.Header().Set("Metadata-Flavor", "Google")
		}
		_, _ = io.WriteString(w, raw)
	}))
	t.Cleanup(s.Close)
	cfg := idtoken.Config{Env: env("GCE_METADATA_HOST", strings.TrimPrefix(s.URL, "http://"))}
	if got, err := idtoken.Get(t.Context(), cfg); err != nil || got.Raw != raw {
		t.Fatalf("%v", err)
	}
	flavor.Store("other", true)
	_, err := idtoken.Get(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "not a Google metadata server") {
		t.Fatalf("%v", err)
	}
	noLeak(t, err, raw)
	if _, err := idtoken.Get(t.Context(), idtoken.Config{Env: env("GCE_METADATA_HOST", "a/b")}); fault.KindOf(err) != fault.Usage {
		t.Fatalf("%v", err)
	}
}

// workloadAPI is a SPIFFE Workload API that serves one JWT-SVID.
type workloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	raw string
}

func (w workloadAPI) FetchJWTSVID(ctx context.Context, r *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get("workload.spiffe.io"); len(v) != 1 || v[0] != "true" {
		return nil, status.Error(codes.InvalidArgument, "security header missing from request")
	}
	if len(r.Audience) != 1 || r.Audience[0] != "sigstore" {
		return nil, status.Error(codes.InvalidArgument, "audience")
	}
	if w.raw == "" {
		return nil, status.Error(codes.PermissionDenied, "no identity issued")
	}
	return &workload.JWTSVIDResponse{Svids: []*workload.JWTSVID{{SpiffeId: "spiffe://example.org/app", Svid: w.raw}}}, nil
}

func TestSPIFFE(t *testing.T) {
	t.Parallel()
	serve := func(raw string) string {
		dir, err := os.MkdirTemp("", "spiffe") // socket paths must be short
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		l, err := net.Listen("unix", filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		workload.RegisterSpiffeWorkloadAPIServer(s, workloadAPI{raw: raw})
		go func() { _ = s.Serve(l) }()
		t.Cleanup(s.Stop)
		return l.Addr().String()
	}
	raw, err := start(t).MintClaims(map[string]any{"sub": "spiffe://example.org/app"}, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	path := serve(raw)
	for _, socket := range []string{"unix://" + path, path} {
		got, err := idtoken.Get(t.Context(), idtoken.Config{Env: env("SPIFFE_ENDPOINT_SOCKET", socket)})
		if err != nil || got.ProofSubject() != "spiffe://example.org/app" {
			t.Fatalf("%s: %v", socket, err)
		}
	}
	_, err = idtoken.Get(t.Context(), idtoken.Config{Env: env("SPIFFE_ENDPOINT_SOCKET", serve(""))})
	if fault.KindOf(err) != fault.Unreachable || !strings.Contains(err.Error(), "no identity issued") {
		t.Fatalf("refused: %v", err)
	}
	for _, bad := range []string{"relative", "unix:relative", "unix://host/path", "tcp://localhost:1", "tcp://127.0.0.1:1/x", "http://127.0.0.1:1", "unix:///x?y"} {
		if _, err := idtoken.Get(t.Context(), idtoken.Config{Env: env("SPIFFE_ENDPOINT_SOCKET", bad)}); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// person is a browser with somebody in front of it who knows a secret.
type person struct {
	t      *testing.T
	client *http.Client
}

func newPerson(t *testing.T) *person {
	jar, _ := cookiejar.New(nil)
	return &person{t, &http.Client{Jar: jar, Timeout: 10 * time.Second}}
}

var hiddenField = pattern.New(`name="request" value="([^"]+)"`)

// fill opens a page, fills its form and returns what came after it.
func (p *person) fill(page string, form url.Values) (string, error) {
	resp, err := p.client.Get(page)
	if err != nil {
		return "", err
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	m := hiddenField().FindSubmatch(body)
	if m == nil {
		return "", fmt.Errorf("no form: %s", body)
	}
	form.Set("request", string(m[1]))
	u, _ := url.Parse(page)
	resp, err = p.client.PostForm("http://"+u.Host+u.Path, form)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(resp.Body)
	return string(body), err
}

func TestBrowserLogin(t *testing.T) {
	t.Parallel()
	p := start(t)
	secret, err := p.NewOneTimeCode("alice@example.com")
	if err != nil {
		t.Fatal(err)
	}
	got, err := idtoken.Get(t.Context(), idtoken.Config{Issuer: p.Issuer(), Interactive: true, OpenBrowser: func(u string) error {
		body, err := newPerson(t).fill(u, url.Values{"secret": {secret}})
		if err != nil || !strings.Contains(body, "You are logged in") {
			t.Errorf("%v %s", err, body)
		}
		return nil
	}})
	if err != nil || got.Email != "alice@example.com" {
		t.Fatalf("%v", err)
	}
}

// TestForeignAnswersDoNotEndALogin: only the issuer knows the state.
func TestForeignAnswersDoNotEndALogin(t *testing.T) {
	t.Parallel()
	p := start(t)
	secret, err := p.NewOneTimeCode("alice@example.com")
	if err != nil {
		t.Fatal(err)
	}
	got, err := idtoken.Get(t.Context(), idtoken.Config{Issuer: p.Issuer(), Interactive: true, OpenBrowser: func(u string) error {
		q, _ := url.Parse(u)
		back := q.Query().Get("redirect_uri")
		for _, bad := range []string{back + "?code=stolen", back + "?code=stolen&state=x", back + "?error=access_denied&state=", strings.Replace(back, "/auth/", "/other/", 1)} {
			resp, err := http.Get(bad)
			if err != nil || resp.StatusCode < 400 {
				t.Errorf("%s: %v", bad, err)
			}
		}
		_, _ = newPerson(t).fill(u, url.Values{"secret": {secret}})
		return errors.New("and a browser that reports an error does not matter")
	}})
	if err != nil || got.Email != "alice@example.com" {
		t.Fatalf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = idtoken.Get(ctx, idtoken.Config{Issuer: p.Issuer(), Interactive: true, OpenBrowser: func(string) error { return nil }})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("nobody logs in: %v", err)
	}
}

func TestDeviceLogin(t *testing.T) {
	t.Parallel()
	p := start(t)
	secret, err := p.NewOneTimeCode("alice@example.com")
	if err != nil {
		t.Fatal(err)
	}
	deny := url.Values{"deny": {"yes"}}
	for _, extra := range []url.Values{{}, deny} {
		cfg := idtoken.Config{Issuer: p.Issuer(), Interactive: true, Say: func(format string, args ...any) {
			code, page := args[0].(string), args[1].(string)
			form := url.Values{"user_code": {code}, "secret": {secret}, "deny": extra["deny"]}
			if len(extra) == 0 {
				form.Del("deny")
			}
			if body, err := newPerson(t).fill(page, form); err != nil {
				t.Errorf("%v %s", err, body)
			}
		}, Sleep: func(context.Context, time.Duration) {}}
		got, err := idtoken.Get(t.Context(), cfg)
		if len(extra) == 0 && (err != nil || got.Email != "alice@example.com") {
			t.Fatalf("%v", err)
		}
		if len(extra) != 0 && (err == nil || !strings.Contains(err.Error(), "access_denied")) {
			t.Fatalf("refused: %v", err)
		}
		secret, err = p.NewOneTimeCode("alice@example.com")
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestNobodyToLogIn: a job without a person fails at once instead of waiting for a
// login that nobody sees, unless a login was asked for by name.
func TestNobodyToLogIn(t *testing.T) {
	t.Parallel()
	p := start(t)
	silent := func(format string, args ...any) { t.Errorf("a login was offered: "+format, args...) }
	_, err := idtoken.Get(t.Context(), idtoken.Config{Issuer: p.Issuer(), Say: silent, OpenBrowser: func(string) error {
		t.Error("a browser was opened")
		return nil
	}})
	if fault.KindOf(err) != fault.Usage || !strings.Contains(fault.HintOf(err), "--identity-token") {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	asked := false
	_, err = idtoken.Get(ctx, idtoken.Config{Issuer: p.Issuer(), Provider: "device", Say: func(string, ...any) {
		asked = true
		cancel()
	}})
	if !asked || !errors.Is(err, context.Canceled) {
		t.Errorf("a login by name: asked %v, %v", asked, err)
	}
}

// TestIssuersThatCannotBeTrusted: what discovery says is checked before a login starts.
func TestIssuersThatCannotBeTrusted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(map[string]any)
		want   string
	}{
		"another issuer":     {func(d map[string]any) { d["issuer"] = "https://other.example" }, "says that it is"},
		"no PKCE":            {func(d map[string]any) { delete(d, "code_challenge_methods_supported") }, "PKCE"},
		"PKCE plain":         {func(d map[string]any) { d["code_challenge_methods_supported"] = []string{"plain"} }, "PKCE"},
		"token in the clear": {func(d map[string]any) { d["token_endpoint"] = "http://other.example/token" }, "plain HTTP"},
		"login in the clear": {func(d map[string]any) { d["authorization_endpoint"] = "http://other.example/auth" }, "plain HTTP"},
		"no token endpoint":  {func(d map[string]any) { delete(d, "token_endpoint") }, "token endpoint"},
		"no device endpoint": {func(d map[string]any) { delete(d, "device_authorization_endpoint") }, "device authorization endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *httptest.Server
			s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				d := map[string]any{"issuer": s.URL, "authorization_endpoint": s.URL + "/a", "token_endpoint": s.URL + "/t",
					"device_authorization_endpoint": s.URL + "/d", "code_challenge_methods_supported": []string{"S256"}}
				tc.change(d)
				_ = json.NewEncoder(w).Encode(d)
			}))
			t.Cleanup(s.Close)
			if _, err := idtoken.Get(t.Context(), idtoken.Config{Issuer: s.URL, Interactive: true}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v", err)
			}
		})
	}
	_, err := idtoken.Get(t.Context(), idtoken.Config{Issuer: "http://127.0.0.1:1", Interactive: true})
	if fault.KindOf(err) != fault.Unreachable || !strings.Contains(err.Error(), "OIDC discovery: 127.0.0.1:1") {
		t.Errorf("nobody there: %v", err)
	}
	_, err = idtoken.Get(t.Context(), idtoken.Config{Issuer: "http://issuer.example", Interactive: true})
	if fault.KindOf(err) != fault.Usage {
		t.Errorf("plain HTTP: %v", err)
	}
}

// FuzzParse: no input crashes the parser, what it takes is whole, and no error
// repeats what was parsed.
func FuzzParse(f *testing.F) {
	f.Add(encode(`{"alg":"RS256","kid":"k"}`) + "." + encode(`{"iss":"i","sub":"s","aud":["sigstore"],"exp":1900000000,"email":"a@b.c"}`) + "." + encode("sig"))
	f.Add(encode(`{"alg":"none"}`) + "." + encode(`{}`) + ".")
	f.Add(encode(`{"alg":"ES256"}`) + "." + encode(`{"iss":1,"aud":{},"exp":1e999}`) + "." + encode("x"))
	f.Add("..")
	f.Add("")
	f.Fuzz(func(t *testing.T, raw string) {
		tok, err := idtoken.Parse(raw)
		if err != nil {
			if len(raw) >= 24 && strings.Contains(err.Error(), raw[:24]) {
				t.Fatalf("the error shows the token: %v", err)
			}
			return
		}
		if tok.Issuer == "" || tok.Subject == "" || len(tok.Audience) == 0 || tok.Expiry.IsZero() || len(tok.Signature) == 0 || tok.ProofSubject() == "" {
			t.Fatalf("took %q as %+v", raw, tok)
		}
		if tok.Raw != raw || !strings.HasPrefix(raw, string(tok.SigningInput())) {
			t.Fatal("not the bytes that were given")
		}
	})
}
