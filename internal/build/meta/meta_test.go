package meta_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/build/meta"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

const commit = "860c1904a1ce19322e91ac35af1ab07466440c37"

// at is a context as in the tests of docker/metadata-action, whose results the
// tables below have.
func at(ref string) meta.Context {
	when := time.Date(2020, 1, 10, 0, 30, 0, 0, time.UTC)
	c := meta.Context{Event: "push", Ref: ref, SHA: commit, DefaultBranch: "master", Time: when, CommitTime: when.Add(-time.Hour),
		Repository: meta.Repository{Name: "Hello-World", Description: "This your first repo!", URL: "https://github.com/octocat/Hello-World", License: "MIT"}}
	switch {
	case strings.HasPrefix(ref, "refs/pull/"):
		c.Event, c.BaseRef = "pull_request", "master"
	case strings.HasPrefix(ref, "refs/tags/"):
		c.BaseRef = "refs/heads/master"
	}
	return c
}

func TestTags(t *testing.T) {
	t.Parallel()
	const versions = "type=semver,pattern={{version}}\ntype=semver,pattern={{major}}.{{minor}}\ntype=semver,pattern={{major}}"
	const pep440 = "type=pep440,pattern={{version}}\ntype=pep440,pattern={{major}}.{{minor}}\ntype=pep440,pattern={{major}}"
	for _, tc := range []struct{ ref, tags, flavor, want string }{
		{"refs/heads/dev", "", "", "dev"},
		{"refs/heads/my/branch", "", "", "my-branch"},
		{"refs/heads/releases/v1", "type=ref,event=branch", "", "releases-v1"},
		{"refs/pull/2/merge", "", "", "pr-2"},
		{"refs/pull/318/merge", "type=ref,event=pr,prefix=", "", "318"},
		{"refs/tags/v1.2.3", "", "", "v1.2.3 latest"},
		{"refs/tags/v2.0.8-beta.67", "", "", "v2.0.8-beta.67 latest"},
		{"refs/heads/master", "type=edge", "", "edge"},
		{"refs/heads/dev", "type=edge", "", ""},
		{"refs/heads/dev", "type=edge,branch=dev\ntype=sha", "", "edge sha-860c190"},
		{"refs/heads/master", "type=edge,branch=dev\ntype=sha", "", "sha-860c190"},
		{"refs/heads/master", "type=ref,priority=2000,event=branch\ntype=edge", "", "master edge"},
		{"refs/heads/dev", versions, "", ""},
		{"refs/tags/v1.1.1", versions, "", "1.1.1 1.1 1 latest"},
		{"refs/tags/v1.1.1", "type=semver,pattern={{version}}\ntype=semver,pattern={{major}}.{{minor}}.{{patch}}", "", "1.1.1 latest"},
		{"refs/tags/v1.2.3", "type=semver,pattern=v{{major}}", "", "v1 latest"},
		{"refs/tags/v1.2.3", "type=semver,pattern={{raw}}", "", "v1.2.3 latest"},
		{"refs/tags/v2.0.8-beta.67", versions, "", "2.0.8-beta.67"},
		{"refs/tags/v2.0.8-beta.67", "type=semver,pattern={{ raw }}", "", "v2.0.8-beta.67"},
		{"refs/tags/v2.0.8-beta.67", "type=semver,pattern=raw", "", "2.0.8-beta.67"},
		{"refs/tags/v9.5.7-alpha.2+fork.3.1.8", "type=semver,pattern={{version}}", "", "9.5.7-alpha.2"},
		{"refs/tags/v9.5.7-alpha.2+fork.3.1.8", "type=semver,pattern={{raw}}", "", "v9.5.7-alpha.2-fork.3.1.8"},
		{"refs/tags/sometag", versions, "", ""},
		{"refs/tags/sometag", "type=ref,event=tag\n" + versions, "latest=false", "sometag"},
		{"refs/heads/dev", "type=semver,pattern={{version}},value=v1.0.0", "", "1.0.0 latest"},
		{"refs/tags/foo/v1.2.3", "type=semver,pattern={{version}},match=foo/(.*)", "", "1.2.3 latest"},
		{"refs/tags/v1.2.3", "type=semver,pattern={{version}},match=foo/(.*)", "", ""},
		{"refs/tags/v1.1.1", "type=pep440,pattern={{raw}}\ntype=pep440,pattern={{major}}.{{minor}}", "", "v1.1.1 1.1 latest"},
		{"refs/tags/1.2", "type=pep440,pattern={{version}}\ntype=pep440,pattern={{major}}.{{minor}}", "", "1.2 latest"},
		{"refs/tags/1.1beta2", pep440, "", "1.1b2"},
		{"refs/tags/1.0dev4", pep440, "", "1.0.dev4"},
		{"refs/tags/1.2post1", pep440, "", "1.2.post1"},
		{"refs/tags/v1.1.1", pep440, "", "1.1.1 1.1 1 latest"},
		{"refs/tags/v1.2.3rc2", "type=pep440,pattern={{raw}}\ntype=pep440,pattern={{major}}.{{minor}}", "", "v1.2.3rc2 1.2.3rc2"},
		{"refs/tags/v2.0.8-beta.67", `type=match,"pattern=\d.\d.\d-(alpha|beta).\d+"`, "", "2.0.8-beta.67 latest"},
		{"refs/tags/v2.0.8-beta.67", `type=match,"pattern=\d.\d"`, "", "2.0 latest"},
		{"refs/tags/v2.0.8-beta.67", "type=match,\"pattern=v(.*)-beta.(.*)\",group=1\ntype=match,\"pattern=v(.*)-beta.(.*)\",group=2", "", "2.0.8 67 latest"},
		{"refs/tags/sometag", `type=match,"pattern=\d.\d"`, "", ""},
		{"refs/tags/20200110-RC2", `type=match,"pattern=^\d+-RC\d{1,2}"`, "", "20200110-RC2 latest"},
		{"refs/tags/p1/v1.0.0", "type=match,\"pattern=/^v(\\d.\\d.\\d)$/ig\",group=1\ntype=match,pattern=\\d.\\d.\\d\ntype=match,pattern=\\d.\\d\ntype=ref,event=pr\ntype=sha", "", "1.0.0 1.0 sha-860c190 latest"},
		{"refs/tags/p1/v1.0.0", "type=match,pattern=p1/v(\\d.\\d.\\d),group=1\ntype=match,pattern=p1/v(\\d.\\d),group=3\ntype=sha", "", "1.0.0 sha-860c190 latest"},
		{"refs/tags/p1/v1.0.0", "type=match,pattern=p1/v(\\d.\\d.\\d),group=1\ntype=match,pattern=p1/v(\\d.\\d),group=1,suffix=\ntype=sha", "suffix=-dev", "1.0.0-dev 1.0 sha-860c190-dev latest"},
		{"refs/tags/V1.0.0", "type=match,pattern=/v(.*)/i,group=1", "", "1.0.0 latest"},
		{"refs/tags/1-2-3", "type=match,pattern=/\\d/g,group=1", "", "2 latest"},
		{"refs/tags/v2.0.8-beta.67", "type=raw,priority=2000,foo\ntype=semver,pattern={{version}}\ntype=match,\"pattern=\\d.\\d\"", "", "foo 2.0.8-beta.67 2.0"},
		{"refs/tags/v1.1.1", "type=raw,{{tag}}-{{sha}}-foo\ntype=raw,{{base_ref}}-foo\ntype=raw,defbranch-foo,enable={{is_default_branch}}", "", "v1.1.1-860c190-foo master-foo"},
		{"refs/heads/master", "type=raw,defbranch,enable={{is_default_branch}}\ntype=raw,other,enable={{is_not_default_branch}}", "", "defbranch"},
		{"refs/tags/master", "type=raw,defbranch,enable={{is_default_branch}}\nother", "", "other"},
		{"refs/heads/my/branch", "type=sha,prefix={{branch}}-", "", "my-branch-860c190"},
		{"refs/heads/dev", "type=sha,format=long,prefix=", "", commit},
		{"refs/heads/dev", "# a comment\n\n foo \nbar", "", "foo bar"},
		{"refs/tags/docs#20250820", "type=match,pattern=docs#(.*),group=1", "", "20250820 latest"},
		{"refs/tags/a #1", `type=match,"pattern=a #(.)",group=1`, "", "1 latest"},
		{"refs/heads/dev", "foo", "latest=true", "foo latest"},
		{"refs/tags/v1.1.1", versions, "suffix=-dev,onlatest=true", "1.1.1-dev 1.1-dev 1-dev latest-dev"},
		{"refs/tags/v1.1.1", "type=semver,pattern={{version}}", "prefix=foo-,onlatest=true\nsuffix=-dev,onlatest=true", "foo-1.1.1-dev foo-latest-dev"},
		{"refs/tags/v1.1.1", "type=raw,latest\ntype=semver,pattern={{version}}", "", "1.1.1 latest"},
		{"refs/heads/dev", "type=raw,{{date 'YYYYMMDD'}}", "", "20200110"},
		{"refs/heads/dev", "type=raw,value={{date 'YYYYMMDD-HHmmss' tz='UTC'}}", "", "20200110-003000"},
		{"refs/heads/dev", `type=raw,"value={{date 'dddd, MMMM Do YYYY, h:mm:ss a'}}"`, "", "Friday-January-10th-2020-12-30-00-am"},
		{"refs/heads/dev", "type=raw,{{commit_date 'YYYY-MM-DDTHH:mm:ss.SSS[Z]'}}", "", "2020-01-09T23-30-00.000Z"},
		{"refs/heads/dev", "type=schedule", "", ""},
		{"", "type=raw,{{branch}}", "", ""},
		{"refs/changes/1", "", "", ""},
	} {
		r, err := meta.Derive(meta.Inputs{Tags: tc.tags, Flavor: tc.flavor}, at(tc.ref))
		if err != nil {
			t.Errorf("%s, %q: %v", tc.ref, tc.tags, err)
			continue
		}
		if got := strings.Join(r.Tags, " "); got != tc.want {
			t.Errorf("%s, %q, %q: %s, want %s; notes: %q", tc.ref, tc.tags, tc.flavor, got, tc.want, r.Notes)
		}
		if first, _, _ := strings.Cut(tc.want, " "); r.Version != first {
			t.Errorf("%s, %q: version %s", tc.ref, tc.tags, r.Version)
		}
	}
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	c := at("refs/heads/master")
	c.Event = "schedule"
	for tags, want := range map[string]string{
		"":              "nightly master",
		"type=schedule": "nightly",
		"type=schedule,pattern={{date 'YYYYMMDD'}}": "20200110",
	} {
		r, err := meta.Derive(meta.Inputs{Tags: tags}, c)
		if err != nil || strings.Join(r.Tags, " ") != want {
			t.Errorf("%q: %v, %v", tags, r, err)
		}
	}
}

func TestImagesAndLabels(t *testing.T) {
	t.Parallel()
	r, err := meta.Derive(meta.Inputs{
		Images: "Org/App\nname=ghcr.io/user/app,enable=true\nname=ghcr.io/user/off,enable=false\nlocalhost:5000/a",
		Tags:   "type=semver,pattern={{version}}",
		Labels: "maintainer=CrazyMax\nissue=https://example.com/x#1 #2\norg.opencontainers.image.title=My=Title\nbranch={{branch}}x",
	}, at("refs/tags/v1.1.1"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Tags        []string
		TagNames    []string `json:"tag-names"`
		Labels      map[string]string
		Annotations []string
	}
	if err := json.Unmarshal(got, &answer); err != nil {
		t.Fatal(err)
	}
	want := answer
	want.Tags = []string{"org/app:1.1.1", "org/app:latest", "ghcr.io/user/app:1.1.1", "ghcr.io/user/app:latest", "localhost:5000/a:1.1.1", "localhost:5000/a:latest"}
	want.TagNames = []string{"1.1.1", "latest"}
	want.Labels = map[string]string{
		"maintainer":                           "CrazyMax",
		"issue":                                "https://example.com/x#1 #2",
		"branch":                               "x",
		"org.opencontainers.image.created":     "2020-01-09T23:30:00.000Z",
		"org.opencontainers.image.description": "This your first repo!",
		"org.opencontainers.image.licenses":    "MIT",
		"org.opencontainers.image.revision":    commit,
		"org.opencontainers.image.source":      "https://github.com/octocat/Hello-World",
		"org.opencontainers.image.title":       "My=Title",
		"org.opencontainers.image.url":         "https://github.com/octocat/Hello-World",
		"org.opencontainers.image.version":     "1.1.1",
	}
	want.Annotations = []string{
		"manifest:org.opencontainers.image.created=2020-01-09T23:30:00.000Z",
		"manifest:org.opencontainers.image.description=This your first repo!",
		"manifest:org.opencontainers.image.licenses=MIT",
		"manifest:org.opencontainers.image.revision=" + commit,
		"manifest:org.opencontainers.image.source=https://github.com/octocat/Hello-World",
		"manifest:org.opencontainers.image.title=Hello-World",
		"manifest:org.opencontainers.image.url=https://github.com/octocat/Hello-World",
		"manifest:org.opencontainers.image.version=1.1.1",
	}
	if d := cmp.Diff(want, answer); d != "" {
		t.Error(d)
	}
	one, err := meta.Derive(meta.Inputs{Images: "user/app, ghcr.io/user/app"}, at("refs/heads/dev"))
	if err != nil || strings.Join(one.Tags, " ") != "user/app:dev ghcr.io/user/app:dev" {
		t.Errorf("%+v, %v", one, err)
	}
}

// TestDescriptionIsOneLine: a description is text of somebody else, and a line is a label to many readers.
func TestDescriptionIsOneLine(t *testing.T) {
	t.Parallel()
	c := at("refs/heads/dev")
	c.Repository.Description = "good\norg.opencontainers.image.revision=0000"
	r, err := meta.Derive(meta.Inputs{}, c)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Labels["org.opencontainers.image.description"]; got != "good org.opencontainers.image.revision=0000" {
		t.Errorf("%q", got)
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	r, err := meta.Derive(meta.Inputs{Images: "a/b\nc/d", Tags: "type=semver,pattern={{version}}"}, at("refs/tags/v1.1.1"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := meta.Expand("build-args", "VERSION={{meta.version}}\n\n A={{ meta.tags }} \nB={{meta.tags.[2]}},{{meta.tags.0}}\nC=}}<&>", r)
	want := []string{"VERSION=1.1.1", "A=a/b:1.1.1,a/b:latest,c/d:1.1.1,c/d:latest", "B=c/d:1.1.1,a/b:1.1.1", "C=}}<&>"}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if got, err := meta.Expand("labels", "a=b", nil); err != nil || len(got) != 1 {
		t.Error(got, err)
	}
	for text, want := range map[string]string{
		"A=b\nB={{meta.verison}}": "build-args, line 2: unknown expression {{meta.verison}}; did you mean meta.version?",
		"B={{version}}":           "unknown expression {{version}}",
		"B={{branch}}":            "unknown expression {{branch}}",
		"B={{meta}}":              "unknown expression",
		"B={{meta.tags.[4]}}":     "unknown expression",
		"B={{meta.version x}}":    "takes no argument",
		"B={{meta.version":        "{{ without }}",
		"B={{#each meta.tags}}":   "of Handlebars only",
		"B={{{meta.version}}}":    "of Handlebars only",
		"B={{}}":                  "of Handlebars only",
		"B={{!-- x --}}":          "of Handlebars only",
		`B=\{{meta.version}}`:     `\{{ is not supported`,
		"B=\x00":                  "control characters",
		"B=\xff":                  "control characters, or not UTF-8",
	} {
		_, err := meta.Expand("build-args", text, r)
		if err == nil || !strings.Contains(err.Error(), want) || fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := meta.Expand("labels", "a={{meta.version}}", nil); err == nil || !strings.Contains(err.Error(), "output image only") {
		t.Error(err)
	}
}

// TestRefused are the near-misses of what the tables above have.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		in   meta.Inputs
		want string
	}{
		{meta.Inputs{Tags: "a\ntype=semvr,pattern={{version}}"}, `meta-tags, line 2: unknown type "semvr"; did you mean semver?; known: edge, match`},
		{meta.Inputs{Tags: "type=SEMVER,pattern={{version}}"}, `unknown type "SEMVER"; did you mean semver?`},
		{meta.Inputs{Tags: "type=semver"}, "meta-tags, line 1: type=semver wants the attribute pattern"},
		{meta.Inputs{Tags: "type=pep440"}, "wants the attribute pattern"},
		{meta.Inputs{Tags: "type=match"}, "wants the attribute pattern"},
		{meta.Inputs{Tags: "type=raw"}, "wants the attribute value"},
		{meta.Inputs{Tags: "type=ref"}, "wants the attribute event"},
		{meta.Inputs{Tags: "type=ref,event=foo"}, "event=foo; it is one of branch, tag, pr"},
		{meta.Inputs{Tags: "type=ref,event=tags"}, "event=tags; did you mean tag?"},
		{meta.Inputs{Tags: "type=sha,format=foo"}, "format=foo; it is one of short, long"},
		{meta.Inputs{Tags: "type=sha,enable=foo"}, `enable=foo is "foo"; it must be true or false`},
		{meta.Inputs{Tags: "type=sha,enable=True"}, "must be true or false"},
		{meta.Inputs{Tags: "type=sha,enable="}, "must be true or false"},
		{meta.Inputs{Tags: "type=sha,priority=high"}, "priority=high is no whole number"},
		{meta.Inputs{Tags: "type=sha,prefx=x"}, `type=sha has no attribute "prefx"; did you mean prefix?`},
		{meta.Inputs{Tags: "type=sha,pattern=x"}, `type=sha has no attribute "pattern"`},
		{meta.Inputs{Tags: "type=edge,main"}, `type=edge has no attribute "value"`},
		{meta.Inputs{Tags: "type=sha,prefix=a,prefix=b"}, "prefix is given twice"},
		{meta.Inputs{Tags: "type=raw,a,b"}, "value is given twice"},
		{meta.Inputs{Tags: "type=raw,a,"}, "an attribute without a name"},
		{meta.Inputs{Tags: "type=raw,=a"}, "an attribute without a name"},
		{meta.Inputs{Tags: `type=match,pattern="a"`}, "stands in double quotes as a whole"},
		{meta.Inputs{Tags: "type=match,pattern=v(.*),group=foo"}, "group=foo is no number of a group"},
		{meta.Inputs{Tags: "type=match,pattern=v(.*),group=-1"}, "is no number of a group"},
		{meta.Inputs{Tags: "type=match,pattern=v(.*"}, "missing closing )"},
		{meta.Inputs{Tags: "type=match,pattern=v(?!x)"}, "without look-around"},
		{meta.Inputs{Tags: "type=match,pattern=/x/y"}, "the flag y"},
		{meta.Inputs{Tags: "type=match,pattern=" + strings.Repeat("x", 1001)}, "longer than 1000"},
		{meta.Inputs{Tags: "type=semver,pattern={{verson}}"}, "unknown expression {{verson}}; did you mean version?"},
		{meta.Inputs{Tags: "type=semver,pattern={{branch}}"}, "unknown expression {{branch}}"},
		{meta.Inputs{Tags: "type=semver,pattern={{version}},match=(("}, "match: "},
		{meta.Inputs{Tags: "type=raw,{{is_default}}"}, "unknown expression"},
		{meta.Inputs{Tags: "type=raw,{{meta.version}}"}, "unknown expression"},
		{meta.Inputs{Tags: "type=raw,a,enable={{is_main}}"}, "unknown expression"},
		{meta.Inputs{Tags: "type=raw,{{date}}"}, "wants a format in quotes"},
		{meta.Inputs{Tags: "type=raw,{{date YYYY}}"}, "wants a format in quotes"},
		{meta.Inputs{Tags: "type=raw,{{date 'YYYY}}"}, "wants a format in quotes"},
		{meta.Inputs{Tags: "type=raw,{{date 'wo'}}"}, "wo is not supported"},
		{meta.Inputs{Tags: "type=raw,{{date 'MMMMM'}}"}, "MMMMM is not supported"},
		{meta.Inputs{Tags: `type=raw,{{date '\Y'}}`}, "in [brackets]"},
		{meta.Inputs{Tags: "type=raw,value={{date 'YYYY' tz='Local'}}"}, "is no time zone"},
		{meta.Inputs{Tags: "type=raw,value={{date 'YYYY' tz='../x'}}"}, "is not in the database"},
		{meta.Inputs{Tags: "type=raw,value={{date 'YYYY' zone='UTC'}}"}, "is not tz='ZONE'"},
		{meta.Inputs{Tags: "type=raw,value={{date 'YYYY' tz='UTC' x}}"}, "is not tz='ZONE'"},
		{meta.Inputs{Tags: "type=schedule,pattern={{branch}}"}, "unknown expression {{branch}}"},
		{meta.Inputs{Tags: "type=raw,-a"}, `"-a" is no tag`},
		{meta.Inputs{Tags: "type=raw,.a"}, "is no tag"},
		{meta.Inputs{Tags: "type=raw," + strings.Repeat("a", 129)}, "is no tag"},
		{meta.Inputs{Tags: strings.Repeat("a\n", 501)}, "more than 500 lines"},
		{meta.Inputs{Tags: strings.Repeat("a", 65537)}, "at most 65536 are read"},
		{meta.Inputs{Flavor: "latest=maybe"}, "meta-flavor, line 1: latest=maybe; it is one of auto, true, false"},
		{meta.Inputs{Flavor: "latest"}, "is not NAME=VALUE"},
		{meta.Inputs{Flavor: "onlatest=true"}, "stands behind the prefix or suffix"},
		{meta.Inputs{Flavor: "prefix=a\nonlatest=true"}, "meta-flavor, line 2: onlatest stands behind"},
		{meta.Inputs{Flavor: "prefix=a,onlatest=yes"}, "onlatest=yes"},
		{meta.Inputs{Flavor: "prefix=a\nprefix=b"}, "prefix is given twice"},
		{meta.Inputs{Flavor: "sufix=a"}, `unknown flavor "sufix"; did you mean suffix?`},
		{meta.Inputs{Flavor: "prefix={{brnch}}"}, "meta-flavor: unknown expression {{brnch}}; did you mean branch?"},
		{meta.Inputs{Images: "a/b:1"}, "not the name of a repository alone"},
		{meta.Inputs{Images: "a/b@sha256:" + strings.Repeat("0", 64)}, "not the name of a repository alone"},
		{meta.Inputs{Images: "oci:dir"}, "meta-images, line 1"},
		{meta.Inputs{Images: "https://a/b"}, "meta-images, line 1"},
		{meta.Inputs{Images: "a/b\nc d/e"}, "meta-images, line 2"},
		{meta.Inputs{Images: "name=a/b,enabled=true"}, `no attribute "enabled"; did you mean enable?`},
		{meta.Inputs{Images: "name=a/b,enable=1"}, "enable=1; it is true or false"},
		{meta.Inputs{Images: "name="}, "an image without a name"},
		{meta.Inputs{Images: "a/b\nenable=true"}, "an image without a name"},
		{meta.Inputs{Images: "a/b\nc/d,e/f"}, "name is given twice"},
		{meta.Inputs{Labels: "a"}, `meta-labels, line 1: "a" is not KEY=VALUE`},
		{meta.Inputs{Labels: "=a"}, "is not KEY=VALUE"},
		{meta.Inputs{Labels: "a b=c"}, "is not KEY=VALUE"},
		{meta.Inputs{Labels: "a=b\na=c"}, "meta-labels, line 2: a is given twice; the first is in line 1"},
		{meta.Inputs{Annotations: "a={{x}}"}, "meta-annotations, line 1: unknown expression {{x}}"},
		{meta.Inputs{Tags: "a\x07"}, "control characters"},
		{meta.Inputs{Tags: "type=semver,pattern={{version}} # the version"}, "meta-tags, line 1: \"type=semver,pattern={{version}} # the version\": a comment has a line of its own"},
		{meta.Inputs{Tags: "a\nfoo\t#b"}, "meta-tags, line 2"},
		{meta.Inputs{Tags: "type=match,\"pattern=(.*)\" #b"}, "a comment has a line of its own"},
		{meta.Inputs{Flavor: "latest=false # no"}, "meta-flavor, line 1: \"latest=false # no\": a comment has"},
		{meta.Inputs{Images: "a/b # mine"}, "meta-images, line 1"},
		{meta.Inputs{Images: "name=a/b # mine"}, "a comment has a line of its own"},
	} {
		if tc.in.Tags == "" {
			tc.in.Tags = "foo"
		}
		r, err := meta.Derive(tc.in, at("refs/tags/v1.1.1"))
		if err == nil || !strings.Contains(err.Error(), tc.want) || fault.KindOf(err) != fault.Usage {
			t.Errorf("%+v: %v, %v, want %s", tc.in, r, err, tc.want)
		}
	}
}

// TestCheck: what is wrong whatever the ref is, is found without one.
func TestCheck(t *testing.T) {
	t.Parallel()
	if err := meta.Check(meta.Inputs{Images: "a/b", Tags: "type=raw,{{branch}}-x\ntype=sha", Flavor: "latest=true", Labels: "a={{tag}}"}); err != nil {
		t.Error(err)
	}
	for _, in := range []meta.Inputs{{Images: "a b"}, {Tags: "type=x"}, {Tags: "{{x}}"}, {Flavor: "x=y"}, {Flavor: "prefix={{x}}"}, {Labels: "x"}, {Annotations: "x={{x}}"}} {
		if err := meta.Check(in); err == nil {
			t.Errorf("%+v", in)
		}
	}
}

func TestContextIsChecked(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*meta.Context){
		"newline":     func(c *meta.Context) { c.Ref = "refs/heads/a\nb" },
		"long":        func(c *meta.Context) { c.Ref = "refs/heads/" + strings.Repeat("a", 1024) },
		"not UTF-8":   func(c *meta.Context) { c.BaseRef = "\xff" },
		"commit":      func(c *meta.Context) { c.SHA = "HEAD" },
		"short":       func(c *meta.Context) { c.SHA = commit[:39] },
		"upper case":  func(c *meta.Context) { c.SHA = strings.ToUpper(commit) },
		"event":       func(c *meta.Context) { c.Event = "push\x00" },
		"main branch": func(c *meta.Context) { c.DefaultBranch = "a\rb" },
	} {
		c := at("refs/heads/main")
		change(&c)
		if r, err := meta.Derive(meta.Inputs{}, c); err == nil {
			t.Errorf("%s: %v", name, r)
		}
	}
}

func TestNotesSayWhyThereIsNoTag(t *testing.T) {
	t.Parallel()
	r, err := meta.Derive(meta.Inputs{Tags: "type=sha\ntype=semver,pattern={{version}}\ntype=match,pattern=x(.),group=1"}, at("refs/tags/v1"))
	want := []string{
		"meta-tags, line 2: no tag: v1 is not a semantic version",
		"meta-tags, line 3: no tag: pattern=x(.) has no group 1 in v1",
	}
	if err != nil || cmp.Diff(want, r.Notes) != "" {
		t.Errorf("%q, %v", r.Notes, err)
	}
}

func TestManyNamesAreRefused(t *testing.T) {
	t.Parallel()
	var images, tags strings.Builder
	for i := range 50 {
		fmt.Fprintf(&images, "a/b%d\n", i)
		fmt.Fprintf(&tags, "t%d\n", i)
	}
	if _, err := meta.Derive(meta.Inputs{Images: images.String(), Tags: tags.String()}, at("refs/heads/x")); err == nil || !strings.Contains(err.Error(), "at most 2000 names") {
		t.Error(err)
	}
}

// FuzzDerive: whatever the inputs say, names are names that a registry takes, and
// the same again gives the same.
func FuzzDerive(f *testing.F) {
	f.Add("a/b", "type=semver,pattern={{version}}", "suffix=-x,onlatest=true", "a=b", "refs/tags/v1.2.3-rc.1+x")
	f.Add("name=a/b,enable=true", "type=match,\"pattern=/v(.*)/ig\",group=1\ntype=sha", "latest=true", "d={{date 'YYYY [x] Do' tz='UTC'}}", "refs/pull/2/merge")
	f.Add("", "type=pep440,pattern={{raw}}\n#\n{{branch}}", "prefix={{sha}}", "", "refs/heads/a/b")
	f.Fuzz(func(t *testing.T, images, tags, flavor, labels, ref string) {
		in := meta.Inputs{Images: images, Tags: tags, Flavor: flavor, Labels: labels, Annotations: labels}
		r, err := meta.Derive(in, at(ref))
		if err != nil {
			return
		}
		for _, name := range r.TagNames {
			if name == "" || len(name) > 128 || strings.ContainsAny(name, " /:\n@") || name[0] == '-' || name[0] == '.' {
				t.Errorf("tag %q", name)
			}
		}
		for k, v := range r.Labels {
			if k == "" || strings.ContainsAny(k+v, "\n\r\x00") {
				t.Errorf("label %q=%q", k, v)
			}
		}
		a, errA := r.JSON()
		again, err := meta.Derive(in, at(ref))
		if err != nil || errA != nil {
			t.Fatal(err, errA)
		}
		if b, _ := again.JSON(); string(a) != string(b) {
			t.Errorf("%s\n%s", a, b)
		}
	})
}
