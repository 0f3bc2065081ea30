// Package interop_test runs stock tools against our authority, registry and
// signatures: what they accept and refuse is the measure.
package interop_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
)

const alice = "alice@example.com"

// cosign is the stock binary with a home of its own.
type cosign struct {
	t   *testing.T
	bin string
	env []string
}

// newCosign gives cosign the authority's TUF root, as hallmark up tells people to.
func newCosign(t *testing.T, r *hmtest.Running) *cosign {
	t.Helper()
	home := t.TempDir()
	c := &cosign{t, hmtest.Tool(t, "cosign"), []string{
		"HOME=" + home, "TUF_ROOT=" + filepath.Join(home, "tuf"), "DOCKER_CONFIG=" + home, "PATH=" + os.Getenv("PATH"), "NO_COLOR=1",
	}}
	i := r.Info
	_, talk := c.must("initialize", "--mirror", i.TUF, "--root", i.TUF+"/root.json", "--root-checksum", i.TUFRootSHA256)
	if strings.Contains(strings.ToLower(talk), "warning") {
		t.Errorf("cosign initialize warns: %s", talk)
	}
	return c
}

func (c *cosign) run(args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.bin, args...)
	cmd.Env = c.env
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	err = cmd.Run()
	return out.String(), talk.String(), err
}

func (c *cosign) must(args ...string) (stdout, stderr string) {
	c.t.Helper()
	stdout, stderr, err := c.run(args...)
	if err != nil {
		c.t.Fatalf("cosign %s: %v\n%s", args[0], err, stderr)
	}
	return stdout, stderr
}

// fails runs cosign and wants a refusal that says why.
func (c *cosign) fails(why string, args ...string) {
	c.t.Helper()
	_, stderr, err := c.run(args...)
	if err == nil || !strings.Contains(stderr, why) {
		c.t.Errorf("cosign %s: err %v, want one with %q:\n%s", args[0], err, why, stderr)
	}
}

func (c *cosign) sign(r *hmtest.Running, image string) {
	c.t.Helper()
	c.must("sign", "--yes", "--identity-token", r.Token(alice), image)
}

// pinned are the flags that say whose signature is wanted; they are no setup.
func pinned(r *hmtest.Running) []string {
	return []string{"--certificate-identity", alice, "--certificate-oidc-issuer", r.URL}
}

func TestCosignNeedsNoFlags(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	c := newCosign(t, r)
	image := r.Image("team/app", "one")
	c.must("sign", "--yes", "--identity-token", r.Token(alice), image)
	out, _ := c.must(append([]string{"verify", image}, pinned(r)...)...)
	if !strings.Contains(out, strings.Split(image, "@")[1]) {
		t.Errorf("cosign verify printed %s", out)
	}
	c.fails("expected SAN value", "verify", "--certificate-identity", "mallory@example.com", "--certificate-oidc-issuer", r.URL, image)
	other := r.Image("team/app", "two")
	c.fails("no signatures found", append([]string{"verify", other}, pinned(r)...)...)

	predicate := filepath.Join(t.TempDir(), "sbom.json")
	if err := os.WriteFile(predicate, []byte(`{"SPDXID":"SPDXRef-DOCUMENT"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c.must("attest", "--yes", "--identity-token", r.Token(alice), "--type", "spdxjson", "--predicate", predicate, image)
	c.must(append([]string{"verify-attestation", "--type", "spdxjson", image}, pinned(r)...)...)
	c.must("clean", "--force", image)
	c.fails("no signatures found", append([]string{"verify", image}, pinned(r)...)...)
}

// TestCosignAfterRestart: the port changes, and what was signed stays good.
func TestCosignAfterRestart(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	c := newCosign(t, r)
	blob := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(blob, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.must("sign-blob", "--yes", "--identity-token", r.Token(alice), "--bundle", blob+".json", blob)
	flags := append(pinned(r), "--bundle", blob+".json", blob)
	r.Stop()
	again := hmtest.Start(t, authority.Config{Dir: r.Dir})
	c = newCosign(t, again)
	c.must(append([]string{"verify-blob"}, flags...)...)
}

// TestCosignOnLocalhost: a name instead of an address is as good.
func TestCosignOnLocalhost(t *testing.T) {
	t.Parallel()
	r := hmtest.Start(t, authority.Config{Dir: filepath.Join(t.TempDir(), "data"), Listen: "localhost:0"})
	c := newCosign(t, r)
	image := r.Image("app", "content")
	c.sign(r, image)
	c.must(append([]string{"verify", image}, pinned(r)...)...)
}

// TestTraps are the mistakes of private Sigstores that cost hours. Each is shown
// to be avoided with stock cosign, and shown to matter.
func TestTraps(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	c := newCosign(t, r)
	image := r.Image("app", "content")
	c.sign(r, image)
	dir := t.TempDir()
	blob := filepath.Join(dir, "blob")
	if err := os.WriteFile(blob, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	bundle := blob + ".sigstore.json"
	c.must("sign-blob", "--yes", "--identity-token", r.Token(alice), "--bundle", bundle, blob)
	// verifyWith verifies the image under a changed trusted root.
	verifyWith := func(t *testing.T, change func(root map[string]any)) []string {
		t.Helper()
		root := readJSON(t, r.TrustedRoot)
		change(root)
		path := filepath.Join(t.TempDir(), "trusted_root.json")
		writeJSON(t, path, root)
		return append([]string{"verify", "--trusted-root", path, image}, pinned(r)...)
	}
	in := func(t *testing.T) *cosign { return &cosign{t, c.bin, c.env} }

	t.Run("log origin is the host name", func(t *testing.T) {
		checkpoint := get(t, r.URL+"/api/v2/checkpoint")
		if origin, _, _ := strings.Cut(checkpoint, "\n"); origin != "127.0.0.1" {
			t.Errorf("origin %q", origin)
		}
		in(t).must(verifyWith(t, func(map[string]any) {})...)
		in(t).fails("note has no verifiable signatures", verifyWith(t, func(root map[string]any) {
			tlog := root["tlogs"].([]any)[0].(map[string]any)
			tlog["baseUrl"] = strings.Replace(tlog["baseUrl"].(string), "127.0.0.1", "localhost", 1)
		})...)
	})
	t.Run("raw tokens are RS256", func(t *testing.T) {
		token := r.Token(alice)
		head, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
		if err != nil || !strings.Contains(string(head), `"RS256"`) {
			t.Fatalf("%s, %v", head, err)
		}
		in(t).must("sign", "--yes", "--identity-token", token, r.Image("raw", "token"))
	})
	t.Run("certificates carry an SCT", func(t *testing.T) {
		in(t).fails("verify 0 SCT entries", verifyWith(t, func(root map[string]any) { delete(root, "ctlogs") })...)
		in(t).must(append(verifyWith(t, func(root map[string]any) { delete(root, "ctlogs") }), "--insecure-ignore-sct")...)
	})
	t.Run("a timestamp is required", func(t *testing.T) {
		b := readJSON(t, bundle)
		stamps, _ := b["verificationMaterial"].(map[string]any)["timestampVerificationData"].(map[string]any)["rfc3161Timestamps"].([]any)
		if len(stamps) != 1 {
			t.Errorf("%d timestamps", len(stamps))
		}
		config := readJSON(t, r.SigningConfig)
		delete(config, "tsaUrls")
		delete(config, "tsaConfig")
		path := filepath.Join(t.TempDir(), "signing_config.json")
		writeJSON(t, path, config)
		in(t).fails("timestamp authority must be provided", "sign", "--yes", "--signing-config", path, "--identity-token", r.Token(alice), r.Image("no", "tsa"))
		in(t).fails("verified signed timestamps", verifyWith(t, func(root map[string]any) { delete(root, "timestampAuthorities") })...)
	})
	t.Run("the leaf is canonical", func(t *testing.T) {
		// cosign hashes an entry that it builds itself; that this is in the tree
		// means that what we logged is the same, byte for byte.
		in(t).must(append([]string{"verify-blob", "--bundle", bundle, blob}, pinned(r)...)...)
		b := readJSON(t, bundle)
		entry := b["verificationMaterial"].(map[string]any)["tlogEntries"].([]any)[0].(map[string]any)
		body, err := base64.StdEncoding.DecodeString(entry["canonicalizedBody"].(string))
		if err != nil {
			t.Fatal(err)
		}
		if canonical, err := jsoncanonicalizer.Transform(body); err != nil || !bytes.Equal(canonical, body) {
			t.Errorf("%s is not canonical: %v", body, err)
		}
		proof := entry["inclusionProof"].(map[string]any)
		proof["hashes"].([]any)[0] = base64.StdEncoding.EncodeToString(make([]byte, 32))
		path := filepath.Join(t.TempDir(), "tampered.json")
		writeJSON(t, path, b)
		in(t).fails("inclusion", append([]string{"verify-blob", "--bundle", path, blob}, pinned(r)...)...)
	})
	t.Run("one issuer string", func(t *testing.T) {
		var discovery struct{ Issuer string }
		if err := json.Unmarshal([]byte(get(t, r.URL+"/.well-known/openid-configuration")), &discovery); err != nil {
			t.Fatal(err)
		}
		oidcURL := readJSON(t, r.SigningConfig)["oidcUrls"].([]any)[0].(map[string]any)["url"]
		if discovery.Issuer != r.URL || oidcURL != r.URL || r.Info.Issuer != r.URL {
			t.Errorf("discovery %q, signing config %q, base URL %q", discovery.Issuer, oidcURL, r.URL)
		}
		in(t).fails("expected issuer value", "verify", "--certificate-identity", alice, "--certificate-oidc-issuer", r.URL+"/", image)
	})
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %v", url, resp.StatusCode, err)
	}
	return string(data)
}

func readJSON(t *testing.T, path string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func writeJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
