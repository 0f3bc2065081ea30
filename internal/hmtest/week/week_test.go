package week_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/output"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

const page = "../../../docs/week.md"

// everyStep is the heading of the section that is run after each block.
const everyStep = "After every step"

// week is the page's story, in a folder, with ports of the test's own.
type week struct {
	t     *testing.T
	dir   string
	ports map[string]string // by those of the page
	vars  map[string]string // of the environment

	hub, lab *issuer
	balancer *balancer
	mu       sync.Mutex
	servers  []*server
	later    sync.WaitGroup // what happens while a line runs
	check    []string       // the lines of everyStep
	pushed   map[string]bool
	signed   int // how many signatures were made
	checked  int // how often all of them were verified
}

// server is a program that runs until it is stopped.
type server struct {
	line  string
	cmd   *exec.Cmd
	out   output.Buffer
	ended chan struct{}
}

var (
	address    = regexp.MustCompile(`127\.0\.0\.1:84[0-9]{2}\b`)
	serverLine = regexp.MustCompile(`^hallmark (up|authority replica) `)
	exitLine   = regexp.MustCompile(`\s+# exit ([0-9]+)$`)
	signLine   = regexp.MustCompile(`^(cosign2?|hallmark) sign .*--identity-token (hub|lab|alice)\.token (127\.0\.0\.1:8420/\S+)$`)
	signFile   = regexp.MustCompile(`^(?:cosign|hallmark) sign(?:-blob)? .*--identity-token (hub|lab)\.token --bundle (\S+)\.sigstore\.json (\S+)$`)
	outage     = regexp.MustCompile(`^the (.+) is (out|back|out, and back after a second)$`)
	serviceOf  = regexp.MustCompile("For each of (`.+?):")
)

// TestWeek runs docs/week.md.
func TestWeek(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	w := newWeek(t, string(data))
	sections := strings.Split(string(data), "\n## ")
	for _, s := range sections {
		if heading, text, _ := strings.Cut(s, "\n"); heading == everyStep {
			w.check = blocks(t, text)[0].lines
		}
	}
	if len(w.check) < 10 {
		t.Fatalf("the page verifies with %d commands", len(w.check))
	}
	steps := 0
	for _, s := range sections {
		heading, text, _ := strings.Cut(s, "\n")
		if heading == everyStep {
			continue
		}
		for _, b := range blocks(t, text) {
			for _, service := range b.services {
				if service != "" {
					w.vars["SERVICE"], w.vars["N"] = service, fmt.Sprint(service, "-", steps)
				}
				for _, line := range b.lines {
					w.push(line)
				}
				for _, line := range b.lines {
					w.do(line)
				}
				w.later.Wait()
				steps++
				w.verifyAll(heading)
			}
		}
	}
	if steps < 15 || w.checked < 15 || w.signed < 40 {
		t.Errorf("%d blocks, %d signatures, which were verified %d times", steps, w.signed, w.checked)
	}
	t.Logf("%d blocks; %d signatures, all of them verified after each of %d", steps, w.signed, w.checked)
}

// block is a ```bash block, and what it is run for: "" is once.
type block struct{ lines, services []string }

func blocks(t *testing.T, text string) (out []block) {
	t.Helper()
	parts := strings.Split(text, "\n```bash\n")
	for i, part := range parts[1:] {
		code, _, closed := strings.Cut(part, "\n```")
		if !closed {
			t.Fatal("a block of the page has no end")
		}
		b := block{strings.Split(strings.ReplaceAll(code, "\\\n", " "), "\n"), []string{""}}
		if m := serviceOf.FindStringSubmatch(parts[i]); m != nil && strings.Contains(code, "$SERVICE") {
			b.services = regexp.MustCompile("`[a-z0-9-]+`").FindAllString(m[1], -1)
			for n := range b.services {
				b.services[n] = strings.Trim(b.services[n], "`")
			}
		}
		out = append(out, b)
	}
	return out
}

func newWeek(t *testing.T, text string) *week {
	t.Helper()
	w := &week{t: t, dir: t.TempDir(), ports: map[string]string{}, pushed: map[string]bool{}}
	t.Cleanup(w.later.Wait)
	w.hub = newIssuer(t, w.here("127.0.0.1:8441"), hubClaims)
	w.lab = newIssuer(t, w.here("127.0.0.1:8442"), labClaims)
	w.balancer = newBalancer(t, w.here("127.0.0.1:8420"), w.here("127.0.0.1:8430"))
	bin, home := t.TempDir(), t.TempDir()
	build(t, bin)
	script := "#!/bin/sh\nTUF_ROOT=" + filepath.Join(home, "cosign2") + " exec " + hmtest.Tool(t, "cosign2") + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "cosign2"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	w.vars = map[string]string{
		"PATH": bin + ":" + filepath.Dir(hmtest.Tool(t, "cosign2")) + ":" + os.Getenv("PATH"), "HOME": home, "USER": "somebody", "DOCKER_CONFIG": home, "NO_COLOR": "1",
		"HUB": hubIdentity, "LAB": labIdentity,
	}
	_, config, found := strings.Cut(text, "\n```yaml\n")
	config, _, closed := strings.Cut(config, "\n```")
	if !found || !closed {
		t.Fatal("the page has no configuration")
	}
	for name, content := range map[string]string{"issuers.yaml": w.here(config) + "\n", "hub.tar": "hub", "lab.tar": "lab", "old.tar": "old", "late.tar": "late", "notes.txt": "notes", "more.txt": "more", "bob.txt": "bob"} {
		w.write(name, content)
	}
	w.unpack("../../authority/testdata/folder-v1.tar.gz", "data", "sigstore")
	return w
}

// build builds hallmark. Its sources are looked at, so that go test knows that its result
// depends on them.
func build(t *testing.T, into string) {
	t.Helper()
	for _, dir := range []string{"../../../cmd", "../../../internal"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go") {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-o", into, "./cmd/hallmark")
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func (w *week) write(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// unpack unpacks an archive, with a folder of it under another name.
func (w *week) unpack(archive, folder, as string) {
	w.t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		w.t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			w.t.Fatal(err)
		}
		name := filepath.FromSlash(h.Name)
		if rest, inside := strings.CutPrefix(name, folder+string(filepath.Separator)); inside {
			name = filepath.Join(as, rest)
		}
		path := filepath.Join(w.dir, name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			var data []byte
			if data, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, data, h.FileInfo().Mode())
			}
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// here is a text of the page with the test's ports. They are below those that the
// system gives to connections: what is stopped for a moment gets its port again.
func (w *week) here(text string) string {
	return address.ReplaceAllStringFunc(text, func(a string) string {
		for w.ports[a] == "" {
			at := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
			if l, err := net.Listen("tcp", at); err == nil {
				_ = l.Close()
				if !slices.Contains(slices.Collect(maps.Values(w.ports)), at) {
					w.ports[a] = at
				}
			}
		}
		return w.ports[a]
	})
}

// do runs one line: what a comment says, a server until it is ready, anything else to
// its end.
func (w *week) do(line string) {
	w.t.Helper()
	began := time.Now()
	want := "0"
	command := line
	if m := exitLine.FindStringSubmatch(line); m != nil {
		want, command = m[1], strings.TrimSuffix(line, m[0])
	}
	switch {
	case strings.HasPrefix(line, "# "):
		w.happens(line[2:])
	case strings.HasPrefix(line, "export "):
		for _, m := range regexp.MustCompile(`(\w+)=("[^"]*"|\S+)`).FindAllStringSubmatch(line, -1) {
			w.vars[m[1]] = w.here(strings.Trim(m[2], `"`))
		}
	case serverLine.MatchString(line):
		w.serve(line)
	default:
		w.prepare(command)
		if got, out := w.run(command); got != want {
			w.t.Fatalf("%s\nexit code %s, want %s\n%s", line, got, want, out)
		}
		if m := signLine.FindStringSubmatch(command); m != nil && want == "0" || m != nil && strings.Contains(command, " --later ") {
			name := "_NEW"
			if m[1] == "cosign2" {
				name = "_OLD"
			}
			w.signs(strings.ToUpper(m[2])+name, w.here(w.expand(m[3])))
		}
		if m := signFile.FindStringSubmatch(command); m != nil {
			w.signs(strings.ToUpper(m[1])+"_FILES", m[3])
		}
	}
	w.t.Logf("%s (%v)", line, time.Since(began).Round(time.Millisecond))
}

// run runs a command to its end.
func (w *week) run(command string) (exit, out string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", w.here(command))
	cmd.Dir, cmd.Env = w.dir, w.env()
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		return "-1", err.Error()
	}
	return fmt.Sprint(cmd.ProcessState.ExitCode()), string(text)
}

func (w *week) env() (out []string) {
	for name, value := range w.vars {
		out = append(out, name+"="+value)
	}
	return out
}

// prepare has the tokens and images that a line names.
func (w *week) prepare(line string) {
	w.t.Helper()
	for name, i := range map[string]*issuer{"hub.token": w.hub, "lab.token": w.lab} {
		if strings.Contains(line, name) {
			w.write(name, i.token(w.t))
		}
	}
	w.push(line)
}

// push has the image of a line that signs one built, before whatever is out then.
func (w *week) push(line string) {
	w.t.Helper()
	m := signLine.FindStringSubmatch(exitLine.ReplaceAllString(line, ""))
	if m == nil || w.running() == nil {
		return
	}
	name := w.expand(m[3])
	if w.pushed[name] {
		return
	}
	ref, err := registry.ParseRef(w.here(name))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := testimage.Push(context.Background(), registry.NewClient(registry.Options{}), ref,
		testimage.Image{Layers: [][]testimage.File{{{Path: "name", Data: []byte(name)}}}}); err != nil {
		w.t.Fatal(err)
	}
	w.pushed[name] = true
}

// expand has the page's variables in a word.
func (w *week) expand(word string) string {
	return os.Expand(word, func(name string) string { return w.vars[name] })
}

// signs keeps what was signed in the variable that has all of its kind.
func (w *week) signs(name, what string) {
	if all := strings.Fields(w.vars[name]); !slices.Contains(all, what) {
		w.vars[name] = strings.Join(append(all, what), " ")
		w.signed++
	}
}

// verifyAll runs the lines of everyStep, each program's in their order.
func (w *week) verifyAll(heading string) {
	w.t.Helper()
	if w.vars["HUB_OLD"] == "" || w.running() == nil {
		return
	}
	began := time.Now()
	by := map[string][]string{}
	for _, line := range w.check {
		program := regexp.MustCompile(`cosign2?|hallmark`).FindString(line)
		by[program] = append(by[program], line)
	}
	var g sync.WaitGroup
	for _, lines := range by {
		g.Go(func() {
			for _, line := range lines {
				if got, out := w.run(line); got != "0" {
					w.t.Errorf("%s: %s\nexit code %s\n%s", heading, line, got, out)
					return
				}
			}
		})
	}
	g.Wait()
	if w.t.Failed() {
		w.t.FailNow()
	}
	w.checked++
	w.t.Logf("    %s: everything verified (%v)", heading, time.Since(began).Round(time.Millisecond))
}

// happens does what a comment says.
func (w *week) happens(what string) {
	w.t.Helper()
	if m := outage.FindStringSubmatch(what); m != nil {
		w.balancer.set(w.t, m[1], m[2] != "back")
		if strings.HasSuffix(m[2], "second") {
			w.afterwards(func() { w.balancer.set(w.t, m[1], false) })
		}
		return
	}
	switch what {
	case "Ctrl-C":
		w.stop(syscall.SIGINT)
	case "hallmark up is killed, and started again after a second":
		again := w.server(w.stop(syscall.SIGKILL))
		w.afterwards(func() {
			if err := w.start(again); err != nil {
				w.t.Errorf("%s\n%v", again.line, err)
			}
		})
	case "the disk is lost":
		w.stop(syscall.SIGKILL)
		if err := os.RemoveAll(filepath.Join(w.dir, "sigstore")); err != nil {
			w.t.Fatal(err)
		}
	case "GitHub's issuer is out", "GitHub's issuer is back":
		w.hub.set(strings.HasSuffix(what, "out"))
	case "GitHub and GitLab replace their keys":
		w.hub.replaceKey(w.t)
		w.lab.replaceKey(w.t)
	default:
		w.t.Fatalf("nobody knows how to do this: %s", what)
	}
}

// afterwards does something in a second.
func (w *week) afterwards(do func()) {
	w.later.Go(func() {
		time.Sleep(time.Second)
		do()
	})
}
