package authority_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// killsEnv is how many times TestKill kills an authority, each time after up to
// 1,000 acknowledged acts. Without it a few times, after up to 60.
const killsEnv = "HALLMARK_TEST_KILLS"

// TestKill kills an authority at random points, while it starts, too, and while
// clients of all its services work. After each restart everything that was
// acknowledged is there, with a proof under a checkpoint that extends every one that
// was seen before; signatures verify under the trust root that TUF hands out; and
// nothing of what was pushed is served in part.
func TestKill(t *testing.T) {
	t.Parallel()
	kills, acts := 4, 60
	if n, err := strconv.Atoi(os.Getenv(killsEnv)); err == nil {
		kills, acts = n, 1000
	}
	a := newAuditor(t)
	began := time.Now()
	for round := range kills {
		url, kill := child(t, a.dir)
		a.audit(url, false)
		a.run(url, fmt.Sprint(round), 1+rand.IntN(acts), kill)
		for rand.IntN(3) == 0 {
			a.killStarting()
		}
	}
	url, _ := child(t, a.dir)
	a.audit(url, true)
	if a.acts.Load() < int64(2*kills) || a.v1.count() == 0 || a.v2.count() == 0 || len(a.bundles) == 0 || len(a.pushed) == 0 {
		t.Errorf("too little was acknowledged: %d acts", a.acts.Load())
	}
	t.Logf("%d kills (%d of them while starting) after %d acts in %v: %d entries, %d for older clients, %d keyless signatures, %d blobs and manifests",
		kills+a.starting, a.starting, a.acts.Load(), time.Since(began).Round(time.Second), a.v2.count(), a.v1.count(), len(a.bundles), len(a.pushed))
}

// auditor is a client of an authority that forgets nothing.
type auditor struct {
	t   *testing.T
	dir string // of the authority

	clock func() time.Time       // of its own; nil is time.Now
	mint  func() (string, error) // an identity token
	most  int                    // how often a blob's text is repeated at most

	v2, v1   *watchedLog
	front    *httptest.Server // an address that stays, for the TUF client
	now      atomic.Pointer[url.URL]
	tuf      trust.TUF
	acts     atomic.Int64 // acknowledged
	starting int          // kills in the middle of a start

	mu      sync.Mutex
	pushed  []*pushed
	checked int // of pushed
	bundles []signedContent
	judged  int // of bundles
}

// pushed is a blob or manifest that was sent; what was not acknowledged may be
// there as a whole, or not at all.
type pushed struct {
	path, body   string
	acknowledged atomic.Bool
}

// signedContent is a keyless signature that somebody holds.
type signedContent struct{ content, bundle []byte }

func newAuditor(t *testing.T) *auditor {
	a := &auditor{t: t, dir: filepath.Join(t.TempDir(), "data"), most: 20_000}
	a.mint = func() (string, error) {
		token, err := authority.Mint(a.dir, "alice@example.com")
		return token.Raw, err
	}
	a.front = httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(a.now.Load()) }})
	t.Cleanup(a.front.Close)
	return a
}

// meet begins to watch what answers at url.
func (a *auditor) meet(base string) {
	a.t.Helper()
	ctx := context.Background()
	rootJSON, err := get(base + "/tuf/1.root.json")
	if err != nil {
		a.t.Fatal(err)
	}
	a.tuf = trust.TUF{Mirror: a.front.URL + "/tuf", Root: rootJSON, CacheDir: a.t.TempDir()}
	root := a.root(ctx)
	for prefix, log := range map[string]**watchedLog{"/api/v2": &a.v2, "/api/v1": &a.v1} {
		if *log, err = watchLog(base, prefix, root); err != nil {
			a.t.Fatal(err)
		}
	}
}

// root updates TUF, which refuses versions older than it has seen.
func (a *auditor) root(ctx context.Context) *trust.Root {
	a.t.Helper()
	targets, err := a.tuf.Targets(ctx, "trusted_root.json")
	if err != nil {
		a.t.Fatalf("TUF: %v", err)
	}
	root, err := trust.ParseTrustedRoot(targets["trusted_root.json"])
	if err != nil {
		a.t.Fatal(err)
	}
	return root
}

// audit holds an authority to everything that it ever said; of what was found
// before, without everything, only to some.
func (a *auditor) audit(base string, everything bool) {
	a.t.Helper()
	ctx := context.Background()
	u, err := url.Parse(base)
	if err != nil {
		a.t.Fatal(err)
	}
	a.now.Store(u)
	if a.v2 == nil {
		a.meet(base)
	}
	root := a.root(ctx)
	a.v2.audit(a.t, base, everything)
	a.v1.audit(a.t, base, everything)
	a.auditBundles(root, everything)
	a.auditPushed(base, everything)
}

func (a *auditor) auditBundles(root *trust.Root, everything bool) {
	a.t.Helper()
	v, err := verify.New(verify.Config{Roots: []*trust.Root{root}})
	if err != nil {
		a.t.Fatal(err)
	}
	first := max(0, a.judged-10)
	if everything {
		first = 0
	}
	for _, s := range a.bundles[first:] {
		claim, err := bundle.Parse(s.bundle)
		if err != nil {
			a.t.Fatal(err)
		}
		artifact, err := verify.HashFile(bytes.NewReader(s.content))
		if err != nil {
			a.t.Fatal(err)
		}
		if ok, reasons := v.Claim(claim, artifact); ok == nil {
			a.t.Fatalf("a signature that was made does not verify: %v", reasons)
		}
	}
	a.judged = len(a.bundles)
}

func (a *auditor) auditPushed(base string, everything bool) {
	a.t.Helper()
	first := max(0, a.checked-20)
	if everything {
		first = 0
	}
	for _, p := range a.pushed[first:] {
		resp, err := http.Get(base + p.path)
		if err != nil {
			a.t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		whole := resp.StatusCode == http.StatusOK && string(got) == p.body
		if err != nil || !whole && (p.acknowledged.Load() || resp.StatusCode != http.StatusNotFound) {
			a.t.Fatalf("%s: %s, %d of %d bytes, %v; acknowledged: %v", p.path, resp.Status, len(got), len(p.body), err, p.acknowledged.Load())
		}
	}
	a.checked = len(a.pushed)
}

// run has clients work until n more acts are acknowledged, and a moment longer; then
// it kills, in the midst of more.
func (a *auditor) run(base, round string, n int, kill func()) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	want := a.acts.Load() + int64(n)
	var workers sync.WaitGroup
	for w := range 4 {
		workers.Go(func() { a.work(client, base, fmt.Sprintf("%s.%d", round, w), w) })
	}
	ended := make(chan struct{})
	go func() { workers.Wait(); close(ended) }()
	for alive := true; alive && a.acts.Load() < want; {
		select {
		case <-ended:
			alive = false
			a.t.Errorf("nothing is acknowledged any more: %d of %d acts", n-int(want-a.acts.Load()), n)
		case <-time.After(time.Millisecond):
		}
	}
	time.Sleep(time.Duration(rand.IntN(4000)) * time.Microsecond)
	kill()
	<-ended
	client.CloseIdleConnections()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// work does one thing after another until the authority is gone.
func (a *auditor) work(client *http.Client, base, who string, first int) {
	for n := first; ; n++ {
		if err := a.act(client, base, fmt.Sprintf("%s %d", who, n), n); err != nil {
			// Only to be gone is all right.
			if text := err.Error(); strings.Contains(text, "FORK") || strings.Contains(text, " 500 ") || strings.Contains(text, "HTTP 500") {
				a.t.Error(err)
			}
			return
		}
		a.acts.Add(1)
	}
}

// kinds is how many kinds of acts there are.
const kinds = 4

// act does one thing, of a kind that n chooses.
func (a *auditor) act(client *http.Client, base, name string, n int) error {
	switch n % kinds {
	case 0:
		return a.push(client, base, name)
	case 1:
		return a.sign(client, base, name)
	case 2:
		return a.log(a.v1, a.v1.addV1, base, entryV1(a.t, name))
	}
	return a.log(a.v2, a.v2.addV2, base, entry(a.t, name))
}

func (a *auditor) log(w *watchedLog, add func(url, body string) (*loggedEntry, error), base, body string) error {
	e, err := add(base, body)
	if err != nil {
		return err
	}
	w.keep(e)
	return nil
}

// sign makes a keyless signature with a certificate of its own, a timestamp and an
// entry, as users do.
func (a *auditor) sign(client *http.Client, base, name string) error {
	raw, err := a.mint()
	if err != nil {
		return err
	}
	token, err := idtoken.Parse(raw)
	if err != nil {
		return err
	}
	signer, err := sign.New(sign.Config{Token: token, Now: a.clock, Services: sign.Services{CA: base, Logs: sign.One(base),
		TSAs: sign.One(base + "/api/v1/timestamp"), Patience: time.Nanosecond, HTTPClient: client}})
	if err != nil {
		return err
	}
	_, data, err := signer.Blob(context.Background(), strings.NewReader(name))
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bundles = append(a.bundles, signedContent{[]byte(name), data})
	return nil
}

// push uploads a blob of a random size in two pieces, and a manifest that names it.
func (a *auditor) push(client *http.Client, base, name string) error {
	do := func(method, path, contentType, body string, want int) (location string, err error) {
		req, err := http.NewRequest(method, base+path, strings.NewReader(body))
		if err != nil {
			return "", err
		}
		req.Header.Set("Content-Type", contentType)
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != want {
			err = fmt.Errorf("%s %s: %s %s", method, path, resp.Status, answer)
		}
		return strings.TrimPrefix(resp.Header.Get("Location"), base), err
	}
	blob := name + strings.Repeat(" and more", rand.IntN(a.most))
	digest := evidence.SHA256([]byte(blob))
	sent := a.sends("/v2/app/blobs/"+string(digest), blob)
	at, err := do("POST", "/v2/app/blobs/uploads/", "", "", http.StatusAccepted)
	if err != nil {
		return err
	}
	if at, err = do("PATCH", at, "application/octet-stream", blob[:len(blob)/2], http.StatusAccepted); err != nil {
		return err
	}
	if _, err := do("PUT", at+"?digest="+string(digest), "application/octet-stream", blob[len(blob)/2:], http.StatusCreated); err != nil {
		return err
	}
	sent.acknowledged.Store(true)
	m := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"x/y","digest":%q,"size":%d},"layers":[]}`,
		digest, len(blob))
	path := "/v2/app/manifests/" + string(evidence.SHA256([]byte(m)))
	sent = a.sends(path, m)
	if _, err := do("PUT", path, "application/vnd.oci.image.manifest.v1+json", m, http.StatusCreated); err != nil {
		return err
	}
	sent.acknowledged.Store(true)
	return nil
}

func (a *auditor) sends(path, body string) *pushed {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := &pushed{path: path, body: body}
	a.pushed = append(a.pushed, p)
	return p
}

// killStarting kills an authority somewhere in the middle of its start.
func (a *auditor) killStarting() {
	a.starting++
	self, err := os.Executable()
	if err != nil {
		a.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), crashEnv+"="+a.dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		a.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	timer := time.AfterFunc(time.Duration(rand.IntN(60_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "http") {
		a.t.Errorf("an authority that was killed before does not start: %s", line)
	}
	timer.Stop()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}
