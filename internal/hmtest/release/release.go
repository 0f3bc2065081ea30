// Package release builds the binaries that make build makes and measures them,
// for tests.
package release

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

// Binary is a program of cmd as make build makes it: not the test binary, which
// is larger and under the race detector much larger. The test must run in the
// program's folder.
func Binary(t testing.TB, name string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("make", "-s", "-C", "../..", "build", "BIN="+dir, "PROGRAMS=./cmd/"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, name)
}

// Limits are what a program promises.
type Limits struct {
	// Init is package initialisation, which every call pays before it does
	// anything, on a machine that initialises the reference in referenceInit.
	Init time.Duration
	Size int64 // of the stripped binary, bytes
}

// referenceInit is how long the reference took on the machine that the promises
// are for, while it did little else. A slower or busier one gets as much more time
// as it needs for the reference, at most maxSlowness times.
const (
	referenceInit = 650 * time.Microsecond
	maxSlowness   = 3
)

// StartUp fails the test when the program does not keep its limits. It reads the
// runtime's init trace, in turn with the reference's. Each package counts with the
// least of its runs, because what is promised is our work and not the machine's
// noise; on a busy machine that takes more runs.
func StartUp(t testing.TB, bin string, limit Limits) {
	t.Helper()
	const minRuns, maxRuns = 15, 150
	reference := buildReference(t)
	least, referenceLeast := map[string]time.Duration{}, map[string]time.Duration{}
	var total, allowed time.Duration
	slowest := ""
	for run := 1; run <= minRuns || total > allowed && run <= maxRuns; run++ {
		traceInit(t, bin, least)
		traceInit(t, reference, referenceLeast)
		total, slowest = sum(least)
		now, _ := sum(referenceLeast)
		slowness := min(max(1, float64(now)/float64(referenceInit)), maxSlowness)
		allowed = time.Duration(float64(limit.Init) * slowness)
	}
	if len(least) < 10 {
		t.Fatalf("the trace names only %d packages", len(least))
	}
	st, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes; package initialisation: %v, %v allowed here; most in %s (%v)", st.Size(), total, allowed, slowest, least[slowest])
	if total > allowed {
		t.Errorf("package initialisation takes %v, limit %v, which on this machine is %v; most in %s (%v)", total, limit.Init, allowed, slowest, least[slowest])
	}
	if st.Size() > limit.Size {
		t.Errorf("the stripped binary has %d bytes, limit %d", st.Size(), limit.Size)
	}
}

func buildReference(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "reference")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "../../internal/hmtest/release/testdata/reference.go")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// traceInit runs a program once and keeps the least time of each package.
func traceInit(t testing.TB, bin string, least map[string]time.Duration) {
	t.Helper()
	cmd := exec.Command(bin, "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var trace bytes.Buffer
	cmd.Stderr = &trace
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	readInitTrace(t, trace.String(), least)
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
func readInitTrace(t testing.TB, trace string, least map[string]time.Duration) {
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
