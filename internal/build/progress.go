package build

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/opencontainers/go-digest"
)

// ProgressMode is how a build is shown while it runs.
type ProgressMode string

// The modes. The zero mode shows nothing.
const (
	ProgressNone  ProgressMode = ""
	ProgressPlain ProgressMode = "plain" // a line for each event
	ProgressTTY   ProgressMode = "tty"   // redrawn; needs a terminal
)

// maxStepLog bounds what is kept of each step's output.
const maxStepLog = 4 << 10

// progress shows a build and remembers the end of each step's output, for the
// message when one fails.
type progress struct {
	display *progressui.Display

	mu     sync.Mutex
	logs   map[digest.Digest][]byte
	failed digest.Digest
}

func newProgress(mode ProgressMode, out io.Writer) *progress {
	p := &progress{logs: map[digest.Digest][]byte{}}
	if mode == ProgressNone || out == nil {
		return p
	}
	d, err := progressui.NewDisplay(out, progressui.DisplayMode(mode))
	if err != nil { // no terminal after all
		d, err = progressui.NewDisplay(out, progressui.PlainMode)
	}
	if err == nil {
		p.display = &d
	}
	return p
}

// follow reads status until it is closed.
func (p *progress) follow(ctx context.Context, status <-chan *client.SolveStatus) {
	if p.display == nil {
		for s := range status {
			p.note(s)
		}
		return
	}
	shown := make(chan *client.SolveStatus)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		// Its warnings are part of what it draws; a display that fails must
		// not fail the build, and must not block it either.
		_, _ = p.display.UpdateFrom(context.WithoutCancel(ctx), shown)
		for range shown {
		}
	}()
	for s := range status {
		p.note(s)
		shown <- s
	}
	close(shown)
	<-finished
}

func (p *progress) note(s *client.SolveStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range s.Logs {
		kept := append(p.logs[l.Vertex], l.Data...)
		if over := len(kept) - maxStepLog; over > 0 {
			kept = bytes.Clone(kept[over:])
		}
		p.logs[l.Vertex] = kept
	}
	for _, v := range s.Vertexes {
		if v.Error != "" && !strings.Contains(v.Error, context.Canceled.Error()) {
			p.failed = v.Digest
		}
	}
}

// failure is the end of the failing step's output, at most 20 lines.
func (p *progress) failure() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := strings.TrimSpace(strings.ToValidUTF8(string(p.logs[p.failed]), "\uFFFD"))
	lines := strings.Split(text, "\n")
	if len(lines) > 20 {
		lines = lines[len(lines)-20:]
	}
	return strings.Join(lines, "\n")
}
