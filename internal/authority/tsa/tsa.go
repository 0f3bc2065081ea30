// Package tsa is the authority's time-stamp authority: RFC 3161 over HTTP with
// an ECDSA key. It holds no state but its key and chain.
//
// Trusted / not trusted: the clock and the key are trusted: an attacker who can
// change either can make signatures look older or newer than they are, which
// extends the life of a short-lived certificate. Requests are not trusted.
package tsa

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Config is what a TSA needs. Key and Chain are required.
type Config struct {
	// Key signs tokens: ECDSA P-256 (with SHA-256) or P-384 (with SHA-384).
	Key crypto.Signer
	// Chain starts with the certificate of Key, whose only extended key usage
	// is timeStamping, critical (RFC 3161 2.3), and ends with a root.
	Chain []*x509.Certificate
	// Policy is the TSA policy of every token, default DefaultPolicy().
	Policy asn1.ObjectIdentifier
	Now    func() time.Time // default time.Now
	Log    *slog.Logger     // default: nothing is logged
}

// DefaultPolicy is the policy that Sigstore's timestamp authorities name.
func DefaultPolicy() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2} }

// TSA answers time-stamp requests. It is safe for concurrent use.
type TSA struct {
	cfg    Config
	leaf   *x509.Certificate
	scheme scheme
	// certificates is what a requester with certReq gets: the chain without the
	// root, which nobody should take from a token.
	certificates []*x509.Certificate
	certHash     []byte // SHA-256 of the leaf, for ESSCertIDv2
}

var _ http.Handler = (*TSA)(nil)

// New checks the key and the chain, so that no token is made that a verifier
// must refuse.
func New(cfg Config) (*TSA, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Policy == nil {
		cfg.Policy = DefaultPolicy()
	}
	if len(cfg.Chain) == 0 || cfg.Key == nil {
		return nil, errors.New("timestamp authority: a key and its chain are needed")
	}
	leaf := cfg.Chain[0]
	pub, ok := cfg.Key.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("timestamp authority: the key is not an ECDSA key")
	}
	sch, err := schemeFor(pub)
	if err != nil {
		return nil, err
	}
	if !pub.Equal(leaf.PublicKey) {
		return nil, errors.New("timestamp authority: the first certificate is for another key")
	}
	if err := checkChain(cfg.Chain); err != nil {
		return nil, fmt.Errorf("timestamp authority: %w", err)
	}
	hash := crypto.SHA256.New()
	hash.Write(leaf.Raw)
	certificates := cfg.Chain
	if len(certificates) > 1 {
		certificates = certificates[:len(certificates)-1]
	}
	return &TSA{cfg: cfg, leaf: leaf, scheme: sch, certificates: certificates, certHash: hash.Sum(nil)}, nil
}

// extKeyUsage is id-ce-extKeyUsage (RFC 5280 4.2.1.12).
func extKeyUsage() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 37} }

func checkChain(chain []*x509.Certificate) error {
	leaf := chain[0]
	if leaf.IsCA || len(leaf.UnknownExtKeyUsage) != 0 || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}) {
		return errors.New("the certificate is not for time stamping alone")
	}
	for _, ext := range leaf.Extensions {
		if ext.Id.Equal(extKeyUsage()) && !ext.Critical {
			return errors.New("the certificate's extended key usage is not critical")
		}
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("the certificate is not for digital signatures")
	}
	for i, cert := range chain {
		issuer := chain[min(i+1, len(chain)-1)]
		if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
			return fmt.Errorf("certificate %d of the chain was not issued by the next one", i)
		}
		if err := cert.CheckSignatureFrom(issuer); err != nil {
			return fmt.Errorf("certificate %d of the chain: %w", i, err)
		}
	}
	return nil
}

const (
	queryType = "application/timestamp-query"
	replyType = "application/timestamp-reply"
	// maxRequest is far more than a digest, a nonce and a policy need.
	maxRequest = 8 << 10
)

// ServeHTTP answers a POST of a DER TimeStampReq with a DER TimeStampResp (RFC
// 3161 3.4). What is not such a request gets status 400 and a reply with
// badDataFormat; a request that cannot be granted gets a rejection in status 200.
func (s *TSA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST a time-stamp request", http.StatusMethodNotAllowed)
		return
	}
	if mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mt != queryType {
		http.Error(w, "the request must be "+queryType, http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		http.Error(w, "the request is too large", http.StatusRequestEntityTooLarge)
		return
	} else if err != nil {
		http.Error(w, "the request could not be read", http.StatusBadRequest)
		return
	}
	status := http.StatusOK
	reply, err := s.Timestamp(body)
	if no := (*Rejection)(nil); errors.As(err, &no) {
		if no.Failure == BadDataFormat {
			status = http.StatusBadRequest
		}
		reply, err = no.reply()
	}
	if err != nil {
		s.cfg.Log.ErrorContext(r.Context(), "making a timestamp", "error", err)
		http.Error(w, "the timestamp authority cannot sign now; its log says why", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", replyType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(reply)))
	w.WriteHeader(status)
	_, _ = w.Write(reply)
}

// Timestamp answers one DER TimeStampReq with a DER TimeStampResp. A request
// that is not granted is a *Rejection.
func (s *TSA) Timestamp(der []byte) ([]byte, error) {
	req, err := parseRequest(der)
	if err != nil {
		return nil, err
	}
	if req.policy != nil && !req.policy.Equal(s.cfg.Policy) {
		return nil, &Rejection{UnacceptedPolicy, "this authority has another policy"}
	}
	now := s.cfg.Now().UTC().Truncate(time.Second)
	for _, cert := range s.cfg.Chain {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return nil, &Rejection{TimeNotAvailable, "the clock is outside the validity of this authority's certificates"}
		}
	}
	return s.respond(req, now)
}
