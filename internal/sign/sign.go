// Package sign makes signatures and attestations in Sigstore's bundle format and
// attaches them to images: statement, DSSE envelope, certificate of a CA (when
// keyless), RFC 3161 timestamp, transparency log entry, bundle, OCI referrer.
//
// CA, log and TSA are spoken to over HTTP and not trusted: an answer that is not
// for exactly what was sent (another public key, another entry, another
// timestamp imprint, a proof that does not add up) is refused here, so that no
// bundle leaves that nobody could verify. A service that an attacker runs can at
// most make signing fail, or issue what a verifier's trust root then refuses.
package sign

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// Services says where the signing services are; none is a service that is not used.
type Services struct {
	CA   string       // base URL of a Fulcio v2 API; the path /api/v2/signingCert is added
	Logs trust.Choice // base URLs of Rekor v2 APIs; the path /api/v2/log/entries is added
	TSAs trust.Choice // URLs of RFC 3161 timestamp authorities, as they are

	// Patience is how long services that do not answer are asked again; 0 is 30 s.
	Patience time.Duration
	// Waiting, when set, is told why nobody has what is wanted yet, before each
	// pause. It may be called by several goroutines.
	Waiting func(err error)

	HTTPClient *http.Client // nil: one with a timeout of 30 s; redirects are never followed
	PlainHTTP  bool         // allow http:// to hosts that are not this machine
	UserAgent  string
}

// Config is what a [Signer] signs with.
type Config struct {
	Services Services
	Key      key.Signer    // the key to sign with; nil: keyless, with Token
	Token    idtoken.Token // identity of a keyless signer
	Now      func() time.Time
	// Revoked is who may not sign any more, and which images and files may not be
	// signed; what is attested about them may be why.
	Revoked trust.Revoked

	// Later is a folder in which signatures of images wait that a service's outage
	// left unfinished, for [Finish]; "" keeps none.
	Later string

	// Existing looks for a signature or attestation that already says what want
	// says, by the same signer, verified. It returns its reference, "" without
	// one. A nil Existing never finds any.
	Existing func(ctx context.Context, at Target, want Want) (string, error)
}

// Signer signs for one key or one identity. It is safe for concurrent use; a
// keyless one uses one certificate for everything that it signs while the
// certificate is good, as one run of a program is one act of its user.
type Signer struct {
	cfg     Config
	http    *client
	consent bool

	mu     sync.Mutex // guards what follows
	cert   *certified
	outErr error     // of a CA that did not answer
	outAt  time.Time // when that was found
}

// New checks a configuration and makes a Signer. A keyless signer needs a CA, a
// log, and a TSA with it: log entries of Rekor v2 carry no time, and without one
// nobody could tell whether the short-lived certificate was valid when it was used.
func New(cfg Config) (*Signer, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := cfg.Services.check(); err != nil {
		return nil, err
	}
	if cfg.Key == nil {
		switch {
		case cfg.Token.Raw == "":
			return nil, errors.New("keyless signing: no identity token")
		case cfg.Services.CA == "":
			return nil, fault.Hint(fault.Usagef("keyless signing: the signing config names no certificate authority that is valid now"),
				"name another signing config with --signing-config, or sign with --key")
		case cfg.Services.Logs.Need == 0:
			return nil, fault.Hint(fault.Usagef("keyless signing: the signing config names no transparency log with the Rekor v2 API that is valid now"),
				"without a log entry nobody would accept the signature; name another signing config with --signing-config, or sign with --key")
		case cfg.Services.TSAs.Need == 0:
			return nil, fault.Hint(fault.Usagef("keyless signing: the signing config names no timestamp authority"),
				"the certificate is valid for minutes; only a timestamp proves later that it was used in time")
		}
	} else if cfg.Services.Logs.Need > 0 {
		cfg.Key = key.Prehashed(cfg.Key)
	}
	s := &Signer{cfg: cfg, http: newClient(cfg.Services, cfg.Token.Raw)}
	if s.Keyless() && cfg.Token.Email == "" {
		return s, nil // what a workload is called, the certificate will tell
	}
	who, err := s.Who(context.Background()) // which asks nobody
	if err != nil {
		return nil, err
	}
	return s, s.notRevoked(cfg.Revoked.Signer(who, cfg.Now()))
}

// check refuses services that would be spoken to in the clear.
func (s *Services) check() error {
	for _, kind := range []struct {
		what string
		trust.Choice
	}{
		{"certificate authority", One(s.CA)}, {"transparency log", s.Logs}, {"timestamp authority", s.TSAs},
	} {
		for _, url := range kind.URLs {
			if err := loopback.CheckURL(kind.what, url, s.PlainHTTP); err != nil {
				return err
			}
		}
	}
	return nil
}

// Services are those that the signer asks.
func (s *Signer) Services() Services { return s.cfg.Services }

// Keyless reports whether the signer's certificate, not a key, says who signs.
func (s *Signer) Keyless() bool { return s.cfg.Key == nil }

// Disclosure is what becomes public, for good, when a person signs keyless with
// services that others can read: the certificate, in the CA's certificate
// transparency log and in the log entry.
type Disclosure struct {
	Hosts    []string `json:"hosts"`    // of the CA and the log
	Identity string   `json:"identity"` // the e-mail address, byte for byte
	Issuer   string   `json:"issuer"`
}

// NeedsConsent reports what signing would make public about a person; ok is
// false when nothing would: signing with a key, as a workload, or with services
// on this machine only.
func (s *Signer) NeedsConsent() (d Disclosure, ok bool) {
	if !s.Keyless() || s.cfg.Token.Email == "" {
		return Disclosure{}, false
	}
	for _, raw := range append([]string{s.cfg.Services.CA}, s.cfg.Services.Logs.URLs...) {
		if u, err := url.Parse(raw); err == nil && u.Host != "" && !loopback.Host(u.Host) && !slices.Contains(d.Hosts, u.Host) {
			d.Hosts = append(d.Hosts, u.Host)
		}
	}
	d.Identity, d.Issuer = s.cfg.Token.Email, vouchedBy(s.cfg.Token)
	return d, len(d.Hosts) > 0
}

// Consent says that the person agreed to what [Signer.NeedsConsent] told. Call it
// before signing starts.
func (s *Signer) Consent() { s.consent = true }

// Who is the signer as a verifier will name it. A keyless signer may have to ask
// the CA: only the certificate tells what a workload is called.
func (s *Signer) Who(ctx context.Context) (evidence.Signer, error) {
	if !s.Keyless() {
		return evidence.Signer{Key: key.Fingerprint(s.cfg.Key.Public())}, nil
	}
	if e := s.cfg.Token.Email; e != "" {
		return s.signedAs(evidence.Signer{Identity: e, Issuer: vouchedBy(s.cfg.Token)}), nil
	}
	c, err := s.certificate(ctx)
	if err != nil {
		return evidence.Signer{}, err
	}
	return c.who, nil
}

// Certificate is the certificate that a keyless signer signs with, for which it may have
// to ask the CA; nil for a key. What it says is the CA's word, and not verified here.
func (s *Signer) Certificate(ctx context.Context) (*x509.Certificate, error) {
	if !s.Keyless() {
		return nil, nil
	}
	c, err := s.certificate(ctx)
	if err != nil {
		return nil, err
	}
	return c.leaf, nil
}

// vouchedBy is the issuer that the certificate for a person's token will most
// likely name: a provider that only passes others' logins on (Dex) says in the
// token whose it was, and a CA that knows this names that one (fulcio,
// "federated_claims.connector_id").
func vouchedBy(t idtoken.Token) string {
	var federated struct {
		Connector string `json:"connector_id"`
	}
	if json.Unmarshal(t.Claims["federated_claims"], &federated) == nil && strings.HasPrefix(federated.Connector, "https://") {
		return federated.Connector
	}
	return t.Issuer
}

// leaf is the last certificate, nil without one.
func (s *Signer) leaf() *x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cert == nil {
		return nil
	}
	return s.cert.leaf
}

// signedAs is who the last certificate names, else who.
func (s *Signer) signedAs(who evidence.Signer) evidence.Signer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cert != nil {
		return s.cert.who
	}
	return who
}

// material is what one signature is made with.
type material struct {
	signer key.Signer
	cert   []byte // DER; nil for a bare key
	from   time.Time
	until  time.Time
}

func (s *Signer) material(ctx context.Context) (material, error) {
	if !s.Keyless() {
		return material{signer: s.cfg.Key}, nil
	}
	c, err := s.certificate(ctx)
	if err == nil {
		err = s.notRevoked(s.cfg.Revoked.Signer(c.who, s.cfg.Now()))
	}
	if err != nil {
		return material{}, err
	}
	return material{signer: c.key, cert: c.leaf.Raw, from: c.leaf.NotBefore, until: c.leaf.NotAfter}, nil
}

// notRevoked refuses to sign what nobody who has the same trust would believe.
func (s *Signer) notRevoked(why string) error {
	if why == "" {
		return nil
	}
	return fault.As(fault.Denied, fmt.Errorf("[REVOKED] %s: nothing is signed", why))
}

// spare is how long a certificate must still be good for to be used once more.
const spare = time.Minute

// certificate returns the run's certificate, a new one when there is none yet or
// the last one ends soon. Its ephemeral key never leaves this process's memory.
func (s *Signer) certificate(ctx context.Context) (*certified, error) {
	if _, asks := s.NeedsConsent(); asks && !s.consent {
		return nil, errors.New("signing would make a personal identity public, and nobody agreed to that")
	}
	began := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outErr != nil && s.outAt.After(began) {
		return nil, s.outErr // others waited for it while we did
	}
	if s.cert != nil && s.cfg.Now().Add(spare).Before(s.cert.leaf.NotAfter) {
		return s.cert, nil
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ephemeral, err := key.NewSigner(private)
	if err != nil {
		return nil, err
	}
	c, err := s.requestCertificate(ctx, ephemeral)
	if fault.KindOf(err) == fault.Unreachable {
		s.outErr, s.outAt = err, time.Now()
	}
	if err != nil {
		return nil, err
	}
	s.cert, s.outErr = c, nil
	return c, nil
}

func hostOf(raw string) string {
	if u, err := url.Parse(raw); err == nil && u.Host != "" {
		return u.Host
	}
	return raw
}

// wrong is an answer of a service that is not for what it was sent.
func wrong(step, rawURL, format string, args ...any) error {
	return fmt.Errorf("%s: %s: refused its answer: %w", step, hostOf(rawURL), fmt.Errorf(format, args...))
}
