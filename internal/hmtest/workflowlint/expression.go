package workflowlint

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// GitHub reads names of contexts, functions and properties in any case ("Evaluate
// expressions in workflows and actions").
var (
	expression  = regexp.MustCompile(`(?s)\$\{\{.*?\}\}`)
	literal     = regexp.MustCompile(`'[^']*'`)
	anySecret   = regexp.MustCompile(`(?i)\bsecrets\b`)
	namedSecret = regexp.MustCompile(`(?i)\bsecrets\s*\.\s*[a-z_][a-z0-9_-]*`)
	fileOfJob   = regexp.MustCompile(`(?i)\bgithub\s*(\.\s*|\[\s*')(env|path)\b`)
	whetherSet  = regexp.MustCompile(`(?i)^\$\{\{\s*secrets\.[a-z0-9_-]+\s*[!=]=\s*''\s*\}\}$`)
)

func hasExpression(n *yaml.Node) bool { return n != nil && strings.Contains(n.Value, "${{") }

// expressions looks at every expression of the file, wherever it stands: all secrets at once,
// one whose name is computed, and the files by which later steps are changed.
func (c *checker) expressions(n *yaml.Node) {
	for _, e := range n.Content {
		c.expressions(e)
	}
	if n.Kind != yaml.ScalarNode {
		return
	}
	for _, e := range expression.FindAllString(n.Value, -1) {
		if fileOfJob.MatchString(e) {
			c.add(n, RuleEnvironment, "%s decides what later steps run; use outputs", e)
		}
		if rest := namedSecret.ReplaceAllString(literal.ReplaceAllString(e, ""), ""); anySecret.MatchString(rest) {
			c.add(n, RuleSecrets, "%s is all secrets, or one that nobody named", e)
		}
	}
}

// environment checks variables. wide is an environment that several steps have, where no
// secret stands; whether one is set may be said.
func (c *checker) environment(env *yaml.Node, wide bool) {
	if env != nil && env.Kind == yaml.ScalarNode && hasExpression(env) {
		c.add(env, RuleEnvironment, "%s decides which variables there are", env.Value)
	}
	each(env, func(name string, value *yaml.Node) {
		if loaders.MatchString(name) {
			c.add(value, RuleEnvironment, "%s decides what programs run", name)
		}
		if strings.Contains(name, "${{") {
			c.add(value, RuleEnvironment, "the name %s is a value", name)
		}
		for _, e := range expression.FindAllString(value.Value, -1) {
			if wide && anySecret.MatchString(e) && !whetherSet.MatchString(e) {
				c.add(value, RuleSecrets, "every step sees %s; set it where it is used", name)
			}
		}
	})
}

// loaders are variables by which programs run other code.
var loaders = regexp.MustCompile(`^(LD_PRELOAD|LD_LIBRARY_PATH|NODE_OPTIONS|BASH_ENV|ENV|PYTHONPATH|GIT_SSH_COMMAND|PATH|ACTIONS_ALLOW_UNSECURE_COMMANDS|ACTIONS_ALLOW_USE_UNSECURE_NODE_VERSION)$`)

// codeInputs are inputs of actions that are code, or arguments of a program.
var codeInputs = regexp.MustCompile(`(?i)^(.*script|entrypoint|args|run|commands?|cmds?)$`)

// code refuses expressions where their value becomes code.
func (c *checker) code(what string, n *yaml.Node) {
	if hasExpression(n) {
		c.add(n, RuleInjection, "%s contains ${{ }}: hand the value over in env", what)
	}
	if n != nil {
		for _, e := range n.Content {
			c.code(what, e)
		}
	}
}

// shell checks the shell of defaults and of a step.
func (c *checker) shell(n *yaml.Node) { c.code("shell", get(n, "shell")) }

// container checks a container that steps run in, or a service.
func (c *checker) container(n *yaml.Node) {
	c.image(n)
	c.image(get(n, "image"))
	c.environment(get(n, "env"), true)
	for _, key := range []string{"options", "volumes"} {
		c.code(key, get(n, key))
	}
}
