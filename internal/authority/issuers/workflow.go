package issuers

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/sigstore/fulcio/pkg/certificate"

	"github.com/hallmark-dev/hallmark/internal/idtoken"
)

// The jobs of CI systems whose claims Fulcio knew before it had templates.

// gitHub is a GitHub Actions job.
func (i Issuer) gitHub(t idtoken.Token, id *Identity) error {
	claims, err := texts(t, "job_workflow_ref", "job_workflow_sha", "sha", "ref", "event_name", "repository",
		"repository_id", "repository_owner", "repository_owner_id", "repository_visibility", "workflow",
		"workflow_ref", "workflow_sha", "runner_environment", "run_id", "run_attempt")
	if err != nil {
		return err
	}
	server := i.ServerURL
	if server == "" {
		server = "https://github.com"
	}
	base, err := url.Parse(server + "/")
	if err != nil {
		return fmt.Errorf("the issuer's server URL: %w", err)
	}
	if err := cleanPaths(claims, "job_workflow_ref", "workflow_ref", "repository", "repository_owner", "run_id", "run_attempt"); err != nil {
		return err
	}
	at := func(path ...string) string { return base.JoinPath(path...).String() }
	deployment, ok := t.Text("environment")
	if !ok {
		return errors.New(`claim "environment" is no string`)
	}
	id.URIs = []*url.URL{base.JoinPath(claims["job_workflow_ref"])}
	id.Extensions = certificate.Extensions{
		Issuer: t.Issuer, Subject: t.Subject,
		GithubWorkflowTrigger:               claims["event_name"],
		GithubWorkflowSHA:                   claims["sha"],
		GithubWorkflowName:                  claims["workflow"],
		GithubWorkflowRepository:            claims["repository"],
		GithubWorkflowRef:                   claims["ref"],
		BuildSignerURI:                      at(claims["job_workflow_ref"]),
		BuildSignerDigest:                   claims["job_workflow_sha"],
		RunnerEnvironment:                   claims["runner_environment"],
		SourceRepositoryURI:                 at(claims["repository"]),
		SourceRepositoryDigest:              claims["sha"],
		SourceRepositoryRef:                 claims["ref"],
		SourceRepositoryIdentifier:          claims["repository_id"],
		SourceRepositoryOwnerURI:            at(claims["repository_owner"]),
		SourceRepositoryOwnerIdentifier:     claims["repository_owner_id"],
		BuildConfigURI:                      at(claims["workflow_ref"]),
		BuildConfigDigest:                   claims["workflow_sha"],
		BuildTrigger:                        claims["event_name"],
		RunInvocationURI:                    at(claims["repository"], "actions/runs", claims["run_id"], "attempts", claims["run_attempt"]),
		SourceRepositoryVisibilityAtSigning: claims["repository_visibility"],
		DeploymentEnvironment:               deployment,
	}
	return nil
}

// gitLab is a job of gitlab.com.
func gitLab(t idtoken.Token, id *Identity) error {
	claims, err := texts(t, "project_path", "project_id", "pipeline_source", "pipeline_id", "ci_config_ref_uri",
		"namespace_path", "namespace_id", "job_id", "ref", "ref_type", "sha", "runner_environment")
	if err != nil {
		return err
	}
	for _, name := range []string{"ci_config_sha", "project_visibility"} {
		if claims[name], err = optional(t, name); err != nil {
			return err
		}
	}
	kinds := map[string]string{"branch": "refs/heads/", "tag": "refs/tags/"}
	prefix, known := kinds[claims["ref_type"]]
	if !known {
		return errors.New(`claim "ref_type" is neither branch nor tag`)
	}
	// gitlab.com/group/project//.gitlab-ci.yml@refs/heads/main
	config, err := plainURI("https://" + claims["ci_config_ref_uri"])
	if err != nil {
		return fmt.Errorf(`claim "ci_config_ref_uri": %w`, err)
	}
	if err := cleanPaths(claims, "project_path", "namespace_path", "job_id"); err != nil {
		return err
	}
	base := &url.URL{Scheme: "https", Host: "gitlab.com", Path: "/"}
	at := func(path ...string) string { return base.JoinPath(path...).String() }
	id.URIs = []*url.URL{config}
	id.Extensions = certificate.Extensions{
		Issuer: t.Issuer, Subject: t.Subject,
		BuildConfigURI:                      config.String(),
		BuildConfigDigest:                   claims["ci_config_sha"],
		BuildSignerURI:                      config.String(),
		BuildSignerDigest:                   claims["ci_config_sha"],
		RunnerEnvironment:                   claims["runner_environment"],
		SourceRepositoryURI:                 at(claims["project_path"]),
		SourceRepositoryDigest:              claims["sha"],
		SourceRepositoryRef:                 prefix + claims["ref"],
		SourceRepositoryIdentifier:          claims["project_id"],
		SourceRepositoryOwnerURI:            at(claims["namespace_path"]),
		SourceRepositoryOwnerIdentifier:     claims["namespace_id"],
		BuildTrigger:                        claims["pipeline_source"],
		RunInvocationURI:                    at(claims["project_path"], "/-/jobs/", claims["job_id"]),
		SourceRepositoryVisibilityAtSigning: claims["project_visibility"],
	}
	return nil
}

// buildkite is a pipeline of buildkite.com.
func buildkite(t idtoken.Token, id *Identity) error {
	claims, err := texts(t, "organization_slug", "pipeline_slug")
	if err != nil {
		return err
	}
	if err := cleanPaths(claims, "organization_slug", "pipeline_slug"); err != nil {
		return err
	}
	id.URIs = []*url.URL{{Scheme: "https", Host: "buildkite.com", Path: "/" + claims["organization_slug"] + "/" + claims["pipeline_slug"]}}
	return nil
}

// codefresh is a pipeline of Codefresh.
func codefresh(t idtoken.Token, id *Identity) error {
	claims, err := texts(t, "account_id", "account_name", "pipeline_id", "pipeline_name", "workflow_id")
	if err != nil {
		return err
	}
	for _, name := range []string{"platform_url", "runner_environment", "scm_repo_url", "scm_ref"} {
		if claims[name], err = optional(t, name); err != nil {
			return err
		}
	}
	if claims["platform_url"] == "" {
		claims["platform_url"] = "https://g.codefresh.io"
	}
	base, err := plainURI(claims["platform_url"])
	if err != nil {
		return fmt.Errorf(`claim "platform_url": %w`, err)
	}
	if err := cleanPaths(claims, "account_id", "account_name", "pipeline_id", "pipeline_name", "workflow_id"); err != nil {
		return err
	}
	at := func(path ...string) string { return base.JoinPath(path...).String() }
	id.URIs = []*url.URL{base.JoinPath(claims["account_name"], claims["pipeline_name"]+":"+claims["account_id"]+"/"+claims["pipeline_id"])}
	id.Extensions = certificate.Extensions{
		Issuer: t.Issuer, Subject: t.Subject,
		BuildSignerURI:      at("build", claims["workflow_id"]),
		RunnerEnvironment:   claims["runner_environment"],
		SourceRepositoryURI: claims["scm_repo_url"],
		SourceRepositoryRef: claims["scm_ref"],
		BuildConfigURI:      at("api", "pipelines", claims["pipeline_id"]),
		RunInvocationURI:    at("build", claims["workflow_id"]),
	}
	return nil
}
