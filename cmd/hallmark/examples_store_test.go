package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest/policyforge"
)

// storeExamples writes what the examples of hallmark store suppose: a first policy record that two
// people approved and the updater signed, and the trust root that believes the updater.
func storeExamples(t *testing.T, app string) {
	t.Helper()
	w := policyforge.New(time.Now().Add(-time.Minute))
	v := w.First(w.Start, w.Authority(policyforge.Role{Threshold: 2, People: []string{"alice", "bob"}}), "alice", "bob")
	v.Effective = w.Start.Add(30 * time.Hour)
	s := w.Sign(v)
	for name, data := range map[string][]byte{"record.json": s.File, "alice.json": s.Evidence[0], "bob.json": s.Evidence[1], "policy.tar": s.Text,
		"updater-root.json": w.Sigstore.TrustedRoot(nil)} {
		writeExample(t, filepath.Join(app, name), string(data))
	}
}
