// Package registry is an OCI registry on disk: the distribution specification
// 1.1 (github.com/opencontainers/distribution-spec, spec.md) as one
// http.Handler: pull, push (also chunked and mounted), tags, catalog, deletes
// and the referrers API.
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
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
	// Login, when set, is asked for the user and password of every request
	// (HTTP Basic); without it everybody who can connect may push and pull.
	Login func(user, password string) bool
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

	locks [64]sync.RWMutex // per repository, by hash: see lock
	seed  maphash.Seed

	dirs     dirCache
	verified verifiedCache
	uploads  uploadTable
}

// Open serves the registry in dir, which is made if it does not exist. Only one
// process may serve a folder at a time; the caller holds a lock on it.
func Open(dir string, cfg Config) (*Server, error) {
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
	s := &Server{dir: dir, cfg: cfg, seed: maphash.MakeSeed()}
	for _, d := range []string{filepath.Join(dir, "repos"), filepath.Join(dir, "uploads")} {
		if err := durable.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("registry folder: %w", err)
		}
	}
	// A folder that cannot be written is told at the start, not at the first push.
	probe, err := os.CreateTemp(filepath.Join(dir, "uploads"), ".probe-*")
	if err != nil {
		return nil, fmt.Errorf("registry folder: %w", err)
	}
	_ = probe.Close()
	_ = os.Remove(probe.Name())
	s.sweepUploads()
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

// lock is the lock of a repository: writers that add hold it shared, those that
// delete hold it alone, so that nothing is acknowledged as stored beside a
// deletion of what it needs.
func (s *Server) lock(repo string) *sync.RWMutex {
	return &s.locks[maphash.String(s.seed, repo)%uint64(len(s.locks))]
}

// ServeHTTP answers the distribution API (spec.md, "Endpoints").
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if s.cfg.Login != nil {
		user, password, ok := r.BasicAuth()
		if !ok || !s.cfg.Login(user, password) {
			w.Header().Set("WWW-Authenticate", `Basic realm="hallmark registry", charset="UTF-8"`)
			s.fail(w, r, errUnauthorized)
			return
		}
	}
	if err := s.route(w, r); err != nil {
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
		return s.upload(w, r, repo, at(1))
	case at(2) == "blobs" && at(1) == "uploads":
		repo, err := name(2)
		if err != nil {
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
	return h(w, r, repo, r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
}

// base answers end-1: this is a registry, and you may talk to it.
func (s *Server) base(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	writeJSON(w, r, "application/json", []byte("{}\n"))
	return nil
}
