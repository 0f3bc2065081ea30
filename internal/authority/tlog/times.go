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
// A time is what the clock said, also when the clock was set back: a log that
// made up later times would end certificates before they end.

const (
	timesName = "times"
	timeSize  = 8
)

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
	off := int64(len(t.times)) * timeSize
	data := make([]byte, 0, n*timeSize)
	for range n {
		t.times = append(t.times, now)
		data = binary.BigEndian.AppendUint64(data, uint64(now))
	}
	if n > 0 {
		if err := l.disk.appendTimes(data, off); err != nil {
			return err
		}
		l.timesSum.Write(data)
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
	data := make([]byte, h.size*timeSize)
	damaged := &durable.CorruptError{Path: l.store.path(timesName)}
	if _, err := io.ReadFull(io.NewSectionReader(l.store.times, 0, int64(len(data))), data); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		damaged.Why = "it is shorter than the " + strconv.FormatInt(h.size, 10) + " times that " + headName + " covers"
		return damaged
	} else if err != nil {
		return err
	}
	l.timesSum = sha256.New()
	l.timesSum.Write(data)
	if string(l.timesSum.Sum(nil)) != string(sum) {
		damaged.Why = "its " + strconv.FormatInt(h.size, 10) + " times are not those that " + headName + " signs"
		return damaged
	}
	t.times = make([]int64, h.size)
	for i := range t.times {
		t.times[i] = int64(binary.BigEndian.Uint64(data[i*timeSize:]))
	}
	t.timesSeal = h.timesSeal
	return nil
}
