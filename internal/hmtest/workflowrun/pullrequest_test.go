package workflowrun_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fork takes the identity token away: a job for a fork's pull request has none.
func (w *world) fork() {
	var env []string
	for _, e := range w.env {
		if !strings.HasPrefix(e, "ACTIONS_ID_TOKEN_") {
			env = append(env, e)
		}
	}
	w.env = env
}

// TestRehearsalOfAPullRequest: it is built, and nothing is pushed, signed or kept, also
// where the job has no identity.
func TestRehearsalOfAPullRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "pull_request", "refs/pull/7/merge")
	w.fork()
	image := w.authority.Registry + "/acme/app"
	r, err := w.call(t, "build.yml", map[string]any{"output": "image", "push": false, "meta-images": image, "build-args": "BASE=" + w.base}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Outputs["signed"] != "false" || r.Outputs["digest"] != "" || !strings.Contains(r.Outputs["meta-json"].(string), image+":pr-7") {
		t.Errorf("%v\n%s", r.Outputs, r.Log)
	}
	if out, err := w.run(t, "show", image+":pr-7"); err == nil {
		t.Errorf("it was pushed: %s", out)
	}
	for name, call := range map[string]map[string]any{
		"build.yml": {"output": "local", "context": "tool"},
		"bake.yml":  {"output": "local", "set": "default.args.BASE=" + w.base, "sign": "false"},
	} {
		uploads := map[string]string{}
		r, err := w.call(t, name, call, uploads)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.Outputs["signed"] != "false" || r.Outputs["output-type"] != "local" || len(uploads) > 0 || !strings.Contains(r.Log, "are built and not kept") {
			t.Errorf("%s: %v, %v\n%s", name, r.Outputs, uploads, r.Log)
		}
	}
	// Near-misses: what is kept is signed, and what does not build fails.
	for name, call := range map[string]map[string]any{
		"kept":   {"output": "local", "context": "tool", "artifact-upload": true},
		"signed": {"output": "local", "context": "tool", "sign": "true"},
		"broken": {"output": "local", "context": "tool", "target": "none"},
	} {
		if r, err := w.call(t, "build.yml", call, map[string]string{}); err == nil {
			t.Errorf("%s: passed\n%s", name, r.Log)
		}
	}
}

// TestRehearsalOfAPullRequestTarget: the commit is the branch's, and the tag is not.
func TestRehearsalOfAPullRequestTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "pull_request_target", "refs/heads/main")
	image := w.authority.Registry + "/acme/app"
	call := map[string]any{"output": "image", "push": false, "meta-images": image, "build-args": "BASE=" + w.base,
		"meta-tags": "type=edge\ntype=ref,event=branch\ntype=ref,event=pr"}
	r, err := w.call(t, "build.yml", call, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.Outputs["meta-json"].(string), `"tags":["`+image+`:pr-7"]`) {
		t.Errorf("%v\n%s", r.Outputs, r.Log)
	}
	for _, e := range w.env {
		if path, ok := strings.CutPrefix(e, "GITHUB_EVENT_PATH="); ok {
			if err := os.WriteFile(filepath.Clean(path), []byte("{}"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if r, err := w.call(t, "build.yml", call, nil); err == nil {
		t.Errorf("built without the number of the pull request\n%s", r.Log)
	}
}
