package trusted_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func file(sum string) string {
	return `{"version": 1, "buildkitd": [{"version": "v0.33.1", "sha256": "` + sum + `"}], "runc": [{"version": "1.1.5+ds1-1+b1", "sha256": "` + sum + `"}],
	"frontends": ["docker/dockerfile:1@` + digest + `"], "scanner": "registry.example.com/scan@` + digest + `"}`
}

// TestParseBuilder: what is a letter away from a builder file is none.
func TestParseBuilder(t *testing.T) {
	t.Parallel()
	good := file(strings.Repeat("a", 64))
	b, err := trusted.ParseBuilder([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if b.Frontends[0] != "docker.io/docker/dockerfile@"+digest || b.Scanner != "registry.example.com/scan@"+digest || b.Digest != evidence.SHA256([]byte(good)) {
		t.Errorf("%+v", b)
	}
	for name, change := range map[string][2]string{
		"no version":          {`"version": 1, `, ``},
		"another version":     {`"version": 1,`, `"version": 2,`},
		"unknown member":      {`"version": 1,`, `"version": 1, "tools": [],`},
		"twice":               {`"version": 1,`, `"version": 1, "version": 1,`},
		"no runc":             {`"runc"`, `"crun"`},
		"no release":          {`[{"version": "v0.33.1", "sha256": "` + strings.Repeat("a", 64) + `"}]`, `[]`},
		"short digest":        {strings.Repeat("a", 64), strings.Repeat("a", 63)},
		"upper case":          {strings.Repeat("a", 64), strings.Repeat("A", 64)},
		"with its algorithm":  {`"sha256": "a`, `"sha256": "sha256:a`},
		"a version of words":  {"v0.33.1", "v0.33.1 or newer"},
		"frontend by tag":     {"dockerfile:1@" + digest, "dockerfile:1"},
		"scanner by tag":      {"scan@" + digest, "scan:1"},
		"scanner in a folder": {"registry.example.com/scan@", "oci:scan@"},
		"more":                {`"version": 1,`, `"version": 1,` + strings.Repeat(" ", trusted.MaxBuilder)},
		"two values":          {`{"version": 1,`, `{} {"version": 1,`},
	} {
		changed := strings.Replace(good, change[0], change[1], 1)
		if changed == good {
			t.Fatalf("%s: nothing changed", name)
		}
		if _, err := trusted.ParseBuilder([]byte(changed)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseBuilder(f *testing.F) {
	f.Add([]byte(file(strings.Repeat("a", 64))))
	f.Add([]byte(`{"version":1,"buildkitd":[{}],"runc":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := trusted.ParseBuilder(data)
		if err != nil {
			return
		}
		for _, image := range append(b.Frontends, b.Scanner) {
			if _, err := trusted.ByDigest(image); image != "" && err != nil {
				t.Errorf("%q: %v", image, err)
			}
		}
		for _, p := range append(b.BuildKit, b.Runc...) {
			if _, err := hex.DecodeString(p.SHA256); err != nil || len(p.SHA256) != 64 {
				t.Errorf("%q", p.SHA256)
			}
		}
	})
}

// TestCopy: what may be run is a copy of the very bytes that the file names, and of
// anything else nothing is left.
func TestCopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := filepath.Join(dir, "buildkitd")
	if err := os.WriteFile(from, []byte("a program"), 0o700); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("a program"))
	b, err := trusted.ParseBuilder([]byte(file(hex.EncodeToString(sum[:]))))
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "copy")
	tool, err := b.Copy("buildkitd", from, to)
	if err != nil || tool.Version != "v0.33.1" || tool.SHA256 != hex.EncodeToString(sum[:]) {
		t.Fatalf("%+v %v", tool, err)
	}
	if err := os.WriteFile(from, []byte("a program!"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || string(got) != "a program" {
		t.Errorf("the copy is %q, %v", got, err)
	}
	if _, err := b.Copy("runc", from, to); !errors.Is(err, os.ErrExist) {
		t.Errorf("over another: %v", err)
	}
	var no *trusted.Denied
	for _, program := range []string{"buildkitd", "runc", "git"} {
		if _, err := b.Copy(program, from, to+program); !errors.As(err, &no) || no.Reasons[0].Code != trusted.CodeTool {
			t.Errorf("%s: %v", program, err)
		}
		if _, err := os.Stat(to + program); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something is left: %v", program, err)
		}
	}
}

// TestFrontend: a syntax line, in every form that BuildKit knows, names a frontend of
// the builder file by its digest, or the build is denied.
func TestFrontend(t *testing.T) {
	t.Parallel()
	b, err := trusted.ParseBuilder([]byte(file(strings.Repeat("a", 64))))
	if err != nil {
		t.Fatal(err)
	}
	listed := "docker/dockerfile@" + digest
	for text, want := range map[string]string{
		"FROM scratch\n": "", "": "", "FROM scratch\n# syntax=docker/dockerfile:1\n": "",
		"# syntax=" + listed + "\nFROM scratch\n":                            "docker.io/" + listed,
		"#syntax = docker.io/docker/dockerfile:1.9@" + digest + "\n":         "docker.io/" + listed,
		"// syntax=" + listed + "\n":                                         "docker.io/" + listed,
		"# escape=`\n# syntax=" + listed + "\n":                              "docker.io/" + listed,
		"# syntax=docker/dockerfile:1\n":                                     "built in",
		"# syntax=docker.io/docker/dockerfile:1\n":                           "built in",
		"# syntax=docker/dockerfile:1.27\n":                                  "built in",
		"# syntax=docker/dockerfile:1.4\n":                                   "built in",
		"#!/usr/bin/env x\n# syntax=docker/dockerfile:1\n":                   "built in",
		"\ufeff# syntax=docker/dockerfile:1\n":                               "built in",
		`{"syntax": "docker/dockerfile:1"}`:                                  "built in",
		"# syntax=docker/dockerfile:1.28\n":                                  "denied",
		"# syntax=docker/dockerfile:1.99999999999999999999\n":                "denied",
		"# syntax=docker/dockerfile:1.07\n":                                  "denied",
		"# syntax=docker/dockerfile:1.-7\n":                                  "denied",
		"# syntax=docker/dockerfile:1.\n":                                    "denied",
		"# syntax=docker/dockerfile:1.27.0\n":                                "denied",
		"# syntax=docker/dockerfile:127\n":                                   "denied",
		"# syntax=docker/dockerfile:1-labs\n":                                "denied",
		"# syntax=docker/dockerfile:1.7-labs\n":                              "denied",
		"# syntax=docker/dockerfile:2\n":                                     "denied",
		"# syntax=docker/dockerfile:latest\n":                                "denied",
		"# syntax=docker/dockerfile\n":                                       "denied",
		"# syntax=dockerfile:1\n":                                            "denied",
		"# syntax=docker/dockerfile-upstream:1\n":                            "denied",
		"# syntax=docker/dockerfile1:1\n":                                    "denied",
		"# syntax=example.com/docker/dockerfile:1\n":                         "denied",
		"# syntax=docker.io/docker.io/docker/dockerfile:1\n":                 "denied",
		"# syntax=docker/dockerfile:1 --and more\n":                          "denied",
		"# syntax=docker/dockerfile:1@sha256:0123\n":                         "denied",
		"# syntax=docker/dockerfile-upstream@" + digest + "\n":               "denied",
		"# syntax=example.com/docker/dockerfile@" + digest + "\n":            "denied",
		"# syntax=docker/dockerfile@" + strings.Replace(digest, "0", "1", 1): "denied",
		"# syntax=" + listed + " --and more\n":                               "denied",
		"# syntax=docker/dockerfile@sha256:0123\n":                           "denied",
	} {
		f, why := b.Frontend("Dockerfile", []byte(text))
		switch {
		case want == "built in" && (why != nil || f.Image != "" || !strings.Contains(text, f.Syntax) || f.Syntax == ""):
			t.Errorf("%q: %+v %+v", text, f, why)
		case want == "built in":
		case want == "denied" && (why == nil || why.Code != trusted.CodeFrontend):
			t.Errorf("%q: %+v", text, f)
		case want != "denied" && (why != nil || f.Image != want):
			t.Errorf("%q: %+v %+v", text, f, why)
		}
	}
}

// TestFrontendOfABuildKit: the release that is built in follows from the oldest BuildKit
// that the file names; of one whose version says nothing, none is known.
func TestFrontendOfABuildKit(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{"v0.33.1": true, "v0.33.0-rc1": true, "v0.34.0": true, "v0.33": true,
		"v0.32.1": false, "v0.3.33": false, "v1.33.1": false, "v033.1": false, "0.33.1": false, "v0": false, "master": false} {
		b := trusted.Builder{BuildKit: []trusted.Program{{Version: "v0.33.1"}, {Version: version}}}
		f, why := b.Frontend("Dockerfile", []byte("# syntax=docker/dockerfile:1.27\n"))
		if got := why == nil && f.Syntax == "docker/dockerfile:1.27"; got != want {
			t.Errorf("%s: %t", version, got)
		}
		if _, why := b.Frontend("Dockerfile", []byte("# syntax=docker/dockerfile:1\n")); why != nil {
			t.Errorf("%s: %+v", version, why)
		}
	}
}

// TestClaims: a job's claims must name exactly what is built.
func TestClaims(t *testing.T) {
	t.Parallel()
	const commit = "0123456789012345678901234567890123456789"
	good := map[string]any{"iss": "https://token.actions.githubusercontent.com", "sub": "repo:acme/app", "aud": "sigstore", "exp": 2e9,
		"sha": commit, "ref": "refs/tags/v1", "repository": "acme/app", "job_workflow_ref": "acme/app/.github/workflows/b.yml@refs/tags/v1"}
	lab := map[string]any{"iss": "https://gitlab.com", "sub": "project_path:acme/app", "aud": "sigstore", "exp": 2e9,
		"sha": commit, "ref": "v1", "ref_type": "tag", "project_path": "acme/app", "ci_config_ref_uri": "gitlab.com/acme/app//.gitlab-ci.yml@refs/tags/v1"}
	source := trusted.Source{Repository: "https://github.com/acme/app.git", Ref: "refs/tags/v1", Commit: commit}
	check := func(claims map[string]any, name string, value any, s trusted.Source) int {
		changed := map[string]any{}
		for k, v := range claims {
			changed[k] = v
		}
		if value == nil {
			delete(changed, name)
		} else if name != "" {
			changed[name] = value
		}
		c, err := trusted.ClaimsOfToken(token(t, changed))
		if err != nil {
			return -1
		}
		return len(c.Check(s))
	}
	for name, got := range map[string]bool{
		"github":                 check(good, "", "", source) == 0,
		"without .git":           check(good, "", "", trusted.Source{Repository: "https://github.com/acme/app", Ref: source.Ref, Commit: commit}) == 0,
		"a commit alone":         check(good, "", "", trusted.Source{Repository: source.Repository, Commit: commit}) == 0,
		"no commit":              check(good, "", "", trusted.Source{Repository: source.Repository, Ref: source.Ref}) == 1,
		"other commit":           check(good, "sha", strings.Repeat("1", 40), source) == 1,
		"half a commit":          check(good, "sha", commit[:20], source) == 1,
		"no sha":                 check(good, "sha", nil, source) == 1,
		"sha is a number":        check(good, "sha", 7, source) == -1,
		"the branch of the name": check(good, "ref", "refs/heads/v1", source) == 1,
		"short ref":              check(good, "ref", "v1", source) == 1,
		"a fork":                 check(good, "repository", "eve/app", source) == 1,
		"a longer name":          check(good, "repository", "acme/app2", source) == 1,
		"a part of the name":     check(good, "repository", "app", source) == 1,
		"another case":           check(good, "repository", "Acme/app", source) == 1,
		"all":                    check(good, "", "", trusted.Source{Repository: "https://github.com/a/b", Ref: "refs/heads/x", Commit: strings.Repeat("a", 40)}) == 3,
		"gitlab":                 check(lab, "", "", trusted.Source{Repository: "https://gitlab.com/acme/app.git", Ref: "refs/tags/v1", Commit: commit}) == 0,
		"gitlab, branch":         check(lab, "ref_type", "branch", source) == 1,
		"gitlab, kind":           check(lab, "ref_type", "merge", source) == -1,
		"a person":               check(map[string]any{"iss": "https://a", "sub": "1", "aud": "sigstore", "exp": 2e9, "email": "a@b.c", "sha": "x"}, "", "", source) == 0,
	} {
		if !got {
			t.Errorf("%s", name)
		}
	}
	cert := evidence.Signer{Identity: "x", Issuer: "https://i", Extensions: map[string]string{"buildSignerURI": "https://github.com/w", "sourceRepositoryURI": "https://github.com/acme/app",
		"sourceRepositoryRef": "refs/tags/v1", "sourceRepositoryDigest": commit}}
	if why := trusted.ClaimsOf(cert).Check(source); why != nil {
		t.Errorf("certificate: %+v", why)
	}
	cert.Extensions["sourceRepositoryURI"] = "https://gitlab.com/acme/app"
	if why := trusted.ClaimsOf(cert).Check(source); len(why) != 1 || why[0].Code != trusted.CodeClaims {
		t.Errorf("certificate of another host: %+v", why)
	}
	// Any extension that a CI system's job has makes it a job: Buildkite's say no ref and no repository.
	kite := map[string]string{"runInvocationURI": "https://buildkite.com/acme/app/builds/1#x", "sourceRepositoryDigest": commit, "runnerEnvironment": "self-hosted"}
	for name, want := range map[string]int{"runInvocationURI": 2, "sourceRepositoryDigest": 2, "": 2} {
		cert.Extensions = maps.Clone(kite)
		delete(cert.Extensions, name)
		if name == "sourceRepositoryDigest" {
			want++
		}
		if why := trusted.ClaimsOf(cert).Check(source); len(why) != want {
			t.Errorf("Buildkite without %q: %+v", name, why)
		}
	}
	for extension, job := range map[string]bool{"deploymentEnvironment": true, "githubWorkflowSHA": true, "buildConfigURI": true, "tokenSubject": false} {
		cert.Extensions = map[string]string{extension: ""}
		if why := trusted.ClaimsOf(cert).Check(source); (len(why) == 3) != job {
			t.Errorf("%s: %+v", extension, why)
		}
	}
	cert.Extensions = map[string]string{"sourceRepositoryURI": "https://github.com/acme/app", "sourceRepositoryDigest": commit}
	if why := trusted.ClaimsOf(cert).Check(trusted.Source{Repository: source.Repository, Commit: commit}); len(why) != 1 || !strings.Contains(why[0].Message, "which ref it is for, and what is built is "+commit) {
		t.Errorf("no ref: %+v", why)
	}
	cert.Extensions = map[string]string{"buildSignerURI": "https://github.com/w"}
	if why := trusted.ClaimsOf(cert).Check(source); len(why) != 3 {
		t.Errorf("certificate that says nothing of a source: %+v", why)
	}
}

func token(t *testing.T, claims map[string]any) idtoken.Token {
	t.Helper()
	out := idtoken.Token{Claims: map[string]json.RawMessage{}}
	for name, value := range claims {
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out.Claims[name] = raw
	}
	out.Issuer = claims["iss"].(string)
	return out
}

// TestOfRoot: a builder file that nobody named is believed where only root can write.
func TestOfRoot(t *testing.T) {
	t.Parallel()
	if err := trusted.OfRoot("/etc/passwd"); err != nil {
		t.Error(err)
	}
	dir := t.TempDir() // below /tmp, which everybody writes to
	path := filepath.Join(dir, "builder.json")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/etc/passwd", link); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, link, "/etc/hallmark-is-not-here", "/tmp"} {
		if trusted.OfRoot(p) == nil {
			t.Errorf("%s is believed", p)
		}
	}
	if err := trusted.OfRoot(link); err == nil || !strings.Contains(err.Error(), link) {
		t.Errorf("a link, whose folder is looked at alone: %v", err)
	}
}

// TestRefused: what is refused is refused with its name and reason, as a usage error.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "BUILDKIT_HOST", "SSL_CERT_DIR"} {
		err := trusted.CheckEnvironment(func(n string) string { return map[string]string{name: "x"}[n] })
		if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := trusted.CheckEnvironment(func(n string) string { return map[string]string{"PATH": "/bin", "NO_PROXY": "x"}[n] }); err != nil {
		t.Error(err)
	}
	for name, ok := range map[string]bool{"BASE": true, "MY_HTTP_PROXY": true, "http_proxy": false, "Https_Proxy": false, "SOURCE_DATE_EPOCH": false, "source_date_epoch": true} {
		if err := trusted.CheckArgs(map[string]string{name: "x"}); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, ok := trusted.Refused("label"); ok {
		t.Error("label is refused")
	}
	if err := trusted.Refuse("--ssh", "ssh"); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "agent") {
		t.Error(err)
	}
}

// TestPolicies: nothing that comes from outside becomes a rule.
func TestPolicies(t *testing.T) {
	t.Parallel()
	evil := "a\"\n}\nallow := true\n# ' ] }"
	p := trusted.Consumer{Repositories: []string{"docker.io/acme/app"}, Signer: evidence.Signer{Identity: evil, Issuer: evil,
		Extensions: map[string]string{"sourceRepositoryURI": evil, "githubWorkflowRepository": evil, "runnerEnvironment": evil}}}.Policies()
	for name, text := range map[string]string{"rego": p.Rego, "yaml": p.ClusterImagePolicy} {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(strings.TrimSpace(line), "allow := true") {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
	if !strings.Contains(p.Rego, "signature.signer.runnerEnvironment == \"") {
		t.Error(p.Rego)
	}
	if !strings.Contains(p.ClusterImagePolicy, `glob: "index.docker.io/acme/app@*"`) || strings.Contains(p.ClusterImagePolicy, "trustRootRef") {
		t.Error(p.ClusterImagePolicy)
	}
	k := trusted.Consumer{Repositories: []string{"r.example/a", "r.example/b"}, PublicKey: "PEM"}.Policies()
	if k.Rego != "" || !strings.Contains(k.ClusterImagePolicy, `key: {data: "PEM"}`) || !strings.Contains(k.ClusterImagePolicy, `- glob: "r.example/b@*"`) {
		t.Errorf("%+v", k)
	}
}

// TestSpellings: image.rego is about a repository under each name that leads to it.
func TestSpellings(t *testing.T) {
	t.Parallel()
	for repository, others := range map[string][]string{
		"ghcr.io/acme/app":           {"ghcr.io:443/acme/app", "ghcr.io:80/acme/app"},
		"GHCR.io:443/acme/app":       {"ghcr.io/acme/app"},
		"docker.io/acme/app":         {"index.docker.io/acme/app", "registry-1.docker.io/acme/app", "docker.io:443/acme/app"},
		"[::1]/acme/app":             {"[::1]:443/acme/app"},
		"registry.example:5000/acme": {},
	} {
		text := trusted.Consumer{Repositories: []string{repository}, Signer: evidence.Signer{Identity: "i", Issuer: "s"}}.Policies().Rego
		for _, name := range append(others, strings.ToLower(repository)) {
			if !strings.Contains(text, `"`+name+`",`) {
				t.Errorf("%s: %s is not in it:\n%s", repository, name, text)
			}
		}
		if strings.Contains(text, ":5000:443") || !strings.Contains(text, "lower(input.image.fullRepo) in repositories") {
			t.Error(text)
		}
	}
}

// TestWorkflowOf: a workflow signs for whoever calls it, so a policy that cannot name the
// source repository is not written.
func TestWorkflowOf(t *testing.T) {
	t.Parallel()
	const workflow = "https://github.com/hall/builder/.github/workflows/build.yml@refs/tags/v1"
	for name, c := range map[string]struct {
		identity   string
		extensions map[string]string
		want       string
		ok         bool
	}{
		"reusable":       {workflow, map[string]string{"githubWorkflowRepository": "acme/app", "sourceRepositoryURI": "https://github.com/acme/app"}, "acme/app", true},
		"own, reusable":  {workflow, map[string]string{"githubWorkflowRepository": "hall/builder", "sourceRepositoryURI": "https://github.com/hall/builder"}, "hall/builder", true},
		"another CI's":   {workflow, map[string]string{"sourceRepositoryURI": "https://github.com/acme/app"}, "", false},
		"nearly its own": {workflow, map[string]string{"sourceRepositoryURI": "https://github.com/hall/build"}, "", false},
		"pipeline":       {"https://gitlab.com/acme/app//.gitlab-ci.yml@refs/heads/main", map[string]string{"sourceRepositoryURI": "https://gitlab.com/acme/app"}, "", true},
		"person":         {"alice@example.com", nil, "", true},
	} {
		signer := evidence.Signer{Identity: c.identity, Issuer: "https://issuer.example", Extensions: c.extensions}
		got, ok := trusted.WorkflowOf(signer)
		p := trusted.Consumer{Repositories: []string{"r.example/a"}, Signer: signer}.Policies()
		if got != c.want || ok != c.ok || (p.ClusterImagePolicy != "") != c.ok || strings.Contains(p.ClusterImagePolicy, "githubWorkflowRepo") != (c.want != "") || p.Rego == "" {
			t.Errorf("%s: %q %v\n%s", name, got, ok, p.ClusterImagePolicy)
		}
	}
}

// TestPolicyNames: each repository's policy has a name of its own, which a cluster accepts.
func TestPolicyNames(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, r := range []string{"ghcr.io/acme/app-x", "ghcr.io/acme/app/x", "ghcr.io/acme/app_x", "ghcr.io/acme-app/x", "ghcr.io/acme/app__x",
		"registry.gitlab.example.com/platform-engineering/payments/backend/service-a", "registry.gitlab.example.com/platform-engineering/payments/backend/service-b",
		"registry.example/" + strings.Repeat("a-", 40) + "b"} {
		text := trusted.Consumer{Repositories: []string{r}, Signer: evidence.Signer{Identity: "i", Issuer: "s"}}.Policies().ClusterImagePolicy
		_, name, _ := strings.Cut(text, `metadata: {name: "`)
		name, _, _ = strings.Cut(name, `"`)
		if seen[name] != "" || !regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`).MatchString(name) {
			t.Errorf("%s and %q: %s", r, seen[name], name)
		}
		seen[name] = r
	}
}
