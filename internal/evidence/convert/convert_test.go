package convert_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"encoding/json"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/evidence/convert"
	"github.com/hallmark-dev/hallmark/internal/evidence/simplesigning"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

func statement() []byte {
	return bytes.Replace(forge.StatementAbout(forge.ArtifactSubject()), []byte(evidence.PredicateSign), []byte(evidence.PredicateSPDX), 1)
}

// attestation is a claim as it is read from cosign's older format.
func attestation(t *testing.T, w *forge.World, o forge.ClaimOptions, change func(*forge.Layer)) *evidence.Claim {
	t.Helper()
	o.Payload = statement()
	l := w.CosignLayer(w.Claim(o), nil)
	if change != nil {
		change(&l)
	}
	c, err := simplesigning.ParseAttestation(l.Content, l.Annotations)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func verifies(t *testing.T, c *evidence.Claim, cfg verify.Config) *verify.Verified {
	t.Helper()
	v, err := verify.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ok, reasons := v.Claim(c, verify.Image(evidence.SHA256(forge.Artifact)))
	if ok == nil {
		t.Fatal(reasons)
	}
	return ok
}

// What verified before verifies as a bundle, as the same person's, with the same
// proofs, under the same trust.
func TestAttestations(t *testing.T) {
	t.Parallel()
	w, deep := forge.New(forge.Options{}), forge.New(forge.Options{Intermediate: true})
	signer := forge.NewKey(elliptic.P256())
	under := func(w *forge.World) verify.Config { return verify.Config{Roots: []*trust.Root{w.Root}} }
	for name, c := range map[string]struct {
		claim  *evidence.Claim
		cfg    verify.Config
		format evidence.Format
		notes  int
	}{
		"key":                          {attestation(t, w, forge.ClaimOptions{KeyOnly: true, Signer: signer}, nil), verify.Config{Keys: []crypto.PublicKey{signer.Public()}}, evidence.FormatBundle03, 0},
		"keyless, promise":             {attestation(t, w, forge.ClaimOptions{Logs: []string{"v1 dsse"}}, nil), under(w), evidence.FormatBundle01, 1},
		"keyless, intoto":              {attestation(t, w, forge.ClaimOptions{Logs: []string{"v1 intoto"}}, nil), under(w), evidence.FormatBundle01, 1},
		"with intermediate":            {attestation(t, deep, forge.ClaimOptions{Logs: []string{"v1 dsse"}}, nil), under(deep), evidence.FormatBundle01, 2},
		"timestamp over the signature": {attestation(t, w, forge.ClaimOptions{Logs: []string{"v1 dsse"}, Token: true}, nil), under(w), evidence.FormatBundle01, 1},
	} {
		before := verifies(t, c.claim, c.cfg)
		r, reasons, err := convert.Bundle(c.claim)
		if err != nil || reasons != nil {
			t.Errorf("%s: %v %v", name, reasons, err)
			continue
		}
		if r.Format != c.format || len(r.Notes) != c.notes || r.Claim.Format != c.format || bundle.FormatOf(r.MediaType) != c.format {
			t.Errorf("%s: %s, %q", name, r.Format, r.Notes)
		}
		after := verifies(t, r.Claim, c.cfg)
		if before.Signer().String() != after.Signer().String() || len(before.Times()) != len(after.Times()) || len(before.LogEntries()) != len(after.LogEntries()) ||
			after.PredicateType() != evidence.PredicateSPDX {
			t.Errorf("%s: %+v, before %+v", name, after.Signer(), before.Signer())
		}
		again, _, err := convert.Bundle(c.claim)
		if err != nil || !bytes.Equal(again.Bundle, r.Bundle) {
			t.Errorf("%s: not the same bytes twice", name)
		}
	}
}

// With the proof, which the log gives to who asks, the bundle is of version 0.3;
// older bundles become newer ones.
func TestProofsMakeItNewer(t *testing.T) {
	t.Parallel()
	w := forge.New(forge.Options{})
	claim := w.Claim(forge.ClaimOptions{Payload: statement(), Logs: []string{"v1 dsse"}})
	l := w.CosignLayer(claim, nil)
	older, err := simplesigning.ParseAttestation(l.Content, l.Annotations)
	if err != nil {
		t.Fatal(err)
	}
	older.LogEntries[0].Proof = claim.LogEntries[0].Proof
	second, err := bundle.Parse(forge.Bundle(claim, "0.2"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*evidence.Claim{"attestation": older, "bundle 0.2": second} {
		r, reasons, err := convert.Bundle(c)
		if err != nil || reasons != nil || r.Format != evidence.FormatBundle03 || len(r.Notes) != 0 {
			t.Errorf("%s: %+v %v %v", name, r, reasons, err)
			continue
		}
		if ok := verifies(t, r.Claim, verify.Config{Roots: []*trust.Root{w.Root}}); !ok.LogEntries()[0].Included || len(ok.Times()) != 1 {
			t.Errorf("%s: %+v", name, ok.LogEntries())
		}
	}
}

func TestLosses(t *testing.T) {
	t.Parallel()
	w, deep := forge.New(forge.Options{}), forge.New(forge.Options{Intermediate: true})
	payload := forge.SimpleSigning("registry.test/app", evidence.SHA256(forge.Artifact), nil)
	l := w.CosignLayer(w.Claim(forge.ClaimOptions{Artifact: payload, Logs: []string{"v1 hashedrekord"}}), payload)
	simple, err := simplesigning.ParseSignature(l.Content, l.Annotations)
	if err != nil {
		t.Fatal(err)
	}
	stamped := attestation(t, w, forge.ClaimOptions{Logs: []string{"v1 dsse"}}, func(l *forge.Layer) {
		data, err := json.Marshal(map[string]any{"SignedRFC3161Timestamp": w.Token(l.Content, forge.TokenOptions{})})
		if err != nil {
			t.Fatal(err)
		}
		l.Annotations[simplesigning.AnnotationTimestamp] = string(data)
	})
	verifies(t, stamped, verify.Config{Roots: []*trust.Root{w.Root}})
	mixed := attestation(t, deep, forge.ClaimOptions{Logs: []string{"v1 dsse"}}, nil)
	mixed.LogEntries[0].Proof = w.Claim(forge.ClaimOptions{Payload: statement(), Logs: []string{"v1 dsse"}}).LogEntries[0].Proof
	mixed.LogEntries[0].Promise = nil
	entryOfCosign1 := attestation(t, w, forge.ClaimOptions{Logs: []string{"v1 dsse"}}, nil)
	entryOfCosign1.LogEntries[0].Kind, entryOfCosign1.LogEntries[0].Version = "intoto", "0.0.1"
	for name, c := range map[string]struct {
		claim      *evidence.Claim
		code, want string
	}{
		"simple signing":              {simple, convert.CodeLoses, "which image was signed"},
		"timestamp over the envelope": {stamped, convert.CodeLoses, "the time of signing would be lost"},
		"chain and no promise":        {mixed, convert.CodeLoses, "certificate chain"},
		"entry of cosign 1":           {entryOfCosign1, convert.CodeLoses, "would be lost"},
		"bundle 0.3":                  {w.Claim(forge.ClaimOptions{Payload: statement()}), convert.CodeNothing, "already"},
		"notary":                      {&evidence.Claim{Notary: &evidence.NotaryEnvelope{}}, convert.CodeLoses, "Notary"},
	} {
		r, reasons, err := convert.Bundle(c.claim)
		if err != nil || r != nil || len(reasons) != 1 || reasons[0].Code != c.code || !strings.Contains(reasons[0].Message, c.want) {
			t.Errorf("%s: %+v %v %v", name, r, reasons, err)
		}
	}
	if r, reasons, err := convert.Bundle(&evidence.Claim{Format: evidence.FormatCosignAttestation}); err == nil {
		t.Errorf("no signature: %+v %v", r, reasons)
	}
}
