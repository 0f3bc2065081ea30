package verify_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// This file forges what cases of the conformance suite are about that are not
// among the vectors, named by them.

// dsse-statement-missing-type_fail, dsse-statement-unknown-type_fail
func TestStatementTypes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := forge.NewKey(elliptic.P256())
	good := string(forge.StatementAbout(forge.ArtifactSubject()))
	cfg := verify.Config{Roots: under(w.Root).Roots, Keys: []crypto.PublicKey{k.Public()}}
	for name, payload := range map[string]string{
		"missing": strings.Replace(good, `"_type":"https://in-toto.io/Statement/v1",`, "", 1),
		"unknown": strings.Replace(good, "Statement/v1", "Statement/v2", 1),
		"empty":   strings.Replace(good, "https://in-toto.io/Statement/v1", "", 1),
	} {
		c := w.Claim(forge.ClaimOptions{Signer: k, KeyOnly: true, Payload: []byte(payload), Logs: []string{"v2"}})
		w.refused(name, c, cfg, "MALFORMED the signed statement cannot be read")
	}
}

// sct-duplicate-intermediate-name: the SCT's issuer is the one that signed.
func TestTwoIntermediatesOfOneName(t *testing.T) {
	t.Parallel()
	w, decoy := withIntermediate(t, nil), withIntermediate(t, nil)
	for name, order := range map[string]func(s *trust.RootSpec, a trust.AuthoritySpec){
		"first": func(s *trust.RootSpec, a trust.AuthoritySpec) { s.CAs = []trust.AuthoritySpec{a, s.CAs[0]} },
		"last":  func(s *trust.RootSpec, a trust.AuthoritySpec) { s.CAs = append(s.CAs, a) },
		"between": func(s *trust.RootSpec, a trust.AuthoritySpec) {
			s.CAs[0].Chain = []*x509.Certificate{decoy.CA.Cert, w.CA.Cert, w.CARoot.Cert}
		},
	} {
		root := w.TrustRoot(func(s *trust.RootSpec) {
			order(s, trust.AuthoritySpec{URI: "https://decoy.test", Chain: []*x509.Certificate{decoy.CA.Cert, decoy.CARoot.Cert}, Start: s.CAs[0].Start})
		})
		for range 2 {
			if ok, why := w.judge(w.Claim(logAndTime(time.Time{})), under(root)); ok == nil {
				t.Errorf("decoy %s: %s", name, why)
			}
		}
	}
}

// rekor2-timestamp-wrong-tsa-validity-borrow_fail: another authority's window is
// no help.
func TestBorrowedTimestampWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.NewTSA(nil)
	root := w.TrustRoot(func(s *trust.RootSpec) {
		s.TSAs[0].End = w.Now.Add(-time.Minute)
		s.TSAs = append(s.TSAs, trust.AuthoritySpec{URI: "https://tsa2.test", Chain: []*x509.Certificate{other.Cert, w.TSARoot.Cert}, Start: s.TSAs[0].Start})
	})
	w.refused("borrowed", w.Claim(logAndTime(time.Time{})), under(root), verify.TimeUntrusted)
	// The suite's own way, an authority without certificates, is no trust root.
	text := bytes.Replace(w.TrustedRoot(nil), []byte(`"timestampAuthorities": [`), []byte(`"timestampAuthorities": [{"certChain":{"certificates":[]}},`), 1)
	if _, err := trust.ParseTrustedRoot(text); err == nil {
		t.Error("an authority without certificates was read")
	}
}

// cve-2022-36056-swapped-tlog-entry_fail: another good signature's entry.
func TestSwappedLogEntry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	statement := forge.StatementAbout(forge.ArtifactSubject())
	for _, o := range []forge.ClaimOptions{{Logs: []string{"v1 hashedrekord"}}, {Payload: statement, Logs: []string{"v1 dsse"}},
		{Payload: statement, Logs: []string{"v1 intoto"}}, {Logs: []string{"v2"}, Token: true}} {
		c, other := w.Claim(o), w.Claim(o)
		c.LogEntries = other.LogEntries
		w.refused(o.Logs[0], c, verify.Config{}, verify.LogMismatch)
	}
}

// The same with the suite's own signature and entry, which are in a bundle of
// cosign's own that nothing reads any more: the entry's promise holds, and it is
// about the other signature.
func TestSuitesSwappedLogEntry(t *testing.T) {
	t.Parallel()
	v := readVector(t, "cve-2022-36056-swapped-tlog-entry_fail")
	var w struct {
		Signature []byte `json:"base64Signature"`
		Cert      []byte `json:"cert"`
		Entry     struct {
			Promise []byte `json:"SignedEntryTimestamp"`
			Payload struct {
				Body           []byte
				IntegratedTime int64
				LogIndex       int64
				LogID          string
			}
		} `json:"rekorBundle"`
	}
	if err := json.Unmarshal(v.bundle, &w); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(w.Cert)
	p := w.Entry.Payload
	c := &evidence.Claim{Format: evidence.FormatBundle01, Certificates: [][]byte{block.Bytes}, Message: &evidence.MessageSignature{Signature: w.Signature},
		LogEntries: []evidence.LogEntry{{LogIndex: p.LogIndex, LogID: must(hex.DecodeString(p.LogID)), Kind: "hashedrekord", Version: "0.0.1",
			IntegratedTime: p.IntegratedTime, Promise: w.Entry.Promise, Body: p.Body}}}
	verifier := must(verify.New(under(must(trust.ParseTrustedRoot(v.root)))))
	ok, reasons := verifier.Claim(c, must(verify.HashFile(bytes.NewReader(v.artifact))))
	if ok != nil || reasons[0].Code != verify.LogMismatch {
		t.Error(reasons)
	}
}

// rekor2-dsse-mismatch-envelope_fail, rekor2-dsse-invalid-sig_fail, as entries are since dsse 0.0.2 is gone:
// the entry of another envelope of the same signer's, and another signer's signature.
func TestSwappedEnvelope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := forge.NewKey(elliptic.P256())
	good := forge.StatementAbout(forge.ArtifactSubject())
	other := bytes.Replace(good, []byte(`"predicate":{}`), []byte(`"predicate":{"a":1}`), 1)
	leaf := forge.Alice()
	one := w.Claim(forge.ClaimOptions{Signer: k, Leaf: &leaf, Payload: good, Logs: []string{"v2"}, Token: true})
	two := w.Claim(forge.ClaimOptions{Signer: k, Leaf: &leaf, Payload: other, Logs: []string{"v2"}, Token: true})
	strange := w.Claim(forge.ClaimOptions{Payload: good, Logs: []string{"v2"}, Token: true})
	swap := *one
	swap.Certificates, swap.Envelope, swap.Timestamps = two.Certificates, two.Envelope, two.Timestamps
	w.refused("mismatch-envelope", &swap, verify.Config{}, verify.LogMismatch)
	swap = *one
	swap.Envelope, swap.Timestamps = strange.Envelope, strange.Timestamps
	w.refused("invalid-sig", &swap, verify.Config{}, verify.SignatureBad)
}

// trust-root-tlog-validity-end-inclusive: the log's key is believed to the very
// second of the entry's time, and not a second less.
func TestLogWindowEndsInclusive(t *testing.T) {
	t.Parallel()
	v := readVector(t, "happy-path-v0.1")
	const start = `"start":"2021-01-12T11:53:27.000Z"`
	for end, want := range map[string]string{"2023-07-12T15:56:36Z": "", "2023-07-12T15:56:35Z": verify.LogProofBad} {
		ended := v
		text := strings.ReplaceAll(string(v.root), `": "`, `":"`)
		ended.root = []byte(strings.Replace(text, start, start+`,"end":"`+end+`"`, 1))
		if len(ended.root) == len(text) {
			t.Fatal("the trust root is another one")
		}
		ok, reasons := ended.judge(t, verify.Image(evidence.SHA256(v.artifact)))
		if (ok != nil) != (want == "") || ok == nil && reasons[0].Code != want {
			t.Errorf("%s: %v", end, reasons)
		}
	}
}

// rekor2-multiple-timestamps-one-outside-cert-validity_fail
func TestOneOfTwoTimestampsOutside(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, at := range [][2]time.Duration{{time.Second, -time.Minute}, {-time.Minute, time.Second}} {
		c := w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Tokens: []forge.TokenOptions{{At: w.Now.Add(at[0])}, {At: w.Now.Add(at[1])}}})
		w.refused(fmt.Sprint(at), c, verify.Config{}, verify.CertExpired)
	}
}

// message-digest-mismatch_fail
func TestMessageDigestMismatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true})
	c.Message.Digest = bytes.Clone(c.Message.Digest)
	c.Message.Digest[31] ^= 1
	w.refused("other digest", c, verify.Config{}, verify.WrongSubject)
	c.Message.DigestAlgorithm, c.Message.Digest = "SHA2_512", make([]byte, 64)
	v := must(verify.New(under(w.Root)))
	if ok, reasons := v.Claim(c, verify.Image(evidence.SHA256(forge.Artifact))); ok != nil || reasons[0].Code != verify.WrongSubject {
		t.Error("a digest that cannot be compared:", reasons)
	}
}

// TestLargeAttestation: an SBOM of 40 MiB, in a bundle, verifies.
func TestLargeAttestation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	component := `{"name":"component","version":"1.2.3"},`
	statement := `{"_type":"https://in-toto.io/Statement/v1","subject":[` + forge.ArtifactSubject() + `],"predicateType":"https://cyclonedx.org/bom","predicate":{"components":[` +
		strings.Repeat(component, 40<<20/len(component)) + `{}]}}`
	data := forge.Bundle(w.Claim(forge.ClaimOptions{Payload: []byte(statement), Logs: []string{"v2"}, Token: true}), "0.3")
	c, err := bundle.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	ok, why := w.judge(c, verify.Config{})
	if ok == nil {
		t.Fatal(why)
	}
	if len(ok.Statement().Predicate) < 40<<20-1000 {
		t.Errorf("a predicate of %d bytes", len(ok.Statement().Predicate))
	}
}

// FuzzSCTs: no list of SCTs but one that the log made is believed. The list is
// not part of what the CA's signature is checked over here: the CA signs it anew.
func FuzzSCTs(f *testing.F) {
	w := newWorld(f)
	var good []byte
	leaf := forge.Alice()
	leaf.SCT = func(tbs []byte) []byte { good = w.SCT(tbs, nil); return forge.SCTExtension(good) }
	w.Claim(forge.ClaimOptions{Leaf: &leaf})
	f.Add(forge.SCTExtension(good))
	f.Add(forge.SCTExtension())
	f.Add(forge.SCTExtension(good, good[1:]))
	v := must(verify.New(under(w.Root)))
	f.Fuzz(func(t *testing.T, value []byte) {
		leaf := forge.Alice()
		leaf.SCT = func([]byte) []byte { return append([]byte{}, value...) }
		// The certificate is new each time, so no SCT can be over it.
		if ok, _ := v.Claim(w.Claim(forge.ClaimOptions{Leaf: &leaf, Logs: []string{"v2"}, Token: true}), files()); ok != nil {
			t.Fatalf("believed %x", value)
		}
	})
}
