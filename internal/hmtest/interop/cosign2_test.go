package interop_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// newCosign2 is cosign 2 after the same initialize as cosign 3's.
func newCosign2(t *testing.T, r *hmtest.Running) *cosign {
	t.Helper()
	home := t.TempDir()
	c := &cosign{t, hmtest.Tool(t, "cosign2"), []string{
		"HOME=" + home, "TUF_ROOT=" + filepath.Join(home, "tuf"), "DOCKER_CONFIG=" + home, "PATH=" + os.Getenv("PATH"), "NO_COLOR=1",
	}}
	i := r.Info
	c.must("initialize", "--mirror", i.TUF, "--root", i.TUF+"/root.json", "--root-checksum", i.TUFRootSHA256)
	return c
}

// services are the flags that name them, which cosign 2 needs for signing.
func services(r *hmtest.Running) []string {
	return []string{"--yes", "--rekor-url", r.URL, "--fulcio-url", r.URL, "--oidc-issuer", r.URL, "--identity-token", r.Token(alice)}
}

// args puts a command together.
func args(parts ...any) (out []string) {
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			out = append(out, p)
		case []string:
			out = append(out, p...)
		}
	}
	return out
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// byAlice is our verifier's configuration for keyless signatures of an authority.
func byAlice(t *testing.T, r *hmtest.Running) verify.Config {
	t.Helper()
	return verify.Config{Roots: []*trust.Root{readRoot(t, r)}}
}

// promised wants so many claims, all by alice and each in a log.
func promised(t *testing.T, claims []*verify.Verified, want int) {
	t.Helper()
	if len(claims) != want {
		t.Errorf("%d claims verified, want %d", len(claims), want)
	}
	for _, v := range claims {
		if v.Signer().Identity != alice || len(v.LogEntries()) != 1 || len(v.Times()) == 0 {
			t.Errorf("by %+v, with %d log entries and %d times", v.Signer(), len(v.LogEntries()), len(v.Times()))
		}
	}
}

// ours judges a bundle of a file with our verifier.
func ours(t *testing.T, cfg verify.Config, path, content string) (*verify.Verified, *evidence.Claim) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	claim, err := bundle.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	artifact, err := verify.HashFile(bytes.NewReader([]byte(content)))
	if err != nil {
		t.Fatal(err)
	}
	ok, why := v.Claim(claim, artifact)
	if ok == nil {
		t.Fatalf("%s: %v", path, why)
	}
	return ok, claim
}

// logs are the kinds and versions of a claim's log entries.
func logs(c *evidence.Claim) (out []string) {
	for _, e := range c.LogEntries {
		promise := ""
		if e.Promise != nil {
			promise = " with a promise"
		}
		out = append(out, e.Kind+" "+e.Version+promise)
	}
	return out
}

// TestCosign2SignsAndVerifies: images, in its own formats and as bundles. What it
// makes is good for cosign 3 and for us, and what cosign 3 makes by default, with
// the Rekor v2 log, is left to cosign 3.
func TestCosign2SignsAndVerifies(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	c := newCosign2(t, r)
	c3 := newCosign(t, r)
	predicate := writeFile(t, "sbom.json", `{"SPDXID":"SPDXRef-DOCUMENT"}`)
	spdx := []string{"--type", "spdxjson"}

	image := r.Image("team/app", "its own formats")
	c.must(args("sign", services(r), image)...)
	c.must(args("attest", services(r), spdx, "--predicate", predicate, image)...)
	for _, extra := range [][]string{nil, {"--rekor-url", r.URL}, {"--offline"}} {
		c.must(args("verify", pinned(r), extra, image)...)
		c.must(args("verify-attestation", pinned(r), extra, spdx, image)...)
	}
	c.fails("none of the expected identities matched", "verify", "--certificate-identity", "mallory@example.com", "--certificate-oidc-issuer", r.URL, image)
	c3.must(args("verify", pinned(r), image)...)
	c3.must(args("verify-attestation", pinned(r), spdx, image)...)
	good, _, reasons := verified(t, image, collect.Options{}, byAlice(t, r))
	promised(t, good, 2)
	if len(reasons) != 0 {
		t.Errorf("%v", reasons)
	}

	image = r.Image("team/app", "bundles")
	c.must(args("attest", "--new-bundle-format", services(r), spdx, "--predicate", predicate, image)...)
	c.must(args("verify-attestation", "--new-bundle-format", pinned(r), spdx, image)...)
	c3.must(args("verify-attestation", pinned(r), spdx, image)...)
	good, items, reasons := verified(t, image, collect.Options{}, byAlice(t, r))
	promised(t, good, 1)
	if len(reasons) != 0 || len(items) == 0 || items[0].Claim == nil || strings.Join(logs(items[0].Claim), "") != "dsse 0.0.1 with a promise" {
		t.Errorf("%v, %+v", reasons, items)
	}
	c.fails("--rekor-entry-type dsse", args("attest", "--rekor-entry-type", "intoto", services(r), spdx, "--predicate", predicate, image)...)
}

// TestCosign2Blobs: files, and what is left when the authority is gone.
func TestCosign2Blobs(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	c := newCosign2(t, r)
	c3 := newCosign(t, r)
	const content = "content"
	blob := writeFile(t, "blob", content)
	own, b3 := blob+".own.json", blob+".sigstore.json"
	c.must(args("sign-blob", services(r), "--bundle", own, blob)...)
	c.must(args("verify-blob", pinned(r), "--bundle", own, blob)...)
	c.must(args("sign-blob", "--new-bundle-format", services(r), "--bundle", b3, blob)...)
	c.must(args("verify-blob", "--new-bundle-format", pinned(r), "--bundle", b3, blob)...)
	c3.must(args("verify-blob", pinned(r), "--bundle", b3, blob)...)

	// Without a bundle it asks the log, by the entry that must be there.
	sig, cert := blob+".sig", blob+".pem"
	c.must(args("sign-blob", services(r), "--output-signature", sig, "--output-certificate", cert, blob)...)
	found := args("verify-blob", pinned(r), "--rekor-url", r.URL, "--signature", sig, "--certificate", cert, blob)
	c.must(found...)
	r.Stop()
	if _, _, err := c.run(found...); err == nil {
		t.Error("found in a log that is not there")
	}
	c.must(args("verify-blob", "--new-bundle-format", "--trusted-root", r.TrustedRoot, pinned(r), "--bundle", b3, blob)...)
	_, claim := ours(t, byAlice(t, r), b3, content)
	if got := strings.Join(logs(claim), ""); got != "hashedrekord 0.0.1 with a promise" {
		t.Errorf("logged as %s", got)
	}
}

func TestCosign2ByKey(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	c := newCosign2(t, r)
	c3 := newCosign(t, r)
	private, public, trusted := keyPair(c)
	predicate := writeFile(t, "sbom.json", `{"SPDXID":"SPDXRef-DOCUMENT"}`)
	spdx := []string{"--type", "spdxjson"}
	with := []string{"--yes", "--rekor-url", r.URL, "--key", private}
	image := r.Image("app", "by key")
	c.must(args("sign", with, image)...)
	c.must(args("attest", with, spdx, "--predicate", predicate, image)...)
	for _, with := range []*cosign{c, c3} {
		with.must(args("verify", "--key", public, image)...)
		with.must(args("verify-attestation", "--key", public, spdx, image)...)
	}
	good, _, reasons := verified(t, image, collect.Options{}, verify.Config{Keys: []crypto.PublicKey{trusted}, Roots: []*trust.Root{readRoot(t, r)}})
	if len(good) != 2 || len(reasons) != 0 {
		t.Errorf("%d verified, %v", len(good), reasons)
	}
	blob := writeFile(t, "blob", "content")
	c.must(args("sign-blob", with, "--bundle", blob+".json", blob)...)
	c.must(args("verify-blob", "--key", public, "--bundle", blob+".json", blob)...)
}

// TestCosign2SignsTheSameAgain: an RSA signature (PKCS #1 v1.5) of a file is the
// same every time, and so is its entry. cosign is told where the entry is, and
// takes it from there.
func TestCosign2SignsTheSameAgain(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	c := newCosign2(t, r)
	c.env = append(c.env, "COSIGN_PASSWORD=")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	prefix := filepath.Join(t.TempDir(), "k")
	c.must("import-key-pair", "--key", writeFile(t, "rsa.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))), "--output-key-prefix", prefix)
	blob := writeFile(t, "blob", "content")
	var bundles [2][]byte
	for i := range bundles {
		path := blob + ".json"
		c.must("sign-blob", "--yes", "--rekor-url", r.URL, "--key", prefix+".key", "--bundle", path, blob)
		c.must("verify-blob", "--key", prefix+".pub", "--bundle", path, blob)
		if bundles[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	// The same down to the promise, which is made again for the second.
	if !bytes.Equal(bundles[0], bundles[1]) {
		t.Errorf("%s\n%s", bundles[0], bundles[1])
	}
	var info struct{ TreeSize int }
	if err := json.Unmarshal([]byte(get(t, r.URL+"/api/v1/log")), &info); err != nil || info.TreeSize != 1 {
		t.Errorf("the log has %d entries, %v", info.TreeSize, err)
	}
}

// TestSigningConfigNamesBothLogs: clients that know Rekor v2 use it, however many
// logs they are to choose, and one that is given only v1 uses that.
func TestSigningConfigNamesBothLogs(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	c2, c3 := newCosign2(t, r), newCosign(t, r)
	const content = "content"
	blob := writeFile(t, "blob", content)
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   string
		fails  string
	}{
		"ANY":     {func(map[string]any) {}, "hashedrekord 0.0.2", ""},
		"ALL":     {func(m map[string]any) { m["rekorTlogConfig"] = map[string]any{"selector": "ALL"} }, "hashedrekord 0.0.2", ""},
		"EXACT 1": {func(m map[string]any) { m["rekorTlogConfig"] = map[string]any{"selector": "EXACT", "count": 1} }, "hashedrekord 0.0.2", ""},
		// One operator, one log: two are not to be had.
		"EXACT 2": {func(m map[string]any) { m["rekorTlogConfig"] = map[string]any{"selector": "EXACT", "count": 2} }, "", "service selector count 2"},
		"v1 alone": {func(m map[string]any) { m["rekorTlogUrls"] = m["rekorTlogUrls"].([]any)[1:] },
			"hashedrekord 0.0.1 with a promise", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := readJSON(t, r.SigningConfig)
			c.change(config)
			path := filepath.Join(t.TempDir(), "signing_config.json")
			writeJSON(t, path, config)
			in := func(c *cosign) *cosign { return &cosign{t, c.bin, c.env} }
			for _, with := range []*cosign{in(c2), in(c3)} {
				out := filepath.Join(t.TempDir(), "bundle.json")
				sign := []string{"sign-blob", "--yes", "--signing-config", path, "--identity-token", r.Token(alice), "--bundle", out, blob}
				if with.bin == c2.bin {
					sign = append(sign, "--new-bundle-format")
				}
				if c.fails != "" {
					with.fails(c.fails, sign...)
					continue
				}
				with.must(sign...)
				in(c3).must(args("verify-blob", pinned(r), "--bundle", out, blob)...)
				_, claim := ours(t, byAlice(t, r), out, content)
				if got := strings.Join(logs(claim), ", "); got != c.want {
					t.Errorf("logged as %s, want %s", got, c.want)
				}
			}
		})
	}
}

// TestCosign3InTheV1Log: cosign 3 with the flags of cosign 2.
func TestCosign3InTheV1Log(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	c2, c3 := newCosign2(t, r), newCosign(t, r)
	image := r.Image("app", "cosign 3")
	predicate := writeFile(t, "sbom.json", `{"SPDXID":"SPDXRef-DOCUMENT"}`)
	spdx := []string{"--type", "spdxjson"}
	flags := args("--use-signing-config=false", "--new-bundle-format=false", "--trusted-root", r.TrustedRoot, services(r))
	c3.must(args("sign", flags, image)...)
	c3.must(args("attest", flags, spdx, "--predicate", predicate, image)...)
	for _, with := range []*cosign{c2, c3} {
		with.must(args("verify", pinned(r), image)...)
		with.must(args("verify-attestation", pinned(r), spdx, image)...)
	}
	good, _, reasons := verified(t, image, collect.Options{}, byAlice(t, r))
	promised(t, good, 2)
	if len(reasons) != 0 {
		t.Errorf("%v", reasons)
	}
}
