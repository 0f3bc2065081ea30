package workflowrun

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// evaluate is the value of an expression of GitHub Actions ("Evaluate expressions in
// workflows"): literals, members, ==, !=, &&, ||, !, parentheses, toJSON, fromJSON and
// cancelled (nobody cancels). What else there is, is an error: a workflow that uses it must
// be rehearsed with it.
func evaluate(expression string, contexts map[string]any) (any, error) {
	p := &parser{tokens: tokens.FindAllString(expression, -1), contexts: contexts}
	v := p.or()
	if p.err == nil && len(p.tokens) > 0 {
		p.err = fmt.Errorf("%q is left over", p.tokens)
	}
	if p.err != nil {
		return nil, fmt.Errorf("%q: %w", expression, p.err)
	}
	return v, nil
}

var (
	tokens    = regexp.MustCompile(`'(?:[^']|'')*'|[A-Za-z_][A-Za-z0-9_.-]*|&&|\|\||==|!=|[!(),]|[0-9]+|\S`)
	inText    = regexp.MustCompile(`\$\{\{(.*?)\}\}`)
	wholeText = regexp.MustCompile(`^\$\{\{((?:[^}]|\}[^}])*)\}\}$`)
	aMember   = regexp.MustCompile(`^[A-Za-z_]`)
)

type parser struct {
	tokens   []string
	contexts map[string]any
	err      error
}

func (p *parser) take(tok string) bool {
	if len(p.tokens) == 0 || p.tokens[0] != tok {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *parser) or() any {
	v := p.and()
	for p.take("||") {
		if w := p.and(); !truth(v) {
			v = w
		}
	}
	return v
}

func (p *parser) and() any {
	v := p.equal()
	for p.take("&&") {
		if w := p.equal(); truth(v) {
			v = w
		}
	}
	return v
}

func (p *parser) equal() any {
	v := p.unary()
	for {
		switch {
		case p.take("=="):
			v = same(v, p.unary())
		case p.take("!="):
			v = !same(v, p.unary())
		default:
			return v
		}
	}
}

func (p *parser) unary() any {
	if p.take("!") {
		return !truth(p.unary())
	}
	if p.take("(") {
		v := p.or()
		p.want(")")
		return v
	}
	if len(p.tokens) == 0 {
		p.fail("ends too early")
		return nil
	}
	tok := p.tokens[0]
	p.tokens = p.tokens[1:]
	switch {
	case tok[0] == '\'':
		return strings.ReplaceAll(tok[1:len(tok)-1], "''", "'")
	case tok == "true" || tok == "false":
		return tok == "true"
	case tok == "toJSON" && p.take("("):
		v := p.or()
		p.want(")")
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			p.fail("%v", err)
		}
		return string(data)
	case tok == "fromJSON" && p.take("("):
		v, ok := p.or().(string)
		p.want(")")
		var out any
		if err := json.Unmarshal([]byte(v), &out); err != nil || !ok {
			p.fail("fromJSON: %q: %v", v, err)
		}
		return out
	case tok == "cancelled" && p.take("("):
		p.want(")")
		return false
	case aMember.MatchString(tok):
		return p.member(strings.Split(tok, "."))
	}
	p.fail("%q is not understood", tok)
	return nil
}

func (p *parser) want(tok string) {
	if !p.take(tok) {
		p.fail("%s is missing", tok)
	}
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

// member is a value of a context; a context that is not there is an error, a member that
// is not there is empty, as at GitHub.
func (p *parser) member(path []string) any {
	v, ok := p.contexts[path[0]]
	if !ok {
		p.fail("there is no context %q here", path[0])
	}
	for _, name := range path[1:] {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func truth(v any) bool { return v != nil && v != false && v != "" && v != 0.0 }

// same compares as GitHub does what we have: text in any case, nothing and "" alike.
func same(a, b any) bool {
	return strings.EqualFold(text(a), text(b))
}

// text is a value as it is put into text.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool, float64:
		return fmt.Sprint(v)
	}
	return "Object"
}

// value is that of a text which is one expression, else the text.
func value(s string, contexts map[string]any) (any, error) {
	if m := wholeText.FindStringSubmatch(s); m != nil {
		return evaluate(m[1], contexts)
	}
	return s, nil
}

// expand replaces the expressions in s.
func expand(s string, contexts map[string]any) (string, error) {
	var failed error
	out := inText.ReplaceAllStringFunc(s, func(m string) string {
		v, err := evaluate(strings.TrimSpace(m[3:len(m)-2]), contexts)
		if err != nil && failed == nil {
			failed = err
		}
		return text(v)
	})
	return out, failed
}
