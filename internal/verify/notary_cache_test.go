package verify_test

import (
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// TestNotaryChainCacheForgetsNothing: that a chain's signatures are remembered
// changes no verdict. Every row shares one cache with a call that was good.
func TestNotaryChainCacheForgetsNothing(t *testing.T) {
	t.Parallel()
	w := notaryforge.NewWorld(time.Now(), nil)
	cache := verify.NewChainCache()
	stranger := notaryforge.NewWorld(w.Now, nil)
	expired := func(c *verify.Config) { c.Now = func() time.Time { return w.Leaf.Cert.NotAfter.Add(time.Second) } }
	for name, row := range map[string]struct {
		config   func(c *verify.Config)
		parts    func(p *notation.Parts)
		envelope func(e *notaryforge.Envelope)
		want     string
	}{
		"the same":              {want: ""},
		"certificate expired":   {config: expired, want: "CERT_EXPIRED"},
		"CRL published since":   {parts: func(p *notation.Parts) { p.CRLs = [][]byte{makeCRL(w, revoke(w, 1))} }, want: "REVOKED"},
		"root out of the store": {parts: func(p *notation.Parts) { p.Stores = stranger.Parts().Stores }, want: "CERT_UNTRUSTED"},
		"another identity": {parts: func(p *notation.Parts) {
			s := w.Statement("strict")
			s["trustedIdentities"] = []string{"x509.subject:C=US,ST=WA,O=Acme,CN=somebody"}
			p.Policy = notaryforge.PolicyJSON(s)
		}, want: "WRONG_IDENTITY"},
		"revoked by the trust bundle": {config: func(c *verify.Config) {
			c.Revoked.Digests = []trust.RevokedDigest{{Digest: evidence.Digest(w.Digest), Since: w.Now.Add(-2 * time.Hour), Reason: "test"}}
		}, want: "REVOKED"},
		"leaf's signature changed": {envelope: func(e *notaryforge.Envelope) {
			leaf := append([]byte(nil), e.Chain[0]...)
			leaf[len(leaf)-1] ^= 1
			e.Chain[0] = leaf
		}, want: "CERT_UNTRUSTED"},
		"CA by the same name": {envelope: func(e *notaryforge.Envelope) {
			e.Chain[1], e.Chain[2] = stranger.CA.Cert.Raw, stranger.Root.Cert.Raw
		}, want: "CERT_UNTRUSTED"},
		"a leaf of the stranger's below ours": {envelope: func(e *notaryforge.Envelope) {
			*e = *notaryforge.New(stranger.Leaf.Key, notaryforge.Chain(stranger.Leaf, w.CA, w.Root), w.Payload(), w.Now.Add(-time.Hour))
		}, want: "CERT_UNTRUSTED"},
		"a CA signs": {envelope: func(e *notaryforge.Envelope) {
			*e = *notaryforge.New(w.CA.Key, notaryforge.Chain(w.CA, w.Root), w.Payload(), w.Now.Add(-time.Hour))
		}, want: "CERT_UNTRUSTED"},
		"another's signature": {envelope: func(e *notaryforge.Envelope) {
			*e = *notaryforge.New(stranger.Leaf.Key, notaryforge.Chain(w.Leaf, w.CA, w.Root), w.Payload(), w.Now.Add(-time.Hour))
		}, want: "SIGNATURE_BAD"},
	} {
		t.Run(name, func(t *testing.T) {
			judge := func(config func(*verify.Config), parts func(*notation.Parts), envelope func(*notaryforge.Envelope), want string) {
				t.Helper()
				p := w.Parts(w.Statement("strict"))
				if parts != nil {
					parts(&p)
				}
				c := verify.Config{Notary: must(notation.New(p)), Chains: cache, Now: func() time.Time { return w.Now }}
				if config != nil {
					config(&c)
				}
				v, e := must(verify.New(c)), w.Envelope()
				if envelope != nil {
					envelope(e)
				}
				for _, mediaType := range envelopes {
					out, reasons := outcome(t, v, theirs(w), mediaType, e.Sign(mediaType))
					expect(t, out, reasons, want)
				}
			}
			judge(nil, nil, nil, "")
			judge(row.config, row.parts, row.envelope, row.want)
			judge(nil, nil, nil, "")
		})
	}
}
