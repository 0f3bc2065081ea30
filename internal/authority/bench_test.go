package authority_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	rfc3161 "github.com/digitorus/timestamp"

	"github.com/hallmark-dev/hallmark/internal/hmtest"
)

// BenchmarkKeylessIssue is all that the services do for a keyless signature, from the
// token to the proof: certificate, timestamp, log entry, over HTTP on loopback, by 64
// clients. Each service is measured alone, too. What the clients do is counted, but
// for the signatures, which are made before.
func BenchmarkKeylessIssue(b *testing.B) {
	for name, steps := range map[string][]string{"all": {"ca", "tsa", "log"}, "ca": {"ca"}, "tsa": {"tsa"}} {
		b.Run(name, func(b *testing.B) { benchmarkServices(b, steps) })
	}
}

func benchmarkServices(b *testing.B, steps []string) {
	r := hmtest.Authority(b)
	token := r.Token("bench@example.com")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	sign := func(message string) []byte {
		digest := sha256.Sum256([]byte(message))
		sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil {
			b.Fatal(err)
		}
		return sig
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		b.Fatal(err)
	}
	ask, err := json.Marshal(map[string]any{"publicKeyRequest": map[string]any{
		"publicKey":         map[string]any{"algorithm": "ECDSA", "content": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))},
		"proofOfPossession": sign("bench@example.com")}})
	if err != nil {
		b.Fatal(err)
	}
	sigs := make([][]byte, b.N)
	for i := range sigs {
		sigs[i] = sign(fmt.Sprint(i))
	}
	var next atomic.Int64
	var group sync.WaitGroup
	b.ResetTimer()
	for range 64 {
		group.Go(func() {
			conn, err := net.Dial("tcp", r.Registry)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			c := &rawClient{conn: conn, reader: bufio.NewReader(conn), host: r.Registry}
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if err := c.keyless(steps, token, ask, fmt.Sprint(i), sigs[i]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

// rawClient is a client that costs next to nothing.
type rawClient struct {
	conn   net.Conn
	reader *bufio.Reader
	host   string
}

func (c *rawClient) post(path, contentType, header string, body []byte, status int) ([]byte, error) {
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n", path, c.host, contentType, header, len(body))
	if _, err := c.conn.Write(append([]byte(head), body...)); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != status {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, answer)
	}
	return answer, err
}

func (c *rawClient) keyless(steps []string, token string, ask []byte, message string, sig []byte) error {
	var cert []byte
	for _, step := range steps {
		switch step {
		case "ca":
			answer, err := c.post("/api/v2/signingCert", "application/json", "Authorization: Bearer "+token+"\r\n", ask, http.StatusOK)
			if err != nil {
				return err
			}
			_, text, _ := strings.Cut(string(answer), `"-----BEGIN CERTIFICATE-----\n`)
			text, _, _ = strings.Cut(text, `\n-----END`)
			if cert, err = base64.StdEncoding.DecodeString(strings.ReplaceAll(text, `\n`, "")); err != nil {
				return err
			}
		case "tsa":
			query, err := rfc3161.CreateRequest(strings.NewReader(string(sig)), nil)
			if err != nil {
				return err
			}
			if _, err := c.post("/api/v1/timestamp", "application/timestamp-query", "", query, http.StatusOK); err != nil {
				return err
			}
		case "log":
			digest := sha256.Sum256([]byte(message))
			b64 := base64.StdEncoding.EncodeToString
			entry := fmt.Appendf(nil, `{"hashedRekordRequestV002":{"digest":"%s","signature":{"content":"%s","verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","x509Certificate":{"rawBytes":"%s"}}}}}`,
				b64(digest[:]), b64(sig), b64(cert))
			if _, err := c.post("/api/v2/log/entries", "application/json", "", entry, http.StatusCreated); err != nil {
				return err
			}
		}
	}
	return nil
}
