package tlog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/authority/postings"
	"github.com/hallmark-dev/hallmark/internal/durable"
)

// derivedCheck compares what is derived with what is derived again.
type derivedCheck struct {
	dir     string
	covered int64 // entries that are compared
	mark    []byte
	index   postings.Sum // what the index holds
	again   postings.Sum // what it must hold
	files   []*derivedFile
	broken  []durable.Damage
}

// derivedFile is one that is read beside the entries, from its beginning.
type derivedFile struct {
	path   string
	f      *os.File
	in     *bufio.Reader
	at     int64
	broken bool
}

func openDerivedCheck(dir string) (*derivedCheck, error) {
	d := &derivedCheck{dir: filepath.Join(dir, derivedName)}
	var err error
	d.covered, d.mark, d.index, err = postings.Check(filepath.Join(d.dir, indexName), func(x durable.Damage) { d.broken = append(d.broken, x) })
	if err != nil || d.covered == 0 {
		return d, err
	}
	for _, name := range []string{hashesName, offsetsName} {
		file := &derivedFile{path: filepath.Join(d.dir, name)}
		if file.f, err = openForCheck(file.path); err != nil {
			d.close()
			return nil, err
		}
		if file.f != nil {
			file.in = bufio.NewReaderSize(file.f, chunkSize)
		} else {
			d.broken, file.broken = append(d.broken, durable.Damage{Path: file.path, Offset: -1, Why: "it is missing"}), true
		}
		d.files = append(d.files, file)
	}
	return d, nil
}

func (d *derivedCheck) close() {
	for _, f := range d.files {
		if f.f != nil {
			_ = f.f.Close() // it was only read
		}
	}
}

// compare takes up entries from first on and what they add; root is that over all
// until there.
func (d *derivedCheck) compare(first int64, leaves []tlog.Hash, g grown, root tlog.Hash) error {
	if first >= d.covered {
		return nil
	}
	for i, h := range leaves {
		d.again.Add(indexKey(h), uint32(first+int64(i)))
	}
	for i, want := range [][]byte{g.hashes, g.offsets} {
		if err := d.files[i].compare(want, func(x durable.Damage) { d.broken = append(d.broken, x) }); err != nil {
			return err
		}
	}
	if first+int64(len(leaves)) == d.covered && !bytes.Equal(root[:], d.mark) {
		d.broken = append(d.broken, durable.Damage{Path: filepath.Join(d.dir, indexName), Offset: -1, Why: "it is of another log's entries"})
	}
	return nil
}

func (f *derivedFile) compare(want []byte, report func(durable.Damage)) error {
	if f.broken {
		return nil
	}
	have := make([]byte, len(want))
	n, err := io.ReadFull(f.in, have)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	same := 0
	for same < n && have[same] == want[same] {
		same++
	}
	if same < len(want) {
		f.broken = true
		report(durable.Damage{Path: f.path, Offset: f.at + int64(same), Why: "it is not what the entries give; it is made again when the folder derived is removed while the log is not open"})
	}
	f.at += int64(len(want))
	return nil
}

// tell reports what differs. An index that covers more than the checkpoint is made
// again at the next Open, and tells nothing.
func (d *derivedCheck) tell(report func(durable.Damage)) {
	if len(d.broken) == 0 && d.again.Records == d.covered && d.again != d.index {
		d.broken = append(d.broken, durable.Damage{Path: filepath.Join(d.dir, indexName), Offset: -1,
			Why: fmt.Sprintf("it does not name exactly the %d entries that it covers", d.covered)})
	}
	for _, x := range d.broken {
		report(x)
	}
}
