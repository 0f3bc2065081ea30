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
// they were never promised to anyone and are overwritten. Open hashes every
// entry again and refuses a folder whose root is not the signed one, so a
// published checkpoint is never contradicted. Tiles are computed from the
// hashes, which are kept in memory (about 150 bytes for each entry).
//
// Trusted / not trusted: the folder is not trusted for integrity: an attacker
// who can modify it can at most make the log refuse to open. One who can put
// back an older copy of both files, or delete both, can make it forget entries;
// anyone who kept a newer checkpoint can prove that. The key is trusted: an
// attacker who has it can show different logs to different people.
package tlog

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// Config is what a log needs. Origin and Key are required.
type Config struct {
	// Origin is the first line of every checkpoint and the name of its
	// signature. Verifiers of Sigstore bundles demand the host name of the
	// log's base URL, without port.
	Origin string
	Key    ed25519.PrivateKey
	Now    func() time.Time // default time.Now; only to log how long commits take
	Log    *slog.Logger     // default: nothing is logged
}

// Log is an open log. Its methods may be called concurrently.
type Log struct {
	cfg    Config
	signer noteSigner
	store  *store
	disk   disk

	published atomic.Pointer[tree]  // what readers see; only ever replaced by an extension of itself
	failure   atomic.Pointer[error] // set once, by the committer
	queue     chan *pending
	quit      chan struct{} // closed by Close
	stopped   chan struct{} // closed when the committer has returned
	closing   atomic.Bool

	index map[[sha256.Size]byte]int64 // leaf hash to index; the committer's own
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
		cfg:     cfg,
		signer:  newNoteSigner(cfg.Origin, cfg.Key),
		queue:   make(chan *pending, maxBatch),
		quit:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	st, err := openStore(dir)
	if err != nil {
		return nil, fmt.Errorf("transparency log: %w", err)
	}
	l.store, l.disk = st, wrap(st)
	t, err := l.load()
	if err != nil {
		_ = st.close()
		return nil, fmt.Errorf("transparency log: %w", err)
	}
	l.index = make(map[[sha256.Size]byte]int64, t.size())
	for i, h := range t.leaves() {
		l.index[h] = int64(i)
	}
	l.published.Store(t)
	go l.run()
	return l, nil
}

func checkConfig(cfg *Config) error {
	if len(cfg.Key) != ed25519.PrivateKeySize {
		return errors.New("transparency log: the key is not an Ed25519 private key")
	}
	// c2sp.org/signed-note: a key name is non-empty, without spaces and plus.
	if cfg.Origin == "" || !utf8.ValidString(cfg.Origin) || strings.ContainsRune(cfg.Origin, '+') ||
		strings.IndexFunc(cfg.Origin, unicode.IsSpace) >= 0 {
		return fmt.Errorf("transparency log: %q cannot be an origin", cfg.Origin)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Public is the key that checkpoints are verified with.
func (l *Log) Public() ed25519.PublicKey { return l.cfg.Key.Public().(ed25519.PublicKey) }

// KeyID is the whole 32-byte C2SP key id, SHA-256(origin, "\n", 0x01, key): the
// logId of entries and of the trusted root. Its first four bytes are the key
// hash in the checkpoint's signature line (c2sp.org/signed-note).
func (l *Log) KeyID() []byte {
	id := l.signer.id
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
	<-l.stopped
	return l.store.close()
}

// noteSigner signs checkpoints: an Ed25519 note key (c2sp.org/signed-note).
type noteSigner struct {
	name string
	key  ed25519.PrivateKey
	id   [sha256.Size]byte
}

var _ note.Signer = noteSigner{}

func newNoteSigner(origin string, key ed25519.PrivateKey) noteSigner {
	const algEd25519 = 1
	msg := append([]byte(origin), '\n', algEd25519)
	msg = append(msg, key.Public().(ed25519.PublicKey)...)
	return noteSigner{name: origin, key: key, id: sha256.Sum256(msg)}
}

func (s noteSigner) Name() string { return s.name }

func (s noteSigner) KeyHash() uint32 {
	return uint32(s.id[0])<<24 | uint32(s.id[1])<<16 | uint32(s.id[2])<<8 | uint32(s.id[3])
}

func (s noteSigner) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

// verifier is the other half, used to check our own checkpoint at Open.
func (s noteSigner) verifier() (note.Verifier, error) {
	vkey, err := note.NewEd25519VerifierKey(s.name, s.key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(vkey)
}

// append adds one canonical entry, or finds it, and returns its index with a
// published tree that covers it.
func (l *Log) append(ctx context.Context, entry []byte) (int64, *tree, error) {
	if len(entry) > maxEntry {
		return 0, nil, fmt.Errorf("the entry has %d bytes, the limit is %d", len(entry), maxEntry)
	}
	p := newPending(entry)
	select {
	case l.queue <- p:
	case <-l.quit:
		return 0, nil, ErrClosed
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
	select {
	case r := <-p.done:
		return r.index, r.tree, r.err
	case <-l.stopped:
		return 0, nil, ErrClosed
	case <-ctx.Done():
		return 0, nil, ctx.Err()
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
