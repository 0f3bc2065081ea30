//go:build linux || darwin || freebsd

package pkcs11

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/key/pkcs11uri"
)

const oidP256 = "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"

func TestECPublic(t *testing.T) {
	t.Parallel()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := asn1.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, point := range map[string][]byte{"wrapped": wrapped, "raw": raw} {
		if got, err := ecPublic([]byte(oidP256), point); err != nil || !k.PublicKey.Equal(got) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for params := range ed25519Params {
		if got, err := ecPublic([]byte(params), ed); err != nil || !ed.Equal(got) {
			t.Errorf("%q: %v, %v", params, got, err)
		}
	}
	off := append([]byte{}, raw...)
	off[64] ^= 1
	for name, row := range map[string]struct{ params, point []byte }{
		"off the curve":       {[]byte(oidP256), off},
		"compressed":          {[]byte(oidP256), append([]byte{2}, raw[1:33]...)},
		"another curve":       {[]byte("\x06\x05\x2b\x81\x04\x00\x22"), raw},
		"an unknown curve":    {[]byte("\x06\x05\x2b\x81\x04\x00\x0a"), raw},
		"no params":           {nil, raw},
		"no point":            {[]byte(oidP256), nil},
		"something behind":    {[]byte(oidP256), append(append([]byte{}, wrapped...), 0)},
		"a short Ed25519 key": {[]byte("\x06\x03\x2b\x65\x70"), ed[:31]},
	} {
		if got, err := ecPublic(row.params, row.point); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// FuzzECPublic: whatever a module gives for a public key is a key or an error.
func FuzzECPublic(f *testing.F) {
	f.Add([]byte(oidP256), []byte{4, 65, 4})
	f.Add([]byte("\x13\x0cedwards25519"), make([]byte, 32))
	f.Fuzz(func(t *testing.T, params, point []byte) {
		if got, err := ecPublic(params, point); (got == nil) == (err == nil) {
			t.Errorf("%x %x: %v, %v", params, point, got, err)
		}
	})
}

func TestPINAndModule(t *testing.T) {
	for _, name := range append(append([]string{}, pinVariables...), moduleVariables...) {
		t.Setenv(name, "")
	}
	dir := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(dir, "pin")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for text, want := range map[string]string{"1234": "1234", "1234\n": "1234", "1234\r\n": "1234", " 12 34 ": " 12 34 ", strings.Repeat("1", maxPIN) + "\r\n": strings.Repeat("1", maxPIN)} {
		if pin, err := readPIN(file(text)); err != nil || string(pin) != want {
			t.Errorf("%.20q: %q, %v", text, pin, err)
		}
	}
	for _, text := range []string{"", "\n", "1\n2", "1\n\n", "1\x002", strings.Repeat("1", maxPIN+1)} {
		if pin, err := readPIN(file(text)); err == nil || strings.Contains(err.Error(), "1\n") {
			t.Errorf("%.20q: %q, %v", text, pin, err)
		}
	}
	u := &pkcs11uri.URI{Token: "t"}
	if _, err := modulePath(u); err == nil {
		t.Error("a module of nowhere")
	}
	t.Setenv(moduleVariables[1], "relative.so")
	if _, err := modulePath(u); err == nil || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("%v", err)
	}
	t.Setenv(moduleVariables[0], "/first.so")
	if path, err := modulePath(u); err != nil || path != "/first.so" {
		t.Errorf("%s, %v", path, err)
	}
	t.Setenv(pinVariables[1], "2")
	if pin, err := findPIN(u); err != nil || string(pin) != "2" {
		t.Errorf("%q, %v", pin, err)
	}
	t.Setenv(pinVariables[0], strings.Repeat("1", maxPIN+1))
	if _, err := findPIN(u); err == nil {
		t.Error("a PIN that is too long")
	}
}
