package main

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
)

// scriptRekor is the verb "rekor1": a Rekor v1 log on loopback until the script
// ends, such as cosign's older versions used. It sets REKOR1 to its URL and
// SIGSTORE_REKOR_PUBLIC_KEY, and lets HALLMARK_TRUSTED_ROOT name the authority's
// trust root with this log in it.
func scriptRekor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: rekor1")
	}
	w := forge.New(forge.Options{})
	server := httptest.NewServer(w.NewRekor1())
	ts.Defer(server.Close)
	ts.Setenv("REKOR1", server.URL)
	ts.Check(os.WriteFile(ts.MkAbs("rekor1.pub"), forge.PublicPEM(w.V1.Public()), 0o600))
	ts.Setenv("SIGSTORE_REKOR_PUBLIC_KEY", ts.MkAbs("rekor1.pub"))

	var root, logs map[string]any
	data, err := os.ReadFile(ts.Getenv(cli.EnvTrustedRoot))
	ts.Check(err)
	ts.Check(json.Unmarshal(data, &root))
	ts.Check(json.Unmarshal(w.TrustedRoot(func(s *trust.RootSpec) { s.TLogs[0].BaseURL = server.URL }), &logs))
	root["tlogs"] = append(root["tlogs"].([]any), logs["tlogs"].([]any)[0])
	data, err = json.Marshal(root)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("both_root.json"), data, 0o600))
	ts.Setenv(cli.EnvTrustedRoot, ts.MkAbs("both_root.json"))
}

// scriptWitness is the verb "witness NAME BUNDLE TRUST": a witness of this name
// cosigns the checkpoint in a bundle, and a trust bundle demands that.
func scriptWitness(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: witness NAME BUNDLE TRUST")
	}
	w := forge.NewWitness(args[0])
	c, err := bundle.Parse([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	p := c.LogEntries[0].Proof
	p.Checkpoint += w.Line(p.Checkpoint, time.Now())
	data, err := bundle.Marshal(c)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data, 0o600))
	f := &bundlefile.File{Witnesses: []string{w.VKey}, Quorum: 1}
	ts.Check(f.Write(ts.MkAbs(args[2]), 0o600))
}
