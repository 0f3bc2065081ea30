// Package workflowlint finds in workflows of GitHub Actions what lets others in: the
// checks that zizmor is known for, as far as reusable workflows that sign need them.
// actionlint says whether a workflow is one at all; this says whether it is safe.
package workflowlint

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

// Finding is one thing to mend.
type Finding struct {
	Line int
	Rule string // see the constants
	Text string
}

func (f Finding) String() string { return fmt.Sprintf("line %d: %s: %s", f.Line, f.Rule, f.Text) }

// The rules.
const (
	RuleUnpinned    = "unpinned"            // an action, workflow or image that is not named by commit or digest
	RuleInjection   = "template-injection"  // ${{ }} inside of a script, where its value is code
	RulePermissions = "permissions"         // more than the job needs, or none written down
	RuleCredentials = "persist-credentials" // checkout that leaves the token in .git/config
	RuleTrigger     = "dangerous-trigger"   // runs with secrets on what strangers wrote
	RuleSecrets     = "secrets"             // all secrets handed on, or one where every step sees it
	RuleRunner      = "runner"              // a runner that the caller or a label of the owner chooses
	RuleEnvironment = "environment"         // variables that later steps run by
	RuleDownload    = "download"            // a script from the network is run as it comes
	RuleTimeout     = "timeout"             // a job without an end
	RuleIgnored     = "ignored-failure"     // a step whose failure does not count
)

// Check reads a workflow, or an action (action.yml). Errors are about its form.
func Check(name string, data []byte) ([]Finding, error) {
	docs, err := strictyaml.Documents(name, data) // no duplicates, no aliases
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, fmt.Errorf("%s: wants one document, has %d", name, len(docs))
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: no mapping", name)
	}
	c := &checker{}
	c.expressions(doc.Content[0])
	if root := doc.Content[0]; get(root, "runs") != nil && get(root, "jobs") == nil {
		c.action(get(root, "runs"))
	} else {
		c.workflow(root)
	}
	slices.SortStableFunc(c.found, func(a, b Finding) int { return a.Line - b.Line })
	return c.found, nil
}

type checker struct{ found []Finding }

func (c *checker) add(n *yaml.Node, rule, format string, args ...any) {
	c.found = append(c.found, Finding{n.Line, rule, fmt.Sprintf(format, args...)})
}

// get is the value of a key, nil without it.
func get(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// each calls f for each entry of a mapping, or each element of a list.
func each(n *yaml.Node, f func(key string, value *yaml.Node)) {
	switch {
	case n == nil:
	case n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			f(n.Content[i].Value, n.Content[i+1])
		}
	case n.Kind == yaml.SequenceNode:
		for _, e := range n.Content {
			f("", e)
		}
	}
}

var dangerousTriggers = []string{"pull_request_target", "workflow_run", "issue_comment", "discussion", "discussion_comment", "issues"}

func (c *checker) workflow(root *yaml.Node) {
	on := get(root, "on")
	trigger := func(name string, at *yaml.Node) {
		if slices.Contains(dangerousTriggers, name) {
			c.add(at, RuleTrigger, "%s runs with the repository's rights on what strangers wrote", name)
		}
	}
	trigger(text(on), root)
	each(on, func(key string, value *yaml.Node) { trigger(key, value); trigger(text(value), value) })
	c.permissions(root, root, true)
	c.environment(get(root, "env"), true)
	c.shell(get(get(root, "defaults"), "run"))
	each(get(root, "jobs"), func(name string, job *yaml.Node) { c.job(name, job) })
}

// action checks the steps of a composite action, which are steps of whoever uses it, and the
// image of one that is a container.
func (c *checker) action(runs *yaml.Node) {
	if image := get(runs, "image"); image != nil && text(image) != "Dockerfile" {
		c.image(image)
	}
	c.environment(get(runs, "env"), true)
	c.code("args", get(runs, "args"))
	each(get(runs, "steps"), func(_ string, step *yaml.Node) { c.step(step) })
}

// allowedWrites are what jobs may write: an identity token is what signing is about.
var allowedWrites = []string{"id-token"}

// permissions checks a block. The workflow's own must give nothing but reading the
// source, so that every job says what it needs.
func (c *checker) permissions(n, at *yaml.Node, top bool) {
	p := get(n, "permissions")
	if p == nil {
		if top {
			c.add(at, RulePermissions, "no permissions are written down: the token may do what the repository's settings say")
		} else if get(n, "uses") == nil {
			c.add(at, RulePermissions, "the job does not say what it needs")
		}
		return
	}
	if p.Kind == yaml.ScalarNode {
		c.add(p, RulePermissions, "%s is everything", p.Value)
	}
	each(p, func(name string, value *yaml.Node) {
		switch {
		case value.Value == "none":
		case value.Value == "read" && (!top || name == "contents"):
		case value.Value == "write" && !top && slices.Contains(allowedWrites, name):
		default:
			c.add(value, RulePermissions, "%s: %s", name, value.Value)
		}
	})
}

func (c *checker) job(name string, job *yaml.Node) {
	c.permissions(job, job, false)
	c.environment(get(job, "env"), true)
	c.shell(get(get(job, "defaults"), "run"))
	if s := get(job, "secrets"); text(s) == "inherit" {
		c.add(s, RuleSecrets, "secrets: inherit hands on all of them")
	}
	if uses := get(job, "uses"); uses != nil {
		c.uses(uses, true)
		return
	}
	if get(job, "timeout-minutes") == nil {
		c.add(job, RuleTimeout, "job %s has no timeout-minutes", name)
	}
	c.runner(get(job, "runs-on"), get(get(get(job, "strategy"), "matrix"), "include"))
	c.container(get(job, "container"))
	each(get(job, "services"), func(_ string, s *yaml.Node) { c.container(s) })
	c.ignored(job)
	each(get(job, "steps"), func(_ string, step *yaml.Node) { c.step(step) })
}

func (c *checker) ignored(n *yaml.Node) {
	if v := get(n, "continue-on-error"); v != nil && v.Value != "false" {
		c.add(v, RuleIgnored, "continue-on-error: %s", v.Value)
	}
}

var hostedRunner = regexp.MustCompile(`^ubuntu-[0-9]{2}\.[0-9]{2}(-arm)?$`)

// ofPlan is a matrix that another job of the workflow makes, which must have looked at the
// labels, with labels of GitHub's own where that job did not run.
var ofPlan = regexp.MustCompile(`^\$\{\{ fromJSON\(needs\.[a-z]+\.outputs\.[a-z]+( \|\| '([^']*)')?\) \}\}$`)

var labelInMatrix = regexp.MustCompile(`"runner":"([^"]*)"`)

func (c *checker) runner(n, matrix *yaml.Node) {
	if n == nil || hostedRunner.MatchString(text(n)) {
		return
	}
	m := ofPlan.FindStringSubmatch(text(matrix))
	if text(n) != "${{ matrix.runner }}" || m == nil {
		c.add(n, RuleRunner, "runs-on %q is not one of GitHub's own with its version", text(n))
		return
	}
	for _, label := range labelInMatrix.FindAllStringSubmatch(m[2], -1) {
		if !hostedRunner.MatchString(label[1]) {
			c.add(n, RuleRunner, "runs-on %q is not one of GitHub's own with its version", label[1])
		}
	}
}

var (
	byCommit = regexp.MustCompile(`^[A-Za-z0-9_.-]+/[A-Za-z0-9_./-]+@[0-9a-f]{40}$`)
	byDigest = regexp.MustCompile(`@sha256:[0-9a-f]{64}$`)
	release  = regexp.MustCompile(`^# v[0-9]+(\.[0-9]+)*$`)
)

func (c *checker) image(n *yaml.Node) {
	if v := text(n); v != "" && !byDigest.MatchString(v) {
		c.add(n, RuleUnpinned, "the image %s is not named by its digest", v)
	}
}

// uses checks an action, or a workflow, which lies in the same commit as the file when it
// begins with ./; an action is then whatever lies in the folder when the step runs.
func (c *checker) uses(n *yaml.Node, workflow bool) {
	v := n.Value
	switch {
	case strings.HasPrefix(v, "./") && workflow:
	case strings.HasPrefix(v, "docker://"):
		c.image(n)
	case !byCommit.MatchString(v):
		c.add(n, RuleUnpinned, "%s is not named by its commit", v)
	case !release.MatchString(n.LineComment):
		c.add(n, RuleUnpinned, "%s: a comment says which release it is: # v1.2.3", v)
	}
}

func (c *checker) step(step *yaml.Node) {
	c.ignored(step)
	c.environment(get(step, "env"), false)
	c.shell(step)
	if run := get(step, "run"); run != nil {
		c.script(run)
	}
	with := get(step, "with")
	each(with, func(key string, value *yaml.Node) {
		if codeInputs.MatchString(key) {
			c.code(key, value)
		}
	})
	uses := get(step, "uses")
	if uses == nil {
		return
	}
	c.uses(uses, false)
	if strings.HasPrefix(strings.ToLower(uses.Value), "actions/checkout@") && text(get(with, "persist-credentials")) != "false" {
		c.add(uses, RuleCredentials, "checkout without persist-credentials: false")
	}
}
