package authority

import (
	"crypto/ed25519"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/authority/rekorv1"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
	"github.com/hallmark-dev/hallmark/internal/durable"
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
	if c.Info, err = info(st.URL, st.Host, dir); err != nil {
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
		func() error { _, _, err := readForeign(dir); return err },
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
	k := keyring{dir: filepath.Join(dir, keyDir)}
	names := []string{"ca.pem", "tsa.pem", "ct.pem", "log.pem"}
	if st.LogV1 != nil {
		names = append(names, "log-v1.pem")
	}
	keys := map[string]identity{}
	for _, name := range names {
		id, err := k.load(name, nil)
		if notSealed(err, report) {
			continue
		} else if err != nil {
			return err
		}
		keys[name] = id
	}
	// Of a log whose key is damaged, which is said, nothing can be.
	any := func([]byte) (int, string) { return 0, "" }
	if id, found := keys["log.pem"]; found {
		key, ok := id.key.(ed25519.PrivateKey)
		if !ok {
			report(durable.Damage{Path: filepath.Join(k.dir, "log.pem"), Offset: -1, Why: "it does not hold an Ed25519 key"})
			return nil
		}
		cfg := tlog.Config{Origin: st.Host, Key: key}
		if !full {
			cfg.CheckEntry = any
		}
		var err error
		if c.Entries, err = tlog.Check(filepath.Join(dir, logDir), cfg, report); err != nil {
			return err
		}
	}
	if id, found := keys["log-v1.pem"]; found {
		cfg := rekorv1.Config{Host: st.Host, Key: id.key, TreeID: st.LogV1.TreeID}
		if !full {
			cfg.CheckEntry = any
		}
		var err error
		if c.EntriesV1, err = rekorv1.Check(filepath.Join(dir, logV1Dir), cfg, report); err != nil {
			return err
		}
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
