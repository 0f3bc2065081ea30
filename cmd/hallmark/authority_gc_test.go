package main

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/cli"
)

func TestGarbageIsPrinted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := &app{&cli.App{Stdout: &out, Stderr: &out, Env: func(string) string { return "" }}}
	a.printGarbage(gcAnswer{DryRun: true, Manifests: 2, Blobs: 3, Bytes: 4000, Repositories: []gcRepository{
		{Repository: "team/app", Manifests: []string{"sha256:1", "sha256:2"}, Blobs: []string{"sha256:3", "sha256:4", "sha256:5"}, Bytes: 4000},
		{Repository: "team/old", Problem: "_tags/v1 is damaged"},
	}})
	want := `team/app: 2 manifests and 3 blobs, 4000 bytes
team/old: left alone: _tags/v1 is damaged
would remove 2 manifests and 3 blobs, 4000 bytes
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
