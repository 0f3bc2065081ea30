package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime/debug"
)

// Conn is the way of a call back to its caller.
type Conn struct {
	in  io.Reader
	out io.Writer
}

// Ask asks the caller and decodes the answer.
func (c *Conn) Ask(question, answer any) error {
	text, err := encode(question)
	if err != nil {
		return err
	}
	if err := write(c.out, frame{Ask: text}); err != nil {
		return err
	}
	f, err := c.next()
	switch {
	case err != nil:
		return err
	case f.Failed != "":
		return errors.New(f.Failed)
	case f.Answer == nil:
		return errors.New("the caller does not answer")
	}
	return strict(f.Answer, answer)
}

func (c *Conn) next() (f frame, err error) {
	text, err := read(c.in, MaxMessage)
	if err != nil {
		return f, err
	}
	return f, strict(text, &f)
}

// Serve binds this process for good, and answers the calls that come from in with what handle
// gives, until there are none. It is all that the process may do.
func Serve(in io.Reader, out io.Writer, handle func(*Conn, json.RawMessage) (any, error)) error {
	if err := confine(); err != nil {
		return fmt.Errorf("this process cannot be confined: %w", err)
	}
	c := &Conn{in, out}
	if err := write(out, greeting); err != nil {
		return err
	}
	for {
		f, err := c.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if f.Call == nil {
			return errors.New("a message that is no call")
		}
		v, err := handle(c, f.Call)
		if err != nil {
			return err
		}
		answer, err := encode(v)
		if err != nil {
			return err
		}
		if err := write(out, frame{Answer: answer}); err != nil {
			return err
		}
	}
}

// frugal has the runtime collect garbage hard before memory ends.
func frugal(limit int64) {
	debug.SetMemoryLimit(limit)
	debug.SetGCPercent(50)
	debug.SetMaxStack(int(min(limit/2, math.MaxInt32)))
}
