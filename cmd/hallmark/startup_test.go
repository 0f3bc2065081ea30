package main

import (
	"testing"

	"github.com/hallmark-dev/hallmark/internal/hmtest/release"
)

// TestStartUp: what every call of the released binary pays, and its size.
func TestStartUp(t *testing.T) {
	release.StartUp(t, release.Binary(t, "hallmark"), release.Limits{InitBytes: 3_200_000, InitAllocs: 24_000, Size: 45e6})
}
