package rules

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Limits of a policy.
const (
	MaxBundle = rego.MaxBundle // bytes of a bundle
	maxFiles  = 64             // of rules and tests
	maxDepth  = 32             // levels of data.json
)

func wrong(subject, format string, args ...any) policy.Reason {
	return policy.Reason{Code: rego.CodeCompile, Message: rego.Clean(fmt.Sprintf(format, args...)), Subject: subject}
}

// mistakes are the reasons of an error of the compiler.
func mistakes(err error) []policy.Reason {
	var c *rego.CompileError
	if errors.As(err, &c) {
		return c.Reasons
	}
	return []policy.Reason{wrong("", "%v", err)}
}

func isTest(name string) bool { return strings.HasSuffix(name, "_test.rego") }

// bundleName is the name of a file in a bundle.
func bundleName(name string) string {
	name = path.Base(filepath.ToSlash(name))
	if name == path.Base(Alias) {
		return RulesFile
	}
	return name
}

// split tells the files of the policy and its tests apart, and says what is wrong with
// them as a whole.
func split(files map[string][]byte) (own, tests map[string][]byte, wrongs []policy.Reason) {
	own, tests = map[string][]byte{}, map[string][]byte{}
	names := map[string]string{}
	for _, name := range sortedNames(files) {
		in := bundleName(name)
		switch other, twice := names[in]; {
		case twice && in == RulesFile:
			wrongs = append(wrongs, wrong(name, "%s is there, too: a policy has one of the two", other))
		case twice:
			wrongs = append(wrongs, wrong(name, "%s has the same name", other))
		case !validName(in):
			wrongs = append(wrongs, wrong(name, "a file's name is at most 100 of the characters A-Z a-z 0-9 . _ -, and begins with none of the last three"))
		case in != DataFile && !strings.HasSuffix(in, ".rego"):
			wrongs = append(wrongs, wrong(name, "a policy consists of *.rego files and %s", DataFile))
		case isTest(in):
			tests[name] = files[name]
		default:
			own[name] = files[name]
		}
		names[in] = name
		if in == DataFile {
			if err := strictjson.Valid(files[name], maxDepth); err != nil {
				wrongs = append(wrongs, wrong(name, "%v", err))
			}
		}
	}
	switch {
	case names[RulesFile] == "":
		wrongs = append(wrongs, wrong("", "there is no %s", RulesFile))
	case len(files) > maxFiles:
		wrongs = append(wrongs, wrong("", "%d files; at most %d", len(files), maxFiles))
	}
	if wrongs != nil {
		return nil, nil, wrongs
	}
	if n := len(bundleOf(own)); n > MaxBundle {
		return nil, nil, []policy.Reason{wrong("", "the policy has %d bytes as a bundle; at most %d", n, MaxBundle)}
	}
	for name, text := range tests {
		if len(text) > MaxBundle {
			return nil, nil, []policy.Reason{wrong(name, "%d bytes; at most %d", len(text), MaxBundle)}
		}
	}
	return own, tests, nil
}

func validName(name string) bool {
	for _, r := range name {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r)) {
			return false
		}
	}
	return name != "" && len(name) <= 100 && !strings.ContainsRune("._-", rune(name[0]))
}

func sortedNames(files map[string][]byte) []string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Bundle is the policy in its canonical form, which a store keeps under its digest: a tar
// (ustar, mode 0644, no owner, time 0) of its files, not of its tests, in the order of
// their names. The alias' file is signing.rego in it.
func (p *Policy) Bundle() []byte { return bundleOf(p.files) }

// Digest is "sha256:…" of [Policy.Bundle]: what a record names and approvals bind.
func (p *Policy) Digest() string { return string(evidence.SHA256(p.Bundle())) }

func bundleOf(files map[string][]byte) []byte {
	byName := map[string][]byte{}
	for name, text := range files {
		byName[bundleName(name)] = text
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range sortedNames(byName) {
		// A writer to memory fails for a header that cannot be written down, and split refuses
		// such names.
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(byName[name])), Mode: 0o644, Format: tar.FormatUSTAR})
		_, _ = w.Write(byName[name])
	}
	_ = w.Close()
	return b.Bytes()
}

// OpenBundle are the files of a bundle. What is not byte for byte what [Policy.Bundle]
// makes of them is refused.
func OpenBundle(bundle []byte) (map[string][]byte, error) {
	if len(bundle) > MaxBundle {
		return nil, fmt.Errorf("a policy bundle of %d bytes; at most %d", len(bundle), MaxBundle)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(bundle)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("policy bundle: %w", err)
		}
		if !validName(h.Name) || len(files) == maxFiles {
			return nil, errors.New("policy bundle: more files than a policy has, or a name that none of them has")
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			return nil, fmt.Errorf("policy bundle: %w", err)
		}
	}
	if !bytes.Equal(bundleOf(files), bundle) {
		return nil, errors.New("the policy bundle is not in its canonical form")
	}
	return files, nil
}

// maxLooked bounds how many files below a policy's folder are looked at.
const maxLooked = 1000

// overlooked is a rule file that would not be read, at or below an entry; "" without one.
func overlooked(folder fs.FS, e fs.DirEntry) string {
	if !e.IsDir() {
		if strings.EqualFold(path.Ext(e.Name()), ".rego") && !strings.HasSuffix(e.Name(), ".rego") {
			return e.Name()
		}
		return ""
	}
	found, looked := "", 0
	// What cannot be read there is no part of the policy either way.
	_ = fs.WalkDir(folder, e.Name(), func(p string, e fs.DirEntry, err error) error {
		if looked++; err != nil || looked > maxLooked {
			return fs.SkipDir
		}
		if !e.IsDir() && strings.EqualFold(path.Ext(p), ".rego") && !isTest(p) {
			found = p
			return fs.SkipAll
		}
		return nil
	})
	return found
}

// ReadFolder reads a policy's folder for [Load] and [Test]: its *.rego files with tests,
// and data.json; other files are left alone. Keys are the names in the folder. Reasons
// have code POLICY_COMPILE (no rules, too large, a link); an error means that the folder
// cannot be read.
func ReadFolder(dir string) (map[string][]byte, []policy.Reason, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	folder := rego.Folder(root)
	d, err := root.Open(".")
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return nil, nil, err
	}
	files := map[string][]byte{}
	var wrongs []policy.Reason
	for _, e := range entries {
		name := e.Name()
		if where := overlooked(root.FS(), e); where != "" {
			wrongs = append(wrongs, wrong(where, "this rule file would be overlooked: those of a policy lie directly in its folder, and their names end with .rego"))
		}
		switch {
		case e.IsDir():
			continue
		case name != DataFile && !strings.HasSuffix(name, ".rego"):
			continue
		case len(files) > maxFiles:
			return nil, []policy.Reason{wrong(dir, "more than %d files", maxFiles)}, nil
		}
		text, err := rego.ReadBounded(folder, name, MaxBundle)
		var trouble *fs.PathError
		switch {
		case errors.As(err, &trouble):
			return nil, nil, err
		case err != nil:
			wrongs = append(wrongs, wrong(name, "%v", err))
		default:
			files[name] = text
		}
	}
	if wrongs != nil {
		return nil, wrongs, nil
	}
	if _, _, wrongs = split(files); wrongs != nil {
		return nil, wrongs, nil
	}
	return files, nil, nil
}
