package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// archiveBackend is an OCI image layout in a tar file. It is read in place, and
// never written.
type archiveBackend struct{ layoutReader }

var _ backend = (*archiveBackend)(nil)

func newArchive(ref Ref) *archiveBackend {
	index := sync.OnceValues(func() (*tarIndex, error) { return openTar(ref.Dir) })
	return &archiveBackend{layoutReader{where: "the archive", files: func() (files, error) {
		x, err := index()
		if err != nil {
			return nil, err
		}
		if err := checkLayoutFile(x); err != nil {
			if errors.Is(err, errNoLayout) && ref.Scheme == SchemeDockerArchive {
				return nil, fault.Hint(fmt.Errorf("%s holds no manifest, only a configuration and layers (docker before version 25 saved it)", ref.Dir),
					"hallmark verify --image IMAGE compares it with the signed image that it should be")
			}
			return nil, fmt.Errorf("%s holds no OCI image layout: %w", ref.Dir, err)
		}
		return x, nil
	}}}
}

// openTar opens a tar file and reads its headers. The file stays open as long as
// the index is used.
func openTar(name string) (*tarIndex, error) {
	st, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s", name)
	}
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() { // a pipe would block, and cannot be read in place
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	x, err := readTarIndex(f, st.Size())
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return x, nil
}

var errReadOnly = fault.Hint(errors.New("archives are only read"), "unpack it to a folder and name that: oci:DIR; or name a registry")

func (*archiveBackend) pushBlob(context.Context, ocispec.Descriptor, io.Reader) error {
	return errReadOnly
}

func (*archiveBackend) pushManifest(context.Context, ocispec.Descriptor, []byte, string) error {
	return errReadOnly
}

func (*archiveBackend) deleteManifest(context.Context, ocispec.Descriptor) error { return errReadOnly }

func (*archiveBackend) attach(context.Context, ocispec.Descriptor, ocispec.Descriptor, []byte) error {
	return errReadOnly
}
