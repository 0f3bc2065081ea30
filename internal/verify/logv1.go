package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

func spkiHash(spki []byte) []byte {
	sum := sha256.Sum256(spki)
	return sum[:]
}

// kindsV1 are the kinds of entries of Rekor v1 that are read.
var kindsV1 = map[string]bool{"hashedrekord 0.0.1": true, "dsse 0.0.1": true, "intoto 0.0.1": true, "intoto 0.0.2": true}

// entryV1 verifies an entry of a Rekor v1 log: its body is about the claim, and
// the log promised to include it (signed entry timestamp), or proves that it
// has, or both; what is there must hold.
func entryV1(e *evidence.LogEntry, log *trust.LogKey, s entrySubject) (logged, *refusal) {
	l, r := heldV1(e, log)
	if r != nil {
		return l, r
	}
	return l, bodyV1(e, s)
}

// heldV1 verifies that the log holds the entry, whatever it is about.
func heldV1(e *evidence.LogEntry, log *trust.LogKey) (logged, *refusal) {
	l := logged{log: log, index: e.LogIndex, origin: log.Origin}
	if !kindsV1[e.Kind+" "+e.Version] {
		return l, refuse(Malformed, "the log entry is of kind %s %s, which is not read", clip(e.Kind), clip(e.Version))
	}
	at := time.Unix(e.IntegratedTime, 0)
	switch {
	case len(e.Body) > maxBody: // before a promise is looked at, which is over a text a third longer
		return l, refuse(Malformed, "the log entry's body has %d bytes; at most %d are read", len(e.Body), maxBody)
	case e.Promise == nil && e.Proof == nil:
		return l, refuse(LogProofBad, "the log entry has neither a promise nor an inclusion proof")
	case e.Promise != nil:
		if r := promise(e, log); r != nil {
			return l, r
		}
		l.promised = at
	default:
		// Only the promise signs the index over all trees and the time.
		l.index = e.Proof.LogIndex
		if e.IntegratedTime != 0 {
			l.unsigned = at
		}
	}
	if e.Proof != nil {
		if r := proofV1(e, log); r != nil {
			return l, r
		}
		l.included = true
	}
	return l, nil
}

// Held judges whether a Rekor v1 log of a trust root holds an entry: the log's
// promise and its inclusion proof, whichever there are. What the entry is about is
// not looked at, so this says nothing of any claim; it is for proofs that were
// fetched for one. nil: it does.
func (v *Verifier) Held(e *evidence.LogEntry) []policy.Reason {
	why := refuse(LogUntrusted, "there is no trust root that could know the log")
	for _, j := range v.judges {
		log := j.logOf(e)
		if log == nil {
			why = refuse(LogUntrusted, "the log entry is by a log that the trust root does not know (%x)", e.LogID)
			continue
		}
		_, r := heldV1(e, log)
		if r == nil {
			return nil
		}
		why = r
	}
	return []policy.Reason{why.Reason}
}

// promise verifies a signed entry timestamp: the log's signature over the JCS of
// body, integratedTime, logID and logIndex, in this order.
func promise(e *evidence.LogEntry, log *trust.LogKey) *refusal {
	at := time.Unix(e.IntegratedTime, 0)
	key, ok := log.Key.(*ecdsa.PublicKey)
	if !ok {
		return refuse(LogProofBad, "the log %s gives no promises: its key is not ECDSA", log.Origin)
	}
	b := make([]byte, 0, len(e.Body)*4/3+200)
	b = append(b, `{"body":"`...)
	b = base64.StdEncoding.AppendEncode(b, e.Body)
	b = append(b, `","integratedTime":`...)
	b = strconv.AppendInt(b, e.IntegratedTime, 10)
	b = append(b, `,"logID":"`...)
	b = hex.AppendEncode(b, e.LogID)
	b = append(b, `","logIndex":`...)
	b = strconv.AppendInt(b, e.LogIndex, 10)
	b = append(b, '}')
	sum := sha256.Sum256(b)
	if !ecdsa.VerifyASN1(key, sum[:], e.Promise) {
		return refuse(LogProofBad, "the log's promise (signed entry timestamp) is not signed by %s", log.Origin)
	}
	if !log.ValidFor.Contains(at) {
		return refuse(LogProofBad, "the log entry is of %s; the trust root believes the log's key %s", stamp(at), log.ValidFor)
	}
	return nil
}

// proofV1 verifies the inclusion proof under a checkpoint of a Rekor v1 log. The
// proof's index counts within the log's current tree, the entry's over all of
// its trees. The origin is the log's name, mostly followed by " - " and the
// tree's number. Names of signature lines are not signed there, so all of them
// must be this log's.
func proofV1(e *evidence.LogEntry, log *trust.LogKey) *refusal {
	c, err := parseCheckpoint(e.Proof.Checkpoint)
	if err != nil {
		return refuse(LogProofBad, "the log's checkpoint cannot be read: %s", err)
	}
	id := spkiHash(log.SPKI)
	for _, s := range c.signatures {
		named := c.origin == s.name || strings.HasPrefix(c.origin, s.name+" - ")
		if !named || !bytes.Equal(s.hint[:], id[:4]) || !verifyData(log.Key, keyHash(log.Key), c.text, s.sig) {
			return refuse(LogProofBad, "the checkpoint of %q is not signed by the log %s", clip(c.origin), log.Origin)
		}
	}
	return included(e, c)
}

// The bodies of Rekor v1 entries; spec's grammar depends on kind.
type (
	bodyWire struct {
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
			Hash hashWire `json:"hash" strict:"required"`
		} `json:"data" strict:"required"`
		Signature struct {
			Content   []byte `json:"content" strict:"required"`
			PublicKey struct {
				Content []byte `json:"content" strict:"required"`
			} `json:"publicKey" strict:"required"`
		} `json:"signature" strict:"required"`
	}
	dsseWire struct {
		EnvelopeHash hashWire `json:"envelopeHash"`
		PayloadHash  hashWire `json:"payloadHash" strict:"required"`
		Signatures   []struct {
			Signature []byte `json:"signature" strict:"required"`
			Verifier  []byte `json:"verifier" strict:"required"`
		} `json:"signatures" strict:"required,max=32"`
	}
	intotoV1Wire struct {
		Content struct {
			Hash        hashWire `json:"hash" strict:"required"`
			PayloadHash hashWire `json:"payloadHash"`
		} `json:"content" strict:"required"`
		PublicKey []byte `json:"publicKey" strict:"required"`
	}
	intotoWire struct {
		Content struct {
			Envelope struct {
				Payload     json.RawMessage `json:"payload"`
				PayloadType string          `json:"payloadType"`
				Signatures  []struct {
					KeyID     string `json:"keyid"`
					PublicKey []byte `json:"publicKey" strict:"required"`
					Sig       []byte `json:"sig" strict:"required"` // base64 of the signature, again
				} `json:"signatures" strict:"required,max=32"`
			} `json:"envelope" strict:"required"`
			Hash        hashWire `json:"hash"`
			PayloadHash hashWire `json:"payloadHash" strict:"required"`
		} `json:"content" strict:"required"`
	}
)

// maxBody bounds a log entry's body.
const maxBody = 4 << 20

// bodyV1 wants the body to be about the claim's signature, signer and artifact.
func bodyV1(e *evidence.LogEntry, s entrySubject) *refusal {
	var body bodyWire
	if err := strictjson.Unmarshal(e.Body, &body); err != nil {
		return refuse(Malformed, "the log entry's body cannot be read: %s", err)
	}
	if body.Kind != e.Kind || body.APIVersion != e.Version {
		return refuse(Malformed, "the log entry says that it is %s %s, its body %s %s", clip(e.Kind), clip(e.Version), clip(body.Kind), clip(body.APIVersion))
	}
	var r *refusal
	var err error
	switch body.Kind + " " + body.APIVersion {
	case "hashedrekord 0.0.1":
		var w hashedrekordWire
		if err = strictjson.Unmarshal(body.Spec, &w); err == nil {
			r = s.matchHashedrekord(w.Signature.Content, w.Signature.PublicKey.Content, w.Data.Hash)
		}
	case "dsse 0.0.1":
		var w dsseWire
		if err = strictjson.Unmarshal(body.Spec, &w); err == nil {
			if len(w.Signatures) != 1 {
				return refuse(LogMismatch, "the log entry has %d signatures, the claim one", len(w.Signatures))
			}
			if r = s.matchEnvelope(w.Signatures[0].Signature, w.Signatures[0].Verifier, w.PayloadHash); r == nil {
				r = s.matchWhole(w.EnvelopeHash)
			}
		}
	case "intoto 0.0.2":
		var w intotoWire
		if err = strictjson.Unmarshal(body.Spec, &w); err == nil {
			sigs := w.Content.Envelope.Signatures
			if len(sigs) != 1 || w.Content.Envelope.PayloadType != s.payloadType() {
				return refuse(LogMismatch, "the log entry is about another envelope")
			}
			sig, derr := base64.StdEncoding.Strict().DecodeString(string(sigs[0].Sig))
			if derr != nil {
				return refuse(LogMismatch, "the log entry is about another signature, one that cannot be read")
			}
			if r = s.matchEnvelope(sig, sigs[0].PublicKey, w.Content.PayloadHash); r == nil {
				r = s.matchWhole(w.Content.Hash)
			}
		}
	case "intoto 0.0.1":
		var w intotoV1Wire
		if err = strictjson.Unmarshal(body.Spec, &w); err == nil {
			r = s.matchWritten(w.PublicKey, w.Content.Hash)
		}
	}
	if err != nil {
		return refuse(Malformed, "the log entry's body cannot be read: %s", err)
	}
	return r
}

func (s *entrySubject) payloadType() string {
	if s.claim.Envelope == nil {
		return ""
	}
	return s.claim.Envelope.PayloadType
}

// matchSigner compares signature and signer of a log entry with the claim's.
func (s *entrySubject) matchSigner(sig, signer []byte) *refusal {
	if !bytes.Equal(sig, s.claim.Signature()) {
		return refuse(LogMismatch, "the log entry is about another signature")
	}
	if !s.isSigner(signer) {
		return refuse(LogMismatch, "the log entry is about another certificate or key")
	}
	return nil
}

// matchEnvelope compares an entry that holds the digest of an envelope's payload.
func (s *entrySubject) matchEnvelope(sig, signer []byte, sum hashWire) *refusal {
	if s.claim.Envelope == nil {
		return refuse(LogMismatch, "the log entry is about an envelope, the signature is not")
	}
	if r := s.matchSigner(sig, signer); r != nil {
		return r
	}
	have := sha256.Sum256(s.claim.Envelope.Payload)
	if sum.Algorithm != "sha256" || hex.EncodeToString(have[:]) != sum.Value {
		return refuse(LogMismatch, "the log entry is about another payload")
	}
	return nil
}

// matchHashedrekord compares an entry that holds the digest of what was signed:
// the artifact, or an envelope's pre-authentication encoding.
func (s *entrySubject) matchHashedrekord(sig, signer []byte, sum hashWire) *refusal {
	if r := s.matchSigner(sig, signer); r != nil {
		return r
	}
	switch e := s.claim.Envelope; {
	case s.claim.Simple != nil:
		return s.matchPayload(sum)
	case e != nil && len(e.JSON) > 0: // cosign's older format, of which cosign wants this, too
		return s.matchWhole(sum)
	}
	var have []byte
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		switch {
		case hashName(h) != sum.Algorithm:
		case s.claim.Envelope != nil:
			have = hashPAE(h, s.claim.Envelope)
		default:
			have = s.artifact.digest(sum.Algorithm)
		}
	}
	if have == nil {
		return refuse(LogMismatch, "the log entry names what was signed by a %s digest, which is not known here", clip(sum.Algorithm)).
			hint("give the file itself instead of its digest")
	}
	if hex.EncodeToString(have) != sum.Value {
		return refuse(LogMismatch, "the log entry is about %s:%s, not about what was signed", sum.Algorithm, clip(sum.Value))
	}
	return nil
}

// isSigner reports whether PEM text is the claim's certificate or key. Logs
// write it in one way, which is quicker to compare than to read.
func (s *entrySubject) isSigner(text []byte) bool {
	kind, der := "PUBLIC KEY", s.spki
	if s.cert != nil {
		kind, der = "CERTIFICATE", s.cert.Raw
	}
	want := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if bytes.Equal(text, want) {
		return true
	}
	block, rest := pem.Decode(text)
	return block != nil && block.Type == kind && len(bytes.TrimSpace(rest)) == 0 && len(block.Headers) == 0 && bytes.Equal(block.Bytes, der)
}
