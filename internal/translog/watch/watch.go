// Package watch follows what is signed under an identity: each entry of a log that
// names it must be explained by an artifact of its owner. One that nothing explains
// is a signature that the owner did not make, or does not know of.
//
// A certificate can name anybody. Where the authorities are known, only entries
// with certificates that they issued count, and the others are counted apart.
package watch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/translog/index"
	"github.com/hallmark-dev/hallmark/internal/translog/rekor"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// Code of the denial that something is not explained (docs/reasons.md).
const CodeUnexplained = "LOG_UNEXPLAINED"

// maxOpen bounds the unexplained entries that are remembered.
const maxOpen = 1 << 20

// Config is what is followed.
type Config struct {
	Identity string
	Issuer   string            // "": whoever vouched for the identity
	CAs      []trust.Authority // nil: certificates are taken at their word
	Expected *Expected
}

// Watch is a watch on one log. What it has seen is kept in the log's folder: a
// restart goes on where it stopped, and lists again what is still not explained.
type Watch struct {
	cfg    Config
	folder *translog.Folder
	path   string
	st     state
	unlock func()
}

// state is what is kept of a watch.
type state struct {
	Version  int     `json:"version"`
	Identity string  `json:"identity"`
	Issuer   string  `json:"issuer,omitempty"`
	Next     int64   `json:"next"` // the first entry that was not looked at
	Root     []byte  `json:"root"` // of the tree of those before it
	Open     []int64 `json:"open"` // entries before it that nothing explained
}

// Entry is an entry with its index.
type Entry struct {
	Index int64
	Body  []byte
	rekor.Entry
}

// Seen is what one look at the log found.
type Seen struct {
	Looked      int64   // entries that were new
	Explained   int     // of the identity, now explained
	Untrusted   int     // name the identity in a certificate that no authority issued
	Unread      []int64 // new entries that were not understood
	Unexplained []Entry // all that nothing explains, of earlier looks too
}

// Open begins or goes on with a watch.
func Open(ctx context.Context, f *translog.Folder, cfg Config) (*Watch, error) {
	id := sha256.Sum256([]byte(cfg.Identity + "\x00" + cfg.Issuer))
	w := &Watch{cfg: cfg, folder: f, path: filepath.Join(f.Dir(), fmt.Sprintf("watch-%x.sealed", id[:8]))}
	wait, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	unlock, err := translog.LockFile(wait, w.path+".lock")
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fault.Hint(fmt.Errorf("another hallmark log watch follows %s in %s", cfg.Identity, f.Dir()), "stop that one, or name another folder with --folder")
	} else if err != nil {
		return nil, err
	}
	w.unlock = unlock
	if err := w.load(); err != nil {
		unlock()
		return nil, err
	}
	return w, nil
}

func (w *Watch) load() error {
	w.st = state{Version: 1, Identity: w.cfg.Identity, Issuer: w.cfg.Issuer}
	data, err := durable.ReadSealed(w.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var st state
	if err == nil && (json.Unmarshal(data, &st) != nil || st.Version != 1 || st.Identity != w.cfg.Identity || st.Issuer != w.cfg.Issuer || st.Next < 0) {
		err = &durable.CorruptError{Path: w.path, Why: "it is not what a watch of this identity keeps"}
	}
	if err != nil {
		return fault.Hint(err, "remove it, and the watch begins again with the first entry of the log")
	}
	w.st = st
	return nil
}

// Close releases the watch.
func (w *Watch) Close() { w.unlock() }

// Look looks at what is new in a view and again at what was not explained. The
// state is saved when it returns without an error.
func (w *Watch) Look(ctx context.Context, v *translog.View, progress func(done, size int64)) (*Seen, error) {
	if err := w.continues(ctx, v); err != nil {
		return nil, err
	}
	found, unread, err := w.find(ctx, v, progress)
	if err != nil {
		return nil, err
	}
	seen := &Seen{Looked: v.Size() - w.st.Next}
	for _, i := range unread {
		if i >= w.st.Next {
			seen.Unread = append(seen.Unread, i)
		}
	}
	todo := slices.Clone(w.st.Open)
	for _, i := range found {
		if i >= w.st.Next {
			todo = append(todo, i)
		}
	}
	if len(todo) > 0 {
		if err := w.cfg.Expected.Read(ctx); err != nil {
			return nil, err
		}
	}
	err = Entries(ctx, v, todo, func(e Entry) error {
		w.judge(seen, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(seen.Unexplained) > maxOpen {
		return nil, fmt.Errorf("more than %d entries of %s are not explained: is --expected what you mean?", maxOpen, w.cfg.Identity)
	}
	return seen, w.save(v.Checkpoint, seen.Unexplained)
}

// continues makes sure that the view has what was looked at before, where the
// folder's checkpoint was lost, or the watch came from elsewhere.
func (w *Watch) continues(ctx context.Context, v *translog.View) error {
	origin := v.Checkpoint.Origin
	if w.st.Next > v.Size() {
		return &translog.Refusal{Reason: policy.Reason{Code: translog.CodeShrunk, Subject: origin,
			Message: fmt.Sprintf("the log %s shows %d entries; this watch has looked at %d", origin, v.Size(), w.st.Next)}}
	}
	root, err := v.RootAt(ctx, w.st.Next)
	if err == nil && w.st.Next > 0 && !bytes.Equal(root[:], w.st.Root) {
		return &translog.Refusal{Reason: policy.Reason{Code: translog.CodeForked, Subject: origin,
			Message: fmt.Sprintf("the first %d entries of the log %s are not those that this watch has looked at", w.st.Next, origin)}}
	}
	return err
}

func (w *Watch) find(ctx context.Context, v *translog.View, progress func(done, size int64)) (found, unread []int64, err error) {
	x, err := index.Open(ctx, IndexDir(w.folder))
	if err != nil {
		return nil, nil, err
	}
	defer x.Close()
	if found, err = x.Search(ctx, v, index.Identity(w.cfg.Identity), progress); err != nil {
		return nil, nil, err
	}
	unread, err = x.Search(ctx, v, index.Unread(), progress)
	return found, unread, err
}

// IndexDir is where the index of a log is kept.
func IndexDir(f *translog.Folder) string { return filepath.Join(f.Dir(), "index") }

// judge sorts an entry in. With several signers each that is of the identity must
// be explained.
func (w *Watch) judge(seen *Seen, e Entry) {
	of, explained, untrusted := false, true, false
	for _, s := range e.Signers {
		if s.Certificate == nil || s.Identity != w.cfg.Identity || w.cfg.Issuer != "" && s.Issuer != w.cfg.Issuer {
			continue
		}
		if w.cfg.CAs != nil && !s.IssuedBy(w.cfg.CAs) {
			untrusted = true
			continue
		}
		of = true
		explained = explained && w.cfg.Expected.Explains(e.Entry, s)
	}
	switch {
	case of && !explained:
		seen.Unexplained = append(seen.Unexplained, e)
	case of:
		seen.Explained++
	case untrusted:
		seen.Untrusted++
	}
}

func (w *Watch) save(c *translog.Checkpoint, open []Entry) error {
	st := w.st
	st.Next, st.Root, st.Open = c.Size, c.Root[:], nil
	for _, e := range open {
		st.Open = append(st.Open, e.Index)
	}
	if st.Next == w.st.Next && slices.Equal(st.Open, w.st.Open) {
		return nil
	}
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	if err := durable.WriteSealed(w.path, data, 0o600); err != nil {
		return err
	}
	w.st = st
	return nil
}

// Entries reads entries by ascending indexes; each bundle is read once.
func Entries(ctx context.Context, v *translog.View, indexes []int64, do func(Entry) error) error {
	at, bundle := int64(-1), [][]byte(nil)
	for _, i := range indexes {
		if i < 0 || i >= v.Size() {
			return fmt.Errorf("the log has %d entries: there is none with index %d", v.Size(), i)
		}
		if n := i / translog.Width; n != at {
			b, err := v.Bundle(ctx, n)
			if err != nil {
				return err
			}
			at, bundle = n, b
		}
		body := bundle[i%translog.Width]
		if err := do(Entry{i, body, rekor.Parse(body)}); err != nil {
			return err
		}
	}
	return nil
}
