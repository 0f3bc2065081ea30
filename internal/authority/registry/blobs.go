package registry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// blob answers end-2 (GET and HEAD, with ranges) and end-10 (DELETE).
func (s *Server) blob(w http.ResponseWriter, r *http.Request, repo, ref string) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead, http.MethodDelete); err != nil {
		return err
	}
	d, err := parseDigest(ref)
	if err != nil {
		return err
	}
	if r.Method == http.MethodDelete {
		return s.deleteBlob(w, repo, d)
	}
	if r.Method == http.MethodHead && callerOf(r).entitled(repo, Push) {
		s.seen.note(repo, d) // whoever asks whether it is here may not push it again
	}
	f, st, err := s.openBlob(repo, d)
	if err != nil {
		return err
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", string(d))
	h.Set("Etag", `"`+string(d)+`"`)
	h.Set("Cache-Control", "max-age=31536000, immutable")
	// ServeContent does RFC 9110 ranges and preconditions.
	http.ServeContent(inLargePieces{w}, r, "", st.ModTime(), f)
	return nil
}

// A blob goes out in pieces that are larger than those of io.Copy, which has a client of
// a fast network wait less. (By sendfile it was slower, on loopback.) Only so many blobs at
// a time: many slow clients wait with little memory.
const (
	largePiece = 128 << 10 // bytes
	maxLarge   = 64
)

var (
	largePlaces = make(chan struct{}, maxLarge)
	largePieces = sync.Pool{New: func() any { b := make([]byte, largePiece); return &b }}
)

type inLargePieces struct{ http.ResponseWriter }

// ReadFrom is what io.Copy calls.
func (w inLargePieces) ReadFrom(src io.Reader) (int64, error) {
	dst := struct{ io.Writer }{w.ResponseWriter}
	select {
	case largePlaces <- struct{}{}:
		defer func() { <-largePlaces }()
	default:
		return io.Copy(dst, src)
	}
	buffer := largePieces.Get().(*[]byte)
	defer largePieces.Put(buffer)
	return io.CopyBuffer(dst, src, *buffer)
}

func (s *Server) deleteBlob(w http.ResponseWriter, repo string, d evidence.Digest) error {
	l := s.lock(repo)
	l.Lock()
	defer l.Unlock()
	err := s.remove(repo, s.content(repo, blobs, d))
	if errors.Is(err, fs.ErrNotExist) {
		return errBlobUnknown
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// mount makes a blob of another repository one of repo (end-11). It reports
// false when the blob is not there for this caller; the client then uploads it,
// and learns nothing of repositories that are not its own. Without from the blob
// is looked for where it was lately seen (spec.md, "Mounting a blob from another
// repository": automatic content discovery).
func (s *Server) mount(c caller, repo, from string, d evidence.Digest) (bool, error) {
	allowed := false
	if from != "" {
		allowed = checkName(from) == nil && c.may(from, Pull)
	} else {
		from = s.seen.repositoryOf(d)
		allowed = from != "" && c.may(from, Pull)
	}
	if !allowed {
		return false, nil
	}
	f, st, err := s.openBlob(from, d)
	if errors.Is(err, errBlobUnknown) || errors.As(err, new(*damagedError)) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	l := s.lock(repo)
	l.RLock()
	defer l.change()
	s.seen.blob(repo, d)
	dst := s.content(repo, blobs, d)
	if repo == from {
		if _, err := os.Stat(dst); err != nil {
			return false, nil // deleted meanwhile
		}
		return true, durable.SyncDir(filepath.Dir(dst))
	}
	if err := s.dirs.ensure(filepath.Dir(dst)); err != nil {
		return false, err
	}
	// Link under a name of the upload and rename, so that a damaged copy in
	// repo is replaced like in every other push.
	tmp := s.uploadPath(newUploadID(repo))
	if err := os.Link(s.content(from, blobs, d), tmp); err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EMLINK) {
			return false, nil // deleted meanwhile, or as many links as the file system allows
		}
		return false, fmt.Errorf("mounting: %w", err)
	}
	if err := s.install(tmp, repo, d, st.Size()); err != nil {
		_ = os.Remove(tmp)
		return false, err
	}
	// Renaming one hard link onto another of the same file does nothing and
	// leaves the first.
	_ = os.Remove(tmp)
	return true, nil
}
