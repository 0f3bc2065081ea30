package postings

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// filled is a folder with an index of several runs, and how many entries they have. It
// is made once and copied: syncing it again would take most of the tests' time.
func filled(t testing.TB) (dir string, n uint32) {
	t.Helper()
	made, err := oneFilled()
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "index")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range made.files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, made.entries
}

type filledIndex struct {
	files   map[string][]byte
	entries uint32
}

var oneFilled = sync.OnceValues(func() (made filledIndex, err error) {
	dir, err := os.MkdirTemp("", "hallmark-postings-")
	if err != nil {
		return made, err
	}
	defer os.RemoveAll(dir)
	m, err := Open(dir, Options{Recent: 64})
	if err != nil {
		return made, err
	}
	for i := range uint32(300) {
		m.Add(keyOf(i), i)
		m.Add(keyOf(1<<31+i/100), i)
		if m.Full() {
			if err := m.Flush(int64(i)+1, nil, nil); err != nil {
				return made, err
			}
		}
	}
	if err := errors.Join(m.Wait(), m.Close()); err != nil {
		return made, err
	}
	covered, _ := m.Covered()
	made = filledIndex{map[string][]byte{}, uint32(covered)}
	names, err := os.ReadDir(dir)
	if err != nil {
		return made, err
	}
	for _, e := range names {
		if made.files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return made, err
		}
	}
	if len(made.files) < 5 {
		return made, errors.New("the tests need more than one run")
	}
	return made, nil
})

func filters(t testing.TB, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, filterPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// without is how many of an index's runs have no filter.
func without(m *Map) (n int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, r := range m.runs {
		if r.filter == nil {
			n++
		}
	}
	return n
}

// TestNewKeysReadNothing: no run is read for most keys that are new, also after the index
// was opened again, and every key that was added is in its filter.
func TestNewKeysReadNothing(t *testing.T) {
	t.Parallel()
	const n = 50_000
	dir := t.TempDir()
	m := open(t, dir, 3000)
	fill(t, m, 0, n)
	if err := errors.Join(m.Wait(), m.Close()); err != nil {
		t.Fatal(err)
	}
	m = open(t, dir, 3000)
	if len(m.runs) < 2 || without(m) > 0 {
		t.Fatalf("%d runs, %d without a filter", len(m.runs), without(m))
	}
	covered, _ := m.Covered()
	for i := range uint32(covered) {
		if got, err := m.Find(keyOf(i)); err != nil || !slices.Equal(got, []uint32{i}) {
			t.Fatalf("entry %d: %v %v", i, got, err)
		}
	}
	for _, r := range m.runs { // a read is an error from here on
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
	}
	read := 0
	for i := range uint32(n) {
		if _, err := m.Find(keyOf(1<<30 + i)); errors.Is(err, fs.ErrClosed) {
			read++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if most := n * len(m.runs) / 50; read > most {
		t.Errorf("%d of %d looks for what is new read one of %d runs", read, n, len(m.runs))
	}
}

// TestBadFilters: whatever lies in a filter's place, what is found is exact; what is not
// the filter is not used, said by Check where it is damage, and made again beside the next
// run that is written.
func TestBadFilters(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(t *testing.T, whole []byte, other string) []byte // nil removes it
		damage bool
	}{
		"missing":        {func(*testing.T, []byte, string) []byte { return nil }, false},
		"empty":          {func(*testing.T, []byte, string) []byte { return []byte{} }, true},
		"torn":           {func(_ *testing.T, b []byte, _ string) []byte { return b[:len(b)/2] }, true},
		"without an end": {func(_ *testing.T, b []byte, _ string) []byte { return b[:len(b)-1] }, true},
		"a block less":   {func(_ *testing.T, b []byte, _ string) []byte { return sealFilter(b[:len(b)-4-filterBlock]) }, true},
		"longer":         {func(_ *testing.T, b []byte, _ string) []byte { return append(b, 0) }, true},
		"much longer": {func(_ *testing.T, b []byte, _ string) []byte {
			return sealFilter(append(b, make([]byte, 10*len(b))...))
		}, true},
		"never written": {func(_ *testing.T, b []byte, _ string) []byte { return make([]byte, len(b)) }, true},
		"one bit":       {func(_ *testing.T, b []byte, _ string) []byte { b[filterHeader+3] ^= 8; return b }, true},
		"its checksum":  {func(_ *testing.T, b []byte, _ string) []byte { b[len(b)-1] ^= 1; return b }, true},
		"another run's": {func(t *testing.T, _ []byte, other string) []byte {
			b, err := os.ReadFile(other)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}, true},
		"of other fences": {func(_ *testing.T, b []byte, _ string) []byte { b[8] ^= 1; return sealFilter(b[:len(b)-4]) }, true},
		"of other count":  {func(_ *testing.T, b []byte, _ string) []byte { b[7] ^= 1; return sealFilter(b[:len(b)-4]) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, n := filled(t)
			all := filters(t, dir)
			whole, err := os.ReadFile(all[0])
			if err != nil {
				t.Fatal(err)
			}
			if changed := tc.change(t, slices.Clone(whole), all[1]); changed == nil {
				err = os.Remove(all[0])
			} else {
				err = os.WriteFile(all[0], changed, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			var said []durable.Damage
			covered, _, _, err := Check(dir, func(d durable.Damage) { said = append(said, d) })
			if err != nil || covered != int64(n) {
				t.Errorf("Check: %d entries, %v", covered, err)
			}
			if tc.damage != (len(said) == 1 && said[0].Path == all[0]) || len(said) > 1 {
				t.Errorf("Check said %v", said)
			}
			m := open(t, dir, 64)
			if without(m) != 1 {
				t.Errorf("%d runs have no filter", without(m))
			}
			if left, _ := m.Covered(); left != int64(n) {
				t.Errorf("covers %d", left)
			}
			fill(t, m, n, n+1)
			mustFind(t, m, n+1)
			// Too few to be merged with what there is.
			if err := errors.Join(m.Flush(int64(n)+1, nil, nil), m.Wait()); err != nil {
				t.Fatal(err)
			}
			if without(m) != 0 {
				t.Error("it was not made again")
			}
			mustFind(t, m, n+1)
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			if again, err := os.ReadFile(all[0]); err != nil || string(again) != string(whole) {
				t.Errorf("what was made again is not what it was: %v", err)
			}
			if _, _, _, err := Check(dir, func(d durable.Damage) { t.Error(d) }); err != nil {
				t.Error(err)
			}
		})
	}
}

// sealFilter gives a filter's bytes the checksum that they have.
func sealFilter(b []byte) []byte {
	b = slices.Clip(b)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// TestFilterSaysMaybe: a filter that says of every key that it may be there costs reads,
// and nothing is found by it that is not there.
func TestFilterSaysMaybe(t *testing.T) {
	t.Parallel()
	dir, n := filled(t)
	for _, path := range filters(t, dir) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := filterHeader; i < len(b)-4; i++ {
			b[i] = 0xff
		}
		if err := os.WriteFile(path, sealFilter(b[:len(b)-4]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := open(t, dir, 64)
	defer m.Close()
	if without(m) != 0 {
		t.Fatal("the filters were not taken")
	}
	for i := range uint32(20_000) {
		got, err := m.Find(keyOf(i))
		if err != nil || (len(got) == 1) != (i < n) {
			t.Fatalf("entry %d: %v %v", i, got, err)
		}
	}
}

// TestFilterLeavesOut: no accident makes a filter with a good checksum that has not its
// run's records; Check says so of one.
func TestFilterLeavesOut(t *testing.T) {
	t.Parallel()
	dir, _ := filled(t)
	path := filters(t, dir)[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[filterHeader : len(b)-4])
	if err := os.WriteFile(path, sealFilter(b[:len(b)-4]), 0o600); err != nil {
		t.Fatal(err)
	}
	said := 0
	if _, _, _, err := Check(dir, func(d durable.Damage) {
		if said++; d.Path != path {
			t.Error(d)
		}
	}); err != nil || said != 1 {
		t.Errorf("said %d times, %v", said, err)
	}
}

// TestFiltersOfNoRun are removed when the index is opened, and with their runs.
func TestFiltersOfNoRun(t *testing.T) {
	t.Parallel()
	dir, n := filled(t)
	stray := filepath.Join(dir, filterPrefix+"99999999")
	if err := os.WriteFile(stray, []byte("a crash came before the run counted"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := open(t, dir, 64)
	fill(t, m, n, 600)
	if err := m.Wait(); err != nil {
		t.Fatal(err)
	}
	want := []string{}
	for _, r := range m.runs {
		want = append(want, filterPath(dir, r.name))
	}
	if got := filters(t, dir); !slices.Equal(got, want) {
		t.Errorf("there are %v, want %v", got, want)
	}
	if err := m.Reset(); err != nil {
		t.Fatal(err)
	}
	if got := filters(t, dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFilterThatCannotBeWritten is an error, as a run that cannot be written is.
func TestFilterThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir, n := filled(t)
	m := open(t, dir, 64)
	defer m.Close()
	// A folder in its place: root may write everywhere else.
	if err := os.Mkdir(filepath.Join(dir, filterPrefix+fmt.Sprintf("%08d", m.state.Next)), 0o700); err != nil {
		t.Fatal(err)
	}
	m.Add(keyOf(n), n)
	if err := m.Flush(int64(n)+1, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := m.Wait(); err == nil {
		t.Error("nothing was said")
	}
	if got, err := m.Find(keyOf(n)); err != nil || !slices.Equal(got, []uint32{n}) {
		t.Error(got, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, tempPrefix+"*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestLargeRunsHaveNoFilter: its memory is bounded.
func TestLargeRunsHaveNoFilter(t *testing.T) {
	t.Parallel()
	const most = maxFilter * 8 / bitsPerRecord
	if f := newFilter(most); len(f) == 0 || len(f) > maxFilter {
		t.Errorf("%d bytes", len(f))
	}
	for _, n := range []int64{most + 1, 1 << 40, MaxEntry} {
		if f := newFilter(n); f != nil {
			t.Errorf("%d records: %d bytes", n, len(f))
		}
	}
	r := &run{records: most + 1}
	if f, err := r.makeFilter(nil); f != nil || err != nil {
		t.Error(len(f), err)
	}
}

// FuzzReadFilter: a filter is read as it was written or not at all, and of what is read
// every key can be asked.
func FuzzReadFilter(f *testing.F) {
	dir := f.TempDir()
	r := &run{name: runPrefix + "1", records: 200, fencesSum: 7}
	made := newFilter(200)
	for i := range uint32(200) {
		made.add(keyOf(i))
	}
	if err := r.saveFilter(dir, made); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filterPath(dir, r.name))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, int64(200), uint32(7))
	f.Add(whole[:20], int64(1), uint32(7))
	f.Add(append([]byte(nil), make([]byte, 80)...), int64(0), uint32(0))
	f.Fuzz(func(t *testing.T, data []byte, records int64, sum uint32) {
		if records < 1 || records > 1<<40 { // as openRun has it
			return
		}
		r := &run{name: runPrefix + "1", records: records, fencesSum: sum}
		dir := t.TempDir()
		if err := os.WriteFile(filterPath(dir, r.name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := r.readFilter(dir)
		if err != nil {
			if !errors.As(err, new(*durable.CorruptError)) {
				t.Fatal(err)
			}
			return
		}
		if string(got) != string(data[filterHeader:len(data)-4]) || len(got) > maxFilter {
			t.Fatalf("%d bytes of %d", len(got), len(data))
		}
		for i := range uint32(100) {
			_ = got.has(keyOf(i))
		}
	})
}
