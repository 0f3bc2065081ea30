package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// session is one upload: a file that only ever grows.
type session struct {
	mu   sync.Mutex
	done bool // finished or cancelled
	left bool // out of the table to make room: find it again
	path string
	size int64
	hash hash.Hash // SHA-256 of the file so far; nil when that has to be read again
	file *os.File  // open while a request works on it, so that abandoned uploads hold nothing
}

type uploadTable struct {
	mu        sync.Mutex
	byID      map[string]*session
	lastSweep time.Time
}

const maxUploads = 1000

// newUploadID is unguessable and says which repository it belongs to, so that
// an upload outlives a restart without a file that says so.
func newUploadID(repo string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails
	return hex.EncodeToString(b[:]) + repoMark(repo)
}

func repoMark(repo string) string {
	sum := sha256.Sum256([]byte(repo))
	return hex.EncodeToString(sum[:8])
}

func validUploadID(id, repo string) bool {
	if len(id) != 48 || id[32:] != repoMark(repo) {
		return false
	}
	return strings.IndexFunc(id, func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'f') }) < 0
}

func (s *Server) uploadPath(id string) string { return filepath.Join(s.dir, "uploads", id) }

// sweepUploads removes what was begun and left a day ago.
func (s *Server) sweepUploads() {
	now := s.cfg.Now()
	s.uploads.mu.Lock()
	due := now.Sub(s.uploads.lastSweep) > time.Hour
	if due {
		s.uploads.lastSweep = now
	}
	s.uploads.mu.Unlock()
	if !due {
		return
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "uploads"))
	if err != nil {
		s.cfg.Log.Error("listing uploads failed", "err", err)
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || now.Sub(info.ModTime()) < uploadLifetime {
			continue
		}
		s.forget(e.Name())
		_ = os.Remove(s.uploadPath(e.Name()))
		s.usage.drop(e.Name())
	}
}

// open opens the file at the end of what was received; the caller holds mu.
func (u *session) open() error {
	f, err := os.OpenFile(u.path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errUploadUnknown
	}
	if err != nil {
		return err
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if end != u.size { // the hash is of other bytes; whoever asks again goes on from what is there
		_ = f.Close()
		return errUploadUnknown
	}
	u.file = f
	return nil
}

// close gives up the file; the caller holds mu.
func (u *session) close() {
	if u.file != nil {
		_ = u.file.Close()
		u.file = nil
	}
}

// begin makes a new upload of repo.
func (s *Server) begin(repo string) (string, *session, error) {
	s.sweepUploads()
	id := newUploadID(repo)
	u := &session{path: s.uploadPath(id), hash: sha256.New()}
	if _, err := s.uploads.add(id, u); err != nil {
		return "", nil, err
	}
	f, err := os.OpenFile(u.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		s.forget(id)
		return "", nil, err
	}
	return id, u, f.Close()
}

// add puts u into the table, unless another request was quicker: then that one's
// session is the upload. When the table is full an idle upload leaves it; nothing
// is lost, because the next request for it finds its file.
func (t *uploadTable) add(id string, u *session) (*session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if other := t.byID[id]; other != nil {
		return other, nil
	}
	if len(t.byID) >= maxUploads && !t.makeRoom() {
		return nil, &apiError{http.StatusTooManyRequests, "TOOMANYREQUESTS", "too many uploads are under way"}
	}
	if t.byID == nil {
		t.byID = map[string]*session{}
	}
	t.byID[id] = u
	return u, nil
}

// makeRoom takes one upload out of the table that no request works on; the
// caller holds the table's lock. The order of locks is session, then table, so
// here a session is never waited for.
func (t *uploadTable) makeRoom() bool {
	for id, u := range t.byID {
		if u.mu.TryLock() {
			u.left = true
			u.mu.Unlock()
			delete(t.byID, id)
			return true
		}
	}
	return false
}

// acquire is find with the session's lock held.
func (s *Server) acquire(repo, id string) (*session, error) {
	for {
		u, err := s.find(repo, id)
		if err != nil {
			return nil, err
		}
		u.mu.Lock()
		if !u.left {
			return u, nil
		}
		u.mu.Unlock()
	}
}

// find is a known upload of repo, also one from before a restart.
func (s *Server) find(repo, id string) (*session, error) {
	if !validUploadID(id, repo) {
		return nil, errUploadUnknown
	}
	s.uploads.mu.Lock()
	u := s.uploads.byID[id]
	s.uploads.mu.Unlock()
	if u != nil {
		return u, nil
	}
	st, err := os.Stat(s.uploadPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errUploadUnknown
	}
	if err != nil {
		return nil, err
	}
	return s.uploads.add(id, &session{path: s.uploadPath(id), size: st.Size()})
}

func (s *Server) forget(id string) {
	s.uploads.mu.Lock()
	delete(s.uploads.byID, id)
	s.uploads.mu.Unlock()
}

// cancel ends an upload and removes its bytes; the caller holds u.mu.
func (s *Server) cancel(id string, u *session) {
	u.done = true
	_ = os.Remove(u.path)
	s.forget(id)
	s.usage.drop(id)
}

// upload answers end-4a (POST), end-4b (POST with digest), end-5 (PATCH),
// end-6 (PUT), end-11 (mount), end-13 (GET status) and DELETE of an upload.
func (s *Server) upload(w http.ResponseWriter, r *http.Request, repo, id string) error {
	if id == "" {
		if err := allow(w, r, http.MethodPost); err != nil {
			return err
		}
		return s.startUpload(w, r, repo)
	}
	if err := allow(w, r, http.MethodGet, http.MethodPatch, http.MethodPut, http.MethodDelete); err != nil {
		return err
	}
	u, err := s.acquire(repo, id)
	if err != nil {
		return err
	}
	defer u.mu.Unlock()
	if u.done {
		return errUploadUnknown
	}
	if err := u.open(); err != nil {
		// Only one that is over: two sessions of one file would mix their bytes.
		if errors.Is(err, errUploadUnknown) {
			u.done = true
			s.forget(id)
		}
		return err
	}
	defer u.close()
	switch r.Method {
	case http.MethodGet:
		uploadStatus(w, repo, id, u, http.StatusNoContent)
		return nil
	case http.MethodDelete:
		s.cancel(id, u)
		w.WriteHeader(http.StatusNoContent)
		return nil
	case http.MethodPatch:
		if err := s.receive(w, r, repo, id, u); err != nil {
			return err
		}
		if err := s.sync(id, u); err != nil {
			return err
		}
		uploadStatus(w, repo, id, u, http.StatusAccepted)
		return nil
	}
	return s.finishUpload(w, r, repo, id, u)
}

// sync makes what was received durable. After an error the upload is over: the
// kernel may have dropped bytes that the hash has seen, and the next sync would
// not say so.
func (s *Server) sync(id string, u *session) error {
	err := u.file.Sync()
	if err != nil {
		s.cancel(id, u)
	}
	return err
}

func (s *Server) startUpload(w http.ResponseWriter, r *http.Request, repo string) error {
	q := r.URL.Query()
	if q.Has("mount") {
		d, err := parseDigest(q.Get("mount"))
		if err != nil {
			return err
		}
		c, from := callerOf(r), q.Get("from")
		if checkName(from) == nil && c.entitled(from, Pull) && !c.may(from, Pull) {
			s.challenge(w, scopeOf(repo, Push)+" "+scopeOf(from, Pull), "insufficient_scope")
			return errUnauthorized.with("the token does not cover pull in %s", from)
		}
		done, err := s.mount(c, repo, from, d)
		if err != nil {
			return err
		}
		if done {
			created(w, repo, "blobs", d)
			return nil
		}
	}
	if q.Has("digest") {
		if _, err := parseDigest(q.Get("digest")); err != nil {
			return err
		}
	}
	id, u, err := s.begin(repo)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if q.Has("digest") {
		err := u.open()
		if err == nil {
			defer u.close()
			err = s.finishUpload(w, r, repo, id, u)
		}
		if err != nil {
			s.cancel(id, u) // the client never learned the id
		}
		return err
	}
	uploadStatus(w, repo, id, u, http.StatusAccepted)
	return nil
}

// uploadStatus says how far an upload is and where to send the rest.
func uploadStatus(w http.ResponseWriter, repo, id string, u *session, status int) {
	h := w.Header()
	h.Set("Location", "/v2/"+repo+"/blobs/uploads/"+id)
	h.Set("Docker-Upload-UUID", id)
	h.Set("Range", "0-"+strconv.FormatInt(max(u.size-1, 0), 10))
	h.Set("Content-Length", "0")
	w.WriteHeader(status)
}

// created answers 201 for content that is now on disk.
func created(w http.ResponseWriter, repo, what string, d evidence.Digest) {
	h := w.Header()
	h.Set("Location", "/v2/"+repo+"/"+what+"/"+string(d))
	h.Set("Docker-Content-Digest", string(d))
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}

// contentRange reads "start-end" of a chunk (spec.md, "Pushing a blob in chunks").
func contentRange(r *http.Request) (start, end int64, given bool, err error) {
	v := r.Header.Get("Content-Range")
	if v == "" {
		return 0, 0, false, nil
	}
	a, b, ok := strings.Cut(strings.TrimPrefix(v, "bytes "), "-")
	b, _, _ = strings.Cut(b, "/")
	start, err1 := strconv.ParseInt(a, 10, 64)
	end, err2 := strconv.ParseInt(b, 10, 64)
	if !ok || err1 != nil || err2 != nil || start < 0 || end < start {
		return 0, 0, true, errUploadInvalid.with("Content-Range must be start-end")
	}
	return start, end, true, nil
}

// receive appends the request's body. After an error the upload is where it was.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, repo, id string, u *session) error {
	start, end, ranged, err := contentRange(r)
	if err != nil {
		return err
	}
	if ranged && start != u.size {
		uploadHeaders := w.Header()
		uploadHeaders.Set("Location", "/v2/"+repo+"/blobs/uploads/"+id)
		uploadHeaders.Set("Range", "0-"+strconv.FormatInt(max(u.size-1, 0), 10))
		return errRange
	}
	if r.ContentLength > s.cfg.MaxBlob-u.size {
		return errBlobTooBig.with("a blob has at most %d bytes", s.cfg.MaxBlob)
	}
	if err := s.usage.fits(repo, r.ContentLength); err != nil {
		return err
	}
	before := u.size
	body := &chargedReader{r: r.Body, usage: s.usage, id: id, repo: repo}
	n, err := u.append(body, s.cfg.MaxBlob)
	switch {
	case body.err != nil:
		err = body.err
	case err != nil:
	case ranged && n != end-start+1:
		err = errSize.with("the chunk has %d bytes, its Content-Range says %d", n, end-start+1)
	case r.ContentLength >= 0 && n != r.ContentLength:
		err = errSize
	}
	if err == nil {
		return nil
	}
	body.back()
	if !u.rewind(before) {
		s.cancel(id, u) // the file is in no known state
	}
	return err
}

// append copies body behind what is there. Errors of the client's connection
// are the client's; errors of the file are ours.
func (u *session) append(body io.Reader, limit int64) (int64, error) {
	in := &clientReader{r: io.LimitReader(body, limit-u.size+1)}
	n, err := copyHashed(&earlyWriter{file: u.file, at: u.size, begun: u.size}, u.hash, in)
	u.size += n
	switch {
	case in.err != nil:
		return n, errUploadInvalid.with("the upload ended early")
	case err != nil:
		return n, err
	case u.size > limit:
		return n, errBlobTooBig.with("a blob has at most %d bytes", limit)
	}
	return n, nil
}

// earlyWriter lets the kernel begin to write what has come while the rest is
// still coming; a sync at the end finds little left to do. It promises nothing:
// what is durable is decided by that sync.
type earlyWriter struct {
	file      *os.File
	at, begun int64 // what was written, and up to where the kernel was told to begin
}

const earlyStep = 8 << 20 // bytes; small blobs go to the disk in one piece

func (e *earlyWriter) Write(p []byte) (int, error) {
	n, err := e.file.Write(p)
	e.at += int64(n)
	if e.at-e.begun >= earlyStep {
		durable.BeginSync(e.file, e.begun, e.at-e.begun)
		e.begun = e.at
	}
	return n, err
}

// rewind forgets what came after size; false when that failed.
func (u *session) rewind(size int64) bool {
	if u.size == size {
		return true
	}
	u.hash = nil
	if size == 0 {
		u.hash = sha256.New()
	}
	if u.file.Truncate(size) != nil {
		return false
	}
	u.size = size
	_, err := u.file.Seek(size, io.SeekStart)
	return err == nil
}

// clientReader remembers that reading failed, to tell it from failing to write.
type clientReader struct {
	r   io.Reader
	err error
}

func (c *clientReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// finishUpload takes the last bytes, compares the whole with the digest that
// the client names, and makes the blob visible.
func (s *Server) finishUpload(w http.ResponseWriter, r *http.Request, repo, id string, u *session) error {
	d, err := parseDigest(r.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	if err := s.receive(w, r, repo, id, u); err != nil {
		return err
	}
	got, err := u.digest(d.Algorithm())
	if err != nil {
		return err
	}
	if got != d {
		s.cancel(id, u)
		return errDigest
	}
	if err := s.sync(id, u); err != nil {
		return err
	}
	l := s.lock(repo)
	l.RLock()
	defer l.change()
	s.usage.drop(id) // from here on it counts as a blob
	if err := s.install(u.path, repo, d, u.size); err != nil {
		s.cancel(id, u)
		return err
	}
	s.seen.blob(repo, d)
	if st, err := u.file.Stat(); err == nil {
		s.verified.add(d, stampOf(st))
	}
	u.done = true
	s.forget(id)
	created(w, repo, "blobs", d)
	return nil
}

// digest is the digest of the whole upload.
func (u *session) digest(algorithm string) (evidence.Digest, error) {
	if algorithm == "sha256" && u.hash != nil {
		return sum(u.hash, algorithm), nil
	}
	h := newHash(algorithm)
	n, err := io.Copy(h, io.NewSectionReader(u.file, 0, u.size))
	if err != nil {
		return "", err
	}
	if n != u.size {
		return "", fmt.Errorf("%s: read %d of %d bytes", u.path, n, u.size)
	}
	return sum(h, algorithm), nil
}
