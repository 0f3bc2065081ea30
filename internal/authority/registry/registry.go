// Package registry is an OCI registry on disk: the distribution specification
// 1.1 (github.com/opencontainers/distribution-spec, spec.md) as one
// http.Handler: pull, push (also chunked and mounted), tags, catalog, deletes
// and the referrers API, with logins, rights for each repository, quotas, and
// garbage collection.
//
// What it has acknowledged is on disk (see package durable): a kill or a power
// cut loses nothing that a client was told is there, and shows nothing that was
// not finished. Bytes are kept exactly as they were pushed and live under their
// own digest:
//
//	DIR/uploads/<id>                            a blob on its way, never served
//	DIR/repos/<name>/_blobs/<alg>/<hex>         a blob, a hard link when mounted
//	DIR/repos/<name>/_manifests/<alg>/<hex>     a manifest
//	DIR/repos/<name>/_tags/<tag>                sealed file with the manifest's digest
//	DIR/repos/<name>/_referrers/<alg>/<hex>/<alg>-<hex>   empty; subject, then referrer
//
// The folder is not trusted for content: an attacker who can modify it, or a
// failing disk, can remove things and move tags to other manifests of the same
// repository, but a manifest or blob that does not match its digest is never
// served; it is answered with 500 and named in the log. Clients are not trusted
// at all: names cannot leave the folder, and sizes are limited.
package registry

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// Config of a [Server]. The zero value is usable.
type Config struct {
	// Log gets one error per damaged file or failed write. Nil discards.
	Log *slog.Logger
	// Now is the clock that decides when an abandoned upload is swept. Nil is time.Now.
	Now func() time.Time
	// MaxManifest limits a manifest, in bytes; 0 is 4 MiB, the least that the
	// specification wants a registry to accept.
	MaxManifest int64
	// MaxBlob limits a blob, in bytes; 0 is 64 GiB.
	MaxBlob int64
	// Login, when set, is asked who a user with a password is; false is nobody.
	// Without Login and Rules everybody who can connect may do everything.
	Login func(ctx context.Context, user, password string) (Principal, bool)
	// Rules, when set, say who may do what where, and how much is stored. Without
	// them everybody who logs in may do everything.
	Rules *Rules
	// URL is the base URL at which clients reach this server, without a slash at
	// the end: with it they get tokens at [TokenPath]; without it HTTP Basic is the
	// only login.
	URL string
}

const (
	defaultMaxManifest = 4 << 20
	defaultMaxBlob     = 64 << 30
	uploadLifetime     = 24 * time.Hour
)

// Server is the registry. It serves everything under /v2/ and is safe for
// concurrent use.
type Server struct {
	dir string
	cfg Config

	locks [64]repoLock // per repository, by hash: see lock
	seed  maphash.Seed

	dirs     dirCache
	verified verifiedCache
	uploads  uploadTable
	tokens   *tokens // nil without Config.URL or without logins
	usage    *usage  // nil without quotas
	seen     *seen
}

// Open serves the registry in dir, which is made if it does not exist. Only one
// process may serve a folder at a time; the caller holds a lock on it.
func Open(dir string, cfg Config) (*Server, error) {
	s, err := newServer(dir, cfg)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{filepath.Join(dir, "repos"), filepath.Join(dir, "uploads")} {
		if err := durable.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("registry folder: %w", err)
		}
	}
	if err := probe(filepath.Join(dir, "uploads")); full(err) {
		s.cfg.Log.Warn("the registry's disk is full: it serves what is there, and takes nothing", "error", err)
	} else if err != nil {
		return nil, fmt.Errorf("registry folder: %w", err)
	}
	s.sweepUploads()
	if s.cfg.Rules != nil && len(s.cfg.Rules.quotas) > 0 {
		if s.usage, err = s.measure(s.cfg.Rules.quotas); err != nil {
			return nil, fmt.Errorf("registry folder: counting what is stored: %w", err)
		}
	}
	return s, nil
}

// probe tells a folder that cannot be written at the start, not at the first push.
func probe(dir string) error {
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	_ = f.Close()
	_ = os.Remove(f.Name())
	return nil
}

// Garbage says what [Server.Collect] would remove from the folder dir. It writes
// nothing, so that another process may serve the folder meanwhile; what is pushed
// just then is kept.
func Garbage(ctx context.Context, dir string, how Schedule) (Collected, error) {
	s, err := newServer(dir, Config{})
	if err != nil {
		return Collected{}, err
	}
	return s.Collect(ctx, how, true)
}

// newServer is a server that has touched nothing yet.
func newServer(dir string, cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MaxManifest <= 0 {
		cfg.MaxManifest = defaultMaxManifest
	}
	if cfg.MaxBlob <= 0 {
		cfg.MaxBlob = defaultMaxBlob
	}
	s := &Server{dir: dir, cfg: cfg, seed: maphash.MakeSeed(), seen: newSeen(cfg.Now)}
	if u, err := url.Parse(cfg.URL); err != nil || (cfg.URL != "" && u.Host == "") {
		return nil, fmt.Errorf("registry: %q is no base URL", cfg.URL)
	} else if cfg.URL != "" && s.secured() {
		s.tokens = newTokens(cfg.URL, u.Host, cfg.Now)
	}
	return s, nil
}

// Close forgets the uploads that are under way; their bytes stay and can be
// resumed by whoever opens the folder next.
func (s *Server) Close() error {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	s.uploads.byID = nil
	return nil
}

// repoLock is the lock of a repository: writers that add hold it shared, those
// that delete hold it alone, so that nothing is acknowledged as stored beside a
// deletion of what it needs.
type repoLock struct {
	sync.RWMutex
	changes atomic.Uint64 // additions that have ended
}

// change ends an addition, whether or not it came to something.
func (l *repoLock) change() {
	l.changes.Add(1)
	l.RUnlock()
}

func (s *Server) lock(repo string) *repoLock {
	return &s.locks[maphash.String(s.seed, repo)%uint64(len(s.locks))]
}

// ServeHTTP answers the distribution API (spec.md, "Endpoints").
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	var err error
	if r.URL.Path == TokenPath {
		err = s.serveToken(w, r)
	} else {
		err = s.route(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, s.identify(r))))
	}
	if err != nil {
		s.fail(w, r, err)
	}
}

// route finds the endpoint from the end of the path, because a repository may
// itself have components called "blobs" or "tags".
func (s *Server) route(w http.ResponseWriter, r *http.Request) error {
	path := r.URL.Path
	if r.URL.RawPath != "" {
		return errName.with("the path must not need escapes")
	}
	switch path {
	case "/v2", "/v2/":
		return s.base(w, r)
	case "/v2/_catalog":
		return s.catalog(w, r)
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return errNoEndpoint
	}
	seg := strings.Split(rest, "/")
	n := len(seg)
	at := func(fromEnd int) string {
		if n < fromEnd {
			return ""
		}
		return seg[n-fromEnd]
	}
	name := func(drop int) (string, error) {
		repo := strings.Join(seg[:n-drop], "/")
		return repo, checkName(repo)
	}
	switch {
	case at(3) == "blobs" && at(2) == "uploads":
		repo, err := name(3)
		if err != nil {
			return err
		}
		if err := s.check(w, r, repo, Push); err != nil {
			return err
		}
		return s.upload(w, r, repo, at(1))
	case at(2) == "blobs" && at(1) == "uploads":
		repo, err := name(2)
		if err != nil {
			return err
		}
		if err := s.check(w, r, repo, Push); err != nil {
			return err
		}
		return s.upload(w, r, repo, "")
	case at(2) == "blobs":
		return s.named(w, r, name, s.blob)
	case at(2) == "manifests":
		return s.named(w, r, name, s.manifest)
	case at(2) == "referrers":
		return s.named(w, r, name, s.referrers)
	case at(2) == "tags" && at(1) == "list":
		return s.named(w, r, name, s.tags)
	}
	return errNoEndpoint
}

// named calls an endpoint of the form <name>/<word>/<ref>.
func (s *Server) named(w http.ResponseWriter, r *http.Request, name func(int) (string, error),
	h func(w http.ResponseWriter, r *http.Request, repo, ref string) error) error {
	repo, err := name(2)
	if err != nil {
		return err
	}
	action := Pull
	switch r.Method {
	case http.MethodPut:
		action = Push
	case http.MethodDelete:
		action = Delete
	}
	if err := s.check(w, r, repo, action); err != nil {
		return err
	}
	return h(w, r, repo, r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
}

// base answers end-1: this is a registry, and you may talk to it.
func (s *Server) base(w http.ResponseWriter, r *http.Request) error {
	if err := s.checkLogin(w, r, ""); err != nil {
		return err
	}
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	writeJSON(w, r, "application/json", []byte("{}\n"))
	return nil
}
