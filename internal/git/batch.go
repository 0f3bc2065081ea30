package git

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// batch is a git cat-file --batch.
type batch struct {
	ctx    context.Context // that it lives for
	in     io.Writer
	out    *reader
	finish func() error
	kept   bool // for the next who asks
	broken bool // it stands in the middle of an answer
}

// batch starts git cat-file --batch on the private repository, or goes on with the one
// that a folder's runner keeps.
func (r *runner) batch(ctx context.Context) (*batch, error) {
	if r.kept != nil {
		if r.kept.ctx.Done() == ctx.Done() && ctx.Err() == nil && !r.kept.broken {
			return r.kept, nil
		}
		if err := r.endBatch(); err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
	}
	cmd := r.command(ctx, "-C", r.repo(), "cat-file", "--batch")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = &limitedBuffer{limit: 64 << 10}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	finish := func() error {
		// Ending the input ends git; output that nobody reads must not keep it.
		err := errors.Join(stdin.Close(), stdout.Close())
		if werr := cmd.Wait(); werr != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	b := &batch{ctx: ctx, in: stdin, out: &reader{r: bufio.NewReaderSize(stdout, 64<<10)}, finish: finish, kept: r.place}
	if b.kept {
		r.kept = b
	}
	return b, nil
}

// endBatch ends the one that is kept.
func (r *runner) endBatch() error {
	if r.kept == nil {
		return nil
	}
	b := r.kept
	r.kept = nil
	return b.finish()
}

// close ends it, unless it is kept: then its runner does.
func (b *batch) close() error {
	if b.kept {
		return nil
	}
	return b.finish()
}

// object reads one object: "<id> SP <type> SP <size> LF <content> LF".
func (b *batch) object(id string, limit int64) (string, []byte, error) {
	kind, size, err := b.header(id)
	if err != nil {
		return "", nil, err
	}
	if kind == "tag" {
		limit = min(limit, MaxTagSize)
	}
	if size > limit {
		b.broken = true
		return kind, nil, &sizeError{kind, id, size, limit}
	}
	content, err := b.content(size)
	if err != nil {
		return "", nil, fmt.Errorf("object %s: %w", id, err)
	}
	return kind, content, nil
}

// header asks for an object by its id; its content must be read next.
func (b *batch) header(id string) (kind string, size int64, err error) {
	got, kind, size, err := b.ask(id)
	if err == nil && got != id {
		b.broken = true
		err = fmt.Errorf("reading object %s: git gives %q", id, clip(got))
	}
	return kind, size, err
}

// ask asks for an object in any way that git understands.
func (b *batch) ask(question string) (id, kind string, size int64, err error) {
	if _, err := b.in.Write([]byte(question + "\n")); err != nil {
		b.broken = true
		return "", "", 0, fmt.Errorf("reading object %s: %w", question, err)
	}
	line, err := b.out.line()
	if err != nil {
		b.broken = true
		return "", "", 0, fmt.Errorf("reading object %s: %w", question, err)
	}
	f := strings.Split(line, " ")
	if len(f) == 2 && f[0] == question && f[1] == "missing" {
		return "", "", 0, &missingError{question}
	}
	if len(f) == 3 {
		if size, err = strconv.ParseInt(f[2], 10, 64); err == nil && size >= 0 && validID(f[0]) {
			return f[0], f[1], size, nil
		}
	}
	b.broken = true
	return "", "", 0, fmt.Errorf("reading object %s: git says %q", question, clip(line))
}

func (b *batch) content(size int64) ([]byte, error) {
	content, err := b.out.content(size)
	b.broken = b.broken || err != nil
	return content, err
}

// skip passes over content that is not wanted.
func (b *batch) skip(size int64) error {
	err := b.out.skip(size)
	b.broken = b.broken || err != nil
	return err
}

// reader reads the answers of cat-file --batch.
type reader struct{ r *bufio.Reader }

func (r *reader) line() (string, error) {
	line, err := r.r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return string(line[:len(line)-1]), nil
}

func (r *reader) content(size int64) ([]byte, error) {
	content := make([]byte, size)
	if _, err := io.ReadFull(r.r, content); err != nil {
		return nil, err
	}
	return content, r.newline()
}

func (r *reader) skip(size int64) error {
	if _, err := io.CopyN(io.Discard, r.r, size); err != nil {
		return err
	}
	return r.newline()
}

func (r *reader) newline() error {
	if c, err := r.r.ReadByte(); err != nil || c != '\n' {
		return fmt.Errorf("git's answer does not end where it should: %w", err)
	}
	return nil
}
