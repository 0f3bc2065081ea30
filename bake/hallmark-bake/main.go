// Command hallmark-bake reads bake files (HCL, JSON, compose) as docker buildx bake does, with
// buildx's own reader, and prints the targets that they define. It is a program of its own,
// started by hallmark build --trusted --bake, because that reader and what it links (HCL, compose)
// are half as large as hallmark, and because bake files are of the commit that is built, that is,
// of whoever can push.
//
// It reads one JSON object (request) from standard input and writes one (answer) to standard
// output. A bake file is a program: it may ask for variables of the environment, the home
// folder and other files. Here it gets none of them: the environment is cleared before buildx's
// reader first looks at it, and no file can be opened once the request is read, so that what
// comes out depends on the request alone (and, of bake's functions, on timestamp, uuidv4 and
// bcrypt).
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/docker/buildx/bake"
)

const (
	maxRequest = 8 << 20 // bytes; bake files are written by people
	maxTargets = 64      // a matrix multiplies
)

// request is what hallmark asks.
type request struct {
	Files    []file            `json:"files"`              // in the order of --file: later ones override
	DotEnv   []byte            `json:"dotEnv,omitempty"`   // .env of the commit's root, for compose files
	Targets  []string          `json:"targets"`            // and groups
	Set      []string          `json:"set,omitempty"`      // target.key[.sub][+]=value, as buildx's --set
	Vars     map[string]string `json:"vars,omitempty"`     // as buildx's --var; the only variables
	Defaults map[string]string `json:"defaults,omitempty"` // BAKE_LOCAL_PLATFORM and other values that buildx defines
}

type file struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// answer is what docker buildx bake --print says, or why there is none.
type answer struct {
	Group  map[string]*bake.Group  `json:"group,omitempty"`
	Target map[string]*bake.Target `json:"target,omitempty"`
	Error  string                  `json:"error,omitempty"`
}

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "hallmark-bake is started by hallmark build --bake: a request of JSON on standard input, an answer on standard output")
		os.Exit(2)
	}
	out, err := serve(os.Stdin)
	if err == nil {
		_, err = os.Stdout.Write(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hallmark-bake:", err)
		os.Exit(1)
	}
}

// serve answers one request. The error is about the request itself; what is wrong with a bake
// file is in the answer.
func serve(in io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(in, maxRequest+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxRequest {
		return nil, fmt.Errorf("a request of more than %d bytes", maxRequest)
	}
	var r request
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if err := shut(); err != nil {
		return nil, err
	}
	a, err := resolve(&r)
	if err != nil {
		a = &answer{Error: said(err)}
	}
	return json.Marshal(a)
}

// resolve reads the files and what the targets come to.
func resolve(r *request) (*answer, error) {
	var files []bake.File
	for _, f := range r.Files {
		files = append(files, bake.File{Name: f.Name, Data: f.Data})
	}
	if len(files) == 0 || len(r.Targets) == 0 {
		return nil, errors.New("no bake file or no target in the request")
	}
	if r.Vars == nil {
		r.Vars = map[string]string{}
	}
	vars, err := withDotEnv(r)
	if err != nil {
		return nil, err
	}
	if err := declared(r, files, vars); err != nil {
		return nil, err
	}
	targets, groups, err := bake.ReadTargets(context.Background(), files, r.Targets, r.Set, r.Defaults, vars, &bake.EntitlementConf{})
	if err != nil {
		return nil, err
	}
	if len(targets) > maxTargets {
		return nil, fmt.Errorf("%d targets; at most %d are built at once", len(targets), maxTargets)
	}
	return &answer{Group: groups, Target: targets}, nil
}

// withDotEnv adds what .env defines, as buildx does for compose files: a variable that was
// given wins. The caller leaves it out where a file of another language would see it, too.
func withDotEnv(r *request) (map[string]string, error) {
	if len(r.DotEnv) == 0 {
		return r.Vars, nil
	}
	defined, err := dotenv.UnmarshalBytesWithLookup(r.DotEnv, func(name string) (string, bool) {
		v, ok := r.Vars[name]
		return v, ok
	})
	if err != nil {
		return nil, fmt.Errorf(".env: %w", err)
	}
	for name, v := range r.Vars {
		defined[name] = v
	}
	return defined, nil
}

// declared refuses a value for a variable that no file has: misspelt, it would leave the
// default in its place, and another image would be built than was meant. In a compose file any
// name may stand, without being declared.
func declared(r *request, files []bake.File, vars map[string]string) error {
	for _, f := range files {
		if ext := strings.ToLower(path.Ext(f.Name)); ext != ".hcl" && ext != ".json" { // as buildx tells compose files
			return nil
		}
	}
	_, meta, err := bake.ParseFiles(files, r.Defaults, vars)
	if err != nil {
		return err
	}
	var known []string
	if meta != nil {
		for _, v := range meta.AllVariables {
			known = append(known, v.Name)
		}
	}
	slices.Sort(known)
	for _, name := range slices.Sorted(maps.Keys(r.Vars)) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("variable %s is given, and the bake files have none of this name; theirs are: %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}

// said makes one short line of an error; HCL's has the place and an excerpt.
func said(err error) string {
	lines := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' })
	s := strings.Join(lines, " ")
	if strings.Contains(s, "too many open files") {
		s += " (bake files are read alone: name each with --bake; no file is included or extended from elsewhere)"
	}
	if len(s) > 2000 {
		s = s[:2000] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

// clearEnvironment leaves no variable, and tells buildx's reader not to ask for any. The
// home folder, which is looked up otherwise, is the same for everybody.
func clearEnvironment() {
	os.Clearenv()
	os.Setenv("HOME", "/")
	os.Setenv("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP", "1")
}
