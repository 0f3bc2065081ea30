package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// Unfinished is a signature of an image that was made, and lacks what a service
// did not give: timestamps, log entries, or its place beside the image. It holds
// nothing secret, and needs neither the key nor the identity to be finished.
type Unfinished struct {
	Image     string             `json:"image"` // host/repo@sha256:…
	Target    ocispec.Descriptor `json:"target"`
	Statement []byte             `json:"statement"`
	// Digest is what was signed, hashed; empty for pure Ed25519.
	Digest     []byte       `json:"digest,omitempty"`
	Signature  []byte       `json:"signature"`
	KeyDetails string       `json:"keyDetails"`            // dev.sigstore.common.v1.PublicKeyDetails
	Cert       []byte       `json:"certificate,omitempty"` // DER
	PublicKey  []byte       `json:"publicKey,omitempty"`   // DER SubjectPublicKeyInfo, where there is no certificate
	Timestamps []givenStamp `json:"timestamps,omitempty"`
	LogEntries []givenEntry `json:"logEntries,omitempty"`
	// How many of each the signing config demanded, and the hosts of the logs that
	// it named: what its user agreed to.
	NeedTimestamps int       `json:"needTimestamps"`
	NeedLogEntries int       `json:"needLogEntries"`
	LogHosts       []string  `json:"logHosts,omitempty"`
	Made           time.Time `json:"made"`
}

type givenStamp struct {
	URL   string `json:"url"` // of who gave it
	Token []byte `json:"token"`
}

type givenEntry struct {
	URL   string            `json:"url"`
	Entry evidence.LogEntry `json:"entry"`
}

// unfinished is a signature of which nothing else is there.
func (s *Signer) unfinished(m made) Unfinished {
	u := Unfinished{Digest: m.digest, Signature: m.sig, KeyDetails: m.keyDetails, Cert: m.cert, PublicKey: m.spki, Made: s.cfg.Now(),
		NeedTimestamps: s.cfg.Services.TSAs.Need, NeedLogEntries: s.cfg.Services.Logs.Need}
	for _, url := range s.cfg.Services.Logs.URLs {
		u.LogHosts = append(u.LogHosts, hostOf(url))
	}
	return u
}

// lacks is who can still be asked for what is not there.
func (u *Unfinished) lacks(s *Services) (tsas, logs trust.Choice) {
	rest := func(c trust.Choice, need int, has func(url string) bool) trust.Choice {
		return trust.Choice{URLs: slices.DeleteFunc(slices.Clone(c.URLs), has), Need: need}
	}
	return rest(s.TSAs, u.NeedTimestamps-len(u.Timestamps), func(url string) bool {
			return slices.ContainsFunc(u.Timestamps, func(t givenStamp) bool { return t.URL == url })
		}), rest(s.Logs, u.NeedLogEntries-len(u.LogEntries), func(url string) bool {
			return slices.ContainsFunc(u.LogEntries, func(e givenEntry) bool { return e.URL == url })
		})
}

// claim is all that is there, without what is signed.
func (u *Unfinished) claim(m made) (*evidence.Claim, error) {
	c := &evidence.Claim{Format: evidence.FormatBundle03, MediaType: evidence.BundleMediaType}
	if m.cert != nil {
		c.Certificates = [][]byte{m.cert}
	} else {
		pub, err := m.public()
		if err != nil {
			return nil, err
		}
		c.KeyHint = key.Hint(pub)
	}
	for _, t := range u.Timestamps {
		c.Timestamps = append(c.Timestamps, t.Token)
	}
	for _, e := range u.LogEntries {
		c.LogEntries = append(c.LogEntries, e.Entry)
	}
	return c, nil
}

// LaterError says that a signature was made, could not be finished, and waits.
type LaterError struct {
	Path string // of the file in which it waits
	Err  error  // why it could not be finished
}

func (e *LaterError) Error() string { return e.Err.Error() }
func (e *LaterError) Unwrap() error { return e.Err }

// keep writes an unfinished signature to a file in the folder of Config.Later,
// which has returned when it is on disk. The same signature has one file.
func (u *Unfinished) keep(dir string) (string, error) {
	data, err := json.Marshal(u)
	if err != nil {
		return "", err
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	sum := sha256.Sum256(u.Signature)
	path := filepath.Join(dir, hex.EncodeToString(sum[:16])+LaterSuffix)
	return path, durable.WriteSealed(path, data, 0o600)
}

// LaterSuffix is how the files of unfinished signatures end.
const LaterSuffix = ".unfinished"

// LoadUnfinished reads what a signer kept. A file that is not exactly that is a
// *durable.CorruptError.
func LoadUnfinished(path string) (*Unfinished, error) {
	data, err := durable.ReadSealed(path)
	if err != nil {
		return nil, err
	}
	u := new(Unfinished)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(u); err != nil {
		return nil, &durable.CorruptError{Path: path, Why: "it is no unfinished signature"}
	}
	return u, nil
}

// later keeps what Sign made, when the signer is to do so and waiting can help.
func (s *Signer) later(at Target, signed *Signed, cause error) error {
	if s.cfg.Later == "" || signed == nil || fault.KindOf(cause) != fault.Unreachable {
		return cause
	}
	u := signed.unfinished
	u.Image, u.Target = at.String(), at.Desc
	var payload bytes.Buffer
	if _, err := payload.ReadFrom(signed.Statement.Reader()); err != nil {
		return errors.Join(cause, err)
	}
	u.Statement = payload.Bytes()
	path, err := u.keep(s.cfg.Later)
	if err != nil {
		return errors.Join(cause, fmt.Errorf("and what was made could not be kept: %w", err))
	}
	return &LaterError{path, cause}
}

// Finish gives an unfinished signature of the file at path what it lacks, and
// attaches it. What services gave is on disk before it is attached, so that an end
// in between makes nothing twice: the same bundle is attached again. The caller
// removes the file after a success. Of cfg the services, what is revoked and the
// clock count.
func Finish(ctx context.Context, cfg Config, client *registry.Client, path string) (*Attached, error) {
	u, err := LoadUnfinished(path)
	if err != nil {
		return nil, err
	}
	st, err := ReadyStatement(u.Statement)
	if err != nil {
		return nil, err
	}
	m, err := u.made()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := m.holds(st); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if st.Subject != evidence.Digest(u.Target.Digest) {
		return nil, fmt.Errorf("%s: the statement is about another image than it is kept for", path)
	}
	s, who, err := newFinisher(cfg, m, st, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u.Image, err)
	}
	if err := u.suits(cfg.Services); err != nil {
		return nil, fmt.Errorf("%s: %w", u.Image, err)
	}
	if len(u.Timestamps) < u.NeedTimestamps && !m.until.IsZero() && s.cfg.Now().After(m.until) {
		return nil, fault.Hint(fmt.Errorf("%s: the certificate ended at %s, and no timestamp shows that it was used before", u.Image, m.until.UTC().Format(time.RFC3339)),
			"sign the image again, and remove %s", path)
	}
	had := len(u.Timestamps) + len(u.LogEntries)
	err = s.prove(ctx, m, u)
	if len(u.Timestamps)+len(u.LogEntries) > had {
		if _, kerr := u.keep(filepath.Dir(path)); kerr != nil {
			return nil, errors.Join(err, kerr)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u.Image, err)
	}
	ref, err := registry.ParseRef(u.Image)
	if err != nil {
		return nil, err
	}
	repo, err := client.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	signed := &Signed{Statement: st, unfinished: *u}
	if err := signed.close(m); err != nil {
		return nil, err
	}
	at := Target{Repo: repo, Desc: u.Target}
	if err := pushConfig(ctx, at); err != nil {
		return nil, err
	}
	desc, err := s.push(ctx, at, signed)
	if err != nil {
		return nil, err
	}
	a := &Attached{Ref: repo.RefOf(desc.Digest), Digest: evidence.Digest(desc.Digest), Signed: signed, Signer: who}
	if i, ok := signed.LogIndex(); ok {
		a.LogIndex = &i
	}
	return a, nil
}

// newFinisher is a signer that signs nothing, and who signed: nobody who was
// revoked meanwhile, and nothing that was.
func newFinisher(cfg Config, m made, st *Statement, dir string) (*Signer, evidence.Signer, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := cfg.Services.check(); err != nil {
		return nil, evidence.Signer{}, err
	}
	who, err := m.who()
	if err != nil {
		return nil, who, err
	}
	// With Later the failure of one service ends no other.
	s := &Signer{cfg: Config{Services: cfg.Services, Revoked: cfg.Revoked, Now: cfg.Now, Later: dir}, http: newClient(cfg.Services, "")}
	if err := s.notRevoked(cfg.Revoked.Signer(who, cfg.Now())); err != nil {
		return nil, who, err
	}
	if st.PredicateType == evidence.PredicateSign {
		err = s.notRevoked(cfg.Revoked.Artifact(st.Subject, cfg.Now()))
	}
	return s, who, err
}

// suits refuses services that give less than the signature was made for, or would
// make it public where its user did not agree to.
func (u *Unfinished) suits(s Services) error {
	tsas, logs := u.lacks(&s)
	if tsas.Need > len(tsas.URLs) || logs.Need > len(logs.URLs) {
		return fault.Usagef("it was made for %d timestamps and %d log entries, and the signing config does not name who gives what is missing", u.NeedTimestamps, u.NeedLogEntries)
	}
	if u.Cert == nil || logs.Need <= 0 {
		return nil
	}
	for _, url := range logs.URLs {
		if host := hostOf(url); !loopback.Host(host) && !slices.Contains(u.LogHosts, host) {
			return fault.Usagef("its certificate, which names who signed, would become public at %s, which is none of the logs that it was made for", host)
		}
	}
	return nil
}

// made is a signature with what services must know of it.
type made struct {
	digest, sig []byte
	keyDetails  string
	hash        crypto.Hash
	cert, spki  []byte // DER; one of them
	from, until time.Time
}

// made is what a signature by this material is.
func (m material) made(digest, sig []byte) (made, error) {
	d := made{digest: digest, sig: sig, keyDetails: m.signer.KeyDetails(), hash: m.signer.Hash(), cert: m.cert, from: m.from, until: m.until}
	if m.cert != nil {
		return d, nil
	}
	var err error
	d.spki, err = x509.MarshalPKIXPublicKey(m.signer.Public())
	return d, err
}

// made is what an unfinished signature is.
func (u *Unfinished) made() (made, error) {
	m := made{digest: u.Digest, sig: u.Signature, keyDetails: u.KeyDetails, cert: u.Cert, spki: u.PublicKey}
	if (m.cert == nil) == (m.spki == nil) {
		return m, errors.New("not one of certificate and key")
	}
	switch len(u.Digest) {
	case 32:
		m.hash = crypto.SHA256
	case 48:
		m.hash = crypto.SHA384
	case 64:
		m.hash = crypto.SHA512
	}
	if m.cert != nil {
		c, err := x509.ParseCertificate(m.cert)
		if err != nil {
			return m, errors.New("its certificate cannot be read")
		}
		m.from, m.until = c.NotBefore, c.NotAfter
	}
	return m, nil
}

func (m made) public() (crypto.PublicKey, error) {
	if m.cert == nil {
		return x509.ParsePKIXPublicKey(m.spki)
	}
	c, err := x509.ParseCertificate(m.cert)
	if err != nil {
		return nil, err
	}
	return c.PublicKey, nil
}

func (m made) who() (evidence.Signer, error) {
	pub, err := m.public()
	if err != nil {
		return evidence.Signer{}, err
	}
	if m.cert == nil {
		return evidence.Signer{Key: key.Fingerprint(pub)}, nil
	}
	c, err := x509.ParseCertificate(m.cert)
	if err != nil {
		return evidence.Signer{}, err
	}
	return whoIs(c)
}

// holds makes sure that the signature is over the statement: what a file says that
// waited is not logged unseen.
func (m made) holds(st *Statement) error {
	bad := errors.New("the signature is not over the statement: the file was changed")
	pub, err := m.public()
	if err != nil {
		return bad
	}
	var pae bytes.Buffer
	pae.Grow(int(st.Size()) + 128)
	st.writePAE(&pae)
	if m.hash != 0 {
		h := m.hash.New()
		h.Write(pae.Bytes())
		if !bytes.Equal(h.Sum(nil), m.digest) {
			return bad
		}
	}
	if k, ok := pub.(ed25519.PublicKey); ok {
		message, options := pae.Bytes(), &ed25519.Options{}
		if m.hash != 0 {
			message, options.Hash = m.digest, m.hash
		}
		if ed25519.VerifyWithOptions(k, message, m.sig, options) != nil {
			return bad
		}
		return nil
	}
	for _, a := range signatureAlgorithms(m.hash) {
		if (&x509.Certificate{PublicKey: pub}).CheckSignature(a, pae.Bytes(), m.sig) == nil {
			return nil
		}
	}
	return bad
}

// signatureAlgorithms are those of ECDSA and RSA with a hash.
func signatureAlgorithms(h crypto.Hash) []x509.SignatureAlgorithm {
	switch h {
	case crypto.SHA256:
		return []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.SHA256WithRSA}
	case crypto.SHA384:
		return []x509.SignatureAlgorithm{x509.ECDSAWithSHA384, x509.SHA384WithRSA}
	case crypto.SHA512:
		return []x509.SignatureAlgorithm{x509.ECDSAWithSHA512, x509.SHA512WithRSA}
	}
	return nil
}
