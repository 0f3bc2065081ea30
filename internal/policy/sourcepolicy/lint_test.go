package sourcepolicy_test

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

func TestLint(t *testing.T) {
	t.Parallel()
	const p = "package docker\ndecision := {\"allow\": allow}\ndefault allow := false\n"
	for name, tc := range map[string]struct{ text, want string }{
		"clean":          {p + `allow if input.image.repo == "alpine"`, ""},
		"call under not": {p + `allow if not startswith(input.image.user, "root")`, "p.rego:4: not startswith(input.image.user, \"root\"): when input.image.user is absent this is undefined"},
		"less under not": {p + `allow if not input.image.createdTime < "2020"`, "input.image.createdTime is absent"},
		"in under not":   {p + `allow if not "A=b" in input.image.env`, "input.image.env is absent"},
		"equal":          {p + `allow if not input.image.user == "root"`, ""},
		"bare":           {p + `allow if not input.image.user`, ""},
		"always there":   {p + `allow if not input.env.depth > 0`, ""},
		"rule under not": {p + "allow if not bad\nbad if startswith(input.image.user, \"root\")", ""},
		"empty list":     {p + `allow if count(input.image.signatures) == 0`, "its count is undefined, not 0"},
		"some":           {p + `allow if count(input.image.signatures) > 0`, ""},
		"no default":     {"package docker\ndecision := {\"allow\": allow}\nallow if input.local", "allow has no default"},
		"constant":       {"package docker\ndecision := {\"allow\": allow}\nallow := false\nallow if input.local", "allow is given the value false"},
		"claimed key":    {p + `allow if input.git.tag.sshSignature.pubKey == "SHA256:x"`, "nothing here verifies that"},
		"claimed author": {p + `allow if input.git.commit.author.email == "a@example.org"`, "nothing here verifies a signature"},
		"provenance":     {p + `allow if input.image.provenance.builderID == "x"`, "nothing here asks who signed it"},
		"verified":       {p + "allow if {\n input.image.provenance.builderID == \"x\"\n input.image.provenance.verified }", "nothing here asks who signed it"},
		"signer":         {p + "allow if {\n input.image.provenance.builderID == \"x\"\n input.image.provenance.signer.key == \"sha256:00\" }", ""},
		"signed":         {p + "allow if {\n input.image.provenance.builderID == \"x\"\n docker_github_builder(input.image, \"o/r\") }", ""},
		"tag":            {p + `allow if input.image.tag == "1.25"`, "p.rego:4: input.image.tag decides"},
		"tag, computed":  {p + "allow if semver.is_valid(version)\nversion := split(input.image.tag, \"-\")[0]", "p.rego:5: input.image.tag decides"},
		"tag, or none":   {p + `allow if object.get(input.image, "tag", "") == "1"`, "input.image.tag decides"},
		"tag of a list":  {p + `allow if {"a:1": true}[concat(":", [input.image.repo, input.image.tag])]`, "input.image.tag decides"},
		"tag denied":     {p + "allow if count(deny_msg) == 0\nold if startswith(input.image.tag, \"v0\")\ndeny_msg contains \"x\" if old", "p.rego:5: input.image.tag decides"},
		"tag alone":      {p + "allow if {\n input.image.tag == \"1.25\"\n not input.image.isCanonical }", ""},
		"tag and digest": {p + "allow if {\n input.image.tag == \"1.25\"\n input.image.checksum == \"sha256:aa\" }", ""},
		"tag, signed":    {p + `allow if docker_github_builder_tag(input.image, "o/r", input.image.tag)`, ""},
		"tag, said":      {p + "allow if {\n input.image.tag\n print(input.image.tag) }\ndeny_msg contains sprintf(\"%s\", [input.image.tag]) if {\n not allow\n input.image.tag }", ""},
		"tag of git":     {p + `allow if input.git.tagName == "v1"`, ""},
		"time":           {p + `allow if time.now_ns() > 0`, "time.now_ns gives another answer"},
		"random":         {p + `allow if rand.intn("x", 2) == 1`, "rand.intn gives another answer"},
	} {
		found, err := sourcepolicy.Lint([]sourcepolicy.File{{Name: "p.rego", Data: []byte(tc.text)}}, sourcepolicy.Options{})
		var lines []string
		for _, f := range found {
			if !strings.HasPrefix(f.Code, "LINT_") || f.Hint == "" && f.Code != "LINT_IMPURE" {
				t.Errorf("%s: %+v", name, f)
			}
			lines = append(lines, f.Subject+": "+f.Message)
		}
		if said := strings.Join(lines, "\n"); err != nil || tc.want == "" && said != "" || !strings.Contains(said, tc.want) {
			t.Errorf("%s: %q %v, want %q", name, said, err, tc.want)
		}
	}
	if _, err := sourcepolicy.Lint([]sourcepolicy.File{{Name: "p.rego", Data: []byte("package docker")}}, sourcepolicy.Options{}); err == nil {
		t.Error("a policy that does not compile has findings")
	}
	d, err := sourcepolicy.CompileDefault()
	if err != nil {
		t.Fatal(err)
	}
	if found := d.Lint(); len(found) > 0 {
		t.Errorf("the default policy: %v", found)
	}
}
