package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestStartUp reads the runtime's init trace: package initialisation is what
// every call pays before it does anything. The least of several runs is taken,
// because what is promised is our work and not the machine's noise.
func TestStartUp(t *testing.T) {
	const (
		limit   = 8 * time.Millisecond
		maxSize = 45e6 // bytes
	)
	bin := filepath.Join(t.TempDir(), "hallmark")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	least := time.Hour
	var worst string
	for range 7 {
		cmd := exec.Command(bin, "version")
		cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
		var trace bytes.Buffer
		cmd.Stderr = &trace
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		total, slowest, packages := sumInit(t, trace.String())
		if packages < 10 {
			t.Fatalf("the trace names only %d packages:\n%s", packages, &trace)
		}
		if total < least {
			least, worst = total, slowest
		}
	}
	t.Logf("package initialisation: %v, most in %s", least, worst)
	if least > limit {
		t.Errorf("package initialisation takes %v, limit %v; most in %s", least, limit, worst)
	}
	if st, err := os.Stat(bin); err != nil {
		t.Error(err)
	} else if st.Size() >= maxSize {
		t.Errorf("the stripped binary has %d bytes, limit %d", st.Size(), int64(maxSize))
	}
}

// sumInit adds up lines like "init internal/bytealg @0.008 ms, 0.1 ms clock, 0 bytes, 0 allocs".
func sumInit(t *testing.T, trace string) (total time.Duration, slowest string, packages int) {
	t.Helper()
	var most time.Duration
	for _, line := range strings.Split(trace, "\n") {
		f := strings.Fields(line)
		if len(f) < 6 || f[0] != "init" {
			continue
		}
		ms, err := strconv.ParseFloat(f[4], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		d := time.Duration(ms * float64(time.Millisecond))
		total += d
		packages++
		if d > most {
			most, slowest = d, f[1]
		}
	}
	return total, slowest, packages
}
