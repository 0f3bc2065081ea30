// Package daemon runs a BuildKit daemon of our own for one build: found among
// the installed tools, started in a temporary folder, and gone afterwards with
// everything that it started, whatever way the build ends.
//
// It runs as root in its own process and mount namespaces. Ending the first
// process of them makes the kernel end every process and drop every mount in
// them: no step of a build outlives hallmark, not even after kill -9.
//
// Trusted: buildkitd and runc. Not trusted: what the build steps run. With the
// host's network, which lets steps reach services on loopback and the machine's
// metadata server, a step can do what any local process without files of its own
// can do, and listen to the network (CAP_NET_RAW, which runc's callers leave to root).
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// Config says where the programs are and how registries are spoken to.
type Config struct {
	Tools          string        // folder with buildkitd and runc, looked at before PATH; may be ""
	HTTPRegistries []string      // host[:port] of registries that speak plain HTTP
	StartTimeout   time.Duration // default 30 s
	Trusted        *Trusted      // nil: what is installed is believed
}

// Trusted is a daemon that takes nothing from who starts it: what runs are verified
// copies of the programs, with the system's PATH and none of the caller's variables.
type Trusted struct {
	// Copy copies a program, buildkitd or runc, to a file that may be run, or refuses it.
	Copy func(program, from, to string) error
	// Provenance is asked after that: a JSON object that the daemon adds to the internal
	// parameters of all provenance (buildkitd.toml, provenanceEnvDir).
	Provenance func() ([]byte, error)
}

// systemPath is where a trusted daemon finds what it runs beside its copies: git, unshare.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Daemon is a running BuildKit daemon.
type Daemon struct {
	Address string // "unix:///tmp/…/buildkitd.sock"

	dir    string
	cgroup string
	cmd    *exec.Cmd
	log    *tail
	exited chan struct{} // closed when the process and all that hold its output are gone
	stop   sync.Once
	left   error
}

// programs are what is needed, with the package that has it; "" for make tools.
var programs = [...]struct{ name, from string }{
	{"buildkitd", ""}, {"runc", "apt-get install runc"}, {"unshare", "apt-get install util-linux"},
}

// Start starts buildkitd and returns when it answers. Stop must be called.
func Start(ctx context.Context, cfg Config) (*Daemon, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for _, p := range programs {
		path, err := find(cfg.Tools, p.name)
		if err != nil {
			hint := "run make tools in a clone of Hallmark, or set BUILDKIT_HOST to a BuildKit that runs already"
			if p.from != "" {
				hint = "run make tools, or " + p.from
			}
			return nil, fault.Hint(err, "%s", hint)
		}
		paths[p.name] = path
	}
	dir, err := os.MkdirTemp("", "hallmark-buildkit-")
	if err != nil {
		return nil, err
	}
	d := &Daemon{
		Address: "unix://" + filepath.Join(dir, "buildkitd.sock"), dir: dir, cgroup: filepath.Base(dir),
		log: &tail{limit: 16 << 10}, exited: make(chan struct{}),
	}
	err = cfg.Trusted.prepare(dir, paths)
	if err == nil {
		err = d.start(cfg, paths)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	timeout := cfg.StartTimeout
	if timeout <= 0 {
		timeout = 30 * time.Second
	}
	if err := d.ready(ctx, timeout); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	return d, nil
}

// prepare puts the verified copies into the daemon's folder, and in paths, and writes
// what the provenance is to say.
func (t *Trusted) prepare(dir string, paths map[string]string) error {
	if t == nil {
		return nil
	}
	for _, folder := range []string{"bin", "provenance.d"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			return err
		}
	}
	for _, program := range []string{"buildkitd", "runc"} {
		to := filepath.Join(dir, "bin", program)
		if err := t.Copy(program, paths[program], to); err != nil {
			return err
		}
		paths[program] = to
	}
	var err error
	if paths["unshare"], err = findIn(filepath.SplitList(systemPath), "unshare"); err != nil {
		return err
	}
	facts, err := t.Provenance()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "provenance.d", "hallmark.json"), facts, 0o600)
}

func find(tools, name string) (string, error) {
	if tools != "" {
		path := filepath.Join(tools, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	path, err := findIn(append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin"), name)
	if err != nil && tools != "" {
		err = fmt.Errorf("building needs %s, which is not in %s and PATH", name, tools)
	}
	return path, err
}

func findIn(folders []string, name string) (string, error) {
	for _, dir := range folders {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); filepath.IsAbs(dir) && err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("building needs %s, which is not in PATH", name)
}

// config is the daemon's configuration (buildkitd.toml). Snapshots are overlays
// where the kernel can, else copies ("auto"). gc is off: the folder is deleted.
func (d *Daemon) config(cfg Config, runc string) string {
	var b strings.Builder
	if cfg.Trusted != nil {
		fmt.Fprintf(&b, "provenanceEnvDir = %q\n", filepath.Join(d.dir, "provenance.d"))
	}
	fmt.Fprintf(&b, "root = %q\n[grpc]\n  address = [%q]\n", filepath.Join(d.dir, "root"), d.Address)
	// buildkitd deletes and makes this socket anew as it starts, at one path for the whole
	// machine unless told: two of them at once fail each other.
	fmt.Fprintf(&b, "[otel]\n  socketPath = %q\n", filepath.Join(d.dir, "trace.sock"))
	fmt.Fprintf(&b, "[worker.oci]\n  enabled = true\n  snapshotter = \"auto\"\n  networkMode = \"host\"\n  gc = false\n  binary = %q\n  defaultCgroupParent = %q\n",
		runc, d.cgroup)
	b.WriteString("[worker.containerd]\n  enabled = false\n")
	for _, host := range cfg.HTTPRegistries {
		fmt.Fprintf(&b, "[registry.%q]\n  http = true\n", host)
	}
	return b.String()
}

func (d *Daemon) start(cfg Config, paths map[string]string) error {
	file := filepath.Join(d.dir, "buildkitd.toml")
	if err := os.WriteFile(file, []byte(d.config(cfg, paths["runc"])), 0o600); err != nil {
		return err
	}
	cmd := exec.Command(paths["unshare"], "--mount", "--propagation=private", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc",
		paths["buildkitd"], "--config", file)
	cmd.Dir, cmd.Stdout, cmd.Stderr = d.dir, d.log, d.log
	cmd.Env = environment()
	if cfg.Trusted != nil {
		cmd.Env = []string{"PATH=" + systemPath, "HOME=" + d.dir, "TMPDIR=" + filepath.Dir(d.dir)}
	}
	cmd.SysProcAttr = processAttributes()
	started := make(chan error, 1)
	go func() {
		// The kernel ends the child when the thread that started it ends.
		unlock := keepThread()
		defer unlock()
		defer close(d.exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting buildkitd: %w", err)
	}
	d.cmd = cmd
	return nil
}

// environment is what the daemon needs of ours; proxies reach its pulls.
func environment() []string {
	env := []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}
	for _, name := range []string{"HOME", "TMPDIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
		"SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// ready waits until the daemon answers.
func (d *Daemon) ready(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errors.New("it does not answer"))
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if d.answers(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("starting buildkitd: %w after %v: %s", context.Cause(ctx), timeout, d.log.last())
		case <-d.exited:
			return fmt.Errorf("starting buildkitd: it ended: %s", d.log.last())
		case <-tick.C:
		}
	}
}

func (d *Daemon) answers(ctx context.Context) bool {
	conn, err := net.DialTimeout("unix", strings.TrimPrefix(d.Address, "unix://"), time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	c, err := client.New(ctx, d.Address)
	if err != nil {
		return false
	}
	defer c.Close()
	workers, err := c.ListWorkers(ctx)
	return err == nil && len(workers) > 0
}

// stopGrace is how long buildkitd may take to end its steps before the kernel does.
const stopGrace = 3 * time.Second

// Stop ends the daemon and everything that it started, and deletes its folder.
func (d *Daemon) Stop() error {
	d.stop.Do(func() { d.left = d.end() })
	return d.left
}

func (d *Daemon) end() error {
	pid := d.cmd.Process.Pid
	if inner := firstChild(pid); inner > 0 {
		_ = syscall.Kill(inner, syscall.SIGTERM)
	}
	select {
	case <-d.exited:
	case <-time.After(stopGrace):
		_ = syscall.Kill(pid, syscall.SIGKILL)
		select {
		case <-d.exited:
		case <-time.After(10 * time.Second):
			return fmt.Errorf("buildkitd (process %d) does not end; its files are in %s", pid, d.dir)
		}
	}
	var err error
	for range 50 { // the kernel lets go a moment after the last process
		if err = errors.Join(removeCgroups(d.cgroup), os.RemoveAll(d.dir)); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("cleaning up after BuildKit: %w", err)
}

// firstChild is the process that unshare started: buildkitd.
func firstChild(pid int) int {
	p := strconv.Itoa(pid)
	data, err := os.ReadFile(filepath.Join("/proc", p, "task", p, "children"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	child, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return child
}

// removeCgroups removes the now empty control groups of our build steps, in
// the one hierarchy of cgroup v2 or in each of v1's. Inner groups go first; a
// group that is not empty is not removed.
func removeCgroups(name string) error {
	var failed error
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		groups, _ := filepath.Glob(pattern + name)
		for _, g := range groups {
			var all []string
			_ = filepath.WalkDir(g, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					all = append(all, path)
				}
				return nil
			})
			for _, path := range slices.Backward(all) {
				if err := syscall.Rmdir(path); err != nil && path == g {
					failed = fmt.Errorf("control group %s: %w", g, err)
				}
			}
		}
	}
	return failed
}

// tail keeps the end of a log.
type tail struct {
	mu    sync.Mutex
	buf   []byte
	limit int
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.limit; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// last is the last line with a failure in it, else the last line.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.buf)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(lines[i], "buildkitd: ") || strings.HasPrefix(lines[i], "unshare: ") || strings.Contains(lines[i], "level=fatal") {
			return lines[i]
		}
	}
	return lines[len(lines)-1]
}
