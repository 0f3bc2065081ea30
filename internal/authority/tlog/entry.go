package tlog

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha512" // for crypto.Hash of the algorithms below
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

// entry is a hashedrekord 0.0.2 whose signature was verified.
type entry struct {
	algorithm   *algorithm
	digest      []byte
	signature   []byte
	certificate bool   // verifier is an X.509 certificate, else a PKIX public key
	verifier    []byte // DER
}

// algorithm is one of the protobuf-specs PublicKeyDetails that can sign a
// digest, as the log accepts them.
type algorithm struct {
	name     string // PublicKeyDetails
	number   int64
	hash     crypto.Hash
	hashName string // HashAlgorithm
	verify   func(pub crypto.PublicKey, h crypto.Hash, digest, sig []byte) error
}

// algorithms is a constant table. PKIX_ED25519 is not in it: pure Ed25519 signs
// the message, which a log of digests never sees.
var algorithms = [...]algorithm{
	{"PKIX_ECDSA_P256_SHA_256", 5, crypto.SHA256, "SHA2_256", verifyECDSA("P-256")},
	{"PKIX_ECDSA_P384_SHA_384", 12, crypto.SHA384, "SHA2_384", verifyECDSA("P-384")},
	{"PKIX_ECDSA_P521_SHA_512", 13, crypto.SHA512, "SHA2_512", verifyECDSA("P-521")},
	{"PKIX_ED25519_PH", 8, crypto.SHA512, "SHA2_512", verifyEd25519ph},
	{"PKIX_RSA_PKCS1V15_2048_SHA256", 9, crypto.SHA256, "SHA2_256", verifyRSA(2048, false)},
	{"PKIX_RSA_PKCS1V15_3072_SHA256", 10, crypto.SHA256, "SHA2_256", verifyRSA(3072, false)},
	{"PKIX_RSA_PKCS1V15_4096_SHA256", 11, crypto.SHA256, "SHA2_256", verifyRSA(4096, false)},
	{"PKIX_RSA_PSS_2048_SHA256", 16, crypto.SHA256, "SHA2_256", verifyRSA(2048, true)},
	{"PKIX_RSA_PSS_3072_SHA256", 17, crypto.SHA256, "SHA2_256", verifyRSA(3072, true)},
	{"PKIX_RSA_PSS_4096_SHA256", 18, crypto.SHA256, "SHA2_256", verifyRSA(4096, true)},
}

var errSignature = errors.New("the signature is not by this key over this digest")

type verifyFunc = func(pub crypto.PublicKey, h crypto.Hash, digest, sig []byte) error

func verifyECDSA(curve string) verifyFunc {
	return func(pub crypto.PublicKey, _ crypto.Hash, digest, sig []byte) error {
		key, ok := pub.(*ecdsa.PublicKey)
		if !ok || key.Curve.Params().Name != curve {
			return fmt.Errorf("keyDetails name an ECDSA %s key, the verifier holds %s", curve, describe(pub))
		}
		if !ecdsa.VerifyASN1(key, digest, sig) {
			return errSignature
		}
		return nil
	}
}

func verifyEd25519ph(pub crypto.PublicKey, h crypto.Hash, digest, sig []byte) error {
	key, ok := pub.(ed25519.PublicKey)
	if !ok {
		return fmt.Errorf("keyDetails name an Ed25519 key, the verifier holds %s", describe(pub))
	}
	if ed25519.VerifyWithOptions(key, digest, sig, &ed25519.Options{Hash: h}) != nil {
		return errSignature
	}
	return nil
}

func verifyRSA(bits int, pss bool) verifyFunc {
	return func(pub crypto.PublicKey, h crypto.Hash, digest, sig []byte) error {
		key, ok := pub.(*rsa.PublicKey)
		if !ok || key.N.BitLen() != bits {
			return fmt.Errorf("keyDetails name an RSA key of %d bits, the verifier holds %s", bits, describe(pub))
		}
		var err error
		if pss {
			err = rsa.VerifyPSS(key, h, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: h})
		} else {
			err = rsa.VerifyPKCS1v15(key, h, digest, sig)
		}
		if err != nil {
			return errSignature
		}
		return nil
	}
}

func describe(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return "an ECDSA " + k.Curve.Params().Name + " key"
	case *rsa.PublicKey:
		return "an RSA key of " + strconv.Itoa(k.N.BitLen()) + " bits"
	case ed25519.PublicKey:
		return "an Ed25519 key"
	}
	return "a key of another kind"
}

// check verifies that the entry's signature is by its verifier over its digest.
// Whether the certificate is to be trusted is for those who read the log.
func (e *entry) check() error {
	if len(e.digest) != e.algorithm.hash.Size() {
		return fmt.Errorf("digest: %d bytes, %s has %d", len(e.digest), e.algorithm.hashName, e.algorithm.hash.Size())
	}
	var pub crypto.PublicKey
	if e.certificate {
		cert, err := x509.ParseCertificate(e.verifier)
		if err != nil {
			return errors.New("x509Certificate: not a DER certificate")
		}
		pub = cert.PublicKey
	} else {
		var err error
		if pub, err = x509.ParsePKIXPublicKey(e.verifier); err != nil {
			return errors.New("publicKey: not a DER SubjectPublicKeyInfo")
		}
	}
	return e.algorithm.verify(pub, e.algorithm.hash, e.digest, e.signature)
}

// canonical is the entry as it is hashed into the tree: RFC 8785 of the
// protojson of a dev.sigstore.rekor.v2.Entry. Every string in it is ASCII
// without escapes and the members are in JCS order, so appending gives the same
// bytes. Verifiers rebuild them from a bundle.
func (e *entry) canonical() []byte {
	kind := `"publicKey"`
	if e.certificate {
		kind = `"x509Certificate"`
	}
	b := make([]byte, 0, 300+(len(e.verifier)+len(e.signature)+len(e.digest))*4/3)
	b = append(b, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"`...)
	b = append(b, e.algorithm.hashName...)
	b = append(b, `","digest":"`...)
	b = base64.StdEncoding.AppendEncode(b, e.digest)
	b = append(b, `"},"signature":{"content":"`...)
	b = base64.StdEncoding.AppendEncode(b, e.signature)
	b = append(b, `","verifier":{"keyDetails":"`...)
	b = append(b, e.algorithm.name...)
	b = append(b, `",`...)
	b = append(b, kind...)
	b = append(b, `:{"rawBytes":"`...)
	b = base64.StdEncoding.AppendEncode(b, e.verifier)
	return append(b, `"}}}}}}`...)
}

// Receipt proves that an entry is in a log.
type Receipt struct {
	Index int64
	// Size and Root are of the tree that Checkpoint, a signed note, covers.
	Size       int64
	Root       tlog.Hash
	Proof      []tlog.Hash // RFC 9162, 2.1.3
	Checkpoint []byte
}

// answer is the protojson of a dev.sigstore.rekor.v1.TransparencyLogEntry for the
// entry: with its proof to the checkpoint.
func (r Receipt) answer(keyID, canonical []byte) []byte {
	b := make([]byte, 0, 1024+len(canonical)*4/3+len(r.Proof)*48)
	str := func(prefix string, raw []byte) {
		b = append(append(b, prefix...), '"')
		b = append(base64.StdEncoding.AppendEncode(b, raw), '"')
	}
	num := func(prefix string, n int64) {
		b = append(append(b, prefix...), '"')
		b = append(strconv.AppendInt(b, n, 10), '"')
	}
	num(`{"logIndex":`, r.Index)
	str(`,"logId":{"keyId":`, keyID)
	// Rekor v2 has neither an integrated time nor a promise.
	b = append(b, `},"kindVersion":{"kind":"hashedrekord","version":"0.0.2"},"integratedTime":"0","inclusionPromise":null`...)
	num(`,"inclusionProof":{"logIndex":`, r.Index)
	str(`,"rootHash":`, r.Root[:])
	num(`,"treeSize":`, r.Size)
	b = append(b, `,"hashes":[`...)
	for i := range r.Proof {
		sep := ","
		if i == 0 {
			sep = ""
		}
		str(sep, r.Proof[i][:])
	}
	b = append(b, `],"checkpoint":{"envelope":`...)
	b = appendJSONString(b, r.Checkpoint)
	str(`}},"canonicalizedBody":`, canonical)
	return append(b, '}')
}

// appendJSONString quotes a signed note: valid UTF-8 whose only control
// character is the newline (c2sp.org/signed-note).
func appendJSONString(b, s []byte) []byte {
	b = append(b, '"')
	for _, c := range s {
		switch c {
		case '\n':
			b = append(b, '\\', 'n')
		case '"', '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
