// Package sandbox lets a process of its own compute what nobody vouches for, such as the
// policy that a stranger's commit brings.
//
// The process is this program once more, with an empty environment, without network and files,
// without the right to start or touch others, and with little memory. It is started when it is needed, lives
// as long as it behaves, and answers one call at a time: each is a JSON text of bounded
// length on its standard input, and so is the answer on its standard output. It may ask its
// caller back meanwhile. What it needs of the world, such as a file, it gets that way alone.
//
// A process that breaks its bounds is killed, and the next call starts another one. Nothing is
// carried over: who calls must be ready for a process that has forgotten what it was told.
//
// What comes back is as little to be trusted as what was computed.
package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// Bounds of a process.
const (
	Memory     = 256 << 20 // bytes of data (RLIMIT_DATA)
	MaxMessage = 32 << 20  // bytes of one message to it
	MaxAnswer  = 2 << 20   // bytes of one message from it
	maxParts   = 100_000   // values, lists and objects in one, which need far more memory than their text

	startTimeout = 30 * time.Second // until it says that it is ready
	grace        = time.Second      // beyond a call's time, for a process that keeps it by itself
	farewell     = grace / 4        // the part of it in which a killed process's pipes are let go
	maxAsks      = 10000            // questions within one call
)

// Breach says how a process broke its bounds. The process is gone.
type Breach struct{ Why string }

func (b *Breach) Error() string { return b.Why }

// Worker is the process, whether it runs or not. It is safe for concurrent use: calls wait
// for each other.
type Worker struct {
	argv []string

	turn chan struct{} // has one element when nobody calls
	p    *process      // nil: none runs

	pid atomic.Int64
}

// New makes a worker of this very program, called with the arguments, which must lead to
// [Serve]. Nothing is started yet.
func New(args ...string) *Worker {
	w := &Worker{argv: append([]string{"hallmark"}, args...), turn: make(chan struct{}, 1)}
	w.turn <- struct{}{}
	return w
}

// Call sends a request and decodes the answer into reply. ask answers what the process asks
// meanwhile; it gets a JSON text and gives a value to encode. The time that within allows
// begins when the process is ready. An error is a [Breach], or means that ctx ended, or that
// the process cannot be started or the request not be sent.
func (w *Worker) Call(ctx context.Context, request any, within time.Duration, ask func(json.RawMessage) (any, error), reply any) error {
	text, err := encode(request)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-w.turn:
	}
	defer func() { w.turn <- struct{}{} }()
	if w.p == nil {
		if w.p, err = start(ctx, w.argv); err != nil {
			return err
		}
		w.pid.Store(int64(w.p.cmd.Process.Pid))
	}
	bounded, cancel := context.WithTimeout(ctx, within+grace-farewell)
	defer cancel()
	answer, err := w.p.converse(bounded, text, ask)
	if err == nil {
		if err = strict(answer, reply); err == nil {
			return nil
		}
		err = &Breach{"its answer is none: " + err.Error()}
	}
	why := w.p.stop()
	w.p = nil
	w.pid.Store(0)
	var breach *Breach
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case bounded.Err() != nil:
		return &Breach{fmt.Sprintf("it took longer than %v", within)}
	case errors.As(err, &breach):
		return breach
	case why != "":
		return &Breach{why}
	}
	return &Breach{"it ended"}
}

// PID is the process's id, 0 when none runs.
func (w *Worker) PID() int { return int(w.pid.Load()) }

// Close ends the process, and waits for a call that is under way.
func (w *Worker) Close() {
	<-w.turn
	if w.p != nil {
		w.p.stop()
		w.p = nil
		w.pid.Store(0)
	}
	w.turn <- struct{}{}
}

// process is a running process.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	pipe io.Closer // what out reads
	out  *bufio.Reader
	said *head // what it wrote to its standard error
}

// start starts a process and waits until it has bound itself.
func start(ctx context.Context, argv []string) (*process, error) {
	self := "/proc/self/exe" // what runs, also when an update put another file in its place
	if _, err := os.Stat(self); err != nil {
		if self, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("this program's own file: %w", err)
		}
	}
	var err error
	p := &process{said: &head{}}
	p.cmd = &exec.Cmd{Path: self, Args: argv, Env: []string{}, Dir: os.TempDir(), Stderr: p.said}
	p.cmd.WaitDelay = farewell // for whoever else holds its standard error
	alone(p.cmd)
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.pipe, p.out = out, bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a process for policies: %w", err)
	}
	ready, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	defer context.AfterFunc(ready, p.kill)()
	var hello string
	text, err := heard(p.out)
	if err == nil {
		err = strict(text, &hello)
	}
	if err == nil && hello == greeting {
		return p, nil
	}
	why := p.stop()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("a process for policies did not start: %s", firstLine(p.said.String(), why))
}

// greeting is the first message of a process: it has bound itself.
const greeting = "ready"

// converse is one call.
func (p *process) converse(ctx context.Context, request []byte, ask func(json.RawMessage) (any, error)) (json.RawMessage, error) {
	defer context.AfterFunc(ctx, p.kill)()
	if err := write(p.in, frame{Call: request}); err != nil {
		return nil, err
	}
	for asks := 0; ; asks++ {
		text, err := heard(p.out)
		if err != nil {
			return nil, err
		}
		var f frame
		if err := strict(text, &f); err != nil {
			return nil, &Breach{"what it says is no message"}
		}
		switch {
		case f.Answer != nil:
			return f.Answer, nil
		case f.Ask == nil:
			return nil, &Breach{"what it says is neither an answer nor a question"}
		case asks == maxAsks:
			return nil, &Breach{fmt.Sprintf("it asks more than %d times", maxAsks)}
		}
		var back frame
		v, err := ask(f.Ask)
		if err == nil {
			back.Answer, err = encode(v)
		}
		if err != nil {
			back = frame{Failed: err.Error()}
		}
		if err := write(p.in, back); err != nil {
			return nil, err
		}
	}
}

// runtimeCrash is the exit code of a Go program whose runtime gives up, or that panics. Within
// these bounds the one reason for the first is that the system gives it no more memory,
// whatever it was for: the heap, a stack, a thread or the collector's own lists.
const runtimeCrash = 2

// kill ends the process. Nothing waits for its pipes any more, which a child may hold.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.in.Close()
	_ = p.pipe.Close()
}

// stop ends the process and says why it had ended before, "" when it had not.
func (p *process) stop() string {
	p.kill()
	killGroup(p.cmd.Process.Pid) // before Wait, after which the number may be another's
	_ = p.cmd.Wait()
	s := p.cmd.ProcessState
	if s == nil || !s.Exited() {
		return "it was killed"
	}
	if s.ExitCode() == runtimeCrash && !strings.HasPrefix(p.said.String(), "panic: ") {
		return fmt.Sprintf("it needs more than %d MiB of memory", Memory>>20)
	}
	return fmt.Sprintf("it ended with exit code %d", s.ExitCode())
}

// frame is a message. Exactly one member is set.
type frame struct {
	Call   json.RawMessage `json:"call,omitempty"`
	Ask    json.RawMessage `json:"ask,omitempty"`
	Answer json.RawMessage `json:"answer,omitempty"`
	Failed string          `json:"failed,omitempty"` // instead of an answer to a question
}

// encode is a value as JSON, as it is: < and > stay.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	if b.Len() > MaxMessage/2 { // it is part of a frame
		return nil, fault.Usagef("a message of %d bytes for the process of policies; at most %d", b.Len(), MaxMessage/2)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// strict decodes one JSON value that has no members that are not known.
func strict(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the value")
	}
	return nil
}

// write writes a message: its length in four bytes, and JSON.
func write(to io.Writer, v any) error {
	var b bytes.Buffer
	b.Write(make([]byte, 4))
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	n := b.Len() - 4
	if n > MaxMessage {
		return fmt.Errorf("a message of %d bytes; at most %d", n, MaxMessage)
	}
	binary.BigEndian.PutUint32(b.Bytes(), uint32(n))
	_, err := to.Write(b.Bytes())
	return err
}

// heard reads what a process says: within the bounds of what its caller can decode with
// little memory, or it is a [Breach].
func heard(from io.Reader) ([]byte, error) {
	text, err := read(from, MaxAnswer)
	if err != nil {
		return nil, err
	}
	if parts(text) > maxParts {
		return nil, &Breach{fmt.Sprintf("it says more than %d things at once", maxParts)}
	}
	return text, nil
}

// parts is how many values a JSON text has at most: what no string has in it is counted.
func parts(text []byte) int {
	n, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case !quoted && (c == ',' || c == '[' || c == '{'):
			n++
		}
	}
	return n
}

// Fits reports whether a process may answer v.
func Fits(v any) bool {
	text, err := encode(v)
	return err == nil && len(text) <= MaxAnswer-64 && parts(text) < maxParts-8 // it is part of a frame
}

// read reads a message. One that is too long is a [Breach], before any of it is read.
func read(from io.Reader, limit uint32) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > limit {
		return nil, &Breach{fmt.Sprintf("it says %d bytes at once; at most %d", n, limit)}
	}
	// Whoever announces much and sends little gets no memory for it.
	var b bytes.Buffer
	if _, err := io.CopyN(&b, from, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b.Bytes(), nil
}

// head keeps the beginning of what is written.
type head struct {
	mu   sync.Mutex
	text []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = append(h.text, p[:min(len(p), 2<<10-len(h.text))]...)
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.text)
}

func firstLine(said, otherwise string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
	if line == "" {
		return otherwise
	}
	return line
}
