package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/client"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/sorted"
)

// maxArtifacts bounds the files of one build, each of which is signed for itself.
const maxArtifacts = 200

var errNoFiles = errors.New("the build made no files")

// Artifact is a file that a build made.
type Artifact struct {
	Path       string // below the folder, with slashes
	Digest     evidence.Digest
	Provenance evidence.Statement // that is about it
	BOMs       []BOM              // by the scanner, if there is one
}

// BOM is a scanner's statement of what is in the files.
type BOM struct {
	Name string // of its file, without its folder and ".json"
	evidence.Statement
}

// Export builds and writes the files of the result into dir, which exists and is empty,
// with BuildKit's statements about them; what is said in Run about denials holds. Each
// platform has a folder of its own when several are built.
func Export(ctx context.Context, c *client.Client, r Request, dir string) ([]Artifact, *Result, policy.Decision, error) {
	opt, err := r.solveOpt(client.ExportEntry{Type: client.ExporterLocal, OutputDir: dir})
	if err != nil {
		return nil, nil, policy.Decision{}, err
	}
	made, d, err := solve(ctx, c, r, opt)
	if err != nil || !d.Allowed {
		return nil, made.result(), d, err
	}
	all, err := r.artifacts(dir)
	return all, made.result(), d, err
}

// Try builds and keeps nothing.
func Try(ctx context.Context, c *client.Client, r Request) (*Result, policy.Decision, error) {
	opt, err := r.solveOpt(client.ExportEntry{})
	if err != nil {
		return nil, policy.Decision{}, err
	}
	opt.Exports = nil
	made, d, err := solve(ctx, c, r, opt)
	return made.result(), d, err
}

// artifacts reads what was written: every file must be one that the provenance beside
// it names, with its digest, and that provenance must be of this build.
func (r Request) artifacts(dir string) ([]Artifact, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	files := map[string]evidence.Digest{}
	err = fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		switch {
		case !utf8.ValidString(path) || strings.ContainsFunc(path, func(r rune) bool { return !strconv.IsPrint(r) }):
			// It would be shown, and could pass for lines of our own.
			return fault.Hint(fmt.Errorf("the name %q has characters that cannot be shown", path), "give the file another name")
		case err != nil || e.IsDir():
			return err
		case !e.Type().IsRegular():
			return fault.Hint(fmt.Errorf("%s is no regular file, and could not be signed", path), "end the Dockerfile with a stage FROM scratch that has only the files to be released")
		case len(files) == maxArtifacts:
			return fault.Hint(fmt.Errorf("more than %d files, each of which would be signed", maxArtifacts), "end the Dockerfile with a stage FROM scratch that has only the files to be released")
		}
		files[path], err = hashFile(root, path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the files that were built: %w", err)
	}
	if len(files) == 0 { // and no provenance either
		return nil, errNoFiles
	}
	var out []Artifact
	for _, folder := range r.folders(files) {
		of, err := r.artifactsOf(root, folder, files)
		if err != nil {
			return nil, fmt.Errorf("reading the provenance of the files: %w", err)
		}
		out = append(out, of...)
	}
	if len(out) == 0 {
		return nil, errNoFiles
	}
	return out, nil
}

// folders are those with a provenance.json of BuildKit's: the root, or one per platform.
func (r Request) folders(files map[string]evidence.Digest) []string {
	if len(r.Options.Platforms) < 2 {
		return []string{"."}
	}
	var all []string
	for path := range files {
		if top, _, nested := strings.Cut(path, "/"); nested && !slices.Contains(all, top) {
			all = append(all, top)
		}
	}
	slices.Sort(all)
	return all
}

// provenanceFile is BuildKit's name of its statement (exporter/local).
const provenanceFile = "provenance.json"

func (r Request) artifactsOf(root *os.Root, folder string, files map[string]evidence.Digest) ([]Artifact, error) {
	s, err := readStatement(root, filepath.Join(folder, provenanceFile))
	if err == nil && s.PredicateType != evidence.PredicateSLSA1 {
		err = fmt.Errorf("%s is a %q", provenanceFile, s.PredicateType)
	}
	if err != nil {
		return nil, err
	}
	boms, err := r.boms(root, folder, files, s)
	if err != nil {
		return nil, err
	}
	about := map[string]evidence.Digest{}
	for _, x := range s.Subject {
		about[x.Name] = evidence.Digest("sha256:" + x.Digest["sha256"])
	}
	var out []Artifact
	for path, digest := range files {
		name, inside := strings.CutPrefix(path, folder+"/")
		if folder == "." {
			name, inside = path, true
		}
		if !inside || ofBuildKit(name) && about[name] == "" {
			continue
		}
		if about[name] != digest {
			return nil, fmt.Errorf("%s: it is not about this file", path)
		}
		delete(about, name)
		if err := r.checkStatement(s, string(digest)); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, Artifact{Path: path, Digest: digest, Provenance: s, BOMs: boms})
	}
	for name := range about {
		return nil, fmt.Errorf("it is about %s, which was not written", name)
	}
	sorted.Func(out, func(a, b Artifact) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// boms reads the scanner's statements in a folder, which must be about the same files as
// the provenance, and lets others read what BuildKit wrote for its own user alone.
func (r Request) boms(root *os.Root, folder string, files map[string]evidence.Digest, provenance evidence.Statement) ([]BOM, error) {
	var out []BOM
	for path := range files {
		name := filepath.Base(path)
		made := slices.ContainsFunc(provenance.Subject, func(x evidence.StatementSubject) bool { return x.Name == name })
		if filepath.Dir(path) != folder || !ofBuildKit(name) || made {
			continue
		}
		if err := root.Chmod(path, 0o644); err != nil {
			return nil, err
		}
		if name == provenanceFile {
			continue
		}
		s, err := readStatement(root, path)
		switch {
		case err != nil:
			return nil, err
		case s.PredicateType != evidence.PredicateSPDX && s.PredicateType != evidence.PredicateCycloneDX:
			return nil, fmt.Errorf("%s is a %q", path, s.PredicateType)
		case !reflect.DeepEqual(s.Subject, provenance.Subject):
			return nil, fmt.Errorf("%s is not about the files that the provenance is about", path)
		}
		out = append(out, BOM{strings.TrimSuffix(name, ".json"), s})
	}
	if r.Trusted != nil && r.Trusted.Scanner != "" && len(out) == 0 {
		return nil, fmt.Errorf("there is no SBOM by %s", r.Trusted.Scanner)
	}
	sort.Slice(out, func(i, k int) bool { return out[i].Name < out[k].Name })
	return out, nil
}

func readStatement(root *os.Root, path string) (evidence.Statement, error) {
	var s evidence.Statement
	info, err := root.Stat(path)
	if err == nil && info.Size() > maxProvenance {
		err = fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), int64(maxProvenance))
	}
	if err != nil {
		return s, err
	}
	data, err := root.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	return s, err
}

// ofBuildKit reports whether a file is a statement that BuildKit wrote beside the result.
func ofBuildKit(name string) bool {
	return name == provenanceFile || strings.HasPrefix(name, "sbom") && strings.HasSuffix(name, ".json") && !strings.Contains(name, "/")
}

func hashFile(root *os.Root, path string) (evidence.Digest, error) {
	f, err := root.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return evidence.Digest("sha256:" + hex.EncodeToString(h.Sum(nil))), nil
}
