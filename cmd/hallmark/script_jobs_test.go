package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// ciConfig is a CA's configuration of a forge of our own at URL, whose jobs have tokens
// in GitHub's and in GitLab's words.
const ciConfig = `oidc-issuers:
  ISSUER/github: {issuer-url: ISSUER/github, client-id: sigstore, type: ci-provider, ci-provider: github}
  ISSUER/gitlab: {issuer-url: ISSUER/gitlab, client-id: sigstore, type: ci-provider, ci-provider: gitlab}
ci-issuer-metadata:
  github:
    default-template-values: {url: "URL"}
    extension-templates:
      github-workflow-repository: repository
      build-signer-uri: "{{ .url }}/{{ .job_workflow_ref }}"
      build-signer-digest: job_workflow_sha
      runner-environment: runner_environment
      source-repository-uri: "{{ .url }}/{{ .repository }}"
      source-repository-identifier: repository_id
      source-repository-owner-uri: "{{ .url }}/{{ .repository_owner }}"
      source-repository-owner-identifier: repository_owner_id
      source-repository-digest: sha
      source-repository-ref: ref
      build-trigger: event_name
      run-invocation-uri: "{{ .url }}/{{ .repository }}/actions/runs/{{ .run_id }}/attempts/{{ .run_attempt }}"
      source-repository-visibility-at-signing: repository_visibility
    subject-alternative-name-template: "{{ .url }}/{{ .job_workflow_ref }}"
  gitlab:
    default-template-values: {url: "URL"}
    extension-templates:
      build-signer-uri: "https://{{ .ci_config_ref_uri }}"
      build-signer-digest: ci_config_sha
      runner-environment: runner_environment
      source-repository-uri: "{{ .url }}/{{ .project_path }}"
      source-repository-digest: sha
      source-repository-ref: "refs/{{ if eq .ref_type \"tag\" }}tags{{ else }}heads{{ end }}/{{ .ref }}"
      build-trigger: pipeline_source
      run-invocation-uri: "{{ .url }}/{{ .project_path }}/-/jobs/{{ .job_id }}"
      source-repository-visibility-at-signing: project_visibility
    subject-alternative-name-template: "https://{{ .ci_config_ref_uri }}"
`

// ci is a forge: its issuer's key, and where it is.
type ci struct {
	key    *ecdsa.PrivateKey
	issuer string
}

// forges are those of the running scripts, by their folder.
var forges sync.Map

// scriptForge is the verb "forge [https://HOST] OWNER/NAME...": a forge that serves these folders as
// repositories, with their CI's issuer, and the authority of the verb authority that
// takes its tokens; with HOST the certificates say that the forge is there. It sets FORGE.
func scriptForge(ts *testscript.TestScript, neg bool, args []string) {
	known := ""
	if len(args) > 0 && strings.HasPrefix(args[0], "https://") {
		known, args = args[0], args[1:]
	}
	if neg || len(args) == 0 {
		ts.Fatalf("usage: forge [https://HOST] OWNER/NAME...")
	}
	for _, name := range args {
		ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs("forge/"+name)), 0o755))
		ts.Check(os.Symlink(ts.MkAbs(name+"/.git"), ts.MkAbs("forge/"+name+".git")))
	}
	out, err := exec.Command("git", "--exec-path").Output()
	ts.Check(err)
	repositories := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env:  append(gitrepo.Env(), "GIT_PROJECT_ROOT="+ts.MkAbs("forge"), "GIT_HTTP_EXPORT_ALL=1"),
	})
	ts.Defer(repositories.Close)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	c := &ci{key: key}
	tokens := httptest.NewServer(http.HandlerFunc(c.serve))
	ts.Defer(tokens.Close)
	c.issuer = tokens.URL
	config := ts.MkAbs("ca.yaml")
	ts.Check(os.WriteFile(config, []byte(strings.NewReplacer("ISSUER", c.issuer, "URL", cmp.Or(known, repositories.URL)).Replace(ciConfig)), 0o644))
	startScriptAuthority(ts, authority.Config{CAConfig: config}, []string{"rita"})
	ts.Setenv("FORGE", repositories.URL)
	ts.Setenv("CI", c.issuer)
	forges.Store(ts.Getenv("WORK"), c)
	ts.Defer(func() { forges.Delete(ts.Getenv("WORK")) })
}

func (c *ci) serve(w http.ResponseWriter, r *http.Request) {
	issuer, found := strings.CutSuffix(r.URL.Path, "/.well-known/openid-configuration")
	switch {
	case found:
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": c.issuer + issuer, "jwks_uri": c.issuer + issuer + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"}})
	case strings.HasSuffix(r.URL.Path, "/keys"):
		coordinate := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
		point, err := c.key.PublicKey.Bytes()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "1",
			"x": coordinate(point[1:33]), "y": coordinate(point[33:])}}})
	default:
		http.NotFound(w, r)
	}
}

// scriptJob is the verb "job NAME github|gitlab [CLAIM=VALUE]...": it writes NAME.token,
// the token of a job for $COMMIT at the tag v1.0.0 of acme/app.
func scriptJob(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: job NAME github|gitlab [CLAIM=VALUE]...")
	}
	found, ok := forges.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("job: there is no forge")
	}
	c := found.(*ci)
	commit := ts.Getenv("COMMIT")
	claims := map[string]any{"iss": c.issuer + "/" + args[1], "aud": "sigstore", "sub": "repo:acme/app", "sha": commit,
		"runner_environment": "github-hosted", "iat": time.Now().Unix(), "nbf": time.Now().Unix(), "exp": time.Now().Add(10 * time.Minute).Unix()}
	more := map[string]string{"ref": "refs/tags/v1.0.0", "repository": "acme/app", "repository_id": "1", "repository_visibility": "public", "event_name": "push",
		"job_workflow_ref": "hall/builder/.github/workflows/build.yml@refs/tags/v1", "job_workflow_sha": commit, "run_id": "7", "run_attempt": "1",
		"repository_owner": "acme", "repository_owner_id": "42", "actor": "rita", "actor_id": "583231", "workflow": "release"}
	if args[1] == "gitlab" {
		more = map[string]string{"ref": "v1.0.0", "ref_type": "tag", "project_path": "acme/app", "project_visibility": "public", "pipeline_source": "push",
			"ci_config_ref_uri": "gitlab.example.com/acme/app//.gitlab-ci.yml@refs/tags/v1.0.0", "ci_config_sha": commit, "pipeline_id": "70", "job_id": "700"}
	}
	for name, value := range more {
		claims[name] = value
	}
	for _, a := range args[2:] {
		name, value, _ := strings.Cut(a, "=")
		claims[name] = value
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".token"), []byte(c.token(ts, claims)), 0o600))
}

func (c *ci) token(ts *testscript.TestScript, claims map[string]any) string {
	part := func(v any) string {
		text, err := json.Marshal(v)
		ts.Check(err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	input := part(map[string]string{"alg": "ES256", "kid": "1", "typ": "JWT"}) + "." + part(claims)
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, c.key, sum[:])
	ts.Check(err)
	sig := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return input + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// scriptBuilder is the verb "builder [scanner] [frontend] [bake]": builder.json that names the
// installed buildkitd and runc and, when asked, a scanner in $REG that finds nothing,
// BuildKit's own frontend as an image, which it sets FRONTEND to, and hallmark-bake. It sets
// RUNC_SHA256.
func scriptBuilder(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: builder [scanner] [frontend] [bake]")
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		runc = "/usr/sbin/runc"
	}
	file := map[string]any{"version": 1}
	programs := map[string][2]string{"buildkitd": {ts.Getenv("BUILDKITD"), "v0.33.1"}, "runc": {runc, "1"}}
	if slices.Contains(args, "bake") {
		programs["hallmark-bake"] = [2]string{filepath.Join(ts.Getenv("HALLMARK_TOOLS"), "hallmark-bake"), "1"}
	}
	for name, program := range programs {
		data, err := os.ReadFile(program[0])
		ts.Check(err)
		sum := sha256.Sum256(data)
		file[name] = []map[string]string{{"version": program[1], "sha256": hex.EncodeToString(sum[:])}}
		ts.Setenv(strings.ToUpper(name)+"_SHA256", hex.EncodeToString(sum[:]))
	}
	for _, what := range args {
		switch what {
		case "scanner":
			file["scanner"] = pushScanner(ts)
		case "frontend":
			ts.Setenv("FRONTEND", pushFrontend(ts))
			file["frontends"] = []string{ts.Getenv("FRONTEND")}
		case "bake":
		default:
			ts.Fatalf("builder: there is no %s", what)
		}
	}
	text, err := json.Marshal(file)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("builder.json"), text, 0o644))
}

// pushScanner pushes an image that speaks the protocol of BuildKit's scanners
// (docs/attestations/sbom-protocol.md).
func pushScanner(ts *testscript.TestScript) string {
	img, err := testimage.Busybox()
	ts.Check(err)
	script := "#!/bin/sh\nset -eu\ncat >$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json <<END\n" +
		`{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"` + evidence.PredicateSPDX + `","predicate":{"spdxVersion":"SPDX-2.3","name":"found nothing"}}` + "\nEND\n"
	img.Layers = append(img.Layers, []testimage.File{{Path: "scan", Data: []byte(script), Mode: 0o755}})
	img.Cmd = []string{"/scan"}
	return pushTool(ts, "scanner", img)
}

// pushFrontend pushes BuildKit's frontend as an image, as its own Dockerfile makes it.
func pushFrontend(ts *testscript.TestScript) string {
	scriptTool(ts, false, []string{"dockerfile-frontend"})
	program, err := os.ReadFile(ts.Getenv("DOCKERFILE-FRONTEND"))
	ts.Check(err)
	return pushTool(ts, "frontend", testimage.Image{
		Layers: [][]testimage.File{{{Path: "frontend", Data: program, Mode: 0o755}}}, Entry: []string{"/frontend"},
		Labels: map[string]string{"moby.buildkit.frontend.network.none": "true",
			"moby.buildkit.frontend.caps": "moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts,moby.buildkit.frontend.gitquerystring"},
	})
}

func pushTool(ts *testscript.TestScript, name string, img testimage.Image) string {
	ref, err := registry.ParseRef(ts.Getenv("REG") + "/tools/" + name + ":1")
	ts.Check(err)
	d, err := testimage.Push(context.Background(), registry.NewClient(registry.Options{}), ref, img)
	ts.Check(err)
	return fmt.Sprintf("%s@%s", ref.Name(), d.Digest)
}

// scriptBlobs is the verb "blobs REPOSITORY FOLDER": it writes all that an image's tag 1
// leads to, and what is attached to any of it, to files of the folder, uncompressed.
func scriptBlobs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: blobs REPOSITORY FOLDER")
	}
	ref, err := registry.ParseRef(ts.Getenv("REG") + "/" + args[0] + ":1")
	ts.Check(err)
	repo, err := registry.NewClient(registry.Options{}).Open(context.Background(), ref)
	ts.Check(err)
	root, err := repo.Resolve(context.Background(), ref)
	ts.Check(err)
	ts.Check(os.MkdirAll(ts.MkAbs(args[1]), 0o755))
	w := blobWriter{ts: ts, repo: repo, dir: ts.MkAbs(args[1]), seen: map[string]bool{}}
	w.manifest(root)
}

type blobWriter struct {
	ts   *testscript.TestScript
	repo *registry.Repository
	dir  string
	seen map[string]bool
}

func (w *blobWriter) write(d ocispec.Descriptor, data []byte) {
	if z, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
		if data, err = io.ReadAll(z); err != nil {
			w.ts.Fatalf("%s: %v", d.Digest, err)
		}
	}
	w.ts.Check(os.WriteFile(filepath.Join(w.dir, d.Digest.Encoded()), data, 0o644))
}

func (w *blobWriter) manifest(d ocispec.Descriptor) {
	if w.seen[d.Digest.String()] {
		return
	}
	w.seen[d.Digest.String()] = true
	data, err := w.repo.Manifest(context.Background(), d)
	w.ts.Check(err)
	w.write(d, data)
	var m struct {
		Config    *ocispec.Descriptor
		Layers    []ocispec.Descriptor
		Manifests []ocispec.Descriptor
	}
	w.ts.Check(json.Unmarshal(data, &m))
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, l := range m.Layers {
		data, err := w.repo.Blob(context.Background(), l, 1<<30)
		w.ts.Check(err)
		w.write(l, data)
	}
	referrers, err := w.repo.Referrers(context.Background(), d)
	w.ts.Check(err)
	for _, r := range referrers {
		m.Manifests = append(m.Manifests, r.Descriptor)
	}
	for _, child := range m.Manifests {
		w.manifest(child)
	}
}
