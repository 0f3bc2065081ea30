package rules_test

import (
	"testing"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

func BenchmarkLoad(b *testing.B) {
	for _, name := range rules.Ready() {
		files := rules.ReadyFiles(name)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, wrongs := rules.Load(files, rules.Options{}); wrongs != nil {
					b.Fatal(wrongs)
				}
			}
		})
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, name := range rules.Ready() {
		p, wrongs := rules.Load(rules.ReadyFiles(name), rules.Options{Obligations: rules.ObligationTypes()})
		if wrongs != nil {
			b.Fatal(wrongs)
		}
		allowed, denied := input.Example(), input.Example()
		allowed.Now = "2026-11-21T12:00:00Z" // a day after the approvals
		denied.Git.Tag.Signer = nil
		for what, in := range map[string]*input.Document{"allowed": allowed, "denied": denied} {
			b.Run(name+"/"+what, func(b *testing.B) {
				for b.Loop() {
					d, err := p.Decide(b.Context(), in)
					if err != nil || d.Allowed != (what == "allowed") {
						b.Fatalf("%v %+v", err, d.Denials)
					}
				}
			})
		}
	}
}
