package authority_test

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/tsa"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
)

// outside makes key files with chains for all services, encrypted with the password
// "pw", and the file that names them.
func outside(t *testing.T) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	save := func(name string, k crypto.Signer, chain ...*x509.Certificate) {
		sealed, err := key.EncryptCosign(k, []byte("pw"))
		if err != nil {
			t.Fatal(err)
		}
		write(name+".key", sealed)
		var certs []byte
		for _, c := range chain {
			certs = append(certs, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		write(name+".pem", certs)
	}
	for _, suffix := range []string{"", "2"} {
		k, cert, err := ca.NewRoot(time.Now(), "Acme", "Acme CA")
		if err != nil {
			t.Fatal(err)
		}
		save("ca"+suffix, k, cert)
		tk, chain, err := tsa.NewChain(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		save("tsa"+suffix, tk, chain...)
		for name, algorithm := range map[string]string{"ct": "ecdsa-p256", "log": "ed25519", "log-v1": "ecdsa-p256"} {
			k, err := key.Generate(algorithm)
			if err != nil {
				t.Fatal(err)
			}
			save(name+suffix, k)
		}
	}
	write("keys.yaml", []byte(`ca: {key: ca.key, chain: ca.pem, password-env: PW}
tsa: {key: tsa.key, chain: tsa.pem, password-env: PW}
ct: {key: ct.key, password-env: PW}
log: {key: log.key, password-env: PW}
log-v1: {key: log-v1.key, password-env: PW}
`))
	return dir, filepath.Join(dir, "keys.yaml")
}

// opens is what hallmark opens references with, when PW has the password "pw".
func opens(ref authority.KeyRef) (crypto.Signer, error) {
	if ref.PasswordEnv != "PW" {
		return nil, fmt.Errorf("the password is in %q", ref.PasswordEnv)
	}
	s, _, err := key.Open(ref.Ref, func(bool) ([]byte, error) { return []byte("pw"), nil })
	return s, err
}

func TestKeysElsewhere(t *testing.T) {
	t.Parallel()
	out, file := outside(t)
	dir, _, _, _ := made(t, authority.Config{KeysFile: file, OpenKey: opens})
	for _, name := range []string{"ca", "ct", "tsa", "log", "log-v1"} {
		if _, err := os.Stat(filepath.Join(dir, "keys", name+".pem")); err == nil {
			t.Errorf("a key of the %s is in the folder", name)
		}
	}
	// The folder knows where they are; the file need not be named again.
	_, end := up(t, authority.Config{Dir: dir, OpenKey: opens})
	end()
	if c, err := authority.Check(dir); err != nil || len(c.Damage) > 0 || c.Entries != 1 || c.EntriesV1 != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	// Each of them is replaced by another one elsewhere.
	for _, name := range []string{"ca", "ct", "tsa", "log", "log-v1"} {
		chain := ""
		if name == "ca" || name == "tsa" {
			chain = name + "2.pem"
		}
		ref, err := authority.NewKeyRef(name, name+"2.key", chain, "PW", out)
		if err != nil {
			t.Fatal(err)
		}
		r, err := authority.Rotate(authority.RotateConfig{Dir: dir, Service: name, Key: &ref, OpenKey: opens})
		if err != nil || r.New.Where != filepath.Join(out, name+"2.key") {
			t.Fatalf("%s: %+v, %v", name, r, err)
		}
	}
	// What an old key signs no more needs it no more; the log for older clients signs
	// its promises again whenever they are read.
	later := func() time.Time { return time.Now().Add(time.Hour) }
	for _, name := range []string{"ca", "ct", "tsa", "log"} {
		if err := os.Remove(filepath.Join(out, name+".key")); err != nil {
			t.Fatal(err)
		}
	}
	_, end = up(t, authority.Config{Dir: dir, OpenKey: opens, Now: later})
	end()

	// One that cannot be reached, or is another one, ends the start with its name.
	for _, name := range []string{"ca", "ct", "tsa", "log", "log-v1"} {
		path := filepath.Join(out, name+"2.key")
		saved := readFile(t, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := authority.Open(authority.Config{Dir: dir, Listen: "127.0.0.1:0", OpenKey: opens, Now: later}); err == nil || !strings.Contains(err.Error(), path+", cannot be reached") {
			t.Errorf("%s is not there: %v", name, err)
		}
		other, err := key.Generate(map[bool]string{true: "ed25519", false: "ecdsa-p256"}[name == "log"])
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := key.EncryptCosign(other, []byte("pw"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, sealed, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := authority.Open(authority.Config{Dir: dir, Listen: "127.0.0.1:0", OpenKey: opens, Now: later}); err == nil || !strings.Contains(err.Error(), path+" holds another one") {
			t.Errorf("%s is another key: %v", name, err)
		}
		if err := os.WriteFile(path, saved, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, end = up(t, authority.Config{Dir: dir, OpenKey: opens, Now: later})
	end()
}

// TestKeyMovesOut: a folder's own key may be taken elsewhere, and no other one instead.
func TestKeyMovesOut(t *testing.T) {
	t.Parallel()
	dir, _, _, _ := made(t, authority.Config{})
	path := filepath.Join(dir, "keys", "ct.pem")
	_, body, _ := strings.Cut(string(readFile(t, path)), "\n") // the seal is a line
	out := t.TempDir()
	moved, file := filepath.Join(out, "ct.key"), filepath.Join(out, "keys.yaml")
	for name, content := range map[string]string{moved: body, file: "ct: {key: ct.key}\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plain := func(ref authority.KeyRef) (crypto.Signer, error) {
		s, _, err := key.Open(ref.Ref, nil)
		return s, err
	}
	cfg := authority.Config{Dir: dir, KeysFile: file, OpenKey: plain}
	_, end := up(t, cfg)
	end()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, end = up(t, authority.Config{Dir: dir, OpenKey: plain})
	end()
	other := filepath.Join(out, "other.yaml")
	if err := os.WriteFile(other, []byte("log-v1: {key: ct.key}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.KeysFile, cfg.Listen = other, "127.0.0.1:0"
	if _, err := authority.Open(cfg); err == nil || !strings.Contains(err.Error(), "holds another one") {
		t.Errorf("%v", err)
	}
}

// failing is a key that can be reached, and then does not sign.
type failing struct {
	crypto.Signer
	broken *atomic.Bool
}

func (f failing) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if f.broken.Load() {
		return nil, errors.New("the token was pulled out")
	}
	return f.Signer.Sign(r, digest, o)
}

// TestKeyThatFails: who asks is told that the service cannot sign now, and not why.
func TestKeyThatFails(t *testing.T) {
	t.Parallel()
	_, file := outside(t)
	var broken atomic.Bool
	a, _ := up(t, authority.Config{Dir: filepath.Join(t.TempDir(), "data"), KeysFile: file, OpenKey: func(ref authority.KeyRef) (crypto.Signer, error) {
		s, err := opens(ref)
		return failing{s, &broken}, err
	}})
	url := a.Info().URL
	ask := func() (tsa, ca int) {
		resp, err := http.Post(url+"/api/v1/timestamp", "application/timestamp-query", strings.NewReader(tsq(t)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		token, err := a.Mint("alice@example.com")
		if err != nil {
			t.Fatal(err)
		}
		ca, body := postTo(t, url+"/api/v2/signingCert", requestFor(t, token, "alice@example.com"))
		if strings.Contains(body, "pulled out") {
			t.Errorf("the client is told %s", body)
		}
		return resp.StatusCode, ca
	}
	if tsa, ca := ask(); tsa != 200 || ca != 200 && ca != 201 {
		t.Fatalf("TSA %d, CA %d", tsa, ca)
	}
	broken.Store(true)
	if tsa, ca := ask(); tsa != 503 || ca != 503 {
		t.Errorf("TSA %d, CA %d, want 503", tsa, ca)
	}
	if _, err := logged(url, entry(t, "x")); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("log: %v", err)
	}
	broken.Store(false)
	if tsa, ca := ask(); tsa != 200 || ca != 200 && ca != 201 {
		t.Errorf("well again: TSA %d, CA %d", tsa, ca)
	}
}

// TestNoPINIsShown: whatever is wrong with a key, its reference is shown without a PIN.
func TestNoPINIsShown(t *testing.T) {
	t.Parallel()
	out, _ := outside(t)
	ca, _, err := key.Open(filepath.Join(out, "ca.key"), func(bool) ([]byte, error) { return []byte("pw"), nil })
	if err != nil {
		t.Fatal(err)
	}
	const ref = "hsm://token=a?pin-value=493817"
	secret := func(name string, err error, why string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error()+fault.HintOf(err), "493817") {
			t.Errorf("%s: %v (%s)", name, err, fault.HintOf(err))
		}
	}
	for name, row := range map[string]struct {
		keys string
		open func(authority.KeyRef) (crypto.Signer, error)
		why  string
	}{
		"does not open": {"ct: {key: '" + ref + "'}", func(authority.KeyRef) (crypto.Signer, error) { return nil, errors.New("no") }, "cannot be reached"},
		"no chain":      {"ca: {key: '" + ref + "'}", func(authority.KeyRef) (crypto.Signer, error) { return ca, nil }, "needs its certificates"},
		"another chain": {"ca: {key: '" + ref + "', chain: " + out + "/ca2.pem}", func(authority.KeyRef) (crypto.Signer, error) { return ca, nil }, "is not of the key in hsm://"},
		"former":        {"ct: {key: x.key, former: [{key: '" + ref + "'}]}", func(authority.KeyRef) (crypto.Signer, error) { return ca, nil }, "is not it"},
		"twice":         {"ct: {key: '" + ref + "', former: [{key: '" + ref + "'}]}", nil, "is named twice"},
		"cannot open":   {"ct: {key: '" + ref + "'}", nil, "cannot be opened here"},
	} {
		file := filepath.Join(t.TempDir(), "keys.yaml")
		if err := os.WriteFile(file, []byte(row.keys), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := authority.Open(authority.Config{Dir: filepath.Join(t.TempDir(), "data"), Listen: "127.0.0.1:0", KeysFile: file, OpenKey: row.open})
		secret(name, err, row.why)
	}
	var broken atomic.Bool
	broken.Store(true)
	s, err := authority.Reached(authority.KeyRef{Ref: ref}, func(authority.KeyRef) (crypto.Signer, error) { return failing{ca, &broken}, nil })
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Sign(nil, make([]byte, 32), crypto.SHA256)
	secret("does not sign", err, "does not sign")
	// Of a folder that has keys.
	dir, _, _, _ := made(t, authority.Config{})
	file := filepath.Join(t.TempDir(), "keys.yaml")
	if err := os.WriteFile(file, []byte("ct: {key: '"+ref+"'}"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = authority.Open(authority.Config{Dir: dir, Listen: "127.0.0.1:0", KeysFile: file, OpenKey: func(authority.KeyRef) (crypto.Signer, error) { return ca, nil }})
	secret("another key", err, "holds another one")
}

func TestParseKeysRefuses(t *testing.T) {
	t.Parallel()
	dir, _ := outside(t)
	in := filepath.Join(dir, "k.yaml")
	for text, want := range map[string]string{
		"":                                             "want one YAML document",
		"{}":                                           "names no key",
		"ca: {}":                                       "key is missing",
		"ca: {key: ca.key, Chain: ca.pem}":             "Chain",
		"tuf: {key: x}":                                "tuf",
		"ct: {key: ct.key, chain: ca.pem}":             "has no certificates",
		"ca: {key: ca.key, chain: none}":               "no such file",
		"ca: {key: ca.key, chain: ca.key}":             "something else than PEM certificates",
		"ca: {key: ca.key, chain: ct.pem}":             "no certificate",
		"ct: {key: a, key: b}":                         "key",
		"ct: {key: a, password-env: 1x}":               "password-env",
		"ct: {key: a, password-env: 'A B'}":            "password-env",
		"ct: {key: a}\n---\nct: {key: b}\n":            "want one YAML document",
		"ct: &a {key: a}\nlog: *a\n":                   "anchor",
		"ca: {key: [ca.key], chain: ca.pem}":           "must be one value",
		"ct: {key: a, former: {key: b}}":               "must be a list",
		"ct: {key: a, former: [b]}":                    "former[0]",
		"ct: {key: a, former: [{}]}":                   "key is missing",
		"ct: {former: [{key: b}]}":                     "key is missing",
		"ct: {key: a, former: [{key: a}]}":             "named twice",
		"ct: {key: a, former: [{key: b}, {key: ./b}]}": "named twice",
		"ca: {key: ca.key, chain: ca.pem, former: [{key: b, chain: ca.pem}]}": "chain",
		"ct: {key: a, former: [{key: b, former: []}]}":                        "former",
		"ct: {key: a, former: [" + strings.Repeat("{key: b}, ", 101) + "]}":   "want at most 100",
	} {
		if got, err := authority.ParseKeys(in, []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want %s", text, got, err, want)
		}
	}
	got, err := authority.ParseKeys(in, []byte("ct: {key: pkcs11:token=a}\nlog: {key: sub/x, former: [{key: old, password-env: PW}, {key: pkcs11:token=b}]}\n"))
	if err != nil || got["ct"].Ref != "pkcs11:token=a" || got["log"].Ref != filepath.Join(dir, "sub/x") || len(got["log"].Former) != 2 ||
		got["log"].Former[0].Ref != filepath.Join(dir, "old") || got["log"].Former[0].PasswordEnv != "PW" || got["log"].Former[1].Ref != "pkcs11:token=b" {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add("ca: {key: ca.key, chain: ca.pem, password-env: PW}\nct: {key: ct.key}\n")
	f.Add("log-v1: {key: new.key, former: [{key: old.key, password-env: PW}]}\n")
	f.Fuzz(func(t *testing.T, text string) {
		refs, err := authority.ParseKeys("/nowhere/k.yaml", []byte(text))
		if err != nil {
			return
		}
		for service, r := range refs {
			if r.Ref == "" || len(r.Chain) > 0 {
				t.Errorf("%s: %+v", service, r)
			}
			for _, one := range r.Former {
				if one.Ref == "" || one.Ref == r.Ref || len(one.Chain)+len(one.Former) > 0 {
					t.Errorf("%s: former: %+v", service, one)
				}
			}
		}
	})
}

// tsq is a time-stamp request.
func tsq(t *testing.T) string {
	t.Helper()
	sum := sha256.Sum256([]byte("content"))
	der, err := asn1.Marshal(struct {
		Version int
		Imprint struct {
			Algorithm pkix.AlgorithmIdentifier
			Digest    []byte
		}
	}{1, struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}}, sum[:]}})
	if err != nil {
		t.Fatal(err)
	}
	return string(der)
}

// requestFor asks the CA for a certificate of a new key.
func requestFor(t *testing.T, token, subject string) string {
	t.Helper()
	_, proof, spki := signedByAnyone(t, subject)
	body, err := json.Marshal(map[string]any{"credentials": map[string]any{"oidcIdentityToken": token}, "publicKeyRequest": map[string]any{
		"publicKey":         map[string]any{"algorithm": "ECDSA", "content": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))},
		"proofOfPossession": proof}})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
