package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
)

// exampleWorld is what the examples suppose (docs/manual.md, "What the examples
// suppose"): an authority with images in its registry, and a template of the
// folder they are run in, with the repository app and, beside it, release-policy.
type exampleWorld struct {
	address  string // of the authority, in place of exampleAddress
	template string
	tools    string
	up       *hmtest.Running
}

// exampleFiles are files of the repository's folder; ADDRESS is the authority's.
var exampleFiles = map[string]string{
	"Dockerfile":               "FROM ADDRESS/base/busybox:1 AS make\nRUN echo hello > /hello\nFROM ADDRESS/base/busybox:1\nCOPY --from=make /hello /hello\n",
	"Dockerfile.rego":          "package docker\n\ndefault allow := false\n\nallow if input.local\n\nallow if input.image.host == \"ADDRESS\"\n\ndecision := {\"allow\": allow}\n",
	"Dockerfile_test.rego":     "package docker\n\ntest_pinned if not decision.allow with input as {\"image\": {\"host\": \"docker.io\"}}\n",
	"policies/Dockerfile.rego": "package docker\n\ndecision := {\"allow\": true}\n",
	"sbom.spdx.json":           `{"spdxVersion": "SPDX-2.3", "name": "app", "packages": []}`,
	"provenance.json":          `{"buildDefinition": {"buildType": "https://example.com/build/v1", "externalParameters": {}}, "runDetails": {"builder": {"id": "https://example.com/builder"}}}`,
	"provenance.cue":           "predicate: runDetails: builder: id: \"https://example.com/builder\"\n",
	"sbom.rego":                "package hallmark.attestation\n\nallow if input.predicate.spdxVersion == \"SPDX-2.3\"\n",
	"scan.json":                `{"findings": []}`,
	"app.tar":                  "what is released beside the image",
	"password":                 "a password\n",
	"claims.json": `{"sub": "repo:acme/app:ref:refs/tags/v1.0.0", "job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/v1.0.0",
  "job_workflow_sha": "0123456789012345678901234567890123456789", "sha": "0123456789012345678901234567890123456789",
  "ref": "refs/tags/v1.0.0", "event_name": "push", "repository": "acme/app", "repository_id": "1", "repository_owner": "acme",
  "repository_owner_id": "2", "repository_visibility": "public", "workflow": "release", "run_id": "3", "run_attempt": "1",
  "workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/v1.0.0", "workflow_sha": "0123456789012345678901234567890123456789",
  "runner_environment": "github-hosted"}`,
	"trustpolicy.json": exampleTrustPolicy, "notation-config/trustpolicy.json": exampleTrustPolicy,
	"ca.pem": exampleCA, "notation-config/truststore/x509/ca/acme/ca.pem": exampleCA,
	"pod.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: app}\nspec:\n  containers:\n  - name: app\n    image: ADDRESS/app:1.0\n",
	"cluster-policy/app.yaml": `apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: {name: app}
spec:
  images: [{glob: "ADDRESS/**"}]
  authorities:
  - keyless:
      trustRootRef: hallmark
      identities: [{issuer: "http://ADDRESS", subject: alice@example.com}]
`,
	"registry.yaml":                  exampleRegistry,
	"issuers.yaml":                   exampleIssuers,
	"../release-policy/release.rego": "package hallmark.signing\n\nallow if \"release\" in input.git.tag.signer.principals\n",
}

// exampleIssuers is the file of docs/authority.md.
const exampleIssuers = `oidc-issuers:
  https://gitlab.example.com:
    issuer-url: https://gitlab.example.com
    client-id: sigstore
    type: ci-provider
    ci-provider: gitlab-pipeline
meta-issuers:
  https://oidc.eks.*.amazonaws.com/id/*:
    client-id: sigstore
    type: kubernetes
ci-issuer-metadata:
  gitlab-pipeline:
    default-template-values:
      url: https://gitlab.example.com
      environment: ""
    extension-templates:
      build-signer-uri: "https://{{ .ci_config_ref_uri }}"
      build-signer-digest: ci_config_sha
      source-repository-uri: "{{ .url }}/{{ .project_path }}"
      deployment-environment: environment
    subject-alternative-name-template: "https://{{ .ci_config_ref_uri }}"
`

// exampleRegistry is the file of docs/registry.md.
const exampleRegistry = `rights:
- repositories: ["public/**"]
  principals: [anyone]
  actions: [pull]
- repositories: [team-a/**]
  principals: [user:ci, "identity:*@a.example.com"]
  actions: [pull, push]
- repositories: ["**"]
  principals: [user:admin]
  actions: [pull, push, delete]
quotas:
- repositories: [team-a/**]
  bytes: 50GiB
- repositories: ["**"]
  bytes: 500GiB
gc:
  every: 24h
  grace: 24h
  untagged: keep
`

const exampleTrustPolicy = `{"version": "1.0", "trustPolicies": [{"name": "acme", "registryScopes": ["*"],
  "signatureVerification": {"level": "strict"}, "trustStores": ["ca:acme"], "trustedIdentities": ["*"]}]}`

// exampleCA is a root of Sigstore's public instance (internal/trust/tufroot): the
// examples name its checksum.
const exampleCA = `-----BEGIN CERTIFICATE-----
MIIB+DCCAX6gAwIBAgITNVkDZoCiofPDsy7dfm6geLbuhzAKBggqhkjOPQQDAzAq
MRUwEwYDVQQKEwxzaWdzdG9yZS5kZXYxETAPBgNVBAMTCHNpZ3N0b3JlMB4XDTIx
MDMwNzAzMjAyOVoXDTMxMDIyMzAzMjAyOVowKjEVMBMGA1UEChMMc2lnc3RvcmUu
ZGV2MREwDwYDVQQDEwhzaWdzdG9yZTB2MBAGByqGSM49AgEGBSuBBAAiA2IABLSy
A7Ii5k+pNO8ZEWY0ylemWDowOkNa3kL+GZE5Z5GWehL9/A9bRNA3RbrsZ5i0Jcas
taRL7Sp5fp/jD5dxqc/UdTVnlvS16an+2Yfswe/QuLolRUCrcOE2+2iA5+tzd6Nm
MGQwDgYDVR0PAQH/BAQDAgEGMBIGA1UdEwEB/wQIMAYBAf8CAQEwHQYDVR0OBBYE
FMjFHQBBmiQpMlEk6w2uSu1KBtPsMB8GA1UdIwQYMBaAFMjFHQBBmiQpMlEk6w2u
Su1KBtPsMAoGCCqGSM49BAMDA2gAMGUCMH8liWJfMui6vXXBhjDgY4MwslmN/TJx
Ve/83WrFomwmNf056y1X48F9c4m3a3ozXAIxAKjRay5/aj/jsKKGIkmQatjI8uup
Hr/+CxFvaJWmpYqNkLDGRU+9orzh5hI2RrcuaQ==
-----END CERTIFICATE-----
`

func newExampleWorld(t *testing.T) *exampleWorld {
	up := hmtest.Authority(t)
	w := &exampleWorld{address: up.Registry, template: t.TempDir(), up: up, tools: filepath.Dir(hmtest.Tool(t, "buildkitd"))}
	app := filepath.Join(w.template, "app")
	for name, content := range exampleFiles {
		writeExample(t, filepath.Join(app, name), strings.ReplaceAll(content, "ADDRESS", w.address))
	}
	for _, folder := range []string{".local/share/bash-completion/completions", ".zsh/completions", ".config/fish/completions"} {
		if err := os.MkdirAll(filepath.Join(w.template, "home", folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	trustRoot, err := os.ReadFile(up.Info.TrustRoot)
	if err != nil {
		t.Fatal(err)
	}
	writeExample(t, filepath.Join(app, "cluster-policy/trust-root.yaml"), string(trustRoot))
	writeTLS(t, app)
	_, crl, response, err := makeCA("ca", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	writeExample(t, filepath.Join(app, "ca.crl"), string(crl))
	writeExample(t, filepath.Join(app, "ca.ocsp"), string(response))
	w.trustBundles(t, app, up.TrustedRoot)
	storeExamples(t, app)
	for name, from := range map[string]string{"trusted_root.json": up.TrustedRoot, "root.json": filepath.Join(up.Dir, "root.json")} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		writeExample(t, filepath.Join(app, name), string(data))
	}
	w.repository(t, app)
	base, err := testimage.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	w.push(t, w.address+"/base/busybox:1", base)
	w.reset(t)
	w.push(t, "oci:"+filepath.Join(app, "layout")+":1.0", testimage.Image{})
	for _, line := range []string{
		"hallmark token --email alice@example.com > token",
		"hallmark key generate --prefix release",
		"hallmark sign --identity-token token " + exampleAddress + "/app:1.0",
		"hallmark attest --key release.key --predicate sbom.spdx.json --type spdx " + exampleAddress + "/app:1.0",
		"hallmark attest --key release.key --predicate provenance.json --type slsaprovenance1 " + exampleAddress + "/app:1.0",
		"hallmark sign --key release.key app.tar --bundle app.sigstore.json",
		"hallmark policy publish policies " + exampleAddress + "/policies:1.0.0 --key release.key",
		"hallmark store init store --keys store-keys --origin policy.example/v1",
		"hallmark authority backup sigstore.tar",
		"hallmark authority restore sigstore.tar --data stopped --nothing-since",
		"hallmark authority root --out offline-root",
		"hallmark authority csr --data stopped --out ca.csr",
		"hallmark authority csr --data stopped --for tsa --out tsa.csr",
		"hallmark authority issue --root offline-root --csr ca.csr --out ca-chain.pem",
		"hallmark authority issue --root offline-root --csr tsa.csr --out tsa-chain.pem --for tsa",
		"$HALLMARK_TOOLS/cosign attest --yes --key release.key --new-bundle-format=false --use-signing-config=false --tlog-upload=false " +
			"--predicate sbom.spdx.json --type spdxjson " + exampleAddress + "/legacy:1.0",
		// The people of a signing policy, and a release that two of them approved.
		"for who in alice bob carol hsm; do ssh-keygen -q -t ed25519 -N '' -C $who -f $who || exit 1; done",
		"echo \"alice namespaces=\\\"git\\\" $(cat alice.pub)\" > allowed_signers",
		"git config user.name Alice && git config user.email alice@example.com && git config gpg.format ssh && git config user.signingKey $PWD/alice",
		"git init -q --bare ../origin.git && git remote add origin ../origin.git && git push -q origin main",
		"hallmark signing-policy init --person alice=alice.pub --person bob=bob.pub --machine release-hsm=hsm.pub --protection release-hsm=hsm",
		"cp -r .hallmark ../policy",
		"hallmark tag v1.3.0 --key hsm --repository github.com/id/123456",
		"hallmark tag v1.4.0 --key hsm --repository github.com/id/123456 --push origin",
		"hallmark approve v1.4.0 --key alice && hallmark approve v1.4.0 --key bob",
		"hallmark gate check . v1.4.0 -o decision.json",
		"hallmark approve v1.4.0 --as alice --export approval.pae && ssh-keygen -q -Y sign -n hallmark-approval -f alice approval.pae",
		"cp -r .hallmark next && sed -i -e 's/\"threshold\": *2/\"threshold\": 1/' next/authority.json",
		"hallmark signing-policy propose --repository github.com/id/123456 --name github.com/org/app --owner-id 42 --commit $(git rev-parse HEAD) -o proposal.json",
	} {
		if code, out := w.shell(w.template, strings.ReplaceAll(line, exampleAddress, w.address)); code != 0 {
			t.Fatalf("%s: exit code %d\n%s", line, code, out)
		}
	}
	resp, err := http.Get("http://" + w.address + "/api/v2/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	checkpoint, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	writeExample(t, filepath.Join(app, "mirror/checkpoint"), string(checkpoint))
	return w
}

// reset lets the tags point to the images that the examples suppose.
func (w *exampleWorld) reset(t *testing.T) {
	for _, name := range []string{"app", "tool", "legacy"} {
		w.push(t, w.address+"/"+name+":1.0", testimage.Image{Layers: [][]testimage.File{{{Path: name, Data: []byte(name)}}}})
	}
}

func (w *exampleWorld) push(t *testing.T, name string, img testimage.Image) {
	t.Helper()
	ref, err := registry.ParseRef(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := testimage.Push(context.Background(), registry.NewClient(registry.Options{}), ref, img); err != nil {
		t.Fatal(err)
	}
}

// env is the environment of a person after eval "$(hallmark up env)".
func (w *exampleWorld) env(dir string) []string {
	home := filepath.Join(dir, "home")
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "USER=alice", "DOCKER_CONFIG=" + filepath.Join(home, ".docker"),
		"COSIGN_PASSWORD=a password", "HALLMARK_TOOLS=" + w.tools,
		cli.EnvTrustedRoot + "=" + w.up.TrustedRoot, cli.EnvSigningConfig + "=" + w.up.SigningConfig, envData + "=" + w.up.Dir,
	}
	for _, name := range []string{"BUILDKIT_HOST", "GOCOVERDIR", "GORACE", "TMPDIR"} {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// repository makes the folder a repository with the tag v1.0.0, signed by the
// release key that release-policy lists, and nightly, signed by nobody.
func (w *exampleWorld) repository(t *testing.T, app string) {
	key := gitrepo.NewKey(t, "ed25519", 0)
	writeExample(t, filepath.Join(app, "../release-policy/allowed_signers"), `release namespaces="git" `+key.Public+"\n")
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"},
		{"add", "Dockerfile"},
		{"commit", "--quiet", "-m", "app"},
		{"-c", "gpg.format=ssh", "-c", "user.signingKey=" + key.Path, "tag", "-s", "-m", "v1.0.0", "v1.0.0"},
		{"tag", "-a", "-m", "nightly", "nightly"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir, cmd.Env = app, gitrepo.Env()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
}

// trustBundles writes the person's trust bundle, with a root that does not age, and
// that of a team, which also pins.
func (w *exampleWorld) trustBundles(t *testing.T, app, trustedRoot string) {
	root, err := os.ReadFile(trustedRoot)
	if err != nil {
		t.Fatal(err)
	}
	f := &bundlefile.File{Roots: []bundlefile.Root{{Name: "team", Source: bundlefile.Source{File: "trusted_root.json"}, FetchedAt: time.Now(), TrustedRoot: root}}}
	for _, path := range []string{filepath.Join(w.template, "home/.config/hallmark/trust.json"), filepath.Join(app, "team-trust.json")} {
		data, err := f.Encode()
		if err != nil {
			t.Fatal(err)
		}
		writeExample(t, path, string(data))
		f.Pins = []bundlefile.Pin{{Repository: w.address + "/tool", Identity: "alice@example.com", Issuer: "http://" + w.address, PinnedAt: time.Now()}}
	}
}

// writeTLS writes what a TLS listener and a registry login need, and a key to import.
func writeTLS(t *testing.T, app string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"sigstore.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("a password"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"cert.pem":       string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		"key.pem":        string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"private.pem":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"users.htpasswd": "alice:" + string(hash) + "\n",
	} {
		writeExample(t, filepath.Join(app, name), data)
	}
}

func writeExample(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
