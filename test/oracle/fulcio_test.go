package oracle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sigstore/fulcio/pkg/config"
	"github.com/sigstore/fulcio/pkg/server"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
)

// tokenIssuer is an OIDC issuer that both CAs are configured with.
type tokenIssuer struct {
	*httptest.Server
	key *ecdsa.PrivateKey
}

func newTokenIssuer(t *testing.T) *tokenIssuer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &tokenIssuer{key: k}
	b64 := base64.RawURLEncoding.EncodeToString
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
			issuer := i.URL + strings.TrimSuffix(r.URL.Path, "/.well-known/openid-configuration")
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": issuer, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL,
				"token_endpoint": i.URL, "id_token_signing_alg_values_supported": []string{"ES256"}})
			return
		}
		raw, _ := k.PublicKey.Bytes()
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "use": "sig", "kid": "1", "x": b64(raw[1:33]), "y": b64(raw[33:])}}})
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *tokenIssuer) token(t *testing.T, issuer string, claims map[string]any) string {
	t.Helper()
	now := time.Now().Unix()
	c := map[string]any{"iss": issuer, "sub": "x", "aud": "sigstore", "iat": now, "exp": now + 300}
	maps.Copy(c, claims)
	body, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	input := b64([]byte(`{"alg":"ES256","kid":"1"}`)) + "." + b64(body)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// fulcioTemplates are Fulcio's own of GitHub and GitLab in form, with the issuer's
// claims in every way that a template can take them.
const fulcioTemplates = `
ci-issuer-metadata:
  github-workflow:
    default-template-values: {url: "https://github.com", environment: ""}
    extension-templates:
      github-workflow-trigger: "event_name"
      github-workflow-sha: "sha"
      github-workflow-name: "workflow"
      build-signer-uri: "{{ .url }}/{{ .job_workflow_ref }}"
      build-signer-digest: "job_workflow_sha"
      source-repository-uri: "{{ .url }}/{{ .repository }}"
      run-invocation-uri: "{{ .url }}/{{ .repository }}/actions/runs/{{ .run_id }}/attempts/{{ .run_attempt }}"
      deployment-environment: "environment"
    subject-alternative-name-template: "{{ .url }}/{{ .job_workflow_ref }}"
  gitlab-pipeline:
    default-template-values: {url: "https://gitlab.com", environment: ""}
    extension-templates:
      build-signer-uri: "https://{{ .ci_config_ref_uri }}"
      source-repository-ref: refs/{{if eq .ref_type "branch"}}heads/{{ else }}tags/{{end}}{{ .ref }}
      source-repository-identifier: "project_id"
      runner-environment: '{{if eq (index . "example.com/rerun") "true"}}rerun{{ else }}first{{end}}'
      deployment-environment: "environment"
    subject-alternative-name-template: "https://{{ .ci_config_ref_uri }}"
`

// TestFulcioIdentities: of each token of each type of issuer Fulcio and our CA make the
// same names, extensions and proof, or we refuse where Fulcio does not, with a reason
// that is written here.
func TestFulcioIdentities(t *testing.T) {
	t.Parallel()
	iss := newTokenIssuer(t)
	gitHub := map[string]any{"sub": "repo:acme/app:ref:refs/heads/main", "job_workflow_ref": "acme/ci/.github/workflows/build.yml@refs/heads/main",
		"job_workflow_sha": "jobsha", "sha": "sha", "ref": "refs/heads/main", "event_name": "push", "repository": "acme/app", "repository_id": "1",
		"repository_owner": "acme", "repository_owner_id": "2", "repository_visibility": "public", "workflow": "Release it",
		"workflow_ref": "acme/app/.github/workflows/release.yml@refs/heads/main", "workflow_sha": "wsha", "runner_environment": "github-hosted", "run_id": "3", "run_attempt": "4"}
	gitLab := map[string]any{"sub": "project_path:acme/app:ref_type:branch:ref:main", "project_path": "acme/app", "project_id": "20", "pipeline_source": "push",
		"pipeline_id": "30", "ci_config_ref_uri": "gitlab.com/acme/app//.gitlab-ci.yml@refs/heads/main", "ci_config_sha": "cfgsha", "namespace_path": "acme",
		"namespace_id": "5", "job_id": "40", "ref": "main", "ref_type": "branch", "sha": "sha", "runner_environment": "gitlab-hosted", "runner_id": 7,
		"project_visibility": "private"}
	codefresh := map[string]any{"sub": "account:1:pipeline:2", "account_id": "1", "account_name": "acme", "pipeline_id": "2", "pipeline_name": "app/build",
		"workflow_id": "3", "scm_repo_url": "https://github.com/acme/app", "scm_ref": "main", "runner_environment": "hybrid"}
	kubernetes := map[string]any{"sub": "system:serviceaccount:team-a:builder",
		"kubernetes.io": map[string]any{"namespace": "team-a", "serviceaccount": map[string]any{"name": "builder", "uid": "u"}, "pod": map[string]any{"name": "p", "uid": "u"}}}
	with := func(base map[string]any, more ...any) map[string]any {
		c := maps.Clone(base)
		for n := 0; n < len(more); n += 2 {
			c[more[n].(string)] = more[n+1]
		}
		return c
	}
	mail := map[string]any{"email": "alice@example.com", "email_verified": true}
	spiffe := "type: spiffe, spiffe-trust-domain: example.org"
	uri := "type: uri, subject-domain: \"http://127.0.0.1\""
	user := "type: username, subject-domain: \"127.0.0.1\""
	for name, tc := range map[string]struct {
		members  string
		claims   map[string]any
		stricter string // why we refuse what Fulcio takes
	}{
		"email":                       {"type: email", mail, ""},
		"email verified as a string":  {"type: email", with(mail, "email_verified", "true"), ""},
		"email unverified":            {"type: email", with(mail, "email_verified", false), ""},
		"email not said":              {"type: email", map[string]any{"email": "alice@example.com"}, ""},
		"email skipped":               {"type: email, skip-email-verification: true", map[string]any{"email": "alice@example.com"}, ""},
		"email no address":            {"type: email", with(mail, "email", "alice"), ""},
		"email of another issuer":     {"type: email, issuer-claim: $.federated_claims.connector_id", with(mail, "federated_claims", map[string]any{"connector_id": "https://github.com/login/oauth"}), ""},
		"email of no other issuer":    {"type: email, issuer-claim: $.federated_claims.connector_id", mail, ""},
		"spiffe":                      {spiffe, map[string]any{"sub": "spiffe://example.org/ns/a/sa/b"}, ""},
		"spiffe without a path":       {spiffe, map[string]any{"sub": "spiffe://example.org"}, ""},
		"spiffe elsewhere":            {spiffe, map[string]any{"sub": "spiffe://example.net/a"}, ""},
		"spiffe climbs":               {spiffe, map[string]any{"sub": "spiffe://example.org/a/../b"}, ""},
		"spiffe slash":                {spiffe, map[string]any{"sub": "spiffe://example.org/a/"}, ""},
		"spiffe upper case":           {spiffe, map[string]any{"sub": "spiffe://Example.org/a"}, ""},
		"spiffe port":                 {spiffe, map[string]any{"sub": "spiffe://example.org:80/a"}, ""},
		"spiffe query":                {spiffe, map[string]any{"sub": "spiffe://example.org/a?b"}, ""},
		"spiffe escape":               {spiffe, map[string]any{"sub": "spiffe://example.org/%61"}, ""},
		"uri":                         {uri, map[string]any{"sub": "http://127.0.0.1/u/1"}, ""},
		"uri elsewhere":               {uri, map[string]any{"sub": "http://127.0.0.2/u/1"}, ""},
		"uri of another scheme":       {uri, map[string]any{"sub": "https://127.0.0.1/u/1"}, ""},
		"uri with a user":             {uri, map[string]any{"sub": "http://u@127.0.0.1/1"}, "a user in a URI is taken for a host by people"},
		"username":                    {user, map[string]any{"sub": "alice"}, ""},
		"username of another":         {user, map[string]any{"sub": "alice!evil.example"}, ""},
		"username an address":         {user, map[string]any{"sub": "alice@example.com"}, ""},
		"kubernetes":                  {"type: kubernetes", kubernetes, ""},
		"kubernetes without claim":    {"type: kubernetes", map[string]any{"sub": "system:serviceaccount:a:b"}, "Fulcio names a service account without a name"},
		"kubernetes another subject":  {"type: kubernetes", with(kubernetes, "sub", "other"), "the certificate's name must be the subject's"},
		"buildkite":                   {"type: buildkite-job", map[string]any{"sub": "o:p", "organization_slug": "acme", "pipeline_slug": "app"}, ""},
		"buildkite without pipeline":  {"type: buildkite-job", map[string]any{"sub": "o:p", "organization_slug": "acme"}, ""},
		"buildkite climbs":            {"type: buildkite-job", map[string]any{"sub": "o:p", "organization_slug": "acme", "pipeline_slug": "../x"}, "a name that climbs up is another's"},
		"chainguard":                  {"type: chainguard-identity", map[string]any{"sub": "abc/def"}, ""},
		"chainguard person":           {"type: chainguard-identity", with(mail, "sub", "abc"), ""},
		"chainguard unverified":       {"type: chainguard-identity", with(mail, "email_verified", false), ""},
		"codefresh":                   {"type: codefresh-workflow", codefresh, ""},
		"codefresh platform":          {"type: codefresh-workflow", with(codefresh, "platform_url", "https://cf.example.com"), ""},
		"codefresh without account":   {"type: codefresh-workflow", with(codefresh, "account_id", ""), ""},
		"codefresh without a name":    {"type: codefresh-workflow", with(codefresh, "account_name", ""), "a part of the name is missing"},
		"github":                      {"type: github-workflow", gitHub, ""},
		"github without sha":          {"type: github-workflow", with(gitHub, "sha", ""), ""},
		"github branch with a number": {"type: github-workflow", with(gitHub, "job_workflow_ref", "acme/ci/.github/workflows/build.yml@refs/heads/a#1"), ""},
		"gitlab":                      {"type: gitlab-pipeline", gitLab, ""},
		"gitlab tag":                  {"type: gitlab-pipeline", with(gitLab, "ref_type", "tag", "ref", "v1"), ""},
		"gitlab null":                 {"type: gitlab-pipeline", with(gitLab, "ci_config_sha", nil), ""},
		"gitlab another kind of ref":  {"type: gitlab-pipeline", with(gitLab, "ref_type", "x"), ""},
		"github by templates":         {"type: ci-provider, ci-provider: github-workflow", gitHub, ""},
		"github templates prod":       {"type: ci-provider, ci-provider: github-workflow", with(gitHub, "environment", "prod"), ""},
		"github templates umlaut":     {"type: ci-provider, ci-provider: github-workflow", with(gitHub, "job_workflow_ref", "acme/ci/.github/workflows/build.yml@refs/heads/grün"), ""},
		"github templates no run":     {"type: ci-provider, ci-provider: github-workflow", with(gitHub, "run_id", map[string]any{}), "an object is no part of a name"},
		"github templates empty":      {"type: ci-provider, ci-provider: github-workflow", with(gitHub, "job_workflow_ref", ""), "a name that is only the host"},
		"gitlab by templates":         {"type: ci-provider, ci-provider: gitlab-pipeline", with(gitLab, "project_id", 20, "example.com/rerun", true), ""},
		"gitlab templates tag":        {"type: ci-provider, ci-provider: gitlab-pipeline", with(gitLab, "ref_type", "tag"), ""},
		"gitlab templates climbs":     {"type: ci-provider, ci-provider: gitlab-pipeline", with(gitLab, "ci_config_ref_uri", "gitlab.com/acme/../evil"), "a name that climbs up is another's"},
	} {
		text := fmt.Sprintf("oidc-issuers: {%q: {issuer-url: %q, client-id: sigstore, %s}}\n%s", iss.URL, iss.URL, tc.members, fulcioTemplates)
		theirs, err := config.Read([]byte(text))
		if err != nil {
			t.Errorf("%s: fulcio refuses the configuration: %v", name, err)
			continue
		}
		ours, err := issuers.ParseConfig("config.yaml", []byte(text), "http://127.0.0.1:1")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		set, err := issuers.New(issuers.Config{Issuers: ours.Issuers})
		if err != nil {
			t.Fatal(err)
		}
		raw := iss.token(t, iss.URL, tc.claims)
		id, oerr := set.Authenticate(t.Context(), raw)
		var cert x509.Certificate
		proof := ""
		ctx := config.With(t.Context(), theirs)
		principal, ferr := server.NewIssuerPool(theirs).Authenticate(ctx, raw)
		if ferr == nil {
			proof = principal.Name(ctx)
			ferr = principal.Embed(ctx, &cert)
		}
		switch {
		case ferr != nil && oerr == nil:
			t.Errorf("%s: we take what fulcio refuses: %v", name, ferr)
		case (ferr == nil && oerr != nil) != (tc.stricter != ""):
			t.Errorf("%s: fulcio %v, ours %v", name, ferr, oerr)
		case oerr == nil:
			if diff := cmp.Diff(fulcioNames(t, &cert), id.Names()); diff != "" || proof != id.Proof {
				t.Errorf("%s: names %s; proof %q, fulcio %q", name, diff, id.Proof, proof)
			}
			rendered, err := id.Extensions.Render()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(extensionMap(cert.ExtraExtensions), extensionMap(rendered)); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
}

// fulcioNames are the names that Fulcio gave a certificate.
func fulcioNames(t *testing.T, c *x509.Certificate) []string {
	names := append([]string(nil), c.EmailAddresses...)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	for _, e := range c.ExtraExtensions {
		if e.Id.Equal(cryptoutils.SANOID) {
			name, err := cryptoutils.UnmarshalOtherNameSAN(c.ExtraExtensions)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
	}
	return names
}

// extensionMap is extensions by their ids, without the names.
func extensionMap(all []pkix.Extension) map[string]string {
	out := map[string]string{}
	for _, e := range all {
		if !e.Id.Equal(cryptoutils.SANOID) {
			out[e.Id.String()] = string(e.Value)
		}
	}
	return out
}

// TestFulcioPublicConfiguration: the configuration of the public instance is taken as
// it is, and gives as many issuers as Fulcio finds in it.
func TestFulcioPublicConfiguration(t *testing.T) {
	t.Parallel()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/sigstore/fulcio").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(string(bytes.TrimSpace(dir)), "config/identity/config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ours, err := issuers.ParseConfig("config.yaml", text, "http://127.0.0.1:8420")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := issuers.New(issuers.Config{Issuers: ours.Issuers}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Count(string(text), "client-id:")
	if len(ours.Issuers) != lines || lines < 20 {
		t.Errorf("%d issuers of %d", len(ours.Issuers), lines)
	}
}
