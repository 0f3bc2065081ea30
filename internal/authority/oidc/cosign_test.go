package oidc_test

import (
	"bytes"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest"
)

// stockCosign runs cosign in a folder of its own, without a terminal, with a
// browser command that only writes down the address.
func stockCosign(t *testing.T, dir string, talk *os.File, args ...string) *exec.Cmd {
	t.Helper()
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nprintf '%s\\n' \"$1\" > " + filepath.Join(dir, "address.new") + "\nmv " + filepath.Join(dir, "address.new") + " " + filepath.Join(dir, "address") + "\n"
	if err := os.WriteFile(filepath.Join(bin, "xdg-open"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(hmtest.Tool(t, "cosign"), args...)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "TUF_ROOT=" + filepath.Join(dir, "tuf"), "PATH=" + bin + ":" + os.Getenv("PATH"), "NO_COLOR=1"}
	cmd.Stdout, cmd.Stderr = talk, talk
	return cmd
}

// waitFor reads a file until the pattern is in it and returns the first group.
func waitFor(t *testing.T, path, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var data []byte
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		data, _ = os.ReadFile(path)
		if m := re.FindSubmatch(data); m != nil {
			return string(m[1])
		}
	}
	t.Fatalf("%s not in %s: %s", pattern, filepath.Base(path), data)
	return ""
}

// fillPage logs a person in at a page and returns the status of the last answer.
func fillPage(t *testing.T, page string, form url.Values) (int, string) {
	t.Helper()
	browser := newBrowser()
	browser.CheckRedirect = nil
	_, body := get(t, browser, page)
	form.Set("request", hidden(t, body))
	u, err := url.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	resp, body := post(t, browser, "http://"+u.Host+u.Path, form)
	return resp.StatusCode, body
}

// TestStockCosignLogsIn: cosign's device flow (no terminal) and browser flow end
// with a bundle that cosign verifies as the person who logged in.
func TestStockCosignLogsIn(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "blob"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	talkPath := filepath.Join(dir, "talk")
	run := func(during func(), args ...string) {
		t.Helper()
		talk, err := os.Create(talkPath)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = talk.Close() }()
		cmd := stockCosign(t, dir, talk, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		if during != nil {
			during()
		}
		select {
		case err = <-done:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			err = <-done
		}
		if err != nil {
			said, _ := os.ReadFile(talkPath)
			t.Fatalf("cosign %s: %v\n%s", strings.Join(args, " "), err, bytes.TrimSpace(said))
		}
	}
	run(nil, "initialize", "--mirror", r.Info.TUF, "--root", r.Info.TUF+"/root.json", "--root-checksum", r.Info.TUFRootSHA256)

	for flow, logIn := range map[string]func(secret string){
		"device": func(secret string) {
			page := waitFor(t, talkPath, `(http://\S+/oauth2/device\?user_code=\S+)`)
			u, _ := url.Parse(page)
			if status, body := fillPage(t, page, url.Values{"user_code": {u.Query().Get("user_code")}, "secret": {secret}}); status != http.StatusOK {
				t.Errorf("device page: %d %s", status, body)
			}
		},
		"normal": func(secret string) {
			page := waitFor(t, filepath.Join(dir, "address"), `(http://\S+)`)
			if status, body := fillPage(t, page, url.Values{"secret": {secret}}); status != http.StatusOK {
				t.Errorf("login page: %d %s", status, body)
			}
		},
	} {
		email := flow + "@example.com"
		secret, err := r.Authority.NewOneTimeCode(email)
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"sign-blob", "--yes", "--bundle", flow + ".json", "blob"}
		if flow == "normal" { // without a terminal cosign would choose the device flow
			args = append([]string{"sign-blob", "--fulcio-auth-flow", "normal"}, args[1:]...)
		}
		run(func() { logIn(secret) }, args...)
		run(nil, "verify-blob", "--bundle", flow+".json", "--certificate-identity", email, "--certificate-oidc-issuer", r.URL, "blob")
	}
}
