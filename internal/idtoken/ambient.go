package idtoken

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
)

// GitHub Actions, "OpenID Connect reference": with the permission id-token: write
// a job is given a URL and a bearer token that fetch an identity token.
func (c *client) onGitHub() bool {
	return c.Env("ACTIONS_ID_TOKEN_REQUEST_URL") != "" && c.Env("ACTIONS_ID_TOKEN_REQUEST_TOKEN") != ""
}

func (c *client) github(ctx context.Context) (string, error) {
	const step = "GitHub Actions identity token"
	if !c.onGitHub() {
		return "", fault.Hint(fault.Usagef("%s: ACTIONS_ID_TOKEN_REQUEST_URL or ACTIONS_ID_TOKEN_REQUEST_TOKEN is not set", step),
			`give the job the permission "id-token: write"`)
	}
	u, err := url.Parse(c.Env("ACTIONS_ID_TOKEN_REQUEST_URL"))
	if err != nil {
		return "", fault.Usagef("%s: ACTIONS_ID_TOKEN_REQUEST_URL is not a URL", step)
	}
	if err := loopback.CheckURL(step, u.Scheme+"://"+u.Host, c.PlainHTTP); err != nil {
		return "", err
	}
	query := u.Query()
	query.Set("audience", c.ClientID)
	u.RawQuery = query.Encode()
	_, body, err := c.get(ctx, step, u.String(),
		http.Header{"Authorization": {"Bearer " + c.Env("ACTIONS_ID_TOKEN_REQUEST_TOKEN")}})
	if err != nil {
		return "", err
	}
	var answer struct {
		Value string `json:"value"`
	}
	err = decode(step, body, &answer)
	return present(step, answer.Value, err)
}

// present is the token of an answer that could be read and has one.
func present(step, token string, err error) (string, error) {
	if err == nil && token == "" {
		err = fmt.Errorf("%s: the answer has no token", step)
	}
	return token, err
}

// Buildkite's agent API gives a job its token: POST jobs/ID/oidc/tokens with the
// agent's access token, as "buildkite-agent oidc request-token" does.
func (c *client) onBuildkite() bool { return c.Env("BUILDKITE_AGENT_ACCESS_TOKEN") != "" }

func (c *client) buildkite(ctx context.Context) (string, error) {
	const step = "Buildkite identity token"
	token, job := c.Env("BUILDKITE_AGENT_ACCESS_TOKEN"), c.Env("BUILDKITE_JOB_ID")
	if token == "" || job == "" {
		return "", fault.Usagef("%s: BUILDKITE_AGENT_ACCESS_TOKEN or BUILDKITE_JOB_ID is not set", step)
	}
	endpoint := c.Env("BUILDKITE_AGENT_ENDPOINT")
	if endpoint == "" {
		endpoint = "https://agent.buildkite.com/v3"
	}
	if err := loopback.CheckURL(step, endpoint, c.PlainHTTP); err != nil {
		return "", err
	}
	req, err := http.NewRequest(http.MethodPost,
		strings.TrimSuffix(endpoint, "/")+"/jobs/"+url.PathEscape(job)+"/oidc/tokens",
		strings.NewReader(fmt.Sprintf(`{"audience":%q}`, c.ClientID)))
	if err != nil {
		return "", fault.Usagef("%s: BUILDKITE_AGENT_ENDPOINT is not a URL", step)
	}
	req.Header.Set("Authorization", "Token "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, body, err := c.call(ctx, step, req)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("%s: %s answered %s", step, req.URL.Host, http.StatusText(resp.StatusCode))
	}
	var answer struct {
		Token string `json:"token"`
	}
	err = decode(step, body, &answer)
	return present(step, answer.Token, err)
}

// Google Cloud, "Get an ID token from the metadata server". The metadata server
// speaks plain HTTP on a link-local address by design. On machines without the
// firmware name (Cloud Run) GCE_METADATA_HOST or the provider's name selects it.
func (c *client) onGoogle() bool {
	if c.Env("GCE_METADATA_HOST") != "" {
		return true
	}
	name, err := os.ReadFile("/sys/class/dmi/id/product_name")
	product := strings.TrimSpace(string(name))
	return err == nil && (product == "Google" || product == "Google Compute Engine")
}

func (c *client) google(ctx context.Context) (string, error) {
	const step = "Google metadata identity token"
	if err := c.alone(step); err != nil {
		return "", err
	}
	host := c.Env("GCE_METADATA_HOST")
	if host == "" {
		host = "metadata.google.internal"
	}
	if strings.ContainsAny(host, "/?#@") {
		return "", fault.Usagef("%s: GCE_METADATA_HOST is not a host name", step)
	}
	// format=full is what adds the e-mail address.
	header, body, err := c.get(ctx, step, "http://"+host+
		"/computeMetadata/v1/instance/service-accounts/default/identity?audience="+url.QueryEscape(c.ClientID)+"&format=full",
		http.Header{"Metadata-Flavor": {"Google"}})
	if err != nil {
		return "", err
	}
	if header.Get("Metadata-Flavor") != "Google" {
		return "", fmt.Errorf("%s: %s is not a Google metadata server", step, host)
	}
	return string(body), nil
}
