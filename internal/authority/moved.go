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
// the last one of the folder. The way back is closed: the folder's own log would fork.
func MoveLog(ctx context.Context, dir, to string, o translog.HTTPOptions) (MovedLog, error) {
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
	if to, err = checkMove(st, to, o.PlainHTTP); err != nil {
		return MovedLog{}, err
	}
	all := st.Keys[ServiceLog]
	n := len(all)
	if signing(all, time.Now()) != n {
		return MovedLog{}, fmt.Errorf("the log's next key signs from %s on: move it after that", all[n-1].Signs.Format(time.RFC3339))
	}
	public, err := all[n-1].public()
	if err != nil {
		return MovedLog{}, err
	}
	log, err := translog.NewLog(st.Host, public)
	if err != nil {
		return MovedLog{}, err
	}
	last, err := lastCheckpoint(filepath.Join(dir, shardDir(ServiceLog, n)), log)
	if err != nil {
		return MovedLog{}, damaged(err)
	}
	shown, err := continues(ctx, log, last, to, o)
	if err != nil {
		return MovedLog{}, err
	}
	st.Moved = &movedLog{n, to}
	return MovedLog{to, last.Size, shown.Size}, st.save(dir)
}

// checkMove holds a log's new address to what clients will accept.
func checkMove(st *state, to string, plainHTTP bool) (string, error) {
	u, err := url.Parse(to)
	if err != nil || u.Host == "" || u.User != nil || strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fault.Usagef("%q is not a base URL such as https://sigstore.example.com", to)
	}
	to = strings.TrimSuffix(to, "/")
	if err := loopback.CheckURL("log", to, plainHTTP); err != nil {
		return "", fault.As(fault.Usage, err)
	}
	if !strings.EqualFold(u.Hostname(), st.Host) {
		return "", fault.Hint(fault.Usagef("the log's origin is %s: clients refuse it at %s", st.Host, u.Hostname()),
			"route that host's /api/v2/log/, /api/v2/checkpoint and /api/v2/tile/ to the log, or use another port of it")
	}
	return to, nil
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

// continues makes sure that the log at a URL extends a checkpoint.
func continues(ctx context.Context, log translog.Log, last *translog.Checkpoint, to string, o translog.HTTPOptions) (*translog.Checkpoint, error) {
	source, err := translog.HTTPSource(ctx, to, o)
	if err != nil {
		return nil, err
	}
	raw, err := source.Get(ctx, "checkpoint", translog.MaxCheckpoint)
	if err != nil {
		return nil, err
	}
	shown, err := log.ParseCheckpoint(raw, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", to, err)
	}
	const hint = "migrate it from this folder, while nothing runs on it: hallmark-log migrate (docs/outgrown.md)"
	if shown.Size < last.Size {
		return nil, fault.Hint(fmt.Errorf("%s has %d entries, and %d were signed here", to, shown.Size, last.Size), hint)
	}
	if last.Size == 0 {
		return shown, nil
	}
	root, err := translog.NewView(shown, source, nil).RootAt(ctx, last.Size)
	if err != nil {
		return nil, err
	}
	if root != last.Root {
		return nil, fault.Hint(fmt.Errorf("the first %d entries at %s are not those that were signed here: one of the two is a fork", last.Size, to), hint)
	}
	return shown, nil
}
