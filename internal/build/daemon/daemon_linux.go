package daemon

import (
	"errors"
	"os"
	"runtime"
	"syscall"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// supported says why no daemon can be started here.
func supported() error {
	if os.Geteuid() != 0 {
		return fault.Hint(errors.New("starting BuildKit needs root"),
			"run it with sudo, or set BUILDKIT_HOST to a BuildKit that runs already, for example a rootless one")
	}
	return nil
}

// processAttributes: a group of its own, so that the terminal's ctrl-C reaches
// only us and we end the build in order; killed when we are.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// keepThread ties the goroutine to its thread: Pdeathsig watches the thread.
func keepThread() (unlock func()) {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}
