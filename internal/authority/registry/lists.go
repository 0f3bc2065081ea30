package registry

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

const (
	maxPage        = 1000    // names per page of tags and catalog
	maxReferrerDoc = 4 << 20 // bytes of one page of referrers, as for any manifest
	// maxReferrerRead is after how many bytes of manifests a page ends, even an
	// empty one: one request must not read everything that others have pushed.
	maxReferrerRead = 16 << 20
)

// page cuts a sorted list by the query's n and last (spec.md, "Listing Tags")
// and links the next page.
func page(w http.ResponseWriter, r *http.Request, all []string, order func(a, b string) int) ([]string, error) {
	q := r.URL.Query()
	n := maxPage
	if q.Has("n") {
		v, err := strconv.Atoi(q.Get("n"))
		if err != nil || v < 0 {
			return nil, errPage
		}
		n = min(v, maxPage)
	}
	slices.SortFunc(all, order)
	if last := q.Get("last"); last != "" {
		i, found := slices.BinarySearchFunc(all, last, order)
		if found {
			i++
		}
		all = all[i:]
	}
	if len(all) > n {
		all = all[:n]
		if n > 0 {
			next := url.Values{"n": {strconv.Itoa(n)}, "last": {all[n-1]}}
			w.Header().Set("Link", "<"+r.URL.Path+"?"+next.Encode()+`>; rel="next"`)
		}
	}
	return all, nil
}

// byTag is spec.md's order of tags: alphanumeric without case; case only
// decides between tags that are otherwise equal.
func byTag(a, b string) int {
	return cmp.Or(strings.Compare(strings.ToLower(a), strings.ToLower(b)), strings.Compare(a, b))
}

// tags answers end-8: the tags of a repository.
func (s *Server) tags(w http.ResponseWriter, r *http.Request, repo, _ string) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	if !s.exists(repo) {
		return errNameUnknown
	}
	all, err := names(filepath.Join(s.repoDir(repo), "_tags"))
	if err != nil {
		return err
	}
	if all, err = page(w, r, all, byTag); err != nil {
		return err
	}
	return answer(w, r, "application/json", map[string]any{"name": repo, "tags": append([]string{}, all...)})
}

// catalog lists the repositories that hold a manifest and that the caller may
// pull from (Docker's registry API).
func (s *Server) catalog(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	if err := s.checkLogin(w, r, "registry:catalog:*"); err != nil {
		return err
	}
	c := callerOf(r)
	root := filepath.Join(s.dir, "repos")
	all := []string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !e.IsDir() || !strings.HasPrefix(e.Name(), "_"):
			return nil
		case e.Name() == string(manifests) && hasFile(path):
			name, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			if name = filepath.ToSlash(name); c.entitled(name, Pull) {
				all = append(all, name)
			}
		}
		return fs.SkipDir
	})
	if err != nil {
		return err
	}
	if all, err = page(w, r, all, strings.Compare); err != nil {
		return err
	}
	return answer(w, r, "application/json", map[string]any{"repositories": all})
}

// hasFile reports whether one of the algorithm folders below dir is not empty.
func hasFile(dir string) bool {
	algorithms, _ := os.ReadDir(dir)
	for _, a := range algorithms {
		if n, _ := names(filepath.Join(dir, a.Name())); len(n) > 0 {
			return true
		}
	}
	return false
}

func (s *Server) referrersDir(repo string, subject evidence.Digest) string {
	return filepath.Join(s.repoDir(repo), "_referrers", subject.Algorithm(), subject.Hex())
}

func (s *Server) referrerEntry(repo string, subject, d evidence.Digest) string {
	return filepath.Join(s.referrersDir(repo, subject), d.Algorithm()+"-"+d.Hex())
}

// referrer is a descriptor of the referrers API's index.
type referrer struct {
	MediaType    string            `json:"mediaType"`
	Digest       evidence.Digest   `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

// referrerIndex is the answer of the referrers API: an image index.
type referrerIndex struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Manifests     []json.RawMessage `json:"manifests"`
}

// referrers answers end-12: everything that has this subject. It is never 404
// for a well-formed digest (spec.md, "Listing Referrers").
func (s *Server) referrers(w http.ResponseWriter, r *http.Request, repo, ref string) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	subject, err := parseDigest(ref)
	if err != nil {
		return err
	}
	entries, err := names(s.referrersDir(repo, subject))
	if err != nil {
		return err
	}
	slices.Sort(entries)
	q := r.URL.Query()
	if last := q.Get("last"); last != "" {
		i, found := slices.BinarySearch(entries, last)
		if found {
			i++
		}
		entries = entries[i:]
	}
	filter := q.Get("artifactType")
	list, next, err := s.readReferrers(repo, subject, entries, filter)
	if err != nil {
		return err
	}
	if filter != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if next != "" {
		v := url.Values{"last": {next}}
		if filter != "" {
			v.Set("artifactType", filter)
		}
		w.Header().Set("Link", "<"+r.URL.Path+"?"+v.Encode()+`>; rel="next"`)
	}
	return answer(w, r, typeOCIIndex, referrerIndex{2, typeOCIIndex, list})
}

// readReferrers makes one page of descriptors from the manifests themselves;
// next names the entry after which the next page begins.
func (s *Server) readReferrers(repo string, subject evidence.Digest, entries []string, filter string) (list []json.RawMessage, next string, err error) {
	list = []json.RawMessage{}
	size, read := 256, 0
	for i, entry := range entries {
		if read > maxReferrerRead {
			return list, entries[i-1], nil
		}
		d, err := parseDigest(strings.Replace(entry, "-", ":", 1))
		if err != nil {
			return nil, "", &damagedError{filepath.Join(s.referrersDir(repo, subject), entry), "its name is not a digest"}
		}
		data, err := s.readManifest(repo, d)
		if errors.Is(err, errManifestUnknown) {
			continue // its push was not finished, or its deletion was
		}
		if err != nil {
			return nil, "", err
		}
		read += len(data)
		m, err := parseManifest(data, "")
		if err != nil {
			return nil, "", fmt.Errorf("stored manifest %s: %w", d, err)
		}
		if m.Subject == nil || m.Subject.Digest != subject || filter != "" && m.ArtifactType != filter {
			continue
		}
		raw, err := json.Marshal(referrer{m.MediaType, d, int64(len(data)), m.Annotations, m.ArtifactType})
		if err != nil {
			return nil, "", err
		}
		if size += len(raw) + 1; size > maxReferrerDoc && len(list) > 0 {
			return list, entries[i-1], nil
		}
		list = append(list, raw)
	}
	return list, "", nil
}

// answer writes v as compact JSON.
func answer(w http.ResponseWriter, r *http.Request, contentType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	writeJSON(w, r, contentType, body)
	return nil
}
