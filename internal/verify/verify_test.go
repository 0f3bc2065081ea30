package verify_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// TestAccepts: every kind of claim that must be believed is, and says what was proven.
func TestAccepts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	p384 := newKey(elliptic.P384())
	statement := statementAbout(artifactSubject())
	for name, o := range map[string]claimOptions{
		"v2 message":               {logs: []string{"v2"}, token: true},
		"v2 statement":             {payload: statement, logs: []string{"v2"}, token: true},
		"v1 hashedrekord":          {logs: []string{"v1 hashedrekord"}},
		"v1 hashedrekord of DSSE":  {payload: statement, logs: []string{"v1 hashedrekord"}},
		"v1 dsse":                  {payload: statement, logs: []string{"v1 dsse"}},
		"v1 intoto":                {payload: statement, logs: []string{"v1 intoto"}},
		"v1 with timestamp":        {logs: []string{"v1 hashedrekord"}, token: true},
		"both logs":                {logs: []string{"v1 hashedrekord", "v2"}, token: true},
		"P-384":                    {signer: p384, hash: crypto.SHA384, logs: []string{"v2"}, token: true},
		"P-384 with SHA-256":       {signer: p384, logs: []string{"v1 hashedrekord"}},
		"RSA":                      {signer: rsaKey, logs: []string{"v2"}, token: true},
		"Ed25519ph":                {signer: ed, hash: crypto.SHA512, logs: []string{"v2"}, token: true},
		"Ed25519 statement":        {signer: ed, hash: 999, payload: statement, logs: []string{"v1 dsse"}},
		"token names the key":      {logs: []string{"v2"}, tokens: []tokenOptions{{version: 3}}},
		"token with its signer":    {logs: []string{"v2"}, tokens: []tokenOptions{{embed: [][]byte{w.tsa.cert.Raw}}}},
		"token, empty certificate": {logs: []string{"v2"}, tokens: []tokenOptions{{embed: [][]byte{}}}},
		"token with a fraction":    {logs: []string{"v2"}, tokens: []tokenOptions{{fraction: ".123"}}},
		"two tokens":               {logs: []string{"v2"}, tokens: []tokenOptions{{}, {at: w.now.Add(2 * time.Second)}}},
		"stranger's token besides": {logs: []string{"v2"}, tokens: []tokenOptions{{}, {by: newWorld(t).tsa}}},
		"URI":                      {leaf: &leafOptions{uri: "https://ci.test/x@refs/heads/main", issuerV2: "https://issuer.test"}, logs: []string{"v2"}, token: true},
		"OtherName":                {leaf: &leafOptions{san: otherName("alice"), issuerV2: "https://issuer.test"}, logs: []string{"v2"}, token: true},
		"old issuer only":          {leaf: &leafOptions{email: "alice@example.com", issuerV1: "https://issuer.test"}, logs: []string{"v2"}, token: true},
		"SCT with extensions": {leaf: &leafOptions{email: "a@b", issuerV1: "https://issuer.test",
			sct: func(tbs []byte) []byte { return sctExtension(w.sct(tbs, []byte{1, 2, 3})) }}, logs: []string{"v2"}, token: true},
	} {
		ok, why := w.judge(w.claim(o), verify.Config{})
		if ok == nil {
			t.Errorf("%s: %s", name, why)
			continue
		}
		if len(ok.Times()) == 0 || ok.Signer().Issuer != "https://issuer.test" || ok.Signer().Identity == "" || ok.Certificate() == nil || len(ok.LogEntries()) != len(o.logs) {
			t.Errorf("%s: %+v", name, ok)
		}
		if (ok.Statement() != nil) != (o.payload != nil) || o.payload != nil && ok.Annotations()["env"] != "prod" {
			t.Errorf("%s: statement %+v, annotations %v", name, ok.Statement(), ok.Annotations())
		}
		for _, e := range ok.LogEntries() {
			if !e.Included {
				t.Errorf("%s: %+v", name, e)
			}
		}
	}
}

func otherName(text string) []byte {
	value := der(2, 0, must(asn1.MarshalWithParams(text, "utf8")))
	return der(0, 16, der(2, 0, must(asn1.Marshal(fulcioOID(7))), value))
}

// TestFact: what policies are given.
func TestFact(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text := func(s string) []byte { return must(asn1.MarshalWithParams(s, "utf8")) }
	o := claimOptions{payload: statementAbout(artifactSubject()), logs: []string{"v2"}, token: true,
		leaf: &leafOptions{uri: "https://ci.test/x", issuerV2: "https://issuer.test", extra: []pkix.Extension{
			{Id: fulcioOID(5), Value: []byte("org/repo")}, {Id: fulcioOID(12), Value: text("https://github.com/org/repo")},
			{Id: fulcioOID(24), Value: text("sub")}, {Id: fulcioOID(99), Value: []byte{1}}}}}
	ok, why := w.judge(w.claim(o), verify.Config{})
	if ok == nil {
		t.Fatal(why)
	}
	f := ok.Fact(evidence.Location{Ref: "here"})
	if f.PredicateType != evidence.PredicateSign || f.Predicate != nil || f.LogIndex == nil || *f.LogIndex != 1 || f.LogOrigin != "log2.test" ||
		f.Annotations["env"] != "prod" || f.Where.Ref != "here" || len(f.Times) != 1 || f.Times[0].By != "https://tsa.test" ||
		f.Signer.Extensions["githubWorkflowRepository"] != "org/repo" || f.Signer.Extensions["sourceRepositoryURI"] != "https://github.com/org/repo" ||
		f.Signer.Extensions["tokenSubject"] != "sub" || len(f.Signer.Extensions) != 3 {
		t.Errorf("%+v", f)
	}
	f.Signer.Extensions["sourceRepositoryURI"] = "changed"
	if ok.Signer().Extensions["sourceRepositoryURI"] == "changed" {
		t.Error("a Verified can be changed from outside")
	}
}

// TestKeys: bare keys, with and without a trust root for what they bring.
func TestKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k, other := newKey(elliptic.P256()), newKey(elliptic.P256())
	trusted := verify.Config{Keys: []crypto.PublicKey{other.Public(), k.Public()}}
	alone := w.claim(claimOptions{signer: k, keyOnly: true, payload: statementAbout(artifactSubject())})
	logged := w.claim(claimOptions{signer: k, keyOnly: true, logs: []string{"v2", "v1 hashedrekord"}, token: true})
	if ok, why := w.judge(alone, trusted); ok == nil || ok.Certificate() != nil || len(ok.Times()) != 0 || ok.Signer().Key == "" {
		t.Error(why)
	}
	if ok, why := w.judge(logged, trusted); ok == nil || len(ok.LogEntries()) != 2 || len(ok.Times()) != 2 {
		t.Error(why)
	}
	noRoot := must(verify.New(verify.Config{Keys: trusted.Keys}))
	ok, reasons := noRoot.Claim(logged, w.files())
	if ok == nil || len(ok.LogEntries()) != 0 || len(ok.Times()) != 0 {
		t.Errorf("without a trust root nothing is said about logs: %+v %v", ok, reasons)
	}
	for name, tc := range map[string]struct {
		claim *evidence.Claim
		cfg   verify.Config
		code  string
	}{
		"other key":       {alone, verify.Config{Keys: []crypto.PublicKey{other.Public()}}, verify.KeyUnknown},
		"no key":          {alone, verify.Config{}, verify.KeyUnknown},
		"log wanted":      {alone, verify.Config{Keys: trusted.Keys, RequireLog: true}, verify.LogMissing},
		"time wanted":     {alone, verify.Config{Keys: trusted.Keys, RequireTimestamp: true}, verify.TimeUntrusted},
		"time wanted, v1": {w.claim(claimOptions{signer: k, keyOnly: true, logs: []string{"v1 hashedrekord"}}), verify.Config{Keys: trusted.Keys, RequireTimestamp: true}, verify.TimeUntrusted},
		"unknown log":     {logged, verify.Config{Keys: trusted.Keys, Roots: []*trust.Root{newWorld(t).root}}, verify.TimeUntrusted},
		"certificate":     {w.claim(claimOptions{signer: k, logs: []string{"v2"}, token: true}), verify.Config{Keys: trusted.Keys, Roots: []*trust.Root{&trust.Root{}}}, verify.TimeUntrusted},
	} {
		if ok, why := w.judge(tc.claim, tc.cfg); ok != nil || !strings.HasPrefix(why, tc.code+" ") {
			t.Errorf("%s: %q, want %s", name, why, tc.code)
		}
	}
	noKeys := must(verify.New(verify.Config{Keys: trusted.Keys}))
	if _, reasons := noKeys.Claim(w.claim(claimOptions{logs: []string{"v2"}, token: true}), w.files()); reasons == nil || reasons[0].Code != verify.CertUntrusted {
		t.Errorf("a certificate without any trust root: %v", reasons)
	}
	if _, err := verify.New(verify.Config{Keys: []crypto.PublicKey{&must(rsa.GenerateKey(rand.Reader, 1024)).PublicKey}}); err == nil {
		t.Error("an RSA key of 1024 bits is trusted")
	}
}

// TestRefuses: one thing wrong each, refused for its own reason.
func TestRefuses(t *testing.T) {
	t.Parallel()
	w, stranger := newWorld(t), newWorld(t)
	statement := statementAbout(artifactSubject())
	v2 := func(change func(*claimOptions)) *evidence.Claim {
		o := claimOptions{logs: []string{"v2"}, token: true}
		change(&o)
		return w.claim(o)
	}
	leaf := func(l leafOptions) *evidence.Claim {
		if l.issuerV1 == "" && l.issuerV2 == "" {
			l.issuerV2 = "https://issuer.test"
		}
		if l.email == "" && l.uri == "" && l.san == nil {
			l.email = "alice@example.com"
		}
		return v2(func(o *claimOptions) { o.leaf = &l })
	}
	edit := func(c *evidence.Claim, change func(*evidence.Claim)) *evidence.Claim { change(c); return c }
	names := func(tags ...byte) []byte {
		var all [][]byte
		for _, tag := range tags {
			all = append(all, must(asn1.Marshal(asn1.RawValue{Class: 2, Tag: int(tag), Bytes: []byte("alice@example.com")})))
		}
		return der(0, 16, all...)
	}
	for name, tc := range map[string]struct {
		claim *evidence.Claim
		cfg   verify.Config
		want  string
	}{
		// Who signed.
		"two SANs":          {leaf(leafOptions{san: names(1, 6)}), verify.Config{}, "CERT_IDENTITY the certificate names more than one"},
		"same SAN twice":    {leaf(leafOptions{san: names(1, 1)}), verify.Config{}, "CERT_IDENTITY the certificate names more than one"},
		"DNS name":          {leaf(leafOptions{san: names(2)}), verify.Config{}, "CERT_IDENTITY"},
		"no SAN":            {leaf(leafOptions{san: names()}), verify.Config{}, "CERT_IDENTITY"},
		"strange OtherName": {leaf(leafOptions{san: der(0, 16, der(2, 0, must(asn1.Marshal(fulcioOID(8))), der(2, 0, must(asn1.MarshalWithParams("alice", "utf8")))))}), verify.Config{}, "CERT_IDENTITY"},
		"issuers disagree":  {leaf(leafOptions{issuerV1: "https://issuer.test", issuerV2: "https://issuer.test/"}), verify.Config{}, "CERT_IDENTITY the certificate names two issuers"},
		"no issuer":         {v2(func(o *claimOptions) { o.leaf = &leafOptions{email: "alice@example.com"} }), verify.Config{}, "CERT_IDENTITY"},
		"issuer no text":    {leaf(leafOptions{extra: []pkix.Extension{{Id: fulcioOID(1), Value: []byte("https://\x1b[2J")}}}), verify.Config{}, "CERT_IDENTITY"},
		"control character": {leaf(leafOptions{san: otherName("al\nice")}), verify.Config{}, "CERT_IDENTITY"},

		// The certificate.
		"other CA":            {v2(func(o *claimOptions) {}), under(w.trustRoot(func(s *trust.RootSpec) { s.CAs = []trust.AuthoritySpec{{Chain: []*x509.Certificate{stranger.ca.cert}}} })), "CERT_UNTRUSTED"},
		"CA no longer":        {v2(func(o *claimOptions) {}), under(w.trustRoot(func(s *trust.RootSpec) { s.CAs[0].End = w.now.Add(-time.Hour) })), "CERT_UNTRUSTED the trust root believes"},
		"server certificate":  {leaf(leafOptions{usage: x509.ExtKeyUsageServerAuth}), verify.Config{}, "CERT_UNTRUSTED the certificate is not for signing code"},
		"any usage":           {leaf(leafOptions{change: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }}), verify.Config{}, "CERT_UNTRUSTED the certificate is not for signing code"},
		"no usage":            {leaf(leafOptions{change: func(c *x509.Certificate) { c.ExtKeyUsage = nil }}), verify.Config{}, "CERT_UNTRUSTED the certificate is not for signing code"},
		"a CA signs":          {leaf(leafOptions{change: func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }}), verify.Config{}, "CERT_UNTRUSTED the certificate is a CA"},
		"key encipherment":    {leaf(leafOptions{change: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }}), verify.Config{}, "CERT_UNTRUSTED the certificate's key"},
		"critical extension":  {leaf(leafOptions{extra: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}}), verify.Config{}, "CERT_UNTRUSTED"},
		"before its time":     {v2(func(o *claimOptions) { o.tokenAt = w.now.Add(-time.Second) }), verify.Config{}, "CERT_EXPIRED"},
		"after its time":      {v2(func(o *claimOptions) { o.tokenAt = w.now.Add(10*time.Minute + time.Second) }), verify.Config{Now: func() time.Time { return w.now.Add(time.Hour) }}, "CERT_EXPIRED"},
		"one of two times":    {v2(func(o *claimOptions) { o.tokens = []tokenOptions{{at: w.now.Add(-time.Minute)}} }), verify.Config{}, "CERT_EXPIRED"},
		"from the future":     {v2(func(o *claimOptions) {}), verify.Config{Now: func() time.Time { return w.now.Add(-time.Hour) }}, "TIME_UNTRUSTED the signature is of"},
		"root in the chain":   {edit(v2(func(o *claimOptions) {}), func(c *evidence.Claim) { c.Certificates = append(c.Certificates, w.ca.cert.Raw) }), verify.Config{}, "MALFORMED"},
		"no certificate":      {edit(v2(func(o *claimOptions) {}), func(c *evidence.Claim) { c.Certificates[0] = []byte{1} }), verify.Config{}, "MALFORMED"},
		"trailing byte after": {edit(v2(func(o *claimOptions) {}), func(c *evidence.Claim) { c.Certificates[0] = append(bytes.Clone(c.Certificates[0]), 0) }), verify.Config{}, "MALFORMED"},

		// Certificate transparency.
		"no SCT":            {leaf(leafOptions{sct: func([]byte) []byte { return nil }}), verify.Config{}, "SCT_BAD the certificate carries no SCT"},
		"stranger's SCT":    {leaf(leafOptions{sct: func(tbs []byte) []byte { return sctExtension(stranger.sct(tbs, nil)) }}), verify.Config{}, "SCT_BAD no SCT"},
		"SCT of another":    {leaf(leafOptions{sct: func(tbs []byte) []byte { return sctExtension(w.sct(tbs[1:], nil)) }}), verify.Config{}, "SCT_BAD the SCT by"},
		"SCT of version 2":  {leaf(leafOptions{sct: func(tbs []byte) []byte { s := w.sct(tbs, nil); s[0] = 1; return sctExtension(s) }}), verify.Config{}, "SCT_BAD"},
		"SCT as RSA":        {leaf(leafOptions{sct: func(tbs []byte) []byte { s := w.sct(tbs, nil); s[44] = 1; return sctExtension(s) }}), verify.Config{}, "SCT_BAD"},
		"SCT with SHA-1":    {leaf(leafOptions{sct: func(tbs []byte) []byte { s := w.sct(tbs, nil); s[43] = 2; return sctExtension(s) }}), verify.Config{}, "SCT_BAD"},
		"SCT with a tail":   {leaf(leafOptions{sct: func(tbs []byte) []byte { return sctExtension(append(w.sct(tbs, nil), 0)) }}), verify.Config{}, "SCT_BAD"},
		"empty list":        {leaf(leafOptions{sct: func(tbs []byte) []byte { return sctExtension() }}), verify.Config{}, "SCT_BAD"},
		"CT log no longer":  {v2(func(o *claimOptions) {}), under(w.trustRoot(func(s *trust.RootSpec) { s.CTLogs[0].End = w.now.Add(-time.Hour) })), "SCT_BAD the SCT is of"},
		"CT log not at all": {v2(func(o *claimOptions) {}), under(w.trustRoot(func(s *trust.RootSpec) { s.CTLogs = nil })), "SCT_BAD"},

		// What was signed.
		"wrong artifact":       {edit(v2(func(o *claimOptions) {}), func(c *evidence.Claim) { c.Message.Digest, c.Message.DigestAlgorithm = make([]byte, 32), "SHA2_256" }), verify.Config{}, "WRONG_SUBJECT"},
		"digest of SHA-1":      {edit(v2(func(o *claimOptions) {}), func(c *evidence.Claim) { c.Message.Digest, c.Message.DigestAlgorithm = make([]byte, 20), "SHA1" }), verify.Config{}, "MALFORMED"},
		"signature of another": {edit(v2(func(o *claimOptions) {}), func(c *evidence.Claim) { c.Message.Signature = signECDSA(w.v1, artifact) }), verify.Config{}, "SIGNATURE_BAD"},
		"payload type":         {edit(v2(func(o *claimOptions) { o.payload = statement }), func(c *evidence.Claim) { c.Envelope.PayloadType = "text/plain" }), verify.Config{}, "SIGNATURE_BAD"},
		"another payload":      {edit(v2(func(o *claimOptions) { o.payload = statement }), func(c *evidence.Claim) { c.Envelope.Payload = statementAbout(`{"digest":{"sha256":"00"}}`) }), verify.Config{}, "SIGNATURE_BAD"},
		"two signatures": {edit(v2(func(o *claimOptions) { o.payload = statement }), func(c *evidence.Claim) {
			c.Envelope.Signatures = append(c.Envelope.Signatures, c.Envelope.Signatures[0])
		}), verify.Config{}, "MALFORMED"},
		"about another": {v2(func(o *claimOptions) {
			o.payload = statementAbout(`{"digest":{"sha256":"` + evidence.SHA256(nil).Hex() + `"}}`)
		}), verify.Config{}, "WRONG_SUBJECT the statement is about sha256:e3b0c442"},
		"upper-case digest": {v2(func(o *claimOptions) {
			o.payload = statementAbout(`{"digest":{"sha256":"` + strings.ToUpper(evidence.SHA256(artifact).Hex()) + `"}}`)
		}), verify.Config{}, "WRONG_SUBJECT"},
		"only SHA-1": {v2(func(o *claimOptions) { o.payload = statementAbout(`{"digest":{"sha1":"00"}}`) }), verify.Config{}, "WRONG_SUBJECT"},
		"digests disagree": {v2(func(o *claimOptions) {
			o.payload = statementAbout(`{"digest":{"sha256":"` + evidence.SHA256(artifact).Hex() + `","sha512":"00"}}`)
		}), verify.Config{}, "MALFORMED a subject"},
		"annotated twice": {v2(func(o *claimOptions) {
			o.payload = statementAbout(artifactSubject() + "," + strings.Replace(artifactSubject(), "prod", "dev", 1))
		}), verify.Config{}, "MALFORMED the statement annotates"},
		"statement duplicates": {v2(func(o *claimOptions) {
			o.payload = bytes.Replace(statement, []byte(`"predicate":{}`), []byte(`"predicate":{},"subject":[]`), 1)
		}), verify.Config{}, "MALFORMED the signed statement"},
		"statement v2": {v2(func(o *claimOptions) {
			o.payload = bytes.Replace(statement, []byte("Statement/v1"), []byte("Statement/v2"), 1)
		}), verify.Config{}, "MALFORMED the signed statement"},
		"nothing": {&evidence.Claim{}, verify.Config{}, "MALFORMED"},

		// Logs and times.
		"no log":           {w.claim(claimOptions{token: true}), verify.Config{}, "LOG_MISSING"},
		"no time":          {w.claim(claimOptions{logs: []string{"v2"}}), verify.Config{}, "TIME_UNTRUSTED no trusted time"},
		"v1 without SET":   {edit(w.claim(claimOptions{logs: []string{"v1 hashedrekord"}}), func(c *evidence.Claim) { c.LogEntries[0].Promise = nil }), verify.Config{}, "TIME_UNTRUSTED no trusted time"},
		"timestamp wants":  {w.claim(claimOptions{logs: []string{"v1 hashedrekord"}}), verify.Config{RequireTimestamp: true}, "TIME_UNTRUSTED the signature has no timestamp"},
		"stranger's log":   {w.claim(claimOptions{logs: []string{"v2"}, token: true}), under(w.trustRoot(func(s *trust.RootSpec) { s.TLogs = s.TLogs[:1] })), "LOG_UNTRUSTED"},
		"log no longer":    {w.claim(claimOptions{logs: []string{"v2"}, token: true}), under(w.trustRoot(func(s *trust.RootSpec) { s.TLogs[1].End = w.now.Add(-time.Hour) })), "LOG_PROOF_BAD the signature is of"},
		"v1 no longer":     {w.claim(claimOptions{logs: []string{"v1 hashedrekord"}}), under(w.trustRoot(func(s *trust.RootSpec) { s.TLogs[0].End = w.now.Add(-time.Hour) })), "LOG_PROOF_BAD the log entry is of"},
		"same entry twice": {edit(w.claim(claimOptions{logs: []string{"v2"}, token: true}), func(c *evidence.Claim) { c.LogEntries = append(c.LogEntries, c.LogEntries[0]) }), verify.Config{}, "MALFORMED the claim carries the same log entry"},
		"same token twice": {edit(w.claim(claimOptions{logs: []string{"v2"}, token: true}), func(c *evidence.Claim) { c.Timestamps = append(c.Timestamps, c.Timestamps[0]) }), verify.Config{}, "MALFORMED the claim carries the same timestamp"},
		"33 tokens":        {edit(w.claim(claimOptions{logs: []string{"v2"}, token: true}), func(c *evidence.Claim) { c.Timestamps = make([][]byte, 33) }), verify.Config{}, "MALFORMED"},
		"33 entries":       {edit(w.claim(claimOptions{logs: []string{"v2"}, token: true}), func(c *evidence.Claim) { c.LogEntries = make([]evidence.LogEntry, 33) }), verify.Config{}, "MALFORMED"},
		"unsigned time": {edit(w.claim(claimOptions{logs: []string{"v1 hashedrekord"}, token: true}), func(c *evidence.Claim) {
			c.LogEntries[0].Promise = nil
			c.LogEntries[0].IntegratedTime = w.now.Unix() + 3600
		}), verify.Config{}, "CERT_EXPIRED the signing certificate was valid"},
		"v2 with a time": {edit(w.claim(claimOptions{logs: []string{"v2"}, token: true}), func(c *evidence.Claim) { c.LogEntries[0].IntegratedTime = w.now.Unix() }), verify.Config{}, "MALFORMED"},
		"v2 other index": {edit(w.claim(claimOptions{logs: []string{"v2"}, token: true}), func(c *evidence.Claim) { c.LogEntries[0].LogIndex = 0 }), verify.Config{}, "LOG_PROOF_BAD"},
		"v2 other origin": {edit(w.claim(claimOptions{logs: []string{"v2"}, token: true}), func(c *evidence.Claim) {
			p := c.LogEntries[0].Proof
			p.Checkpoint = w.noteV2("log3.test", 3, p.RootHash)
		}), verify.Config{}, "LOG_PROOF_BAD the checkpoint is of log"},
		"v2 other tree": {edit(w.claim(claimOptions{logs: []string{"v2"}, token: true}), func(c *evidence.Claim) {
			p := c.LogEntries[0].Proof
			p.Checkpoint = w.noteV2("log2.test", 4, p.RootHash)
		}), verify.Config{}, "LOG_PROOF_BAD the log's checkpoint is of another tree"},
		"v2 short proof":     {edit(w.claim(claimOptions{logs: []string{"v2"}, token: true}), func(c *evidence.Claim) { p := c.LogEntries[0].Proof; p.Hashes = p.Hashes[:1] }), verify.Config{}, "LOG_PROOF_BAD the inclusion proof"},
		"v2 entry of others": {edit(w.claim(claimOptions{logs: []string{"v2"}, token: true}), func(c *evidence.Claim) { c.LogEntries = w.claim(claimOptions{logs: []string{"v2"}}).LogEntries }), verify.Config{}, "LOG_MISMATCH"},
		"v1 entry of others": {edit(w.claim(claimOptions{logs: []string{"v1 hashedrekord"}}), func(c *evidence.Claim) {
			c.LogEntries = w.claim(claimOptions{logs: []string{"v1 hashedrekord"}}).LogEntries
		}), verify.Config{}, "LOG_MISMATCH"},
		"v1 as another kind": {edit(w.claim(claimOptions{logs: []string{"v1 hashedrekord"}}), func(c *evidence.Claim) { c.LogEntries[0].Kind = "dsse" }), verify.Config{}, "MALFORMED the log entry says"},
		"v1 unknown kind": {edit(w.claim(claimOptions{logs: []string{"v1 hashedrekord"}}), func(c *evidence.Claim) {
			e := &c.LogEntries[0]
			e.Kind, e.Body, e.Proof = "rfc3161", bytes.Replace(e.Body, []byte("hashedrekord"), []byte("rfc3161"), 1), nil
			*e = w.signV1(*e)
		}), verify.Config{}, "MALFORMED the log entry is of kind"},
		"v1 body with more": {edit(w.claim(claimOptions{logs: []string{"v1 hashedrekord"}}), func(c *evidence.Claim) {
			e := &c.LogEntries[0]
			e.Body, e.Proof = bytes.Replace(e.Body, []byte(`"spec":{`), []byte(`"spec":{"Data":{},`), 1), nil
			*e = w.signV1(*e)
		}), verify.Config{}, "MALFORMED the log entry's body"},
	} {
		if ok, why := w.judge(tc.claim, tc.cfg); ok != nil || !strings.HasPrefix(why, tc.want) {
			t.Errorf("%s: %q, want %q", name, why, tc.want)
		}
	}
}

// TestTokens: RFC 3161 time stamps with one thing wrong each.
func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	extra := attribute(asn1.ObjectIdentifier{1, 2, 3}, []byte{5, 0})
	withTSA := func(change func(*x509.Certificate)) (*authority, *trust.Root) {
		tsa := w.newTSA(change)
		return tsa, w.trustRoot(func(s *trust.RootSpec) { s.TSAs[0].Chain[0] = tsa.cert })
	}
	good := map[string]tokenOptions{
		"another signed attribute": {attrs: func(a [][]byte) [][]byte { return append(a, extra) }},
		"ordering":                 {info: func(i *tstInfo) { i.Ordering = true }},
		"no nonce":                 {info: func(i *tstInfo) { i.Nonce = nil }},
	}
	for name, o := range good {
		if ok, why := w.judge(w.claim(claimOptions{logs: []string{"v2"}, tokens: []tokenOptions{o}}), verify.Config{}); ok == nil {
			t.Errorf("%s: %s", name, why)
		}
	}
	bad := map[string]tokenOptions{
		"about another":       {imprint: make([]byte, 32)},
		"not granted":         {status: 2},
		"granted with mods":   {status: 1},
		"signed by another":   {sign: func(der []byte) []byte { return signECDSA(w.v1, der) }},
		"stranger":            {by: newWorld(t).tsa},
		"stranger brings his": {by: newWorld(t).tsa, embed: [][]byte{w.tsa.cert.Raw}},
		"brings another":      {embed: [][]byte{w.tsaRoot.cert.Raw}},
		"key named, stranger": {by: w.newTSA(nil), version: 3},
		"no message digest":   {attrs: func(a [][]byte) [][]byte { return [][]byte{a[0], a[2]} }},
		"no content type":     {attrs: func(a [][]byte) [][]byte { return a[1:] }},
		"no certificate id":   {attrs: func(a [][]byte) [][]byte { return a[:2] }},
		"attribute twice":     {attrs: func(a [][]byte) [][]byte { return append(a, a[0]) }},
		"digest of another": {attrs: func(a [][]byte) [][]byte {
			a[1] = attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}, must(asn1.Marshal(make([]byte, 32))))
			return a
		}},
		"id of another": {attrs: func(a [][]byte) [][]byte {
			a[2] = attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}, der(0, 16, der(0, 16, der(0, 16, must(asn1.Marshal(make([]byte, 32)))))))
			return a
		}},
		"data as content": {attrs: func(a [][]byte) [][]byte {
			a[0] = attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}, must(asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1})))
			return a
		}},
		"unsigned attributes":   {tail: der(2, 1, extra)},
		"version 2":             {info: func(i *tstInfo) { i.Version = 2 }},
		"imprint of SHA-1":      {info: func(i *tstInfo) { i.Imprint.Alg.Algorithm = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26} }},
		"short imprint":         {info: func(i *tstInfo) { i.Imprint.Sum = i.Imprint.Sum[:20] }},
		"extension":             {info: func(i *tstInfo) { i.Ext = []asn1.RawValue{{Tag: 5}} }},
		"fraction ends in zero": {fraction: ".10"},
		"empty fraction":        {fraction: "."},
		"time with a zone":      {info: func(i *tstInfo) { i.GenTime.Bytes = []byte("20260101000000+0000") }},
		"no seconds":            {info: func(i *tstInfo) { i.GenTime.Bytes = []byte("202601010000Z") }},
	}
	for name, o := range bad {
		if ok, why := w.judge(w.claim(claimOptions{logs: []string{"v2"}, tokens: []tokenOptions{o}}), verify.Config{}); ok != nil || !strings.HasPrefix(why, verify.TimeUntrusted) {
			t.Errorf("%s: %q", name, why)
		}
		// A good token does not make up for a broken one, but one that no
		// trusted authority's certificate made is a stranger's.
		if o.by != nil || name == "brings another" || name == "id of another" {
			continue
		}
		if ok, why := w.judge(w.claim(claimOptions{logs: []string{"v2"}, tokens: []tokenOptions{{}, o}}), verify.Config{}); ok != nil {
			t.Errorf("%s beside a good one: %q", name, why)
		}
	}
	for name, change := range map[string]func(*x509.Certificate){
		"usage not critical": func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = false },
		"two usages": func(c *x509.Certificate) {
			c.ExtraExtensions[0].Value = must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}, {1, 3, 6, 1, 5, 5, 7, 3, 3}}))
		},
		"code signing": func(c *x509.Certificate) {
			c.ExtraExtensions[0].Value = must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 3}}))
		},
		"no usage":     func(c *x509.Certificate) { c.ExtraExtensions = nil },
		"expired":      func(c *x509.Certificate) { c.NotAfter = w.now.Add(-time.Hour) },
		"not yet":      func(c *x509.Certificate) { c.NotBefore = w.now.Add(time.Hour) },
		"key exchange": func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment },
	} {
		tsa, root := withTSA(change)
		c := w.claim(claimOptions{logs: []string{"v2"}, tokens: []tokenOptions{{by: tsa}}})
		if ok, why := w.judge(c, under(root)); ok != nil || !strings.HasPrefix(why, verify.TimeUntrusted) {
			t.Errorf("authority with %s: %q", name, why)
		}
	}
	// An authority without a listed leaf takes the token's, if it leads to the anchor.
	anchored := w.trustRoot(func(s *trust.RootSpec) { s.TSAs[0].Chain = s.TSAs[0].Chain[1:] })
	brings := tokenOptions{embed: [][]byte{w.tsa.cert.Raw}}
	if ok, why := w.judge(w.claim(claimOptions{logs: []string{"v2"}, tokens: []tokenOptions{brings}}), under(anchored)); ok == nil {
		t.Error("leaf from the token:", why)
	}
	if ok, _ := w.judge(w.claim(claimOptions{logs: []string{"v2"}, token: true}), under(anchored)); ok != nil {
		t.Error("a token without its signer was believed")
	}
	other := newWorld(t)
	brings = tokenOptions{by: other.tsa, embed: [][]byte{other.tsa.cert.Raw, other.tsaRoot.cert.Raw}}
	if ok, _ := w.judge(w.claim(claimOptions{logs: []string{"v2"}, tokens: []tokenOptions{brings}}), under(anchored)); ok != nil {
		t.Error("a token that brings its own root was believed")
	}
	// An authority that lists nothing but its leaf is that leaf.
	lone := w.trustRoot(func(s *trust.RootSpec) { s.TSAs[0].Chain = s.TSAs[0].Chain[:1] })
	if ok, why := w.judge(w.claim(claimOptions{logs: []string{"v2"}, token: true}), under(lone)); ok == nil {
		t.Error("leaf alone:", why)
	}
}

// flips calls check with one bit of b flipped, for about n of its bytes.
func flips(b []byte, n int, check func(at int)) {
	step := max(1, len(b)/n)
	for i := 0; i < len(b); i += step {
		bit := byte(1) << ((i * 5) % 8)
		b[i] ^= bit
		check(i)
		b[i] ^= bit
	}
}

// flipped is a claim whose every proven field gets bits flipped.
type flipped struct {
	name     string
	claim    *evidence.Claim
	verifier *verify.Verifier
	artifact verify.Artifact
}

// fields calls flip for each byte field that is signed or proven, with the
// number of its bytes to try.
func (s *flipped) fields(flip func(what string, b []byte, n int)) {
	flip("signature", s.claim.Signature(), 40)
	for _, cert := range s.claim.Certificates {
		flip("certificate", cert, 80)
	}
	for _, ts := range s.claim.Timestamps {
		flip("timestamp", ts, 200)
	}
	if s.claim.Envelope != nil {
		flip("payload", s.claim.Envelope.Payload, 20)
	}
	for i := range s.claim.LogEntries {
		e := &s.claim.LogEntries[i]
		flip("log id", e.LogID, 16)
		flip("promise", e.Promise, 40)
		flip("body", e.Body, 60)
		flip("root hash", e.Proof.RootHash, 16)
		for _, h := range e.Proof.Hashes {
			flip("proof", h, 1)
		}
	}
}

// TestBitFlips: a bit flipped in anything that is signed or proven is never accepted.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := newKey(elliptic.P256())
	statement := func() []byte { return statementAbout(artifactSubject()) } // each flips bits of its own
	mine := must(verify.New(verify.Config{Roots: []*trust.Root{w.root}, Keys: []crypto.PublicKey{k.Public()}}))
	var all []flipped
	for name, o := range map[string]claimOptions{
		"v2":        {logs: []string{"v2"}, token: true},
		"v1":        {payload: statement(), logs: []string{"v1 dsse"}, tokens: []tokenOptions{{embed: [][]byte{w.tsa.cert.Raw}}}},
		"key in v2": {signer: k, keyOnly: true, payload: statement(), logs: []string{"v2"}, token: true},
		"key in v1": {signer: k, keyOnly: true, payload: statement(), logs: []string{"v1 intoto"}},
	} {
		all = append(all, flipped{name, w.claim(o), mine, w.files()})
	}
	for _, name := range []string{"happy-path-v0.3", "rekor2-dsse-happy-path", "rekor2-timestamp-with-embedded-cert"} {
		v := readVector(t, name)
		verifier := must(verify.New(under(must(trust.ParseTrustedRoot(v.root)))))
		all = append(all, flipped{name, must(bundle.Parse(v.bundle)), verifier, verify.Image(evidence.SHA256(v.artifact))})
	}
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t)
		})
	}
}

func (s *flipped) run(t *testing.T) {
	if ok, reasons := s.verifier.Claim(s.claim, s.artifact); ok == nil {
		t.Fatal(reasons)
	}
	refused := func(format string, args ...any) {
		if ok, _ := s.verifier.Claim(s.claim, s.artifact); ok != nil {
			t.Errorf("accepted with a bit flipped in "+format, args...)
		}
	}
	s.fields(func(what string, b []byte, n int) {
		flips(b, n, func(at int) { refused("byte %d of %s", at, what) })
	})
	for i := range s.claim.LogEntries {
		e := &s.claim.LogEntries[i]
		// Signatures by others, such as witnesses, prove nothing and may be anything.
		others := strings.Count(e.Proof.Checkpoint, "\n— ") > 1
		note := []byte(e.Proof.Checkpoint)
		end := len(note)
		if others {
			end = bytes.Index(note, []byte("\n\n"))
		}
		flips(note[:end], 100, func(at int) {
			e.Proof.Checkpoint = string(note)
			refused("byte %d of the checkpoint", at)
		})
		e.Proof.Checkpoint = string(note)
		for n, v := range map[string]*int64{"index": &e.LogIndex, "time": &e.IntegratedTime, "proof's index": &e.Proof.LogIndex, "size": &e.Proof.TreeSize} {
			for _, bit := range []int{0, 1, 7, 33, 62} {
				*v ^= 1 << bit
				refused("bit %d of the %s", bit, n)
				*v ^= 1 << bit
			}
		}
	}
}

// TestHashFile: large files are hashed and not kept.
func TestHashFile(t *testing.T) {
	t.Parallel()
	small := must(verify.HashFile(bytes.NewReader(artifact)))
	if len(small.Digests) != 3 || small.Digests[0] != evidence.SHA256(artifact) || !bytes.Equal(small.Content, artifact) {
		t.Errorf("%+v", small)
	}
	big := make([]byte, verify.MaxContent+10)
	large := must(verify.HashFile(bytes.NewReader(big)))
	if large.Content != nil || large.Digests[0] != evidence.SHA256(big) {
		t.Errorf("%v, %d bytes kept", large.Digests, len(large.Content))
	}
}

// TestPlainEd25519: a signature over the file itself needs the file.
func TestPlainEd25519(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	c := &evidence.Claim{Message: &evidence.MessageSignature{Signature: ed25519.Sign(private, artifact)}}
	v := must(verify.New(verify.Config{Keys: []crypto.PublicKey{public}}))
	if ok, reasons := v.Claim(c, w.files()); ok == nil {
		t.Error(reasons)
	}
	if ok, reasons := v.Claim(c, verify.Image(evidence.SHA256(artifact))); ok != nil || reasons[0].Code != verify.WrongSubject {
		t.Error("by digest:", reasons)
	}
	other := w.files()
	other.Content = []byte("something else")
	if ok, _ := v.Claim(c, other); ok != nil {
		t.Error("content that is not what the digests say")
	}
}

// fuzzed is a vector's claim with the verifier that believes it.
func fuzzed(f *testing.F, name string) (*evidence.Claim, *verify.Verifier, verify.Artifact) {
	f.Helper()
	v := readVector(f, name)
	verifier := must(verify.New(under(must(trust.ParseTrustedRoot(v.root)))))
	c, artifact := must(bundle.Parse(v.bundle)), verify.Image(evidence.SHA256(v.artifact))
	if ok, reasons := verifier.Claim(c, artifact); ok == nil {
		f.Fatal(reasons)
	}
	return c, verifier, artifact
}

// FuzzToken: only the timestamp as it was made is believed.
func FuzzToken(f *testing.F) {
	c, v, artifact := fuzzed(f, "rekor2-timestamp-without-embedded-cert")
	good := c.Timestamps[0]
	f.Add(good)
	w := newWorld(f)
	f.Add(w.token(c.Signature(), tokenOptions{version: 3, embed: [][]byte{w.tsa.cert.Raw}, fraction: ".5"}))
	f.Fuzz(func(t *testing.T, der []byte) {
		c := *c
		c.Timestamps = [][]byte{der}
		if ok, _ := v.Claim(&c, artifact); ok != nil && !bytes.Equal(der, good) {
			t.Fatalf("believed %x", der)
		}
	})
}

// FuzzCheckpoint: only a checkpoint with the signed text and the log's signature is believed.
func FuzzCheckpoint(f *testing.F) {
	for _, name := range []string{"rekor2-checkpoint-multiple-cosigs", "happy-path-v0.3"} {
		c, _, _ := fuzzed(f, name)
		f.Add(c.LogEntries[0].Proof.Checkpoint)
	}
	c, v, artifact := fuzzed(f, "rekor2-checkpoint-multiple-cosigs")
	good := c.LogEntries[0].Proof.Checkpoint
	text, lines, _ := strings.Cut(good, "\n\n")
	signature, _, _ := strings.Cut(lines, "\n")
	f.Fuzz(func(t *testing.T, note string) {
		c, e, p := *c, c.LogEntries[0], *c.LogEntries[0].Proof
		p.Checkpoint, e.Proof = note, &p
		c.LogEntries = []evidence.LogEntry{e}
		if ok, _ := v.Claim(&c, artifact); ok != nil && (!strings.HasPrefix(note, text+"\n\n") || !strings.Contains(note, "\n"+signature+"\n")) {
			t.Fatalf("believed %q", note)
		}
	})
}

// FuzzCertificate: no certificate but the one that was issued is believed.
func FuzzCertificate(f *testing.F) {
	c, v, artifact := fuzzed(f, "happy-path-v0.3")
	good := c.Certificates[0]
	f.Add(good)
	f.Fuzz(func(t *testing.T, der []byte) {
		c := *c
		c.Certificates = [][]byte{der}
		if ok, _ := v.Claim(&c, artifact); ok != nil && !bytes.Equal(der, good) {
			t.Fatalf("believed %x", der)
		}
	})
}

// FuzzBodyV1: a log that signs whatever it is sent cannot make another's
// signature look logged.
func FuzzBodyV1(f *testing.F) {
	w := newWorld(f)
	k := newKey(elliptic.P256())
	o := claimOptions{signer: k, keyOnly: true, payload: statementAbout(artifactSubject()), logs: []string{"v1 dsse", "v1 intoto", "v1 hashedrekord"}}
	c := w.claim(o)
	v := must(verify.New(verify.Config{Roots: []*trust.Root{w.root}, Keys: []crypto.PublicKey{k.Public()}, RequireLog: true}))
	for _, e := range c.LogEntries {
		f.Add(e.Kind, e.Version, e.Body)
	}
	f.Fuzz(func(t *testing.T, kind, version string, body []byte) {
		c := *c
		// The log signs whatever is sent; the body must still be about this signature.
		c.LogEntries = []evidence.LogEntry{w.signV1(evidence.LogEntry{LogIndex: 1, IntegratedTime: w.now.Unix(), Kind: kind, Version: version, Body: body})}
		if ok, _ := v.Claim(&c, w.files()); ok != nil && !bytes.Contains(body, []byte(b64(c.Signature()))) && !bytes.Contains(body, []byte(b64([]byte(b64(c.Signature()))))) {
			t.Fatalf("believed %q", body)
		}
	})
}

// TestSeveralRoots: each root is believed for itself. A claim must be proven
// under one of them, and never by parts of two.
func TestSeveralRoots(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	c := w.claim(claimOptions{logs: []string{"v2"}, token: true})
	for name, roots := range map[string][]*trust.Root{"first": {w.root, other.root}, "last": {other.root, w.root}} {
		if ok, why := w.judge(c, verify.Config{Roots: roots}); ok == nil {
			t.Errorf("%s: %s", name, why)
		}
	}
	// The right CA with the wrong log, and the other way round.
	noLog := w.trustRoot(func(s *trust.RootSpec) { s.TLogs = nil })
	noCA := w.trustRoot(func(s *trust.RootSpec) { s.CAs = nil })
	noTSA := w.trustRoot(func(s *trust.RootSpec) { s.TSAs = nil })
	noCT := w.trustRoot(func(s *trust.RootSpec) { s.CTLogs = nil })
	if ok, _ := w.judge(c, verify.Config{Roots: []*trust.Root{noLog, noCA, noTSA, noCT, other.root}}); ok != nil {
		t.Error("proofs of several roots were added up")
	}
	// Why it is refused is what the root says that knows the log, in any order.
	broken := w.claim(claimOptions{logs: []string{"v2"}, token: true})
	broken.LogEntries[0].Proof.RootHash[0] ^= 1
	for _, roots := range [][]*trust.Root{{w.root, other.root}, {other.root, w.root}} {
		w.refused("broken proof", broken, verify.Config{Roots: roots}, verify.LogProofBad)
	}
}
