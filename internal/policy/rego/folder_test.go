package rego

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// justFiles hides all but Open, so that the look before it opens, too.
type justFiles struct{ fs.FS }

// TestPipeDoesNotWait: a named pipe in a policy's folder is refused at once, and
// would be if it came there after the look.
func TestPipeDoesNotWait(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pipe", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	for name, folder := range map[string]fs.FS{"any": root.FS(), "ours": Folder(root), "ours, without a look": justFiles{Folder(root)}} {
		for _, file := range []string{"pipe", "link"} {
			done := make(chan error, 1)
			go func() { _, err := ReadBounded(folder, file, 10); done <- err }()
			select {
			case err := <-done:
				if err == nil || !strings.Contains(err.Error(), "not a regular file") {
					t.Errorf("%s, %s: %v", name, file, err)
				}
			case <-time.After(20 * time.Second):
				t.Errorf("%s, %s: it waits", name, file)
			}
		}
		if data, err := ReadBounded(folder, "file", 10); err != nil || string(data) != "x" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
		if _, err := ReadBounded(folder, "nowhere", 10); err == nil {
			t.Errorf("%s: a file that is not there was read", name)
		}
	}
}
