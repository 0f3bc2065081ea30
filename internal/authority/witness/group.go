package witness

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// Target is a witness that a log asks: its key and its submission prefix.
type Target struct {
	Witness trust.Witness
	URL     string
}

// ParseTarget reads "VERIFIERKEY URL".
func ParseTarget(s string, plainHTTP bool) (Target, error) {
	vkey, url, ok := strings.Cut(strings.TrimSpace(s), " ")
	if !ok {
		return Target{}, fmt.Errorf("%.80q: want NAME+HASH+KEY and a URL, with a space between", s)
	}
	w, err := trust.ParseWitness(vkey)
	if err != nil {
		return Target{}, err
	}
	url = strings.TrimRight(strings.TrimSpace(url), "/")
	return Target{w, url}, loopback.CheckURL("witness "+w.Name, url, plainHTTP)
}

// GroupConfig says which witnesses are asked and how long they are waited for.
type GroupConfig struct {
	Targets []Target
	// Quorum is how many cosignatures are waited for; 0 is all of them.
	Quorum int
	// Wait bounds how long a checkpoint waits for them; default one second. A
	// witness that takes longer is asked, and not waited for, until it is faster.
	Wait time.Duration
	// Backoff is before a witness that failed is asked again; it doubles up to a
	// minute. Default one second.
	Backoff time.Duration
	Client  *http.Client     // default: one with a timeout of ten seconds
	Now     func() time.Time // default time.Now
	Log     *slog.Logger     // default: nothing is logged
}

// Group asks witnesses to cosign a log's checkpoints.
type Group struct {
	cfg     GroupConfig
	members []*member
	stop    context.CancelFunc
	running sync.WaitGroup
}

const maxBackoff = time.Minute

// NewGroup begins to ask; Close ends it.
func NewGroup(cfg GroupConfig) (*Group, error) {
	if cfg.Quorum < 0 || cfg.Quorum > len(cfg.Targets) {
		return nil, fmt.Errorf("%d of %d witnesses cannot cosign", cfg.Quorum, len(cfg.Targets))
	}
	if cfg.Quorum == 0 {
		cfg.Quorum = len(cfg.Targets)
	}
	if cfg.Wait == 0 {
		cfg.Wait = time.Second
	}
	if cfg.Backoff == 0 {
		cfg.Backoff = time.Second
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	g := &Group{cfg: cfg, stop: stop}
	names := map[string]bool{}
	for _, t := range cfg.Targets {
		if names[t.Witness.Name] || names[string(t.Witness.Key)] {
			stop()
			return nil, fmt.Errorf("the witness %s, or its key, is there twice", t.Witness.Name)
		}
		names[t.Witness.Name], names[string(t.Witness.Key)] = true, true
		m := &member{Target: t, group: g, wake: make(chan struct{}, 1)}
		g.members = append(g.members, m)
	}
	for _, m := range g.members {
		g.running.Go(func() { m.run(ctx) })
	}
	return g, nil
}

// Close ends all requests.
func (g *Group) Close() { g.stop(); g.running.Wait() }

// Checkpoint is what is to be cosigned: a signed checkpoint that is on disk.
type Checkpoint struct {
	Note []byte
	Size int64
	// Prove is the consistency proof from a smaller size.
	Prove func(old int64) (tlog.TreeProof, error)
	// Late is called with all signature lines when one came after Cosign returned.
	Late func(lines []byte)
}

// Cosign asks all witnesses and returns the signature lines that came in time: when
// the quorum has cosigned, when all that are well have answered, or after Wait.
func (g *Group) Cosign(c Checkpoint) []byte {
	j := &job{Checkpoint: c, text: textOf(c.Note), quorum: g.cfg.Quorum, done: make(chan struct{}), waiting: map[*member]bool{}}
	j.mu.Lock() // nobody's answer counts before it is known who is waited for
	for _, m := range g.members {
		if m.post(j) {
			j.waiting[m] = true
		}
	}
	wait := len(j.waiting) > 0
	j.mu.Unlock()
	if wait {
		timeout := time.NewTimer(g.cfg.Wait)
		defer timeout.Stop()
		select {
		case <-j.done:
		case <-timeout.C:
		}
	}
	lines, slow := j.give()
	for _, m := range slow {
		m.judge(fmt.Errorf("it did not cosign within %v", g.cfg.Wait), 0)
	}
	return lines
}

// Health is what is known of one witness.
type Health struct {
	Name    string
	Problem string    // "" when it cosigned the last checkpoint in time
	Since   time.Time // of the problem
}

// Health tells of every witness.
func (g *Group) Health() []Health {
	var out []Health
	for _, m := range g.members {
		m.mu.Lock()
		out = append(out, Health{m.Witness.Name, m.problem, m.since})
		m.mu.Unlock()
	}
	return out
}

// job is one checkpoint on its way.
type job struct {
	Checkpoint
	text   string
	quorum int
	done   chan struct{}

	mu      sync.Mutex
	lines   []byte
	count   int
	waiting map[*member]bool // those that are well and have not answered
	ended   bool
	given   bool // Cosign has returned
}

// answered counts a witness's answer; line is nil when it did not cosign.
func (j *job) answered(m *member, line []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if line != nil {
		j.lines = append(j.lines, line...)
		j.count++
	}
	delete(j.waiting, m)
	if !j.ended && (j.count >= j.quorum || len(j.waiting) == 0) {
		j.ended = true
		close(j.done)
	}
	if line != nil && j.given && j.Late != nil {
		j.Late(bytes.Clone(j.lines))
	}
}

// give is what came in time, and who was waited for in vain.
func (j *job) give() (lines []byte, slow []*member) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.given = true
	if !j.ended {
		slow = slices.Collect(maps.Keys(j.waiting))
	}
	return bytes.Clone(j.lines), slow
}

// member is one witness with the goroutine that asks it.
type member struct {
	Target
	group *Group
	wake  chan struct{}

	mu      sync.Mutex
	next    *job // the newest checkpoint that it was not asked about
	problem string
	since   time.Time

	known int64 // size of the tree that it cosigned last; of run alone
}

// post gives it a checkpoint to ask about, and reports whether it is well.
func (m *member) post(j *job) bool {
	m.mu.Lock()
	m.next = j
	well := m.problem == ""
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return well
}

func (m *member) take() *job {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.next
	m.next = nil
	return j
}

// run asks for one checkpoint after the other, always the newest; after a failure
// for the same again, when no newer one has come.
func (m *member) run(ctx context.Context) {
	backoff := m.group.cfg.Backoff
	var failed *job
	for {
		var again <-chan time.Time
		if failed != nil {
			again = time.After(backoff)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-again:
			backoff = min(2*backoff, maxBackoff)
		}
		j := m.take()
		if j == nil {
			j = failed
		}
		if j == nil {
			continue
		}
		start := time.Now()
		line, err := m.ask(ctx, j)
		if ctx.Err() != nil {
			j.answered(m, nil)
			return
		}
		failed = nil
		if err != nil {
			failed = j
		} else {
			backoff = m.group.cfg.Backoff
		}
		m.judge(err, time.Since(start))
		j.answered(m, line)
	}
}

// judge notes how the witness is.
func (m *member) judge(err error, took time.Duration) {
	problem := ""
	switch {
	case err != nil:
		problem = err.Error()
	case took > m.group.cfg.Wait:
		problem = fmt.Sprintf("it takes longer than %v to cosign", m.group.cfg.Wait)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if (problem == "") != (m.problem == "") {
		m.since = m.group.cfg.Now()
		if problem != "" {
			m.group.cfg.Log.Warn("a witness does not cosign in time; it is asked, and not waited for", "witness", m.Witness.Name, "problem", problem)
		} else {
			m.group.cfg.Log.Warn("a witness cosigns again", "witness", m.Witness.Name)
		}
	}
	m.problem = problem
}

var errFork = errors.New("it refuses: it has cosigned another tree of this log")

// ask has the witness cosign, once more when it names another size to begin from.
func (m *member) ask(ctx context.Context, j *job) ([]byte, error) {
	for again := true; ; again = false {
		if m.known > j.Size {
			return nil, fmt.Errorf("it has cosigned %d entries of this log, which has %d: was an older copy of the log put back?", m.known, j.Size)
		}
		var r request
		r.old, r.note = m.known, j.Note
		if r.old > 0 && r.old < j.Size {
			var err error
			if r.proof, err = j.Prove(r.old); err != nil {
				return nil, err
			}
		}
		status, contentType, body, err := m.send(ctx, r)
		if err != nil {
			return nil, err
		}
		switch status {
		case http.StatusOK:
			line, err := m.line(j, body)
			if err == nil {
				m.known = j.Size
			}
			return line, err
		case http.StatusConflict:
			size, err := parseSize(strings.TrimSuffix(string(body), "\n"))
			if contentType != sizeType || err != nil || size == m.known {
				return nil, errFork
			}
			m.known = size
			if again || size > j.Size {
				continue
			}
			return nil, errors.New("it cannot say what it cosigned last")
		case http.StatusUnprocessableEntity:
			return nil, errFork
		case http.StatusNotFound:
			return nil, errors.New("it does not watch this log")
		case http.StatusForbidden:
			return nil, errors.New("it does not trust the key of this log")
		}
		return nil, fmt.Errorf("it answers HTTP %d", status)
	}
}

// maxAnswer bounds a witness's answer: a few signature lines.
const maxAnswer = 64 << 10

func (m *member) send(ctx context.Context, r request) (status int, contentType string, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL+"/add-checkpoint", bytes.NewReader(r.encode()))
	if err != nil {
		return 0, "", nil, errors.New("its URL is none")
	}
	resp, err := m.group.cfg.Client.Do(req)
	if err != nil {
		return 0, "", nil, errors.New("it does not answer")
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, "", nil, errors.New("its answer breaks off")
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), body, nil
}

// line is the signature line by the witness in its answer, verified. Others in it
// are by keys that nobody here knows.
func (m *member) line(j *job, body []byte) ([]byte, error) {
	for line := range bytes.Lines(body) {
		rest, ok := strings.CutPrefix(string(line), "— "+m.Witness.Name+" ")
		raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(rest, "\n"))
		if !ok || err != nil || len(raw) < 4 || binary.BigEndian.Uint32(raw) != binary.BigEndian.Uint32(m.Witness.Hint[:]) {
			continue
		}
		if translog.Cosignature(raw[4:]).Verify(m.Witness.Key, j.text, m.group.cfg.Now()) && bytes.HasSuffix(line, []byte("\n")) {
			return line, nil
		}
	}
	return nil, errors.New("it answers without a good cosignature by its key")
}
