package sign

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

const stepLog = "add a log entry"

// protoInt is an int64 as protojson writes it: a string or a number.
type protoInt int64

func (p *protoInt) UnmarshalJSON(data []byte) error {
	n, err := strconv.ParseInt(strings.Trim(string(data), `"`), 10, 64)
	if err != nil {
		return errors.New("not a 64-bit integer")
	}
	*p = protoInt(n)
	return nil
}

// logAnswer is dev.sigstore.rekor.v1.TransparencyLogEntry.
type logAnswer struct {
	LogIndex protoInt `json:"logIndex"`
	LogID    struct {
		KeyID []byte `json:"keyId"`
	} `json:"logId"`
	KindVersion struct {
		Kind    string `json:"kind"`
		Version string `json:"version"`
	} `json:"kindVersion"`
	IntegratedTime protoInt `json:"integratedTime"`
	Proof          *struct {
		LogIndex   protoInt `json:"logIndex"`
		RootHash   []byte   `json:"rootHash"`
		TreeSize   protoInt `json:"treeSize"`
		Hashes     [][]byte `json:"hashes"`
		Checkpoint struct {
			Envelope string `json:"envelope"`
		} `json:"checkpoint"`
	} `json:"inclusionProof"`
	Body []byte `json:"canonicalizedBody"`
}

// logVerifier is the key or certificate of an entry, with the algorithm's name.
type logVerifier struct {
	details string
	member  string // "x509Certificate" or "publicKey"
	der     []byte
}

func (m made) logVerifier() logVerifier {
	if m.cert == nil {
		return logVerifier{details: m.keyDetails, member: "publicKey", der: m.spki}
	}
	return logVerifier{details: m.keyDetails, member: "x509Certificate", der: m.cert}
}

func (v logVerifier) json() string {
	return `{"keyDetails":"` + v.details + `","` + v.member + `":{"rawBytes":"` + base64.StdEncoding.EncodeToString(v.der) + `"}}`
}

// hashNames are the names of dev.sigstore.common.v1.HashAlgorithm.
func hashName(h crypto.Hash) string {
	switch h {
	case crypto.SHA384:
		return "SHA2_384"
	case crypto.SHA512:
		return "SHA2_512"
	}
	return "SHA2_256"
}

// logBody is the canonical body (RFC 8785) of a hashedrekord 0.0.2 entry: its
// members in order, and nothing in them that canonical JSON would write otherwise.
func logBody(h crypto.Hash, digest, sig []byte, v logVerifier) []byte {
	return []byte(`{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"` + hashName(h) +
		`","digest":"` + base64.StdEncoding.EncodeToString(digest) +
		`"},"signature":{"content":"` + base64.StdEncoding.EncodeToString(sig) + `","verifier":` + v.json() + `}}}}`)
}

// logEntry adds a hashedrekord entry (Rekor v2 API, rekor_service.proto,
// CreateEntry) of the digest that was signed and checks that what comes back is
// this entry with a proof that adds up.
func (s *Signer) logEntry(ctx context.Context, base string, m made) (evidence.LogEntry, error) {
	v := m.logVerifier()
	sent := `{"hashedRekordRequestV002":{"digest":"` + base64.StdEncoding.EncodeToString(m.digest) +
		`","signature":{"content":"` + base64.StdEncoding.EncodeToString(m.sig) + `","verifier":` + v.json() + `}}}`
	url := strings.TrimRight(base, "/") + "/api/v2/log/entries"
	answer, err := s.http.post(ctx, request{
		step: stepLog, url: url, body: []byte(sent), contentType: "application/json", accept: "application/json",
	})
	if err != nil {
		return evidence.LogEntry{}, err
	}
	entry, err := readLogEntry(answer, logBody(m.hash, m.digest, m.sig, v))
	if err != nil {
		return evidence.LogEntry{}, wrong(stepLog, url, "%w", err)
	}
	return *entry, nil
}

// readLogEntry reads a log's answer to a new entry with the given canonical body.
func readLogEntry(answer, body []byte) (*evidence.LogEntry, error) {
	var a logAnswer
	if err := json.Unmarshal(answer, &a); err != nil {
		return nil, errors.New("not the JSON of a log entry")
	}
	p := a.Proof
	switch {
	case a.KindVersion.Kind != "hashedrekord" || a.KindVersion.Version != "0.0.2":
		return nil, errors.New("an entry of another kind than hashedrekord 0.0.2")
	case !bytes.Equal(a.Body, body):
		return nil, errors.New("the entry is not the one that was sent")
	case len(a.LogID.KeyID) == 0:
		return nil, errors.New("no log id in it")
	case p == nil:
		return nil, errors.New("no inclusion proof in it")
	case len(p.Hashes) > 64 || p.TreeSize <= 0 || p.LogIndex < 0 || p.LogIndex != a.LogIndex:
		return nil, errors.New("an inclusion proof that cannot be")
	}
	err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(p.LogIndex), uint64(p.TreeSize),
		rfc6962.DefaultHasher.HashLeaf(body), p.Hashes, p.RootHash)
	if err != nil {
		return nil, errors.New("the inclusion proof does not add up")
	}
	if err := checkCheckpoint(p.Checkpoint.Envelope, int64(p.TreeSize), p.RootHash); err != nil {
		return nil, err
	}
	return &evidence.LogEntry{
		LogIndex: int64(a.LogIndex), LogID: a.LogID.KeyID, Kind: a.KindVersion.Kind, Version: a.KindVersion.Version,
		IntegratedTime: int64(a.IntegratedTime), Body: a.Body,
		Proof: &evidence.InclusionProof{
			LogIndex: int64(p.LogIndex), TreeSize: int64(p.TreeSize), RootHash: p.RootHash, Hashes: p.Hashes, Checkpoint: p.Checkpoint.Envelope,
		},
	}, nil
}

// checkCheckpoint compares a checkpoint's size and root (C2SP tlog-checkpoint)
// with the proof's. Whether the log signed it is for whoever has its key to say.
func checkCheckpoint(envelope string, size int64, root []byte) error {
	text, signatures, ok := strings.Cut(envelope, "\n\n")
	lines := strings.Split(text, "\n")
	if !ok || len(lines) < 3 || lines[0] == "" || !strings.HasPrefix(signatures, "— ") {
		return errors.New("no signed checkpoint in it")
	}
	if lines[1] != strconv.FormatInt(size, 10) || lines[2] != base64.StdEncoding.EncodeToString(root) {
		return fmt.Errorf("its checkpoint is not the proof's (size %d)", size)
	}
	return nil
}
