package postings

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// keyOf is a key for each number.
func keyOf(n uint32) Key {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(nil, n))
	return Key(sum[:])
}

func fill(t testing.TB, m *Map, from, to uint32) {
	t.Helper()
	for i := from; i < to; i++ {
		m.Add(keyOf(i), i)
		m.Add(keyOf(1<<31+i/100), i)
		if m.Full() {
			if err := m.Flush(int64(i)+1, fmt.Append(nil, i), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// mustFind fails unless each of the first n entries is found, and nothing else.
func mustFind(t testing.TB, m *Map, n uint32) {
	t.Helper()
	for i := range n {
		if got, err := m.Find(keyOf(i)); err != nil || !slices.Equal(got, []uint32{i}) {
			t.Fatalf("entry %d: %v %v", i, got, err)
		}
	}
	for i := uint32(0); i < n; i += 100 {
		got, err := m.Find(keyOf(1<<31 + i/100))
		slices.Sort(got)
		var want []uint32
		for j := i; j < min(i+100, n); j++ {
			want = append(want, j)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("entries from %d: %v %v", i, got, err)
		}
	}
	if got, err := m.Find(keyOf(n)); err != nil || len(got) != 0 {
		t.Fatalf("an entry that was not added: %v %v", got, err)
	}
}

func open(t testing.TB, dir string, recent int) *Map {
	t.Helper()
	m, err := Open(dir, Options{Recent: recent})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEverythingIsFoundWhateverItsSize(t *testing.T) {
	t.Parallel()
	for _, recent := range []int{1, 7, 600, 1 << 20} {
		dir := t.TempDir()
		m := open(t, dir, recent)
		var n uint32 = 1500
		if recent < 100 {
			n = 300
		}
		fill(t, m, 0, n)
		mustFind(t, m, n)
		if err := m.Wait(); err != nil {
			t.Fatal(err)
		}
		mustFind(t, m, n)
		if len(m.runs) > 13 {
			t.Errorf("%d runs", len(m.runs))
		}
		for i := 1; i < len(m.runs); i++ {
			if m.runs[i-1].records <= 2*m.runs[i].records {
				t.Errorf("run %d of %d records follows one of %d", i, m.runs[i].records, m.runs[i-1].records)
			}
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		m = open(t, dir, recent)
		covered, mark := m.Covered()
		if covered > 0 && string(mark) != fmt.Sprint(covered-1) || recent < int(n) && covered == 0 {
			t.Errorf("covered %d with mark %q", covered, mark)
		}
		fill(t, m, uint32(covered), n)
		mustFind(t, m, n)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAddedTwiceIsFoundOnceAfterMerging(t *testing.T) {
	t.Parallel()
	m := open(t, t.TempDir(), 4)
	defer m.Close()
	for range 3 {
		for i := range uint32(4) {
			m.Add(keyOf(i), i)
		}
		if err := m.Flush(4, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(4) {
		if got, err := m.Find(keyOf(i)); err != nil || !slices.Equal(got, []uint32{i}) {
			t.Errorf("%v %v", got, err)
		}
	}
}

// TestWhatIsDamagedIsNeverNotFound: each byte of each file, flipped, is noticed when
// the index is opened, or when the block that it is in is read, or does not matter.
func TestWhatIsDamagedIsNeverNotFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := open(t, dir, 64)
	fill(t, m, 0, 300)
	if err := errors.Join(m.Wait(), m.Close()); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var lost, noticed, checked int
	for _, e := range names {
		path := filepath.Join(dir, e.Name())
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(whole); i += 101 {
			broken := bytes.Clone(whole)
			broken[i] ^= 0x10
			if err := os.WriteFile(path, broken, 0o600); err != nil {
				t.Fatal(err)
			}
			found := 0
			if _, _, _, err := Check(dir, func(durable.Damage) { found++ }); err != nil {
				t.Fatal(err)
			}
			checked += found
			copied := t.TempDir()
			if err := os.CopyFS(filepath.Join(copied, "x"), os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			m := open(t, filepath.Join(copied, "x"), 64)
			covered, _ := m.Covered()
			if covered == 0 {
				lost++
			}
			for n := range uint32(covered) {
				got, err := m.Find(keyOf(n))
				if errors.As(err, new(*durable.CorruptError)) {
					noticed++
					if found == 0 {
						t.Errorf("%s, byte %d: Check did not notice", e.Name(), i)
					}
				} else if err != nil || !slices.Equal(got, []uint32{n}) {
					t.Fatalf("%s, byte %d: entry %d: %v %v", e.Name(), i, n, got, err)
				}
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if lost == 0 || noticed == 0 || checked == 0 {
		t.Errorf("lost %d, noticed %d, checked %d: the test tests little", lost, noticed, checked)
	}
	covered, mark, sum, err := Check(dir, func(d durable.Damage) { t.Error(d) })
	var want Sum
	for i := range uint32(covered) {
		want.Add(keyOf(i), i)
		want.Add(keyOf(1<<31+i/100), i)
	}
	if err != nil || sum != want || string(mark) != fmt.Sprint(covered-1) {
		t.Errorf("covered %d, mark %q, sum %v, want %v: %v", covered, mark, sum, want, err)
	}
}

func TestMissingRunsAreMadeAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := open(t, dir, 64)
	fill(t, m, 0, 300)
	if err := errors.Join(m.Wait(), m.Close()); err != nil {
		t.Fatal(err)
	}
	runs, err := filepath.Glob(filepath.Join(dir, runPrefix+"*"))
	if err != nil || len(runs) < 2 {
		t.Fatal(runs, err)
	}
	if err := os.Remove(runs[0]); err != nil {
		t.Fatal(err)
	}
	found := 0
	if _, _, _, err := Check(dir, func(d durable.Damage) { found++ }); err != nil || found != 1 {
		t.Errorf("%d, %v", found, err)
	}
	m = open(t, dir, 64)
	defer m.Close()
	if covered, _ := m.Covered(); covered != 0 {
		t.Errorf("covered %d", covered)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, runPrefix+"*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	fill(t, m, 0, 300)
	mustFind(t, m, 300)
}

func TestResetForgetsAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := open(t, dir, 64)
	fill(t, m, 0, 300)
	if err := m.Reset(); err != nil {
		t.Fatal(err)
	}
	// What is not found may be there.
	if got, err := m.Find(keyOf(1)); !errors.Is(err, ErrUnmade) {
		t.Error(got, err)
	}
	fill(t, m, 0, 200)
	if got, err := m.Find(keyOf(1)); !errors.Is(err, ErrUnmade) {
		t.Error(got, err)
	}
	m.Made()
	mustFind(t, m, 200)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFailedWriteIsSaid: the index is of no more use, and says so at the next Flush.
func TestFailedWriteIsSaid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := open(t, dir, 64)
	defer m.Close()
	broken := errors.New("no space left on device")
	m.Add(keyOf(1), 1)
	if err := m.Flush(2, nil, func() error { return broken }); err != nil {
		t.Fatal(err)
	}
	if err := m.Flush(2, nil, nil); !errors.Is(err, broken) || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
	if got, err := m.Find(keyOf(1)); err != nil || len(got) != 1 {
		t.Error(got, err)
	}
	if err := m.Reset(); err != nil {
		t.Fatal(err)
	}
	fill(t, m, 0, 200)
	m.Made()
	mustFind(t, m, 200)
}

// TestMergeOverDamage: what cannot be merged is said, and Reset ends it.
func TestMergeOverDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := open(t, dir, 64)
	defer m.Close()
	fill(t, m, 0, 32)
	if err := m.Wait(); err != nil {
		t.Fatal(err)
	}
	runs, err := filepath.Glob(filepath.Join(dir, runPrefix+"*"))
	if err != nil || len(runs) != 1 {
		t.Fatal(runs, err)
	}
	f, err := os.OpenFile(runs[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), 50); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	fill(t, m, 32, 64)
	if err := m.Wait(); !errors.As(err, new(*durable.CorruptError)) {
		t.Errorf("merged: %v", err)
	}
	if err := m.Reset(); err != nil {
		t.Fatal(err)
	}
	fill(t, m, 0, 200)
	m.Made()
	mustFind(t, m, 200)
	if err := m.Wait(); err != nil {
		t.Error(err)
	}
}

// TestStopped: nothing more is written, and everything is still found.
func TestStopped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := open(t, dir, 64)
	fill(t, m, 0, 100)
	m.Stop()
	fill(t, m, 100, 300)
	mustFind(t, m, 300)
	if err := errors.Join(m.Wait(), m.Close()); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := Check(dir, func(d durable.Damage) { t.Error(d) }); err != nil {
		t.Fatal(err)
	}
}

func TestNewest(t *testing.T) {
	t.Parallel()
	m := open(t, t.TempDir(), 300)
	defer m.Close()
	var k Key
	other := Key{1}
	for i := range uint32(5000) {
		m.Add(k, i)
		m.Add(other, i)
		if m.Full() {
			if err := m.Flush(int64(i)+1, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := m.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, below := range []int64{0, 1, 17, 2000, 4999, 5000, MaxEntry + 1} {
		for _, limit := range []int{1, 5, 255, 256, 1000, 9000} {
			for _, key := range []Key{k, other} {
				got, err := m.Newest(key, below, limit)
				if err != nil {
					t.Fatal(err)
				}
				slices.Sort(got)
				n := int(min(below, 5000))
				want := min(n, limit)
				if len(got) < want || len(slices.Compact(got)) != len(got) {
					t.Fatalf("below %d, limit %d: %d", below, limit, len(got))
				}
				for i := range want { // the newest are among them
					if got[len(got)-1-i] != uint32(n-1-i) {
						t.Fatalf("below %d, limit %d: %v", below, limit, got)
					}
				}
			}
		}
	}
}

// TestFindBesideWrites is for the race detector.
func TestFindBesideWrites(t *testing.T) {
	t.Parallel()
	m := open(t, t.TempDir(), 50)
	defer m.Close()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for n := uint32(0); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if got, err := m.Find(keyOf(n % 2000)); err != nil || len(got) > 1 {
					t.Error(got, err)
					return
				}
			}
		})
	}
	fill(t, m, 0, 2000)
	close(stop)
	wg.Wait()
	mustFind(t, m, 2000)
}

// FuzzReadState: whatever the files hold, an index opens, and what it finds it has read.
func FuzzReadState(f *testing.F) {
	dir := f.TempDir()
	m := open(f, dir, 64)
	fill(f, m, 0, 200)
	if err := errors.Join(m.Wait(), m.Close()); err != nil {
		f.Fatal(err)
	}
	state, err := durable.ReadSealed(filepath.Join(dir, stateName))
	if err != nil {
		f.Fatal(err)
	}
	runs, _ := filepath.Glob(filepath.Join(dir, runPrefix+"*"))
	run, err := os.ReadFile(runs[0])
	if err != nil {
		f.Fatal(err)
	}
	name := filepath.Base(runs[0])
	f.Add(state, run)
	f.Add([]byte(`{"version":1,"covered":3,"runs":[{"name":"`+name+`","records":9223372036854775807}]}`), []byte{})
	f.Fuzz(func(t *testing.T, state []byte, run []byte) {
		dir := t.TempDir()
		if err := durable.WriteSealed(filepath.Join(dir, stateName), state, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), run, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if _, err := m.Find(keyOf(3)); err != nil && !errors.As(err, new(*durable.CorruptError)) {
			t.Fatal(err)
		}
		if _, _, _, err := Check(dir, func(durable.Damage) {}); err != nil {
			t.Fatal(err)
		}
	})
}

// BenchmarkAddFind adds and looks for entries as a log does.
func BenchmarkAddFind(b *testing.B) {
	m := open(b, b.TempDir(), 0)
	defer m.Close()
	for i := range uint32(b.N) {
		if got, err := m.Find(keyOf(i)); err != nil || len(got) != 0 {
			b.Fatal(got, err)
		}
		m.Add(keyOf(i), i)
		if m.Full() {
			if err := m.Flush(int64(i)+1, nil, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(len(m.runs)), "runs")
}
