package git

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// Own runs the git of the person at this desk in their own clone: with their configuration,
// their logins and whatever hooks and helpers they set up, and with a terminal to ask
// them. It is for what they do themselves, and never for what others wrote. It returns
// exactly what git printed; [OwnLine] takes the last line feed off.
func Own(ctx context.Context, clone string, stdin []byte, args ...string) (string, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return "", fault.Hint(fmt.Errorf("git is not installed"), "install it: apt-get install git")
	}
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", clone}, args...)...)
	stdout, stderr := &limitedBuffer{limit: maxOutput}, &limitedBuffer{limit: 64 << 10}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = stdout, stderr, 5*time.Second
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "", &gitError{step: "git " + args[0], stderr: stderr.String()}
	case stdout.over:
		return "", fmt.Errorf("git %s wrote more than %d bytes", args[0], maxOutput)
	}
	return stdout.String(), nil
}

// OwnLine is [Own] for what git prints on one line.
func OwnLine(ctx context.Context, clone string, stdin []byte, args ...string) (string, error) {
	out, err := Own(ctx, clone, stdin, args...)
	return strings.TrimSuffix(out, "\n"), err
}
