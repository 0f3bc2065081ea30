package rego

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Bounds of what one call of a builtin function may make. The deadline and the
// watch over the heap act between calls, so what a single call makes is bounded
// before it is made.
const (
	maxRange = 100_000  // elements of numbers.range and numbers.range_step
	maxText  = 16 << 20 // bytes of a string
	maxShift = 4096     // bits of bits.lsh
	maxWidth = 4096     // of a field in sprintf
	maxFloat = 400      // bytes that a floating-point number can be written in
	maxDigit = 4096     // digits of a number that is reckoned with, written without exponent
)

// exceeds is a call that would make more than the bound.
func exceeds(name, what string, bound int) error {
	return fmt.Errorf("%s: %s, of which at most %d are accepted", name, what, bound)
}

func init() {
	for name, check := range map[string]func(string, []ast.Value) error{
		ast.NumbersRange.Name:     rangeBound,
		ast.NumbersRangeStep.Name: rangeBound,
		ast.Replace.Name:          replaceBound,
		ast.ReplaceN.Name:         replaceAllBound,
		ast.Concat.Name:           concatBound,
		ast.Sprintf.Name:          sprintfBound,
		ast.RenderTemplate.Name:   templateBound,
		ast.BitsShiftLeft.Name:    shiftBound,
		ast.BitsShiftRight.Name:   digitBound,
		ast.BitsAnd.Name:          digitBound,
		ast.BitsOr.Name:           digitBound,
		ast.BitsXOr.Name:          digitBound,
		ast.BitsNegate.Name:       digitBound,
		ast.Plus.Name:             digitBound,
		ast.Minus.Name:            digitBound,
		ast.Multiply.Name:         digitBound,
		ast.Divide.Name:           digitBound,
		ast.Rem.Name:              digitBound,
		ast.Abs.Name:              digitBound,
		ast.Ceil.Name:             digitBound,
		ast.Floor.Name:            digitBound,
		ast.Round.Name:            digitBound,
		ast.FormatInt.Name:        digitBound,
		ast.Sum.Name:              sumBound,
		ast.Product.Name:          sumBound,

		ast.JSONMarshal.Name:                marshalBound,
		ast.JSONMarshalWithOptions.Name:     marshalBound,
		ast.YAMLMarshal.Name:                marshalBound,
		ast.URLQueryEncodeObject.Name:       marshalBound,
		ast.Base64Encode.Name:               encodeBound,
		ast.Base64UrlEncode.Name:            encodeBound,
		ast.Base64UrlEncodeNoPad.Name:       encodeBound,
		ast.HexEncode.Name:                  encodeBound,
		ast.URLQueryEncode.Name:             encodeBound,
		ast.InternalPrint.Name:              linesBound,
		ast.InternalTemplateString.Name:     linesBound,
		ast.JSONUnmarshal.Name:              parseBound,
		ast.JSONIsValid.Name:                parseBound,
		ast.URLQueryDecodeObject.Name:       parseBound,
		ast.YAMLUnmarshal.Name:              yamlBound,
		ast.YAMLIsValid.Name:                yamlBound,
		ast.Split.Name:                      listBound,
		ast.SplitN.Name:                     listBound,
		ast.IndexOf.Name:                    indexBound,
		ast.IndexOfN.Name:                   indexBound,
		ast.Trim.Name:                       trimBound,
		ast.TrimLeft.Name:                   trimBound,
		ast.TrimRight.Name:                  trimBound,
		ast.AnyPrefixMatch.Name:             affixBound,
		ast.AnySuffixMatch.Name:             affixBound,
		ast.UnitsParse.Name:                 unitsBound,
		ast.UnitsParseBytes.Name:            unitsBound,
		ast.ArrayFlatten.Name:               mergeBound,
		ast.ObjectUnionN.Name:               mergeBound,
		ast.Union.Name:                      mergeBound,
		ast.Intersection.Name:               mergeBound,
		ast.RegexIsValid.Name:               regexBound,
		ast.RegexMatch.Name:                 regexBound,
		ast.RegexMatchDeprecated.Name:       regexBound,
		ast.RegexSplit.Name:                 regexBound,
		ast.RegexFind.Name:                  regexBound,
		ast.RegexFindAllStringSubmatch.Name: regexBound,
		ast.RegexReplace.Name:               regexBound,
		ast.RegexTemplateMatch.Name:         globBound,
		ast.GlobsMatch.Name:                 globBound,
		ast.GlobMatch.Name:                  globBound,
	} {
		wrap(name, func(b topdown.BuiltinContext, operands []*ast.Term) error {
			if name == ast.InternalPrint.Name && b.PrintHook == nil {
				return nil // nothing is written
			}
			values := make([]ast.Value, len(operands))
			for i, o := range operands {
				values[i] = o.Value
			}
			err := check(name, values)
			if err == nil {
				return nil
			}
			return &topdown.Error{Code: topdown.BuiltinErr, Message: err.Error(), Location: b.Location}
		})
	}
}

// elements goes through an array or a set until stop says so; what is neither has none.
func elements(v ast.Value, stop func(*ast.Term) bool) {
	switch c := v.(type) {
	case *ast.Array:
		c.Until(stop)
	case ast.Set:
		c.Until(stop)
	}
}

// number is the float that a number is nearest to; 0 for what is none, which the
// function itself then refuses.
func number(v ast.Value) *big.Float {
	n, ok := v.(ast.Number)
	f := new(big.Float)
	if ok {
		if parsed, _, err := big.ParseFloat(string(n), 10, 64, big.ToNearestEven); err == nil {
			return parsed
		}
	}
	return f
}

func rangeBound(name string, args []ast.Value) error {
	if len(args) < 2 {
		return nil
	}
	n := new(big.Float).Sub(number(args[1]), number(args[0]))
	if n.Abs(n); len(args) > 2 {
		if step := number(args[2]); step.Sign() > 0 {
			n.Quo(n, step)
		}
	}
	if n.Cmp(big.NewFloat(maxRange-1)) > 0 {
		return exceeds(name, "a list of "+n.Text('g', 6)+" numbers", maxRange)
	}
	return nil
}

func replaceBound(name string, args []ast.Value) error {
	if len(args) < 3 {
		return nil
	}
	text, _ := args[0].(ast.String)
	old, _ := args[1].(ast.String)
	with, _ := args[2].(ast.String)
	return replaced(name, len(text), string(text), string(old), string(with))
}

func replaced(name string, size int, text, old, with string) error {
	if size += strings.Count(text, old) * len(with); size > maxText {
		return exceeds(name, fmt.Sprintf("a string of %d bytes", size), maxText)
	}
	return nil
}

func replaceAllBound(name string, args []ast.Value) error {
	if len(args) < 2 {
		return nil
	}
	pairs, ok := args[0].(ast.Object)
	text, _ := args[1].(ast.String)
	if !ok {
		return nil
	}
	longest := 0
	pairs.Foreach(func(key, v *ast.Term) {
		for _, t := range []*ast.Term{key, v} { // each key is looked for at each byte
			if s, ok := t.Value.(ast.String); ok {
				longest = max(longest, len(s))
			}
		}
	})
	if size := (len(text) + 1) * longest; size > maxText { // at most one for each byte
		return exceeds(name, fmt.Sprintf("a string of up to %d bytes", size), maxText)
	}
	return nil
}

func concatBound(name string, args []ast.Value) error {
	if len(args) < 2 {
		return nil
	}
	delimiter, _ := args[0].(ast.String)
	size := 0
	elements(args[1], func(t *ast.Term) bool {
		if s, ok := t.Value.(ast.String); ok {
			size += len(s) + len(delimiter)
		}
		return false
	})
	if size > maxText {
		return exceeds(name, fmt.Sprintf("a string of %d bytes", size), maxText)
	}
	return nil
}

// sprintfBound refuses widths and precisions that make long fields of nothing.
func sprintfBound(name string, args []ast.Value) error {
	if len(args) < 2 {
		return nil
	}
	format, _ := args[0].(ast.String)
	total, verbs, indexed, coded := len(format), 0, false, false
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			continue
		}
		n := 0
		for i++; i < len(format) && strings.IndexByte("+-# 0123456789.[]*", format[i]) >= 0; i++ {
			switch c := format[i]; {
			case c == '*':
				return fmt.Errorf("%s: a width that is an argument (*) is not accepted", name)
			case c == '[':
				indexed = true
				total, n = total+n, 0
			case '0' <= c && c <= '9':
				n = n*10 + int(c-'0')
			default:
				total, n = total+n, 0
			}
			if n > maxWidth {
				return exceeds(name, "a field that is wider than that", maxWidth)
			}
		}
		total += n
		verbs++
		coded = coded || i < len(format) && strings.IndexByte("svd%", format[i]) < 0
	}
	list, ok := args[1].(*ast.Array)
	if !ok {
		return nil
	}
	longest := 0
	list.Until(func(t *ast.Term) bool {
		n := maxText + 1
		switch v := t.Value.(type) {
		case ast.String:
			if n = len(v); coded {
				n *= 6 // %q and %x
			}
		case ast.Number:
			n = len(v) + maxFloat
		default:
			s := size{left: maxText}
			if s.value(v, 0); s.left >= 0 {
				n = 6 * (maxText - s.left)
			}
		}
		longest = max(longest, n)
		total += n + perItem
		return total > maxText
	})
	if indexed {
		total += verbs * longest // %[1]s writes the same again and again
	}
	if total > maxText {
		return exceeds(name, "a string that may have more bytes", maxText)
	}
	return nil
}

// templateBound keeps loops out of templates: nested ones over the same list make
// a text that is a power of their number.
func templateBound(name string, args []ast.Value) error {
	if len(args) > 1 {
		text, _ := args[0].(ast.String)
		for _, word := range []string{"range", "template", "define", "block", "printf", "print", "html", "js", "urlquery"} {
			if strings.Contains(string(text), word) {
				return fmt.Errorf("%s: a template with %q is not accepted: its text can grow without bound", name, word)
			}
		}
		if n := strings.Count(string(text), "{{"); len(text) > maxText || n > maxText || longer(args[1], (maxText-len(text))/max(n, 1)) {
			return exceeds(name, "a text that may have more bytes", maxText)
		}
	}
	return nil
}

func shiftBound(name string, args []ast.Value) error {
	if len(args) > 1 && number(args[1]).Cmp(big.NewFloat(maxShift)) > 0 {
		return exceeds(name, "a shift by more bits", maxShift)
	}
	return digitBound(name, args)
}

// digits is about how many digits a number has when it is written without exponent:
// the engine makes them all, those of 1e9999, too.
func digits(v ast.Value) int {
	n, ok := v.(ast.Number)
	if !ok {
		return 0
	}
	mantissa, exponent, has := strings.Cut(strings.ToLower(string(n)), "e")
	if !has {
		return len(mantissa)
	}
	e, err := strconv.Atoi(exponent)
	if err != nil || e < -maxText || e > maxText {
		return maxText + 1
	}
	return len(mantissa) + max(e, -e)
}

func digitBound(name string, args []ast.Value) error {
	for _, a := range args {
		if digits(a) > maxDigit {
			return exceeds(name, "a number of more digits", maxDigit)
		}
	}
	return nil
}

// sumBound is for the sum and the product of many numbers: a product has as many
// digits as its factors together, and is multiplied with each.
func sumBound(name string, args []ast.Value) error {
	limit, n := maxText, 0
	if name == ast.Product.Name {
		limit = maxDigit
	}
	var err error
	elements(args[0], func(t *ast.Term) bool {
		d := digits(t.Value)
		if n += d; n > limit {
			err = exceeds(name, "numbers that have more digits together", limit)
		} else if d > maxDigit {
			err = exceeds(name, "a number of more digits", maxDigit)
		}
		return err != nil
	})
	return err
}
