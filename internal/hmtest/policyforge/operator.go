package policyforge

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/repokey"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// Origin of the operator's log.
const Origin = "policy.example/v1"

// Operator runs a policy store in memory and may lie. It shares no code with the real one beyond
// the format. It is a translog.Source.
type Operator struct {
	Log, Clock ed25519.PrivateKey
	Witnesses  map[string]ed25519.PrivateKey // by name
	Files      map[string][]byte

	// Lies, all optional: lines of the map, the closing leaf, and cosignature lines for a head's text.
	Map     func(lines []string) []string
	Closing func(ledger.Leaf) []byte
	Cosign  func(text string, at time.Time) string

	leaves [][]byte
	state  *ledger.State
}

// NewOperator is an operator with a clock and two witnesses, a.example and b.example.
func NewOperator() *Operator {
	key := func() ed25519.PrivateKey {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return forge.Must(k, err)
	}
	return &Operator{Log: key(), Clock: key(), Witnesses: map[string]ed25519.PrivateKey{"a.example": key(), "b.example": key()}, Files: map[string][]byte{}, state: &ledger.State{}}
}

// Fork is an operator with the same keys and, up to now, the same log.
func (o *Operator) Fork() *Operator {
	f := *o
	f.Files, f.leaves, f.state = maps.Clone(o.Files), slices.Clone(o.leaves), o.state.Clone()
	return &f
}

// Trust is the trust file of clients: the clock and one of the witnesses.
func (o *Operator) Trust() string {
	public := func(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }
	return fmt.Sprintf("log %s\nwitness clock %s\nwitness a %s\nwitness b %s\ngroup witnesses any a b\ngroup both all clock witnesses\nquorum both\n",
		ledger.VerifierKey(Origin, public(o.Log)), ledger.CosignerKey("clock.example", public(o.Clock)),
		ledger.CosignerKey("a.example", public(o.Witnesses["a.example"])), ledger.CosignerKey("b.example", public(o.Witnesses["b.example"])))
}

// Get is translog.Source.
func (o *Operator) Get(_ context.Context, path string, limit int64) ([]byte, error) {
	data, ok := o.Files[path]
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return slices.Clone(data), nil
}

// Name is translog.Source.
func (o *Operator) Name() string { return "the operator" }

// Append logs a record and stores what it names. Nothing is checked.
func (o *Operator) Append(s *Signed) {
	o.Files[ledger.FilePath("record", string(s.Digest))] = s.File
	for _, data := range s.Evidence {
		e, why := approval.Parse(data)
		if why != nil {
			panic(why)
		}
		o.Files[ledger.FilePath("evidence", e.ID)] = data
	}
	if s.Text != nil {
		o.Files[ledger.FilePath("bundle", string(s.Policy.Bundle))] = s.Text
	}
	l := ledger.Leaf{Kind: ledger.KindRecord, Key: s.Key, Digest: string(s.Digest), Version: s.Version, Action: string(s.Action)}
	if !s.OfOwner() {
		l.Name = repokey.Name(s.Name)
	}
	o.Leaf(l)
}

// Notice logs and stores a notice.
func (o *Operator) Notice(key string, envelope []byte) {
	e, why := approval.Parse(envelope)
	if why != nil {
		panic(why)
	}
	o.Files[ledger.FilePath("notice", e.ID)] = envelope
	o.Leaf(ledger.Leaf{Kind: ledger.KindNotice, Key: key, Digest: e.ID})
	list := ledger.NoticeList(o.state.NoticesOf(key))
	o.Files[ledger.FilePath("notices", ledger.DigestOf(list))] = list
}

// Leaf logs a leaf. One that breaks the log's rules is logged, too, and not in the map.
func (o *Operator) Leaf(l ledger.Leaf) {
	if err := o.state.Apply(l); err != nil {
		_ = o.state.Apply(ledger.Leaf{Kind: ledger.KindMap, Size: o.state.Size()})
	}
	o.leaves = append(o.leaves, l.Bytes())
}

// Spoil logs bytes that are no leaf.
func (o *Operator) Spoil(data []byte) {
	_ = o.state.Apply(ledger.Leaf{Kind: ledger.KindMap, Size: o.state.Size()})
	o.leaves = append(o.leaves, data)
}

// Size is how many leaves there are.
func (o *Operator) Size() int64 { return int64(len(o.leaves)) }

// Publish closes the log with a map and shows a head that is cosigned at a time.
func (o *Operator) Publish(at time.Time) {
	size := o.Size()
	shard := o.state.Map(0).Shards[0]
	if o.Map != nil {
		lines := o.Map(strings.SplitAfter(string(shard), "\n"))
		shard = []byte(strings.Join(lines, ""))
	}
	root := tlog.RecordHash(shard)
	closing := ledger.Leaf{Kind: ledger.KindMap, Size: size, Root: base64.StdEncoding.EncodeToString(root[:])}
	o.Files[ledger.ShardPath(size, 0)], o.Files[ledger.ProofPath(size, 0)] = shard, nil
	data := closing.Bytes()
	if o.Closing != nil {
		data = o.Closing(closing)
	}
	o.Spoil(data)
	o.tiles()
	for i := size - 1; i >= 0; i-- {
		l, err := ledger.ParseLeaf(o.leaves[i])
		if err == nil && l.Kind == ledger.KindMap {
			break
		}
		if err == nil && l.Kind == ledger.KindRecord {
			o.Files[ledger.LoggedPath(l.Digest)] = ledger.Logged(i, o.Size())
		}
	}
	o.Show(at)
	o.Files[ledger.HeadPath(o.Size())] = o.Files[ledger.CheckpointPath]
}

// Show cosigns the present head anew.
func (o *Operator) Show(at time.Time) { o.Files[ledger.CheckpointPath] = o.Head(at) }

// Head is the present head, cosigned at a time.
func (o *Operator) Head(at time.Time) []byte {
	signed := ledger.Sign(Origin, o.Log, o.Size(), o.Root(o.Size()))
	text, _, _ := strings.Cut(string(signed), "\n\n")
	text += "\n"
	if o.Cosign != nil {
		return append(signed, o.Cosign(text, at)...)
	}
	signed = append(signed, ledger.Cosign("clock.example", o.Clock, text, at)...)
	return append(signed, ledger.Cosign("a.example", o.Witnesses["a.example"], text, at)...)
}

func (o *Operator) hashes() []tlog.Hash {
	var hashes []tlog.Hash
	for i, data := range o.leaves {
		hashes = append(hashes, forge.Must(tlog.StoredHashes(int64(i), data, reader(hashes)))...)
	}
	return hashes
}

func reader(hashes []tlog.Hash) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, hashes[i])
		}
		return out, nil
	})
}

// Root is the root of the first leaves.
func (o *Operator) Root(size int64) tlog.Hash {
	return forge.Must(tlog.TreeHash(size, reader(o.hashes())))
}

func (o *Operator) tiles() {
	size, hashes := o.Size(), o.hashes()
	for _, t := range tlog.NewTiles(8, 0, size) {
		o.Files[translog.TilePath(t)] = forge.Must(tlog.ReadTileData(t, reader(hashes)))
	}
	for n := int64(0); n*translog.Width < size; n++ {
		w := min(translog.Width, size-n*translog.Width)
		var bundle []byte
		for _, data := range o.leaves[n*translog.Width:][:w] {
			bundle = append(append(bundle, byte(len(data)>>8), byte(len(data))), data...)
		}
		o.Files[translog.TilePath(tlog.Tile{H: 8, L: -1, N: n, W: int(w)})] = bundle
	}
}
