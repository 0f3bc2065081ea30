package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/hmtest"
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
	bin, err := exec.LookPath("hallmark") // testscript.Main put this program there
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) int64 {
		t.Helper()
		cmd := exec.Command(bin, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "COSIGN_PASSWORD=secret", envSigningConfig+"="+r.SigningConfig, envTrustedRoot+"="+r.TrustedRoot)
		var talk bytes.Buffer
		cmd.Stderr = &talk
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v: %s", err, talk.String())
		}
		return cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	}
	run("key", "generate")
	image := r.Image("app", "content")
	for name, who := range map[string][]string{"key": {"--key", "cosign.key"}, "keyless": {"--identity-token", r.Token("alice@example.com")}} {
		rss := run(append([]string{"attest", "--predicate", predicate, "--type", "spdx", image}, who...)...)
		t.Logf("%s: %d MB", name, rss/1e6)
		if rss > 200e6 {
			t.Errorf("%s: %d MB of memory", name, rss/1e6)
		}
	}
}
