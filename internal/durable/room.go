package durable

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// NoRoom says that an error is of nothing but a disk, or a quota, without room for what was
// to be written: opening, making, writing or renaming a file failed with ENOSPC or EDQUOT.
// What was written before is then as it was. A sync that failed is never that, whatever it
// says: nobody knows what it has left. Of several joined errors each must be one.
func NoRoom(err error) bool {
	switch e := err.(type) {
	case *fs.PathError:
		return (e.Op == "open" || e.Op == "write" || e.Op == "mkdir") && full(e.Err)
	case *os.LinkError:
		return full(e.Err)
	case interface{ Unwrap() []error }:
		all := e.Unwrap()
		for _, err := range all {
			if !NoRoom(err) {
				return false
			}
		}
		return len(all) > 0
	case interface{ Unwrap() error }:
		return NoRoom(e.Unwrap())
	}
	return false
}

func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
