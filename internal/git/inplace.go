package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// place is where the parts of a repository on this machine lie.
type place struct {
	gitDir string // of this work tree: HEAD
	common string // everything else
}

// maxPointer bounds the small files that say where a repository is, in bytes.
const maxPointer = 4096

// openInPlace makes the runner's repository one whose objects and refs are those of the
// folder, by symbolic links, and whose configuration is ours. git so never sees the
// folder's configuration, hooks, attributes, grafts or index.
func (r *runner) openInPlace(ctx context.Context) (*policy.Reason, error) {
	p, err := findPlace(r.location.Path)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"objects", "refs", "objects/pack", "objects/info"} {
		st, err := os.Lstat(filepath.Join(p.common, name))
		switch {
		case errors.Is(err, fs.ErrNotExist) && strings.Contains(name, "/"):
		case err != nil:
			return nil, noRepository(r.location.Path)
		case !st.IsDir():
			return r.refusePlace(name + " is no folder of its own"), nil
		}
	}
	if _, err := os.Lstat(filepath.Join(p.common, "reftable")); err == nil {
		// The files of refs are then a shell, and what is in them is none.
		return r.refusePlace("it keeps its refs in another form (reftable)"), nil
	}
	for _, name := range []string{"alternates", "http-alternates"} {
		if st, err := os.Lstat(filepath.Join(p.common, "objects", "info", name)); err == nil && st.Size() > 0 {
			return r.refusePlace("it borrows objects from elsewhere (objects/info/" + name + ")"), nil
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	format, why, err := r.objectFormat(ctx, p)
	if why != nil || err != nil {
		return why, err
	}
	if r.hexLen = 40; format == "sha256" {
		r.hexLen = 64
	}
	return nil, r.link(p, format)
}

// link makes the repository of links.
func (r *runner) link(p place, format string) error {
	if err := os.Mkdir(r.repo(), 0o700); err != nil {
		return err
	}
	// A commit-graph or a multi-pack-index can say of commits what they do not say themselves.
	config := "[core]\n\trepositoryformatversion = 1\n\tbare = true\n\tcommitGraph = false\n\tmultiPackIndex = false\n\tfsync = committed\n" +
		"\tlogAllRefUpdates = false\n[extensions]\n\tobjectFormat = " + format + "\n"
	head := "ref: refs/heads/main\n"
	if text, err := readPointer(filepath.Join(p.gitDir, "HEAD")); err == nil {
		if ref, ok := strings.CutPrefix(text, "ref: "); ok && checkRefName(ref) == nil || validID(text) {
			head = text + "\n"
			r.detached = !ok
		}
	}
	for name, text := range map[string]string{"config": config, "HEAD": head} {
		if err := os.WriteFile(filepath.Join(r.repo(), name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	for _, name := range []string{"objects", "refs", "packed-refs", "shallow"} {
		st, err := os.Lstat(filepath.Join(p.common, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !st.IsDir() && !st.Mode().IsRegular() {
			err = fmt.Errorf("%s is no file", filepath.Join(p.common, name))
		}
		if err == nil {
			err = os.Symlink(filepath.Join(p.common, name), filepath.Join(r.repo(), name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// objectFormat is "sha1" or "sha256", as the folder's configuration says. git reads that
// one key out of the file; nothing that it includes, and nothing for itself.
func (r *runner) objectFormat(ctx context.Context, p place) (string, *policy.Reason, error) {
	path := filepath.Join(p.common, "config")
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "sha1", nil, nil
	}
	if err == nil && (!st.Mode().IsRegular() || st.Size() > MaxSignersSize) {
		return "", r.refusePlace("its configuration is no file of at most 1 MiB"), nil
	}
	if err != nil {
		return "", nil, err
	}
	if text, err := os.ReadFile(path); err != nil || !bytes.Contains(bytes.ToLower(text), []byte("objectformat")) {
		return "sha1", nil, err // without asking git, for every include is passed over
	}
	out, err := r.run(ctx, "reading the form of "+r.location.Path, "config", "--file", path, "--no-includes",
		"--default=sha1", "--get", "extensions.objectFormat")
	if err != nil {
		return "", nil, err
	}
	switch format := strings.TrimSpace(string(out)); format {
	case "sha1", "sha256":
		return format, nil, nil
	default:
		return "", r.refusePlace(fmt.Sprintf("its object format is %q", clip(format))), nil
	}
}

func (r *runner) refusePlace(why string) *policy.Reason {
	return reason(CodeFetchRefused, r.location.Path, "clone it (git clone --no-local), and give the path of the clone", "%s is not read: %s", r.location.Path, why)
}

func noRepository(path string) error {
	return fault.Hint(fmt.Errorf("no git repository at %s", path), "check the path; of a clone its top folder is named: git rev-parse --show-toplevel")
}

// findPlace finds the repository of a folder: the folder itself, the .git in it, or the
// repository that it is a linked work tree of (gitrepository-layout(5)).
func findPlace(path string) (place, error) {
	dot := filepath.Join(path, ".git")
	st, err := os.Lstat(dot)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return place{gitDir: path, common: path}, isRepository(path, path)
	case err != nil:
		return place{}, err
	case st.IsDir():
		return place{gitDir: dot, common: dot}, isRepository(dot, path)
	}
	text, err := readPointer(dot)
	dir, ok := strings.CutPrefix(text, "gitdir: ")
	if err != nil || !ok {
		return place{}, noRepository(path)
	}
	dir = relativeTo(path, dir)
	// The repository must know of the work tree: a folder of somebody else's could point anywhere.
	back, err := readPointer(filepath.Join(dir, "gitdir"))
	if err == nil {
		back, err = filepath.EvalSymlinks(relativeTo(dir, back))
	}
	common, cerr := readPointer(filepath.Join(dir, "commondir"))
	if err != nil || cerr != nil || back != dot {
		return place{}, fault.Hint(fmt.Errorf("%s says that its repository is %s, which does not know of it", path, quoted(dir)),
			"give the path of the repository itself")
	}
	common = relativeTo(dir, common)
	return place{gitDir: dir, common: common}, isRepository(common, path)
}

func relativeTo(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

func isRepository(dir, path string) error {
	if st, err := os.Lstat(filepath.Join(dir, "objects")); err != nil || !st.IsDir() {
		return noRepository(path)
	}
	return nil
}

// readPointer is the one line of a small file that is no link and no pipe.
func readPointer(path string) (string, error) {
	if st, err := os.Lstat(path); err != nil || !st.Mode().IsRegular() {
		return "", errors.Join(err, fmt.Errorf("%s is no file", path))
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, maxPointer+1))
	text := strings.TrimSuffix(string(data), "\n")
	if err != nil || len(data) > maxPointer || strings.ContainsAny(text, "\n\x00") {
		return "", errors.Join(err, fmt.Errorf("%s is not one short line", path))
	}
	return text, nil
}
