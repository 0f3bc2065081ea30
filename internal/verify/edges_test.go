package verify_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// refused fails the test unless the claim is refused for the wanted reason.
func (w *world) refused(name string, c *evidence.Claim, cfg verify.Config, want string) {
	w.t.Helper()
	if ok, why := w.judge(c, cfg); ok != nil || !strings.HasPrefix(why, want) {
		w.t.Errorf("%s: %q, want %q", name, why, want)
	}
}

// The log's entry names a certificate: another one over the same key, of another
// identity, has not been logged.
func TestLogEntryOfAnotherCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := forge.LeafOptions{Email: "bob@example.com", IssuerV2: "https://issuer.test"}
	for _, kind := range []string{"v1 hashedrekord", "v1 dsse", "v1 intoto", "v2"} {
		k := forge.NewKey(elliptic.P256())
		o := forge.ClaimOptions{Signer: k, Logs: []string{kind}, Token: true}
		if kind != "v1 hashedrekord" {
			o.Payload = forge.StatementAbout(forge.ArtifactSubject())
		}
		c := w.Claim(o)
		bob.Key = k.Public()
		c.Certificates[0] = w.Leaf(bob).Raw
		w.refused(kind, c, verify.Config{}, "LOG_MISMATCH the log entry is about another ")
	}
}

// Two signatures in one entry: which of them is the claim's would be a guess.
func TestLogEntryOfTwoSignatures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.Claim(forge.ClaimOptions{Payload: forge.StatementAbout(forge.ArtifactSubject()), Logs: []string{"v1 dsse"}, Token: true})
	e := &c.LogEntries[0]
	at := strings.Index(string(e.Body), `"signatures":[`) + len(`"signatures":[`)
	one := string(e.Body[at : strings.Index(string(e.Body), `}]`)+1])
	e.Body, e.Proof = []byte(strings.Replace(string(e.Body), one, one+","+one, 1)), nil
	*e = w.SignV1(*e)
	w.refused("twice", c, verify.Config{}, "LOG_MISMATCH the log entry has 2 signatures")
}

// Without the log's promise nothing signs the index over all of a log's trees:
// only the one that the inclusion proof is about is proven, and is reported.
func TestUnsignedIndexIsNotReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.Claim(forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}, Token: true})
	c.LogEntries[0].Promise, c.LogEntries[0].IntegratedTime, c.LogEntries[0].LogIndex = nil, 0, 4711
	ok, why := w.judge(c, verify.Config{})
	if ok == nil {
		t.Fatal(why)
	}
	if i, _ := ok.LogIndex(); i != c.LogEntries[0].Proof.LogIndex || ok.LogEntries()[0].Index != i {
		t.Errorf("reported index %d, proven is %d", i, c.LogEntries[0].Proof.LogIndex)
	}
}

// What is signed must be a statement; another signed payload of the same bytes
// was made for something else.
func TestSignedPayloadType(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k, payload := forge.NewKey(elliptic.P256()), forge.StatementAbout(forge.ArtifactSubject())
	for _, payloadType := range []string{"application/json", "application/vnd.in-toto+json ", "Application/vnd.in-toto+json"} {
		c := &evidence.Claim{Format: evidence.FormatBundle03, Envelope: &evidence.Envelope{PayloadType: payloadType, Payload: payload,
			Signatures: []evidence.EnvelopeSignature{{Sig: forge.SignECDSA(k, evidence.PAE(payloadType, payload))}}}}
		w.refused(payloadType, c, verify.Config{Keys: []crypto.PublicKey{k.Public()}}, "MALFORMED the envelope holds")
	}
}

// Every certificate must be valid at every trusted time, not only at the first.
func TestAuthorityThatEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	reissue := func(name string, end time.Time) *forge.Authority {
		template := forge.CATemplate(name, w.Now)
		template.NotAfter = end
		return forge.NewCA(template, elliptic.P256(), nil)
	}
	w.CA = reissue("ca", w.Now.Add(3*time.Second))
	root := w.TrustRoot(nil)
	at := func(seconds ...int) *evidence.Claim {
		o := forge.ClaimOptions{Logs: []string{"v2"}}
		for _, s := range seconds {
			o.Tokens = append(o.Tokens, forge.TokenOptions{At: w.Now.Add(time.Duration(s) * time.Second)})
		}
		return w.Claim(o)
	}
	if ok, why := w.judge(at(1, 2), under(root)); ok == nil {
		t.Error("both times inside:", why)
	}
	w.refused("the second too late", at(1, 5), under(root), "CERT_UNTRUSTED")
	w.refused("the first too late", at(5, 1), under(root), "CERT_UNTRUSTED")

	// The same above a timestamp authority, whose own leaf is still valid …
	w = newWorld(t)
	w.TSARoot = reissue("tsa root", w.Now)
	w.TSA = w.NewTSA(nil)
	w.refused("TSA root too late", w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), under(w.TrustRoot(nil)),
		"TIME_UNTRUSTED the timestamp is of")
	// … and of one that lists nothing but its leaf.
	w = newWorld(t)
	w.TSA = w.NewTSA(func(c *x509.Certificate) { c.NotAfter = w.Now })
	lone := w.TrustRoot(func(s *trust.RootSpec) { s.TSAs[0].Chain = s.TSAs[0].Chain[:1] })
	w.refused("lone TSA too late", w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true}), under(lone),
		"TIME_UNTRUSTED the timestamp is of")
}

// A line that claims to be the log's signature and is not refuses the checkpoint,
// even beside one that is.
func TestCheckpointWithABrokenLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true})
	p := c.LogEntries[0].Proof
	id := trust.NoteKeyID("log2.test", w.V2Public)
	junk := make([]byte, 64)
	_, _ = rand.Read(junk)
	p.Checkpoint += fmt.Sprintf("— log2.test %s\n", forge.B64(append(id[:4:4], junk...)))
	w.refused("broken line", c, verify.Config{}, "LOG_PROOF_BAD the checkpoint is not signed")

	// Of a Rekor v1 log every line must be its own: names are not signed there.
	c = w.Claim(forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}})
	other := sha256.Sum256([]byte("another key"))
	c.LogEntries[0].Proof.Checkpoint += fmt.Sprintf("— rekor.test %s\n", forge.B64(append(other[:4:4], junk...)))
	w.refused("another's line", c, verify.Config{}, "LOG_PROOF_BAD the checkpoint of")
}
