package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api/layout"

	"github.com/hallmark-dev/hallmark/internal/translog"
)

// maxKept bounds the full tiles of hashes that are kept: 32 MiB.
const maxKept = 4096

// storage reads a Tessera log as any other log is read from outside, so that
// everything in it is checked against a checkpoint before it is believed.
type storage struct {
	name   string
	reader tessera.LogReader

	mu   sync.Mutex
	kept map[string][]byte // full tiles of hashes, which never change
}

var _ translog.Source = (*storage)(nil)

func newStorage(name string, reader tessera.LogReader) *storage {
	return &storage{name: name, reader: reader, kept: map[string][]byte{}}
}

func (s *storage) Name() string { return s.name }

// Get reads a path of c2sp.org/tlog-tiles. A partial tile may be answered with one
// that has more in it, as the drivers do.
func (s *storage) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	data, err := s.get(ctx, path)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, nil
}

func (s *storage) get(ctx context.Context, path string) ([]byte, error) {
	if path == layout.CheckpointPath {
		data, err := s.reader.ReadCheckpoint(ctx)
		// Some drivers answer nothing where there is none.
		if err == nil && len(data) == 0 {
			err = fs.ErrNotExist
		}
		return data, err
	}
	rest, ok := strings.CutPrefix(path, "tile/")
	level, rest, found := strings.Cut(rest, "/")
	if !ok || !found {
		return nil, errors.New("not a path of a log: " + path)
	}
	if level == "entries" {
		n, p, err := layout.ParseTileIndexPartial(rest)
		if err != nil {
			return nil, err
		}
		return s.reader.ReadEntryBundle(ctx, n, p)
	}
	l, n, p, err := layout.ParseTileLevelIndexPartial(level, rest)
	if err != nil {
		return nil, err
	}
	if p != 0 {
		return s.reader.ReadTile(ctx, l, n, p)
	}
	s.mu.Lock()
	data := s.kept[path]
	s.mu.Unlock()
	if data != nil {
		return data, nil
	}
	if data, err = s.reader.ReadTile(ctx, l, n, 0); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if len(s.kept) >= maxKept {
		clear(s.kept)
	}
	s.kept[path] = data
	s.mu.Unlock()
	return data, nil
}

// forget drops what is kept: a tile that does not lead to the root must be read again.
func (s *storage) forget() {
	s.mu.Lock()
	clear(s.kept)
	s.mu.Unlock()
}
