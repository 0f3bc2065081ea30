package authority

import (
	"crypto"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/authority/rekorv1"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/key"
)

// Checked is what a data folder holds, and what in it is not what was written.
type Checked struct {
	Info      Info
	Entries   int64 // of the log
	EntriesV1 int64 // of the log for older clients
	Registry  registry.Contents
	Damage    []durable.Damage // in the order of paths; empty: everything holds
}

// Check derives everything in a data folder again from the files: seals, keys and
// their certificates, the TUF repository's signatures, each entry of the log with
// its signature, the root over all of them, and each digest, tag and referrer of
// the registry. Nothing is changed, and an authority may be running on the folder.
//
// An error means that something could not be read.
func Check(dir string) (*Checked, error) {
	c := new(Checked)
	if err := c.check(dir, true); err != nil {
		return nil, err
	}
	return c, nil
}

// check is Check or, when it is not to be full, all of it but the entries' own forms
// and signatures, and the registry.
func (c *Checked) check(dir string, full bool) error {
	report := func(d durable.Damage) { c.Damage = append(c.Damage, d) }
	st, dir, err := readState(dir)
	if notSealed(err, report) {
		return nil // all else hangs on it
	} else if err != nil {
		return err
	}
	if c.Info, err = st.info(dir); err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	steps := []func() error{
		func() error { return st.checkPublished(dir) },
		func() error {
			_, err := oidc.Open(in(oidcDir), oidc.Config{Issuer: st.URL, ClientID: ClientID, Existing: true})
			return err
		},
		func() error { return tuf.Check(in(tufDir)) },
		func() error { return c.log(st, dir, full, report) },
	}
	if full {
		steps = append(steps, func() (err error) {
			c.Registry, err = registry.Check(in(registryDir), report)
			return err
		})
	}
	for _, step := range steps {
		if err := step(); err != nil && !notSealed(err, report) {
			return err
		}
	}
	durable.SortDamage(c.Damage)
	return nil
}

// log checks the keys, and with the logs' keys the logs.
func (c *Checked) log(st *state, dir string, full bool, report func(durable.Damage)) error {
	k := keyring{dir: filepath.Join(dir, keyDir), moved: st.Moved}
	for _, service := range keyed() {
		all := st.Keys[service]
		if st.Version < stateVersion { // the state does not name them
			all = []*term{nil}
			if service == ServiceLogV1 && st.LogV1 == nil {
				continue
			}
		}
		for i, t := range all {
			public, err := k.checkKey(service, all, i)
			if err != nil && !notSealed(err, report) {
				return err
			}
			if err != nil && t == nil {
				continue // of a log whose key is damaged, which is said, nothing can be
			}
			if err := c.shard(st, dir, service, i+1, public, full, report); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkKey loads a key's file, and returns the public key. What the state says of it is
// enough where the file is not needed any more, or the key elsewhere.
func (k keyring) checkKey(service string, all []*term, i int) (crypto.PublicKey, error) {
	t := all[i]
	if t == nil {
		id, err := k.load(keyName(service, i+1), nil)
		if err != nil {
			return nil, err
		}
		return id.key.Public(), nil
	}
	public, err := t.public()
	if err != nil || t.Ref != "" {
		return public, err
	}
	if _, err := k.holder(service, t, i+1, false); err != nil {
		if (service == ServiceLog && k.moved.is(i+1) || !answers(service, all, i, time.Now())) && notThere(err) {
			return public, nil
		}
		return public, err
	}
	return public, nil
}

// shard checks a log's tree of one key.
func (c *Checked) shard(st *state, dir, service string, n int, public crypto.PublicKey, full bool, report func(durable.Damage)) (err error) {
	any := func([]byte) (int, string) { return 0, "" }
	folder := filepath.Join(dir, shardDir(service, n))
	bad := func(err error) error {
		report(durable.Damage{Path: filepath.Join(dir, keyDir, keyName(service, n)), Offset: -1, Why: err.Error()})
		return nil
	}
	var entries int64
	switch service {
	case ServiceLog:
		signer, err := tlog.NewSigner(st.treeName(n), key.PublicOnly{Key: public})
		if err != nil {
			return bad(err)
		}
		cfg := tlog.Config{Origin: st.treeName(n), Signer: signer}
		if !full {
			cfg.CheckEntry = any
		}
		entries, err = tlog.Check(folder, cfg, report)
		c.Entries += entries
		return err
	case ServiceLogV1:
		tree, err := rekorv1.NewTreeID(public)
		if err != nil {
			return bad(err)
		}
		cfg := rekorv1.Config{Host: st.Host, Key: key.PublicOnly{Key: public}, TreeID: st.treeOf(n, tree)}
		if !full {
			cfg.CheckEntry = any
		}
		entries, err = rekorv1.Check(folder, cfg, report)
		c.EntriesV1 += entries
		return err
	}
	return nil
}

// notSealed reports a file that is damaged or lost, if that is what the error says.
func notSealed(err error, report func(durable.Damage)) bool {
	var corrupt *durable.CorruptError
	var path *fs.PathError
	switch {
	case errors.As(err, &corrupt):
		report(durable.Damage{Path: corrupt.Path, Offset: -1, Why: corrupt.Why})
	case errors.Is(err, fs.ErrNotExist) && errors.As(err, &path):
		report(durable.Damage{Path: path.Path, Offset: -1, Why: "it is missing"})
	default:
		return false
	}
	return true
}
