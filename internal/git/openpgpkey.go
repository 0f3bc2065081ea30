package git

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/ecdsa"
	"github.com/ProtonMail/go-crypto/openpgp/ed25519"
	"github.com/ProtonMail/go-crypto/openpgp/eddsa"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	stdecdsa "crypto/ecdsa"
	stded25519 "crypto/ed25519"
	"crypto/elliptic"
)

// minOpenPGPRSA is the smallest RSA modulus of a pinned certificate, in bits.
const minOpenPGPRSA = 3072

// OpenPGPKey is one OpenPGP certificate whose signatures count, pinned by the fingerprint
// of its primary key.
type OpenPGPKey struct{ ring *Keyring }

// OpenPGPProblem is what is wrong with a detached signature or certificate.
type OpenPGPProblem int

// Problems.
const (
	OpenPGPMalformed OpenPGPProblem = iota + 1 // not exactly one signature packet over a binary document
	OpenPGPWeak                                // a hash that can be forged, or a short key
	OpenPGPKind                                // an algorithm that is not accepted
	OpenPGPUnknown                             // not by this certificate's signing key, or not over this message
	OpenPGPExpired                             // a key or signature that is not valid now, or revoked
)

// OpenPGPError says what is wrong, as the end of a sentence that begins with the thing signed or
// with the certificate.
type OpenPGPError struct {
	Problem OpenPGPProblem
	Msg     string
}

func (e *OpenPGPError) Error() string { return e.Msg }

func badOpenPGP(p OpenPGPProblem, format string, args ...any) *OpenPGPError {
	return &OpenPGPError{p, fmt.Sprintf(format, args...)}
}

// ParseOpenPGPKey reads one armored certificate, as gpg --export --armor writes it, that has at
// least one key which may sign. An error is an *OpenPGPError.
func ParseOpenPGPKey(armored string) (*OpenPGPKey, error) {
	if strings.Contains(armored, principalsLine) {
		return nil, badOpenPGP(OpenPGPMalformed, "has comments around it")
	}
	ring, err := ParseKeyring([]byte(armored))
	if err != nil {
		return nil, badOpenPGP(OpenPGPMalformed, "cannot be read: %v", err)
	}
	if len(ring.entities) != 1 {
		return nil, badOpenPGP(OpenPGPMalformed, "is not one certificate but %d", len(ring.entities))
	}
	k := &OpenPGPKey{ring}
	var last error = badOpenPGP(OpenPGPKind, "has no key that may sign")
	for _, c := range k.signing() {
		if last = strength(c); last == nil {
			return k, nil
		}
	}
	return nil, last
}

func (k *OpenPGPKey) entity() *openpgp.Entity { return k.ring.entities[0] }

// signing are the keys that say they may sign, valid or not.
func (k *OpenPGPKey) signing() []openpgp.Key {
	var out []openpgp.Key
	e := k.entity()
	for _, pk := range append([]*packet.PublicKey{e.PrimaryKey}, subkeys(e)...) {
		out = append(out, k.ring.entities.KeysByIdUsage(pk.KeyId, packet.KeyFlagSign)...)
	}
	return out
}

func subkeys(e *openpgp.Entity) []*packet.PublicKey {
	var out []*packet.PublicKey
	for i := range e.Subkeys {
		out = append(out, e.Subkeys[i].PublicKey)
	}
	return out
}

// strength refuses a key that is short, of another algorithm, or bound with a hash that can be forged.
func strength(c openpgp.Key) error {
	v := verification{what: "it", sig: Signature{Kind: "openpgp"}}
	if r := v.openpgpStrength(c.Entity, c.PublicKey); r != nil {
		problem := OpenPGPWeak
		if r.Code == CodeKeyKind {
			problem = OpenPGPKind
		}
		return &OpenPGPError{problem, strings.TrimPrefix(r.Message, "it ")}
	}
	switch c.PublicKey.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		if bits, err := c.PublicKey.BitLength(); err != nil || bits < minOpenPGPRSA {
			return badOpenPGP(OpenPGPWeak, "is signed with an RSA key of less than %d bits", minOpenPGPRSA)
		}
	}
	return nil
}

// Fingerprint is that of the primary key: 40 (version 4) or 64 (version 6) lower-case
// hexadecimal digits.
func (k *OpenPGPKey) Fingerprint() string {
	return hex.EncodeToString(k.entity().PrimaryKey.Fingerprint)
}

// Fingerprints are those of the primary key and of all subkeys.
func (k *OpenPGPKey) Fingerprints() []string {
	out := []string{k.Fingerprint()}
	for _, s := range subkeys(k.entity()) {
		out = append(out, hex.EncodeToString(s.Fingerprint))
	}
	return out
}

// Has reports whether a fingerprint or 16-digit key id, as OpenPGPIssuer gives them, is that of the
// primary key or of a subkey.
func (k *OpenPGPKey) Has(id string) bool {
	if len(id) != 16 {
		return slices.Contains(k.Fingerprints(), id)
	}
	return slices.ContainsFunc(append([]*packet.PublicKey{k.entity().PrimaryKey}, subkeys(k.entity())...), func(pk *packet.PublicKey) bool {
		return fmt.Sprintf("%016x", pk.KeyId) == id
	})
}

// Material identifies the public keys of the certificate in whatever format they are written:
// their SubjectPublicKeyInfo in DER, or the key's packet where there is none.
func (k *OpenPGPKey) Material() [][]byte {
	var out [][]byte
	for _, pk := range append([]*packet.PublicKey{k.entity().PrimaryKey}, subkeys(k.entity())...) {
		der, err := x509.MarshalPKIXPublicKey(standardKey(pk))
		if err != nil {
			var b bytes.Buffer
			if pk.SerializeForHash(&b) != nil {
				continue
			}
			der = b.Bytes()
		}
		out = append(out, der)
	}
	return out
}

// standardKey is the key as the standard library has it, nil where it has none.
func standardKey(pk *packet.PublicKey) any {
	switch k := pk.PublicKey.(type) {
	case *ecdsa.PublicKey:
		for name, curve := range map[string]elliptic.Curve{"P256": elliptic.P256(), "P384": elliptic.P384(), "P521": elliptic.P521()} {
			if k.GetCurve().GetCurveName() == name {
				if public, err := stdecdsa.ParseUncompressedPublicKey(curve, k.MarshalPoint()); err == nil {
					return public
				}
			}
		}
		return nil
	case *eddsa.PublicKey:
		if p := k.MarshalPoint(); len(p) == stded25519.PublicKeySize+1 { // a byte 0x40 first
			return stded25519.PublicKey(p[1:])
		}
		return nil
	case *ed25519.PublicKey:
		return stded25519.PublicKey(k.Point)
	}
	return pk.PublicKey
}

// Verify says why a binary detached signature over message does not count at now; nil when it
// does. An error is an *OpenPGPError.
func (k *OpenPGPKey) Verify(signature, message []byte, now time.Time) error {
	sig, err := readPacket(signature)
	switch {
	case err != nil:
		return badOpenPGP(OpenPGPMalformed, "has an OpenPGP signature that is not acceptable: %v", err)
	case sig.SigType != packet.SigTypeBinary:
		return badOpenPGP(OpenPGPMalformed, "has an OpenPGP signature that is not over a binary document")
	case weakHash(sig.Hash):
		return badOpenPGP(OpenPGPWeak, "has an OpenPGP signature that uses %v, which can be forged", sig.Hash)
	}
	key, entity, err := k.ring.verify(sig, signature, message, now)
	if entity == nil {
		return badOpenPGP(OpenPGPUnknown, "is signed by openpgp %s, which is no signing key of %s", openpgpIssuer(sig), k.Fingerprint())
	}
	var bad pgperrors.SignatureError
	switch {
	case err == nil:
	case errors.As(err, &bad):
		return badOpenPGP(OpenPGPUnknown, "has a signature by openpgp %s that does not verify: %v", k.Fingerprint(), err)
	default:
		return badOpenPGP(OpenPGPExpired, "has a signature by openpgp %s that does not count: %v", k.Fingerprint(), err)
	}
	for _, c := range k.signing() {
		if c.PublicKey == key {
			return strength(c)
		}
	}
	return badOpenPGP(OpenPGPUnknown, "is signed by a key of %s that may not sign", k.Fingerprint())
}

// readPacket reads exactly one signature packet.
func readPacket(raw []byte) (*packet.Signature, error) {
	if packetLen(raw) != len(raw) {
		return nil, errors.New("it is not exactly one packet")
	}
	p, err := packet.Read(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("its packet cannot be read: %w", err)
	}
	sig, ok := p.(*packet.Signature)
	if !ok {
		return nil, errors.New("its packet is not a signature")
	}
	return sig, nil
}

// UnarmorOpenPGP is the one signature packet of an armor block.
func UnarmorOpenPGP(armored []byte) ([]byte, error) {
	_, raw, err := readSignature(armored)
	if err != nil {
		return nil, fmt.Errorf("the OpenPGP signature is not acceptable: %w", err)
	}
	return raw, nil
}

// OpenPGPIssuer is the fingerprint or the key id of the key that a binary detached signature
// claims to be by, "" when it cannot be read or does not say.
func OpenPGPIssuer(signature []byte) string {
	sig, err := readPacket(signature)
	if err != nil || len(sig.IssuerFingerprint) == 0 && sig.IssuerKeyId == nil {
		return ""
	}
	return openpgpIssuer(sig)
}
