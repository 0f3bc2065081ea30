package chain

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
)

// Memory is the largest head of a store that was found good on this machine: from then on a log
// that is smaller, or another, is refused. It is trusted; who can write to it can only make a
// client refuse, or forget. A CI job that its caller can write to has none, and has the floor.
type Memory struct {
	path   string
	origin string

	mu    sync.Mutex
	point Point
}

// OpenMemory reads what is remembered of the log of an origin, nothing when the file is not there.
func OpenMemory(path, origin string) (*Memory, error) {
	m := &Memory{path: path, origin: origin}
	data, err := durable.ReadSealed(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	bad := &durable.CorruptError{Path: path, Why: "it is no state of the log " + origin}
	lines := strings.Split(string(data), "\n")
	if len(lines) != 4 || lines[0] != origin || lines[3] != "" {
		return nil, bad
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if _, serr := fmt.Sscanf(lines[1], "%d", &m.point.Size); serr != nil || err != nil || len(root) != tlog.HashSize || m.point.Size < 1 {
		return nil, bad
	}
	m.point.Root = tlog.Hash(root)
	return m, nil
}

func (m *Memory) known() Point {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.point
}

// remember keeps a head that was found good.
func (m *Memory) remember(h *ledger.Head) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h.Size <= m.point.Size {
		return nil
	}
	if err := durable.MkdirAll(filepath.Dir(m.path), 0o700); err != nil {
		return err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", m.origin, h.Size, base64.StdEncoding.EncodeToString(h.Root[:]))
	if err := durable.WriteSealed(m.path, []byte(text), 0o600); err != nil {
		return err
	}
	m.point = Point{Size: h.Size, Root: h.Root}
	return nil
}
