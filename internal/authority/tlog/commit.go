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
		case <-l.unfinished.again():
			l.lookAgain()
			continue
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
		} else if passes(err) {
			// Nothing is unknown of the disk: the tree waits for its signature, or what
			// there was no room for was taken back.
		} else if err != nil {
			// What an fsync that failed has left on disk is unknown, and trying
			// again would report success for pages the kernel has dropped. Only
			// reading everything again at Open can tell.
			err = l.fail(err)
		} else if n := t.size() - before; n > 0 {
			l.cfg.Log.Debug("integrated", "entries", n, "size", t.size(), "took", l.cfg.Now().Sub(start))
		}
	}
	shown := l.published.Load()
	for _, p := range batch {
		if passes(err) { // what is in the log is there for who asks again
			if index, found, ferr := shown.find(p.leaf); ferr == nil && found {
				p.done <- result{index: index, tree: shown}
				continue
			}
		}
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
//
// A signer that fails is a *SignerError, and leaves a tree that is written and unsigned.
// It is signed before anything else is written, so that while this process runs one tree of
// each size is ever signed, whatever a signer that did not answer may have done. Its entries stay
// in the log although they were refused; who submits one again finds it. What a restart finds
// unsigned it drops: nobody was given the signature that it may have.
func (l *Log) commit(batch []*pending) (*tree, error) {
	if err := l.finishFirst(); err != nil {
		return nil, err
	}
	old := l.published.Load()
	if err := l.derived.index.Room(); durable.NoRoom(err) {
		return nil, l.noRoom(&RoomError{err})
	}
	leaves, data, lengths, err := number(old, batch)
	if errors.As(err, new(*durable.CorruptError)) {
		if err = l.deriveAgain(old, err); err == nil {
			leaves, data, lengths, err = number(old, batch)
		}
	}
	if err != nil || len(leaves) == 0 {
		return old, err
	}
	t, err := l.write(old, data, leaves, lengths)
	if durable.NoRoom(err) {
		return nil, l.noRoom(l.takeBack(old, err))
	} else if err != nil {
		return nil, err
	}
	if err := l.derived.add(old.n, leaves); err != nil {
		return nil, err
	}
	return l.publish(t)
}

// write is the tree with more entries, which are on disk then.
func (l *Log) write(old *tree, data []byte, leaves []tlog.Hash, lengths []int) (*tree, error) {
	if err := l.disk.appendEntries(data, old.bytes()); err != nil {
		return nil, err
	}
	t, g := old.extend(leaves, lengths)
	// Without fsync: what is derived is made again if it does not survive.
	if err := l.disk.writeDerived(old.n, g); err != nil {
		return nil, err
	}
	return t, l.stamp(t, len(leaves))
}

// noRoom remembers that the disk has no room, and looks again after a while.
func (l *Log) noRoom(err error) error {
	if errors.As(err, new(*RoomError)) {
		l.setFull(err)
		l.unfinished.set(l.unfinished.tree, err)
	}
	return err
}

// publish signs a tree that is written and shows it.
func (l *Log) publish(t *tree) (*tree, error) {
	if t.note == nil {
		if err := l.sign(t); err != nil {
			l.unfinished.set(t, err)
			l.setAway(err)
			return nil, err
		}
	}
	l.setAway(nil)
	if err := l.onceFilesAreFree(func() error { return l.seal(t) }); durable.NoRoom(err) {
		l.unfinished.tree = t
		return nil, l.noRoom(&RoomError{err})
	} else if err != nil {
		return nil, err
	}
	l.unfinished.set(nil, nil)
	err := l.keep(t)
	if errors.As(err, new(*durable.CorruptError)) { // a run that was to be merged
		err = l.deriveAgain(t, err)
	}
	if err != nil {
		return nil, err
	}
	if l.cfg.Witnesses == nil {
		l.published.Store(t)
		l.setFull(nil) // not before what waited is shown
		return t, nil
	}
	lines, late := l.cosignatures(t)
	shown := t.with(lines)
	l.published.Store(shown)
	l.setFull(nil)
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
	newest := l.published.Load()
	if l.unfinished.tree != nil {
		newest = l.unfinished.tree
	}
	err := l.deriveAgain(newest, errors.New("a reader has met it"))
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

// sign signs the tree: its checkpoint, and its times.
func (l *Log) sign(t *tree) error {
	if err := l.sealTimes(t); err != nil {
		return err
	}
	// c2sp.org/tlog-checkpoint: origin, size, root; no extension lines.
	text := l.cfg.Origin + "\n" + strconv.FormatInt(t.size(), 10) + "\n" +
		base64.StdEncoding.EncodeToString(t.root[:]) + "\n"
	var err error
	t.note, err = note.Sign(&note.Note{Text: text}, l.signer)
	return err
}

// seal makes the checkpoint of a signed tree the one on disk.
func (l *Log) seal(t *tree) error {
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
