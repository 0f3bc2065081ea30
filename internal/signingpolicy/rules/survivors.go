package rules

import (
	"context"
	"maps"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// Mutant is a policy from which one condition, rule or element is gone: see [rego.Mutant].
type Mutant = rego.Mutant

// Survivors runs the policy's tests once for each thing that can be taken out of its rules,
// and gives those that no test notices: what they are for, nobody would miss. total is
// how many there were. Reasons as of [Load], also when the tests do not pass as they are; an
// error means that ctx ended.
func Survivors(ctx context.Context, files map[string][]byte) (survivors []Mutant, total int, wrongs []policy.Reason, err error) {
	if passes, wrongs, err := passes(ctx, files); err != nil || wrongs != nil {
		return nil, 0, wrongs, err
	} else if !passes {
		return nil, 0, []policy.Reason{wrong("", "the tests do not pass")}, nil
	}
	for _, name := range sortedNames(files) {
		if isTest(name) || bundleName(name) == DataFile {
			continue
		}
		mutants, err := rego.Mutants(name, files[name])
		if err != nil {
			return nil, 0, mistakes(err), nil
		}
		for _, m := range mutants {
			total++
			changed := maps.Clone(files)
			changed[name] = m.Text
			passed, wrongs, err := passes(ctx, changed)
			if err != nil {
				return nil, 0, nil, err
			}
			// What does not compile any more, everybody notices.
			if wrongs == nil && passed {
				survivors = append(survivors, m)
			}
		}
	}
	return survivors, total, nil, nil
}

func passes(ctx context.Context, files map[string][]byte) (bool, []policy.Reason, error) {
	results, _, wrongs, err := Test(ctx, files, nil)
	if err != nil || wrongs != nil {
		return false, wrongs, err
	}
	for _, r := range results {
		if !r.Passed {
			return false, nil, nil
		}
	}
	return true, nil, nil
}
