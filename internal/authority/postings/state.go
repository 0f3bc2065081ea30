package postings

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

const (
	stateName  = "index.sealed"
	tempPrefix = ".tmp-" // durable's, too
	runPrefix  = "run-"
	version    = 1
)

// contents is the sealed file.
type contents struct {
	Version int        `json:"version"`
	Covered int64      `json:"covered"` // entries, from the first on
	Mark    []byte     `json:"mark,omitempty"`
	Runs    []runState `json:"runs"` // oldest first
	Next    int64      `json:"next"` // number of the next run's name
}

type runState struct {
	Name    string `json:"name"`
	Records int64  `json:"records"`
}

func (c contents) save(dir string) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return durable.WriteSealed(filepath.Join(dir, stateName), data, 0o600)
}

// readState reads the sealed file; a *durable.CorruptError where it is not one that
// was written, fs.ErrNotExist where there is none.
func readState(dir string) (contents, error) {
	var c contents
	path := filepath.Join(dir, stateName)
	data, err := durable.ReadSealed(path)
	if err != nil {
		return c, err
	}
	bad := &durable.CorruptError{Path: path, Why: "it is not the JSON that belongs here"}
	if json.Unmarshal(data, &c) != nil || c.Version != version || c.Covered < 0 || c.Covered > MaxEntry+1 {
		return contents{}, bad
	}
	for _, r := range c.Runs {
		if !strings.HasPrefix(r.Name, runPrefix) || r.Name != filepath.Base(r.Name) || r.Records <= 0 {
			return contents{}, bad
		}
	}
	return c, nil
}

// load opens the runs. When one is not what was written, none counts: entries of all
// of them lie in each.
func (m *Map) load() error {
	st, err := readState(m.dir)
	if isLost(err) {
		return nil
	} else if err != nil {
		return err
	}
	for _, rs := range st.Runs {
		r, err := openRun(m.dir, rs)
		if err == nil {
			m.runs = append(m.runs, r)
			if r.filter, err = r.readFilter(m.dir); err == nil || isLost(err) {
				continue
			}
		}
		for _, r := range m.runs {
			err = errors.Join(err, r.close())
		}
		m.runs = nil
		m.state = contents{Next: st.Next}
		if isLost(err) {
			return nil
		}
		return err
	}
	m.state = st
	return nil
}

// isLost says that what could not be read is to be made again.
func isLost(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.As(err, new(*durable.CorruptError))
}

// sweep removes files that do not count: what a crash left, and merged runs.
func (m *Map) sweep() error {
	names, err := os.ReadDir(m.dir)
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, r := range m.runs {
		keep[r.name], keep[filepath.Base(filterPath(m.dir, r.name))] = true, true
	}
	for _, e := range names {
		if n := e.Name(); !keep[n] && slices.ContainsFunc([]string{runPrefix, filterPrefix, tempPrefix}, func(p string) bool { return strings.HasPrefix(n, p) }) {
			if err := os.Remove(filepath.Join(m.dir, n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Reset forgets everything, also what failed, so that all can be added anew: its owner
// has found that the index is of another log, or that it was damaged. Until the owner
// says that everything is Made, nothing is found.
func (m *Map) Reset() error {
	m.writing.Wait()
	err := m.onceFilesAreFree(func() error {
		if err := remove(filepath.Join(m.dir, stateName)); err != nil {
			return err
		}
		return durable.SyncDir(m.dir)
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.runs {
		_ = r.close() // it was only read
	}
	m.runs, m.frozen, m.active, m.failed, m.unmade = nil, nil, newTable(), nil, true
	m.noRoom, m.retry = nil, flush{}
	m.state = contents{Next: m.state.Next}
	// What cannot be removed now does not count, and is removed at the next Open.
	_ = m.sweep()
	return nil
}

// Made says that what was added since Reset is everything.
func (m *Map) Made() {
	m.mu.Lock()
	m.unmade = false
	m.mu.Unlock()
}

// Unmade says that the index was Reset and not yet Made.
func (m *Map) Unmade() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.unmade
}

// Sum is a fingerprint of a set of records that does not depend on their order.
type Sum struct {
	Records int64
	mixed   uint64
}

// Add takes up one record.
func (s *Sum) Add(k Key, entry uint32) {
	const prime = 0x9E3779B97F4A7C15 // 2^64 divided by the golden ratio
	h := uint64(entry) + 1
	for i, b := range k {
		h = (h ^ uint64(b)<<(8*(uint(i)%7))) * prime
		h ^= h >> 29
	}
	s.Records++
	s.mixed += h
}

// Check reads an index that may be in use and changes nothing. It reports what is not
// what was written, and gives to compare what the index holds: sum is of all records
// of the covered entries. An index that is not there covers none.
func Check(dir string, report func(durable.Damage)) (covered int64, mark []byte, sum Sum, err error) {
	const tries = 5 // runs are merged, and removed, while we read
	for range tries {
		var found []durable.Damage // of this try only
		covered, mark, sum, err = check(dir, func(d durable.Damage) { found = append(found, d) })
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		for _, d := range found {
			report(d)
		}
		return covered, mark, sum, err
	}
	report(durable.Damage{Path: dir, Offset: -1, Why: fmt.Sprintf("%s names a run that is missing: %v", stateName, err)})
	return 0, nil, Sum{}, nil
}

func check(dir string, report func(durable.Damage)) (int64, []byte, Sum, error) {
	st, err := readState(dir)
	var corrupt *durable.CorruptError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil, Sum{}, nil
	case errors.As(err, &corrupt):
		report(durable.Damage{Path: corrupt.Path, Offset: 0, Why: corrupt.Why})
		return 0, nil, Sum{}, nil
	case err != nil:
		return 0, nil, Sum{}, err
	}
	// All are opened before any is read: what is merged meanwhile stays readable.
	var runs []*run
	defer func() {
		for _, r := range runs {
			_ = r.close() // it was only read
		}
	}()
	good := true
	tell := func(err error) error {
		if errors.As(err, &corrupt) {
			report(durable.Damage{Path: corrupt.Path, Offset: -1, Why: corrupt.Why})
			good = false
			return nil
		}
		return err
	}
	for _, rs := range st.Runs {
		r, err := openRun(dir, rs)
		if err == nil {
			runs = append(runs, r)
		} else if err = tell(err); err != nil {
			return 0, nil, Sum{}, err
		}
	}
	var sum Sum
	for _, r := range runs {
		f, err := r.readFilter(dir)
		if errors.As(err, &corrupt) { // nothing else is wrong for that
			report(durable.Damage{Path: corrupt.Path, Offset: -1, Why: corrupt.Why})
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, nil, Sum{}, err
		}
		if err := tell(checkRun(r, f, &sum)); err != nil {
			return 0, nil, Sum{}, err
		}
	}
	if !good {
		return 0, nil, Sum{}, nil
	}
	return st.Covered, st.Mark, sum, nil
}

// checkRun reads a run, of which f, if there is one, must say that it has its records.
func checkRun(r *run, f filter, sum *Sum) error {
	var last record
	d := r.reader()
	for n := int64(0); ; n++ {
		rec, ok, err := d.read()
		if err != nil || !ok {
			return err
		}
		if n > 0 && last.compare(rec) >= 0 {
			return &durable.CorruptError{Path: r.f.Name(), Why: fmt.Sprintf("record %d is not in its place", n)}
		}
		if f != nil && !f.has(rec.key) {
			return &durable.CorruptError{Path: filterPath(filepath.Dir(r.f.Name()), r.name), Why: fmt.Sprintf("it leaves out record %d of its run", n)}
		}
		sum.Add(rec.key, rec.entry)
		last = rec
	}
}
