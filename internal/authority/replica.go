package authority

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// A replica has no state: it certifies and stamps with the keys that it finds, and any
// number of them may do so beside the authority whose folder they have a copy of.

// replicated are the services whose keys a replica needs.
func replicated() []string { return []string{ServiceCA, ServiceTSA, ServiceCT} }

// OpenReplica serves the certificate authority and the timestamp authority of a data
// folder, or of a copy of its state and keys, and nothing else. It takes no lock and
// writes nothing: the folder may be read-only, and an authority or other replicas may be
// running on it. What was rotated since it was opened it does not know, but for the
// issuer, whose keys it asks for. A copy may be flat, with the keys beside the state, as
// Kubernetes shows a Secret.
//
// Of cfg it uses Dir, Listen, URL (default that of the authority), TLSCert, TLSKey,
// KeysFile, OpenKey, CAConfig, Version, Now and Log.
func OpenReplica(cfg Config) (_ *Authority, err error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	st, dir, err := readState(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if st.Version < stateVersion || st.Rotating != nil {
		return nil, fault.Hint(fmt.Errorf("%s is of an older version, or a rotation in it was interrupted", dir), "start hallmark up on the original once, and copy it again")
	}
	cfg.Dir, cfg.replica = dir, true
	if cfg.URL == "" {
		cfg.URL = st.URL
	}
	host, err := cfg.check()
	if err != nil {
		return nil, err
	}
	if host != st.Host {
		return nil, fault.Usagef("%s belongs to %s: a replica answers under the same name", dir, st.Host)
	}
	a := &Authority{cfg: cfg}
	if cfg.KeysFile != "" {
		if a.keyRefs, err = loadKeys(cfg.KeysFile); err != nil {
			return nil, err
		}
	}
	if cfg.CAConfig != "" {
		if a.caConfig, err = loadCAConfig(cfg.CAConfig); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			_ = a.Close()
		}
	}()
	if err := a.listen(host); err != nil {
		return nil, err
	}
	a.info.Issuer = st.URL
	if err := a.openReplica(st); err != nil {
		return nil, wayOut(err)
	}
	return a, nil
}

func (a *Authority) openReplica(st *state) error {
	k := keyring{dir: filepath.Join(a.cfg.Dir, keyDir), open: a.cfg.OpenKey, refs: a.keyRefs}
	if _, err := os.Stat(k.dir); errors.Is(err, fs.ErrNotExist) {
		k.dir = a.cfg.Dir
	}
	keys, err := k.holders(replicated(), st.Keys, a.cfg.Now())
	if err != nil {
		return err
	}
	for _, service := range replicated() {
		if last := keys.last(service); !last.sameChain(last.id.chain) {
			return fault.Hint(fault.Usagef("the certificates of the %s in %s are not those that the authority publishes: nobody would believe what is signed under them", serviceName(service), a.cfg.KeysFile),
				"start hallmark up with them first, which publishes them, and copy its %s again", stateFile)
		}
	}
	if err := a.openCTLog(st); err != nil {
		return err
	}
	if err := a.openIssuerAndCA(keys, false); err != nil {
		return err
	}
	if err := a.openTSA(keys); err != nil {
		return err
	}
	if err := a.watch(keys); err != nil {
		return err
	}
	base, err := url.Parse(a.info.URL)
	if err != nil {
		return err
	}
	a.server = newServer(guarded(base, a.replicaHandler()), a.cfg.Log)
	a.server.ConnState, a.server.ConnContext = a.crowd.state, a.crowd.context
	return nil
}

// replicaHandler is all that needs no state.
func (a *Authority) replicaHandler() http.Handler {
	mux := http.NewServeMux()
	for _, p := range caPaths() {
		mux.Handle(p, a.monitor.Count("certificate authority", a.caTurns))
	}
	mux.Handle(timestampPath, a.monitor.Count("timestamp authority", a.tsa))
	mux.Handle("/healthz", a.monitor.Handler())
	mux.Handle("/livez", a.monitor.Handler())
	mux.Handle("/metrics", a.monitor.Handler())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = limited(w, r, maxBody)
		mux.ServeHTTP(w, r)
	})
}

// caPaths are the paths of the certificate authority.
func caPaths() []string {
	return []string{"/api/v2/signingCert", "/api/v2/trustBundle", "/api/v2/configuration", "/api/v1/signingCert", "/api/v1/rootCert"}
}

// Address is host:port that the listener has; behind a balancer the URL names another.
func (a *Authority) Address() string { return a.listener.Addr().String() }
