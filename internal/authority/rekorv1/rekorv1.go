// Package rekorv1 is the authority's transparency log for older clients: the
// Rekor v1 API with entries of kind hashedrekord 0.0.1 and dsse 0.0.1, each with a
// signed entry timestamp (SET), an inclusion proof and a checkpoint in v1's form.
//
// It is package tlog's log, with all that one promises, in a folder of its own and
// with another key. An entry's integrated time is kept beside it (tlog's times),
// so a SET can be made again at any time and is always the same.
//
// An entry is accepted when its signatures are by the keys or certificates in it.
// Whether those are to be trusted is for those who read the log. Bodies are byte
// for byte those of Rekor 1.5, so every client can rebuild them.
//
// Beside the log lies an index to search by digest, key or name (index.go), on disk as
// the log's own is: neither's memory grows with the log.
//
// Trusted / not trusted: as package tlog. Nobody who connects is trusted: every
// text has a limit, and no more than two large ones are read at once.
package rekorv1

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/durable"
)

// Config is what a log needs: all but Now and Log.
type Config struct {
	// Host is the host name of the log's URL. With the tree's number it is the
	// origin of checkpoints.
	Host string
	Key  crypto.Signer // ECDSA P-256
	// TreeID is positive and never changes; [NewTreeID] makes one.
	TreeID int64
	Now    func() time.Time // default time.Now; what entries are stamped with
	Log    *slog.Logger     // default: nothing is logged
	// CheckEntry is for [Check], in the place of what reads an entry back; see tlog.
	CheckEntry func(entry []byte) (bad int, why string)
}

// Log is an open log. Its methods may be called concurrently.
type Log struct {
	log    *tlog.Log
	signer signer
	tree   string // 16 hex digits
	treeID int64
	public []byte // PEM
	slog   *slog.Logger
	index  *index
	closed sync.Once
	large  chan struct{} // holds a place for each large request that is being read
}

// NewTreeID is a tree's number for a new log: of its key, so that a folder that
// was made only in part gets the same number again.
func NewTreeID(public crypto.PublicKey) (int64, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return 0, err
	}
	sum := sha256.Sum256(append([]byte("hallmark tree\n"), spki...))
	// Rekor's numbers are positive int64s of any size; a leading one bit keeps
	// their 16 hex digits recognisable.
	return int64(binary.BigEndian.Uint64(sum[:])>>1 | 1<<62), nil
}

// Open opens the log in dir and creates it when dir does not exist or is empty. A
// damaged file is a *durable.CorruptError with its name.
func Open(dir string, cfg Config) (*Log, error) {
	s, err := newSigner(cfg.Host, cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("rekor v1 log: %w", err)
	}
	if cfg.TreeID <= 0 {
		return nil, fmt.Errorf("rekor v1 log: %d is no tree's number", cfg.TreeID)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{
		signer: s, treeID: cfg.TreeID, tree: fmt.Sprintf("%016x", cfg.TreeID),
		public: pem.EncodeToMemory(&pem.Block{Type: publicKeyPEM, Bytes: s.spki}),
		slog:   cfg.Log, large: make(chan struct{}, maxLarge),
	}
	l.log, err = tlog.Open(dir, cfg.tlog(s))
	if err != nil {
		return nil, err
	}
	if l.index, err = openIndex(dir, l.log, cfg.Log); err != nil {
		return nil, errors.Join(fmt.Errorf("rekor v1 log: %w", err), l.log.Close())
	}
	return l, nil
}

func (cfg Config) tlog(s signer) tlog.Config {
	if cfg.CheckEntry == nil {
		cfg.CheckEntry = readBack
	}
	return tlog.Config{Origin: Origin(cfg.Host, cfg.TreeID), Signer: s, Timed: true, Now: cfg.Now, Log: cfg.Log, CheckEntry: cfg.CheckEntry}
}

// Check derives everything in a log's folder again, as package tlog's does. Of an
// entry of kind dsse the payload is not in the log: its form is checked, and its
// place in the tree.
func Check(dir string, cfg Config, report func(durable.Damage)) (size int64, err error) {
	s, err := newSigner(cfg.Host, cfg.Key)
	if err != nil {
		return 0, fmt.Errorf("rekor v1 log: %w", err)
	}
	x, err := openIndexCheck(dir)
	if err != nil {
		return 0, err
	}
	t := cfg.tlog(s)
	t.Seen = x.seen
	size, err = tlog.Check(dir, t, func(d durable.Damage) {
		x.entriesHold = false
		report(d)
	})
	x.tell(size, report)
	return size, err
}

// CatchUp makes sure that the log in a folder does not contradict a checkpoint that
// it published, as package tlog's does. What it lacks cannot be had elsewhere: no
// mirror has the times of its entries.
func CatchUp(dir string, cfg Config, checkpoint []byte) error {
	s, err := newSigner(cfg.Host, cfg.Key)
	if err != nil {
		return fmt.Errorf("rekor v1 log: %w", err)
	}
	_, err = tlog.CatchUp(dir, cfg.tlog(s), checkpoint, nil)
	return err
}

// NewVerifier knows the signatures of a log's checkpoints.
func NewVerifier(cfg Config) (note.Verifier, error) {
	s, err := newSigner(cfg.Host, cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("rekor v1 log: %w", err)
	}
	return s, nil
}

// readBack reads an entry back.
func readBack(body []byte) (bad int, why string) {
	if bytes.HasPrefix(body, []byte(`{"apiVersion":"0.0.1","kind":"dsse",`)) {
		if keysOf(body) == nil {
			return 0, "the entry is not one that this log holds"
		}
		return 0, ""
	}
	if again, err := canonicalize(body); err != nil || !bytes.Equal(again, body) {
		return 0, "the entry is not in canonical form, or its signature does not hold"
	}
	return 0, ""
}

// Origin is the first line of the log's checkpoints.
func (l *Log) Origin() string { return Origin(l.signer.name, l.treeID) }

// Tree is the tree's number as the ids of its entries begin with it: 16 hex digits.
func (l *Log) Tree() string { return l.tree }

// Err is the reason why the log answers no more, as tlog's.
func (l *Log) Err() error { return l.log.Err() }

// Away is why the key does not sign, as tlog's.
func (l *Log) Away() error { return l.log.Away() }

// Full is why the disk had no room, as tlog's.
func (l *Log) Full() error { return l.log.Full() }

// Origin is the first line of a log's checkpoints. Clients tell checkpoints of v1
// from those of v2 by this form.
func Origin(host string, treeID int64) string {
	return host + " - " + strconv.FormatInt(treeID, 10)
}

// KeyID is the SHA-256 of the key's SubjectPublicKeyInfo: the log's id.
func (l *Log) KeyID() []byte { return l.signer.id[:] }

// Size is the number of entries that the published checkpoint covers.
func (l *Log) Size() int64 { return l.log.Size() }

// Close releases the folder, as tlog's does.
func (l *Log) Close() (err error) {
	l.closed.Do(func() { err = errors.Join(l.index.close(), l.log.Close()) })
	return err
}

// signer signs checkpoints and SETs with ECDSA over SHA-256. Its key id, as
// Rekor v1's, is the SHA-256 of the SubjectPublicKeyInfo.
type signer struct {
	name   string
	key    crypto.Signer
	public *ecdsa.PublicKey
	spki   []byte
	id     [sha256.Size]byte
}

var _ tlog.Signer = signer{}

func newSigner(name string, key crypto.Signer) (signer, error) {
	if key == nil {
		return signer{}, errors.New("it has no key")
	}
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return signer{}, errors.New("its key is not an ECDSA key on P-256")
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	return signer{name, key, public, spki, sha256.Sum256(spki)}, err
}

func (s signer) Name() string             { return s.name }
func (s signer) KeyHash() uint32          { return binary.BigEndian.Uint32(s.id[:]) }
func (s signer) KeyID() [sha256.Size]byte { return s.id }

func (s signer) Sign(msg []byte) ([]byte, error) {
	sum := sha256.Sum256(msg)
	if key, ok := s.key.(*ecdsa.PrivateKey); ok {
		// Deterministic (RFC 6979): an entry's SET is the same every time.
		return key.Sign(nil, sum[:], crypto.SHA256)
	}
	return s.key.Sign(rand.Reader, sum[:], crypto.SHA256)
}

func (s signer) Verify(msg, sig []byte) bool {
	sum := sha256.Sum256(msg)
	return ecdsa.VerifyASN1(s.public, sum[:], sig)
}

// promise is the signed entry timestamp: over the JCS (RFC 8785) of body,
// integratedTime, logID and logIndex.
func (s signer) promise(body []byte, at, index int64) ([]byte, error) {
	b := make([]byte, 0, len(body)*4/3+200)
	b = append(b, `{"body":"`...)
	b = base64.StdEncoding.AppendEncode(b, body)
	b = append(b, `","integratedTime":`...)
	b = strconv.AppendInt(b, at, 10)
	b = append(b, `,"logID":"`...)
	b = hex.AppendEncode(b, s.id[:])
	b = append(b, `","logIndex":`...)
	b = strconv.AppendInt(b, index, 10)
	sig, err := s.Sign(append(b, '}'))
	if err != nil {
		return nil, &tlog.SignerError{Err: err}
	}
	return sig, nil
}
