package witness

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// ServerConfig is what a witness needs. Dir, Name and Logs are required.
type ServerConfig struct {
	Dir  string // key and state; one process at a time
	Name string // in its signature lines
	Logs []translog.Log
	Now  func() time.Time // default time.Now
	Log  *slog.Logger     // default: nothing is logged
}

const (
	keyName     = "key.sealed"
	lockName    = "lock"
	evidenceDir = "evidence"
	// maxEvidence bounds the refused checkpoints that are kept.
	maxEvidence = 256
)

// Server is an open witness: an http.Handler for POST /add-checkpoint.
type Server struct {
	cfg  ServerConfig
	key  ed25519.PrivateKey
	lock *os.File
	mux  *http.ServeMux

	mu   sync.Mutex // over check, write and cosign: two requests must not cross
	seen map[string]seen
	// write makes a state durable; a test's may fail.
	write func(path string, data []byte) error
}

// seen is the largest tree of a log that was cosigned.
type seen struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	Root   []byte `json:"root"`
	Note   []byte `json:"checkpoint"`
}

// OpenServer opens a witness's folder, or makes it with a new key. A damaged file
// is a *durable.CorruptError: a witness that forgot what it saw must not cosign.
func OpenServer(cfg ServerConfig) (*Server, error) {
	if err := checkName(cfg.Name); err != nil {
		return nil, err
	}
	if len(cfg.Logs) == 0 {
		return nil, errors.New("a witness needs a log that it watches")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := durable.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, seen: map[string]seen{}, write: func(path string, data []byte) error { return durable.WriteSealed(path, data, 0o600) }}
	var err error
	if s.lock, err = os.OpenFile(filepath.Join(cfg.Dir, lockName), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = s.lock.Close()
		return nil, fmt.Errorf("another process has the witness's folder %s", cfg.Dir)
	}
	if err := s.load(); err != nil {
		_ = s.Close()
		return nil, err
	}
	s.mux = http.NewServeMux()
	s.mux.HandleFunc("POST /add-checkpoint", s.addCheckpoint)
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	return s, nil
}

// Close releases the folder.
func (s *Server) Close() error {
	return errors.Join(unix.Flock(int(s.lock.Fd()), unix.LOCK_UN), s.lock.Close())
}

// VerifierKey is the witness's key, as trust bundles and logs are given it.
func (s *Server) VerifierKey() string {
	return VerifierKey(s.cfg.Name, s.key.Public().(ed25519.PublicKey))
}

func (s *Server) statePath(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return filepath.Join(s.cfg.Dir, "log-"+hex.EncodeToString(sum[:8])+".sealed")
}

func (s *Server) load() error {
	path := filepath.Join(s.cfg.Dir, keyName)
	seed, err := durable.ReadSealed(path)
	if errors.Is(err, fs.ErrNotExist) {
		if states, gerr := filepath.Glob(filepath.Join(s.cfg.Dir, "log-*.sealed")); gerr != nil || len(states) > 0 {
			return &durable.CorruptError{Path: path, Why: "it is missing"}
		}
		seed = make([]byte, ed25519.SeedSize)
		if _, err := rand.Read(seed); err != nil {
			return err
		}
		err = durable.WriteSealed(path, seed, 0o600)
	}
	if err != nil {
		return err
	}
	if len(seed) != ed25519.SeedSize {
		return &durable.CorruptError{Path: path, Why: "it holds no key"}
	}
	s.key = ed25519.NewKeyFromSeed(seed)
	for _, l := range s.cfg.Logs {
		path := s.statePath(l.Origin)
		data, err := durable.ReadSealed(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		var have seen
		if json.Unmarshal(data, &have) != nil || have.Origin != l.Origin || have.Size < 0 || len(have.Root) != tlog.HashSize {
			return &durable.CorruptError{Path: path, Why: "it is not what a witness keeps of " + l.Origin}
		}
		s.seen[l.Origin] = have
	}
	return nil
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) addCheckpoint(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if errors.As(err, new(*http.MaxBytesError)) {
		http.Error(w, "the request is too large", http.StatusRequestEntityTooLarge)
		return
	} else if err != nil {
		http.Error(w, "the request could not be read", http.StatusBadRequest)
		return
	}
	req, err := parseRequest(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c, status, why := s.authentic(req.note)
	if c == nil {
		http.Error(w, why, status)
		return
	}
	a := s.extend(req, c)
	if a.status == http.StatusConflict {
		w.Header().Set("Content-Type", sizeType)
		w.WriteHeader(a.status)
		_, _ = w.Write(append(strconv.AppendInt(nil, a.size, 10), '\n'))
		return
	}
	if a.status != http.StatusOK {
		http.Error(w, a.why, a.status)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(a.line)
}

// authentic verifies a checkpoint by one of the keys of its log.
func (s *Server) authentic(note []byte) (c *translog.Checkpoint, status int, why string) {
	origin := translog.OriginOf(note)
	status, why = http.StatusNotFound, "this witness does not watch that log"
	for _, l := range s.cfg.Logs {
		if l.Origin != origin {
			continue
		}
		c, err := l.ParseCheckpoint(note, s.cfg.Now())
		if err == nil {
			return c, http.StatusOK, ""
		}
		status, why = http.StatusForbidden, "no trusted key of the log signed the checkpoint"
		if !errors.As(err, new(*translog.Refusal)) {
			status, why = http.StatusBadRequest, "the checkpoint cannot be read"
		}
	}
	return nil, status, why
}

// answer of the witness.
type answer struct {
	status int
	size   int64 // of 409: what was cosigned last
	why    string
	line   []byte
}

// extend cosigns a checkpoint that extends what was cosigned last, after that is
// on disk. The order of checks and their answers are those of the specification.
func (s *Server) extend(req request, c *translog.Checkpoint) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.seen[c.Origin]
	switch {
	case req.old > c.Size:
		return answer{status: http.StatusBadRequest, why: "the old size is larger than the checkpoint's"}
	case req.old != last.Size:
		return answer{status: http.StatusConflict, size: last.Size}
	case last.Note != nil && c.Size == last.Size && string(last.Root) != string(c.Root[:]):
		s.keepEvidence(c, "two trees of one size")
		return answer{status: http.StatusConflict, size: last.Size}
	case (req.old == 0 || req.old == c.Size) && len(req.proof) > 0:
		return answer{status: http.StatusUnprocessableEntity, why: "a proof where there is nothing to prove"}
	}
	if req.old > 0 && req.old < c.Size {
		if err := tlog.CheckTree(req.proof, c.Size, c.Root, last.Size, tlog.Hash(last.Root)); err != nil {
			s.keepEvidence(c, "no extension of what was cosigned last")
			return answer{status: http.StatusUnprocessableEntity, why: "the proof does not lead from the tree that was cosigned last to this one"}
		}
	}
	if last.Note == nil || c.Size != last.Size {
		next := seen{Origin: c.Origin, Size: c.Size, Root: c.Root[:], Note: c.Note}
		data, err := json.Marshal(next)
		if err == nil {
			err = s.write(s.statePath(c.Origin), data)
		}
		if err != nil {
			s.cfg.Log.Error("witness cannot write its state", "log", c.Origin, "error", err)
			return answer{status: http.StatusInternalServerError, why: "the witness could not write its state"}
		}
		s.seen[c.Origin] = next
	}
	return answer{status: http.StatusOK, line: cosign(s.cfg.Name, s.key, textOf(c.Note), s.cfg.Now())}
}

// keepEvidence writes down a checkpoint that the log signed and that contradicts
// what it signed before. It fails quietly: nothing is cosigned either way.
func (s *Server) keepEvidence(c *translog.Checkpoint, what string) {
	s.cfg.Log.Warn("a log contradicts itself", "log", c.Origin, "size", c.Size, "what", what, "root", base64.StdEncoding.EncodeToString(c.Root[:]))
	dir := filepath.Join(s.cfg.Dir, evidenceDir)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) >= maxEvidence {
		return
	}
	_ = durable.WriteFile(filepath.Join(dir, fmt.Sprintf("checkpoint-%d-%x", c.Size, c.Root[:4])), c.Note, 0o600)
}
