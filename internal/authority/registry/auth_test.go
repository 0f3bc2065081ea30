package registry_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/output"
)

// named knows everybody whose password is their name in reverse, so to say.
func named(_ context.Context, user, password string) (registry.Principal, bool) {
	if user == registry.IdentityUser {
		return registry.Principal("identity:" + password), strings.Contains(password, "@")
	}
	return registry.Principal("user:" + user), password == "secret of "+user
}

// guarded is a registry with logins, tokens and rules.
func guarded(t *testing.T, cfg registry.Config) *client {
	t.Helper()
	var srv atomic.Pointer[registry.Server]
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { srv.Load().ServeHTTP(w, r) }))
	t.Cleanup(h.Close)
	cfg.URL = h.URL
	if cfg.Login == nil {
		cfg.Login = named
	}
	dir := t.TempDir()
	s, err := registry.Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv.Store(s)
	return &client{t, h.URL, dir, &output.Buffer{}, s}
}

func basic(user string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":secret of "+user))
}

// token asks for one as the challenge says; auth may be "".
func (c *client) token(auth string, scopes ...string) string {
	c.t.Helper()
	var header []string
	if auth != "" {
		header = []string{"Authorization", auth}
	}
	q := url.Values{"service": {strings.TrimPrefix(c.url, "http://")}, "scope": scopes}
	r := c.want(c.do("GET", registry.TokenPath+"?"+q.Encode(), "", "", header...), 200, "")
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
		IssuedAt    string `json:"issued_at"`
	}
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || answer.Token == "" || answer.Token != answer.AccessToken || answer.ExpiresIn < 60 {
		c.t.Fatalf("token answer %s, %v", r.body, err)
	}
	if _, err := time.Parse(time.RFC3339, answer.IssuedAt); err != nil || r.header.Get("Cache-Control") != "no-store" {
		c.t.Errorf("token answer %s, %v", r.body, r.header)
	}
	return "Bearer " + answer.Token
}

func TestTokenProtocol(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var clock atomic.Pointer[time.Time]
	clock.Store(&now)
	c := guarded(t, registry.Config{Rules: rules(t, teams), Now: func() time.Time { return *clock.Load() }})
	r := c.want(c.do("GET", "/v2/", "", ""), 401, "UNAUTHORIZED")
	host := strings.TrimPrefix(c.url, "http://")
	if got := r.header.Values("WWW-Authenticate"); len(got) != 1 || got[0] != `Bearer realm="`+c.url+`/v2/_token",service="`+host+`"` {
		t.Errorf("challenge %q", got)
	}
	r = c.want(c.do("POST", "/v2/team-a/app/blobs/uploads/", "", ""), 401, "UNAUTHORIZED")
	if got := r.header.Get("WWW-Authenticate"); !strings.HasSuffix(got, `,scope="repository:team-a/app:pull,push"`) {
		t.Errorf("challenge %q", got)
	}
	alice := c.token(basic("alice"), "repository:team-a/app:pull,push")
	c.want(c.do("GET", "/v2/", "", "", "Authorization", alice), 200, "")
	c.want(c.do("POST", "/v2/team-a/app/blobs/uploads/", "", "", "Authorization", alice), 202, "")
	// Hers, but the token was not asked for it: she may ask again.
	r = c.want(c.do("POST", "/v2/team-a/other/blobs/uploads/", "", "", "Authorization", alice), 401, "UNAUTHORIZED")
	if got := r.header.Get("WWW-Authenticate"); !strings.Contains(got, `error="insufficient_scope"`) || !strings.Contains(got, "team-a/other") {
		t.Errorf("challenge %q", got)
	}
	// Not hers, whatever she asks for.
	wide := c.token(basic("alice"), "repository:team-b/app:pull,push", "repository:team-a/app:*", "registry:catalog:*", "repository:../x:pull", "repository:team-a/app")
	r = c.want(c.do("POST", "/v2/team-b/app/blobs/uploads/", "", "", "Authorization", wide), 403, "DENIED")
	if got := r.header.Get("WWW-Authenticate"); got != "" {
		t.Errorf("a denial with a challenge %q", got)
	}
	c.want(c.do("DELETE", "/v2/team-a/app/manifests/v1", "", "", "Authorization", wide), 403, "DENIED")
	c.want(c.do("POST", "/v2/team-a/app/blobs/uploads/", "", "", "Authorization", wide), 202, "")
	// Nobody: only what anyone may do.
	nobody := c.token("", "repository:public/x:pull,push", "repository:team-a/app:pull")
	c.want(c.do("GET", "/v2/public/x/manifests/v1", "", "", "Authorization", nobody), 404, "NAME_UNKNOWN")
	c.want(c.do("GET", "/v2/public/x/manifests/v1", "", ""), 404, "NAME_UNKNOWN")
	c.want(c.do("POST", "/v2/public/x/blobs/uploads/", "", "", "Authorization", nobody), 401, "UNAUTHORIZED")
	c.want(c.do("GET", "/v2/team-a/app/tags/list", "", "", "Authorization", nobody), 401, "UNAUTHORIZED")
	// With passwords and identity tokens instead.
	c.want(c.do("POST", "/v2/team-a/x/blobs/uploads/", "", "", "Authorization", basic("alice")), 202, "")
	c.want(c.do("POST", "/v2/team-b/x/blobs/uploads/", "", "", "Authorization", basic("alice")), 403, "DENIED")
	identity := "Basic " + base64.StdEncoding.EncodeToString([]byte(registry.IdentityUser+":bob@a.example"))
	c.want(c.do("POST", "/v2/team-a/x/blobs/uploads/", "", "", "Authorization", identity), 202, "")
	c.want(c.do("GET", "/v2/public/x/manifests/v1", "", "", "Authorization", "Basic YTpi"), 401, "UNAUTHORIZED")
	// A token ends.
	later := now.Add(6 * time.Minute)
	clock.Store(&later)
	r = c.want(c.do("POST", "/v2/team-a/app/blobs/uploads/", "", "", "Authorization", alice), 401, "UNAUTHORIZED")
	if got := r.header.Get("WWW-Authenticate"); !strings.Contains(got, "invalid_token") || !strings.Contains(got, "team-a/app:pull,push") {
		t.Errorf("challenge %q", got)
	}
	earlier := now.Add(-time.Minute)
	clock.Store(&earlier)
	c.want(c.do("POST", "/v2/team-a/app/blobs/uploads/", "", "", "Authorization", alice), 401, "UNAUTHORIZED")
}

// Every change of a token ends it, and no other registry's will do.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	c, other := guarded(t, registry.Config{Rules: rules(t, teams)}), guarded(t, registry.Config{Rules: rules(t, teams)})
	good := c.token(basic("root"), "repository:app:pull,push,delete")
	try := func(what, token string) {
		t.Helper()
		c.want(c.do("POST", "/v2/app/blobs/uploads/", "", "", "Authorization", token), 401, "UNAUTHORIZED")
		if t.Failed() {
			t.Fatal(what)
		}
	}
	raw := strings.TrimPrefix(good, "Bearer ")
	parts := strings.Split(raw, ".")
	enc := base64.RawURLEncoding
	payload, _ := enc.DecodeString(parts[1])
	for i := 0; i < len(raw); i += 7 {
		b := []byte(raw)
		b[i] ^= 1
		try("changed", "Bearer "+string(b))
	}
	none := enc.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	for _, token := range []string{
		other.token(basic("root"), "repository:app:pull,push,delete"),
		"Bearer " + none + "." + parts[1] + ".", "Bearer " + none + "." + parts[1] + "." + parts[2],
		"Bearer " + parts[1] + "." + parts[2], "Bearer ..", "Bearer ", "Bearer", "Bearer " + raw + "=", "Bearer " + raw + "." + parts[2],
		"Bearer " + parts[0] + "." + enc.EncodeToString(append(payload, ' ')) + "." + parts[2],
		"Digest " + raw, raw, good + ", " + good,
	} {
		try("forged", token)
	}
	c.want(c.do("POST", "/v2/app/blobs/uploads/", "", "", "Authorization", good), 202, "")
	c.want(c.do("POST", "/v2/app/blobs/uploads/", "", "", "Authorization", "bearer "+raw), 202, "")
	// Nor does a token get another one.
	c.want(c.do("GET", registry.TokenPath+"?scope=repository:app:pull", "", "", "Authorization", good), 401, "UNAUTHORIZED")
	req, _ := http.NewRequest("GET", c.url+"/v2/", nil)
	req.Header["Authorization"] = []string{good, basic("alice")}
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != 401 {
		t.Errorf("two headers: %v, %v", resp, err)
	}
}

func TestTokenRequests(t *testing.T) {
	t.Parallel()
	c := guarded(t, registry.Config{Rules: rules(t, teams)})
	const form = "application/x-www-form-urlencoded"
	post := func(status int, code string, pairs ...string) reply {
		t.Helper()
		q := url.Values{}
		for i := 0; i+1 < len(pairs); i += 2 {
			q.Add(pairs[i], pairs[i+1])
		}
		return c.want(c.do("POST", registry.TokenPath, form, q.Encode()), status, code)
	}
	scope := "repository:team-a/app:pull,push"
	r := post(200, "", "grant_type", "password", "username", "alice", "password", "secret of alice", "scope", scope)
	if !strings.Contains(r.body, `"scope":"repository:team-a/app:pull,push"`) {
		t.Errorf("answer %s", r.body)
	}
	post(401, "UNAUTHORIZED", "grant_type", "password", "username", "alice", "password", "guess", "scope", scope)
	post(401, "UNAUTHORIZED", "grant_type", "password", "scope", scope)
	r = post(200, "", "grant_type", "refresh_token", "refresh_token", "x@a.example", "scope", scope)
	if !strings.Contains(r.body, "team-a/app") {
		t.Errorf("answer %s", r.body)
	}
	post(401, "UNAUTHORIZED", "grant_type", "refresh_token", "refresh_token", "nobody", "scope", scope)
	post(400, "INVALID_REQUEST", "grant_type", "authorization_code")
	post(400, "INVALID_REQUEST", "grant_type", "password", "username", "alice", "password", "secret of alice", "service", "elsewhere")
	post(400, "INVALID_REQUEST", "grant_type", "password", "username", "alice", "password", "secret of alice", "scope", strings.Repeat(scope+" ", 65))
	c.want(c.do("POST", registry.TokenPath, form, "grant_type=%zz"), 400, "INVALID_REQUEST")
	c.want(c.do("POST", registry.TokenPath, form, strings.Repeat("a", 70<<10)), 400, "INVALID_REQUEST")
	c.want(c.do("POST", registry.TokenPath, "application/json", "{}"), 400, "INVALID_REQUEST")
	c.want(c.do("GET", registry.TokenPath, "", "", "Authorization", "Basic YTpi"), 401, "UNAUTHORIZED")
	c.want(c.do("PUT", registry.TokenPath, "", ""), 405, "UNSUPPORTED")
	// Without logins there is nothing to ask for.
	open := fresh(t)
	open.want(open.do("GET", registry.TokenPath, "", ""), 404, "UNSUPPORTED")
	open.want(open.do("GET", "/v2/", "", "", "Authorization", "Bearer x"), 200, "")
}

// A blob of a repository that one may not read is not mounted, and whether it is
// there is not told; the catalog shows one's own.
func TestRightsAcrossRepositories(t *testing.T) {
	t.Parallel()
	c := guarded(t, registry.Config{Rules: rules(t, teams)})
	secret := "a layer of team b"
	d := string(evidence.SHA256([]byte(secret)))
	root, alice := basic("root"), basic("alice")
	push := func(repo, auth string) {
		t.Helper()
		c.want(c.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+d, "application/octet-stream", secret, "Authorization", auth), 201, "")
		m := `{"schemaVersion":2,"config":{"mediaType":"x/y","digest":"` + d + `","size":17},"layers":[]}`
		c.want(c.do("PUT", "/v2/"+repo+"/manifests/v1", ociManifest, m, "Authorization", auth), 201, "")
	}
	push("team-b/app", root)
	for _, from := range []string{"&from=team-b/app", "&from=team-b/none", ""} {
		c.want(c.do("POST", "/v2/team-a/app/blobs/uploads/?mount="+d+from, "", "", "Authorization", alice), 202, "")
	}
	c.want(c.do("HEAD", "/v2/team-b/app/blobs/"+d, "", "", "Authorization", alice), 403, "")
	c.want(c.do("HEAD", "/v2/team-b/none/blobs/"+d, "", "", "Authorization", alice), 403, "")
	push("team-a/app", alice)
	c.want(c.do("POST", "/v2/team-a/second/blobs/uploads/?mount="+d, "", "", "Authorization", alice), 201, "")
	// A token is for what it was asked for, also as the source of a mount.
	one := c.token(alice, "repository:team-a/third:pull,push")
	r := c.want(c.do("POST", "/v2/team-a/third/blobs/uploads/?mount="+d+"&from=team-a/app", "", "", "Authorization", one), 401, "UNAUTHORIZED")
	if got := r.header.Get("WWW-Authenticate"); !strings.Contains(got, `scope="repository:team-a/third:pull,push repository:team-a/app:pull"`) {
		t.Errorf("challenge %q", got)
	}
	c.want(c.do("POST", "/v2/team-a/third/blobs/uploads/?mount="+d, "", "", "Authorization", one), 202, "")
	c.want(c.do("POST", "/v2/team-a/third/blobs/uploads/?mount="+d+"&from=team-b/app", "", "", "Authorization", one), 202, "")
	both := c.token(alice, "repository:team-a/third:pull,push repository:team-a/app:pull")
	c.want(c.do("POST", "/v2/team-a/third/blobs/uploads/?mount="+d+"&from=team-a/app", "", "", "Authorization", both), 201, "")
	c.want(c.do("GET", "/v2/_catalog", "", ""), 401, "UNAUTHORIZED")
	if r := c.want(c.do("GET", "/v2/_catalog", "", "", "Authorization", alice), 200, ""); r.body != `{"repositories":["team-a/app"]}` {
		t.Errorf("catalog %s", r.body)
	}
	if r := c.want(c.do("GET", "/v2/_catalog", "", "", "Authorization", c.token("")), 200, ""); r.body != `{"repositories":[]}` {
		t.Errorf("catalog %s", r.body)
	}
	// An upload is of its repository, and needs its rights at every step.
	loc := c.want(c.do("POST", "/v2/team-b/app/blobs/uploads/", "", "", "Authorization", root), 202, "").header.Get("Location")
	for _, method := range []string{"GET", "PATCH", "PUT", "DELETE"} {
		c.want(c.do(method, loc+"?digest="+d, "", "x", "Authorization", alice), 403, "")
		c.want(c.do(method, loc+"?digest="+d, "", "x"), 401, "")
		stolen := strings.Replace(loc, "team-b", "team-a", 1)
		c.want(c.do(method, stolen+"?digest="+d, "", "x", "Authorization", alice), 404, "BLOB_UPLOAD_UNKNOWN")
	}
	if strings.Contains(c.log.String(), "secret") {
		t.Error("a password is in the log")
	}
}

// Without rules everybody who logs in may do everything; without logins, rules
// still hold.
func TestLoginWithoutRules(t *testing.T) {
	t.Parallel()
	c := guarded(t, registry.Config{})
	c.want(c.do("GET", "/v2/app/tags/list", "", ""), 401, "UNAUTHORIZED")
	c.want(c.do("POST", "/v2/app/blobs/uploads/", "", "", "Authorization", c.token("", "repository:app:pull,push")), 401, "UNAUTHORIZED")
	c.want(c.do("POST", "/v2/app/blobs/uploads/", "", "", "Authorization", c.token(basic("x"), "repository:app:pull,push")), 202, "")
	r := start(t, t.TempDir(), registry.Config{Rules: rules(t, teams)})
	r.want(r.do("POST", "/v2/app/blobs/uploads/", "", ""), 401, "UNAUTHORIZED")
	r.want(r.do("GET", "/v2/public/app/tags/list", "", "", "Authorization", basic("root")), 401, "UNAUTHORIZED")
	r.want(r.do("GET", "/v2/public/app/tags/list", "", ""), 404, "NAME_UNKNOWN")
}
