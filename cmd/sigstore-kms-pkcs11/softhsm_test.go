package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/hmtest/softhsm"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/key/plugin"
)

// TestTokens: keys that other tools have put into a token sign, of each kind that can be
// used, with the PIN from each of its places.
func TestTokens(t *testing.T) {
	hsm := softhsm.New(t)
	hsm.Init("rel")
	for i, row := range []struct{ object, openssl, name string }{
		{"k256", "P-256", "ecdsa-p256"}, {"k384", "P-384", "ecdsa-p384"}, {"k521", "P-521", "ecdsa-p521"},
		{"r2048", "rsa:2048", "rsa-2048"}, {"r4096", "rsa:4096", "rsa-4096"},
	} {
		id := string('a'+rune(i)) + "1"
		hsm.Import("rel", row.object, id, row.openssl)
		t.Setenv(key.EnvPIN, softhsm.PIN)
		uri := hsm.URI("rel", row.object)
		s, info, err := key.Load(uri, nil)
		if err != nil || info.Algorithm != row.name || info.Kind != key.KindPKCS11 || !strings.Contains(info.Where, `token "rel"`) || !strings.Contains(info.Plugin, "sigstore-kms-pkcs11") {
			t.Fatalf("%s: %+v, %v", row.object, info, err)
		}
		sig, err := s.Sign([]byte("message"))
		if err != nil || key.Verify(s.Public(), []byte("message"), sig) != nil {
			t.Errorf("%s: %v", row.object, err)
		}
		os.Unsetenv(key.EnvPIN) //nolint:errcheck // t.Setenv puts it back
		// By ID, by its type, with the PIN in a file; and nobody is asked.
		byID := "pkcs11:token=rel;id=%" + id + ";type=private?pin-source=file:" + hsm.PINFile
		t.Setenv("HALLMARK_PKCS11_MODULE", hsm.Module)
		again, _, err := key.Open(byID, func(bool) ([]byte, error) { t.Error("somebody was asked"); return nil, nil })
		if err != nil || key.Try(again, true) != nil {
			t.Errorf("%s: %v", byID, err)
		} else if key.Fingerprint(again.Public()) != key.Fingerprint(s.Public()) {
			t.Errorf("%s is another key", byID)
		}
		os.Unsetenv("HALLMARK_PKCS11_MODULE") //nolint:errcheck // t.Setenv puts it back
		public, err := key.OpenPublic(uri)    // without any PIN
		if err != nil || key.Fingerprint(public) != key.Fingerprint(s.Public()) {
			t.Errorf("%s: %v", row.object, err)
		}
		// A person is asked once, and only because it is needed.
		asked := 0
		prompted, _, err := key.Open(uri, func(bool) ([]byte, error) { asked++; return []byte(softhsm.PIN), nil })
		if err != nil || asked != 1 || key.Try(prompted, true) != nil {
			t.Errorf("%s: asked %d times, %v", row.object, asked, err)
		}
	}
}

// TestEd25519 is one that the token makes itself: others' tools import none.
func TestEd25519(t *testing.T) {
	hsm := softhsm.New(t)
	hsm.Init("rel")
	uri := hsm.WithPIN("rel", "ed")
	create(t, uri, "ed25519", "")
	s, _, err := key.Load(uri, nil)
	if err != nil {
		t.Fatal(err)
	}
	if sig, err := s.Sign([]byte("message")); err != nil || key.Verify(s.Public(), []byte("message"), sig) != nil {
		t.Error(err)
	}
}

// create asks the plugin for a new key, and wants this answer.
func create(t *testing.T, uri, algorithm, why string) {
	t.Helper()
	req, err := json.Marshal(plugin.Request{
		Init:      plugin.Init{Version: plugin.Version, KeyResourceID: uri, Hash: 5},
		Method:    plugin.MethodCreateKey,
		CreateKey: &plugin.CreateKey{Algorithm: algorithm},
	})
	if err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("sigstore-kms-pkcs11", "v1", string(req)).Output()
	var resp plugin.Response
	if err := json.Unmarshal(out, &resp); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	if why == "" && (resp.Error != "" || resp.CreateKey == nil) || why != "" && !strings.Contains(resp.Error, why) {
		t.Errorf("creating %s at %s: %s", algorithm, uri, out)
	}
}

func TestNewKeysStayInTheToken(t *testing.T) {
	hsm := softhsm.New(t)
	hsm.Init("rel")
	uri := hsm.WithPIN("rel", "new")
	create(t, uri, "rsa-3072", "")
	create(t, uri, "rsa-3072", "") // it is there
	create(t, uri, "ecdsa-p256", "has a key that matches already, of algorithm rsa-3072")
	create(t, uri, "dsa", "has a key that matches already")
	create(t, hsm.WithPIN("rel", "other"), "dsa", "no algorithm is called")
	create(t, hsm.URI("rel", "other"), "ecdsa-p256", "wants a PIN")
	// Two keys of one name could not be told apart by it.
	named := func(path string) string {
		return "pkcs11:token=rel;" + path + "?module-path=" + hsm.Module + "&pin-source=file:" + hsm.PINFile
	}
	create(t, named("object=new;id=%02"), "rsa-3072", `an object with the label "new" already`)
	create(t, named("object=newer;id=new"), "rsa-3072", "an object with the id %6E%65%77 already")
	hsm.Import("rel", "imported", "aa", "P-256")
	create(t, named("object=%aa"), "ecdsa-p256", "not text in UTF-8")
	create(t, named("object=another;id=%aa"), "ecdsa-p256", "an object with the id %AA already")
	create(t, named("object=another;id=%ab"), "ecdsa-p256", "")
	if _, _, err := key.Open(hsm.WithPIN("rel", "new"), nil); err != nil {
		t.Errorf("the first key is not found by its name any more: %v", err)
	}
	create(t, "pkcs11:token=rel?module-path="+hsm.Module, "ecdsa-p256", "names no object")
}

// TestNearMisses: what leads to no key, or to more than one, says which and why.
func TestNearMisses(t *testing.T) {
	hsm := softhsm.New(t)
	hsm.Init("rel")
	hsm.Init("other")
	hsm.Import("rel", "one", "01", "P-256")
	hsm.Import("rel", "twin", "02", "P-256")
	hsm.Import("rel", "twin", "03", "P-384")
	pin := "&pin-source=file:" + hsm.PINFile
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	m := "?module-path=" + hsm.Module
	for uri, why := range map[string]string{
		"pkcs11:token=reI;object=one" + m + pin:                                                     `no token matches; the module ` + hsm.Module + ` sees "`,
		"pkcs11:object=one" + m + pin:                                                               "2 tokens match",
		"pkcs11:token=rel;object=0ne" + m + pin:                                                     `the token "rel" has no key that matches`,
		"pkcs11:token=other;object=one" + m + pin:                                                   `the token "other" has no key that matches`,
		"pkcs11:token=rel;object=twin" + m + pin:                                                    `2 keys match in the token "rel", "twin" with id=%02, "twin" with id=%03: name one by object= and id=`,
		"pkcs11:token=rel" + m + pin:                                                                "3 keys match",
		"pkcs11:token=rel;object=one;id=%02" + m + pin:                                              "no key that matches",
		"pkcs11:token=rel;object=one;slot-id=1" + m + pin:                                           "no token matches",
		"pkcs11:token=rel;object=one;manufacturer=ACME" + m + pin:                                   "no token matches",
		"pkcs11:token=rel;object=one" + strings.Replace(pin, "&", "?", 1):                           "no PKCS #11 module is named",
		"pkcs11:token=rel;object=one?module-path=/no/such.so" + pin:                                 "the module /no/such.so cannot be loaded",
		"pkcs11:token=rel;object=one?module-path=" + file("text.so", "text") + pin:                  "cannot be loaded",
		"pkcs11:token=rel;object=one?module-name=nosuchmodule" + pin:                                "no module is called nosuchmodule",
		"pkcs11:token=rel;object=one" + m + "&pin-source=file:/no/pin":                              "pin-source /no/pin: no such file",
		"pkcs11:token=rel;object=one" + m + "&pin-source=" + file("empty", ""):                      "the file is empty",
		"pkcs11:token=rel;object=one" + m + "&pin-source=" + file("lines", "12\n34\n"):              "more than one line",
		"pkcs11:token=rel;object=one" + m + "&pin-source=" + file("big", strings.Repeat("1", 1000)): "that is no PIN",
		"pkcs11:token=rel;object=one" + m + "&pin-source=" + file("short", "1"):                     "is wrong (CKR_PIN_",
		"pkcs11:token=rel;object=one" + m:                                                           `the token "rel" wants a PIN`,
	} {
		private, _, err := key.Open(uri, nil)
		if err == nil {
			err = key.Try(private, true)
		}
		if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), softhsm.PIN) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", uri, err)
		}
	}
	// The module is loaded from the program's own libraries, which are no tokens.
	if _, _, err := key.Open("pkcs11:token=rel?module-path=/lib/x86_64-linux-gnu/libc.so.6", nil); err == nil || !strings.Contains(err.Error(), "C_GetFunctionList") && !strings.Contains(err.Error(), "cannot be loaded") {
		t.Errorf("libc: %v", err)
	}
	hsm.Remove("rel")
	if _, _, err := key.Open(hsm.WithPIN("rel", "one"), nil); err == nil || !strings.Contains(err.Error(), "no token matches") {
		t.Errorf("a token that was pulled out: %v", err)
	}
}

// TestWrongPINIsTriedOnce: each try of a wrong PIN brings a real token nearer to locking
// itself, so a signer that has met it never logs in again.
func TestWrongPINIsTriedOnce(t *testing.T) {
	hsm := softhsm.New(t)
	hsm.Init("rel")
	hsm.Import("rel", "k", "01", "P-256")
	t.Setenv(key.EnvPIN, "000000")
	s, _, err := key.Open(hsm.URI("rel", "k"), nil)
	if err != nil {
		t.Fatal(err) // the public key is there for everybody
	}
	first := key.Try(s, true)
	if first == nil || !strings.Contains(first.Error(), "CKR_PIN_INCORRECT") || strings.Contains(first.Error(), "000000") {
		t.Fatalf("%v", first)
	}
	// With the right one in its place it would sign: it is not even asked.
	t.Setenv(key.EnvPIN, softhsm.PIN)
	if second := key.Try(s, true); second == nil || second.Error() != first.Error() {
		t.Errorf("again: %v", second)
	}
	again, _, err := key.Open(hsm.URI("rel", "k"), nil)
	if err != nil || key.Try(again, true) != nil {
		t.Errorf("the token is locked: %v", err)
	}
}

// TestWrongPINOfMany: of calls at the same time one tries the PIN. A real token would be
// locked after three.
func TestWrongPINOfMany(t *testing.T) {
	hsm := softhsm.New(t)
	hsm.Init("rel")
	hsm.Import("rel", "k", "01", "P-256")
	t.Setenv(key.EnvPIN, "000000")
	s, _, err := key.Open(hsm.URI("rel", "k"), nil)
	if err != nil {
		t.Fatal(err)
	}
	// From here on each start of the plugin, which tries the PIN, is a line in a file.
	real := filepath.Join(hsm.Bin, "sigstore-kms-pkcs11")
	if err := os.Rename(real, real+".real"); err != nil {
		t.Fatal(err)
	}
	starts := filepath.Join(t.TempDir(), "starts")
	if err := os.WriteFile(real, []byte("#!/bin/sh\necho start >> "+starts+"\nexec "+real+".real \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if err := key.Try(s, true); err == nil || !strings.Contains(err.Error(), "CKR_PIN_INCORRECT") {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	if data, err := os.ReadFile(starts); err != nil || string(data) != "start\n" {
		t.Errorf("the wrong PIN was tried with %q, %v", data, err)
	}
}

// TestPINFileThatComesLater: nothing was tried, so the next call looks again.
func TestPINFileThatComesLater(t *testing.T) {
	hsm := softhsm.New(t)
	hsm.Init("rel")
	hsm.Import("rel", "k", "01", "P-256")
	pin, err := os.ReadFile(hsm.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := key.Open(hsm.WithPIN("rel", "k"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(hsm.PINFile); err != nil {
		t.Fatal(err)
	}
	if err := key.Try(s, true); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(hsm.PINFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := key.Try(s, true); err == nil || !strings.Contains(err.Error(), "the file is empty") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(hsm.PINFile, pin, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := key.Try(s, true); err != nil {
		t.Errorf("the PIN is there: %v", err)
	}
}

// TestConformance runs the tests that Sigstore has for plugins against ours.
func TestConformance(t *testing.T) {
	hsm := softhsm.New(t)
	hsm.Init("rel")
	uri := strings.Replace(hsm.WithPIN("rel", "conformance"), "pkcs11:", "hsm://", 1)
	// One test after the other: each starts plugins, and of several processes that log in
	// to one token at the same moment SoftHSM tells one CKR_GENERAL_ERROR now and then.
	out, err := exec.Command(hmtest.Tool(t, "kms-conformance"), "-test.v", "-test.parallel=1", "-key-resource-id", uri).CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS: TestSignMessageVerifySignature") != 5 || strings.Contains(string(out), "--- SKIP") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestHandlerOfOthers: a plugin whose protocol is Sigstore's own handler signs through
// our client, with each kind of key.
func TestHandlerOfOthers(t *testing.T) {
	theirs := hmtest.Tool(t, "sigstore-kms-files")
	t.Setenv("PATH", filepath.Dir(theirs)+string(os.PathListSeparator)+os.Getenv("PATH"))
	for name, args := range map[string][]string{
		"p256": {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"p384": {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
		"ed":   {"-algorithm", "ed25519"},
		"rsa":  {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"},
	} {
		file := filepath.Join(t.TempDir(), name)
		if out, err := exec.Command("openssl", append([]string{"genpkey", "-out", file}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		s, info, err := key.Load("files://"+file, nil)
		if err != nil || info.Kind != key.KindPlugin || info.Program != theirs {
			t.Fatalf("%s: %+v, %v", name, info, err)
		}
		sig, err := s.Sign([]byte("message"))
		if err != nil || key.Verify(s.Public(), []byte("message"), sig) != nil {
			t.Errorf("%s: %v", name, err)
		}
		own, _, err := key.Load(file, nil)
		if err != nil || key.Fingerprint(own.Public()) != key.Fingerprint(s.Public()) {
			t.Errorf("%s is another key: %v", name, err)
		}
	}
	if _, _, err := key.Load("files:///no/such/key", nil); err == nil || !strings.Contains(err.Error(), "sigstore-kms-files says: ") {
		t.Errorf("%v", err)
	}
}

// BenchmarkSign is one signature of a P-256 key in SoftHSM.
func BenchmarkSign(b *testing.B) {
	hsm := softhsm.New(b)
	hsm.Init("rel")
	hsm.Import("rel", "k", "01", "P-256")
	s, _, err := key.Load(hsm.WithPIN("rel", "k"), nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Sign([]byte("message")); err != nil {
			b.Fatal(err)
		}
	}
}
