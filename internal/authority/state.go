package authority

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/folder"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// Names in the data folder.
const (
	stateFile   = folder.StateFile
	lockFile    = folder.LockFile
	keyDir      = "keys"
	oidcDir     = "oidc"
	logDir      = "log"
	logV1Dir    = "log-v1"
	tufDir      = "tuf"
	registryDir = "registry"
	cosignDir   = "cosign-tuf" // a TUF_ROOT for cosign, so that ~/.sigstore stays as it is

	// The files without which a log and the TUF repository would begin anew.
	logHead       = "checkpoint.sealed"
	logEntries    = "entries"
	tufRepository = tufDir + "/repository.sealed"

	fileTrustedRoot   = "trusted_root.json"
	fileSigningConfig = "signing_config.v0.2.json"
	fileRoot          = "root.json"
	fileTrustRoot     = "trust-root.yaml"
)

// state is what the authority knows of itself, in one sealed file. Its presence
// says that the folder was made completely.
type state struct {
	Version int       `json:"version"`
	Host    string    `json:"host"` // the log's origin; never changes
	URL     string    `json:"url"`  // base URL of the last start
	Created time.Time `json:"created"`
	// LogV1 is the first tree of the log for older clients; a folder of version 1 has none.
	LogV1 *logV1State `json:"log_v1,omitempty"`
	// Keys are the terms of each service's keys, oldest first; a folder of version 2
	// or less does not name them.
	Keys map[string][]*term `json:"keys,omitempty"`
	// CTLogs are the CT logs elsewhere that certificates were ever submitted to.
	CTLogs []ctLog `json:"ct_logs,omitempty"`
	// Rotating is a rotation that is decided and not published yet.
	Rotating *rotating `json:"rotating,omitempty"`
	// Moved is the tree of the log that another program writes to, nil while all are here.
	Moved *movedLog `json:"moved,omitempty"`
	// Witnessed says that the log's checkpoints were cosigned by witnesses, whom a
	// rotation of its key ends.
	Witnessed bool `json:"witnessed,omitempty"`
	// Published has the SHA-256 of each file that is derived from the keys: what
	// is in the folder, and, while it is being replaced, also what comes next.
	Published map[string][]string `json:"published"`

	// wrote, when it is there, is called before each write; an error ends it (tests).
	wrote func(what string) error
}

// rotating is the service whose key is being replaced.
type rotating struct {
	Service string `json:"service"`
	// From is what must be replaced of services whose keys are not here: the TUF
	// root's version, the issuer's key id.
	From string `json:"from,omitempty"`
}

// logV1State is what never changes about the log for older clients.
type logV1State struct {
	TreeID int64 `json:"tree_id,string"` // in its origin, and in the ids of its entries
}

// stateVersion is of the folders that are made. Older ones are brought to it when they
// are opened: those of version 1 have no log for older clients, those of version 2 do
// not name their keys. What is added is made first, then the state says that it is
// there. A crash in between leaves an older folder with files that the next start
// takes up.
const stateVersion = 3

// loadState reads the state; nil without an error when the folder is new.
func loadState(dir string) (*state, error) {
	path := filepath.Join(dir, stateFile)
	data, err := durable.ReadSealed(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, checkFresh(dir)
	}
	if err != nil {
		return nil, wayOut(err)
	}
	return readStateJSON(path, data)
}

// parseState reads the state's sealed file, which was read as sealed.
func parseState(path string, sealed []byte) (*state, error) {
	data, err := durable.Unseal(path, sealed)
	if err != nil {
		return nil, wayOut(err)
	}
	return readStateJSON(path, data)
}

func readStateJSON(path string, data []byte) (*state, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	st := new(state)
	if err := dec.Decode(st); err != nil {
		return nil, wayOut(&durable.CorruptError{Path: path, Why: "it is not the JSON that belongs here"})
	}
	if st.Version < 1 || st.Version > stateVersion {
		return nil, fmt.Errorf("%s has version %d, this hallmark knows versions 1 to %d", path, st.Version, stateVersion)
	}
	if (st.Version == 1) != (st.LogV1 == nil) || st.LogV1 != nil && st.LogV1.TreeID <= 0 {
		return nil, wayOut(&durable.CorruptError{Path: path, Why: "its version and its log_v1 do not belong together"})
	}
	if (st.Version < 3) != (st.Keys == nil) || st.Version < 3 && st.Rotating != nil {
		return nil, wayOut(&durable.CorruptError{Path: path, Why: "its version and its keys do not belong together"})
	}
	if st.Version >= 3 {
		err := checkTerms(st.Keys)
		for _, l := range st.CTLogs {
			err = errors.Join(err, l.check())
		}
		if err != nil {
			return nil, wayOut(&durable.CorruptError{Path: path, Why: err.Error()})
		}
	}
	if m := st.Moved; m != nil && (st.Version < 3 || m.Shard < 1 || m.Shard > len(st.Keys[ServiceLog]) || m.URL == "" || m.Seen == "") {
		return nil, wayOut(&durable.CorruptError{Path: path, Why: "it says that a tree of the log was moved that there is none of"})
	}
	if st.Rotating != nil && !slices.Contains(Services(), st.Rotating.Service) {
		return nil, wayOut(&durable.CorruptError{Path: path, Why: "it names a rotation of no service"})
	}
	return st, nil
}

// before is called with what is about to be written.
func (st *state) before(what string) error {
	if st.wrote == nil {
		return nil
	}
	return st.wrote(what)
}

// shards are the folders of a log's trees, one for each key, oldest first.
func (st *state) shards(service string) []string {
	n := 1
	if st.Version >= 3 {
		n = len(st.Keys[service])
	} else if service == ServiceLogV1 && st.LogV1 == nil {
		n = 0
	}
	var out []string
	for i := range n {
		out = append(out, shardDir(service, i+1))
	}
	return out
}

func (st *state) save(dir string) error {
	if err := st.before(stateFile); err != nil {
		return err
	}
	data, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteSealed(filepath.Join(dir, stateFile), append(data, '\n'), 0o600)
}

// wayOut puts the way out beside a damaged file's name, and beside a full disk.
func wayOut(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.Hint(err, "make room on that disk and call again; nothing that was acknowledged is lost")
	}
	if !errors.As(err, new(*durable.CorruptError)) {
		return err
	}
	return fault.Hint(err, "restore the data folder from a backup; hallmark up never repairs or replaces what it cannot read")
}

// checkFresh refuses to make an authority among somebody's files, and in a folder
// that was finished once: trust material is written after the state.
func checkFresh(dir string) error {
	ours := []string{lockFile, keyDir, oidcDir, logDir, logV1Dir, tufDir, registryDir, cosignDir,
		fileTrustedRoot, fileSigningConfig, fileRoot, fileTrustRoot}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == fileTrustedRoot {
			return wayOut(&durable.CorruptError{Path: filepath.Join(dir, stateFile), Why: "it is missing"})
		}
		if !slices.Contains(ours, e.Name()) && !strings.HasPrefix(e.Name(), ".tmp-") {
			return fault.Hint(fmt.Errorf("%s is not empty and not a data folder of hallmark up (it has %s but no %s)", dir, e.Name(), stateFile),
				"name an empty or new folder with --data")
		}
	}
	return nil
}

// lock takes the folder for this process. The lock ends with the process, however that ends.
func lock(dir string) (*os.File, error) {
	f, err := folder.Lock(dir)
	var used *folder.InUseError
	switch {
	case errors.As(err, &used):
		return nil, fault.Hint(err, "use that one (hallmark up env prints how), stop it first, or name another folder with --data")
	case err != nil:
		return nil, unwritable(dir, err)
	}
	return f, nil
}

// unwritable explains a data folder that cannot be written.
func unwritable(dir string, err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fault.Hint(fmt.Errorf("data folder %s cannot be written: %w", dir, errors.Unwrap(err)),
			"keys, log and images are kept there: name a folder of your own with --data")
	}
	return wayOut(fmt.Errorf("data folder %s: %w", dir, err))
}

// checkPublished refuses a derived file that is not what was written. It runs
// before anything is written anywhere.
func (st *state) checkPublished(dir string) error {
	for name, known := range st.Published {
		path := filepath.Join(dir, name)
		have, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is made again
		}
		if err != nil {
			return err
		}
		if !slices.Contains(known, digest(have)) {
			return fault.Hint(&durable.CorruptError{Path: path, Why: "it is not what was written there"},
				"this file is made from the keys: remove it, and hallmark up writes it again")
		}
	}
	return nil
}

// writePublished brings the derived files to what they must be now. The state
// says first what is coming, so that a crash in between leaves only files that
// it knows.
func (st *state) writePublished(dir string, files map[string][]byte) error {
	var changed []string
	for name, want := range files {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil || !bytes.Equal(have, want) {
			changed = append(changed, name)
		}
	}
	if len(changed) == 0 && st.knows(files) {
		return nil
	}
	if st.Published == nil {
		st.Published = map[string][]string{}
	}
	for name, want := range files {
		if d := digest(want); !slices.Contains(st.Published[name], d) {
			st.Published[name] = append(st.Published[name], d)
		}
	}
	if err := st.save(dir); err != nil {
		return err
	}
	for _, name := range changed {
		if err := st.before(name); err != nil {
			return err
		}
		if err := durable.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil {
			return err
		}
	}
	for name, want := range files {
		st.Published[name] = []string{digest(want)}
	}
	return st.save(dir)
}

// knows reports whether exactly these contents are recorded.
func (st *state) knows(files map[string][]byte) bool {
	for name, want := range files {
		if !slices.Equal(st.Published[name], []string{digest(want)}) {
			return false
		}
	}
	return true
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
