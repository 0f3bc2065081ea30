// Package postings finds the entries of a log by a hash, on disk: an index of any
// size that takes little memory, is ready at once when it is opened, and costs the
// same to add to however large it has grown.
//
// What was added last is kept in memory. When that is full it becomes a run: a file
// of sorted records that never changes. A run is merged into the one before as soon
// as it has grown to half of it, so there are few, and each record is moved a few
// times only (a log-structured merge tree). Both happen beside the log's work. A filter
// in memory says of most runs that they do not have a key, so that looking for one that
// is new reads nothing.
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
	"io/fs"
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
	noRoom error    // why what is frozen could not be written yet, nil when it can
	retry  flush    // of what is frozen, when there was no room
	state  contents // what the sealed file says; the writer's own while there is one

	writing sync.WaitGroup
	quit    chan struct{} // closed by Stop
	stop    sync.Once
}

// flush is what Flush was told.
type flush struct {
	covered int64
	mark    []byte
	sync    func() error
	at      int // how much is to be in memory before it is tried again
}

// crowded times Options.Recent is what is kept in memory at most while the disk has no room.
const crowded = 4

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
func (m *Map) Full() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.active.len() >= max(m.recent, m.retry.at)
}

// Room makes sure that more may be added. The error is that of a disk without room, when
// as much waits in memory for room as may; asking is then trying again.
func (m *Map) Room() error {
	if !m.crowded() {
		return nil
	}
	m.writing.Wait() // a Flush that tries it again already may have found room
	if !m.crowded() {
		return nil
	}
	if err := m.Flush(0, nil, nil); err != nil { // what is frozen, as it was told before
		return err
	}
	return m.Wait()
}

// crowded says that there was no room the last time, and that as much waits in memory as may.
func (m *Map) crowded() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.noRoom != nil && m.active.len() >= crowded*m.recent
}

// Flush hands over what was added to be written beside further work. All entries
// below covered were added; mark is kept with that number. sync, when not nil, makes
// durable what else must be before the index says that it covers them. Flush waits
// only for an earlier one; what that one failed of is the error, and the index is of
// no more use until it is Reset: a *durable.CorruptError where a run is damaged. A disk
// without room ([durable.NoRoom]) is no such failure: what was to be written stays in memory,
// this Flush tries it again, and what was added since waits for one that comes later. After
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
	f := m.retry
	if m.frozen == nil {
		f = flush{covered: covered, mark: mark, sync: sync}
		m.frozen, m.active = m.active, newTable()
	}
	f.at = m.active.len() + m.recent/8 + 1
	m.writing.Go(func() {
		err := m.write(f.covered, f.mark, f.sync)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.noRoom, m.retry = nil, flush{}
		if err != nil {
			err = fmt.Errorf("writing the index %s: %w", m.dir, err)
		}
		if durable.NoRoom(err) && m.frozen != nil {
			m.noRoom, m.retry = err, f
		} else if !durable.NoRoom(err) {
			m.failed = err
		}
	})
	return nil
}

// Wait waits for what Flush began, and returns what failed of it, or what there was no
// room for.
func (m *Map) Wait() error {
	m.writing.Wait()
	m.mu.RLock()
	defer m.mu.RUnlock()
	return cmp.Or(m.failed, m.noRoom)
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
// beside it. Where there is no room to merge, or for a filter, the index is as good
// without: it is tried again when the next run is written.
func (m *Map) write(covered int64, mark []byte, sync func() error) error {
	if sync != nil {
		if err := sync(); err != nil {
			return err
		}
	}
	runs := m.runs // nobody else changes it while this runs
	if m.frozen.len() > 0 {
		r, err := m.newRun(int64(m.frozen.len()), func(w *writer) error { return w.all(m.frozen.sorted()) })
		if errors.Is(err, errQuit) {
			return nil // it stays in memory
		} else if err != nil {
			return err
		}
		runs = append(slices.Clone(runs), r)
	}
	if err := m.install(runs, covered, mark); err != nil {
		return m.forget(runs, err)
	}
	for n := len(runs); n > 1 && runs[n-2].records <= 2*runs[n-1].records; n = len(runs) {
		r, err := m.newRun(runs[n-2].records+runs[n-1].records, func(w *writer) error { return w.merge(runs[n-2], runs[n-1]) })
		if errors.Is(err, errQuit) || durable.NoRoom(err) {
			return nil // two runs are as good as one
		} else if err != nil {
			return err
		}
		merged := append(slices.Clone(runs[:n-2]), r)
		if err := m.install(merged, covered, mark); err != nil {
			return m.forget(merged, err)
		}
		runs = merged
	}
	return m.makeFilters(runs)
}

// forget removes the last of runs, which could not be installed, when it counts for nobody
// because there was no room for the file that names it.
func (m *Map) forget(runs []*run, err error) error {
	if len(runs) > 0 && durable.NoRoom(err) && !slices.Contains(m.runs, runs[len(runs)-1]) {
		m.discard(runs[len(runs)-1].name)
		_ = runs[len(runs)-1].close() // it was only read
	}
	return err
}

// discard removes the files of a run that does not count. What cannot be removed now is
// removed at the next Open.
func (m *Map) discard(run string) {
	_ = remove(filepath.Join(m.dir, run))
	_ = remove(filterPath(m.dir, run))
}

// makeFilters makes those that are missing: of runs from before there were filters, and
// of those that a crash or damage took.
func (m *Map) makeFilters(runs []*run) error {
	for _, r := range runs {
		if r.filter != nil {
			continue
		}
		f, err := r.makeFilter(m.quit)
		if errors.Is(err, errQuit) || err == nil && f == nil {
			continue
		} else if err != nil {
			return err
		}
		if err := m.onceFilesAreFree(func() error { return r.saveFilter(m.dir, f) }); err != nil && !durable.NoRoom(err) {
			return err
		}
		m.mu.Lock()
		r.filter = f
		m.mu.Unlock()
	}
	return nil
}

// install makes runs the ones that count: on disk, then for those who search.
func (m *Map) install(runs []*run, covered int64, mark []byte) error {
	next := contents{Version: version, Covered: covered, Mark: mark, Next: m.state.Next}
	for _, r := range runs {
		next.Runs = append(next.Runs, runState{r.name, r.records})
	}
	if err := m.onceFilesAreFree(func() error { return next.save(m.dir) }); err != nil {
		return err
	}
	m.mu.Lock()
	old := m.runs
	m.runs, m.frozen, m.state = runs, nil, next
	m.mu.Unlock()
	for _, r := range old {
		if !slices.Contains(runs, r) {
			if err := errors.Join(r.close(), os.Remove(filepath.Join(m.dir, r.name)), remove(filterPath(m.dir, r.name))); err != nil {
				return err
			}
		}
	}
	return nil
}

// newRun writes a run that fill fills with at most that many records, and opens it.
func (m *Map) newRun(most int64, fill func(*writer) error) (*run, error) {
	m.mu.Lock()
	name := fmt.Sprintf(runPrefix+"%08d", m.state.Next)
	m.state.Next++
	m.mu.Unlock()
	var r *run
	err := m.onceFilesAreFree(func() (err error) {
		r, err = m.tryRun(name, most, fill)
		return err
	})
	if durable.NoRoom(err) {
		m.discard(name) // its filter may be what there was no room for
	}
	return r, err
}

func (m *Map) tryRun(name string, most int64, fill func(*writer) error) (_ *run, err error) {
	w, err := newWriter(m.dir, most, m.quit)
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
	r, err := openRun(m.dir, runState{name, w.records})
	if err != nil || w.filter == nil {
		return r, err
	}
	r.filter = w.filter
	if err := r.saveFilter(m.dir, r.filter); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// remove removes a file that may be missing.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// onceFilesAreFree does what needs a file for as long as the process has too many open:
// nothing was done then, and nothing is unknown.
func (m *Map) onceFilesAreFree(do func() error) error {
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
