package rekorv1

import (
	"path/filepath"

	"github.com/hallmark-dev/hallmark/internal/authority/postings"
	"github.com/hallmark-dev/hallmark/internal/durable"
)

// indexCheck compares the search index with what the entries give.
type indexCheck struct {
	dir          string
	covered      int64
	index, again postings.Sum
	broken       []durable.Damage
	entriesHold  bool // else what differs is the entries
}

// openIndexCheck reads the index, before the log's head is read: that one then covers
// what the index does.
func openIndexCheck(dir string) (*indexCheck, error) {
	x := &indexCheck{dir: filepath.Join(dir, searchDir), entriesHold: true}
	var err error
	x.covered, _, x.index, err = postings.Check(x.dir, func(d durable.Damage) { x.broken = append(x.broken, d) })
	return x, err
}

func (x *indexCheck) seen(index int64, entry []byte) {
	if index >= x.covered {
		return
	}
	for _, key := range keysOf(entry) {
		x.again.Add(post(key), uint32(index))
	}
}

func (x *indexCheck) tell(size int64, report func(durable.Damage)) {
	if !x.entriesHold {
		return
	}
	if len(x.broken) == 0 && x.covered <= size && x.again != x.index {
		x.broken = append(x.broken, durable.Damage{Path: x.dir, Offset: -1,
			Why: "it does not name what the entries that it covers have; it is made again when the folder is removed while the log is not open"})
	}
	for _, d := range x.broken {
		report(d)
	}
}
