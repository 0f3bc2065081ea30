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

// releaseBinary is what make build makes: not the test binary, which is larger
// and under the race detector much larger.
func releaseBinary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("make", "-s", "-C", "../..", "build", "BIN="+dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "hallmark")
}

// TestStartUp reads the runtime's init trace: package initialisation is what
// every call pays before it does anything. Each package counts with the least
// of its runs, because what is promised is our work and not the machine's noise; on
// a busy machine that takes more runs.
func TestStartUp(t *testing.T) {
	const (
		limit            = 8 * time.Millisecond
		maxSize          = 45e6 // bytes
		minRuns, maxRuns = 15, 150
	)
	bin := releaseBinary(t)
	least := map[string]time.Duration{}
	var total time.Duration
	slowest := ""
	for run := 1; run <= minRuns || total > limit && run <= maxRuns; run++ {
		cmd := exec.Command(bin, "version")
		cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
		var trace bytes.Buffer
		cmd.Stderr = &trace
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		readInitTrace(t, trace.String(), least)
		total, slowest = sum(least)
	}
	if len(least) < 10 {
		t.Fatalf("the trace names only %d packages", len(least))
	}
	t.Logf("package initialisation: %v, most in %s (%v)", total, slowest, least[slowest])
	if total > limit {
		t.Errorf("package initialisation takes %v, limit %v; most in %s (%v)", total, limit, slowest, least[slowest])
	}
	if st, err := os.Stat(bin); err != nil {
		t.Error(err)
	} else if st.Size() >= maxSize {
		t.Errorf("the stripped binary has %d bytes, limit %d", st.Size(), int64(maxSize))
	}
}

func sum(least map[string]time.Duration) (total time.Duration, slowest string) {
	for name, d := range least {
		total += d
		if d > least[slowest] {
			slowest = name
		}
	}
	return total, slowest
}

// readInitTrace reads lines like "init internal/bytealg @0.008 ms, 0.1 ms clock, 0 bytes, 0 allocs"
// and keeps the least time of each package.
func readInitTrace(t *testing.T, trace string, least map[string]time.Duration) {
	t.Helper()
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
		if old, seen := least[f[1]]; !seen || d < old {
			least[f[1]] = d
		}
	}
}
