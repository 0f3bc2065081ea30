package git

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// ReadApprovalDir reads the approvals in a folder (--approval-dir): files named
// <id>.json, directly in it or in a folder in it that is named as the subject. Other files
// are passed over. A folder that is not there is an error, and so is a file that cannot be
// read: they never mean that there are none.
func ReadApprovalDir(dir, subject string, keep func(Found) bool) (_ *Listing, err error) {
	if err := checkApproval(subject, ""); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	out := &Listing{}
	for _, in := range []string{".", subject} {
		if err := readApprovals(root, in, in == subject, keep, out); err != nil {
			return nil, fmt.Errorf("reading approvals in %s: %w", dir, err)
		}
	}
	return out, nil
}

func readApprovals(root *os.Root, in string, optional bool, keep func(Found) bool, out *Listing) error {
	d, err := root.Open(in)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // only read
	for {
		entries, err := d.ReadDir(1024)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			id, ok := strings.CutSuffix(e.Name(), ".json")
			if !ok || e.IsDir() {
				continue
			}
			if checkApproval(strings.Repeat("1", 40), id) != nil || id == "" || !e.Type().IsRegular() {
				out.Junk++
				continue
			}
			if len(out.Found)+out.Junk >= MaxApprovals {
				out.Unread++
				continue
			}
			data, err := readBounded(root, path.Join(in, e.Name()))
			if err != nil {
				return err
			}
			f := Found{ID: id, Ref: filepath.Join(root.Name(), in, e.Name()), Envelope: data}
			if data == nil {
				out.Junk++
				continue
			}
			out.add(f, keep)
		}
	}
}

// readBounded is nil for a file that is too large.
func readBounded(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, MaxApprovalSize+1))
	if err != nil || len(data) > MaxApprovalSize {
		return nil, err
	}
	return data, nil
}

// WriteApprovalDir puts an approval into a folder for [ReadApprovalDir], in the one named
// as the subject, and returns its path.
func WriteApprovalDir(dir, subject, id string, envelope []byte) (string, error) {
	if err := checkEnvelope(subject, id, envelope); err != nil {
		return "", err
	}
	in := filepath.Join(dir, subject)
	if err := os.MkdirAll(in, 0o755); err != nil {
		return "", err
	}
	to := filepath.Join(in, id+".json")
	return to, durable.WriteFile(to, envelope, 0o644)
}
