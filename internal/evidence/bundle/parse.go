package bundle

import (
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// The objects are dev.sigstore.bundle.v1, dev.sigstore.rekor.v1 and
// io.intoto.Envelope of sigstore/protobuf-specs, in protobuf's JSON mapping. They
// are read by hand because bundles are read more often than anything else.
var (
	bundleFields     = strictjson.NewFields("mediaType", "verificationMaterial", "messageSignature", "dsseEnvelope")
	materialFields   = strictjson.NewFields("publicKey", "x509CertificateChain", "certificate", "tlogEntries", "timestampVerificationData")
	hintFields       = strictjson.NewFields("hint")
	chainFields      = strictjson.NewFields("certificates")
	rawFields        = strictjson.NewFields("rawBytes")
	timestampsFields = strictjson.NewFields("rfc3161Timestamps")
	timestampFields  = strictjson.NewFields("signedTimestamp")
	entryFields      = strictjson.NewFields("logIndex", "logId", "kindVersion", "integratedTime", "inclusionPromise", "inclusionProof", "canonicalizedBody")
	logIDFields      = strictjson.NewFields("keyId")
	kindFields       = strictjson.NewFields("kind", "version")
	promiseFields    = strictjson.NewFields("signedEntryTimestamp")
	proofFields      = strictjson.NewFields("logIndex", "rootHash", "treeSize", "hashes", "checkpoint")
	checkpointFields = strictjson.NewFields("envelope")
	messageFields    = strictjson.NewFields("messageDigest", "signature")
	digestFields     = strictjson.NewFields("algorithm", "digest")
	envelopeFields   = strictjson.NewExactFields("payload", "payloadType", "signatures")
	signatureFields  = strictjson.NewFields("sig", "keyid")
)

// wire is a bundle as it is written, before its version's rules are applied.
type wire struct {
	r         strictjson.Reader
	mediaType string
	material  bool
	keyHint   bool // publicKey is there
	hint      string
	leaf      bool // certificate is there
	chain     bool // x509CertificateChain is there
	certs     [][]byte
	entries   []evidence.LogEntry // an empty promise is not nil
	tokens    [][]byte
	message   *evidence.MessageSignature
	envelope  *evidence.Envelope
}

// Parse reads a bundle of version 0.1, 0.2 or 0.3 and keeps the rules of its
// version. The claim does not share data's memory.
func Parse(data []byte) (*evidence.Claim, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("bundle: %d bytes; at most %d are read", len(data), MaxSize)
	}
	w := wire{r: strictjson.NewReader(data, true)}
	if err := w.r.Document(w.bundle); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	c, err := w.claim()
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return c, nil
}

func (w *wire) bundle() error {
	_, err := w.r.Object(bundleFields, func(i int) (err error) {
		switch i {
		case 0:
			w.mediaType, err = w.r.Text(maxText, evidence.BundleMediaType)
		case 1:
			w.material, err = true, w.readMaterial()
		case 2:
			w.message = &evidence.MessageSignature{}
			err = w.readMessage(w.message)
		case 3:
			w.envelope = &evidence.Envelope{}
			err = w.readEnvelope(w.envelope)
		}
		return err
	})
	return err
}

func (w *wire) readMaterial() error {
	_, err := w.r.Object(materialFields, func(i int) (err error) {
		switch i {
		case 0:
			w.keyHint = true
			_, err = w.r.Object(hintFields, func(int) (err error) {
				w.hint, err = w.r.Text(maxText)
				return err
			})
		case 1:
			w.chain = true
			_, err = w.r.Object(chainFields, func(int) error {
				return w.r.Array(maxCertificates, func(int) error { return w.readCertificate() })
			})
		case 2:
			w.leaf, err = true, w.readCertificate()
		case 3:
			err = w.r.Array(maxProofs, func(int) error { return w.readEntry() })
		case 4:
			_, err = w.r.Object(timestampsFields, func(int) error {
				return w.r.Array(maxProofs, func(int) error {
					der, err := w.bytes(timestampFields)
					w.tokens = append(w.tokens, der)
					return err
				})
			})
		}
		return err
	})
	return err
}

// bytes reads an object whose one member is bytes.
func (w *wire) bytes(f *strictjson.Fields) (b []byte, err error) {
	_, err = w.r.Object(f, func(int) (err error) {
		b, err = w.r.Bytes()
		return err
	})
	return b, err
}

func (w *wire) readCertificate() error {
	der, err := w.bytes(rawFields)
	w.certs = append(w.certs, der)
	return err
}

func (w *wire) readEntry() error {
	w.entries = append(w.entries, evidence.LogEntry{})
	e := &w.entries[len(w.entries)-1]
	_, err := w.r.Object(entryFields, func(i int) (err error) {
		switch i {
		case 0:
			e.LogIndex, err = w.r.Int64()
		case 1:
			e.LogID, err = w.bytes(logIDFields)
		case 2:
			_, err = w.r.Object(kindFields, func(i int) (err error) {
				if i == 0 {
					e.Kind, err = w.r.Text(maxText, "hashedrekord", "dsse", "intoto")
				} else {
					e.Version, err = w.r.Text(maxText, "0.0.1", "0.0.2")
				}
				return err
			})
		case 3:
			e.IntegratedTime, err = w.r.Int64()
		case 4:
			if e.Promise, err = w.bytes(promiseFields); e.Promise == nil {
				e.Promise = []byte{}
			}
		case 5:
			e.Proof = &evidence.InclusionProof{}
			err = w.readProof(e.Proof)
		case 6:
			e.Body, err = w.r.Bytes()
		}
		return err
	})
	return err
}

func (w *wire) readProof(p *evidence.InclusionProof) error {
	_, err := w.r.Object(proofFields, func(i int) (err error) {
		switch i {
		case 0:
			p.LogIndex, err = w.r.Int64()
		case 1:
			p.RootHash, err = w.r.Bytes()
		case 2:
			p.TreeSize, err = w.r.Int64()
		case 3:
			p.Hashes = make([][]byte, 0, 32)
			err = w.r.Array(maxProofHashes, func(int) error {
				h, err := w.r.Bytes()
				p.Hashes = append(p.Hashes, h)
				return err
			})
		case 4:
			_, err = w.r.Object(checkpointFields, func(int) (err error) {
				p.Checkpoint, err = w.r.Text(maxCheckpoint)
				return err
			})
		}
		return err
	})
	return err
}

func (w *wire) readMessage(m *evidence.MessageSignature) error {
	_, err := w.r.Object(messageFields, func(i int) (err error) {
		if i == 1 {
			m.Signature, err = w.r.Bytes()
			return err
		}
		m.DigestAlgorithm = hashNames[0]
		_, err = w.r.Object(digestFields, func(i int) (err error) {
			if i == 1 {
				m.Digest, err = w.r.Bytes()
				return err
			}
			text, err := w.r.Enum()
			if err == nil {
				m.DigestAlgorithm, err = hashAlgorithm(text)
			}
			return err
		})
		return err
	})
	return err
}

func (w *wire) readEnvelope(e *evidence.Envelope) error {
	_, err := w.r.Object(envelopeFields, func(i int) (err error) {
		switch i {
		case 0:
			e.Payload, err = w.r.Bytes()
		case 1:
			e.PayloadType, err = w.r.Text(maxText, evidence.InTotoPayloadType)
		case 2:
			err = w.r.Array(maxProofs, func(int) error {
				var s evidence.EnvelopeSignature
				_, err := w.r.Object(signatureFields, func(i int) (err error) {
					if i == 0 {
						s.Sig, err = w.r.Bytes()
					} else {
						s.KeyID, err = w.r.Text(maxText)
					}
					return err
				})
				e.Signatures = append(e.Signatures, s)
				return err
			})
		}
		return err
	})
	return err
}
