package trusted

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/pattern"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// MaxBuilder is the size of the largest builder file, in bytes.
const MaxBuilder = 64 << 10

// Builder is what the operator lets a trusted build run (docs/trusted-build.md).
type Builder struct {
	BuildKit  []Program
	Runc      []Program
	Bake      []Program // hallmark-bake, which reads bake files; none is named: none are read
	Frontends []string  // images by digest, "docker.io/docker/dockerfile@sha256:…"
	Scanner   string    // image that makes SBOMs, by digest or, where Signed speaks of it, by tag; "" makes none
	Signed    []*Release

	Digest evidence.Digest // of the file
}

// Program is one release of a program.
type Program struct {
	Version string `json:"version" strict:"required"`
	SHA256  string `json:"sha256" strict:"required"` // of the file, hexadecimal
}

type wireBuilder struct {
	Version   int           `json:"version" strict:"required"`
	BuildKit  []Program     `json:"buildkitd" strict:"required,max=32"`
	Runc      []Program     `json:"runc" strict:"required,max=32"`
	Bake      []Program     `json:"hallmark-bake" strict:"max=32"`
	Frontends []string      `json:"frontends" strict:"max=256"`
	Scanner   string        `json:"scanner"`
	Signed    []wireRelease `json:"signed" strict:"max=64"`
}

// ParseBuilder reads a builder file, strictly. Every error says what is wrong in it.
func ParseBuilder(data []byte) (*Builder, error) {
	if len(data) > MaxBuilder {
		return nil, fmt.Errorf("longer than %d bytes", MaxBuilder)
	}
	var w wireBuilder
	if err := strictjson.Unmarshal(data, &w); err != nil {
		return nil, err
	}
	if w.Version != 1 {
		return nil, fmt.Errorf("version: %d is not known; want 1", w.Version)
	}
	sum := sha256.Sum256(data)
	b := &Builder{BuildKit: w.BuildKit, Runc: w.Runc, Bake: w.Bake, Scanner: w.Scanner, Digest: evidence.Digest("sha256:" + hex.EncodeToString(sum[:]))}
	for name, list := range map[string][]Program{"buildkitd": w.BuildKit, "runc": w.Runc, "hallmark-bake": w.Bake} {
		if len(list) == 0 && name != "hallmark-bake" {
			return nil, fmt.Errorf("%s: names no release", name)
		}
		for i, p := range list {
			if !hexSHA256().MatchString(p.SHA256) {
				return nil, fmt.Errorf("%s[%d].sha256: want 64 lower-case hexadecimal digits", name, i)
			}
			if !version().MatchString(p.Version) {
				return nil, fmt.Errorf("%s[%d].version: want a version, like v0.33.1", name, i)
			}
		}
	}
	for i, f := range w.Frontends {
		ref, err := ByDigest(f)
		if err != nil {
			return nil, fmt.Errorf("frontends[%d]: %w", i, err)
		}
		b.Frontends = append(b.Frontends, ref.Name()+"@"+string(ref.Digest))
	}
	for i := range w.Signed {
		r, err := w.Signed[i].release()
		if err == nil && slices.ContainsFunc(b.Signed, func(o *Release) bool { return o.Repository == r.Repository }) {
			err = fmt.Errorf("%s stands there twice", r.Repository)
		}
		if err != nil {
			return nil, fmt.Errorf("signed[%d]: %w", i, err)
		}
		b.Signed = append(b.Signed, r)
	}
	var err error
	if b.Scanner, err = b.scanner(w.Scanner); err != nil {
		return nil, fmt.Errorf("scanner: %w", err)
	}
	return b, nil
}

// scanner is an image by digest, or a release by its tag whose signature is looked at when
// it is used.
func (b *Builder) scanner(image string) (string, error) {
	if image == "" {
		return "", nil
	}
	if ref, err := registry.ParseRef(image); err == nil && ref.Digest == "" && b.Release(ref) != nil {
		return ref.Name() + ":" + ref.Tag, nil
	}
	ref, err := ByDigest(image)
	return ref.Name() + "@" + string(ref.Digest), err
}

// OfRoot refuses a file that somebody but root could have written or put there. Links are
// refused, too: who made one is not who made what it leads to.
func OfRoot(path string) error {
	for {
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Uid != 0 || info.Mode().Perm()&0o022 != 0 || info.Mode()&os.ModeSymlink != 0 {
			return fmt.Errorf("%s is a link, or somebody but root may write to it", path)
		}
		up := filepath.Dir(path)
		if up == path {
			return nil
		}
		path = up
	}
}

var (
	hexSHA256 = pattern.New(`^[0-9a-f]{64}$`)
	version   = pattern.New(`^[0-9A-Za-z][0-9A-Za-z.+~_:-]{0,63}$`)
)

// ByDigest reads the reference of an image in a registry that names a digest.
func ByDigest(image string) (registry.Ref, error) {
	ref, err := registry.ParseRef(image)
	if err != nil {
		return ref, err
	}
	if ref.Scheme != registry.SchemeRegistry || ref.Digest == "" {
		return ref, fmt.Errorf("%s: want an image by digest, HOST/REPOSITORY@sha256:…", image)
	}
	return ref, nil
}

// Tool is a program that was verified and is run.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// Copy copies the program at from to a new file at to, which is what may be run, when
// it is a release that the file names. Else nothing is left at to, and the error is a
// *[Denied].
func (b *Builder) Copy(program, from, to string) (_ Tool, err error) {
	src, err := os.Open(from)
	if err != nil {
		return Tool{}, err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o500)
	if err != nil {
		return Tool{}, err
	}
	defer func() {
		err = errors.Join(err, dst.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(to))
		}
	}()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(dst, h), src); err != nil {
		return Tool{}, fmt.Errorf("copying %s: %w", program, err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	list := map[string][]Program{"buildkitd": b.BuildKit, "runc": b.Runc, "hallmark-bake": b.Bake}[program]
	i := slices.IndexFunc(list, func(p Program) bool { return p.SHA256 == sum })
	if i < 0 {
		return Tool{}, &Denied{[]policy.Reason{{Code: CodeTool, Subject: program,
			Message: fmt.Sprintf("%s has the SHA-256 %s, and the builder file names no such %s", from, sum, program),
			Hint:    "install a release that the builder file names; tools/install.sh builds one whose digest another machine can compare"}}}
	}
	return Tool{Name: program, Version: list[i].Version, SHA256: sum}, nil
}
