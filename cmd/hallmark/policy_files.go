package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// maxPolicyFiles bounds how many files a folder of policies may have.
const maxPolicyFiles = 10_000

// readPolicyFile reads one Rego file, - for stdin.
func readPolicyFile(name string, stdin io.Reader) ([]byte, error) {
	r := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fault.As(fault.Usage, err)
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, rego.MaxSource+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > rego.MaxSource {
		return nil, fault.Usagef("%s: a policy has at most %d bytes", name, rego.MaxSource)
	}
	return data, nil
}

// policyBeside reports whether a Dockerfile has a policy of this name. None is only
// where nothing has the name: what is there and is no file that can be read, such as a
// link to nowhere, is a mistake in the policy.
func policyBeside(name string) (bool, error) {
	_, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fault.As(fault.Usage, err)
	}
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err == nil {
		return true, nil
	}
	return false, &rego.CompileError{Reasons: []policy.Reason{{Code: rego.CodeCompile, Subject: name,
		Message: fmt.Sprintf("the policy is there and cannot be read: %v", err)}}}
}

// regoFiles are the *.rego files that the arguments name: files as they are, folders
// with all that lies in them and is not hidden, sorted.
func regoFiles(args []string, wanted func(name string) bool) ([]string, error) {
	var out []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, fault.As(fault.Usage, err)
		}
		if !info.IsDir() {
			out = append(out, arg)
			continue
		}
		err = filepath.WalkDir(arg, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case e.IsDir() && path != arg && strings.HasPrefix(e.Name(), "."):
				return filepath.SkipDir
			case e.IsDir() || filepath.Ext(path) != ".rego" || !wanted(e.Name()):
				return nil
			}
			if len(out) == maxPolicyFiles {
				return fault.Usagef("%s: more than %d files", arg, maxPolicyFiles)
			}
			out = append(out, path)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func isPolicyTest(name string) bool { return strings.HasSuffix(name, "_test.rego") }

// policyFolder is what a policy may read beside itself: nothing that lies elsewhere,
// whatever links say.
func policyFolder(dir string) (fs.FS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.As(fault.Usage, err)
	}
	return rego.Folder(root), nil
}

// policyOptions are those of the policy in a file: its folder is the file's.
func policyOptions(file string, print func(string)) (sourcepolicy.Options, error) {
	dir := "."
	if file != "-" {
		dir = filepath.Dir(file)
	}
	folder, err := policyFolder(dir)
	return sourcepolicy.Options{FS: folder, Print: print}, err
}

// mistakes are what is wrong with a policy's text; nil when err is something else.
func mistakes(err error) []policy.Reason {
	var bad *rego.CompileError
	if !errors.As(err, &bad) {
		return nil
	}
	return bad.Reasons
}

// denyMistakes makes a denial of what is wrong with a policy's text, each with its
// place; other errors stay what they are.
func (a *app) denyMistakes(err error) error {
	reasons := mistakes(err)
	if reasons == nil {
		return err
	}
	return a.Deny(policy.Deny(withPlaces(reasons)...))
}

func withPlaces(reasons []policy.Reason) []policy.Reason {
	out := slices.Clone(reasons)
	for i, r := range out {
		if r.Subject != "" {
			out[i].Message = r.Subject + ": " + r.Message
		}
	}
	return out
}
