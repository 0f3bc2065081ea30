package verify_test

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
)

// timed is a strict statement that looks at timestamps.
func timed(w *notaryforge.World, when string) notaryforge.Statement {
	s := w.Statement("strict")
	s["trustStores"] = []string{"ca:acme", "tsa:acme"}
	s["signatureVerification"] = map[string]any{"level": "strict", "verifyTimestamp": when}
	return s
}

// TestNotaryTimestamps: a certificate's validity is judged at the trusted time.
func TestNotaryTimestamps(t *testing.T) {
	t.Parallel()
	stampAt := func(w *notaryforge.World, by *notaryforge.Authority, at time.Time) func([]byte) []byte {
		return func(sig []byte) []byte { return w.Token(by, at, sig) }
	}
	expired := func(w *notaryforge.World) {
		c := w.LeafTemplate()
		c.NotAfter = w.Now.AddDate(0, 0, -1)
		w.Leaf = w.Issue(w.CA, c)
	}
	fresh := func(w *notaryforge.World) {}
	earlier := func(w *notaryforge.World) time.Time { return w.Now.AddDate(0, 0, -2) }
	tsa := func(change func(c *x509.Certificate)) func(w *notaryforge.World) {
		return func(w *notaryforge.World) {
			c := w.TSATemplate()
			change(c)
			w.TSA = w.Issue(w.TSARoot, c)
		}
	}
	for name, row := range map[string]struct {
		change func(w *notaryforge.World)
		when   string // "", "always", "afterCertExpiry"; "no store": the policy has no tsa store
		stamp  func(w *notaryforge.World) func([]byte) []byte
		want   string
	}{
		"expired, with a token":               {expired, "always", func(w *notaryforge.World) func([]byte) []byte { return stampAt(w, w.TSA, earlier(w)) }, ""},
		"expired, with a token, after expiry": {expired, "afterCertExpiry", func(w *notaryforge.World) func([]byte) []byte { return stampAt(w, w.TSA, earlier(w)) }, ""},
		"expired, no token":                   {expired, "always", nil, "TIME_UNTRUSTED has none"},
		"expired, no store":                   {expired, "no store", func(w *notaryforge.World) func([]byte) []byte { return stampAt(w, w.TSA, earlier(w)) }, "CERT_EXPIRED no trusted timestamp"},
		"stamped after expiry":                {expired, "always", func(w *notaryforge.World) func([]byte) []byte { return stampAt(w, w.TSA, w.Now.Add(-time.Hour)) }, "CERT_EXPIRED signature is of"},
		"valid, always, no token":             {fresh, "always", nil, "TIME_UNTRUSTED has none"},
		"valid, after expiry, no token":       {fresh, "afterCertExpiry", nil, ""},
		"valid, after expiry, bad token":      {fresh, "afterCertExpiry", func(w *notaryforge.World) func([]byte) []byte { return func([]byte) []byte { return []byte("x") } }, ""},
		"stamped in the future":               {fresh, "always", func(w *notaryforge.World) func([]byte) []byte { return stampAt(w, w.TSA, w.Now.Add(time.Hour)) }, "TIME_UNTRUSTED in the future"},
		"not a token":                         {fresh, "always", func(w *notaryforge.World) func([]byte) []byte { return func([]byte) []byte { return []byte("x") } }, "TIME_UNTRUSTED cannot be believed"},
		"over something else": {fresh, "always", func(w *notaryforge.World) func([]byte) []byte {
			return func(sig []byte) []byte { return w.Token(w.TSA, earlier(w), sig[1:]) }
		}, "TIME_UNTRUSTED another signature"},
		"something follows the token": {fresh, "always", func(w *notaryforge.World) func([]byte) []byte {
			return func(sig []byte) []byte { return append(w.Token(w.TSA, earlier(w), sig), 0) }
		}, "TIME_UNTRUSTED cannot be believed"},
		"one bit of the token": {fresh, "always", func(w *notaryforge.World) func([]byte) []byte {
			return func(sig []byte) []byte {
				tok := w.Token(w.TSA, earlier(w), sig)
				tok[len(tok)-5] ^= 1
				return tok
			}
		}, "TIME_UNTRUSTED is not signed by"},
		"by a stranger": {fresh, "always", func(w *notaryforge.World) func([]byte) []byte {
			other := notaryforge.NewWorld(w.Now, nil)
			return stampAt(other, other.TSA, earlier(w))
		}, "TIME_UNTRUSTED by no authority"},
		"by the signers' CA": {fresh, "always", func(w *notaryforge.World) func([]byte) []byte {
			other := *w
			other.TSARoot = w.Root
			return stampAt(&other, w.Issue(w.Root, w.TSATemplate()), earlier(w))
		}, "TIME_UNTRUSTED by no authority"},
		"authority not valid then": {tsa(func(c *x509.Certificate) { c.NotBefore = c.NotAfter.AddDate(-1, 0, 0) }), "always",
			func(w *notaryforge.World) func([]byte) []byte { return stampAt(w, w.TSA, earlier(w)) }, "TIME_UNTRUSTED by no authority"},
		"authority also signs code": {tsa(func(c *x509.Certificate) {
			c.ExtraExtensions = nil
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping, x509.ExtKeyUsageCodeSigning}
		}), "always", func(w *notaryforge.World) func([]byte) []byte { return stampAt(w, w.TSA, earlier(w)) }, "TIME_UNTRUSTED timestamping alone"},
		"authority's usage not critical": {tsa(func(c *x509.Certificate) {
			c.ExtraExtensions[0].Critical = false
		}), "always", func(w *notaryforge.World) func([]byte) []byte { return stampAt(w, w.TSA, earlier(w)) }, "TIME_UNTRUSTED timestamping alone"},
		"authority enciphers": {tsa(func(c *x509.Certificate) {
			c.KeyUsage |= x509.KeyUsageKeyEncipherment
		}), "always", func(w *notaryforge.World) func([]byte) []byte { return stampAt(w, w.TSA, earlier(w)) }, "TIME_UNTRUSTED timestamping alone"},
		"authority's revocation unknown": {tsa(func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://crl.example/tsa.crl"} }),
			"always", func(w *notaryforge.World) func([]byte) []byte { return stampAt(w, w.TSA, earlier(w)) }, "REVOCATION_UNKNOWN "},
	} {
		for _, mediaType := range envelopes {
			t.Run(name+" "+mediaType, func(t *testing.T) {
				t.Parallel()
				w := notaryforge.NewWorld(time.Now(), nil)
				row.change(w)
				s := timed(w, row.when)
				if row.when == "no store" {
					s = w.Statement("strict")
				}
				v := notaryVerifier(t, w, w.Parts(s))
				e := w.Envelope()
				e.Protected[notaryforge.SigningTime] = w.Now.AddDate(0, 0, -2)
				if row.stamp != nil {
					e.Stamp = row.stamp(w)
				}
				data := e.Sign(mediaType)
				for range 2 { // the second time the authority's chain is remembered
					out, reasons := outcome(t, v, theirs(w), mediaType, data)
					expect(t, out, reasons, row.want)
					if out != nil && strings.Contains(name, "with a token") {
						if ts := out.Times(); len(ts) != 1 || ts[0].Kind != "rfc3161" || !ts[0].At.Equal(earlier(w)) {
							t.Errorf("times %v", ts)
						}
					}
				}
			})
		}
	}
}

// TestNotarySigningAuthority: its word about the time is believed, and only its.
func TestNotarySigningAuthority(t *testing.T) {
	t.Parallel()
	w := notaryforge.NewWorld(time.Now(), nil)
	c := w.LeafTemplate()
	c.NotAfter = w.Now.AddDate(0, 0, -1)
	w.Leaf = w.Issue(w.CA, c)
	s := w.Statement("strict")
	s["trustStores"] = []string{"ca:other", "signingAuthority:acme"}
	v := notaryVerifier(t, w, w.Parts(s))
	for _, row := range []struct {
		at   time.Time
		want string
	}{
		{w.Now.AddDate(0, 0, -2), ""}, {w.Now.AddDate(0, 0, -1), ""}, {w.Now.AddDate(0, 0, -1).Add(time.Second), "TIME_UNTRUSTED was valid"},
		{w.Now.AddDate(-1, 0, 0), ""}, {w.Now.AddDate(-1, 0, 0).Add(-time.Second), "CERT_EXPIRED signature was made at"},
		{w.Now.Add(time.Hour), "TIME_UNTRUSTED in the future"},
	} {
		for _, mediaType := range envelopes {
			e := w.Envelope()
			asAuthority(e, row.at)
			out, reasons := outcome(t, v, theirs(w), mediaType, e.Sign(mediaType))
			expect(t, out, reasons, row.want)
			if out != nil && (len(out.Times()) != 1 || out.Times()[0].Kind != "signing-authority") {
				t.Errorf("times %v", out.Times())
			}
		}
	}
}

// TestNotaryRemembers: what is remembered of a chain neither outlives it nor
// answers for another purpose.
func TestNotaryRemembers(t *testing.T) {
	t.Parallel()
	w := notaryforge.NewWorld(time.Now(), nil)
	c := w.CATemplate("Acme CA")
	c.NotAfter = w.Now.Add(time.Minute)
	w.CA = w.Issue(w.Root, c)
	w.Leaf = w.Issue(w.CA, w.LeafTemplate())
	v := notaryVerifier(t, w, w.Parts(w.Statement("strict")))
	data := w.Envelope().COSE()
	judge := func(want string) {
		t.Helper()
		out, reasons := outcome(t, v, theirs(w), envelopes[0], data)
		expect(t, out, reasons, want)
	}
	judge("")
	judge("")
	// A leaf that the remembered CA did not sign.
	e := w.Envelope()
	impostor := w.Issue(w.Issue(w.Root, c), w.LeafTemplate())
	e.Chain[0], e.Key = impostor.Cert.Raw, impostor.Key
	out, reasons := outcome(t, v, theirs(w), envelopes[0], e.COSE())
	expect(t, out, reasons, "CERT_UNTRUSTED not signed by the next")
	// A CA's certificate with one bit of its signature flipped is not the remembered one.
	e = w.Envelope()
	e.Chain[1] = bytes.Clone(e.Chain[1])
	e.Chain[1][len(e.Chain[1])-1] ^= 1
	out, reasons = outcome(t, v, theirs(w), envelopes[0], e.COSE())
	if out != nil {
		t.Errorf("a broken CA's certificate: %v", reasons)
	}
	w.Now = w.Now.Add(2 * time.Minute) // the verifier's clock goes with the world's
	judge("CERT_EXPIRED Acme CA")
}
