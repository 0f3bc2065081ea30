// Package tlog is the authority's transparency log: the Rekor v2 write API
// (hashedrekord 0.0.2) over a Merkle tree that anyone can read as C2SP
// tlog-tiles (c2sp.org/tlog-tiles, c2sp.org/tlog-checkpoint).
//
// An entry is integrated, on disk and covered by a signed checkpoint before its
// submitter gets an answer. Submitters that arrive while a commit is running
// share the next one, so the number of fsyncs does not grow with the number of
// clients. An entry that is already in the log is answered with its first index.
//
// Two files hold the state. entries is append-only and is byte for byte the
// concatenation of all C2SP entry bundles; checkpoint.sealed names the
// length of entries that it covers and is replaced atomically, always after the
// entries are durable. Bytes beyond that length are what a crash left behind:
// they were never promised to anyone and are overwritten.
//
// All else is derived of the entries and lies in the folder derived: the tree's
// hashes, where each entry ends, and which entry has a leaf hash. In memory are only
// the roots of the complete subtrees (at most 63) and what is not yet in the index,
// so a log takes as much memory with ten million entries as with ten thousand. What
// is read of the derived files, and each entry, is followed up to those roots before
// anybody gets it: what is damaged is not served. Open hashes the entries that the
// derived files do not cover yet (those of the last few ten thousand at most) and refuses a
// folder whose root is not the signed one, so a published checkpoint is never
// contradicted; [Check] hashes all of them.
//
// A log of another API is the same log with a [Signer] of its own and with entries
// of its own, added with [Log.Append] and read through a [View]; with Timed it
// also keeps when each entry was integrated (times.go).
//
// Witnesses cosign a checkpoint after it is durable and before it is shown. They are
// waited for a bounded time, and one that is down not at all: what was acknowledged
// never depends on them. Late cosignatures are added to the checkpoint that is shown.
//
// Trusted / not trusted: the folder is not trusted for integrity: an attacker
// who can modify it can at most make the log refuse to open or to answer, or, by the
// index, take an entry in a second time. One who can put back an older copy of entries
// and checkpoint, or delete both, can make it forget entries; anyone who kept a newer
// checkpoint can prove that. The key is trusted: an
// attacker who has it can show different logs to different people.
package tlog

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hallmark-dev/hallmark/internal/authority/witness"
)

// Config is what a log needs: Origin, and Key or Signer.
type Config struct {
	// Origin is the first line of every checkpoint and the name of its
	// signature. Verifiers of Sigstore bundles demand the host name of the
	// log's base URL, without port.
	Origin string
	Key    ed25519.PrivateKey
	// Signer signs checkpoints instead of Key, under an origin of its own making.
	Signer Signer
	// Timed keeps the second in which each entry was integrated.
	Timed bool
	// CheckEntry is for [Check]: where an entry is not one that the log would hold,
	// and why; nil is for entries of Rekor v2.
	CheckEntry func(entry []byte) (bad int, why string)
	// Seen is for [Check], too: it is called for each entry that the checkpoint covers, in
	// their order, when it is not nil.
	Seen func(index int64, entry []byte)
	Now  func() time.Time // default time.Now; only to log how long commits take
	Log  *slog.Logger     // default: nothing is logged
	// Witnesses, when not nil, are asked to cosign each checkpoint after it is on
	// disk and before anyone sees it. The caller closes them after the log.
	Witnesses *witness.Group

	// recent is how many entries are in memory before the index takes them; 0 is the
	// index's own default.
	recent int
	// askAgain is how long a signer that failed is left alone; 0 is [askAgain].
	askAgain time.Duration
}

// Log is an open log. Its methods may be called concurrently.
type Log struct {
	cfg     Config
	signer  Signer
	store   *store
	derived *derived
	disk    disk

	published atomic.Pointer[tree]  // what readers see; only ever replaced by an extension of itself
	failure   atomic.Pointer[error] // set once, by the committer
	queue     chan *pending
	quit      chan struct{} // closed by Close
	stopped   chan struct{} // closed when the committer has returned
	closing   atomic.Bool

	timesSum   hash.Hash  // of the times of all entries; the committer's own
	unfinished unfinished // the committer's own
	away, full atomic.Pointer[error]
}

// ErrClosed says that the log was closed before it could answer.
var ErrClosed = errors.New("the log is closed")

// Open opens the log in dir and creates it when dir does not exist or is empty.
// A file that is not exactly what was written is a *durable.CorruptError with
// the file's name, and nothing is changed. A folder can be open only once.
func Open(dir string, cfg Config) (*Log, error) {
	return open(dir, cfg, func(d disk) disk { return d })
}

func open(dir string, cfg Config, wrap func(disk) disk) (*Log, error) {
	if err := checkConfig(&cfg); err != nil {
		return nil, err
	}
	l := &Log{
		cfg:        cfg,
		signer:     signing{cfg.Signer},
		unfinished: unfinished{wait: cfg.askAgain},
		queue:      make(chan *pending, maxBatch),
		quit:       make(chan struct{}),
		stopped:    make(chan struct{}),
	}
	st, err := openStore(dir, cfg.Timed)
	if err != nil {
		return nil, fmt.Errorf("transparency log: %w", err)
	}
	l.store, l.disk = st, wrap(st)
	if l.derived, err = openDerived(dir, cfg.recent); err != nil {
		_ = st.close()
		return nil, fmt.Errorf("transparency log: %w", err)
	}
	st.derived = l.derived
	t, err := l.load()
	if err != nil {
		_ = l.derived.close()
		_ = st.close()
		return nil, fmt.Errorf("transparency log: %w", err)
	}
	l.published.Store(t)
	if cfg.Witnesses != nil && t.size() > 0 {
		go func() { // what they cosigned before was not kept
			lines, _ := l.cosignatures(t)
			l.upgrade(t, lines)
		}()
	}
	go l.run()
	return l, nil
}

func checkConfig(cfg *Config) error {
	if cfg.Signer == nil {
		if len(cfg.Key) != ed25519.PrivateKeySize {
			return errors.New("transparency log: the key is not an Ed25519 private key")
		}
		cfg.Signer = newNoteSigner(cfg.Origin, cfg.Key)
	}
	// c2sp.org/signed-note: a key name is non-empty, without spaces and plus.
	name := cfg.Signer.Name()
	if name == "" || !utf8.ValidString(name) || strings.ContainsRune(name, '+') || strings.IndexFunc(name, unicode.IsSpace) >= 0 {
		return fmt.Errorf("transparency log: %q cannot be an origin", name)
	}
	if rest, ok := strings.CutPrefix(cfg.Origin, name); !ok || strings.ContainsFunc(rest, unicode.IsControl) {
		return fmt.Errorf("transparency log: %q cannot be an origin", cfg.Origin)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.askAgain == 0 {
		cfg.askAgain = askAgain
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Public is the key that checkpoints are verified with, of a log that has Key.
func (l *Log) Public() ed25519.PublicKey { return l.cfg.Key.Public().(ed25519.PublicKey) }

// KeyID is the signer's: the logId of entries and of the trusted root.
func (l *Log) KeyID() []byte {
	id := l.signer.KeyID()
	return id[:]
}

// Size is the number of entries that the published checkpoint covers.
func (l *Log) Size() int64 { return l.published.Load().size() }

// Checkpoint is the published checkpoint, a signed note.
func (l *Log) Checkpoint() []byte { return append([]byte(nil), l.published.Load().note...) }

// Close waits for the commit that is running and releases the folder. Entries
// that were not answered may or may not be in the log.
func (l *Log) Close() error {
	if !l.closing.CompareAndSwap(false, true) {
		return nil
	}
	close(l.quit)
	l.derived.index.Stop() // for whose writes the committer may be waiting
	<-l.stopped
	return errors.Join(l.derived.close(), l.store.close())
}

// append adds one canonical entry, or finds it, and returns its index with a
// published tree that covers it.
func (l *Log) append(ctx context.Context, entry []byte) (int64, *tree, error) {
	r := l.add(ctx, entry)
	return r.index, r.tree, r.err
}

func (l *Log) add(ctx context.Context, entry []byte) result {
	if len(entry) > maxEntry {
		return result{err: fmt.Errorf("the entry has %d bytes, the limit is %d", len(entry), maxEntry)}
	}
	p := newPending(entry)
	select {
	case l.queue <- p:
	case <-l.quit:
		return result{err: ErrClosed}
	case <-ctx.Done():
		return result{err: ctx.Err()}
	}
	select {
	case r := <-p.done:
		return r
	case <-l.stopped:
		return result{err: ErrClosed}
	case <-ctx.Done():
		return result{err: ctx.Err()}
	}
}

// Err is the reason why the log answers no more, nil while it does: a write that
// failed. It names paths, and is for the operator.
func (l *Log) Err() error { return l.failed() }

// failed is the reason why the log stopped answering, nil while it works.
func (l *Log) failed() error {
	if p := l.failure.Load(); p != nil {
		return *p
	}
	return nil
}
