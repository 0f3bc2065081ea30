package oracle_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence/notary"
	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
)

// notaryShape is one kind of key with an envelope and what verifies it.
type notaryShape struct {
	name string
	pair *notaryPair
	data []byte
	// ratio is by how much we must be faster than notation-go.
	ratio float64
	// floor is the envelope's bare signature.
	floor func() bool
}

func notaryShapes(tb testing.TB) []notaryShape {
	tb.Helper()
	newRSA := func() crypto.Signer {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			tb.Fatal(err)
		}
		return k
	}
	var out []notaryShape
	for _, k := range []struct {
		name   string
		newKey func() crypto.Signer
		ratio  float64
	}{{"EC-256", notaryforge.P256, notaryRatioEC}, {"RSA-2048", newRSA, notaryRatioRSA}} {
		w := notaryforge.NewWorld(time.Now(), k.newKey)
		out = append(out, notaryShape{k.name, newNotaryPair(tb, w, w.Parts(w.Statement("strict"))), w.Envelope().COSE(), k.ratio, notaryFloor(w)})
	}
	return out
}

// notaryFloor verifies one signature by the leaf's key, as long as the chain is
// remembered.
func notaryFloor(w *notaryforge.World) func() bool {
	sum := sha256.Sum256(w.Leaf.Cert.RawTBSCertificate)
	sig := notaryforge.SignRaw(w.Leaf.Key, w.Leaf.Cert.RawTBSCertificate)
	switch leaf := w.Leaf.Key.(type) {
	case *ecdsa.PrivateKey:
		der, err := leaf.Sign(rand.Reader, sum[:], crypto.SHA256)
		if err != nil {
			panic(err)
		}
		return func() bool { return ecdsa.VerifyASN1(&leaf.PublicKey, sum[:], der) }
	case *rsa.PrivateKey:
		return func() bool { return rsa.VerifyPSS(&leaf.PublicKey, crypto.SHA256, sum[:], sig, nil) == nil }
	}
	panic("no floor for this key")
}

func (s *notaryShape) verify(tb testing.TB, who string) {
	ok := false
	switch who {
	case "ours":
		ok = s.pair.verdict(notary.MediaTypeCOSE, s.data) == ""
	case "notation-go":
		ok = s.pair.peerVerdict(notary.MediaTypeCOSE, s.data) == nil
	case "floor":
		ok = s.floor()
	}
	if !ok {
		tb.Fatalf("%s: %s does not verify", s.name, who)
	}
}

var notaryContenders = []string{"ours", "notation-go", "floor"}

// BenchmarkNotary parses and verifies one COSE envelope, warm: ours, notation-go,
// and the bare signatures.
func BenchmarkNotary(b *testing.B) {
	for _, s := range notaryShapes(b) {
		for _, who := range notaryContenders {
			b.Run(s.name+"/"+who, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					s.verify(b, who)
				}
			})
		}
	}
}

// BenchmarkNotaryRatio interleaves the three, so that a loaded machine slows all
// alike, and reports medians and their ratio beside what is wanted.
func BenchmarkNotaryRatio(b *testing.B) {
	for _, s := range notaryShapes(b) {
		b.Run(s.name, func(b *testing.B) {
			times := map[string][]time.Duration{}
			for b.Loop() {
				for _, who := range notaryContenders {
					t0 := time.Now()
					s.verify(b, who)
					times[who] = append(times[who], time.Since(t0))
				}
			}
			median := func(who string) float64 {
				d := times[who]
				slices.Sort(d)
				return float64(d[len(d)/2].Nanoseconds()) / 1e3
			}
			ours := median("ours")
			b.ReportMetric(ours, "ours-µs")
			b.ReportMetric(median("notation-go"), "notation-go-µs")
			b.ReportMetric(median("floor"), "floor-µs")
			b.ReportMetric(median("notation-go")/ours, "times")
			b.ReportMetric(s.ratio, "wanted")
			b.ReportMetric(ours/median("floor"), "of-floor")
		})
	}
}

// What is wanted. notation-go makes nine verifications of a signature for a chain
// of three; ours makes one, the envelope's, once the chain is remembered.
const (
	notaryRatioEC  = 6
	notaryRatioRSA = 5
)
