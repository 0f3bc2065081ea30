package authority_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// mirror copies an authority's log by its tiles, as any static mirror has them.
func mirror(t *testing.T, url, dir string, size int64) {
	t.Helper()
	for n := int64(0); n*256 < size; n++ {
		name := fmt.Sprintf("tile/entries/%03d", n)
		if rest := size - n*256; rest < 256 {
			name += fmt.Sprintf(".p/%d", rest)
		}
		status, body := request(t, "GET", url+"/api/v2/"+name, "")
		if status != 200 {
			t.Fatalf("%s: %d", name, status)
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBackup takes a backup while clients push and log, restores it with a mirror
// of the log, and finds all that was acknowledged before, and no entry contradicted.
func TestBackup(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	a, end := up(t, authority.Config{Dir: dir})
	url := a.Info().URL
	acks := &acknowledged{manifest: map[string]string{}, indexes: map[string]string{}, v1: map[string]string{}}
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() { acks.work(t, url, fmt.Sprint(w)) })
	}
	acks.await(t, 5)
	acks.mu.Lock()
	before := &acknowledged{manifest: maps.Clone(acks.manifest), v1: maps.Clone(acks.v1)}
	acks.mu.Unlock()
	var archive bytes.Buffer
	saved, err := authority.Backup(dir, &archive)
	if err != nil {
		t.Fatal(err)
	}
	acks.await(t, 5) // more than the backup has
	_, checkpoint := request(t, "GET", url+"/api/v2/checkpoint", "")
	var size int64
	if _, err := fmt.Sscanf(strings.Split(checkpoint, "\n")[1], "%d", &size); err != nil || size <= saved.Entries {
		t.Fatalf("%d entries, %d in the backup, %v", size, saved.Entries, err)
	}
	copied := t.TempDir()
	mirror(t, url, copied, size)
	var older struct{ SignedTreeHead string }
	if _, info := request(t, "GET", url+"/api/v1/log", ""); json.Unmarshal([]byte(info), &older) != nil || older.SignedTreeHead == "" {
		t.Fatalf("the log for older clients: %s", info)
	}
	end()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	wg.Wait()
	restored := filepath.Join(t.TempDir(), "restored")
	_, err = authority.Restore(bytes.NewReader(archive.Bytes()), restored, authority.RestoreOptions{NothingSince: true, Checkpoints: [][]byte{[]byte(checkpoint)}})
	var behind *tlog.BehindError
	if !errors.As(err, &behind) || behind.Have != saved.Entries || behind.Want != size {
		t.Fatalf("without a mirror: %v", err)
	}
	both := authority.RestoreOptions{Checkpoints: [][]byte{[]byte(checkpoint), []byte(older.SignedTreeHead)}, Mirror: os.DirFS(copied)}
	if _, err = authority.Restore(bytes.NewReader(archive.Bytes()), restored, both); !errors.As(err, &behind) || behind.Have != saved.EntriesV1 || !strings.Contains(fault.HintOf(err), "older clients") {
		t.Fatalf("the log for older clients went on: %v", err)
	}
	if _, err := os.Stat(restored); err == nil {
		t.Fatal("a refused restore left its folder")
	}
	r, err := authority.Restore(bytes.NewReader(archive.Bytes()), restored, authority.RestoreOptions{NothingSince: true, Checkpoints: [][]byte{[]byte(checkpoint)}, Mirror: os.DirFS(copied)})
	if err != nil {
		t.Fatal(err)
	}
	if r.Taken != size-saved.Entries || r.Entries != size || r.Info.Dir != restored {
		t.Errorf("%+v, want %d entries", r, size)
	}
	if c, err := authority.Check(restored); err != nil || len(c.Damage) > 0 || c.Entries != size {
		t.Fatalf("%+v, %v", c, err)
	}
	b, _ := up(t, authority.Config{Dir: restored})
	if _, now := request(t, "GET", b.Info().URL+"/api/v2/checkpoint", ""); now != checkpoint {
		t.Errorf("the log goes on from\n%s, want\n%s", now, checkpoint)
	}
	before.check(t, b.Info().URL)
	// Entries keep their numbers, also those that only the mirror had.
	acks.mu.Lock()
	defer acks.mu.Unlock()
	for body, want := range acks.indexes {
		var n int64
		if _, err := fmt.Sscan(want, &n); err != nil || n >= size {
			continue
		}
		if got, err := logged(b.Info().URL, body); err != nil || got != want {
			t.Errorf("entry %s is now %s, %v", want, got, err)
		}
	}
}

// TestRestoreIsFollowed: a client of TUF that saw what was published after the backup
// takes what is published after it was restored, also a second time.
func TestRestoreIsFollowed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	a := newAuditor(t)
	update := func(at string) {
		t.Helper()
		now, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		a.now.Store(now)
		a.root(t.Context())
	}
	first, end := up(t, authority.Config{Dir: dir})
	a.tuf = trust.TUF{Mirror: a.front.URL + "/tuf", Root: fetch(t, first.Info().URL+"/tuf/1.root.json"), CacheDir: t.TempDir()}
	update(first.Info().URL)
	for range 2 {
		var archive bytes.Buffer
		if _, err := authority.Backup(dir, &archive); err != nil {
			t.Fatal(err)
		}
		for range 3 { // each at another port, and so with another signing config
			end()
			var next *authority.Authority
			next, end = up(t, authority.Config{Dir: dir})
			update(next.Info().URL)
		}
		end()
		dir = filepath.Join(t.TempDir(), "restored")
		if _, err := authority.Restore(&archive, dir, authority.RestoreOptions{NothingSince: true}); err != nil {
			t.Fatal(err)
		}
		if c, err := authority.Check(dir); err != nil || len(c.Damage) > 0 {
			t.Fatalf("%+v, %v", c, err)
		}
		var restored *authority.Authority
		restored, end = up(t, authority.Config{Dir: dir})
		update(restored.Info().URL)
	}
}

// TestRestoreRefusals: what is no backup of ours, or would fork the log, becomes
// no folder.
func TestRestoreRefusals(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	a, end := up(t, authority.Config{Dir: dir})
	if _, err := logged(a.Info().URL, entry(t, "one")); err != nil {
		t.Fatal(err)
	}
	_, checkpoint := request(t, "GET", a.Info().URL+"/api/v2/checkpoint", "")
	stranger, _ := up(t, authority.Config{Dir: filepath.Join(t.TempDir(), "other")})
	_, foreign := request(t, "GET", stranger.Info().URL+"/api/v2/checkpoint", "")
	end()
	var good bytes.Buffer
	if _, err := authority.Backup(dir, &good); err != nil {
		t.Fatal(err)
	}
	// rewrite makes an archive with one member more or changed.
	rewrite := func(change func(h *tar.Header, data []byte) (*tar.Header, []byte), more ...*tar.Header) []byte {
		var out bytes.Buffer
		w, r := tar.NewWriter(&out), tar.NewReader(bytes.NewReader(good.Bytes()))
		for _, h := range more { // nothing is read behind the last member
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
		}
		for {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			data, rerr := io.ReadAll(r)
			if err = errors.Join(err, rerr); err != nil {
				t.Fatal(err)
			}
			if h, data = change(h, data); h == nil {
				continue
			}
			h.Size = int64(len(data))
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(data); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	same := func(h *tar.Header, data []byte) (*tar.Header, []byte) { return h, data }
	without := func(name string) func(h *tar.Header, data []byte) (*tar.Header, []byte) {
		return func(h *tar.Header, data []byte) (*tar.Header, []byte) {
			if h.Name == name {
				return nil, nil
			}
			return h, data
		}
	}
	flipped := func(name string) func(h *tar.Header, data []byte) (*tar.Header, []byte) {
		return func(h *tar.Header, data []byte) (*tar.Header, []byte) {
			if h.Name == name {
				data[len(data)/2] ^= 4
			}
			return h, data
		}
	}
	fine := authority.RestoreOptions{NothingSince: true}
	for name, row := range map[string]struct {
		archive []byte
		o       authority.RestoreOptions
		want    string
	}{
		"nothing said of the log": {good.Bytes(), authority.RestoreOptions{}, "either the newest checkpoint"},
		"one log of two":          {good.Bytes(), authority.RestoreOptions{Checkpoints: [][]byte{[]byte(checkpoint)}}, "no checkpoint of the log \"127.0.0.1 - "},
		"another log's":           {good.Bytes(), authority.RestoreOptions{NothingSince: true, Checkpoints: [][]byte{[]byte(foreign)}}, "not signed by this log"},
		"no checkpoint":           {good.Bytes(), authority.RestoreOptions{NothingSince: true, Checkpoints: [][]byte{[]byte("x")}}, "no log of this backup"},
		"one log twice":           {good.Bytes(), authority.RestoreOptions{NothingSince: true, Checkpoints: [][]byte{[]byte(checkpoint), []byte(checkpoint)}}, "of which there is another"},
		"cut":                     {good.Bytes()[:good.Len()/2], fine, "backup"},
		"no archive":              {[]byte("hello"), fine, "cannot be read"},
		"empty":                   {nil, fine, "ends early"},
		"cut between two members": {rewrite(without(".complete")), fine, "ends early"},
		"the folder as a file": {rewrite(func(h *tar.Header, data []byte) (*tar.Header, []byte) {
			if h.Name == "authority.json" {
				h.Name = "."
				h.Typeflag = tar.TypeReg
			}
			return h, data
		}), fine, "backup"},
		"a key is missing":      {rewrite(without("keys/ca.pem")), fine, "ca.pem"},
		"a key is changed":      {rewrite(flipped("keys/log.pem")), fine, "log.pem"},
		"the log is changed":    {rewrite(flipped("log/entries")), fine, "log/entries, byte"},
		"the log is missing":    {rewrite(without("log/entries")), fine, "entries"},
		"the second is missing": {rewrite(without("log-v1/entries")), fine, "log-v1/entries"},
		"its times are missing": {rewrite(without("log-v1/times")), fine, "log-v1/times"},
		"trust is changed":      {rewrite(flipped("trusted_root.json")), fine, "trusted_root.json"},
		"out of the folder":     {rewrite(same, &tar.Header{Typeflag: tar.TypeReg, Name: "../evil", Mode: 0o600}), fine, "would lie elsewhere"},
		"at the root":           {rewrite(same, &tar.Header{Typeflag: tar.TypeReg, Name: "/evil", Mode: 0o600}), fine, "would lie elsewhere"},
		"a link out":            {rewrite(same, &tar.Header{Typeflag: tar.TypeLink, Name: "evil", Linkname: "../../etc/passwd"}), fine, "would lie elsewhere"},
		"a symbolic link":       {rewrite(same, &tar.Header{Typeflag: tar.TypeSymlink, Name: "evil", Linkname: "keys"}), fine, "neither a file nor a link"},
		"a device":              {rewrite(same, &tar.Header{Typeflag: tar.TypeChar, Name: "evil"}), fine, "neither a file nor a link"},
		"a file twice":          {rewrite(same, &tar.Header{Typeflag: tar.TypeReg, Name: "authority.json"}), fine, "exists"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			_, err := authority.Restore(bytes.NewReader(row.archive), filepath.Join(parent, "new"), row.o)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v; want %s", err, row.want)
			}
			if left, _ := os.ReadDir(parent); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	t.Run("into a folder in use", func(t *testing.T) {
		_, err := authority.Restore(bytes.NewReader(good.Bytes()), dir, fine)
		if fault.KindOf(err) != fault.Usage {
			t.Errorf("%v", err)
		}
	})
	t.Run("into an empty folder, from an archive that was packed anew", func(t *testing.T) {
		again := rewrite(same, &tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700})
		if r, err := authority.Restore(bytes.NewReader(again), t.TempDir(), fine); err != nil || r.Entries != 1 {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("of a damaged folder", func(t *testing.T) {
		for _, name := range []string{"keys/log.pem", "keys/ca.pem", "log/entries", "tuf/repository.sealed", "trusted_root.json"} {
			path := filepath.Join(dir, name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			bad := bytes.Clone(data)
			bad[len(bad)/2] ^= 4
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if _, err := authority.Backup(dir, &out); err == nil || !strings.Contains(err.Error(), filepath.Base(name)) || out.Len() > 0 {
				t.Errorf("%s changed: %v, %d bytes", name, err, out.Len())
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("good", func(t *testing.T) {
		for _, o := range []authority.RestoreOptions{fine, {NothingSince: true, Checkpoints: [][]byte{[]byte(checkpoint)}}} {
			if r, err := authority.Restore(bytes.NewReader(good.Bytes()), filepath.Join(t.TempDir(), "a", "b"), o); err != nil || r.Entries != 1 || r.Taken != 0 {
				t.Errorf("%+v, %v", r, err)
			}
		}
	})
}
