//go:build !linux

package daemon

import (
	"errors"
	"syscall"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// supported says why no daemon can be started here.
func supported() error {
	return fault.Hint(errors.New("BuildKit itself runs on Linux only"), "with Docker: docker buildx create --name hallmark --bootstrap, and BUILDKIT_HOST=docker-container://buildx_buildkit_hallmark0")
}

func processAttributes() *syscall.SysProcAttr { return nil }

func keepThread() (unlock func()) { return func() {} }
