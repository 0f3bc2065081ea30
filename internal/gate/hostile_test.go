package gate_test

import (
	"bytes"
	"crypto"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/attestation"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// A good signature over the manifest's bytes as a file's is no signature of the
// image: whoever signed a file of the same bytes did not release an image.
func TestPlainSignatureOfAManifest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	image := w.Image("app/plain", "plain")
	ref, at := w.open(image)
	manifest, err := at.Repo.Manifest(t.Context(), at.Desc)
	if err != nil {
		t.Fatal(err)
	}
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
	claim, _, err := s.Blob(t.Context(), bytes.NewReader(manifest))
	if err != nil {
		t.Fatal(err)
	}
	w.attach(image, claim)
	v, err := verify.New(verify.Config{Keys: []crypto.PublicKey{private.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := gate.Image(t.Context(), gate.Request{Repo: at.Repo, Ref: ref, Verifier: v, Policy: gate.Requirements{Keys: true}})
	if err != nil || r.Decision.Allowed || r.Decision.Reasons[0].Code != gate.CodeNotASignature || r.Tried[0].Verified == nil {
		t.Errorf("%+v %v", r.Decision, err)
	}
}

// blobsUnreachable is a network on which blobs cannot be fetched.
type blobsUnreachable struct{}

func (blobsUnreachable) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	return http.DefaultTransport.RoundTrip(r)
}

// Evidence that is listed and cannot be fetched may be what is missing: that is
// neither yes nor no.
func TestOutageIsNoDenial(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	image := w.Image("app/outage", "outage")
	w.attach(image, w.signed(image))
	ref, _ := w.open(image)
	client := registry.NewClient(registry.Options{HTTPClient: &http.Client{Transport: blobsUnreachable{}}})
	repo, err := client.Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gate.Image(t.Context(), gate.Request{Repo: repo, Ref: ref, Verifier: w.verifier, Policy: w.byRita()})
	if fault.KindOf(err) != fault.Unreachable || r.Decision.Allowed {
		t.Errorf("%v, %+v", err, r.Decision)
	}
}

// indexesCalledImages is a registry that calls every index an image's manifest.
type indexesCalledImages struct{}

func (indexesCalledImages) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && resp.Header.Get("Content-Type") == ocispec.MediaTypeImageIndex && strings.Contains(r.URL.Path, "/manifests/") {
		resp.Header.Set("Content-Type", ocispec.MediaTypeImageManifest)
	}
	return resp, err
}

// TestIndexCalledAnImage: the registry's word for what an index is does not keep the
// images that it lists from being judged.
func TestIndexCalledAnImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	whole := w.tree("lie", nil)
	w.sign(whole.index)
	ref, _ := w.open(whole.index)
	repo, err := registry.NewClient(registry.Options{HTTPClient: &http.Client{Transport: indexesCalledImages{}}}).Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*gate.Request){
		"all":     func(r *gate.Request) { r.Images = gate.CoverAll },
		"revoked": func(r *gate.Request) { r.Verifier = w.revoking(time.Now().Add(-time.Minute), whole.arm64) },
	} {
		r := gate.Request{Repo: repo, Ref: ref, Verifier: w.verifier, Policy: w.byRita()}
		change(&r)
		got, err := gate.Image(t.Context(), r)
		if err == nil || got.Decision.Allowed {
			t.Errorf("%s: %+v %v", name, got.Decision, err)
		}
	}
}

// TestFloodOfStatements: unsigned statements beside a signed one are read up to a
// limit, and do not take its place.
func TestFloodOfStatements(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.tree("flood", nil)
	w.sign(good.index)
	_, at := w.open(good.amd64)
	statement := []byte(`{"_type":"` + evidence.StatementV1 + `","predicateType":"` + evidence.PredicateSLSA1 + `","subject":[{"digest":{"sha256":"` +
		at.Desc.Digest.Encoded() + `"}}],"predicate":{}}`)
	layer, err := at.Repo.PushBlob(t.Context(), attestation.StatementMediaType, statement)
	if err != nil {
		t.Fatal(err)
	}
	config, err := at.Repo.PushBlob(t.Context(), ocispec.MediaTypeEmptyJSON, []byte(ociartifact.EmptyConfig))
	if err != nil {
		t.Fatal(err)
	}
	layer.Annotations = map[string]string{attestation.AnnotationPredicate: evidence.PredicateSLSA1}
	for i := range 40 {
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: attestation.ArtifactType, Config: config, Subject: &at.Desc,
			Annotations: map[string]string{"n": strconv.Itoa(i)}}
		m.SchemaVersion = 2
		for range 20 {
			m.Layers = append(m.Layers, layer)
		}
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := at.Repo.Attach(t.Context(), at.Desc, data); err != nil {
			t.Fatal(err)
		}
	}
	q := w.byRita()
	q.AttestationType = evidence.PredicateSLSA1
	r, err := w.ask(good.index, q, func(r *gate.Request) { r.Platform, r.Statements = "linux/amd64", []string{evidence.PredicateSLSA1} })
	if err != nil || !r.Decision.Allowed {
		t.Fatalf("%+v %v", r.Decision, err)
	}
	if n := len(r.Unsigned); n == 0 || n > 256 {
		t.Errorf("%d unsigned statements were read", n)
	}
}
