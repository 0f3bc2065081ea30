package translog

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// Cache keeps full tiles and bundles in a folder, in the layout of
// c2sp.org/tlog-tiles, so that a cache with everything in it is a mirror. It is not
// trusted: what is read from it is checked like what a server sends. A cache that
// cannot be read or written is as good as none.
type Cache struct {
	dir  string
	sync bool // what write returns from survives a power cut
	errs atomic.Pointer[error]
}

// NewCache keeps tiles below dir.
func NewCache(dir string) *Cache { return &Cache{dir: dir} }

// temps tells temporary files of this process apart.
var temps atomic.Int64

func (c *Cache) read(path string, limit int64) []byte {
	data, err := dirSource(c.dir).Get(context.Background(), path, limit)
	if err != nil {
		return nil
	}
	return data
}

// write puts a file in place in one step: who reads at the same time sees all of
// it or nothing.
func (c *Cache) write(path string, data []byte) {
	if err := c.put(filepath.Join(c.dir, filepath.FromSlash(path)), data); err != nil {
		c.errs.CompareAndSwap(nil, &err)
	}
}

func (c *Cache) put(path string, data []byte) error {
	if c.sync {
		if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := durable.WriteFile(path, data, 0o644); err != nil {
			return err
		}
		return os.RemoveAll(path + ".p") // partial ones are not needed any more
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp := path + ".tmp" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(temps.Add(1), 10)
	if err := os.WriteFile(temp, data, 0o644); err != nil {
		_ = os.Remove(temp)
		return err
	}
	return os.Rename(temp, path)
}
