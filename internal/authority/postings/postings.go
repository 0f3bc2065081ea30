// Package postings finds the entries of a log by a hash, on disk: an index of any
// size that takes little memory, is ready at once when it is opened, and costs the
// same to add to however large it has grown.
//
// What was added last is kept in memory. When that is full it becomes a run: a file
// of sorted records that never changes. A run is merged into the one before as soon
// as it has grown to half of it, so there are few, and each record is moved a few
// times only (a log-structured merge tree). Both happen beside the log's work.
//
// An index is derived: whatever is missing or damaged is made again from the log by
// its owner, who asks [Map.Covered] from where on. The sealed file names the runs
// that count and the entries that they cover, and is replaced after the runs are
// durable. Every block of a run has a checksum, so that what was not written is
// never taken for "not found".
//
// Trusted / not trusted: the checksums find accidents. Who can write to the folder
// can make the index name wrong entries or leave some out; what it finds is a place
// to look at, and its owner looks.
package postings

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// KeySize is how many bytes of a hash are kept. Two hashes that share them cannot be
// made by chance; who makes them on purpose makes the index name an entry too many.
const KeySize = 12

// Key is the beginning of a hash.
type Key [KeySize]byte

// MaxEntry is the largest number of an entry that can be kept.
const MaxEntry = 1<<32 - 1

// DefaultRecent is how many records are kept in memory before they become a run:
// about 2 MB, twice that while a run is being written.
const DefaultRecent = 1 << 15

// Options may all be left out.
type Options struct {
	Recent int // default DefaultRecent
}

// record is that an entry has a key. Records are ordered by key, then entry.
type record struct {
	key   Key
	entry uint32
}

func (r record) compare(s record) int {
	if c := slices.Compare(r.key[:], s.key[:]); c != 0 {
		return c
	}
	return cmp.Compare(r.entry, s.entry)
}

// Map is an open index. Find may be called by anyone at any time; Add and Flush by
// one goroutine, the log's writer.
type Map struct {
	dir    string
	recent int

	mu     sync.RWMutex
	unmade bool     // Reset, and not everything added again
	active *table   // what is added to
	frozen *table   // what is being written as a run, nil for nothing
	runs   []*run   // oldest first
	failed error    // of the goroutine that writes
	state  contents // what the sealed file says; the writer's own while there is one

	writing sync.WaitGroup
	quit    chan struct{} // closed by Stop
	stop    sync.Once
}

// ErrUnmade says that the index was reset and is being made again: what is not found
// may be there.
var ErrUnmade = errors.New("the log's index is being made again; try again later")

// Open opens the index in dir, which is made when it is not there. Damage is no
// error: what is damaged counts no more, and Covered says what is left.
func Open(dir string, o Options) (*Map, error) {
	if o.Recent <= 0 {
		o.Recent = DefaultRecent
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	m := &Map{dir: dir, recent: o.Recent, active: newTable(), quit: make(chan struct{})}
	if err := m.load(); err != nil {
		return nil, err
	}
	return m, m.sweep()
}

// Covered is how many of the log's entries, from the first on, are in the index on
// disk, and what its owner said about them then.
func (m *Map) Covered() (entries int64, mark []byte) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.Covered, m.state.Mark
}

// Add adds that an entry has a key.
func (m *Map) Add(k Key, entry uint32) {
	m.mu.Lock()
	m.active.add(k, entry)
	m.mu.Unlock()
}

// Full says that it is time to call Flush.
func (m *Map) Full() bool { return m.active.len() >= m.recent }

// Flush hands over what was added to be written beside further work. All entries
// below covered were added; mark is kept with that number. sync, when not nil, makes
// durable what else must be before the index says that it covers them. Flush waits
// only for an earlier one; what that one failed of is the error, and the index is of
// no more use until it is Reset: a *durable.CorruptError where a run is damaged. After
// Stop nothing is written.
func (m *Map) Flush(covered int64, mark []byte, sync func() error) error {
	m.writing.Wait()
	select {
	case <-m.quit:
		return nil
	default:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return m.failed
	}
	m.frozen, m.active = m.active, newTable()
	m.writing.Go(func() {
		if err := m.write(covered, mark, sync); err != nil {
			m.mu.Lock()
			m.failed = fmt.Errorf("writing the index %s: %w", m.dir, err)
			m.mu.Unlock()
		}
	})
	return nil
}

// Wait waits for what Flush began, and returns what failed of it.
func (m *Map) Wait() error {
	m.writing.Wait()
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.failed
}

// Stop ends what is being written as soon as it can be, and lets nothing more begin:
// nobody waits for it any longer. Find goes on.
func (m *Map) Stop() { m.stop.Do(func() { close(m.quit) }) }

// Close stops and closes the files. What is only in memory is not written: the owner
// adds it again.
func (m *Map) Close() error {
	m.Stop()
	m.writing.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, r := range m.runs {
		errs = append(errs, r.close())
	}
	m.runs = nil
	return errors.Join(errs...)
}

// Find is every entry that has a key, in no order, each once if it was added once.
func (m *Map) Find(k Key) ([]uint32, error) { return m.Newest(k, MaxEntry+1, MaxEntry) }

// Newest is the entries below a number that have a key, in no order: the limit newest
// of them at least, where there are that many.
func (m *Map) Newest(k Key, below int64, limit int) ([]uint32, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.unmade {
		return nil, ErrUnmade
	}
	out := m.active.find(nil, k, below)
	if m.frozen != nil {
		out = m.frozen.find(out, k, below)
	}
	// Each run has later entries than those before it.
	for i := len(m.runs) - 1; i >= 0 && len(out) < limit; i-- {
		var err error
		if out, err = m.runs[i].find(out, k, below, limit); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// write makes a run of what is frozen, says so, and merges what has become small
// beside it.
func (m *Map) write(covered int64, mark []byte, sync func() error) error {
	if sync != nil {
		if err := sync(); err != nil {
			return err
		}
	}
	runs := m.runs // nobody else changes it while this runs
	if m.frozen.len() > 0 {
		r, err := m.newRun(func(w *writer) error { return w.all(m.frozen.sorted()) })
		if errors.Is(err, errQuit) {
			return nil // it stays in memory
		} else if err != nil {
			return err
		}
		runs = append(slices.Clone(runs), r)
	}
	if err := m.install(runs, covered, mark); err != nil {
		return err
	}
	for n := len(runs); n > 1 && runs[n-2].records <= 2*runs[n-1].records; n = len(runs) {
		r, err := m.newRun(func(w *writer) error { return w.merge(runs[n-2], runs[n-1]) })
		if errors.Is(err, errQuit) {
			return nil // two runs are as good as one
		} else if err != nil {
			return err
		}
		runs = append(slices.Clone(runs[:n-2]), r)
		if err := m.install(runs, covered, mark); err != nil {
			return err
		}
	}
	return nil
}

// install makes runs the ones that count: on disk, then for those who search.
func (m *Map) install(runs []*run, covered int64, mark []byte) error {
	next := contents{Version: version, Covered: covered, Mark: mark, Next: m.state.Next}
	for _, r := range runs {
		next.Runs = append(next.Runs, runState{r.name, r.records})
	}
	if err := m.retry(func() error { return next.save(m.dir) }); err != nil {
		return err
	}
	m.mu.Lock()
	old := m.runs
	m.runs, m.frozen, m.state = runs, nil, next
	m.mu.Unlock()
	for _, r := range old {
		if !slices.Contains(runs, r) {
			if err := errors.Join(r.close(), os.Remove(filepath.Join(m.dir, r.name))); err != nil {
				return err
			}
		}
	}
	return nil
}

// newRun writes a run that fill fills, and opens it.
func (m *Map) newRun(fill func(*writer) error) (*run, error) {
	m.mu.Lock()
	name := fmt.Sprintf(runPrefix+"%08d", m.state.Next)
	m.state.Next++
	m.mu.Unlock()
	var r *run
	err := m.retry(func() (err error) {
		r, err = m.tryRun(name, fill)
		return err
	})
	return r, err
}

func (m *Map) tryRun(name string, fill func(*writer) error) (_ *run, err error) {
	w, err := newWriter(m.dir, m.quit)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.discard()) }()
	if err := fill(w); err != nil {
		return nil, err
	}
	if err := w.finish(filepath.Join(m.dir, name)); err != nil {
		return nil, err
	}
	return openRun(m.dir, runState{name, w.records})
}

// retry does what needs a file for as long as the process has too many open: nothing
// was done then, and nothing is unknown.
func (m *Map) retry(do func() error) error {
	for {
		err := do()
		if !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) {
			return err
		}
		select {
		case <-m.quit:
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// table is records in memory: for each key a chain of them, newest first.
type table struct {
	last    map[Key]int32 // where the chain begins in records
	records []chained
}

type chained struct {
	record
	before int32 // the one added before with this key, -1 for none
}

func newTable() *table { return &table{last: map[Key]int32{}} }

func (t *table) len() int { return len(t.records) }

func (t *table) add(k Key, entry uint32) {
	before, ok := t.last[k]
	if !ok {
		before = -1
	}
	t.last[k] = int32(len(t.records))
	t.records = append(t.records, chained{record{k, entry}, before})
}

func (t *table) find(out []uint32, k Key, below int64) []uint32 {
	i, ok := t.last[k]
	for ; ok && i >= 0; i = t.records[i].before {
		if r := t.records[i]; int64(r.entry) < below {
			out = append(out, r.entry)
		}
	}
	return out
}

func (t *table) sorted() []record {
	out := make([]record, len(t.records))
	for i, r := range t.records {
		out[i] = r.record
	}
	slices.SortFunc(out, record.compare)
	return out
}
