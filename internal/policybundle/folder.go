package policybundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Codes of reasons that come from here (docs/reasons.md).
const (
	CodeRollback = "POLICY_ROLLBACK"  // an older version, or another content of the same one
	CodeElse     = "POLICY_ELSEWHERE" // the folder is filled from another repository
	CodeForeign  = "POLICY_FOREIGN"   // it was published in another repository
)

// RecordName is the file in which a folder says which bundle fills it.
const RecordName = ".hallmark-policy.json"

const (
	recordMediaType = "application/vnd.hallmark.policy-record.v1+json"
	maxRecord       = 4 << 10
)

// Record says which bundle fills a folder.
type Record struct {
	MediaType  string          `json:"mediaType" strict:"required"`
	Repository string          `json:"repository" strict:"required"` // HOST/REPOSITORY
	Version    string          `json:"version" strict:"required"`
	Digest     evidence.Digest `json:"digest" strict:"required"`
}

// NewRecord is the record of a bundle.
func NewRecord(repository, version string, d evidence.Digest) Record {
	return Record{recordMediaType, repository, version, d}
}

func parseRecord(data []byte) (Record, error) {
	var r Record
	if len(data) > maxRecord {
		return r, fmt.Errorf("more than %d bytes", maxRecord)
	}
	if err := strictjson.Unmarshal(data, &r); err != nil {
		return r, err
	}
	if r.MediaType != recordMediaType {
		return r, fmt.Errorf("mediaType: %q is no such record", clip(r.MediaType))
	}
	if v, err := CheckVersion(r.Version); err != nil || v != r.Version {
		return r, fmt.Errorf("version: %q is none", clip(r.Version))
	}
	_, err := evidence.ParseDigest(string(r.Digest))
	return r, err
}

// checkFolder refuses, as a usage error, what cannot change places with another folder: a link,
// and the working folder and those that it lies in.
func checkFolder(dir string) error {
	st, err := os.Lstat(filepath.Clean(dir))
	if err != nil {
		return nil // not there, or the next step says why
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		return fault.Hint(fault.Usagef("%s is a link, and a policy takes the place of a folder", dir), "name the folder itself")
	}
	at, err := os.Getwd()
	if err != nil {
		return fault.As(fault.Usage, err)
	}
	for {
		if here, err := os.Stat(at); err == nil && os.SameFile(here, st) {
			return fault.Hint(fault.Usagef("%s is the working folder, or it lies in it, and a policy takes the place of a folder", dir), "name a folder below, which belongs to the policy as a whole")
		}
		above := filepath.Dir(at)
		if above == at {
			return nil
		}
		at = above
	}
}

// ReadRecord is what fills a folder, nil when it is empty or not there. A folder with files that
// no bundle brought is a usage error, and so is a link, the working folder and one that that lies in.
func ReadRecord(dir string) (*Record, error) {
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, RecordName))
	if err == nil {
		r, err := parseRecord(data)
		if err != nil {
			return nil, fault.As(fault.Usage, fmt.Errorf("%s: %w", filepath.Join(dir, RecordName), err))
		}
		return &r, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.As(fault.Usage, err)
	}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fault.As(fault.Usage, err)
	case len(entries) > 0:
		return nil, fault.Hint(fault.Usagef("%s has files, and no policy was pulled into it before", dir), "name a folder that is not there yet; it belongs to the policy as a whole")
	}
	return nil, nil
}

// Follows reports why a bundle must not take the place of what is recorded: nil, when it may.
func (r *Record) Follows(old *Record) *policy.Reason {
	switch {
	case old == nil:
		return nil
	case old.Repository != r.Repository:
		return &policy.Reason{Code: CodeElse, Subject: r.Repository,
			Message: fmt.Sprintf("the folder has the policy of %s, and this is that of %s", old.Repository, r.Repository), Hint: "pull it into another folder"}
	case Older(r.Version, old.Version):
		return &policy.Reason{Code: CodeRollback, Subject: r.Repository,
			Message: fmt.Sprintf("version %s is older than %s, which the folder has", r.Version, old.Version),
			Hint:    "whoever can move tags of the registry can offer an old policy; ask its publisher for the present version"}
	case r.Version == old.Version && r.Digest != old.Digest:
		return &policy.Reason{Code: CodeRollback, Subject: r.Repository,
			Message: fmt.Sprintf("version %s is %s here, and was %s before", r.Version, r.Digest, old.Digest), Hint: "a version never changes; ask the publisher which is theirs"}
	}
	return nil
}

// Write makes dir the bundle's files and its records, as a whole: it is what it was before, or
// all of the new. Files that are the same already are not touched, when all are.
func (b *Bundle) Write(dir string, r Record) error {
	if err := b.check(); err != nil {
		return err
	}
	files, err := b.onDisk(r)
	if err != nil {
		return err
	}
	if same, err := areIn(dir, files); err != nil || same {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	if err := durable.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	next, err := os.MkdirTemp(parent, ".hallmark-policy-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(next) // what was there before, once they changed places
	if err := fill(next, files); err != nil {
		return err
	}
	if err := exchange(next, dir); err != nil {
		return err
	}
	return durable.SyncDir(parent)
}

// onDisk are the files of a folder that the bundle fills: its own, its record, and those of its
// imports, by which it can be published again as what it is.
func (b *Bundle) onDisk(r Record) (map[string][]byte, error) {
	out := maps.Clone(b.Files)
	records := map[string]Record{RecordName: r}
	for folder, i := range b.Imports {
		records[path.Join(folder, RecordName)] = NewRecord(i.Repository, i.Version, i.Digest)
	}
	for name, r := range records {
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return nil, err
		}
		out[name] = append(data, '\n')
	}
	return out, nil
}

func fill(dir string, files map[string][]byte) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := durable.WriteFile(at, files[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// areIn reports whether a folder has these files already, and nothing else.
func areIn(dir string, files map[string][]byte) (bool, error) {
	if old, err := ReadRecord(dir); err != nil || old == nil {
		return false, err
	}
	left := maps.Clone(files)
	same := true
	err := filepath.WalkDir(dir, func(at string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		want, ok := left[name]
		if !ok || !e.Type().IsRegular() {
			same = false
			return nil
		}
		got, err := os.ReadFile(at)
		same = same && bytes.Equal(got, want)
		delete(left, name)
		return err
	})
	return same && len(left) == 0, err
}

// FS is the bundle as a folder.
func (b *Bundle) FS() fs.FS { return files(b.Files) }

// Top are the names of the Rego files that are the policy: those that lie in no folder and are
// no tests.
func (b *Bundle) Top() []string {
	var out []string
	for name := range b.Files {
		if !strings.Contains(name, "/") && strings.HasSuffix(name, ".rego") && !strings.HasSuffix(name, "_test.rego") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

type files map[string][]byte

func (f files) Open(name string) (fs.File, error) {
	data, ok := f[name]
	if !ok || !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &file{bytes.NewReader(data), path.Base(name)}, nil
}

// file is one of them, and what is said of it.
type file struct {
	*bytes.Reader
	name string
}

func (f *file) Close() error               { return nil }
func (f *file) Stat() (fs.FileInfo, error) { return info{f}, nil }

type info struct{ of *file }

func (i info) Name() string       { return i.of.name }
func (i info) Size() int64        { return i.of.Reader.Size() }
func (i info) Mode() fs.FileMode  { return 0o444 }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return false }
func (i info) Sys() any           { return nil }

// replace is exchange in two steps, between which dir is not there; nobody finds half of it.
func replace(next, dir string) error {
	aside := next + ".old"
	err := os.Rename(dir, aside)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(next, dir); err != nil {
		return errors.Join(err, os.Rename(aside, dir))
	}
	return os.RemoveAll(aside)
}
