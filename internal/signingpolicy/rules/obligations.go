package rules

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// The types of obligations.
const (
	NoPush     = "no-push"     // build, and push nothing
	RecordVSA  = "record-vsa"  // keep the verdict with the image
	RequireTSA = "require-tsa" // the signature needs a timestamp by a timestamp authority
	MaxBuilds  = "max-builds"  // "max": builds of this tag, a whole number from 1
	Annotate   = "annotate"    // "annotations": names and texts that the signature gets
	Notify     = "notify"      // "to": who is told, a text; "message": what, which may be missing
)

// parameters are the kinds of an obligation's members. One with ? may be missing.
var parameters = map[string][]string{
	NoPush: nil, RecordVSA: nil, RequireTSA: nil,
	MaxBuilds: {"max number"}, Annotate: {"annotations texts"}, Notify: {"to text", "message? text"},
}

// badParameters are denials for obligations that nobody knows how to meet.
func badParameters(list []Obligation) []policy.Reason {
	var out []policy.Reason
	bad := func(o Obligation, what string) {
		out = append(out, policy.Reason{Code: rego.CodeEval, Message: rego.Clean("the obligation " + o.Type + " " + what)})
	}
	for _, o := range list {
		var known []string
		for _, p := range parameters[o.Type] {
			name, kind, _ := strings.Cut(p, " ")
			name, optional := strings.CutSuffix(name, "?")
			known = append(known, name)
			v, there := o.Parameters[name]
			switch {
			case !there && !optional:
				bad(o, "lacks its member "+name)
			case there && !isKind(kind, v):
				bad(o, "has "+rego.TypeName(v)+" as "+name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(o.Parameters)) {
			if !slices.Contains(known, name) {
				bad(o, "has a member "+name+", whose meaning is not known")
			}
		}
	}
	return out
}

func isKind(kind string, v any) bool {
	switch kind {
	case "number":
		n, ok := v.(json.Number)
		i, err := n.Int64()
		return ok && err == nil && i >= 1
	case "texts":
		m, ok := v.(map[string]any)
		for _, e := range m {
			if _, is := e.(string); !is {
				return false
			}
		}
		return ok && len(m) > 0
	}
	s, ok := v.(string)
	return ok && s != ""
}
