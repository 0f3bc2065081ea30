package meta_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hallmark-dev/hallmark/internal/build/meta"
)

const event = `{"ref":"refs/tags/v1","base_ref":"refs/heads/main","Repository":{"name":"other"},
 "repository":{"id":1,"name":"app","description":null,"html_url":"https://github.com/org/app","license":{"spdx_id":"MIT"},"default_branch":"main","private":false},
 "head_commit":{"id":"` + commit + `","timestamp":"2020-01-10T01:30:00+01:00"}}`

func TestReadEvent(t *testing.T) {
	t.Parallel()
	got, err := meta.ReadEvent([]byte(event), commit)
	want := meta.Event{Repository: meta.Repository{Name: "app", URL: "https://github.com/org/app", License: "MIT"},
		DefaultBranch: "main", BaseRef: "refs/heads/main", CommitTime: time.Date(2020, 1, 10, 0, 30, 0, 0, time.UTC)}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	for name, tc := range map[string]struct {
		text string
		ok   func(meta.Event) bool
	}{
		"pull request":   {`{"pull_request":{"base":{"ref":"dev"}},"base_ref":"refs/heads/x"}`, func(e meta.Event) bool { return e.BaseRef == "dev" }},
		"another commit": {strings.ReplaceAll(event, commit, commit[1:]+"0"), func(e meta.Event) bool { return e.CommitTime.IsZero() }},
		"not said":       {`{}`, func(e meta.Event) bool { return e.Private }},
		"said wrongly":   {`{"repository":{"private":"false","name":7}}`, func(e meta.Event) bool { return e.Private && e.Repository.Name == "" }},
		"license null":   {`{"repository":{"license":null,"private":true}}`, func(e meta.Event) bool { return e.Private && e.Repository.License == "" }},
		"no object":      {`{"repository":[1]}`, func(e meta.Event) bool { return e.Repository.Name == "" }},
	} {
		e, err := meta.ReadEvent([]byte(tc.text), commit)
		if err != nil || !tc.ok(e) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	for _, tc := range []struct{ event, ref, data, want string }{
		{"push", "refs/heads/main", `{"number":7}`, "refs/heads/main"},
		{"pull_request", "refs/pull/2/merge", `{"number":7}`, "refs/pull/2/merge"},
		{"pull_request_target", "refs/heads/main", `{"number":7}`, "refs/pull/7/merge"},
		{"pull_request_target", "refs/heads/main", `{"number":"7"}`, ""},
		{"pull_request_target", "refs/heads/main", `{"number":-7}`, ""},
		{"pull_request_target", "refs/heads/main", `{"number":7.5}`, ""},
		{"pull_request_target", "refs/heads/main", `{}`, ""},
	} {
		e, err := meta.ReadEvent([]byte(tc.data), "")
		if err != nil {
			t.Fatal(err)
		}
		if ref, err := e.Ref(tc.event, tc.ref); ref != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%v: %s, %v", tc, ref, err)
		}
	}
	for _, text := range []string{"", "[]", "1", `{"a":1,"a":2}`, `{"repository":{"private":true,"private":false}}`, `{"a":`} {
		if e, err := meta.ReadEvent([]byte(text), ""); err == nil {
			t.Errorf("%s: %+v", text, e)
		}
	}
}

func FuzzReadEvent(f *testing.F) {
	f.Add([]byte(event))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := meta.ReadEvent(data, commit)
		if err == nil && !e.Private && !strings.Contains(string(data), "false") {
			t.Errorf("public: %s", data)
		}
	})
}
