package sourcepolicy_test

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

const (
	commit1 = "1111111111111111111111111111111111111111"
	commit2 = "2222222222222222222222222222222222222222"
)

func shipped(t *testing.T, p *sourcepolicy.Policy, err error) *sourcepolicy.Set {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return sourcepolicy.NewSet(p)
}

// TestLockPolicy: what moved since it was locked is denied, with both; nothing else is, and
// nothing is looked up of what the lock does not have.
func TestLockPolicy(t *testing.T) {
	t.Parallel()
	sha512 := evidence.Digest("sha512:" + strings.Repeat("ab", 64))
	long := sourcepolicy.Ask{Fact: sourcepolicy.HTTPDigest, Algorithm: "sha512"}
	body := func(d evidence.Digest) sourcepolicy.Facts {
		return sourcepolicy.Facts{Checksum: digest1, Digests: map[string]evidence.Digest{long.Key(): d}}
	}
	at := func(commit, object string) sourcepolicy.Facts {
		return sourcepolicy.Facts{Git: &sourcepolicy.GitRefFact{Ref: "refs/heads/main", Checksum: object, CommitChecksum: commit}}
	}
	const repo, file = "https://example.org/app.git", "https://example.org/f?token=canary"
	for name, c := range map[string]struct {
		id    string
		lock  sourcepolicy.Locked
		facts sourcepolicy.Facts
		want  string // of the denial; "" allows
	}{
		"image":                   {"alpine:3", sourcepolicy.Locked{Digest: digest1}, image(), ""},
		"image moved":             {"alpine:3", sourcepolicy.Locked{Digest: digest2}, image(), "image docker.io/library/alpine:3 moved: it is " + string(digest1) + ", and was " + string(digest2) + " when it was locked"},
		"image not locked":        {"alpine:3", sourcepolicy.Locked{}, sourcepolicy.Facts{}, ""},
		"image of another digest": {"alpine:3@" + string(digest2), sourcepolicy.Locked{Digest: digest1}, sourcepolicy.Facts{}, "moved: it is " + string(digest2)},
		"download":                {file, sourcepolicy.Locked{Digest: digest1}, sourcepolicy.Facts{Checksum: digest1}, ""},
		"download moved":          {file, sourcepolicy.Locked{Digest: digest2}, sourcepolicy.Facts{Checksum: digest1}, "http https://example.org/f?… moved: it is " + string(digest1)},
		"download not locked":     {file, sourcepolicy.Locked{}, sourcepolicy.Facts{}, ""},
		"long hash":               {file, sourcepolicy.Locked{Digest: sha512}, body(sha512), ""},
		"long hash moved":         {file, sourcepolicy.Locked{Digest: sha512}, body(sha512[:len(sha512)-1] + "c"), "moved"},
		"long hash of no commit":  {file, sourcepolicy.Locked{Commit: commit1}, sourcepolicy.Facts{}, ""},
		"branch":                  {repo + "#main", sourcepolicy.Locked{Commit: commit1}, at(commit1, commit1), ""},
		"branch moved":            {repo + "#main", sourcepolicy.Locked{Commit: commit1}, at(commit2, commit2), "git " + repo + ", refs/heads/main, moved: it is " + commit2 + ", and was " + commit1},
		"another tag object":      {repo + "#main", sourcepolicy.Locked{Commit: commit1}, at(commit1, commit2), ""},
		"commit":                  {repo + "#" + commit1, sourcepolicy.Locked{Commit: commit1}, sourcepolicy.Facts{}, ""},
		"git not locked":          {repo + "#main", sourcepolicy.Locked{}, sourcepolicy.Facts{}, ""},
		"folder":                  {".", sourcepolicy.Locked{}, sourcepolicy.Facts{}, ""},
	} {
		p, err := sourcepolicy.CompileLock("hallmark.lock", []byte("{}"))
		src := source(t, c.id)
		w := &world{t: t, facts: map[string]sourcepolicy.Facts{src.Identifier: c.facts}}
		d, err := shipped(t, p, err).Evaluate(t.Context(), sourcepolicy.Request{Source: src, Locked: &c.lock, Now: noon, Resolver: w})
		switch {
		case err != nil || d.Allowed != (c.want == ""):
			t.Errorf("%s: %v %+v", name, err, d.Decision)
		case c.want != "" && (d.Reasons[0].Code != "SOURCE_MOVED" || !strings.Contains(d.Reasons[0].Message, c.want) || d.Reasons[0].Hint == "" || strings.Contains(d.Reasons[0].String(), "canary")):
			t.Errorf("%s: %+v", name, d.Reasons)
		case c.lock == sourcepolicy.Locked{} && len(d.Asked) > 0:
			t.Errorf("%s: asks for %v", name, d.Asked)
		}
		if read := p.Read(); len(read) != 1 || read[0].Name != "hallmark.lock" || read[0].Digest != evidence.SHA256([]byte("{}")) {
			t.Errorf("%s: %+v", name, read)
		}
	}
	// What the lock says and cannot be compared denies.
	p, err := sourcepolicy.CompileLock("hallmark.lock", nil)
	d, err := shipped(t, p, err).Evaluate(t.Context(), sourcepolicy.Request{Source: source(t, file), Locked: &sourcepolicy.Locked{Digest: sha512}, Now: noon, Known: sourcepolicy.Facts{Checksum: digest1}})
	if err != nil || d.Allowed || d.Reasons[0].Code != "INPUT_INCOMPLETE" {
		t.Errorf("%v %+v", err, d.Decision)
	}
}

// TestVerifiedPolicy: the lock, or a signature by who is pinned, and nothing that is like it.
func TestVerifiedPolicy(t *testing.T) {
	t.Parallel()
	locked := &sourcepolicy.Locked{Digest: digest1}
	signed := func(pinned bool) sourcepolicy.Facts {
		s := *builderSignature("org/app", "refs/tags/v1")
		s.Pinned = pinned
		f := image()
		f.Signatures, f.Attestations = &[]sourcepolicy.Signature{s}, &[]sourcepolicy.Attestation{}
		return f
	}
	attested := func(predicate string, pinned bool) sourcepolicy.Facts {
		f := image()
		f.Signatures = &[]sourcepolicy.Signature{}
		f.Attestations = &[]sourcepolicy.Attestation{{PredicateType: predicate, Verified: true, Pinned: pinned}}
		return f
	}
	bySomeKey, public := signedTag(t)
	stranger := gitrepo.NewKey(t, "ed25519", 0).Public
	const repo, spdx = "https://example.org/app.git", "https://spdx.dev/Document"
	lock := sourcepolicy.Vouched{Lock: true}
	keys := func(list ...string) (v sourcepolicy.Vouched) {
		for _, k := range list {
			v.GitKeys = append(v.GitKeys, []byte(k))
		}
		return v
	}
	for name, c := range map[string]struct {
		id    string
		v     sourcepolicy.Vouched
		lock  *sourcepolicy.Locked
		facts sourcepolicy.Facts
		want  string // in the hint of the denial, "" allows
	}{
		"folder":                            {id: "."},
		"in the lock":                       {id: "alpine:3", v: lock, lock: locked, facts: image()},
		"in the lock and moved":             {id: "alpine:3", v: lock, lock: &sourcepolicy.Locked{Digest: digest2}, facts: attested("", false), want: "pin docker.io/library/alpine"},
		"a lock that counts for nothing":    {id: "alpine:3", lock: locked, facts: attested("", false), want: "ask its publisher to sign it"},
		"not in the lock":                   {id: "alpine:3", v: lock, lock: &sourcepolicy.Locked{}, facts: attested("", false), want: "hallmark policy lock adds it"},
		"by digest":                         {id: "alpine@" + string(digest1), v: lock, lock: &sourcepolicy.Locked{}, facts: attested("", false), want: "hallmark policy lock adds it"},
		"by digest, in the lock":            {id: "alpine@" + string(digest1), v: lock, lock: locked},
		"signed by who is pinned":           {id: "org/app:v1", facts: signed(true)},
		"signed by somebody":                {id: "org/app:v1", facts: signed(false), want: "trust pin docker.io/org/app"},
		"SBOM by who is pinned":             {id: "org/app:v1", facts: attested(spdx, true)},
		"SBOM by somebody":                  {id: "org/app:v1", facts: attested(spdx, false), want: "trust pin"},
		"what says that it is bad":          {id: "org/app:v1", facts: attested("https://example.org/failed/v1", true), want: "trust pin"},
		"what the operator names":           {id: "org/scanner@" + string(digest1), v: sourcepolicy.Vouched{Images: []string{"docker.io/org/scanner@" + string(digest1)}}},
		"another digest of it":              {id: "org/scanner@" + string(digest2), v: sourcepolicy.Vouched{Images: []string{"docker.io/org/scanner@" + string(digest1)}}, facts: attested("", false), want: "trust pin"},
		"download in the lock":              {id: "https://example.org/f", v: lock, lock: locked, facts: sourcepolicy.Facts{Checksum: digest1}},
		"download":                          {id: "https://example.org/f?token=canary", v: lock, lock: &sourcepolicy.Locked{}, want: "hallmark policy lock adds it with its checksum"},
		"the commit that is built":          {id: repo + "#" + commit1, v: sourcepolicy.Vouched{Commit: commit1}},
		"another commit":                    {id: repo + "#" + bySomeKey.Objects.CommitChecksum, v: sourcepolicy.Vouched{Commit: commit1}, facts: sourcepolicy.Facts{Objects: &sourcepolicy.GitObjectsFact{GitRefFact: sourcepolicy.GitRefFact{Ref: bySomeKey.Objects.CommitChecksum, Checksum: bySomeKey.Objects.CommitChecksum, CommitChecksum: bySomeKey.Objects.CommitChecksum}, Commit: bySomeKey.Objects.Commit}}, want: "signed tag"},
		"a tag by a key of ours":            {id: repo + "#refs/tags/v1", v: keys(stranger, public), facts: bySomeKey},
		"a tag by a stranger":               {id: repo + "#refs/tags/v1", v: keys(stranger), facts: bySomeKey, want: "hallmark trust add key FILE"},
		"a tag, and nobody is believed":     {id: repo + "#refs/tags/v1", facts: bySomeKey, want: "hallmark trust add key FILE"},
		"a tag under another name":          {id: repo + "#v1", v: keys(public), facts: underName(bySomeKey, "refs/tags/v2"), want: "signed tag"},
		"a branch at a tag's signed commit": {id: repo + "#main", v: keys(public), facts: sourcepolicy.Facts{Objects: &sourcepolicy.GitObjectsFact{GitRefFact: sourcepolicy.GitRefFact{Ref: "refs/heads/main", Checksum: bySomeKey.Objects.CommitChecksum, CommitChecksum: bySomeKey.Objects.CommitChecksum}, Commit: bySomeKey.Objects.Commit}}, want: "signed tag"},
		"git in the lock":                   {id: repo + "#" + commit1, v: lock, lock: &sourcepolicy.Locked{Commit: commit1}},
	} {
		p, err := sourcepolicy.CompileVerified(c.v)
		src := source(t, c.id)
		w := &world{t: t, facts: map[string]sourcepolicy.Facts{src.Identifier: c.facts}}
		d, err := shipped(t, p, err).Evaluate(t.Context(), sourcepolicy.Request{Source: src, Locked: c.lock, Now: noon, Resolver: w})
		switch {
		case err != nil || d.Allowed != (c.want == ""):
			t.Errorf("%s: %v %+v", name, err, d.Decision)
		case c.want != "" && (d.Reasons[0].Code != sourcepolicy.CodeUnverified || !strings.Contains(d.Reasons[0].Hint, c.want) || strings.Contains(d.Reasons[0].String(), "canary")):
			t.Errorf("%s: %+v", name, d.Reasons)
		}
		for _, asked := range d.Asked {
			if d.Allowed && c.lock != nil && strings.HasSuffix(asked, "s") {
				t.Errorf("%s: is in the lock, and %s is looked up", name, asked)
			}
		}
		if caps, d, err := sourcepolicy.NewSet(p).Caps(t.Context(), sourcepolicy.Env{}, nil); err != nil || !d.Allowed || len(caps) > 0 {
			t.Errorf("%s: %v %v %+v", name, caps, err, d)
		}
	}
}

// underName is a repository in which the tag's object lies under another name.
func underName(f sourcepolicy.Facts, ref string) sourcepolicy.Facts {
	objects := *f.Objects
	objects.Ref = ref
	return sourcepolicy.Facts{Objects: &objects}
}
