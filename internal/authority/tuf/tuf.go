// Package tuf is the authority's TUF repository: how stock clients get the
// trusted root and the signing config, and notice when either changes. It has
// one Ed25519 key for each top-level role, consistent snapshots and no
// delegations (theupdateframework.github.io/specification/latest).
//
// The whole repository is one sealed file that is replaced atomically before
// any of it is served: a crash leaves the old repository or the new one, so
// versions only grow and no client sees half an update. What is served is in
// memory; a damaged file is refused by name at Open.
//
// Trusted / not trusted: the folder holds the signing keys and is trusted: an
// attacker who can read it can tell clients what to trust. One who can only
// modify it can at most make Open fail, or put back an older copy, which
// clients that saw a newer one refuse. Mirrors of what is served are not trusted.
package tuf

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// Config is how a repository behaves; the zero value is usable.
type Config struct {
	Now func() time.Time // default time.Now
	Log *slog.Logger     // default: nothing is logged
}

// How long new metadata is valid. Everything is signed again when half of that
// has passed, so that a server that was switched off for days serves
// metadata that has not expired as soon as it is opened.
const (
	timestampLife = 7 * 24 * time.Hour
	snapshotLife  = 30 * 24 * time.Hour
	targetsLife   = 365 * 24 * time.Hour
	rootLife      = 10 * 365 * 24 * time.Hour
)

// checkEvery is how often Run looks whether something must be signed again.
const checkEvery = time.Hour

const fileName = "repository.sealed"

// Repo is an open repository. It is safe for concurrent use; the folder must
// not be open twice.
type Repo struct {
	cfg  Config
	path string

	mu     sync.RWMutex
	state  *state
	served map[string][]byte // path without leading slash
}

var _ http.Handler = (*Repo)(nil)

// Open opens the repository in dir, or creates one without targets, and signs
// again what is stale.
func Open(dir string, cfg Config) (*Repo, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	r := &Repo{cfg: cfg, path: filepath.Join(dir, fileName)}
	st, err := load(r.path)
	if err != nil {
		return nil, fmt.Errorf("TUF repository: %w", err)
	}
	if st == nil {
		err = r.change(create)
	} else {
		r.state, r.served = st, st.files()
		if err = r.refresh(); errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			cfg.Log.Error("TUF metadata could not be signed again: the disk is full", "error", err)
			err = nil // as in Run: what is there is served, and it lives for days
		}
	}
	if err == nil {
		err = settle(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("TUF repository: %w", err)
	}
	return r, nil
}

// settle removes what a crash in the middle of a change left behind, which may
// hold keys, and makes durable what it left visible: a version that is served
// must not be gone after the next power cut.
func settle(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		if strings.HasPrefix(e.Name(), ".tmp-") {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(err, durable.SyncDir(dir))
}

// change applies f to a copy of the state and makes the result durable before
// it is served. After an error the old state goes on.
func (r *Repo) change(f func(*state, time.Time) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.state.clone()
	if err := f(next, r.cfg.Now().UTC().Truncate(time.Second)); err != nil {
		return err
	}
	next.prune()
	// What clients would refuse must not be published.
	if err := next.verify(); err != nil {
		return fmt.Errorf("what was signed does not verify: %w", err)
	}
	if err := next.save(r.path); err != nil {
		return err
	}
	r.state, r.served = next, next.files()
	return nil
}

// Publish makes targets, names to contents, the whole set of targets. The same
// set again signs nothing.
func (r *Repo) Publish(targets map[string][]byte) error { return r.PublishCustom(targets, nil) }

// PublishCustom is Publish with what the metadata says of some targets beside their
// content (specification 4.5, "custom"), as JSON.
func (r *Repo) PublishCustom(targets map[string][]byte, custom map[string]json.RawMessage) error {
	for name := range targets {
		if !validName(name) {
			return fmt.Errorf("TUF repository: %q cannot be the name of a target", name)
		}
	}
	r.mu.RLock()
	same, err := r.state.holds(targets, custom)
	r.mu.RUnlock()
	if err != nil || same {
		return err
	}
	return r.change(func(st *state, now time.Time) error { return st.publish(targets, custom, now) })
}

// validName allows what needs no escaping in a URL or a file name.
func validName(name string) bool {
	if name == "" || len(name) > 128 || name[0] == '.' {
		return false
	}
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// RotateKeys replaces the key of every role. Clients follow through the new
// root, which the old root key signs too.
func (r *Repo) RotateKeys() error { return r.change(rotate) }

// refresh signs again what is stale, if anything is.
func (r *Repo) refresh() error {
	r.mu.RLock()
	stale, err := r.state.stale(r.cfg.Now())
	r.mu.RUnlock()
	if err != nil || stale == fresh {
		return err
	}
	r.cfg.Log.Info("signing TUF metadata again", "from", stale.String())
	return r.change(func(st *state, now time.Time) error { return st.resign(stale, now) })
}

// Run signs metadata again while the server runs, well before it expires, until
// ctx is done. An error is logged and tried again: old metadata lives for days.
func (r *Repo) Run(ctx context.Context) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := r.refresh(); err != nil {
				r.cfg.Log.Error("TUF metadata could not be signed again", "error", err)
			}
		}
	}
}

// RootJSON is the newest root: what a new client starts from.
func (r *Repo) RootJSON() []byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return append([]byte(nil), r.served["root.json"]...)
}

// RootSHA256 is the hexadecimal SHA-256 of RootJSON, for cosign initialize
// --root-checksum.
func (r *Repo) RootSHA256() string {
	sum := sha256.Sum256(r.RootJSON())
	return hex.EncodeToString(sum[:])
}

// ServeHTTP serves /root.json, /N.root.json, /timestamp.json, /N.snapshot.json,
// /N.targets.json and /targets/<sha256>.<name>.
func (r *Repo) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the repository can only be read", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(req.URL.Path, "/")
	r.mu.RLock()
	data, ok := r.served[name]
	r.mu.RUnlock()
	if !ok {
		w.Header().Set("Cache-Control", "no-store") // the next root will be here one day
		http.Error(w, "the repository has no such file", http.StatusNotFound)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	if name == "timestamp.json" || name == "root.json" {
		w.Header().Set("Cache-Control", "no-cache")
	}
	w.Header().Set("Content-Type", "application/json")
	if strings.HasPrefix(name, "targets/") {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
}

var errNoTarget = errors.New("a target's content is missing")

// Versions are those of the newest metadata of each role.
type Versions struct {
	Root      int64 `json:"root"`
	Targets   int64 `json:"targets"`
	Snapshot  int64 `json:"snapshot"`
	Timestamp int64 `json:"timestamp"`
}

// Preview tells what opening a repository's folder, giving every role a new key if
// rotated, and publishing these targets would make of it: the versions before and
// after. root is the newest as it is. It changes nothing, and the folder may be in use.
func Preview(dir string, targets map[string][]byte, custom map[string]json.RawMessage, rotated bool, now time.Time) (before, after Versions, root []byte, err error) {
	path := filepath.Join(dir, fileName)
	st, err := load(path)
	if err == nil && st == nil {
		err = &durable.CorruptError{Path: path, Why: "it is missing"}
	}
	if err != nil {
		return before, after, nil, err
	}
	if before, err = st.versions(); err != nil {
		return before, after, nil, err
	}
	root = st.Roots[len(st.Roots)-1]
	now = now.UTC().Truncate(time.Second)
	next := st.clone()
	stale, err := next.stale(now)
	if err == nil {
		err = next.resign(stale, now)
	}
	if err == nil && rotated {
		err = rotate(next, now)
	}
	if err != nil {
		return before, after, nil, err
	}
	same, err := next.holds(targets, custom)
	if err == nil && !same {
		err = next.publish(targets, custom, now)
	}
	if err != nil {
		return before, after, nil, err
	}
	after, err = next.versions()
	return before, after, root, err
}

// Versions are those of the newest metadata.
func (r *Repo) Versions() (Versions, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.state.versions()
}

// KeyIDs are the ids of the keys that a root gives to each role.
func KeyIDs(root []byte) (map[string][]string, error) {
	md, err := metadata.Root().FromBytes(root)
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, role := range roles() {
		out[role] = md.Signed.Roles[role].KeyIDs
	}
	return out, nil
}

// Check reads a repository's folder, which may be in use, and verifies it as a
// client would, but for expiry, which Open repairs. It changes nothing. What is
// not what was written is a *durable.CorruptError.
func Check(dir string) error {
	path := filepath.Join(dir, fileName)
	st, err := load(path)
	if err == nil && st == nil {
		return &durable.CorruptError{Path: path, Why: "it is missing"}
	}
	return err
}
