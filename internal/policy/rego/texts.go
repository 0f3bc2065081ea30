package rego

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// listBound is for functions that make a list of what stands in a text.
func listBound(name string, args []ast.Value) error {
	if len(args) < 2 {
		return nil
	}
	text, _ := args[0].(ast.String)
	of, _ := args[1].(ast.String)
	if n := strings.Count(string(text), string(of)); n >= maxItems {
		return exceeds(name, fmt.Sprintf("a list of %d elements", n), maxItems)
	}
	return nil
}

// indexBound is for functions that look for a text in another at each place where its
// first character stands, also within what was found.
func indexBound(name string, args []ast.Value) error {
	if len(args) < 2 {
		return nil
	}
	text, _ := args[0].(ast.String)
	of, _ := args[1].(ast.String)
	if of == "" {
		return nil // the function itself says what is wrong
	}
	_, size := utf8.DecodeRuneInString(string(of))
	n := strings.Count(string(text), string(of[:size]))
	if name == ast.IndexOfN.Name && n >= maxItems {
		return exceeds(name, fmt.Sprintf("a list of up to %d elements", n), maxItems)
	}
	if times(n, len(of)) > maxWork {
		return exceeds(name, fmt.Sprintf("%d places in which %d bytes are looked for", n, len(of)), maxWork)
	}
	return nil
}

// trimBound is for functions that look each character up in a text of those to remove.
// Of ASCII characters alone they make a table.
func trimBound(name string, args []ast.Value) error {
	if len(args) < 2 {
		return nil
	}
	text, _ := args[0].(ast.String)
	remove, _ := args[1].(ast.String)
	ascii := strings.IndexFunc(string(remove), func(r rune) bool { return r >= utf8.RuneSelf }) < 0
	if !ascii && times(len(text), len(remove)) > maxWork {
		return exceeds(name, fmt.Sprintf("%d bytes that are looked up in %d", len(text), len(remove)), maxWork)
	}
	return nil
}

// affixBound is for functions that hold each of some texts against each of others.
func affixBound(name string, args []ast.Value) error {
	if len(args) < 2 {
		return nil
	}
	if n := times(textsOf(args[0]), textsOf(args[1])); n > maxWork {
		return exceeds(name, fmt.Sprintf("%d comparisons", n), maxWork)
	}
	return nil
}

// textsOf is how many texts an argument is.
func textsOf(v ast.Value) int {
	switch v := v.(type) {
	case *ast.Array:
		return v.Len()
	case ast.Set:
		return v.Len()
	}
	return 1
}

// unitsBound is for functions that read a number with a unit, all of whose digits are made.
func unitsBound(name string, args []ast.Value) error {
	text, _ := args[0].(ast.String)
	if len(text) > maxDigit {
		return exceeds(name, "a number of more digits", maxDigit)
	}
	for i := range len(text) {
		if text[i]|0x20 != 'e' {
			continue
		}
		exponent := strings.TrimLeft(string(text[i+1:]), "+-")
		end := 0
		for end < len(exponent) && '0' <= exponent[end] && exponent[end] <= '9' {
			end++
		}
		if n, err := strconv.Atoi(exponent[:end]); end > 0 && (err != nil || n > maxDigit) {
			return exceeds(name, "a number of more digits", maxDigit)
		}
	}
	return nil
}
