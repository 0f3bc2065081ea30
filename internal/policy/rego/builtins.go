package rego

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// gateBuiltins are the builtin functions that a gate's policy may call: pure
// functions of their arguments. Left out on purpose: http.send, net.*,
// opa.runtime and trace (reach outside), time.now_ns, rand.*, uuid.* (not a
// function of the input), numbers.range* and strings.render_template (a short
// call makes a huge value), io.jwt.* and crypto.* other than plain hashes
// (verification happens before policy).
func gateBuiltins() []string {
	return strings.Fields(`
eq assign internal.member_2 internal.member_3 internal.print internal.template_string print
gt gte lt lte neq equal
plus minus mul div round ceil floor abs rem bits.or bits.and bits.negate bits.xor bits.lsh bits.rsh
and or intersection union count sum product max min sort
array.concat array.flatten array.slice array.reverse to_number
regex.match regex.is_valid regex.find_all_string_submatch_n regex.template_match regex.split regex.find_n regex.globs_match regex.replace
strings.any_prefix_match strings.any_suffix_match concat format_int indexof indexof_n substring contains strings.count
startswith endswith lower upper split strings.split_n replace strings.replace_n
trim trim_left trim_prefix trim_right trim_suffix trim_space sprintf strings.reverse
units.parse units.parse_bytes
json.filter json.remove json.patch json.marshal json.unmarshal json.is_valid
object.subset object.union object.union_n object.remove object.filter object.get object.keys
base64.encode base64.decode base64.is_valid base64url.encode base64url.encode_no_pad base64url.decode
urlquery.decode urlquery.encode urlquery.encode_object urlquery.decode_object uri.parse uri.is_valid
yaml.marshal yaml.unmarshal yaml.is_valid hex.encode hex.decode
time.parse_ns time.parse_rfc3339_ns time.parse_duration_ns time.format time.date time.clock time.weekday time.add_date time.diff
crypto.sha256 walk
is_number is_string is_boolean is_array is_set is_object is_null type_name
glob.match glob.quote_meta semver.is_valid semver.compare`)
}

// attestationBuiltins are those for statements: time.now_ns gives the gate's own
// clock, and policies of the first Rego still call functions that are gone since.
func attestationBuiltins() []string {
	return append(gateBuiltins(), strings.Fields(`
time.now_ns any all re_match set_diff cast_array cast_set cast_string cast_boolean cast_null cast_object`)...)
}

// capabilities is the engine's self-description cut down to builtins.
func capabilities(builtins []string, version ast.RegoVersion) *ast.Capabilities {
	allowed := make(map[string]bool, len(builtins))
	for _, name := range builtins {
		allowed[name] = true
	}
	c := ast.CapabilitiesForThisVersion(ast.CapabilitiesRegoVersion(version))
	kept := make([]*ast.Builtin, 0, len(builtins))
	for _, b := range c.Builtins {
		if allowed[b.Name] {
			kept = append(kept, b)
		}
	}
	c.Builtins = kept
	c.AllowNet = []string{} // empty: no host; nil would mean any
	return c
}
