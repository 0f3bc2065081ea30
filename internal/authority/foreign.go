package authority

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// What others vouch for: chains that an offline root gave to keys of this folder,
// and CT logs elsewhere. What was taken once is kept and published for good, because
// something that was signed then hangs on it.

const (
	chainsFile = "chains.json"  // in keyDir, sealed
	ctLogsFile = "ct-logs.json" // in keyDir, sealed

	maxForeign = 64 << 10 // bytes of a chain's file
)

// foreign is all of it.
type foreign struct {
	chains chains  // that others gave to keys of the folder
	ctLogs []ctLog // those that certificates were ever submitted to
}

// chains are given to keys of this folder, the newest first. The first of a key is
// in use.
type chains [][]*x509.Certificate

// of are the chains of one key, the one in use first.
func (c chains) of(public crypto.PublicKey) (out chains) {
	for _, chain := range c {
		if k, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && k.Equal(public) {
			out = append(out, chain)
		}
	}
	return out
}

// active is the chain that speaks for an identity now.
func (c chains) active(id identity) []*x509.Certificate { return c.all(id)[0] }

// all are the chains that ever spoke for an identity, the one in use first and its
// own last.
func (c chains) all(id identity) chains { return append(c.of(id.key.Public()), id.chain) }

// with is the chains with this one first.
func (c chains) with(chain []*x509.Certificate) chains {
	out := chains{chain}
	for _, other := range c {
		if !slices.EqualFunc(other, chain, (*x509.Certificate).Equal) {
			out = append(out, other)
		}
	}
	return out
}

// distinct are the certificates of all chains, each once.
func (c chains) distinct() (out []*x509.Certificate) {
	for _, chain := range c {
		for _, cert := range chain {
			if !slices.ContainsFunc(out, cert.Equal) {
				out = append(out, cert)
			}
		}
	}
	return out
}

// ctLog is a CT log elsewhere whose SCTs are in certificates.
type ctLog struct {
	URL   string    `json:"url"`
	Key   []byte    `json:"key"` // DER SubjectPublicKeyInfo
	Since time.Time `json:"since"`
}

// readForeign reads what was taken. It is none in a folder where nothing was.
func readForeign(dir string) (f foreign, err error) {
	var raw [][][]byte
	if err := readSealedJSON(filepath.Join(dir, keyDir, chainsFile), &raw); err != nil {
		return f, err
	}
	for _, one := range raw {
		var chain []*x509.Certificate
		for _, der := range one {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return f, damaged(&durable.CorruptError{Path: filepath.Join(dir, keyDir, chainsFile), Why: "it has a certificate that cannot be read"})
			}
			chain = append(chain, cert)
		}
		if len(chain) == 0 {
			return f, damaged(&durable.CorruptError{Path: filepath.Join(dir, keyDir, chainsFile), Why: "it has an empty chain"})
		}
		f.chains = append(f.chains, chain)
	}
	path := filepath.Join(dir, keyDir, ctLogsFile)
	if err := readSealedJSON(path, &f.ctLogs); err != nil {
		return f, err
	}
	for _, l := range f.ctLogs {
		if _, err := x509.ParsePKIXPublicKey(l.Key); err != nil {
			return f, damaged(&durable.CorruptError{Path: path, Why: "it has a key that cannot be read"})
		}
	}
	return f, nil
}

// readSealedJSON reads a sealed file; a missing one leaves v as it is.
func readSealedJSON(path string, v any) error {
	data, err := durable.ReadSealed(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return damaged(err)
	}
	if strictjson.Valid(data, 8) != nil || json.Unmarshal(data, v) != nil {
		return damaged(&durable.CorruptError{Path: path, Why: "it is not the JSON that belongs here"})
	}
	return nil
}

// openForeign reads what was taken before, and takes up the CT log of the
// configuration: its key is on disk before anything is signed under it.
func (a *Authority) openForeign() (err error) {
	if a.foreign, err = readForeign(a.cfg.Dir); err != nil {
		return err
	}
	if a.caConfig == nil {
		return nil
	}
	said, err := issuers.ParseConfig(a.cfg.CAConfig, a.caConfig, "")
	if err != nil || said.CTLog == nil {
		return err
	}
	public, err := key.ParsePublicPEM(said.CTLog.Key)
	if err == nil {
		a.ctLog, err = ca.NewCTLog(said.CTLog.URL, public)
	}
	if err != nil {
		return fault.As(fault.Usage, said.CTLog.Pos.Errorf("%v", err))
	}
	return a.rememberCTLog()
}

// rememberCTLog keeps the log's key among those that are published.
func (a *Authority) rememberCTLog() error {
	der, err := x509.MarshalPKIXPublicKey(a.ctLog.Public())
	if err != nil {
		return err
	}
	if slices.ContainsFunc(a.foreign.ctLogs, func(l ctLog) bool { return l.URL == a.ctLog.URL() && bytes.Equal(l.Key, der) }) {
		return nil
	}
	if a.cfg.replica {
		return fault.Hint(fmt.Errorf("the CT log %s is not among those that this authority publishes", a.ctLog.URL()),
			"start hallmark up with the same --ca-config once, and copy its folder again")
	}
	// Its clock may be behind ours.
	since := a.cfg.Now().UTC().Truncate(time.Second).Add(-5 * time.Minute)
	a.foreign.ctLogs = append(a.foreign.ctLogs, ctLog{a.ctLog.URL(), der, since})
	return writeSealedJSON(filepath.Join(a.cfg.Dir, keyDir, ctLogsFile), a.foreign.ctLogs)
}

// TakeChain gives a key of a data folder the chain in a PEM file, which an offline
// root made, and says whose it is (ca.PurposeCA or ca.PurposeTSA). The chains that
// the key had are published on. No authority may be running on the folder; the next
// start signs under the chain.
func TakeChain(dir, path string, now time.Time) (purpose string, chain []*x509.Certificate, err error) {
	st, dir, err := readState(dir)
	if err != nil {
		return "", nil, err
	}
	held, err := lock(dir)
	if err != nil {
		return "", nil, fault.Hint(err, "stop it first: it reads its chain when it starts")
	}
	defer func() { _ = syscall.Flock(int(held.Fd()), syscall.LOCK_UN); _ = held.Close() }()
	data, err := readUpTo(path, maxForeign)
	if err != nil {
		return "", nil, err
	}
	if chain, err = ca.ParseChain(data); err != nil {
		return "", nil, fault.As(fault.Usage, fmt.Errorf("%s: %w", path, err))
	}
	if purpose, err = checkForeign(st, dir, chain, now); err != nil {
		return "", nil, fault.As(fault.Usage, fmt.Errorf("%s: %w", path, err))
	}
	have, err := readForeign(dir)
	if err != nil {
		return "", nil, err
	}
	return purpose, chain, have.chains.with(chain).save(dir)
}

// checkForeign finds whose key of a folder a chain is of, and whether it will do.
func checkForeign(st *state, dir string, chain []*x509.Certificate, now time.Time) (purpose string, err error) {
	if len(chain) < 2 {
		return "", errors.New("want the certificate that the root issued, and then the root")
	}
	for _, c := range chain {
		if now.Before(c.NotBefore) || !now.Before(c.NotAfter) {
			return "", fmt.Errorf("%s is valid from %s to %s", c.Subject, c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
		}
	}
	for _, one := range []struct {
		purpose string
		check   func([]*x509.Certificate, crypto.PublicKey) error
	}{{ca.PurposeCA, ca.CheckChain}, {ca.PurposeTSA, ca.CheckTSAChain}} {
		id, err := certifiedKey(st, dir, one.purpose)
		if err != nil {
			return "", err
		}
		if len((chains{chain}).of(id.key.Public())) > 0 {
			return one.purpose, one.check(chain, id.key.Public())
		}
	}
	return "", fault.Hint(errors.New("its first certificate is of none of the folder's keys"),
		"hallmark authority csr writes the request for one, and hallmark authority issue the chain")
}

// certifiedKey is the newest key of the CA or the TSA, which must be in the folder.
func certifiedKey(st *state, dir, purpose string) (identity, error) {
	if purpose != ca.PurposeCA && purpose != ca.PurposeTSA {
		return identity{}, fault.Usagef("purpose %q: want %s or %s", purpose, ca.PurposeCA, ca.PurposeTSA)
	}
	k := keyring{dir: filepath.Join(dir, keyDir)}
	n := max(1, len(st.Keys[purpose]))
	t := st.termOf(purpose, n)
	if t == nil {
		return k.load(keyName(purpose, n), nil)
	}
	h, err := k.holder(purpose, t, n, true)
	return h.id, err
}

func (c chains) save(dir string) error {
	raw := make([][][]byte, len(c))
	for i, chain := range c {
		for _, cert := range chain {
			raw[i] = append(raw[i], cert.Raw)
		}
	}
	return writeSealedJSON(filepath.Join(dir, keyDir, chainsFile), raw)
}

func writeSealedJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteSealed(path, append(data, '\n'), 0o600)
}

// CSR is the request of a data folder for a certificate of its CA's or its TSA's
// key (purpose ca.PurposeCA or ca.PurposeTSA), PEM, with the key's fingerprint. An
// authority may be running on the folder.
func CSR(dir, purpose string) (csr []byte, fingerprint string, err error) {
	st, dir, err := readState(dir)
	if err != nil {
		return nil, "", err
	}
	id, err := certifiedKey(st, dir, purpose)
	if err != nil {
		return nil, "", err
	}
	// The name of the certificate that the key has: what was signed under that one and
	// what is signed under the other look alike.
	subject := pkix.Name{Organization: []string{organization}, CommonName: caName(st.Host)}
	if purpose == ca.PurposeTSA {
		subject.CommonName = "Hallmark timestamp authority on " + st.Host
	}
	csr, err = ca.NewCSR(id.key, subject)
	return csr, key.Fingerprint(id.key.Public()), err
}
