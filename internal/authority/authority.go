// Package authority is a whole private Sigstore in one process, on one port and
// in one folder: OpenID Connect issuer, certificate authority with its CT key,
// transparency log (and one for older clients), timestamp authority, TUF
// repository and OCI registry.
//
// Everything lives at one base URL: it is the issuer and the address of CA and
// log; the TSA is at /api/v1/timestamp, TUF at /tuf, the registry at /v2/. The
// log's origin is the base URL's host name, because that is what Sigstore's
// verifiers compare it with; so the host name of a folder never changes, while
// the port may.
//
// Trusted: the data folder. Who can read it can sign as everybody (the keys are
// in keys/ and oidc/, mode 0600); who can only damage it makes Open refuse, with
// the damaged file's name, or the registry refuse to serve that content. Not
// trusted: everyone who connects. A web page that reaches this port through a
// browser is told apart by its Host and Origin headers.
package authority

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/monitor"
	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/authority/rekorv1"
	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
)

// ClientID is the OAuth client of the issuer and the audience of its tokens, as
// every Sigstore client expects.
const ClientID = "sigstore"

const (
	timestampPath = "/api/v1/timestamp"
	ctPath        = "/ct" // a name only: nothing of the CT log is served
)

// Config of an [Authority]. Dir and Listen are required.
type Config struct {
	// Dir is the data folder; it is made if it does not exist.
	Dir string
	// Listen is host:port to listen on. Port 0 takes a free one. Beyond loopback
	// TLS and RegistryUsers or RegistryConfig are required.
	Listen string
	// URL is the base URL that others use; empty derives it from Listen, which
	// then must not be a wildcard address.
	URL string
	// TLSCert and TLSKey are PEM files; with both the server speaks only TLS.
	TLSCert, TLSKey string
	// RegistryUsers is an htpasswd file (bcrypt) for the registry's login; empty
	// lets everyone who can connect push and pull.
	RegistryUsers string
	// RegistryConfig is a YAML file with the rights, quotas and garbage collection
	// of the registry (docs/registry.md); empty lets everyone who may log in do
	// everything.
	RegistryConfig string
	// CAConfig is a file in the form of Fulcio's configuration, YAML or JSON: other
	// issuers whose tokens the CA takes, and a CT log that certificates are submitted
	// to (docs/authority.md).
	CAConfig string
	// KeysFile is a YAML file that says where the services' keys are (docs/authority.md);
	// empty: in the folder, or where they were the last time. OpenKey opens them.
	KeysFile string
	OpenKey  OpenKey
	// RehearseClaims, when not nil, are the claims of a JSON object that the
	// GitHub-Actions-shaped token endpoint puts into its tokens.
	RehearseClaims []byte
	// RehearseServer is where the repositories of rehearsed jobs are, as in
	// GITHUB_SERVER_URL; empty is https://github.com.
	RehearseServer string
	// Version is that of the program, for the status page and the metrics.
	Version string
	// Witnesses are asked to cosign the log's checkpoints, WitnessQuorum of them are
	// waited for; 0 is all.
	Witnesses     []witness.Target
	WitnessQuorum int
	// replica serves certificates and timestamps alone, and writes nothing.
	replica bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Log gets what an operator must know and, at level Info, a line for every
	// request; nil discards.
	Log *slog.Logger
}

// Info is where everything is.
type Info struct {
	URL           string // base URL, without a slash at the end
	Registry      string // host:port for image names
	Issuer        string
	TUF           string // base URL of the TUF repository
	TUFRootSHA256 string // of TUF's root.json, for cosign initialize --root-checksum
	Dir           string // the data folder, absolute
	TrustedRoot   string // path
	SigningConfig string // path
	TrustRoot     string // path of the TrustRoot for admission
	CosignTUF     string // path of a TUF_ROOT of this authority's own for cosign
	Host          string // host name: the log's origin

	moved *movedLog // nil: all trees of the log are here
	names []string  // of the log's trees
}

// Authority is an open data folder with its listener. [Authority.Serve] answers.
type Authority struct {
	cfg      Config
	info     Info
	lock     *os.File
	listener net.Listener
	crowd    *crowd // below listener
	server   *http.Server

	rehearsal *Rehearsal

	caConfig []byte    // of CAConfig
	ctLog    *ca.CTLog // that certificates are submitted to; nil: none

	oidc      *oidc.Provider
	keyRefs   map[string]KeyRef
	witnesses map[string]*witness.Group // by the name of the tree that they cosign
	ca        *ca.CA                    // the newest: all know the same issuers
	caTurns   turns
	logs      []*tlog.Log    // of each of its keys, oldest first
	logsV1    []*rekorv1.Log // likewise
	tsa       turns
	tuf       *tuf.Repo
	registry  *registry.Server
	monitor   *monitor.Monitor

	users *logins         // of the registry; nil without a file of them
	rules *registry.Rules // of the registry; nil without a file of them
}

// Open makes or loads the folder, takes its lock, listens, and publishes the
// trust material. After an error nothing is held. A damaged file is a
// *durable.CorruptError; nothing is ever overwritten to get past one.
func Open(cfg Config) (_ *Authority, err error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	host, err := cfg.check()
	if err != nil {
		return nil, err
	}
	a := &Authority{}
	if cfg.RegistryUsers != "" {
		if a.users, err = loadLogins(cfg.RegistryUsers); err != nil {
			return nil, err
		}
	}
	if cfg.RegistryConfig != "" {
		if a.rules, err = loadRules(cfg.RegistryConfig); err != nil {
			return nil, err
		}
	}
	if cfg.CAConfig != "" {
		if a.caConfig, err = loadCAConfig(cfg.CAConfig); err != nil {
			return nil, err
		}
	}
	if cfg.KeysFile != "" {
		if a.keyRefs, err = loadKeys(cfg.KeysFile); err != nil {
			return nil, err
		}
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, unwritable(cfg.Dir, err)
	}
	a.cfg = cfg
	defer func() {
		if err != nil {
			_ = a.Close()
		}
	}()
	if a.lock, err = lock(cfg.Dir); err != nil {
		return nil, err
	}
	st, fresh, err := cfg.state(host)
	if err != nil {
		return nil, err
	}
	if err := a.listen(host); err != nil {
		return nil, err
	}
	if err := st.Moved.checkURL(a.info.URL); err != nil {
		return nil, err
	}
	st.URL, a.info.moved, a.info.names = a.info.URL, st.Moved, st.treeNames()
	if err := a.open(st, fresh); err != nil {
		return nil, wayOut(err)
	}
	return a, nil
}

// state reads the folder's state, or begins one in a folder that is fresh.
func (cfg Config) state(host string) (st *state, fresh bool, err error) {
	st, err = loadState(cfg.Dir)
	if err != nil {
		return nil, false, err
	}
	if st == nil {
		return &state{Version: 1, Host: host, Created: cfg.Now().UTC().Truncate(time.Second)}, true, nil
	}
	if st.Host != host {
		return nil, false, fault.Hint(fault.Usagef("%s belongs to %s and cannot become %s: every signature in its log names that host", cfg.Dir, st.Host, host),
			"start it with --listen %s, or name another folder with --data", net.JoinHostPort(st.Host, "PORT"))
	}
	return st, false, st.checkPublished(cfg.Dir)
}

// check holds the configuration to what may be reached from where, and returns
// the host name.
func (cfg Config) check() (string, error) {
	host, _, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return "", fault.Usagef("--listen %q is not host:port", cfg.Listen)
	}
	if (cfg.TLSCert == "") != (cfg.TLSKey == "") {
		return "", fault.Usagef("--tls-cert and --tls-key belong together")
	}
	public := !loopback.Host(host)
	name := host
	if cfg.URL != "" {
		u, err := url.Parse(cfg.URL)
		if err != nil || u.Host == "" || u.User != nil || strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" ||
			u.Scheme != "http" && u.Scheme != "https" {
			return "", fault.Usagef("--url %q is not a base URL such as https://sigstore.example.com", cfg.URL)
		}
		if !loopback.Host(u.Hostname()) {
			public = true
			if u.Scheme != "https" {
				return "", fault.Usagef("--url %s: others may reach this only over https", cfg.URL)
			}
		}
		if cfg.TLSCert != "" && u.Scheme != "https" {
			return "", fault.Usagef("--url %s: with --tls-cert this speaks https", cfg.URL)
		}
		name = u.Hostname()
	} else if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return "", fault.Hint(fault.Usagef("--listen %s listens on every address and says no host name", cfg.Listen),
			"add --url https://NAME, which is what others will use")
	}
	if public && cfg.RegistryUsers == "" && cfg.RegistryConfig == "" && !cfg.replica || !loopback.Host(host) && cfg.TLSCert == "" {
		return "", fault.Hint(fault.Usagef("%s can be reached from other machines: that needs TLS and a login for the registry", cfg.Listen),
			"add --tls-cert, --tls-key and --registry-user-file, or listen on 127.0.0.1")
	}
	return strings.ToLower(name), nil
}

// listen opens the port and settles the base URL.
func (a *Authority) listen(host string) error {
	cfg := a.cfg
	var config *tls.Config
	scheme := "http"
	if cfg.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
		if err != nil {
			return fmt.Errorf("TLS certificate: %w", err)
		}
		if err := pair.Leaf.VerifyHostname(host); err != nil {
			return fault.Usagef("TLS certificate %s: %w", cfg.TLSCert, err)
		}
		config = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		scheme = "https"
	}
	l, err := net.Listen("tcp", cfg.Listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fault.Hint(fmt.Errorf("%s is taken by another program", cfg.Listen),
			"name another port with --listen, or 0 for any free one")
	case errors.Is(err, syscall.EACCES):
		return fault.Hint(fmt.Errorf("%s may not be opened by this user", cfg.Listen), "name a port from 1024 with --listen")
	case err != nil:
		return fmt.Errorf("listening on %s: %w", cfg.Listen, err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return errors.Join(err, l.Close())
	}
	base := strings.TrimSuffix(cfg.URL, "/")
	if base == "" {
		base = scheme + "://" + net.JoinHostPort(host, port)
		if scheme == "https" && port == "443" {
			base = strings.TrimSuffix(base, ":443")
		}
	}
	if a.info, err = info(base, host, cfg.Dir); err != nil {
		return errors.Join(err, l.Close())
	}
	a.crowd = newCrowd(l, connectionLimit())
	a.listener = a.crowd
	if config != nil {
		a.listener = tls.NewListener(a.crowd, config)
	}
	return nil
}

// Info is where everything is.
func (a *Authority) Info() Info { return a.info }

// Mint makes an identity token for an e-mail address, as the function Mint does.
func (a *Authority) Mint(email string) (string, error) {
	return a.oidc.Mint(email, ClientID, oidc.TokenLifetime)
}

// NewOneTimeCode is a code that logs in once as email, while this process lives.
func (a *Authority) NewOneTimeCode(email string) (string, error) {
	code, err := a.oidc.NewOneTimeCode(email)
	return code, fault.As(fault.Usage, err)
}

// Rehearsal is what a rehearsed GitHub Actions job finds in its environment.
type Rehearsal struct {
	URL   string // ACTIONS_ID_TOKEN_REQUEST_URL
	Token string // ACTIONS_ID_TOKEN_REQUEST_TOKEN, a secret
}

// Rehearsal reports how rehearsed tokens are asked for, false when they are not offered.
func (a *Authority) Rehearsal() (Rehearsal, bool) {
	if a.rehearsal == nil {
		return Rehearsal{}, false
	}
	return *a.rehearsal, true
}

// Close releases everything. It may be called after or instead of Serve.
func (a *Authority) Close() error {
	var errs []error
	if a.listener != nil {
		if err := a.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	for _, l := range a.logs {
		if l == nil { // moved
			continue
		}
		errs = append(errs, l.Close())
	}
	for _, l := range a.logsV1 {
		errs = append(errs, l.Close())
	}
	for _, g := range a.witnesses {
		g.Close()
	}
	if a.registry != nil {
		errs = append(errs, a.registry.Close())
	}
	if a.lock != nil {
		// A child process that is being started holds a copy of the file, and with
		// it the lock, for a moment longer.
		errs = append(errs, syscall.Flock(int(a.lock.Fd()), syscall.LOCK_UN), a.lock.Close())
	}
	return errors.Join(errs...)
}
