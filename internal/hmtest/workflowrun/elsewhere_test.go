package workflowrun_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// token is an identity token of the job, for systems that hand one over in a variable.
func (w *world) token(t *testing.T) string {
	t.Helper()
	job, _ := w.authority.Authority.Rehearsal()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, job.URL+"&audience=sigstore", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+job.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Value string }
	if err := json.Unmarshal(data, &answer); err != nil || answer.Value == "" {
		t.Fatalf("%v: %s", err, data)
	}
	return answer.Value
}

// without is the machine of another CI system: GitHub's variables are gone.
func (w *world) without(t *testing.T, more ...string) []string {
	t.Helper()
	var env []string
	for _, e := range w.env {
		if !strings.HasPrefix(e, "GITHUB_") && !strings.HasPrefix(e, "ACTIONS_") {
			env = append(env, strings.Replace(e, "TEST_TOOLS=", "HALLMARK_TOOLS=", 1))
		}
	}
	return append(append(env, "SIGSTORE_ID_TOKEN="+w.token(t)), more...)
}

func bash(t *testing.T, script, dir string, env []string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-eo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// component is the job of our GitLab component with its inputs filled in, as GitLab does
// before anything runs.
func component(t *testing.T, inputs map[string]string) (script string, env []string) {
	t.Helper()
	data, err := os.ReadFile("../../../templates/trusted-build.yml")
	if err != nil {
		t.Fatal(err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var head struct {
		Spec struct {
			Inputs map[string]struct {
				Default     any
				Description string
				Type        string
				Options     []string
			}
		}
	}
	var jobs map[string]struct {
		Script       []string
		Variables    map[string]any
		Dependencies string
		IDTokens     map[string]struct{ Aud string } `yaml:"id_tokens"`
	}
	if err := dec.Decode(&head); err != nil {
		t.Fatal(err)
	}
	if err := dec.Decode(&jobs); err != nil {
		t.Fatal(err)
	}
	job := jobs["$[[ inputs.job ]]"]
	if job.IDTokens["SIGSTORE_ID_TOKEN"].Aud != "sigstore" {
		t.Error("the token is not one for Sigstore")
	}
	if job.Dependencies != "$[[ inputs.parts ]]" {
		t.Error("the job gets what other jobs made")
	}
	fill := func(text string) string {
		return regexp.MustCompile(`\$\[\[ inputs\.([a-z-]+) \]\]`).ReplaceAllStringFunc(text, func(m string) string {
			name := m[len("$[[ inputs.") : len(m)-len(" ]]")]
			in, ok := head.Spec.Inputs[name]
			if !ok {
				t.Errorf("no input %s", name)
			}
			if v, given := inputs[name]; given {
				return v
			}
			v, _ := json.Marshal(in.Default)
			return strings.Trim(string(v), `"`)
		})
	}
	for name, v := range job.Variables {
		switch v := v.(type) {
		case string:
			env = append(env, name+"="+v)
		case map[string]any:
			if v["expand"] != false {
				t.Errorf("%s: GitLab would expand what a caller writes", name)
			}
			env = append(env, name+"="+fill(v["value"].(string)))
		}
	}
	// The machine's builder file is the test's.
	script = strings.ReplaceAll(strings.Join(job.Script, "\n"), "/etc/hallmark/", `"$HALLMARK_TOOLS"/`)
	if strings.Contains(script, "$[[") {
		t.Error("an input is put into the script")
	}
	return script, env
}

func TestRehearsalOfTheGitLabComponent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "push", "refs/tags/v1.2.3")
	image := w.authority.Registry + "/acme/app"
	script, variables := component(t, map[string]string{"images": image, "tags": "type=semver,pattern={{version}}",
		"build-args": "BASE=" + w.base + "\nVERSION=$(touch /hallmark-was-here)"})
	env := w.without(t, append(variables, "CI_COMMIT_SHA="+w.commit, "CI_PROJECT_URL="+w.server+"/acme/app", "CI_COMMIT_TAG=v1.2.3", "CI_COMMIT_BRANCH=", "CI_PIPELINE_SOURCE=push", "CI_DEFAULT_BRANCH=main")...)
	dir := t.TempDir()
	out, err := bash(t, script, dir, env)
	if err != nil || !strings.Contains(out, "hallmark verify --identity ") {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := w.run(t, "verify", "--identity", w.server+"/"+builder, "--issuer", w.authority.URL, image+":1.2.3"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat("/hallmark-was-here"); err == nil {
		t.Error("a build argument was run")
	}
	// Near-misses: the event of another pipeline, and a typo.
	if out, err := bash(t, script, t.TempDir(), append(env, "CI_PIPELINE_SOURCE=schedule")); err == nil || !strings.Contains(out, "CLAIMS_MISMATCH") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := bash(t, script, t.TempDir(), append(env, "IN_TAGS=type=semvr")); err == nil || !strings.Contains(out, "did you mean semver?") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestRehearsalOfPartsInGitLab: jobs of their own build the platforms, and a later one merges
// what their artifacts have.
func TestRehearsalOfPartsInGitLab(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "push", "refs/tags/v1.2.3")
	image := w.authority.Registry + "/acme/app"
	dir := t.TempDir()
	job := func(more ...string) (string, error) {
		inputs := map[string]string{"images": image, "tags": "type=semver,pattern={{version}}", "context": "many", "platforms": "linux/amd64,linux/arm64"}
		for i := 0; i < len(more); i += 2 {
			inputs[more[i]] = more[i+1]
		}
		script, variables := component(t, inputs)
		return bash(t, script, dir, w.without(t, append(variables, "CI_COMMIT_SHA="+w.commit, "CI_PROJECT_URL="+w.server+"/acme/app", "CI_COMMIT_TAG=v1.2.3", "CI_PIPELINE_SOURCE=push", "CI_PIPELINE_ID=70")...))
	}
	// The folder is that of earlier jobs: of another pipeline, and of this one, where a job is run again.
	for _, left := range []string{"parts/69/linux-386.json", "parts/70/linux-amd64.json"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, left)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, left), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		if out, err := job("part", platform); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if out, err := job("merge", "true", "platforms", "linux/amd64,linux/386"); err == nil || !strings.Contains(out, "PART_PLATFORM") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := job("merge", "true"); err != nil || !strings.Contains(out, "hallmark verify --identity ") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := w.run(t, "verify", "--identity", w.server+"/"+builder, "--issuer", w.authority.URL, "--platform", "linux/arm64", image+":1.2.3"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestRehearsalOfFilesInGitLab: they are signed, and lie where the job's artifacts are taken from.
func TestRehearsalOfFilesInGitLab(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "push", "refs/tags/v1.2.3")
	script, variables := component(t, map[string]string{"output": "local", "context": "tool"})
	dir := t.TempDir()
	var out string
	var err error
	for range 2 { // again where an earlier job left its files
		if out, err = bash(t, script, dir, w.without(t, append(variables, "CI_COMMIT_SHA="+w.commit, "CI_PROJECT_URL="+w.server+"/acme/app", "CI_COMMIT_TAG=v1.2.3", "CI_PIPELINE_SOURCE=push")...)); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "files", "made.sigstore.json")); err != nil {
		t.Error(err)
	}
}

// TestRehearsalOfAMergeRequest: its pipeline has no branch; the source branch is built, as
// long as that is the commit of the pipeline.
func TestRehearsalOfAMergeRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "merge_request_event", "refs/heads/main")
	script, variables := component(t, map[string]string{"images": w.authority.Registry + "/acme/app", "push": "false", "build-args": "BASE=" + w.base})
	env := w.without(t, append(variables, "CI_COMMIT_SHA="+w.commit, "CI_PROJECT_URL="+w.server+"/acme/app", "CI_PIPELINE_SOURCE=merge_request_event",
		"CI_DEFAULT_BRANCH=main", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME=main")...)
	dir := t.TempDir()
	out, err := bash(t, script, dir, env)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if answer, err := os.ReadFile(filepath.Join(dir, "answer.json")); err != nil || !bytes.Contains(answer, []byte(w.authority.Registry+"/acme/app:main")) {
		t.Errorf("%v\n%s", err, answer)
	}
	// Near-misses: merged results, whose commit is on no branch, and a pipeline of neither.
	if out, err := bash(t, script, t.TempDir(), append(env, "CI_COMMIT_SHA="+strings.Repeat("1", 40))); err == nil || !strings.Contains(out, "not our ref 111") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := bash(t, script, t.TempDir(), append(env, "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME=")); err == nil {
		t.Errorf("%s", out)
	}
}

// TestRecipeForAPlainShell runs the block of docs/github.md.
func TestRecipeForAPlainShell(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../../docs/github.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(doc), "## A plain shell")
	m := regexp.MustCompile("(?s)```bash\n(.*?)```").FindStringSubmatch(text)
	if m == nil {
		t.Fatal("no recipe")
	}
	w := newWorld(t, "push", "refs/tags/v1.0.0")
	script := strings.NewReplacer("https://git.example.com/app", w.server+"/acme/app", "registry.example.com/app", w.authority.Registry+"/acme/app",
		`"push": true`, `"push": true, "build-args": "BASE=`+w.base+`"`).Replace(m[1])
	dir := t.TempDir()
	env := w.without(t, "GITHUB_EVENT_NAME=push")
	if out, err := bash(t, `cp "$HALLMARK_TOOLS/builder.json" .`, dir, env); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := bash(t, script, dir, env)
	if err != nil || !strings.Contains(out, "hallmark verify --identity ") {
		t.Fatalf("%v\n%s", err, out)
	}
	answer, err := os.ReadFile(filepath.Join(dir, "answer.json"))
	if err != nil || !bytes.Contains(answer, []byte(w.authority.Registry+"/acme/app:1.0.0")) {
		t.Errorf("%v\n%s", err, answer)
	}
}
