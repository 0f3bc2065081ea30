package workflowrun

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// names are one name or a list of them.
type names []string

// UnmarshalYAML reads them.
func (n *names) UnmarshalYAML(v *yaml.Node) error {
	if v.Kind == yaml.ScalarNode {
		*n = names{v.Value}
		return nil
	}
	return v.Decode((*[]string)(n))
}

// order is one in which each job comes after those that it needs.
func (w *workflow) order() ([]string, error) {
	var order []string
	for len(order) < len(w.Jobs) {
		before := len(order)
		for _, name := range slices.Sorted(maps.Keys(w.Jobs)) {
			ready := !slices.Contains(order, name)
			for _, need := range w.Jobs[name].Needs {
				ready = ready && slices.Contains(order, need)
			}
			if ready {
				order = append(order, name)
			}
		}
		if len(order) == before {
			return nil, fmt.Errorf("jobs need each other, or others that are not there; only %v can run", order)
		}
	}
	return order, nil
}

// runJob runs a job, once for each entry of its matrix, unless its condition says no. What it
// returns is the job in the contexts needs and jobs: its result and its outputs, of which the
// last that is not empty counts.
func runJob(ctx context.Context, c Call, name string, j job, contexts, jobs map[string]any, res *Result) (map[string]any, error) {
	contexts = maps.Clone(contexts)
	needs, all := map[string]any{}, true
	for _, need := range j.Needs {
		needs[need] = jobs[need]
		all = all && jobs[need].(map[string]any)["result"] == "success"
	}
	contexts["needs"] = needs
	condition := strings.TrimSuffix(strings.TrimPrefix(j.If, "${{"), "}}")
	wanted := all || strings.Contains(condition, "cancelled()") // else success() is meant, too
	if wanted && condition != "" {
		v, err := evaluate(condition, contexts)
		if err != nil {
			return nil, fmt.Errorf("if: %w", err)
		}
		wanted = truth(v)
	}
	done := map[string]any{"result": "skipped", "outputs": map[string]any{}}
	if !wanted {
		return done, nil
	}
	entries, err := j.entries(contexts)
	if err != nil {
		return nil, err
	}
	outputs := map[string]any{}
	for i, entry := range entries {
		contexts["matrix"] = entry
		r := &run{temp: filepath.Join(c.Dir, fmt.Sprintf("%s-%d", name, i), "temp"), call: c, steps: map[string]any{}, env: map[string]string{}, contexts: maps.Clone(contexts)}
		made, err := r.onMachine(ctx, name, j, res)
		res.Log += r.log.String()
		if err != nil {
			return nil, err
		}
		for k, v := range made {
			if v != "" || outputs[k] == nil {
				outputs[k] = v
			}
		}
	}
	return map[string]any{"result": "success", "outputs": outputs}, nil
}

// entries are those of the job's matrix; one that is empty where there is none.
func (j job) entries(contexts map[string]any) ([]map[string]any, error) {
	if j.Strategy.Matrix.Include == "" {
		return []map[string]any{{}}, nil
	}
	v, err := value(j.Strategy.Matrix.Include, contexts)
	if err != nil {
		return nil, fmt.Errorf("matrix: %w", err)
	}
	list, ok := v.([]any)
	var entries []map[string]any
	for _, e := range list {
		entry, is := e.(map[string]any)
		ok = ok && is
		entries = append(entries, entry)
	}
	if !ok || len(entries) == 0 {
		return nil, fmt.Errorf("matrix: %v is no list of entries", v)
	}
	return entries, nil
}

// onMachine runs the steps on a machine with the label's processor.
func (r *run) onMachine(ctx context.Context, name string, j job, res *Result) (map[string]string, error) {
	label, err := expand(j.RunsOn, r.contexts)
	if err != nil {
		return nil, fmt.Errorf("runs-on: %w", err)
	}
	machine := map[string]any{}
	if given, ok := r.contexts["runner"].(map[string]any); ok {
		machine = maps.Clone(given)
	}
	machine["temp"], machine["arch"] = r.temp, "X64"
	if strings.HasSuffix(label, "-arm") {
		machine["arch"] = "ARM64"
	}
	r.contexts["runner"], r.contexts["steps"] = machine, r.steps
	res.Jobs = append(res.Jobs, strings.TrimSuffix(name+" on "+label, " on "))
	if err := r.job(ctx, j, res); err != nil {
		return nil, err
	}
	return r.all(j.Outputs)
}
