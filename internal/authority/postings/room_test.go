package postings

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/hmtest/smalldisk"
)

// TestNoRoomIsNoFailure writes an index on a disk that is full at each of its writes, and
// then has room: nothing that was added is ever missing, memory is bounded, and with room all
// of it goes to the disk, without a file too many.
func TestNoRoomIsNoFailure(t *testing.T) {
	if !smalldisk.AsRoot(t) {
		return
	}
	t.Parallel()
	const recent = 300 // more than a block
	for pages := range 14 {
		for _, inodes := range []int{0, 1, 2, 3, 100} {
			t.Run(fmt.Sprintf("%d pages, %d inodes", pages, inodes), func(t *testing.T) {
				disk := smalldisk.Mount(t, 1000, 1000)
				dir := filepath.Join(disk, "index")
				m, err := Open(dir, Options{Recent: recent})
				if err != nil {
					t.Fatal(err)
				}
				n := uint32(0)
				add := func() {
					m.Add(keyOf(n), n)
					n++
					if m.Full() {
						if err := m.Flush(int64(n), []byte("mark"), nil); err != nil {
							t.Fatal(err)
						}
						if err := m.Wait(); err != nil && !durable.NoRoom(err) {
							t.Fatal(err)
						}
					}
				}
				for range 2*recent + 7 { // two runs, merged
					add()
				}
				usedPages, usedInodes := smalldisk.Used(t, disk)
				smalldisk.Resize(t, disk, usedPages+pages, usedInodes+inodes)
				refused := false
				for range 10 * recent {
					if err := m.Room(); err != nil {
						if refused = true; !durable.NoRoom(err) {
							t.Fatal(err)
						}
						break
					}
					add()
				}
				if !refused {
					t.Fatal("memory is not bounded")
				}
				if most := (crowded + 1) * recent; m.active.len() > most {
					t.Errorf("%d records wait in memory", m.active.len())
				}
				mustFindAll(t, m, n)
				smalldisk.Resize(t, disk, 4000, 4000)
				if err := m.Room(); err != nil {
					t.Fatal(err)
				}
				for range recent {
					add()
				}
				mustFindAll(t, m, n)
				if covered, _ := m.Covered(); covered < int64(n)-2*recent {
					t.Errorf("%d of %d are covered", covered, n)
				}
				names := map[string]bool{stateName: true}
				for _, r := range m.runs {
					names[r.name], names[filepath.Base(filterPath(dir, r.name))] = true, true
				}
				left, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range left {
					if !names[e.Name()] {
						t.Errorf("left behind: %s", e.Name())
					}
				}
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
				if _, _, _, err := Check(dir, func(d durable.Damage) { t.Error(d) }); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func mustFindAll(t *testing.T, m *Map, n uint32) {
	t.Helper()
	for i := range n {
		if got, err := m.Find(keyOf(i)); err != nil || len(got) != 1 || got[0] != i {
			t.Fatalf("entry %d: %v, %v", i, got, err)
		}
	}
}

// TestRoomBesideATry asks for room while what there was none for is being written after all:
// the index says then that it covers what it does, and not nothing, after which a restart
// would take everything in a second time.
func TestRoomBesideATry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const recent = 10
		dir := t.TempDir()
		m, err := Open(dir, Options{Recent: recent})
		if err != nil {
			t.Fatal(err)
		}
		n := uint32(0)
		add := func(most int) {
			for ; most > 0; most-- {
				m.Add(keyOf(n), n)
				n++
			}
		}
		full, release := true, make(chan struct{})
		disk := func() error {
			if full {
				return &fs.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}
			}
			<-release
			return nil
		}
		add(recent)
		if err := m.Flush(recent, []byte("mark"), disk); err != nil {
			t.Fatal(err)
		}
		if err := m.Wait(); !durable.NoRoom(err) {
			t.Fatal(err)
		}
		add(crowded * recent)
		full = false
		if err := m.Flush(int64(n), []byte("later"), nil); err != nil { // tries the first one again
			t.Fatal(err)
		}
		asked := make(chan error)
		go func() { asked <- m.Room() }()
		synctest.Wait()
		close(release)
		if err := <-asked; err != nil {
			t.Fatal(err)
		}
		if covered, mark := m.Covered(); covered != recent || string(mark) != "mark" {
			t.Errorf("%d entries are covered, %q", covered, mark)
		}
		mustFindAll(t, m, n)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
