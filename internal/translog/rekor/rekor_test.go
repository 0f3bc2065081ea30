package rekor_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/hmtest/tilelog"
	"github.com/hallmark-dev/hallmark/internal/translog/rekor"
)

func leafOf(w *forge.World, o forge.LeafOptions) *x509.Certificate {
	o.Key = forge.NewKey(elliptic.P256()).Public()
	return w.Leaf(o)
}

// The entries of Sigstore's own Rekor v2 logs, from the conformance suite.
func TestParsePublicEntries(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]string{"rekor2-timestamp-without-embedded-cert": "hashedrekord", "rekor2-dsse-happy-path": "hashedrekord"} {
		data, err := os.ReadFile("../../verify/testdata/conformance/bundle-verify/" + name + "/bundle.sigstore.json")
		if err != nil {
			t.Fatal(err)
		}
		claim, err := bundle.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		e := rekor.Parse(claim.LogEntries[0].Body)
		if e.Unread != "" || e.Kind != kind || !bytes.Equal(e.Signers[0].Signature, claim.Signature()) || e.Signers[0].Identity == "" || e.Signers[0].Issuer == "" {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	w := forge.New(forge.Options{})
	leaf := leafOf(w, forge.Alice())
	workflow := leafOf(w, forge.Workflow())
	spki := forge.Must(x509.MarshalPKIXPublicKey(leaf.PublicKey))
	sum := sha256.Sum256([]byte("content"))
	digest := "sha256:" + hex.EncodeToString(sum[:])
	key := sha256.Sum256(spki)

	for name, c := range map[string]struct {
		body                       []byte
		kind, identity, issuer, fp string
	}{
		"hashedrekord, certificate": {tilelog.HashedRekord([]byte("content"), []byte("s"), leaf.Raw, nil), "hashedrekord", forge.Alice().Email, forge.Alice().IssuerV2, ""},
		"hashedrekord, key":         {tilelog.HashedRekord([]byte("content"), []byte("s"), nil, spki), "hashedrekord", "", "", "sha256:" + hex.EncodeToString(key[:])},
		"dsse, certificate":         {tilelog.DSSE([]byte("content"), []byte("s"), workflow.Raw, nil), "dsse", forge.Workflow().URI, forge.Workflow().IssuerV2, ""},
	} {
		e := rekor.Parse(c.body)
		if e.Unread != "" || e.Kind != c.kind || e.Version != "0.0.2" || string(e.Digest) != digest || len(e.Signers) != 1 {
			t.Errorf("%s: %+v", name, e)
			continue
		}
		s := e.Signers[0]
		if s.Identity != c.identity || s.Issuer != c.issuer || s.Key != c.fp || string(s.Signature) != "s" {
			t.Errorf("%s: %+v", name, s)
		}
		if got, want := s.IssuedBy(w.Root.CAs), c.identity != ""; got != want {
			t.Errorf("%s: issued by the authority: %v", name, got)
		}
		if s.IssuedBy(forge.New(forge.Options{}).Root.CAs) {
			t.Errorf("%s: issued by another authority", name)
		}
	}
}

// An identity is the text of the certificate, not how a URI might be written too.
func TestIdentityIsExact(t *testing.T) {
	t.Parallel()
	w := forge.New(forge.Options{})
	o := forge.Workflow()
	o.URI, o.SAN = "", []byte{0x30, 16, 0x86, 14, 'H', 'T', 'T', 'P', 'S', ':', '/', '/', 'a', '/', '%', '2', 'f', 'b'}
	e := rekor.Parse(tilelog.HashedRekord([]byte("content"), []byte("s"), leafOf(w, o).Raw, nil))
	if e.Unread != "" || e.Signers[0].Identity != "HTTPS://a/%2fb" {
		t.Errorf("%+v", e)
	}
}

// What is not understood says so, and never looks like an entry of nobody.
func TestUnread(t *testing.T) {
	t.Parallel()
	w := forge.New(forge.Options{})
	good := string(tilelog.HashedRekord([]byte("content"), []byte("s"), leafOf(w, forge.Alice()).Raw, nil))
	for _, body := range []string{
		"", "entry 1", "{}", "null",
		strings.Replace(good, "0.0.2", "0.0.3", 1),
		strings.Replace(good, `"hashedrekord"`, `"dsse"`, 1),
		strings.Replace(good, `"kind"`, `"kind":"dsse","kind"`, 1),
		strings.Replace(good, "SHA2_256", "SHA1", 1),
		strings.Replace(good, "SHA2_256", "SHA2_512", 1),
		strings.Replace(good, `"x509Certificate"`, `"publicKey":{"rawBytes":"AAAA"},"x509Certificate"`, 1),
		strings.Replace(good, `"rawBytes":"`, `"rawBytes":"AAAA`, 1),
	} {
		if e := rekor.Parse([]byte(body)); e.Unread == "" || len(e.Signers) > 0 {
			t.Errorf("%.80s: %+v", body, e)
		}
	}
}

func FuzzParse(f *testing.F) {
	w := forge.New(forge.Options{})
	f.Add(tilelog.HashedRekord([]byte("content"), []byte("s"), leafOf(w, forge.Alice()).Raw, nil))
	f.Add(tilelog.DSSE([]byte("content"), []byte("s"), nil, []byte("key")))
	f.Fuzz(func(t *testing.T, body []byte) {
		if e := rekor.Parse(body); e.Unread == "" && (e.Digest == "" || len(e.Signers) == 0) {
			t.Errorf("understood, and says nothing: %+v", e)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	body := tilelog.HashedRekord([]byte("content"), []byte("s"), leafOf(forge.New(forge.Options{}), forge.Workflow()).Raw, nil)
	for b.Loop() {
		rekor.Parse(body)
	}
}
