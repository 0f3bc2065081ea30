package verdict

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	digest1 = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	digest2 = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	commit  = "56ae342c12a9bb032e762c6fc648270f8027db40"
)

func example() *Verdict {
	return &Verdict{Time: time.Date(2026, 11, 30, 1, 2, 3, 0, time.UTC), Standing: Operator, Repository: "github.com/id/123456", Ref: "refs/tags/v1.0.0",
		Commit: commit, Tag: strings.Repeat("a", 40), Policy: digest1, Input: digest2, Approvals: []string{digest1, digest2}, Builder: "https://example.com/b"}
}

func stored() *Verdict {
	v := example()
	v.Standing, v.Root, v.Version = Store, digest2, 7
	return v
}

// TestRoundTrip: what is written is read back, and the same verdict has the same bytes.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, v := range []*Verdict{example(), stored()} {
		text, err := v.Predicate()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(v, got); diff != "" {
			t.Error(diff)
		}
		again, err := got.Predicate()
		if err != nil || string(again) != string(text) {
			t.Errorf("%v\n%s\n%s", err, text, again)
		}
	}
}

// TestRefused: near-misses of a verdict are none.
func TestRefused(t *testing.T) {
	t.Parallel()
	text, err := stored().Predicate()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"another verifier":        {Verifier, "https://hallmark.dev/signing-policy/v2"},
		"no property":             {`["` + Passed + `"]`, `[]`},
		"another property":        {Passed, "HALLMARK_SIGNING_POLICY_FAILED"},
		"a second property":       {`["` + Passed + `"]`, `["` + Passed + `","SLSA_BUILD_LEVEL_3"]`},
		"unknown standing":        {`"standing":"store"`, `"standing":"rehearsal"`},
		"operator with a root":    {`"standing":"store"`, `"standing":"operator"`},
		"version 0":               {`"version":7`, `"version":0`},
		"version in words":        {`"version":7`, `"version":"7"`},
		"short policy":            {`"sha256":"11`, `"sha256":"1`},
		"upper case":              {commit, strings.ToUpper(commit)},
		"short commit":            {commit, commit[1:]},
		"ref without refs/":       {"refs/tags/v1.0.0", "v1.0.0"},
		"approval that is no id":  {`"approvals":["sha256:`, `"approvals":["sha512:`},
		"an unknown member":       {`"standing"`, `"x":1,"standing"`},
		"a member twice":          {`"standing"`, `"standing":"store","standing"`},
		"no time":                 {`"timeCreated":"2026-11-30T01:02:03Z"`, `"timeCreated":"yesterday"`},
		"null":                    {`"version":7`, `"version":null`},
		"something behind it":     {`"verifier":`, `"verifier":`},
		"no repository":           {"github.com/id/123456", ""},
		"input digest of nothing": {digest2 + `","ref"`, `","ref"`},
	} {
		changed := strings.Replace(string(text), change[0], change[1], 1)
		if name == "something behind it" {
			changed += "{}"
		} else if changed == string(text) {
			t.Errorf("%s: nothing was changed in %s", name, text)
		}
		if v, err := Parse([]byte(changed)); err == nil {
			t.Errorf("%s: accepted: %+v", name, v)
		}
	}
	if _, err := Parse([]byte(`{"x":"` + strings.Repeat("x", MaxSize) + `"}`)); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("too large: %v", err)
	}
}

func TestDemand(t *testing.T) {
	t.Parallel()
	statement := func(v *Verdict, kind string) []byte {
		text, err := v.Predicate()
		if err != nil {
			t.Fatal(err)
		}
		all, err := json.Marshal(map[string]any{"_type": "https://in-toto.io/Statement/v1", "predicateType": kind, "predicate": json.RawMessage(text)})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	for demand, want := range map[string]bool{
		"policy=" + digest1:                                         true,
		"policy=" + digest2:                                         false,
		"root=" + digest2:                                           true,
		"root=" + digest1:                                           false,
		"root=" + digest2 + ",min-version=7":                        true,
		"root=" + digest2 + ",min-version=8":                        false,
		"policy=" + digest1 + ",repository=github.com/id/123456":    true,
		"policy=" + digest1 + ",repository=github.com/id/12345":     false,
		"repository=github.com/id/123456,policy=" + digest1:         true,
		"policy=" + digest1 + ",root=" + digest2 + ",min-version=1": true,
		"policy=" + digest2 + ",root=" + digest2 + ",min-version=1": false,
	} {
		d, err := ParseDemand(demand)
		if err != nil {
			t.Errorf("%s: %v", demand, err)
			continue
		}
		got, err := d.Check(t.Context(), statement(stored(), PredicateType))
		if err != nil || got.Allowed != want {
			t.Errorf("%s: %+v %v", demand, got, err)
		}
		if !want && (len(got.Reasons) != 1 || got.Reasons[0].Code != CodeVerdict || got.Reasons[0].Message == "") {
			t.Errorf("%s: %+v", demand, got.Reasons)
		}
		for _, kind := range []string{"https://in-toto.io/attestation/svr/v0.1", "https://slsa.dev/verification_summary/v1"} {
			if got, err := d.Check(t.Context(), statement(stored(), kind)); err != nil || got.Allowed {
				t.Errorf("%s: a statement of type %s is a verdict", demand, kind)
			}
		}
	}
	for _, bad := range []string{"", "policy", "policy=", "policy=abc", "policy=SHA256:" + digest1[7:], "policy=" + digest1 + ",", "policy=" + digest1 + ",policy=" + digest1,
		"repository=github.com/id/1", "min-version=1", "policy=" + digest1 + ",min-version=1", "root=" + digest1 + ",min-version=0", "root=" + digest1 + ",min-version=x",
		"root=" + digest1 + ",min-version=1,min-version=2", "polciy=" + digest1, " policy=" + digest1} {
		if d, err := ParseDemand(bad); err == nil {
			t.Errorf("%q: accepted as %+v", bad, d)
		}
	}
}

// FuzzParse: what is read is written as it was meant, and is small.
func FuzzParse(f *testing.F) {
	for _, v := range []*Verdict{example(), stored()} {
		text, err := v.Predicate()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Parse(data)
		if err != nil {
			return
		}
		text, err := v.Predicate()
		if err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		again, err := Parse(text)
		if err != nil || !cmp.Equal(v, again) && len(v.Approvals) > 0 {
			t.Fatalf("%v: %s became %s", err, data, text)
		}
	})
}

// FuzzDemand: a demand that is read demands something.
func FuzzDemand(f *testing.F) {
	f.Add("policy=" + digest1 + ",repository=github.com/id/1")
	f.Add("root=" + digest1 + ",min-version=3")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDemand(s)
		if err == nil && d.Policy == "" && d.Root == "" {
			t.Fatalf("%q demands nothing", s)
		}
	})
}
