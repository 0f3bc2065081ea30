package workflowrun_test

import (
	"strings"
	"testing"
)

// TestRehearsalWithoutABuilder: a runner that does not say which commit the workflow is of
// ends the job before checkout could take the caller's repository for the builder.
func TestRehearsalWithoutABuilder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "push", "refs/tags/v1.2.3")
	with := map[string]map[string]any{"build.yml": {"output": "local", "context": "tool"}, "bake.yml": {"output": "local"}, "verify.yml": {"builder-outputs": "{}"}}
	for name, job := range map[string]map[string]any{
		"nothing":        {},
		"no repository":  {"workflow_repository": "", "workflow_sha": w.commit},
		"no commit":      {"workflow_repository": "hallmark-dev/hallmark"},
		"a branch":       {"workflow_repository": "hallmark-dev/hallmark", "workflow_sha": "main"},
		"half a commit":  {"workflow_repository": "hallmark-dev/hallmark", "workflow_sha": w.commit[:20]},
		"no owner":       {"workflow_repository": "hallmark", "workflow_sha": w.commit},
		"a longer value": {"workflow_repository": "hallmark-dev/hallmark", "workflow_sha": w.commit + "\n"},
	} {
		w.job = job
		for file, with := range with {
			r, err := w.call(t, file, with, map[string]string{})
			if err == nil || !strings.Contains(err.Error(), "which commit this workflow is of") {
				t.Errorf("%s, %s: %+v, %v", file, name, r, err)
			}
		}
	}
}
