package rekorv1

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/sorted"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

const (
	kindHashedrekord = "hashedrekord"
	kindDSSE         = "dsse"
	entryVersion     = "0.0.1"

	maxSignatures = 16 // of an envelope, and as many verifiers
	maxNesting    = 16 // of an envelope's JSON
)

// The JSON of a proposed entry. Members that Rekor writes itself and null may be
// there, as clients that send their whole model have them.
type (
	proposedWire struct {
		APIVersion string          `json:"apiVersion" strict:"required"`
		Kind       string          `json:"kind" strict:"required"`
		Spec       json.RawMessage `json:"spec" strict:"required"`
	}
	hashWire struct {
		Algorithm string `json:"algorithm" strict:"required"`
		Value     string `json:"value" strict:"required"`
	}
	hashedrekordWire struct {
		Data struct {
			Hash    hashWire        `json:"hash" strict:"required"`
			URL     json.RawMessage `json:"url"`
			Content json.RawMessage `json:"content"`
		} `json:"data" strict:"required"`
		Signature struct {
			Content   []byte `json:"content" strict:"required"`
			PublicKey struct {
				Content []byte          `json:"content" strict:"required"`
				URL     json.RawMessage `json:"url"`
			} `json:"publicKey" strict:"required"`
			URL    json.RawMessage `json:"url"`
			Format json.RawMessage `json:"format"`
		} `json:"signature" strict:"required"`
	}
	dsseWire struct {
		ProposedContent *struct {
			Envelope  string   `json:"envelope" strict:"required"`
			Verifiers [][]byte `json:"verifiers" strict:"required,max=16"`
		} `json:"proposedContent"`
		EnvelopeHash json.RawMessage `json:"envelopeHash"`
		PayloadHash  json.RawMessage `json:"payloadHash"`
		Signatures   json.RawMessage `json:"signatures"`
	}
)

// otherKinds are what Rekor 1.5 takes besides.
var otherKinds = []string{"alpine", "cose", "helm", "intoto", "jar", "rekord", "rfc3161", "rpm", "tuf"}

// canonicalize reads a proposed entry, verifies its signatures, and returns the
// body that is logged: the JCS (RFC 8785) of Rekor's canonical entry. Every string
// in it is ASCII without escapes, so appending gives the same bytes.
func canonicalize(data []byte) ([]byte, error) {
	var w proposedWire
	if err := strictjson.Unmarshal(data, &w); err != nil {
		return nil, err
	}
	switch {
	case w.Kind == "intoto":
		return nil, errors.New("this log takes no entries of kind intoto: log the envelope as kind dsse (cosign attest --rekor-entry-type dsse)")
	case slices.Contains(otherKinds, w.Kind):
		return nil, fmt.Errorf("this log takes no entries of kind %s; it takes hashedrekord and dsse", w.Kind)
	case w.Kind != kindHashedrekord && w.Kind != kindDSSE:
		return nil, fmt.Errorf("unknown kind %.40q; this log takes hashedrekord and dsse", w.Kind)
	case w.APIVersion != entryVersion:
		return nil, fmt.Errorf("version %.40q of kind %s is unknown; this log takes %s", w.APIVersion, w.Kind, entryVersion)
	case w.Kind == kindDSSE:
		return canonicalDSSE(w.Spec)
	}
	return canonicalHashedrekord(w.Spec)
}

// hashes are the algorithms of hashedrekord 0.0.1.
var hashes = map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}

func canonicalHashedrekord(spec json.RawMessage) ([]byte, error) {
	var w hashedrekordWire
	if err := strictjson.Unmarshal(spec, &w); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	if present(w.Data.URL) || present(w.Data.Content) || present(w.Signature.URL) || present(w.Signature.PublicKey.URL) {
		return nil, errors.New("spec: this log fetches nothing and takes no content, only hashes and signatures")
	}
	h, ok := hashes[w.Data.Hash.Algorithm]
	if !ok {
		return nil, fmt.Errorf("spec.data.hash.algorithm: %.40q is not sha256, sha384 or sha512", w.Data.Hash.Algorithm)
	}
	digest, err := hex.DecodeString(w.Data.Hash.Value)
	if err != nil || len(digest) != h.Size() || hex.EncodeToString(digest) != w.Data.Hash.Value {
		return nil, fmt.Errorf("spec.data.hash.value: not %d lowercase hex digits", h.Size()*2)
	}
	v, err := readVerifier(w.Signature.PublicKey.Content)
	if err != nil {
		return nil, fmt.Errorf("spec.signature.publicKey: %w", err)
	}
	if err := v.verifyDigest(h, digest, w.Signature.Content); err != nil {
		return nil, err
	}
	b := make([]byte, 0, 256+(len(w.Signature.Content)+len(v.text))*4/3)
	b = append(b, `{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"data":{"hash":{"algorithm":"`...)
	b = append(b, w.Data.Hash.Algorithm...)
	b = append(b, `","value":"`...)
	b = append(b, w.Data.Hash.Value...)
	b = append(b, `"}},"signature":{"content":"`...)
	b = base64.StdEncoding.AppendEncode(b, w.Signature.Content)
	b = append(b, `","publicKey":{"content":"`...)
	b = base64.StdEncoding.AppendEncode(b, v.text)
	return append(b, `"}}}}`...), nil
}

// present reports whether a member is there and not null.
func present(raw json.RawMessage) bool { return len(raw) > 0 && !bytes.Equal(raw, []byte("null")) }

func canonicalDSSE(spec json.RawMessage) ([]byte, error) {
	var w dsseWire
	if err := strictjson.Unmarshal(spec, &w); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	if w.ProposedContent == nil {
		return nil, errors.New("spec.proposedContent is missing")
	}
	if present(w.EnvelopeHash) || present(w.PayloadHash) || present(w.Signatures) {
		return nil, errors.New("spec: envelopeHash, payloadHash and signatures are for the log to write")
	}
	text := []byte(w.ProposedContent.Envelope)
	env, err := readEnvelope(text)
	if err != nil {
		return nil, fmt.Errorf("spec.proposedContent.envelope: %w", err)
	}
	by, err := env.verify(w.ProposedContent.Verifiers)
	if err != nil {
		return nil, fmt.Errorf("spec.proposedContent: %w", err)
	}
	envelopeSum, payloadSum := sha256.Sum256(text), sha256.Sum256(env.payload)
	b := make([]byte, 0, 4096)
	b = append(b, `{"apiVersion":"0.0.1","kind":"dsse","spec":{"envelopeHash":{"algorithm":"sha256","value":"`...)
	b = hex.AppendEncode(b, envelopeSum[:])
	b = append(b, `"},"payloadHash":{"algorithm":"sha256","value":"`...)
	b = hex.AppendEncode(b, payloadSum[:])
	b = append(b, `"},"signatures":[`...)
	// Rekor sorts by the base64 text; a signature that is there twice counts once.
	for i, sig := range env.signatures {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"signature":"`...)
		b = append(b, sig.text...)
		b = append(b, `","verifier":"`...)
		b = base64.StdEncoding.AppendEncode(b, by[i].text)
		b = append(b, `"}`...)
	}
	return append(b, `]}}`...), nil
}

// envelope is a DSSE envelope; its signatures are sorted by their text.
type envelope struct {
	payloadType string
	payload     []byte
	signatures  []envelopeSignature
}

type envelopeSignature struct {
	text string // standard base64, as it is logged
	sig  []byte
}

// readEnvelope reads an envelope's JSON. Other members than DSSE's are let be, as
// in DSSE 1.0.2: the log names the whole text by its hash.
func readEnvelope(text []byte) (*envelope, error) {
	if err := strictjson.Valid(text, maxNesting); err != nil {
		return nil, err
	}
	outer, err := members(text)
	if err != nil {
		return nil, err
	}
	e := new(envelope)
	var payload string
	if json.Unmarshal(outer["payloadType"], &e.payloadType) != nil || e.payloadType == "" {
		return nil, errors.New("payloadType is missing or not a string")
	}
	if json.Unmarshal(outer["payload"], &payload) != nil {
		return nil, errors.New("payload is missing or not a string")
	}
	if e.payload, err = base64.StdEncoding.Strict().DecodeString(payload); err != nil {
		if e.payload, err = base64.URLEncoding.Strict().DecodeString(payload); err != nil {
			return nil, errors.New("payload is not base64")
		}
	}
	var list []json.RawMessage
	if json.Unmarshal(outer["signatures"], &list) != nil || len(list) == 0 || len(list) > maxSignatures {
		return nil, fmt.Errorf("signatures: 1 to %d are wanted", maxSignatures)
	}
	for i, raw := range list {
		one, err := members(raw)
		if err != nil {
			return nil, fmt.Errorf("signatures[%d]: %w", i, err)
		}
		var s envelopeSignature
		if json.Unmarshal(one["sig"], &s.text) == nil {
			s.sig, err = base64.StdEncoding.Strict().DecodeString(s.text)
		}
		if err != nil || len(s.sig) == 0 || base64.StdEncoding.EncodeToString(s.sig) != s.text {
			return nil, fmt.Errorf("signatures[%d].sig is not standard base64", i)
		}
		e.signatures = append(e.signatures, s)
	}
	sorted.Func(e.signatures, func(a, b envelopeSignature) int { return bytes.Compare([]byte(a.text), []byte(b.text)) })
	e.signatures = slices.CompactFunc(e.signatures, func(a, b envelopeSignature) bool { return a.text == b.text })
	return e, nil
}

// members are an object's members by their exact names; encoding/json's structs
// would also take names in another case.
func members(raw json.RawMessage) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil || m == nil {
		return nil, errors.New("not a JSON object")
	}
	return m, nil
}

// verify finds for each signature, in their order, the verifier that made it. As
// in Rekor, every verifier up to the last needed one must have made one, and of
// two that made the same the later counts.
func (e *envelope) verify(texts [][]byte) ([]verifier, error) {
	by := make([]verifier, len(e.signatures))
	message := evidence.PAE(e.payloadType, e.payload)
	digest := sha256.Sum256(message)
	left := len(by)
	for i, text := range texts {
		if left == 0 {
			break
		}
		v, err := readVerifier(text)
		if err != nil {
			return nil, fmt.Errorf("verifiers[%d]: %w", i, err)
		}
		made := 0
		for j, s := range e.signatures {
			if !v.verifyMessage(message, digest[:], s.sig) {
				continue
			}
			if made++; by[j].text == nil {
				left--
			}
			by[j] = v
		}
		if made == 0 {
			return nil, fmt.Errorf("verifiers[%d] made none of the envelope's signatures", i)
		}
	}
	if left > 0 {
		return nil, errors.New("an envelope's signature is by none of the verifiers")
	}
	return by, nil
}
