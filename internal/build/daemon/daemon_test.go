package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/build/daemon"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// tools is the folder of the tools that make tools builds.
func tools(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("HALLMARK_TOOLS")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(home, ".cache/hallmark/tools/bin")
	}
	if _, err := os.Stat(filepath.Join(dir, "buildkitd")); err != nil {
		t.Fatalf("run make tools: %v", err)
	}
	return dir
}

// remains finds processes, mounts and control groups that name a daemon's folder.
func remains(t testing.TB, d *daemon.Daemon) string {
	t.Helper()
	dir := filepath.Dir(strings.TrimPrefix(d.Address, "unix://"))
	var left []string
	cmdlines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, c := range cmdlines {
		if data, err := os.ReadFile(c); err == nil && bytes.Contains(data, []byte(dir)) {
			left = append(left, string(bytes.ReplaceAll(data, []byte{0}, []byte{' '})))
		}
	}
	for _, file := range []string{"/proc/self/mounts"} {
		if data, _ := os.ReadFile(file); bytes.Contains(data, []byte(dir)) {
			left = append(left, "a mount")
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(dir))
	groups2, _ := filepath.Glob("/sys/fs/cgroup/" + filepath.Base(dir))
	left = append(append(left, groups...), groups2...)
	if _, err := os.Stat(dir); err == nil {
		left = append(left, dir)
	}
	return strings.Join(left, "\n")
}

func TestStartStop(t *testing.T) {
	t.Parallel()
	d, err := daemon.Start(context.Background(), daemon.Config{Tools: tools(t), HTTPRegistries: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	if remains(t, d) == "" {
		t.Error("this test would not notice a daemon that is left behind")
	}
	// Where it is not told, buildkitd replaces the socket of another one.
	if _, err := os.Stat(filepath.Join(filepath.Dir(strings.TrimPrefix(d.Address, "unix://")), "trace.sock")); err != nil {
		t.Error("its socket for traces is not its own:", err)
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := d.Stop(); err != nil {
		t.Error("stopped twice:", err)
	}
	if left := remains(t, d); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// A program in place of buildkitd that fails, and one that never answers.
func TestFailures(t *testing.T) {
	t.Parallel()
	fake := func(script string) string {
		dir := t.TempDir()
		for _, name := range []string{"buildkitd", "runc"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	_, err := daemon.Start(context.Background(), daemon.Config{Tools: fake("echo 'buildkitd: no worker found' >&2; exit 1")})
	if err == nil || !strings.Contains(err.Error(), "no worker found") {
		t.Errorf("a daemon that fails: %v", err)
	}
	_, err = daemon.Start(context.Background(), daemon.Config{Tools: fake("sleep 100"), StartTimeout: 200 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("a daemon that never answers: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err = daemon.Start(ctx, daemon.Config{Tools: fake("sleep 100")}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// Not parallel: it empties PATH.
func TestMissingTools(t *testing.T) {
	empty := t.TempDir()
	t.Setenv("PATH", empty)
	_, err := daemon.Start(context.Background(), daemon.Config{Tools: empty})
	if err == nil || !strings.Contains(err.Error(), "needs buildkitd, which is not in "+empty) || !strings.Contains(fault.HintOf(err), "make tools") {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
}

// kill -9 of the process that started the daemon ends the daemon too.
func TestKilled(t *testing.T) {
	t.Parallel()
	if addr := os.Getenv("DAEMON_TEST_CHILD"); addr != "" {
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), "DAEMON_TEST_CHILD=1", "DAEMON_TEST_TOOLS="+tools(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 256)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimSpace(string(buf[:n]))
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	dir := filepath.Dir(strings.TrimPrefix(address, "unix://"))
	defer os.RemoveAll(dir)
	d := &daemon.Daemon{Address: address}
	for range 100 {
		if left := remains(t, d); !strings.Contains(left, "buildkitd --config") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("left behind:\n%s", remains(t, d))
}

// TestChild is the process that TestKilled kills.
func TestChild(t *testing.T) {
	if os.Getenv("DAEMON_TEST_CHILD") == "" {
		return
	}
	d, err := daemon.Start(context.Background(), daemon.Config{Tools: os.Getenv("DAEMON_TEST_TOOLS")})
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString(d.Address + "\n")
	time.Sleep(time.Minute)
	d.Stop()
}
