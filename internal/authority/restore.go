package authority

import (
	"archive/tar"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/authority/rekorv1"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
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
	// NothingSince is the operator's word that the logs of which there is no
	// checkpoint here published nothing after the backup.
	NothingSince bool
}

// Restored is what a backup became.
type Restored struct {
	*Checked       // Damage is only what names content that was deleted
	Taken    int64 // entries from the mirror
}

// Restore makes a data folder from a backup. dir must not exist, or be empty; it
// appears when everything in it was checked and is on disk, and else not at all.
// Modified archives are not believed: what is in them is checked as [Check] does.
func Restore(r io.Reader, dir string, o RestoreOptions) (_ *Restored, err error) {
	if len(o.Checkpoints) == 0 && !o.NothingSince {
		return nil, fault.Usagef("either the newest checkpoint that is known of each log is given, or the word that it published nothing since the backup")
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
			err = errors.Join(err, os.RemoveAll(tmp))
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
	if out.Taken, err = catchUp(tmp, o); err != nil {
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

// catchUp brings each log to its checkpoint, and wants one of each or the word
// that none is needed.
func catchUp(dir string, o RestoreOptions) (taken int64, err error) {
	st, dir, err := readState(dir)
	if err != nil {
		return 0, err
	}
	k := keyring{dir: filepath.Join(dir, keyDir)}
	logs := []struct {
		name, origin string
		catchUp      func(checkpoint []byte) error
	}{{"log.pem", st.Host, func(checkpoint []byte) error {
		id, err := k.load("log.pem", nil)
		if err != nil {
			return err
		}
		key, ok := id.key.(ed25519.PrivateKey)
		if !ok {
			return errors.New("the backup's log key is not an Ed25519 key")
		}
		taken, err = tlog.CatchUp(filepath.Join(dir, logDir), tlog.Config{Origin: st.Host, Key: key}, checkpoint, o.Mirror)
		return behind(err, "name a mirror of the log that has the entries since (hallmark log mirror makes one)")
	}}}
	if st.LogV1 != nil {
		logs = append(logs, struct {
			name, origin string
			catchUp      func(checkpoint []byte) error
		}{"log-v1.pem", rekorv1.Origin(st.Host, st.LogV1.TreeID), func(checkpoint []byte) error {
			id, err := k.load("log-v1.pem", nil)
			if err != nil {
				return err
			}
			err = rekorv1.CatchUp(filepath.Join(dir, logV1Dir), rekorv1.Config{Host: st.Host, Key: id.key, TreeID: st.LogV1.TreeID}, checkpoint)
			return behind(err, "only a backup that has these entries can be restored: no mirror has the times of the log for older clients")
		}})
	}
	left := slices.Clone(o.Checkpoints)
	for _, l := range logs {
		i := slices.IndexFunc(left, func(c []byte) bool { return strings.HasPrefix(string(c), l.origin+"\n") })
		switch {
		case i >= 0:
			if err := l.catchUp(left[i]); err != nil {
				return 0, err
			}
			left = slices.Delete(left, i, i+1)
		case !o.NothingSince:
			return 0, fault.Usagef("no checkpoint of the log %q is given, nor the word that it published nothing since the backup", l.origin)
		}
	}
	if len(left) > 0 {
		origin, _, _ := strings.Cut(string(left[0]), "\n")
		return 0, fault.Usagef("a checkpoint is of %.80q, which is no log of this backup, or one of which there is another", origin)
	}
	return taken, nil
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
	if _, err = io.Copy(f, r); err != nil {
		err = fmt.Errorf("the backup cannot be read: %w", err)
	} else {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil && published(filepath.Base(path)) {
		err = os.Chmod(path, 0o644)
	}
	return err
}

// published reports whether a file is for everyone to read.
func published(name string) bool {
	return slices.Contains([]string{fileTrustedRoot, fileSigningConfig, fileRoot, fileTrustRoot}, name)
}

func sortedNames(files map[string][]byte) []string { return slices.Sorted(maps.Keys(files)) }
