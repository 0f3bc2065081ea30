package git

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
)

// Limits of a list of refs: of its lines and of one of them, in bytes.
const (
	maxRefs    = 1 << 20
	maxRefLine = 4 << 10
)

// errEnough ends a list that is longer than anybody wants.
var errEnough = errors.New("enough")

// refs gives each ref below a prefix ("refs/tags/"), in the order in which the other side
// lists them, and with peel behind a tag, as NAME^{}, what it leads to. errEnough of each
// ends it without an error.
func (r *runner) refs(ctx context.Context, prefix string, peel bool, each func(id, name string) error) error {
	if r.place && !peel {
		return r.refsIn(ctx, prefix, each)
	}
	args := []string{"ls-remote", "--quiet", "--end-of-options", r.location.argument(), prefix + "*"}
	if r.place {
		args = []string{"-C", r.repo(), "for-each-ref", "--format=%(objectname)\t%(refname)%(if)%(*objectname)%(then)%0a%(*objectname)\t%(refname)^{}%(end)", "--end-of-options", prefix}
	}
	return r.eachRef(ctx, prefix, peel, each, args...)
}

// refsIn is refs of the repository that the runner has, not of the location.
func (r *runner) refsIn(ctx context.Context, prefix string, each func(id, name string) error) error {
	return r.eachRef(ctx, prefix, false, each, "-C", r.repo(), "for-each-ref", "--format=%(objectname)\t%(refname)", "--end-of-options", prefix)
}

func (r *runner) eachRef(ctx context.Context, prefix string, peel bool, each func(id, name string) error, args ...string) error {
	lines := 0
	return r.lines(ctx, "listing "+prefix+"* of "+r.location.String(), func(line string) error {
		if line == "" {
			return nil
		}
		if lines++; lines > maxRefs {
			return fmt.Errorf("listing the refs of %s: more than %d", r.location, maxRefs)
		}
		id, name, ok := strings.Cut(line, "\t")
		if !ok || !validID(id) {
			return fmt.Errorf("listing the refs of %s: an answer that is not a list of refs", r.location)
		}
		if !strings.HasPrefix(name, prefix) {
			return nil // ls-remote matches the ends of names
		}
		if !peel && strings.HasSuffix(name, "^{}") {
			return nil
		}
		return each(id, name)
	}, nil, args...)
}

// lines runs git and gives each line of what it writes, without keeping them. input is
// what git reads, nil for nothing.
func (r *runner) lines(ctx context.Context, step string, each func(string) error, input *strings.Reader, args ...string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd := r.command(ctx, args...)
	stderr := &limitedBuffer{limit: 64 << 10}
	cmd.Stderr = stderr
	if input != nil {
		cmd.Stdin = input
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	scan := bufio.NewScanner(out)
	scan.Buffer(make([]byte, 0, maxRefLine), maxRefLine)
	for err == nil && scan.Scan() {
		err = each(scan.Text())
	}
	if err == nil {
		err = scan.Err()
	}
	if err != nil {
		stop() // git is still writing
		_ = cmd.Wait()
		if errors.Is(err, errEnough) {
			return nil
		}
		return fmt.Errorf("%s: %w", step, err)
	}
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return r.explain(&gitError{step: step, stderr: stderr.String()})
	}
	return nil
}
