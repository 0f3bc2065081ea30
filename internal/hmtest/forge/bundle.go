package forge

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"strconv"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Bundle is the claim as a bundle file of a version, "0.1", "0.2" or "0.3", as
// clients write it: protobuf's JSON in one line. Nothing is checked.
func Bundle(c *evidence.Claim, version string) []byte {
	material := object{}
	switch {
	case len(c.Certificates) == 0:
		material["publicKey"] = object{"hint": c.KeyHint}
	case version == "0.3":
		material["certificate"] = object{"rawBytes": c.Certificates[0]}
	default:
		var chain []object
		for _, der := range c.Certificates {
			chain = append(chain, object{"rawBytes": der})
		}
		material["x509CertificateChain"] = object{"certificates": chain}
	}
	entries := []object{}
	for i := range c.LogEntries {
		entries = append(entries, entryJSON(&c.LogEntries[i]))
	}
	material["tlogEntries"] = entries
	if len(c.Timestamps) > 0 {
		var tokens []object
		for _, t := range c.Timestamps {
			tokens = append(tokens, object{"signedTimestamp": t})
		}
		material["timestampVerificationData"] = object{"rfc3161Timestamps": tokens}
	}
	b := object{"mediaType": "application/vnd.dev.sigstore.bundle+json;version=" + version, "verificationMaterial": material}
	if version == "0.3" {
		b["mediaType"] = evidence.BundleMediaType
	}
	if m := c.Message; m != nil {
		b["messageSignature"] = object{"messageDigest": object{"algorithm": m.DigestAlgorithm, "digest": m.Digest}, "signature": m.Signature}
	}
	if e := c.Envelope; e != nil {
		var sigs []object
		for _, s := range e.Signatures {
			sigs = append(sigs, object{"sig": s.Sig})
		}
		b["dsseEnvelope"] = object{"payload": e.Payload, "payloadType": e.PayloadType, "signatures": sigs}
	}
	return Must(json.Marshal(b))
}

func entryJSON(e *evidence.LogEntry) object {
	text := func(n int64) string { return strconv.FormatInt(n, 10) }
	w := object{"logIndex": text(e.LogIndex), "logId": object{"keyId": e.LogID}, "kindVersion": object{"kind": e.Kind, "version": e.Version},
		"integratedTime": text(e.IntegratedTime), "canonicalizedBody": e.Body}
	if e.Promise != nil {
		w["inclusionPromise"] = object{"signedEntryTimestamp": e.Promise}
	}
	if p := e.Proof; p != nil {
		w["inclusionProof"] = object{"logIndex": text(p.LogIndex), "rootHash": p.RootHash, "treeSize": text(p.TreeSize), "hashes": p.Hashes,
			"checkpoint": object{"envelope": p.Checkpoint}}
	}
	return w
}

// SimpleSigning is what cosign's older signature of an image signs
// (sigstore/cosign, specs/SIGNATURE_SPEC.md).
func SimpleSigning(repository string, image evidence.Digest, annotations map[string]string) []byte {
	return Must(json.Marshal(object{"critical": object{"identity": object{"docker-reference": repository},
		"image": object{"docker-manifest-digest": image}, "type": "cosign container image signature"}, "optional": annotations}))
}

// Layer is a layer of an image that holds cosign's older signatures.
type Layer struct {
	MediaType   string
	Content     []byte
	Annotations map[string]string
}

// CosignLayer is a claim over payload as a layer of cosign's older formats: what
// [SimpleSigning] gives below the tag .sig, or, for an envelope, below .att. The
// claim's first entry of a Rekor v1 log becomes the annotation "bundle", its first
// timestamp the one of that name.
func (w *World) CosignLayer(c *evidence.Claim, payload []byte) Layer {
	l := Layer{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Content: payload,
		Annotations: map[string]string{"dev.cosignproject.cosign/signature": B64(c.Signature())}}
	if e := c.Envelope; e != nil {
		l.MediaType = "application/vnd.dsse.envelope.v1+json"
		l.Content = envelopeJSON(e)
		l.Annotations["dev.cosignproject.cosign/signature"] = ""
	}
	if len(c.Certificates) > 0 {
		block := func(der []byte) string {
			return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		}
		l.Annotations["dev.sigstore.cosign/certificate"] = block(c.Certificates[0])
		var chain string
		for _, cert := range []*x509.Certificate{w.CA.Cert, w.rootCert()} {
			if cert != nil {
				chain += block(cert.Raw)
			}
		}
		l.Annotations["dev.sigstore.cosign/chain"] = chain
	}
	for i := range c.LogEntries {
		if e := &c.LogEntries[i]; e.Promise != nil {
			l.Annotations["dev.sigstore.cosign/bundle"] = string(Must(json.Marshal(object{"SignedEntryTimestamp": e.Promise,
				"Payload": object{"body": e.Body, "integratedTime": e.IntegratedTime, "logIndex": e.LogIndex, "logID": hex.EncodeToString(e.LogID)}})))
			break
		}
	}
	if len(c.Timestamps) > 0 {
		l.Annotations["dev.sigstore.cosign/rfc3161timestamp"] = string(Must(json.Marshal(object{"SignedRFC3161Timestamp": c.Timestamps[0]})))
	}
	return l
}

// envelopeJSON is an envelope as cosign's older format and its log entries write it.
func envelopeJSON(e *evidence.Envelope) []byte {
	return Must(json.Marshal(object{"payloadType": e.PayloadType, "payload": e.Payload,
		"signatures": []object{{"keyid": "", "sig": e.Signatures[0].Sig}}}))
}

func (w *World) rootCert() *x509.Certificate {
	if w.CARoot == nil {
		return nil
	}
	return w.CARoot.Cert
}
