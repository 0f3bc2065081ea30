//go:build linux || darwin || freebsd

package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// The curves, by their OID in DER as CKA_EC_PARAMS has it (RFC 5480, 2.1.1.1).
var curves = map[string]elliptic.Curve{
	"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07": elliptic.P256(),
	"\x06\x05\x2b\x81\x04\x00\x22":             elliptic.P384(),
	"\x06\x05\x2b\x81\x04\x00\x23":             elliptic.P521(),
}

// Ed25519 is named by OID (RFC 8410) or, as PKCS #11 3.0 has it too, by word.
var ed25519Params = map[string]bool{
	"\x06\x03\x2b\x65\x70":                             true,
	"\x13\x0cedwards25519":                             true,
	"\x06\x0a\x2b\x06\x01\x04\x01\xda\x47\x0f\x01\x00": true,
	"\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x0f\x01":     true,
}

// publicOf is the public half that an object tells.
func (k *Key) publicOf(object, class ulong) (crypto.PublicKey, error) {
	get := func(typ ulong) []byte {
		b, err := k.m.attr(k.session, object, typ)
		if err != nil {
			return nil
		}
		return b
	}
	if class == ckoCertificate {
		cert, err := x509.ParseCertificate(get(ckaValue))
		if err != nil {
			return nil, errNoPublic
		}
		return cert.PublicKey, nil
	}
	typ, ok, err := k.m.attrULong(k.session, object, ckaKeyType)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s says nothing of the key's type", k.tokenName())
	}
	switch typ {
	case ckkRSA:
		n, e := get(ckaModulus), get(ckaPublicExponent)
		if len(n) == 0 || len(e) == 0 || len(e) > 8 {
			return nil, errNoPublic
		}
		exponent := new(big.Int).SetBytes(e)
		if !exponent.IsInt64() || exponent.Int64() > 1<<31-1 {
			return nil, errors.New("an RSA key with a public exponent of more than 31 bits")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
	case ckkEC, ckkECEdwards:
		params, point := get(ckaECParams), get(ckaECPoint)
		if len(point) == 0 {
			if public, err := x509.ParsePKIXPublicKey(get(ckaPublicKeyInfo)); err == nil {
				return public, nil
			}
			return nil, errNoPublic
		}
		return ecPublic(params, point)
	}
	return nil, fmt.Errorf("a key of type 0x%x; ECDSA (P-256, P-384, P-521), Ed25519 and RSA keys can be used", typ)
}

// ecPublic reads CKA_EC_PARAMS and CKA_EC_POINT. The point is in a DER OCTET STRING;
// some modules leave that away.
func ecPublic(params, point []byte) (crypto.PublicKey, error) {
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err != nil || len(rest) != 0 {
		inner = point
	}
	if ed25519Params[string(params)] {
		if len(inner) != ed25519.PublicKeySize {
			return nil, errors.New("an Ed25519 key of the wrong length")
		}
		return ed25519.PublicKey(inner), nil
	}
	curve := curves[string(params)]
	if curve == nil {
		return nil, errors.New("an elliptic curve other than P-256, P-384, P-521 and Ed25519")
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, inner)
	if err != nil {
		public, err = ecdsa.ParseUncompressedPublicKey(curve, point)
	}
	if err != nil {
		return nil, errors.New("a point that is not on its curve")
	}
	return public, nil
}

// DigestInfo before the digest of RSA with PKCS #1 v1.5 (RFC 8017, 9.2).
var digestInfo = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// maxSignature bounds what a token may answer, in bytes: RSA has 512.
const maxSignature = 1024

// Sign signs with the one private key of the URI: a digest, as ASN.1 for ECDSA and PKCS
// #1 v1.5 for RSA; a whole message for Ed25519 (hash 0).
func (k *Key) Sign(data []byte, hash crypto.Hash) ([]byte, error) {
	if err := k.login(); err != nil {
		return nil, err
	}
	found, err := k.find(ckoPrivateKey)
	if err != nil {
		return nil, err
	}
	object, err := k.one("private key", found)
	if err != nil {
		return nil, err
	}
	typ, ok, err := k.m.attrULong(k.session, object, ckaKeyType)
	if err != nil {
		return nil, err
	}
	if may, _ := k.m.attr(k.session, object, ckaSign); len(may) == 1 && may[0] == 0 {
		return nil, fmt.Errorf("the key in %s may not sign (CKA_SIGN)", k.tokenName())
	}
	mech := &mechanism{}
	switch {
	case !ok:
		return nil, fmt.Errorf("%s says nothing of the key's type", k.tokenName())
	case typ == ckkEC:
		mech.typ = ckmECDSA
	case typ == ckkECEdwards:
		mech.typ = ckmEdDSA
	case typ == ckkRSA:
		mech.typ = ckmRSAPKCS
		prefix := digestInfo[hash]
		if prefix == nil {
			return nil, errors.New("RSA signs SHA-256, SHA-384 and SHA-512")
		}
		data = append(append([]byte{}, prefix...), data...)
	default:
		return nil, fmt.Errorf("a key of type 0x%x cannot be used", typ)
	}
	if (typ == ckkECEdwards) != (hash == 0) {
		return nil, errors.New("Ed25519 signs whole messages, and all others digests")
	}
	if len(data) == 0 {
		return nil, errors.New("there is nothing to sign")
	}
	if rv := k.m.signInit(k.session, mech, object); rv != 0 {
		return nil, fmt.Errorf("C_SignInit in %s: %w", k.tokenName(), rvError(rv))
	}
	// A key that wants its PIN for each signature (PIV's).
	if always, _ := k.m.attr(k.session, object, ckaAlwaysAuthenticate); len(always) == 1 && always[0] == 1 {
		var pin *byte
		if len(k.pin) > 0 {
			pin = &k.pin[0]
		}
		if err := k.logIn(ckuContextSpecific, pin); err != nil {
			return nil, err
		}
	}
	sig := make([]byte, maxSignature)
	n := ulong(len(sig))
	if rv := k.m.sign(k.session, &data[0], ulong(len(data)), &sig[0], &n); rv != 0 {
		return nil, fmt.Errorf("C_Sign in %s: %w", k.tokenName(), rvError(rv))
	}
	if n == 0 || n > maxSignature {
		return nil, fmt.Errorf("C_Sign in %s gave a signature of %d bytes", k.tokenName(), n)
	}
	sig = sig[:n]
	if typ != ckkEC {
		return sig, nil
	}
	if n%2 != 0 {
		return nil, fmt.Errorf("C_Sign in %s gave an ECDSA signature of %d bytes", k.tokenName(), n)
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:n/2]), new(big.Int).SetBytes(sig[n/2:])})
}

// hasPrivate wants the private half of a key that is there already.
func (k *Key) hasPrivate() error {
	found, err := k.find(ckoPrivateKey)
	if err != nil {
		return err
	}
	_, err = k.one("private key", found)
	return err
}

// unused wants no object in the token to have the label or the ID of a new key, whatever
// else the URI says and whether or not its public half can be seen.
func (k *Key) unused(label, id []byte) error {
	for _, class := range []ulong{ckoPrivateKey, ckoPublicKey, ckoCertificate} {
		for _, taken := range []struct {
			name attribute
			is   string
		}{
			{bytesAttr(ckaLabel, label), fmt.Sprintf("label %q", label)},
			{bytesAttr(ckaID, id), "id " + percent(id)},
		} {
			found, err := k.m.objects(k.session, []attribute{ulongAttr(ckaClass, class), taken.name})
			if err != nil {
				return fmt.Errorf("looking for keys in %s: %w", k.tokenName(), err)
			}
			if len(found) > 0 {
				return fmt.Errorf("%s has an object with the %s already, which is not the key that the URI names: take another object= and id=", k.tokenName(), taken.is)
			}
		}
	}
	return nil
}

// Algorithms are what [Key.Create] can make, the default first.
func Algorithms() []string {
	return []string{"ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519"}
}

// Create makes a key pair in the token that never leaves it, under the label and the ID
// of the URI, and returns its public half. Where the key is there already it is returned,
// as the plugins of the clouds do, if it is of this algorithm. No key is made whose label
// or ID another object has: neither of the two could be named by it then.
func (k *Key) Create(algorithm string, nameOf func(crypto.PublicKey) string) (crypto.PublicKey, error) {
	if k.uri.Object == "" {
		return nil, errors.New("the URI names no object: a new key needs a label, object=NAME")
	}
	if err := k.login(); err != nil {
		return nil, err
	}
	switch public, err := k.visible(); {
	case err == nil && nameOf(public) == algorithm:
		return public, k.hasPrivate()
	case err == nil:
		return nil, fmt.Errorf("%s has a key that matches already, of algorithm %s", k.tokenName(), nameOf(public))
	case !errors.Is(err, errNoPublic):
		return nil, err
	}
	id := k.uri.ID
	if id == nil {
		id = []byte(k.uri.Object)
	}
	label := []byte(k.uri.Object)
	if err := k.unused(label, id); err != nil {
		return nil, err
	}
	common := []attribute{boolAttr(ckaToken, true), bytesAttr(ckaLabel, label), bytesAttr(ckaID, id)}
	public := append([]attribute{boolAttr(ckaPrivate, false), boolAttr(ckaVerify, true)}, common...)
	private := append([]attribute{boolAttr(ckaPrivate, true), boolAttr(ckaSensitive, true), boolAttr(ckaExtractable, false), boolAttr(ckaSign, true)}, common...)
	mech := &mechanism{}
	oid := map[string]string{"ecdsa-p256": "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", "ecdsa-p384": "\x06\x05\x2b\x81\x04\x00\x22", "ed25519": "\x06\x03\x2b\x65\x70"}
	bits := map[string]ulong{"rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096}
	switch {
	case oid[algorithm] != "":
		mech.typ = ckmECKeyPairGen
		if algorithm == "ed25519" {
			mech.typ = ckmECEdwardsKeyPairGen
		}
		public = append(public, bytesAttr(ckaECParams, []byte(oid[algorithm])))
	case bits[algorithm] != 0:
		mech.typ = ckmRSAKeyPairGen
		public = append(public, ulongAttr(ckaModulusBits, bits[algorithm]), bytesAttr(ckaPublicExponent, []byte{1, 0, 1}))
	default:
		return nil, fmt.Errorf("no algorithm is called %.40q; there are %v", algorithm, Algorithms())
	}
	// Another session, that may write; the login is the token's.
	var session, pub, priv ulong
	if rv := k.m.openSession(k.slot, ckfSerialSession|ckfRWSession, nil, nil, &session); rv != 0 {
		return nil, fmt.Errorf("C_OpenSession in %s: %w", k.tokenName(), rvError(rv))
	}
	if rv := k.m.generateKeyPair(session, mech, &public[0], ulong(len(public)), &private[0], ulong(len(private)), &pub, &priv); rv != 0 {
		return nil, fmt.Errorf("C_GenerateKeyPair in %s: %w", k.tokenName(), rvError(rv))
	}
	return k.publicOf(pub, ckoPublicKey)
}
