package rego

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// asked is the decision of a policy whose rule allow has the body, with the values
// that the cases need: s is a text of 64 KiB, many an array with it 1,000 times.
func asked(t *testing.T, body string) policy.Decision {
	t.Helper()
	text := "package hallmark.signing\n" +
		`s := replace("` + strings.Repeat("x", 256) + `", "x", "` + strings.Repeat("a", 256) + "\")\n" +
		"many := [s | some i in numbers.range(1, 1000)]\n" +
		"tens := [n | some i in numbers.range(1, 100000); n := 1234567890 + i]\n" +
		"allow if {\n" + body + "\n}\n"
	p, err := CompileProgram(ProgramConfig{
		Query: "data.hallmark.signing.allow", Files: map[string][]byte{"p.rego": []byte(text)}, Schema: map[string]any{},
		Builtins: append(gateBuiltins(), "numbers.range", "strings.render_template", "json.marshal_with_options"),
		Timeout:  time.Minute, Print: true,
	})
	if err != nil {
		t.Fatal(body, err)
	}
	v, denied, err := p.Run(t.Context(), NewDocument(Object{}), time.Now(), nil, func(string) {})
	if err != nil {
		t.Fatal(body, err)
	}
	if denied != nil {
		return policy.Deny(*denied)
	}
	return policy.Decision{Allowed: v == true}
}

// TestOneCallIsBounded: the watch over the heap and the deadline act between calls, so
// no call of a function may make much of little. Not parallel: it looks at the memory
// that all have taken.
func TestOneCallIsBounded(t *testing.T) {
	for _, body := range []string{
		`sprintf("%v", [many]) != ""`,
		`sprintf("%v", [{s: many}]) != ""`,
		`sprintf("` + strings.Repeat("%[1]s", 1000) + `", [s]) != ""`,
		`sprintf("%x%x%x%x%x", array.slice(array.concat(many, many), 0, 100)) != ""`,
		`json.marshal(many) != ""`,
		`json.marshal({"a": {"b": {1: many}}}) != ""`,
		`json.marshal_with_options([1, 2, 3, 4], {"indent": concat("", [x | some i in numbers.range(1, 100); x := s])}) != ""`,
		`json.marshal_with_options(numbers.range(1, 1000), {"prefix": s}) != ""`,
		`yaml.marshal(many) != ""`,
		`urlquery.encode_object({"a": many}) != ""`,
		`base64.encode(concat("", array.slice(many, 0, 200))) != ""`,
		`base64url.encode_no_pad(concat("", array.slice(many, 0, 200))) != ""`,
		`hex.encode(concat("", array.slice(many, 0, 200))) != ""`,
		`urlquery.encode(concat("", array.slice(many, 0, 200))) != ""`,
		`print(many)`,
		`$"{many}" != ""`,
		`strings.render_template("` + strings.Repeat("{{.a}}", 1000) + `", {"a": s}) != ""`,
		`json.unmarshal(concat("", ["[", concat(",", array.slice(many, 0, 100)), "]"])) != 1`,
		`yaml.unmarshal(concat("", ["a: &a ", s, "\nb: [` + strings.Repeat("*a,", 999) + `*a]"])) != 1`,
		`split(concat("", array.slice(many, 0, 100)), "") != []`,
		`indexof_n(concat("", array.slice(many, 0, 100)), "a") != []`,
		`regex.replace(s, "a", s) != ""`,
		`regex.replace(s, "a+", "` + strings.Repeat("$0", 1000) + `") != ""`,
		`regex.match("(a{100}){10}b", s)`,
		`regex.split("", concat("", array.slice(many, 0, 200))) != []`,
		`regex.find_n("a.*z|a", s, -1) != []`,
		`regex.find_n("(a.*z)?a", substring(s, 0, 4000), -1) != []`,
		`regex.find_all_string_submatch_n("a.*z|a", s, 100000) != []`,
		`regex.split("a(.*z)?", s) != []`,
		`regex.replace(s, "a.*z|a", "b") != ""`,
		`regex.match("` + strings.Repeat("(a{1000})", 150) + `", "a")`,
		`regex.match("` + strings.Repeat("a{1000}", 50) + `", substring(s, 0, 1000))`,
		`regex.match(concat("", [s, "a"]), "a")`,
		`regex.is_valid(concat("", [s, "a"]))`,
		`regex.template_match("{` + strings.Repeat("(a{1000})", 150) + `}", "a", "{", "}")`,
		`regex.template_match("<` + strings.Repeat("a{1000}", 50) + `>", substring(s, 0, 4000), "<", ">")`,
		`glob.match("` + strings.Repeat("{a*,*b}", 4) + `c", [], substring(s, 0, 100))`,
		`glob.match("*` + strings.Repeat("{a,aa}", 20) + `*c*", null, substring(s, 0, 60))`,
		`glob.match("` + strings.Repeat("{a,{b*,", 4) + "c" + strings.Repeat("}}", 4) + `", [], substring(s, 0, 100))`,
		`trim(concat("", array.slice(many, 0, 100)), concat("", ["é", s, "a"])) != ""`,
		`trim_left(concat("", array.slice(many, 0, 100)), concat("", ["é", s, "a"])) != ""`,
		`trim_right(concat("", array.slice(many, 0, 100)), concat("", ["é", s, "a"])) != ""`,
		`indexof(concat("", ["é", s, s]), concat("", [s, "b"])) >= 0`,
		`indexof(concat("", [s, s]), concat("", [s, "b"])) >= 0`,
		`indexof_n(s, substring(s, 0, 1000)) != []`,
		`indexof_n(concat("", array.slice(many, 0, 17)), "aa") != []`,
		`strings.split_n(concat("", array.slice(many, 0, 100)), "", 3) != []`,
		`strings.replace_n({s: "x"}, s) != ""`,
		`strings.any_prefix_match([sprintf("%d", [n]) | some n in tens], [sprintf("%d", [n]) | some n in tens])`,
		`strings.any_suffix_match([sprintf("%d", [n]) | some n in tens], {sprintf("%d", [n]) | some n in tens})`,
		`units.parse("1e999999") > 0`,
		`units.parse("1e-999999k") > 0`,
		`units.parse(concat("", ["1", replace(s, "a", "1")])) > 0`,
		`units.parse_bytes("1e5000") > 0`,
		`units.parse_bytes(concat("", ["1", replace(s, "a", "1")])) > 0`,
		`array.flatten([tens | some i in numbers.range(1, 100)]) != []`,
		`product(tens) > 0`,
		`product([json.unmarshal("1e4000"), json.unmarshal("1e4000")]) > 0`,
		`product({json.unmarshal("1e4000"), json.unmarshal("1e3999")}) > 0`,
		`sum([json.unmarshal("1e9999"), 1]) > 0`,
		`json.unmarshal("1e9999") + 1 > 0`,
		`1 / json.unmarshal("1e-9999") > 0`,
		`abs(json.unmarshal("1e9999")) > 0`,
		`ceil(json.unmarshal("1e9999")) > 0`,
		`bits.and(json.unmarshal("1e9999"), json.unmarshal("1e9999")) > 0`,
	} {
		before := allocated()
		d := asked(t, body)
		taken := allocated() - before
		if d.Allowed || len(d.Reasons) != 1 || d.Reasons[0].Code != CodeEval || !strings.Contains(d.Reasons[0].Message, "of which at most") {
			t.Errorf("%.80s: %.300v", body, d)
		}
		if taken > 400<<20 {
			t.Errorf("%.80s: took %d MiB", body, taken>>20)
		}
	}
}

// TestOrdinaryCallsAreNotBounded are the near misses: what policies do is far below.
func TestOrdinaryCallsAreNotBounded(t *testing.T) {
	for _, body := range []string{
		`sprintf("%s and %v, %d, %5.1f, %q", ["a", ["b", {"c": 1}], 7, 1.5, "d"]) == "a and [\"b\", {\"c\": 1}], 7,   1.5, \"d\""`,
		`sprintf("%[2]s %[1]s", ["a", "b"]) == "b a"`,
		`count(sprintf("%v", [array.slice(many, 0, 20)])) > 20 * 65536`,
		`count(json.marshal(array.slice(many, 0, 200))) > 200 * 65536`,
		`json.marshal_with_options({"a": [1, 2]}, {"indent": "  ", "prefix": ""}) == "{\n  \"a\": [\n    1,\n    2\n  ]\n}"`,
		`yaml.unmarshal(yaml.marshal({"a": [1, {"b": "c\nd"}]})) == {"a": [1, {"b": "c\nd"}]}`,
		`yaml.unmarshal("a: &x {p: 1}\nb: *x\nc: \"*.txt\"") == {"a": {"p": 1}, "b": {"p": 1}, "c": "*.txt"}`,
		`base64.decode(base64.encode(s)) == s`,
		`hex.decode(hex.encode(s)) == s`,
		`print("a", many[0], tens)`,
		`count(split(s, "")) == 65536`,
		`regex.match("^a+$", s)`,
		`regex.replace("v1.2.3", "^v([0-9]+).*", "$1") == "1"`,
		`count(regex.find_n("[a-z]+", s, -1)) == 1`,
		`count(regex.find_n("a", s, -1)) == 65536`,
		`count(regex.split("(,|;)[ \t]*", concat(", ", [s, s, s]))) == 3`,
		`regex.find_all_string_submatch_n("^(a+)(b?)", s, -1)[0][2] == ""`,
		`regex.find_n("a.*z|a", substring(s, 0, 1000), -1) != []`,
		`count(regex.find_n("a.*z|a", s, 3)) == 3`,
		`regex.match("^(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(:[A-Za-z0-9._-]{1,128})?(@sha256:[0-9a-f]{64})?$", "docker.io/library/alpine:3.20")`,
		`regex.template_match("urn:{[a-z]+}:<{.*}>", "urn:acme:<x>", "{", "}")`,
		`glob.match("*.{example,acme}.{com,org,net}", ["."], "www.acme.org")`,
		`glob.match("` + strings.Repeat("{a,b}", 10) + `", [], "ababababab")`,
		`glob.match("{registry,mirror}*.example.com/{base,os}/**", ["/"], "mirror2.example.com/base/alpine")`,
		`glob.match("` + strings.Repeat("a*", 1000) + `", [], substring(s, 0, 4000))`,
		`trim(s, "abc") == ""`,
		`trim("éaé", "é") == "a"`,
		`trim_right(concat("", [s, "é"]), "é") == s`,
		`indexof("größe", "ß") == 3`,
		`indexof(s, "b") == -1`,
		`count(indexof_n(s, "aa")) == 65535`,
		`strings.split_n("a,b,c", ",", 2) == ["a", "b"]`,
		`strings.any_prefix_match(["a/b", "c/d"], {"c/", "e/"})`,
		`units.parse("1e3k") == 1000000`,
		`units.parse("512Mi") == 536870912`,
		`units.parse_bytes("1.5GiB") == 1610612736`,
		`units.parse_bytes("2EiB") > 0`,
		`strings.render_template("{{.a}}-{{.b}}", {"a": "1", "b": "2"}) == "1-2"`,
		`array.flatten([[1, 2], 3]) == [1, 2, 3]`,
		`product([2, 3, 1.5]) == 9`,
		`product(array.slice(tens, 0, 400)) > 0`,
		`sum(tens) > 0`,
		`1e300 * 1e300 > 1e299`,
		`bits.lsh(1, 64) == 18446744073709551616`,
	} {
		if d := asked(t, body); !d.Allowed {
			t.Errorf("%.120s: %.300v", body, d)
		}
	}
}

// TestDecisionIsBounded: what the query finds is a value, too, and made a text of.
func TestDecisionIsBounded(t *testing.T) {
	text := "package hallmark.signing\nl := [" + strings.Repeat("1,", 99) + "1]\n" +
		"m := [l | some x in l]\nn := [m | some x in l]\no := [n | some x in l]\np := [o | some x in l]\nallow := p"
	p, err := CompileProgram(ProgramConfig{Query: "data.hallmark.signing.allow", Files: map[string][]byte{"p.rego": []byte(text)},
		Schema: map[string]any{}, Builtins: gateBuiltins(), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	_, denied, err := p.Run(t.Context(), NewDocument(Object{}), time.Now(), nil, nil)
	if err != nil || denied == nil || !strings.Contains(denied.Message, "of which at most") {
		t.Error(denied, err)
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
