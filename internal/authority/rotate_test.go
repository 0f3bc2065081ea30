package authority_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// folder is every file of a folder with its content.
func folder(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != "lock" {
			out[path[len(dir)+1:]] = string(readFile(t, path))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// made is a folder that an authority ran on, with an entry in each log.
func made(t *testing.T, cfg authority.Config) (dir, v2, v1, idV1 string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	cfg.Dir = dir
	a, end := up(t, cfg)
	v2, v1 = entry(t, "old"), entryV1(t, "old")
	if _, err := logged(a.Info().URL, v2); err != nil {
		t.Fatal(err)
	}
	idV1, _, _ = strings.Cut(first(loggedV1(t, a.Info().URL, v1)), " ")
	end()
	return dir, v2, v1, idV1
}

// first is the first of two, for calls in a call.
func first[T, U any](v T, _ U) T { return v }

func copyFolder(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func rootOf(t *testing.T, dir string) *trust.Root {
	t.Helper()
	root, err := trust.ParseTrustedRoot(readFile(t, filepath.Join(dir, "trusted_root.json")))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// counted is how many keys of each service a trusted root has: CA, TSA, CT, log, log
// for older clients.
func counted(root *trust.Root) [5]int {
	n := [5]int{len(root.CAs), len(root.TSAs), len(root.CTLogs)}
	for _, l := range root.TLogs {
		if _, err := x509Kind(l); err {
			n[4]++
		} else {
			n[3]++
		}
	}
	return n
}

// x509Kind tells the logs apart by the length of their keys: Ed25519 is the short one.
func x509Kind(l trust.LogKey) (int, bool) { return len(l.SPKI), len(l.SPKI) > 60 }

// TestDryRunWritesNothing, and says what the rotation then does, but for the key and
// the time.
func TestDryRunWritesNothing(t *testing.T) {
	t.Parallel()
	dir, _, _, _ := made(t, authority.Config{})
	now := time.Now().UTC().Truncate(time.Second)
	for _, service := range authority.Services() {
		cfg := authority.RotateConfig{Dir: dir, Service: service, Overlap: time.Hour, Now: func() time.Time { return now }}
		before := folder(t, dir)
		cfg.DryRun = true
		planned, err := authority.Rotate(cfg)
		if err != nil {
			t.Fatalf("%s: %v", service, err)
		}
		if diff := cmp.Diff(before, folder(t, dir)); diff != "" {
			t.Fatalf("%s: --dry-run wrote: %s", service, diff)
		}
		cfg.DryRun = false
		done, err := authority.Rotate(cfg)
		if err != nil {
			t.Fatalf("%s: %v", service, err)
		}
		after := folder(t, dir)
		var changed []string
		for name, data := range after {
			if before[name] != data {
				changed = append(changed, name)
			}
		}
		for _, name := range changed {
			if !slices.ContainsFunc(planned.Files, func(f authority.FileChange) bool {
				return (f.Path == name || strings.HasPrefix(name, f.Path+"/")) && (f.What == "made") == (before[name] == "")
			}) {
				t.Errorf("%s: %s was changed, and %v says nothing of it", service, name, planned.Files)
			}
		}
		for _, f := range planned.Files {
			if !slices.ContainsFunc(changed, func(name string) bool { return f.Path == name || strings.HasPrefix(name, f.Path+"/") }) {
				t.Errorf("%s: %s was to be %s and is as it was", service, f.Path, f.What)
			}
		}
		if planned.New != nil {
			if planned.New.Key != "" || done.New.Key == "" {
				t.Errorf("%s: planned %q, made %q", service, planned.New.Key, done.New.Key)
			}
			done.New.Key = ""
		}
		planned.DryRun, done.NewKeys = false, nil
		if diff := cmp.Diff(planned, done); diff != "" {
			t.Errorf("%s: planned (-) and done (+):\n%s", service, diff)
		}
	}
	// A rotation that is under way must end first.
	_, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: "ca", Now: func() time.Time { return now }})
	if err == nil || !strings.Contains(err.Error(), "is being replaced") {
		t.Errorf("twice: %v", err)
	}
}

// TestRotationThatWasKilled: at whichever write a rotation ends, the next start opens
// the folder and what it publishes is whole; the next call makes one new key at most.
func TestRotationThatWasKilled(t *testing.T) {
	t.Parallel()
	whole, v2, _, idV1 := made(t, authority.Config{})
	was, own := counted(rootOf(t, whole)), ownKeys(t, whole)
	for place, service := range authority.Services() {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			for n := 0; ; n++ {
				dir := copyFolder(t, whole)
				at, err := authority.RotateKilled(authority.RotateConfig{Dir: dir, Service: service}, n)
				if at == "" {
					if n < 3 || err != nil {
						t.Fatalf("only %d writes, %v", n, err)
					}
					return
				}
				if err == nil {
					t.Fatalf("write %d, %s: not killed", n, at)
				}
				again, killed := copyFolder(t, dir), ownKeys(t, dir)
				// once holds what TUF and issuer have to at most one rotation, or to one.
				once := func(who, dir string, decided bool) {
					t.Helper()
					got := ownKeys(t, dir)
					for name, key := range got.ids {
						mine := service == "tuf" && name != "issuer" || service == "oidc" && name == "issuer"
						switch before := own.ids[name]; {
						case !mine && key != before, mine && decided && key == before, mine && killed.ids[name] != before && key != killed.ids[name]:
							t.Errorf("%s, killed before %s: the %s key was %s, then %s, and is %s", who, at, name, before, killed.ids[name], key)
						}
					}
					want := own.root
					if service == "tuf" && got.ids["root"] != own.ids["root"] {
						want++
					}
					if got.root != want {
						t.Errorf("%s, killed before %s: the TUF root has version %d, want %d", who, at, got.root, want)
					}
				}

				// The next start takes up what is there.
				a, end := up(t, authority.Config{Dir: dir})
				if _, err := logged(a.Info().URL, v2); err != nil {
					t.Errorf("after %d writes, before %s: %v", n, at, err)
				}
				if id, _, _ := strings.Cut(first(loggedV1(t, a.Info().URL, entryV1(t, "new"))), " "); id == idV1 {
					t.Error("another entry has the id of the first")
				}
				end()
				if c, err := authority.Check(dir); err != nil || len(c.Damage) > 0 {
					t.Errorf("after %d writes, before %s: %+v, %v", n, at, c, err)
				}
				started := counted(rootOf(t, dir))
				if place < 5 && started[order(service)] != was[order(service)] && started[order(service)] != was[order(service)]+1 {
					t.Errorf("before %s: %v keys", at, started)
				}
				once("the next start", dir, n > 0) // the first write is the decision

				// The next call ends it, and does not begin another one.
				if _, err := authority.Rotate(authority.RotateConfig{Dir: again, Service: service}); err != nil {
					t.Fatalf("again, before %s: %v", at, err)
				}
				want := was
				if place < 5 {
					want[order(service)]++
				}
				if got := counted(rootOf(t, again)); got != want {
					t.Errorf("before %s: %v keys, want %v", at, got, want)
				}
				once("the next call", again, true)
				_, end = up(t, authority.Config{Dir: again})
				end()
			}
		})
	}
}

// kept are the keys that TUF and issuer keep themselves, by role, and the root's version.
type kept struct {
	ids  map[string]string
	root int64
}

func ownKeys(t *testing.T, dir string) kept {
	t.Helper()
	versions, _, root, err := tuf.Preview(filepath.Join(dir, "tuf"), nil, nil, false, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	roles, err := tuf.KeyIDs(root)
	if err != nil {
		t.Fatal(err)
	}
	k := kept{ids: map[string]string{}, root: versions.Root}
	for role, ids := range roles {
		k.ids[role] = strings.Join(ids, " ")
	}
	if k.ids["issuer"], err = oidc.KeyID(filepath.Join(dir, "oidc")); err != nil || len(k.ids) != 5 {
		t.Fatal(k.ids, err)
	}
	return k
}

// TestAnotherKeyAfterAKill: a rotation of a log that was interrupted before it was decided is
// begun again with whichever key is named then; a tree with entries is never in the way of that.
func TestAnotherKeyAfterAKill(t *testing.T) {
	t.Parallel()
	whole, v2, _, _ := made(t, authority.Config{})
	for service, algorithm := range map[string]string{"log": "ed25519", "log-v1": "ecdsa-p256"} {
		out := t.TempDir()
		k, err := key.Generate(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(out, "new.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
		ref, err := authority.NewKeyRef(service, "new.key", "", "", out)
		if err != nil {
			t.Fatal(err)
		}
		for _, firstNamed := range []bool{false, true} {
			for n := 0; ; n++ {
				dir := copyFolder(t, whole)
				one := authority.RotateConfig{Dir: dir, Service: service, OpenKey: plain}
				other := one
				if firstNamed {
					one.Key = &ref
				} else {
					other.Key = &ref
				}
				at, err := authority.RotateKilled(one, n)
				if at == "" || err == nil {
					t.Fatalf("%s: killed before %q: %v", service, at, err)
				}
				r, err := authority.Rotate(other)
				if err != nil {
					t.Fatalf("%s, killed before %s: %v", service, at, err)
				}
				if r.Resumed { // it was decided
					break
				}
				if want := key.Fingerprint(k.Public()); (r.New.Key == want) == firstNamed {
					t.Errorf("%s, killed before %s: the new key is %s", service, at, r.New.Key)
				}
				a, end := up(t, authority.Config{Dir: dir, OpenKey: plain})
				if _, err := logged(a.Info().URL, v2); err != nil {
					t.Error(err)
				}
				end()
				if c, err := authority.Check(dir); err != nil || len(c.Damage) > 0 {
					t.Errorf("%s, killed before %s: %+v, %v", service, at, c, err)
				}
			}
		}
		// What has entries was not left by a crash.
		dir := copyFolder(t, whole)
		if err := os.CopyFS(filepath.Join(dir, service+"-2"), os.DirFS(filepath.Join(dir, service))); err != nil {
			t.Fatal(err)
		}
		before := folder(t, filepath.Join(dir, service+"-2"))
		if _, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: service}); !errors.As(err, new(*durable.CorruptError)) {
			t.Errorf("%s: %v", service, err)
		}
		if diff := cmp.Diff(before, folder(t, filepath.Join(dir, service+"-2"))); diff != "" {
			t.Errorf("%s: a tree with entries was changed: %s", service, diff)
		}
	}
}

// order is a service's place in what counted returns.
func order(service string) int {
	return slices.Index([]string{"ca", "tsa", "ct", "log", "log-v1"}, service)
}

// TestOverlap: until the overlap is over the old keys sign, then the new ones do, in
// the middle of a run; the old tree takes entries a little longer, and is read for ever.
func TestOverlap(t *testing.T) {
	t.Parallel()
	var shift atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
	dir, v2, v1, idV1 := made(t, authority.Config{Now: clock})
	for _, service := range []string{"ca", "tsa", "log", "log-v1"} {
		if _, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: service, Overlap: time.Hour, Now: clock}); err != nil {
			t.Fatalf("%s: %v", service, err)
		}
	}
	a, end := up(t, authority.Config{Dir: dir, Now: clock})
	url := a.Info().URL
	_, rootBefore := request(t, "GET", url+"/api/v1/rootCert", "")
	config := func() string {
		c, err := trust.ParseSigningConfig(readFile(t, a.Info().SigningConfig))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(c.Logs(clock()).URLs, " ")
	}
	if got := config(); got != url {
		t.Errorf("the log to use is %s", got)
	}
	if id, _, _ := strings.Cut(first(loggedV1(t, url, v1)), " "); id != idV1 {
		t.Errorf("logged again as %s, not %s: the new tree is in use too early", id, idV1)
	}
	shift.Store(int64(time.Hour + time.Minute)) // the new keys sign, the old tree is open
	if _, root := request(t, "GET", url+"/api/v1/rootCert", ""); root == rootBefore {
		t.Error("the old CA still issues")
	}
	if got := config(); got != url+"/log-2" {
		t.Errorf("the log to use is %s", got)
	}
	if index, err := logged(url+"/log-2", v2); err != nil || index != "0" {
		t.Errorf("in the new tree: %s, %v", index, err)
	}
	if index, err := logged(url, entry(t, "late")); err != nil || index != "1" {
		t.Errorf("with a signing config that is a little old: %s, %v", index, err)
	}
	second, _, _ := strings.Cut(first(loggedV1(t, url, entryV1(t, "second"))), " ")
	if second[:16] == idV1[:16] {
		t.Error("the old tree for older clients is still in use")
	}
	shift.Store(int64(2 * time.Hour)) // the old tree is closed
	if _, err := logged(url, entry(t, "too late")); err == nil || !strings.Contains(err.Error(), "410") || !strings.Contains(err.Error(), "/log-2") {
		t.Errorf("a closed tree: %v", err)
	}
	for _, path := range []string{"/api/v2/checkpoint", "/log-2/api/v2/checkpoint", "/api/v2/tile/entries/000.p/2", "/log-2/api/v2/tile/entries/000.p/1",
		"/api/v1/log/entries/" + idV1, "/api/v1/log/entries/" + idV1[16:], "/api/v1/log/entries/" + second, "/log-v1/api/v1/log", "/log-v1/api/v1/log/entries?logIndex=0", "/log-v1-2/api/v1/log/entries/" + second} {
		if status, body := request(t, "GET", url+path, ""); status != 200 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for what, body := range map[string]string{"retrieve": `{"entryUUIDs":["` + idV1 + `","` + second + `"]}`} {
		status, err := send("POST", url+"/log-v1/api/v1/log/entries", "application/json", v1)
		if err != nil || status != http.StatusGone {
			t.Errorf("%s: writing to one tree: %d, %v", what, status, err)
		}
		status, found := postTo(t, url+"/api/v1/log/entries/"+what, body)
		var list []map[string]any
		if err := json.Unmarshal([]byte(found), &list); err != nil || status != 200 || len(list) != 2 {
			t.Errorf("%s: %d %s", what, status, found)
		}
	}
	if _, page := request(t, "GET", url+"/", ""); strings.Count(page, "until 20") < 4 {
		t.Errorf("the status page does not say until when: %s", page)
	}
	end()
	// Backup and restore know all trees.
	var saved bytes.Buffer
	s, err := authority.Backup(dir, &saved)
	if err != nil || s.Entries != 3 || s.EntriesV1 != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	restored := filepath.Join(t.TempDir(), "restored")
	r, err := authority.Restore(&saved, restored, authority.RestoreOptions{NothingSince: true})
	if err != nil || r.Entries != 3 || r.EntriesV1 != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	_, end = up(t, authority.Config{Dir: restored, Now: clock})
	end()
}

// TestOldTokensOfTheIssuer: what the old key signed is taken until it expires.
func TestOldTokensOfTheIssuer(t *testing.T) {
	t.Parallel()
	var shift atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
	dir, _, _, _ := made(t, authority.Config{Now: clock})
	if _, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: "oidc", Now: clock}); err != nil {
		t.Fatal(err)
	}
	a, _ := up(t, authority.Config{Dir: dir, Now: clock})
	keys := func() int {
		_, body := request(t, "GET", a.Info().URL+"/oauth2/keys", "")
		return strings.Count(body, `"kid"`)
	}
	if n := keys(); n != 2 {
		t.Errorf("%d keys after the rotation", n)
	}
	shift.Store(int64(12 * time.Minute))
	if n := keys(); n != 1 {
		t.Errorf("%d keys when no old token can be valid", n)
	}
}

// TestKeysInTheFolderAreThoseOfTheState: another key in the place of one is refused.
func TestKeysInTheFolderAreThoseOfTheState(t *testing.T) {
	t.Parallel()
	dir, _, _, _ := made(t, authority.Config{})
	other, _, _, _ := made(t, authority.Config{})
	for _, name := range []string{"ca", "tsa", "ct", "log", "log-v1"} {
		one := copyFolder(t, dir)
		path := filepath.Join(one, "keys", name+".pem")
		if err := os.WriteFile(path, readFile(t, filepath.Join(other, "keys", name+".pem")), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := authority.Open(authority.Config{Dir: one, Listen: "127.0.0.1:0"})
		var corrupt *durable.CorruptError
		if !errors.As(err, &corrupt) || corrupt.Path != path {
			t.Errorf("%s: %v", name, err)
		}
		if c, err := authority.Check(one); err != nil || len(c.Damage) == 0 || c.Damage[0].Path != path {
			t.Errorf("%s: check: %+v, %v", name, c, err)
		}
	}
}

func TestRotateRefusals(t *testing.T) {
	t.Parallel()
	dir, _, _, _ := made(t, authority.Config{})
	for want, cfg := range map[string]authority.RotateConfig{
		"is no service":      {Service: "registry"},
		"no other can be":    {Service: "tuf", Key: &authority.KeyRef{Ref: "x"}},
		"an overlap of -1s":  {Service: "ca", Overlap: -time.Second},
		"an overlap of 9000": {Service: "ca", Overlap: 9000 * time.Hour},
		"cannot be opened":   {Service: "ca", Key: &authority.KeyRef{Ref: "x"}},
	} {
		cfg.Dir = dir
		if _, err := authority.Rotate(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
	before := folder(t, dir)
	_, end := up(t, authority.Config{Dir: dir})
	if _, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: "ca"}); err == nil {
		t.Error("rotated beneath a running authority")
	}
	if _, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: "ca", DryRun: true}); err != nil {
		t.Errorf("--dry-run beside a running authority: %v", err)
	}
	end()
	for name := range folder(t, dir) {
		if _, was := before[name]; !was {
			t.Errorf("a refused rotation left %s", name)
		}
	}
}

// postTo is a POST of JSON.
func postTo(t *testing.T, url, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b.String()
}
