package rewrite_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/convert"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/hmtest/testimage"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/rekor"
	"github.com/hallmark-dev/hallmark/internal/rewrite"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// lab is an instance whose Rekor v1 log answers, an image layout, and a rewriter.
type lab struct {
	t      *testing.T
	w      *forge.World
	log    *forge.Rekor1
	server *httptest.Server
	root   *trust.Root
	image  rewrite.Image
}

func newLab(t *testing.T, o forge.Options) *lab {
	t.Helper()
	l := &lab{t: t, w: forge.New(o)}
	l.log = l.w.NewRekor1()
	l.server = httptest.NewServer(l.log)
	t.Cleanup(l.server.Close)
	l.root = l.w.TrustRoot(func(s *trust.RootSpec) { s.TLogs[0].BaseURL = l.server.URL })
	ref, err := registry.ParseRef("oci:" + t.TempDir() + "/layout:v1")
	if err != nil {
		t.Fatal(err)
	}
	client := registry.NewClient(registry.Options{})
	if l.image.Desc, err = testimage.Push(t.Context(), client, ref, testimage.Image{}); err != nil {
		t.Fatal(err)
	}
	if l.image.Repo, err = client.Open(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) rewriter(cfg verify.Config) *rewrite.Rewriter {
	l.t.Helper()
	v, err := verify.New(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	return &rewrite.Rewriter{Verifier: v, Roots: cfg.Roots, Log: &rekor.Client{}}
}

func (l *lab) believing() *rewrite.Rewriter {
	return l.rewriter(verify.Config{Roots: []*trust.Root{l.root}})
}

// layer is an attestation of the image, as cosign's older versions wrote it, whose
// entry is in the log and whose proof nobody has.
func (l *lab) layer(o forge.ClaimOptions) forge.Layer {
	subject := `{"name":"app","digest":{"sha256":"` + l.image.Desc.Digest.Encoded() + `"}}`
	o.Payload = bytes.Replace(forge.StatementAbout(subject), []byte(evidence.PredicateSign), []byte(evidence.PredicateSPDX), 1)
	c := l.w.Claim(o)
	if len(c.LogEntries) > 0 {
		l.log.Relog(c)
	}
	return l.w.CosignLayer(c, nil)
}

func (l *lab) tag(suffix string, layers ...forge.Layer) {
	l.t.Helper()
	repo := l.image.Repo
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: ociartifact.EmptyConfigDescriptor()}
	m.SchemaVersion, m.Config.MediaType = 2, ocispec.MediaTypeImageConfig
	if _, err := repo.PushBlob(l.t.Context(), m.Config.MediaType, []byte(ociartifact.EmptyConfig)); err != nil {
		l.t.Fatal(err)
	}
	for _, layer := range layers {
		d, err := repo.PushBlob(l.t.Context(), layer.MediaType, layer.Content)
		if err != nil {
			l.t.Fatal(err)
		}
		d.Annotations = layer.Annotations
		m.Layers = append(m.Layers, d)
	}
	data, err := json.Marshal(m)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := repo.PushManifest(l.t.Context(), registry.Describe(m.MediaType, data), data, "sha256-"+l.image.Desc.Digest.Encoded()+suffix); err != nil {
		l.t.Fatal(err)
	}
}

// run converts and gives the outcomes' statuses beside them.
func (l *lab) run(r *rewrite.Rewriter, attach bool) ([]rewrite.Outcome, []rewrite.Status) {
	l.t.Helper()
	outcomes, err := r.Convert(l.t.Context(), l.image, attach)
	if err != nil {
		l.t.Fatal(err)
	}
	var statuses []rewrite.Status
	for _, o := range outcomes {
		statuses = append(statuses, o.Status)
	}
	return outcomes, statuses
}

func (l *lab) referrers() int {
	l.t.Helper()
	list, err := l.image.Repo.Referrers(l.t.Context(), l.image.Desc)
	if err != nil {
		l.t.Fatal(err)
	}
	return len(list)
}

// A promise becomes a proof of the log's, the bundle is of version 0.3 and verifies,
// the old stays, and a second run adds nothing and asks no log.
func TestAttached(t *testing.T) {
	t.Parallel()
	l := newLab(t, forge.Options{Intermediate: true})
	l.log.Add("dsse", "0.0.1", []byte("{}")) // a tree of more than one leaf
	l.tag(".att", l.layer(forge.ClaimOptions{Logs: []string{"v1 dsse"}}), l.layer(forge.ClaimOptions{Logs: []string{"v1 intoto"}}))
	r := l.believing()
	if outcomes, statuses := l.run(r, false); !slices.Equal(statuses, []rewrite.Status{rewrite.Converted, rewrite.Converted}) || l.referrers() != 0 {
		t.Fatalf("dry: %v, %d referrers, %+v", statuses, l.referrers(), outcomes[0].Err)
	}
	outcomes, statuses := l.run(r, true)
	if !slices.Equal(statuses, []rewrite.Status{rewrite.Converted, rewrite.Converted}) || l.referrers() != 2 {
		t.Fatalf("%v, %d referrers, %+v", statuses, l.referrers(), outcomes[0].Err)
	}
	for _, o := range outcomes {
		if o.Result.Format != evidence.FormatBundle03 || !o.Verified || o.ProofBy != l.server.URL || o.As.Where.Ref == "" || len(o.Result.Claim.Certificates) != 1 {
			t.Errorf("%+v", o)
		}
	}
	asked := l.log.Asked()
	outcomes, _ = l.run(r, true)
	if l.referrers() != 2 || l.log.Asked() != asked {
		t.Errorf("again: %d referrers, %d more questions", l.referrers(), l.log.Asked()-asked)
	}
	existed := 0
	for _, o := range outcomes {
		if o.Status == rewrite.Existed && o.As.Where.Ref != "" {
			existed++
		}
	}
	if existed != 2 || len(outcomes) != 4 {
		t.Errorf("again: %d of %d existed", existed, len(outcomes))
	}
	// The old is still there, and the new verifies for who looks at nothing else.
	items, err := collect.Image(t.Context(), l.image.Repo, l.image.Desc, collect.Options{LegacyTags: true})
	if err != nil {
		t.Fatal(err)
	}
	formats := map[string]int{}
	for _, it := range items {
		if ok, why := r.Verifier.Claim(it.Claim, verify.Image(it.Subject)); ok == nil || ok.PredicateType() != evidence.PredicateSPDX {
			t.Errorf("%s: %v", it.Format, why)
		}
		formats[it.Format]++
	}
	if formats["cosign-attestation"] != 2 || formats["sigstore-bundle-v0.3"] != 2 {
		t.Errorf("%v", formats)
	}
}

// Offline no log is asked, and the result is of version 0.1; online later it is
// made anew, of version 0.3.
func TestOffline(t *testing.T) {
	t.Parallel()
	l := newLab(t, forge.Options{})
	l.tag(".att", l.layer(forge.ClaimOptions{Logs: []string{"v1 dsse"}}))
	r := l.believing()
	r.Log = nil
	outcomes, _ := l.run(r, true)
	if o := outcomes[0]; o.Status != rewrite.Converted || o.Result.Format != evidence.FormatBundle01 || !o.Verified || l.log.Asked() != 0 {
		t.Fatalf("%+v", o)
	}
	again, _ := l.run(r, true)
	if l.referrers() != 1 || !slices.ContainsFunc(again, func(o rewrite.Outcome) bool { return o.Status == rewrite.Existed }) {
		t.Errorf("%+v", again)
	}
	online, statuses := l.run(l.believing(), true)
	slices.Sort(statuses) // the bundle of version 0.1 and the attestation are one thing
	if !slices.Equal(statuses, []rewrite.Status{rewrite.Converted, rewrite.Existed}) || l.referrers() != 2 {
		t.Errorf("%v %+v", statuses, online)
	}
}

// A log that does not prove what it promised, or that cannot be asked: nothing is
// attached, and the two are told apart.
func TestLogs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(l *lab)
		why   string
		kind  fault.Kind
	}{
		"forged checkpoint": {func(l *lab) { l.log.Spoil = signedByAnother }, "is not signed by the log", 0},
		"lost entry":        {func(l *lab) { l.server.Config.Handler = l.w.NewRekor1() }, "the log has no entry there", 0},
		"silent log":        {func(l *lab) { l.server.Close() }, "", fault.Unreachable},
	} {
		l := newLab(t, forge.Options{})
		l.tag(".att", l.layer(forge.ClaimOptions{Logs: []string{"v1 dsse"}}))
		c.spoil(l)
		outcomes, _ := l.run(l.believing(), true)
		o := outcomes[0]
		switch {
		case l.referrers() != 0:
			t.Errorf("%s: something was attached", name)
		case c.why != "" && (o.Status != rewrite.Refused || o.Reasons[0].Code != convert.CodeNoProof || !strings.Contains(o.Reasons[0].Message, c.why)):
			t.Errorf("%s: %+v", name, o)
		case c.why == "" && (o.Status != rewrite.Failed || fault.KindOf(o.Err) != c.kind):
			t.Errorf("%s: %+v", name, o)
		}
	}
}

// signedByAnother is the answer of a log with another key.
func signedByAnother(entry map[string]any) {
	var v struct {
		Proof map[string]any `json:"inclusionProof"`
	}
	forge.Must(0, json.Unmarshal(forge.Must(json.Marshal(entry["verification"])), &v))
	root := forge.Must(evidence.ParseDigest("sha256:" + v.Proof["rootHash"].(string)))
	v.Proof["checkpoint"] = forge.New(forge.Options{}).NoteV1(1, root.Bytes())
	entry["verification"] = v
}

// What does not verify here stays so, which is said; what stands in the way with
// proofs that do not hold does not count as the same.
func TestUnverified(t *testing.T) {
	t.Parallel()
	l := newLab(t, forge.Options{})
	signer := forge.NewKey(elliptic.P256())
	l.tag(".att", l.layer(forge.ClaimOptions{Logs: []string{"v1 dsse"}, KeyOnly: true, Signer: signer}))
	outcomes, _ := l.run(l.believing(), false)
	if o := outcomes[0]; o.Status != rewrite.Converted || o.Verified || o.Unproven[0].Code != verify.KeyUnknown || o.ProofBy == "" {
		t.Fatalf("%+v", o)
	}
	blocker := *outcomes[0].Result.Claim
	blocker.LogEntries = slices.Clone(blocker.LogEntries)
	proof := *blocker.LogEntries[0].Proof
	proof.RootHash = make([]byte, 32)
	blocker.LogEntries[0].Proof = &proof
	layer, err := l.image.Repo.PushBlob(t.Context(), evidence.BundleMediaType, forge.Bundle(&blocker, "0.3"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.image.Repo.PushBlob(t.Context(), ocispec.MediaTypeEmptyJSON, []byte(ociartifact.EmptyConfig)); err != nil {
		t.Fatal(err)
	}
	manifest, _, err := ociartifact.BundleManifest(l.image.Desc, layer, evidence.PredicateSPDX, l.w.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.image.Repo.Attach(t.Context(), l.image.Desc, manifest); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*rewrite.Rewriter{"key unknown": l.believing(),
		"key known": l.rewriter(verify.Config{Roots: []*trust.Root{l.root}, Keys: []crypto.PublicKey{signer.Public()}})} {
		_, statuses := l.run(r, false)
		if !slices.Contains(statuses, rewrite.Converted) {
			t.Errorf("%s: %v", name, statuses)
		}
	}
	// Without the log in the trust there is nobody to ask; the promise stays.
	none := l.rewriter(verify.Config{})
	outcomes, _ = l.run(none, true)
	if i := slices.IndexFunc(outcomes, func(o rewrite.Outcome) bool { return o.Status == rewrite.Existed }); i < 0 {
		t.Errorf("nobody to ask: %+v", outcomes)
	}
}

// What a bundle cannot hold is refused, and what is none of cosign's is left alone.
func TestOthers(t *testing.T) {
	t.Parallel()
	l := newLab(t, forge.Options{})
	payload := forge.SimpleSigning("registry.test/app", evidence.Digest(l.image.Desc.Digest), nil)
	l.tag(".sig", l.w.CosignLayer(l.w.Claim(forge.ClaimOptions{Artifact: payload, Logs: []string{"v1 hashedrekord"}}), payload))
	broken := l.layer(forge.ClaimOptions{Logs: []string{"v1 dsse"}})
	broken.Content = []byte("{")
	l.tag(".att", broken, l.layer(forge.ClaimOptions{Logs: []string{"v1 dsse"}}))
	outcomes, _ := l.run(l.believing(), false)
	got := map[rewrite.Status]rewrite.Outcome{}
	for _, o := range outcomes {
		got[o.Status] = o
	}
	var malformed *collect.MalformedError
	if len(outcomes) != 3 || got[rewrite.Refused].Reasons[0].Code != convert.CodeLoses || got[rewrite.Converted].Result == nil || !errors.As(got[rewrite.Failed].Err, &malformed) {
		t.Errorf("%+v", outcomes)
	}
	r := l.believing()
	for name, it := range map[string]collect.Item{
		"bundle 0.3": {Claim: &evidence.Claim{Format: evidence.FormatBundle03}},
		"notary":     {Claim: &evidence.Claim{Notary: &evidence.NotaryEnvelope{}}},
		"an SBOM":    {Note: "unsigned"},
	} {
		if o := r.Item(t.Context(), it, nil, verify.Artifact{}); o.Status != rewrite.Unchanged || len(o.Notes) != 1 {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

// Bundles in files: the artifact is what the bundle names.
func TestFiles(t *testing.T) {
	t.Parallel()
	l := newLab(t, forge.Options{Intermediate: true})
	statement := []byte(strings.Replace(string(forge.StatementAbout(forge.ArtifactSubject())), evidence.PredicateSign, evidence.PredicateSPDX, 1))
	for name, c := range map[string]*evidence.Claim{
		"envelope": l.w.Claim(forge.ClaimOptions{Payload: statement, Logs: []string{"v1 dsse"}}),
		"message":  l.w.Claim(forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}),
	} {
		c.Certificates = append(c.Certificates, l.w.CA.Cert.Raw)
		old := *c
		old.Format, old.MediaType = evidence.FormatBundle02, "application/vnd.dev.sigstore.bundle+json;version=0.2"
		o := l.believing().Item(t.Context(), collect.Item{Claim: &old}, nil, verify.Artifact{})
		if o.Status != rewrite.Converted || !o.Verified || o.Result.Format != evidence.FormatBundle03 || len(o.Notes) != 1 || o.ProofBy != "" {
			t.Errorf("%s: %+v", name, o)
		}
		// Under a trust that does not have the chain, it stays, in the version that can hold it.
		foreign := l.rewriter(verify.Config{})
		if o := foreign.Item(t.Context(), collect.Item{Claim: &old}, nil, verify.Artifact{}); o.Status != rewrite.Converted || o.Result.Format != evidence.FormatBundle01 || o.Verified {
			t.Errorf("%s, foreign: %+v", name, o)
		}
		old.Format = evidence.FormatBundle01
		if o := foreign.Item(t.Context(), collect.Item{Claim: &old}, nil, verify.Artifact{}); o.Status != rewrite.Unchanged {
			t.Errorf("%s, foreign 0.1: %+v", name, o)
		}
	}
}
