package tuf

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// staleness is the first role, from the root down, that must be signed again;
// all roles below it follow.
type staleness int

const (
	fresh staleness = iota
	staleTimestamp
	staleSnapshot
	staleTargets
	staleRoot
)

func (s staleness) String() string {
	return [...]string{"nothing", "timestamp", "snapshot", "targets", "root"}[s]
}

// stale looks at half of each life.
func (st *state) stale(now time.Time) (staleness, error) {
	old := func(expires time.Time, life time.Duration) bool { return expires.Sub(now) < life/2 }
	root, err := metadata.Root().FromBytes(st.Roots[len(st.Roots)-1])
	if err != nil {
		return fresh, err
	}
	targets, err := metadata.Targets().FromBytes(last(st.Targets).Data)
	if err != nil {
		return fresh, err
	}
	snapshot, err := metadata.Snapshot().FromBytes(last(st.Snapshots).Data)
	if err != nil {
		return fresh, err
	}
	timestamp, err := metadata.Timestamp().FromBytes(st.Timestamp)
	if err != nil {
		return fresh, err
	}
	switch {
	case old(root.Signed.Expires, rootLife):
		return staleRoot, nil
	case old(targets.Signed.Expires, targetsLife):
		return staleTargets, nil
	case old(snapshot.Signed.Expires, snapshotLife):
		return staleSnapshot, nil
	case old(timestamp.Signed.Expires, timestampLife):
		return staleTimestamp, nil
	}
	return fresh, nil
}

// resign signs the given role and all below it again, with the same content.
func (st *state) resign(from staleness, now time.Time) error {
	switch from {
	case fresh:
		return nil
	case staleTimestamp:
		return st.signTimestamp(now)
	case staleSnapshot:
		return st.signSnapshot(now)
	case staleRoot:
		root, err := metadata.Root().FromBytes(st.Roots[len(st.Roots)-1])
		if err != nil {
			return err
		}
		root.ClearSignatures()
		root.Signed.Version++
		root.Signed.Expires = now.Add(rootLife)
		if err := st.appendRoot(root); err != nil {
			return err
		}
	}
	md, err := metadata.Targets().FromBytes(last(st.Targets).Data)
	if err != nil {
		return err
	}
	return st.signTargets(md, now)
}

// after is the version that follows one.
func (st *state) after(version int64) int64 { return max(version+1, st.least) }

// Restored signs targets, snapshot and timestamp of the repository in dir, which came
// from a backup, again: with versions that the original cannot have reached since, nor a
// repository that was restored from the same backup before. They are the millisecond in
// Unix time: nobody publishes more often than that for long, and 2^53, above which
// some JSON readers round, is far.
// Clients refuse a version lower than one that they saw, and one that they saw with
// other content (specification 5.4.3 and 5.4.4). Root versions have no gaps: a root
// that was signed after the backup is lost with its key.
func Restored(dir string, now time.Time) error {
	path := filepath.Join(dir, fileName)
	st, err := load(path)
	if err == nil && st == nil {
		err = fmt.Errorf("%s is missing", path)
	}
	if err != nil {
		return fmt.Errorf("TUF repository: %w", err)
	}
	st.least = now.UnixMilli()
	if err := st.resign(staleTargets, now.UTC().Truncate(time.Second)); err != nil {
		return fmt.Errorf("TUF repository: %w", err)
	}
	st.prune()
	if err := st.verify(); err != nil {
		return fmt.Errorf("TUF repository: what was signed does not verify: %w", err)
	}
	return st.save(path)
}
