package inputs_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hallmark-dev/hallmark/internal/build/inputs"
	"github.com/hallmark-dev/hallmark/internal/build/meta"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

const identities = `- type: aws-ecr
  registry: 123456789100.dkr.ecr.us-east-1.amazonaws.com
  role-to-assume: arn:aws:iam::123456789100:role/my-github-actions-role
  region: us-east-1
- type: gcp-wif
  registry: us-docker.pkg.dev
  workload_identity_provider: projects/123456789/locations/global/workloadIdentityPools/github/providers/provider
  service_account: builder@my-project.iam.gserviceaccount.com
  project_id: my-project
- type: dockerhub
  username: octocat
  connection_id: 0f8fad5b-d9cb-469f-a165-70867728950e
`

// asGitHub is what toJSON(inputs) gives in a reusable workflow.
func asGitHub(t testing.TB, change map[string]any) []byte {
	t.Helper()
	m := map[string]any{
		"output": "image", "push": true, "meta-images": "ghcr.io/org/app\n", "meta-tags": "type=sha\n", "meta-labels": "", "meta-annotations": "",
		"meta-flavor": "", "set-meta-labels": false, "set-meta-annotations": true, "context": ".", "file": "", "target": "",
		"platforms": "linux/amd64,linux/arm64", "build-args": "A=b\nVERSION={{meta.version}}\n", "labels": "x=y=z", "annotations": "index:a=b\nc=d",
		"shm-size": "2g", "ulimit": "nofile=1024:2048\nnproc=3", "cache": true, "cache-scope": "", "cache-mode": "max", "sbom": true, "sign": "auto",
		"artifact-name": "", "artifact-upload": false, "artifact-retention-days": 0, "registry-identities": identities, "distribute": true,
		"fail-fast": false, "job-name-prefix": "", "setup-qemu": false, "runner": "",
	}
	for k, v := range change {
		if v == "delete" {
			delete(m, k)
			continue
		}
		m[k] = v
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestBuildInputs(t *testing.T) {
	t.Parallel()
	in, err := inputs.Read("inputs", asGitHub(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	want := &inputs.Inputs{
		Output: "image", Push: true, Sign: true, Context: ".", File: "Dockerfile", SBOM: true,
		Platforms: []string{"linux/amd64", "linux/arm64"}, BuildArgs: "A=b\nVERSION={{meta.version}}\n", Labels: "x=y=z", Annotations: "index:a=b\nc=d",
		ShmSize: 2 << 30, Ulimits: []inputs.Ulimit{{Name: "nofile", Soft: 1024, Hard: 2048}, {Name: "nproc", Soft: 3, Hard: 3}},
		Meta: meta.Inputs{Images: "ghcr.io/org/app\n", Tags: "type=sha\n"}, SetMetaAnnotations: true,
		Cache: true, CacheScope: "buildkit", CacheMode: "max", Distribute: true, ArtifactName: "hallmark-assets",
		RegistryIdentities: []inputs.Identity{
			{Type: "aws-ecr", Fields: map[string]string{"registry": "123456789100.dkr.ecr.us-east-1.amazonaws.com",
				"role-to-assume": "arn:aws:iam::123456789100:role/my-github-actions-role", "region": "us-east-1"}},
			{Type: "gcp-wif", Fields: map[string]string{"registry": "us-docker.pkg.dev", "project_id": "my-project",
				"workload_identity_provider": "projects/123456789/locations/global/workloadIdentityPools/github/providers/provider",
				"service_account":            "builder@my-project.iam.gserviceaccount.com"}},
			{Type: "dockerhub", Fields: map[string]string{"registry": "docker.io", "username": "octocat", "connection_id": "0f8fad5b-d9cb-469f-a165-70867728950e"}},
		},
	}
	if d := cmp.Diff(want, in, cmpopts.IgnoreFields(inputs.Inputs{}, "Runner")); d != "" {
		t.Error(d)
	}
	if got := in.Ulimits[0].String(); got != "nofile=1024:2048" {
		t.Error(got)
	}
}

// TestYAMLAndText: a file in YAML, and values as text, mean the same as GitHub's JSON.
func TestYAMLAndText(t *testing.T) {
	t.Parallel()
	a, err := inputs.Read("inputs", []byte(`{"output":"local","artifact-upload":"true","artifact-retention-days":"7","sbom":"false","target":null,"context":"app/"}`))
	if err != nil {
		t.Fatal(err)
	}
	b, err := inputs.Read("inputs.yaml", []byte("output: local\nartifact-upload: true\nartifact-retention-days: 7\ntarget:\ncontext: ./app\nfile: sub/../Dockerfile\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(a, b, cmpopts.IgnoreFields(inputs.Inputs{}, "Runner")); d != "" {
		t.Error(d)
	}
	if !a.Sign || a.RetentionDays != 7 || a.File != "app/Dockerfile" || a.Push {
		t.Errorf("%+v", a)
	}
}

func TestSign(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`{"output":"image","meta-images":"a/b","push":true}`:                true,
		`{"output":"image","meta-images":"a/b","push":true,"sign":"false"}`: false,
		`{"output":"image","meta-images":"a/b"}`:                            false,
		`{"output":"local"}`:                                                false,
		`{"output":"local","sign":"true"}`:                                  true,
		`{"output":"local","sign":true}`:                                    true,
		`{"output":"local","artifact-upload":true,"sign":false}`:            false,
	} {
		in, err := inputs.Read("inputs", []byte(text))
		if err != nil || in.Sign != want {
			t.Errorf("%s: %+v, %v", text, in, err)
		}
	}
}

func TestBakeInputs(t *testing.T) {
	t.Parallel()
	in, err := inputs.ReadBake("inputs", []byte(`{"output":"image","meta-images":"a/b","context":"app","files":"a.hcl, b/c.json\nd.yaml","vars":"A=b,C=d=e","set":"*.args.V={{meta.version}}"}`))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"app/a.hcl", "app/b/c.json", "app/d.yaml"}, in.Files); d != "" {
		t.Error(d)
	}
	if in.Target != "default" || in.MetaBakeTarget != "docker-metadata-action" || in.Vars["C"] != "d=e" || len(in.Vars) != 2 || in.Set != "*.args.V={{meta.version}}" {
		t.Errorf("%+v", in)
	}
	in, err = inputs.ReadBake("inputs", []byte(`{"output":"local"}`))
	if err != nil || in.Files[0] != "docker-bake.hcl" {
		t.Errorf("%+v, %v", in, err)
	}
}

func TestRunner(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ runner, platform, want string }{
		{"", "linux/amd64", "ubuntu-24.04"},
		{"", "linux/arm64", "ubuntu-24.04-arm"},
		{"", "linux/arm/v7", "ubuntu-24.04-arm"},
		{"", "linux/arm64/v8", "ubuntu-24.04-arm"},
		{"", "", "ubuntu-24.04"},
		{"big", "linux/arm64", "big"},
		{"default=a\nlinux=b\nlinux/arm=c\nlinux/arm/v7=d", "linux/arm/v7", "d"},
		{"linux/arm/v7=d\nlinux/arm=c\ndefault=a\nlinux=b", "linux/arm/v6", "c"},
		{"default=a\nlinux/arm=c", "linux/arm64", "a"},
		{"default=a\nlinux=b", "windows/amd64", "a"},
	} {
		in, err := inputs.Read("inputs", []byte(`{"output":"local","runner":`+quote(tc.runner)+`}`))
		if err != nil || in.Runner.For(tc.platform) != tc.want {
			t.Errorf("%+v: %v, %v", tc, in, err)
		}
	}
}

func quote(s string) string { b, _ := json.Marshal(s); return string(b) }

// TestRefused are the near-misses of TestBuildInputs: one input changed.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		value any
		want  string
	}{
		{"platfroms", "linux/amd64", `inputs: unknown input "platfroms"; did you mean platforms?`},
		{"meta_tags", "", "did you mean meta-tags?"},
		{"Push", true, "did you mean push?"},
		{"secrets", "x", `unknown input "secrets"`},
		{"ssh", "default", `unknown input "ssh"`},
		{"allow", "security.insecure", `unknown input "allow"`},
		{"secret-files", "a=b", "unknown input"},
		{"build-contexts", "a=b", "unknown input"},
		{"network", "host", "unknown input"},
		{"files", "x", "files is an input of bake.yml only"},
		{"set", "x", "set is an input of bake.yml only"},
		{"registry-auths", "x", "registry-auths is a secret of the workflow and no input"},
		{"github-token", "x", "is a secret of the workflow"},
		{"output", "", `output: ""; it is one of image, local`},
		{"output", "imag", "did you mean image?"},
		{"output", "registry", "it is one of image, local"},
		{"output", "type=local", "it is one of image, local"},
		{"push", "yes", `push: "yes" is neither true nor false`},
		{"push", "True", "is neither true nor false"},
		{"push", 1, "is neither true nor false"},
		{"push", []string{"true"}, "push: must be one value"},
		{"platforms", []string{"linux/amd64"}, "platforms: must be one value; lists have an entry per line"},
		{"push", false, ""}, // sign is auto: allowed
		{"sign", "yes", "it is one of auto, true, false"},
		{"meta-images", "", "output image wants meta-images"},
		{"meta-images", " \n", "output image wants meta-images"},
		{"artifact-upload", true, "artifact-upload is for output local"},
		{"artifact-retention-days", -1, "is no number of days"},
		{"artifact-retention-days", "1.5", "is no number of days"},
		{"artifact-name", "../x", "artifact-name"},
		{"context", "..", "not a path inside of the commit"},
		{"context", "a/../../b", "not a path inside of the commit"},
		{"context", "/etc", "not a path inside of the commit"},
		{"context", "https://example.com/x.git", "is elsewhere"},
		{"context", "cwd://x", "is elsewhere"},
		{"context", "git@github.com:a/b", "is elsewhere"},
		{"context", "a#b", "is not a plain path"},
		{"context", "a?b", "is not a plain path"},
		{"context", "a:b", "is not a plain path"},
		{"context", "a\nb", "is not a plain path"},
		{"file", "../Dockerfile", "not a path inside of the commit"},
		{"file", "/Dockerfile", "not a path inside of the commit"},
		{"target", "a b", "target"},
		{"target", "-x", "target"},
		{"platforms", "linux", "platforms: \"linux\" is not OS/ARCH"},
		{"platforms", "linux/AMD64", "is not OS/ARCH"},
		{"platforms", "linux/arm/7", "is not OS/ARCH"},
		{"platforms", "linux/amd64\nlinux/amd64", "linux/amd64 is given twice"},
		{"platforms", manyPlatforms(21), "at most 20"},
		{"shm-size", "2t", "is no size"},
		{"shm-size", "-1", "is no size"},
		{"shm-size", "0", "not between"},
		{"shm-size", "9999999999g", "not between"},
		{"ulimit", "nofile", "is not NAME=SOFT"},
		{"ulimit", "nofiles=1", `unknown limit "nofiles"; did you mean nofile?`},
		{"ulimit", "nofile=2:1", "the soft limit is above the hard one"},
		{"ulimit", "nofile=-1:1", "the soft limit is above the hard one"},
		{"ulimit", "nofile=-2", "is not NAME=SOFT"},
		{"ulimit", "nofile=1\nnofile=2", "nofile is given twice"},
		{"ulimit", "nofile=1:2:3", "is not NAME=SOFT"},
		{"cache", false, ""},
		{"cache-mode", "mid", "it is one of min, max"},
		{"cache-scope", "a b", "cache-scope"},
		{"job-name-prefix", "a\nb", "job-name-prefix"},
		{"job-name-prefix", "a${{ x }}", "job-name-prefix"},
		{"job-name-prefix", "::error::", "job-name-prefix"},
		{"job-name-prefix", " a", "job-name-prefix"},
		{"runner", "auto", "is no longer known"},
		{"runner", "linux=a", "no line default=LABEL"},
		{"runner", "default=a\nlinux/arm64", "is not PLATFORM=LABEL"},
		{"runner", "default=a\ndefault=b", "default is given twice"},
		{"runner", "default=a\nlinux//x=b", "is not PLATFORM=LABEL"},
		{"runner", "${{ x }}", "is not PLATFORM=LABEL"},
		{"runner", "[self-hosted]", "is not PLATFORM=LABEL"},
	} {
		_, err := inputs.Read("inputs", asGitHub(t, map[string]any{tc.name: tc.value}))
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s=%v: %v", tc.name, tc.value, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) || fault.KindOf(err) != fault.Usage {
			t.Errorf("%s=%v: %v, want %s", tc.name, tc.value, err, tc.want)
		}
	}
}

func manyPlatforms(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("linux/a" + strings.Repeat("x", i) + "\n")
	}
	return b.String()
}

func TestConflictsAndForms(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"output":"image","meta-images":"a/b","sign":"true"}`:                             "sign is true and push is not",
		`{"output":"image","meta-images":"a/b","sign":true,"push":"false"}`:                "sign is true and push is not",
		`{"output":"local","push":true}`:                                                   "push is for output image",
		`{"output":"local","labels":"a=b"}`:                                                "labels is for output image",
		`{"output":"local","annotations":"a=b"}`:                                           "annotations is for output image",
		`{"output":"local","set-meta-labels":true}`:                                        "set-meta-labels is for output image",
		`{"output":"local","runner":"ubuntu-24.04-arm"}`:                                   "runner: ubuntu-24.04-arm is of another processor than ubuntu-24.04",
		`{"output":"local","runner":"default=ubuntu-24.04-arm\nlinux/amd64=ubuntu-24.04"}`: "of another processor",
		`{"output":"local","runner":"my-ARM64_4core"}`:                                     "of another processor",
		`{"output":"local","runner":"linux-aarch64.large"}`:                                "of another processor",
		`{"output":"local","output":"local"}`:                                              "output",
		`{"output":"local"} x`:                                                             "inputs",
		`{"output":"local",}`:                                                              "inputs",
		`{"Output":"local"}`:                                                               "did you mean output?",
		"output: local\noutput: image\n":                                                   "given twice",
		"output: &x local\n":                                                               "anchors",
		"output: [local]\n":                                                                "must be one value",
		"- output: local\n":                                                                "must be a mapping",
		"output: local\n---\noutput: local\n":                                              "wants one document",
		"":                                                                                 "wants one document",
		"output: local\nfoo: bar\n":                                                        `unknown input "foo"`,
		`{"output":"local","x":"` + strings.Repeat("a", inputs.MaxSize) + `"}`:             "at most 524288 are read",
	} {
		_, err := inputs.Read("inputs", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || fault.KindOf(err) != fault.Usage {
			t.Errorf("%.80s: %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		`{"output":"local","platforms":"linux/amd64"}`: "platforms is an input of build.yml only",
		`{"output":"local","file":"Dockerfile"}`:       "file is an input of build.yml only",
		`{"output":"local","vars":"A"}`:                "is not NAME=VALUE",
		`{"output":"local","runner":"arm64-large"}`:    "of another processor",
		`{"output":"local","vars":"A=1\nA=2"}`:         "given twice",
		`{"output":"local","vars":"1A=2"}`:             "is not NAME=VALUE",
		`{"output":"local","files":"../x.hcl"}`:        "not a path inside of the commit",
		`{"output":"local","files":"cwd://x.hcl"}`:     "is elsewhere",
		`{"output":"local","meta-bake-target":"a b"}`:  "meta-bake-target",
	} {
		_, err := inputs.ReadBake("inputs", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// TestIdentitiesHoldNoSecret: every field has a form, and what does not fit is refused
// without being repeated.
func TestIdentitiesHoldNoSecret(t *testing.T) {
	t.Parallel()
	const canary = "ghp_C4n4ryC4n4ryC4n4ry"
	for _, text := range []string{
		"- type: dockerhub\n  username: octocat\n  password: " + canary + "\n",
		"- type: dockerhub\n  username: octocat\n  connection_id: " + canary + "\n",
		"- type: dockerhub\n  username: octocat\n",
		"- type: dockerhub\n  username: octocat\n  connection_id: 0f8fad5b-d9cb\n  registry: " + canary + "\n",
		"- type: " + canary + "\n",
		"- " + canary + "\n",
		"type: dockerhub\nusername: " + canary + "\n",
		"- type: aws-ecr\n  registry: " + canary + "\n",
		strings.Replace(identities, "arn:aws:iam::123456789100:role/my-github-actions-role", canary, 1),
		strings.Replace(identities, "us-east-1\n-", canary+"\n-", 1),
		strings.Replace(identities, "us-docker.pkg.dev", "us-docker.pkg.dev/"+canary, 1),
		strings.Replace(identities, "builder@my-project", canary+"@my-project", 1),
		strings.Replace(identities, "project_id: my-project", "project_id: "+canary, 1),
		strings.Replace(identities, "project_id: my-project", "project_id: my-project\n  token: "+canary, 1),
		strings.Replace(identities, "project_id", "projectid", 1),
		strings.Replace(identities, "type: gcp-wif", "type: aws-ecr", 1),
		identities + identities,
		"- type: dockerhub\n  username: &a " + canary + "\n",
		"{" + canary,
		canary + ": {",
	} {
		_, err := inputs.Read("inputs", asGitHub(t, map[string]any{"registry-identities": text}))
		if err == nil {
			t.Errorf("taken: %s", text)
			continue
		}
		if strings.Contains(err.Error(), canary) {
			t.Errorf("repeated: %v", err)
		}
	}
	if in, err := inputs.Read("inputs", asGitHub(t, map[string]any{"registry-identities": " \n"})); err != nil || in.RegistryIdentities != nil {
		t.Error(in, err)
	}
}

func result(t *testing.T) *meta.Result {
	t.Helper()
	r, err := meta.Derive(meta.Inputs{Images: "a/b", Tags: "type=semver,pattern={{version}}", Annotations: "c=meta"},
		meta.Context{Ref: "refs/tags/v1.2.3", Time: time.Unix(0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPairs(t *testing.T) {
	t.Parallel()
	in, err := inputs.Read("inputs", asGitHub(t, map[string]any{"annotations": "index:a=b\nmanifest[linux/amd64],index-descriptor:c=d=e\nc=own", "set-meta-labels": true}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := in.Pairs(result(t))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"A": "b", "VERSION": "1.2.3"}, p.BuildArgs); d != "" {
		t.Error(d)
	}
	if p.Labels["x"] != "y=z" || p.Labels["org.opencontainers.image.version"] != "1.2.3" {
		t.Errorf("%v", p.Labels)
	}
	want := []inputs.Annotation{
		{Levels: []string{"index"}, Key: "a", Value: "b"},
		{Levels: []string{"manifest", "index"}, Key: "c", Value: "meta"},
		{Levels: []string{"manifest[linux/amd64]", "index-descriptor"}, Key: "c", Value: "d=e"},
	}
	if d := cmp.Diff(want, p.Annotations[:3]); d != "" {
		t.Error(d)
	}
}

func TestPairsRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ input, text, want string }{
		{"build-args", "HOME", "HOME has no value; the environment of the caller is not read"},
		{"build-args", "A=1\nA=2", "A is given twice"},
		{"build-args", "A B=1", "is no name of a build argument"},
		{"build-args", "\"A=1,2\"", "is no name of a build argument"},
		{"build-args", "=1", "is no name of a build argument"},
		{"build-args", "BUILDKIT_SYNTAX=evil/frontend", "steers the builder"},
		{"build-args", "A={{meta.versoin}}", "did you mean meta.version?"},
		{"labels", "x", "has no value"},
		{"labels", "a b=c", "is no key"},
		{"labels", "a=1\na=2", "a is given twice"},
		{"annotations", "manifests:a=b", "has a level"},
		{"annotations", "manifest[linux]:a=b", "has a level"},
		{"annotations", "manifest,:a=b", "has a level"},
		{"annotations", "index:=b", "is no key"},
	} {
		in, err := inputs.Read("inputs", asGitHub(t, map[string]any{tc.input: tc.text}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Pairs(result(t)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s %q: %v, want %s", tc.input, tc.text, err, tc.want)
		}
	}
	local, err := inputs.Read("inputs", []byte(`{"output":"local","build-args":"V={{meta.version}}"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := local.Pairs(nil); err == nil || !strings.Contains(err.Error(), "output image only") {
		t.Error(err)
	}
}

// FuzzRead: what is accepted lies inside of the commit, whatever it is called.
func FuzzRead(f *testing.F) {
	f.Add(asGitHub(f, nil), false)
	f.Add([]byte(`{"output":"image","meta-images":"a/b","files":"a.hcl","vars":"A=b","set":"x.args.y=z"}`), true)
	f.Add([]byte("output: local\ncontext: a/b\nfile: ../../x\nulimit: nofile=1\nregistry-identities: |\n  - type: dockerhub\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, bake bool) {
		read := inputs.Read
		if bake {
			read = inputs.ReadBake
		}
		in, err := read("inputs", data)
		if err != nil {
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("%v", err)
			}
			return
		}
		for _, p := range append(in.Files, in.File, in.Context) {
			if strings.HasPrefix(p, "/") || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsAny(p, "\n:#") {
				t.Errorf("path %q", p)
			}
		}
		if in.Output == inputs.OutputImage && in.Sign && !in.Push {
			t.Error("signs what is not pushed")
		}
		if p, err := in.Pairs(nil); err == nil {
			for k := range p.BuildArgs {
				if strings.HasPrefix(k, "BUILDKIT_") {
					t.Error(k)
				}
			}
		}
	})
}
