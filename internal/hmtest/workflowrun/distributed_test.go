package workflowrun_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRehearsalOfADistributedBuild: each platform is built in a job of its own, and the
// parts, which travel as artifacts, become one image.
func TestRehearsalOfADistributedBuild(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "push", "refs/tags/v1.2.3")
	image := w.authority.Registry + "/acme/app"
	with := map[string]any{"output": "image", "push": true, "meta-images": image, "context": "many", "platforms": "linux/amd64\nlinux/arm64",
		"meta-tags": "type=semver,pattern={{version}}", "annotations": "manifest,index:team=x", "set-meta-labels": true, "job-name-prefix": "app: "}
	uploads := map[string]string{}
	r, err := w.call(t, "build.yml", with, uploads)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"plan on ubuntu-24.04", "build on ubuntu-24.04", "build on ubuntu-24.04-arm", "merge on ubuntu-24.04"}, r.Jobs); d != "" {
		t.Error(d)
	}
	o := r.Outputs
	if o["signed"] != "true" || o["output-type"] != "image" || !strings.HasPrefix(o["digest"].(string), "sha256:") || o["cosign-version"] != "v3.1.3" || strings.Contains(r.Log, "::notice::") {
		t.Errorf("%v\n%s", o, r.Log)
	}
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		out, err := w.run(t, "verify", "--identity", w.server+"/"+builder, "--issuer", w.authority.URL, "--attestation", "slsaprovenance1", "--platform", platform, image+":1.2.3")
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := w.call(t, "verify.yml", map[string]any{"builder-outputs": string(data)}, nil); err != nil {
		t.Errorf("%+v, %v", v, err)
	}
	var names []string
	for name := range uploads {
		names = append(names, name)
	}
	if len(names) != 2 {
		t.Fatal(names)
	}
	// Another job of the same run adds an artifact whose name fits: of another run's part, of
	// a copy of this one's, of anything.
	prefix := strings.TrimSuffix(strings.TrimSuffix(names[0], "linux-amd64"), "linux-arm64")
	own, err := os.ReadFile(uploads[names[0]])
	if err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{string(own): "::error::PART_PLATFORM: linux/", "{}": "::error::PART_INVALID: part more.json: "} {
		more := filepath.Join(t.TempDir(), "more.json")
		if err := os.WriteFile(more, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if r, err := w.call(t, "build.yml", with, map[string]string{prefix + "more": more}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v; want %s", r, err, want)
		}
	}
}

// TestRehearsalOfParts: how jobs are spread follows from the inputs.
func TestRehearsalOfParts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "push", "refs/tags/v1.2.3")
	image := w.authority.Registry + "/acme/app"
	with := map[string]any{"output": "image", "push": true, "meta-images": image, "context": "many", "meta-tags": "type=raw,value=x"}
	for name, tc := range map[string]struct {
		change map[string]any
		jobs   string
	}{
		"one platform":    {map[string]any{"platforms": "linux/arm64"}, "plan on ubuntu-24.04, build on ubuntu-24.04-arm"},
		"not distributed": {map[string]any{"platforms": "linux/amd64,linux/arm64", "distribute": false}, "build on ubuntu-24.04"},
		"no platforms":    {nil, "build on ubuntu-24.04"},
		"other machines":  {map[string]any{"platforms": "linux/amd64,linux/arm64", "runner": "ubuntu-22.04"}, "plan on ubuntu-24.04, build on ubuntu-22.04, build on ubuntu-22.04, merge on ubuntu-24.04"},
		"not pushed":      {map[string]any{"platforms": "linux/amd64,linux/arm64", "push": false}, "plan on ubuntu-24.04, build on ubuntu-24.04, build on ubuntu-24.04-arm, merge on ubuntu-24.04"},
		"their own":       {map[string]any{"platforms": "linux/amd64,linux/arm64", "runner": "large"}, ""},
	} {
		changed := maps.Clone(with)
		maps.Copy(changed, tc.change)
		uploads := map[string]string{}
		r, err := w.call(t, "build.yml", changed, uploads)
		if tc.jobs == "" {
			if err == nil || !strings.Contains(err.Error(), "a machine that is not GitHub's own") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		pushed := changed["push"] == true
		if got := strings.Join(r.Jobs, ", "); got != tc.jobs || (r.Outputs["signed"] == "true") != pushed || !strings.Contains(r.Outputs["meta-json"].(string), image+":x") || (len(uploads) > 0) != (pushed && strings.Contains(got, "merge")) {
			t.Errorf("%s: %s; %v; %v", name, got, r.Outputs, uploads)
		}
	}
}
