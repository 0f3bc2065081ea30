// Package workflowrun runs a reusable workflow as GitHub and its runners would: inputs with
// their types and defaults, jobs in the order of their needs, one for each entry of a
// matrix, expressions, conditions, environments, run steps in bash, and their outputs.
// Actions are functions of the test. For rehearsals only: what it does not know is an error.
package workflowrun

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Call is one call of a workflow.
type Call struct {
	Workflow []byte
	With     map[string]any // inputs
	Secrets  map[string]any
	Contexts map[string]any // github, runner, job
	Env      []string       // of the machine: PATH, GITHUB_…, ACTIONS_…
	Dir      string         // workspace; RUNNER_TEMP is a folder in it
	// Uses runs an action, by its name without the commit; an action that is not there is
	// an error.
	Uses map[string]func(with map[string]string) (outputs map[string]any, err error)
	// Skip are ids of run steps that the test does itself, with their outputs.
	Skip map[string]map[string]any
}

// Result is what a call had.
type Result struct {
	Outputs map[string]any // of the workflow
	Log     string         // what the steps printed
	Jobs    []string       // that ran, with the label of the machine: "build on ubuntu-24.04"
	Steps   []string       // that ran, by name
}

type workflow struct {
	On struct {
		Call struct {
			Inputs  map[string]input  `yaml:"inputs"`
			Secrets map[string]secret `yaml:"secrets"`
			Outputs map[string]struct {
				Description string
				Value       string
			} `yaml:"outputs"`
		} `yaml:"workflow_call"`
	} `yaml:"on"`
	Jobs map[string]job `yaml:"jobs"`
}

type input struct {
	Description string
	Type        string
	Required    bool
	Default     any
}

type secret struct {
	Description string
	Required    bool
}

type job struct {
	Needs    names
	If       string
	RunsOn   string `yaml:"runs-on"`
	Strategy struct {
		Matrix struct{ Include string }
	}
	Env     map[string]string
	Outputs map[string]string
	Steps   []step
}

type step struct {
	Name, ID, If, Uses, Run string
	Env, With               map[string]string
}

// Run calls a workflow. Its jobs run one after the other; the first that fails ends it.
func Run(ctx context.Context, c Call) (*Result, error) {
	var w workflow
	if err := yaml.Unmarshal(c.Workflow, &w); err != nil {
		return nil, err
	}
	inputs, err := w.inputs(c.With)
	if err != nil {
		return nil, err
	}
	for name := range c.Secrets {
		if _, ok := w.On.Call.Secrets[name]; !ok {
			return nil, fmt.Errorf("no secret %s", name)
		}
	}
	contexts := map[string]any{"inputs": inputs, "secrets": c.Secrets}
	for name, value := range c.Contexts {
		contexts[name] = value
	}
	res := &Result{Outputs: map[string]any{}}
	order, err := w.order()
	if err != nil {
		return nil, err
	}
	jobs := map[string]any{}
	for _, name := range order {
		done, err := runJob(ctx, c, name, w.Jobs[name], contexts, jobs, res)
		if err != nil {
			return res, fmt.Errorf("job %s: %w", name, err)
		}
		jobs[name] = done
	}
	contexts["jobs"] = jobs
	for name, o := range w.On.Call.Outputs {
		if res.Outputs[name], err = expand(o.Value, contexts); err != nil {
			return res, err
		}
	}
	return res, nil
}

func anyMap(m map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// inputs checks and completes them as GitHub does.
func (w *workflow) inputs(with map[string]any) (map[string]any, error) {
	known := w.On.Call.Inputs
	for name := range with {
		if _, ok := known[name]; !ok {
			return nil, fmt.Errorf("invalid input, %s is not defined in the referenced workflow", name)
		}
	}
	all := map[string]any{}
	for name, in := range known {
		v, given := with[name]
		switch {
		case !given && in.Required:
			return nil, fmt.Errorf("input %s is required, but not provided", name)
		case !given:
			v = in.Default
		}
		switch in.Type {
		case "boolean":
			if v == nil {
				v = false
			}
			if _, ok := v.(bool); !ok {
				return nil, fmt.Errorf("input %s: %v is no boolean", name, v)
			}
		case "number":
			switch n := v.(type) {
			case nil:
				v = 0.0
			case int:
				v = float64(n)
			default:
				return nil, fmt.Errorf("input %s: %v is no number", name, v)
			}
		case "string":
			v = text(v)
		default:
			return nil, fmt.Errorf("input %s has the type %q", name, in.Type)
		}
		all[name] = v
	}
	return all, nil
}

// run is a job that runs, on a machine of its own.
type run struct {
	temp     string
	call     Call
	contexts map[string]any
	steps    map[string]any
	env      map[string]string // of the job
	log      bytes.Buffer
}

func (r *run) all(m map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for k, v := range m {
		var err error
		if out[k], err = expand(v, r.contexts); err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
	}
	return out, nil
}

func (r *run) job(ctx context.Context, j job, res *Result) error {
	env, err := r.all(j.Env)
	if err != nil {
		return err
	}
	r.env, r.contexts["env"] = env, anyMap(env)
	if err := os.MkdirAll(r.temp, 0o755); err != nil {
		return err
	}
	for i, s := range j.Steps {
		if s.If != "" {
			v, err := evaluate(s.If, r.contexts)
			if err != nil {
				return fmt.Errorf("step %s: if: %w", s.Name, err)
			}
			if !truth(v) {
				continue
			}
		}
		res.Steps = append(res.Steps, s.Name)
		outputs, err := r.step(ctx, i, s)
		if err != nil {
			return fmt.Errorf("step %s: %w", s.Name, err)
		}
		if s.ID != "" {
			r.steps[s.ID] = map[string]any{"outputs": outputs}
		}
	}
	return nil
}

func (r *run) step(ctx context.Context, i int, s step) (map[string]any, error) {
	if outputs, ok := r.call.Skip[s.ID]; ok && s.Run != "" {
		return outputs, nil
	}
	if s.Uses != "" {
		name, _, _ := strings.Cut(s.Uses, "@")
		action, ok := r.call.Uses[name]
		if !ok {
			return nil, fmt.Errorf("nobody plays %s", name)
		}
		with, err := r.all(s.With)
		if err != nil {
			return nil, err
		}
		return action(with)
	}
	env, err := r.all(s.Env)
	if err != nil {
		return nil, err
	}
	temp := r.temp
	script, output := filepath.Join(temp, fmt.Sprintf("step-%d.sh", i)), filepath.Join(temp, fmt.Sprintf("output-%d", i))
	err = errors.Join(os.WriteFile(script, []byte(s.Run), 0o600), os.WriteFile(output, nil, 0o600))
	if err != nil {
		return nil, err
	}
	// "bash" as a shell is this command ("Workflow syntax", jobs.<job_id>.steps[*].shell).
	cmd := exec.CommandContext(ctx, "bash", "--noprofile", "--norc", "-eo", "pipefail", script)
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.call.Dir, &r.log, &r.log
	cmd.Env = slices.Concat(r.call.Env, pairs(r.env), pairs(env), []string{"GITHUB_OUTPUT=" + output, "RUNNER_TEMP=" + temp})
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, r.log.String())
	}
	data, err := os.ReadFile(output)
	if err != nil {
		return nil, err
	}
	return readOutputs(string(data))
}

func pairs(m map[string]string) []string {
	var list []string
	for k, v := range m {
		list = append(list, k+"="+v)
	}
	sort.Strings(list)
	return list
}

// readOutputs reads the file GITHUB_OUTPUT: "name=value", or "name<<END", lines, END.
func readOutputs(data string) (map[string]any, error) {
	out := map[string]any{}
	list := strings.Split(strings.TrimSuffix(data, "\n"), "\n")
	for i := 0; i < len(list); i++ {
		if list[i] == "" {
			continue
		}
		if name, end, ok := strings.Cut(list[i], "<<"); ok && !strings.Contains(name, "=") {
			n := slices.Index(list[i+1:], end)
			if n < 0 {
				return nil, fmt.Errorf("output %s has no end", name)
			}
			out[name] = strings.Join(list[i+1:i+1+n], "\n")
			i += n + 1
			continue
		}
		name, value, ok := strings.Cut(list[i], "=")
		if !ok {
			return nil, fmt.Errorf("%q is no output", list[i])
		}
		out[name] = value
	}
	return out, nil
}
