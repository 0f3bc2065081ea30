// Package smalldisk has file systems that are really full: a tmpfs of a few pages and
// inodes, which only root can mount.
package smalldisk

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// AsRoot runs the test again as root of a user namespace when this is not root, and
// reports whether this process is to run it.
func AsRoot(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() == 0 {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "-test.run=^"+t.Name()+"$")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("as root of a user namespace, which this kernel must allow, or as root: %v\n%s", err, out)
	}
	return false
}

// Mount mounts a file system of so many pages and inodes until the test ends.
func Mount(t testing.TB, pages, inodes int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options(pages, inodes)); err != nil {
		t.Fatalf("mounting a small tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// Resize changes how much there is room for, to no less than is used.
func Resize(t testing.TB, dir string, pages, inodes int) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, options(pages, inodes)); err != nil {
		t.Fatalf("resizing a small tmpfs: %v", err)
	}
}

// Used is how many pages and inodes are in use.
func Used(t testing.TB, dir string) (pages, inodes int) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int(st.Blocks - st.Bfree), int(st.Files - st.Ffree)
}

func options(pages, inodes int) string {
	return fmt.Sprintf("size=%d,nr_inodes=%d", pages*os.Getpagesize(), inodes)
}
