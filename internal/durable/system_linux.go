package durable

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// DataSync flushes a file's data, and its length where that has grown, without its times.
func DataSync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// BeginSync has the system begin to write n bytes of a file at an offset, which shortens
// the sync that follows. It promises nothing.
func BeginSync(f *os.File, offset, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, n, unix.SYNC_FILE_RANGE_WRITE)
}

// ChangedAt is when a file's inode was changed last, in nanoseconds of Unix time; 0 where
// the file system does not say.
func ChangedAt(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ctim.Nano()
	}
	return 0
}
