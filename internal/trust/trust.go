// Package trust is what is believed before anything is looked at: certificate
// and timestamp authorities and log keys with their validity windows, read from
// a trusted_root.json; which services sign, from a signing config; and both
// files fetched through TUF.
//
// Whoever can modify a trusted root can make anything verify; it is trusted as
// a whole, so it is read strictly and one broken entry refuses all of it.
package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// MaxSize is the most bytes of a trusted root or a signing config that are read.
const MaxSize = 4 << 20

// Root is a parsed trusted root. It is not modified after parsing.
type Root struct {
	CAs    []Authority // issue signing certificates (Fulcio)
	TSAs   []Authority // issue RFC 3161 timestamps
	TLogs  []LogKey    // transparency logs of signatures (Rekor)
	CTLogs []LogKey    // certificate transparency logs, which sign SCTs

	// Generation is the hexadecimal SHA-256 of the document: verdicts reached
	// under one generation say nothing about another.
	Generation string
}

// Window is a span of time, both ends included. A zero end is open.
type Window struct {
	Start, End time.Time
}

// Contains reports whether t lies in the window.
func (w Window) Contains(t time.Time) bool {
	return !t.Before(w.Start) && (w.End.IsZero() || !t.After(w.End))
}

// String is the window for people.
func (w Window) String() string {
	if w.End.IsZero() {
		return "from " + w.Start.UTC().Format(time.RFC3339) + " on"
	}
	return "from " + w.Start.UTC().Format(time.RFC3339) + " to " + w.End.UTC().Format(time.RFC3339)
}

// Authority is a certificate or timestamp authority
// (dev.sigstore.trustroot.v1.CertificateAuthority).
type Authority struct {
	URI, Organization, CommonName string

	// Leaf is the timestamp authority's signing certificate; nil when tokens
	// bring it, and always for certificate authorities.
	Leaf *x509.Certificate
	// Intermediates stand between leaf and anchor, in order.
	Intermediates []*x509.Certificate
	// Anchor is the certificate that is believed without a further signature:
	// the last of the chain; nil when a timestamp authority lists only its leaf.
	Anchor *x509.Certificate

	ValidFor Window
}

// Name names the authority for people: its URI, else its common name.
func (a *Authority) Name() string {
	if a.URI != "" {
		return a.URI
	}
	return a.CommonName
}

// LogKey is a log with its key (dev.sigstore.trustroot.v1.TransparencyLogInstance).
type LogKey struct {
	BaseURL string
	// Origin is the host of BaseURL without port: the name under which a Rekor
	// v2 log signs its checkpoints.
	Origin string
	// ID is the log's identifier as entries and SCTs carry it: the SHA-256 of the
	// key's SubjectPublicKeyInfo, for Rekor v2 the C2SP note key id.
	ID       []byte
	Key      crypto.PublicKey
	SPKI     []byte // DER
	ValidFor Window
}

// The wire types are dev.sigstore.trustroot.v1.TrustedRoot in protobuf's JSON mapping.
type (
	wireRoot struct {
		MediaType string          `json:"mediaType"`
		TLogs     []wireLog       `json:"tlogs" strict:"max=256"`
		CAs       []wireAuthority `json:"certificateAuthorities" strict:"max=256"`
		CTLogs    []wireLog       `json:"ctlogs" strict:"max=256"`
		TSAs      []wireAuthority `json:"timestampAuthorities" strict:"max=256"`
	}
	wireLog struct {
		BaseURL         string     `json:"baseUrl"`
		HashAlgorithm   string     `json:"hashAlgorithm" strict:"enum"`
		PublicKey       *wireKey   `json:"publicKey"`
		LogID           *wireKeyID `json:"logId"`
		CheckpointKeyID *wireKeyID `json:"checkpointKeyId"`
		Operator        string     `json:"operator"`
	}
	wireKey struct {
		RawBytes   []byte      `json:"rawBytes"`
		KeyDetails string      `json:"keyDetails" strict:"enum"`
		ValidFor   *wireWindow `json:"validFor"`
	}
	wireKeyID struct {
		KeyID []byte `json:"keyId"`
	}
	wireWindow struct {
		Start *time.Time `json:"start"`
		End   *time.Time `json:"end"`
	}
	wireAuthority struct {
		Subject *struct {
			Organization string `json:"organization"`
			CommonName   string `json:"commonName"`
		} `json:"subject"`
		URI       string `json:"uri"`
		CertChain *struct {
			Certificates []struct {
				RawBytes []byte `json:"rawBytes"`
			} `json:"certificates" strict:"max=16"`
		} `json:"certChain"`
		ValidFor *wireWindow `json:"validFor"`
		Operator string      `json:"operator"`
	}
)

// ParseTrustedRoot reads a trusted_root.json of version 0.1 or 0.2.
func ParseTrustedRoot(data []byte) (*Root, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%d bytes; at most %d are read", len(data), MaxSize)
	}
	var w wireRoot
	if err := strictjson.UnmarshalProto(data, &w); err != nil {
		return nil, err
	}
	const base = "application/vnd.dev.sigstore.trustedroot"
	switch w.MediaType {
	case base + "+json;version=0.1", base + "+json;version=0.2", base + ".v0.1+json", base + ".v0.2+json":
	default:
		return nil, fmt.Errorf("mediaType: %q is not a Sigstore trusted root of version 0.1 or 0.2", clip(w.MediaType))
	}
	sum := sha256.Sum256(data)
	r := &Root{Generation: hex.EncodeToString(sum[:])}
	var err error
	if r.TLogs, err = logs("tlogs", w.TLogs); err != nil {
		return nil, err
	}
	if r.CTLogs, err = logs("ctlogs", w.CTLogs); err != nil {
		return nil, err
	}
	for i := range w.CAs {
		a, err := w.CAs[i].authority()
		if err == nil && (a.Leaf != nil || !a.Anchor.IsCA) {
			err = errors.New("certChain: holds a certificate that is no CA")
		}
		if err != nil {
			return nil, fmt.Errorf("certificateAuthorities[%d].%w", i, err)
		}
		r.CAs = append(r.CAs, a)
	}
	for i := range w.TSAs {
		a, err := w.TSAs[i].authority()
		if err != nil {
			return nil, fmt.Errorf("timestampAuthorities[%d].%w", i, err)
		}
		r.TSAs = append(r.TSAs, a)
	}
	return r, nil
}

func logs(what string, ws []wireLog) ([]LogKey, error) {
	var out []LogKey
	for i := range ws {
		k, err := ws[i].log()
		if err != nil {
			return nil, fmt.Errorf("%s[%d].%w", what, i, err)
		}
		out = append(out, k)
	}
	return out, nil
}

func (w *wireLog) log() (LogKey, error) {
	k := LogKey{BaseURL: w.BaseURL, Origin: hostOf(w.BaseURL)}
	switch {
	case w.HashAlgorithm != "SHA2_256" && w.HashAlgorithm != "1":
		return k, fmt.Errorf("hashAlgorithm: %q; Merkle trees are hashed with SHA2_256", clip(w.HashAlgorithm))
	case w.PublicKey == nil:
		return k, errors.New("publicKey: missing")
	case w.PublicKey.ValidFor == nil || w.PublicKey.ValidFor.Start == nil:
		return k, errors.New("publicKey.validFor.start: missing; a log key needs the time from which it is believed")
	case w.LogID == nil || len(w.LogID.KeyID) == 0:
		return k, errors.New("logId.keyId: missing")
	}
	window, err := w.PublicKey.ValidFor.window()
	if err != nil {
		return k, fmt.Errorf("publicKey.validFor: %w", err)
	}
	k.ValidFor, k.ID = window, w.LogID.KeyID
	if k.Key, err = parseKey(w.PublicKey.KeyDetails, w.PublicKey.RawBytes); err != nil {
		return k, fmt.Errorf("publicKey: %w", err)
	}
	if k.SPKI, err = x509.MarshalPKIXPublicKey(k.Key); err != nil {
		return k, fmt.Errorf("publicKey: %w", err)
	}
	return k, nil
}

// hostOf is the host of a URL, which may lack its scheme, without the port.
func hostOf(raw string) string {
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// parseKey reads a public key as its dev.sigstore.common.v1.PublicKeyDetails say.
func parseKey(details string, der []byte) (crypto.PublicKey, error) {
	curves := map[string]elliptic.Curve{
		"PKIX_ECDSA_P256_SHA_256": elliptic.P256(), "5": elliptic.P256(),
		"PKIX_ECDSA_P384_SHA_384": elliptic.P384(), "12": elliptic.P384(),
		"PKIX_ECDSA_P521_SHA_512": elliptic.P521(), "13": elliptic.P521(),
	}
	bits := map[string]int{
		"PKIX_RSA_PKCS1V15_2048_SHA256": 2048, "9": 2048,
		"PKIX_RSA_PKCS1V15_3072_SHA256": 3072, "10": 3072,
		"PKIX_RSA_PKCS1V15_4096_SHA256": 4096, "11": 4096,
	}
	if details == "PKCS1_RSA_PKCS1V5" || details == "1" { // an old log of the staging instance
		key, err := x509.ParsePKCS1PublicKey(der)
		if err != nil {
			return nil, errors.New("rawBytes: not a PKCS #1 RSA key")
		}
		return key, checkRSA(key)
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, errors.New("rawBytes: not a DER SubjectPublicKeyInfo")
	}
	ok := false
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		ok = curves[details] != nil && k.Curve == curves[details]
	case *rsa.PublicKey:
		ok = bits[details] != 0 && k.N.BitLen() == bits[details] && checkRSA(k) == nil
	case ed25519.PublicKey:
		ok = details == "PKIX_ED25519" || details == "7"
	}
	if !ok {
		return nil, fmt.Errorf("keyDetails: %q is not supported or not what the key is", clip(details))
	}
	return key, nil
}

func checkRSA(k *rsa.PublicKey) error {
	if n := k.N.BitLen(); n < 2048 || n > 8192 || k.E < 3 {
		return fmt.Errorf("an RSA key of %d bits with exponent %d", n, k.E)
	}
	return nil
}

func (w *wireWindow) window() (Window, error) {
	var out Window
	if w == nil {
		return out, nil
	}
	if w.Start != nil {
		out.Start = *w.Start
	}
	if w.End != nil {
		out.End = *w.End
		if out.End.Before(out.Start) {
			return out, errors.New("ends before it starts")
		}
	}
	return out, nil
}

func (w *wireAuthority) authority() (Authority, error) {
	a := Authority{URI: w.URI}
	if w.Subject != nil {
		a.Organization, a.CommonName = w.Subject.Organization, w.Subject.CommonName
	}
	if w.CertChain == nil || len(w.CertChain.Certificates) == 0 {
		return a, errors.New("certChain: empty")
	}
	var chain []*x509.Certificate
	for i, c := range w.CertChain.Certificates {
		cert, err := x509.ParseCertificate(c.RawBytes)
		if err != nil {
			return a, fmt.Errorf("certChain.certificates[%d].rawBytes: not a certificate", i)
		}
		chain = append(chain, cert)
	}
	if !chain[0].IsCA {
		a.Leaf, chain = chain[0], chain[1:]
	}
	if len(chain) > 0 {
		last := len(chain) - 1
		a.Intermediates, a.Anchor = chain[:last:last], chain[last]
		for _, c := range chain {
			if !c.IsCA {
				return a, fmt.Errorf("certChain: %s is no CA and not first", c.Subject)
			}
		}
	}
	var err error
	if a.ValidFor, err = w.ValidFor.window(); err != nil {
		return a, fmt.Errorf("validFor: %w", err)
	}
	return a, nil
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
