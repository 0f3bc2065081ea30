package smalldisk

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// MountLossy mounts a file system, until the test ends, that promises more than its disk
// has: what is written is taken, and lost when more than about so many bytes come to the
// disk. Only whoever syncs hears of it. Only the machine's own root can mount it.
func MountLossy(t testing.TB, room int) (dir string) {
	t.Helper()
	image := filepath.Join(Mount(t, room/os.Getpagesize(), 10), "image")
	dir = t.TempDir()
	for _, c := range [][]string{
		{"truncate", "-s", "256M", image},
		{"mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=0", image},
		{"mount", "-o", "loop,noinit_itable", image, dir},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}
