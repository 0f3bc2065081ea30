package authority_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/hmtest/smalldisk"
)

// room is plenty.
const room = 10_000

// diskWith mounts a disk on which a copy of a folder lies, with so much room beside it.
func diskWith(t *testing.T, folder string, pages, inodes int) (disk, dir string) {
	t.Helper()
	disk = smalldisk.Mount(t, room, room)
	dir = filepath.Join(disk, "data")
	if out, err := exec.Command("cp", "-a", folder, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	usedPages, usedInodes := smalldisk.Used(t, disk)
	smalldisk.Resize(t, disk, usedPages+pages, usedInodes+inodes)
	return disk, dir
}

// refused is the answer of a server that cannot write: a status and a sentence.
var refused = regexp.MustCompile(`\b(503|507)\b.*(has stopped because it could not read or write its folder|disk is full)`)

// TestDiskFull lets the disk of an authority be full at every write of its services: after
// so many pages, and after so many files. What it acknowledged is there, then, after a
// restart on the full disk and after one with room again; no checkpoint that anybody saw is
// contradicted; what was refused was refused with 503 or 507 and a sentence; what needs no
// disk goes on; and /healthz says what is wrong.
func TestDiskFull(t *testing.T) {
	if !smalldisk.AsRoot(t) {
		return
	}
	t.Parallel()
	base := filepath.Join(t.TempDir(), "data")
	a, end := up(t, authority.Config{Dir: base})
	for n := range 3 {
		if _, err := logged(a.Info().URL, entry(t, fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	end()
	counts := make(chan diskCounts, 200)
	t.Run("full", func(t *testing.T) {
		for pages := 0; pages <= 30; pages++ {
			t.Run(fmt.Sprintf("%d pages", pages), func(t *testing.T) { t.Parallel(); counts <- fill(t, base, pages, room) })
		}
		for inodes := 0; inodes <= 20; inodes++ {
			t.Run(fmt.Sprintf("%d inodes", inodes), func(t *testing.T) { t.Parallel(); counts <- fill(t, base, room/5, inodes) })
		}
	})
	close(counts)
	var all diskCounts
	for c := range counts {
		all.started += c.started
		all.restarted += c.restarted
		all.acts += c.acts
	}
	t.Logf("%d acts; started on %d of the disks, and again on %d full ones", all.acts, all.started, all.restarted)
	if all.started < 30 || all.restarted < all.started/2 || all.acts < 300 {
		t.Errorf("these sizes say too little: %+v", all)
	}
}

type diskCounts struct{ started, restarted, acts int }

// fill has an authority work until its disk is full, and looks at what is left.
func fill(t *testing.T, base string, pages, inodes int) (c diskCounts) {
	disk, dir := diskWith(t, base, pages, inodes)
	a := newAuditor(t)
	a.dir, a.most = dir, 100
	url, said, kill := tryChild(t, dir)
	if url == "" {
		noRoom(t, "start", said)
	} else {
		c.started++
		a.audit(url, true)
		a.fill(url)
		a.auditPushed(url, true)
		token, err := a.mint()
		if err != nil {
			t.Fatal(err)
		}
		if status, body := certificateFor(t, url, token); status != http.StatusOK {
			t.Errorf("certificate: %d %s", status, body)
		}
		if granted, answer := timestamp(t, url); !granted {
			t.Errorf("timestamp: %q", answer)
		}
		if status, body := request(t, "GET", url+"/healthz", ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "disk") {
			t.Errorf("health: %d %s", status, body)
		}
		a.goOn(url, disk)
		kill()
		again, said, kill := tryChild(t, dir, listenEnv+"="+strings.TrimPrefix(url, "http://"))
		if again == "" {
			noRoom(t, "second start", said)
		} else {
			c.restarted++
			a.audit(again, true)
			if status, body := request(t, "GET", again+"/healthz", ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "disk of the data folder is full") {
				t.Errorf("health on a full disk: %d %s", status, body)
			}
		}
		kill()
	}
	kill()
	smalldisk.Resize(t, disk, room, room)
	url, kill = child(t, dir)
	defer kill()
	a.audit(url, true)
	for n := range kinds {
		if err := a.act(http.DefaultClient, url, fmt.Sprint("with room again ", n), n); err != nil {
			t.Errorf("with room again: %v", err)
		}
	}
	a.audit(url, true)
	if status, body := request(t, "GET", url+"/healthz", ""); status != http.StatusOK {
		t.Errorf("health with room again: %d %s", status, body)
	}
	if got, err := authority.Check(dir); err != nil || len(got.Damage) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
	nothingLeft(t, disk)
	c.acts = int(a.acts.Load())
	return c
}

// goOn makes room, and has everything go on without a restart; then the disk is full again.
func (a *auditor) goOn(url, disk string) {
	a.t.Helper()
	smalldisk.Resize(a.t, disk, room, room)
	for n := range kinds {
		if err := a.act(http.DefaultClient, url, fmt.Sprint("room without a restart ", n), n); err != nil {
			a.t.Errorf("with room, without a restart: %v", err)
		}
	}
	a.audit(url, true)
	a.auditPushed(url, true)
	if status, body := request(a.t, "GET", url+"/healthz", ""); status != http.StatusOK {
		a.t.Errorf("health with room, without a restart: %d %s", status, body)
	}
	pages, inodes := smalldisk.Used(a.t, disk)
	smalldisk.Resize(a.t, disk, pages, inodes)
	a.fill(url)
	a.audit(url, true)
}

// fill has two clients do one thing after another until each kind of them was refused. A
// disk may be too full for a push and not for an entry.
func (a *auditor) fill(url string) {
	a.t.Helper()
	var clients sync.WaitGroup
	for who := range 2 {
		clients.Go(func() {
			no := map[int]bool{}
			for n := 0; len(no) < kinds && n < 80; n++ {
				err := a.act(http.DefaultClient, url, fmt.Sprint(who, " ", n), n)
				if err == nil {
					a.acts.Add(1)
					continue
				}
				if no[n%kinds] = true; !refused.MatchString(err.Error()) {
					a.t.Errorf("act %d: %v", n, err)
				}
			}
			if !no[0] {
				a.t.Errorf("the disk does not become full: %v were refused", no)
			}
		})
	}
	clients.Wait()
}

// noRoom holds what a program that cannot go on says to being told why.
func noRoom(t *testing.T, step, said string) {
	t.Helper()
	if !strings.HasPrefix(said, "error: ") || !strings.Contains(said, "no space left on device") {
		t.Errorf("%s: %q", step, said)
	}
}

// nothingLeft finds what was half written and stayed.
func nothingLeft(t *testing.T, disk string) {
	t.Helper()
	err := filepath.WalkDir(disk, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (strings.HasPrefix(d.Name(), ".tmp-") || strings.HasPrefix(d.Name(), ".restore-") || strings.HasPrefix(d.Name(), ".backup-")) {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
}

// TestDiskFullMaintenance lets the disk be full at every write of what is done to a folder
// that nobody serves: each rotation, an upgrade, a backup beside the folder and a restore.
// Each says that there is no room and leaves nothing half done, or what the next call and
// the next start finish; what was signed before stays good.
func TestDiskFullMaintenance(t *testing.T) {
	if !smalldisk.AsRoot(t) {
		return
	}
	t.Parallel()
	old := folderV1(t)
	base := t.TempDir()
	if out, err := exec.Command("cp", "-a", old+"/.", base).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, end := up(t, authority.Config{Dir: filepath.Join(base, "data"), Listen: "127.0.0.1:0"})
	end()
	var saved bytes.Buffer
	if _, err := authority.Backup(filepath.Join(base, "data"), &saved); err != nil {
		t.Fatal(err)
	}
	jobs := map[string]func(dir string) error{
		"upgrade": func(dir string) error {
			a, err := authority.Open(authority.Config{Dir: dir, Listen: "127.0.0.1:0"})
			if err == nil {
				err = a.Close()
			}
			return err
		},
		"restore": func(dir string) error {
			restored := filepath.Join(filepath.Dir(dir), "restored")
			_, err := authority.Restore(bytes.NewReader(saved.Bytes()), restored, authority.RestoreOptions{NothingSince: true})
			if _, serr := os.Stat(restored); (err == nil) != (serr == nil) {
				return fmt.Errorf("%v, and yet %v", err, serr)
			}
			if err != nil {
				return err
			}
			if c, err := authority.Check(restored); err != nil || len(c.Damage) > 0 {
				return fmt.Errorf("%+v, %v", c, err)
			}
			return nil
		},
	}
	for _, service := range authority.Services() {
		jobs["rotate "+service] = func(dir string) error {
			_, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: service})
			return err
		}
	}
	t.Run("full", func(t *testing.T) {
		for name, job := range jobs {
			from := base
			if name == "upgrade" {
				from = old
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				full := 0
				for _, room := range []func(n int) (pages, inodes int){func(n int) (int, int) { return n, room }, func(n int) (int, int) { return room, n }} {
					for n := 0; ; n++ {
						pages, inodes := room(n)
						if withRoom(t, from, pages, inodes, job) {
							break
						}
						if full++; n > 200 {
							t.Fatal("there is never room enough")
						}
					}
				}
				if full < 2 {
					t.Errorf("there was no room only %d times", full)
				}
				t.Logf("no room %d times", full)
			})
		}
	})
}

// withRoom does a job on a disk with so much room, and reports whether that was enough.
func withRoom(t *testing.T, folder string, pages, inodes int, job func(dir string) error) bool {
	t.Helper()
	disk, dir := diskWith(t, folder, pages, inodes)
	defer func() { _ = unix.Unmount(disk, unix.MNT_DETACH) }()
	data := filepath.Join(dir, "data")
	err := job(data)
	if err != nil {
		noRoom(t, fmt.Sprintf("%d pages, %d inodes", pages, inodes), "error: "+err.Error())
		if hint := fault.HintOf(err); !strings.Contains(hint, "make room") {
			t.Errorf("%v: hint %q", err, hint)
		}
	}
	smalldisk.Resize(t, disk, room, room)
	if err != nil {
		if err := job(data); err != nil {
			t.Errorf("%d pages, %d inodes: with room again: %v", pages, inodes, err)
		}
	}
	_, end := up(t, authority.Config{Dir: data})
	end()
	stillGood(t, dir)
	if got, err := authority.Check(data); err != nil || len(got.Damage) > 0 {
		t.Errorf("%d pages, %d inodes: %+v, %v", pages, inodes, got, err)
	}
	nothingLeft(t, disk)
	return err == nil
}
