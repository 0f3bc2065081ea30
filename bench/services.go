package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/trust"
)

// The authority's services beside Sigstore's own. Both sides are asked the same,
// over HTTP on loopback, with requests that were made before.

const (
	manyClients = 64
	// A crowd is more clients than either side has use for. rekor-tiles answers each
	// of them after a second, so that they get a thousand entries a second of it at
	// most: what is compared with a crowd is the processors' time for one.
	crowd = 1000
	// signers is how many keys and certificates the requests are made with.
	signers = 64
	// checkEach is which answers of a log are verified, after the time was taken.
	checkEach = 100
)

const jsonHeader = "Content-Type: application/json\r\n"

// signer is a client's key with what it is certified by.
type signer struct {
	key  *ecdsa.PrivateKey
	spki []byte // PEM
	cert []byte // DER
}

// newSigners are clients' keys with certificates of a keyless one's size.
func newSigners() ([]signer, error) {
	root, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	out := make([]signer, signers)
	for i := range out {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		spki, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return nil, err
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 1), Subject: pkix.Name{}, NotBefore: time.Now(), NotAfter: time.Now().Add(10 * time.Minute),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, EmailAddresses: []string{identity},
			// Fulcio's issuer, and room for an SCT.
			ExtraExtensions: []pkix.Extension{
				{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte("http://127.0.0.1:8420")},
				{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: append([]byte{4, 0x7a}, make([]byte, 0x7a)...)},
			},
		}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), root)
		if err != nil {
			return nil, err
		}
		out[i] = signer{key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), cert}
	}
	return out, nil
}

func (s signer) sign(message []byte) (digest [32]byte, sig []byte, err error) {
	digest = sha256.Sum256(message)
	sig, err = s.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	return digest, sig, err
}

// entryRequest is a hashedrekord for the log; with no certificate it ends where one
// has to be put in, followed by entryEnd.
func entryRequest(digest [32]byte, sig, cert []byte) []byte {
	b := fmt.Appendf(nil, `{"hashedRekordRequestV002":{"digest":"%s","signature":{"content":"%s","verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","x509Certificate":{"rawBytes":"`,
		base64.StdEncoding.EncodeToString(digest[:]), base64.StdEncoding.EncodeToString(sig))
	if cert != nil {
		b = append(base64.StdEncoding.AppendEncode(b, cert), entryEnd...)
	}
	return b
}

const entryEnd = `"}}}}}`

// prepared makes n requests of different things to sign, on both processors.
func prepared(n, round int, keys []signer, each func(i int, s signer, message []byte) error) error {
	return inParallel(4, n, func(i int) error {
		message := binary.BigEndian.AppendUint64([]byte("bench"), uint64(round)<<32|uint64(i))
		return each(i, keys[i%len(keys)], message)
	})
}

// entryRequests are n entries that no other round has.
func entryRequests(n, round int, keys []signer) ([][]byte, error) {
	requests := make([][]byte, n)
	err := prepared(n, round, keys, func(i int, s signer, message []byte) error {
		digest, sig, err := s.sign(message)
		requests[i] = entryRequest(digest, sig, s.cert)
		return err
	})
	return requests, err
}

// logSide is a log that gets requests, and the answers of it that are to be checked.
type logSide struct {
	side
	key     ed25519.PublicKey
	mu      sync.Mutex
	answers [][]byte
}

func newLogSide(address string, key ed25519.PublicKey, requests *[][]byte, pids ...int) *logSide {
	l := &logSide{key: key}
	l.side = side{processes: pids, do: func(c *caller, i int) error {
		answer, err := c.post(address, "/api/v2/log/entries", jsonHeader, (*requests)[i], 201)
		if err == nil && i%checkEach == 0 {
			l.mu.Lock()
			l.answers = append(l.answers, append([]byte(nil), answer...))
			l.mu.Unlock()
		}
		return err
	}}
	return l
}

// check verifies the kept answers: the entry is in the tree of a signed checkpoint.
func (l *logSide) check() error {
	vkey, err := note.NewEd25519VerifierKey("127.0.0.1", l.key)
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	for _, raw := range l.answers {
		if err := checkAnswer(raw, verifier); err != nil {
			return fmt.Errorf("an answer of the log: %w", err)
		}
	}
	if len(l.answers) == 0 {
		return errors.New("no answer of the log was kept")
	}
	return nil
}

func checkAnswer(raw []byte, verifier note.Verifier) error {
	var a struct {
		InclusionProof struct {
			LogIndex   int64       `json:"logIndex,string"`
			TreeSize   int64       `json:"treeSize,string"`
			Hashes     []tlog.Hash `json:"hashes"`
			Checkpoint struct {
				Envelope string `json:"envelope"`
			} `json:"checkpoint"`
		} `json:"inclusionProof"`
		Body []byte `json:"canonicalizedBody"`
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return err
	}
	n, err := note.Open([]byte(a.InclusionProof.Checkpoint.Envelope), note.VerifierList(verifier))
	if err != nil {
		return err
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) < 3 || lines[1] != fmt.Sprint(a.InclusionProof.TreeSize) {
		return errors.New("the checkpoint is of another size")
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return err
	}
	return tlog.CheckRecord(a.InclusionProof.Hashes, a.InclusionProof.TreeSize, root, a.InclusionProof.LogIndex, tlog.RecordHash(a.Body))
}

// oursAt is the authority's address and its log's key.
func (l *lab) oursAt() (address string, key ed25519.PublicKey, err error) {
	u, err := url.Parse(l.authority.URL)
	if err != nil {
		return "", nil, err
	}
	data, err := os.ReadFile(l.authority.TrustedRoot)
	if err != nil {
		return "", nil, err
	}
	var root struct {
		Logs []struct {
			Key struct {
				Raw     []byte `json:"rawBytes"`
				Details string `json:"keyDetails"`
			} `json:"publicKey"`
		} `json:"tlogs"`
	}
	if err := json.Unmarshal(data, &root); err != nil {
		return "", nil, err
	}
	for _, log := range root.Logs {
		if public, err := x509.ParsePKIXPublicKey(log.Key.Raw); err == nil {
			if k, ok := public.(ed25519.PublicKey); ok {
				return u.Host, k, nil
			}
		}
	}
	return "", nil, errors.New("the trusted root names no Ed25519 log")
}

// logs measures entries that are acknowledged with a proof: synced to disk and
// under a published checkpoint.
func (b *bench) logs(ctx context.Context) (rows []row, err error) {
	keys, err := newSigners()
	if err != nil {
		return nil, err
	}
	rekor, rekorKey, err := b.startRekor(ctx)
	if err != nil {
		return nil, err
	}
	defer rekor.stop()
	at, key, err := b.lab.oursAt()
	if err != nil {
		return nil, err
	}
	var requests [][]byte
	ours, peer := newLogSide(at, key, &requests, b.lab.up.Process.Pid), newLogSide(rekor.address, rekorKey, &requests, rekor.process())
	made := 0
	for _, load := range []struct {
		period
		what           string
		rate, p50, p99 string
	}{
		{period{manyClients, 2 * time.Second, 3 * time.Second, 50_000}, fmt.Sprintf("log: entries, %d clients", manyClients), ">= 3000", "", "< 100 ms"},
		{period{1, 2 * time.Second, 3 * time.Second, 10_000}, "log: entries, one client", "", "< 4 ms", ""},
		{period{crowd, 4 * time.Second, 4 * time.Second, 60_000}, fmt.Sprintf("log: entries, %d clients", crowd), "", "", ""},
	} {
		x, y, err := b.inTurn(ctx, load.period, ours.side, peer.side, func(int) (err error) {
			made++
			requests, err = entryRequests(load.operations, made, keys)
			return err
		})
		if err != nil {
			return nil, err
		}
		rows = append(rows, rowsOf(load.what, "entries", x, y, load.rate, load.p50, load.p99)...)
	}
	err = ours.check()
	if !b.alone {
		err = errors.Join(err, peer.check())
	}
	return rows, err
}

// certRequests ask for certificates, one of each key, with a token that was made now.
func (b *bench) certRequests(ctx context.Context, keys []signer) (bodies [][]byte, header string, err error) {
	token, err := b.output(ctx, b.hallmark, "token", "--data", b.lab.data, "--email", identity)
	if err != nil {
		return nil, "", err
	}
	return certBodies(keys, strings.TrimSpace(token))
}

func certBodies(keys []signer, token string) (bodies [][]byte, header string, err error) {
	for _, s := range keys {
		_, proof, err := s.sign([]byte(identity))
		if err != nil {
			return nil, "", err
		}
		body, err := json.Marshal(map[string]any{"publicKeyRequest": map[string]any{
			"publicKey":         map[string]any{"algorithm": "ECDSA", "content": string(s.spki)},
			"proofOfPossession": proof}})
		if err != nil {
			return nil, "", err
		}
		bodies = append(bodies, body)
	}
	return bodies, jsonHeader + "Authorization: Bearer " + token + "\r\n", nil
}

// certificates measures the CA, beside fulcio without a CT log and with one.
func (b *bench) certificates(ctx context.Context) (rows []row, err error) {
	keys, err := newSigners()
	if err != nil {
		return nil, err
	}
	at, _, err := b.lab.oursAt()
	if err != nil {
		return nil, err
	}
	log, err := playCTLog()
	if err != nil {
		return nil, err
	}
	defer log.stop()
	for _, ct := range []struct {
		what, rate string
		log        *playedLog
	}{{"CA: certificates with SCT, fulcio's with SCT", ">= 3", log}, {"CA: certificates with SCT, fulcio's without", "", nil}} {
		more, err := b.besideFulcio(ctx, at, keys, ct.log, ct.what, ct.rate)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func (b *bench) besideFulcio(ctx context.Context, at string, keys []signer, log *playedLog, what, rate string) ([]row, error) {
	fulcio, err := b.startFulcio(ctx, log)
	if err != nil {
		return nil, err
	}
	defer fulcio.stop()
	var bodies [][]byte
	var header string
	said, theirs, err := b.bothAnswers(fulcio)
	if err != nil {
		return nil, err
	}
	ask := func(address string, status, pid int, said *answers) side {
		return side{processes: []int{pid}, do: func(c *caller, i int) error {
			chain, err := c.post(address, "/api/v2/signingCert", header, bodies[i%len(bodies)], status)
			said.keep(i, answered{key: &keys[i%len(bodies)].key.PublicKey, chain: chain})
			return err
		}}
	}
	p := period{manyClients, 2 * time.Second, 3 * time.Second, 1 << 30}
	x, y, err := b.inTurn(ctx, p, ask(at, 200, b.lab.up.Process.Pid, said), ask(fulcio.address, 200, fulcio.process(), theirs), func(int) (err error) {
		bodies, header, err = b.certRequests(ctx, keys)
		return err
	})
	if err == nil {
		err = said.certificates(true)
	}
	if err == nil && !b.alone {
		err = theirs.certificates(log != nil)
	}
	return rowsOf(what, "certificates", x, y, rate, "", ""), err
}

// bothAnswers are for what ours and the peers will say.
func (b *bench) bothAnswers(peers ...*peerService) (ours, theirs *answers, err error) {
	data, err := os.ReadFile(b.lab.authority.TrustedRoot)
	if err != nil {
		return nil, nil, err
	}
	root, err := trust.ParseTrustedRoot(data)
	if err != nil {
		return nil, nil, err
	}
	other, err := rootOf(peers...)
	return &answers{root: root}, &answers{root: other}, err
}

const (
	queryHeader = "Content-Type: application/timestamp-query\r\n"
	stampPath   = "/api/v1/timestamp"
)

// timestampQuery is what cosign asks for: SHA-256 of a signature, no nonce, no
// certificates (RFC 3161, 2.4.1).
func timestampQuery(signature []byte) ([]byte, error) {
	digest := sha256.Sum256(signature)
	return asn1.Marshal(struct {
		Version int
		Imprint struct {
			Algorithm pkix.AlgorithmIdentifier
			Digest    []byte
		}
	}{1, struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, Parameters: asn1.NullRawValue}, digest[:]}})
}

// timestamps measures the timestamp authority.
func (b *bench) timestamps(ctx context.Context) ([]row, error) {
	peer, err := b.startTSA(ctx)
	if err != nil {
		return nil, err
	}
	defer peer.stop()
	at, _, err := b.lab.oursAt()
	if err != nil {
		return nil, err
	}
	keys, err := newSigners()
	if err != nil {
		return nil, err
	}
	said, theirs, err := b.bothAnswers(peer)
	if err != nil {
		return nil, err
	}
	queries, signed := make([][]byte, 1024), make([]answered, 1024)
	if err := prepared(len(queries), 0, keys, func(i int, s signer, message []byte) error {
		digest, sig, err := s.sign(message)
		if err != nil {
			return err
		}
		signed[i] = answered{digest: digest, sig: sig, key: &s.key.PublicKey}
		queries[i], err = timestampQuery(sig)
		return err
	}); err != nil {
		return nil, err
	}
	ask := func(address string, pid int, said *answers) side {
		return side{processes: []int{pid}, do: func(c *caller, i int) error {
			x := signed[i%len(signed)]
			var err error
			x.stamp, err = c.post(address, stampPath, queryHeader, queries[i%len(queries)], 200)
			said.keep(i, x)
			return err
		}}
	}
	p := period{manyClients, 2 * time.Second, 3 * time.Second, 1 << 30}
	x, y, err := b.inTurn(ctx, p, ask(at, b.lab.up.Process.Pid, said), ask(peer.address, peer.process(), theirs), func(int) error { return nil })
	if err == nil {
		err = said.signatures()
	}
	if err == nil && !b.alone {
		err = theirs.signatures()
	}
	return rowsOf("TSA: timestamps", "timestamps", x, y, ">= 3", "", ""), err
}
