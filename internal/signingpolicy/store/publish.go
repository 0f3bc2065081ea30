package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// Publish shows a head that covers all that was appended, cosigned now. Without news it is the
// same head, cosigned anew: call it often, because readers refuse heads that are old. Without the
// quorum what was shown before stays.
func (s *Store) Publish(ctx context.Context) (*ledger.Head, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return nil, s.failed
	}
	if len(s.queue) > 0 || s.size == 0 {
		if err := s.integrate(); err != nil {
			s.failed = fmt.Errorf("policy store: writing failed, open it again: %w", err)
			return nil, s.failed
		}
	}
	if err := s.emptyQueue(); err != nil {
		return nil, err
	}
	signed, head, err := s.cosigned()
	if err != nil {
		return nil, err
	}
	first := s.path(ledger.HeadPath(head.Size))
	if _, err := os.Stat(first); errors.Is(err, fs.ErrNotExist) {
		if err := s.write(map[string][]byte{ledger.HeadPath(head.Size): signed}); err != nil {
			return nil, fmt.Errorf("policy store: %w", err)
		}
	}
	if err := durable.WriteFile(s.path(ledger.CheckpointPath), signed, 0o644); err != nil {
		return nil, fmt.Errorf("policy store: %w", err)
	}
	return head, nil
}

// integrate writes the queue's leaves, the map and the closing leaf, and signs the head. What it
// wrote before the head is signed may be written over the next time.
func (s *Store) integrate() error {
	before := s.size
	first := before - int64(len(s.last)) // of the bundle that is not full
	leaves := append([][]byte(nil), s.last...)
	files := map[string][]byte{}
	end := before + int64(len(s.queue)) + 1
	for i, l := range s.queue {
		leaves = append(leaves, l.Bytes())
		switch l.Kind {
		case ledger.KindRecord:
			files[ledger.LoggedPath(l.Digest)] = ledger.Logged(before+int64(i), end)
		case ledger.KindNotice:
			list := ledger.NoticeList(s.state.NoticesOf(l.Key))
			files[ledger.FilePath("notices", ledger.DigestOf(list))] = list
		}
	}
	m := s.state.Map(s.state.ShardBits())
	closing := m.Leaf(s.state.Size())
	leaves = append(leaves, closing.Bytes())
	if err := s.writeMap(m, closing.Size); err != nil {
		return err
	}
	for _, data := range leaves[before-first:] {
		if err := s.add(data); err != nil {
			return err
		}
	}
	if err := s.tiles(files, before, first, leaves); err != nil {
		return err
	}
	if err := s.write(files); err != nil {
		return err
	}
	root, err := tlog.TreeHash(s.size, s.reader())
	if err != nil {
		return err
	}
	if err := s.state.Apply(closing); err != nil {
		return err
	}
	s.head, s.queue = ledger.Sign(s.cfg.Origin, s.cfg.Key, s.size, root), nil
	return durable.WriteSealed(s.path(headName), s.head, 0o644)
}

// tiles are the tiles and bundles that changed; leaves are those from the first one on.
func (s *Store) tiles(files map[string][]byte, before, first int64, leaves [][]byte) error {
	for _, t := range tlog.NewTiles(8, before, s.size) {
		data, err := tlog.ReadTileData(t, s.reader())
		if err != nil {
			return err
		}
		files[translog.TilePath(t)] = data
	}
	for n := first / translog.Width; n*translog.Width < s.size; n++ {
		t := tlog.Tile{H: 8, L: -1, N: n, W: int(min(translog.Width, s.size-n*translog.Width))}
		var bundle []byte
		for _, data := range leaves[n*translog.Width-first:][:t.W] {
			bundle = append(append(bundle, byte(len(data)>>8), byte(len(data))), data...)
		}
		files[translog.TilePath(t)] = bundle
	}
	return nil
}

// writeMap writes all shards with their proofs beside, and gives them their name when they are on
// disk.
func (s *Store) writeMap(m *ledger.Map, n int64) error {
	final := s.path(fmt.Sprintf("map/%d", n))
	made := s.path("map/.made")
	for _, d := range []string{made, final} { // what an end in between has left
		if err := os.RemoveAll(d); err != nil {
			return err
		}
	}
	if err := durable.MkdirAll(filepath.Join(made, "proof"), 0o755); err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(16)
	for i, shard := range m.Shards {
		g.Go(func() error {
			if err := writeSync(filepath.Join(made, fmt.Sprint(i)), shard); err != nil {
				return err
			}
			return writeSync(filepath.Join(made, "proof", fmt.Sprint(i)), m.Proof(i))
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, d := range []string{filepath.Join(made, "proof"), made} {
		if err := durable.SyncDir(d); err != nil {
			return err
		}
	}
	if err := os.Rename(made, final); err != nil {
		return err
	}
	return durable.SyncDir(s.path("map"))
}

// writeSync writes a file whose name nobody knows yet.
func writeSync(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func (s *Store) emptyQueue() error {
	if len(s.files) == 0 {
		return nil
	}
	for _, name := range s.files {
		if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("policy store: %w", err)
		}
	}
	s.files = nil
	return durable.SyncDir(s.path(queueDir))
}

// cosigned is the newest head with cosignatures of now.
func (s *Store) cosigned() ([]byte, *ledger.Head, error) {
	h, err := ledger.ParseHead(s.log, s.head)
	if err != nil {
		return nil, nil, err
	}
	signed := append([]byte(nil), s.head...)
	signed = append(signed, ledger.Cosign(s.cfg.ClockName, s.cfg.Clock, h.Text(), s.cfg.Now())...)
	if s.cfg.Witnesses != nil {
		signed = append(signed, s.cfg.Witnesses.Cosign(witness.Checkpoint{Note: s.head, Size: h.Size, Prove: s.prove(h.Size)})...)
	}
	if h, err = ledger.ParseHead(s.log, signed); err != nil {
		return nil, nil, err
	}
	if s.cfg.Quorum != (ledger.Quorum{}) {
		if _, err := h.Time(s.cfg.Quorum); err != nil {
			return nil, nil, err
		}
	}
	return signed, h, nil
}

// prove proves consistency with a smaller tree, also after the store went on: a witness may be late.
func (s *Store) prove(size int64) func(old int64) (tlog.TreeProof, error) {
	then := reader(s.hashes)
	return func(old int64) (tlog.TreeProof, error) { return tlog.ProveTree(size, old, then) }
}

// Age is how long ago the operator's clock cosigned what is shown.
func (s *Store) Age() (time.Duration, error) {
	signed, err := os.ReadFile(s.path(ledger.CheckpointPath))
	if err != nil {
		return 0, err
	}
	h, err := ledger.ParseHead(s.log, signed)
	if err != nil {
		return 0, err
	}
	at, err := h.Time(s.cfg.Quorum)
	return s.cfg.Now().Sub(at), err
}
