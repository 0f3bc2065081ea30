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

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/release"
)

// TestAttestMemory: a predicate of 40 MiB is attested in less than 200 MB of
// memory, also with an encrypted key, whose password alone takes 64 MiB.
func TestAttestMemory(t *testing.T) {
	r := hmtest.Authority(t)
	dir := t.TempDir()
	predicate := filepath.Join(dir, "sbom.json")
	if err := os.WriteFile(predicate, []byte(`{"packages":["`+strings.Repeat(`x","`, 10<<20)+`"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := release.Binary(t, "hallmark")
	run := func(args ...string) int64 {
		t.Helper()
		cmd := exec.Command(bin, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "COSIGN_PASSWORD=secret", cli.EnvSigningConfig+"="+r.SigningConfig, cli.EnvTrustedRoot+"="+r.TrustedRoot)
		var talk bytes.Buffer
		cmd.Stderr = &talk
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		peak := watchMemory(cmd.Process.Pid)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %s", err, talk.String())
		}
		return peak()
	}
	run("key", "generate")
	image := r.Image("app", "content")
	for name, who := range map[string][]string{"key": {"--key", "cosign.key"}, "keyless": {"--identity-token", r.Token("alice@example.com")}} {
		rss := run(append([]string{"attest", "--predicate", predicate, "--type", "spdx", image}, who...)...)
		t.Logf("%s: %d MB", name, rss/1e6)
		if rss < 10e6 {
			t.Errorf("%s: %d bytes of memory: was it measured?", name, rss)
		}
		if rss > 200e6 {
			t.Errorf("%s: %d MB of memory", name, rss/1e6)
		}
	}
}

// watchMemory follows a process's peak resident memory, in bytes, and returns a
// function that waits for its end and tells the peak. (The kernel's own figure
// for a child begins with the parent's memory, which would be this test's.)
func watchMemory(pid int) func() int64 {
	done := make(chan int64)
	go func() {
		var peak int64
		for {
			status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
			_, after, found := strings.Cut(string(status), "VmHWM:")
			if err != nil || !found { // gone, or only waited for
				break
			}
			if f := strings.Fields(after); len(f) > 0 {
				kb, _ := strconv.ParseInt(f[0], 10, 64)
				peak = max(peak, kb<<10)
			}
			time.Sleep(2 * time.Millisecond)
		}
		done <- peak
	}()
	return func() int64 { return <-done }
}
