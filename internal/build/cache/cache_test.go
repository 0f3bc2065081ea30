package cache_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/build/cache"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/hmtest/signing"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

// TestFind: the entry of the ref, else that of the default branch, and all of its bytes.
func TestFind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if found, why := find(t, w.build(entry)); found != nil || why != "" {
		t.Fatalf("in an empty repository: %+v, %s", found, why)
	}
	main := w.entry(job, entry, entry)
	found, why := find(t, w.build(entry))
	if found == nil || why != "" || found.Desc.Digest != main.Desc.Digest || cmp.Diff(*found.Entry, entry) != "" {
		t.Fatalf("%+v, %s", found, why)
	}
	dir := filepath.Join(t.TempDir(), "from")
	if why, err := found.Fetch(t.Context(), w.repo, dir); why != nil || err != nil {
		t.Fatal(why, err)
	}
	again, err := cache.Open(dir, evidence.Digest(found.Desc.Digest))
	if err != nil || again.Push(t.Context(), w.repo, nil) != nil {
		t.Error("what was fetched is not complete:", err)
	}

	// A tag, and a pull request, take the default branch's; a tag its own before.
	tag, pull := entry, entry
	tag.Ref, pull.Ref, pull.Event = "refs/tags/v1", "refs/pull/7/merge", "pull_request"
	for name, this := range map[string]cache.Entry{"tag": tag, "pull request": pull} {
		if found, why := find(t, w.build(this)); found == nil || found.Entry.Ref != "refs/heads/main" {
			t.Errorf("%s: %+v, %s", name, found, why)
		}
	}
	own := w.entry(job.with(claims{"ref": tag.Ref}), tag, tag)
	if found, why := find(t, w.build(tag)); found == nil || found.Desc.Digest != own.Desc.Digest {
		t.Errorf("a tag's own: %+v, %s", found, why)
	}
	// What a pull request signed under its own name is not even looked at.
	w.entry(job.with(claims{"ref": pull.Ref, "event_name": pull.Event}), pull, pull)
	if found, why := find(t, w.build(pull)); found == nil || found.Entry.Ref != "refs/heads/main" || why != "" {
		t.Errorf("a pull request's own: %+v, %s", found, why)
	}
	// Without a default branch, only its own.
	unknown := w.build(pull)
	unknown.Default = ""
	if found, why := find(t, unknown); found != nil || why != "" {
		t.Errorf("%+v, %s", found, why)
	}

	// A replay of an older entry of the ref is taken, and not longer than it may be.
	newer := w.entry(job, entry, entry)
	if err := w.build(entry).Name(t.Context(), main); err != nil {
		t.Fatal(err)
	}
	if found, why := find(t, w.build(entry)); found == nil || found.Desc.Digest == newer.Desc.Digest {
		t.Errorf("%+v, %s", found, why)
	}
	late := w.build(entry)
	late.Now = func() time.Time { return time.Now().Add(cache.MaxAge + time.Hour) }
	if found, why := find(t, late); found != nil || !strings.HasPrefix(why, cache.CodeUnverified) || !strings.Contains(why, "TOO_OLD") {
		t.Errorf("%+v, %s", found, why)
	}

	// The registry is gone: no cache, and no error.
	w.Stop()
	if found, why := find(t, w.build(entry)); found != nil || !strings.HasPrefix(why, cache.CodeBroken) {
		t.Errorf("%+v, %s", found, why)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := w.build(entry).Find(over); err == nil {
		t.Error("an end of the context is no answer")
	}
}

// TestRefused: an entry that the tag names, and that is not for this build. In each the
// certificate is that of a job with these claims, and the statement says the entry.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, tc := range map[string]struct {
		claims claims
		change func(*cache.Entry)
		want   string
	}{
		// What is true of it, and is not true of this build.
		"other repository id": {claims{"repository_id": "2"}, func(e *cache.Entry) { e.RepositoryID = "2" }, `CACHE_OTHER .*repository id "2".*"1"`},
		"other ref":           {claims{"ref": "refs/heads/x"}, func(e *cache.Entry) { e.Ref = "refs/heads/x" }, `CACHE_OTHER .*ref "refs/heads/x".*"refs/heads/main"`},
		"other workflow":      {claims{"job_workflow_sha": strings.Repeat("3", 40)}, func(e *cache.Entry) { e.Builder.Workflow = strings.Repeat("3", 40) }, "CACHE_OTHER .*builder"},
		"other builder file":  {nil, func(e *cache.Entry) { e.Builder.File = evidence.SHA256(nil) }, "CACHE_OTHER .*builder"},
		"other buildkitd":     {nil, func(e *cache.Entry) { e.Builder.BuildKit = "x" }, "CACHE_OTHER .*builder"},
		"other runc":          {nil, func(e *cache.Entry) { e.Builder.Runc = "x" }, "CACHE_OTHER .*builder"},
		"other hallmark":      {nil, func(e *cache.Entry) { e.Builder.Hallmark = "v2" }, "CACHE_OTHER .*builder"},
		"other scope":         {nil, func(e *cache.Entry) { e.Scope = "x" }, "CACHE_OTHER .*scope"},
		"other platforms":     {nil, func(e *cache.Entry) { e.Platforms = []string{"linux/arm64"} }, "CACHE_OTHER .*platforms"},
		"other network":       {nil, func(e *cache.Entry) { e.Network = "none" }, "CACHE_OTHER .*network"},
		// Builds that are not reused, whatever they are of.
		"pull request":          {claims{"event_name": "pull_request"}, func(e *cache.Entry) { e.Event = "pull_request" }, "CACHE_EVENT .*pull_request"},
		"pull request's target": {claims{"event_name": "pull_request_target"}, func(e *cache.Entry) { e.Event = "pull_request_target" }, "CACHE_EVENT .*pull_request_target"},
		"pull request's ref":    {claims{"ref": "refs/pull/7/merge"}, func(e *cache.Entry) { e.Ref = "refs/pull/7/merge" }, "CACHE_EVENT .*neither a branch nor a tag"},
		"merge request":         {claims{"event_name": "merge_request_event"}, func(e *cache.Entry) { e.Event = "merge_request_event" }, "CACHE_EVENT"},
		"comment":               {claims{"event_name": "issue_comment"}, func(e *cache.Entry) { e.Event = "issue_comment" }, "CACHE_EVENT"},
		"no event":              {claims{"event_name": ""}, func(e *cache.Entry) { e.Event = "" }, "CACHE_EVENT|CACHE_UNVERIFIED"},
		// Somebody else.
		"fork":               {claims{"repository": "evil/app", "repository_id": "9"}, func(e *cache.Entry) {}, "CACHE_UNVERIFIED .*\nWRONG_IDENTITY"},
		"fork that says so":  {claims{"repository": "evil/app", "repository_id": "9"}, func(e *cache.Entry) { e.Repository, e.RepositoryID = forge+"/evil/app", "9" }, "CACHE_UNVERIFIED .*\nWRONG_IDENTITY"},
		"other workflow ref": {claims{"job_workflow_ref": "hall/builder/.github/workflows/build.yml@refs/heads/x"}, func(e *cache.Entry) {}, "CACHE_UNVERIFIED .*\nWRONG_IDENTITY"},
		"own workflow":       {claims{"job_workflow_ref": "acme/app/.github/workflows/x.yml@refs/heads/main"}, func(e *cache.Entry) {}, "CACHE_UNVERIFIED .*\nWRONG_IDENTITY"},
		// Statements that claim what the certificate does not.
		"lies about its id":       {claims{"repository_id": "2"}, func(e *cache.Entry) {}, `CACHE_CLAIMS .*repository id "1", which is "2" there`},
		"lies about its ref":      {claims{"ref": "refs/heads/x"}, func(e *cache.Entry) {}, "CACHE_CLAIMS .*ref"},
		"lies about its event":    {claims{"event_name": "pull_request"}, func(e *cache.Entry) {}, "CACHE_CLAIMS .*event"},
		"lies about its commit":   {claims{"sha": strings.Repeat("4", 40)}, func(e *cache.Entry) {}, "CACHE_CLAIMS .*commit"},
		"lies about its workflow": {claims{"job_workflow_sha": strings.Repeat("3", 40)}, func(e *cache.Entry) {}, "CACHE_CLAIMS .*workflow"},
		"lies about all": {claims{"repository_id": "2", "ref": "refs/pull/7/merge", "event_name": "pull_request"},
			func(e *cache.Entry) { e.Repository = forge + "/evil/app" }, "CACHE_CLAIMS .*repository"},
	} {
		said := entry
		tc.change(&said)
		at := entry
		at.Scope = name // a tag of its own
		b := w.build(entry)
		made := w.entry(job.with(tc.claims), said, at)
		found, why, err := b.Check(t.Context(), made.Desc, "refs/heads/main")
		var all []string
		for _, r := range why {
			all = append(all, r.String())
			if r.Subject == "" {
				t.Errorf("%s: %s has no subject", name, r)
			}
		}
		if text := strings.Join(all, "\n"); err != nil || found != nil || !matches(tc.want, text) {
			t.Errorf("%s: %+v, %v\n%s", name, found, err, text)
		}
	}
}

// TestRefusedBytes: what is signed, and not what it should be.
func TestRefusedBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.entry(job, entry, entry)
	b := w.build(entry)
	refused := func(name, want string, desc ocispec.Descriptor) {
		t.Helper()
		found, why, err := b.Check(t.Context(), desc, "refs/heads/main")
		text := ""
		for _, r := range why {
			text += r.String() + "\n"
		}
		if err != nil || found != nil || !matches(want, text) {
			t.Errorf("%s: %+v, %v\n%s", name, found, err, text)
		}
	}
	refused("unsigned", "CACHE_UNVERIFIED .*\nNO_ATTESTATION", w.push().Desc)

	stranger := w.push()
	w.sign(signing.Signer(t, w.Running, "rita@example.org"), stranger, cache.PredicateType, predicate(t, entry))
	refused("a person", "CACHE_UNVERIFIED .*\nWRONG_IDENTITY", stranger.Desc)

	image := w.push()
	st, err := sign.ImageStatement(evidence.Digest(image.Desc.Digest), nil)
	if err == nil {
		_, err = w.signer(job).Attach(t.Context(), sign.Target{Repo: w.repo, Desc: image.Desc}, st)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.sign(w.signer(job), image, evidence.PredicateSPDX, predicate(t, entry))
	refused("signed as an image, and of another type", "CACHE_UNVERIFIED .*\nNO_ATTESTATION", image.Desc)

	moved := w.push()
	move(t, w.repo, good.Desc, moved.Desc)
	refused("the signature of another", "CACHE_UNVERIFIED .*\nWRONG_SUBJECT", moved.Desc)

	for name, text := range map[string]string{
		"unknown member": strings.Replace(string(predicate(t, entry)), "{", `{"more":1,`, 1),
		"no ref":         strings.Replace(string(predicate(t, entry)), `"ref":"refs/heads/main"`, `"ref":""`, 1),
		"other case":     strings.Replace(string(predicate(t, entry)), `"ref"`, `"Ref"`, 1),
		"too long":       strings.Replace(string(predicate(t, entry)), `"buildkit"`, `"`+strings.Repeat("x", cache.MaxStatement)+`"`, 1),
	} {
		made := w.push()
		w.sign(w.signer(job), made, cache.PredicateType, []byte(text))
		refused(name, "CACHE_CLAIMS .*cannot be read", made.Desc)
		if name == "unknown member" { // beside it one that holds
			w.sign(w.signer(job), made, cache.PredicateType, predicate(t, entry))
			if found, why, err := b.Check(t.Context(), made.Desc, "refs/heads/main"); found == nil || err != nil {
				t.Error("a bad statement hides a good one:", why, err)
			}
		}
	}

	// What is no cache of BuildKit's.
	ref, err := registry.ParseRef(w.Image("caches/app", "an image"))
	if err != nil {
		t.Fatal(err)
	}
	desc, err := w.repo.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	refused("an image", "CACHE_BROKEN .*no cache manifest", desc)

	// A registry that sends other bytes, of the manifest, the table or a layer.
	for name, what := range map[string]string{"manifest": "schemaVersion", "table": `"n":`, "layer": "layer "} {
		lies := w.lying(func(path string, body []byte) []byte {
			if bytes.Contains(body, []byte(what)) && (name != "manifest" || strings.HasSuffix(path, good.Desc.Digest.Encoded())) {
				return bytes.ReplaceAll(body, []byte(what[:1]), []byte("X"))
			}
			return body
		})
		lied := *b
		lied.Repo = lies
		found, text := find(t, &lied)
		if found != nil {
			why, err := found.Fetch(t.Context(), lies, filepath.Join(t.TempDir(), "from"))
			if why == nil || err != nil {
				t.Errorf("%s: fetched, %v", name, err)
				continue
			}
			text = why[0].String()
		}
		if !matches("^CACHE_BROKEN .*(other bytes|digest|is not)", text) || (found == nil) != (name == "manifest") {
			t.Errorf("%s: %v %s", name, found, text)
		}
	}
}

// move attaches to one manifest what is attached to another.
func move(t *testing.T, repo *registry.Repository, from, to ocispec.Descriptor) {
	t.Helper()
	found, err := collect.Collect(t.Context(), repo, from, collect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range found.Items {
		if item.Claim == nil {
			continue
		}
		data, err := bundle.Marshal(item.Claim)
		if err != nil {
			t.Fatal(err)
		}
		layer, err := repo.PushBlob(t.Context(), evidence.BundleMediaType, data)
		if err != nil {
			t.Fatal(err)
		}
		manifest, _, err := ociartifact.BundleManifest(to, layer, cache.PredicateType, time.Unix(0, 0))
		if err == nil {
			_, err = repo.Attach(t.Context(), to, manifest)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestTwoAtOnce: of two builds that leave an entry, one is found, whole and signed.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := []*cache.Made{w.push(), w.push()}
	for _, m := range made {
		w.sign(w.signer(job), m, cache.PredicateType, predicate(t, entry))
	}
	ends := make(chan error)
	for _, m := range made {
		go func() { ends <- w.build(entry).Name(t.Context(), m) }()
	}
	for range made {
		if err := <-ends; err != nil {
			t.Fatal(err)
		}
	}
	found, why := find(t, w.build(entry))
	if found == nil {
		t.Fatal(why)
	}
	if why, err := found.Fetch(t.Context(), w.repo, filepath.Join(t.TempDir(), "from")); why != nil || err != nil {
		t.Error(why, err)
	}
}

// TestKeeps: which builds leave an entry.
func TestKeeps(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ref, event string
		job, keeps bool
	}{
		{"refs/heads/main", "push", true, true}, {"refs/tags/v1", "push", true, true}, {"refs/heads/x", "schedule", true, true},
		{"refs/heads/main", "workflow_dispatch", true, true}, {"refs/heads/main", "web", true, true}, {"refs/heads/main", "", false, true},
		{"refs/heads/main", "", true, false}, {"refs/heads/main", "pull_request", true, false}, {"refs/heads/main", "pull_request_target", true, false},
		{"refs/heads/main", "Push", true, false}, {"refs/heads/main", "merge_request_event", true, false}, {"refs/heads/main", "external_pull_request_event", true, false},
		{"refs/heads/main", "workflow_run", true, false}, {"refs/heads/gh-readonly-queue/main/pr-7-0", "merge_group", true, false},
		{"refs/pull/7/merge", "push", true, false}, {"refs/pull/7/head", "", false, false}, {"", "", false, false}, {"main", "push", true, false},
		{"refs/merge-requests/7/head", "push", true, false},
	} {
		this := entry
		this.Ref, this.Event = tc.ref, tc.event
		why := (&cache.Build{This: &this, Job: tc.job}).Keeps()
		if (why == nil) != tc.keeps || why != nil && why[0].Code != cache.CodeEvent {
			t.Errorf("%+v: %v", tc, why)
		}
	}
}

// TestOfCertificate: a workflow of the source itself is no version of a builder.
func TestOfCertificate(t *testing.T) {
	t.Parallel()
	x := map[string]string{"sourceRepositoryURI": "u", "sourceRepositoryIdentifier": "1", "sourceRepositoryRef": "r",
		"sourceRepositoryDigest": "c", "buildTrigger": "e", "buildSignerDigest": "w"}
	want := cache.Entry{Repository: "u", RepositoryID: "1", Ref: "r", Commit: "c", Event: "e", Builder: cache.Builder{Workflow: "w"}}
	if d := cmp.Diff(want, *cache.OfCertificate(x)); d != "" {
		t.Error(d)
	}
	x["buildSignerDigest"], want.Builder.Workflow = "c", ""
	if d := cmp.Diff(want, *cache.OfCertificate(x)); d != "" {
		t.Error(d)
	}
}

// TestOpen: what BuildKit says that it wrote must be there.
func TestOpen(t *testing.T) {
	t.Parallel()
	w := &world{t: t}
	dir, made := w.store()
	if _, err := cache.Open(dir, evidence.SHA256([]byte("x"))); err == nil {
		t.Error("opened what is not there")
	}
	path := filepath.Join(dir, "blobs", "sha256", made.Desc.Digest.Encoded())
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(data, ' '), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cache.Open(dir, evidence.Digest(made.Desc.Digest)); err == nil {
		t.Error("opened other bytes")
	}
}

// FuzzParse: what is read says the same when it is written again, and nothing required is
// missing in it.
func FuzzParse(f *testing.F) {
	good, err := entry.JSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"ref":"refs/heads/main","ref":"x"}`))
	f.Add(bytes.Replace(good, []byte(`"platforms":[]`), []byte(`"platforms":["linux/amd64","linux/arm64"]`), 1))
	f.Add(bytes.Replace(good, []byte(`"repositoryID":"1"`), []byte(`"repositoryID":1`), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := cache.Parse(data)
		if err != nil {
			return
		}
		if e.Ref == "" || e.Repository == "" || e.Commit == "" || e.Builder.File == "" || e.Scope == "" || len(data) > cache.MaxStatement {
			t.Errorf("%+v", e)
		}
		text, err := e.JSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := cache.Parse(text)
		if len(text) <= cache.MaxStatement && (err != nil || cmp.Diff(e, again) != "") {
			t.Errorf("%v\n%s", err, text)
		}
	})
}
