package verify_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence/notary"
	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// BenchmarkNotary parses and verifies one envelope, with what stands above the
// leaf remembered. test/oracle has it beside notation-go.
func BenchmarkNotary(b *testing.B) {
	for name, newKey := range map[string]func() crypto.Signer{"EC-256": notaryforge.P256,
		"RSA-2048": func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 2048)) }} {
		w := notaryforge.NewWorld(time.Now(), newKey)
		v := must(verify.New(verify.Config{Notary: must(notation.New(w.Parts(w.Statement("strict"))))}))
		for _, mediaType := range envelopes {
			data, a := w.Envelope().Sign(mediaType), theirs(w)
			b.Run(name+" "+mediaType, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if out, reasons := v.Claim(must(notary.Parse(mediaType, data)), a); out == nil {
						b.Fatal(reasons)
					}
				}
			})
		}
	}
}
