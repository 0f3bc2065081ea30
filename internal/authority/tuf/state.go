package tuf

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strconv"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/hallmark-dev/hallmark/internal/durable"
)

// state is the repository: what is in the sealed file.
type state struct {
	Keys      map[string][]byte `json:"keys"`  // role to Ed25519 seed
	Roots     [][]byte          `json:"roots"` // Roots[i] has version i+1; none is ever dropped
	Timestamp []byte            `json:"timestamp"`
	// The newest is last. Older ones are kept for clients in the middle of an update.
	Snapshots []versioned       `json:"snapshots"`
	Targets   []versioned       `json:"targets"`
	Files     map[string][]byte `json:"files"` // "<sha256>.<name>" to content

	least int64 // versions that are signed are at least this one
}

type versioned struct {
	Version int64  `json:"version"`
	Data    []byte `json:"data"`
}

// keep is how many snapshots and targets are kept.
const keep = 8

// roles are the top-level roles, each with a key of its own.
func roles() []string {
	return []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP}
}

// load is nil, nil when there is no repository yet.
func load(path string) (*state, error) {
	data, err := durable.ReadSealed(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	st := new(state)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(st); err != nil {
		return nil, &durable.CorruptError{Path: path, Why: "it is not a repository"}
	}
	if err := st.verify(); err != nil {
		return nil, &durable.CorruptError{Path: path, Why: err.Error()}
	}
	return st, nil
}

func (st *state) save(path string) error {
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return durable.WriteSealed(path, data, 0o600)
}

// clone is deep enough: byte slices are replaced, never written to.
func (st *state) clone() *state {
	if st == nil {
		return &state{Keys: map[string][]byte{}, Files: map[string][]byte{}}
	}
	next := *st
	next.Keys, next.Files = maps.Clone(st.Keys), maps.Clone(st.Files)
	next.Roots = append([][]byte(nil), st.Roots...)
	next.Snapshots = append([]versioned(nil), st.Snapshots...)
	next.Targets = append([]versioned(nil), st.Targets...)
	return &next
}

// verify is the client's workflow (specification 5.3-5.7) without expiry, which
// Open repairs.
func (st *state) verify() error {
	if len(st.Roots) == 0 || len(st.Snapshots) == 0 || len(st.Targets) == 0 {
		return errors.New("a role has no metadata")
	}
	trusted, err := trustedmetadata.New(st.Roots[0])
	if err != nil {
		return fmt.Errorf("1.root.json: %w", err)
	}
	trusted.RefTime = time.Unix(0, 0)
	for i, root := range st.Roots[1:] {
		if _, err := trusted.UpdateRoot(root); err != nil {
			return fmt.Errorf("%d.root.json: %w", i+2, err)
		}
	}
	if _, err := trusted.UpdateTimestamp(st.Timestamp); err != nil {
		return fmt.Errorf("timestamp.json: %w", err)
	}
	if _, err := trusted.UpdateSnapshot(last(st.Snapshots).Data, false); err != nil {
		return fmt.Errorf("snapshot.json: %w", err)
	}
	targets, err := trusted.UpdateTargets(last(st.Targets).Data)
	if err != nil {
		return fmt.Errorf("targets.json: %w", err)
	}
	for name, info := range targets.Signed.Targets {
		data, ok := st.Files[hashedName(name, info)]
		if !ok {
			return fmt.Errorf("%s: %w", name, errNoTarget)
		}
		if err := info.VerifyLengthHashes(data); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func last(v []versioned) versioned { return v[len(v)-1] }

func hashedName(name string, info *metadata.TargetFiles) string {
	return hex.EncodeToString(info.Hashes["sha256"]) + "." + name
}

// files is what is served, by path.
func (st *state) files() map[string][]byte {
	out := map[string][]byte{"root.json": st.Roots[len(st.Roots)-1], "timestamp.json": st.Timestamp}
	for i, root := range st.Roots {
		out[strconv.Itoa(i+1)+".root.json"] = root
	}
	for _, s := range st.Snapshots {
		out[strconv.FormatInt(s.Version, 10)+".snapshot.json"] = s.Data
	}
	for _, t := range st.Targets {
		out[strconv.FormatInt(t.Version, 10)+".targets.json"] = t.Data
	}
	for name, data := range st.Files {
		out["targets/"+name] = data
	}
	return out
}

// prune forgets old snapshots and targets and the files that only they name.
func (st *state) prune() {
	st.Snapshots = st.Snapshots[max(0, len(st.Snapshots)-keep):]
	st.Targets = st.Targets[max(0, len(st.Targets)-keep):]
	named := map[string]bool{}
	for _, t := range st.Targets {
		md, err := metadata.Targets().FromBytes(t.Data)
		if err != nil {
			return // verify will say what is wrong with the newest; nothing is lost
		}
		for name, info := range md.Signed.Targets {
			named[hashedName(name, info)] = true
		}
	}
	maps.DeleteFunc(st.Files, func(name string, _ []byte) bool { return !named[name] })
}

// create makes a repository with new keys and no targets.
func create(st *state, now time.Time) error {
	root := metadata.Root(now.Add(rootLife))
	if err := st.newKeys(root); err != nil {
		return err
	}
	if err := st.appendRoot(root); err != nil {
		return err
	}
	return st.publish(nil, nil, now)
}

// newKeys makes a key for each role and puts them into root.
func (st *state) newKeys(root *metadata.Metadata[metadata.RootType]) error {
	for _, role := range roles() {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		st.Keys[role] = key.Seed()
		k, err := metadata.KeyFromPublicKey(pub)
		if err != nil {
			return err
		}
		if err := root.Signed.AddKey(k, role); err != nil {
			return err
		}
	}
	return nil
}

func (st *state) appendRoot(root *metadata.Metadata[metadata.RootType]) error {
	if err := sign(root, st.Keys[metadata.ROOT]); err != nil {
		return err
	}
	data, err := root.ToBytes(false)
	st.Roots = append(st.Roots, data)
	return err
}

// rotate signs a root with new keys by the old root key and the new one
// (specification 6.1), then everything else by the new keys.
func rotate(st *state, now time.Time) error {
	root := metadata.Root(now.Add(rootLife))
	root.Signed.Version = int64(len(st.Roots)) + 1
	oldKey := st.Keys[metadata.ROOT]
	if err := st.newKeys(root); err != nil {
		return err
	}
	if err := sign(root, oldKey); err != nil {
		return err
	}
	if err := st.appendRoot(root); err != nil {
		return err
	}
	return st.resign(staleTargets, now)
}

// sign adds a signature over the canonical JSON of md's signed part.
func sign[T metadata.Roles](md *metadata.Metadata[T], seed []byte) error {
	if len(seed) != ed25519.SeedSize {
		return errors.New("a role has no key")
	}
	key := ed25519.NewKeyFromSeed(seed)
	k, err := metadata.KeyFromPublicKey(key.Public())
	if err != nil {
		return err
	}
	id, err := k.ID()
	if err != nil {
		return err
	}
	payload, err := cjson.EncodeCanonical(md.Signed)
	if err != nil {
		return err
	}
	md.Signatures = append(md.Signatures, metadata.Signature{KeyID: id, Signature: ed25519.Sign(key, payload)})
	return nil
}

// versions are those of the newest metadata.
func (st *state) versions() (Versions, error) {
	v := Versions{Root: int64(len(st.Roots)), Targets: last(st.Targets).Version, Snapshot: last(st.Snapshots).Version}
	md, err := metadata.Timestamp().FromBytes(st.Timestamp)
	if err != nil {
		return v, err
	}
	v.Timestamp = md.Signed.Version
	return v, nil
}

// holds tells whether targets are what the newest targets metadata names, and says
// of them.
func (st *state) holds(targets map[string][]byte, custom map[string]json.RawMessage) (bool, error) {
	md, err := metadata.Targets().FromBytes(last(st.Targets).Data)
	if err != nil {
		return false, err
	}
	if len(md.Signed.Targets) != len(targets) {
		return false, nil
	}
	for name, data := range targets {
		sum := sha256.Sum256(data)
		info, ok := md.Signed.Targets[name]
		if !ok || !bytes.Equal(info.Hashes["sha256"], sum[:]) || !sameCustom(info.Custom, custom[name]) {
			return false, nil
		}
	}
	return true, nil
}

// sameCustom compares what metadata says with what it is to say, whatever the spaces.
func sameCustom(have *json.RawMessage, want json.RawMessage) bool {
	if have == nil || want == nil {
		return have == nil && want == nil
	}
	var a, b bytes.Buffer
	return json.Compact(&a, *have) == nil && json.Compact(&b, want) == nil && bytes.Equal(a.Bytes(), b.Bytes())
}

// publish signs new targets and all that depends on them.
func (st *state) publish(targets map[string][]byte, custom map[string]json.RawMessage, now time.Time) error {
	md := metadata.Targets(now.Add(targetsLife))
	for name, data := range targets {
		info, err := metadata.TargetFile().FromBytes(name, data, "sha256")
		if err != nil {
			return err
		}
		if c, ok := custom[name]; ok {
			info.Custom = &c
		}
		md.Signed.Targets[name] = info
		st.Files[hashedName(name, info)] = bytes.Clone(data)
	}
	return st.signTargets(md, now)
}

func (st *state) signTargets(md *metadata.Metadata[metadata.TargetsType], now time.Time) error {
	if len(st.Targets) > 0 {
		md.Signed.Version = st.after(last(st.Targets).Version)
	}
	md.Signed.Expires = now.Add(targetsLife)
	md.ClearSignatures()
	if err := sign(md, st.Keys[metadata.TARGETS]); err != nil {
		return err
	}
	data, err := md.ToBytes(false)
	if err != nil {
		return err
	}
	st.Targets = append(st.Targets, versioned{md.Signed.Version, data})
	return st.signSnapshot(now)
}

// meta names a version of a file with its length and hash.
func meta(v versioned) *metadata.MetaFiles {
	m := metadata.MetaFile(v.Version)
	sum := sha256.Sum256(v.Data)
	m.Length, m.Hashes = int64(len(v.Data)), metadata.Hashes{"sha256": sum[:]}
	return m
}

func (st *state) signSnapshot(now time.Time) error {
	md := metadata.Snapshot(now.Add(snapshotLife))
	if len(st.Snapshots) > 0 {
		md.Signed.Version = st.after(last(st.Snapshots).Version)
	}
	md.Signed.Meta["targets.json"] = meta(last(st.Targets))
	if err := sign(md, st.Keys[metadata.SNAPSHOT]); err != nil {
		return err
	}
	data, err := md.ToBytes(false)
	if err != nil {
		return err
	}
	st.Snapshots = append(st.Snapshots, versioned{md.Signed.Version, data})
	return st.signTimestamp(now)
}

func (st *state) signTimestamp(now time.Time) error {
	md := metadata.Timestamp(now.Add(timestampLife))
	if st.Timestamp != nil {
		old, err := metadata.Timestamp().FromBytes(st.Timestamp)
		if err != nil {
			return err
		}
		md.Signed.Version = st.after(old.Signed.Version)
	}
	md.Signed.Meta["snapshot.json"] = meta(last(st.Snapshots))
	if err := sign(md, st.Keys[metadata.TIMESTAMP]); err != nil {
		return err
	}
	var err error
	st.Timestamp, err = md.ToBytes(false)
	return err
}
