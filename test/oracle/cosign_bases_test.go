package oracle_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

const (
	cosignAlice   = "alice@example.com"
	cosignMallory = "mallory@example.com"
)

// cosignBase is one way of signing an image and the question whether it is
// signed, as both are asked it.
type cosignBase struct {
	name string
	// good are two signatures of the image by the right signer; other is theirs of
	// another image, and stranger somebody else's of the image.
	good            [2]*material
	other, stranger *material
	// signed has the signer sign any payload; nil: the key is not here.
	signed func(payload []byte) *material

	args     []string // of cosign
	env      []string
	verifier *verify.Verifier
	wants    gate.Requirements
}

// cosignWorld is everything that signed images need.
type cosignWorld struct {
	t        *testing.T
	bin      string
	env      []string
	up       *hmtest.Running
	forged   *forge.World
	hostile  *credulousRegistry
	images   [2]servedManifest // the image and another one
	dir      string
	root     *trust.Root // of up
	forgedTo string      // path of forged's trusted root
	keys     [2]string   // path prefixes of key pairs by cosign: alice's, mallory's
	bases    []*cosignBase
	pushed   int
}

func newCosignWorld(t *testing.T) *cosignWorld {
	t.Helper()
	w := &cosignWorld{t: t, bin: hmtest.Tool(t, "cosign"), up: hmtest.Authority(t), hostile: newCredulousRegistry(t), dir: t.TempDir(),
		forged: forge.New(forge.Options{Intermediate: true})}
	w.env = []string{"HOME=" + w.dir, "TUF_ROOT=" + filepath.Join(w.dir, "tuf"), "DOCKER_CONFIG=" + w.dir, "COSIGN_PASSWORD=", "NO_COLOR=1"}
	w.root = forge.Must(trust.ParseTrustedRoot(forge.Must(os.ReadFile(w.up.TrustedRoot))))
	w.forgedTo = w.write("forged_root.json", w.forged.TrustedRoot(nil))
	for i, content := range []string{"the image", "another image"} {
		repo, desc := w.open(w.up.Image("images", content))
		w.images[i] = servedManifest{desc.MediaType, forge.Must(repo.Manifest(context.Background(), desc))}
	}
	for i, name := range []string{"alice", "mallory"} {
		w.keys[i] = filepath.Join(w.dir, name)
		w.must("generate-key-pair", "--output-key-prefix", w.keys[i])
	}
	w.keyBases()
	w.keylessBases()
	w.bundleBases()
	return w
}

func (w *cosignWorld) write(name string, data []byte) string {
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// cosign runs the binary; talk is what it says for people.
func (w *cosignWorld) cosign(env []string, args ...string) (talk string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.bin, args...)
	cmd.Env = append(append([]string{}, w.env...), env...)
	var out bytes.Buffer
	cmd.Stderr = &out
	err = cmd.Run()
	return out.String(), err
}

func (w *cosignWorld) must(args ...string) {
	w.t.Helper()
	if talk, err := w.cosign(nil, args...); err != nil {
		w.t.Fatalf("cosign %v: %v\n%s", args, err, talk)
	}
}

func (w *cosignWorld) open(image string) (*registry.Repository, ocispec.Descriptor) {
	w.t.Helper()
	ref := forge.Must(registry.ParseRef(image))
	repo := forge.Must(registry.NewClient(registry.Options{}).Open(context.Background(), ref))
	return repo, forge.Must(repo.Resolve(context.Background(), ref))
}

// digest is the image's (0) or the other one's (1).
func (w *cosignWorld) digest(i int) evidence.Digest { return evidence.SHA256(w.images[i].data) }

// onImage has an image signed in a repository of its own and returns what was
// attached to it.
func (w *cosignWorld) onImage(i int, suffix string, attach func(image string)) *material {
	w.t.Helper()
	w.pushed++
	image := w.up.Image(fmt.Sprintf("signed/%d", w.pushed), []string{"the image", "another image"}[i])
	attach(image)
	return w.fetch(image, suffix)
}

// fetch is what is attached to an image: under cosign's tag, or as its referrer.
func (w *cosignWorld) fetch(image, suffix string) *material {
	w.t.Helper()
	ctx := context.Background()
	repo, desc := w.open(image)
	var attached ocispec.Descriptor
	if suffix != "" {
		_, attached = w.open(strings.Split(image, "@")[0] + ":sha256-" + desc.Digest.Encoded() + suffix)
	} else {
		list, err := repo.Referrers(ctx, desc)
		if err != nil || len(list) != 1 {
			w.t.Fatalf("%d referrers of %s: %v", len(list), image, err)
		}
		attached = list[0].Descriptor
	}
	manifest := forge.Must(repo.Manifest(ctx, attached))
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil || len(m.Layers) != 1 {
		w.t.Fatalf("%v: %s", err, manifest)
	}
	return &material{suffix: suffix, manifest: parseNode(w.t, manifest), content: forge.Must(repo.Blob(ctx, m.Layers[0], 1<<20)),
		config: forge.Must(repo.Blob(ctx, m.Config, 1<<20))}
}

// layer is what is attached when it has a layer that we made.
func layerMaterial(t testing.TB, suffix string, l forge.Layer) *material {
	config := []byte(`{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":["` + digest.FromBytes(l.Content).String() + `"]}}`)
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: registry.Describe(ocispec.MediaTypeImageConfig, config)}
	d := registry.Describe(l.MediaType, l.Content)
	d.Annotations = l.Annotations
	m.SchemaVersion, m.Layers = 2, []ocispec.Descriptor{d}
	return &material{suffix: suffix, manifest: parseNode(t, forge.Must(json.Marshal(m))), content: l.Content, config: config}
}

func (w *cosignWorld) verifier(cfg verify.Config) *verify.Verifier {
	return forge.Must(verify.New(cfg))
}

func (w *cosignWorld) public(i int) crypto.PublicKey {
	return forge.Must(key.ParsePublicPEM(forge.Must(os.ReadFile(w.keys[i] + ".pub"))))
}

func (w *cosignWorld) add(b *cosignBase, make func(image, signer int) *material) {
	b.good = [2]*material{make(0, 0), make(0, 0)}
	b.other, b.stranger = make(1, 0), make(0, 1)
	w.bases = append(w.bases, b)
}

// keyBases are signed by keys, with cosign, in the format before version 3.
func (w *cosignWorld) keyBases() {
	older := []string{"--yes", "--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false"}
	stamped := append(older[:len(older):len(older)], "--timestamp-server-url", w.up.URL+"/api/v1/timestamp")
	predicate := w.write("sbom.json", []byte(`{"SPDXID":"SPDXRef-DOCUMENT"}`))
	by := func(signer int) []string { return []string{"--key", w.keys[signer] + ".key"} }
	signing := func(flags []string) func(image, signer int) *material {
		return func(image, signer int) *material {
			return w.onImage(image, ".sig", func(ref string) {
				w.must(append(append(append([]string{"sign", "-a", "env=prod"}, by(signer)...), flags...), ref)...)
			})
		}
	}
	keys := []crypto.PublicKey{w.public(0)}
	check := []string{"--key", w.keys[0] + ".pub", "--insecure-ignore-tlog", "--trusted-root", w.up.TrustedRoot}
	plain := &cosignBase{name: ".sig by a key", args: append([]string{"verify"}, check...), verifier: w.verifier(verify.Config{Keys: keys}), wants: gate.Requirements{Keys: true}}
	plain.signed = w.signedByKey()
	w.add(plain, signing(older))
	w.add(&cosignBase{name: ".sig by a key, with a timestamp", args: append([]string{"verify", "--use-signed-timestamps"}, check...),
		verifier: w.verifier(verify.Config{Keys: keys, Roots: []*trust.Root{w.root}, RequireTimestamp: true}), wants: gate.Requirements{Keys: true}}, signing(stamped))
	w.add(&cosignBase{name: ".att by a key", args: append([]string{"verify-attestation", "--type", "spdxjson"}, check...),
		verifier: w.verifier(verify.Config{Keys: keys}), wants: gate.Requirements{Keys: true, AttestationType: evidence.PredicateSPDX}},
		func(image, signer int) *material {
			return w.onImage(image, ".att", func(ref string) {
				w.must(append(append(append([]string{"attest", "--type", "spdxjson", "--predicate", predicate}, by(signer)...), older...), ref)...)
			})
		})
}

// signedByKey is a signer with alice's key of any simple signing payload: cosign
// signs blobs in the same way.
func (w *cosignWorld) signedByKey() func([]byte) *material {
	n := 0
	return func(payload []byte) *material {
		n++
		file := w.write(fmt.Sprintf("payload%d", n), payload)
		w.must("sign-blob", "--yes", "--key", w.keys[0]+".key", "--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false", "--output-signature", file+".sig", file)
		sig := strings.TrimSpace(string(forge.Must(os.ReadFile(file + ".sig"))))
		return layerMaterial(w.t, ".sig", forge.Layer{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Content: payload,
			Annotations: map[string]string{"dev.cosignproject.cosign/signature": sig}})
	}
}

// keylessBases are of the format before version 3, with promises by a Rekor v1
// log, which no service here speaks: they are forged.
func (w *cosignWorld) keylessBases() {
	f := w.forged
	who := []string{"--trusted-root", w.forgedTo, "--certificate-identity", cosignAlice, "--certificate-oidc-issuer", "https://issuer.test"}
	wants := gate.Requirements{Identities: []policy.Identity{{Subject: cosignAlice, Issuer: "https://issuer.test"}}}
	cfg := verify.Config{Roots: []*trust.Root{f.Root}}
	leaf := func(signer int) *forge.LeafOptions {
		l := forge.Alice()
		l.Email = []string{cosignAlice, cosignMallory}[signer]
		return &l
	}
	signing := func(token bool) func(image, signer int) *material {
		return func(image, signer int) *material {
			w.pushed++
			payload := forge.SimpleSigning(fmt.Sprintf("r.test/app%d", w.pushed), w.digest(image), map[string]string{"env": "prod"})
			return layerMaterial(w.t, ".sig", f.CosignLayer(f.Claim(forge.ClaimOptions{Artifact: payload, Leaf: leaf(signer), Logs: []string{"v1 hashedrekord"}, Token: token}), payload))
		}
	}
	b := &cosignBase{name: ".sig keyless", args: append([]string{"verify"}, who...), verifier: w.verifier(cfg), wants: wants}
	b.signed = func(payload []byte) *material {
		return layerMaterial(w.t, ".sig", f.CosignLayer(f.Claim(forge.ClaimOptions{Artifact: payload, Logs: []string{"v1 hashedrekord"}}), payload))
	}
	w.add(b, signing(false))
	cfg.RequireTimestamp = true
	w.add(&cosignBase{name: ".sig keyless, with a timestamp", args: append([]string{"verify", "--use-signed-timestamps"}, who...), verifier: w.verifier(cfg), wants: wants}, signing(true))
	cfg.RequireTimestamp, wants.AttestationType = false, evidence.PredicateSPDX
	for _, kind := range []string{"dsse", "intoto"} {
		w.add(&cosignBase{name: ".att keyless, logged as " + kind, args: append([]string{"verify-attestation", "--type", "spdxjson"}, who...), verifier: w.verifier(cfg), wants: wants},
			func(image, signer int) *material {
				return layerMaterial(w.t, ".att", f.CosignLayer(f.Claim(forge.ClaimOptions{Payload: w.statement(image), Leaf: leaf(signer), Logs: []string{"v1 " + kind}}), nil))
			})
	}
}

// statement is an SBOM's about an image.
func (w *cosignWorld) statement(image int) []byte {
	s := forge.StatementAbout(`{"name":"app","digest":{"sha256":"` + w.digest(image).Hex() + `"}}`)
	return bytes.Replace(s, []byte(evidence.PredicateSign), []byte(evidence.PredicateSPDX), 1)
}

// bundleBases are attached as cosign 3 and Hallmark attach them.
func (w *cosignWorld) bundleBases() {
	mail := []string{cosignAlice, cosignMallory}
	who := []string{"--trusted-root", w.up.TrustedRoot, "--certificate-identity", cosignAlice, "--certificate-oidc-issuer", w.up.URL}
	wants := gate.Requirements{Identities: []policy.Identity{{Subject: cosignAlice, Issuer: w.up.URL}}}
	cfg := verify.Config{Roots: []*trust.Root{w.root}}
	theirs := []string{"--yes", "--signing-config", w.up.SigningConfig, "--trusted-root", w.up.TrustedRoot}
	w.add(&cosignBase{name: "bundle by cosign", args: append([]string{"verify"}, who...), verifier: w.verifier(cfg), wants: wants}, func(image, signer int) *material {
		return w.onImage(image, "", func(ref string) {
			w.must(append(append([]string{"sign"}, theirs...), "--identity-token", w.up.Token(mail[signer]), ref)...)
		})
	})
	config := forge.Must(trust.ParseSigningConfig(forge.Must(os.ReadFile(w.up.SigningConfig))))
	services := sign.ServicesFrom(config, time.Now(), true)
	services.HTTPClient = &http.Client{Timeout: time.Minute}
	w.add(&cosignBase{name: "bundle by hallmark", args: append([]string{"verify"}, who...), verifier: w.verifier(cfg), wants: wants}, func(image, signer int) *material {
		return w.onImage(image, "", func(ref string) {
			token := forge.Must(idtoken.Parse(w.up.Token(mail[signer])))
			s := forge.Must(sign.New(sign.Config{Services: services, Token: token}))
			repo, desc := w.open(ref)
			forge.Must(s.Attach(context.Background(), sign.Target{Repo: repo, Desc: desc}, forge.Must(sign.ImageStatement(evidence.Digest(desc.Digest), map[string]string{"env": "prod"}))))
		})
	})
	keyed := verify.Config{Roots: []*trust.Root{w.root}, Keys: []crypto.PublicKey{w.public(0)}, RequireLog: true}
	w.add(&cosignBase{name: "bundle by cosign with a key", args: []string{"verify", "--trusted-root", w.up.TrustedRoot, "--key", w.keys[0] + ".pub"}, verifier: w.verifier(keyed), wants: gate.Requirements{Keys: true}},
		func(image, signer int) *material {
			return w.onImage(image, "", func(ref string) {
				w.must(append(append([]string{"sign"}, theirs...), "--key", w.keys[signer]+".key", ref)...)
			})
		})
	wants.AttestationType = evidence.PredicateSPDX
	w.add(&cosignBase{name: "attestation's bundle by cosign", args: append([]string{"verify-attestation", "--type", "spdxjson"}, who...), verifier: w.verifier(cfg), wants: wants},
		func(image, signer int) *material {
			return w.onImage(image, "", func(ref string) {
				w.must(append(append([]string{"attest", "--type", "spdxjson", "--predicate", filepath.Join(w.dir, "sbom.json")}, theirs...), "--identity-token", w.up.Token(mail[signer]), ref)...)
			})
		})
}
