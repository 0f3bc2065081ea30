package main

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// TestModuleFiles: the proxy of plain files has what this module was built from.
func TestModuleFiles(t *testing.T) {
	t.Parallel()
	d := &demo{source: ".."}
	modcache, err := d.goenv(context.Background(), "GOMODCACHE")
	if err != nil {
		t.Fatal(err)
	}
	files, err := d.moduleFiles(modcache)
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range []string{"github.com/!proton!mail/go-crypto/@v/", "github.com/spf13/cobra/@v/"} {
		for _, ending := range []string{".mod", ".zip", ".info"} {
			if !slices.ContainsFunc(files, func(f string) bool { return strings.HasPrefix(f, module) && strings.HasSuffix(f, ending) }) {
				t.Errorf("no %s*%s among %d files", module, ending, len(files))
			}
		}
	}
}
