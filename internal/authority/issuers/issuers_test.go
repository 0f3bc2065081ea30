package issuers_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sigstore/fulcio/pkg/certificate"

	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
)

// signer is an issuer's key of the algorithm that it signs with.
type signer struct {
	alg, kid string
	key      crypto.Signer
	hash     crypto.Hash
	pss      bool
}

func es256(t testing.TB) signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{alg: "ES256", kid: "1", key: k, hash: crypto.SHA256}
}

func (s signer) PublicKey(kid string) crypto.PublicKey {
	if kid != s.kid {
		return nil
	}
	return s.key.Public()
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// token signs claims (RFC 7515).
func (s signer) token(t testing.TB, claims map[string]any) string {
	t.Helper()
	header := map[string]any{"alg": s.alg}
	if s.kid != "" {
		header["kid"] = s.kid
	}
	h, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	input := b64(h) + "." + b64(c)
	message := []byte(input)
	var opts crypto.SignerOpts = s.hash
	if s.hash != 0 {
		d := s.hash.New()
		d.Write(message)
		message = d.Sum(nil)
	}
	if s.pss {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: s.hash}
	}
	if k, ok := s.key.(*ecdsa.PrivateKey); ok {
		r, v, err := ecdsa.Sign(rand.Reader, k, message)
		if err != nil {
			t.Fatal(err)
		}
		n := (k.Params().BitSize + 7) / 8
		return input + "." + b64(append(r.FillBytes(make([]byte, n)), v.FillBytes(make([]byte, n))...))
	}
	sig, err := s.key.Sign(rand.Reader, message, opts)
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(sig)
}

// claims are those of a good token, with changes; a nil value removes one.
func claims(issuer string, change map[string]any) map[string]any {
	now := time.Now().Unix()
	c := map[string]any{"iss": issuer, "sub": "x", "aud": "sigstore", "iat": now, "exp": now + 60}
	maps.Copy(c, change)
	for name, value := range change {
		if value == nil {
			delete(c, name)
		}
	}
	return c
}

const issuer = "https://ci.example.com"

// oneOf is a set of one issuer of a configuration whose keys are at hand.
func oneOf(t testing.TB, s signer, config string) *issuers.Set {
	t.Helper()
	c, err := issuers.ParseConfig("ca.yaml", []byte(config), "")
	if err != nil {
		t.Fatal(err)
	}
	for n := range c.Issuers {
		c.Issuers[n].Keys, c.Issuers[n].Algorithms = s, []string{s.alg}
	}
	set, err := issuers.New(issuers.Config{Issuers: c.Issuers})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func entry(lines ...string) string {
	return "oidc-issuers:\n  " + issuer + ":\n    issuer-url: " + issuer + "\n    client-id: sigstore\n    " + strings.Join(lines, "\n    ") + "\n"
}

var gitHubClaims = map[string]any{
	"sub": "repo:acme/app:ref:refs/tags/v1", "job_workflow_ref": "acme/ci/.github/workflows/build.yml@refs/heads/main",
	"job_workflow_sha": "jobsha", "sha": "sha", "ref": "refs/tags/v1", "event_name": "push", "repository": "acme/app",
	"repository_id": "1", "repository_owner": "acme", "repository_owner_id": "2", "repository_visibility": "public",
	"workflow": "Release it", "workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/v1", "workflow_sha": "wsha",
	"runner_environment": "github-hosted", "run_id": "3", "run_attempt": "4",
}

var gitLabClaims = map[string]any{
	"sub": "project_path:acme/app:ref_type:branch:ref:main", "project_path": "acme/app", "project_id": "20", "pipeline_source": "push",
	"pipeline_id": "30", "ci_config_ref_uri": "gitlab.com/acme/app//.gitlab-ci.yml@refs/heads/main", "ci_config_sha": "cfgsha",
	"namespace_path": "acme", "namespace_id": "5", "job_id": "40", "ref": "main", "ref_type": "branch", "sha": "sha",
	"runner_environment": "gitlab-hosted", "runner_id": 7, "project_visibility": "private",
}

var codefreshClaims = map[string]any{
	"sub": "account:1:pipeline:2", "account_id": "1", "account_name": "acme", "pipeline_id": "2", "pipeline_name": "app/build", "workflow_id": "3",
	"scm_repo_url": "https://github.com/acme/app", "scm_ref": "main",
}

var kubernetesClaims = map[string]any{
	"sub":           "system:serviceaccount:team-a:builder",
	"kubernetes.io": map[string]any{"namespace": "team-a", "serviceaccount": map[string]any{"name": "builder", "uid": "u"}},
}

// plus is claims with one changed.
func plus(base map[string]any, name string, value any) map[string]any {
	c := maps.Clone(base)
	c[name] = value
	return c
}

const gitLabTemplates = `
ci-issuer-metadata:
  gitlab-pipeline:
    default-template-values:
      url: "https://gitlab.example.com"
      environment: ""
    extension-templates:
      build-signer-uri: "https://{{ .ci_config_ref_uri }}"
      build-signer-digest: "ci_config_sha"
      source-repository-uri: "{{ .url }}/{{ .project_path }}"
      source-repository-ref: refs/{{if eq .ref_type "branch"}}heads/{{ else }}tags/{{end}}{{ .ref }}
      source-repository-identifier: "project_id"
      run-invocation-uri: "{{ .url }}/{{ .project_path }}/-/jobs/{{ .job_id }}"
      deployment-environment: environment
    subject-alternative-name-template: "https://{{ .ci_config_ref_uri }}"
`

// TestIdentities: each type of issuer gives its names and extensions, and refuses
// what is almost such a token.
func TestIdentities(t *testing.T) {
	t.Parallel()
	s := es256(t)
	ci := entry("type: ci-provider", "ci-provider: gitlab-pipeline") + gitLabTemplates
	for name, tc := range map[string]struct {
		config string
		claims map[string]any
		names  []string
		proof  string
		want   certificate.Extensions // Issuer and Subject are those of the token when empty
	}{
		"email": {entry("type: email"), map[string]any{"sub": "1", "email": "a@b.example", "email_verified": true}, []string{"a@b.example"}, "a@b.example", certificate.Extensions{}},
		"email of another issuer": {entry("type: email", "issuer-claim: $.federated_claims.connector_id"),
			map[string]any{"sub": "1", "email": "a@b.example", "email_verified": true, "federated_claims": map[string]any{"connector_id": "https://github.com/login/oauth"}},
			[]string{"a@b.example"}, "a@b.example", certificate.Extensions{Issuer: "https://github.com/login/oauth"}},
		"email that the issuer verifies silently": {entry("type: email", "skip-email-verification: true"), map[string]any{"email": "a@b.example"}, []string{"a@b.example"}, "a@b.example", certificate.Extensions{}},
		"spiffe":              {entry("type: spiffe", "spiffe-trust-domain: example.org"), map[string]any{"sub": "spiffe://example.org/ns/a/sa/b"}, []string{"spiffe://example.org/ns/a/sa/b"}, "spiffe://example.org/ns/a/sa/b", certificate.Extensions{}},
		"uri":                 {entry("type: uri", "subject-domain: https://users.example.com"), map[string]any{"sub": "https://users.example.com/u/1"}, []string{"https://users.example.com/u/1"}, "https://users.example.com/u/1", certificate.Extensions{}},
		"username":            {entry("type: username", "subject-domain: example.com"), map[string]any{"sub": "alice"}, []string{"alice!example.com"}, "alice", certificate.Extensions{}},
		"kubernetes":          {entry("type: kubernetes"), kubernetesClaims, []string{"https://kubernetes.io/namespaces/team-a/serviceaccounts/builder"}, "system:serviceaccount:team-a:builder", certificate.Extensions{}},
		"buildkite":           {entry("type: buildkite-job"), map[string]any{"sub": "organization:acme:pipeline:app", "organization_slug": "acme", "pipeline_slug": "app"}, []string{"https://buildkite.com/acme/app"}, "organization:acme:pipeline:app", certificate.Extensions{}},
		"chainguard":          {entry("type: chainguard-identity"), map[string]any{"sub": "abc/def"}, []string{issuer + "/abc/def"}, "abc/def", certificate.Extensions{}},
		"a chainguard person": {entry("type: chainguard-identity"), map[string]any{"sub": "abc", "email": "a@b.example", "email_verified": true}, []string{issuer + "/abc"}, "a@b.example", certificate.Extensions{}},
		"codefresh": {entry("type: codefresh-workflow"), codefreshClaims, []string{"https://g.codefresh.io/acme/app/build:1/2"}, "account:1:pipeline:2", certificate.Extensions{
			BuildSignerURI: "https://g.codefresh.io/build/3", SourceRepositoryURI: "https://github.com/acme/app", SourceRepositoryRef: "main",
			BuildConfigURI: "https://g.codefresh.io/api/pipelines/2", RunInvocationURI: "https://g.codefresh.io/build/3"}},
		"gitlab": {entry("type: gitlab-pipeline"), gitLabClaims, []string{"https://gitlab.com/acme/app//.gitlab-ci.yml@refs/heads/main"}, "project_path:acme/app:ref_type:branch:ref:main", certificate.Extensions{
			BuildConfigURI: "https://gitlab.com/acme/app//.gitlab-ci.yml@refs/heads/main", BuildConfigDigest: "cfgsha",
			BuildSignerURI: "https://gitlab.com/acme/app//.gitlab-ci.yml@refs/heads/main", BuildSignerDigest: "cfgsha",
			RunnerEnvironment: "gitlab-hosted", SourceRepositoryURI: "https://gitlab.com/acme/app", SourceRepositoryDigest: "sha",
			SourceRepositoryRef: "refs/heads/main", SourceRepositoryIdentifier: "20", SourceRepositoryOwnerURI: "https://gitlab.com/acme",
			SourceRepositoryOwnerIdentifier: "5", BuildTrigger: "push", RunInvocationURI: "https://gitlab.com/acme/app/-/jobs/40",
			SourceRepositoryVisibilityAtSigning: "private"}},
		"templates": {ci, plus(gitLabClaims, "project_id", 12345678), []string{"https://gitlab.com/acme/app//.gitlab-ci.yml@refs/heads/main"}, "project_path:acme/app:ref_type:branch:ref:main", certificate.Extensions{
			BuildSignerURI: "https://gitlab.com/acme/app//.gitlab-ci.yml@refs/heads/main", BuildSignerDigest: "cfgsha",
			SourceRepositoryURI: "https://gitlab.example.com/acme/app", SourceRepositoryRef: "refs/heads/main", SourceRepositoryIdentifier: "12345678",
			RunInvocationURI: "https://gitlab.example.com/acme/app/-/jobs/40"}},
		"a claim before a default": {ci, plus(gitLabClaims, "environment", "prod"), []string{"https://gitlab.com/acme/app//.gitlab-ci.yml@refs/heads/main"}, "project_path:acme/app:ref_type:branch:ref:main", certificate.Extensions{
			BuildSignerURI: "https://gitlab.com/acme/app//.gitlab-ci.yml@refs/heads/main", BuildSignerDigest: "cfgsha",
			SourceRepositoryURI: "https://gitlab.example.com/acme/app", SourceRepositoryRef: "refs/heads/main", SourceRepositoryIdentifier: "20",
			RunInvocationURI: "https://gitlab.example.com/acme/app/-/jobs/40", DeploymentEnvironment: "prod"}},
	} {
		id, err := oneOf(t, s, tc.config).Authenticate(t.Context(), s.token(t, claims(issuer, tc.claims)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := tc.want
		if want.Issuer == "" {
			want.Issuer = issuer
		}
		want.Subject, _ = claims(issuer, tc.claims)["sub"].(string)
		if diff := cmp.Diff(want, id.Extensions); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if diff := cmp.Diff(tc.names, id.Names()); diff != "" || id.Proof != tc.proof {
			t.Errorf("%s: %s, proof %q", name, diff, id.Proof)
		}
	}
}

func TestIdentitiesAreRefused(t *testing.T) {
	t.Parallel()
	s := es256(t)
	spiffe := entry("type: spiffe", "spiffe-trust-domain: example.org")
	uri := entry("type: uri", "subject-domain: https://users.example.com")
	user := entry("type: username", "subject-domain: example.com")
	kube := entry("type: kubernetes")
	ci := entry("type: ci-provider", "ci-provider: gitlab-pipeline") + gitLabTemplates
	circle := entry("type: ci-provider", "ci-provider: x") +
		"ci-issuer-metadata:\n  x:\n    subject-alternative-name-template: 'https://ci.example.com/{{(index . \"example.com/project\")}}/x'\n"
	sub := func(v string) map[string]any { return map[string]any{"sub": v} }
	for name, tc := range map[string]struct {
		config string
		claims map[string]any
		want   string
	}{
		"spiffe: another domain":       {spiffe, sub("spiffe://example.net/a"), "trust domain"},
		"spiffe: a domain below":       {spiffe, sub("spiffe://a.example.org/a"), "trust domain"},
		"spiffe: another scheme":       {spiffe, sub("https://example.org/a"), "SPIFFE ID"},
		"spiffe: upper case":           {spiffe, sub("spiffe://EXAMPLE.org/a"), "SPIFFE ID"},
		"spiffe: a port":               {spiffe, sub("spiffe://example.org:1/a"), "SPIFFE ID"},
		"spiffe: a user":               {spiffe, sub("spiffe://a@example.org/a"), "SPIFFE ID"},
		"spiffe: climbs":               {spiffe, sub("spiffe://example.org/a/../b"), "SPIFFE ID"},
		"spiffe: slash at the end":     {spiffe, sub("spiffe://example.org/a/"), "SPIFFE ID"},
		"spiffe: a query":              {spiffe, sub("spiffe://example.org/a?b"), "SPIFFE ID"},
		"spiffe: an escape":            {spiffe, sub("spiffe://example.org/%61"), "SPIFFE ID"},
		"uri: another host":            {uri, sub("https://example.com/u/1"), "not at"},
		"uri: another scheme":          {uri, sub("http://users.example.com/u/1"), "not at"},
		"uri: a user":                  {uri, sub("https://users.example.com@evil.example/"), "not a URI"},
		"uri: no URI":                  {uri, sub("alice"), "not a URI"},
		"username: another's domain":   {user, sub("alice!evil.example"), "user name"},
		"username: an address":         {user, sub("alice@example.com"), "user name"},
		"username: a control":          {user, sub("al\nice"), "user name"},
		"kubernetes: no claim":         {kube, sub("system:serviceaccount:a:b"), `"kubernetes.io.namespace"`},
		"kubernetes: another subject":  {kube, plus(kubernetesClaims, "sub", "system:serviceaccount:team-a:default"), `"sub"`},
		"kubernetes: a path":           {kube, plus(kubernetesClaims, "kubernetes.io", map[string]any{"namespace": "a/b", "serviceaccount": map[string]any{"name": "c"}}), "does not have"},
		"buildkite: no slug":           {entry("type: buildkite-job"), map[string]any{"organization_slug": "acme"}, `"pipeline_slug"`},
		"buildkite: climbs":            {entry("type: buildkite-job"), map[string]any{"organization_slug": "acme", "pipeline_slug": ".."}, `"pipeline_slug"`},
		"chainguard: unverified":       {entry("type: chainguard-identity"), map[string]any{"email": "a@b.example"}, `"email_verified"`},
		"codefresh: no account":        {entry("type: codefresh-workflow"), plus(codefreshClaims, "account_id", ""), `"account_id"`},
		"codefresh: platform":          {entry("type: codefresh-workflow"), plus(codefreshClaims, "platform_url", "https://u@evil.example"), `"platform_url"`},
		"gitlab: another kind of ref":  {entry("type: gitlab-pipeline"), plus(gitLabClaims, "ref_type", "heads"), `"ref_type"`},
		"gitlab: configuration climbs": {entry("type: gitlab-pipeline"), plus(gitLabClaims, "ci_config_ref_uri", "gitlab.com/acme/../evil"), `"ci_config_ref_uri"`},
		"gitlab: no job":               {entry("type: gitlab-pipeline"), plus(gitLabClaims, "job_id", nil), `"job_id"`},
		"github: no run":               {entry("type: github-workflow"), plus(gitHubClaims, "run_id", nil), `"run_id"`},
		"templates: no claim":          {ci, plus(gitLabClaims, "job_id", nil), "no job_id"},
		"templates: an object":         {ci, plus(gitLabClaims, "job_id", map[string]any{"a": "b"}), "no job_id"},
		"templates: no bare claim":     {ci, plus(gitLabClaims, "ci_config_sha", nil), `"ci_config_sha"`},
		"templates: empty name":        {ci, plus(gitLabClaims, "ci_config_ref_uri", ""), "no ci_config_ref_uri"},
		"templates: climbs":            {ci, plus(gitLabClaims, "ci_config_ref_uri", "gitlab.com/acme/../evil"), "climbs"},
		"templates: a user":            {ci, plus(gitLabClaims, "ci_config_ref_uri", "gitlab.com@evil.example/x"), "no URI"},
		"templates: a control":         {ci, plus(gitLabClaims, "job_id", "1\n2"), "control"},
		"templates: too long":          {ci, plus(gitLabClaims, "ref", strings.Repeat("x", 5<<10)), "too long"},
		"templates: index":             {circle, nil, "no example.com/project"},
		"templates: index of nothing":  {circle, map[string]any{"example.com/project": ""}, "no example.com/project"},
		"email: no claim":              {entry("type: email", "issuer-claim: $.a.b"), map[string]any{"email": "a@b.example", "email_verified": true, "a": "b"}, `"a.b"`},
		"email: unverified":            {entry("type: email"), map[string]any{"email": "a@b.example"}, `"email_verified"`},
	} {
		_, err := oneOf(t, s, tc.config).Authenticate(t.Context(), s.token(t, claims(issuer, tc.claims)))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
}

// TestAlgorithms: each algorithm verifies with its own kind of key and with no other.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	all := []signer{
		{"RS256", "1", rsaKey, crypto.SHA256, false}, {"RS384", "1", rsaKey, crypto.SHA384, false}, {"RS512", "1", rsaKey, crypto.SHA512, false},
		{"PS256", "1", rsaKey, crypto.SHA256, true}, {"PS384", "1", rsaKey, crypto.SHA384, true}, {"PS512", "1", rsaKey, crypto.SHA512, true},
		{"ES256", "1", p256, crypto.SHA256, false}, {"ES384", "1", p384, crypto.SHA384, false}, {"ES512", "1", p521, crypto.SHA512, false},
		{"EdDSA", "1", ed, 0, false},
	}
	for _, s := range all {
		for _, said := range all {
			set := oneOf(t, s, entry("type: uri", "subject-domain: "+issuer))
			signed := s
			signed.alg = said.alg
			config := claims(issuer, map[string]any{"sub": issuer + "/x"})
			_, err := set.Authenticate(t.Context(), signed.token(t, config))
			if (err == nil) != (s.alg == said.alg) {
				t.Errorf("signed with %s, says %s: %v", s.alg, said.alg, err)
			}
		}
	}
	// The header names another algorithm that the issuer also has.
	c, err := issuers.ParseConfig("ca.yaml", []byte(entry("type: uri", "subject-domain: "+issuer)), "")
	if err != nil {
		t.Fatal(err)
	}
	c.Issuers[0].Keys, c.Issuers[0].Algorithms = all[6], []string{"RS256", "ES256", "ES384", "EdDSA"}
	set, err := issuers.New(issuers.Config{Issuers: c.Issuers})
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{"RS256", "ES384", "EdDSA"} {
		liar := all[6]
		liar.alg = said
		if _, err := set.Authenticate(t.Context(), liar.token(t, claims(issuer, map[string]any{"sub": issuer + "/x"}))); err == nil || !strings.Contains(err.Error(), "signature") {
			t.Errorf("%s: %v", said, err)
		}
	}
}

func TestAuthenticateFrom(t *testing.T) {
	t.Parallel()
	s := es256(t)
	set := oneOf(t, s, entry("type: buildkite-job"))
	raw := s.token(t, claims(issuer, map[string]any{"organization_slug": "a", "pipeline_slug": "b"}))
	if _, err := set.AuthenticateFrom(context.Background(), raw, issuer); err != nil {
		t.Error(err)
	}
	for _, other := range []string{"", issuer + "/", "https://other.example"} {
		if _, err := set.AuthenticateFrom(context.Background(), raw, other); err == nil {
			t.Errorf("taken as of %q", other)
		}
	}
}

// jwk is a public key as a JSON Web Key.
func jwk(public crypto.PublicKey, more map[string]any) map[string]any {
	out := map[string]any{"use": "sig"}
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		n := (k.Params().BitSize + 7) / 8
		raw, _ := k.Bytes()
		out["kty"], out["crv"], out["x"], out["y"] = "EC", k.Params().Name, b64(raw[1:1+n]), b64(raw[1+n:])
	case *rsa.PublicKey:
		out["kty"], out["n"], out["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case ed25519.PublicKey:
		out["kty"], out["crv"], out["x"] = "OKP", "Ed25519", b64(k)
	}
	maps.Copy(out, more)
	return out
}
