package sign_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

// BenchmarkKey100 signs 100 images in one go with one encrypted key, opened
// once, as hallmark sign --key IMAGE... does; it reports images per second.
func BenchmarkKey100(b *testing.B) {
	l := newLab(b)
	targets := make([]sign.Target, 100)
	for i := range targets {
		targets[i] = l.image(b, fmt.Sprintf("bench/i%d", i))
	}
	private, err := key.Generate("")
	if err != nil {
		b.Fatal(err)
	}
	file, err := key.EncryptCosign(private, []byte("secret"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		opened, _, err := key.Parse(file, func(bool) ([]byte, error) { return []byte("secret"), nil })
		if err != nil {
			b.Fatal(err)
		}
		k, err := key.NewSigner(opened)
		if err != nil {
			b.Fatal(err)
		}
		s, err := sign.New(sign.Config{Key: k})
		if err != nil {
			b.Fatal(err)
		}
		var g errgroup.Group
		g.SetLimit(16)
		for _, at := range targets {
			g.Go(func() error {
				st, err := sign.ImageStatement(at.Digest(), nil)
				if err != nil {
					return err
				}
				_, err = s.Attach(context.Background(), at, st)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(targets)*b.N)/b.Elapsed().Seconds(), "images/s")
}

// BenchmarkKeyless signs one image with a new identity: certificate, timestamp,
// log entry, registry.
func BenchmarkKeyless(b *testing.B) {
	l := newIdentityLab(b)
	at, token := l.image(b, "bench/app"), l.token(b, alice)
	for b.Loop() {
		s, err := sign.New(sign.Config{Services: l.services(), Token: token})
		if err != nil {
			b.Fatal(err)
		}
		st, err := sign.ImageStatement(at.Digest(), nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Attach(context.Background(), at, st); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStream writes the bundle of a 40 MiB predicate.
func BenchmarkStream(b *testing.B) {
	predicate := append(append([]byte(`{"a":"`), bytes.Repeat([]byte("x"), 40<<20)...), `"}`...)
	st, err := sign.AttestStatement("", "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", "https://example.com/t", predicate)
	if err != nil {
		b.Fatal(err)
	}
	s := keySigner(b, sign.Services{}, "")
	b.SetBytes(st.Size())
	b.ReportAllocs()
	for b.Loop() {
		signed, err := s.Sign(context.Background(), st)
		if err != nil {
			b.Fatal(err)
		}
		if err := signed.Discard(); err != nil {
			b.Fatal(err)
		}
	}
}
