// Package notaryforge signs Notary Project signatures for tests, good ones and
// every kind of bad one: COSE by go-cose, an implementation that is not ours, and
// JWS by hand. It makes the authorities and the trust as well.
package notaryforge

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
)

// Names of headers.
const (
	Scheme        = "io.cncf.notary.signingScheme"
	SigningTime   = "io.cncf.notary.signingTime"
	AuthenticTime = "io.cncf.notary.authenticSigningTime"
	Expiry        = "io.cncf.notary.expiry"
	Agent         = "io.cncf.notary.signingAgent"
	Timestamp     = "io.cncf.notary.timestampSignature"
)

// Either is a header's value that has another spelling in each envelope. A nil one
// leaves the header out.
type Either struct{ COSE, JWS any }

// Envelope is a signature to be made.
type Envelope struct {
	// Protected are the signed headers by their JWS names: alg, crit, cty and the
	// Notary Project's. A time.Time is written as each envelope wants it.
	Protected map[string]any
	Payload   []byte
	Chain     [][]byte // DER, leaf first
	Key       crypto.Signer
	// Stamp makes the countersignature of a signature, if set.
	Stamp func(signature []byte) []byte

	ChainProtected bool // the chain stands among the signed headers
	ChainPlain     bool // a single certificate without an array
	Detached       bool // the payload is left out after signing
	Bare           bool // COSE without its tag, JWS in the compact serialization
	// Tamper changes the signature after it was made.
	Tamper func([]byte) []byte
}

// Target is a payload for an artifact.
func Target(mediaType, digest string, size int64, annotations map[string]string) []byte {
	type descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int64             `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	data, err := json.Marshal(map[string]descriptor{"targetArtifact": {mediaType, digest, size, annotations}})
	if err != nil {
		panic(err)
	}
	return data
}

// New is a good envelope of scheme notary.x509.
func New(key crypto.Signer, chain [][]byte, payload []byte, at time.Time) *Envelope {
	return &Envelope{Key: key, Chain: chain, Payload: payload, Protected: map[string]any{
		"alg": Algorithm(key), "cty": "application/vnd.cncf.notary.payload.v1+json", "crit": []string{Scheme},
		Scheme: "notary.x509", SigningTime: at.Truncate(time.Second)}}
}

// Algorithm is how a key signs, as JWS names it.
func Algorithm(key crypto.Signer) string {
	switch k := key.Public().(type) {
	case *ecdsa.PublicKey:
		return map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Curve.Params().BitSize]
	case *rsa.PublicKey:
		return map[int]string{2048: "PS256", 3072: "PS384", 4096: "PS512"}[k.N.BitLen()]
	}
	return "EdDSA"
}

var coseAlgorithms = map[string]cose.Algorithm{"ES256": cose.AlgorithmES256, "ES384": cose.AlgorithmES384, "ES512": cose.AlgorithmES512,
	"PS256": cose.AlgorithmPS256, "PS384": cose.AlgorithmPS384, "PS512": cose.AlgorithmPS512, "EdDSA": cose.AlgorithmEdDSA}

// Media types of what COSE and JWS make.
const (
	MediaTypeCOSE = "application/cose"
	MediaTypeJWS  = "application/jose+json"
)

// Sign makes the envelope of a media type.
func (e *Envelope) Sign(mediaType string) []byte {
	if mediaType == MediaTypeJWS {
		return e.JWS()
	}
	return e.COSE()
}

// COSE makes a COSE_Sign1.
func (e *Envelope) COSE() []byte {
	chain := any(e.Chain)
	if e.ChainPlain {
		chain = e.Chain[0]
	}
	protected, unprotected := map[any]any{}, map[any]any{Agent: "notaryforge"}
	for name, value := range e.Protected {
		if v := forCOSE(name, value); v != nil {
			protected[coseLabel(name)] = v
		}
	}
	if e.ChainProtected {
		protected[int64(33)] = chain
	} else {
		unprotected[int64(33)] = chain
	}
	m := cose.NewSign1Message()
	alg := coseAlgorithms[Algorithm(e.Key)]
	m.Headers.Protected.SetAlgorithm(alg) // what is signed is the raw bucket
	m.Headers.RawProtected = encode(encode(protected))
	m.Payload = e.Payload
	signer := must(cose.NewSigner(alg, e.Key))
	if err := m.Sign(rand.Reader, nil, signer); err != nil {
		panic(err)
	}
	if e.Tamper != nil {
		m.Signature = e.Tamper(m.Signature)
	}
	if e.Stamp != nil {
		unprotected[Timestamp] = e.Stamp(m.Signature)
	}
	payload := any(m.Payload)
	if e.Detached {
		payload = nil
	}
	out := encode(cbor.Tag{Number: 18, Content: []any{m.Headers.RawProtected, unprotected, payload, m.Signature}})
	if e.Bare {
		return out[1:]
	}
	return out
}

// encode is deterministic CBOR; already encoded parts stay as they are.
func encode(v any) []byte {
	mode := must(cbor.CoreDetEncOptions().EncMode())
	return must(mode.Marshal(v))
}

func coseLabel(name string) any {
	switch name {
	case "alg":
		return int64(1)
	case "crit":
		return int64(2)
	case "cty":
		return int64(3)
	}
	return name
}

func forCOSE(name string, value any) any {
	switch v := value.(type) {
	case Either:
		return v.COSE
	case time.Time:
		return cbor.Tag{Number: 1, Content: v.Unix()}
	case string:
		if name == "alg" {
			return int64(coseAlgorithms[v])
		}
	}
	return value
}

// JWS makes the flattened JSON serialization.
func (e *Envelope) JWS() []byte {
	members := map[string]any{}
	for name, value := range e.Protected {
		if v, ok := value.(Either); ok {
			value = v.JWS
		}
		if value != nil {
			members[name] = value
		}
	}
	chain := []string{}
	for _, der := range e.Chain {
		chain = append(chain, base64.StdEncoding.EncodeToString(der))
	}
	header := map[string]any{Agent: "notaryforge"}
	switch {
	case e.ChainProtected:
		members["x5c"] = chain
	case e.ChainPlain:
		header["x5c"] = chain[0]
	default:
		header["x5c"] = chain
	}
	protected := base64.RawURLEncoding.EncodeToString(must(json.Marshal(members)))
	payload := base64.RawURLEncoding.EncodeToString(e.Payload)
	sig := SignRaw(e.Key, []byte(protected+"."+payload))
	if e.Tamper != nil {
		sig = e.Tamper(sig)
	}
	signature := base64.RawURLEncoding.EncodeToString(sig)
	if e.Bare {
		return []byte(strings.Join([]string{protected, payload, signature}, "."))
	}
	if e.Stamp != nil {
		header[Timestamp] = e.Stamp(sig)
	}
	out := map[string]any{"payload": payload, "protected": protected, "header": header, "signature": signature}
	if e.Detached {
		delete(out, "payload")
	}
	return must(json.Marshal(out))
}

// SignRaw signs as JWS and COSE do: ECDSA as r||s, RSA as PSS.
func SignRaw(key crypto.Signer, data []byte) []byte {
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		hash := map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384, 521: crypto.SHA512}[k.Curve.Params().BitSize]
		r, s, err := ecdsa.Sign(rand.Reader, k, sum(hash, data))
		if err != nil {
			panic(err)
		}
		size := (k.Curve.Params().BitSize + 7) / 8
		return slices.Concat(fill(r, size), fill(s, size))
	case *rsa.PrivateKey:
		hash := map[int]crypto.Hash{2048: crypto.SHA256, 3072: crypto.SHA384, 4096: crypto.SHA512}[k.N.BitLen()]
		return must(rsa.SignPSS(rand.Reader, k, hash, sum(hash, data), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
	}
	return must(key.Sign(rand.Reader, data, crypto.Hash(0)))
}

func sum(h crypto.Hash, data []byte) []byte {
	s := h.New()
	s.Write(data)
	return s.Sum(nil)
}

func fill(n *big.Int, size int) []byte { return n.FillBytes(make([]byte, size)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("notaryforge: %v", err))
	}
	return v
}

// Clone is an envelope whose headers and chain can be changed without changing e's.
func (e *Envelope) Clone() *Envelope {
	c := *e
	c.Protected = make(map[string]any, len(e.Protected))
	for k, v := range e.Protected {
		c.Protected[k] = v
	}
	c.Chain, c.Payload = slices.Clone(e.Chain), bytes.Clone(e.Payload)
	return &c
}

// Tag is a CBOR value with a tag.
func Tag(number uint64, content any) any { return cbor.Tag{Number: number, Content: content} }
