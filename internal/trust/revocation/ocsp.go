package revocation

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // names issuers in OCSP, no more
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"
)

// response is an OCSP response with the certificates that it is about.
type response struct {
	der []byte
	ids []certID

	verdicts sync.Map // certHash of cert and issuer -> *ocsp.Response whose signature holds
}

// certID names a certificate (RFC 6960, 4.1.1).
type certID struct {
	hash              crypto.Hash
	name, key, serial []byte
}

// parseResponse reads a successful response of the basic type (RFC 6960, 4.2.1)
// as far as whom it is about; package ocsp reads the rest when its signer is known.
func parseResponse(der []byte) (*response, error) {
	if len(der) > MaxOCSP {
		return nil, fmt.Errorf("%d bytes; at most %d are read", len(der), MaxOCSP)
	}
	errForm := errors.New("not an OCSP response of the basic type in DER")
	in := cryptobyte.String(der)
	tag := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
	var resp, bytes0, body, octets, basic, data, responses cryptobyte.String
	var status int
	if !in.ReadASN1(&resp, cbasn1.SEQUENCE) || !in.Empty() || !resp.ReadASN1Enum(&status) || status != 0 ||
		!resp.ReadASN1(&bytes0, tag(0)) || !resp.Empty() || !bytes0.ReadASN1(&body, cbasn1.SEQUENCE) ||
		!body.SkipASN1(cbasn1.OBJECT_IDENTIFIER) || !body.ReadASN1(&octets, cbasn1.OCTET_STRING) ||
		!octets.ReadASN1(&basic, cbasn1.SEQUENCE) || !octets.Empty() || !basic.ReadASN1(&data, cbasn1.SEQUENCE) ||
		!data.SkipOptionalASN1(tag(0)) {
		return nil, errForm
	}
	var responder cryptobyte.String
	var kind cbasn1.Tag
	if !data.ReadAnyASN1(&responder, &kind) || !data.SkipASN1(cbasn1.GeneralizedTime) || !data.ReadASN1(&responses, cbasn1.SEQUENCE) {
		return nil, errForm
	}
	r := &response{der: der}
	for !responses.Empty() {
		var single, id cryptobyte.String
		if !responses.ReadASN1(&single, cbasn1.SEQUENCE) || !single.ReadASN1(&id, cbasn1.SEQUENCE) {
			return nil, errForm
		}
		c, ok := parseCertID(id)
		if !ok {
			return nil, errForm
		}
		// Package ocsp takes the first answer with a certificate's serial number,
		// whoever issued that certificate.
		if slices.ContainsFunc(r.ids, func(o certID) bool { return bytes.Equal(o.serial, c.serial) }) {
			return nil, errors.New("an OCSP response with two answers about one serial number")
		}
		r.ids = append(r.ids, c)
	}
	if len(r.ids) == 0 {
		return nil, errForm
	}
	return r, nil
}

func parseCertID(in cryptobyte.String) (certID, bool) {
	var alg, name, key cryptobyte.String
	var oid asn1.ObjectIdentifier
	serial := new(big.Int)
	if !in.ReadASN1(&alg, cbasn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&oid) ||
		!in.ReadASN1(&name, cbasn1.OCTET_STRING) || !in.ReadASN1(&key, cbasn1.OCTET_STRING) ||
		!in.ReadASN1Integer(serial) || !in.Empty() {
		return certID{}, false
	}
	hash := map[string]crypto.Hash{"1.3.14.3.2.26": crypto.SHA1, "2.16.840.1.101.3.4.2.1": crypto.SHA256,
		"2.16.840.1.101.3.4.2.2": crypto.SHA384, "2.16.840.1.101.3.4.2.3": crypto.SHA512}[oid.String()]
	return certID{hash: hash, name: name, key: key, serial: serial.Bytes()}, hash != 0
}

// about reports whether the response speaks of this certificate of this issuer.
func (r *response) about(cert, issuer *x509.Certificate) bool {
	for _, id := range r.ids {
		if !bytes.Equal(id.serial, cert.SerialNumber.Bytes()) {
			continue
		}
		if bytes.Equal(id.name, digest(id.hash, issuer.RawSubject)) && bytes.Equal(id.key, digest(id.hash, publicKeyBits(issuer))) {
			return true
		}
	}
	return false
}

func digest(h crypto.Hash, data []byte) []byte {
	if !h.Available() {
		return nil
	}
	sum := h.New()
	sum.Write(data)
	return sum.Sum(nil)
}

// publicKeyBits is the content of the key's BIT STRING, which issuerKeyHash is over.
func publicKeyBits(c *x509.Certificate) []byte {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil
	}
	return info.Key.RightAlign()
}

func (r *response) check(cert, issuer *x509.Certificate, signedAt, now time.Time) (verdict, error) {
	resp, err := r.verified(cert, issuer)
	if err != nil {
		return verdict{}, err
	}
	responder := resp.Certificate
	if responder != nil && !responder.Equal(issuer) {
		if err := delegated(responder, issuer, resp.ProducedAt); err != nil {
			return verdict{}, err
		}
	}
	if resp.Status == ocsp.Revoked {
		before, err := beforeInvalidity(resp.Extensions, signedAt)
		if err != nil {
			return verdict{}, err
		}
		if !before {
			return verdict{revoked: true, at: resp.RevokedAt}, nil
		}
	}
	if err := fresh("the OCSP response", resp.ThisUpdate, resp.NextUpdate, now); err != nil {
		return verdict{}, err
	}
	// When it answered is the responder's own word: with the key of one that has
	// expired, anything can be called good from then.
	if responder != nil && now.After(responder.NotAfter) {
		return verdict{}, errors.New("the OCSP responder's certificate has expired")
	}
	if resp.Status == ocsp.Unknown {
		return verdict{}, errors.New("the OCSP responder does not know the certificate")
	}
	return verdict{good: true}, nil
}

// verified is the response with its signature checked, once for each certificate.
func (r *response) verified(cert, issuer *x509.Certificate) (*ocsp.Response, error) {
	a, b := certHash(cert), certHash(issuer)
	key := string(a[:]) + string(b[:])
	if v, ok := r.verdicts.Load(key); ok {
		return v.(*ocsp.Response), nil
	}
	resp, err := ocsp.ParseResponseForCert(r.der, cert, issuer)
	if err != nil {
		return nil, fmt.Errorf("an OCSP response: %w", errNotByIssuer)
	}
	r.verdicts.Store(key, resp)
	return resp, nil
}

// delegated checks the certificate of a responder that is not the issuer itself
// (RFC 6960, 4.2.2.2): issued by it directly, for signing OCSP responses, and valid
// when it signed. Package ocsp checks only the first.
func delegated(c, issuer *x509.Certificate, at time.Time) error {
	switch {
	case !bytes.Equal(c.RawIssuer, issuer.RawSubject) || c.CheckSignatureFrom(issuer) != nil:
		return fmt.Errorf("an OCSP response: %w", errNotByIssuer)
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return errors.New("the OCSP response is by a certificate that is not for signing such")
	case at.Before(c.NotBefore) || at.After(c.NotAfter):
		return errors.New("the OCSP responder's certificate was not valid when it answered")
	}
	return nil
}

// Supersedes reports whether an OCSP response makes an older one useless: it is about
// the same certificate, not older, and the older one does not say revoked. Nothing is
// verified: newer must be known to be by the certificate's issuer.
func Supersedes(newer, older []byte) bool {
	a, err := parseResponse(newer)
	if err != nil {
		return false
	}
	b, err := parseResponse(older)
	if err != nil || len(a.ids) != 1 || len(b.ids) != 1 || !a.ids[0].equal(b.ids[0]) {
		return false
	}
	x, err := ocsp.ParseResponse(newer, nil)
	if err != nil {
		return false
	}
	y, err := ocsp.ParseResponse(older, nil)
	return err == nil && y.Status != ocsp.Revoked && !x.ThisUpdate.Before(y.ThisUpdate)
}

func (c certID) equal(o certID) bool {
	return c.hash == o.hash && bytes.Equal(c.name, o.name) && bytes.Equal(c.key, o.key) && bytes.Equal(c.serial, o.serial)
}
