package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// MaxRef bounds a reference, in bytes: it becomes part of an argument.
const MaxRef = 4 << 10

// SplitRef splits NAME://ID. It reports false for what is no such reference: a scheme
// has two letters at least, so that no drive letter is one.
func SplitRef(ref string) (name, id string, ok bool) {
	name, id, ok = strings.Cut(ref, "://")
	if !ok || len(name) < 2 || name[0] < 'a' || name[0] > 'z' || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("+.-", r)
	}) {
		return "", "", false
	}
	return name, id, true
}

// Find finds the program of the plugin name: on PATH, and beside the program that runs,
// where make build puts our own. Folders of PATH that are relative are not looked at:
// who can write to the folder that one is in would choose the program.
func Find(name string) (string, error) {
	program := Prefix + name
	var looked []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if !filepath.IsAbs(dir) || slices.Contains(looked, dir) {
			continue
		}
		looked = append(looked, dir)
		if path, ok := executable(filepath.Join(dir, program)); ok {
			return path, nil
		}
	}
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			looked = append(looked, filepath.Dir(self))
			if path, ok := executable(filepath.Join(filepath.Dir(self), program)); ok {
				return path, nil
			}
		}
	}
	err := &MissingError{Program: program, Looked: looked}
	return "", fault.Hint(fault.As(fault.Usage, err), "%s", hintMissing(name, program))
}

func hintMissing(name, program string) string {
	switch name {
	case "pkcs11":
		return program + " is made beside hallmark by make build; copy it to a folder of PATH"
	case "awskms", "gcpkms", "azurekms", "hashivault":
		return "hallmark carries no cloud SDK: keys of " + name + " need a KMS plugin of Sigstore of that name (docs/keys.md)"
	case "http", "https":
		return "a key is not fetched from a web server; download it and name the file"
	case "file":
		return "name the file by its path alone"
	}
	return "install the KMS plugin of that name, or name a file by its path, such as ./" + name
}

func executable(path string) (string, bool) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return "", false
	}
	return path, true
}

// MissingError says that there is no such plugin.
type MissingError struct {
	Program string
	Looked  []string // the folders
}

func (e *MissingError) Error() string {
	if len(e.Looked) == 0 {
		return fmt.Sprintf("the program %s was not found: PATH names no folder", e.Program)
	}
	return fmt.Sprintf("the program %s was not found in %s", e.Program, strings.Join(e.Looked, ", "))
}

// startError says why a program did not run, without its arguments.
func startError(program string, err error) error {
	var pe *fs.PathError
	var ee *exec.Error
	if errors.As(err, &pe) {
		err = pe.Err
	} else if errors.As(err, &ee) {
		err = ee.Err
	}
	return fmt.Errorf("%s cannot be run: %w", program, err)
}
