package store_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/policyforge"
	"github.com/hallmark-dev/hallmark/internal/hmtest/signing"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/store"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// forgeIssuer gives tokens to the jobs of a forge.
type forgeIssuer struct {
	key *ecdsa.PrivateKey
	url string
}

const caConfig = `oidc-issuers:
  ISSUER: {issuer-url: ISSUER, client-id: sigstore, type: ci-provider, ci-provider: github}
ci-issuer-metadata:
  github:
    default-template-values: {url: "https://github.com"}
    extension-templates:
      build-signer-uri: "{{ .url }}/{{ .job_workflow_ref }}"
      build-signer-digest: job_workflow_sha
      runner-environment: runner_environment
      source-repository-uri: "{{ .url }}/{{ .repository }}"
      source-repository-digest: sha
      source-repository-ref: ref
      source-repository-identifier: repository_id
      source-repository-owner-uri: "{{ .url }}/{{ .repository_owner }}"
      source-repository-owner-identifier: repository_owner_id
      build-trigger: event_name
    subject-alternative-name-template: "{{ .url }}/{{ .job_workflow_ref }}"
`

func (f *forgeIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text := base64.RawURLEncoding.EncodeToString
	if !strings.HasSuffix(r.URL.Path, "/keys") {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": f.url, "jwks_uri": f.url + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"}})
		return
	}
	point, err := f.key.PublicKey.Bytes()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "1", "x": text(point[1:33]), "y": text(point[33:])}}})
}

func (f *forgeIssuer) token(t *testing.T, claims map[string]string) idtoken.Token {
	t.Helper()
	now := time.Now()
	all := map[string]any{"iss": f.url, "aud": "sigstore", "sub": "job", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(10 * time.Minute).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	part := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	input := part(map[string]string{"alg": "ES256", "kid": "1", "typ": "JWT"}) + "." + part(all)
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, f.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	token, err := idtoken.Parse(input + "." + base64.RawURLEncoding.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestWithARealAuthority: records that our own authority certified, for jobs whose tokens say which
// repository they ran for.
func TestWithARealAuthority(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &forgeIssuer{key: key}
	tokens := httptest.NewServer(issuer)
	defer tokens.Close()
	issuer.url = tokens.URL
	config := filepath.Join(t.TempDir(), "ca.yaml")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(caConfig, "ISSUER", issuer.url)), 0o600); err != nil {
		t.Fatal(err)
	}
	a := hmtest.Start(t, authority.Config{Dir: filepath.Join(t.TempDir(), "data"), CAConfig: config})
	data, err := os.ReadFile(a.SigningConfig)
	if err != nil {
		t.Fatal(err)
	}
	services, err := trust.ParseSigningConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	rules := chain.Rules{Updaters: []policy.Identity{{Subject: policyforge.Updater, Issuer: issuer.url}}, Verifier: signing.Verifier(t, a), FirstDelay: -1}
	if w.cfg.Rules, err = chain.PrepareRules(rules); err != nil {
		t.Fatal(err)
	}
	w.now = time.Now()
	s := w.init()
	// The record is signed anew by the authority, for a job.
	signed := func(claims map[string]string) store.Submission {
		v := w.First(w.now.Truncate(time.Second), w.people, "alice", "bob")
		v.Effective = v.At
		draft := w.Sign(v)
		all := map[string]string{"repository": "org/app", "repository_id": "123456", "repository_owner": "org", "repository_owner_id": "42", "ref": policyforge.Branch, "sha": policyforge.Commit,
			"event_name": "workflow_dispatch", "runner_environment": "github-hosted", "job_workflow_ref": strings.TrimPrefix(policyforge.Updater, "https://github.com/"), "job_workflow_sha": policyforge.Commit}
		for k, v := range claims {
			all[k] = v
		}
		signer, err := sign.New(sign.Config{Services: sign.ServicesFrom(services, time.Now(), true), Token: issuer.token(t, all)})
		if err != nil {
			t.Fatal(err)
		}
		st, err := sign.ReadyStatement(draft.Payload)
		if err != nil {
			t.Fatal(err)
		}
		out, err := signer.Sign(t.Context(), st)
		if err != nil {
			t.Fatal(err)
		}
		file, err := io.ReadAll(out.Reader())
		if err != nil {
			t.Fatal(err)
		}
		return store.Submission{Record: file, Evidence: draft.Evidence, Policy: draft.Text}
	}
	for why, c := range map[string]struct {
		claims map[string]string
		code   string
	}{
		"another repository": {map[string]string{"repository": "org/fork", "repository_id": "777"}, chain.CodeOtherRepo},
		"self-hosted":        {map[string]string{"runner_environment": "self-hosted"}, chain.CodeBadUpdater},
		"another workflow":   {map[string]string{"job_workflow_ref": "org/app/.github/workflows/x.yml@refs/heads/main"}, chain.CodeBadUpdater},
		"a pull request":     {map[string]string{"event_name": "pull_request", "ref": "refs/pull/7/merge"}, chain.CodeBadUpdater},
	} {
		if _, err := s.Append(t.Context(), signed(c.claims)); code(err) != c.code {
			t.Errorf("%s: %v", why, err)
		}
	}
	if _, err := s.Append(t.Context(), signed(nil)); err != nil {
		t.Fatal(err)
	}
	w.publish(s)
	log, quorum, _, err := ledger.ParseTrust([]byte(w.trust))
	if err != nil {
		t.Fatal(err)
	}
	client, err := chain.New(chain.Config{Rules: rules, Log: log, Quorum: quorum, Source: ledger.Folder(w.cfg.Dir)})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := client.PolicyFor(t.Context(), repo); err != nil || r.Policy == nil || r.Policy.Version != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}
