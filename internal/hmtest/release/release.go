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
	// InitBytes and InitAllocs are what package initialisation, which every call pays
	// before it does anything, allocates: tables that are filled and expressions that
	// are compiled. Unlike its time, which make bench measures, they are the same on
	// every machine, however busy it is.
	InitBytes, InitAllocs int
	Size                  int64 // of the stripped binary, bytes
}

// StartUp fails the test when the program does not keep its limits.
func StartUp(t testing.TB, bin string, limit Limits) {
	t.Helper()
	st, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	packages := traceInit(t, bin)
	if len(packages) < 10 {
		t.Fatalf("the trace names only %d packages", len(packages))
	}
	var total cost
	most := ""
	for name, c := range packages {
		total.bytes += c.bytes
		total.allocs += c.allocs
		if most == "" || c.bytes > packages[most].bytes {
			most = name
		}
	}
	t.Logf("%d bytes; package initialisation allocates %d bytes in %d pieces; most in %s (%d)", st.Size(), total.bytes, total.allocs, most, packages[most].bytes)
	if total.bytes > limit.InitBytes || total.allocs > limit.InitAllocs {
		t.Errorf("package initialisation allocates %d bytes in %d pieces, limits %d and %d; most in %s (%d in %d)",
			total.bytes, total.allocs, limit.InitBytes, limit.InitAllocs, most, packages[most].bytes, packages[most].allocs)
	}
	if st.Size() > limit.Size {
		t.Errorf("the stripped binary has %d bytes, limit %d", st.Size(), limit.Size)
	}
}

// cost is what the initialisation of one package allocates.
type cost struct{ bytes, allocs int }

func traceInit(t testing.TB, bin string) map[string]cost {
	t.Helper()
	cmd := exec.Command(bin, "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var trace bytes.Buffer
	cmd.Stderr = &trace
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return readInitTrace(t, trace.String())
}

// readInitTrace reads lines like "init internal/bytealg @0.008 ms, 0.1 ms clock, 0 bytes, 0 allocs".
func readInitTrace(t testing.TB, trace string) map[string]cost {
	t.Helper()
	packages := map[string]cost{}
	for _, line := range strings.Split(trace, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "init" {
			continue
		}
		if len(f) != 11 || f[8] != "bytes," || f[10] != "allocs" {
			t.Fatalf("%q is no line of the runtime's trace as it was known", line)
		}
		size, err := strconv.Atoi(f[7])
		pieces, err2 := strconv.Atoi(f[9])
		if err != nil || err2 != nil {
			t.Fatalf("%q: %v, %v", line, err, err2)
		}
		packages[f[1]] = cost{size, pieces}
	}
	return packages
}
