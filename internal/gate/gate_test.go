package gate_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/evidence/simplesigning"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/signing"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// world is an authority with a signer and a verifier for it.
type world struct {
	*hmtest.Running
	t        *testing.T
	verifier *verify.Verifier
	signer   *sign.Signer
}

const rita = "rita@example.org"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Running: hmtest.Authority(t), t: t}
	w.verifier, w.signer = signing.Verifier(t, w.Running), signing.Signer(t, w.Running, rita)
	return w
}

func (w *world) open(image string) (registry.Ref, sign.Target) {
	w.t.Helper()
	ref, err := registry.ParseRef(image)
	if err != nil {
		w.t.Fatal(err)
	}
	repo, err := registry.NewClient(registry.Options{}).Open(w.t.Context(), ref)
	if err != nil {
		w.t.Fatal(err)
	}
	desc, err := repo.Resolve(w.t.Context(), ref)
	if err != nil {
		w.t.Fatal(err)
	}
	return ref, sign.Target{Repo: repo, Desc: desc}
}

// attach hangs a claim about some image on another one.
func (w *world) attach(image string, c *evidence.Claim) {
	w.t.Helper()
	_, at := w.open(image)
	data, err := bundle.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	layer, err := at.Repo.PushBlob(w.t.Context(), evidence.BundleMediaType, data)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := at.Repo.PushBlob(w.t.Context(), ocispec.MediaTypeEmptyJSON, []byte(ociartifact.EmptyConfig)); err != nil {
		w.t.Fatal(err)
	}
	manifest, _, err := ociartifact.BundleManifest(at.Desc, layer, evidence.PredicateSign, time.Unix(0, 0))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := at.Repo.Attach(w.t.Context(), at.Desc, manifest); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) signed(image string) *evidence.Claim {
	w.t.Helper()
	_, at := w.open(image)
	st, err := sign.ImageStatement(at.Digest(), map[string]string{"real": "true"})
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := w.signer.Sign(w.t.Context(), st)
	if err != nil {
		w.t.Fatal(err)
	}
	return parsed(w.t, s)
}

// parsed is a new bundle as a verifier reads it.
func parsed(t *testing.T, s *sign.Signed) *evidence.Claim {
	t.Helper()
	data, err := io.ReadAll(s.Reader())
	if err != nil {
		t.Fatal(err)
	}
	c, err := bundle.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) judge(image string, q gate.Requirements) gate.Result {
	w.t.Helper()
	ref, at := w.open(image)
	r, err := gate.Image(w.t.Context(), gate.Request{Repo: at.Repo, Ref: ref, Verifier: w.verifier, Policy: q})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) byRita() gate.Requirements {
	return gate.Requirements{Identities: []policy.Identity{{Subject: rita, Issuer: w.Info.Issuer}}}
}

func TestImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.Image("app/good", "good")
	claim := w.signed(good)
	w.attach(good, claim)

	r := w.judge(good, w.byRita())
	if !r.Decision.Allowed || len(r.Input.Signatures) != 1 || r.Input.Signatures[0].Annotations["real"] != "true" || r.Tried[0].Fact == nil || r.Subject.Digest != r.Input.Image.Digest {
		t.Fatalf("%+v", r)
	}
	if r := w.judge(good, gate.Requirements{}); r.Decision.Allowed || r.Decision.Reasons[0].Code != "IDENTITY_NOT_PINNED" || !strings.Contains(r.Decision.Reasons[0].Message, rita) {
		t.Errorf("%+v", r.Decision)
	}

	// A broken claim beside a good one hides nothing.
	broken := w.signed(good)
	broken.Envelope.Signatures[0].Sig = bytes.Clone(broken.Envelope.Signatures[0].Sig)
	broken.Envelope.Signatures[0].Sig[10] ^= 1
	w.attach(good, broken)
	if r := w.judge(good, w.byRita()); !r.Decision.Allowed || len(r.Tried) != 2 {
		t.Errorf("%+v", r.Decision)
	}

	for name, tc := range map[string]struct {
		attach func(image string)
		code   string
	}{
		"unsigned":      {func(string) {}, "NOT_SIGNED"},
		"other image":   {func(image string) { w.attach(image, claim) }, "WRONG_SUBJECT"},
		"bad signature": {func(image string) { c := w.signed(image); c.Envelope.Signatures[0].Sig[10] ^= 1; w.attach(image, c) }, ""},
		"log entry": {func(image string) {
			c := w.signed(image)
			c.LogEntries[0].Proof.RootHash[0] ^= 1
			w.attach(image, c)
		}, "LOG_PROOF_BAD"},
		"no log entry":  {func(image string) { c := w.signed(image); c.LogEntries = nil; w.attach(image, c) }, "LOG_MISSING"},
		"no timestamp":  {func(image string) { c := w.signed(image); c.Timestamps = nil; w.attach(image, c) }, "TIME_UNTRUSTED"},
		"other payload": {func(image string) { c := w.signed(image); c.Envelope.Payload[20] ^= 1; w.attach(image, c) }, ""},
	} {
		image := w.Image("app/"+strings.ReplaceAll(name, " ", "-"), name)
		tc.attach(image)
		r := w.judge(image, w.byRita())
		if r.Decision.Allowed || len(r.Decision.Reasons) == 0 || tc.code != "" && r.Decision.Reasons[0].Code != tc.code {
			t.Errorf("%s: %+v", name, r.Decision)
		}
	}

	ref, at := w.open(good)
	w.Stop()
	if _, err := gate.Image(t.Context(), gate.Request{Repo: at.Repo, Ref: ref, Verifier: w.verifier, Policy: w.byRita()}); fault.KindOf(err) != fault.Unreachable {
		t.Error("nobody there:", err)
	}
}

// TestBlob: a file, signed with a key and without services.
func TestBlob(t *testing.T) {
	t.Parallel()
	private, err := key.Generate(key.Algorithms()[0])
	if err != nil {
		t.Fatal(err)
	}
	signer, err := key.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sign.New(sign.Config{Key: signer})
	if err != nil {
		t.Fatal(err)
	}
	artifact, err := verify.HashFile(strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := sign.AttestStatement("file", artifact.Digests[0], evidence.PredicateCycloneDX, []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := verify.New(verify.Config{Keys: []crypto.PublicKey{private.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	items := []collect.Item{{Claim: parsed(t, signed)}}
	ask := func(a verify.Artifact, q gate.Requirements) policy.Decision {
		t.Helper()
		r, err := gate.Blob(t.Context(), gate.BlobRequest{Name: "file", Artifact: a, Items: items, Verifier: verifier, Policy: q})
		if err != nil {
			t.Fatal(err)
		}
		return r.Decision
	}
	attested := gate.Requirements{Keys: true, AttestationType: evidence.PredicateCycloneDX}
	if d := ask(artifact, attested); !d.Allowed {
		t.Error(d)
	}
	if d := ask(artifact, gate.Requirements{Keys: true}); d.Allowed || d.Reasons[0].Code != "NOT_SIGNED" {
		t.Error("an attestation is no signature:", d)
	}
	other, err := verify.HashFile(strings.NewReader("other content"))
	if err != nil {
		t.Fatal(err)
	}
	if d := ask(other, attested); d.Allowed || d.Reasons[0].Code != "WRONG_SUBJECT" {
		t.Error(d)
	}
	if _, err := gate.Blob(t.Context(), gate.BlobRequest{Name: "file", Items: items, Verifier: verifier, Policy: attested}); err == nil {
		t.Error("a file without a digest was judged")
	}
}

// Cosign's older signature counts as a signature, its older attestation as an
// attestation with its statement, by a key as by a certificate.
func TestImageSignedInCosignsOlderFormat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	image := w.Image("team/legacy", "one")
	ref, at := w.open(image)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(data []byte) string {
		sum := sha256.Sum256(data)
		sig, err := ecdsa.SignASN1(rand.Reader, private, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(sig)
	}
	push := func(suffix, mediaType string, content []byte, annotations map[string]string) {
		layer, err := at.Repo.PushBlob(t.Context(), mediaType, content)
		if err != nil {
			t.Fatal(err)
		}
		layer.Annotations = annotations
		if _, err := at.Repo.PushBlob(t.Context(), ocispec.MediaTypeEmptyJSON, []byte(ociartifact.EmptyConfig)); err != nil {
			t.Fatal(err)
		}
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: ociartifact.EmptyConfigDescriptor(), Layers: []ocispec.Descriptor{layer}}
		m.SchemaVersion = 2
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := at.Repo.PushManifest(t.Context(), registry.Describe(m.MediaType, data), data, "sha256-"+at.Digest().Hex()+suffix); err != nil {
			t.Fatal(err)
		}
	}
	payload := []byte(`{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":"` + string(at.Digest()) + `"},"type":"cosign container image signature"},"optional":{"env":"prod"}}`)
	push(".sig", simplesigning.PayloadMediaType, payload, map[string]string{simplesigning.AnnotationSignature: sign(payload)})
	statement := []byte(`{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"` + evidence.PredicateSPDX + `","subject":[{"name":"x","digest":{"sha256":"` + at.Digest().Hex() + `"}}],"predicate":{}}`)
	envelope, err := json.Marshal(map[string]any{"payloadType": evidence.InTotoPayloadType, "payload": statement,
		"signatures": []any{map[string]string{"sig": sign(evidence.PAE(evidence.InTotoPayloadType, statement))}}})
	if err != nil {
		t.Fatal(err)
	}
	push(".att", simplesigning.EnvelopeMediaType, envelope, map[string]string{"predicateType": evidence.PredicateSPDX})

	verifier, err := verify.New(verify.Config{Keys: []crypto.PublicKey{private.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	result, err := gate.Image(t.Context(), gate.Request{Repo: at.Repo, Ref: ref, Verifier: verifier,
		Policy: gate.Requirements{Keys: true, Annotations: map[string]string{"env": "prod"}}})
	if err != nil || !result.Decision.Allowed {
		t.Fatalf("%+v %v", result.Decision, err)
	}
	in := result.Input
	if len(in.Signatures) != 1 || in.Signatures[0].Format != evidence.FormatCosignSignature || in.Signatures[0].Where.How != collect.HowLegacyTag {
		t.Errorf("signatures %+v", in.Signatures)
	}
	if len(in.Attestations) != 1 || in.Attestations[0].PredicateType != evidence.PredicateSPDX || string(in.Attestations[0].Statement) != string(statement) {
		t.Errorf("attestations %+v", in.Attestations)
	}
	// An attestation alone is no signature.
	other := w.Image("team/legacy", "two")
	ref, at = w.open(other)
	statement = []byte(strings.Replace(string(statement), result.Subject.Digest.Hex(), at.Digest().Hex(), 1))
	envelope, _ = json.Marshal(map[string]any{"payloadType": evidence.InTotoPayloadType, "payload": statement,
		"signatures": []any{map[string]string{"sig": sign(evidence.PAE(evidence.InTotoPayloadType, statement))}}})
	push(".att", simplesigning.EnvelopeMediaType, envelope, nil)
	result, err = gate.Image(t.Context(), gate.Request{Repo: at.Repo, Ref: ref, Verifier: verifier, Policy: gate.Requirements{Keys: true}})
	if err != nil || result.Decision.Allowed || len(result.Input.Attestations) != 1 || len(result.Input.Signatures) != 0 {
		t.Errorf("%+v %v", result, err)
	}
}
