package tlog

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// A timed log promises when it integrated each entry, so the times must be as
// durable as the entries and never change. The file times has 8 bytes for each
// entry, the Unix second as a big-endian integer, and is written and synced before
// the checkpoint that covers it, as entries is. The tree does not commit to the
// times: the sealed file names the SHA-256 of those that count, signed with the
// log's key, so that who can write to the folder cannot change what the log says.
//
// Only a digest of each full page of times is kept in memory, taken while they were
// compared with that SHA-256, so that a page that is read later is still the one that
// was signed.
//
// A time is what the clock said, also when the clock was set back: a log that
// made up later times would end certificates before they end.

const (
	timesName = "times"
	timeSize  = 8
	pageTimes = 512
)

// times are those of a tree's entries.
type times struct {
	pages [][8]byte // the first 8 bytes of each full page's SHA-256
	tail  []byte    // of the page that is not full
}

// pageDigest is the digest of a page of times.
func pageDigest(page []byte) [8]byte {
	sum := sha256.Sum256(page)
	return [8]byte(sum[:])
}

// append takes up the bytes of some times. Trees share memory: what an earlier one
// sees does not change.
func (t *times) append(data []byte) {
	for len(data) > 0 {
		n := min(len(data), pageTimes*timeSize-len(t.tail))
		t.tail, data = append(t.tail, data[:n]...), data[n:]
		if len(t.tail) == pageTimes*timeSize {
			t.pages, t.tail = append(t.pages, pageDigest(t.tail)), nil
		}
	}
}

// time is when an entry was integrated, in Unix seconds.
func (s *store) time(t times, index int64) (int64, error) {
	page, at := index/pageTimes, index%pageTimes*timeSize
	if page == int64(len(t.pages)) {
		return int64(binary.BigEndian.Uint64(t.tail[at:])), nil
	}
	data := make([]byte, pageTimes*timeSize)
	if _, err := s.times.ReadAt(data, page*int64(len(data))); err != nil {
		return 0, fmt.Errorf("reading %s: %w", s.path(timesName), err)
	}
	if pageDigest(data) != t.pages[page] {
		return 0, &durable.CorruptError{Path: s.path(timesName), Why: fmt.Sprintf("the times of entries %d to %d are not what was written", page*pageTimes, (page+1)*pageTimes-1)}
	}
	return int64(binary.BigEndian.Uint64(data[at:])), nil
}

// stamp gives the last n entries of t, which extends what is published, the time
// now, and makes it durable.
func (l *Log) stamp(t *tree, n int) error {
	if !l.cfg.Timed {
		return nil
	}
	if l.timesSum == nil {
		l.timesSum = sha256.New()
	}
	now := l.cfg.Now().Unix()
	data := make([]byte, 0, n*timeSize)
	for range n {
		data = binary.BigEndian.AppendUint64(data, uint64(now))
	}
	if n > 0 {
		t.times.append(data)
		if err := l.disk.appendTimes(data, (t.n-int64(n))*timeSize); err != nil {
			return err
		}
		l.timesSum.Write(data)
	}
	return nil
}

// sealTimes signs the times of t's entries, which are the newest.
func (l *Log) sealTimes(t *tree) error {
	if !l.cfg.Timed {
		return nil
	}
	sum := l.timesSum.Sum(nil)
	sig, err := l.signer.Sign(timesMessage(l.cfg.Origin, t.size(), sum))
	if err != nil {
		return err
	}
	t.timesSeal = " " + hex.EncodeToString(sum) + " " + base64.StdEncoding.EncodeToString(sig)
	return nil
}

// timesMessage is what the log's key signs about its times. It is no checkpoint,
// whose second line is a number, and no JSON, which the same key signs, too.
func timesMessage(origin string, size int64, sum []byte) []byte {
	return fmt.Appendf(nil, "hallmark integration times\n%s\n%d %x\n", origin, size, sum)
}

// loadTimes reads the times of t's entries, which head seals.
func (l *Log) loadTimes(t *tree, h *head) error {
	badHead := &durable.CorruptError{Path: l.store.path(headName), Why: "what it says about times is not of this log"}
	if !l.cfg.Timed {
		if h.timesSeal != "" {
			return badHead
		}
		return nil
	}
	fields := strings.Split(h.timesSeal, " ") // it begins with a space
	if len(fields) != 3 {
		return badHead
	}
	sum, err := hex.DecodeString(fields[1])
	sig, serr := base64.StdEncoding.Strict().DecodeString(fields[2])
	if err != nil || serr != nil || !l.signer.Verify(timesMessage(l.cfg.Origin, h.size, sum), sig) {
		return badHead
	}
	damaged := &durable.CorruptError{Path: l.store.path(timesName)}
	l.timesSum = sha256.New()
	in := io.NewSectionReader(l.store.times, 0, h.size*timeSize)
	page := make([]byte, pageTimes*timeSize)
	for left := in.Size(); left > 0; left -= int64(len(page)) {
		page = page[:min(left, int64(len(page)))]
		if _, err := io.ReadFull(in, page); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			damaged.Why = "it is shorter than the " + strconv.FormatInt(h.size, 10) + " times that " + headName + " covers"
			return damaged
		} else if err != nil {
			return err
		}
		l.timesSum.Write(page)
		t.times.append(page)
	}
	if string(l.timesSum.Sum(nil)) != string(sum) {
		damaged.Why = "its " + strconv.FormatInt(h.size, 10) + " times are not those that " + headName + " signs"
		return damaged
	}
	t.timesSeal = h.timesSeal
	return nil
}
