package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

const (
	logTimeout = 10 * time.Second
	maxSCT     = 64 << 10 // bytes of the log's answer
	// sctSkew is how far the log's clock may be from ours: a certificate lives ten
	// minutes, and its SCT should be from when it was made.
	sctSkew = 2 * time.Minute
)

// CTLog is a certificate transparency log elsewhere (RFC 6962) that accepts the
// CA's root. It is safe for concurrent use.
type CTLog struct {
	url    string
	public crypto.PublicKey
	id     [32]byte
	client *http.Client
}

// NewCTLog is the log at a base URL (without ct/v1) with its public key, ECDSA or RSA.
func NewCTLog(url string, public crypto.PublicKey) (*CTLog, error) {
	if err := loopback.CheckURL("CT log", url, false); err != nil {
		return nil, err
	}
	switch public.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
	default:
		return nil, fmt.Errorf("CT log %s: its key is neither ECDSA nor RSA", url)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("CT log %s: %w", url, err)
	}
	return &CTLog{url: strings.TrimRight(url, "/"), public: public, id: sha256.Sum256(spki),
		client: &http.Client{Timeout: logTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// URL is the log's base URL, without a slash at the end.
func (l *CTLog) URL() string { return l.url }

// Public is the log's key.
func (l *CTLog) Public() crypto.PublicKey { return l.public }

// logError is a certificate that the log did not take: none is issued.
type logError struct{ err error }

func (e *logError) Error() string { return e.err.Error() }
func (e *logError) Unwrap() error { return e.err }

// poison marks a precertificate, which nobody may take for a certificate (RFC 6962, 3.1).
func poison() pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}, Critical: true, Value: asn1.NullBytes}
}

const addPreChain = "certificate transparency log: add-pre-chain"

// submit logs a precertificate and returns the extension with the SCT that came
// back, after it has been checked: it is of this log, of now, and over this entry.
func (l *CTLog) submit(ctx context.Context, precertificate []byte, chain []*x509.Certificate, entry func(*cryptobyte.Builder), now time.Time) (pkix.Extension, error) {
	certificates := [][]byte{precertificate}
	for _, c := range chain {
		certificates = append(certificates, c.Raw)
	}
	body, err := json.Marshal(map[string]any{"chain": certificates})
	if err != nil {
		return pkix.Extension{}, err
	}
	data, err := l.post(ctx, l.url+"/ct/v1/add-pre-chain", body)
	if err != nil {
		return pkix.Extension{}, &logError{err}
	}
	sct, err := l.checked(data, entry, now)
	if err != nil {
		return pkix.Extension{}, &logError{fmt.Errorf("%s: %s: %w", addPreChain, l.url, err)}
	}
	return sct, nil
}

func (l *CTLog) post(ctx context.Context, address string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s: the address cannot be used", addPreChain)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.client.Do(req)
	if err != nil {
		return nil, fault.HTTP(addPreChain, address, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s answered status %d", addPreChain, l.url, resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxSCT+1))
	if err != nil {
		return nil, fault.HTTP(addPreChain, address, err)
	}
	if len(data) > maxSCT {
		return nil, fmt.Errorf("%s: %s: the answer is longer than %d bytes", addPreChain, l.url, maxSCT)
	}
	return data, nil
}

// sctAnswer is the answer to add-pre-chain (RFC 6962, 4.2).
type sctAnswer struct {
	Version    *int   `json:"sct_version"`
	ID         []byte `json:"id"`
	Timestamp  uint64 `json:"timestamp"` // milliseconds
	Extensions []byte `json:"extensions"`
	Signature  []byte `json:"signature"` // digitally-signed (RFC 5246, 4.7)
}

// checked reads the log's answer and returns the extension with its SCT.
func (l *CTLog) checked(data []byte, entry func(*cryptobyte.Builder), now time.Time) (pkix.Extension, error) {
	var a sctAnswer
	if strictjson.Valid(data, 8) != nil || json.Unmarshal(data, &a) != nil || a.Version == nil {
		return pkix.Extension{}, errors.New("the answer is not that of RFC 6962")
	}
	if *a.Version != 0 {
		return pkix.Extension{}, fmt.Errorf("an SCT of version %d; want 0", *a.Version)
	}
	if !bytes.Equal(a.ID, l.id[:]) {
		return pkix.Extension{}, errors.New("the SCT is of a log with another key")
	}
	if a.Timestamp > 1<<62 || time.UnixMilli(int64(a.Timestamp)).Sub(now).Abs() > sctSkew {
		return pkix.Extension{}, errors.New("the SCT's timestamp is not of now; compare the clocks")
	}
	message, err := signedBySCT(a.Timestamp, entry, a.Extensions)
	if err != nil {
		return pkix.Extension{}, err
	}
	if !l.signed(message, a.Signature) {
		return pkix.Extension{}, errors.New("the SCT's signature does not match the precertificate")
	}
	return sctList(l.id, a.Timestamp, a.Extensions, a.Signature)
}

// signed checks a digitally-signed struct of SHA-256 with the key's kind
// (RFC 6962, 2.1.4).
func (l *CTLog) signed(message, signature []byte) bool {
	s := cryptobyte.String(signature)
	var hash, kind uint8
	var sig cryptobyte.String
	if !s.ReadUint8(&hash) || !s.ReadUint8(&kind) || !s.ReadUint16LengthPrefixed(&sig) || !s.Empty() || hash != 4 {
		return false
	}
	digest := sha256.Sum256(message)
	switch k := l.public.(type) {
	case *ecdsa.PublicKey:
		return kind == 3 && ecdsa.VerifyASN1(k, digest[:], sig)
	case *rsa.PublicKey:
		return kind == 1 && rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], sig) == nil
	}
	return false
}
