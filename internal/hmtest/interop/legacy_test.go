package interop_test

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/convert"
	"github.com/hallmark-dev/hallmark/internal/evidence/simplesigning"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// older makes cosign write the format that it wrote before version 3.
var older = []string{"--yes", "--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false"}

// keyPair is a key that cosign made.
func keyPair(c *cosign) (private, public string, trusted crypto.PublicKey) {
	c.t.Helper()
	c.env = append(c.env, "COSIGN_PASSWORD=")
	prefix := filepath.Join(c.t.TempDir(), "k")
	c.must("generate-key-pair", "--output-key-prefix", prefix)
	data, err := os.ReadFile(prefix + ".pub")
	if err != nil {
		c.t.Fatal(err)
	}
	if trusted, err = key.ParsePublicPEM(data); err != nil {
		c.t.Fatal(err)
	}
	return prefix + ".key", prefix + ".pub", trusted
}

func openImage(t *testing.T, image string) (*registry.Repository, ocispec.Descriptor) {
	t.Helper()
	ref, err := registry.ParseRef(image)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := registry.NewClient(registry.Options{}).Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := repo.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return repo, desc
}

// verified collects everything of an image and judges it; reasons are of the rest.
func verified(t *testing.T, image string, opts collect.Options, cfg verify.Config) (good []*verify.Verified, items []collect.Item, reasons []string) {
	t.Helper()
	repo, desc := openImage(t, image)
	items, err := collect.Image(t.Context(), repo, desc, opts)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		if it.Err != nil {
			reasons = append(reasons, it.Err.Error())
		}
		if it.Claim == nil {
			continue
		}
		ok, why := v.Claim(it.Claim, verify.Image(it.Subject))
		if ok == nil {
			reasons = append(reasons, why[0].String())
			continue
		}
		good = append(good, ok)
	}
	return good, items, reasons
}

// What cosign signs and attests with a key in its older format is found without a
// flag and verifies.
func TestCosignsOlderFormatByKey(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	c := newCosign(t, r)
	private, public, trusted := keyPair(c)
	predicate := filepath.Join(t.TempDir(), "sbom.json")
	if err := os.WriteFile(predicate, []byte(`{"SPDXID":"SPDXRef-DOCUMENT"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	root := readRoot(t, r)
	for name, flags := range map[string]struct {
		extra []string
		env   []string
		opts  func(repository string) collect.Options
		cfg   verify.Config
		times int
	}{
		"plain":     {cfg: verify.Config{Keys: []crypto.PublicKey{trusted}}},
		"timestamp": {extra: []string{"--timestamp-server-url", r.URL + "/api/v1/timestamp"}, cfg: verify.Config{Keys: []crypto.PublicKey{trusted}, Roots: []*trust.Root{root}, RequireTimestamp: true}, times: 1},
		"prefix": {extra: []string{"--attachment-tag-prefix", "pre-"}, cfg: verify.Config{Keys: []crypto.PublicKey{trusted}},
			opts: func(string) collect.Options { return collect.Options{TagPrefix: "pre-"} }},
		"repository": {env: []string{"COSIGN_REPOSITORY=" + r.Registry + "/signatures"}, cfg: verify.Config{Keys: []crypto.PublicKey{trusted}},
			opts: func(string) collect.Options {
				ref, err := registry.ParseRef(r.Registry + "/signatures")
				if err != nil {
					t.Fatal(err)
				}
				repo, err := registry.NewClient(registry.Options{}).Open(t.Context(), ref)
				if err != nil {
					t.Fatal(err)
				}
				return collect.Options{SignatureRepository: repo}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			image := r.Image("older/"+name, name)
			tool := &cosign{t, c.bin, append(append([]string{}, c.env...), flags.env...)}
			tool.must(append(append(append([]string{"sign", "--key", private, "-a", "env=prod"}, older...), flags.extra...), image)...)
			tool.must(append(append(append([]string{"attest", "--key", private, "--type", "spdxjson", "--predicate", predicate}, older...), flags.extra...), image)...)
			var opts collect.Options
			if flags.opts != nil {
				opts = flags.opts(name)
			}
			good, items, reasons := verified(t, image, opts, flags.cfg)
			if len(reasons) > 0 || len(items) != 2 || len(good) != 2 {
				t.Fatalf("%d items, %d verified: %v", len(items), len(good), reasons)
			}
			for _, v := range good {
				if len(v.Times()) != flags.times {
					t.Errorf("%s: times %v", v.Format(), v.Times())
				}
				switch v.Format() {
				case evidence.FormatCosignSignature:
					if !v.IsSignature() || !maps.Equal(v.Annotations(), map[string]string{"env": "prod"}) {
						t.Errorf("%s %v", v.Kind(), v.Annotations())
					}
				case evidence.FormatCosignAttestation:
					if v.IsSignature() || v.PredicateType() != evidence.PredicateSPDX {
						t.Errorf("%s %s", v.Kind(), v.PredicateType())
					}
				}
			}
			// And not for somebody else's key.
			other := forge.NewKey(elliptic.P256())
			if good, _, _ := verified(t, image, opts, verify.Config{Keys: []crypto.PublicKey{other.Public()}}); len(good) != 0 {
				t.Errorf("by another key: %d", len(good))
			}
		})
	}
	t.Run("converted", func(t *testing.T) {
		_, items, _ := verified(t, r.Registry+"/older/plain:latest", collect.Options{}, verify.Config{Keys: []crypto.PublicKey{trusted}})
		for _, it := range items {
			if it.Claim.Envelope == nil {
				continue
			}
			result, reasons, err := convert.Bundle(it.Claim)
			if err != nil || reasons != nil || result.Format != evidence.FormatBundle03 {
				t.Fatalf("%v %v", reasons, err)
			}
			file := filepath.Join(t.TempDir(), "bundle.json")
			if err := os.WriteFile(file, result.Bundle, 0o600); err != nil {
				t.Fatal(err)
			}
			tool := &cosign{t, c.bin, c.env}
			flags := []string{"verify-blob-attestation", "--key", public, "--insecure-ignore-tlog", "--bundle", file, "--type", "spdxjson", "--digestAlg", "sha256", "--digest"}
			tool.must(append(flags, evidence.Digest(it.Subject).Hex())...)
			tool.fails("digest", append(flags, strings.Repeat("0", 64))...)
		}
	})
	t.Run("OCI 1.1", func(t *testing.T) {
		image := r.Image("older/oci11", "oci11")
		tool := &cosign{t, c.bin, append(append([]string{}, c.env...), "COSIGN_EXPERIMENTAL=1")}
		tool.must(append(append([]string{"sign", "--key", private, "--registry-referrers-mode", "oci-1-1"}, older...), image)...)
		good, items, reasons := verified(t, image, collect.Options{}, verify.Config{Keys: []crypto.PublicKey{trusted}})
		if len(good) != 1 || len(items) != 1 || good[0].Format() != evidence.FormatCosignSignature || items[0].Where.How != registry.HowAPI {
			t.Errorf("%+v %v", items, reasons)
		}
	})
	t.Run("saved", func(t *testing.T) {
		dir := t.TempDir()
		tool := &cosign{t, c.bin, c.env}
		tool.must("save", "--dir", dir, r.Registry+"/older/plain:latest")
		good, _, reasons := verified(t, "oci:"+dir, collect.Options{}, verify.Config{Keys: []crypto.PublicKey{trusted}})
		if len(good) != 2 {
			t.Errorf("%d verified: %v", len(good), reasons)
		}
	})
}

// Keyless signatures of the older format, which a Rekor v1 log promised to
// include: cosign and we accept the same ones, and refuse the same near-misses.
func TestCosignsOlderFormatKeyless(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	c := newCosign(t, r)
	w := forge.New(forge.Options{})
	dir := t.TempDir()
	file := filepath.Join(dir, "trusted_root.json")
	if err := os.WriteFile(file, w.TrustedRoot(nil), 0o600); err != nil {
		t.Fatal(err)
	}
	who := []string{"--trusted-root", file, "--certificate-identity", "alice@example.com", "--certificate-oidc-issuer", "https://issuer.test"}
	cfg := verify.Config{Roots: []*trust.Root{w.Root}}

	sign := func(image string, o forge.ClaimOptions) forge.Layer {
		payload := forge.SimpleSigning(strings.Split(image, "@")[0], evidence.Digest(strings.Split(image, "@")[1]), map[string]string{"env": "prod"})
		o.Artifact, o.Logs = payload, []string{"v1 hashedrekord"}
		return w.CosignLayer(w.Claim(o), payload)
	}
	for name, change := range map[string]func(image string, l *forge.Layer) bool{
		"as it is":       func(string, *forge.Layer) bool { return true },
		"chain left out": func(_ string, l *forge.Layer) bool { l.Annotations[simplesigning.AnnotationChain] = ""; return true },
		"no log entry": func(_ string, l *forge.Layer) bool {
			delete(l.Annotations, simplesigning.AnnotationBundle)
			return false
		},
		"no certificate": func(_ string, l *forge.Layer) bool {
			delete(l.Annotations, simplesigning.AnnotationCertificate)
			return false
		},
		"no signature": func(_ string, l *forge.Layer) bool {
			delete(l.Annotations, simplesigning.AnnotationSignature)
			return false
		},
		"swapped entries": func(image string, l *forge.Layer) bool {
			l.Annotations[simplesigning.AnnotationBundle] = sign(image, forge.ClaimOptions{}).Annotations[simplesigning.AnnotationBundle]
			return false
		},
		"another image": func(image string, l *forge.Layer) bool {
			*l = sign(strings.Split(image, "@")[0]+"@"+string(evidence.SHA256(nil)), forge.ClaimOptions{})
			return false
		},
		"changed payload": func(_ string, l *forge.Layer) bool {
			l.Content = []byte(strings.Replace(string(l.Content), "prod", "dev!", 1))
			return false
		},
		"changed time": func(_ string, l *forge.Layer) bool {
			l.Annotations[simplesigning.AnnotationBundle] = strings.Replace(l.Annotations[simplesigning.AnnotationBundle], `"integratedTime":1`, `"integratedTime":2`, 1)
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			image := r.Image("keyless/app", name)
			l := sign(image, forge.ClaimOptions{})
			want := change(image, &l)
			attachOlder(t, image, ".sig", l)
			tool := &cosign{t, c.bin, c.env}
			_, talk, err := tool.run(append(append([]string{"verify"}, who...), image)...)
			good, _, reasons := verified(t, image, collect.Options{}, cfg)
			if (err == nil) != want || (len(good) == 1) != want {
				t.Errorf("cosign: %v; we: %d verified, %v\n%s", err, len(good), reasons, talk)
			}
			if want && (!good[0].IsSignature() || good[0].Signer().Identity != "alice@example.com" || len(good[0].Times()) != 1) {
				t.Errorf("%+v", good[0].Signer())
			}
		})
	}
	t.Run("attestation logged by cosign 1", func(t *testing.T) {
		image := r.Image("keyless/app", "attested by cosign 1")
		digest := evidence.Digest(strings.Split(image, "@")[1])
		claim := w.Claim(forge.ClaimOptions{Payload: forge.StatementAbout(`{"name":"app","digest":{"sha256":"` + digest.Hex() + `"}}`)})
		certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: claim.Certificates[0]})
		body := forge.JCS(map[string]any{"apiVersion": "0.0.1", "kind": "intoto", "spec": map[string]any{"publicKey": forge.B64(certificate),
			"content": map[string]any{"hash": map[string]any{"algorithm": "sha256", "value": evidence.SHA256(w.CosignLayer(claim, nil).Content).Hex()}}}})
		claim.LogEntries = []evidence.LogEntry{w.SignV1(evidence.LogEntry{LogIndex: 7, IntegratedTime: w.Now.Unix() + 2, Kind: "intoto", Version: "0.0.1", Body: body})}
		attachOlder(t, image, ".att", w.CosignLayer(claim, nil))
		tool := &cosign{t, c.bin, c.env}
		tool.must(append(append([]string{"verify-attestation", "--type", evidence.PredicateSign}, who...), image)...)
		if good, _, reasons := verified(t, image, collect.Options{}, cfg); len(good) != 1 {
			t.Errorf("%v", reasons)
		}
	})
	t.Run("attestation, converted", func(t *testing.T) {
		image := r.Image("keyless/app", "attested")
		digest := evidence.Digest(strings.Split(image, "@")[1])
		statement := strings.Replace(string(forge.StatementAbout(`{"name":"app","digest":{"sha256":"`+digest.Hex()+`"}}`)), evidence.PredicateSign, evidence.PredicateSPDX, 1)
		claim := w.Claim(forge.ClaimOptions{Payload: []byte(statement), Logs: []string{"v1 dsse"}})
		attachOlder(t, image, ".att", w.CosignLayer(claim, nil))
		good, items, reasons := verified(t, image, collect.Options{}, cfg)
		if len(good) != 1 || good[0].PredicateType() != evidence.PredicateSPDX {
			t.Fatalf("%v", reasons)
		}
		tool := &cosign{t, c.bin, c.env}
		promised := items[0].Claim
		proven := *promised
		proven.LogEntries = append([]evidence.LogEntry{}, promised.LogEntries...)
		proven.LogEntries[0].Proof = claim.LogEntries[0].Proof
		for format, c := range map[evidence.Format]*evidence.Claim{evidence.FormatBundle01: promised, evidence.FormatBundle03: &proven} {
			result, why, err := convert.Bundle(c)
			if err != nil || why != nil || result.Format != format {
				t.Fatalf("%s: %v %v", format, why, err)
			}
			path := filepath.Join(dir, string(format))
			if err := os.WriteFile(path, result.Bundle, 0o600); err != nil {
				t.Fatal(err)
			}
			tool.must(append(append([]string{"verify-blob-attestation"}, who...), "--bundle", path, "--type", "spdxjson", "--digestAlg", "sha256", "--digest", digest.Hex())...)
		}
	})
}

func readRoot(t *testing.T, r *hmtest.Running) *trust.Root {
	t.Helper()
	data, err := os.ReadFile(r.TrustedRoot)
	if err != nil {
		t.Fatal(err)
	}
	root, err := trust.ParseTrustedRoot(data)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// attachOlder pushes a layer under cosign's tag of an image.
func attachOlder(t *testing.T, image, suffix string, l forge.Layer) {
	t.Helper()
	repo, desc := openImage(t, image)
	layer, err := repo.PushBlob(context.Background(), l.MediaType, l.Content)
	if err != nil {
		t.Fatal(err)
	}
	layer.Annotations = l.Annotations
	if _, err := repo.PushBlob(t.Context(), ocispec.MediaTypeImageConfig, []byte(ociartifact.EmptyConfig)); err != nil {
		t.Fatal(err)
	}
	config := ociartifact.EmptyConfigDescriptor()
	config.MediaType = ocispec.MediaTypeImageConfig
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer}}
	m.SchemaVersion = 2
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.PushManifest(t.Context(), registry.Describe(m.MediaType, data), data, "sha256-"+desc.Digest.Encoded()+suffix); err != nil {
		t.Fatal(err)
	}
}

// Archives that crane writes: an OCI layout, and docker save's older form, which
// has no manifest and is compared with the signed one.
func TestArchivesOfCrane(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	image := r.Image("archived", "content")
	repo, desc := openImage(t, image)
	manifest, err := repo.Manifest(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	layout, packed, saved := filepath.Join(dir, "layout"), filepath.Join(dir, "layout.tar"), filepath.Join(dir, "saved.tar")
	run(t, hmtest.Tool(t, "crane"), "pull", "--insecure", "--format", "oci", image, layout)
	run(t, "tar", "-C", layout, "-cf", packed, ".")
	run(t, hmtest.Tool(t, "crane"), "pull", "--insecure", "--format", "tarball", image, saved)
	if _, found := openImage(t, "oci-archive:"+packed); found.Digest != desc.Digest {
		t.Errorf("oci-archive: %s, want %s", found.Digest, desc.Digest)
	}
	archive, err := registry.OpenDockerArchive(saved, "")
	if err != nil {
		t.Fatal(err)
	}
	if reasons, err := archive.Check(t.Context(), manifest); err != nil || reasons != nil {
		t.Errorf("%v %v", reasons, err)
	}
	other := r.Image("archived", "other content")
	repo, desc = openImage(t, other)
	if manifest, err = repo.Manifest(t.Context(), desc); err != nil {
		t.Fatal(err)
	}
	if reasons, err := archive.Check(t.Context(), manifest); err != nil || len(reasons) != 1 || reasons[0].Code != registry.CodeArchiveDiffers {
		t.Errorf("%v %v", reasons, err)
	}
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
}
