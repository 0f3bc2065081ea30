package registry

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Limits on an archive.
const (
	maxTarEntries = 100_000
	maxTarNames   = 16 << 20 // bytes of all names together
)

// tarIndex says where in a tar file each regular file lies, so that nothing has
// to be unpacked. Whoever made the archive is not trusted: one name means one
// file, and no name leads out of it.
type tarIndex struct {
	r     io.ReaderAt
	files map[string]tarFile
	links map[string]string // symbolic links, by the cleaned name of what they point to
}

type tarFile struct{ offset, size int64 }

// readTarIndex reads the headers of a tar file of size bytes. It refuses
// archives whose names other readers could take for something else: twice the
// same, absolute, or with "..".
func readTarIndex(r io.ReaderAt, size int64) (*tarIndex, error) {
	x := &tarIndex{r: r, files: map[string]tarFile{}, links: map[string]string{}}
	section := io.NewSectionReader(r, 0, size)
	var first [6]byte
	if n, _ := r.ReadAt(first[:], 0); n > 3 {
		for _, magic := range []string{"\x1f\x8b", "\x28\xb5\x2f\xfd", "BZh", "\xfd7zXZ"} {
			if bytes.HasPrefix(first[:n], []byte(magic)) {
				return nil, errors.New("it is compressed; unpack it to a plain tar file first (gunzip, zstd -d)")
			}
		}
	}
	names := 0
	for tr, n := tar.NewReader(section), 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			if n == 0 {
				return nil, errors.New("it is empty, or no tar file")
			}
			return x, nil
		}
		if err != nil {
			return nil, fmt.Errorf("no tar file, or a broken one: %w", err)
		}
		if names += len(h.Name) + len(h.Linkname); n == maxTarEntries || names > maxTarNames {
			return nil, fmt.Errorf("it has more than %d entries, or names of more than %d bytes", maxTarEntries, maxTarNames)
		}
		offset, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if err := x.add(h, offset, size); err != nil {
			return nil, err
		}
	}
}

func (x *tarIndex) add(h *tar.Header, offset, size int64) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := tarName(h.Name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return nil
	case tar.TypeReg:
	case tar.TypeSymlink, tar.TypeLink:
		target := h.Linkname
		if h.Typeflag == tar.TypeSymlink && !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		if target, err = tarName(target); err != nil {
			return err
		}
		if x.has(name) {
			return fmt.Errorf("it has two entries named %q", clip(name))
		}
		x.links[name] = target
		return nil
	default:
		return fmt.Errorf("entry %q is a device, a pipe or another thing that images do not have (type %q)", clip(name), h.Typeflag)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fmt.Errorf("entry %q is a sparse file", clip(name))
		}
	}
	switch {
	case x.has(name):
		return fmt.Errorf("it has two entries named %q", clip(name))
	case h.Size < 0 || offset > size || h.Size > size-offset:
		return fmt.Errorf("it ends within %q", clip(name))
	}
	x.files[name] = tarFile{offset, h.Size}
	return nil
}

func (x *tarIndex) has(name string) bool {
	_, file := x.files[name]
	_, link := x.links[name]
	return file || link
}

// tarName is an entry's name without "./" in front and "/" behind.
func tarName(name string) (string, error) {
	clean := path.Clean(strings.TrimPrefix(name, "./"))
	if name == "." || name == "./" {
		return ".", nil
	}
	if strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/") != clean || !fs.ValidPath(clean) || strings.ContainsAny(name, "\\\x00") {
		return "", fmt.Errorf("it has an entry named %q, which leads elsewhere or can be written in another way", clip(name))
	}
	return clean, nil
}

// open opens a regular file. Links are not followed: a layout has none.
func (x *tarIndex) open(name string) (io.ReadCloser, int64, error) {
	f, ok := x.files[name]
	if !ok {
		return nil, 0, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return io.NopCloser(io.NewSectionReader(x.r, f.offset, f.size)), f.size, nil
}

// follow is open for a name that may be one link, as docker save wrote them for
// layers that are there already.
func (x *tarIndex) follow(name string) (io.ReadCloser, int64, error) {
	if target, ok := x.links[name]; ok {
		name = target
	}
	return x.open(name)
}

// names are the names in a folder, sorted.
func (x *tarIndex) names(dir string) ([]string, error) {
	var out []string
	for name := range x.files {
		if path.Dir(name) == dir {
			out = append(out, path.Base(name))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: %w", dir, fs.ErrNotExist)
	}
	slices.Sort(out)
	return out, nil
}

// Close does nothing: the file stays open for the next question.
func (x *tarIndex) Close() error { return nil }
