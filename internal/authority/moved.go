package authority

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// movedLog is a tree of the log that another program goes on with (docs/outgrown.md).
// Nothing is signed for it here ever again.
type movedLog struct {
	Shard int    `json:"shard"` // its number; the last when it was moved
	URL   string `json:"url"`   // base URL, without a slash at the end
	// Seen is the newest checkpoint that it showed there when it was moved.
	Seen string `json:"seen"`
}

// is reports whether the nth tree is the one that was moved.
func (m *movedLog) is(n int) bool { return m != nil && m.Shard == n }

// handler sends clients with an older signing config to where the log is.
func (m *movedLog) handler(own string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.URL == own { // what routes to us should have routed past us
			tlog.WriteError(w, http.StatusServiceUnavailable, tlog.CodeUnavailable, "the log is kept by another program at this address: requests for it must be routed there (docs/outgrown.md)")
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, m.URL+r.URL.EscapedPath(), http.StatusPermanentRedirect)
	})
}

// MovedLog is what MoveLog found.
type MovedLog struct {
	URL     string
	Entries int64 // under the last checkpoint that was signed here
	Now     int64 // under the one that the log shows at its new place
}

// MoveLog says that the log of a folder, on which no authority is running, is written
// to at a base URL from now on. That one must show a tree of the same key that extends
// the last one of the folder and, of a log that was moved before, what was seen at the
// place that it had until now and what that shows. The way back is closed: the folder's
// own log would fork.
//
// known is a checkpoint that the log must extend, too, or nil. With it the place that the
// log had until now need not answer any more; a log that moves to the place that it has
// needs one.
func MoveLog(ctx context.Context, dir, to string, known []byte, o translog.HTTPOptions) (MovedLog, error) {
	_, dir, err := readState(dir)
	if err != nil {
		return MovedLog{}, err
	}
	held, err := lock(dir)
	if err != nil {
		return MovedLog{}, fault.Hint(err, "stop it first: until then it signs for its log")
	}
	defer func() { _ = syscall.Flock(int(held.Fd()), syscall.LOCK_UN); _ = held.Close() }()
	st, _, err := readState(dir) // as it is under the lock
	if err != nil {
		return MovedLog{}, err
	}
	if st.Version < stateVersion || st.Rotating != nil {
		return MovedLog{}, fault.Hint(fmt.Errorf("%s is of an older version, or a rotation in it was interrupted", dir), "start hallmark up on it once")
	}
	all := st.Keys[ServiceLog]
	n := len(all)
	if to, err = checkMove(st, n, to, o.PlainHTTP); err != nil {
		return MovedLog{}, err
	}
	if signing(all, time.Now()) != n {
		return MovedLog{}, fmt.Errorf("the log's next key signs from %s on: move it after that", all[n-1].Signs.Format(time.RFC3339))
	}
	public, err := all[n-1].public()
	if err != nil {
		return MovedLog{}, err
	}
	log, err := translog.NewLog(st.treeName(n), public)
	if err != nil {
		return MovedLog{}, err
	}
	last, err := lastCheckpoint(filepath.Join(dir, shardDir(ServiceLog, n)), log)
	if err != nil {
		return MovedLog{}, wayOut(err)
	}
	before, err := st.Moved.before(ctx, log, to, known, o)
	if err != nil {
		return MovedLog{}, err
	}
	shown, err := continues(ctx, log, append(before, last), to, o)
	if err != nil {
		return MovedLog{}, err
	}
	st.Moved = &movedLog{n, to, string(shown.Note)}
	return MovedLog{to, last.Size, shown.Size}, st.save(dir)
}

// before are the checkpoints of a log that the folder does not have: what was signed
// elsewhere since it was moved. What its place of now shows says nothing of a log that
// moves to the same place: another one may answer there by now.
func (m *movedLog) before(ctx context.Context, log translog.Log, to string, known []byte, o translog.HTTPOptions) (out []*translog.Checkpoint, err error) {
	if known != nil {
		c, err := log.ParseCheckpoint(known, time.Now())
		if err != nil {
			return nil, fault.As(fault.Usage, fmt.Errorf("the checkpoint that is to be extended: %w", err))
		}
		out = append(out, c)
	}
	if m == nil {
		return out, nil
	}
	seen, err := log.ParseCheckpoint([]byte(m.Seen), time.Now())
	if err != nil {
		return nil, wayOut(&durable.CorruptError{Path: stateFile, Why: "what it saw of the log that was moved is no checkpoint of it"})
	}
	out = append(out, seen)
	if sameBase(m.URL, to) {
		if known == nil {
			return nil, fault.Hint(fault.Usagef("the log was moved to %s before: compared with itself, it proves nothing of what it has signed since", m.URL),
				"nothing is to be done for a log that is there as it was; for one that was taken to another storage, name the newest checkpoint that it signed before with --extends (docs/outgrown.md)")
		}
		return out, nil
	}
	_, present, err := shows(ctx, log, m.URL, o)
	switch {
	case err == nil:
		out = append(out, present)
	case known == nil:
		return nil, fault.Hint(fmt.Errorf("the log was moved to %s before, and what it has signed there cannot be read: %w", m.URL, err),
			"let it answer there, or, if it is lost, name the newest checkpoint that it signed with --extends: a copy of its file newest, or what a monitor saw (docs/outgrown.md)")
	}
	return out, nil
}

// checkMove holds the new address of the nth tree to what clients will accept.
func checkMove(st *state, n int, to string, plainHTTP bool) (string, error) {
	u, err := url.Parse(to)
	if err != nil || u.Host == "" || u.User != nil || strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fault.Usagef("%q is not a base URL such as https://sigstore.example.com", to)
	}
	to = strings.TrimSuffix(to, "/")
	if err := loopback.CheckURL("log", to, plainHTTP); err != nil {
		return "", fault.As(fault.Usage, err)
	}
	if name := st.treeName(n); !strings.EqualFold(u.Hostname(), name) {
		return "", fault.Hint(fault.Usagef("the log's origin is %s: clients refuse it at %s", name, u.Hostname()),
			"route that host's /api/v2/log/, /api/v2/checkpoint and /api/v2/tile/ to the log, or use another port of it")
	}
	if n > 1 && sameBase(to, st.URL) {
		return "", firstTreeAt(to, n)
	}
	return to, nil
}

// firstTreeAt refuses the address of a log's first tree for a later one: an address is of
// one tree, and who reads the first one there would take the other for a fork of it.
func firstTreeAt(url string, n int) error {
	return fault.Hint(fault.Usagef("the log has had %d keys, and the tree of the first one is read at %s: another tree cannot be there", n, url),
		"let the log have another port of that host, and leave that address to hallmark up")
}

// checkURL refuses a base URL at which the first tree and one that was moved would meet.
func (m *movedLog) checkURL(base string) error {
	if m != nil && m.Shard > 1 && sameBase(m.URL, base) {
		return firstTreeAt(base, m.Shard)
	}
	return nil
}

// sameBase reports whether two base URLs lead to one place.
func sameBase(a, b string) bool {
	normal := func(text string) string {
		u, err := url.Parse(text)
		if err != nil {
			return text
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		return u.Scheme + " " + strings.ToLower(u.Hostname()) + " " + port
	}
	return normal(a) == normal(b)
}

func lastCheckpoint(dir string, log translog.Log) (*translog.Checkpoint, error) {
	note, err := tlog.Published(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &durable.CorruptError{Path: dir, Why: "it has no checkpoint"}
	}
	if err != nil {
		return nil, err
	}
	return log.ParseCheckpoint(note, time.Now())
}

// shows is what the log at a URL shows of itself.
func shows(ctx context.Context, log translog.Log, at string, o translog.HTTPOptions) (translog.Source, *translog.Checkpoint, error) {
	source, err := translog.HTTPSource(ctx, at, o)
	if err != nil {
		return nil, nil, err
	}
	raw, err := source.Get(ctx, "checkpoint", translog.MaxCheckpoint)
	if err != nil {
		return nil, nil, err
	}
	c, err := log.ParseCheckpoint(raw, time.Now())
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", at, err)
	}
	return source, c, nil
}

// continues makes sure that the log at a URL extends all that was signed before.
func continues(ctx context.Context, log translog.Log, before []*translog.Checkpoint, to string, o translog.HTTPOptions) (*translog.Checkpoint, error) {
	source, shown, err := shows(ctx, log, to, o)
	if err != nil {
		return nil, err
	}
	view := translog.NewView(shown, source, nil)
	for _, last := range before {
		if err := extends(ctx, view, last, to); err != nil {
			return nil, err
		}
	}
	return shown, nil
}

func extends(ctx context.Context, shown *translog.View, last *translog.Checkpoint, to string) error {
	const hint = "take it over from where it was written to last, while nothing writes to it: hallmark-log migrate (docs/outgrown.md)"
	if shown.Size() < last.Size {
		return fault.Hint(fmt.Errorf("%s has %d entries, and %d were signed before", to, shown.Size(), last.Size), hint)
	}
	if last.Size == 0 {
		return nil
	}
	root, err := shown.RootAt(ctx, last.Size)
	if err != nil {
		return err
	}
	if root != last.Root {
		return fault.Hint(fmt.Errorf("the first %d entries at %s are not those that were signed before: one of the two is a fork", last.Size, to), hint)
	}
	return nil
}
