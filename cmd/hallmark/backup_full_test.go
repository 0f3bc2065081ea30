package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/smalldisk"
)

// TestBackupWithoutRoom: a backup for which the disk is too full, at whichever write, is no
// file, leaves none, and says so.
func TestBackupWithoutRoom(t *testing.T) {
	if !smalldisk.AsRoot(t) {
		return
	}
	t.Parallel()
	up := hmtest.Authority(t)
	a := newApp()
	refused := 0
	for _, limit := range []func(n int) (disk string){
		func(pages int) string { return smalldisk.Mount(t, pages, 100) },
		func(inodes int) string { return smalldisk.Mount(t, 1000, inodes) },
	} {
		for n := 1; ; n++ {
			disk := limit(n)
			name := filepath.Join(disk, "sigstore.tar")
			_, err := a.backup(up.Dir, name)
			if err == nil {
				restore(t, name)
				break
			}
			if refused++; refused > 200 {
				t.Fatal("there is never room enough")
			}
			if !strings.Contains(err.Error(), "no space left on device") {
				t.Errorf("room for %d: %v", n, err)
			}
			if left, err := os.ReadDir(disk); err != nil || len(left) > 0 {
				t.Errorf("room for %d: left behind: %v, %v", n, left, err)
			}
		}
	}
	if refused < 10 {
		t.Errorf("there was no room only %d times", refused)
	}
}

func restore(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := authority.Restore(f, filepath.Join(t.TempDir(), "restored"), authority.RestoreOptions{NothingSince: true})
	if err != nil || len(r.Damage) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
