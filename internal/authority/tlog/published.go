package tlog

import (
	"bytes"
	"path/filepath"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// Published is the last checkpoint that the log in a folder signed, a note, and may
// have shown. The folder may be in use. Its signature was not checked.
func Published(dir string) ([]byte, error) {
	s, err := OpenSnapshot(dir)
	if err != nil {
		return nil, err
	}
	note, err := s.Checkpoint(dir)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return note, err
}

// Checkpoint is the signed note of a snapshot of the log in a folder.
func (s *Snapshot) Checkpoint(dir string) ([]byte, error) {
	sealed, err := durable.Unseal(filepath.Join(dir, headName), s.Head)
	if err != nil {
		return nil, err
	}
	_, note, _ := bytes.Cut(sealed, []byte("\n"))
	return note, nil
}
