package jcs_test

import (
	"encoding/json"
	"math"
	"strconv"
	"testing"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"

	"github.com/hallmark-dev/hallmark/internal/jcs"
)

func TestTransform(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		` {"b":1,"a":[true,null,"x"]} `:                    `{"a":[true,null,"x"],"b":1}`,
		`{"\u20ac":1,"\r":2,"\ufb33":3,"\ud83d\ude00":4}`:  "{\"\\r\":2,\"€\":1,\"😀\":4,\"\ufb33\":3}",
		`"\u2028\u007f\u001f\b<>&/\/"`:                     "\"\u2028\u007f\\u001f\\b<>&//\"",
		`[1.0,1e2,-0,0.000001,1e-7,4.50,9007199254740992]`: `[1,100,0,0.000001,1e-7,4.5,9007199254740992]`,
	} {
		got, err := jcs.Transform([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s %v", in, got, err)
		}
	}
	for _, bad := range []string{``, `{"a":1,"a":2}`, `[1] 2`, `[1e999]`, `9007199254740993`, `-9007199254740993`, `1e300`, `1E+21`, `"\ud800"`, "\"\xff\"", `[01]`, `{a:1}`} {
		if got, err := jcs.Transform([]byte(bad)); err == nil {
			t.Errorf("%s: %s", bad, got)
		}
	}
}

// TestNumbers: what the reference implementation writes.
func TestNumbers(t *testing.T) {
	t.Parallel()
	for _, f := range []float64{0.1, 1.5, -3.25, 1e-6, 9.99e-7, 1e-7, 1.7976931348623157e-300, 5e-324, 123456.789, 4503599627370497.5, 333333333.33333329, 1e-21, math.Copysign(0, -1)} {
		text := strconv.FormatFloat(f, 'g', -1, 64)
		want, err := jsoncanonicalizer.Transform([]byte("[" + text + "]"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := jcs.Transform([]byte("[" + text + "]")); err != nil || string(got) != string(want) {
			t.Errorf("%s: %s, want %s (%v)", text, got, want, err)
		}
	}
}

// FuzzTransform: the result is canonical, says the same, and is what the reference implementation writes.
func FuzzTransform(f *testing.F) {
	for _, s := range []string{`{"b":[1,2.5,"x"],"a":{"c":null}}`, `"é😀\n"`, `[1e-7,0.1,-0.0]`, `{"":"","\ufffd":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := jcs.Transform(data)
		if err != nil {
			return
		}
		if again, err := jcs.Transform(got); err != nil || string(again) != string(got) {
			t.Fatalf("%q becomes %q (%v)", got, again, err)
		}
		var a, b any
		if json.Unmarshal(data, &a) != nil || json.Unmarshal(got, &b) != nil {
			t.Fatalf("%q: %q is not JSON", data, got)
		}
		if len(data) == 0 || data[0] != '{' && data[0] != '[' {
			return // the reference takes objects and arrays alone
		}
		if want, err := jsoncanonicalizer.Transform(data); err == nil && string(want) != string(got) {
			t.Fatalf("%q, the reference writes %q", got, want)
		}
	})
}
