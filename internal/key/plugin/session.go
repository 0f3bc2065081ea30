package plugin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// A plugin of ours can stay: started with [Stay] in the place of a request, it answers a
// request in each line of stdin with one in each line of stdout, keeps token and login
// open between them, and ends with its stdin, or after an error, so that whatever it was
// the next one begins anew. Loading a module and logging in takes a hundred times as long
// as a signature.

// Stay is the second argument of a plugin that is to stay.
const Stay = "stay"

const (
	maxStaying = 1 << 20          // of a message that goes through a line, bytes
	maxIdle    = 15 * time.Second // then it ends, and its login with it
)

// staying is a line to a plugin that stays: a request with its message.
type staying struct {
	Request
	Message []byte `json:"message,omitempty"`
}

// session is a plugin that stays. One call at a time uses it.
type session struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Closer
	out    *bufio.Reader
	said   *tail
	kill   context.CancelFunc
	idle   *time.Timer
}

// start runs the plugin. It ends with end, or when this process does.
func (c *Client) start() (*session, error) {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := c.command(ctx, Version, Stay)
	s := &session{cmd: cmd, said: &tail{max: maxSaid}, kill: cancel}
	cmd.Stderr = s.said
	stdin, err := cmd.StdinPipe()
	if err == nil {
		s.stdin = stdin
		var stdout io.ReadCloser
		if stdout, err = cmd.StdoutPipe(); err == nil {
			s.stdout, s.out = stdout, bufio.NewReaderSize(stdout, maxAnswer)
			err = cmd.Start()
		}
	}
	if err != nil {
		cancel()
		return nil, fault.As(fault.Unreachable, startError(filepath.Base(c.program), err))
	}
	return s, nil
}

// end ends it. Nothing reads its answers any more, which Wait takes away.
func (s *session) end() {
	_ = s.stdin.Close()
	s.kill()
	go func() { _ = s.cmd.Wait() }() // how it ended says nothing: the protocol ignores it
}

// abort makes who writes to it or reads its answer wait no longer, even where a child of
// its own holds the pipes open.
func (s *session) abort() {
	s.kill()
	_ = s.stdin.Close()
	_ = s.stdout.Close()
}

// take gives an idle session, nil when there is none.
func (c *Client) take() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.idle) > 0 {
		s := c.idle[len(c.idle)-1]
		c.idle = c.idle[:len(c.idle)-1]
		if s.idle.Stop() { // else it is ending
			return s
		}
	}
	return nil
}

// keep leaves a session for the next call.
func (c *Client) keep(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.idle = time.AfterFunc(maxIdle, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i := range c.idle {
			if c.idle[i] == s {
				c.idle = append(c.idle[:i], c.idle[i+1:]...)
				break
			}
		}
		s.end()
	})
	c.idle = append(c.idle, s)
}

// errEnded is a session that had ended before it was asked.
var errEnded = errors.New("the plugin ended")

// exchange sends one line and reads one.
func (c *Client) exchange(s *session, line []byte) (data []byte, err error) {
	patience := time.AfterFunc(c.timeout, s.abort)
	_, unwritten := s.stdin.Write(line)
	if unwritten == nil {
		data, err = s.out.ReadSlice('\n')
	}
	name := filepath.Base(c.program)
	switch {
	case !patience.Stop():
		return nil, fault.Unreachablef("%s did not answer within %v%s", name, c.timeout, c.lastLine(s.said))
	case unwritten != nil:
		return nil, errEnded
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("%s answered more than %d KiB; that is no answer of a KMS plugin", name, maxAnswer>>10)
	case err != nil && len(data) == 0:
		return nil, errEnded
	case err != nil:
		return nil, fault.Unreachablef("%s died%s", name, c.lastLine(s.said))
	}
	return data, nil
}

// askStaying is ask by a plugin that stays. check judges the answer: only a plugin that
// gave a good one, and nothing behind it, is asked again.
func (c *Client) askStaying(req Request, hash uint, message []byte, check func(*Response) error) error {
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	c.init(&req, hash, time.Now().Add(c.timeout))
	line, err := json.Marshal(staying{req, message})
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if err := c.askIdle(line, check); !errors.Is(err, errEnded) {
		return err
	}
	done, err := c.turn()
	if err != nil {
		return err
	}
	defer done()
	// Who had the turn before may have left one.
	if err := c.askIdle(line, check); !errors.Is(err, errEnded) {
		return err
	}
	s, err := c.start()
	if err != nil {
		return err
	}
	if err = c.use(s, line, check); errors.Is(err, errEnded) {
		return fault.Unreachablef("%s ended without an answer%s", filepath.Base(c.program), c.lastLine(s.said))
	}
	return err
}

// askIdle asks a session that is there; errEnded is that there is none any more. Those
// that ended since their last call have answered nothing, and are passed over.
func (c *Client) askIdle(line []byte, check func(*Response) error) error {
	for s := c.take(); s != nil; s = c.take() {
		if err := c.use(s, line, check); !errors.Is(err, errEnded) {
			return err
		}
	}
	return errEnded
}

// use asks a session once, and keeps it or ends it.
func (c *Client) use(s *session, line []byte, check func(*Response) error) (err error) {
	defer func() {
		// Output that nobody asked for would be taken for the next answer.
		if err != nil || s.out.Buffered() > 0 {
			s.end()
		} else {
			c.keep(s)
		}
	}()
	data, err := c.exchange(s, line)
	if err != nil {
		return err
	}
	resp, err := decode(data)
	if err != nil {
		return fmt.Errorf("%s: %w%s", filepath.Base(c.program), err, c.lastLine(s.said))
	}
	if err := c.saidError(resp); err != nil {
		return err
	}
	return check(resp)
}

// maxLine bounds a line to a plugin that stays, in bytes.
const maxLine = maxStaying*2 + maxRequest

// ServeStaying answers requests line by line until in ends or one fails. open makes the
// backend for the key of the first one; the others must be about the same key.
func ServeStaying(in io.Reader, out io.Writer, open func(Init) Backend) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	answer := json.NewEncoder(out)
	var b Backend
	id := ""
	for lines.Scan() {
		var req staying
		resp := &Response{}
		switch err := json.Unmarshal(lines.Bytes(), &req); {
		case err != nil:
			resp = Failed(errors.New("the request is no JSON of the protocol " + Version))
		case req.Init.Version != Version:
			resp = Failed(fmt.Errorf("the version %.20q of the protocol is not %s", req.Init.Version, Version))
		case b != nil && req.Init.KeyResourceID != id:
			resp = Failed(errors.New("a plugin that stays is of one key"))
		default:
			if b == nil {
				b, id = open(req.Init), req.Init.KeyResourceID
			}
			resp = Serve(&req.Request, bytes.NewReader(req.Message), b)
		}
		if err := answer.Encode(resp); err != nil {
			return err
		}
		if resp.Error != "" {
			return errors.New(resp.Error)
		}
	}
	return lines.Err()
}
