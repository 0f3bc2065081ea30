// Package dockerd runs a real Docker engine for tests, Debian's, with a BuildKit in one of
// its containers. It needs root.
package dockerd

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Start starts an engine of its own for the test, and returns its address, of the variable
// DOCKER_HOST. Its containers have the machine's network: it makes no bridge and no rules.
func Start(t testing.TB) string {
	t.Helper()
	// A socket's path is short, and t.TempDir's is not always.
	dir, err := os.MkdirTemp("", "dockerd")
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	host := "unix://" + filepath.Join(dir, "docker.sock")
	cmd := exec.Command(program(t), "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs",
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"), "-H", host)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended
		log.Close()
		_ = exec.Command("umount", filepath.Join(dir, "exec/netns/default")).Run() // which it leaves behind when a container had the machine's network
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for {
		if exec.Command("docker", "-H", host, "version").Run() == nil {
			return host
		}
		select {
		case err := <-ended:
			ended <- err
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("the engine ended: %v\n%s", err, text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// program is dockerd, which is not on everybody's PATH.
func program(t testing.TB) string {
	for _, path := range []string{"/usr/sbin/dockerd", "/usr/bin/dockerd", "/usr/local/bin/dockerd"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("dockerd is not there: run make tools")
	return ""
}

// BuildKit runs buildkitd in a container called name. It has what buildkitd needs and no
// more, since a sandbox that tests run in cannot give everything ("--privileged") away.
func BuildKit(t testing.TB, host, name string) {
	t.Helper()
	docker := func(stdin io.Reader, args ...string) string {
		t.Helper()
		cmd := exec.Command("docker", append([]string{"-H", host}, args...)...)
		cmd.Stdin = stdin
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	docker(bytes.NewReader(rootfs(t)), "import", "-", "buildkit:test")
	docker(nil, "run", "-d", "--name", name, "--network=host", "--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--cap-add=SYS_PTRACE",
		"--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "-v", "/var/lib/buildkit",
		"buildkit:test", "/bin/buildkitd", "--oci-worker-snapshotter=native")
	t.Cleanup(func() { docker(nil, "rm", "-f", "-v", name) })
	for {
		out, err := exec.Command("docker", "-H", host, "exec", name, "buildctl", "debug", "workers").CombinedOutput()
		if err == nil {
			return
		}
		if state := docker(nil, "inspect", "-f", "{{.State.Running}}", name); strings.TrimSpace(state) != "true" {
			t.Fatalf("buildkitd ended: %s\n%s", out, docker(nil, "logs", name))
		}
		time.Sleep(50 * time.Millisecond)
	}
}
