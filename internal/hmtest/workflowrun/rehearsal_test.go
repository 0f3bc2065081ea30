package workflowrun_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/hmtest/workflowrun"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

const builder = "hallmark-dev/hallmark/.github/workflows/build.yml@refs/tags/v1"

// programs is the folder of hallmark, which is built once for all rehearsals.
var programs string

var hallmark = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programs, "hallmark")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", path, "../../../cmd/hallmark").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "hallmark-rehearsal-")
	if err != nil {
		panic(err)
	}
	programs = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// world is a repository at a server of ours, an authority that takes the tokens of its
// jobs, and the machine that the jobs run on.
type world struct {
	authority *hmtest.Running
	server    string // URL of the git server
	commit    string
	env       []string
	base      string // an image in the registry
	hallmark  string
	job       map[string]any // the context
}

// newWorld makes it. The job is one for the ref, started by the event.
func newWorld(t *testing.T, event, ref string) *world {
	t.Helper()
	w := &world{}
	repo := gitrepo.New(t, "sha1")
	repo.Write("Dockerfile", "ARG BASE\nFROM ${BASE}\nARG VERSION\nRUN echo \"made $VERSION ${EXTRA}\" > /made\n")
	repo.Write("tool/Dockerfile", "FROM scratch\nCOPY made /\n")
	repo.Write("tool/made", "made here\n")
	repo.Write("many/Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /what\n") // no steps: one processor makes all
	repo.Write("many/amd64", "one\n")
	repo.Write("many/arm64", "another\n")
	repo.Write("docker-bake.hcl", "variable \"BASE\" { default = \"scratch\" }\ntarget \"docker-metadata-action\" {}\n"+
		"target \"default\" {\n  inherits = [\"docker-metadata-action\"]\n  args = { BASE = BASE, VERSION = \"none\" }\n}\n")
	w.commit = repo.Commit("first")
	w.job = map[string]any{"workflow_repository": "hallmark-dev/hallmark", "workflow_sha": w.commit}
	repo.Git("tag", "v1.2.3")
	repo.Git("tag", "v1.0.0")
	repo.Git("update-ref", "refs/pull/7/merge", w.commit)
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "acme"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(repo.Dir, ".git"), filepath.Join(root, "acme", "app.git")); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env:  append(gitrepo.Env(), "GIT_PROJECT_ROOT="+root, "GIT_HTTP_EXPORT_ALL=1"),
	})
	t.Cleanup(server.Close)
	w.server = server.URL
	claims, err := json.Marshal(map[string]string{
		"sub": "repo:acme/app:ref:" + ref, "sha": w.commit, "ref": ref, "event_name": event, "repository": "acme/app", "repository_id": "1",
		"repository_owner": "acme", "repository_owner_id": "2", "repository_visibility": "public", "workflow": "release",
		"workflow_ref": "acme/app/.github/workflows/release.yml@" + ref, "workflow_sha": w.commit,
		"job_workflow_ref": builder, "job_workflow_sha": w.commit, "runner_environment": "github-hosted", "run_id": "3", "run_attempt": "1",
	})
	if err != nil {
		t.Fatal(err)
	}
	w.authority = hmtest.Start(t, authority.Config{Dir: filepath.Join(t.TempDir(), "data"), RehearseClaims: claims, RehearseServer: w.server})
	job, _ := w.authority.Authority.Rehearsal()
	w.machine(t, event, ref)
	w.env = append(w.env, "ACTIONS_ID_TOKEN_REQUEST_URL="+job.URL, "ACTIONS_ID_TOKEN_REQUEST_TOKEN="+job.Token)
	w.pushBase(t)
	return w
}

// machine is what GitHub's runner would have installed and set.
func (w *world) machine(t *testing.T, event, ref string) {
	t.Helper()
	bin := t.TempDir()
	w.hallmark = filepath.Join(bin, "hallmark")
	built, err := hallmark()
	if err == nil {
		err = os.Symlink(built, w.hallmark)
	}
	if err != nil {
		t.Fatal(err)
	}
	tools := t.TempDir()
	file := map[string]any{"version": 1}
	runc, err := exec.LookPath("runc")
	if err != nil { // of Debian's runc, without a root's PATH
		runc = "/usr/sbin/runc"
	}
	for name, path := range map[string]string{"buildkitd": hmtest.Tool(t, "buildkitd"), "runc": runc, "hallmark-bake": hmtest.Tool(t, "hallmark-bake")} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		file[name] = []map[string]string{{"version": "v0", "sha256": hex.EncodeToString(sum[:])}}
	}
	file["buildkitd"].([]map[string]string)[0]["version"] = "v0.33.1"
	text, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	event_ := filepath.Join(tools, "event.json")
	payload := `{"ref":"` + ref + `","number":7,"base_ref":null,"repository":{"name":"app","description":"An app","license":{"spdx_id":"MIT"},"default_branch":"main","private":false}}`
	for path, data := range map[string][]byte{filepath.Join(tools, "builder.json"): text, event_: []byte(payload)} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"buildkitd", "hallmark-bake"} {
		if err := os.Symlink(hmtest.Tool(t, name), filepath.Join(tools, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(hmtest.Tool(t, "cosign"), filepath.Join(bin, "cosign")); err != nil {
		t.Fatal(err)
	}
	w.env = []string{
		"PATH=" + bin + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + t.TempDir(), "LC_ALL=C", "TEST_TOOLS=" + tools,
		"GITHUB_SERVER_URL=" + w.server, "GITHUB_REPOSITORY=acme/app", "GITHUB_REF=" + ref, "GITHUB_SHA=" + w.commit, "GITHUB_EVENT_NAME=" + event, "GITHUB_EVENT_PATH=" + event_, "GITHUB_RUN_ATTEMPT=1",
		"HALLMARK_TRUSTED_ROOT=" + w.authority.TrustedRoot, "HALLMARK_SIGNING_CONFIG=" + w.authority.SigningConfig,
	}
}

func (w *world) pushBase(t *testing.T) {
	t.Helper()
	img, err := testimage.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	ref, err := registry.ParseRef(w.authority.Registry + "/base/busybox:1")
	if err != nil {
		t.Fatal(err)
	}
	d, err := testimage.Push(t.Context(), registry.NewClient(registry.Options{}), ref, img)
	if err != nil {
		t.Fatal(err)
	}
	w.base = ref.Name() + "@" + d.Digest.String()
}

// call runs one of our workflows. The folders of the machine's tools and builder file are the test's.
func (w *world) call(t *testing.T, name string, with map[string]any, uploads map[string]string) (*workflowrun.Result, error) {
	t.Helper()
	data, err := os.ReadFile("../../../.github/workflows/" + name)
	if err != nil {
		t.Fatal(err)
	}
	tools := ""
	for _, e := range w.env {
		if v, ok := strings.CutPrefix(e, "TEST_TOOLS="); ok {
			tools = v
		}
	}
	data = []byte(strings.NewReplacer("/usr/local/lib/hallmark", tools, "/etc/hallmark", tools).Replace(string(data)))
	nothing := func(map[string]string) (map[string]any, error) { return nil, nil }
	dir := t.TempDir()
	return workflowrun.Run(t.Context(), workflowrun.Call{
		Workflow: data, With: with, Dir: dir, Env: w.env,
		Contexts: map[string]any{"runner": map[string]any{"environment": "github-hosted", "os": "Linux"}, "job": w.job},
		Skip:     map[string]map[string]any{"builder": {"cosign-version": "v3.1.3"}, "hallmark": {}},
		Uses: map[string]func(map[string]string) (map[string]any, error){
			"actions/checkout": nothing, "actions/setup-go": nothing, "sigstore/cosign-installer": nothing,
			"actions/upload-artifact": func(with map[string]string) (map[string]any, error) {
				if _, there := uploads[with["name"]]; there {
					return nil, fmt.Errorf("an artifact %s is there", with["name"])
				}
				uploads[with["name"]] = with["path"]
				return map[string]any{"artifact-digest": "sha256:" + strings.Repeat("0", 64)}, nil
			},
			"actions/download-artifact": func(with map[string]string) (map[string]any, error) {
				return nil, download(with, uploads)
			},
		},
	})
}

// download is actions/download-artifact: one by its name, or all of a pattern into one folder.
func download(with, uploads map[string]string) error {
	if with["pattern"] == "" {
		return os.CopyFS(with["path"], os.DirFS(uploads[with["name"]]))
	}
	if with["merge-multiple"] != "true" {
		return errors.New("each would be in a folder of its own")
	}
	for name, path := range uploads {
		if ok, err := filepath.Match(with["pattern"], name); !ok || err != nil {
			continue
		}
		data, err := os.ReadFile(path)
		if err == nil {
			err = errors.Join(os.MkdirAll(with["path"], 0o755), os.WriteFile(filepath.Join(with["path"], filepath.Base(path)), data, 0o644))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// run is hallmark on the machine.
func (w *world) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(w.hallmark, args...)
	cmd.Env = w.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestRehearsalOfARelease: a pushed tag becomes an image with the tags of its version,
// signed as the workflow, which verify.yml and a consumer verify.
func TestRehearsalOfARelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "push", "refs/tags/v1.2.3")
	image := w.authority.Registry + "/acme/app"
	r, err := w.call(t, "build.yml", map[string]any{
		"output": "image", "push": true, "meta-images": image + "\nname=" + image + "-too", "set-meta-labels": true, "annotations": "team=x",
		"meta-tags": "type=semver,pattern={{version}}\ntype=semver,pattern={{major}}.{{minor}}\ntype=sha\n",
		// What a caller writes stays text: the shell runs none of it.
		"build-args": "BASE=" + w.base + "\nVERSION={{meta.version}}\nEXTRA=$(touch /hallmark-was-here) `id`; \" '",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/hallmark-was-here"); err == nil {
		t.Error("a build argument was run")
	}
	o := r.Outputs
	if o["signed"] != "true" || o["output-type"] != "image" || !strings.HasPrefix(o["digest"].(string), "sha256:") || o["cosign-version"] != "v3.1.3" {
		t.Errorf("%v\n%s", o, r.Log)
	}
	var meta struct {
		Tags   []string
		Labels map[string]string
	}
	if err := json.Unmarshal([]byte(o["meta-json"].(string)), &meta); err != nil {
		t.Fatal(err)
	}
	want := []string{image + ":1.2.3", image + ":1.2", image + ":sha-" + w.commit[:7], image + ":latest",
		image + "-too:1.2.3", image + "-too:1.2", image + "-too:sha-" + w.commit[:7], image + "-too:latest"}
	if d := cmp.Diff(want, meta.Tags); d != "" {
		t.Error(d)
	}
	if meta.Labels["org.opencontainers.image.description"] != "An app" || meta.Labels["org.opencontainers.image.revision"] != w.commit {
		t.Errorf("%v", meta.Labels)
	}
	for _, tag := range want {
		out, err := w.run(t, "verify", "--identity", w.server+"/"+builder, "--issuer", w.authority.URL, "--attestation", "slsaprovenance1", tag)
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	if n := strings.Count(o["verify-commands"].(string), "hallmark verify "); n != 2 {
		t.Errorf("%d commands: %s", n, o["verify-commands"])
	}
	verify := func(outputs map[string]any) (*workflowrun.Result, error) {
		data, err := json.Marshal(outputs)
		if err != nil {
			t.Fatal(err)
		}
		return w.call(t, "verify.yml", map[string]any{"builder-outputs": string(data)}, nil)
	}
	if v, err := verify(o); err != nil || !strings.Contains(v.Log, "Verified OK") && !strings.Contains(v.Log, "verified") {
		t.Errorf("%+v, %v", v, err)
	}
	for name, change := range map[string]map[string]any{
		"another command":   {"verify-commands": "touch /hallmark-was-here"},
		"a second command":  {"verify-commands": o["verify-commands"].(string) + "; touch /hallmark-was-here"},
		"in a substitution": {"verify-commands": "hallmark verify $(touch /hallmark-was-here)"},
		"another program":   {"verify-commands": "hallmark sign x", "cosign-verify-commands": ""},
		"another identity":  {"verify-commands": strings.ReplaceAll(o["verify-commands"].(string), "refs/tags/v1", "refs/tags/v2")},
		"none":              {"verify-commands": "", "cosign-verify-commands": ""},
		"not signed":        {"signed": "false"},
		"an open quote":     {"verify-commands": o["verify-commands"].(string) + "\n" + strings.Split(o["verify-commands"].(string), "\n")[0] + " '--policy x"},
		"artifact":          {"artifact-name": "../x"},
	} {
		changed := map[string]any{}
		for k, v := range o {
			changed[k] = v
		}
		for k, v := range change {
			changed[k] = v
		}
		if v, err := verify(changed); err == nil {
			t.Errorf("%s: passed\n%s", name, v.Log)
		}
		if _, err := os.Stat("/hallmark-was-here"); err == nil {
			t.Fatalf("%s: was run", name)
		}
	}
	// Near-misses of the call: refused before anything is built.
	for name, with := range map[string]map[string]any{
		"typo in a rule":  {"output": "image", "push": true, "meta-images": image, "meta-tags": "type=semvr,pattern={{version}}"},
		"unsigned":        {"output": "image", "push": true, "meta-images": image, "sign": "false"},
		"without image":   {"output": "image", "push": true},
		"frontend":        {"output": "image", "push": true, "meta-images": image, "build-args": "BUILDKIT_SYNTAX=x"},
		"another context": {"output": "image", "push": true, "meta-images": image, "context": "https://example.com/x.git"},
	} {
		if r, err := w.call(t, "build.yml", with, nil); err == nil {
			t.Errorf("%s: built\n%s", name, r.Log)
		}
	}
}

// TestRehearsalOfBake: bake.yml builds the target of the commit's bake file, with the tags
// and labels of the rules.
func TestRehearsalOfBake(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "push", "refs/tags/v1.2.3")
	image := w.authority.Registry + "/acme/app"
	r, err := w.call(t, "bake.yml", map[string]any{"output": "image", "push": true, "meta-images": image,
		"meta-tags": "type=semver,pattern={{version}}", "vars": "BASE=" + w.base, "set": "*.args.VERSION={{meta.version}}"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Outputs["signed"] != "true" || !strings.Contains(r.Outputs["meta-json"].(string), image+":1.2.3") {
		t.Errorf("%v\n%s", r.Outputs, r.Log)
	}
	data, err := json.Marshal(r.Outputs)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := w.call(t, "verify.yml", map[string]any{"builder-outputs": string(data)}, nil); err != nil {
		t.Errorf("%+v, %v", v, err)
	}
	if r, err := w.call(t, "bake.yml", map[string]any{"output": "image", "push": true, "meta-images": image, "target": "none"}, nil); err == nil {
		t.Errorf("a target that is not there was built\n%s", r.Log)
	}
}

// TestRehearsalOfFiles: output local makes files with their bundles, which verify.yml
// downloads and verifies.
func TestRehearsalOfFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "push", "refs/tags/v1.2.3")
	uploads := map[string]string{}
	r, err := w.call(t, "build.yml", map[string]any{"output": "local", "artifact-upload": true, "artifact-name": "files", "artifact-retention-days": 3,
		"context": "tool"}, uploads)
	if err != nil {
		t.Fatal(err)
	}
	if made, err := os.ReadFile(filepath.Join(uploads["files"], "made")); err != nil || string(made) != "made here\n" {
		t.Errorf("%q, %v", made, err)
	}
	if r.Outputs["artifact-name"] != "files" || r.Outputs["signed"] != "true" || r.Outputs["output-type"] != "local" {
		t.Errorf("%v\n%s", r.Outputs, r.Log)
	}
	data, err := json.Marshal(r.Outputs)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := w.call(t, "verify.yml", map[string]any{"builder-outputs": string(data)}, uploads); err != nil {
		t.Errorf("%+v, %v", v, err)
	}
	if err := os.WriteFile(filepath.Join(uploads["files"], "made"), []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	if v, err := w.call(t, "verify.yml", map[string]any{"builder-outputs": string(data)}, uploads); err == nil {
		t.Errorf("another file verified\n%s", v.Log)
	}
}

// TestRehearsalOfAnotherCommit: the job's identity is for one commit; a workflow that is
// told another ref is refused.
func TestRehearsalOfAnotherCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "push", "refs/tags/v1.2.3")
	for i, e := range w.env {
		if strings.HasPrefix(e, "GITHUB_REF=") {
			w.env[i] = "GITHUB_REF=refs/heads/main"
		}
	}
	_, err := w.call(t, "build.yml", map[string]any{"output": "image", "push": true, "meta-images": w.authority.Registry + "/acme/app", "build-args": "BASE=" + w.base}, nil)
	if err == nil || !strings.Contains(err.Error(), "::error::") {
		t.Errorf("%v", err)
	}
}

// TestRehearsalOfACache: what one run leaves, the next one of the same branch takes, each
// entry signed as the workflow.
func TestRehearsalOfACache(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "push", "refs/heads/main")
	image := w.authority.Registry + "/acme/app"
	policy := filepath.Join(t.TempDir(), "taken.rego")
	text := "package signature\n\ndefault allow := false\n\n" +
		`allow if input.predicate.buildDefinition.internalParameters["hallmark:trusted-build"].cache.ref == "refs/heads/main"` + "\n"
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, with := range map[string]map[string]any{
		"build.yml": {"build-args": "BASE=" + w.base},
		"bake.yml":  {"vars": "BASE=" + w.base},
	} {
		with["output"], with["push"], with["cache"], with["cache-mode"], with["meta-images"] = "image", true, true, "max", image
		with["meta-tags"] = "type=ref,event=branch"
		for _, takes := range []bool{false, true} {
			r, err := w.call(t, name, with, nil)
			if err != nil || r.Outputs["signed"] != "true" || strings.Contains(r.Log, "CACHE_") {
				t.Fatalf("%s: %+v, %v", name, r, err)
			}
			out, err := w.run(t, "verify", image+":main", "--attestation", "slsaprovenance1", "--policy", policy, "--issuer", w.authority.URL,
				"--identity", w.server+"/"+builder)
			if (err == nil) != takes || err != nil && !strings.Contains(out, "ATTESTATION_POLICY") {
				t.Errorf("%s: taken: %v\n%s", name, err, out)
			}
		}
	}
}
