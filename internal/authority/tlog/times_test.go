package tlog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// timedConfig is of a log with times; its clock moves an hour with every look.
func timedConfig() Config {
	var looks atomic.Int64
	return Config{Origin: "127.0.0.1", Key: crashKey(), Timed: true, Now: func() time.Time {
		return time.Unix(1_800_000_000+3600*looks.Add(1), 0)
	}}
}

// timedFolder is a folder of a closed log with n entries, and their times.
func timedFolder(t *testing.T, n int) (dir string, times []int64) {
	t.Helper()
	dir = t.TempDir()
	l, err := Open(dir, timedConfig())
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := l.Append(context.Background(), []byte{'e', byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		times = append(times, timeOf(l, l.published.Load(), int64(i)))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, times
}

func TestTimesStay(t *testing.T) {
	t.Parallel()
	dir, times := timedFolder(t, 3)
	if len(times) != 3 || times[0] == times[1] || times[1] == times[2] {
		t.Fatalf("times %v; the test tests nothing", times)
	}
	l, err := Open(dir, timedConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	again, err := l.Append(context.Background(), []byte{'e', 1})
	if err != nil || again.New || again.Index != 1 || integrated(t, again.View, 1) != times[1] {
		t.Errorf("found again: %+v, %v", again, err)
	}
	fresh, err := l.Append(context.Background(), []byte("fresh"))
	if err != nil || !fresh.New || fresh.Index != 3 || fresh.Size() != 4 {
		t.Fatalf("added: %+v, %v", fresh, err)
	}
	for i, want := range times {
		if got := integrated(t, l.View(), int64(i)); got != want {
			t.Errorf("entry %d: integrated at %d, then at %d", i, want, got)
		}
	}
	// An older view does not know what came later.
	leaf, err := fresh.Leaf(3)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := again.Find(leaf); ok || err != nil {
		t.Errorf("a view of size 3 finds entry 3, or fails: %v", err)
	}
}

func integrated(t *testing.T, v View, index int64) int64 {
	t.Helper()
	at, err := v.Time(index)
	if err != nil {
		t.Fatal(err)
	}
	return at.Unix()
}

// TestTimesByThePage: they are found whether their page is full or not, in each view
// that has them, and a page that was damaged while the log is open is not believed.
func TestTimesByThePage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := Open(dir, timedConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := l.AppendForTest(pageTimes - 3); err != nil {
		t.Fatal(err)
	}
	early := l.View()
	want := integrated(t, early, pageTimes-4)
	for i := range 10 {
		if _, err := l.Append(context.Background(), []byte{'e', byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	late := l.View()
	if len(late.tree.times.pages) != 1 || len(early.tree.times.pages) != 0 {
		t.Fatal("the test tests nothing")
	}
	for _, v := range []View{early, late} {
		if got := integrated(t, v, pageTimes-4); got != want {
			t.Errorf("%d, want %d", got, want)
		}
	}
	if a, b := integrated(t, late, pageTimes-1), integrated(t, late, pageTimes); a >= b {
		t.Errorf("%d, then %d", a, b)
	}
	if _, err := l.store.times.WriteAt([]byte{9}, 8*10); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Time(20); !errors.As(err, new(*durable.CorruptError)) {
		t.Errorf("a damaged page: %v", err)
	}
	integrated(t, late, pageTimes) // another page
}

// Every way in which times or what seals them can be damaged is refused with the
// file's name.
func TestDamagedTimes(t *testing.T) {
	t.Parallel()
	write := func(path string, data []byte) error { return os.WriteFile(path, data, 0o600) }
	reseal := func(change func(string) string) func(string) error {
		return func(dir string) error {
			path := filepath.Join(dir, headName)
			head, err := durable.ReadSealed(path)
			if err != nil {
				return err
			}
			return durable.WriteSealed(path, []byte(change(string(head))), 0o600)
		}
	}
	for name, c := range map[string]struct {
		damage func(dir string) error
		file   string
	}{
		"missing": {func(dir string) error { return os.Remove(filepath.Join(dir, timesName)) }, timesName},
		"short": {func(dir string) error {
			return os.Truncate(filepath.Join(dir, timesName), 3*timeSize-1)
		}, timesName},
		"changed": {func(dir string) error {
			path := filepath.Join(dir, timesName)
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data[timeSize+7] ^= 1
			return write(path, data)
		}, timesName},
		"changed, and the sealed file made to fit": {func(dir string) error {
			path := filepath.Join(dir, timesName)
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data[timeSize+7] ^= 1
			return errors.Join(write(path, data), reseal(func(head string) string {
				f := strings.SplitN(head, " ", 3)
				return f[0] + " " + hexSum(data[:3*timeSize]) + " " + f[2]
			})(dir))
		}, headName},
		"seal cut off":      {reseal(func(head string) string { return strings.Replace(head, " ", "", 2) }), headName},
		"no seal":           {reseal(func(head string) string { _, note, _ := strings.Cut(head, "\n"); return "12\n" + note }), headName},
		"seal of two words": {reseal(func(head string) string { return strings.Replace(head, " ", " x ", 1) }), headName},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, _ := timedFolder(t, 3)
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			l, err := Open(dir, timedConfig())
			if err == nil {
				_ = l.Close()
			}
			var corrupt *durable.CorruptError
			if !errors.As(err, &corrupt) || filepath.Base(corrupt.Path) != c.file {
				t.Errorf("err %v, want %s named", err, c.file)
			}
		})
	}
	t.Run("left behind by a crash", func(t *testing.T) {
		t.Parallel()
		dir, times := timedFolder(t, 3)
		f, err := os.OpenFile(filepath.Join(dir, timesName), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("what was never promised"); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		l, err := Open(dir, timedConfig())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if got := integrated(t, l.View(), 2); got != times[2] {
			t.Errorf("%d, want %d", got, times[2])
		}
	})
	t.Run("opened as a log without times", func(t *testing.T) {
		t.Parallel()
		dir, _ := timedFolder(t, 3)
		if l, err := Open(dir, Config{Origin: "127.0.0.1", Key: crashKey()}); err == nil {
			_ = l.Close()
			t.Error("opened")
		}
	})
}

// failingTimes reports an error once when times are synced.
type failingTimes struct{ disk }

func (failingTimes) appendTimes([]byte, int64) error { return errors.New("input/output error") }

func TestTimesThatCannotBeWrittenStopTheLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := open(dir, timedConfig(), func(d disk) disk { return failingTimes{d} })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(context.Background(), []byte("entry")); err == nil || !strings.Contains(err.Error(), "has stopped") {
		t.Errorf("append: %v", err)
	}
	if l.Failed() == nil || l.Size() != 0 {
		t.Errorf("failed %v, size %d", l.Failed(), l.Size())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// The entry is in the file, and no checkpoint covers it.
	if l, err = Open(dir, timedConfig()); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err := l.Append(context.Background(), []byte("another")); err != nil || a.Index != 0 {
		t.Errorf("%+v, %v", a, err)
	}
}

// What the log's key signs about times cannot be shown as a checkpoint.
func TestTimesMessageIsNoCheckpoint(t *testing.T) {
	t.Parallel()
	second := strings.Split(string(timesMessage("127.0.0.1", 5, make([]byte, 32))), "\n")[1]
	if strings.Trim(second, "0123456789") == "" {
		t.Errorf("its second line is %q", second)
	}
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
