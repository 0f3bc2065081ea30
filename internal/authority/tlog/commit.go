package tlog

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/durable"
)

const (
	// maxEntry is what the 16-bit length in an entry bundle can hold
	// (c2sp.org/tlog-tiles, log entries).
	maxEntry = 1<<16 - 1
	// maxBatch bounds what one commit writes to 32 MiB.
	maxBatch = 512
)

// pending is an entry that waits for the committer.
type pending struct {
	entry []byte
	leaf  tlog.Hash
	index int64       // the committer's, as fresh is
	fresh bool        // it was not in the log before
	done  chan result // buffered: the committer never waits for a submitter
}

type result struct {
	index int64
	fresh bool
	tree  *tree
	err   error
}

func newPending(entry []byte) *pending {
	return &pending{entry: entry, leaf: tlog.RecordHash(entry), done: make(chan result, 1)}
}

// run is the committer: the only goroutine that writes.
func (l *Log) run() {
	defer close(l.stopped)
	damaged := l.derived.damaged
	for {
		var batch []*pending
		select {
		case <-l.quit:
			return
		case <-damaged:
			if !l.heal() {
				damaged = nil // it would not be otherwise the next time
			}
			continue
		case p := <-l.queue:
			batch = append(batch, p)
		}
		for more := true; more && len(batch) < maxBatch; {
			select {
			case p := <-l.queue:
				batch = append(batch, p)
			default:
				more = false
			}
		}
		l.answer(batch)
	}
}

func (l *Log) answer(batch []*pending) {
	err := l.failed()
	var t *tree
	if err == nil {
		start := l.cfg.Now()
		before := l.Size()
		if t, err = l.commit(batch); errors.Is(err, ErrClosed) {
			err = ErrClosed // while something was derived again
		} else if err != nil {
			// What an fsync that failed has left on disk is unknown, and trying
			// again would report success for pages the kernel has dropped. Only
			// reading everything again at Open can tell.
			err = l.fail(err)
		} else if n := t.size() - before; n > 0 {
			l.cfg.Log.Debug("integrated", "entries", n, "size", t.size(), "took", l.cfg.Now().Sub(start))
		}
	}
	for _, p := range batch {
		if err != nil {
			p.done <- result{err: err}
			continue
		}
		p.done <- result{index: p.index, fresh: p.fresh, tree: t}
	}
}

// fail stops the log.
func (l *Log) fail(err error) error {
	err = fmt.Errorf("the transparency log has stopped: it could not read or write its folder: %w", err)
	l.failure.Store(&err)
	l.cfg.Log.Error("transparency log stopped", "error", err)
	return err
}

// commit makes what is new in the batch durable and publishes it. The order is
// the whole safety argument: entries (and times), fsync, checkpoint (atomically), fsync,
// and only then is anything shown to anyone.
func (l *Log) commit(batch []*pending) (*tree, error) {
	old := l.published.Load()
	leaves, data, lengths, err := number(old, batch)
	if errors.As(err, new(*durable.CorruptError)) {
		if err = l.deriveAgain(old, err); err == nil {
			leaves, data, lengths, err = number(old, batch)
		}
	}
	if err != nil || len(leaves) == 0 {
		return old, err
	}
	if err := l.disk.appendEntries(data, old.bytes()); err != nil {
		return nil, err
	}
	t, g := old.extend(leaves, lengths)
	if err := l.stamp(t, len(leaves)); err != nil {
		return nil, err
	}
	// Without fsync: what is derived is made again if it does not survive.
	if err := l.derived.write(old.n, g); err != nil {
		return nil, err
	}
	if err := l.derived.add(old.n, leaves); err != nil {
		return nil, err
	}
	if err := l.onceFilesAreFree(func() error { return l.seal(t) }); err != nil {
		return nil, err
	}
	err = l.keep(t)
	if errors.As(err, new(*durable.CorruptError)) { // a run that was to be merged
		err = l.deriveAgain(t, err)
	}
	if err != nil {
		return nil, err
	}
	if l.cfg.Witnesses == nil {
		l.published.Store(t)
		return t, nil
	}
	lines, late := l.cosignatures(t)
	shown := t.with(lines)
	l.published.Store(shown)
	if more := late.Load(); more != nil { // it came before there was something to upgrade
		l.upgrade(t, *more)
	}
	return shown, nil
}

// deriveAgain makes what is derived of the tree's entries again, beside those who read
// it: where it was not damaged, the same is written in its place. An error means that
// the entries are damaged, or the disk; before it is known that they are not, nothing is
// changed.
func (l *Log) deriveAgain(t *tree, why error) error {
	l.cfg.Log.Warn("what was derived of the log's entries is damaged: deriving it again", "error", why)
	h := &head{size: t.n, bytes: t.end, root: t.root}
	only := func(t *tree, records [][]byte) (*tree, error) {
		next, _ := t.extend(hashRecords(records))
		return next, nil
	}
	if _, err := l.scan(l.derived.empty(), h, only); err != nil {
		return err
	}
	if err := l.derived.index.Reset(); err != nil {
		return err
	}
	if _, err := l.scan(l.derived.empty(), h, l.take); err != nil {
		return err
	}
	l.derived.index.Made()
	select {
	case <-l.derived.damaged: // what somebody met before
	default:
	}
	return nil
}

// heal derives again what a reader has found damaged, and says whether it could. Where
// the entries themselves are damaged, the log goes on: what is damaged is not served.
func (l *Log) heal() bool {
	if l.failed() != nil {
		return false
	}
	err := l.deriveAgain(l.published.Load(), errors.New("a reader has met it"))
	if err == nil || errors.Is(err, ErrClosed) {
		return err == nil
	}
	l.cfg.Log.Error("the log's entries are damaged, too, or cannot be read; hallmark authority check says which", "error", err)
	if l.derived.index.Unmade() {
		_ = l.fail(err)
	}
	return false
}

// number gives each of the batch its place in the log: where it is already, or behind
// the old tree's end. What is new is returned as it will be appended.
func number(old *tree, batch []*pending) (leaves []tlog.Hash, data []byte, lengths []int, err error) {
	fresh := make(map[tlog.Hash]int64, len(batch))
	for _, p := range batch {
		found := false
		p.fresh = false
		if p.index, found = fresh[p.leaf]; found {
			continue
		}
		if p.index, found, err = old.find(p.leaf); err != nil {
			return nil, nil, nil, err
		} else if found {
			continue
		}
		p.index, p.fresh = old.n+int64(len(leaves)), true
		fresh[p.leaf] = p.index
		leaves = append(leaves, p.leaf)
		data = binary.BigEndian.AppendUint16(data, uint16(len(p.entry)))
		data = append(data, p.entry...)
		lengths = append(lengths, len(p.entry))
	}
	return leaves, data, lengths, nil
}

// cosignatures are the signature lines of the witnesses that cosign t in time. When
// others come later, late has all, and they are shown too.
func (l *Log) cosignatures(t *tree) (lines []byte, late *atomic.Pointer[[]byte]) {
	late = new(atomic.Pointer[[]byte])
	return l.cfg.Witnesses.Cosign(witness.Checkpoint{
		Note:  t.note,
		Size:  t.size(),
		Prove: func(old int64) (tlog.TreeProof, error) { return t.consistency(old, t.size()) },
		Late: func(lines []byte) {
			late.Store(&lines)
			l.upgrade(t, lines)
		},
	}), late
}

// upgrade shows t's checkpoint with more cosignatures, if t is still what is shown.
func (l *Log) upgrade(t *tree, lines []byte) {
	for {
		shown := l.published.Load()
		if shown.size() != t.size() || len(t.note)+len(lines) <= len(shown.note) || l.published.CompareAndSwap(shown, t.with(lines)) {
			return
		}
	}
}

// seal signs the tree and makes its checkpoint the one on disk.
func (l *Log) seal(t *tree) error {
	// c2sp.org/tlog-checkpoint: origin, size, root; no extension lines.
	text := l.cfg.Origin + "\n" + strconv.FormatInt(t.size(), 10) + "\n" +
		base64.StdEncoding.EncodeToString(t.root[:]) + "\n"
	var err error
	if t.note, err = note.Sign(&note.Note{Text: text}, l.signer); err != nil {
		return err
	}
	return l.disk.publish(append(strconv.AppendInt(nil, t.bytes(), 10), t.timesSeal+"\n"+string(t.note)...))
}

// onceFilesAreFree does seal for as long as the process has too many files open.
// Opening a file failed then and nothing else, so nothing is unknown: sealing the
// same tree again does what is still to do.
func (l *Log) onceFilesAreFree(seal func() error) error {
	for told := false; ; told = true {
		err := seal()
		if !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) {
			return err
		}
		if !told {
			l.cfg.Log.Warn("the transparency log waits: too many files are open", "error", err)
		}
		select {
		case <-l.quit:
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}
