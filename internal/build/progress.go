package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/opencontainers/go-digest"

	"github.com/hallmark-dev/hallmark/internal/build/sourcegate"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// ProgressMode is how a build is shown while it runs, in the words of docker buildx.
type ProgressMode string

// The modes. The zero mode shows nothing.
const (
	ProgressNone    ProgressMode = ""
	ProgressPlain   ProgressMode = "plain"   // a line for each event
	ProgressTTY     ProgressMode = "tty"     // redrawn; needs a terminal
	ProgressRawJSON ProgressMode = "rawjson" // a JSON object a line: BuildKit's client.SolveStatus
)

// Progress shows a build while it runs: BuildKit's steps, and those of Hallmark's own. It
// is safe for concurrent use; nil shows nothing.
type Progress struct {
	mode ProgressMode

	mu  sync.Mutex // of writes: one is one piece
	out io.Writer
}

// NewProgress shows builds on out.
func NewProgress(mode ProgressMode, out io.Writer) *Progress {
	if mode == ProgressNone || out == nil {
		return nil
	}
	return &Progress{mode: mode, out: out}
}

// Step shows that a step of Hallmark's own begins; the function that it gives is called
// with what became of it. A name begins with its kind, as "[sign] …".
func (p *Progress) Step(name string) func(error) {
	if p == nil {
		return func(error) {}
	}
	v := newVertex(name, time.Now())
	p.own(v)
	return func(err error) {
		ended := *v
		now := time.Now()
		ended.Completed = &now
		if err != nil {
			ended.Error = err.Error()
		}
		p.own(&ended)
	}
}

// Ended is the error of a step that a decision may have ended.
func Ended(d policy.Decision, err error) error {
	if err != nil || d.Allowed {
		return err
	}
	return errors.New(because(d.Reasons))
}

// because is why something is denied, in one line: its texts may be a stranger's.
func because(reasons []policy.Reason) string {
	var texts []string
	for _, r := range reasons {
		texts = append(texts, strings.Join(strings.Fields(r.String()), " "))
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, strings.Join(texts, "; "))
}

func newVertex(name string, started time.Time) *client.Vertex {
	return &client.Vertex{Name: name, Started: &started, Digest: digest.FromString(started.Format(time.RFC3339Nano) + " " + name)}
}

// own writes a step that is no part of a solve: for people when it has ended, as what
// redraws the terminal would be in the way of questions.
func (p *Progress) own(v *client.Vertex) {
	if p.mode == ProgressRawJSON {
		p.write(&client.SolveStatus{Vertexes: []*client.Vertex{v}})
		return
	}
	if v.Completed == nil {
		return
	}
	line := fmt.Sprintf(" => %s  %.1fs\n", v.Name, v.Completed.Sub(*v.Started).Seconds())
	if v.Error != "" {
		line = fmt.Sprintf(" => ERROR %s: %s\n", v.Name, v.Error)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.out, line) // what cannot be shown does not fail a build
}

func (p *Progress) write(s *client.SolveStatus) {
	line, err := json.Marshal(s)
	if err != nil || string(line) == "{}" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = p.out.Write(append(line, '\n'))
}

// maxStepLog bounds what is kept of each step's output.
const maxStepLog = 4 << 10

// progress shows one solve, and remembers the end of each step's output, for the message
// when one fails.
type progress struct {
	*Progress

	sending sync.Mutex
	shown   chan *client.SolveStatus // what the display draws; nil without one, or when it has ended

	mu      sync.Mutex
	logs    map[digest.Digest][]byte
	failed  digest.Digest
	allowed map[string]bool // sources that people were told of
}

func newProgress(to *Progress) *progress {
	return &progress{Progress: to, logs: map[digest.Digest][]byte{}, allowed: map[string]bool{}}
}

// display is what draws for people; nil: nothing does.
func (p *progress) display() *progressui.Display {
	if p.Progress == nil || p.mode == ProgressRawJSON {
		return nil
	}
	d, err := progressui.NewDisplay(p.out, progressui.DisplayMode(p.mode))
	if err != nil { // no terminal after all
		d, err = progressui.NewDisplay(p.out, progressui.PlainMode)
	}
	if err != nil {
		return nil
	}
	return &d
}

// follow reads status until it is closed.
func (p *progress) follow(ctx context.Context, status <-chan *client.SolveStatus) {
	if d := p.display(); d != nil {
		shown, finished := make(chan *client.SolveStatus), make(chan struct{})
		p.sending.Lock()
		p.shown = shown
		p.sending.Unlock()
		go func() {
			defer close(finished)
			// Its warnings are part of what it draws; a display that fails must
			// not fail the build, and must not block it either.
			_, _ = d.UpdateFrom(context.WithoutCancel(ctx), shown)
			for range shown {
			}
		}()
		defer func() {
			p.sending.Lock()
			p.shown = nil
			p.sending.Unlock()
			close(shown)
			<-finished
		}()
	}
	for s := range status {
		p.note(s)
		p.send(s)
	}
}

// send shows a part of the solve.
func (p *progress) send(s *client.SolveStatus) {
	if p.Progress == nil {
		return
	}
	if p.mode == ProgressRawJSON {
		p.write(s)
		return
	}
	p.sending.Lock()
	defer p.sending.Unlock()
	if p.shown != nil {
		p.shown <- s
	}
}

// judged shows what the source policies decided about a source: to people once, and not
// again when BuildKit asks about the same image with its digest.
func (p *progress) judged(s sourcegate.Source, asked time.Time) {
	if p.Progress == nil {
		return
	}
	name := "[policy] " + s.Source
	if s.UsedAs != "" && !strings.HasSuffix(s.Source, "@"+s.UsedAs) {
		name += " as " + s.UsedAs
	}
	if s.Allowed && p.mode != ProgressRawJSON {
		p.mu.Lock()
		known := p.allowed[s.Source]
		p.allowed[s.Source], p.allowed[s.Source+"@"+s.UsedAs] = true, true
		p.mu.Unlock()
		if known {
			return
		}
	}
	v, now := newVertex(name, asked), time.Now()
	v.Completed = &now
	if !s.Allowed {
		v.Error = because(s.Reasons)
	}
	p.send(&client.SolveStatus{Vertexes: []*client.Vertex{v}})
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
