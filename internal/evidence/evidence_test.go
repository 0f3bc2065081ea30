package evidence_test

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

func TestParseDigest(t *testing.T) {
	t.Parallel()
	hex64 := strings.Repeat("0123456789abcdef", 4)
	for _, good := range []string{"sha256:" + hex64, "sha384:" + hex64 + hex64[:32], "sha512:" + hex64 + hex64} {
		if d, err := evidence.ParseDigest(good); err != nil || string(d) != good || len(d.Bytes())*2 != len(d.Hex()) {
			t.Errorf("ParseDigest(%q) = %q, %v", good, d, err)
		}
	}
	for name, bad := range map[string]string{
		"empty":             "",
		"no algorithm":      hex64,
		"no colon":          "sha256" + hex64,
		"unknown algorithm": "md5:" + hex64[:32],
		"upper algorithm":   "SHA256:" + hex64,
		"upper digits":      "sha256:" + strings.ToUpper(hex64),
		"short":             "sha256:" + hex64[1:],
		"long":              "sha256:" + hex64 + "0",
		"other length":      "sha512:" + hex64,
		"space":             "sha256: " + hex64[1:],
		"newline":           "sha256:" + hex64 + "\n",
		"path":              "sha256:../" + hex64[3:],
		"full-width digit":  "sha256:" + hex64[:61] + "０",
	} {
		if d, err := evidence.ParseDigest(bad); err == nil {
			t.Errorf("%s: ParseDigest(%q) = %q", name, bad, d)
		}
	}
}

func FuzzParseDigest(f *testing.F) {
	f.Add("sha256:" + strings.Repeat("0", 64))
	f.Add("sha512:zz")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := evidence.ParseDigest(s)
		if err == nil && (string(d) != s || d.Bytes() == nil) {
			t.Errorf("%q is accepted as %q", s, d)
		}
	})
}

// The vector is the one of the DSSE specification, protocol.md.
func TestPAE(t *testing.T) {
	t.Parallel()
	got := string(evidence.PAE("http://example.com/HelloWorld", []byte("hello world")))
	if want := "DSSEv1 29 http://example.com/HelloWorld 11 hello world"; got != want {
		t.Errorf("PAE = %q, want %q", got, want)
	}
}
