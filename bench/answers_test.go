package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

func rootFile(t *testing.T, path string) *trust.Root {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	root, err := trust.ParseTrustedRoot(data)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// issued is what an authority answers to two whole keyless signatures.
func issued(t *testing.T, r *hmtest.Running) *answers {
	t.Helper()
	k := &keyless{}
	var err error
	if k.keys, err = newSigners(); err != nil {
		t.Fatal(err)
	}
	if k.bodies, k.header, err = certBodies(k.keys, r.Token(identity)); err != nil {
		t.Fatal(err)
	}
	if err := k.prepare(checkEach+1, 1); err != nil {
		t.Fatal(err)
	}
	said := &answers{root: rootFile(t, r.TrustedRoot)}
	s := k.side(r.Registry, r.Registry, r.Registry, said)
	c := newCaller(t)
	for _, i := range []int{0, 1, checkEach} {
		if err := s.do(c, i); err != nil {
			t.Fatal(err)
		}
	}
	if len(said.kept) != 2 {
		t.Fatalf("%d answers were kept", len(said.kept))
	}
	return said
}

// TestAnswers: what the services say is taken only where it is what was asked for.
func TestAnswers(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	said := issued(t, r)
	stamped := func(x answered) answered { return answered{digest: x.digest, sig: x.sig, key: x.key, stamp: x.stamp} }
	good, other := said.kept[0], said.kept[1]
	for name, tc := range map[string]struct {
		check  func(*answers) error
		made   answered
		change func(*answered)
	}{
		"keyless":     {(*answers).signatures, good, nil},
		"stamped":     {(*answers).signatures, stamped(good), nil},
		"certificate": {func(a *answers) error { return a.certificates(true) }, good, nil},

		"keyless, another timestamp":   {(*answers).signatures, good, func(x *answered) { x.stamp = other.stamp }},
		"keyless, no timestamp":        {(*answers).signatures, good, func(x *answered) { x.stamp = []byte{} }},
		"keyless, another entry":       {(*answers).signatures, good, func(x *answered) { x.entry = other.entry }},
		"keyless, no entry":            {(*answers).signatures, good, func(x *answered) { x.entry = []byte("{}") }},
		"keyless, another certificate": {(*answers).signatures, good, func(x *answered) { x.chain = other.chain }},
		"keyless, empty chain":         {(*answers).signatures, good, func(x *answered) { x.chain = []byte("{}") }},
		"stamped, another":             {(*answers).signatures, stamped(good), func(x *answered) { x.stamp = other.stamp }},
		"stamped, one byte":            {(*answers).signatures, stamped(good), func(x *answered) { x.stamp = bytes.Clone(x.stamp); x.stamp[len(x.stamp)-3] ^= 1 }},
		"stamped, another key":         {(*answers).signatures, stamped(good), func(x *answered) { x.key = other.key }},
		"certificate, another key":     {func(a *answers) error { return a.certificates(false) }, good, func(x *answered) { x.key = other.key }},
		"certificate, nothing": {func(a *answers) error { return a.certificates(false) }, good, func(x *answered) {
			x.chain = []byte(`{"signedCertificateEmbeddedSct":{"chain":{"certificates":["x"]}}}`)
		}},
	} {
		a := &answers{root: said.root, kept: []answered{tc.made}}
		if tc.change != nil {
			tc.change(&a.kept[0])
		}
		if err := tc.check(a); (err == nil) != (tc.change == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	elsewhere := rootFile(t, hmtest.Authority(t).TrustedRoot)
	for name, check := range map[string]func(*answers) error{
		"signatures": (*answers).signatures, "certificates": func(a *answers) error { return a.certificates(true) },
	} {
		if err := check(&answers{root: elsewhere, kept: said.kept}); err == nil {
			t.Errorf("%s: those of another authority are taken", name)
		}
		if err := check(&answers{root: said.root}); err == nil {
			t.Errorf("%s: no answer is taken for good ones", name)
		}
	}
}

// TestPlayedLog: a CA that checks its CT log's answers takes those of the one that the
// bench plays, and so does who verifies the certificates.
func TestPlayedLog(t *testing.T) {
	t.Parallel()
	l, err := playCTLog()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.stop)
	spki, err := x509.MarshalPKIXPublicKey(l.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	config := filepath.Join(t.TempDir(), "ca.yaml")
	text := fmt.Sprintf("ct-log:\n  url: %s\n  public-key: |\n    %s\n", l.address, strings.ReplaceAll(strings.TrimSpace(string(public)), "\n", "\n    "))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	said := issued(t, hmtest.Start(t, authority.Config{Dir: filepath.Join(t.TempDir(), "data"), CAConfig: config}))
	if !slices.ContainsFunc(said.root.CTLogs, func(k trust.LogKey) bool { return l.key.PublicKey.Equal(k.Key) }) {
		t.Fatal("the trusted root does not name the log")
	}
	if err := said.signatures(); err != nil {
		t.Error(err)
	}
}

// TestRootOf: services are known by what they were started with.
func TestRootOf(t *testing.T) {
	t.Parallel()
	l, err := playCTLog()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.stop)
	root, err := rootOf(&peerService{}, &peerService{known: trust.RootSpec{CTLogs: logOf(l.key.Public(), "")}})
	if err != nil || len(root.CTLogs) != 1 || !bytes.Equal(root.CTLogs[0].ID, l.id[:]) {
		t.Errorf("%+v, %v", root, err)
	}
}
