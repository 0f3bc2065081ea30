package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/hmtest/softhsm"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/key/plugin"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// TestKey: the sealed file of a data folder and a bare PEM are read; what is neither is
// named.
func TestKey(t *testing.T) {
	t.Parallel()
	s := newSite(t, "posix", newKey(t))
	bare, err := os.ReadFile(s.path("log.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteSealed(s.path("sealed"), bare, 0o600); err != nil {
		t.Fatal(err)
	}
	sealed, err := os.ReadFile(s.path("sealed"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		good bool
	}{
		"bare": {bare, true}, "sealed": {sealed, true},
		"flipped":  {append(bytes.Clone(sealed[:len(sealed)-5]), append([]byte{sealed[len(sealed)-5] ^ 1}, sealed[len(sealed)-4:]...)...), false},
		"cut":      {sealed[:len(sealed)-1], false},
		"two":      {append(bytes.Clone(bare), bare...), false},
		"trailing": {append(bytes.Clone(bare), "x"...), false},
		"other":    {[]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), false},
		"empty":    {nil, false},
		"large":    {bytes.Repeat([]byte("x"), maxSecretFile+1), false},
	} {
		s.write(t, "k", c.data)
		got, err := openKey(s.dir, "k", "")
		if (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && !s.key.Equal(got) {
			t.Errorf("%s: another key", name)
		}
		if err != nil && !strings.Contains(err.Error(), s.path("k")) {
			t.Errorf("%s: %v does not name the file", name, err)
		}
	}
}

// TestKeyReferences: the key may be whatever hallmark opens by a reference, with its password
// from a variable.
func TestKeyReferences(t *testing.T) {
	s := newSite(t, "posix", newKey(t))
	bare, err := os.ReadFile(s.path("log.pem"))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := key.EncryptCosign(s.key, []byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "encrypted.key", sealed)
	p256, err := key.Generate("ecdsa-p256")
	if err != nil {
		t.Fatal(err)
	}
	other, err := key.EncryptCosign(p256, []byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "p256.key", other)
	t.Setenv("LOG_KEY", string(bare))
	t.Setenv("LOG_PW", "pw")
	t.Setenv("COSIGN_PASSWORD", "")
	block, _ := pem.Decode(bare)
	for _, c := range []struct{ ref, variable, want string }{
		{"log.pem", "", ""}, {"env://LOG_KEY", "", ""}, {"encrypted.key", "LOG_PW", ""},
		{"encrypted.key", "", "wrong password"},
		{"encrypted.key", "NO_SUCH_VARIABLE", "there is none in NO_SUCH_VARIABLE"},
		{"p256.key", "LOG_PW", "not an Ed25519 key"},
		{"env://NO_SUCH_VARIABLE", "", "is not set"},
		{"env://" + string(bare), "", "key env://…: "},
		{"pkcs11:token=a?pin-value=493817", "", "pin-value=…: "},
		{"nosuch://key", "", "the program sigstore-kms-nosuch was not found"},
		{"missing.pem", "", "no such file"},
	} {
		got, err := openKey(s.dir, c.ref, c.variable)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "493817") || bytes.Contains([]byte(err.Error()), block.Bytes) || strings.Contains(err.Error(), "PRIVATE")) {
			t.Errorf("%.30s: %v", c.ref, err)
		}
		if err == nil && key.Fingerprint(got.Public()) != key.Fingerprint(s.key.Public()) {
			t.Errorf("%s: another key", c.ref)
		}
	}
}

// TestKeyInAToken: a log whose key is in a token takes entries; with a wrong PIN it does not
// start, before it has touched its storage.
func TestKeyInAToken(t *testing.T) {
	hsm := softhsm.New(t)
	hsm.Init("rel")
	create(t, hsm.WithPIN("rel", "log"))
	uri := hsm.URI("rel", "log")
	public, err := key.OpenPublic(uri)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, "posix", newKey(t))
	config, err := os.ReadFile(s.path("log.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "log.yaml", []byte(strings.Replace(string(config), "key: log.pem", "key: '"+uri+"'\npassword_env: LOG_PIN", 1)))
	open := func(pin string, create bool) (*Log, error) {
		t.Setenv("LOG_PIN", pin)
		cfg, err := ReadConfig(s.path("log.yaml"))
		if err != nil {
			return nil, err
		}
		if key.Fingerprint(cfg.key.Public()) != key.Fingerprint(public) {
			t.Fatal("another key")
		}
		return OpenLog(context.Background(), cfg, create, slog.New(slog.DiscardHandler))
	}
	if l, err := open("000000", true); err == nil || !strings.Contains(err.Error(), "CKR_PIN_INCORRECT") {
		if err == nil {
			_ = l.Close()
		}
		t.Fatalf("with a wrong PIN: %v", err)
	}
	if _, err := os.Stat(s.path("data")); err == nil {
		t.Error("with a wrong PIN the storage was begun")
	}
	l, err := open(softhsm.PIN, true)
	if err != nil {
		t.Fatal(err)
	}
	for n := range int64(3) {
		r, err := l.Write(t.Context(), []byte{'e', byte('0' + n)})
		if err != nil || r.Index != n {
			t.Errorf("entry %d: %+v, %v", n, r, err)
		}
	}
	log, err := translog.NewLog(testOrigin, public)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := log.ParseCheckpoint(l.Checkpoint(), time.Now()); err != nil || c.Size != 3 {
		t.Errorf("the checkpoint: %+v, %v", c, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// create asks the plugin for a new Ed25519 key.
func create(t *testing.T, uri string) {
	t.Helper()
	req, err := json.Marshal(plugin.Request{
		Init:      plugin.Init{Version: plugin.Version, KeyResourceID: uri, Hash: 7},
		Method:    plugin.MethodCreateKey,
		CreateKey: &plugin.CreateKey{Algorithm: "ed25519"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sigstore-kms-pkcs11", "v1", string(req)).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
