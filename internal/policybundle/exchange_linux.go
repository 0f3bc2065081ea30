package policybundle

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// exchange gives next the name of dir in one step; what dir was before is then at next.
func exchange(next, dir string) error {
	err := unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
	switch {
	case errors.Is(err, unix.ENOENT):
		return os.Rename(next, dir)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS): // this filesystem cannot
		return replace(next, dir)
	}
	return err
}
