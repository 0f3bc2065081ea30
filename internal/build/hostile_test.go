package build_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/daemon"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sourcefacts"
)

// A checkout is judged by the tag's signature, with the key beside the policy. The key
// of a stranger, a lightweight tag and a missing key file deny, each with its sentence.
func TestGitTagPolicy(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	remote := gitrepo.New(t, "sha1")
	remote.Write("file", "released\n")
	key, stranger := gitrepo.NewKey(t, "ed25519", 0), gitrepo.NewKey(t, "ed25519", 0)
	commit := remote.Commit("release")
	remote.SignTag(key, "v1.0.0", commit)
	remote.SignTag(stranger, "v1.0.1", commit)
	remote.Git("tag", "v1.0.2", commit)
	url := gitServer(t, remote)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "release.pub"), []byte(key.Public+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const rego = `decision := {"allow": count(deny) == 0, "deny_msg": deny}
deny contains sprintf("%s is not signed by us", [input.git.ref]) if { input.git; not signed }
signed if verify_git_signature(input.git.tag, data.docker.key)
`
	for _, c := range []struct{ name, ref, key, code, say string }{
		{"signed", "#v1.0.0", "release.pub", "", ""},
		{"a stranger", "#v1.0.1", "release.pub", "POLICY_DENIED", "refs/tags/v1.0.1 is not signed by us"},
		{"lightweight", "#v1.0.2", "release.pub", "POLICY_DENIED", "refs/tags/v1.0.2 is not signed by us"},
		{"no such key", "#v1.0.0", "nobody.pub", "POLICY_EVAL", "nobody.pub"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, context_ := source(t, map[string]string{"Dockerfile": "FROM scratch\nADD " + url + c.ref + " /src\n"})
			r := request(t, w, "app/git-"+strings.ReplaceAll(c.name, " ", "-"), context_)
			res, d := try(t, w, judged(t, r, rules(t, "ops.rego", rego+`key := "`+c.key+`"`, folder)))
			if d.Allowed != (c.code == "") || !d.Allowed && (d.Reasons[0].Code != c.code || !strings.Contains(d.Reasons[0].Message, c.say)) {
				t.Fatalf("%v %+v", d.Allowed, d.Reasons)
			}
			if !d.Allowed {
				notPushed(t, w, r)
			} else if s := used(res, ".git"); s == nil || s.UsedAs != remote.Git("rev-parse", "v1.0.0") {
				t.Errorf("the checkout is %+v", s)
			}
		})
	}
}

// All policies must allow, and what the source brings can only forbid more.
func TestSeveralPolicies(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	one := "sha256:" + strings.Repeat("1", 64)
	two := "sha256:" + strings.Repeat("2", 64)
	pin := func(d string) string {
		return `decision := {"allow": true} if not input.image
decision := {"allow": pin_image(input.image, "` + d + `")} if input.image
`
	}
	for _, c := range []struct{ name, operator, source, code, say string }{
		{"the source allows all, the operator denies", `decision := {"allow": not_image, "deny_msg": ["no images"]}
default not_image := false
not_image if not input.image`, allowAll, "POLICY_DENIED", "no images"},
		{"the operator allows all, the source denies", allowAll, `decision := {"allow": false, "deny_msg": ["not today"]}`, "POLICY_DENIED", "not today"},
		{"two pins", pin(one), pin(two), "POLICY_PIN", one + ", " + two},
		{"a pin for each other", `decision := {"allow": true} if not input.image
decision := {"allow": pin_image(input.image, "` + one + `")} if input.image.checksum == "` + two + `"
decision := {"allow": pin_image(input.image, "` + two + `")} if input.image.checksum != "` + two + `"`, allowAll, "POLICY_PIN", "another digest each time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, context_ := source(t, map[string]string{"Dockerfile": "ARG BASE\nFROM ${BASE}\n"})
			r := request(t, w, "app/several-"+evidence.SHA256([]byte(c.name)).Hex()[:8], context_)
			brought := rules(t, "Dockerfile.rego", c.source, "")
			brought.From = build.FromSource
			_, d := try(t, w, judged(t, r, rules(t, "ops.rego", c.operator, ""), brought))
			if d.Allowed || d.Reasons[0].Code != c.code || !strings.Contains(d.Reasons[0].Message, c.say) {
				t.Errorf("%v %+v", d.Allowed, d.Reasons)
			}
			notPushed(t, w, r)
		})
	}
}

// The provenance names the policies that were asked.
func TestPoliciesInProvenance(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	_, context_ := source(t, map[string]string{"Dockerfile": "ARG BASE\nFROM ${BASE}\n"})
	r := request(t, w, "app/recorded", context_)
	ops, brought := rules(t, "ops.rego", allowAll, ""), rules(t, "Dockerfile.rego", allowAll, "")
	brought.From = build.FromSource
	r = judged(t, r, ops, brought)
	res := run(t, w, r)
	p := statement(t, r, res.Attestations[0])
	for _, want := range []string{"hallmark:source-policies", string(ops.Digest()), string(brought.Digest()), `\"from\":\"operator\"`, `\"from\":\"source\"`} {
		if !strings.Contains(p, want) {
			t.Errorf("the provenance does not say %s:\n%.3000s", want, p)
		}
	}
}

// The provenance names what the policies read while they decided, also what they read
// for a source that only the build found. A step runs once all the same.
func TestFilesInProvenance(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	folder := t.TempDir()
	texts := map[string]string{"always.json": `{"a": 1}`, "images.json": `["base"]`, "unread.json": `{}`}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, proxy := range []bool{false, true} { // in both, nothing is taken from an earlier build's cache
		_, context_ := source(t, map[string]string{"Dockerfile": fmt.Sprintf("ARG BASE\nFROM ${BASE}\nRUN echo %v; echo ran $((40+2))\n", proxy)})
		r := request(t, w, fmt.Sprintf("app/files-%v", proxy), context_)
		r.Options.NoCache = !proxy
		var said bytes.Buffer
		r.Progress = build.NewProgress(build.ProgressPlain, &said)
		ops := rules(t, "ops.rego", fmt.Sprintf("decision := {\"allow\": allow, \"caps\": {\"exec.proxy\": %v}}", proxy)+`
default allow := false
always := load_json("always.json")
allow if { always.a == 1; not input.image }
allow if { input.image; some word in load_json("images.json"); contains(input.image.repo, word) }`, folder)
		r = judged(t, r, ops)
		res := run(t, w, r)
		p := statement(t, r, res.Attestations[0])
		for name, text := range texts {
			named := fmt.Sprintf(`{\"name\":\"%s\",\"digest\":\"%s\"}`, name, evidence.SHA256([]byte(text)))
			if strings.Contains(p, named) != (name != "unread.json") {
				t.Errorf("the provenance and %s:\n%.3000s", named, p)
			}
		}
		if n := strings.Count(said.String(), "ran 42"); n != 1 {
			t.Errorf("the step ran %d times:\n%s", n, said.String())
		}
		if used := r.Sources.Used(); len(used) != 1 || len(used[0].Read) != 2 {
			t.Errorf("%+v", used)
		}
	}
}

// A daemon of its own: what hasProvenance, provenance and signatures of an image that
// is no OCI index do to BuildKit 0.33 when it is asked for them ends it.
func TestAttestationsOfAnImage(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	_, context_ := source(t, map[string]string{"Dockerfile": "ARG BASE\nFROM ${BASE}\n"})
	base := request(t, w, "base/attested", context_)
	index := run(t, w, base)
	if err := base.Tag(context.Background(), index); err != nil {
		t.Fatal(err)
	}
	_, next := source(t, map[string]string{"Dockerfile": "ARG BASE\nFROM ${BASE}\n"})
	const rego = `decision := {"allow": count(deny) == 0, "deny_msg": deny}
deny contains "no provenance" if { input.image; not input.image.hasProvenance }
deny contains "another builder" if { input.image.hasProvenance; input.image.provenance.builderID != "` + build.DefaultBuilderID + `" }
deny contains "signed" if count(input.image.signatures) > 0
deny contains "a material from elsewhere" if { some m in input.image.provenance.materials; m.image; m.image.labels.evil }
`
	tools := os.Getenv("HALLMARK_TOOLS")
	if home, err := os.UserHomeDir(); tools == "" && err == nil {
		tools = filepath.Join(home, ".cache/hallmark/tools/bin")
	}
	own, err := daemon.Start(context.Background(), daemon.Config{Tools: tools})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Stop() })
	kit, err := build.Connect(context.Background(), own.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kit.Close() })
	const old = `deny contains "too old" if time.parse_rfc3339_ns(input.image.createdTime) < time.parse_rfc3339_ns("2024-01-01T00:00:00Z")
`
	for _, c := range []struct{ name, base, rego, say string }{
		{"plain", w.base, rego, "no provenance"},
		{"index", base.Image.String(), rego, ""},
		{"created", base.Image.String(), rego + old, "too old"},
	} {
		r := request(t, w, "app/attested-"+c.name, next)
		r.Options.Args["BASE"] = c.base
		r = judged(t, r, rules(t, "ops.rego", c.rego, ""))
		r.Sources.Resolver = sourcefacts.New(sourcefacts.Options{Registry: w.reg})
		_, d, err := build.Run(context.Background(), kit, r)
		if err != nil {
			t.Fatal(err)
		}
		if d.Allowed != (c.say == "") || !d.Allowed && (d.Reasons[0].Code != "POLICY_DENIED" || d.Reasons[0].Message != c.say) {
			t.Errorf("%s: %v %+v", c.name, d.Allowed, d.Reasons)
		}
	}
	if workers, err := kit.ListWorkers(context.Background()); err != nil || len(workers) == 0 {
		t.Errorf("the daemon did not survive: %v", err)
	}
}

// movingRegistry moves a tag to another image after its first resolution.
type movingRegistry struct {
	next  http.Handler
	path  string // of the tag's manifest
	to    string // of the other one
	asked atomic.Int32
}

func (m *movingRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == m.path && m.asked.Add(1) > 1 {
		r.URL.Path = m.to
	}
	m.next.ServeHTTP(w, r)
}

// What was judged is used, wherever the tag or the file points meanwhile.
func TestMovedMeanwhile(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	push(t, w, "base/moves:1", map[string]string{"approved": "yes"})
	_, evil := push(t, w, "base/moves:evil", map[string]string{"approved": "no"})
	moving := &movingRegistry{next: proxyTo(w.host), path: "/v2/base/moves/manifests/1", to: "/v2/base/moves/manifests/evil"}
	srv := httptest.NewServer(moving)
	t.Cleanup(srv.Close)
	var downloads atomic.Int32
	file := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if downloads.Add(1) == 1 {
			fmt.Fprint(rw, "good\n")
			return
		}
		fmt.Fprint(rw, "evil\n")
	}))
	t.Cleanup(file.Close)
	_, context_ := source(t, map[string]string{"Dockerfile": "ARG BASE\nFROM ${BASE}\nADD " + file.URL + "/f /f\n"})
	r := request(t, w, "app/moved", context_)
	r.Options.Args["BASE"] = strings.TrimPrefix(srv.URL, "http://") + "/base/moves:1"
	r = judged(t, r, rules(t, "ops.rego", `decision := {"allow": count(deny) == 0, "deny_msg": deny}
deny contains "not approved" if { input.image; input.image.labels.approved != "yes" }
deny contains "another file" if input.http.checksum != "`+string(evidence.SHA256([]byte("good\n")))+`"`, ""))
	res, d, err := build.Run(context.Background(), w.kit, r)
	switch {
	case err != nil:
		t.Logf("the daemon noticed: %v", err)
	case !d.Allowed:
		t.Logf("denied: %+v", d.Reasons)
	default:
		t.Logf("used what was judged: tag asked for %d times, file downloaded %d times", moving.asked.Load(), downloads.Load())
		if p := statement(t, r, res.Attestations[0]); strings.Contains(p, evil.Hex()) || strings.Contains(p, evidence.SHA256([]byte("evil\n")).Hex()) {
			t.Errorf("what was not judged was used")
		}
	}
}

// A source that redirects is what it leads to: who judges the content is not deceived, also
// when it leads elsewhere only after it was looked at. BuildKit follows redirects of ADD without
// a question, so a policy that names hosts alone lets the content of any host in, which the
// provenance has with its checksum (docs/build-policy.md says to ask for that).
func TestRedirects(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, r.URL.Path+"\n") }))
	t.Cleanup(elsewhere.Close)
	var asked atomic.Int32
	here := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/later" && asked.Add(1) == 1 {
			fmt.Fprint(rw, "/good\n")
			return
		}
		to := map[string]string{"/to-good": "/good", "/later": "/evil", "/to-evil": "/evil", "/round": "http://" + r.Host + "/round"}[r.URL.Path]
		if strings.HasPrefix(to, "/") {
			to = elsewhere.URL + to
		}
		http.Redirect(rw, r, to, http.StatusFound)
	}))
	t.Cleanup(here.Close)
	good, evil := evidence.SHA256([]byte("/good\n")), evidence.SHA256([]byte("/evil\n"))
	content := `deny contains "another file" if { input.http; input.http.checksum != "` + string(good) + `" }`
	for name, c := range map[string]struct {
		path, rego string
		say        string          // why it is denied
		has        evidence.Digest // in the provenance, when it is built
		hasNot     evidence.Digest
	}{
		"the content is judged":              {path: "/to-good", rego: content, has: good},
		"another content":                    {path: "/to-evil", rego: content, say: "another file"},
		"another content, later":             {path: "/later", rego: content, hasNot: evil},
		"round and round":                    {path: "/round", rego: content, say: "not known"},
		"a host is no content":               {path: "/to-evil", rego: `deny contains "elsewhere" if { input.http; not startswith(input.http.url, "` + here.URL + `") }`, has: evil},
		"the host that it leads to, by name": {path: "/to-evil", rego: `deny contains "from here" if startswith(input.http.url, "` + here.URL + `")`, say: "from here"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, context_ := source(t, map[string]string{"Dockerfile": "FROM scratch\nADD " + here.URL + c.path + " /f\n"})
			r := judged(t, request(t, w, "app/redirect-"+strings.Trim(c.path, "/")+fmt.Sprint(len(name)), context_),
				rules(t, "ops.rego", "decision := {\"allow\": count(deny) == 0, \"deny_msg\": deny}\n"+c.rego, ""))
			res, d, err := build.Run(context.Background(), w.kit, r)
			switch {
			case c.say != "" && (d.Allowed || err == nil && !strings.Contains(fmt.Sprint(d.Reasons), c.say)):
				t.Errorf("allowed: %v %+v %v", d.Allowed, d.Reasons, err)
			case c.has != "" && (err != nil || !d.Allowed):
				t.Errorf("%+v %v", d.Reasons, err)
			case err == nil && d.Allowed:
				p := statement(t, r, res.Attestations[0])
				if c.has != "" && !strings.Contains(p, c.has.Hex()) || c.hasNot != "" && strings.Contains(p, c.hasNot.Hex()) {
					t.Errorf("the provenance:\n%.2000s", p)
				}
			}
		})
	}
}

// A pin is what is used, and an image that is not there is not replaced by what the tag names.
func TestPinThatIsNotThere(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	_, context_ := source(t, map[string]string{"Dockerfile": "ARG BASE\nFROM ${BASE}\n"})
	none := "sha256:" + strings.Repeat("0", 64)
	r := judged(t, request(t, w, "app/pinned-to-nothing", context_), rules(t, "ops.rego", `decision := {"allow": true} if not input.image
decision := {"allow": pin_image(input.image, "`+none+`")} if input.image`, ""))
	_, d, err := build.Run(context.Background(), w.kit, r)
	if d.Allowed || err == nil && len(d.Reasons) == 0 || !strings.Contains(fmt.Sprint(err, d.Reasons), none) {
		t.Errorf("%+v %v", d, err)
	}
	if _, err := r.Repo.Resolve(context.Background(), r.Image); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("it was pushed: %v", err)
	}
}

// proxyTo hands requests on to another server.
func proxyTo(host string) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		out, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+host+r.URL.Path, r.Body)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
			return
		}
		out.Header = r.Header.Clone()
		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			rw.Header()[k] = v
		}
		rw.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(rw, resp.Body)
	})
}

// A download is judged by its detached OpenPGP signature: BuildKit hashes the body with
// what the signature appends, so that the body does not come here.
func TestDownloadSignature(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const body = "released\n"
	file := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, body) }))
	t.Cleanup(file.Close)
	folder := t.TempDir()
	config := &packet.Config{Time: func() time.Time { return time.Now().Add(-time.Hour) }}
	write := func(name string, do func(io.Writer) error) {
		f, err := os.Create(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(do(f), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for name, signed := range map[string]string{"good": body, "other": "something else\n"} {
		e, err := openpgp.NewEntity(name, "", name+"@example.org", config)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".asc", func(to io.Writer) error { return openpgp.ArmoredDetachSign(to, e, strings.NewReader(signed), config) })
		write(name+".pub", func(to io.Writer) error {
			a, err := armor.Encode(to, openpgp.PublicKeyType, nil)
			if err != nil {
				return err
			}
			return errors.Join(e.Serialize(a), a.Close())
		})
	}
	for _, c := range []struct{ name, sig, key, code string }{
		{"signed", "good.asc", "good.pub", ""},
		{"signature-of-another-file", "other.asc", "other.pub", "POLICY_DENIED"},
		{"key-of-another", "good.asc", "other.pub", "POLICY_DENIED"},
		{"no-such-signature", "nothing.asc", "good.pub", "POLICY_EVAL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, context_ := source(t, map[string]string{"Dockerfile": "FROM scratch\nADD " + file.URL + "/file /file\n"})
			r := request(t, w, "app/pgp-"+c.name, context_)
			res, d := try(t, w, judged(t, r, rules(t, "ops.rego", `decision := {"allow": true} if not input.http
decision := {"allow": signed} if input.http
default signed := false
signed if verify_http_pgp_signature(input.http, "`+c.sig+`", "`+c.key+`")`, folder)))
			if d.Allowed != (c.code == "") || !d.Allowed && d.Reasons[0].Code != c.code {
				t.Fatalf("%v %+v", d.Allowed, d.Reasons)
			}
			if s := used(res, file.URL); d.Allowed && (s == nil || s.UsedAs != string(evidence.SHA256([]byte(body)))) {
				t.Errorf("the download is %+v", s)
			}
		})
	}
}
