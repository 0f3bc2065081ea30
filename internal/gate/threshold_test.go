package gate_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

func signedBy(identity string) policy.Fact {
	return policy.Fact{Signer: evidence.Signer{Identity: identity, Issuer: issuer}, PredicateType: evidence.PredicateSign}
}

func signedWith(key string) policy.Fact {
	return policy.Fact{Signer: evidence.Signer{Key: key}, PredicateType: evidence.PredicateSign}
}

func person(subject string) policy.Identity {
	return policy.Identity{Subject: subject, Issuer: issuer}
}

// TestThreshold: principals count, never their signatures, keys or addresses.
func TestThreshold(t *testing.T) {
	t.Parallel()
	team := []gate.Principal{
		{Name: "alice", Identities: []policy.Identity{person("alice@example.org"), person("a@home.example")}, Keys: []string{"sha256:a1", "sha256:a2"}},
		{Name: "bob", Identities: []policy.Identity{person("bob@example.org")}},
		{Name: "release", Keys: []string{"sha256:r1"}},
	}
	two := gate.Requirements{Principals: team, Threshold: 2}
	for name, tc := range map[string]struct {
		q          gate.Requirements
		signatures []policy.Fact
		code, text string // "" allows
	}{
		"two people":            {two, []policy.Fact{signedBy("alice@example.org"), signedBy("bob@example.org")}, "", ""},
		"a person and a key":    {two, []policy.Fact{signedBy("a@home.example"), signedWith("sha256:r1")}, "", ""},
		"one twice and another": {two, []policy.Fact{signedWith("sha256:a1"), signedWith("sha256:a2"), signedBy("bob@example.org")}, "", ""},
		"one of the team":       {gate.Requirements{Principals: team}, []policy.Fact{signedBy("bob@example.org")}, "", ""},
		"two that match":        {gate.Requirements{Identities: []policy.Identity{{SubjectRegexp: "^.*@example\\.org$", Issuer: issuer}}, Threshold: 2}, []policy.Fact{signedBy("x@example.org"), signedBy("y@example.org")}, "", ""},
		"one and a stranger":    {two, []policy.Fact{signedBy("alice@example.org"), signedBy("mallory@example.org")}, "THRESHOLD", "1 counts: alice; 1 others do not"},
		"two signatures":        {two, []policy.Fact{signedBy("alice@example.org"), signedBy("alice@example.org")}, "THRESHOLD", "1 more by the same"},
		"two addresses":         {two, []policy.Fact{signedBy("alice@example.org"), signedBy("a@home.example")}, "THRESHOLD", "1 counts: alice"},
		"two keys":              {two, []policy.Fact{signedWith("sha256:a1"), signedWith("sha256:a2")}, "THRESHOLD", "1 counts: alice"},
		"address and key":       {two, []policy.Fact{signedBy("alice@example.org"), signedWith("sha256:a2")}, "THRESHOLD", "1 counts: alice"},
		"nobody":                {two, []policy.Fact{signedBy("mallory@example.org")}, "WRONG_IDENTITY", "wanted alice or bob or release"},
		"other issuer":          {two, []policy.Fact{signedBy("bob@example.org"), {Signer: evidence.Signer{Identity: "alice@example.org", Issuer: "https://other.example"}}}, "THRESHOLD", "1 counts: bob"},
		"keys without names":    {gate.Requirements{Principals: team, Keys: true, Threshold: 3}, []policy.Fact{signedWith("sha256:x"), signedWith("sha256:y"), signedBy("bob@example.org")}, "THRESHOLD", "2 count"},
		"the same who match":    {gate.Requirements{Identities: []policy.Identity{{SubjectRegexp: "^.*@example\\.org$", Issuer: issuer}}, Threshold: 2}, []policy.Fact{signedBy("x@example.org"), signedBy("x@example.org")}, "THRESHOLD", ""},
		"one name for two": {gate.Requirements{Threshold: 2, Principals: []gate.Principal{{Name: "a", Identities: []policy.Identity{person("x@example.org")}}, {Name: "b", Identities: []policy.Identity{person("x@example.org")}}}},
			[]policy.Fact{signedBy("x@example.org"), signedBy("x@example.org")}, "WRONG_IDENTITY", ""},
	} {
		if err := tc.q.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		v, err := tc.q.Judge(t.Context(), policy.Input{Signatures: tc.signatures})
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case v.Allowed != (tc.code == ""):
			t.Errorf("%s: %+v", name, v)
		case tc.code != "" && (v.Reasons[0].Code != tc.code || !strings.Contains(v.Reasons[0].Message, tc.text)):
			t.Errorf("%s: %s", name, v.Reasons[0])
		case v.Steps[len(v.Steps)-1].OK != v.Allowed:
			t.Errorf("%s: %+v", name, v.Steps)
		}
	}
}

func TestCountedFacts(t *testing.T) {
	t.Parallel()
	q := gate.Requirements{Principals: []gate.Principal{{Name: "alice", Identities: []policy.Identity{person("alice@example.org")}}, {Name: "bob", Identities: []policy.Identity{person("bob@example.org")}}}, Threshold: 2}
	v, err := q.Judge(t.Context(), policy.Input{Signatures: []policy.Fact{signedBy("eve@example.org"), signedBy("bob@example.org"), signedBy("alice@example.org")}})
	if err != nil || len(v.Counted) != 2 || v.Counted[0] != (gate.Counted{gate.Place{Index: 1}, "bob"}) || v.Counted[1] != (gate.Counted{gate.Place{Index: 2}, "alice"}) {
		t.Errorf("%+v %v", v.Counted, err)
	}
}

// TestImpossibleRequirements are refused before anything is looked at.
func TestImpossibleRequirements(t *testing.T) {
	t.Parallel()
	for name, q := range map[string]gate.Requirements{
		"more than there are":     {Principals: []gate.Principal{{Name: "a", Keys: []string{"sha256:1", "sha256:2"}}}, Threshold: 2},
		"keys count as one":       {Keys: true, Threshold: 2},
		"one identity":            {Identities: []policy.Identity{person("a")}, Threshold: 2},
		"a name twice":            {Principals: []gate.Principal{{Name: "a", Keys: []string{"sha256:1"}}, {Name: "a", Keys: []string{"sha256:2"}}}},
		"no name":                 {Principals: []gate.Principal{{Keys: []string{"sha256:1"}}}},
		"nothing to tell them by": {Principals: []gate.Principal{{Name: "a"}}},
		"not anchored":            {Principals: []gate.Principal{{Name: "a", Identities: []policy.Identity{{SubjectRegexp: "a", Issuer: issuer}}}}},
	} {
		if q.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestMaxAge: the earliest trusted time counts, and without one nothing is young.
func TestMaxAge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	at := func(ages ...time.Duration) policy.Fact {
		f := signedBy("alice@example.org")
		for _, a := range ages {
			f.Times = append(f.Times, evidence.Timestamp{Kind: "rfc3161", At: now.Add(-a)})
		}
		return f
	}
	q := gate.Requirements{Identities: []policy.Identity{person("alice@example.org")}, MaxAge: time.Hour}
	for name, tc := range map[string]struct {
		signatures []policy.Fact
		text       string // "" allows
	}{
		"young":           {[]policy.Fact{at(time.Minute)}, ""},
		"to the second":   {[]policy.Fact{at(time.Hour)}, ""},
		"one of two":      {[]policy.Fact{at(2 * time.Hour), at(time.Minute)}, ""},
		"old":             {[]policy.Fact{at(time.Hour + time.Second)}, "1h0m1s ago"},
		"stamped again":   {[]policy.Fact{at(time.Minute, 2*time.Hour)}, "2h0m0s ago"},
		"no trusted time": {[]policy.Fact{at()}, "no trusted time"},
	} {
		v, err := q.Judge(t.Context(), policy.Input{Now: now, Signatures: tc.signatures})
		switch {
		case err != nil || v.Allowed != (tc.text == ""):
			t.Errorf("%s: %+v %v", name, v, err)
		case tc.text != "" && (v.Reasons[0].Code != "TOO_OLD" || !strings.Contains(v.Reasons[0].Message, tc.text)):
			t.Errorf("%s: %s", name, v.Reasons[0])
		}
	}
}

// TestAlso: what is demanded besides is by who met the rest, and said by them: a statement
// that a build left in an attestation manifest is under the name of who signed the index, and
// that one never said it.
func TestAlso(t *testing.T) {
	t.Parallel()
	const kind = "https://example.org/verdict"
	verdict := func(identity string, f evidence.Format) policy.Fact {
		return policy.Fact{Format: f, Signer: evidence.Signer{Identity: identity, Issuer: issuer}, PredicateType: kind, Statement: []byte("yes")}
	}
	q := gate.Requirements{Identities: []policy.Identity{{SubjectRegexp: "^.*@example\\.org$", Issuer: issuer}},
		Also: &gate.Attested{Type: kind, Policies: []gate.StatementPolicy{only("yes")}}}
	attested := q
	attested.AttestationType = kind
	const bundle, inside = evidence.Format("bundle"), evidence.FormatBuildKit
	for name, tc := range map[string]struct {
		q            gate.Requirements
		attestations []policy.Fact
		code         string // "" allows
	}{
		"by the same":             {q, []policy.Fact{verdict("x@example.org", bundle)}, ""},
		"by another, who may":     {q, []policy.Fact{verdict("y@example.org", bundle)}, "WRONG_IDENTITY"},
		"by somebody":             {q, []policy.Fact{verdict("x@example.com", bundle)}, "WRONG_IDENTITY"},
		"none":                    {q, nil, "NO_ATTESTATION"},
		"of the build":            {q, []policy.Fact{verdict("x@example.org", inside)}, "NO_ATTESTATION"},
		"of the build, and asked": {attested, []policy.Fact{verdict("x@example.org", inside)}, "NO_ATTESTATION"},
		"asked":                   {attested, []policy.Fact{verdict("x@example.org", bundle)}, ""},
	} {
		v, err := tc.q.Judge(t.Context(), policy.Input{Signatures: []policy.Fact{signedBy("x@example.org")}, Attestations: tc.attestations})
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case v.Allowed != (tc.code == ""):
			t.Errorf("%s: allowed %v: %v", name, v.Allowed, v.Reasons)
		case tc.code != "" && v.Reasons[0].Code != tc.code:
			t.Errorf("%s: %v, want %s", name, v.Reasons, tc.code)
		}
	}
}
