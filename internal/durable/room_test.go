package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/hmtest/smalldisk"
)

func TestNoRoom(t *testing.T) {
	t.Parallel()
	write := &fs.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{write, true},
		{fmt.Errorf("commit: %w", write), true},
		{&fs.PathError{Op: "open", Path: "f", Err: syscall.EDQUOT}, true},
		{&fs.PathError{Op: "mkdir", Path: "f", Err: syscall.ENOSPC}, true},
		{&os.LinkError{Op: "rename", Old: "a", New: "b", Err: syscall.ENOSPC}, true},
		{errors.Join(write, write), true},
		{nil, false},
		{syscall.ENOSPC, false}, // nobody knows of which call
		{&fs.PathError{Op: "sync", Path: "f", Err: syscall.ENOSPC}, false},
		{&fs.PathError{Op: "fdatasync", Path: "f", Err: syscall.ENOSPC}, false},
		{&fs.PathError{Op: "close", Path: "f", Err: syscall.ENOSPC}, false},
		{&fs.PathError{Op: "truncate", Path: "f", Err: syscall.ENOSPC}, false},
		{&fs.PathError{Op: "write", Path: "f", Err: syscall.EIO}, false},
		{errors.Join(write, &fs.PathError{Op: "sync", Path: "f", Err: syscall.EIO}), false},
		{fmt.Errorf("%w, and then %w", write, errors.New("something else")), false},
	} {
		if got := durable.NoRoom(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

// What a disk that is really full says is known as that.
func TestNoRoomOnAFullDisk(t *testing.T) {
	if !smalldisk.AsRoot(t) {
		return
	}
	t.Parallel()
	dir := smalldisk.Mount(t, 1, 3)
	if err := durable.WriteFile(filepath.Join(dir, "large"), make([]byte, 1<<20), 0o600); !durable.NoRoom(err) {
		t.Errorf("bytes: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".tmp-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	var err error
	for n := 0; err == nil && n < 10; n++ {
		err = durable.MkdirAll(filepath.Join(dir, fmt.Sprint(n)), 0o700)
	}
	if !durable.NoRoom(err) {
		t.Errorf("folders: %v", err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "another"), nil, 0o600); !durable.NoRoom(err) {
		t.Errorf("inodes: %v", err)
	}
}
