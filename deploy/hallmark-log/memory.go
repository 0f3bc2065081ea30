package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// memory is the newest checkpoint that was signed or shown on this host, in a file that
// the storage does not have: what it says outlives the process and does not go back with
// the storage. It is written before a signature leaves and before a checkpoint is shown.
// Writers on one host may share it; it never goes back.
type memory struct {
	path string
	log  translog.Log

	mu   sync.Mutex
	last *translog.Checkpoint // newest that was read or written here; nil: none
}

// openMemory reads the file, which need not be there, and makes sure that it can be
// written: a signature that cannot be remembered must not be made.
func openMemory(path string, log translog.Log) (*memory, error) {
	m := &memory{path: path, log: log}
	err := m.hold(func(before *translog.Checkpoint) (*translog.Checkpoint, error) {
		if before == nil {
			return nil, nil
		}
		return before, durable.WriteFile(path, before.Note, 0o644)
	})
	if err != nil {
		return nil, fmt.Errorf("newest: %w", err)
	}
	return m, nil
}

// hold calls decide with what is remembered, while nobody else changes it, and remembers
// what it returns when that is newer.
func (m *memory) hold(decide func(before *translog.Checkpoint) (*translog.Checkpoint, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	lock, err := os.OpenFile(m.path+".lock", os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // nothing is written to it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", lock.Name(), err)
	}
	before, err := m.read()
	if err != nil {
		return err
	}
	if before == nil || m.last != nil && m.last.Size > before.Size { // somebody put the file back
		before = m.last
	}
	m.last = before
	next, err := decide(before)
	if err != nil || next == nil || before != nil && next.Size <= before.Size {
		return err
	}
	if err := durable.WriteFile(m.path, next.Note, 0o644); err != nil {
		return fmt.Errorf("what is signed cannot be remembered: %w", err)
	}
	m.last = next
	return nil
}

func (m *memory) read() (*translog.Checkpoint, error) {
	raw, err := readLimited(m.path, translog.MaxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := m.log.ParseCheckpoint(raw, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.path, err)
	}
	return c, nil
}

// newest is what is remembered, nil for nothing.
func (m *memory) newest() *translog.Checkpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// within reports whether a path is a folder or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
