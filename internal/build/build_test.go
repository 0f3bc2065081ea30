package build_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	distribution "github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/daemon"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// world is one registry, one BuildKit and one base image for all tests here:
// starting a daemon for each would cost more than the tests.
type world struct {
	host string
	reg  *registry.Client
	kit  *client.Client
	base string
	stop []func()

	pushes sync.Map // paths of manifests that were pushed
}

var shared = sync.OnceValues(newWorld)

func newWorld() (*world, error) {
	w := &world{reg: registry.NewClient(registry.Options{})}
	dir, err := os.MkdirTemp("", "hallmark-build-test-")
	if err != nil {
		return nil, err
	}
	w.stop = append(w.stop, func() { os.RemoveAll(dir) })
	server, err := distribution.Open(dir, distribution.Config{})
	if err != nil {
		return w, err
	}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.pushes.Store(r.URL.Path, true)
		}
		server.ServeHTTP(rw, r)
	}))
	w.stop = append(w.stop, srv.Close)
	w.host = strings.TrimPrefix(srv.URL, "http://")
	img, err := testimage.Busybox()
	if err != nil {
		return w, err
	}
	ref, err := registry.ParseRef(w.host + "/base/busybox:1")
	if err != nil {
		return w, err
	}
	if _, err := testimage.Push(context.Background(), w.reg, ref, img); err != nil {
		return w, err
	}
	w.base = ref.String()
	tools := os.Getenv("HALLMARK_TOOLS")
	if home, err := os.UserHomeDir(); tools == "" && err == nil {
		tools = filepath.Join(home, ".cache/hallmark/tools/bin")
	}
	d, err := daemon.Start(context.Background(), daemon.Config{Tools: tools})
	if err != nil {
		return w, fmt.Errorf("%w (%s)", err, fault.HintOf(err))
	}
	w.stop = append(w.stop, func() { d.Stop() })
	w.kit, err = build.Connect(context.Background(), d.Address)
	return w, err
}

func TestMain(m *testing.M) {
	code := m.Run()
	if started.Load() {
		w, _ := shared()
		for _, f := range slices.Backward(w.stop) {
			f()
		}
	}
	os.Exit(code)
}

var started atomic.Bool // the world is there to be taken down

func theWorld(t *testing.T) *world {
	t.Helper()
	started.Store(true)
	w, err := shared()
	if err != nil {
		t.Fatalf("run make tools: %v", err)
	}
	return w
}

// source commits files and exports the commit, as the command does.
func source(t *testing.T, files map[string]string) (*gitrepo.Repo, build.Context) {
	t.Helper()
	repo := gitrepo.New(t, "sha1")
	for name, content := range files {
		repo.Write(name, content)
	}
	key := gitrepo.NewKey(t, "ed25519", 0)
	repo.SignTag(key, "v1.2.3", repo.Commit("all"))
	src, why, err := git.Open(context.Background(), git.Location{Path: repo.Dir}, "v1.2.3")
	if why != nil || err != nil {
		t.Fatal(why, err)
	}
	t.Cleanup(func() { src.Close() })
	dir := t.TempDir()
	if _, err := src.Export(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	return repo, build.Context{Dir: dir, Remote: src.Git.Remote, Ref: src.Git.Ref, Commit: src.Git.CommitChecksum, When: src.Commit.Committer.When}
}

func request(t *testing.T, w *world, name string, c build.Context) build.Request {
	t.Helper()
	ref, err := registry.ParseRef(w.host + "/" + name + ":v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	repo, err := w.reg.Open(context.Background(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return build.Request{Context: c, Image: ref, Repo: repo, Insecure: true, Options: build.Options{Args: map[string]string{"BASE": w.base}}}
}

func run(t *testing.T, w *world, r build.Request) *build.Result {
	t.Helper()
	res, d, err := build.Run(context.Background(), w.kit, r)
	if err != nil {
		var be *build.Error
		if errors.As(err, &be) {
			t.Fatalf("%v\n%s\n%s", err, be.Excerpt, be.Log)
		}
		t.Fatal(err)
	}
	if !d.Allowed {
		t.Fatalf("denied: %v", d.Reasons)
	}
	return res
}

// statement is the provenance of an image, from the registry.
func statement(t *testing.T, r build.Request, a ocispec.Descriptor) string {
	t.Helper()
	raw, err := r.Repo.Manifest(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	blob, err := r.Repo.Blob(context.Background(), m.Layers[0], 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(blob)
}

const twoStages = "ARG BASE\nFROM ${BASE} AS a\nRUN echo made > /made\nFROM ${BASE}\nCOPY --from=a /made /made\nCOPY hello /hello\n"

func TestBuild(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	_, c := source(t, map[string]string{"Dockerfile": twoStages, "hello": "hello\n", ".dockerignore": "junk\n"})
	r := request(t, w, "app/two", c)
	r.Options.Labels = map[string]string{"a": "b=c,d"}
	r.Options.BuilderID = "https://example.com/builder@v1"
	res := run(t, w, r)
	if len(res.Images) != 1 || len(res.Attestations) != 1 || res.Images[0].Platform.OS != "linux" || evidence.SHA256(res.IndexBytes) != evidence.Digest(res.Index.Digest) {
		t.Errorf("%+v", res)
	}
	got := statement(t, r, res.Attestations[0])
	for _, want := range []string{
		`"https://slsa.dev/provenance/v1"`, `"id":"https://example.com/builder@v1"`, c.Commit, `"` + c.Remote + `"`, `"llbDefinition"`, // mode=max
		"pkg:docker/", `"build-arg:BASE":"` + w.base + `"`, `"label:a":"b=c,d"`,
	} {
		if !strings.Contains(strings.ReplaceAll(got, `": "`, `":"`), want) {
			t.Errorf("the provenance does not say %s:\n%.2000s", want, got)
		}
	}
	if _, err := r.Repo.Resolve(context.Background(), r.Image); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("the tag exists before Tag: %v", err)
	}
	if err := r.Tag(context.Background(), res); err != nil {
		t.Fatal(err)
	}
	if d, err := r.Repo.Resolve(context.Background(), r.Image); err != nil || d.Digest != res.Index.Digest {
		t.Errorf("tag: %v %v", d, err)
	}
}

// Where no step writes the time down itself, a commit gives one image, bit for bit.
func TestReproducible(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	_, c := source(t, map[string]string{"Dockerfile": "ARG BASE\nFROM ${BASE}\nCOPY hello sub/ /x/\n", "hello": "same\n", "sub/a": "a\n"})
	r := request(t, w, "app/same", c)
	first := run(t, w, r)
	r.Options.NoCache = true
	if again := run(t, w, r); again.Images[0].Digest != first.Images[0].Digest {
		t.Errorf("built again: %s, first %s", again.Images[0].Digest, first.Images[0].Digest)
	}
}

// The whole of what the demo builds: RUN, ADD over HTTP, COPY --from.
func TestDemoApp(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	files := map[string]string{}
	root := filepath.Join("..", "..", "demo", "app")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(root, path)
		files[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	motd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "five > four, and it shows") }))
	t.Cleanup(motd.Close)
	_, c := source(t, files)
	r := request(t, w, "app/demo", c)
	r.Options.Args["MOTD_URL"] = motd.URL + "/motd.txt"
	res := run(t, w, r)
	if p := statement(t, r, res.Attestations[0]); !strings.Contains(p, motd.URL+"/motd.txt") {
		t.Error("the provenance does not name the file that was fetched")
	}
}

// gitServer serves a repository over HTTP, as git's own http-backend.
func gitServer(t *testing.T, repo *gitrepo.Repo) string {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + repo.Dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=/nonexistent"},
	})
	t.Cleanup(srv.Close)
	return srv.URL + "/.git"
}

// With a URL the source is a resolved dependency of the provenance, pinned to
// the commit even when the tag is moved meanwhile.
func TestGitContext(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	repo, c := source(t, map[string]string{"Dockerfile": twoStages, "hello": "first\n"})
	c.Dir, c.GitURL = "", gitServer(t, repo)
	c.Remote = c.GitURL
	repo.Write("hello", "second\n")
	repo.Git("tag", "-f", "-a", "-m", "moved", "v1.2.3", repo.Commit("second"))
	r := request(t, w, "app/git", c)
	res := run(t, w, r)
	p := strings.ReplaceAll(statement(t, r, res.Attestations[0]), `": `, `":`)
	if strings.Count(p, `"sha1":"`+c.Commit+`"`) < 2 || !strings.Contains(p, `"uri":"`+c.GitURL) || !strings.Contains(p, `"resolvedDependencies":true`) {
		t.Errorf("configSource and resolved dependency want commit %s:\n%.3000s", c.Commit, p)
	}
}

func TestBuildFailures(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	for _, c := range []struct {
		name, dockerfile     string
		options              func(*build.Options)
		say, excerpt, output string
	}{
		{"a step fails", "ARG BASE\nFROM ${BASE}\nRUN echo oh dear >&2 && exit 7\n", nil, "exit code: 7", ">>> RUN echo oh dear", "oh dear"},
		{"syntax", "FROM scratch\nNOSUCH x\n", nil, "unknown instruction: NOSUCH", ">>> NOSUCH x", ""},
		{"no such stage", "FROM scratch AS a\nCOPY Dockerfile /\n", func(o *build.Options) { o.Target = "b" }, `target stage "b" could not be found`, "", ""},
		{"no such base", "FROM " + w.host + "/no/such:1\n", nil, "not found", ">>> FROM", ""},
		{"no such file", "FROM scratch\nCOPY nothing /\n", nil, "nothing", ">>> COPY nothing", ""},
		{"no Dockerfile", "FROM scratch\n", func(o *build.Options) { o.File = "other" }, "other", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, context_ := source(t, map[string]string{"Dockerfile": c.dockerfile})
			r := request(t, w, "app/fails", context_)
			if c.options != nil {
				c.options(&r.Options)
			}
			_, _, err := build.Run(context.Background(), w.kit, r)
			var be *build.Error
			if !errors.As(err, &be) {
				t.Fatalf("%v is not a build error", err)
			}
			if !strings.Contains(err.Error(), c.say) || !strings.Contains(be.Excerpt, c.excerpt) || !strings.Contains(be.Log, c.output) {
				t.Errorf("error %v\nexcerpt %s\nlog %s", err, be.Excerpt, be.Log)
			}
			if fault.KindOf(err) != fault.Failure {
				t.Errorf("kind %v", fault.KindOf(err))
			}
		})
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	_, c := source(t, map[string]string{"Dockerfile": "ARG BASE\nFROM ${BASE}\nRUN sleep 60\n"})
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(time.Second, cancel)
	if _, _, err := build.Run(ctx, w.kit, request(t, w, "app/slow", c)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestPlainProgress(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	_, c := source(t, map[string]string{"Dockerfile": twoStages, "hello": "shown\n"})
	r := request(t, w, "app/shown", c)
	var out strings.Builder
	r.Progress = build.NewProgress(build.ProgressPlain, &out)
	run(t, w, r)
	if !strings.Contains(out.String(), "RUN echo made") {
		t.Errorf("progress:\n%s", out.String())
	}
}

// Events are lines of BuildKit's own kind, as those of docker buildx: its steps, what the
// policies decided of each source, and our own steps.
func TestEvents(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	for _, c := range []struct {
		name, rego string
		denied     bool
	}{
		{"allowed", allowAll, false},
		{"denied", `decision := {"allow": not_image, "deny_msg": ["no images\nat all"]}
default not_image := false
not_image if not input.image`, true},
	} {
		_, context_ := source(t, map[string]string{"Dockerfile": "ARG BASE\nFROM ${BASE}\nRUN echo of " + c.name + "\n"})
		for again := range 2 {
			r := judged(t, request(t, w, "app/events-"+c.name, context_), rules(t, "ops.rego", c.rego, ""))
			var out bytes.Buffer
			r.Progress = build.NewProgress(build.ProgressRawJSON, &out)
			_, d := try(t, w, r)
			if d.Allowed == c.denied {
				t.Fatalf("%s: %+v", c.name, d)
			}
			r.Progress.Step("[sign] it")(build.Ended(d, nil))
			said := map[string]client.Vertex{} // as it was last
			for line := range strings.Lines(out.String()) {
				var s client.SolveStatus
				dec := json.NewDecoder(strings.NewReader(line))
				dec.DisallowUnknownFields()
				if err := dec.Decode(&s); err != nil || dec.More() {
					t.Fatalf("%v: %s", err, line)
				}
				for _, v := range s.Vertexes {
					if v.Digest.Validate() != nil {
						t.Errorf("%s: digest %s", v.Name, v.Digest)
					}
					said[v.Name] = *v
				}
			}
			base, sign := said["[policy] docker-image://"+w.base], said["[sign] it"]
			for _, v := range []client.Vertex{base, sign} {
				if v.Started == nil || v.Completed == nil || (v.Error != "") != c.denied || c.denied && !strings.Contains(v.Error, "POLICY_DENIED no images at all") {
					t.Errorf("%s: %+v", c.name, v)
				}
			}
			step, ran := said["[2/2] RUN echo of "+c.name]
			if ran == c.denied || ran && (step.Completed == nil || step.Cached != (again == 1)) {
				t.Errorf("%s, %d: the step: %+v", c.name, again, step)
			}
		}
	}
	var none *build.Progress
	none.Step("nothing is shown")(nil)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	good := build.Options{File: "docker/Dockerfile", Platforms: []string{"linux/amd64", "linux/arm/v7", "linux/aarch64", "Linux/x86_64", "windows/amd64", "linux/riscv64", "wasi/wasm", "linux/s390x", "linux/386"}, Args: map[string]string{"A_1": "x=y"},
		Labels: map[string]string{"a.b/c": ""}, Target: "final", BuilderID: "https://example.com/b", Dir: "docker/app", ShmSize: "64m", Ulimits: []string{"nofile=1024:2048"},
		Annotations: map[string]string{"a.b": "", "index:a.b": "", "manifest,index:a": "", "org.example/a:b": ""},
		Contexts:    map[string]string{"base": "docker-image://example.com/base:1", "alpine:3": "https://example.com/a.git#v1"}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]build.Options{
		"file above":    {File: "../Dockerfile"},
		"absolute file": {File: "/etc/passwd"},
		"unclean file":  {File: "a/../b"},
		"platform":      {Platforms: []string{"linux"}},
		"two in one":    {Platforms: []string{"linux/amd64,linux/arm64"}},
		"empty part":    {Platforms: []string{"linux/"}},
		"no processor":  {Platforms: []string{"linux/amd46"}},
		"no system":     {Platforms: []string{"linx/amd64"}},
		"the other way": {Platforms: []string{"amd64/linux"}},
		"system twice":  {Platforms: []string{"linux/linux"}},
		"processor x2":  {Platforms: []string{"arm64/arm64"}},
		"empty arg":     {Args: map[string]string{"": "x"}},
		"arg with =":    {Args: map[string]string{"a=b": "x"}},
		"arg with :":    {Args: map[string]string{"a:b": "x"}},
		"syntax":        {Args: map[string]string{"BUILDKIT_SYNTAX": "evil/frontend"}},
		"label":         {Labels: map[string]string{"a b": ""}},
		"target":        {Target: "a b"},
		"builder id":    {BuilderID: "mine"},
		"folder above":  {Dir: ".."},
		"its parent":    {Dir: "a/../.."},
		"root":          {Dir: "."},
		"absolute dir":  {Dir: "/docker"},
		"ends in slash": {Dir: "docker/"},
		"windows path":  {Dir: `docker\\app`},
		"local context": {Contexts: map[string]string{"base": "../base"}},
		"oci layout":    {Contexts: map[string]string{"base": "oci-layout://base"}},
		"plain http":    {Contexts: map[string]string{"base": "http://example.com/base"}},
		"a login":       {Contexts: map[string]string{"base": "https://me:secret@example.com/base"}},
		"input":         {Contexts: map[string]string{"base": "input:base"}},
		"layout image":  {Contexts: map[string]string{"base": "docker-image://oci:base"}},
		"for platform":  {Contexts: map[string]string{"base::linux/arm64": "docker-image://base"}},
		"context name":  {Contexts: map[string]string{"a b": "docker-image://base"}},
		"no name":       {Contexts: map[string]string{"": "docker-image://base"}},
		"shm":           {ShmSize: "64 m"},
		"shm, negative": {ShmSize: "-1"},
		"ulimit":        {Ulimits: []string{"nofile"}},
		"two ulimits":   {Ulimits: []string{"nofile=1,nproc=2"}},
		"annotation":    {Annotations: map[string]string{"platform:a": ""}},
		"no annotation": {Annotations: map[string]string{"index:": ""}},
		"builder attrs": {BuilderID: "https://x/,mode=min"},
	} {
		if err := o.Check(); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v, want a usage error", name, err)
		}
	}
}

func TestConnect(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := "tcp://" + l.Addr().String()
	l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err = build.Connect(ctx, addr)
	if fault.KindOf(err) != fault.Unreachable || !strings.Contains(err.Error(), addr) {
		t.Errorf("%v", err)
	}
	_, err = build.Connect(ctx, "unix:///does/not/exist.sock")
	if fault.KindOf(err) != fault.Unreachable || !strings.Contains(err.Error(), "/does/not/exist.sock") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", "http://x", "/run/x.sock", "unix"} {
		if _, err := build.Connect(ctx, bad); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
