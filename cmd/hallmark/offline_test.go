package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/release"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// TestOffline: to verify opens no socket except to the registry, and none at all
// for what is on disk; and what is on disk is what the call named, and the trust bundle. The released
// binaries run in a network namespace without a network, under strace, which
// sees what they ask of the kernel even where nothing would have answered.
func TestOffline(t *testing.T) {
	t.Parallel()
	w := newOfflineWorld(t)
	who := []string{"--identity", "alice@example.com", "--issuer", w.up.URL}
	root := []string{"--trusted-root", "trusted_root.json"}
	args := func(parts ...any) (argv []string) {
		for _, p := range parts {
			switch p := p.(type) {
			case string:
				argv = append(argv, p)
			case []string:
				argv = append(argv, p...)
			}
		}
		return argv
	}
	cases := []struct {
		name     string
		argv     []string
		code     int
		says     string
		registry bool // the image is there, and the network is, too
	}{
		{"an image, keyless", args("verify", who, root, "oci:keyless:1.0"), cli.ExitOK, "Verified signature", false},
		{"an image by a key, and a trust root", args("verify", "--key", "cosign.pub", root, "oci:keyed:1.0"), cli.ExitOK, "Verified signature", false},
		{"an image by a key alone", args("verify", "--key", "cosign.pub", "oci:keyed:1.0"), cli.ExitOK, "Verified signature", false},
		{"a file", args("verify", who, root, "--bundle", "file.sigstore.json", "file"), cli.ExitOK, "Verified signature", false},
		{"a tree", args("show", "oci:keyless:1.0"), cli.ExitOK, "alice@example.com", false},
		{"somebody else's image", args("verify", "--identity", "bob@example.com", "--issuer", w.up.URL, root, "oci:keyless:1.0"), cli.ExitDenied, "WRONG_IDENTITY", false},
		{"another root's image", args("verify", who, "--trusted-root", "other_root.json", "oci:keyless:1.0"), cli.ExitDenied, "_UNTRUSTED", false},
		{"an image, and nobody says under which root", args("verify", who, "oci:keyless:1.0"), cli.ExitDenied, "_UNTRUSTED", false},
		{"an image, under the public instance's root", args("verify", who, "--trusted-root", "public", "oci:keyless:1.0"), cli.ExitDenied, "_UNTRUSTED", false},
		{"another file", args("verify", who, root, "--bundle", "file.sigstore.json", "cosign.pub"), cli.ExitDenied, "WRONG_SUBJECT", false},
		{"an image that nobody signed", args("verify", who, root, "oci:unsigned:1.0"), cli.ExitNotFound, "NOT_SIGNED", false},
		{"an image in a registry", args("verify", who, root, w.image), cli.ExitOK, "Verified signature", true},
		{"somebody else's in a registry", args("verify", "--identity", "bob@example.com", "--issuer", w.up.URL, root, w.image), cli.ExitDenied, "WRONG_IDENTITY", true},
	}
	for _, name := range []string{"hallmark", "hallmark-verify"} {
		bin := w.bin[name]
		for _, c := range cases {
			code, out, calls := w.trace(t, !c.registry, bin, c.argv...)
			if code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("%s: %s: exit code %d, want %d with %q\n%s", name, c.name, code, c.code, c.says, out)
			}
			if len(calls.opened) == 0 {
				t.Fatalf("%s: %s: strace saw no file", name, c.name)
			}
			if c.registry {
				w.checkSockets(t, name+": "+c.name, calls)
				continue
			}
			if len(calls.network) > 0 {
				t.Errorf("%s: %s: nothing is to be asked of a network, and it called\n%s", name, c.name, strings.Join(calls.network, "\n"))
			}
			w.checkFiles(t, name+": "+c.name, bin, c.argv, calls)
		}
	}
}

// offlineWorld is a folder with images and files that are signed, and a registry.
type offlineWorld struct {
	dir   string
	up    *hmtest.Running
	bin   map[string]string
	image string // in the registry
	alone []string
}

func newOfflineWorld(t *testing.T) *offlineWorld {
	t.Helper()
	w := &offlineWorld{dir: t.TempDir(), up: hmtest.Authority(t), bin: map[string]string{}, alone: namespace(t)}
	for _, name := range []string{"hallmark", "hallmark-verify"} {
		w.bin[name] = release.Binary(t, name)
	}
	for name, from := range map[string]string{"trusted_root.json": w.up.TrustedRoot, "other_root.json": hmtest.Authority(t).TrustedRoot} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		writeExample(t, filepath.Join(w.dir, name), string(data))
	}
	writeExample(t, filepath.Join(w.dir, "file"), "a file\n")
	writeExample(t, filepath.Join(w.dir, "token"), w.up.Token("alice@example.com"))
	w.image = w.up.Image("app", "content")
	for _, name := range []string{"keyless", "keyed", "unsigned"} {
		ref, err := registry.ParseRef("oci:" + filepath.Join(w.dir, name) + ":1.0")
		if err != nil {
			t.Fatal(err)
		}
		img := testimage.Image{Layers: [][]testimage.File{{{Path: "content", Data: []byte(name)}}}}
		if _, err := testimage.Push(context.Background(), registry.NewClient(registry.Options{}), ref, img); err != nil {
			t.Fatal(err)
		}
	}
	services := []string{"--signing-config", w.up.SigningConfig, "--trusted-root", w.up.TrustedRoot}
	for _, argv := range [][]string{
		{"key", "generate"},
		append([]string{"sign", "--identity-token", "token", "oci:keyless:1.0", w.image}, services...),
		append([]string{"sign", "--key", "cosign.key", "oci:keyed:1.0"}, services...),
		append([]string{"sign", "--identity-token", "token", "--bundle", "file.sigstore.json", "file"}, services...),
	} {
		cmd := exec.Command(w.bin["hallmark"], argv...)
		cmd.Dir, cmd.Env = w.dir, w.env()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	return w
}

// namespace is the command that runs another one without a network.
func namespace(t *testing.T) []string {
	t.Helper()
	var said []string
	for _, argv := range [][]string{{"unshare", "-n"}, {"unshare", "-rn"}} {
		out, err := exec.Command(argv[0], append(argv[1:], "true")...).CombinedOutput()
		if err == nil {
			return argv
		}
		said = append(said, fmt.Sprintf("%v: %v %s", argv, err, out))
	}
	t.Fatalf("no network namespace can be made: run the test as root, or allow user namespaces\n%s", strings.Join(said, "\n"))
	return nil
}

func (w *offlineWorld) home() string { return filepath.Join(w.dir, "home") }

func (w *offlineWorld) env() []string {
	return []string{"HOME=" + w.home(), "PATH=" + os.Getenv("PATH"), "COSIGN_PASSWORD=secret"}
}

// systemCalls are what a program asked of the kernel, a call a line.
type systemCalls struct {
	network []string // socket, connect, sendto, …
	opened  []string // absolute paths, also of files that are not there
}

var (
	straceNetwork = regexp.MustCompile(`^\d+ +(\w+)\(`)
	straceOpened  = regexp.MustCompile(`^\d+ +open(?:at|at2)?\((?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"([^"]*)"`)
)

// trace runs a program under strace and returns its exit code and what it said.
func (w *offlineWorld) trace(t *testing.T, alone bool, bin string, argv ...string) (int, string, systemCalls) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "strace")
	call := append([]string{"strace", "-f", "-y", "-o", log, "-s", "4096", "-e", "trace=%network,open,openat,openat2", bin}, argv...)
	if alone {
		call = append(slices.Clone(w.alone), call...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, call[0], call[1:]...)
	cmd.Dir, cmd.Env = w.dir, w.env()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v (make tools installs strace)", err)
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var calls systemCalls
	for _, line := range strings.Split(string(data), "\n") {
		if m := straceOpened.FindStringSubmatch(line); m != nil {
			if !filepath.IsAbs(m[2]) {
				m[2] = filepath.Join(m[1], m[2])
			}
			calls.opened = append(calls.opened, m[2])
		} else if straceNetwork.MatchString(line) {
			calls.network = append(calls.network, line)
		}
	}
	return cmd.ProcessState.ExitCode(), string(out), calls
}

// checkSockets wants every address that was spoken to to be the registry's, and
// that it was spoken to.
func (w *offlineWorld) checkSockets(t *testing.T, name string, calls systemCalls) {
	t.Helper()
	host, port, _ := strings.Cut(w.up.Registry, ":")
	address := fmt.Sprintf(`{sa_family=AF_INET, sin_port=htons(%s), sin_addr=inet_addr("%s")}`, port, host)
	connected := 0
	for _, line := range calls.network {
		system := straceNetwork.FindStringSubmatch(line)[1]
		switch {
		case system == "connect" && strings.Contains(line, address):
			connected++
		case system == "connect", strings.HasPrefix(system, "send") && strings.Contains(line, "sa_family"),
			system == "socket" && !strings.Contains(line, "SOCK_STREAM"), system == "listen":
			t.Errorf("%s: only %s is to be spoken to: %s", name, w.up.Registry, line)
		}
	}
	if connected == 0 {
		t.Errorf("%s: strace did not see the registry", name)
	}
}

// checkFiles wants everything that was opened to be what the call named, below an
// image layout that it named, the runtime's, or the program itself, from which
// protobuf seeds a generator.
func (w *offlineWorld) checkFiles(t *testing.T, name, bin string, argv []string, calls systemCalls) {
	t.Helper()
	for _, path := range calls.opened {
		rel := strings.TrimPrefix(path, w.dir+"/")
		named := path == bin || path == filepath.Join(w.home(), ".config/hallmark/trust.json") || // the trust bundle: a revocation always counts
			slices.ContainsFunc([]string{"/sys/kernel/mm/", "/sys/fs/cgroup/", "/proc/self/"},
				func(runtimes string) bool { return strings.HasPrefix(path, runtimes) })
		for _, a := range argv {
			layout, isLayout := strings.CutPrefix(a, "oci:")
			layout, _, _ = strings.Cut(layout, ":")
			named = named || rel == a || isLayout && strings.HasPrefix(rel+"/", layout+"/")
		}
		if !named {
			t.Errorf("%s: opens %s, which the call does not name", name, path)
		}
	}
}
