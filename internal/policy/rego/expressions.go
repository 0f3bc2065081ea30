package rego

import (
	"fmt"
	"math"
	"regexp/syntax"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Bounds of expressions and globs that texts are held against.
const (
	maxWork       = 32 << 20 // steps: instructions of an expression times the bytes that each is tried on
	maxExpression = 64 << 10 // bytes of an expression
	maxProgram    = 100_000  // its instructions: those of x{1000} are 1000
	maxGlob       = 4096     // bytes of a glob, and of the text
	maxGlobSteps  = 1 << 20  // what a glob with alternatives may try
)

// regexBound bounds how long an expression is looked for, and with it how much is found.
func regexBound(name string, args []ast.Value) error {
	if name == ast.RegexIsValid.Name {
		return expressionBound(name, args)
	}
	if len(args) < 2 {
		return nil
	}
	expression, text, matches := args[0], args[1], 1
	switch name {
	case ast.RegexReplace.Name:
		expression, text, matches = args[1], args[0], math.MaxInt
	case ast.RegexSplit.Name:
		matches = math.MaxInt
	case ast.RegexFind.Name, ast.RegexFindAllStringSubmatch.Name:
		if matches = math.MaxInt; len(args) > 2 {
			if n, ok := args[2].(ast.Number); ok {
				if i, ok := n.Int(); ok && i >= 0 {
					matches = i
				}
			}
		}
	}
	t, _ := text.(ast.String)
	if name == ast.RegexReplace.Name && len(args) > 2 {
		// Matches do not overlap: what a $ stands for is, over all, no longer than the text.
		with, _ := args[2].(ast.String)
		if n := (len(t)+1)*(len(with)+1) + strings.Count(string(with), "$")*len(t); n > maxText {
			return exceeds(name, fmt.Sprintf("a string of up to %d bytes", n), maxText)
		}
	}
	e, _ := expression.(ast.String)
	return searchBound(name, string(e), len(t), matches)
}

func expressionBound(name string, args []ast.Value) error {
	if e, _ := args[0].(ast.String); len(e) > maxExpression {
		return exceeds(name, fmt.Sprintf("an expression of %d bytes", len(e)), maxExpression)
	}
	return nil
}

// searchBound bounds the search for so many matches of an expression. One match costs a
// look at what is left of the text for each instruction. The next one is looked for
// where the last one ended, and how far beyond that a search had gone, it goes again: of
// a.*z|a each a of a text without z is a match, for which all of the rest was read.
func searchBound(name, expression string, text, matches int) error {
	if err := expressionBound(name, []ast.Value{ast.String(expression)}); err != nil {
		return err
	}
	shape, ok := shapeOf(expression)
	if !ok {
		return nil // the function itself says what is wrong
	}
	program := shape.program
	if program > maxProgram {
		return exceeds(name, "an expression of more instructions", maxProgram)
	}
	if matches = min(matches, text+1); matches > 1 {
		each := 1
		if name == ast.RegexFindAllStringSubmatch.Name {
			each += shape.captures
		}
		if n := times(matches, each); n > maxItems {
			return exceeds(name, fmt.Sprintf("a list of up to %d elements", n), maxItems)
		}
	}
	again := min(shape.beyond, text+1)
	if n := times(program, plus(text+1, times(matches, again))); n > maxWork {
		return exceeds(name, fmt.Sprintf("%d steps for a text of %d bytes and an expression of %d instructions", n, text, program), maxWork)
	}
	return nil
}

// shape is what the bounds need of an expression.
type shape struct{ program, beyond, captures int }

// shapes are those of the last expressions: a rule asks with one expression again and again.
var shapes struct {
	mu sync.Mutex
	of map[string]shape
}

const maxShapes = 128

// shapeOf reports false for what is no expression.
func shapeOf(expression string) (shape, bool) {
	shapes.mu.Lock()
	s, ok := shapes.of[expression]
	shapes.mu.Unlock()
	if ok {
		return s, true
	}
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return shape{}, false
	}
	s = shape{instructions(parsed), beyond(parsed), parsed.MaxCap()}
	shapes.mu.Lock()
	defer shapes.mu.Unlock()
	if shapes.of == nil || len(shapes.of) >= maxShapes {
		shapes.of = map[string]shape{}
	}
	shapes.of[expression] = s
	return s, true
}

// times and plus stop at the largest number.
func times(a, b int) int {
	if a > 0 && b > math.MaxInt/a {
		return math.MaxInt
	}
	return a * b
}

func plus(a, b int) int {
	if b > math.MaxInt-a {
		return math.MaxInt
	}
	return a + b
}

// instructions is about how many an expression is compiled to, and not fewer.
func instructions(re *syntax.Regexp) int { return plus(3, compiled(re)) }

func compiled(re *syntax.Regexp) int {
	n := 2
	for _, sub := range re.Sub {
		n = plus(n, plus(compiled(sub), 1))
	}
	switch re.Op {
	case syntax.OpLiteral:
		n = plus(n, len(re.Rune))
	case syntax.OpCharClass:
		n = plus(n, len(re.Rune)/8)
	case syntax.OpRepeat:
		n = times(n, max(re.Min+1, re.Max, 1))
	}
	return n
}

// longest is the most bytes that an expression matches, the largest number without bound.
func longest(re *syntax.Regexp) int {
	const rune = 4
	switch re.Op {
	case syntax.OpLiteral:
		return times(len(re.Rune), rune)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return rune
	case syntax.OpStar, syntax.OpPlus:
		if longest(re.Sub[0]) == 0 {
			return 0
		}
		return math.MaxInt
	case syntax.OpRepeat:
		if one := longest(re.Sub[0]); re.Max >= 0 || one == 0 {
			return times(max(re.Max, 0), one)
		}
		return math.MaxInt
	}
	n := 0
	for _, sub := range re.Sub {
		if re.Op == syntax.OpAlternate {
			n = max(n, longest(sub))
		} else {
			n = plus(n, longest(sub))
		}
	}
	return n
}

// beyond is how far a search may go beyond the end of the match that it finds: as far as
// what it tries can match. A loop over one character at the end ([0-9]+) goes on only
// where it matches; and what begins with the text is looked for once.
func beyond(re *syntax.Regexp) int {
	for re.Op == syntax.OpCapture {
		re = re.Sub[0]
	}
	switch {
	case loops(re):
		return 1
	case re.Op == syntax.OpConcat && re.Sub[0].Op == syntax.OpBeginText:
		return 0
	case re.Op == syntax.OpConcat && loops(re.Sub[len(re.Sub)-1]):
		n := 1
		for _, sub := range re.Sub[:len(re.Sub)-1] {
			n = plus(n, longest(sub))
		}
		return n
	}
	return longest(re)
}

// loops reports whether an expression is one character over and over.
func loops(re *syntax.Regexp) bool {
	for re.Op == syntax.OpCapture {
		re = re.Sub[0]
	}
	if re.Op != syntax.OpStar && re.Op != syntax.OpPlus {
		return false
	}
	one := re.Sub[0]
	switch one.Op {
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return true
	}
	return one.Op == syntax.OpLiteral && len(one.Rune) == 1
}

// globBound is for functions of globs and of templates of expressions.
func globBound(name string, args []ast.Value) error {
	for _, a := range args {
		if text, ok := a.(ast.String); ok && len(text) > maxGlob {
			return exceeds(name, fmt.Sprintf("a string of %d bytes", len(text)), maxGlob)
		}
	}
	switch {
	case name == ast.GlobMatch.Name && len(args) > 2:
		pattern, _ := args[0].(ast.String)
		text, _ := args[2].(ast.String)
		if n := globSteps(string(pattern), len(text)); n > maxGlobSteps {
			return exceeds(name, fmt.Sprintf("%d steps for these alternatives and a text of %d bytes", n, len(text)), maxGlobSteps)
		}
	case name == ast.RegexTemplateMatch.Name && len(args) > 3:
		return templateMatchBound(name, args)
	}
	return nil
}

// globSteps is how much a glob may try: what matches without alternatives does so in
// one go, while each of some alternatives is tried with what follows, and one with a
// star at each place of the text.
func globSteps(pattern string, text int) int {
	type group struct {
		alternatives int
		star         bool
	}
	steps := text + 1
	var open []group
	shut := func() {
		g := open[len(open)-1]
		open = open[:len(open)-1]
		if steps = times(steps, g.alternatives); g.star {
			steps = times(steps, text+1)
		}
		if len(open) > 0 {
			open[len(open)-1].star = open[len(open)-1].star || g.star
		}
	}
	grouped := false
	for i := range len(pattern) {
		switch c := pattern[i]; {
		case c == '{':
			open, grouped = append(open, group{alternatives: 1}), true
		case len(open) == 0:
		case c == ',':
			open[len(open)-1].alternatives++
		case c == '*':
			open[len(open)-1].star = true
		case c == '}':
			shut()
		}
	}
	for len(open) > 0 {
		shut()
	}
	if !grouped {
		return 0
	}
	return steps
}

// templateMatchBound is for expressions that stand between delimiters in a text.
func templateMatchBound(name string, args []ast.Value) error {
	pattern, _ := args[0].(ast.String)
	text, _ := args[1].(ast.String)
	start, _ := args[2].(ast.String)
	end, _ := args[3].(ast.String)
	if len(start) != 1 || len(end) != 1 {
		return nil // the function itself says what is wrong
	}
	program, level, from := len(pattern), 0, 0
	for i := range len(pattern) {
		switch pattern[i] {
		case start[0]:
			if level++; level == 1 {
				from = i + 1
			}
		case end[0]:
			if level--; level != 0 || from > i {
				continue
			}
			parsed, err := syntax.Parse(string(pattern[from:i]), syntax.Perl)
			if err != nil {
				return nil
			}
			program = plus(program, instructions(parsed))
		}
	}
	if program > maxProgram {
		return exceeds(name, "expressions of more instructions", maxProgram)
	}
	if n := times(program, len(text)+1); n > maxWork {
		return exceeds(name, fmt.Sprintf("%d steps for a text of %d bytes and expressions of %d instructions", n, len(text), program), maxWork)
	}
	return nil
}
