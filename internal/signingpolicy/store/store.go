// Package store writes a policy store: a folder of static files that any web server, bucket or
// git host can serve (docs/policy-store.md). Nobody who reads it trusts who wrote it, so that
// admission is a courtesy: it keeps out what readers would refuse.
//
// What Append has returned from is on disk, and in every later head. Publish shows a head only
// after all that it commits to is on disk, and after the quorum has cosigned it; it never signs
// two heads that contradict each other, whenever it is interrupted, as long as nobody puts back an
// older copy of the folder.
//
// Trusted: the folder and the keys. Who can write to the folder can make the store refuse to open.
package store

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/repokey"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// Names in the folder that are no part of the store as it is served, though they hold no secret.
const (
	stateDir = "state"
	queueDir = "state/queue"
	headName = "state/head" // the newest head that was signed, without cosignatures
	lockName = "state/lock"
)

// Config of a store. Dir, Origin, Key, ClockName and Clock are needed.
type Config struct {
	Dir    string
	Origin string             // the log's name, such as "policy.example/v1"
	Key    ed25519.PrivateKey // signs heads
	// Clock is the operator's cosigner, which says when a head was there.
	ClockName string
	Clock     ed25519.PrivateKey
	// Witnesses cosign, too; nil: none.
	Witnesses *witness.Group
	// Quorum must have cosigned a head before it is shown; the zero Quorum asks for none.
	Quorum ledger.Quorum
	// Rules judge what is submitted. nil admits all that is well-formed and in order: then whoever
	// submits can make readers refuse a repository's policy.
	Rules    *chain.Rules
	Blinding repokey.Blinding
	Now      func() time.Time // nil: time.Now
}

func (c *Config) check() error {
	if c.Dir == "" || c.Origin == "" || len(c.Key) != ed25519.PrivateKeySize || c.ClockName == "" || len(c.Clock) != ed25519.PrivateKeySize {
		return errors.New("policy store: folder, origin and the keys of log and clock are needed")
	}
	if c.Clock.Equal(c.Key) {
		return errors.New("policy store: the clock is another key than the log's")
	}
	if c.Rules != nil && c.Quorum == (ledger.Quorum{}) {
		return errors.New("policy store: to judge records it must be known whose cosignatures say when they were logged")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

func (c *Config) log() (translog.Log, error) {
	return translog.NewLog(c.Origin, c.Key.Public().(ed25519.PublicKey))
}

// Store is an open folder. It may be used concurrently; another process cannot open it meanwhile.
type Store struct {
	cfg    Config
	log    translog.Log
	unlock func()

	mu     sync.Mutex
	state  *ledger.State
	hashes []tlog.Hash // all stored hashes of the tree up to size
	size   int64       // leaves in the newest signed head
	last   [][]byte    // leaves of the last bundle that is not full
	head   []byte      // that head, without cosignatures
	queue  []ledger.Leaf
	queued int      // number of the next file in the queue
	files  []string // of the queue
	failed error    // a write failed: nobody knows what is on disk
}

// Init makes a store in a folder that is empty or not there, and shows its first head.
func Init(ctx context.Context, cfg Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	if entries, err := os.ReadDir(cfg.Dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("policy store: %s is not empty", cfg.Dir)
	}
	if err := durable.MkdirAll(filepath.Join(cfg.Dir, queueDir), 0o755); err != nil {
		return fmt.Errorf("policy store: %w", err)
	}
	s, err := open(ctx, cfg, true)
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Publish(ctx)
	return err
}

// Open opens a store and reads all of its log. A file that is not what was written is a
// *durable.CorruptError.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return open(ctx, cfg, false)
}

func open(ctx context.Context, cfg Config, isNew bool) (_ *Store, err error) {
	s := &Store{cfg: cfg, state: &ledger.State{}}
	if s.log, err = cfg.log(); err != nil {
		return nil, err
	}
	if s.unlock, err = translog.LockFile(ctx, s.path(lockName)); err != nil {
		return nil, fmt.Errorf("policy store: %w", err)
	}
	defer func() {
		if err != nil {
			s.unlock()
		}
	}()
	s.head, err = durable.ReadSealed(s.path(headName))
	switch {
	case errors.Is(err, fs.ErrNotExist) && isNew:
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("policy store: %s holds none: %w", cfg.Dir, err)
	case err != nil:
		return nil, err
	default:
		if err = s.replay(ctx); err != nil {
			return nil, err
		}
	}
	return s, s.readQueue()
}

// Close releases the folder.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unlock != nil {
		s.unlock()
		s.unlock, s.failed = nil, errors.New("policy store: it is closed")
	}
}

func (s *Store) path(name string) string { return filepath.Join(s.cfg.Dir, filepath.FromSlash(name)) }

// replay computes the state from the leaves of the newest signed head, as everybody can.
func (s *Store) replay(ctx context.Context) error {
	h, err := ledger.ParseHead(s.log, s.head)
	if err != nil {
		return &durable.CorruptError{Path: s.path(headName), Why: "it is no head by the store's key: " + err.Error()}
	}
	view := translog.NewView(h.Checkpoint, ledger.Folder(s.cfg.Dir), nil)
	err = translog.Scan(ctx, view, 0, h.Size, func(b translog.Bundle) (translog.Bundle, error) { return b, nil }, func(b translog.Bundle) error {
		for i, data := range b.Entries {
			l, err := ledger.ParseLeaf(data)
			if err == nil {
				err = s.state.Apply(l)
			}
			if err != nil {
				return &durable.CorruptError{Path: s.path(fmt.Sprintf("tile/entries, leaf %d", b.First+int64(i))), Why: err.Error()}
			}
			if err := s.add(data); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("policy store: %w", err)
	}
	if root, err := tlog.TreeHash(s.size, s.reader()); err != nil || root != h.Root {
		return &durable.CorruptError{Path: s.path("tile"), Why: "its leaves are not those of the signed head"}
	}
	return nil
}

// add takes a leaf's bytes into the tree.
func (s *Store) add(data []byte) error {
	more, err := tlog.StoredHashes(s.size, data, s.reader())
	if err != nil {
		return err
	}
	s.hashes = append(s.hashes, more...)
	s.last = append(s.last, data)
	if s.size++; s.size%translog.Width == 0 {
		s.last = nil
	}
	return nil
}

func (s *Store) reader() tlog.HashReader { return reader(s.hashes) }

func reader(hashes []tlog.Hash) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, at := range indexes {
			if at < 0 || at >= int64(len(hashes)) {
				return nil, fmt.Errorf("policy store: the tree has no hash %d", at)
			}
			out[i] = hashes[at]
		}
		return out, nil
	})
}
