package admission_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/admission"
)

const podYAML = `# runs two things
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: secure}
spec:
  initContainers:
  - {name: init, image: r.example/init:1}
  containers:
  - name: app
    image: r.example/app:1 # the app
    env: [{name: A, value: b}]
  - {name: side, image: "r.example/side@sha256:0000000000000000000000000000000000000000000000000000000000000000"}
  ephemeralContainers:
  - {name: debug, image: r.example/debug}
  volumes:
  - {name: data, emptyDir: {}}
  - {name: model, image: {reference: r.example/model:1, pullPolicy: Always}}
`

func fields(objects []*admission.Object) []string {
	var out []string
	for _, o := range objects {
		for _, i := range o.Images {
			out = append(out, i.Field+" "+i.Ref())
		}
	}
	return out
}

func TestParseObjects(t *testing.T) {
	t.Parallel()
	objects, err := admission.ParseObjects("pod.yaml", []byte(podYAML))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"spec.initContainers[0].image r.example/init:1",
		"spec.containers[0].image r.example/app:1",
		"spec.containers[1].image r.example/side@sha256:" + strings.Repeat("0", 64),
		"spec.ephemeralContainers[0].image r.example/debug",
		"spec.volumes[1].image.reference r.example/model:1",
	}
	if d := cmp.Diff(want, fields(objects)); d != "" {
		t.Error(d)
	}
	if s := objects[0].String(); s != "Pod secure/web" {
		t.Error(s)
	}
	var b bytes.Buffer
	if err := admission.WriteYAML(&b, objects); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "# the app") || !strings.Contains(b.String(), "# runs two things") {
		t.Errorf("comments are lost:\n%s", b.String())
	}
}

func TestWorkloads(t *testing.T) {
	t.Parallel()
	const template = `template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: r.example/a:1}]}}`
	for kind, text := range map[string]string{
		"apps/v1 Deployment":       "spec: {replicas: 3, " + template + "}",
		"apps/v1 ReplicaSet":       "spec: {" + template + "}",
		"apps/v1 StatefulSet":      "spec: {" + template + "}",
		"apps/v1 DaemonSet":        "spec: {" + template + "}",
		"batch/v1 Job":             "spec: {" + template + "}",
		"v1 ReplicationController": "spec: {" + template + "}",
		"v1 PodTemplate":           template,
		"batch/v1 CronJob":         "spec: {schedule: '@daily', jobTemplate: {spec: {" + template + "}}}",
	} {
		version, name, _ := strings.Cut(kind, " ")
		objects, err := admission.ParseObjects("f", []byte("apiVersion: "+version+"\nkind: "+name+"\nmetadata: {generateName: x-}\n"+text+"\n"))
		if err != nil || len(objects) != 1 || len(objects[0].Images) != 1 {
			t.Errorf("%s: %v %v", kind, objects, err)
			continue
		}
		want := map[string]string{"CronJob": "spec.jobTemplate.spec.template.spec.containers[0].image", "PodTemplate": "template.spec.containers[0].image"}[name]
		if want == "" {
			want = "spec.template.spec.containers[0].image"
		}
		if objects[0].Images[0].Field != want {
			t.Errorf("%s: %s", kind, objects[0].Images[0].Field)
		}
	}
	objects, err := admission.ParseObjects("f", []byte("apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{image: x}]}}\n- {apiVersion: v1, kind: Service, metadata: {name: s}}\n"))
	if err != nil || len(objects) != 2 || objects[0].Images[0].Field != "spec.containers[0].image" || len(objects[1].Images) != 0 {
		t.Error(objects, err)
	}
}

// TestObjectsRefused: what could hide an image is an error.
func TestObjectsRefused(t *testing.T) {
	t.Parallel()
	spec := func(s string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: " + s + "\n"
	}
	for name, tc := range map[string]struct{ text, want string }{
		"empty":           {"", "no object"},
		"no kind":         {"spec: {}\n", "apiVersion and kind are missing"},
		"unknown kind":    {"apiVersion: example.com/v1\nkind: Pods\n", "not judged"},
		"old version":     {"apiVersion: extensions/v1beta1\nkind: Deployment\n", "not judged"},
		"wrong group":     {"apiVersion: apps/v1\nkind: Pod\n", "not judged"},
		"no spec":         {"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", "without a pod spec"},
		"no containers":   {spec("{initContainers: [{image: x}]}"), "containers is missing"},
		"no image":        {spec("{containers: [{name: a}]}"), "spec.containers[0]: image is missing"},
		"empty image":     {spec("{containers: [{image: ''}]}"), "image is missing"},
		"null image":      {spec("{containers: [{image: }]}"), "must be a string"},
		"image number":    {spec("{containers: [{image: 1.0}]}"), "must be a string"},
		"image list":      {spec("{containers: [{image: [a]}]}"), "must be a string"},
		"image twice":     {spec("{containers: [{image: a, image: b}]}"), "given twice"},
		"case":            {spec("{containers: [{image: a}], InitContainers: [{image: b}]}"), "spelled initContainers"},
		"image case":      {spec("{containers: [{image: a, Image: b}]}"), "spelled image"},
		"alias":           {spec("{containers: &a [{image: a}], initContainers: *a}"), "anchors"},
		"merge":           {spec("{containers: [{<<: {image: a}, image: b}]}"), "merge keys"},
		"containers text": {spec("{containers: a}"), "must be a list"},
		"volume":          {spec("{containers: [{image: a}], volumes: [{image: {}}]}"), "reference is missing"},
		"list items":      {"apiVersion: v1\nkind: List\nitems: {}\n", "must be a list"},
		"list in list":    {"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, items: []}]\n", "not judged"},
	} {
		if _, err := admission.ParseObjects("f.yaml", []byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

func FuzzParseObjects(f *testing.F) {
	f.Add([]byte(podYAML))
	f.Add([]byte("apiVersion: v1\nkind: List\nitems: [{apiVersion: batch/v1, kind: Job}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, err := admission.ParseObjects("f", data)
		if err != nil {
			return
		}
		for _, o := range objects {
			for _, i := range o.Images {
				if i.Ref() == "" || i.Field == "" {
					t.Fatalf("%q: an image without a name", data)
				}
			}
		}
	})
}
