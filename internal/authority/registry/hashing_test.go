package registry

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

// shortWriter takes so many bytes and no more.
type shortWriter struct {
	bytes.Buffer
	left int
}

var errShort = errors.New("no more")

func (w *shortWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.left -= n
	_, _ = w.Buffer.Write(p[:n])
	if n < len(p) {
		return n, errShort
	}
	return n, nil
}

// TestCopyHashed: the hash is that of what was written, whatever is read at a time and
// wherever reading or writing ends.
func TestCopyHashed(t *testing.T) {
	t.Parallel()
	data := make([]byte, 9*pieceSize+17)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	cut := errors.New("the client is gone")
	for _, size := range []int{0, 1, 17, pieceSize - 1, pieceSize, pieceSize + 1, 3 * pieceSize, len(data)} {
		for name, reader := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "half": iotest.HalfReader, "with the end": iotest.DataErrReader,
			"cut":    func(r io.Reader) io.Reader { return io.MultiReader(r, iotest.ErrReader(cut)) },
			"hashed": nil,
		} {
			for _, room := range []int{1 << 30, 0, 1, pieceSize, pieceSize + 5, 5 * pieceSize} {
				var h hash.Hash = sha256.New()
				src := io.Reader(bytes.NewReader(data[:size]))
				if reader != nil {
					src = reader(src)
				} else {
					h = nil
				}
				w := &shortWriter{left: room}
				n, err := copyHashed(w, h, src)
				want := min(size, room)
				switch {
				case n != int64(want) || !bytes.Equal(w.Bytes(), data[:want]):
					t.Errorf("%s, %d bytes, room for %d: %d were written", name, size, room, n)
				case room < size && !errors.Is(err, errShort), room >= size && name == "cut" && !errors.Is(err, cut), room >= size && name != "cut" && err != nil:
					t.Errorf("%s, %d bytes, room for %d: %v", name, size, room, err)
				}
				if h != nil {
					if sum := sha256.Sum256(data[:want]); !bytes.Equal(h.Sum(nil), sum[:]) {
						t.Errorf("%s, %d bytes, room for %d: another hash", name, size, room)
					}
				}
			}
		}
	}
}

// endless is a body that never ends, and counts how often it was read.
type endless struct{ reads *atomic.Int64 }

func (e endless) Read(p []byte) (int, error) { e.reads.Add(1); return len(p), nil }

// stuck is a hash that gets no processor after its first piece until it is let go.
type stuck struct {
	hash.Hash
	begun bool
	free  chan struct{}
}

func (s *stuck) Write(p []byte) (int, error) {
	if s.begun {
		<-s.free
	}
	s.begun = true
	return s.Hash.Write(p)
}

// TestManyBodies: however many bodies wait to be hashed, each has one piece in memory and all
// of them a few more; when they are gone, others have these.
func TestManyBodies(t *testing.T) {
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			const bodies = 100
			var reads atomic.Int64
			free, end := make(chan struct{}), make(chan struct{})
			var all sync.WaitGroup
			for range bodies {
				all.Go(func() {
					w := writerFunc(func(p []byte) (int, error) {
						select {
						case <-end:
							return 0, errShort
						default:
							return len(p), nil
						}
					})
					if _, err := copyHashed(w, &stuck{Hash: sha256.New(), free: free}, endless{&reads}); !errors.Is(err, errShort) {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			if n := reads.Load() - bodies; n != bodies+maxExtra { // the first pieces are hashed
				t.Errorf("%d bodies have %d pieces", bodies, n)
			}
			close(end)
			close(free)
			all.Wait()
			if len(extraPieces) > 0 {
				t.Errorf("%d pieces are not given back", len(extraPieces))
			}
		})
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// BenchmarkCopyHashed is a body of 64 MiB from a pipe of the kernel's size to nowhere but its
// hash and a copy: what a push costs beside the network and the disk.
func BenchmarkCopyHashed(b *testing.B) {
	body := make([]byte, 64<<20)
	sink := make([]byte, pieceSize)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		h := sha256.New()
		if _, err := copyHashed(copyTo(sink), h, bytes.NewReader(body)); err != nil {
			b.Fatal(err)
		}
	}
}

type copyTo []byte

func (c copyTo) Write(p []byte) (int, error) { copy(c, p); return len(p), nil }
