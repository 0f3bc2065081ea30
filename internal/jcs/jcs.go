// Package jcs writes JSON in its canonical form (RFC 8785), so that two texts which say the
// same have one digest.
package jcs

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"unicode/utf16"

	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// maxDepth is how deep a document may be.
const maxDepth = 64

// Marshal is the canonical form of what encoding/json makes of v.
func Marshal(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return Transform(data)
}

// Transform is the canonical form of a JSON text. Texts that two readers could understand
// differently are refused (see package strictjson), and so are numbers that are integers
// beyond 2^53 or no number of IEEE 754.
func Transform(data []byte) ([]byte, error) {
	if err := strictjson.Valid(data, maxDepth); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return appendValue(make([]byte, 0, len(data)), v)
}

func appendValue(b []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case string:
		return appendString(b, v), nil
	case json.Number:
		return appendNumber(b, v)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendValue(b, e); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.SortFunc(names, compareUTF16)
		b = append(b, '{')
		for i, name := range names {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, name), ':')
			if b, err = appendValue(b, v[name]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	}
	return nil, errors.New("a value of no JSON type")
}

// compareUTF16 is the order of names (RFC 8785, 3.2.3).
func compareUTF16(x, y string) int {
	return slices.Compare(utf16.Encode([]rune(x)), utf16.Encode([]rune(y)))
}

// appendString writes a string (RFC 8785, 3.2.2.2).
func appendString(b []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= 0x20:
			b = append(b, c)
		case c == '\b':
			b = append(b, '\\', 'b')
		case c == '\t':
			b = append(b, '\\', 't')
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\f':
			b = append(b, '\\', 'f')
		case c == '\r':
			b = append(b, '\\', 'r')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(b, '"')
}

// appendNumber writes a number as ECMAScript does (RFC 8785, 3.2.2.3).
func appendNumber(b []byte, n json.Number) ([]byte, error) {
	f, err := strconv.ParseFloat(n.String(), 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, errors.New("a number too large")
	}
	if i, err := strconv.ParseInt(n.String(), 10, 64); err == nil && (i > 1<<53 || i < -1<<53) || err != nil && f == math.Trunc(f) && math.Abs(f) > 1<<53 {
		return nil, errors.New("an integer beyond 2^53")
	}
	if f == 0 {
		return append(b, '0'), nil // also of -0
	}
	if a := math.Abs(f); a >= 1e-6 && a < 1e21 {
		return strconv.AppendFloat(b, f, 'f', -1, 64), nil
	}
	start := len(b)
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	if i := bytes.LastIndexByte(b[start:], 'e') + start; b[i+2] == '0' { // e-07 is written e-7
		b = slices.Delete(b, i+2, i+3)
	}
	return b, nil
}
