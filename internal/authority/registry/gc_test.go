package registry_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// aging is a registry whose clock can be moved on, so that all that was pushed is old.
type aging struct {
	*client
	ahead atomic.Int64
}

func newAging(t testing.TB) *aging {
	t.Helper()
	a := &aging{}
	a.client = start(t, t.TempDir(), registry.Config{Now: func() time.Time { return time.Now().Add(time.Duration(a.ahead.Load())) }})
	return a
}

func (a *aging) pass(d time.Duration) { a.ahead.Add(int64(d)) }

func (a *aging) collect(how registry.Schedule, dryRun bool) registry.Collected {
	a.t.Helper()
	got, err := a.srv.Collect(context.Background(), how, dryRun)
	if err != nil {
		a.t.Fatal(err)
	}
	return got
}

// refers makes a manifest with a subject and a blob of its own.
func (a *aging) refers(repo, note, subject string) (string, evidence.Digest) {
	a.t.Helper()
	a.pushBlob(repo, "{}")
	a.pushBlob(repo, note)
	m := manifest(note, `,"subject":`+desc(ociManifest, subject))
	d := evidence.SHA256([]byte(m))
	a.want(a.do("PUT", "/v2/"+repo+"/manifests/"+string(d), ociManifest, m), 201, "")
	return m, d
}

func (a *aging) there(repo, what string, d evidence.Digest) bool {
	a.t.Helper()
	// GET: whoever asks with HEAD keeps a blob from being collected.
	return a.do("GET", "/v2/"+repo+"/"+what+"/"+string(d), "", "").status == 200
}

var aDay = registry.Schedule{Grace: registry.DefaultGrace}

func TestCollect(t *testing.T) {
	t.Parallel()
	a := newAging(t)
	image, d := a.pushImage("app", "v1", "layer")
	signature, sd := a.refers("app", "signature", image)
	_, cd := a.refers("app", "countersignature", signature)
	_, away := a.refers("app", "signature of elsewhere", "an image of another registry")
	orphan := a.pushBlob("app", "nobody names this")
	untagged, ud := a.pushImage("app", string(evidence.SHA256([]byte(a.image("app", "untagged layer")))), "untagged layer")
	_, usd := a.refers("app", "signature of the untagged", untagged)

	if got := a.collect(aDay, false); len(got.Repositories) != 0 {
		t.Errorf("what is young was collected: %+v", got)
	}
	a.pass(25 * time.Hour)
	dry := a.collect(aDay, true)
	want := registry.Collected{Blobs: 1, Bytes: 17, Repositories: []registry.CollectedRepository{{Name: "app", Blobs: []evidence.Digest{orphan}, Bytes: 17}}}
	if diff := cmp.Diff(want, dry); diff != "" {
		t.Error(diff)
	}
	if !a.there("app", "blobs", orphan) {
		t.Error("a dry run removed something")
	}
	if diff := cmp.Diff(want, a.collect(aDay, false)); diff != "" {
		t.Error(diff)
	}
	if a.there("app", "blobs", orphan) {
		t.Error("the orphan is still there")
	}
	for _, m := range []evidence.Digest{d, sd, cd, away, ud, usd} {
		if !a.there("app", "manifests", m) {
			t.Errorf("%s is gone", m)
		}
	}
	// The image goes; what refers to it, and what refers to that, goes with it.
	a.want(a.do("DELETE", "/v2/app/manifests/"+string(d), "", ""), 202, "")
	a.pass(25 * time.Hour)
	got := a.collect(aDay, false)
	if diff := cmp.Diff([]evidence.Digest{cd, sd}, got.Repositories[0].Manifests); diff != "" {
		t.Errorf("the referrers, the last first:\n%s", diff)
	}
	if got.Blobs != 3 { // layer, signature, countersignature; the config is used elsewhere
		t.Errorf("%+v", got)
	}
	for m, want := range map[evidence.Digest]bool{sd: false, cd: false, away: true, ud: true, usd: true} {
		if a.there("app", "manifests", m) != want {
			t.Errorf("%s: there is not %v", m, want)
		}
	}
	// Tags alone hold what is kept, if that is wished.
	got = a.collect(registry.Schedule{Grace: registry.DefaultGrace, Untagged: true}, false)
	if diff := cmp.Diff([]evidence.Digest{usd, ud}, got.Repositories[0].Manifests); diff != "" {
		t.Error(diff)
	}
	if !a.there("app", "manifests", away) {
		t.Error("a signature of an image of elsewhere is gone")
	}
	if got := a.collect(aDay, false); len(got.Repositories) != 0 {
		t.Errorf("a second time: %+v", got)
	}
}

// What a tag holds through an index is kept to the last blob.
func TestCollectKeepsIndexes(t *testing.T) {
	t.Parallel()
	a := newAging(t)
	image := a.image("app", "layer")
	d := evidence.SHA256([]byte(image))
	a.want(a.do("PUT", "/v2/app/manifests/"+string(d), ociManifest, image), 201, "")
	index := func(child, mediaType string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, ociIndex, desc(mediaType, child))
	}
	inner := index(image, ociManifest)
	outer := index(inner, ociIndex)
	a.want(a.do("PUT", "/v2/app/manifests/"+string(evidence.SHA256([]byte(inner))), ociIndex, inner), 201, "")
	a.want(a.do("PUT", "/v2/app/manifests/v1", ociIndex, outer), 201, "")
	_, sd := a.refers("app", "signature", image)
	// An index of blobs, as BuildKit's cache is.
	cache := a.pushBlob("app", "cached layer")
	a.want(a.do("PUT", "/v2/app/manifests/cache", ociIndex, index("cached layer", "application/vnd.oci.image.layer.v1.tar")), 201, "")
	a.pass(25 * time.Hour)
	how := registry.Schedule{Grace: registry.DefaultGrace, Untagged: true}
	if got := a.collect(how, false); len(got.Repositories) != 0 {
		t.Errorf("%+v", got)
	}
	if !a.there("app", "blobs", cache) || !a.there("app", "manifests", sd) {
		t.Error("something that a tag holds is gone")
	}
	a.want(a.do("DELETE", "/v2/app/manifests/v1", "", ""), 202, "")
	a.pass(25 * time.Hour)
	got := a.collect(how, false)
	var order []evidence.Digest
	for _, m := range []string{outer, inner} {
		order = append(order, evidence.SHA256([]byte(m)))
	}
	removed := got.Repositories[0].Manifests
	if len(removed) != 4 || slices.Index(removed, order[0]) > slices.Index(removed, order[1]) || slices.Index(removed, order[1]) > slices.Index(removed, d) {
		t.Errorf("removed %v, want indexes before what they name", removed)
	}
}

// A push that is under way finds what it has looked for or pushed.
func TestCollectBesideAPush(t *testing.T) {
	t.Parallel()
	a := newAging(t)
	old := a.pushBlob("app", "layer")
	a.pushBlob("app", "{}")
	a.pass(25 * time.Hour)
	a.want(a.do("HEAD", "/v2/app/blobs/"+string(old), "", ""), 200, "") // "I need not push it"
	a.want(a.do("HEAD", "/v2/app/blobs/"+string(evidence.SHA256([]byte("{}"))), "", ""), 200, "")
	if got := a.collect(aDay, false); len(got.Repositories) != 0 {
		t.Errorf("%+v", got)
	}
	a.want(a.do("PUT", "/v2/app/manifests/v1", ociManifest, manifest("layer", "")), 201, "")
}

// A repository in which something cannot be read is left alone, and named.
func TestCollectLeavesDamageAlone(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"_tags/v1", "_manifests/sha256/*"} {
		a := newAging(t)
		a.pushImage("app", "v1", "layer")
		orphan := a.pushBlob("app", "orphan")
		a.pushBlob("other", "orphan of another")
		found, _ := filepath.Glob(filepath.Join(a.dir, "repos", "app", file))
		if len(found) != 1 {
			t.Fatal(found)
		}
		if err := os.WriteFile(found[0], []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
		a.pass(25 * time.Hour)
		got := a.collect(aDay, false)
		if len(got.Repositories) != 2 || !strings.Contains(got.Repositories[0].Problem, found[0]) || got.Blobs != 1 || got.Repositories[1].Name != "other" {
			t.Errorf("%s: %+v", file, got)
		}
		if !a.there("app", "blobs", orphan) {
			t.Error("something was removed")
		}
	}
}

// A dry run beside the server writes nothing, and a mounted blob frees nothing.
func TestGarbageIsOnlyToldOf(t *testing.T) {
	t.Parallel()
	a := newAging(t)
	d := a.pushBlob("app", "mounted")
	a.want(a.do("POST", "/v2/second/blobs/uploads/?mount="+string(d)+"&from=app", "", ""), 201, "")
	if _, err := registry.Garbage(context.Background(), a.dir, registry.Schedule{}); err == nil {
		t.Error("a grace time of nothing was taken")
	}
	if got, err := registry.Garbage(context.Background(), a.dir, aDay); err != nil || len(got.Repositories) != 0 {
		t.Errorf("young: %+v, %v", got, err)
	}
	a.pass(25 * time.Hour)
	got := a.collect(aDay, false)
	if got.Blobs != 2 || got.Bytes != int64(len("mounted")) {
		t.Errorf("%+v", got)
	}
}

// TestCollectUnderFire: pushes, tags and deletions go on while garbage is
// collected again and again with nothing young: no image that was acknowledged and
// not deleted ever lacks a part.
func TestCollectUnderFire(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// The clock runs 25 hours ahead of the files: all of them are old. What
	// clients were told stays young, as it is in the clock's own time.
	c := start(t, dir, registry.Config{Now: func() time.Time { return time.Now().Add(25 * time.Hour) }})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var pushers, collectors sync.WaitGroup
	collectors.Go(func() {
		for ctx.Err() == nil {
			if _, err := c.srv.Collect(ctx, registry.Schedule{Grace: registry.DefaultGrace, Untagged: true}, false); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	do := func(method, path, contentType, body string) int {
		req, err := http.NewRequest(method, c.url+path, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0
		}
		req.Header.Set("Content-Type", contentType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return 0
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	for w := range 4 {
		pushers.Go(func() {
			for i := range 25 {
				layer := fmt.Sprintf("layer %d of %d", i, w%2) // two push the same
				tag := fmt.Sprintf("/v2/app/manifests/t%d", w)
				for _, b := range []string{"{}", layer} {
					if s := do("POST", "/v2/app/blobs/uploads/?digest="+string(evidence.SHA256([]byte(b))), "", b); s != 201 {
						t.Errorf("blob: %d", s)
					}
				}
				m := manifest(layer, "")
				if s := do("PUT", tag, ociManifest, m); s != 201 {
					t.Errorf("manifest: %d", s)
					return
				}
				sig := manifest(layer, `,"subject":`+desc(ociManifest, m))
				sd := string(evidence.SHA256([]byte(sig)))
				if s := do("PUT", "/v2/app/manifests/"+sd, ociManifest, sig); s != 201 {
					t.Errorf("signature: %d", s)
				}
				for _, path := range []string{tag, "/v2/app/manifests/" + sd, "/v2/app/blobs/" + string(evidence.SHA256([]byte(layer)))} {
					if s := do("GET", path, "", ""); s != 200 {
						t.Errorf("%s: %d", path, s)
					}
				}
				if i%5 == 4 {
					do("DELETE", tag, "", "")
				}
			}
		})
	}
	pushers.Wait()
	cancel()
	collectors.Wait()
	if t.Failed() {
		t.Log(c.log)
	}
}

// The server collects by itself as its rules say, until it ends.
func TestRunCollects(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := rules(t, "rights: [{repositories: [\"**\"], principals: [anyone], actions: [pull, push]}]\ngc: {every: 2h, grace: 1h}\n")
	synctest.Test(t, func(t *testing.T) {
		// The bubble's clock begins long before the files' own; this one is long after.
		s, err := registry.Open(dir, registry.Config{Rules: r, Now: func() time.Time { return time.Now().AddDate(100, 0, 0) }})
		if err != nil {
			t.Fatal(err)
		}
		send := func(method, path, body string) int {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
			return w.Code
		}
		d := string(evidence.SHA256([]byte("orphan")))
		if code := send("POST", "/v2/app/blobs/uploads/?digest="+d, "orphan"); code != 201 {
			t.Fatal(code)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.Run(ctx)
		time.Sleep(time.Hour)
		synctest.Wait()
		if code := send("GET", "/v2/app/blobs/"+d, ""); code != 200 {
			t.Errorf("after an hour: %d", code)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if code := send("GET", "/v2/app/blobs/"+d, ""); code != 404 {
			t.Errorf("after three hours: %d", code)
		}
	})
}

// Nothing is collected while the folder is copied.
func TestCollectWaitsForBackups(t *testing.T) {
	t.Parallel()
	a := newAging(t)
	orphan := a.pushBlob("app", "orphan")
	a.pass(25 * time.Hour)
	release, err := registry.Hold(a.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.srv.Collect(context.Background(), aDay, false); err == nil || !strings.Contains(err.Error(), "backed up") {
		t.Errorf("beside a backup: %v", err)
	}
	second, err := registry.Hold(a.dir)
	if err != nil {
		t.Fatal("two backups at a time:", err)
	}
	second()
	if a.collect(aDay, true).Blobs != 1 || !a.there("app", "blobs", orphan) {
		t.Error("something was removed")
	}
	release()
	if a.collect(aDay, false).Blobs != 1 {
		t.Error("nothing was collected afterwards")
	}
}

// TestHoldEndsBesideAChild: a process that is being started has copies of our files
// until it runs, and with them what they lock.
func TestHoldEndsBesideAChild(t *testing.T) {
	t.Parallel()
	a := newAging(t)
	a.pushBlob("app", "orphan")
	release, err := registry.Hold(a.dir)
	if err != nil {
		t.Fatal(err)
	}
	var copies []int
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range fds {
		if at, err := os.Readlink("/proc/self/fd/" + e.Name()); err != nil || at != filepath.Join(a.dir, "repos") {
			continue
		}
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, fd)
	}
	if len(copies) == 0 {
		t.Fatal("the test tests nothing")
	}
	release()
	if _, err := a.srv.Collect(context.Background(), aDay, false); err != nil {
		t.Error(err)
	}
	for _, fd := range copies {
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	}
}
