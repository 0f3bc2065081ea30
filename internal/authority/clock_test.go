package authority_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority"
)

// clock can be set. It has no monotonic part, as after a restart.
type clock struct{ off atomic.Int64 }

func (c *clock) now() time.Time         { return time.Now().Round(0).Add(time.Duration(c.off.Load())) }
func (c *clock) set(back time.Duration) { c.off.Store(int64(-back)) }

const day = 24 * time.Hour

// TestClockSetBack sets the clock of an authority back by a day, while it runs and
// before it starts: all services go on with the time that there is, what was promised
// before stays as it was, and whoever watched sees nothing contradicted.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	c := new(clock)
	a := newAuditor(t)
	a.clock = c.now
	cfg := authority.Config{Dir: a.dir, Now: c.now}
	c.set(2 * day) // the keys are two days old
	running, end := up(t, cfg)
	a.mint = func() (string, error) { return running.Mint("alice@example.com") }
	c.set(0)
	some := func(round string) {
		t.Helper()
		base := running.Info().URL
		a.audit(base, true)
		for n := range 2 * kinds {
			if err := a.act(http.DefaultClient, base, fmt.Sprint(round, n), n); err != nil {
				t.Fatalf("%s: %v", round, err)
			}
		}
		a.audit(base, true)
		if status, body := request(t, "GET", base+"/healthz", ""); status != 200 {
			t.Errorf("%s: %s", round, body)
		}
	}
	restart := func() {
		t.Helper()
		end()
		running, end = up(t, cfg)
	}
	some("right")
	fromThen, err := a.mint()
	if err != nil {
		t.Fatal(err)
	}
	c.set(day)
	if status, body := certificateFor(t, running.Info().URL, fromThen); status != http.StatusUnauthorized || !strings.Contains(body, `claim \"iat\": the token was issued at`) {
		t.Errorf("a token from tomorrow: %d %s", status, body)
	}
	some("set back while it runs")
	restart()
	some("set back before it starts")
	c.set(0)
	some("right again while it runs")
	restart()
	some("right again")
}

// TestClockBeforeTheKeys: an authority by whose clock its keys are not valid yet says
// so instead of making what nobody would believe, and works once the clock is right.
func TestClockBeforeTheKeys(t *testing.T) {
	t.Parallel()
	c := new(clock)
	cfg := authority.Config{Dir: filepath.Join(t.TempDir(), "data"), Now: c.now}
	a, end := up(t, cfg)
	check := func(when string) {
		t.Helper()
		base := a.Info().URL
		token, err := a.Mint("alice@example.com")
		if err != nil {
			t.Fatal(err)
		}
		if status, body := certificateFor(t, base, token); status != http.StatusServiceUnavailable || !strings.Contains(body, "this authority's clock says ") {
			t.Errorf("%s: certificate: %d %s", when, status, body)
		}
		if granted, answer := timestamp(t, base); granted || !bytes.Contains(answer, []byte("the clock is outside the validity")) {
			t.Errorf("%s: timestamp: %v %q", when, granted, answer)
		}
		if status, body := request(t, "GET", base+"/healthz", ""); status != http.StatusServiceUnavailable ||
			!strings.Contains(body, "failing: the key of the certificate authority is valid from ") || !strings.Contains(body, "set the clock") {
			t.Errorf("%s: health: %d %s", when, status, body)
		}
		if _, err := logged(base, entry(t, when)); err != nil { // which has no time in it
			t.Errorf("%s: log: %v", when, err)
		}
	}
	c.set(day)
	check("set back while it runs")
	end()
	a, _ = up(t, cfg)
	check("set back before it starts")
	c.set(0)
	token, err := a.Mint("alice@example.com")
	if err != nil {
		t.Fatal(err)
	}
	if status, body := certificateFor(t, a.Info().URL, token); status != http.StatusOK {
		t.Errorf("right again: certificate: %d %s", status, body)
	}
	if granted, answer := timestamp(t, a.Info().URL); !granted {
		t.Errorf("right again: timestamp: %q", answer)
	}
}

// certificateFor asks for a certificate with a token of Alice's.
func certificateFor(t *testing.T, base, token string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequest("POST", base+"/api/v2/signingCert", strings.NewReader(certificateRequest(t, "alice@example.com")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// certificateRequest has a new key, and the proof that it is there.
func certificateRequest(t testing.TB, subject string) string {
	t.Helper()
	_, sig, der := signedByAnyone(t, subject)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	body, err := json.Marshal(map[string]any{"publicKeyRequest": map[string]any{
		"publicKey": map[string]any{"algorithm": "ECDSA", "content": string(public)}, "proofOfPossession": sig}})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// timestampQuery is a TimeStampReq (RFC 3161, 2.4.1).
func timestampQuery(t testing.TB, content string) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte(content))
	type algorithm struct {
		OID  asn1.ObjectIdentifier
		Null asn1.RawValue
	}
	der, err := asn1.Marshal(struct {
		Version int
		Imprint struct {
			Algorithm algorithm
			Digest    []byte
		}
	}{1, struct {
		Algorithm algorithm
		Digest    []byte
	}{algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.NullRawValue}, sum[:]}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func timestamp(t *testing.T, base string) (granted bool, answer []byte) {
	t.Helper()
	resp, err := http.Post(base+"/api/v1/timestamp", "application/timestamp-query", bytes.NewReader(timestampQuery(t, "x")))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode == http.StatusOK && len(answer) > 500, answer
}
