package assess

import (
	"fmt"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// githubIssuer vouches for the workflows of GitHub; the names of builders below
// mean something only under it.
const githubIssuer = "https://token.actions.githubusercontent.com"

// isolating are builders whose own descriptions say, and whose users hold them
// to it, that the jobs they build cannot reach what signs (SLSA v1.0, "Isolated"
// and "Unforgeable").
var isolating = []string{
	"https://github.com/docker/github-builder/.github/workflows/",
	"https://github.com/slsa-framework/slsa-github-generator/.github/workflows/",
}

// slsa finds the highest level that any provenance reaches.
func slsa(e Evidence) SLSA {
	best := SLSA{Why: "there is no provenance", Next: "level 1: provenance that says how it was built"}
	for _, st := range e.Unsigned {
		if id, _ := builderID(st.PredicateType, st.Predicate); id != "" && best.BuildLevel < 1 {
			best = SLSA{BuildLevel: 1, Builder: id, Why: "there is provenance that nobody signed",
				Next: "level 2: provenance that the build platform signed"}
		}
	}
	for _, f := range e.Attestations {
		if s := signedProvenance(f); s.BuildLevel > best.BuildLevel || s.BuildLevel == best.BuildLevel && best.BuildLevel == 1 {
			best = s
		}
	}
	return best
}

func signedProvenance(f policy.Fact) SLSA {
	id, _ := builderID(f.PredicateType, f.Predicate) // CheckBuilder refused what is ambiguous
	s := SLSA{BuildLevel: 1, Builder: id}
	k := kindOf(f.Signer)
	switch {
	case s.Builder == "":
		return SLSA{}
	case k.what == byKey || k.what == byPerson || k.what == byMachine:
		s.Why = "its provenance is signed by " + f.Signer.String() + ", and nothing shows that this is a build platform"
		s.Next = "level 2: provenance that a hosted build platform signed with an identity of its own"
		return s
	case !k.hosted:
		s.Why = "its provenance is signed by a CI job on a machine that the CI does not host"
		s.Next = "level 2: a build on machines of the platform"
		return s
	}
	s.BuildLevel = 2
	if k.what == byOtherBuild && k.issuer == githubIssuer && isIsolating(k.builder) && k.identity == k.builder {
		s.BuildLevel, s.Why = 3, "its provenance is signed by "+k.builder+", a builder that keeps what signs away from what it builds"
		return s
	}
	s.Why = "its provenance is signed by the hosted build job " + k.builder
	s.Next = "level 3: a builder outside of the source repository that is known to keep what signs away from the build, such as docker/github-builder or slsa-github-generator"
	return s
}

func isIsolating(builder string) bool {
	for _, b := range isolating {
		if strings.HasPrefix(builder, b) {
			return true
		}
	}
	return false
}

// builderID is builder.id of a SLSA provenance predicate, v1 or v0.2. It is ""
// for what is no provenance: one that does not say who built is none. An error is
// a predicate that two readers may read differently: its members on the way to the
// name are not objects, are there twice, or are there in other letters, which
// encoding/json takes for the same and Rego does not.
func builderID(predicateType string, predicate []byte) (string, error) {
	path := []string{"builder", "id"}
	switch {
	case predicateType == evidence.PredicateSLSA1:
		path = []string{"runDetails", "builder", "id"}
	case predicateType != evidence.PredicateSLSA02:
		return "", nil
	}
	value := predicate
	for _, want := range path {
		if len(value) == 0 {
			return "", nil
		}
		var err error
		if value, err = member(value, want); err != nil {
			return "", err
		}
	}
	if len(value) == 0 {
		return "", nil
	}
	r := strictjson.NewReader(value, false)
	return r.Text(len(value))
}

// maxMembers bounds the members of one object on the way to builder.id.
const maxMembers = 1000

// member is the value of an object's member, nil when it has none of the name.
func member(object []byte, want string) (value []byte, err error) {
	r := strictjson.NewReader(object, false)
	err = r.Document(func() error {
		return r.Map(maxMembers, func(name []byte) error {
			raw, err := r.Raw()
			if string(name) == want {
				value = raw
			} else if err == nil && strings.EqualFold(string(name), want) {
				err = fmt.Errorf("%q is not %q", name, want)
			}
			return err
		})
	})
	return value, err
}
