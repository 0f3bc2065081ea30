package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hallmark-dev/hallmark/internal/authority"
)

// scriptWaitUp waits until the authority of a data folder answers and sets URL,
// REGISTRY and the variables of up env: waitup DIR
func scriptWaitUp(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitup DIR")
	}
	dir := ts.MkAbs(args[0])
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		i, err := authority.Read(dir)
		if err != nil {
			continue
		}
		resp, err := http.Get(i.URL + "/healthz")
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !strings.HasPrefix(string(body), "ok\n") {
			continue
		}
		for name, value := range map[string]string{
			"URL": i.URL, "REGISTRY": i.Registry, "PORT": i.Registry[strings.LastIndex(i.Registry, ":")+1:], "HALLMARK_TRUSTED_ROOT": i.TrustedRoot, "HALLMARK_SIGNING_CONFIG": i.SigningConfig,
			envData: i.Dir, "HALLMARK_REGISTRY": i.Registry,
		} {
			ts.Setenv(name, value)
		}
		return
	}
	ts.Fatalf("no authority answers for %s", dir)
}

// scriptFetch asks a URL with a Host header and wants a status: fetch STATUS URL [HOST]
func scriptFetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: fetch STATUS URL [HOST]")
	}
	req, err := http.NewRequest(http.MethodGet, args[1], nil)
	ts.Check(err)
	if len(args) == 3 {
		req.Host = args[2]
	}
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	_, err = io.Copy(ts.Stdout(), resp.Body)
	ts.Check(err)
	if !strings.HasPrefix(resp.Status, args[0]) {
		ts.Fatalf("%s: %s", args[1], resp.Status)
	}
}

// scriptFlip flips the lowest bit of a file's middle byte: flip FILE...
func scriptFlip(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		path := ts.MkAbs(name)
		data, err := os.ReadFile(path)
		ts.Check(err)
		data[len(data)/2] ^= 1
		ts.Check(os.WriteFile(path, data, 0o600))
	}
}

// TestUpReadOnlyFolder: a folder that cannot be written is a clear error. Root
// may write everywhere, so the command then runs as nobody.
func TestUpReadOnlyFolder(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "hallmark-readonly-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o555); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	bin, err := exec.LookPath("hallmark") // testscript.Main put this program there
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	// A copy that nobody can reach and run.
	if bin = filepath.Join(dir, "hallmark"); os.WriteFile(bin, program, 0o755) != nil {
		t.Fatal("copying the program failed")
	}
	for _, folder := range []string{data, filepath.Join(data, "new")} {
		cmd := exec.Command(bin, "up", "--data", folder, "--listen", "127.0.0.1:0")
		cmd.Dir = dir
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "data folder "+folder+" cannot be written") || !strings.Contains(string(out), "hint: ") {
			t.Errorf("%v: %s", err, out)
		}
	}
}
