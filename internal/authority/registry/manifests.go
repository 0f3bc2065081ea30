package registry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// manifest answers end-3 (GET and HEAD), end-7 (PUT) and end-9 (DELETE).
func (s *Server) manifest(w http.ResponseWriter, r *http.Request, repo, ref string) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete); err != nil {
		return err
	}
	tag, d, err := parseReference(ref)
	if err != nil {
		return err
	}
	switch {
	case r.Method == http.MethodPut:
		return s.putManifest(w, r, repo, tag, d)
	case r.Method == http.MethodDelete && tag != "":
		return s.deleteTag(w, repo, tag)
	case r.Method == http.MethodDelete:
		return s.deleteManifest(w, repo, d)
	}
	return s.getManifest(w, r, repo, tag, d)
}

func (s *Server) getManifest(w http.ResponseWriter, r *http.Request, repo, tag string, d evidence.Digest) error {
	if tag != "" {
		var err error
		if d, err = s.readTag(repo, tag); err != nil {
			return s.unknownRepo(repo, err)
		}
	}
	data, err := s.readManifest(repo, d)
	if err != nil {
		return s.unknownRepo(repo, err)
	}
	m, err := parseManifest(data, "")
	if err != nil {
		return fmt.Errorf("stored manifest %s: %w", d, err)
	}
	if r.Method == http.MethodHead && callerOf(r).entitled(repo, Push) {
		s.seen.note(repo, d)
	}
	w.Header().Set("Docker-Content-Digest", string(d))
	w.Header().Set("Etag", `"`+string(d)+`"`)
	writeJSON(w, r, m.MediaType, data)
	return nil
}

// unknownRepo makes "no such manifest" "no such repository" where that is the case.
func (s *Server) unknownRepo(repo string, err error) error {
	var api *apiError
	if errors.As(err, &api) && api.code == errManifestUnknown.code && !s.exists(repo) {
		return errNameUnknown
	}
	return err
}

func (s *Server) putManifest(w http.ResponseWriter, r *http.Request, repo, tag string, want evidence.Digest) error {
	data, err := s.readBody(r)
	if err != nil {
		return err
	}
	contentType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return errManifestInvalid.with("the request needs the manifest's type as Content-Type")
	}
	d := digestOf(data, "sha256")
	if want != "" {
		if d = digestOf(data, want.Algorithm()); d != want {
			return errDigest
		}
	}
	tags, err := tagsOf(r, tag)
	if err != nil {
		return err
	}
	m, err := parseManifest(data, contentType)
	if err != nil {
		return errManifestInvalid.with("manifest invalid: %v", err)
	}
	l := s.lock(repo)
	l.RLock()
	defer l.change()
	if err := s.checkReferences(repo, m); err != nil {
		return err
	}
	if err := s.storeManifest(repo, d, data, m); err != nil {
		return err
	}
	for _, t := range tags {
		if err := s.storeTag(repo, t, d); err != nil {
			return err
		}
		if tag == "" {
			w.Header().Add("OCI-Tag", t)
		}
	}
	s.seen.note(repo, d)
	if m.Subject != nil {
		w.Header().Set("OCI-Subject", string(m.Subject.Digest))
	}
	created(w, repo, "manifests", d)
	return nil
}

const maxTagParams = 64

// tagsOf are the tags that a push sets: the one in the path, or, for a push by
// digest, those of the query (the specification's draft after 1.1).
func tagsOf(r *http.Request, tag string) ([]string, error) {
	if tag != "" {
		return []string{tag}, nil
	}
	tags := r.URL.Query()["tag"]
	if len(tags) > maxTagParams {
		return nil, errTag.with("at most %d tags in one push", maxTagParams)
	}
	for _, t := range tags {
		if !validTag(t) {
			return nil, errTag
		}
	}
	return tags, nil
}

func (s *Server) readBody(r *http.Request) ([]byte, error) {
	if r.ContentLength > s.cfg.MaxManifest {
		return nil, errManifestTooBig.with("a manifest has at most %d bytes", s.cfg.MaxManifest)
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, s.cfg.MaxManifest+1))
	if err != nil {
		return nil, errManifestInvalid.with("the upload ended early")
	}
	if int64(len(data)) > s.cfg.MaxManifest {
		return nil, errManifestTooBig.with("a manifest has at most %d bytes", s.cfg.MaxManifest)
	}
	return data, nil
}

// checkReferences wants everything that the manifest names to be here, with the
// size that it says. A subject may come later (spec.md, "Pushing Manifests with
// Subject"), and so may a layer that says where else it is. An index may name
// blobs: BuildKit's cache does.
func (s *Server) checkReferences(repo string, m *parsedManifest) error {
	touched := map[string]bool{}
	check := func(d descriptor, kinds ...kind) error {
		for _, k := range kinds {
			path := s.content(repo, k, d.Digest)
			st, err := os.Stat(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if st.Size() != d.Size {
				return errManifestInvalid.with("%s has %d bytes here, the manifest says %d", d.Digest, st.Size(), d.Size)
			}
			touched[filepath.Dir(path)] = true
			return nil
		}
		if d.Foreign {
			return nil
		}
		return errManifestMissing.with("%s is not in this repository; push it first", d.Digest)
	}
	for _, d := range m.Blobs {
		if err := check(d, blobs); err != nil {
			return err
		}
	}
	for _, d := range m.Manifests {
		if err := check(d, manifests, blobs); err != nil {
			return err
		}
	}
	// What another request has just made visible may not be durable yet; what we
	// are about to acknowledge relies on it.
	for dir := range touched {
		if err := durable.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// storeManifest makes the manifest and its entry under its subject durable. The
// entry comes first: readers pass over one without a manifest, while a manifest
// without its entry would be lost to the referrers API. Both are synced at the
// end, because a file system's journal makes the second sync nearly free.
func (s *Server) storeManifest(repo string, d evidence.Digest, data []byte, m *parsedManifest) error {
	path := s.content(repo, manifests, d)
	if err := s.dirs.ensure(filepath.Dir(path)); err != nil {
		return err
	}
	changed := []string{filepath.Dir(path)}
	if m.Subject != nil {
		entry := s.referrerEntry(repo, m.Subject.Digest, d)
		if err := s.dirs.ensure(filepath.Dir(entry)); err != nil {
			return err
		}
		f, err := os.OpenFile(entry, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		changed = append(changed, filepath.Dir(entry))
	}
	if _, err := s.readManifest(repo, d); err != nil { // not here yet, or damaged
		write := func() error { return durable.WriteFile(path, data, 0o600) }
		if err := s.usage.replace(repo, path, int64(len(data)), write); err != nil {
			return err
		}
		changed = changed[1:]
	}
	for _, dir := range changed {
		if err := durable.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) storeTag(repo, tag string, d evidence.Digest) error {
	path := s.tagPath(repo, tag)
	if err := s.dirs.ensure(filepath.Dir(path)); err != nil {
		return err
	}
	return durable.WriteSealed(path, []byte(string(d)+"\n"), 0o600)
}

func (s *Server) deleteTag(w http.ResponseWriter, repo, tag string) error {
	l := s.lock(repo)
	l.Lock()
	defer l.Unlock()
	err := remove(s.tagPath(repo, tag))
	if errors.Is(err, fs.ErrNotExist) {
		return s.unknownRepo(repo, errManifestUnknown.with("no such tag in this repository"))
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// deleteManifest removes the tags that name the manifest, the manifest, and its
// entry under its subject, in an order that leaves nothing pointing at nothing.
func (s *Server) deleteManifest(w http.ResponseWriter, repo string, d evidence.Digest) error {
	l := s.lock(repo)
	l.Lock()
	defer l.Unlock()
	data, err := s.readManifest(repo, d)
	// A damaged manifest can be deleted; that is how one gets rid of it.
	if err != nil && !errors.As(err, new(*damagedError)) {
		return s.unknownRepo(repo, err)
	}
	if err := s.deleteTagsOf(repo, d); err != nil {
		return err
	}
	var subject evidence.Digest
	if m, err := parseManifest(data, ""); err == nil && m.Subject != nil {
		subject = m.Subject.Digest
	}
	if err := s.removeManifest(repo, d, subject); err != nil {
		return err
	}
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *Server) deleteTagsOf(repo string, d evidence.Digest) error {
	tags, err := names(filepath.Join(s.repoDir(repo), "_tags"))
	if err != nil {
		return err
	}
	for _, tag := range tags {
		switch got, err := s.readTag(repo, tag); {
		case errors.As(err, new(*damagedError)):
			s.cfg.Log.Error("damaged tag passed over while deleting a manifest", "err", err.Error())
		case err != nil:
			return err
		case got == d:
			if err := remove(s.tagPath(repo, tag)); err != nil {
				return err
			}
		}
	}
	return nil
}
