package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// layoutWriter is a layout's folder, opened for writing by one at a time until
// unlock.
type layoutWriter struct {
	*os.Root
	lock *os.File
}

// unlock unlocks before it closes: a child process that is being started holds a
// copy of the file, and with it the lock, for a moment longer.
func (w *layoutWriter) unlock() {
	_ = syscall.Flock(int(w.lock.Fd()), syscall.LOCK_UN)
	_ = w.lock.Close()
}

// writer makes the folder a layout if it is none and takes turns with other
// writers. The caller unlocks and closes it.
func (l *layoutBackend) writer() (_ *layoutWriter, err error) {
	if err := durable.MkdirAll(l.dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(l.dir)
	if err != nil {
		return nil, err
	}
	w := &layoutWriter{Root: root}
	defer func() {
		if err != nil {
			_ = root.Close()
		}
	}()
	if w.lock, err = root.Open("."); err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(w.lock.Fd()), syscall.LOCK_EX); err != nil {
		_ = w.lock.Close()
		return nil, fmt.Errorf("lock %s: %w", l.dir, err)
	}
	if err := w.furnish(); err != nil {
		w.unlock()
		return nil, err
	}
	return w, nil
}

// furnish makes what a layout has to have.
func (w *layoutWriter) furnish() error {
	for name, content := range map[string]string{
		ocispec.ImageIndexFile:  `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`,
		ocispec.ImageLayoutFile: `{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`,
	} {
		if _, err := w.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			if err := w.write(name, strings.NewReader(content)); err != nil {
				return err
			}
		}
	}
	if err := checkLayoutFile(folder{w.Root}); err != nil {
		return fmt.Errorf("%s is not an OCI image layout: %w", w.Name(), err)
	}
	return w.mkdirAll(path.Join(ocispec.ImageBlobsDir, "sha256"))
}

// mkdirAll makes a folder and its parents durable.
func (w *layoutWriter) mkdirAll(dir string) error {
	if st, err := w.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	if parent := path.Dir(dir); parent != "." {
		if err := w.mkdirAll(parent); err != nil {
			return err
		}
	}
	if err := w.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return w.sync(path.Dir(dir))
}

// sync makes names in a folder durable.
func (w *layoutWriter) sync(dir string) error {
	d, err := w.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// write replaces a file atomically with what r gives; it appears only when
// complete, and is durable then.
func (w *layoutWriter) write(name string, r io.Reader) (err error) {
	temp := path.Join(path.Dir(name), ".tmp-"+rand.Text())
	f, err := w.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = w.Remove(temp)
		}
	}()
	if _, err = io.Copy(f, r); err != nil {
		return err
	}
	if err = errors.Join(f.Chmod(0o644), f.Sync()); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = w.Rename(temp, name); err != nil {
		return err
	}
	return w.sync(path.Dir(name))
}

// holds reports whether a file has exactly the bytes of desc; a damaged copy is
// written again, not built upon.
func (w *layoutWriter) holds(name string, desc ocispec.Descriptor) bool {
	if st, err := w.Lstat(name); err != nil || !st.Mode().IsRegular() || st.Size() != desc.Size {
		return false
	}
	f, err := w.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, newVerifyingReader(f, desc, "the layout holds"))
	return err == nil
}

func (l *layoutBackend) pushBlob(_ context.Context, desc ocispec.Descriptor, r io.Reader) error {
	w, err := l.writer()
	if err != nil {
		return err
	}
	defer w.Close()
	w.unlock() // blobs do not get in each other's way
	name := blobPath(desc.Digest)
	if w.holds(name, desc) {
		return nil
	}
	if err := w.mkdirAll(path.Dir(name)); err != nil {
		return err
	}
	return w.write(name, newVerifyingReader(io.NopCloser(r), desc, "the source gave"))
}

func (l *layoutBackend) pushManifest(ctx context.Context, desc ocispec.Descriptor, data []byte, tag string) error {
	if err := l.pushBlob(ctx, desc, bytes.NewReader(data)); err != nil || tag == "" {
		return err
	}
	return l.editIndex(func(x *layoutIndex) error { return x.tag(desc, tag) })
}

func (l *layoutBackend) attach(ctx context.Context, _, desc ocispec.Descriptor, data []byte) error {
	if err := l.pushBlob(ctx, desc, bytes.NewReader(data)); err != nil {
		return err
	}
	return l.editIndex(func(x *layoutIndex) error { return x.add(desc) })
}

// deleteManifest takes a manifest out of index.json first: a crash in between
// leaves a blob that nothing lists, not a list that leads nowhere.
func (l *layoutBackend) deleteManifest(_ context.Context, desc ocispec.Descriptor) error {
	err := l.editIndex(func(x *layoutIndex) error {
		x.entries = slices.DeleteFunc(x.entries, func(raw json.RawMessage) bool {
			d, ok := entryOf(raw)
			return ok && d.Digest == desc.Digest
		})
		return nil
	})
	if err != nil {
		return err
	}
	w, err := l.writer()
	if err != nil {
		return err
	}
	defer w.Close()
	defer w.unlock()
	return w.Remove(blobPath(desc.Digest))
}

// editIndex changes index.json under the lock.
func (l *layoutBackend) editIndex(edit func(*layoutIndex) error) error {
	w, err := l.writer()
	if err != nil {
		return err
	}
	defer w.Close()
	defer w.unlock()
	index, err := readIndex(folder{w.Root})
	if err != nil {
		return err
	}
	if err := edit(index); err != nil {
		return err
	}
	raw, err := json.Marshal(index.entries)
	if err != nil {
		return err
	}
	index.members["manifests"] = raw
	data, err := json.Marshal(index.members)
	if err != nil {
		return err
	}
	return w.write(ocispec.ImageIndexFile, bytes.NewReader(data))
}

// add lists a manifest that is not listed yet.
func (x *layoutIndex) add(desc ocispec.Descriptor) error {
	if slices.ContainsFunc(x.descriptors(), func(d ocispec.Descriptor) bool { return d.Digest == desc.Digest }) {
		return nil
	}
	raw, err := json.Marshal(desc)
	x.entries = append(x.entries, raw)
	return err
}

// tag gives a tag to a manifest and takes it from any other, which stays listed.
func (x *layoutIndex) tag(desc ocispec.Descriptor, tag string) error {
	kept := make([]json.RawMessage, 0, len(x.entries)+1)
	for _, raw := range x.entries {
		d, ok := entryOf(raw)
		switch {
		case ok && d.Digest == desc.Digest && (d.Annotations[ocispec.AnnotationRefName] == "" || d.Annotations[ocispec.AnnotationRefName] == tag):
			continue // said again below
		case ok && d.Annotations[ocispec.AnnotationRefName] == tag:
			delete(d.Annotations, ocispec.AnnotationRefName)
			untagged, err := json.Marshal(d)
			if err != nil {
				return err
			}
			raw = untagged
		}
		kept = append(kept, raw)
	}
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	raw, err := json.Marshal(desc)
	x.entries = append(kept, raw)
	return err
}
