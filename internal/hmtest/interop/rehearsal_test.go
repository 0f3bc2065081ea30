package interop_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
)

// TestRehearsedWorkflow: stock cosign takes a rehearsed job for a GitHub Actions
// job; its identity carries our issuer.
func TestRehearsedWorkflow(t *testing.T) {
	t.Parallel()
	const workflow = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1"
	claims, err := json.Marshal(map[string]string{
		"sub":              "repo:acme/app:ref:refs/tags/v1",
		"job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/v1",
		"job_workflow_sha": "0123456789012345678901234567890123456789",
		"sha":              "0123456789012345678901234567890123456789",
		"ref":              "refs/tags/v1", "event_name": "push", "repository": "acme/app", "repository_id": "1",
		"repository_owner": "acme", "repository_owner_id": "2", "repository_visibility": "public", "workflow": "release",
		"workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/v1", "workflow_sha": "0123456789012345678901234567890123456789",
		"runner_environment": "github-hosted", "run_id": "3", "run_attempt": "1",
	})
	if err != nil {
		t.Fatal(err)
	}
	r := hmtest.Start(t, authority.Config{Dir: filepath.Join(t.TempDir(), "data"), RehearseClaims: claims})
	job, ok := r.Authority.Rehearsal()
	if !ok {
		t.Fatal("no rehearsal")
	}
	c := newCosign(t, r)
	c.env = append(c.env, "ACTIONS_ID_TOKEN_REQUEST_URL="+job.URL, "ACTIONS_ID_TOKEN_REQUEST_TOKEN="+job.Token)
	image := r.Image("acme/app", "release")
	c.must("sign", "--yes", image)
	c.must("verify", image, "--certificate-identity", workflow, "--certificate-oidc-issuer", r.URL,
		"--certificate-github-workflow-repository", "acme/app", "--certificate-github-workflow-trigger", "push",
		"--certificate-github-workflow-ref", "refs/tags/v1", "--certificate-github-workflow-name", "release")
	c.fails("expected issuer value", "verify", image, "--certificate-identity", workflow,
		"--certificate-oidc-issuer", "https://token.actions.githubusercontent.com")
}
