package authority

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/monitor"
	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/authority/rekorv1"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/authority/tsa"
	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

const organization = "Hallmark"

// identities are the keys that trust hangs on.
type identities struct{ ca, ct, tsa, log, logV1 identity }

// open loads everything in the folder, wires it, and publishes the trust material.
func (a *Authority) open(st *state, fresh bool) error {
	ids, err := a.loadIdentities(st, fresh)
	if err != nil {
		return err
	}
	if err := a.openServices(ids, fresh); err != nil {
		return err
	}
	if err := a.openLogV1(st, ids, fresh); err != nil {
		return err
	}
	if err := a.publish(st, ids); err != nil {
		return err
	}
	if err := a.watch(ids); err != nil {
		return err
	}
	base, err := url.Parse(a.info.URL)
	if err != nil {
		return err
	}
	a.server = newServer(guarded(base, a.handler()), a.cfg.Log)
	a.server.ConnState, a.server.ConnContext = a.crowd.state, a.crowd.context
	return nil
}

func (a *Authority) loadIdentities(st *state, fresh bool) (ids identities, err error) {
	dir := filepath.Join(a.cfg.Dir, keyDir)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return ids, unwritable(a.cfg.Dir, err)
	}
	k := keyring{dir: dir, fresh: fresh}
	if ids.ca, err = k.load("ca.pem", func() (identity, error) {
		key, cert, err := ca.NewRoot(st.Created, organization, "Hallmark CA on "+st.Host)
		return identity{key, []*x509.Certificate{cert}}, err
	}); err != nil {
		return ids, err
	}
	if ids.tsa, err = k.load("tsa.pem", func() (identity, error) {
		key, chain, err := tsa.NewChain(st.Created)
		return identity{key, chain}, err
	}); err != nil {
		return ids, err
	}
	if ids.ct, err = k.load("ct.pem", newP256); err != nil {
		return ids, err
	}
	if ids.log, err = k.load("log.pem", newEd25519); err != nil {
		return ids, err
	}
	k.fresh = st.LogV1 == nil
	ids.logV1, err = k.load("log-v1.pem", newP256)
	return ids, err
}

// openLogV1 opens the log for older clients. In a folder that has none it makes
// it, and a folder that was finished without it is then of the newest version:
// the state says so before anything that names the log is published.
func (a *Authority) openLogV1(st *state, ids identities, fresh bool) (err error) {
	head := filepath.Join(a.cfg.Dir, logV1Head)
	made := st.LogV1 != nil
	if !made {
		st.Version, st.LogV1 = stateVersion, new(logV1State)
		if st.LogV1.TreeID, err = rekorv1.NewTreeID(ids.logV1.key.Public()); err != nil {
			return err
		}
	} else if _, err := os.Stat(head); errors.Is(err, fs.ErrNotExist) {
		return &durable.CorruptError{Path: head, Why: "it is missing"}
	}
	a.logV1, err = rekorv1.Open(filepath.Join(a.cfg.Dir, logV1Dir), rekorv1.Config{
		Host: st.Host, Key: ids.logV1.key, TreeID: st.LogV1.TreeID, Now: a.cfg.Now, Log: a.cfg.Log,
	})
	if err != nil {
		return fmt.Errorf("log for older clients: %w", err)
	}
	if made || fresh {
		return nil
	}
	return st.save(a.cfg.Dir)
}

// openServices opens the services that every folder has, and the registry.
func (a *Authority) openServices(ids identities, fresh bool) (err error) {
	cfg := a.cfg
	in := func(name string) string { return filepath.Join(cfg.Dir, name) }
	for _, name := range []string{oidcDir, logHead, tufRepository, registryDir} {
		// What went missing is a loss, not a reason to begin anew.
		if _, err := os.Stat(in(name)); !fresh && errors.Is(err, fs.ErrNotExist) {
			return &durable.CorruptError{Path: in(name), Why: "it is missing"}
		}
	}
	if err := a.openIssuerAndCA(ids, fresh); err != nil {
		return err
	}
	logKey, ok := ids.log.key.(ed25519.PrivateKey)
	if !ok {
		return &durable.CorruptError{Path: in(filepath.Join(keyDir, "log.pem")), Why: "it does not hold an Ed25519 key"}
	}
	if len(cfg.Witnesses) > 0 || cfg.WitnessQuorum != 0 {
		a.witnesses, err = witness.NewGroup(witness.GroupConfig{Targets: cfg.Witnesses, Quorum: cfg.WitnessQuorum, Now: cfg.Now, Log: cfg.Log})
		if err != nil {
			return fault.As(fault.Usage, err)
		}
	}
	a.log, err = tlog.Open(in(logDir), tlog.Config{Origin: a.info.Host, Key: logKey, Now: cfg.Now, Log: cfg.Log, Witnesses: a.witnesses})
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if a.tsa, err = tsa.New(tsa.Config{Key: ids.tsa.key, Chain: ids.tsa.chain, Now: cfg.Now}); err != nil {
		return fmt.Errorf("timestamp authority: %w", err)
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
	a.info.TUFRootSHA256 = a.tuf.RootSHA256()
	return nil
}

// openIssuerAndCA opens the issuer, and the CA that takes its tokens.
func (a *Authority) openIssuerAndCA(ids identities, fresh bool) (err error) {
	cfg := a.cfg
	a.oidc, err = oidc.Open(filepath.Join(cfg.Dir, oidcDir), oidc.Config{
		Issuer: a.info.Issuer, ClientID: ClientID, Existing: !fresh, Now: cfg.Now, Log: cfg.Log,
	})
	if err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if cfg.RehearseClaims != nil {
		r := new(Rehearsal)
		if r.URL, r.Token, err = a.oidc.EnableRehearseGitHub(cfg.RehearseClaims); err != nil {
			return err
		}
		a.rehearsal = r
	}
	issuers := []ca.Issuer{{URL: a.info.Issuer, ClientID: ClientID, Type: ca.TypeEmail, Keys: a.oidc}}
	if a.rehearsal != nil {
		issuers = append(issuers, ca.Issuer{URL: a.info.Issuer, ClientID: ClientID, Type: ca.TypeGitHubWorkflow, Keys: a.oidc})
	}
	a.ca, err = ca.New(ca.Config{
		CAKey: ids.ca.key, CACert: ids.ca.chain[0], CTKey: ids.ct.key,
		Issuers: issuers, Now: cfg.Now, Log: cfg.Log,
	})
	if err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	return nil
}

// handler is everything at the base URL.
func (a *Authority) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(service string, h http.Handler, paths ...string) {
		for _, p := range paths {
			mux.Handle(p, a.monitor.Count(service, h))
		}
	}
	handle("certificate authority", a.ca.Handler(), "/api/v2/signingCert", "/api/v2/trustBundle", "/api/v2/configuration", "/api/v1/signingCert", "/api/v1/rootCert")
	handle("log", a.log.Handler(), "/api/v2/log/", "/api/v2/checkpoint", "/api/v2/tile/")
	handle("log for older clients", a.logV1.Handler(), rekorv1.Paths()...)
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
	})
}

// watch makes the monitor, which shows these keys.
func (a *Authority) watch(ids identities) error {
	keys := []monitor.Key{
		monitor.CertifiedKey("certificate authority", ids.ca.chain),
		monitor.CertifiedKey("timestamp authority", ids.tsa.chain),
	}
	for name, id := range map[string]identity{"certificate transparency log": ids.ct, "log": ids.log, "log for older clients": ids.logV1} {
		k, err := monitor.BareKey(name, id.key.Public())
		if err != nil {
			return err
		}
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y monitor.Key) int { return strings.Compare(x.Name, y.Name) })
	i := a.info
	a.monitor = monitor.New(monitor.Config{Version: a.cfg.Version, Now: a.cfg.Now, Log: a.cfg.Log, Facts: func() monitor.Facts {
		notes := ""
		if a.witnesses != nil {
			notes = a.witnesses.Describe()
		}
		return monitor.Facts{URL: i.URL, Notes: strings.Split(strings.TrimSpace(notes), "\n"), Registry: i.Registry, TUF: i.TUF, TUFRootSHA256: i.TUFRootSHA256, Keys: keys,
			Logs: []monitor.Log{
				{Origin: i.Host, Size: a.log.Size(), Stopped: a.log.Err(), Checkpoint: "/api/v2/checkpoint"},
				{Origin: a.logV1.Origin(), Size: a.logV1.Size(), Stopped: a.logV1.Err(), Checkpoint: "/api/v1/log"},
			}}
	}})
	return nil
}
