package forge

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/bits"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// PureEd25519 as ClaimOptions.Hash has the message itself signed.
const PureEd25519 crypto.Hash = 999

// ClaimOptions say how a claim is made: message or envelope, certificate or bare key.
type ClaimOptions struct {
	Signer   crypto.Signer  // default a new P-256 key
	Hash     crypto.Hash    // default SHA-256
	Artifact []byte         // of a message signature; default Artifact
	Payload  []byte         // of an envelope; nil: a message signature
	Leaf     *LeafOptions   // nil: Alice
	KeyOnly  bool           // no certificate
	Logs     []string       // "v2", "v1 hashedrekord", "v1 dsse", "v1 intoto"
	Token    bool           // with a timestamp
	TokenAt  time.Time      // default a second after Now
	Tokens   []TokenOptions // instead
}

// Claim signs and has it logged and stamped.
func (w *World) Claim(o ClaimOptions) *evidence.Claim {
	if o.Signer == nil {
		o.Signer = NewKey(elliptic.P256())
	}
	if o.Hash == 0 {
		o.Hash = crypto.SHA256
	}
	c := &evidence.Claim{Format: evidence.FormatBundle03, MediaType: evidence.BundleMediaType}
	if !o.KeyOnly {
		l := Alice()
		if o.Leaf != nil {
			l = *o.Leaf
		}
		l.Key = o.Signer.Public()
		c.Certificates = [][]byte{w.Leaf(l).Raw}
	}
	message := o.Artifact
	switch {
	case o.Payload != nil:
		message = evidence.PAE(evidence.InTotoPayloadType, o.Payload)
	case message == nil:
		message = Artifact
	}
	digest := message
	var opts crypto.SignerOpts = crypto.Hash(0)
	if o.Hash != PureEd25519 {
		h := o.Hash.New()
		h.Write(message)
		digest, opts = h.Sum(nil), o.Hash
	}
	sig := Must(o.Signer.Sign(rand.Reader, digest, opts))
	if o.Payload != nil {
		c.Envelope = &evidence.Envelope{PayloadType: evidence.InTotoPayloadType, Payload: o.Payload, Signatures: []evidence.EnvelopeSignature{{Sig: sig}}}
	} else {
		c.Message = &evidence.MessageSignature{Signature: sig}
		if o.Hash != PureEd25519 {
			c.Message.DigestAlgorithm, c.Message.Digest = hashNames[len(digest)].proto, digest
		}
	}
	for _, kind := range o.Logs {
		if kind == "v2" {
			c.LogEntries = append(c.LogEntries, w.entryV2(c, o, digest))
		} else {
			c.LogEntries = append(c.LogEntries, w.EntryV1(c, o, kind, digest))
		}
	}
	if o.Token {
		o.Tokens = append(o.Tokens, TokenOptions{At: o.TokenAt})
	}
	for _, t := range o.Tokens {
		c.Timestamps = append(c.Timestamps, w.Token(sig, t))
	}
	return c
}

// hashNames are a digest's names by its size.
var hashNames = map[int]struct{ oci, proto string }{
	32: {"sha256", "SHA2_256"}, 48: {"sha384", "SHA2_384"}, 64: {"sha512", "SHA2_512"},
}

func signerPEM(c *evidence.Claim, o ClaimOptions) []byte {
	if o.KeyOnly {
		return PublicPEM(o.Signer.Public())
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificates[0]})
}

// PublicPEM is a public key as a PEM file.
func PublicPEM(public crypto.PublicKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: Must(x509.MarshalPKIXPublicKey(public))})
}

// JCS is the canonical JSON (RFC 8785) of a value.
func JCS(v any) []byte { return Must(jsoncanonicalizer.Transform(Must(json.Marshal(v)))) }

type object map[string]any

// EntryV1 logs the claim in the Rekor v1 log: promise and proof.
func (w *World) EntryV1(c *evidence.Claim, o ClaimOptions, kind string, digest []byte) evidence.LogEntry {
	signer, sig := B64(signerPEM(c, o)), c.Signature()
	var spec, version any
	k := kind[len("v1 "):]
	switch k {
	case "hashedrekord":
		version, spec = "0.0.1", object{"data": object{"hash": object{"algorithm": hashNames[len(digest)].oci, "value": hex.EncodeToString(digest)}},
			"signature": object{"content": B64(sig), "publicKey": object{"content": signer}}}
	case "dsse":
		version, spec = "0.0.1", object{"envelopeHash": object{"algorithm": "sha256", "value": evidence.SHA256(envelopeJSON(c.Envelope)).Hex()},
			"payloadHash": object{"algorithm": "sha256", "value": evidence.SHA256(o.Payload).Hex()},
			"signatures":  []object{{"signature": B64(sig), "verifier": signer}}}
	case "intoto":
		version, spec = "0.0.2", object{"content": object{"envelope": object{"payloadType": evidence.InTotoPayloadType,
			"signatures": []object{{"publicKey": signer, "sig": B64([]byte(B64(sig)))}}},
			"hash":        object{"algorithm": "sha256", "value": evidence.SHA256(envelopeJSON(c.Envelope)).Hex()},
			"payloadHash": object{"algorithm": "sha256", "value": evidence.SHA256(o.Payload).Hex()}}}
	}
	body := JCS(object{"apiVersion": version, "kind": k, "spec": spec})
	e := w.SignV1(evidence.LogEntry{LogIndex: w.TreeSize + 1001, IntegratedTime: w.Now.Unix() + 2, Kind: k, Version: version.(string), Body: body})
	index, root, path := w.tree(body)
	e.Proof = &evidence.InclusionProof{LogIndex: index, TreeSize: w.TreeSize, RootHash: root, Hashes: path, Checkpoint: w.NoteV1(w.TreeSize, root)}
	return e
}

// NoteV1 is a checkpoint of the Rekor v1 log.
func (w *World) NoteV1(size int64, root []byte) string {
	text := fmt.Sprintf("rekor.test - 77\n%d\n%s\n", size, B64(root))
	return text + "\n— rekor.test " + B64(append(LogID(w.V1.Public())[:4:4], SignECDSA(w.V1, []byte(text))...)) + "\n"
}

// SignV1 gives an entry the Rekor v1 log's id and promise.
func (w *World) SignV1(e evidence.LogEntry) evidence.LogEntry {
	id := LogID(w.V1.Public())
	e.LogID = id
	e.Promise = SignECDSA(w.V1, JCS(object{"body": B64(e.Body), "integratedTime": e.IntegratedTime, "logID": hex.EncodeToString(id), "logIndex": e.LogIndex}))
	return e
}

// tree is a log that holds the body: in the middle of three leaves, or near the
// middle of a tree of which only the path exists.
func (w *World) tree(body []byte) (index int64, root []byte, path [][]byte) {
	index, size := w.TreeSize/2, uint64(w.TreeSize)
	inner := bits.Len64(uint64(index) ^ (size - 1))
	n := inner + bits.OnesCount64(uint64(index)>>inner)
	for i := range n {
		sum := sha256.Sum256([]byte{byte(i)})
		path = append(path, sum[:])
	}
	h := rfc6962.DefaultHasher
	root = Must(proof.RootFromInclusionProof(h, uint64(index), size, h.HashLeaf(body), path))
	return index, root, path
}

func (w *World) entryV2(c *evidence.Claim, o ClaimOptions, digest []byte) evidence.LogEntry {
	details := "PKIX_ECDSA_P256_SHA_256"
	switch k := o.Signer.Public().(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P384() {
			details = "PKIX_ECDSA_P384_SHA_384"
		}
	case ed25519.PublicKey:
		details = "PKIX_ED25519_PH"
	default:
		details = "PKIX_RSA_PKCS1V15_2048_SHA256"
	}
	verifier := object{"keyDetails": details}
	if o.KeyOnly {
		verifier["publicKey"] = object{"rawBytes": B64(Must(x509.MarshalPKIXPublicKey(o.Signer.Public())))}
	} else {
		verifier["x509Certificate"] = object{"rawBytes": B64(c.Certificates[0])}
	}
	body := JCS(object{"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": object{"hashedRekordV002": object{
		"data":      object{"algorithm": hashNames[len(digest)].proto, "digest": B64(digest)},
		"signature": object{"content": B64(c.Signature()), "verifier": verifier}}}})
	index, root, path := w.tree(body)
	id := trust.NoteKeyID("log2.test", w.V2Public)
	return evidence.LogEntry{LogIndex: index, LogID: id[:], Kind: "hashedrekord", Version: "0.0.2", Body: body,
		Proof: &evidence.InclusionProof{LogIndex: index, TreeSize: w.TreeSize, RootHash: root, Hashes: path, Checkpoint: w.NoteV2("log2.test", w.TreeSize, root)}}
}

// NoteV2 is a checkpoint of the Rekor v2 log.
func (w *World) NoteV2(origin string, size int64, root []byte) string {
	id := trust.NoteKeyID("log2.test", w.V2Public)
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, B64(root))
	return text + "\n— log2.test " + B64(append(id[:4:4], ed25519.Sign(w.V2, []byte(text))...)) + "\n"
}
