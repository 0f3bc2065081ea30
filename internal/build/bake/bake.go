// Package bake turns bake files of a commit (HCL, JSON, compose) into the builds that they
// ask for.
//
// A bake file is a program in a language of its own and belongs to whoever can push. It is read
// by hallmark-bake, a program beside ours with buildx's own reader, which gets the files as bytes,
// no environment, and can open nothing ([Resolve]). What comes back is a list of targets with
// every option that buildx knows. This package takes those that a trusted build has and refuses
// the others by name ([Target]): options that read the machine of the caller (secret, ssh, a
// context outside of the commit), open the sandbox (entitlements, network=host) or make
// something that nobody signs.
package bake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/sorted"
)

// Limits, with which a hostile bake file ends.
const (
	// MaxFile bounds one bake file, in bytes.
	MaxFile   = 1 << 20
	maxFiles  = 16
	maxAnswer = 8 << 20 // bytes of hallmark-bake's answer
	maxTime   = 20 * time.Second
	// MaxTargets is how many targets are built at most in one call.
	MaxTargets = 64
)

// Program is the name of the program that reads bake files.
const Program = "hallmark-bake"

// File is one bake file of the commit, by its path from the commit's root.
type File struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// Compose reports whether all files are compose files by their names, which alone read
// variables of a file .env.
func Compose(files []File) bool {
	for _, f := range files {
		if n := strings.ToLower(f.Name); !strings.HasSuffix(n, ".yml") && !strings.HasSuffix(n, ".yaml") {
			return false
		}
	}
	return len(files) > 0
}

// Definition is what is to be resolved.
type Definition struct {
	Files   []File            `json:"files"`            // later ones override earlier ones
	DotEnv  []byte            `json:"dotEnv,omitempty"` // .env, for compose files; see [Compose]
	Targets []string          `json:"targets"`          // targets and groups
	Set     []string          `json:"set,omitempty"`    // TARGET.KEY=VALUE as of buildx bake --set
	Vars    map[string]string `json:"vars,omitempty"`   // the only variables that the files can see
}

func (d *Definition) check() error {
	switch {
	case len(d.Files) == 0:
		return fault.Usagef("no bake file is given")
	case len(d.Files) > maxFiles:
		return fault.Usagef("%d bake files; at most %d", len(d.Files), maxFiles)
	case len(d.Targets) == 0:
		return fault.Usagef("no target of the bake file is given")
	}
	for _, f := range d.Files {
		if len(f.Data) > MaxFile {
			return fault.Usagef("%s: more than %d bytes are no bake file", f.Name, MaxFile)
		}
	}
	return nil
}

// Resolve asks program what the targets of d come to, and refuses what a trusted build does
// not have. The targets are in the order of their names. What is wrong with the bake files or
// asks for a refused option is a usage error that names file and place, or target and option.
func Resolve(ctx context.Context, program string, d Definition) ([]Target, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	out, err := run(ctx, program, &d)
	if err != nil {
		return nil, err
	}
	return parse(out)
}

// run calls the program with nothing but the definition.
func run(ctx context.Context, program string, d *Definition) ([]byte, error) {
	in, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	empty, err := os.MkdirTemp("", "hallmark-bake-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(empty)
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	c := exec.CommandContext(ctx, program)
	c.Dir, c.Env = empty, []string{}
	c.Stdin = bytes.NewReader(in)
	c.WaitDelay = time.Second
	pipe, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(program), err)
	}
	out, readErr := io.ReadAll(io.LimitReader(pipe, maxAnswer+1))
	if len(out) > maxAnswer {
		cancel()
	}
	waitErr := c.Wait()
	switch {
	case len(out) > maxAnswer:
		return nil, fault.Usagef("bake file: its targets come to more than %d bytes", maxAnswer)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fault.Usagef("bake file: reading it took more than %s", maxTime)
	case waitErr != nil:
		// What it prints there may quote the file; the kind of end says enough. One is that
		// it had no more memory.
		return nil, fmt.Errorf("reading the bake file: %s ended with %w; it may want more memory than it is given", filepath.Base(program), waitErr)
	case readErr != nil:
		return nil, fmt.Errorf("%s: %w", filepath.Base(program), readErr)
	}
	return out, nil
}

// parse reads an answer of hallmark-bake, and refuses what a trusted build does not have.
func parse(out []byte) ([]Target, error) {
	all, err := definitions(out)
	if err != nil {
		return nil, err
	}
	var targets []Target
	for name, def := range all {
		t, err := def.target(name)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	sorted.Func(targets, func(x, y Target) int { return strings.Compare(x.Name, y.Name) })
	return targets, nil
}

// definitions reads an answer of hallmark-bake.
func definitions(out []byte) (map[string]definition, error) {
	var a struct {
		Group  json.RawMessage       `json:"group"`
		Target map[string]definition `json:"target"`
		Error  string                `json:"error"`
	}
	d := json.NewDecoder(bytes.NewReader(out))
	d.DisallowUnknownFields() // an option that is not in definition is refused, never ignored
	if err := d.Decode(&a); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", Program, err)
	}
	if d.More() {
		return nil, fmt.Errorf("answer of %s: more than one object", Program)
	}
	if a.Error != "" {
		return nil, fault.Usagef("bake file: %s", fault.Redact(a.Error))
	}
	if len(a.Target) == 0 {
		return nil, fault.Usagef("bake file: no target is to be built")
	}
	if len(a.Target) > MaxTargets {
		return nil, fault.Usagef("bake file: %d targets; at most %d are built in one call", len(a.Target), MaxTargets)
	}
	return a.Target, nil
}

// ResolveAll is [Resolve] of all targets that are meant to be built: those of the group, or
// the target, "default" and all that have tags; the targets of d do not count. Those that ask
// for a refused option are left out, with why.
func ResolveAll(ctx context.Context, program string, d Definition) (targets []Target, refused []error, err error) {
	d.Targets = []string{"*"}
	if err := d.check(); err != nil {
		return nil, nil, err
	}
	all, err := ask(ctx, program, d)
	if err != nil {
		return nil, nil, err
	}
	d.Targets = []string{"default"}
	byDefault, err := ask(ctx, program, d)
	if err != nil && fault.KindOf(err) != fault.Usage { // there may be no default
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		def := all[name]
		if _, ok := byDefault[name]; !ok && len(def.Tags) == 0 {
			continue
		}
		if t, err := def.target(name); err != nil {
			refused = append(refused, err)
		} else {
			targets = append(targets, t)
		}
	}
	if len(targets)+len(refused) == 0 {
		return nil, nil, fault.Hint(fault.Usagef("bake file: no target has tags, and there is no default"), "name a target")
	}
	return targets, refused, nil
}

// ask is what the targets of d come to, by name.
func ask(ctx context.Context, program string, d Definition) (map[string]definition, error) {
	out, err := run(ctx, program, &d)
	if err != nil {
		return nil, err
	}
	return definitions(out)
}
