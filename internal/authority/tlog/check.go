package tlog

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// Check reads a log's folder, which may be in use, and derives everything again
// from the entries: each entry's form and signature, every hash of the tree, the root
// that the checkpoint signs, and what lies in the folder derived. It changes nothing. Each thing that is not
// what was written is reported with the place of its first byte that shows it,
// in the order of the files; size is how many entries the checkpoint covers.
func Check(dir string, cfg Config, report func(durable.Damage)) (size int64, err error) {
	if err := checkConfig(&cfg); err != nil {
		return 0, err
	}
	if cfg.CheckEntry == nil {
		cfg.CheckEntry = checkCanonical
	}
	l := &Log{cfg: cfg, signer: cfg.Signer, store: &store{dir: dir}}
	// Before the head is read, which then covers what the index does.
	d, err := openDerivedCheck(dir)
	if err != nil {
		return 0, err
	}
	defer d.close()
	head, err := l.checkHead(report)
	if head == nil || err != nil {
		return 0, err
	}
	f, err := os.Open(filepath.Join(dir, entriesName))
	if errors.Is(err, fs.ErrNotExist) {
		report(durable.Damage{Path: filepath.Join(dir, entriesName), Offset: -1, Why: "it is missing although there is a checkpoint"})
		return head.size, nil
	} else if err != nil {
		return 0, err
	}
	defer f.Close()
	c := checker{path: f.Name(), head: head, report: report, check: cfg.CheckEntry, seen: cfg.Seen, derived: d, tree: (&derived{}).empty()}
	if err := c.entries(io.NewSectionReader(f, 0, head.bytes)); err != nil {
		return 0, err
	}
	return head.size, l.checkTimes(head, report)
}

// checkTimes compares the times of a timed log with what its checkpoint seals.
func (l *Log) checkTimes(h *head, report func(durable.Damage)) error {
	path := l.store.path(timesName)
	if l.cfg.Timed {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			report(durable.Damage{Path: path, Offset: -1, Why: "it is missing although there is a checkpoint"})
			return nil
		} else if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // it was only read
		l.store.times = f
	}
	err := l.loadTimes(new(tree), h)
	var corrupt *durable.CorruptError
	if errors.As(err, &corrupt) {
		report(durable.Damage{Path: corrupt.Path, Offset: -1, Why: corrupt.Why})
		return nil
	}
	return err
}

func (l *Log) checkHead(report func(durable.Damage)) (*head, error) {
	path := l.store.path(headName)
	sealed, err := durable.ReadSealed(path)
	var corrupt *durable.CorruptError
	switch {
	case errors.As(err, &corrupt):
		report(durable.Damage{Path: path, Offset: 0, Why: corrupt.Why})
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		report(durable.Damage{Path: path, Offset: -1, Why: "it is missing"})
		return nil, nil
	case err != nil:
		return nil, err
	}
	h, err := l.parseHead(sealed)
	if err != nil {
		report(durable.Damage{Path: path, Offset: 0, Why: "it is not a checkpoint that this log signed"})
		return nil, nil
	}
	return h, nil
}

// checker reads entries one piece at a time.
type checker struct {
	path   string
	head   *head
	report func(durable.Damage)
	check  func(entry []byte) (bad int, why string)
	seen   func(index int64, entry []byte)

	tree    *tree // of what was read
	derived *derivedCheck

	mu     sync.Mutex
	broken []durable.Damage // of one piece, not in order
}

// pieceEntries is how many entries are checked at a time.
const pieceEntries = 4096

func (c *checker) entries(r io.Reader) error {
	good := true
	for c.tree.n < c.head.size {
		n := min(pieceEntries, c.head.size-c.tree.n)
		if left := c.derived.covered - c.tree.n; left > 0 {
			n = min(n, left) // its root is compared there
		}
		first := c.tree.n
		piece, err := readPiece(r, n)
		leaves := c.piece(piece, c.tree.end)
		good = c.flush() && good
		lengths := make([]int, len(piece))
		for i, e := range piece {
			lengths[i] = len(e)
			if c.seen != nil {
				c.seen(first+int64(i), e)
			}
		}
		var g grown
		c.tree, g = c.tree.extend(leaves, lengths)
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			c.report(durable.Damage{Path: c.path, Offset: c.tree.end, Why: fmt.Sprintf("it ends in entry %d of the %d that the checkpoint covers", c.tree.n, c.head.size)})
			return nil
		} else if err != nil {
			return err
		}
		if err := c.derived.compare(first, leaves, g, c.tree.root); err != nil {
			return err
		}
	}
	if c.tree.end != c.head.bytes {
		c.report(durable.Damage{Path: c.path, Offset: c.tree.end, Why: fmt.Sprintf("its entries end here, and the checkpoint covers %d bytes", c.head.bytes)})
		return nil
	}
	if c.tree.root != c.head.root && good {
		c.report(durable.Damage{Path: c.path, Offset: -1, Why: "each entry holds, but together they do not give the root that the checkpoint signs: one was replaced, or they were reordered"})
		return nil
	}
	if good { // else what differs is the entries
		c.derived.tell(c.report)
	}
	return nil
}

// readPiece reads n entries; fewer with an error.
func readPiece(r io.Reader, n int64) (entries [][]byte, err error) {
	var size [2]byte
	for range n {
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return entries, err
		}
		e := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(r, e); err != nil {
			return entries, io.ErrUnexpectedEOF
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// piece checks entries on all processors and returns their hashes.
func (c *checker) piece(entries [][]byte, pos int64) []tlog.Hash {
	leaves := make([]tlog.Hash, len(entries))
	var g sync.WaitGroup
	limit := make(chan struct{}, runtime.GOMAXPROCS(0))
	const share = 64
	for from := 0; from < len(entries); from += share {
		some, first, at := entries[from:min(from+share, len(entries))], from, pos
		for _, e := range some {
			pos += int64(2 + len(e))
		}
		limit <- struct{}{}
		g.Go(func() {
			defer func() { <-limit }()
			for i, e := range some {
				leaves[first+i] = tlog.RecordHash(e)
				if bad, why := c.check(e); why != "" {
					c.mu.Lock()
					c.broken = append(c.broken, durable.Damage{Path: c.path, Offset: at + 2 + int64(bad), Why: why})
					c.mu.Unlock()
				}
				at += int64(2 + len(e))
			}
		})
	}
	g.Wait()
	return leaves
}

// flush reports what is broken in a piece, in order.
func (c *checker) flush() (good bool) {
	durable.SortDamage(c.broken)
	for _, d := range c.broken {
		c.report(d)
	}
	good = len(c.broken) == 0
	c.broken = nil
	return good
}

// checkCanonical reads an entry back: that it is canonical, and that its signature
// holds. bad is where it first is not, within the entry.
func checkCanonical(data []byte) (bad int, why string) {
	r := canonicalReader{data: data}
	var e entry
	var hashes, names []string
	for i := range algorithms {
		hashes, names = append(hashes, algorithms[i].hashName), append(names, algorithms[i].name)
	}
	r.text(`{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"`)
	at := r.pos
	hash := r.oneOf(hashes...)
	r.text(`"digest":"`)
	e.digest = r.base64()
	r.text(`},"signature":{"content":"`)
	e.signature = r.base64()
	r.text(`,"verifier":{"keyDetails":"`)
	name := r.oneOf(names...)
	r.text(`"`)
	e.certificate = r.oneOf(`publicKey":{"rawBytes`, `x509Certificate":{"rawBytes`) == `x509Certificate":{"rawBytes`
	r.text(`"`)
	e.verifier = r.base64()
	r.text(`}}}}}}`)
	if r.failed || r.pos != len(data) {
		return r.pos, "the entry is not in canonical form here"
	}
	e.algorithm = &algorithms[slices.Index(names, name)]
	if e.algorithm.hashName != hash {
		return at, "the entry's digest is of another kind than its key signs"
	}
	if err := e.check(); err != nil {
		return 0, "the entry's signature does not hold: a byte of its digest, its signature or its key was changed"
	}
	return 0, ""
}

// canonicalReader reads what entry.canonical writes; pos stays where it failed.
type canonicalReader struct {
	data   []byte
	pos    int
	failed bool
}

func (r *canonicalReader) fail(at int) {
	if !r.failed {
		r.failed, r.pos = true, at
	}
}

func (r *canonicalReader) text(want string) {
	for i := range len(want) {
		if r.failed || r.pos == len(r.data) || r.data[r.pos] != want[i] {
			r.fail(r.pos)
			return
		}
		r.pos++
	}
}

// oneOf reads the words up to and with the quote, and the colon or comma after
// it. Where none stands there, it fails where the one that fits longest does not.
func (r *canonicalReader) oneOf(words ...string) string {
	if r.failed {
		return ""
	}
	best, word := -1, ""
	for _, w := range words {
		rest := r.data[r.pos:]
		for _, end := range []string{`",`, `":`} {
			full, n := w+end, 0
			for n < len(full) && n < len(rest) && rest[n] == full[n] {
				n++
			}
			if n == len(full) {
				r.pos += n
				return w
			}
			if n > best {
				best, word = n, w
			}
		}
	}
	r.fail(r.pos + best)
	return word
}

// base64 reads strict base64 and the quote after it.
func (r *canonicalReader) base64() []byte {
	start := r.pos
	for !r.failed && (r.pos == len(r.data) || r.data[r.pos] != '"') {
		if r.pos == len(r.data) || !isBase64(r.data[r.pos]) {
			r.fail(r.pos)
			return nil
		}
		r.pos++
	}
	if r.failed {
		return nil
	}
	out, err := base64.StdEncoding.Strict().DecodeString(string(r.data[start:r.pos]))
	if err != nil {
		r.fail(start)
		return nil
	}
	r.pos++
	return out
}

func isBase64(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '+' || c == '/' || c == '='
}
