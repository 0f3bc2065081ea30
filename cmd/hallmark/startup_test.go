package main

import (
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest/release"
)

// TestStartUp: what every call of the released binary pays, and its size.
func TestStartUp(t *testing.T) {
	release.StartUp(t, release.Binary(t, "hallmark"), release.Limits{Init: 8 * time.Millisecond, Size: 45e6})
}
