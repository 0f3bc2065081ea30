//go:build !linux

package daemon

import (
	"errors"
	"syscall"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// supported says why no daemon can be started here.
func supported() error {
	return fault.Hint(errors.New("BuildKit itself runs on Linux only"), "set BUILDKIT_HOST to a BuildKit on a Linux machine")
}

func processAttributes() *syscall.SysProcAttr { return nil }

func keepThread() (unlock func()) { return func() {} }
