package rego

import (
	"math"
	"regexp"
	"regexp/syntax"
	"strings"
	"testing"
)

// FuzzInstructions: an expression is never compiled to more instructions than were
// counted, nor does it match more than was said.
func FuzzInstructions(f *testing.F) {
	for _, s := range []string{"", "a", "a*b+?", "(a{3,7}|[^b]c){2,}", "(?i)straße", "^$|\\b", "(?P<n>x{0}){1,3}", "[a-z0-9_.]{1,64}@\\pL+", "((((a*)*)*)*)*", "(|a|b{2}){5}", "x{0,1000}"} {
		f.Add(s, "aab@straße xxx")
	}
	f.Fuzz(func(t *testing.T, expression, text string) {
		if len(expression) > 200 || len(text) > 200 {
			return
		}
		parsed, err := syntax.Parse(expression, syntax.Perl)
		if err != nil {
			return
		}
		counted, most := instructions(parsed), longest(parsed)
		if counted > maxProgram {
			return
		}
		program, err := syntax.Compile(parsed.Simplify())
		if err != nil {
			return
		}
		if len(program.Inst) > counted {
			t.Errorf("%q: %d instructions, counted %d", expression, len(program.Inst), counted)
		}
		for _, m := range regexp.MustCompile(expression).FindAllString(text, -1) {
			if len(m) > most {
				t.Errorf("%q matches %d bytes of %q, at most %d were said", expression, len(m), text, most)
			}
		}
	})
}

// TestBeyond: how far a search goes on behind its match.
func TestBeyond(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]int{
		"a": 4, "[0-9]+": 1, "(?:a|b)*": 1, "([a-z]*)": 1, "v[0-9]+": 5, "(ab|c)[x-z]*": 9, "^.*z": 0, "a.*z|a": math.MaxInt, "(a.*z)?a": math.MaxInt,
		"(ab)+": math.MaxInt, "[0-9]+x": math.MaxInt, "a{2,3}": 12, "a{2,}": math.MaxInt, "\\b": 0, "": 0, "(?:\\b)*": 0, "a*b+": math.MaxInt, "x^a*": 5,
	} {
		parsed, err := syntax.Parse(expression, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		if got := beyond(parsed); got != want {
			t.Errorf("%q: %d, want %d", expression, got, want)
		}
	}
}

// TestGlobSteps: only alternatives multiply.
func TestGlobSteps(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]int{
		"*a*b*c*": 0, "": 0, "{a,b}": 22, "{a,b}{c,d}": 44, "{a*,b}": 242, "{a*,*b}{c,d}": 484, "{a,{b*,c}}": 11 * 4 * 11 * 11, "{a,b": 22, "a}b": 0, "a,b*": 0,
		strings.Repeat("{a*,b}", 100): math.MaxInt,
	} {
		if got := globSteps(pattern, 10); got != want {
			t.Errorf("%q: %d, want %d", pattern, got, want)
		}
	}
}
