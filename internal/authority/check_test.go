package authority_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority"
)

// TestCheckFindsEveryDamagedFile: whichever file of the folder is changed or lost,
// it is named, and a folder in use that is well is found to be so.
func TestCheckFindsEveryDamagedFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	_, end := up(t, authority.Config{Dir: dir})
	if c, err := authority.Check(dir); err != nil || len(c.Damage) > 0 {
		t.Fatalf("in use: %+v, %v", c, err)
	}
	end()
	// Empty in this folder; package tlog tries each of their bytes.
	ofLogs := []string{"lock", "entries", "times", "hashes", "offsets"}
	var files []string
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !slices.Contains(ofLogs, d.Name()) {
			files = append(files, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("only %v", files)
	}
	for _, path := range files {
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := append([]byte(nil), good...)
		bad[len(bad)/2] ^= 4
		name, _ := filepath.Rel(dir, path)
		derived := !strings.Contains(name, "/") && name != "authority.json" // made again at the next start
		for what, change := range map[string]func() error{
			"changed": func() error { return os.WriteFile(path, bad, 0o600) },
			"lost":    func() error { return os.Remove(path) },
		} {
			if err := change(); err != nil {
				t.Fatal(err)
			}
			c, err := authority.Check(dir)
			switch {
			case err == nil && derived && what == "lost" && len(c.Damage) == 0:
			case name == "authority.json" && what == "lost" && err != nil && strings.Contains(err.Error(), "no authority"):
			case err != nil:
				t.Errorf("%s %s: %v", name, what, err)
			case len(c.Damage) == 0 || c.Damage[0].Path != path:
				t.Errorf("%s %s: %v", name, what, c.Damage)
			}
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if c, err := authority.Check(dir); err != nil || len(c.Damage) > 0 {
		t.Errorf("put back: %+v, %v", c, err)
	}
}
