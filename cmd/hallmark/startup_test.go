package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/hmtest/release"
)

// TestStartUp: what every call of the released binary pays, and its size.
func TestStartUp(t *testing.T) {
	release.StartUp(t, release.Binary(t, "hallmark"), release.Limits{InitBytes: 3_200_000, InitAllocs: 24_000, Size: 45e6})
}

// TestMethodsAreLeftOut: what nothing can call is not in the released binary. Whatever looks
// methods up by a name of run time brings all of them back, 5 MB (tools/methodless.sh).
func TestMethodsAreLeftOut(t *testing.T) {
	bin, err := os.ReadFile(release.Binary(t, "hallmark"))
	if err != nil {
		t.Fatal(err)
	}
	for method, want := range map[string]bool{
		"github.com/spf13/cobra.(*Command).Execute":    true,  // main calls it
		"github.com/spf13/cobra.(*Command).DebugFlags": false, // nobody does
	} {
		if got := bytes.Contains(bin, []byte(method)); got != want {
			t.Errorf("%s is in the binary: %v", method, got)
		}
	}
}
