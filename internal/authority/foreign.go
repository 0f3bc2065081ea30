package authority

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
)

// What others vouch for: chains that an offline root gave to keys of the authority,
// and CT logs elsewhere. What was taken once is kept in the state and published for
// good, because something that was signed then hangs on it.

// ctLog is a CT log elsewhere whose SCTs are in certificates.
type ctLog struct {
	URL   string    `json:"url"`
	Key   []byte    `json:"key"` // DER SubjectPublicKeyInfo
	Since time.Time `json:"since"`
}

// check refuses what nothing here writes.
func (l ctLog) check() error {
	if public, err := x509.ParsePKIXPublicKey(l.Key); err != nil {
		return errors.New("it has a CT log with a key that cannot be read")
	} else if _, err := ca.NewCTLog(l.URL, public); err != nil {
		return errors.New("it has a CT log that cannot be used")
	}
	return nil
}

// openCTLog takes up the CT log of the configuration. Its key is in the state, which
// is on disk before anything is published or signed.
func (a *Authority) openCTLog(st *state) error {
	if a.caConfig == nil {
		return nil
	}
	said, err := issuers.ParseConfig(a.cfg.CAConfig, a.caConfig, "")
	if err != nil || said.CTLog == nil {
		return fault.As(fault.Usage, err)
	}
	public, err := key.ParsePublicPEM(said.CTLog.Key)
	if err == nil {
		a.ctLog, err = ca.NewCTLog(said.CTLog.URL, public)
	}
	if err != nil {
		return fault.As(fault.Usage, said.CTLog.Pos.Errorf("%v", err))
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(st.CTLogs, func(l ctLog) bool { return l.URL == a.ctLog.URL() && bytes.Equal(l.Key, der) }) {
		return nil
	}
	if a.cfg.replica {
		return fault.Hint(fmt.Errorf("the CT log %s is not among those that this authority publishes", a.ctLog.URL()),
			"start hallmark up with the same --ca-config once, and copy its folder again")
	}
	// Its clock may be behind ours.
	st.CTLogs = append(st.CTLogs, ctLog{a.ctLog.URL(), der, a.cfg.Now().UTC().Truncate(time.Second).Add(-5 * time.Minute)})
	return nil
}

// TakeChain gives a key of a data folder the chain in a PEM file, which an offline
// root made, and says whose it is ([ServiceCA] or [ServiceTSA]). It is published at
// once, beside the chains that the key had before; the next start signs under it. No
// authority may be running on the folder.
func TakeChain(dir, path string, now time.Time) (service string, chain []*x509.Certificate, err error) {
	_, dir, err = readState(dir)
	if err != nil {
		return "", nil, err
	}
	held, err := lock(dir)
	if err != nil {
		return "", nil, fault.Hint(err, "stop it first: it reads its chain when it starts")
	}
	defer func() { _ = syscall.Flock(int(held.Fd()), syscall.LOCK_UN); _ = held.Close() }()
	st, dir, err := readState(dir)
	if err != nil {
		return "", nil, err
	}
	if err := st.settled(dir); err != nil {
		return "", nil, err
	}
	if chain, err = readChain(path); err != nil {
		return "", nil, fault.As(fault.Usage, fmt.Errorf("%s: %w", path, err))
	}
	service, t, err := st.certifiedTerm(chain, now)
	if err != nil {
		return "", nil, fault.As(fault.Usage, fmt.Errorf("%s: %w", path, err))
	}
	if err := t.setChain(dir, chain); err != nil {
		return "", nil, err
	}
	i, err := st.info(dir)
	if err != nil {
		return "", nil, err
	}
	if _, err := newPublication(i, st); err != nil {
		return "", nil, err
	}
	if err := st.save(dir); err != nil {
		return "", nil, err
	}
	return service, chain, st.republish(dir, now)
}

// settled wants a folder that is of the newest version and not in the middle of
// something.
func (st *state) settled(dir string) error {
	if st.Version < stateVersion {
		return fault.Hint(fmt.Errorf("%s is of version %d", dir, st.Version), "start hallmark up on it once: that brings it to version %d", stateVersion)
	}
	if st.Rotating != nil {
		return fault.Hint(fmt.Errorf("a rotation of the %s was interrupted", serviceName(st.Rotating.Service)),
			"hallmark authority rotate %s finishes it, and so does the next hallmark up", st.Rotating.Service)
	}
	return wayOut(st.checkPublished(dir))
}

// republish tells clients of a state that has changed.
func (st *state) republish(dir string, now time.Time) error {
	i, err := st.info(dir)
	if err != nil {
		return err
	}
	p, err := newPublication(i, st)
	if err != nil {
		return err
	}
	repo, err := tuf.Open(filepath.Join(dir, tufDir), tuf.Config{Now: func() time.Time { return now }})
	if err != nil {
		return err
	}
	return publish(dir, st, repo, p)
}

// certifiedTerm finds the newest key of the CA or the TSA that a chain is of, if it will do
// for that.
func (st *state) certifiedTerm(chain []*x509.Certificate, now time.Time) (string, *term, error) {
	if len(chain) < 2 {
		return "", nil, errors.New("want the certificate that the root issued, and then the root")
	}
	for _, service := range []string{ServiceCA, ServiceTSA} {
		all := st.Keys[service]
		t := all[len(all)-1]
		public, err := t.public()
		if err != nil {
			return "", nil, err
		}
		if !sameKey(chain[0].PublicKey, public) {
			continue
		}
		to := now
		if t.Signs.After(now) { // it is published before
			to = t.Signs
		}
		return service, t, checkChainOf(service, public, chain, nil, now, to.Add(grace))
	}
	return "", nil, fault.Hint(errors.New("its first certificate is of none of the present keys of CA and timestamp authority"),
		"hallmark authority csr writes the request for one of them, and hallmark authority issue the chain")
}

// CSROf is such a request of a key that no data folder has yet, for a certificate with
// this common name; see [CSR].
func CSROf(private crypto.Signer, service, name string) (csr []byte, fingerprint string, err error) {
	if !certified(service) {
		return nil, "", fault.Usagef("the %s has no certificates: want %s or %s", service, ServiceCA, ServiceTSA)
	}
	if err := CheckAlgorithm(service, private.Public()); err != nil {
		return nil, "", fault.As(fault.Usage, err)
	}
	csr, err = ca.NewCSR(private, pkix.Name{Organization: []string{organization}, CommonName: name})
	return csr, key.Fingerprint(private.Public()), err
}

// CSR is the request of a data folder for a certificate of the newest key of its CA or
// its TSA ([ServiceCA] or [ServiceTSA]), PEM, with the key's fingerprint. An authority
// may be running on the folder.
func CSR(dir, service string, open OpenKey) (csr []byte, fingerprint string, err error) {
	st, dir, err := readState(dir)
	if err != nil {
		return nil, "", err
	}
	if !certified(service) {
		return nil, "", fault.Usagef("the %s has no certificates: want %s or %s", service, ServiceCA, ServiceTSA)
	}
	if err := st.settled(dir); err != nil {
		return nil, "", err
	}
	all := st.Keys[service]
	h, err := keyring{dir: filepath.Join(dir, keyDir), open: open}.holder(service, all[len(all)-1], len(all), true)
	if err != nil {
		return nil, "", err
	}
	// The certificates that a key has had name it alike.
	subject := pkix.Name{Organization: []string{organization}, CommonName: caName(st.Host)}
	if service == ServiceTSA {
		subject.CommonName = "Hallmark timestamp authority on " + st.Host
	}
	csr, err = ca.NewCSR(h.id.key, subject)
	return csr, key.Fingerprint(h.id.key.Public()), err
}
