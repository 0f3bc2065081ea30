// Package tilelog is a transparency log in memory whose operator is a test: it
// serves C2SP tiles over HTTP or as files, and can be made to fork, to shrink and
// to serve damage. It is for tests and measurements alone.
package tilelog

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Log is a log. It may be used concurrently.
type Log struct {
	Origin string
	Key    ed25519.PrivateKey

	mu      sync.Mutex
	entries [][]byte
	hashes  []tlog.Hash // stored hashes of entries
	size    int64       // what the checkpoint covers
	spoil   map[string]func([]byte) []byte
	gone    map[string]bool
	asked   map[string]int
}

// New is an empty log with a key of its own.
func New(origin string) *Log {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return &Log{Origin: origin, Key: key, spoil: map[string]func([]byte) []byte{}, gone: map[string]bool{}, asked: map[string]int{}}
}

// Public is the log's key.
func (l *Log) Public() ed25519.PublicKey { return l.Key.Public().(ed25519.PublicKey) }

// VerifierKey is the log's key as a note verifier key.
func (l *Log) VerifierKey() string {
	k, err := note.NewEd25519VerifierKey(l.Origin, l.Public())
	if err != nil {
		panic(err)
	}
	return k
}

// Append adds entries and publishes them.
func (l *Log) Append(entries ...[]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		h, err := tlog.StoredHashes(int64(len(l.entries)), e, l.reader())
		if err != nil {
			panic(err)
		}
		l.hashes = append(l.hashes, h...)
		l.entries = append(l.entries, e)
	}
	l.size = int64(len(l.entries))
}

// ForkAt is a second log with the same origin and key whose first n entries are
// this one's: what an operator has who shows people different logs.
func (l *Log) ForkAt(n int) *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := New(l.Origin)
	f.Key = l.Key
	f.Append(l.entries[:n]...)
	return f
}

// ShrinkTo publishes only the first n entries.
func (l *Log) ShrinkTo(n int64) { l.mu.Lock(); defer l.mu.Unlock(); l.size = n }

// Spoil has what is served at a path go through change; nil ends that.
func (l *Log) Spoil(path string, change func([]byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spoil[path] = change
}

// Remove has nothing served at a path.
func (l *Log) Remove(path string) { l.mu.Lock(); defer l.mu.Unlock(); l.gone[path] = true }

// Asked is how often a path was asked for over HTTP.
func (l *Log) Asked(path string) int { l.mu.Lock(); defer l.mu.Unlock(); return l.asked[path] }

func (l *Log) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			if x >= int64(len(l.hashes)) {
				return nil, fmt.Errorf("no hash %d", x)
			}
			out[i] = l.hashes[x]
		}
		return out, nil
	})
}

// Size is how many entries are published.
func (l *Log) Size() int64 { l.mu.Lock(); defer l.mu.Unlock(); return l.size }

// Prove is the consistency proof from the first n entries to what is published.
func (l *Log) Prove(n int64) tlog.TreeProof {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n == 0 || n == l.size {
		return nil
	}
	p, err := tlog.ProveTree(l.size, n, l.reader())
	if err != nil {
		panic(err)
	}
	return p
}

// Checkpoint is the signed checkpoint.
func (l *Log) Checkpoint() []byte { l.mu.Lock(); defer l.mu.Unlock(); return l.checkpoint() }

func (l *Log) checkpoint() []byte {
	root, err := tlog.TreeHash(l.size, l.reader())
	if err != nil {
		panic(err)
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", l.Origin, l.size, base64.StdEncoding.EncodeToString(root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, signer{l})
	if err != nil {
		panic(err)
	}
	return signed
}

type signer struct{ l *Log }

func (s signer) Name() string { return s.l.Origin }

func (s signer) KeyHash() uint32 {
	v, err := note.NewVerifier(s.l.VerifierKey())
	if err != nil {
		panic(err)
	}
	return v.KeyHash()
}

func (s signer) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.l.Key, msg), nil }

// Get is what lies at a path below the log's prefix.
func (l *Log) Get(path string) ([]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	data, ok := l.get(path)
	if change := l.spoil[path]; ok && change != nil {
		data = change(append([]byte(nil), data...))
	}
	return data, ok && !l.gone[path]
}

func (l *Log) get(path string) ([]byte, bool) {
	if path == "checkpoint" {
		return l.checkpoint(), true
	}
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok {
		return nil, false
	}
	if entries, is := strings.CutPrefix(rest, "entries/"); is {
		rest = "data/" + entries
	}
	t, err := tlog.ParseTilePath("tile/8/" + rest)
	if err != nil {
		return nil, false
	}
	if t.N*256+int64(t.W) > l.size>>(8*max(t.L, 0)) {
		return nil, false
	}
	if t.L < 0 {
		var out []byte
		for _, e := range l.entries[t.N*256 : t.N*256+int64(t.W)] {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(e))), e...)
		}
		return out, true
	}
	data, err := tlog.ReadTileData(t, l.reader())
	return data, err == nil
}

// ServeHTTP serves the log at its prefix, and below /api/v2 as Rekor v2 does.
func (l *Log) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/api/v2"), "/")
	l.mu.Lock()
	l.asked[path]++
	l.mu.Unlock()
	data, ok := l.Get(path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
}

// Files writes the log as files below dir.
func (l *Log) Files(dir string) error {
	paths := []string{"checkpoint"}
	for level := -1; level <= 7; level++ {
		n := l.Size() >> (8 * max(level, 0))
		for i := int64(0); i*256 < n; i++ {
			t := tlog.Tile{H: 8, L: level, N: i, W: int(min(256, n-i*256))}
			p := strings.TrimPrefix(t.Path(), "tile/8/")
			if rest, ok := strings.CutPrefix(p, "data/"); ok {
				p = "entries/" + rest
			}
			paths = append(paths, "tile/"+p)
		}
	}
	for _, p := range paths {
		data, ok := l.Get(p)
		if !ok {
			continue
		}
		name := filepath.Join(dir, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
