// Package lockfile is hallmark.lock: the digests that the sources of a build had when
// somebody looked at them, kept beside the Dockerfile and under review like it.
// docs/policy.md describes the format.
//
// Whoever can modify the file decides what goes into the build. It is read strictly
// and as a whole: an entry that is unknown, unsorted or twice there refuses all of it.
package lockfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/sorted"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// MediaType is the format and its version.
const MediaType = "application/vnd.hallmark.lock.v1+json"

// Name is how the file is called in a build context.
const Name = "hallmark.lock"

// Limits of one file.
const (
	MaxSize    = 8 << 20 // bytes
	MaxSources = 4096
	maxName    = 4096 // bytes of a source's name
	maxWritten = 256  // spellings of one source
)

// Codes of reasons that come from here (docs/reasons.md).
const (
	CodeMoved     = "SOURCE_MOVED"
	CodeNotLocked = "SOURCE_NOT_LOCKED"
)

// The kinds of sources that have a digest.
const (
	Image = "image"
	HTTP  = "http"
	Git   = "git"
)

// File is a lock. The zero File has no sources.
type File struct {
	MediaType string   `json:"mediaType" strict:"required"`
	Sources   []Source `json:"sources" strict:"required,max=4096"`
}

// Source is what one source was.
type Source struct {
	Kind string `json:"kind" strict:"required"`
	// Source is the source in one spelling: "docker.io/library/alpine:3.20",
	// "https://example.com/a.tar", "https://example.com/repo.git#v1".
	Source string `json:"source" strict:"required"`
	// Written is how Dockerfiles spell it, before variables are replaced.
	Written []string `json:"written" strict:"required,max=256"`
	// Digest is "sha256:<64 hex>" of an image's index or manifest, or of a body
	// (which may have sha384 or sha512, where the Dockerfile demands that).
	Digest string `json:"digest,omitempty"`
	// Commit is the commit that a git ref leads to, Tag the tag object on the way, if
	// there is one.
	Commit string `json:"commit,omitempty"`
	Tag    string `json:"tag,omitempty"`
	// Resolved is when this was looked up, in whole seconds of UTC.
	Resolved time.Time `json:"resolved" strict:"required"`
}

// Value is what a source's content is known by: its digest, or its commit.
func (s Source) Value() string {
	if s.Kind == Git {
		return s.Commit
	}
	return s.Digest
}

// Parse reads a lock.
func Parse(data []byte) (*File, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("more than %d MiB", MaxSize>>20)
	}
	f := &File{}
	if err := strictjson.Unmarshal(data, f); err != nil {
		return nil, err
	}
	return f, f.check()
}

func (f *File) check() error {
	if f.MediaType != MediaType {
		return fmt.Errorf("mediaType: %q is not %q", f.MediaType, MediaType)
	}
	if len(f.Sources) > MaxSources {
		return fmt.Errorf("sources: more than %d", MaxSources)
	}
	for i, s := range f.Sources {
		if err := s.check(); err != nil {
			return fmt.Errorf("sources[%d]: %w", i, err)
		}
		if i > 0 && order(f.Sources[i-1], s) >= 0 {
			return fmt.Errorf("sources[%d]: %s %s stands after %s %s: they are sorted, and each stands once", i, s.Kind, fault.Redact(s.Source), f.Sources[i-1].Kind, fault.Redact(f.Sources[i-1].Source))
		}
	}
	return nil
}

func (s Source) check() error {
	if err := plain(s.Source); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if u, err := url.Parse(s.Source); err == nil && u.User != nil && s.Kind != Image {
		if _, secret := u.User.Password(); secret || s.Kind == HTTP {
			return errors.New("source: a URL with a login in it is not kept")
		}
	}
	if len(s.Written) == 0 || len(s.Written) > maxWritten || !slices.IsSorted(s.Written) || len(slices.Compact(slices.Clone(s.Written))) != len(s.Written) {
		return errors.New("written: want the spellings, sorted, each once")
	}
	for _, w := range s.Written {
		if err := plain(w); err != nil {
			return fmt.Errorf("written: %w", err)
		}
	}
	switch s.Kind {
	case Image:
		if !sized(s.Digest, "sha256") || s.Commit != "" || s.Tag != "" {
			return fmt.Errorf("an image has a digest sha256:<64 hex>, and no commit and tag")
		}
		if _, pinned, ok := strings.Cut(s.Source, "@"); ok && pinned != s.Digest {
			return fmt.Errorf("source: names %s, and digest is %s", pinned, s.Digest)
		}
	case HTTP:
		if !sized(s.Digest, "sha256", "sha384", "sha512") || s.Commit != "" || s.Tag != "" {
			return fmt.Errorf("a body has a digest, and no commit and tag")
		}
	case Git:
		if !objectID(s.Commit) || s.Tag != "" && (!objectID(s.Tag) || len(s.Tag) != len(s.Commit)) || s.Digest != "" {
			return fmt.Errorf("a git ref has a commit of 40 or 64 hexadecimal digits, perhaps a tag object, and no digest")
		}
	default:
		return fmt.Errorf("kind: %q is not image, http or git", s.Kind)
	}
	if s.Resolved.IsZero() || s.Resolved.Nanosecond() != 0 || s.Resolved.Location() != time.UTC {
		return errors.New("resolved: want whole seconds of UTC, like 2026-11-29T09:00:00Z")
	}
	return nil
}

func plain(s string) error {
	switch {
	case s == "" || len(s) > maxName:
		return fmt.Errorf("want 1 to %d bytes", maxName)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || !unicode.IsPrint(r) }):
		return errors.New("a character that cannot be printed")
	}
	return nil
}

// sized reports whether d is a digest of one of the algorithms, in lower case.
func sized(d string, algorithms ...string) bool {
	algorithm, hex, _ := strings.Cut(d, ":")
	length := map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}[algorithm]
	return slices.Contains(algorithms, algorithm) && len(hex) == length && lowerHex(hex)
}

func objectID(s string) bool { return (len(s) == 40 || len(s) == 64) && lowerHex(s) }

func lowerHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

func order(a, b Source) int {
	if c := strings.Compare(a.Kind, b.Kind); c != 0 {
		return c
	}
	return strings.Compare(a.Source, b.Source)
}

// Read reads the lock at path. The error of a file that is not there is fs.ErrNotExist.
func Read(path string) (*File, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, err
	}
	f, err := Parse(data)
	if err != nil {
		return nil, fault.Hint(fmt.Errorf("%s: not a lock: %w", path, err), "put it back as it was; a new one believes whatever the sources are now")
	}
	return f, nil
}

// Encode writes the lock, sorted, for [Parse].
func (f *File) Encode() ([]byte, error) {
	out := &File{MediaType: MediaType, Sources: slices.Clone(f.Sources)}
	sorted.Func(out.Sources, order)
	if out.Sources == nil {
		out.Sources = []Source{}
	}
	if err := out.check(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(out); err != nil {
		return nil, err
	}
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("more than %d MiB", MaxSize>>20)
	}
	return b.Bytes(), nil
}

// Write replaces the file at path, whole or not at all.
func (f *File) Write(path string) error {
	data, err := f.Encode()
	if err != nil {
		return err
	}
	return durable.WriteFile(path, data, fs.FileMode(0o644))
}

// Lookup is the source of this kind and name.
func (f *File) Lookup(kind, source string) (Source, bool) {
	i, ok := slices.BinarySearchFunc(f.Sources, Source{Kind: kind, Source: source}, order)
	if !ok {
		return Source{}, false
	}
	return f.Sources[i], true
}

// Image is the digest that the lock has for an image, "" without one. A name with a
// digest that is not in it is looked up by its tag: builds name an image that they have
// resolved NAME:TAG@DIGEST.
func (f *File) Image(ref string) string {
	s, ok := f.Lookup(Image, ref)
	if name, _, pinned := strings.Cut(ref, "@"); !ok && pinned {
		s, _ = f.Lookup(Image, name)
	}
	return s.Digest
}

// Change is what is different of one source. Was is nil for a new one, Is for one
// that is not used any more.
type Change struct{ Was, Is *Source }

// Moved reports whether the content of a source changed.
func (c Change) Moved() bool { return c.Was != nil && c.Is != nil && c.Was.Value() != c.Is.Value() }

// Changes is what is different in now, in the order of the sources. What was not
// changed keeps in now the time at which it was looked up first.
func (f *File) Changes(now *File) []Change {
	sorted.Func(now.Sources, order)
	var out []Change
	for i := range now.Sources {
		is := &now.Sources[i]
		was, ok := f.Lookup(is.Kind, is.Source)
		switch {
		case !ok:
			out = append(out, Change{Is: is})
		case was.Value() != is.Value():
			out = append(out, Change{Was: &was, Is: is})
		case was.Tag != is.Tag: // another tag object of the same commit
			out = append(out, Change{Was: &was, Is: is})
		default:
			is.Resolved = was.Resolved
		}
	}
	for _, was := range f.Sources {
		if _, ok := now.Lookup(was.Kind, was.Source); !ok {
			out = append(out, Change{Was: &was})
		}
	}
	return out
}

// Reason is why a change is not allowed by the lock; nil where it is.
func (c Change) Reason() *policy.Reason {
	if c.Is == nil {
		return nil
	}
	source := fault.Redact(c.Is.Source)
	switch {
	case c.Was == nil:
		return &policy.Reason{Code: CodeNotLocked, Subject: source,
			Message: fmt.Sprintf("%s %s is not in the lock; it is %s", c.Is.Kind, source, c.Is.Value()),
			Hint:    "see that it is what you want, then hallmark policy lock adds it"}
	case c.Moved():
		return &policy.Reason{Code: CodeMoved, Subject: source,
			Message: fmt.Sprintf("%s %s moved: it is %s, and was %s when it was locked on %s", c.Is.Kind, source, c.Is.Value(), c.Was.Value(), c.Was.Resolved.Format(time.DateOnly)),
			Hint:    "find out what changed; then hallmark policy lock --update takes it"}
	}
	return nil
}
