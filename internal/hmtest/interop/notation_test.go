package interop_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/notary"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// notationHome is a notation configuration with the world's key and certificates
// and a policy; it returns notation's folder.
func notationHome(t *testing.T, w *notaryforge.World, home string, policy []byte, stores map[string][]*x509.Certificate) string {
	t.Helper()
	dir := filepath.Join(home, "notation")
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	block := func(typ string, ders ...[]byte) []byte {
		var out []byte
		for _, der := range ders {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})...)
		}
		return out
	}
	der, err := x509.MarshalPKCS8PrivateKey(w.Leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	key := write("localkeys/k.key", block("PRIVATE KEY", der))
	chain := write("localkeys/k.crt", block("CERTIFICATE", notaryforge.Chain(w.Leaf, w.CA, w.Root)...))
	keys, err := json.Marshal(map[string]any{"default": "k", "keys": []map[string]string{{"name": "k", "keyPath": key, "certPath": chain}}})
	if err != nil {
		t.Fatal(err)
	}
	write("signingkeys.json", keys)
	write("trustpolicy.json", policy)
	for store, certs := range stores {
		for _, c := range certs {
			write("truststore/x509/"+store+"/"+c.SerialNumber.String()+".crt", c.Raw)
		}
	}
	return dir
}

// signatures are the envelopes attached to an image, in the manifests that
// notation pushes, as claims.
func signatures(t *testing.T, image string) (ocispec.Descriptor, []*evidence.Claim) {
	t.Helper()
	ctx := context.Background()
	ref, err := registry.ParseRef(image)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := registry.NewClient(registry.Options{}).Open(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := repo.Resolve(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	listed, err := repo.Referrers(ctx, desc)
	if err != nil {
		t.Fatal(err)
	}
	var out []*evidence.Claim
	for _, r := range listed {
		var m ocispec.Manifest
		data, err := repo.Manifest(ctx, r.Descriptor)
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		if err != nil || m.Config.MediaType != notary.ArtifactType || len(m.Layers) != 1 {
			t.Fatalf("%s: %v, %+v", r.Digest, err, m)
		}
		envelope, err := repo.Blob(ctx, m.Layers[0], notary.MaxSize)
		if err != nil {
			t.Fatal(err)
		}
		c, err := notary.Parse(m.Layers[0].MediaType, envelope)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return desc, out
}

// TestNotationSigns: what stock notation signs and pushes, with and without the
// fallback tag, with metadata, expiry and a timestamp, is read and believed under
// the very folder that notation itself verifies with.
func TestNotationSigns(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	w := notaryforge.NewWorld(time.Now(), nil)
	root := mustRead(t, r.TrustedRoot)
	tsa := root.TSAs[0].Anchor
	statement := w.Statement("strict")
	statement["registryScopes"], statement["trustStores"] = []string{"*"}, []string{"ca:acme", "tsa:acme"}
	home := t.TempDir()
	dir := notationHome(t, w, home, notaryforge.PolicyJSON(statement), map[string][]*x509.Certificate{"ca/acme": {w.Root.Cert}, "tsa/acme": {tsa}})
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(hmtest.Tool(t, "notation"), args...)
		cmd.Env = []string{"HOME=" + home, "XDG_CONFIG_HOME=" + home, "XDG_CACHE_HOME=" + home, "DOCKER_CONFIG=" + home}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("notation %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	tsaFile := filepath.Join(home, "tsa.crt")
	if err := os.WriteFile(tsaFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tsa.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	theirs, err := notation.FromFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(verify.Config{Notary: theirs})
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"jws", "cose"} {
		for _, tag := range []string{"true", "false"} {
			image := r.Image("team/"+format+tag, "content")
			run("sign", "--insecure-registry", "--signature-format", format, "--key", "k", "--user-metadata", "build=7", "--expiry", "24h",
				"--force-referrers-tag="+tag, "--timestamp-url", r.URL+"/api/v1/timestamp", "--timestamp-root-cert", tsaFile, image)
			run("verify", "--insecure-registry", image)
			desc, claims := signatures(t, image)
			if len(claims) != 1 {
				t.Fatalf("%s, tag %s: %d signatures", format, tag, len(claims))
			}
			a := verify.Artifact{Digests: []evidence.Digest{evidence.Digest(desc.Digest)}, MediaType: desc.MediaType, Size: desc.Size,
				Repository: r.Registry + "/team/" + format + tag}
			out, reasons := v.Claim(claims[0], a)
			if out == nil {
				t.Fatalf("%s, tag %s: %v", format, tag, reasons)
			}
			n := claims[0].Notary
			if out.Annotations()["build"] != "7" || n.Expiry.Sub(n.SigningTime) != 24*time.Hour ||
				!strings.HasPrefix(n.SigningAgent, "notation-go/") || len(out.Times()) != 1 || out.Times()[0].Kind != "rfc3161" {
				t.Errorf("%s, tag %s: %+v, %+v", format, tag, n, out.Fact(evidence.Location{}))
			}
			a.Digests = []evidence.Digest{evidence.SHA256(nil)}
			if out, _ := v.Claim(claims[0], a); out != nil {
				t.Errorf("%s, tag %s: believed about another image", format, tag)
			}
		}
	}
}

func mustRead(t *testing.T, path string) *trust.Root {
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
