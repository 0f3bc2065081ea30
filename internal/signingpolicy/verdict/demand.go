package verdict

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// CodeVerdict is a verdict that is not the one that is wanted.
const CodeVerdict = "SIGNING_POLICY"

// Demand is what a consumer wants of a verdict. The zero Demand takes any; who signed
// it is for the gate that asks.
type Demand struct {
	Policy     string // "sha256:…", "" for any
	Root       string // "sha256:…" of the first record of a stored policy, "" for any
	MinVersion int64  // of the record; 0 for any
	Repository string // key; "" for any
}

// ParseDemand reads NAME=VALUE pairs separated by commas: policy=sha256:…,
// root=sha256:…, min-version=N, repository=HOST/id/NUMBER. A policy or a root must be
// among them: a verdict under just any policy says nothing.
func ParseDemand(s string) (Demand, error) {
	var d Demand
	for pair := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(pair, "=")
		into := map[string]*string{"policy": &d.Policy, "root": &d.Root, "repository": &d.Repository}[name]
		switch {
		case !ok || value == "":
			return Demand{}, fault.Usagef("%q: want NAME=VALUE", pair)
		case name == "min-version":
			n, err := strconv.ParseInt(value, 10, 53)
			if err != nil || n < 1 || d.MinVersion != 0 {
				return Demand{}, fault.Usagef("%q: want a number from 1, once", pair)
			}
			d.MinVersion = n
		case into == nil:
			return Demand{}, fault.Usagef("%q: want policy, root, min-version or repository", pair)
		case *into != "":
			return Demand{}, fault.Usagef("%q: %s stands twice", pair, name)
		case name != "repository" && !isDigest(value):
			return Demand{}, fault.Usagef("%q: want sha256: and 64 hexadecimal digits", pair)
		default:
			*into = value
		}
	}
	if d.Policy == "" && d.Root == "" {
		return Demand{}, fault.Hint(fault.Usagef("%q: a verdict under just any policy says nothing", s), "name the policy: policy=sha256:… or root=sha256:…")
	}
	if d.MinVersion != 0 && d.Root == "" {
		return Demand{}, fault.Usagef("%q: min-version is of a stored policy: name its root, too", s)
	}
	return d, nil
}

// Check judges an in-toto statement whose signature verified.
func (d Demand) Check(_ context.Context, statement []byte) (policy.Decision, error) {
	var st struct {
		PredicateType string          `json:"predicateType"`
		Predicate     json.RawMessage `json:"predicate"`
	}
	if err := json.Unmarshal(statement, &st); err != nil || st.PredicateType != PredicateType {
		return d.deny("is no verdict of a signing policy"), nil
	}
	v, err := Parse(st.Predicate)
	switch {
	case err != nil:
		return d.deny("is not one of a signing policy: %v", err), nil
	case d.Policy != "" && v.Policy != d.Policy:
		return d.deny("is under policy %s, not under %s", v.Policy, d.Policy), nil
	case d.Root != "" && v.Root != d.Root:
		return d.deny("is under a policy that %s, not one that began with %s", root(v), d.Root), nil
	case v.Version < d.MinVersion:
		return d.deny("is under version %d of the policy; wanted is %d or later", v.Version, d.MinVersion), nil
	case d.Repository != "" && v.Repository != d.Repository:
		return d.deny("is of repository %s, not of %s", v.Repository, d.Repository), nil
	}
	return policy.Decision{Allowed: true}, nil
}

func root(v *Verdict) string {
	if v.Root == "" {
		return "no store has"
	}
	return "began with " + v.Root
}

func (d Demand) deny(format string, args ...any) policy.Decision {
	return policy.Deny(policy.Reason{Code: CodeVerdict, Message: "the verdict " + fmt.Sprintf(format, args...),
		Hint: "take an image that was built under the policy that is wanted"})
}
