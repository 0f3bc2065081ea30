package authority

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/monitor"
	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/authority/rekorv1"
	"github.com/hallmark-dev/hallmark/internal/authority/tsa"
	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/sorted"
)

const organization = "Hallmark"

// open loads everything in the folder, wires it, and publishes the trust material.
func (a *Authority) open(st *state, fresh bool) error {
	keys, err := a.loadHolders(st, fresh)
	if err != nil {
		return err
	}
	if err := a.openCTLog(st); err != nil {
		return err
	}
	if err := a.openServices(st, keys, fresh); err != nil {
		return err
	}
	if st.Version < stateVersion {
		// What an older folder lacks is made: now the state says so, before anything
		// that names it is published. That of a new folder is written with the files.
		st.Version, st.Keys = stateVersion, keys.terms()
		if !fresh {
			if _, err := newPublication(a.info, st); err != nil {
				return err
			}
			if err := st.save(a.cfg.Dir); err != nil {
				return err
			}
		}
	}
	if err := a.finish(st); err != nil {
		return err
	}
	a.info.TUFRootSHA256 = a.tuf.RootSHA256()
	if err := a.watch(keys); err != nil {
		return err
	}
	handler, err := a.handler(keys)
	if err != nil {
		return err
	}
	base, err := url.Parse(a.info.URL)
	if err != nil {
		return err
	}
	a.server = newServer(a.info.hosts(handler, guarded(base, handler)), a.cfg.Log)
	a.server.ConnState, a.server.ConnContext = a.crowd.state, a.crowd.context
	return nil
}

// finish takes a rotation to its end that was decided and not published, and
// publishes what is to be trusted.
func (a *Authority) finish(st *state) error {
	if st.Rotating != nil && st.Rotating.Service == ServiceTUF {
		if err := rotateTUF(st, a.tuf); err != nil {
			return err
		}
	}
	p, err := newPublication(a.info, st)
	if err != nil {
		return err
	}
	return publish(a.cfg.Dir, st, a.tuf, p)
}

// loadHolders loads the keys, or makes them in a folder that is new.
func (a *Authority) loadHolders(st *state, fresh bool) (holders, error) {
	dir := filepath.Join(a.cfg.Dir, keyDir)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, unwritable(a.cfg.Dir, err)
	}
	k := keyring{dir: dir, fresh: fresh, open: a.cfg.OpenKey, refs: a.keyRefs, moved: st.Moved}
	if st.Version < stateVersion {
		keys, err := k.firstHolders(st)
		if err != nil {
			return nil, err
		}
		return keys, keys.checkNamed(a.keyRefs, false, a.cfg.Now())
	}
	keys, err := k.holders(keyed(), st.Keys, a.cfg.Now())
	if err != nil {
		return nil, err
	}
	if err := keys.checkNamed(a.keyRefs, true, a.cfg.Now()); err != nil {
		return nil, err
	}
	if changed, err := keys.adopt(a.cfg.Dir); err != nil || !changed {
		return keys, err
	}
	if _, err := newPublication(a.info, st); err != nil {
		return nil, err
	}
	return keys, st.save(a.cfg.Dir)
}

// openServices opens all services.
func (a *Authority) openServices(st *state, keys holders, fresh bool) (err error) {
	cfg := a.cfg
	in := func(name string) string { return filepath.Join(cfg.Dir, name) }
	needed := []string{oidcDir, tufRepository, registryDir}
	for _, dir := range append(st.shards(ServiceLog), st.shards(ServiceLogV1)...) {
		needed = append(needed, filepath.Join(dir, logHead))
	}
	for _, name := range needed {
		// What went missing is a loss, not a reason to begin anew.
		if _, err := os.Stat(in(name)); !fresh && errors.Is(err, fs.ErrNotExist) {
			return &durable.CorruptError{Path: in(name), Why: "it is missing"}
		}
	}
	if st.Rotating != nil && st.Rotating.Service == ServiceOIDC { // before the key is loaded
		if err := rotateOIDC(st, cfg.Dir, cfg.Now()); err != nil {
			return err
		}
	}
	if err := a.openIssuerAndCA(keys, fresh); err != nil {
		return err
	}
	if err := a.openLogs(st, keys); err != nil {
		return err
	}
	if err := a.openLogsV1(st, keys); err != nil {
		return err
	}
	if err := a.openTSA(keys); err != nil {
		return err
	}
	rc := registry.Config{Log: cfg.Log, Now: cfg.Now, Rules: a.rules, URL: a.info.URL}
	if a.users != nil || a.rules != nil {
		rc.Login = a.registryLogin
	}
	if a.registry, err = registry.Open(in(registryDir), rc); err != nil {
		return err
	}
	if a.tuf, err = tuf.Open(in(tufDir), tuf.Config{Now: cfg.Now, Log: cfg.Log}); err != nil {
		return fmt.Errorf("TUF repository: %w", err)
	}
	return nil
}

// openTSA makes the timestamp authority of each key that signs or will.
func (a *Authority) openTSA(keys holders) error {
	all := keys[ServiceTSA]
	for _, h := range all[signing(terms(all), a.cfg.Now())-1:] {
		one, err := tsa.New(tsa.Config{Key: h.id.key, Chain: h.id.chain, Now: a.cfg.Now, Log: a.cfg.Log})
		if err != nil {
			return fmt.Errorf("timestamp authority: %w", err)
		}
		a.tsa.at = append(a.tsa.at, turn{h.Signs, one})
	}
	a.tsa.now = a.cfg.Now
	return nil
}

// openIssuerAndCA opens the issuer, which a replica does not have, and the CA that takes
// its tokens.
func (a *Authority) openIssuerAndCA(keys holders, fresh bool) (err error) {
	cfg := a.cfg
	if !cfg.replica {
		a.oidc, err = oidc.Open(filepath.Join(cfg.Dir, oidcDir), oidc.Config{
			Issuer: a.info.Issuer, ClientID: ClientID, Existing: !fresh, Now: cfg.Now, Log: cfg.Log,
		})
		if err != nil {
			return fmt.Errorf("issuer: %w", err)
		}
	}
	if cfg.RehearseClaims != nil {
		if cfg.RehearseServer != "" {
			if err := loopback.CheckURL("repositories of rehearsed jobs", cfg.RehearseServer, false); err != nil {
				return err
			}
		}
		r := new(Rehearsal)
		if r.URL, r.Token, err = a.oidc.EnableRehearseGitHub(cfg.RehearseClaims); err != nil {
			return err
		}
		a.rehearsal = r
	}
	known, err := a.issuers()
	if err != nil {
		return err
	}
	a.caTurns.now = cfg.Now
	for _, from := range changes(cfg.Now(), keys[ServiceCA], keys[ServiceCT]) {
		own, ct := at(keys[ServiceCA], from), at(keys[ServiceCT], from)
		a.ca, err = ca.New(ca.Config{
			CAKey: own.id.key, Chain: own.id.chain, CTKey: ct.id.key, CTLog: a.ctLog,
			Issuers: known, Now: cfg.Now, Log: cfg.Log,
		})
		if err != nil {
			return fmt.Errorf("certificate authority: %w", err)
		}
		a.caTurns.at = append(a.caTurns.at, turn{from, a.ca.Handler()})
	}
	return nil
}

// handler is everything at the base URL.
func (a *Authority) handler(keys holders) (http.Handler, error) {
	mux := http.NewServeMux()
	handle := func(service string, h http.Handler, paths ...string) {
		for _, p := range paths {
			mux.Handle(p, a.monitor.Count(service, h))
		}
	}
	handle("certificate authority", a.caTurns, caPaths()...)
	for path, h := range a.logPaths(keys) {
		handle("log", h, path)
	}
	older, shards := a.logV1Handlers(keys)
	handle("log for older clients", older, rekorv1.Paths()...)
	for path, h := range shards {
		handle("log for older clients", h, path)
	}
	handle("timestamp authority", a.tsa, timestampPath)
	handle("tuf", http.StripPrefix("/tuf", a.tuf), "/tuf/")
	handle("issuer", a.oidc.Handler(), oidc.Paths()...)
	mux.Handle("/", a.monitor.Handler())
	images := a.monitor.Count("registry", a.registry)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The registry sees paths as they were sent, and has limits of its own.
		if r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/") {
			images.ServeHTTP(w, r)
			return
		}
		if !strings.HasPrefix(r.URL.Path, "/api/v1/log/") { // it takes whole attestations
			r.Body = limited(w, r, maxBody)
		}
		mux.ServeHTTP(w, r)
	}), nil
}

// watch makes the monitor, which shows these keys.
func (a *Authority) watch(keys holders) error {
	if _, err := monitored(keys, a.cfg.Now()); err != nil {
		return err
	}
	i := a.info
	a.monitor = monitor.New(monitor.Config{Version: a.cfg.Version, Now: a.cfg.Now, Log: a.cfg.Log, Facts: func() monitor.Facts {
		notes := a.aboutWitnesses()
		if i.moved != nil {
			notes = "the log is kept by another program at " + i.moved.URL
		}
		shown, _ := monitored(keys, a.cfg.Now()) // which keys there are does not change
		return monitor.Facts{URL: i.URL, Notes: strings.Split(strings.TrimSpace(notes), "\n"), Registry: i.Registry, TUF: i.TUF, TUFRootSHA256: i.TUFRootSHA256, Keys: shown,
			Logs: a.monitoredLogs(), Disk: a.disk()}
	}})
	return nil
}

// disk is the room for what comes, nil of a replica, which writes nothing. Logs and
// registry may be on disks of their own: the fullest counts.
func (a *Authority) disk() *monitor.Disk {
	if a.cfg.replica {
		return nil
	}
	least := &monitor.Disk{Free: math.MaxUint64, Files: math.MaxUint64}
	for _, name := range []string{"", registryDir, shardDir(ServiceLog, len(a.logs)), shardDir(ServiceLogV1, len(a.logsV1))} {
		var st unix.Statfs_t
		if err := unix.Statfs(filepath.Join(a.cfg.Dir, name), &st); err != nil {
			continue // the log was moved
		}
		least.Free = min(least.Free, st.Bavail*uint64(st.Bsize))
		if st.Files > 0 { // some file systems have no limit
			least.Files = min(least.Files, st.Ffree)
		}
	}
	return least
}

// monitored are the keys for the status page at a time. Certificates are looked at of
// those that sign or will, and of one that signs until its successor does only if they end
// before: then it is late to rotate it.
func monitored(keys holders, now time.Time) ([]monitor.Key, error) {
	var out []monitor.Key
	for service, all := range keys {
		for i, h := range all {
			name := serviceName(service)
			if h.Until != nil {
				name += ", until " + h.Until.Format(time.RFC3339)
			} else if i > 0 && now.Before(h.Signs) {
				name += ", from " + h.Signs.Format(time.RFC3339)
			}
			k, err := monitor.BareKey(name, h.id.key.Public())
			if err != nil {
				return nil, err
			}
			if len(h.id.chain) > 0 && (h.Until == nil || now.Before(all[i+1].Signs) && chainEnd(h.id.chain).Before(all[i+1].Signs)) {
				k = monitor.CertifiedKey(name, h.id.chain)
			}
			out = append(out, k)
		}
	}
	sorted.Func(out, func(x, y monitor.Key) int { return strings.Compare(x.Name, y.Name) })
	return out, nil
}
