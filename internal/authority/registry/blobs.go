package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
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
	http.ServeContent(w, r, "", st.ModTime(), f)
	return nil
}

func (s *Server) deleteBlob(w http.ResponseWriter, repo string, d evidence.Digest) error {
	l := s.lock(repo)
	l.Lock()
	defer l.Unlock()
	err := remove(s.content(repo, blobs, d))
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
// false when the blob is not there; the client then uploads it.
func (s *Server) mount(repo, from string, d evidence.Digest) (bool, error) {
	if checkName(from) != nil {
		return false, nil
	}
	f, _, err := s.openBlob(from, d)
	if errors.Is(err, errBlobUnknown) || errors.As(err, new(*damagedError)) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if repo == from {
		return true, durable.SyncDir(filepath.Dir(s.content(repo, blobs, d)))
	}
	dst := s.content(repo, blobs, d)
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
	if err := s.install(tmp, repo, blobs, d); err != nil {
		return false, err
	}
	// Renaming one hard link onto another of the same file does nothing and
	// leaves the first.
	_ = os.Remove(tmp)
	return true, nil
}
