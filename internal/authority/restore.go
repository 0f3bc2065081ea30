package authority

import (
	"archive/tar"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/hallmark-dev/hallmark/internal/authority/rekorv1"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// RestoreOptions say what is known of the logs since the backup. A log that went
// on from an older state would sign other entries under numbers that it has given
// away: everyone who kept a checkpoint could prove that it forked.
type RestoreOptions struct {
	// Checkpoints are the newest that anyone kept, at most one of each log: a
	// monitor, a mirror, a witness, a bundle.
	Checkpoints [][]byte
	// Mirror is a copy of the log in the form of C2SP tlog-tiles, from which the
	// entries since the backup are taken; nil: none.
	Mirror fs.FS
	// OpenKey opens the keys that are kept elsewhere; needed where a log has such a one.
	OpenKey OpenKey
	// NothingSince is the operator's word that the logs of which there is no
	// checkpoint here published nothing after the backup.
	NothingSince bool
	// EndTrees is for when nobody has that word, or the entries: a log of which there is no
	// checkpoint here, or that stays behind its own, is never written to again, and a tree
	// of a new key begins. What it signed after the backup stays believed.
	EndTrees bool
	// LogName is the host name of the log's new tree, as [RotateConfig] has it.
	LogName string
}

// Restored is what a backup became.
type Restored struct {
	*Checked       // Damage is only what names content that was deleted
	Taken    int64 // entries from the mirror
	// Ended are the logs, [ServiceLog] and [ServiceLogV1], in which a new tree begins.
	Ended []string
}

// Restore makes a data folder from a backup. dir must not exist, or be empty; it
// appears when everything in it was checked and is on disk, and else not at all.
// Modified archives are not believed: what is in them is checked as [Check] does.
func Restore(r io.Reader, dir string, o RestoreOptions) (_ *Restored, err error) {
	switch {
	case o.NothingSince && o.EndTrees:
		return nil, fault.Usagef("a log that published nothing since the backup goes on; its tree need not end")
	case o.LogName != "" && !o.EndTrees:
		return nil, fault.Usagef("a name is for the log's new tree, and none is to begin")
	case len(o.Checkpoints) == 0 && !o.NothingSince && !o.EndTrees:
		return nil, fault.Usagef("either the newest checkpoint that is known of each log is given, or the word that it published nothing since the backup, or its tree is to end")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, fault.Usagef("%s is not empty: a backup is restored into a new folder", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := durable.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, unwritable(filepath.Dir(dir), err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".restore-*")
	if err != nil {
		return nil, unwritable(filepath.Dir(dir), err)
	}
	defer func() {
		if err != nil {
			err = wayOut(errors.Join(err, os.RemoveAll(tmp)))
		}
	}()
	if err := extract(tar.NewReader(r), tmp); err != nil {
		return nil, err
	}
	out := new(Restored)
	if out.Checked, err = Check(tmp); err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(out.Damage, func(d durable.Damage) bool { return !d.Lost }); i >= 0 {
		return nil, fmt.Errorf("the backup is damaged: %s", out.Damage[i])
	}
	if out.Taken, out.Ended, err = catchUp(tmp, o); err != nil {
		return nil, err
	}
	for _, service := range out.Ended {
		if err := endTree(tmp, service, o); err != nil {
			return nil, err
		}
	}
	if err := tuf.Restored(filepath.Join(tmp, tufDir), time.Now()); err != nil {
		return nil, err
	}
	out.Entries += out.Taken
	if out.Info, err = info(out.Info.URL, out.Info.Host, dir); err != nil {
		return nil, err
	}
	// An empty folder may be in the way; one with something in it is not removed.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return nil, err
	}
	return out, durable.SyncDir(filepath.Dir(dir))
}

// endTree closes all trees of a log and begins another.
func endTree(dir, service string, o RestoreOptions) error {
	cfg := RotateConfig{Dir: dir, Service: service, OpenKey: o.OpenKey, ends: true}
	if service == ServiceLog {
		cfg.Name = o.LogName
	}
	r, err := Rotate(cfg)
	if err == nil && r.Resumed { // the backup has one that was interrupted, which ends nothing
		_, err = Rotate(cfg)
	}
	return err
}

// catchUp brings each log, of each of its keys, to its checkpoint, and wants one of
// each or the word that none is needed. ended are the logs that must not go on: with a
// tree that would take entries, and perhaps has given their numbers away.
func catchUp(dir string, o RestoreOptions) (taken int64, ended []string, err error) {
	st, dir, err := readState(dir)
	if err != nil {
		return 0, nil, err
	}
	k := keyring{dir: filepath.Join(dir, keyDir), open: o.OpenKey}
	left := slices.Clone(o.Checkpoints)
	var all []restoring
	for _, service := range []string{ServiceLog, ServiceLogV1} {
		for n := range st.shards(service) {
			if service == ServiceLog && st.Moved.is(n+1) {
				continue // nothing is signed here
			}
			s, err := k.shard(st, dir, service, n+1)
			if err != nil {
				return 0, nil, err
			}
			all = append(all, s)
			i, unknown := slices.IndexFunc(left, s.signed), false
			switch {
			case i >= 0:
				more, err := s.catchUp(left[i], o.Mirror)
				if unknown = o.EndTrees && errors.As(err, new(*tlog.BehindError)); err != nil && !unknown {
					return 0, nil, err
				}
				taken += more
				left = slices.Delete(left, i, i+1)
			case o.EndTrees:
				unknown = true
			case !o.NothingSince:
				return 0, nil, fault.Usagef("no checkpoint of the log %q%s is given, nor the word that it published nothing since the backup", s.origin, ofShard(service, n+1))
			}
			if t := st.termOf(service, n+1); unknown && (t == nil || !t.over(time.Now())) && !slices.Contains(ended, service) {
				ended = append(ended, service)
			}
		}
	}
	if len(left) > 0 {
		return 0, nil, stray(left[0], all)
	}
	return taken, ended, nil
}

// ofShard says which tree of a log is meant, where it has had several.
func ofShard(service string, n int) string {
	if n == 1 {
		return ""
	}
	return ", of its tree in " + shardDir(service, n) + ","
}

// stray says why a checkpoint is of no tree that still wants one.
func stray(checkpoint []byte, all []restoring) error {
	origin, _, _ := strings.Cut(string(checkpoint), "\n")
	named := func(r restoring) bool { return r.origin == origin }
	switch {
	case !slices.ContainsFunc(all, named):
		return fault.Usagef("a checkpoint is of %.80q, which is no log of this backup", origin)
	case !slices.ContainsFunc(all, func(r restoring) bool { return r.signed(checkpoint) }):
		return fault.Usagef("the checkpoint of %.80q is not signed by this log, with none of its keys", origin)
	}
	return fault.Usagef("a checkpoint is of %.80q, of which there is another", origin)
}

// restoring is a log's tree of one key, in a folder that is being restored.
type restoring struct {
	origin  string
	signer  note.Verifier
	catchUp func(checkpoint []byte, mirror fs.FS) (taken int64, err error)
}

// signed reports whether a checkpoint is of this tree: trees of one origin have
// different keys.
func (r restoring) signed(checkpoint []byte) bool {
	if !strings.HasPrefix(string(checkpoint), r.origin+"\n") {
		return false
	}
	_, err := note.Open(checkpoint, note.VerifierList(r.signer))
	return err == nil
}

// shard is a log's nth tree, with the key that signs its checkpoints.
func (k keyring) shard(st *state, dir, service string, n int) (r restoring, err error) {
	var id identity
	if t := st.termOf(service, n); t != nil {
		if id, err = k.restored(service, t, n); err != nil {
			return r, err
		}
	} else if id, err = k.load(keyName(service, n), nil); err != nil {
		return r, err
	}
	folder := filepath.Join(dir, shardDir(service, n))
	if service == ServiceLog {
		signer, err := tlog.NewSigner(st.treeName(n), id.key)
		if err != nil {
			return r, fmt.Errorf("the backup's log key: %w", err)
		}
		return restoring{st.treeName(n), signer, func(checkpoint []byte, mirror fs.FS) (int64, error) {
			taken, err := tlog.CatchUp(folder, tlog.Config{Origin: st.treeName(n), Signer: signer}, checkpoint, mirror)
			return taken, behind(err, "name a mirror of the log that has the entries since (hallmark log mirror makes one)")
		}}, nil
	}
	tree, err := rekorv1.NewTreeID(id.key.Public())
	if err != nil {
		return r, err
	}
	cfg := rekorv1.Config{Host: st.Host, Key: id.key, TreeID: st.treeOf(n, tree)}
	verifier, err := rekorv1.NewVerifier(cfg)
	if err != nil {
		return r, err
	}
	return restoring{rekorv1.Origin(st.Host, cfg.TreeID), verifier, func(checkpoint []byte, _ fs.FS) (int64, error) {
		return 0, behind(rekorv1.CatchUp(folder, cfg, checkpoint), "only a backup that has these entries can be restored: no mirror has the times of the log for older clients")
	}}, nil
}

// restored is the identity of a term whose tree is looked at. The key of one that is over
// is asked for when entries of a mirror are to be signed for: it may be gone for good, and
// where it is not, nobody tries a PIN for nothing.
func (k keyring) restored(service string, t *term, n int) (identity, error) {
	if !t.over(time.Now()) {
		h, err := k.holder(service, t, n, false)
		return h.id, err
	}
	id, err := t.withoutKey()
	if err != nil {
		return id, err
	}
	id.key = whenWanted{id.key, func() (crypto.Signer, error) {
		h, err := k.holder(service, t, n, false)
		return h.id.key, err
	}}
	return id, nil
}

// whenWanted is a key that is opened when it is to sign.
type whenWanted struct {
	crypto.Signer // the public half
	open          func() (crypto.Signer, error)
}

func (w whenWanted) Sign(random io.Reader, data []byte, o crypto.SignerOpts) ([]byte, error) {
	s, err := w.open()
	if err != nil {
		return nil, err
	}
	return s.Sign(random, data, o)
}

// termOf is a service's nth term, nil where the state does not name it.
func (st *state) termOf(service string, n int) *term {
	if all := st.Keys[service]; n <= len(all) {
		return all[n-1]
	}
	return nil
}

func behind(err error, hint string) error {
	if errors.As(err, new(*tlog.BehindError)) {
		return fault.Hint(err, "%s", hint)
	}
	return err
}

// extract writes what Backup wrote: regular files and links to them, with names
// that stay in the folder, everything on disk.
func extract(t *tar.Reader, dir string) error {
	folders, complete := map[string]bool{dir: true}, false
	for !complete {
		h, err := t.Next()
		if err == io.EOF {
			return errors.New("the backup ends early: what wrote it was ended, or its file was cut")
		}
		if err != nil {
			return fmt.Errorf("the backup cannot be read: %w", err)
		}
		if complete = h.Name == endOfBackup; complete {
			break
		}
		path, err := inside(dir, h.Name)
		if err != nil {
			return err
		}
		if path == dir {
			if h.Typeflag == tar.TypeDir {
				continue
			}
			return fmt.Errorf("the backup holds %q, which is the folder itself", h.Name)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		for f := filepath.Dir(path); f != dir; f = filepath.Dir(f) {
			folders[f] = true
		}
		switch h.Typeflag {
		case tar.TypeReg:
			err = extractFile(t, path)
		case tar.TypeDir:
			if err = os.MkdirAll(path, 0o700); err == nil {
				folders[path] = true
			}
		case tar.TypeLink:
			var target string
			if target, err = inside(dir, h.Linkname); err == nil {
				err = os.Link(target, path)
			}
		default:
			err = fmt.Errorf("the backup holds %q, which is neither a file nor a link to one", h.Name)
		}
		if err != nil {
			return err
		}
	}
	for _, f := range slices.Sorted(maps.Keys(folders)) {
		if err := durable.SyncDir(f); err != nil {
			return err
		}
	}
	return nil
}

func inside(dir, name string) (string, error) {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", fmt.Errorf("the backup holds a file named %q, which would lie elsewhere", name)
	}
	return filepath.Join(dir, filepath.FromSlash(name)), nil
}

func extractFile(r io.Reader, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, archiveReader{r}); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil && published(filepath.Base(path)) {
		err = os.Chmod(path, 0o644)
	}
	return err
}

// archiveReader says of its errors that they are the archive's, not the disk's.
type archiveReader struct{ io.Reader }

func (r archiveReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("the backup cannot be read: %w", err)
	}
	return n, err
}

// published reports whether a file is for everyone to read.
func published(name string) bool {
	return slices.Contains([]string{fileTrustedRoot, fileSigningConfig, fileRoot, fileTrustRoot}, name)
}

func sortedNames(files map[string][]byte) []string { return slices.Sorted(maps.Keys(files)) }
