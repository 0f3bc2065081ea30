package part

import (
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// usedPolicy is a source policy as provenance names it (build.UsedPolicy).
type usedPolicy struct {
	Name   string          `json:"name" strict:"required"`
	From   string          `json:"from" strict:"required"`
	Digest evidence.Digest `json:"digest" strict:"required"`
	Read   []readFile      `json:"read" strict:"max=1000"`
}

type readFile struct {
	Name   string          `json:"name" strict:"required"`
	Digest evidence.Digest `json:"digest" strict:"required"`
}

func readPolicies(text string) (list []usedPolicy, err error) {
	if text == "" {
		return nil, nil
	}
	return list, strictjson.Unmarshal([]byte(text), &list)
}

// withoutRead are the policies without what they read while they decided: whoever puts
// parts together decides nothing, so that its own have read nothing.
func withoutRead(text string) []usedPolicy {
	list, _ := readPolicies(text) // which check has seen
	for i := range list {
		list[i].Read = nil
	}
	return list
}

// sameFiles says which file a policy read differently for two parts. Their policies are
// the same, in the same order.
func sameFiles(parts []*Named) string {
	type file struct {
		policy int
		name   string
	}
	seen := map[file]evidence.Digest{}
	for _, p := range parts {
		list, _ := readPolicies(p.Policies)
		for i, policy := range list {
			for _, f := range policy.Read {
				if before, read := seen[file{i, f.Name}]; read && before != f.Digest {
					return "the source policy " + clip(policy.Name) + " read another " + clip(f.Name) + " for one part than for another"
				}
				seen[file{i, f.Name}] = f.Digest
			}
		}
	}
	return ""
}
