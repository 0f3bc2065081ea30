package authority

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/authority/rekorv1"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/authority/tsa"
	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// DefaultOverlap is how long a new key is published before it signs: a day is how
// long Sigstore's clients keep what they fetched through TUF.
const DefaultOverlap = 24 * time.Hour

// maxOverlap is a year: who plans further ahead rotates later.
const maxOverlap = 366 * 24 * time.Hour

// backdate is how much earlier than its rotation a key is believed.
const backdate = time.Minute

// RotateConfig says which key is replaced by which.
type RotateConfig struct {
	Dir     string
	Service string // one of [Services]
	// Key is the successor; nil makes one in the folder. TUF and issuer take none.
	Key     *KeyRef
	OpenKey OpenKey
	// Overlap is how long the new key is published before it signs.
	Overlap time.Duration
	// Name is the host name of the log's new tree; empty is the authority's own, which
	// others have, too.
	Name string
	// EndWitness is needed for a log whose checkpoints were cosigned when the new tree has
	// no name of its own: no witness could tell it from others.
	EndWitness bool
	// DryRun writes nothing.
	DryRun bool
	Now    func() time.Time // nil is time.Now

	// ends leaves no time to the trees of before: they may have given away the numbers
	// that their next entries would get.
	ends  bool
	wrote func(what string) error // called before each write; an error ends it (tests)
}

// Rotate replaces a service's key in a folder that no authority is running on. The old
// key is believed for ever for what it signs until its term ends; the new one is
// published at once and signs after the overlap, at the next start or in the middle of
// a run. What a crash leaves undone the next Rotate or the next start finishes.
func Rotate(cfg RotateConfig) (_ *Rotation, err error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	st, dir, err := readState(cfg.Dir)
	if err != nil {
		return nil, err
	}
	cfg.Dir = dir
	if cfg.DryRun && st.Rotating == nil {
		// An authority may be running: nothing is written.
	} else if !cfg.DryRun {
		held, err := lock(dir)
		if err != nil {
			return nil, fault.Hint(err, "keys are replaced while the authority is stopped; add --dry-run to see what would be done")
		}
		defer func() { _ = syscall.Flock(int(held.Fd()), syscall.LOCK_UN); _ = held.Close() }()
		if st, dir, err = readState(cfg.Dir); err != nil { // as it is under the lock
			return nil, err
		}
	}
	if cfg.Service == ServiceLog && st.Moved != nil {
		return nil, fault.Usagef("the log is written to at %s, with its key: that key cannot be replaced here", st.Moved.URL)
	}
	if err := st.checkPublished(dir); err != nil {
		return nil, wayOut(err)
	}
	st.wrote = cfg.wrote
	if err := cfg.upgrade(st); err != nil {
		return nil, wayOut(err)
	}
	if st.Rotating != nil {
		unfinished := st.Rotating.Service
		if cfg.DryRun {
			return nil, fault.Hint(fmt.Errorf("a rotation of the %s was interrupted", serviceName(unfinished)),
				"hallmark authority rotate %s finishes it, and so does the next hallmark up", unfinished)
		}
		r, err := cfg.finish(st)
		if err != nil || unfinished == cfg.Service {
			return r, wayOut(err)
		}
	}
	r, err := cfg.rotate(st)
	return r, wayOut(err)
}

func (cfg *RotateConfig) check() error {
	switch {
	case !slices.Contains(Services(), cfg.Service):
		return fault.Usagef("%.40q is no service; those with keys are %s", cfg.Service, strings.Join(Services(), ", "))
	case cfg.Key != nil && !slices.Contains(keyed(), cfg.Service):
		return fault.Usagef("the keys of the %s are in the data folder: no other can be named", serviceName(cfg.Service))
	case cfg.EndWitness && cfg.Service != ServiceLog:
		return fault.Usagef("--end-witness: only the log has witnesses")
	case cfg.Name != "" && cfg.Service != ServiceLog:
		return fault.Usagef("--name: only the trees of the log have names")
	case cfg.Name != "" && cfg.EndWitness:
		return fault.Usagef("--name and --end-witness: witnesses go on to cosign a tree that has a name of its own")
	case cfg.Overlap < 0 || cfg.Overlap > maxOverlap:
		return fault.Usagef("an overlap of %v; it is from 0 to %v", cfg.Overlap, maxOverlap)
	}
	return nil
}

// upgrade names the keys in a state that does not, as the next start would.
func (cfg *RotateConfig) upgrade(st *state) error {
	if st.Version >= stateVersion {
		return nil
	}
	if st.LogV1 == nil {
		return fault.Hint(fmt.Errorf("%s is of version %d, which has not all keys", cfg.Dir, st.Version), "start hallmark up on it once: that brings it to version %d", stateVersion)
	}
	k := keyring{dir: filepath.Join(cfg.Dir, keyDir)}
	keys, err := k.firstHolders(st)
	if err != nil {
		return err
	}
	st.Version, st.Keys = stateVersion, keys.terms()
	return nil
}

// rotate decides and does it, or only decides.
func (cfg *RotateConfig) rotate(st *state) (*Rotation, error) {
	switch cfg.Service {
	case ServiceTUF:
		return cfg.rotateTUF(st)
	case ServiceOIDC:
		return cfg.rotateOIDC(st)
	}
	now := cfg.Now().UTC().Truncate(time.Second)
	all := st.Keys[cfg.Service]
	old := all[len(all)-1]
	if now.Before(old.Signs) {
		return nil, fault.Hint(fmt.Errorf("the key of the %s is being replaced: the new one signs from %s on", serviceName(cfg.Service), old.Signs.Format(time.RFC3339)),
			"rotate it again after that")
	}
	if cfg.Name != "" {
		if err := st.checkName(cfg.Name); err != nil {
			return nil, err
		}
	} else if cfg.Service == ServiceLog && st.Witnessed && unique(st.treeNames(), len(all)) && !cfg.EndWitness && !cfg.DryRun {
		return nil, fault.Hint(fault.Usagef("the log's checkpoints were cosigned by witnesses: a new key would end that, because they cannot tell trees of one name apart"),
			"--name HOST gives the new tree a name of its own; --dry-run shows who must do what without one, and --end-witness says that it is done")
	}
	n := len(all) + 1
	id, err := cfg.successor(st, n, now)
	if err != nil {
		return nil, err
	}
	// A certificate begins a moment before it is made, and some clients look whether
	// its CA was believed then.
	next, err := newTerm(id, now.Add(-backdate))
	if err != nil {
		return nil, err
	}
	next.Host = cfg.Name
	next.Signs = now.Add(cfg.Overlap.Round(time.Second))
	until := next.Signs.Add(grace)
	if cfg.ends {
		until = next.Signs
		for _, t := range all {
			if t.Until != nil && t.Until.After(until) {
				t.Until = &until
			}
		}
	}
	old.Until = &until
	st.Keys[cfg.Service] = append(all, next)
	if err := checkTerms(st.Keys); err != nil {
		return nil, fault.As(fault.Usage, err)
	}
	st.Rotating = &rotating{Service: cfg.Service}
	r, err := cfg.plan(st, n)
	if err != nil || cfg.DryRun {
		return r, err
	}
	if err := cfg.write(st, id, n); err != nil {
		return nil, err
	}
	return r, cfg.publish(st, r)
}

// successor is the new key: the one that is named, the one that a crash left behind,
// or one that is made.
func (cfg *RotateConfig) successor(st *state, n int, now time.Time) (id identity, err error) {
	k := keyring{dir: filepath.Join(cfg.Dir, keyDir), open: cfg.OpenKey}
	if cfg.Key != nil {
		if id, err = k.byRef(cfg.Service, *cfg.Key); err == nil {
			err = checkChain(cfg.Service, *cfg.Key, id)
		}
	} else if id, err = k.load(keyName(cfg.Service, n), nil); notThere(err) {
		id, err = makeKey(cfg.Service, st.Host, now)
	}
	if err != nil {
		return id, err
	}
	return id, fault.As(fault.Usage, cfg.fits(st, id, now))
}

// notThere reports a key that is missing, not one that is damaged.
func notThere(err error) bool {
	var corrupt *durable.CorruptError
	if !errors.As(err, &corrupt) {
		return false
	}
	_, serr := os.Stat(corrupt.Path)
	return errors.Is(serr, fs.ErrNotExist)
}

// makeKey makes a service's key, as that of a new folder is made.
func makeKey(service, host string, now time.Time) (id identity, err error) {
	switch service {
	case ServiceCA:
		private, cert, err := ca.NewRoot(now, organization, caName(host))
		return identity{key: private, chain: []*x509.Certificate{cert}}, err
	case ServiceTSA:
		private, chain, err := tsa.NewChain(now)
		return identity{key: private, chain: chain}, err
	case ServiceLog:
		return newEd25519()
	}
	return newP256()
}

// fits refuses a key that the service could not use from the end of the overlap on, and
// an overlap in which nothing could sign.
func (cfg *RotateConfig) fits(st *state, id identity, now time.Time) error {
	latest := func(service string) (identity, error) {
		all := st.Keys[service]
		return all[len(all)-1].withoutKey()
	}
	signs := now.Add(cfg.Overlap.Round(time.Second))
	if certified(cfg.Service) {
		old, err := latest(cfg.Service)
		if err != nil {
			return err
		}
		// A certificate needs its CA's for its whole life. One that has ended already is
		// no reason to wait.
		if last := chainEnd(old.chain).Add(-ca.Lifetime); signs.After(now) && last.Before(signs) {
			return fault.Hint(fmt.Errorf("the present certificate of the %s ends at %s, before the new key signs, which would be at %s", serviceName(cfg.Service),
				chainEnd(old.chain).UTC().Format(time.RFC3339), signs.Format(time.RFC3339)),
				"nothing would be signed in between: add --overlap %v, or renew the present certificate first", max(0, last.Sub(now).Truncate(time.Minute)))
		}
	}
	switch cfg.Service {
	case ServiceCA, ServiceCT:
		own, err := latest(ServiceCA)
		if err != nil {
			return err
		}
		ct, err := latest(ServiceCT)
		if err != nil {
			return err
		}
		if cfg.Service == ServiceCA {
			return checkChainOf(cfg.Service, id.key.Public(), id.chain, ct.key.Public(), signs, signs.Add(grace))
		}
		return ca.CheckKeys(own.key.Public(), own.chain, id.key.Public())
	case ServiceTSA:
		return checkChainOf(cfg.Service, id.key.Public(), id.chain, nil, signs, signs.Add(grace))
	}
	return CheckAlgorithm(cfg.Service, id.key.Public())
}

// write makes durable what the new term needs, and then that there is one: from that
// write on it will happen. What a crash leaves before it is taken up by the next call.
func (cfg *RotateConfig) write(st *state, id identity, n int) error {
	if cfg.Key == nil {
		path := filepath.Join(cfg.Dir, keyDir, keyName(cfg.Service, n))
		if err := st.before(path); err != nil {
			return err
		}
		data, err := id.encode()
		if err != nil {
			return err
		}
		if err := durable.WriteSealed(path, data, 0o600); err != nil {
			return err
		}
	}
	if cfg.Service == ServiceLog || cfg.Service == ServiceLogV1 {
		if err := st.before(shardDir(cfg.Service, n)); err != nil {
			return err
		}
		if err := cfg.makeShard(st, id, n); err != nil {
			return err
		}
	}
	return st.save(cfg.Dir)
}

// makeShard makes the new key's tree, empty.
func (cfg *RotateConfig) makeShard(st *state, id identity, n int) error {
	dir := filepath.Join(cfg.Dir, shardDir(cfg.Service, n))
	if err := clearShard(dir); err != nil {
		return err
	}
	if cfg.Service == ServiceLogV1 {
		tree, err := rekorv1.NewTreeID(id.key.Public())
		if err != nil {
			return err
		}
		l, err := rekorv1.Open(dir, rekorv1.Config{Host: st.Host, Key: id.key, TreeID: tree, Now: cfg.Now})
		if err != nil {
			return err
		}
		return l.Close()
	}
	signer, err := tlog.NewSigner(st.treeName(n), id.key)
	if err != nil {
		return err
	}
	l, err := tlog.Open(dir, tlog.Config{Origin: st.treeName(n), Signer: signer, Now: cfg.Now})
	if err != nil {
		return err
	}
	return l.Close()
}

// clearShard removes the tree that an interrupted call made and no state names, which is
// perhaps of another key. Nothing was ever put into it: one with entries is left alone.
func clearShard(dir string) error {
	f, err := os.Stat(filepath.Join(dir, logEntries))
	switch {
	case err == nil && f.Size() > 0:
		return &durable.CorruptError{Path: dir, Why: "it holds entries of a log that " + stateFile + " does not name"}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

// publish tells clients, and notes what came of it.
func (cfg *RotateConfig) publish(st *state, r *Rotation) error {
	i, err := st.info(cfg.Dir)
	if err != nil {
		return err
	}
	p, err := newPublication(i, st)
	if err != nil {
		return err
	}
	repo, err := tuf.Open(filepath.Join(cfg.Dir, tufDir), tuf.Config{Now: cfg.Now})
	if err != nil {
		return err
	}
	if st.Rotating.Service == ServiceTUF {
		if err := rotateTUF(st, repo); err != nil {
			return err
		}
	}
	if err := publish(cfg.Dir, st, repo, p); err != nil {
		return err
	}
	if r.TUF.After, err = repo.Versions(); err != nil {
		return err
	}
	if r.Service == ServiceTUF {
		r.NewKeys, err = tufKeys(repo.RootJSON())
	}
	return err
}

// finish ends a rotation that was interrupted.
func (cfg *RotateConfig) finish(st *state) (*Rotation, error) {
	service := st.Rotating.Service
	again := *cfg
	again.Service = service
	r := &Rotation{Service: service, Data: cfg.Dir, Resumed: true, Files: []FileChange{}}
	if _, err := cfg.preview(st, r); err != nil {
		return nil, err
	}
	if slices.Contains(keyed(), service) {
		r.setTerms(st.Keys[service])
		r.todo(cfg.Dir, st)
	}
	if service == ServiceOIDC {
		if err := rotateOIDC(st, cfg.Dir, cfg.Now()); err != nil {
			return nil, err
		}
		id, err := oidc.KeyID(filepath.Join(cfg.Dir, oidcDir))
		if err != nil {
			return nil, err
		}
		r.NewKeys, r.OldKeys = []string{id}, []string{st.Rotating.From}
	}
	return r, again.publish(st, r)
}

func (cfg *RotateConfig) rotateTUF(st *state) (*Rotation, error) {
	r := &Rotation{Service: ServiceTUF, Data: cfg.Dir, DryRun: cfg.DryRun, Files: []FileChange{}}
	root, err := cfg.preview(st, r)
	if err != nil {
		return nil, err
	}
	if r.OldKeys, err = tufKeys(root); err != nil {
		return nil, err
	}
	// Opening it may sign a stale root again, with the keys that it has.
	st.Rotating = &rotating{Service: ServiceTUF, From: r.OldKeys[0]}
	r.todoTUF()
	if cfg.DryRun {
		return r, nil
	}
	if err := st.save(cfg.Dir); err != nil {
		return nil, err
	}
	return r, cfg.publish(st, r)
}

// rotateTUF replaces the repository's keys, unless that was done before a crash.
func rotateTUF(st *state, repo *tuf.Repo) error {
	keys, err := tufKeys(repo.RootJSON())
	if err != nil || keys[0] != st.Rotating.From {
		return err
	}
	if err := st.before(tufRepository); err != nil {
		return err
	}
	return repo.RotateKeys()
}

func (cfg *RotateConfig) rotateOIDC(st *state) (*Rotation, error) {
	dir := filepath.Join(cfg.Dir, oidcDir)
	old, err := oidc.KeyID(dir)
	if err != nil {
		return nil, err
	}
	st.Rotating = &rotating{Service: ServiceOIDC, From: old}
	r := &Rotation{Service: ServiceOIDC, Data: cfg.Dir, DryRun: cfg.DryRun, OldKeys: []string{old},
		Files: []FileChange{{filepath.Join(oidcDir, oidc.FileBefore), changed(dir, oidc.FileBefore)}, {filepath.Join(oidcDir, oidc.FileKey), "replaced"}}}
	if _, err := cfg.preview(st, r); err != nil {
		return nil, err
	}
	r.todoOIDC()
	if cfg.DryRun {
		return r, nil
	}
	if err := st.save(cfg.Dir); err != nil {
		return nil, err
	}
	if err := rotateOIDC(st, cfg.Dir, cfg.Now()); err != nil {
		return nil, err
	}
	made, err := oidc.KeyID(dir)
	if err != nil {
		return nil, err
	}
	r.NewKeys = []string{made}
	return r, cfg.publish(st, r)
}

// rotateOIDC replaces the issuer's key, unless that was done before a crash.
func rotateOIDC(st *state, dir string, now time.Time) error {
	dir = filepath.Join(dir, oidcDir)
	have, err := oidc.KeyID(dir)
	if err != nil || have != st.Rotating.From {
		return err
	}
	if err := st.before(oidcDir); err != nil {
		return err
	}
	return oidc.Rotate(dir, now)
}
