package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// Limits of a call.
const (
	DefaultTimeout = 30 * time.Second // a person may have to touch a key
	maxAnswer      = 256 << 10        // of stdout, bytes
	maxSaid        = 16 << 10         // of stderr, bytes, the end of it
	maxSentence    = 300              // of what a plugin says in an error, runes
	maxCalls       = 4                // at the same time, for each client
)

// Client calls one plugin about one key. It is safe for concurrent use.
type Client struct {
	program string
	id      string
	env     []string
	secrets []string
	timeout time.Duration
	slots   chan struct{}
	alone   chan struct{} // see turn

	mu    sync.Mutex
	idle  []*session
	final error // what would do harm if it was tried again
}

// NewClient makes a client. program is the path of a program, id the key's resource ID.
// env are variables that the program gets besides ours; their values are secrets, which
// no error shows. timeout is that of one call, such as [DefaultTimeout].
func NewClient(program, id string, env map[string]string, timeout time.Duration) *Client {
	c := &Client{program: program, id: id, timeout: timeout, slots: make(chan struct{}, maxCalls), alone: make(chan struct{}, 1)}
	for name, value := range env {
		c.env = append(c.env, name+"="+value)
		if value != "" {
			c.secrets = append(c.secrets, value)
		}
	}
	return c
}

// Program is the path of the plugin.
func (c *Client) Program() string { return c.program }

// SaidError is an error that the plugin itself has answered with.
type SaidError struct {
	Program  string // base name
	Message  string // one line, no secret of ours in it
	Final    bool   // see [Extension], as of WantsPIN
	WantsPIN bool
}

func (e *SaidError) Error() string {
	return fmt.Sprintf("%s says: %s", e.Program, e.Message)
}

// turn waits until nobody else starts a program that may log in to a token, up to its
// first answer: of several that begin at once with a wrong PIN each would use up a try.
// What the one before has found to be final is so for the next one. done ends the turn.
func (c *Client) turn() (done func(), err error) {
	patience := time.NewTimer(c.timeout)
	defer patience.Stop()
	select {
	case c.alone <- struct{}{}:
	case <-patience.C:
		return nil, fault.Unreachablef("%s was not started within %v: it was busy with another call", filepath.Base(c.program), c.timeout)
	}
	done = func() { <-c.alone }
	if err := c.failed(); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// failed is why no call can do any good, nil when one can.
func (c *Client) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.final
}

// ask runs the plugin for one call, when it is its turn if it may log in to a token.
func (c *Client) ask(req Request, hash uint, stdin []byte, mayLogIn bool) (*Response, error) {
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	if mayLogIn {
		done, err := c.turn()
		if err != nil {
			return nil, err
		}
		defer done()
	}
	return c.run(req, hash, stdin)
}

// run runs the plugin once. hash is what the key's client would be made for.
func (c *Client) run(req Request, hash uint, stdin []byte) (*Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	c.init(&req, hash, deadline)
	arg, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(c.program)
	answer, said := &head{max: maxAnswer}, &tail{max: maxSaid}
	cmd := c.command(ctx, Version, string(arg))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), answer, said
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fault.Unreachablef("%s did not answer within %v%s", name, c.timeout, c.lastLine(said))
	case answer.over:
		return nil, fmt.Errorf("%s answered more than %d KiB; that is no answer of a KMS plugin", name, maxAnswer>>10)
	case errors.As(err, &exit):
		// The protocol ignores the status, but a program that a signal ended has not finished.
		if !exit.Exited() {
			return nil, fault.Unreachablef("%s died: %v%s", name, exit.ProcessState, c.lastLine(said))
		}
	case errors.Is(err, exec.ErrWaitDelay):
	case err != nil && cmd.Process == nil:
		return nil, fault.As(fault.Unreachable, startError(name, err))
	case err != nil:
		// It did not read stdin to its end, for example: what it has answered counts.
	}
	resp, err := decode(answer.b.Bytes())
	if err != nil {
		status := ""
		if exit != nil {
			status = fmt.Sprintf(" (exit status %d)", exit.ExitCode())
		}
		return nil, fmt.Errorf("%s%s: %w%s", name, status, err, c.lastLine(said))
	}
	if err := c.saidError(resp); err != nil {
		return nil, err
	}
	return resp, nil
}

func (c *Client) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.program, args...)
	cmd.Env = append(os.Environ(), c.env...)
	// A child of its own may hold the pipes open after it: they are left then.
	cmd.WaitDelay = time.Second
	return cmd
}

// init says which key a request is about.
func (c *Client) init(req *Request, hash uint, deadline time.Time) {
	deadline = deadline.UTC().Truncate(time.Second)
	rpc := noRPC()
	req.Init = Init{Deadline: &deadline, Version: Version, KeyResourceID: c.id, Hash: hash, RPC: &rpc}
}

// saidError is the error that the plugin answers with, nil without one. A final one is
// that of all later calls.
func (c *Client) saidError(resp *Response) error {
	if resp.Error == "" {
		return nil
	}
	e := &SaidError{Program: filepath.Base(c.program), Message: c.clean(resp.Error)}
	if h := resp.Hallmark; h != nil {
		e.Final, e.WantsPIN = h.Final, h.WantsPIN
	}
	if e.Final {
		c.mu.Lock()
		c.final = e
		c.mu.Unlock()
	}
	return e
}

// decode reads one JSON object and nothing else. What it does not know it ignores, as
// the protocol's own client does: plugins may be newer.
func decode(data []byte) (*Response, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("answered nothing")
	}
	if trimmed := bytes.TrimSpace(data); trimmed[0] != '{' {
		return nil, errors.New("answered with something else than a JSON object")
	}
	var resp Response
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&resp); err != nil {
		return nil, errors.New("answered with JSON that is not of the protocol " + Version)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("answered with more than one JSON object")
	}
	return &resp, nil
}

// lastLine is the last line that the plugin wrote to stderr, to follow an error.
func (c *Client) lastLine(said *tail) string {
	lines := strings.Split(strings.TrimSpace(said.text()), "\n")
	if text := c.clean(lines[len(lines)-1]); text != "" {
		return "; it said: " + text
	}
	return ""
}

// clean makes one line of what a plugin says: without control characters, bounded, and
// without what we gave it in secret.
func (c *Client) clean(text string) string {
	for _, s := range c.secrets {
		text = strings.ReplaceAll(text, s, "…")
	}
	text = strings.ToValidUTF8(text, "�")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
	if utf8.RuneCountInString(text) > maxSentence {
		text = string([]rune(text)[:maxSentence]) + "…"
	}
	return text
}

// head keeps up to max bytes, and fails the writer behind them, which ends the program.
type head struct {
	b    bytes.Buffer
	max  int
	over bool
}

func (h *head) Write(p []byte) (int, error) {
	if h.b.Len()+len(p) > h.max {
		h.over = true
		return 0, errors.New("too much")
	}
	return h.b.Write(p)
}

// tail keeps the last max bytes.
type tail struct {
	mu  sync.Mutex
	b   []byte
	max int
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - t.max; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}
