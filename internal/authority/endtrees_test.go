package authority_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// TestRestoreEndsTrees loses a disk after entries that nobody has kept: no number that was
// given away is given to another entry, new trees begin, and what was signed after the
// backup verifies for clients that saw all of it.
func TestRestoreEndsTrees(t *testing.T) {
	t.Parallel()
	a := newAuditor(t)
	first, end := up(t, authority.Config{Dir: a.dir})
	base := first.Info().URL
	a.audit(base, false)
	at := base
	sign := func(name string) {
		t.Helper()
		if err := a.sign(http.DefaultClient, at, name); err != nil {
			t.Fatal(err)
		}
	}
	heads := func(at string) (v2, v1 string) {
		t.Helper()
		_, v2 = request(t, "GET", at+"/api/v2/checkpoint", "")
		_, info := request(t, "GET", at+"/api/v1/log", "")
		var one struct{ SignedTreeHead string }
		if err := json.Unmarshal([]byte(info), &one); err != nil || one.SignedTreeHead == "" {
			t.Fatalf("%v %s", err, info)
		}
		return v2, one.SignedTreeHead
	}
	sign("before")
	old, _ := loggedV1(t, at, entryV1(t, "before"))
	savedV2, savedV1 := heads(at)
	var archive bytes.Buffer
	if _, err := authority.Backup(a.dir, &archive); err != nil {
		t.Fatal(err)
	}
	sign("after")
	given, _ := loggedV1(t, at, entryV1(t, "after"))
	newestV2, newestV1 := heads(at)
	copied := t.TempDir()
	mirror(t, at, copied, 2)
	end()

	restore := func(o authority.RestoreOptions) (string, *authority.Restored, error) {
		dir := filepath.Join(t.TempDir(), "restored")
		r, err := authority.Restore(bytes.NewReader(archive.Bytes()), dir, o)
		return dir, r, err
	}
	checkpoints := func(texts ...string) (out [][]byte) {
		for _, text := range texts {
			out = append(out, []byte(text))
		}
		return out
	}
	for name, row := range map[string]struct {
		o     authority.RestoreOptions
		ended []string
	}{
		"nothing is known":             {authority.RestoreOptions{EndTrees: true}, []string{"log", "log-v1"}},
		"the newest, without a mirror": {authority.RestoreOptions{EndTrees: true, Checkpoints: checkpoints(newestV2, newestV1)}, []string{"log", "log-v1"}},
		"a mirror of one":              {authority.RestoreOptions{EndTrees: true, Checkpoints: checkpoints(newestV2), Mirror: os.DirFS(copied)}, []string{"log-v1"}},
		"the newest of one is there":   {authority.RestoreOptions{EndTrees: true, Checkpoints: checkpoints(savedV1)}, []string{"log"}},
		"all is there":                 {authority.RestoreOptions{EndTrees: true, Checkpoints: checkpoints(savedV2, savedV1)}, nil},
		"a name":                       {authority.RestoreOptions{EndTrees: true, LogName: "localhost"}, []string{"log", "log-v1"}},
	} {
		if dir, r, err := restore(row.o); err != nil || !slices.Equal(r.Ended, row.ended) {
			t.Errorf("%s: %+v, %v", name, r, err)
		} else if c, err := authority.Check(dir); err != nil || len(c.Damage) > 0 {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	for name, row := range map[string]struct {
		o    authority.RestoreOptions
		want string
	}{
		"both words":        {authority.RestoreOptions{EndTrees: true, NothingSince: true}, "need not end"},
		"a name of no tree": {authority.RestoreOptions{NothingSince: true, LogName: "localhost"}, "none is to begin"},
		"of no log of ours": {authority.RestoreOptions{EndTrees: true, Checkpoints: checkpoints("x")}, "no log of this backup"},
		"the name it has":   {authority.RestoreOptions{EndTrees: true, LogName: "127.0.0.1"}, "could not tell them apart"},
	} {
		if _, _, err := restore(row.o); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Clients that saw all of it go on, at the address that they know.
	dir, r, err := restore(authority.RestoreOptions{EndTrees: true})
	if err != nil || r.Entries != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	a.dir = dir
	next, _ := up(t, authority.Config{Dir: dir})
	at = next.Info().URL
	if v2, _ := heads(at); v2 != savedV2 {
		t.Errorf("the tree that ended shows\n%s, want\n%s", v2, savedV2)
	}
	if status, body := postTo(t, at+"/api/v2/log/entries", entry(t, "other")); status != http.StatusGone || !strings.Contains(body, at+"/log-2") {
		t.Errorf("the tree that ended: %d %s", status, body)
	}
	if n, err := logged(at+"/log-2", entry(t, "other")); err != nil || n != "0" {
		t.Errorf("the new tree: %s, %v", n, err)
	}
	id := func(s string) string { id, _, _ := strings.Cut(s, " "); return id }
	if status, _ := request(t, "GET", at+"/api/v1/log/entries/"+id(old), ""); status != http.StatusOK {
		t.Errorf("an entry of the backup: %d", status)
	}
	fresh, _ := loggedV1(t, at, entryV1(t, "other"))
	if tree := func(s string) string { return s[:16] }; tree(fresh) == tree(given) {
		t.Errorf("%s has the number that %s was given, in one tree", fresh, given)
	}
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	a.now.Store(u)
	root := a.root(t.Context())
	if len(a.bundles) != 2 {
		t.Fatal(fmt.Sprint(len(a.bundles), " bundles"))
	}
	a.auditBundles(root, true)
}
