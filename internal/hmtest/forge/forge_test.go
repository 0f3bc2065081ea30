package forge_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"encoding/json"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// TestBundles: what is forged without a fault verifies, in every version of the
// bundle and under a trust root that was written and read again.
func TestBundles(t *testing.T) {
	t.Parallel()
	statement := forge.StatementAbout(forge.ArtifactSubject())
	workflow := forge.Workflow()
	for name, o := range map[string]forge.Options{"small": {}, "public": forge.Public(), "P-384": {CA: elliptic.P384(), TSA: elliptic.P384()}} {
		w := forge.New(o)
		root, err := trust.ParseTrustedRoot(w.TrustedRoot(nil))
		if err != nil {
			t.Fatal(err)
		}
		verifier, err := verify.New(verify.Config{Roots: []*trust.Root{root}})
		if err != nil {
			t.Fatal(err)
		}
		for what, c := range map[string]forge.ClaimOptions{
			"hashedrekord": {Logs: []string{"v1 hashedrekord"}, Leaf: &workflow},
			"dsse":         {Logs: []string{"v1 dsse"}, Payload: statement},
			"intoto":       {Logs: []string{"v1 intoto"}, Payload: statement},
			"v2":           {Logs: []string{"v2"}, Token: true},
		} {
			for _, version := range []string{"0.1", "0.2", "0.3"} {
				claim, err := bundle.Parse(forge.Bundle(w.Claim(c), version))
				if what == "v2" && version == "0.1" {
					if err == nil {
						t.Errorf("%s %s: version 0.1 without a promise was read", name, what)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%s %s %s: %v", name, what, version, err)
				}
				if ok, reasons := verifier.Claim(claim, verify.Image(evidence.SHA256(forge.Artifact))); ok == nil {
					t.Errorf("%s %s %s: %v", name, what, version, reasons)
				}
			}
		}
		key := forge.NewKey(elliptic.P256())
		keys, err := verify.New(verify.Config{Keys: []crypto.PublicKey{key.Public()}})
		if err != nil {
			t.Fatal(err)
		}
		claim, err := bundle.Parse(forge.Bundle(w.Claim(forge.ClaimOptions{Signer: key, KeyOnly: true, Payload: statement}), "0.3"))
		if err != nil {
			t.Fatal(err)
		}
		if ok, reasons := keys.Claim(claim, verify.Image(evidence.SHA256(forge.Artifact))); ok == nil {
			t.Errorf("%s key: %v", name, reasons)
		}
	}
}

// TestCosignLayer: the older format has its parts under cosign's names.
func TestCosignLayer(t *testing.T) {
	t.Parallel()
	w := forge.New(forge.Public())
	payload := forge.SimpleSigning("r.test/app", evidence.SHA256(nil), nil)
	l := w.CosignLayer(w.Claim(forge.ClaimOptions{Artifact: payload, Logs: []string{"v1 hashedrekord"}, Token: true}), payload)
	if l.MediaType != "application/vnd.dev.cosign.simplesigning.v1+json" || !bytes.Equal(l.Content, payload) || len(l.Annotations) != 5 {
		t.Errorf("%+v", l)
	}
	if n := strings.Count(l.Annotations["dev.sigstore.cosign/chain"], "BEGIN CERTIFICATE"); n != 2 {
		t.Errorf("%d certificates in the chain", n)
	}
	statement := forge.StatementAbout(forge.ArtifactSubject())
	l = w.CosignLayer(w.Claim(forge.ClaimOptions{Payload: statement, Logs: []string{"v1 dsse"}}), nil)
	var e struct{ Payload []byte }
	if err := json.Unmarshal(l.Content, &e); err != nil || !bytes.Equal(e.Payload, statement) || l.Annotations["dev.cosignproject.cosign/signature"] != "" {
		t.Errorf("%v %+v", err, l)
	}
}
