package oracle_test

import (
	"testing"

	"github.com/hallmark-dev/hallmark/test/oracle"
)

// BenchmarkVerify reads and verifies bundles of each shape with leaves of their
// own; cmd/verifybench prints the same as a table, interleaved.
func BenchmarkVerify(b *testing.B) {
	for _, s := range oracle.Shapes(256) {
		ours, err := oracle.NewOurs(s.Task)
		if err != nil {
			b.Fatal(err)
		}
		peer, err := oracle.NewSigstoreGo(s.Task, s.Extra...)
		if err != nil {
			b.Fatal(err)
		}
		for name, verify := range map[string]func([]byte) error{"ours": ours.Verify, "sigstore-go": peer.Verify} {
			b.Run(s.Name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := verify(s.Bundles[i%len(s.Bundles)]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(s.Name+"/floor", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if !s.Floor(i % len(s.Bundles)) {
					b.Fatal("a bare signature does not hold")
				}
			}
		})
	}
}
