// Package ctlog is a certificate transparency log for tests: it answers add-pre-chain
// (RFC 6962, 4.2) with an SCT that it makes of the precertificate alone, by another
// way than the CA, and keeps nothing but what it was sent.
package ctlog

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Log is a log at a base URL that ends in /2026.
type Log struct {
	Key    crypto.Signer        // ECDSA or RSA
	Spoil  func(map[string]any) // changes an answer; nil: it is as it should be
	Status int                  // answered instead; 0: none

	mu   sync.Mutex
	seen [][]*x509.Certificate
}

var _ http.Handler = (*Log)(nil)

// Seen are the chains that were submitted.
func (l *Log) Seen() [][]*x509.Certificate {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

func (l *Log) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.Status != 0 {
		w.WriteHeader(l.Status)
		return
	}
	answer, err := l.add(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if l.Spoil != nil {
		l.Spoil(answer)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (l *Log) add(r *http.Request) (map[string]any, error) {
	var in struct {
		Chain [][]byte `json:"chain"`
	}
	if r.URL.Path != "/2026/ct/v1/add-pre-chain" || r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&in) != nil || len(in.Chain) < 2 {
		return nil, errors.New("want a chain for /2026/ct/v1/add-pre-chain")
	}
	var chain []*x509.Certificate
	for _, der := range in.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		if n := len(chain); n > 0 && chain[n-1].CheckSignatureFrom(c) != nil {
			return nil, errors.New("the chain does not hold")
		}
		chain = append(chain, c)
	}
	l.mu.Lock()
	l.seen = append(l.seen, chain)
	l.mu.Unlock()
	tbs, poison, err := Without(chain[0].RawTBSCertificate, "1.3.6.1.4.1.11129.2.4.3")
	if err != nil || string(poison) != "\x05\x00" {
		return nil, errors.New("no precertificate")
	}
	return l.sign(tbs, chain[1])
}

// sign makes the SCT (RFC 6962, 3.2), with extensions as newer logs have them.
func (l *Log) sign(tbs []byte, issuer *x509.Certificate) (map[string]any, error) {
	issuerKey := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	ms := uint64(time.Now().UnixMilli())
	signed := append([]byte{0, 0}, binary.BigEndian.AppendUint64(nil, ms)...)
	signed = append(append(signed, 0, 1), issuerKey[:]...)
	signed = append(signed, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs)))
	signed = append(append(signed, tbs...), 0, 2, 7, 7)
	digest := sha256.Sum256(signed)
	sig, err := l.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	kind := byte(3)
	if _, ok := l.Key.(*rsa.PrivateKey); ok {
		kind = 1
	}
	spki, err := x509.MarshalPKIXPublicKey(l.Key.Public())
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(spki)
	return map[string]any{"sct_version": 0, "id": id[:], "timestamp": ms, "extensions": []byte{7, 7},
		"signature": append([]byte{4, kind, byte(len(sig) >> 8), byte(len(sig))}, sig...)}, nil
}

var errTBS = errors.New("no TBSCertificate")

// Without cuts an extension out of a TBSCertificate and returns its value, nil when it
// was not there.
func Without(raw []byte, extension string) (tbs, value []byte, err error) {
	input := cryptobyte.String(raw)
	var inner cryptobyte.String
	if !input.ReadASN1(&inner, cbasn1.SEQUENCE) {
		return nil, nil, errTBS
	}
	extensions := cbasn1.Tag(3).ContextSpecific().Constructed()
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for !inner.Empty() {
			var element cryptobyte.String
			var tag cbasn1.Tag
			if !inner.ReadAnyASN1Element(&element, &tag) {
				b.SetError(errTBS)
				return
			}
			if tag != extensions {
				b.AddBytes(element)
				continue
			}
			var wrapper, list cryptobyte.String
			if !element.ReadASN1(&wrapper, tag) || !wrapper.ReadASN1(&list, cbasn1.SEQUENCE) {
				b.SetError(errTBS)
				return
			}
			b.AddASN1(tag, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { value = cut(b, list, extension) })
			})
		}
	})
	tbs, err = b.Bytes()
	return tbs, value, err
}

// cut copies a list of extensions but for one.
func cut(b *cryptobyte.Builder, list cryptobyte.String, extension string) (value []byte) {
	for !list.Empty() {
		var one, fields, content cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !list.ReadASN1Element(&one, cbasn1.SEQUENCE) {
			b.SetError(errTBS)
			return nil
		}
		copied := one
		if !copied.ReadASN1(&fields, cbasn1.SEQUENCE) || !fields.ReadASN1ObjectIdentifier(&oid) {
			b.SetError(errTBS)
			return nil
		}
		if oid.String() != extension {
			b.AddBytes(one)
			continue
		}
		if !fields.SkipOptionalASN1(cbasn1.BOOLEAN) || !fields.ReadASN1(&content, cbasn1.OCTET_STRING) || value != nil {
			b.SetError(errTBS)
			return nil
		}
		value = content
	}
	return value
}
