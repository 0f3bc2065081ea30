package durable

import (
	"io/fs"
	"os"
	"syscall"
)

// DataSync flushes a file: there is no flush of the data alone here.
func DataSync(f *os.File) error { return f.Sync() }

// BeginSync does nothing here.
func BeginSync(*os.File, int64, int64) {}

// ChangedAt is when a file's inode was changed last, in nanoseconds of Unix time; 0 where
// the file system does not say.
func ChangedAt(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ctimespec.Nano()
	}
	return 0
}
