package sourcepolicy

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// Bounds of what one policy reads while it decides.
const (
	maxFiles    = 1000
	maxAllFiles = 64 << 20 // bytes
)

// ReadFile is a file of its folder that a policy read while it decided.
type ReadFile struct {
	Name   string          `json:"name"` // within the folder
	Digest evidence.Digest `json:"digest"`
}

// folder is what a policy reads while it decides: lists, keys, signatures, bundles. Each
// file is read once, so that all decisions are made with what is said of it afterwards.
type folder struct {
	fs     fs.FS // nil: none
	sealed bool  // nothing is read beside what was

	mu    sync.Mutex
	data  map[string][]byte
	bytes int
}

func (f *folder) read(name string, limit int64) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, ok := f.data[name]
	if !ok {
		if f.fs == nil {
			return nil, fmt.Errorf("the policy has no folder to read %s from", clip(name))
		}
		if f.sealed || len(f.data) == maxFiles {
			return nil, fmt.Errorf("the policy reads more files than before, or more than %d", maxFiles)
		}
		var err error
		if data, err = rego.ReadBounded(f.fs, name, limit); err != nil {
			return nil, err
		}
		if f.bytes+len(data) > maxAllFiles {
			return nil, fmt.Errorf("the policy reads more than %d bytes of files", maxAllFiles)
		}
		if f.data == nil {
			f.data = map[string][]byte{}
		}
		f.data[name] = data
		f.bytes += len(data)
	}
	if int64(len(data)) > limit { // it was read for what may be longer
		return nil, fmt.Errorf("%s has %d bytes; at most %d", name, len(data), limit)
	}
	return data, nil
}

// Read are the files that the policy has read so far while it decided, by name. What it
// imports is not among them: see [Policy.Digest].
func (p *Policy) Read() []ReadFile {
	p.folder.mu.Lock()
	defer p.folder.mu.Unlock()
	var out []ReadFile
	for _, name := range slices.Sorted(maps.Keys(p.folder.data)) {
		out = append(out, ReadFile{name, evidence.SHA256(p.folder.data[name])})
	}
	return out
}
