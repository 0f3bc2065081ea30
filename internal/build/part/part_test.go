package part_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/build/part"
	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

const (
	run    = "https://github.com/acme/app/actions/runs/7/attempts/1"
	digest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	other  = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
)

var extensions = map[string]string{"runInvocationURI": run, "sourceRepositoryURI": "https://github.com/acme/app", "sourceRepositoryIdentifier": "1",
	"sourceRepositoryDigest": "c", "sourceRepositoryRef": "refs/tags/v1", "buildSignerURI": "https://github.com/hall/builder/build.yml@v1",
	"buildSignerDigest": "b", "runnerEnvironment": "github-hosted", "buildTrigger": "push"}

func signer(change ...string) evidence.Signer {
	x := maps.Clone(extensions)
	for i := 0; i < len(change); i += 2 {
		x[change[i]] = change[i+1]
	}
	return evidence.Signer{Identity: "https://github.com/hall/builder/build.yml@v1", Issuer: "https://token.actions.githubusercontent.com", Extensions: x}
}

func values() [7]any {
	return [7]any{nil, map[string]string{"A": "1"}, "Dockerfile", nil, nil, false, false}
}

func sound(t testing.TB) *part.Part {
	t.Helper()
	parameters, err := part.Parameters(values())
	if err != nil {
		t.Fatal(err)
	}
	claims := trusted.ClaimsOf(signer())
	return &part.Part{Run: run, Repository: "https://github.com/acme/app", Ref: "refs/tags/v1", Commit: "c", Platform: "linux/amd64",
		Images: []string{"ghcr.io/acme/app"}, Builder: claims.Builder, Parameters: parameters, Index: digest,
		Policies: `[{"name":"hallmark:default.rego","from":"operator","digest":"` + digest + `","read":[{"name":"list","digest":"` + digest + `"}]}]`,
		Facts: trusted.Facts{Hallmark: "v1", BuilderFile: digest, Frontend: "dockerfile.v0", Network: "host", CI: &claims,
			Tools: []trusted.Tool{{Name: "buildkitd", Version: "v0.33.1", SHA256: digest[7:]}, {Name: "runc", Version: "1", SHA256: digest[7:]}}}}
}

func statement(t testing.TB, p *part.Part) string {
	t.Helper()
	predicate, err := p.Predicate()
	if err != nil {
		t.Fatal(err)
	}
	return `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"ghcr.io/acme/app","digest":{"sha256":"` + p.Index.Hex() +
		`"}}],"predicateType":"` + part.PredicateType + `","predicate":` + string(predicate) + `}`
}

func TestParse(t *testing.T) {
	t.Parallel()
	p := sound(t)
	text := statement(t, p)
	got, err := part.Parse([]byte(text))
	if err != nil || !cmp.Equal(got, p) {
		t.Fatal(err, cmp.Diff(p, got))
	}
	for name, change := range map[string][2]string{
		"cut":                     {`"}}],"predicateType"`, ""},
		"unknown field":           {`"run":`, `"rnu":"x","run":`},
		"unknown field of facts":  {`"hallmark":`, `"more":1,"hallmark":`},
		"a field twice":           {`"run":`, `"run":"x","run":`},
		"a field in another case": {`"run":`, `"Run":`},
		"no run":                  {`"run":"` + run + `"`, `"run":""`},
		"no field run":            {`"run":"` + run + `",`, ``},
		"lines in a value":        {`"run":"https:`, `"run":"\nhttps:`},
		"hidden text in a value":  {`"ref":"`, `"ref":"\u202e`},
		"a long value":            {`"ref":"`, `"ref":"` + strings.Repeat("a", 2048)},
		"a longer statement":      {`"ref":"`, `"ref":"` + strings.Repeat("a", 2<<20)},
		"no platform":             {`"linux/amd64"`, `"amd64"`},
		"platform not normal":     {`"linux/amd64"`, `"linux/x86_64"`},
		"no images":               {`["ghcr.io/acme/app"]`, `[]`},
		"too many images":         {`["ghcr.io/acme/app"]`, `["1","2","3","4","5","6","7","8","9","10","11"]`},
		"no tools":                {`"tools":[`, `"tools":[],"more":[`},
		"a parameter is missing":  {`"labels":`, `"lables":`},
		"a parameter more":        {`"labels":`, `"more":"` + digest + `","labels":`},
		"no digest":               {`"labels":"sha256:`, `"labels":"sha256:00`},
		"policies are no list":    {`"policies":"[`, `"policies":"`},
		"policies with more":      {`\"name\":\"hallmark`, `\"more\":1,\"name\":\"hallmark`},
		"of another type":         {`build-part/v1"`, `build-part/v2"`},
		"an older statement":      {`Statement/v1"`, `Statement/v0.1"`},
		"two subjects":            {`"subject":[`, `"subject":[{"digest":{"sha256":"` + other[7:] + `"}},`},
		"by another digest":       {`{"sha256":"`, `{"sha512":"`},
		"two digests":             {`"digest":{`, `"digest":{"sha512":"00",`},
		"something behind it":     {`"predicate":{`, `"predicate":{}}{"x":{`},
	} {
		if !strings.Contains(text, change[0]) {
			t.Errorf("%s: there is no %q in %s", name, change[0], text)
		}
		if got, err := part.Parse([]byte(strings.Replace(text, change[0], change[1], 1))); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	p.Platform = "linux/x86_64"
	if _, err := p.Predicate(); err == nil {
		t.Error("what Parse refuses is written")
	}
}

// TestManyFiles: a policy may read a thousand files, and the part names each.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	p := sound(t)
	reads := func(n int) string {
		var files []string
		for i := range n {
			files = append(files, fmt.Sprintf(`{"name":"lists/%s/%d.json","digest":"%s"}`, strings.Repeat("n", 80), i, digest))
		}
		return `{"name":"ops.rego","from":"operator","digest":"` + string(digest) + `","read":[` + strings.Join(files, ",") + `]}`
	}
	p.Policies = "[" + reads(1000) + "]"
	if got, err := part.Parse([]byte(statement(t, p))); err != nil || got.Policies != p.Policies {
		t.Error(err)
	}
	p.Policies = "[" + reads(1001) + "]"
	if _, err := p.Predicate(); err == nil {
		t.Error("more than a thousand files are written")
	}
	p.Policies = "[" + strings.Repeat(reads(1000)+",", 6) + reads(1) + "]"
	if _, err := p.Predicate(); err == nil || fault.HintOf(err) == "" {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(statement(f, sound(f))))
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := part.Parse(data)
		if err != nil {
			return
		}
		again, err := part.Parse([]byte(statement(t, p)))
		if err != nil || !cmp.Equal(p, again) {
			t.Errorf("%v: %s", err, cmp.Diff(p, again))
		}
		(&part.Plan{Part: p, Platforms: []string{p.Platform}, File: &trusted.Builder{}}).Check(&part.Named{Part: p})
	})
}

func plan(t *testing.T) *part.Plan {
	p := sound(t)
	p.Facts.Tools, p.Facts.CI, p.Platform, p.Index = nil, nil, "", ""
	p.Policies = strings.Replace(p.Policies, `,"read":[{"name":"list","digest":"`+digest+`"}]`, "", 1) // nothing is decided here
	return &part.Plan{Part: p, Platforms: []string{"linux/amd64", "linux/arm64"}, Extensions: extensions,
		File: &trusted.Builder{BuildKit: []trusted.Program{{Version: "v0.33.1", SHA256: digest[7:]}}, Runc: []trusted.Program{{Version: "1", SHA256: digest[7:]}}}}
}

func codes(why []policy.Reason) string {
	var list []string
	for _, r := range why {
		list = append(list, r.Code)
		if r.Hint == "" || !strings.Contains(r.Message, "part ") {
			list = append(list, fmt.Sprintf("%+v", r))
		}
	}
	return strings.Join(list, " ")
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*part.Named)
		want   string
	}{
		{"as it is", func(*part.Named) {}, ""},
		{"another run", func(n *part.Named) { n.Run = strings.Replace(run, "/7/", "/8/", 1) }, part.CodeRun},
		{"another attempt", func(n *part.Named) { n.Run = strings.Replace(run, "attempts/1", "attempts/2", 1) }, part.CodeRun},
		{"another run in the certificate", func(n *part.Named) {
			n.Signer = signer("runInvocationURI", strings.Replace(run, "/7/", "/8/", 1))
			c := trusted.ClaimsOf(n.Signer)
			n.Facts.CI = &c
		}, part.CodeRun},
		{"a job of GitLab's for one of GitHub's", func(n *part.Named) {
			n.Signer = signer("runInvocationURI", "https://github.com/acme/app/-/jobs/7")
			c := trusted.ClaimsOf(n.Signer)
			n.Facts.CI = &c
		}, part.CodeRun},
		{"another repository", func(n *part.Named) { n.Repository = "https://github.com/acme/App" }, part.CodeSource},
		{"another ref", func(n *part.Named) { n.Ref = "refs/heads/v1" }, part.CodeSource},
		{"no ref", func(n *part.Named) { n.Ref = "" }, part.CodeSource},
		{"another commit", func(n *part.Named) { n.Commit = "d" }, part.CodeSource},
		{"another repository of the name", func(n *part.Named) { n.Signer = signer("sourceRepositoryIdentifier", "2") }, part.CodeSource},
		{"another visibility", func(n *part.Named) { n.Signer = signer("sourceRepositoryVisibilityAtSigning", "private") }, part.CodeSigner},
		{"another commit of the workflow", func(n *part.Named) { n.Signer = signer("buildSignerDigest", "x") }, part.CodeSigner},
		{"another machine", func(n *part.Named) { n.Signer = signer("runnerEnvironment", "self-hosted") }, part.CodeSigner},
		{"more in the certificate", func(n *part.Named) { n.Signer = signer("deploymentEnvironment", "x") }, part.CodeSigner},
		{"no certificate", func(n *part.Named) { n.Signer = evidence.Signer{Key: digest} }, "PART_SIGNER PART_RUN PART_SOURCE"},
		{"another job in its provenance", func(n *part.Named) { n.Facts.CI = &trusted.Claims{Run: "x"} }, part.CodeSigner},
		{"no job in its provenance", func(n *part.Named) { n.Facts.CI = nil }, part.CodeSigner},
		{"another image", func(n *part.Named) { n.Images = []string{"ghcr.io/acme/app2"} }, part.CodeImage},
		{"one image more", func(n *part.Named) { n.Images = append(n.Images, "ghcr.io/acme/app2") }, part.CodeImage},
		{"another builder", func(n *part.Named) { n.Builder += "x" }, part.CodeBuilder},
		{"another release", func(n *part.Named) { n.Facts.Hallmark = "v0" }, part.CodeBuilder},
		{"another frontend", func(n *part.Named) { n.Facts.Frontend = "x" }, part.CodeBuilder},
		{"another syntax", func(n *part.Named) { n.Facts.Syntax = "docker/dockerfile:1" }, part.CodeBuilder},
		{"a scanner", func(n *part.Named) { n.Facts.Scanner = "x" }, part.CodeBuilder},
		{"another network", func(n *part.Named) { n.Facts.Network = "none" }, part.CodeBuilder},
		{"another digest by the same file", func(n *part.Named) { n.Facts.Tools[0].SHA256 = other[7:] }, part.CodeBuilder},
		{"another file on a machine of GitHub's", func(n *part.Named) { n.Facts.BuilderFile, n.Facts.Tools[0].SHA256 = other, other[7:] }, ""},
		{"another runc there", func(n *part.Named) { n.Facts.BuilderFile, n.Facts.Tools[1].Version = other, "2" }, ""},
		{"another BuildKit there", func(n *part.Named) { n.Facts.BuilderFile, n.Facts.Tools[0].Version = other, "v0.33.0" }, part.CodeBuilder},
		{"another program there", func(n *part.Named) { n.Facts.BuilderFile, n.Facts.Tools[0].Name = other, "buildkit" }, part.CodeBuilder},
		{"another argument", func(n *part.Named) { n.Parameters = with(t, 1, nil) }, part.CodeParameters},
		{"another policy", func(n *part.Named) { n.Policies = strings.Replace(n.Policies, "operator", "source", 1) }, part.CodeParameters},
		{"no policy", func(n *part.Named) { n.Policies = "" }, part.CodeParameters},
		{"another platform", func(n *part.Named) { n.Platform = "linux/arm64" }, ""},
		{"a platform that is not asked for", func(n *part.Named) { n.Platform = "linux/386" }, part.CodePlatform},
	} {
		got := part.Named{Name: "p.json", Part: sound(t), Signer: signer()}
		tc.change(&got)
		if why := plan(t).Check(&got); codes(why) != tc.want {
			t.Errorf("%s: %v; want %s", tc.name, why, tc.want)
		}
	}
	// Elsewhere than on GitHub's machines the file is one for all.
	for _, self := range []evidence.Signer{signer("runnerEnvironment", "self-hosted"), signer("buildSignerDigest", ""), {Key: digest}} {
		p, got := plan(t), part.Named{Name: "p.json", Part: sound(t), Signer: self}
		p.Extensions = self.Extensions
		p.Facts.BuilderFile = other
		claims := trusted.ClaimsOf(self)
		if got.Facts.CI = &claims; !claims.OfJob() {
			got.Facts.CI = nil
		}
		if why := p.Check(&got); codes(why) != part.CodeBuilder {
			t.Errorf("%v", why)
		}
	}
}

// TestLongValues: what differs is shown, however far behind it stands.
func TestLongValues(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 60, 90, 400, 1800} {
		for _, letter := range []string{"a", "é"} {
			p, got := plan(t), part.Named{Name: "p.json", Part: sound(t), Signer: signer()}
			at := "https://github.com/" + strings.Repeat(letter, n/len(letter)) + "/app/actions/runs/"
			p.Run, got.Run = at+"12345678901/attempts/1", at+"12345678902/attempts/1"
			why := p.Check(&got)
			if codes(why) != part.CodeRun || !strings.Contains(why[0].Message, "8902/attempts/1, and this is for ") || !strings.HasSuffix(why[0].Message, "8901/attempts/1") ||
				len(why[0].Message) > 600 || !utf8.ValidString(why[0].Message) {
				t.Errorf("%d: %v", n, why)
			}
		}
	}
}

// TestPerson: the certificate of a person has what no job's has, and is not compared.
func TestPerson(t *testing.T) {
	t.Parallel()
	p, got := plan(t), part.Named{Name: "p.json", Part: sound(t), Signer: evidence.Signer{Identity: "rita@example.com", Issuer: "i", Extensions: map[string]string{"tokenSubject": "rita"}}}
	p.Extensions, got.Facts.CI = nil, nil
	if why := p.Check(&got); len(why) > 0 {
		t.Errorf("%v", why)
	}
	got.Signer.Extensions["buildSignerURI"] = "x" // which makes it a job's
	if why := p.Check(&got); codes(why) != part.CodeSigner {
		t.Errorf("%v", why)
	}
}

func with(t *testing.T, which int, value any) map[string]evidence.Digest {
	t.Helper()
	v := values()
	v[which] = value
	p, err := part.Parameters(v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComplete(t *testing.T) {
	t.Parallel()
	named := func(platforms ...string) (all []*part.Named) {
		for i, platform := range platforms {
			n := &part.Named{Name: fmt.Sprint(i), Part: sound(t)}
			n.Platform = platform
			all = append(all, n)
		}
		return all
	}
	p := plan(t)
	got, why := p.Complete(named("linux/arm64", "linux/amd64"))
	if len(why) > 0 || len(got) != 2 || got[0].Name != "1" || got[1].Name != "0" {
		t.Errorf("%v, %v", got, why)
	}
	for want, list := range map[string][]string{
		"there is no part for linux/arm64":          {"linux/amd64"},
		"linux/amd64 is there more than once: 0, 2": {"linux/amd64", "linux/arm64", "linux/amd64"},
	} {
		if _, why := p.Complete(named(list...)); len(why) != 1 || why[0].Code != part.CodePlatform || why[0].Message != want {
			t.Errorf("%v; want %s", why, want)
		}
	}
	all := named("linux/arm64", "linux/amd64")
	all[0].Policies = strings.ReplaceAll(all[0].Policies, `"list","digest":"`+digest, `"list","digest":"`+other)
	if _, why := p.Complete(all); len(why) != 1 || why[0].Code != part.CodeParameters || !strings.Contains(why[0].Message, "read another list") {
		t.Errorf("%v", why)
	}
}

func TestPlatforms(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"linux/amd64": "linux/amd64", "linux/x86_64": "linux/amd64", "linux/aarch64": "linux/arm64", "linux/arm64/v8": "linux/arm64",
		"linux/arm": "linux/arm/v7", "linux/arm/v6": "linux/arm/v6", "windows/amd64": "windows/amd64", "windows(10.0.17763)/amd64": "", "amd64": "", "linux": "", "": "", "linux/": "", "linux/a/b/c": "", "a b/c": ""} {
		if got, err := part.Normal(text); got != want || (err == nil) == (want == "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if got := part.NameOf(ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}); got != "linux/arm64" {
		t.Error(got)
	}
	if _, err := part.Normals([]string{"linux/arm64", "linux/aarch64"}); fault.KindOf(err) != fault.Usage {
		t.Errorf("%v", err)
	}
	if _, err := part.Normals(slices.Repeat([]string{"linux/amd64"}, 1)); err != nil {
		t.Error(err)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	lab := map[string]string{"runInvocationURI": "https://gitlab.com/acme/app/-/jobs/7", "sourceRepositoryURI": "https://gitlab.com/acme/app"}
	for _, tc := range []struct {
		extensions      map[string]string
		pipeline, given string
		want            string
	}{
		{extensions, "", "", run},
		{extensions, "9", "", run},
		{extensions, "", "0123456789abcdef", ""},
		{lab, "9", "", "https://gitlab.com/acme/app/-/pipelines/9"},
		{lab, "9", "0123456789abcdef", ""},
		{lab, "", "", ""},
		{lab, "", "0123456789abcdef", "0123456789abcdef"},
		{nil, "", "", ""},
		{nil, "", "0123456789abcdef", "0123456789abcdef"},
		{nil, "", "0123456789abcde", ""},
		{nil, "", "0123456789abcde/", ""},
		{nil, "", strings.Repeat("a", 129), ""},
	} {
		if got, err := part.Run(tc.extensions, tc.pipeline, tc.given); got != tc.want || (err == nil) == (tc.want == "") {
			t.Errorf("%+v: %q, %v", tc, got, err)
		}
	}
	for claim, want := range map[string]string{`"70"`: "70", `70`: "", `"7/../8"`: "", `""`: "", `null`: ""} {
		token := idtoken.Token{Claims: map[string]json.RawMessage{"pipeline_id": json.RawMessage(claim)}}
		if got := part.Pipeline(token); got != want {
			t.Errorf("%s: %q", claim, got)
		}
	}
}
