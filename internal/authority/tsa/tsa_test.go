package tsa_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"

	"github.com/hallmark-dev/hallmark/internal/authority/tsa"
)

var genTime = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func newTSA(t testing.TB) (*tsa.TSA, []*x509.Certificate) {
	t.Helper()
	key, chain, err := tsa.NewChain(genTime)
	if err != nil {
		t.Fatal(err)
	}
	s, err := tsa.New(tsa.Config{Key: key, Chain: chain, Now: func() time.Time { return genTime.Add(345 * time.Millisecond) }})
	if err != nil {
		t.Fatal(err)
	}
	return s, chain
}

func query(t testing.TB, req timestamp.Request) []byte {
	t.Helper()
	der, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// checkToken verifies the token in reply against the chain with code that is
// not the TSA's: the signature, the signed attributes and ESSCertIDv2.
func checkToken(t *testing.T, reply []byte, leaf *x509.Certificate) {
	t.Helper()
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue `asn1:"set"`
	}
	var resp struct {
		Status struct{ Status int }
		Token  struct {
			Type asn1.ObjectIdentifier
			Data struct {
				Version int
				Digests []pkix.AlgorithmIdentifier `asn1:"set"`
				Content struct {
					Type asn1.ObjectIdentifier
					Info []byte `asn1:"explicit,tag:0"`
				}
				Certificates asn1.RawValue `asn1:"optional,tag:0"`
				Signers      []struct {
					Version int
					Signer  struct {
						Issuer asn1.RawValue
						Serial *big.Int
					}
					Digest     pkix.AlgorithmIdentifier
					Attributes asn1.RawValue `asn1:"tag:0"`
					Algorithm  pkix.AlgorithmIdentifier
					Signature  []byte
				} `asn1:"set"`
			} `asn1:"explicit,tag:0"`
		}
	}
	if rest, err := asn1.Unmarshal(reply, &resp); err != nil || len(rest) != 0 {
		t.Fatalf("the reply: %v, %d bytes behind it", err, len(rest))
	}
	if len(resp.Token.Data.Signers) != 1 || resp.Token.Data.Version != 3 {
		t.Fatalf("%d signers, version %d", len(resp.Token.Data.Signers), resp.Token.Data.Version)
	}
	signer := resp.Token.Data.Signers[0]
	set := bytes.Clone(signer.Attributes.FullBytes)
	set[0] = 0x31
	if err := leaf.CheckSignature(x509.ECDSAWithSHA256, set, signer.Signature); err != nil {
		t.Fatal(err)
	}
	var attributes []attribute
	if _, err := asn1.UnmarshalWithParams(set, &attributes, "set"); err != nil {
		t.Fatal(err)
	}
	seen := map[string][]byte{}
	for _, a := range attributes {
		seen[a.Type.String()] = a.Value.Bytes
	}
	sum := sha256.Sum256(resp.Token.Data.Content.Info)
	if got := seen["1.2.840.113549.1.9.4"]; len(got) != 34 || !bytes.Equal(got[2:], sum[:]) {
		t.Errorf("message digest %x", got)
	}
	var ess struct {
		Certs []struct {
			Hash         []byte
			IssuerSerial struct {
				Issuer []asn1.RawValue
				Serial *big.Int
			}
		}
	}
	if rest, err := asn1.Unmarshal(seen["1.2.840.113549.1.9.16.2.47"], &ess); err != nil || len(rest) != 0 || len(ess.Certs) != 1 {
		t.Fatalf("signing certificate: %v", err)
	}
	certSum := sha256.Sum256(leaf.Raw)
	cert := ess.Certs[0]
	if !bytes.Equal(cert.Hash, certSum[:]) || cert.IssuerSerial.Serial.Cmp(leaf.SerialNumber) != 0 ||
		len(cert.IssuerSerial.Issuer) != 1 || !bytes.Equal(cert.IssuerSerial.Issuer[0].Bytes, leaf.RawIssuer) {
		t.Errorf("ESSCertIDv2 names another certificate")
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	s, chain := newTSA(t)
	srv := httptest.NewServer(s)
	defer srv.Close()
	serials := map[string]bool{}
	for name, req := range map[string]timestamp.Request{
		"as cosign asks": {HashAlgorithm: crypto.SHA256},
		"nonce":          {HashAlgorithm: crypto.SHA256, Nonce: big.NewInt(0x7fffffffffff)},
		"high bit nonce": {HashAlgorithm: crypto.SHA256, Nonce: new(big.Int).Lsh(big.NewInt(0xff), 56)},
		"certificate":    {HashAlgorithm: crypto.SHA256, Certificates: true},
		"SHA-384":        {HashAlgorithm: crypto.SHA384, Certificates: true, Nonce: big.NewInt(1)},
		"SHA-512":        {HashAlgorithm: crypto.SHA512, Certificates: true},
		"policy":         {HashAlgorithm: crypto.SHA256, TSAPolicyOID: tsa.DefaultPolicy(), Certificates: true},
	} {
		h := req.HashAlgorithm.New()
		h.Write([]byte(name))
		req.HashedMessage = h.Sum(nil)
		der := query(t, req)
		resp, err := http.Post(srv.URL, "application/timestamp-query", bytes.NewReader(der))
		if err != nil {
			t.Fatal(err)
		}
		reply, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/timestamp-reply" {
			t.Fatalf("%s: %d %q", name, resp.StatusCode, resp.Header)
		}
		ts, err := timestamp.ParseResponse(reply)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !ts.Time.Equal(genTime) || !bytes.Equal(ts.HashedMessage, req.HashedMessage) || ts.HashAlgorithm != req.HashAlgorithm ||
			!ts.Policy.Equal(tsa.DefaultPolicy()) || ts.Accuracy != time.Second {
			t.Errorf("%s: %+v", name, ts)
		}
		if (req.Nonce == nil) != (ts.Nonce == nil) || req.Nonce != nil && req.Nonce.Cmp(ts.Nonce) != 0 {
			t.Errorf("%s: nonce %v, want %v", name, ts.Nonce, req.Nonce)
		}
		if got := len(ts.Certificates); got != map[bool]int{true: 1}[req.Certificates] {
			t.Errorf("%s: %d certificates", name, got)
		}
		if ts.SerialNumber.Sign() <= 0 || serials[ts.SerialNumber.String()] {
			t.Errorf("%s: serial %v", name, ts.SerialNumber)
		}
		serials[ts.SerialNumber.String()] = true
		checkToken(t, reply, chain[0])
	}
}

// OpenSSL is the judge here: it checks the chain, the purpose, ESSCertIDv2, the
// nonce and the imprint.
func TestOpenSSLVerifies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openssl := func(args ...string) {
		t.Helper()
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	key, chain, err := tsa.NewChain(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := tsa.New(tsa.Config{Key: key, Chain: chain})
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("data", []byte("data"))
	write("leaf.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[0].Raw}))
	write("root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[1].Raw}))
	for _, extra := range [][]string{{"-cert", "-sha256"}, {"-no_nonce", "-sha256"}, {"-cert", "-sha512", "-tspolicy", "1.3.6.1.4.1.57264.2"}} {
		openssl(append([]string{"ts", "-query", "-data", "data", "-out", "q.tsq"}, extra...)...)
		q, err := os.ReadFile(filepath.Join(dir, "q.tsq"))
		if err != nil {
			t.Fatal(err)
		}
		reply, err := s.Timestamp(q)
		if err != nil {
			t.Fatal(err)
		}
		write("r.tsr", reply)
		openssl("ts", "-verify", "-in", "r.tsr", "-queryfile", "q.tsq", "-CAfile", "root.pem", "-untrusted", "leaf.pem")
	}
}

func TestRejections(t *testing.T) {
	t.Parallel()
	s, _ := newTSA(t)
	srv := httptest.NewServer(s)
	defer srv.Close()
	sum := sha256.Sum256([]byte("m"))
	sha := hex.EncodeToString(sum[:])
	tlv := func(tag string, parts ...string) string {
		content := strings.Join(parts, "")
		return tag + fmt.Sprintf("%02x", len(content)/2) + content
	}
	oid := func(last string) string { return tlv("06", "6086480165030402"+last) }
	imprint := func(alg, digest string) string { return tlv("30", tlv("30", alg), tlv("04", digest)) }
	const v1, yes, null = "020101", "0101ff", "0500"
	sha256OID := oid("01")
	imp := imprint(sha256OID+null, sha)
	good := tlv("30", v1, imp, yes)
	reply := func(der string) (int, []byte) {
		t.Helper()
		raw, err := hex.DecodeString(der)
		if err != nil {
			t.Fatalf("%s: %v", der, err)
		}
		resp, err := http.Post(srv.URL, "application/timestamp-query", bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		out, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, out
	}
	if status, out := reply(good); status != 200 {
		t.Fatalf("the good one: %d %s", status, out)
	}
	for name, c := range map[string]struct {
		der    string
		status int
		want   string
	}{
		"empty":           {"", 400, "wrong format"},
		"bytes behind":    {good + "00", 400, "wrong format"},
		"bytes inside":    {tlv("30", v1, imp, yes, null), 400, "wrong format"},
		"long length":     {"3081" + good[2:], 400, "wrong format"},
		"indefinite":      {"3080" + good[4:] + "0000", 400, "wrong format"},
		"BER true":        {tlv("30", v1, imp, "010101"), 400, "wrong format"},
		"explicit false":  {tlv("30", v1, imp, "010100"), 400, "wrong format"},
		"cut":             {good[:len(good)-2], 400, "wrong format"},
		"no imprint":      {tlv("30", v1, yes), 400, "wrong format"},
		"order":           {tlv("30", v1, imp, yes, tlv("06", "2a03")), 400, "wrong format"},
		"padded nonce":    {tlv("30", v1, imp, "02020001"), 400, "wrong format"},
		"empty nonce":     {tlv("30", v1, imp, "0200"), 400, "wrong format"},
		"endless nonce":   {tlv("30", v1, imp, tlv("02", strings.Repeat("11", 33))), 200, "transaction not permitted"},
		"version 2":       {tlv("30", "020102", imp), 200, "transaction not permitted"},
		"SHA-1":           {tlv("30", v1, imprint("06052b0e03021a", sha[:40])), 200, "Algorithm"},
		"SHA-224":         {tlv("30", v1, imprint(oid("04"), sha[:56])), 200, "Algorithm"},
		"hash parameters": {tlv("30", v1, imprint(sha256OID+"020100", sha)), 200, "Algorithm"},
		"short digest":    {tlv("30", v1, imprint(sha256OID, sha[:62])), 200, "transaction not permitted"},
		"wrong length":    {tlv("30", v1, imprint(oid("02"), sha)), 200, "transaction not permitted"},
		"other policy":    {tlv("30", v1, imp, tlv("06", "2a03")), 200, "policy"},
		"extension":       {tlv("30", v1, imp, yes, "a0023000"), 200, "extension"},
	} {
		status, out := reply(c.der)
		if status != c.status {
			t.Errorf("%s: status %d, want %d", name, status, c.status)
			continue
		}
		if _, err := timestamp.ParseResponse(out); err == nil || !strings.Contains(err.Error(), "rejected") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for name, c := range map[string]struct {
		method, contentType string
		body                []byte
		want                int
	}{
		"GET":        {http.MethodGet, "application/timestamp-query", nil, 405},
		"wrong type": {http.MethodPost, "application/octet-stream", nil, 415},
		"no type":    {http.MethodPost, "", nil, 415},
		"large":      {http.MethodPost, "application/timestamp-query", make([]byte, 9<<10), 413},
	} {
		r := httptest.NewRequest(c.method, "/", bytes.NewReader(c.body))
		r.Header.Set("Content-Type", c.contentType)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d", name, w.Code, c.want)
		}
	}
}

func TestClockOutsideTheChain(t *testing.T) {
	t.Parallel()
	key, chain, err := tsa.NewChain(genTime)
	if err != nil {
		t.Fatal(err)
	}
	for _, now := range []time.Time{chain[0].NotBefore.Add(-time.Second), chain[0].NotAfter.Add(time.Second)} {
		s, err := tsa.New(tsa.Config{Key: key, Chain: chain, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(nil)
		_, err = s.Timestamp(query(t, timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: sum[:]}))
		var no *tsa.Rejection
		if !errors.As(err, &no) || no.Failure != tsa.TimeNotAvailable {
			t.Errorf("%v: %v", now, err)
		}
	}
}

func TestNewRefusesWhatVerifiersWould(t *testing.T) {
	t.Parallel()
	key, chain, err := tsa.NewChain(genTime)
	if err != nil {
		t.Fatal(err)
	}
	otherKey, otherChain, err := tsa.NewChain(genTime)
	if err != nil {
		t.Fatal(err)
	}
	self := func(curve elliptic.Curve, change func(*x509.Certificate)) (crypto.Signer, []*x509.Certificate) {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: genTime.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: []byte("\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x08")}}}
		change(tmpl)
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return k, []*x509.Certificate{cert}
	}
	notCritical, notCriticalChain := self(elliptic.P256(), func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = false })
	noUsage, noUsageChain := self(elliptic.P256(), func(c *x509.Certificate) { c.ExtraExtensions = nil })
	p521, p521Chain := self(elliptic.P521(), func(*x509.Certificate) {})
	isCA, isCAChain := self(elliptic.P256(), func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
	noSignature, noSignatureChain := self(elliptic.P256(), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment })
	type cases map[string]struct {
		cfg  tsa.Config
		want string // a chain can be wrong in two ways; each case is about one
	}
	for name, c := range (cases{
		"nothing":          {tsa.Config{}, "are needed"},
		"no chain":         {tsa.Config{Key: key}, "are needed"},
		"another key":      {tsa.Config{Key: otherKey, Chain: chain}, "for another key"},
		"root first":       {tsa.Config{Key: key, Chain: []*x509.Certificate{chain[1], chain[0]}}, "for another key"},
		"another root":     {tsa.Config{Key: key, Chain: []*x509.Certificate{chain[0], otherChain[1]}}, "certificate 0 of the chain"},
		"EKU not critical": {tsa.Config{Key: notCritical, Chain: notCriticalChain}, "not critical"},
		"no EKU":           {tsa.Config{Key: noUsage, Chain: noUsageChain}, "not for time stamping alone"},
		"no signing":       {tsa.Config{Key: noSignature, Chain: noSignatureChain}, "not for digital signatures"},
		"P-521":            {tsa.Config{Key: p521, Chain: p521Chain}, "neither P-256 nor P-384"},
		"a CA":             {tsa.Config{Key: isCA, Chain: isCAChain}, "not for time stamping alone"},
	}) {
		if _, err := tsa.New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzTimestamp(f *testing.F) {
	s, _ := newTSA(f)
	sum := sha256.Sum256([]byte("m"))
	f.Add(query(f, timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: sum[:]}))
	f.Add(query(f, timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: sum[:], Nonce: big.NewInt(-5), Certificates: true, TSAPolicyOID: tsa.DefaultPolicy()}))
	f.Fuzz(func(t *testing.T, der []byte) {
		reply, err := s.Timestamp(der)
		if err != nil {
			var no *tsa.Rejection
			if !errors.As(err, &no) {
				t.Fatal(err)
			}
			return
		}
		// Whatever is granted, another implementation reads both ends of it.
		req, err := timestamp.ParseRequest(der)
		if err != nil {
			t.Fatalf("granted to %x: %v", der, err)
		}
		ts, err := timestamp.ParseResponse(reply)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(ts.HashedMessage, req.HashedMessage) {
			t.Fatal("another imprint")
		}
	})
}

func BenchmarkTimestamp(b *testing.B) {
	s, _ := newTSA(b)
	sum := sha256.Sum256([]byte("m"))
	der := query(b, timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: sum[:]})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Timestamp(der); err != nil {
			b.Fatal(err)
		}
	}
}
