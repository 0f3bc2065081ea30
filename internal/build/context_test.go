package build_test

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/build"
)

// A folder of the commit is the whole context, from an exported tree, too, and the
// provenance names it.
func TestFolderOfCommit(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	_, c := source(t, map[string]string{"Dockerfile": "FROM nowhere\n", "docker/app/Dockerfile": "FROM scratch\nCOPY hello /\n", "docker/app/hello": "hello\n"})
	r := request(t, w, "app/folder", c)
	r.Options.Dir = "docker/app"
	res := run(t, w, r)
	if got := statement(t, r, res.Attestations[0]); !strings.Contains(got, `"localdir:context":"docker/app"`) {
		t.Errorf("the provenance does not name the folder: %.2000s", got)
	}
	r.Options.Dir = "docker/nowhere"
	if _, _, err := build.Run(t.Context(), w.kit, r); err == nil {
		t.Error("a folder that is not there was built")
	}
}

// Named contexts are sources: used, judged and recorded as those that the Dockerfile names.
func TestNamedContexts(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	_, c := source(t, map[string]string{"Dockerfile": "FROM base\nRUN test -x /bin/busybox\n"})
	r := request(t, w, "app/named", c)
	r.Options.Contexts = map[string]string{"base": "docker-image://" + w.base}
	res, d := try(t, w, judged(t, r, rules(t, "a.rego", allowAll, "")))
	if !d.Allowed || used(res, "/base/busybox") == nil {
		t.Fatalf("%+v %+v", d, res.Sources)
	}
	if got := statement(t, r, res.Attestations[0]); !strings.Contains(got, "/base/busybox@1") {
		t.Errorf("the provenance does not name the image: %.2000s", got)
	}
	r = request(t, w, "app/named2", c)
	r.Options.Contexts = map[string]string{"base": "docker-image://" + w.base}
	r = judged(t, r, rules(t, "a.rego", "default allow := false\n\nallow if not input.image\n\ndecision := {\"allow\": allow}\n", ""))
	if _, d := try(t, w, r); d.Allowed {
		t.Error("a named context was not judged")
	}
	notPushed(t, w, r)
}

// Annotations stand where their names say: on the image's manifest, or on the index.
func TestAnnotations(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	_, c := source(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
	r := request(t, w, "app/annotated", c)
	r.Options.Annotations = map[string]string{"a.image": "1", "index:b.index": "2", "manifest,index:c.both": "3", "org.example/d:e": "4"}
	res := run(t, w, r)
	manifest, err := r.Repo.Manifest(t.Context(), res.Images[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string][2]bool{"a.image": {true, false}, "b.index": {false, true}, "c.both": {true, true}, "org.example/d:e": {true, false}} {
		for i, text := range []string{string(manifest), string(res.IndexBytes)} {
			if strings.Contains(text, `"`+name+`"`) != at[i] {
				t.Errorf("%s: in %s", name, text)
			}
		}
	}
}
