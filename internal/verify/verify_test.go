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
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// TestAccepts: every kind of claim that must be believed is, and says what was proven.
func TestAccepts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	p384 := forge.NewKey(elliptic.P384())
	statement := forge.StatementAbout(forge.ArtifactSubject())
	for name, o := range map[string]forge.ClaimOptions{
		"v2 message":               {Logs: []string{"v2"}, Token: true},
		"v2 statement":             {Payload: statement, Logs: []string{"v2"}, Token: true},
		"v1 hashedrekord":          {Logs: []string{"v1 hashedrekord"}},
		"v1 hashedrekord of DSSE":  {Payload: statement, Logs: []string{"v1 hashedrekord"}},
		"v1 dsse":                  {Payload: statement, Logs: []string{"v1 dsse"}},
		"v1 intoto":                {Payload: statement, Logs: []string{"v1 intoto"}},
		"v1 with timestamp":        {Logs: []string{"v1 hashedrekord"}, Token: true},
		"both logs":                {Logs: []string{"v1 hashedrekord", "v2"}, Token: true},
		"P-384":                    {Signer: p384, Hash: crypto.SHA384, Logs: []string{"v2"}, Token: true},
		"P-384 with SHA-256":       {Signer: p384, Logs: []string{"v1 hashedrekord"}},
		"RSA":                      {Signer: rsaKey, Logs: []string{"v2"}, Token: true},
		"Ed25519ph":                {Signer: ed, Hash: crypto.SHA512, Logs: []string{"v2"}, Token: true},
		"Ed25519 statement":        {Signer: ed, Hash: 999, Payload: statement, Logs: []string{"v1 dsse"}},
		"token names the key":      {Logs: []string{"v2"}, Tokens: []forge.TokenOptions{{Version: 3}}},
		"token with its signer":    {Logs: []string{"v2"}, Tokens: []forge.TokenOptions{{Embed: [][]byte{w.TSA.Cert.Raw}}}},
		"token, empty certificate": {Logs: []string{"v2"}, Tokens: []forge.TokenOptions{{Embed: [][]byte{}}}},
		"token with a fraction":    {Logs: []string{"v2"}, Tokens: []forge.TokenOptions{{Fraction: ".123"}}},
		"two tokens":               {Logs: []string{"v2"}, Tokens: []forge.TokenOptions{{}, {At: w.Now.Add(2 * time.Second)}}},
		"stranger's token besides": {Logs: []string{"v2"}, Tokens: []forge.TokenOptions{{}, {By: newWorld(t).TSA}}},
		"URI":                      {Leaf: &forge.LeafOptions{URI: "https://ci.test/x@refs/heads/main", IssuerV2: "https://issuer.test"}, Logs: []string{"v2"}, Token: true},
		"OtherName":                {Leaf: &forge.LeafOptions{SAN: otherName("alice"), IssuerV2: "https://issuer.test"}, Logs: []string{"v2"}, Token: true},
		"old issuer only":          {Leaf: &forge.LeafOptions{Email: "alice@example.com", IssuerV1: "https://issuer.test"}, Logs: []string{"v2"}, Token: true},
		"SCT with extensions": {Leaf: &forge.LeafOptions{Email: "a@b", IssuerV1: "https://issuer.test",
			SCT: func(tbs []byte) []byte { return forge.SCTExtension(w.SCT(tbs, []byte{1, 2, 3})) }}, Logs: []string{"v2"}, Token: true},
	} {
		ok, why := w.judge(w.Claim(o), verify.Config{})
		if ok == nil {
			t.Errorf("%s: %s", name, why)
			continue
		}
		if len(ok.Times()) == 0 || ok.Signer().Issuer != "https://issuer.test" || ok.Signer().Identity == "" || ok.Certificate() == nil || len(ok.LogEntries()) != len(o.Logs) {
			t.Errorf("%s: %+v", name, ok)
		}
		if (ok.Statement() != nil) != (o.Payload != nil) || o.Payload != nil && ok.Annotations()["env"] != "prod" {
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
	value := forge.DER(2, 0, must(asn1.MarshalWithParams(text, "utf8")))
	return forge.DER(0, 16, forge.DER(2, 0, must(asn1.Marshal(forge.FulcioOID(7))), value))
}

// TestFact: what policies are given.
func TestFact(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text := func(s string) []byte { return must(asn1.MarshalWithParams(s, "utf8")) }
	o := forge.ClaimOptions{Payload: forge.StatementAbout(forge.ArtifactSubject()), Logs: []string{"v2"}, Token: true,
		Leaf: &forge.LeafOptions{URI: "https://ci.test/x", IssuerV2: "https://issuer.test", Extra: []pkix.Extension{
			{Id: forge.FulcioOID(5), Value: []byte("org/repo")}, {Id: forge.FulcioOID(12), Value: text("https://github.com/org/repo")},
			{Id: forge.FulcioOID(24), Value: text("sub")}, {Id: forge.FulcioOID(99), Value: []byte{1}}}}}
	ok, why := w.judge(w.Claim(o), verify.Config{})
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
	k, other := forge.NewKey(elliptic.P256()), forge.NewKey(elliptic.P256())
	trusted := verify.Config{Keys: []crypto.PublicKey{other.Public(), k.Public()}}
	alone := w.Claim(forge.ClaimOptions{Signer: k, KeyOnly: true, Payload: forge.StatementAbout(forge.ArtifactSubject())})
	logged := w.Claim(forge.ClaimOptions{Signer: k, KeyOnly: true, Logs: []string{"v2", "v1 hashedrekord"}, Token: true})
	if ok, why := w.judge(alone, trusted); ok == nil || ok.Certificate() != nil || len(ok.Times()) != 0 || ok.Signer().Key == "" {
		t.Error(why)
	}
	if ok, why := w.judge(logged, trusted); ok == nil || len(ok.LogEntries()) != 2 || len(ok.Times()) != 2 {
		t.Error(why)
	}
	noRoot := must(verify.New(verify.Config{Keys: trusted.Keys}))
	ok, reasons := noRoot.Claim(logged, files())
	if ok == nil || len(ok.LogEntries()) != 0 || len(ok.Times()) != 0 {
		t.Errorf("without a trust root nothing is said about Logs: %+v %v", ok, reasons)
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
		"time wanted, v1": {w.Claim(forge.ClaimOptions{Signer: k, KeyOnly: true, Logs: []string{"v1 hashedrekord"}}), verify.Config{Keys: trusted.Keys, RequireTimestamp: true}, verify.TimeUntrusted},
		"unknown log":     {logged, verify.Config{Keys: trusted.Keys, Roots: []*trust.Root{newWorld(t).Root}}, verify.TimeUntrusted},
		"certificate":     {w.Claim(forge.ClaimOptions{Signer: k, Logs: []string{"v2"}, Token: true}), verify.Config{Keys: trusted.Keys, Roots: []*trust.Root{&trust.Root{}}}, verify.TimeUntrusted},
	} {
		if ok, why := w.judge(tc.claim, tc.cfg); ok != nil || !strings.HasPrefix(why, tc.code+" ") {
			t.Errorf("%s: %q, want %s", name, why, tc.code)
		}
	}
	noKeys := must(verify.New(verify.Config{Keys: trusted.Keys}))
	if _, reasons := noKeys.Claim(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), files()); reasons == nil || reasons[0].Code != verify.CertUntrusted {
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
	statement := forge.StatementAbout(forge.ArtifactSubject())
	v2 := func(change func(*forge.ClaimOptions)) *evidence.Claim {
		o := forge.ClaimOptions{Logs: []string{"v2"}, Token: true}
		change(&o)
		return w.Claim(o)
	}
	leaf := func(l forge.LeafOptions) *evidence.Claim {
		if l.IssuerV1 == "" && l.IssuerV2 == "" {
			l.IssuerV2 = "https://issuer.test"
		}
		if l.Email == "" && l.URI == "" && l.SAN == nil {
			l.Email = "alice@example.com"
		}
		return v2(func(o *forge.ClaimOptions) { o.Leaf = &l })
	}
	edit := func(c *evidence.Claim, change func(*evidence.Claim)) *evidence.Claim { change(c); return c }
	names := func(tags ...byte) []byte {
		var all [][]byte
		for _, tag := range tags {
			all = append(all, must(asn1.Marshal(asn1.RawValue{Class: 2, Tag: int(tag), Bytes: []byte("alice@example.com")})))
		}
		return forge.DER(0, 16, all...)
	}
	for name, tc := range map[string]struct {
		claim *evidence.Claim
		cfg   verify.Config
		want  string
	}{
		// Who signed.
		"two SANs":          {leaf(forge.LeafOptions{SAN: names(1, 6)}), verify.Config{}, "CERT_IDENTITY the certificate names more than one"},
		"same SAN twice":    {leaf(forge.LeafOptions{SAN: names(1, 1)}), verify.Config{}, "CERT_IDENTITY the certificate names more than one"},
		"DNS name":          {leaf(forge.LeafOptions{SAN: names(2)}), verify.Config{}, "CERT_IDENTITY"},
		"no SAN":            {leaf(forge.LeafOptions{SAN: names()}), verify.Config{}, "CERT_IDENTITY"},
		"strange OtherName": {leaf(forge.LeafOptions{SAN: forge.DER(0, 16, forge.DER(2, 0, must(asn1.Marshal(forge.FulcioOID(8))), forge.DER(2, 0, must(asn1.MarshalWithParams("alice", "utf8")))))}), verify.Config{}, "CERT_IDENTITY"},
		"issuers disagree":  {leaf(forge.LeafOptions{IssuerV1: "https://issuer.test", IssuerV2: "https://issuer.test/"}), verify.Config{}, "CERT_IDENTITY the certificate names two issuers"},
		"no issuer":         {v2(func(o *forge.ClaimOptions) { o.Leaf = &forge.LeafOptions{Email: "alice@example.com"} }), verify.Config{}, "CERT_IDENTITY"},
		"issuer no text":    {leaf(forge.LeafOptions{Extra: []pkix.Extension{{Id: forge.FulcioOID(1), Value: []byte("https://\x1b[2J")}}}), verify.Config{}, "CERT_IDENTITY"},
		"control character": {leaf(forge.LeafOptions{SAN: otherName("al\nice")}), verify.Config{}, "CERT_IDENTITY"},

		// The certificate.
		"other CA":            {v2(func(o *forge.ClaimOptions) {}), under(w.TrustRoot(func(s *trust.RootSpec) { s.CAs = []trust.AuthoritySpec{{Chain: []*x509.Certificate{stranger.CA.Cert}}} })), "CERT_UNTRUSTED"},
		"CA no longer":        {v2(func(o *forge.ClaimOptions) {}), under(w.TrustRoot(func(s *trust.RootSpec) { s.CAs[0].End = w.Now.Add(-time.Hour) })), "CERT_UNTRUSTED the trust root believes"},
		"server certificate":  {leaf(forge.LeafOptions{Usage: x509.ExtKeyUsageServerAuth}), verify.Config{}, "CERT_UNTRUSTED the certificate is not for signing code"},
		"any usage":           {leaf(forge.LeafOptions{Change: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }}), verify.Config{}, "CERT_UNTRUSTED the certificate is not for signing code"},
		"no usage":            {leaf(forge.LeafOptions{Change: func(c *x509.Certificate) { c.ExtKeyUsage = nil }}), verify.Config{}, "CERT_UNTRUSTED the certificate is not for signing code"},
		"a CA signs":          {leaf(forge.LeafOptions{Change: func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }}), verify.Config{}, "CERT_UNTRUSTED the certificate is a CA"},
		"key encipherment":    {leaf(forge.LeafOptions{Change: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }}), verify.Config{}, "CERT_UNTRUSTED the certificate's key"},
		"critical extension":  {leaf(forge.LeafOptions{Extra: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}}), verify.Config{}, "CERT_UNTRUSTED"},
		"before its time":     {v2(func(o *forge.ClaimOptions) { o.TokenAt = w.Now.Add(-time.Second) }), verify.Config{}, "CERT_EXPIRED"},
		"after its time":      {v2(func(o *forge.ClaimOptions) { o.TokenAt = w.Now.Add(10*time.Minute + time.Second) }), verify.Config{Now: func() time.Time { return w.Now.Add(time.Hour) }}, "CERT_EXPIRED"},
		"one of two times":    {v2(func(o *forge.ClaimOptions) { o.Tokens = []forge.TokenOptions{{At: w.Now.Add(-time.Minute)}} }), verify.Config{}, "CERT_EXPIRED"},
		"from the future":     {v2(func(o *forge.ClaimOptions) {}), verify.Config{Now: func() time.Time { return w.Now.Add(-time.Hour) }}, "TIME_UNTRUSTED the signature is of"},
		"root in the chain":   {edit(v2(func(o *forge.ClaimOptions) {}), func(c *evidence.Claim) { c.Certificates = append(c.Certificates, w.CA.Cert.Raw) }), verify.Config{}, "MALFORMED"},
		"no certificate":      {edit(v2(func(o *forge.ClaimOptions) {}), func(c *evidence.Claim) { c.Certificates[0] = []byte{1} }), verify.Config{}, "MALFORMED"},
		"trailing byte after": {edit(v2(func(o *forge.ClaimOptions) {}), func(c *evidence.Claim) { c.Certificates[0] = append(bytes.Clone(c.Certificates[0]), 0) }), verify.Config{}, "MALFORMED"},

		// Certificate transparency.
		"no SCT":            {leaf(forge.LeafOptions{SCT: func([]byte) []byte { return nil }}), verify.Config{}, "SCT_BAD the certificate carries no SCT"},
		"stranger's SCT":    {leaf(forge.LeafOptions{SCT: func(tbs []byte) []byte { return forge.SCTExtension(stranger.SCT(tbs, nil)) }}), verify.Config{}, "SCT_BAD no SCT"},
		"SCT of another":    {leaf(forge.LeafOptions{SCT: func(tbs []byte) []byte { return forge.SCTExtension(w.SCT(tbs[1:], nil)) }}), verify.Config{}, "SCT_BAD the SCT by"},
		"SCT of version 2":  {leaf(forge.LeafOptions{SCT: func(tbs []byte) []byte { s := w.SCT(tbs, nil); s[0] = 1; return forge.SCTExtension(s) }}), verify.Config{}, "SCT_BAD"},
		"SCT as RSA":        {leaf(forge.LeafOptions{SCT: func(tbs []byte) []byte { s := w.SCT(tbs, nil); s[44] = 1; return forge.SCTExtension(s) }}), verify.Config{}, "SCT_BAD"},
		"SCT with SHA-1":    {leaf(forge.LeafOptions{SCT: func(tbs []byte) []byte { s := w.SCT(tbs, nil); s[43] = 2; return forge.SCTExtension(s) }}), verify.Config{}, "SCT_BAD"},
		"SCT with a tail":   {leaf(forge.LeafOptions{SCT: func(tbs []byte) []byte { return forge.SCTExtension(append(w.SCT(tbs, nil), 0)) }}), verify.Config{}, "SCT_BAD"},
		"empty list":        {leaf(forge.LeafOptions{SCT: func(tbs []byte) []byte { return forge.SCTExtension() }}), verify.Config{}, "SCT_BAD"},
		"CT log no longer":  {v2(func(o *forge.ClaimOptions) {}), under(w.TrustRoot(func(s *trust.RootSpec) { s.CTLogs[0].End = w.Now.Add(-time.Hour) })), "SCT_BAD the SCT is of"},
		"CT log not at all": {v2(func(o *forge.ClaimOptions) {}), under(w.TrustRoot(func(s *trust.RootSpec) { s.CTLogs = nil })), "SCT_BAD"},

		// What was signed.
		"wrong artifact":       {edit(v2(func(o *forge.ClaimOptions) {}), func(c *evidence.Claim) { c.Message.Digest, c.Message.DigestAlgorithm = make([]byte, 32), "SHA2_256" }), verify.Config{}, "WRONG_SUBJECT"},
		"digest of SHA-1":      {edit(v2(func(o *forge.ClaimOptions) {}), func(c *evidence.Claim) { c.Message.Digest, c.Message.DigestAlgorithm = make([]byte, 20), "SHA1" }), verify.Config{}, "MALFORMED"},
		"signature of another": {edit(v2(func(o *forge.ClaimOptions) {}), func(c *evidence.Claim) { c.Message.Signature = forge.SignECDSA(w.V1, forge.Artifact) }), verify.Config{}, "SIGNATURE_BAD"},
		"payload type":         {edit(v2(func(o *forge.ClaimOptions) { o.Payload = statement }), func(c *evidence.Claim) { c.Envelope.PayloadType = "text/plain" }), verify.Config{}, "SIGNATURE_BAD"},
		"another payload":      {edit(v2(func(o *forge.ClaimOptions) { o.Payload = statement }), func(c *evidence.Claim) { c.Envelope.Payload = forge.StatementAbout(`{"digest":{"sha256":"00"}}`) }), verify.Config{}, "SIGNATURE_BAD"},
		"two signatures": {edit(v2(func(o *forge.ClaimOptions) { o.Payload = statement }), func(c *evidence.Claim) {
			c.Envelope.Signatures = append(c.Envelope.Signatures, c.Envelope.Signatures[0])
		}), verify.Config{}, "MALFORMED"},
		"about another": {v2(func(o *forge.ClaimOptions) {
			o.Payload = forge.StatementAbout(`{"digest":{"sha256":"` + evidence.SHA256(nil).Hex() + `"}}`)
		}), verify.Config{}, "WRONG_SUBJECT the statement is about sha256:e3b0c442"},
		"upper-case digest": {v2(func(o *forge.ClaimOptions) {
			o.Payload = forge.StatementAbout(`{"digest":{"sha256":"` + strings.ToUpper(evidence.SHA256(forge.Artifact).Hex()) + `"}}`)
		}), verify.Config{}, "WRONG_SUBJECT"},
		"only SHA-1": {v2(func(o *forge.ClaimOptions) { o.Payload = forge.StatementAbout(`{"digest":{"sha1":"00"}}`) }), verify.Config{}, "WRONG_SUBJECT"},
		"digests disagree": {v2(func(o *forge.ClaimOptions) {
			o.Payload = forge.StatementAbout(`{"digest":{"sha256":"` + evidence.SHA256(forge.Artifact).Hex() + `","sha512":"00"}}`)
		}), verify.Config{}, "MALFORMED a subject"},
		"annotated twice": {v2(func(o *forge.ClaimOptions) {
			o.Payload = forge.StatementAbout(forge.ArtifactSubject() + "," + strings.Replace(forge.ArtifactSubject(), "prod", "dev", 1))
		}), verify.Config{}, "MALFORMED the statement annotates"},
		"statement duplicates": {v2(func(o *forge.ClaimOptions) {
			o.Payload = bytes.Replace(statement, []byte(`"predicate":{}`), []byte(`"predicate":{},"subject":[]`), 1)
		}), verify.Config{}, "MALFORMED the signed statement"},
		"statement v2": {v2(func(o *forge.ClaimOptions) {
			o.Payload = bytes.Replace(statement, []byte("Statement/v1"), []byte("Statement/v2"), 1)
		}), verify.Config{}, "MALFORMED the signed statement"},
		"nothing": {&evidence.Claim{}, verify.Config{}, "MALFORMED"},

		// Logs and times.
		"no log":           {w.Claim(forge.ClaimOptions{Token: true}), verify.Config{}, "LOG_MISSING"},
		"no time":          {w.Claim(forge.ClaimOptions{Logs: []string{"v2"}}), verify.Config{}, "TIME_UNTRUSTED no trusted time"},
		"v1 without SET":   {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}), func(c *evidence.Claim) { c.LogEntries[0].Promise = nil }), verify.Config{}, "TIME_UNTRUSTED no trusted time"},
		"timestamp wants":  {w.Claim(forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}), verify.Config{RequireTimestamp: true}, "TIME_UNTRUSTED the signature has no timestamp"},
		"stranger's log":   {w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), under(w.TrustRoot(func(s *trust.RootSpec) { s.TLogs = s.TLogs[:1] })), "LOG_UNTRUSTED"},
		"log no longer":    {w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), under(w.TrustRoot(func(s *trust.RootSpec) { s.TLogs[1].End = w.Now.Add(-time.Hour) })), "LOG_PROOF_BAD the signature is of"},
		"v1 no longer":     {w.Claim(forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}), under(w.TrustRoot(func(s *trust.RootSpec) { s.TLogs[0].End = w.Now.Add(-time.Hour) })), "LOG_PROOF_BAD the log entry is of"},
		"same entry twice": {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), func(c *evidence.Claim) { c.LogEntries = append(c.LogEntries, c.LogEntries[0]) }), verify.Config{}, "MALFORMED the claim carries the same log entry"},
		"same token twice": {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), func(c *evidence.Claim) { c.Timestamps = append(c.Timestamps, c.Timestamps[0]) }), verify.Config{}, "MALFORMED the claim carries the same timestamp"},
		"33 tokens":        {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), func(c *evidence.Claim) { c.Timestamps = make([][]byte, 33) }), verify.Config{}, "MALFORMED"},
		"33 entries":       {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), func(c *evidence.Claim) { c.LogEntries = make([]evidence.LogEntry, 33) }), verify.Config{}, "MALFORMED"},
		"unsigned time": {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}, Token: true}), func(c *evidence.Claim) {
			c.LogEntries[0].Promise = nil
			c.LogEntries[0].IntegratedTime = w.Now.Unix() + 3600
		}), verify.Config{}, "CERT_EXPIRED the signing certificate was valid"},
		"v2 with a time": {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), func(c *evidence.Claim) { c.LogEntries[0].IntegratedTime = w.Now.Unix() }), verify.Config{}, "MALFORMED"},
		"v2 other index": {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), func(c *evidence.Claim) { c.LogEntries[0].LogIndex = 0 }), verify.Config{}, "LOG_PROOF_BAD"},
		"v2 other origin": {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), func(c *evidence.Claim) {
			p := c.LogEntries[0].Proof
			p.Checkpoint = w.NoteV2("log3.test", 3, p.RootHash)
		}), verify.Config{}, "LOG_PROOF_BAD the checkpoint is of log"},
		"v2 other tree": {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), func(c *evidence.Claim) {
			p := c.LogEntries[0].Proof
			p.Checkpoint = w.NoteV2("log2.test", 4, p.RootHash)
		}), verify.Config{}, "LOG_PROOF_BAD the log's checkpoint is of another tree"},
		"v2 short proof":     {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), func(c *evidence.Claim) { p := c.LogEntries[0].Proof; p.Hashes = p.Hashes[:1] }), verify.Config{}, "LOG_PROOF_BAD the inclusion proof"},
		"v2 entry of others": {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), func(c *evidence.Claim) { c.LogEntries = w.Claim(forge.ClaimOptions{Logs: []string{"v2"}}).LogEntries }), verify.Config{}, "LOG_MISMATCH"},
		"v1 entry of others": {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}), func(c *evidence.Claim) {
			c.LogEntries = w.Claim(forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}).LogEntries
		}), verify.Config{}, "LOG_MISMATCH"},
		"v1 as another kind": {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}), func(c *evidence.Claim) { c.LogEntries[0].Kind = "dsse" }), verify.Config{}, "MALFORMED the log entry says"},
		"v1 unknown kind": {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}), func(c *evidence.Claim) {
			e := &c.LogEntries[0]
			e.Kind, e.Body, e.Proof = "rfc3161", bytes.Replace(e.Body, []byte("hashedrekord"), []byte("rfc3161"), 1), nil
			*e = w.SignV1(*e)
		}), verify.Config{}, "MALFORMED the log entry is of kind"},
		"v1 body with more": {edit(w.Claim(forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}), func(c *evidence.Claim) {
			e := &c.LogEntries[0]
			e.Body, e.Proof = bytes.Replace(e.Body, []byte(`"spec":{`), []byte(`"spec":{"Data":{},`), 1), nil
			*e = w.SignV1(*e)
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
	extra := forge.Attribute(asn1.ObjectIdentifier{1, 2, 3}, []byte{5, 0})
	withTSA := func(change func(*x509.Certificate)) (*forge.Authority, *trust.Root) {
		tsa := w.NewTSA(change)
		return tsa, w.TrustRoot(func(s *trust.RootSpec) { s.TSAs[0].Chain[0] = tsa.Cert })
	}
	good := map[string]forge.TokenOptions{
		"another signed attribute": {Attrs: func(a [][]byte) [][]byte { return append(a, extra) }},
		"ordering":                 {Info: func(i *forge.TSTInfo) { i.Ordering = true }},
		"no nonce":                 {Info: func(i *forge.TSTInfo) { i.Nonce = nil }},
	}
	for name, o := range good {
		if ok, why := w.judge(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Tokens: []forge.TokenOptions{o}}), verify.Config{}); ok == nil {
			t.Errorf("%s: %s", name, why)
		}
	}
	bad := map[string]forge.TokenOptions{
		"about another":       {Imprint: make([]byte, 32)},
		"not granted":         {Status: 2},
		"granted with mods":   {Status: 1},
		"signed by another":   {Sign: func(der []byte) []byte { return forge.SignECDSA(w.V1, der) }},
		"stranger":            {By: newWorld(t).TSA},
		"stranger brings his": {By: newWorld(t).TSA, Embed: [][]byte{w.TSA.Cert.Raw}},
		"brings another":      {Embed: [][]byte{w.TSARoot.Cert.Raw}},
		"key named, stranger": {By: w.NewTSA(nil), Version: 3},
		"no message digest":   {Attrs: func(a [][]byte) [][]byte { return [][]byte{a[0], a[2]} }},
		"no content type":     {Attrs: func(a [][]byte) [][]byte { return a[1:] }},
		"no certificate id":   {Attrs: func(a [][]byte) [][]byte { return a[:2] }},
		"attribute twice":     {Attrs: func(a [][]byte) [][]byte { return append(a, a[0]) }},
		"digest of another": {Attrs: func(a [][]byte) [][]byte {
			a[1] = forge.Attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}, must(asn1.Marshal(make([]byte, 32))))
			return a
		}},
		"id of another": {Attrs: func(a [][]byte) [][]byte {
			a[2] = forge.Attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}, forge.DER(0, 16, forge.DER(0, 16, forge.DER(0, 16, must(asn1.Marshal(make([]byte, 32)))))))
			return a
		}},
		"data as content": {Attrs: func(a [][]byte) [][]byte {
			a[0] = forge.Attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}, must(asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1})))
			return a
		}},
		"unsigned attributes":   {Tail: forge.DER(2, 1, extra)},
		"version 2":             {Info: func(i *forge.TSTInfo) { i.Version = 2 }},
		"imprint of SHA-1":      {Info: func(i *forge.TSTInfo) { i.Imprint.Alg.Algorithm = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26} }},
		"short imprint":         {Info: func(i *forge.TSTInfo) { i.Imprint.Sum = i.Imprint.Sum[:20] }},
		"extension":             {Info: func(i *forge.TSTInfo) { i.Ext = []asn1.RawValue{{Tag: 5}} }},
		"fraction ends in zero": {Fraction: ".10"},
		"empty fraction":        {Fraction: "."},
		"time with a zone":      {Info: func(i *forge.TSTInfo) { i.GenTime.Bytes = []byte("20260101000000+0000") }},
		"no seconds":            {Info: func(i *forge.TSTInfo) { i.GenTime.Bytes = []byte("202601010000Z") }},
	}
	for name, o := range bad {
		if ok, why := w.judge(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Tokens: []forge.TokenOptions{o}}), verify.Config{}); ok != nil || !strings.HasPrefix(why, verify.TimeUntrusted) {
			t.Errorf("%s: %q", name, why)
		}
		// A good token does not make up for a broken one, but one that no
		// trusted authority's certificate made is a stranger's.
		if o.By != nil || name == "brings another" || name == "id of another" {
			continue
		}
		if ok, why := w.judge(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Tokens: []forge.TokenOptions{{}, o}}), verify.Config{}); ok != nil {
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
		"expired":      func(c *x509.Certificate) { c.NotAfter = w.Now.Add(-time.Hour) },
		"not yet":      func(c *x509.Certificate) { c.NotBefore = w.Now.Add(time.Hour) },
		"key exchange": func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment },
	} {
		tsa, root := withTSA(change)
		c := w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Tokens: []forge.TokenOptions{{By: tsa}}})
		if ok, why := w.judge(c, under(root)); ok != nil || !strings.HasPrefix(why, verify.TimeUntrusted) {
			t.Errorf("authority with %s: %q", name, why)
		}
	}
	// An authority without a listed leaf takes the token's, if it leads to the anchor.
	anchored := w.TrustRoot(func(s *trust.RootSpec) { s.TSAs[0].Chain = s.TSAs[0].Chain[1:] })
	brings := forge.TokenOptions{Embed: [][]byte{w.TSA.Cert.Raw}}
	if ok, why := w.judge(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Tokens: []forge.TokenOptions{brings}}), under(anchored)); ok == nil {
		t.Error("leaf from the token:", why)
	}
	if ok, _ := w.judge(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), under(anchored)); ok != nil {
		t.Error("a token without its signer was believed")
	}
	other := newWorld(t)
	brings = forge.TokenOptions{By: other.TSA, Embed: [][]byte{other.TSA.Cert.Raw, other.TSARoot.Cert.Raw}}
	if ok, _ := w.judge(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Tokens: []forge.TokenOptions{brings}}), under(anchored)); ok != nil {
		t.Error("a token that brings its own root was believed")
	}
	// An authority that lists nothing but its leaf is that leaf.
	lone := w.TrustRoot(func(s *trust.RootSpec) { s.TSAs[0].Chain = s.TSAs[0].Chain[:1] })
	if ok, why := w.judge(w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), under(lone)); ok == nil {
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
	k := forge.NewKey(elliptic.P256())
	statement := func() []byte { return forge.StatementAbout(forge.ArtifactSubject()) } // each flips bits of its own
	mine := must(verify.New(verify.Config{Roots: []*trust.Root{w.Root}, Keys: []crypto.PublicKey{k.Public()}}))
	var all []flipped
	for name, o := range map[string]forge.ClaimOptions{
		"v2":        {Logs: []string{"v2"}, Token: true},
		"v1":        {Payload: statement(), Logs: []string{"v1 dsse"}, Tokens: []forge.TokenOptions{{Embed: [][]byte{w.TSA.Cert.Raw}}}},
		"key in v2": {Signer: k, KeyOnly: true, Payload: statement(), Logs: []string{"v2"}, Token: true},
		"key in v1": {Signer: k, KeyOnly: true, Payload: statement(), Logs: []string{"v1 intoto"}},
	} {
		all = append(all, flipped{name, w.Claim(o), mine, files()})
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
	small := must(verify.HashFile(bytes.NewReader(forge.Artifact)))
	if len(small.Digests) != 3 || small.Digests[0] != evidence.SHA256(forge.Artifact) || !bytes.Equal(small.Content, forge.Artifact) {
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
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	c := &evidence.Claim{Message: &evidence.MessageSignature{Signature: ed25519.Sign(private, forge.Artifact)}}
	v := must(verify.New(verify.Config{Keys: []crypto.PublicKey{public}}))
	if ok, reasons := v.Claim(c, files()); ok == nil {
		t.Error(reasons)
	}
	if ok, reasons := v.Claim(c, verify.Image(evidence.SHA256(forge.Artifact))); ok != nil || reasons[0].Code != verify.WrongSubject {
		t.Error("by digest:", reasons)
	}
	other := files()
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
	f.Add(w.Token(c.Signature(), forge.TokenOptions{Version: 3, Embed: [][]byte{w.TSA.Cert.Raw}, Fraction: ".5"}))
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
	k := forge.NewKey(elliptic.P256())
	o := forge.ClaimOptions{Signer: k, KeyOnly: true, Payload: forge.StatementAbout(forge.ArtifactSubject()), Logs: []string{"v1 dsse", "v1 intoto", "v1 hashedrekord"}}
	c := w.Claim(o)
	v := must(verify.New(verify.Config{Roots: []*trust.Root{w.Root}, Keys: []crypto.PublicKey{k.Public()}, RequireLog: true}))
	for _, e := range c.LogEntries {
		f.Add(e.Kind, e.Version, e.Body)
	}
	f.Fuzz(func(t *testing.T, kind, version string, body []byte) {
		c := *c
		// The log signs whatever is sent; the body must still be about this signature.
		c.LogEntries = []evidence.LogEntry{w.SignV1(evidence.LogEntry{LogIndex: 1, IntegratedTime: w.Now.Unix(), Kind: kind, Version: version, Body: body})}
		if ok, _ := v.Claim(&c, files()); ok != nil && !bytes.Contains(body, []byte(forge.B64(c.Signature()))) && !bytes.Contains(body, []byte(forge.B64([]byte(forge.B64(c.Signature()))))) {
			t.Fatalf("believed %q", body)
		}
	})
}

// TestSeveralRoots: each root is believed for itself. A claim must be proven
// under one of them, and never by parts of two.
func TestSeveralRoots(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	c := w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true})
	for name, roots := range map[string][]*trust.Root{"first": {w.Root, other.Root}, "last": {other.Root, w.Root}} {
		if ok, why := w.judge(c, verify.Config{Roots: roots}); ok == nil {
			t.Errorf("%s: %s", name, why)
		}
	}
	// The right CA with the wrong log, and the other way round.
	noLog := w.TrustRoot(func(s *trust.RootSpec) { s.TLogs = nil })
	noCA := w.TrustRoot(func(s *trust.RootSpec) { s.CAs = nil })
	noTSA := w.TrustRoot(func(s *trust.RootSpec) { s.TSAs = nil })
	noCT := w.TrustRoot(func(s *trust.RootSpec) { s.CTLogs = nil })
	if ok, _ := w.judge(c, verify.Config{Roots: []*trust.Root{noLog, noCA, noTSA, noCT, other.Root}}); ok != nil {
		t.Error("proofs of several roots were added up")
	}
	// Why it is refused is what the root says that knows the log, in any order.
	broken := w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true})
	broken.LogEntries[0].Proof.RootHash[0] ^= 1
	for _, roots := range [][]*trust.Root{{w.Root, other.Root}, {other.Root, w.Root}} {
		w.refused("broken proof", broken, verify.Config{Roots: roots}, verify.LogProofBad)
	}
}
