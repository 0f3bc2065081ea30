package authority_test

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// call is a request as the fuzzer changes it: header has a line for each field.
type call struct {
	method, path, query, header string
	body                        string
	want                        int // status of the unchanged one
}

// send has the handler answer a call. pattern is the one of the mux that chose.
func (c call) send(a *authority.Authority) (w *httptest.ResponseRecorder, pattern string) {
	r, err := http.NewRequest(c.method, a.Info().URL, strings.NewReader(c.body))
	if err != nil {
		return nil, "" // no method that the server would let in
	}
	r.URL.Path, r.URL.RawQuery, r.RequestURI = c.path, c.query, "/"
	for line := range strings.SplitSeq(c.header, "\n") {
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case !ok || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		case strings.EqualFold(name, "Host"):
			r.Host = value
		default:
			r.Header.Add(name, value)
		}
	}
	w = httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r)
	return w, r.Pattern
}

const jsonType = "Content-Type: application/json"

// calls are one real request for each endpoint, in an order in which they work.
func calls(t testing.TB, a *authority.Authority) []call {
	t.Helper()
	const mail = "alice@example.com"
	identity, err := a.Mint(mail)
	if err != nil {
		t.Fatal(err)
	}
	bearer := jsonType + "\nAuthorization: Bearer " + identity
	_, sig, der := signedByAnyone(t, mail)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	legacy, err := json.Marshal(map[string]any{"publicKey": map[string]any{"algorithm": "ecdsa", "content": public}, "signedEmailAddress": sig})
	if err != nil {
		t.Fatal(err)
	}
	entries := fuzzedEntries(t, a)
	all := []call{
		{"POST", "/api/v2/signingCert", "", bearer, certificateRequest(t, mail), 200},
		{"GET", "/api/v2/trustBundle", "", "", "", 200},
		{"GET", "/api/v2/configuration", "", "", "", 200},
		{"POST", "/api/v1/signingCert", "", bearer, string(legacy), 201},
		{"GET", "/api/v1/rootCert", "", "", "", 200},
		{"POST", "/api/v2/log/entries", "", jsonType, entry(t, "a file"), 201},
		{"GET", "/api/v2/checkpoint", "", "", "", 200},
		{"GET", "/api/v2/tile/0/000.p/1", "", "", "", 200},
		{"GET", "/api/v2/tile/entries/000.p/1", "", "", "", 200},
		{"POST", "/api/v1/log/entries", "", jsonType, entryV1(t, "a file"), 201},
		{"POST", "/api/v1/log/entries", "", jsonType, envelopeV1(t), 201},
		{"GET", "/api/v1/log/entries", "logIndex=0", "", "", 200},
		{"GET", "/api/v1/log/entries/" + entries.id, "", "", "", 200},
		{"POST", "/api/v1/log/entries/retrieve", "", jsonType, `{"logIndexes":[0]}`, 200},
		{"POST", "/api/v1/log/entries/retrieve", "", jsonType, `{"entryUUIDs":["` + entries.id + `"]}`, 200},
		{"POST", "/api/v1/log/entries/retrieve", "", jsonType, `{"entries":[` + entries.body + `]}`, 200},
		{"GET", "/api/v1/log", "", "", "", 200},
		{"GET", "/api/v1/log/proof", "firstSize=1&lastSize=1", "", "", 200},
		{"GET", "/api/v1/log/publicKey", "", "", "", 200},
		{"POST", "/api/v1/index/retrieve", "", jsonType, `{"hash":"sha256:` + strings.Repeat("0", 64) + `","email":"` + mail + `"}`, 200},
		{"GET", "/api/v1/checkpoint", "", "", "", 200},
		{"GET", "/api/v1/tile/entries/000.p/1", "", "", "", 200},
		{"POST", "/api/v1/timestamp", "", "Content-Type: application/timestamp-query", string(timestampQuery(t, "x")), 200},
		{"GET", "/", "", "", "", 200},
		{"GET", "/healthz", "", "", "", 200},
		{"GET", "/livez", "", "", "", 200},
		{"GET", "/metrics", "", "", "", 200},
	}
	for _, name := range []string{"root.json", "1.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"} {
		all = append(all, call{"GET", "/tuf/" + name, "", "", "", 200})
	}
	all = append(all, loginCalls(a)...)
	return append(all, imageCalls()...)
}

type fuzzedEntry struct{ id, body string }

// fuzzedEntries logs an entry, so that there is one to ask for.
func fuzzedEntries(t testing.TB, a *authority.Authority) fuzzedEntry {
	t.Helper()
	body := entryV1(t, "there before")
	w, _ := call{"POST", "/api/v1/log/entries", "", jsonType, body, 201}.send(a)
	return fuzzedEntry{filepath.Base(w.Header().Get("Location")), body}
}

// envelopeV1 is an attestation that the log for older clients takes.
func envelopeV1(t testing.TB) string {
	t.Helper()
	const payload = `{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"x","predicate":{}}`
	_, sig, der := signedByAnyone(t, string(evidence.PAE(evidence.InTotoPayloadType, []byte(payload))))
	envelope, err := json.Marshal(map[string]any{"payload": []byte(payload), "payloadType": evidence.InTotoPayloadType, "signatures": []any{map[string]any{"sig": sig}}})
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"apiVersion": "0.0.1", "kind": "dsse", "spec": map[string]any{"proposedContent": map[string]any{
		"envelope": string(envelope), "verifiers": [][]byte{pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// loginCalls are those of the issuer. Nobody logs in: the secrets are wrong.
func loginCalls(a *authority.Authority) []call {
	sum := sha256.Sum256([]byte("verifier"))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	ask := url.Values{"client_id": {"sigstore"}, "response_type": {"code"}, "scope": {"openid email"}, "state": {"s"}, "nonce": {"n"},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"}, "redirect_uri": {"http://127.0.0.1:1/back"}}
	const form = "Content-Type: application/x-www-form-urlencoded"
	rehearsal, _ := a.Rehearsal()
	return []call{
		{"GET", "/.well-known/openid-configuration", "", "", "", 200},
		{"GET", "/oauth2/keys", "", "", "", 200},
		{"GET", "/oauth2/auth", ask.Encode(), "", "", 200},
		{"POST", "/oauth2/auth", "", form, "request=x&email=alice%40example.com&secret=x", 403},
		{"POST", "/oauth2/token", "", form, url.Values{"grant_type": {"authorization_code"}, "client_id": {"sigstore"}, "code": {"x"},
			"redirect_uri": {"http://127.0.0.1:1/back"}, "code_verifier": {strings.Repeat("v", 43)}}.Encode(), 400},
		{"POST", "/oauth2/device/code", "", form, url.Values{"client_id": {"sigstore"}, "scope": {"openid"},
			"code_challenge": {challenge}, "code_challenge_method": {"S256"}}.Encode(), 200},
		{"POST", "/oauth2/token", "", form, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {"sigstore"},
			"device_code": {"x"}, "code_verifier": {strings.Repeat("v", 43)}}.Encode(), 400},
		{"GET", "/oauth2/device", "user_code=BCDF-GHJK", "", "", 200},
		{"POST", "/oauth2/device", "", form, "request=x&user_code=BCDF-GHJK&email=alice%40example.com&secret=x", 403},
		{"GET", "/rehearse/github/token", "api-version=2.0&audience=sigstore", "Authorization: Bearer " + rehearsal.Token, "", 200},
	}
}

// imageCalls are those of the registry.
func imageCalls() []call {
	const blob, image = "a layer", "application/vnd.oci.image.manifest.v1+json"
	digest := string(evidence.SHA256([]byte(blob)))
	m := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"x/y","digest":%q,"size":%d},"layers":[],"subject":{"mediaType":"x/y","digest":%[2]q,"size":7}}`, image, digest, len(blob))
	return []call{
		{"GET", "/v2/", "", "", "", 200},
		{"GET", "/v2/_catalog", "n=1", "", "", 200},
		{"GET", "/v2/_token", "service=x&scope=repository:app:pull", "", "", 404},
		{"POST", "/v2/app/blobs/uploads/", "", "", "", 202},
		{"POST", "/v2/app/blobs/uploads/", "digest=" + digest, "", blob, 201},
		{"POST", "/v2/app/blobs/uploads/", "mount=" + digest + "&from=app", "", "", 201},
		{"PATCH", "/v2/app/blobs/uploads/0", "", "Content-Range: 0-6", blob, 404},
		{"PUT", "/v2/app/blobs/uploads/0", "digest=" + digest, "", blob, 404},
		{"GET", "/v2/app/blobs/" + digest, "", "Range: bytes=0-1", "", 206},
		{"PUT", "/v2/app/manifests/v1", "", "Content-Type: " + image, m, 201},
		{"GET", "/v2/app/manifests/v1", "", "Accept: " + image, "", 200},
		{"GET", "/v2/app/referrers/" + digest, "artifactType=x/y", "", "", 200},
		{"GET", "/v2/app/tags/list", "n=1&last=a", "", "", 200},
		{"DELETE", "/v2/app/manifests/v1", "", "", "", 202},
		{"DELETE", "/v2/app/blobs/" + digest, "", "", "", 202},
	}
}

// fuzzed is an authority that offers everything.
func fuzzed(t testing.TB) *authority.Authority {
	t.Helper()
	claims := map[string]any{"sub": "repo:o/r:ref:refs/heads/main"}
	for _, name := range []string{"actor", "actor_id", "base_ref", "event_name", "head_ref", "job_workflow_ref", "job_workflow_sha", "ref", "ref_type",
		"repository", "repository_id", "repository_owner", "repository_owner_id", "repository_visibility", "workflow", "workflow_ref", "workflow_sha",
		"runner_environment", "run_id", "run_attempt", "sha"} {
		claims[name] = "x"
	}
	data, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	a, err := authority.Open(authority.Config{Dir: filepath.Join(t.TempDir(), "data"), Listen: "127.0.0.1:0", RehearseClaims: data})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// TestEveryEndpointIsCalled: what the fuzzer starts from are requests that work, at
// least one for each pattern that the sources of the services register.
func TestEveryEndpointIsCalled(t *testing.T) {
	t.Parallel()
	a := fuzzed(t)
	var called []string
	for _, c := range calls(t, a) {
		w, pattern := c.send(a)
		if w.Code != c.want {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, w.Code, w.Body, c.want)
		}
		called = append(called, pattern, c.path)
	}
	registered := patterns(t)
	if len(registered) < 30 {
		t.Errorf("only %d patterns were found in the sources", len(registered))
	}
	for _, p := range registered {
		if !slices.ContainsFunc(called, func(c string) bool { return p.MatchString(c) }) {
			t.Errorf("no call of the fuzzer is for the endpoint %s", p)
		}
	}
}

// patterns are all that the services register in a ServeMux, as regular expressions:
// what is only known when they run is anything.
func patterns(t *testing.T) []*regexp.Regexp {
	t.Helper()
	var all []*regexp.Regexp
	for _, dir := range []string{".", "ca", "monitor", "oidc", "rekorv1", "tlog"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		constants, found := map[string]string{}, []ast.Expr{}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.ValueSpec:
					for i, name := range n.Names {
						if i < len(n.Values) {
							constants[name.Name] = literal(n.Values[i])
						}
					}
				case *ast.CallExpr:
					name := ""
					switch f := n.Fun.(type) {
					case *ast.Ident:
						name = f.Name
					case *ast.SelectorExpr:
						name = f.Sel.Name
					}
					if len(n.Args) == 2 && slices.Contains([]string{"Handle", "HandleFunc", "handle"}, name) {
						found = append(found, n.Args[0])
					}
					if len(n.Args) > 2 && name == "handle" { // wire.go: what is below the paths of a service
						found = append(found, n.Args[2:]...)
					}
				case *ast.KeyValueExpr: // the CA's table
					if strings.HasPrefix(literal(n.Key), "/api/") {
						found = append(found, n.Key)
					}
				}
				return true
			})
		}
		for _, e := range found {
			p := expression(e, constants)
			if p == ".+" {
				continue
			}
			if !strings.HasSuffix(p, "/") { // else a service with a mux of its own may be behind it
				p += "$"
			}
			all = append(all, regexp.MustCompile("^"+p))
		}
	}
	return all
}

func literal(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		text, _ := strconv.Unquote(lit.Value)
		return text
	}
	return ""
}

func expression(e ast.Expr, constants map[string]string) string {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return expression(e.X, constants) + expression(e.Y, constants)
	case *ast.Ident:
		return cmp.Or(regexp.QuoteMeta(constants[e.Name]), ".+")
	}
	return cmp.Or(regexp.QuoteMeta(literal(e)), ".+")
}

// FuzzAuthority sends the whole authority anything: nothing panics or fails, nothing
// takes long or much memory for what was sent, and the logs grow by the entry that
// they acknowledge, or not at all.
func FuzzAuthority(f *testing.F) {
	a := fuzzed(f)
	for _, c := range calls(f, a) {
		f.Add(c.method, c.path, c.query, c.header, c.body)
	}
	outside := filepath.Dir(a.Info().Dir)
	f.Fuzz(func(t *testing.T, method, path, query, header, body string) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		sizes, began := a.Sizes(), time.Now()
		w, _ := call{method, path, query, header, body, 0}.send(a)
		if w == nil {
			return
		}
		runtime.ReadMemStats(&after)
		if took := time.Since(began); took > 20*time.Second { // on a machine with much else to do
			t.Errorf("%s %q took %v", method, path, took)
		}
		// What stays small when the request is: a tile, a page, a list of names.
		if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20+64*uint64(len(body)) {
			t.Errorf("%s %q used %d bytes of memory for a body of %d", method, path, used, len(body))
		}
		if w.Code >= 500 && w.Code != http.StatusNotImplemented || w.Code < 200 {
			t.Errorf("%s %q: %d %s", method, path, w.Code, w.Body)
		}
		now := a.Sizes()
		grown := now[0] + now[1] - sizes[0] - sizes[1]
		if grown != 0 && (w.Code != http.StatusCreated || grown != 1 || !strings.HasSuffix(path, "/log/entries")) || now[0] < sizes[0] || now[1] < sizes[1] {
			t.Errorf("%s %q: %d, and the logs went from %v to %v", method, path, w.Code, sizes, now)
		}
		if files, err := os.ReadDir(outside); err != nil || len(files) != 1 {
			t.Errorf("%s %q wrote outside of its folder: %v, %v", method, path, files, err)
		}
	})
}
