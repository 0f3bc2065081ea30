package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/cli/check"
)

// exampleAddress is where hallmark up listens, and so what examples name.
const exampleAddress = defaultListen

// exampleGroup is the lines that belong together: one command's examples or one
// block of a document. They are run in order in a folder of their own.
type exampleGroup struct {
	name  string
	lines []string
}

// TestExamples runs every example of every command, hallmark-verify's too, and every ```sh block of
// README.md and docs/: each line, as it stands but for the port, must exit 0, or
// with the code that its comment "# exit N" names.
func TestExamples(t *testing.T) {
	t.Parallel()
	groups := append(commandExamples(t), documentExamples(t)...)
	w := newExampleWorld(t)
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) { w.run(t, g) })
	}
}

// commandExamples are the examples of --help; a command without one is an error.
func commandExamples(t *testing.T) []exampleGroup {
	var groups []exampleGroup
	for _, c := range append(allCommands(newRootCommand(newApp())), allCommands(check.Root(cli.New(version)))...) {
		lines := shellLines(c.Example)
		if len(lines) == 0 {
			t.Errorf("%s has no example", c.CommandPath())
		}
		if len(lines) > 4 {
			t.Errorf("%s has %d examples; four say enough", c.CommandPath(), len(lines))
		}
		for _, line := range lines {
			if !strings.Contains(line, c.CommandPath()) {
				t.Errorf("%s: the example %q is not about it", c.CommandPath(), line)
			}
		}
		groups = append(groups, exampleGroup{c.CommandPath(), lines})
	}
	return groups
}

// allCommands are the commands below the root, hidden ones too.
func allCommands(c *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	for _, sub := range c.Commands() {
		all = append(append(all, sub), allCommands(sub)...)
	}
	return all
}

// documentExamples are the ```sh blocks of the documents.
func documentExamples(t *testing.T) []exampleGroup {
	var groups []exampleGroup
	for _, path := range documents(t) {
		for i, block := range strings.Split(readDocument(t, path), "\n```sh\n")[1:] {
			code, _, closed := strings.Cut(block, "\n```")
			if !closed {
				t.Errorf("%s: a ```sh block has no end", path)
			}
			groups = append(groups, exampleGroup{fmt.Sprintf("%s block %d", filepath.Base(path), i+1), shellLines(code)})
		}
	}
	if len(groups) < 4 {
		t.Errorf("only %d blocks of examples in the documents", len(groups))
	}
	return groups
}

func documents(t *testing.T) []string {
	docs, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(docs) == 0 {
		t.Fatal(docs, err)
	}
	return append(docs, "../../README.md")
}

func readDocument(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// shellLines are the commands of a text: lines that end in \ go on.
func shellLines(text string) []string {
	var lines []string
	for _, line := range strings.Split(strings.ReplaceAll(text, "\\\n", " "), "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

var (
	exampleExit  = regexp.MustCompile(`\s# exit ([0-9]+)`)
	exampleMakes = regexp.MustCompile(`hallmark key generate .*--prefix (\S+)`)
	exampleRuns  = regexp.MustCompile(`^hallmark (up|log witness|authority replica)( -|$)`) // until it is interrupted
)

func (w *exampleWorld) run(t *testing.T, g exampleGroup) {
	w.reset(t)
	dir := filepath.Join(t.TempDir(), "world")
	if out, err := exec.Command("cp", "-a", w.template, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range g.lines {
		if m := exampleMakes.FindStringSubmatch(line); m != nil { // what it makes is not there before
			_ = os.Remove(filepath.Join(dir, "app", m[1]+".key"))
			_ = os.Remove(filepath.Join(dir, "app", m[1]+".pub"))
		}
	}
	for _, line := range g.lines {
		want := "0"
		if m := exampleExit.FindStringSubmatch(line); m != nil {
			want = m[1]
		}
		started := time.Now()
		var code int
		var output string
		if exampleRuns.MatchString(line) {
			code, output = w.runUp(t, dir, line)
		} else {
			code, output = w.shell(dir, strings.ReplaceAll(line, exampleAddress, w.address))
		}
		t.Logf("%s (%v)", line, time.Since(started).Round(time.Millisecond))
		if fmt.Sprint(code) != want {
			t.Errorf("%s\nexit code %d, want %s\n%s", line, code, want, output)
		}
	}
}

// shell runs one line and returns its exit code and what it printed.
func (w *exampleWorld) shell(dir, line string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir = filepath.Join(dir, "app")
	cmd.Env = w.env(dir)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		return -1, err.Error()
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// runUp runs hallmark up on a free port and a new folder until it says that it is
// ready, and then presses Ctrl-C.
func (w *exampleWorld) runUp(t *testing.T, dir, line string) (int, string) {
	if strings.Contains(line, "--listen") {
		line = strings.ReplaceAll(line, "0.0.0.0:8420", "0.0.0.0:0")
	} else {
		line += " --listen 127.0.0.1:0"
	}
	cmd := exec.Command("sh", "-c", "exec "+line)
	cmd.Dir = filepath.Join(dir, "app")
	cmd.Env = append(w.env(dir), envData+"=")
	ready := make(chan struct{})
	out := &readyWriter{ready: ready}
	cmd.Stdout = out
	var talk bytes.Buffer
	cmd.Stderr = &talk
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ready:
	case err := <-ended:
		return -1, fmt.Sprintf("ended before it was ready: %v\n%s%s", err, &out.text, &talk)
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
		return -1, fmt.Sprintf("not ready after 20 s\n%s%s", &out.text, &talk)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
		return -1, "Ctrl-C did not end it"
	}
	return cmd.ProcessState.ExitCode(), out.text.String() + talk.String()
}

// readyWriter closes ready when the announcement of hallmark up is complete.
type readyWriter struct {
	text  bytes.Buffer
	ready chan struct{}
	done  bool
}

func (w *readyWriter) Write(p []byte) (int, error) {
	n, err := w.text.Write(p)
	s := w.text.String()
	if !w.done && (strings.Contains(s, "Ctrl-C ends it.\n") || strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}\n")) {
		w.done = true
		close(w.ready)
	}
	return n, err
}
