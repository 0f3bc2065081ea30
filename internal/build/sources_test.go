package build_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/build"
	"github.com/hallmark-dev/hallmark/internal/build/sourcegate"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// rules compiles a source policy; the text is what follows its first lines.
func rules(t *testing.T, name, text string, folder string) build.SourcePolicy {
	t.Helper()
	o := sourcepolicy.Options{}
	if folder != "" {
		o.FS = os.DirFS(folder)
	}
	p, err := sourcepolicy.Compile([]sourcepolicy.File{{Name: name, Data: []byte("package docker\n\n" + text)}}, o)
	if err != nil {
		t.Fatal(err)
	}
	return build.SourcePolicy{Policy: p, Name: name, From: build.FromOperator}
}

const allowAll = "decision := {\"allow\": true}\n"

// judged makes a request whose sources are judged.
func judged(t *testing.T, r build.Request, policies ...build.SourcePolicy) build.Request {
	t.Helper()
	s := &build.SourcePolicies{Policies: policies}
	if d, err := s.Ask(context.Background(), r.Options); err != nil || !d.Allowed {
		t.Fatal(d, err)
	}
	r.Sources = s
	return r
}

// try runs a build that may be denied.
func try(t *testing.T, w *world, r build.Request) (*build.Result, policy.Decision) {
	t.Helper()
	res, d, err := build.Run(context.Background(), w.kit, r)
	if err != nil {
		var be *build.Error
		if errors.As(err, &be) {
			t.Fatalf("%v\n%s\n%s", err, be.Excerpt, be.Log)
		}
		t.Fatal(err)
	}
	return res, d
}

func used(res *build.Result, name string) *sourcegate.Source {
	for i, s := range res.Sources {
		if strings.Contains(s.Source, name) {
			return &res.Sources[i]
		}
	}
	return nil
}

// notPushed demands that nothing of a build reached the registry.
func notPushed(t *testing.T, w *world, r build.Request) {
	t.Helper()
	w.pushes.Range(func(path, _ any) bool {
		if strings.HasPrefix(path.(string), "/v2/"+r.Image.Repository+"/manifests/") {
			t.Errorf("it was pushed: %s", path)
		}
		return true
	})
}

// push puts another image into the world's registry.
func push(t *testing.T, w *world, name string, labels map[string]string) (registry.Ref, evidence.Digest) {
	t.Helper()
	img, err := testimage.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	img.Labels = labels
	ref, err := registry.ParseRef(w.host + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	d, err := testimage.Push(context.Background(), w.reg, ref, img)
	if err != nil {
		t.Fatal(err)
	}
	return ref, evidence.Digest(d.Digest)
}

// Every decision of a policy, on a real daemon: what is built, what is denied and with
// which sentence.
func TestSourcePolicies(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	labelled, labelledDigest := push(t, w, "base/labelled:1", map[string]string{"org.example.approved": "yes"})
	_, other := push(t, w, "base/labelled:2", map[string]string{"org.example.approved": "no"})
	file := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "the file\n") }))
	t.Cleanup(file.Close)
	sum := string(evidence.SHA256([]byte("the file\n")))
	const from = "ARG BASE\nFROM ${BASE}\n"
	for _, c := range []struct {
		name, dockerfile, rego string
		base                   string
		code, say, excerpt     string // "" for a build that is allowed
		usedAs                 string // of the base image
	}{
		{name: "allow", dockerfile: from, rego: allowAll},
		{name: "deny by tag", dockerfile: from, code: "POLICY_DENIED", say: "only tag 2 of base/labelled is approved", excerpt: ">>> FROM",
			rego: `decision := {"allow": count(deny) == 0, "deny_msg": deny}
deny contains msg if { input.image; input.image.tag != "2"; msg := sprintf("only tag 2 of %s is approved", [trim_prefix(input.image.repo, concat("", [input.image.host, "/"]))]) }`},
		{name: "deny without a sentence", dockerfile: from, code: "POLICY_DENIED", say: "gives no deny_msg", rego: `decision := {"allow": false}`},
		{name: "pin", dockerfile: from, usedAs: string(other),
			rego: `decision := {"allow": true} if not input.image
decision := {"allow": pin_image(input.image, "` + string(other) + `")} if input.image`},
		{name: "pin what is no digest", dockerfile: from, code: "POLICY_EVAL", say: "pin_image",
			rego: `decision := {"allow": true} if not input.image
decision := {"allow": pin_image(input.image, "sha256:abc")} if input.image`},
		{name: "label", dockerfile: from, usedAs: string(labelledDigest),
			rego: `decision := {"allow": true} if not input.image
decision := {"allow": input.image.labels["org.example.approved"] == "yes"} if input.image`},
		{name: "label differs", dockerfile: from, base: "base/labelled:2", code: "POLICY_DENIED",
			rego: `decision := {"allow": true} if not input.image
decision := {"allow": input.image.labels["org.example.approved"] == "yes"} if input.image`},
		{name: "checksum", dockerfile: from, usedAs: string(labelledDigest),
			rego: `decision := {"allow": input.image.checksum == "` + string(labelledDigest) + `"} if input.image
decision := {"allow": true} if not input.image`},
		{name: "createdTime that is not there", dockerfile: from, code: "POLICY_DENIED", say: "too old",
			rego: `decision := {"allow": count(deny) == 0, "deny_msg": deny}
deny contains "too old" if { input.image; not input.image.createdTime }`},
		{name: "endless", dockerfile: from, code: "POLICY_EVAL",
			rego: `decision := {"allow": count(slow) > 0} if not input.env.capsRequest
decision := {"allow": true} if input.env.capsRequest
slow contains z if { some x in numbers.range(1, 20000); some y in numbers.range(1, 20000); z := x * y; z < 0 }`},
		{name: "http checksum", dockerfile: from + "ADD " + file.URL + "/f /f\n",
			rego: `decision := {"allow": input.http.checksum == "` + sum + `"} if input.http
decision := {"allow": true} if not input.http`},
		{name: "http checksum differs", dockerfile: from + "ADD " + file.URL + "/f /f\n", code: "POLICY_DENIED", say: "not the file",
			rego: `decision := {"allow": count(deny) == 0, "deny_msg": deny}
deny contains "not the file" if input.http.checksum != "sha256:` + strings.Repeat("0", 64) + `"`},
		{name: "http host", dockerfile: from + "ADD " + file.URL + "/f?token=s3cret /f\n", code: "POLICY_DENIED", say: "no downloads",
			rego: `decision := {"allow": false, "deny_msg": ["no downloads"]} if input.http
decision := {"allow": true} if not input.http`},
		{name: "argument of the build", dockerfile: from, code: "POLICY_DENIED", say: "labelled:1",
			rego: `decision := {"allow": false, "deny_msg": [input.env.args.BASE]} if input.image
decision := {"allow": true} if not input.image`},
		{name: "frontend that the Dockerfile brings", dockerfile: "# syntax=" + w.host + "/front/end:1\n" + from, code: "POLICY_DENIED", say: "/front/end:1 is no base image",
			rego: `decision := {"allow": count(deny) == 0, "deny_msg": deny}
deny contains sprintf("%s is no base image", [input.image.ref]) if { input.image; not contains(input.image.repo, "/base/") }`},
		{name: "no local sources", dockerfile: from, code: "POLICY_DENIED", say: "no local sources", rego: `decision := {"allow": false, "deny_msg": ["no local sources"]} if input.local
decision := {"allow": true} if not input.local`},
		{name: "hasProvenance of an image that is no index, and nobody to ask", dockerfile: from, code: "INPUT_INCOMPLETE", say: "image.attested",
			rego: `decision := {"allow": input.image.hasProvenance} if input.image
decision := {"allow": true} if not input.image`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, context_ := source(t, map[string]string{"Dockerfile": c.dockerfile})
			r := request(t, w, "app/judged-"+strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(c.name), " ", "-"), ",", ""), context_)
			r.Options.Args["BASE"] = labelled.String()
			if c.base != "" {
				r.Options.Args["BASE"] = w.host + "/" + c.base
			}
			res, d := try(t, w, judged(t, r, rules(t, "ops.rego", c.rego, "")))
			if d.Allowed != (c.code == "") {
				t.Fatalf("allowed: %v, %+v", d.Allowed, d.Reasons)
			}
			if !d.Allowed {
				if got := d.Reasons[0]; got.Code != c.code || !strings.Contains(got.Message+got.Hint, c.say) || got.Subject == "" {
					t.Errorf("reason %+v, want %s with %q", got, c.code, c.say)
				}
				if strings.Contains(fmt.Sprint(d.Reasons, res.Sources), "s3cret") {
					t.Errorf("a secret is told: %+v", d.Reasons)
				}
				if !strings.Contains(res.Excerpt, c.excerpt) {
					t.Errorf("excerpt %q", res.Excerpt)
				}
				notPushed(t, w, r)
				return
			}
			if c.usedAs != "" {
				if s := used(res, "base/labelled:1"); s == nil || s.UsedAs != c.usedAs || !s.Allowed {
					t.Errorf("the base image is %+v, want it used as %s", s, c.usedAs)
				}
				if p := statement(t, r, res.Attestations[0]); !strings.Contains(p, strings.TrimPrefix(c.usedAs, "sha256:")) {
					t.Errorf("the provenance does not name %s", c.usedAs)
				}
			}
		})
	}
}

// Each platform is asked about for itself, and gets what is pinned for it.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	own, foreign := "linux/"+runtime.GOARCH, "arm64"
	if runtime.GOARCH == foreign {
		foreign = "amd64"
	}
	other, digest := push(t, w, "base/platforms:2", map[string]string{"n": "2"})
	push(t, w, "base/platforms:1", nil)
	_, context_ := source(t, map[string]string{"Dockerfile": "ARG BASE\nFROM scratch AS " + foreign + "\nCOPY Dockerfile /\nFROM ${BASE} AS " + runtime.GOARCH + "\nFROM ${TARGETARCH}\n"})
	r := request(t, w, "app/platforms", context_)
	r.Options.Platforms = []string{own, "linux/" + foreign}
	r.Options.Args["BASE"] = strings.Replace(other.String(), ":2", ":1", 1)
	res, d := try(t, w, judged(t, r, rules(t, "ops.rego", `decision := {"allow": true} if not input.image
decision := {"allow": pin_image(input.image, "`+string(digest)+`")} if input.image.os == "linux"`, "")))
	if !d.Allowed || len(res.Images) != 2 || len(res.Attestations) != 2 {
		t.Fatalf("%+v %+v", d, res)
	}
	if s := used(res, "base/platforms:1"); s == nil || !strings.HasPrefix(s.Platform, own) || s.UsedAs != string(digest) {
		t.Errorf("%+v", s)
	}
}
