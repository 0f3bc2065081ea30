package sourcepolicy

import (
	_ "embed"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// Query is what decides.
const Query = "data.docker.decision"

// Codes of reasons (docs/reasons.md), beside those of package rego.
const (
	CodePin         = "POLICY_PIN"         // pin_image wants two digests, or another one each time
	CodeUnsupported = "SOURCE_UNSUPPORTED" // a source that no policy can judge
)

//go:embed docker.rego
var library string

//go:embed default.rego
var defaultPolicy []byte

// libraryName is the file that errors in the helper rules would show.
const libraryName = "hallmark:docker.rego"

// File is a file of a policy.
type File struct {
	Name string // as errors show it
	Data []byte
}

// Options of Compile. The zero value is a policy without a folder.
type Options struct {
	FS      fs.FS             // the policy's folder: imports, load_json, keys, signatures, bundles; nil: none
	Print   func(line string) // receives print(); nil drops it
	Timeout time.Duration     // of one pass, default 2 s

	growth uint64 // bytes that the heap may grow during one pass; 0: the engine's default
}

// Policy is one compiled policy. It is safe for concurrent use.
type Policy struct {
	name    string
	program *rego.Program // nil: it is evaluated by a process of its own
	process *process      // that process
	files   map[string][]byte
	impure  []string
	fields  []string
	folder  *folder
	print   func(string)
	shipped bool            // it is ours: its decision says a code and a hint
	names   map[string]bool // of members that only the caller can say, if the policy's text has them

	mu   sync.Mutex
	json map[string]rego.Value // what load_json has read
}

// Compile reads the files of one policy, which together have one rule decision in
// package docker, with all that they import. An error is a [rego.CompileError].
func Compile(files []File, o Options) (*Policy, error) {
	c, err := config(files, o)
	if err != nil {
		return nil, err
	}
	program, err := rego.CompileProgram(c)
	if err != nil {
		return nil, err
	}
	p := newPolicy(files, o, program.Files())
	p.program, p.impure, p.fields = program, program.Impure(), program.Fields()
	return p, nil
}

func newPolicy(files []File, o Options, all map[string][]byte) *Policy {
	return &Policy{name: files[0].Name, files: all, folder: &folder{fs: o.FS}, print: o.Print, json: map[string]rego.Value{}, names: namesIn(all)}
}

// CompileDefault is the policy for the images that Docker ships and builds use
// without being asked: the Dockerfile frontend, the SBOM scanner and BuildKit.
func CompileDefault() (*Policy, error) {
	return Compile([]File{{Name: "hallmark:default.rego", Data: defaultPolicy}}, Options{})
}

func config(files []File, o Options) (rego.ProgramConfig, error) {
	c := rego.ProgramConfig{
		Query: Query, Files: map[string][]byte{}, Library: map[string]string{libraryName: library},
		Schema: inputSchema(), Builtins: builtins(), Impure: impure(), Functions: functions(),
		Wholes:  []string{"input", "input.image", "input.git", "input.http", "input.image.provenance"},
		Imports: o.FS, Timeout: o.Timeout, Growth: o.growth, Print: o.Print != nil,
	}
	for _, f := range files {
		if _, twice := c.Files[f.Name]; twice {
			return c, fmt.Errorf("the policy file %s is given twice", f.Name)
		}
		c.Files[f.Name] = f.Data
	}
	return c, nil
}

// Name is the policy's first file.
func (p *Policy) Name() string { return p.name }

// Digest identifies the policy: the names and texts of its files and imports.
func (p *Policy) Digest() evidence.Digest {
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p.files)) {
		fmt.Fprintf(&all, "%d %s %d\n%s", len(name), name, len(p.files[name]), p.files[name])
	}
	return evidence.SHA256([]byte(all.String()))
}

// Cacheable reports whether the same input and time always get the same decision:
// false when the policy asks for the time, for random numbers or for UUIDs.
func (p *Policy) Cacheable() bool { return len(p.impure) == 0 }

// Impure names the functions that make the policy not cacheable.
func (p *Policy) Impure() []string { return p.impure }

// Fields are the members of the input that the rules name, such as "image.labels".
func (p *Policy) Fields() []string { return p.fields }

// Files are the texts of the policy and of all that it imports.
func (p *Policy) Files() map[string][]byte { return maps.Clone(p.files) }

// impure are the functions whose value is no function of the input.
func impure() []string { return []string{"time.now_ns", "rand.intn", "uuid.rfc4122"} }

// builtins are OPA's functions that a source policy may call: buildx's list
// (docker/buildx v0.37.2, policy/builtins.go). Nothing in it reaches outside.
func builtins() []string {
	return strings.Fields(`
eq assign internal.member_2 internal.member_3 internal.print internal.template_string print
gt gte lt lte neq equal
plus minus mul div ceil floor round abs rem
bits.or bits.and bits.negate bits.xor bits.lsh bits.rsh
and or count sum product max min any all sort
array.concat array.flatten array.slice array.reverse
to_number cast_object cast_null cast_boolean cast_string cast_set cast_array
regex.is_valid regex.match re_match regex.split regex.globs_match regex.template_match regex.find_n
regex.find_all_string_submatch_n regex.replace
set_diff intersection union
strings.any_prefix_match strings.any_suffix_match concat format_int indexof indexof_n substring
lower upper contains strings.count startswith endswith split replace strings.replace_n
trim trim_left trim_prefix trim_right trim_suffix trim_space sprintf strings.reverse strings.render_template
numbers.range numbers.range_step rand.intn
json.marshal json.marshal_with_options json.unmarshal json.is_valid
base64.encode base64.decode base64.is_valid base64url.encode base64url.encode_no_pad base64url.decode
urlquery.decode urlquery.encode urlquery.encode_object urlquery.decode_object
yaml.marshal yaml.unmarshal yaml.is_valid hex.encode hex.decode
object.union object.union_n object.remove object.filter object.get object.keys object.subset
json.filter json.remove json.patch
time.now_ns time.parse_ns time.parse_rfc3339_ns time.parse_duration_ns time.format time.date time.clock
time.weekday time.add_date time.diff
is_number is_string is_boolean is_array is_set is_object is_null type_name
glob.match glob.quote_meta units.parse units.parse_bytes uuid.rfc4122 uuid.parse
semver.is_valid semver.compare`)
}
