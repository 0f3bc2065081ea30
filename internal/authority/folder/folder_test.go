package folder_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority/folder"
	"github.com/hallmark-dev/hallmark/internal/durable"
)

func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	held, err := folder.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	var used *folder.InUseError
	if _, err := folder.Lock(dir); !errors.As(err, &used) || used.Process != os.Getpid() || used.Dir != dir {
		t.Errorf("a second lock: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if again, err := folder.Lock(dir); err != nil {
		t.Errorf("after it was given back: %v", err)
	} else {
		_ = again.Close()
	}
	if _, err := folder.Lock(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestLogMoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	if of := folder.Of(log); of != "" {
		t.Errorf("a folder without a state is taken for a data folder: %s", of)
	}
	for state, c := range map[string]struct{ url, want string }{
		`{"version":3}`:              {"", ""},
		`{"version":3,"moved":null}`: {"", ""},
		`{"moved":{"shard":1,"url":"https://log.example.com","seen":"x"}}`: {"https://log.example.com", ""},
		`{"moved":{"shard":1}}`: {"", "not where"},
		`{"moved":"x"}`:         {"", "not the JSON"},
		`x`:                     {"", "not the JSON"},
	} {
		if err := durable.WriteSealed(filepath.Join(dir, folder.StateFile), []byte(state), 0o600); err != nil {
			t.Fatal(err)
		}
		url, err := folder.LogMoved(dir)
		if url != c.url || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q %v", state, url, err)
		}
	}
	if of := folder.Of(log + "/"); of != dir {
		t.Errorf("the data folder of %s is %q", log, of)
	}
	if err := os.WriteFile(filepath.Join(dir, folder.StateFile), []byte(`{"version":3}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := folder.LogMoved(dir); err == nil {
		t.Error("a state that is not sealed is read")
	}
}
