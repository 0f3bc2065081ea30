package key_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/key"
)

func password(pw string) key.Password {
	return func(bool) ([]byte, error) { return []byte(pw), nil }
}

func generate(t testing.TB, alg string) crypto.Signer {
	t.Helper()
	k, err := key.Generate(alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// plain is a private key in a PEM block of the given type.
func plain(t testing.TB, typ string, k crypto.Signer) []byte {
	t.Helper()
	var der []byte
	var err error
	switch typ {
	case "EC PRIVATE KEY":
		der, err = x509.MarshalECPrivateKey(k.(*ecdsa.PrivateKey))
	case "RSA PRIVATE KEY":
		der = x509.MarshalPKCS1PrivateKey(k.(*rsa.PrivateKey))
	default:
		der, err = x509.MarshalPKCS8PrivateKey(k)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
}

// Each algorithm signs, also from a digest alone, and the signature verifies
// with its public key only, for its message only.
func TestSignAndVerify(t *testing.T) {
	t.Parallel()
	message := []byte("what is signed")
	other := generate(t, "ecdsa-p256")
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.Signer{"ecdsa-p521": p521}
	for _, alg := range key.Algorithms() {
		if alg != "rsa-3072" && alg != "rsa-4096" { // slow to make, no code of their own
			keys[alg] = generate(t, alg)
		}
	}
	details := map[string]string{
		"ecdsa-p256": "PKIX_ECDSA_P256_SHA_256", "ecdsa-p384": "PKIX_ECDSA_P384_SHA_384", "ecdsa-p521": "PKIX_ECDSA_P521_SHA_512",
		"ed25519": "PKIX_ED25519", "rsa-2048": "PKIX_RSA_PKCS1V15_2048_SHA256",
	}
	for alg, private := range keys {
		s, err := key.NewSigner(private)
		if err != nil {
			t.Fatal(err)
		}
		if s.KeyDetails() != details[alg] {
			t.Errorf("%s: key details %s", alg, s.KeyDetails())
		}
		for _, s := range []key.Signer{s, key.Prehashed(s)} {
			sig, err := s.Sign(message)
			if err != nil {
				t.Fatal(alg, err)
			}
			if err := key.Verify(s.Public(), message, sig); err != nil {
				t.Errorf("%s: %v", alg, err)
			}
			if key.Verify(s.Public(), []byte("what is signeD"), sig) == nil {
				t.Errorf("%s: another message verified", alg)
			}
			if key.Verify(other.Public(), message, sig) == nil {
				t.Errorf("%s: another key verified", alg)
			}
			if key.Verify(s.Public(), message, append(bytes.Clone(sig), 0)) == nil {
				t.Errorf("%s: a trailing byte verified", alg)
			}
			if s.Hash() == 0 {
				if _, err := s.SignDigest(make([]byte, 32)); err == nil {
					t.Error("pure Ed25519 signed a digest")
				}
				continue
			}
			h := s.Hash().New()
			h.Write(message)
			sig, err = s.SignDigest(h.Sum(nil))
			if err != nil || key.Verify(s.Public(), message, sig) != nil {
				t.Errorf("%s: from digest: %v", alg, err)
			}
			if _, err := s.SignDigest(make([]byte, 20)); err == nil {
				t.Errorf("%s: signed a digest of the wrong length", alg)
			}
		}
	}
	ph, err := key.NewSigner(keys["ed25519"])
	if err != nil {
		t.Fatal(err)
	}
	if d := key.Prehashed(ph).KeyDetails(); d != "PKIX_ED25519_PH" {
		t.Error(d)
	}
}

// Every form of file opens, and says whether it was encrypted.
func TestFormsOfFiles(t *testing.T) {
	t.Parallel()
	p256, rsaKey := generate(t, ""), generate(t, "rsa-2048")
	sealed, err := key.EncryptCosign(p256, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	old := bytes.ReplaceAll(sealed, []byte("SIGSTORE"), []byte("COSIGN"))
	for name, c := range map[string]struct {
		file      []byte
		key       crypto.Signer
		encrypted bool
	}{
		"sigstore": {sealed, p256, true},
		"cosign":   {old, p256, true},
		"pkcs8":    {plain(t, "PRIVATE KEY", p256), p256, false},
		"sec1":     {plain(t, "EC PRIVATE KEY", p256), p256, false},
		"pkcs1":    {plain(t, "RSA PRIVATE KEY", rsaKey), rsaKey, false},
		"spaces":   {append([]byte("\n \n"), append(plain(t, "PRIVATE KEY", p256), "\r\n\n"...)...), p256, false},
	} {
		path := filepath.Join(t.TempDir(), "k")
		if err := os.WriteFile(path, c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		s, info, err := key.Load(path, password("secret"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if info.Encrypted != c.encrypted || key.Fingerprint(s.Public()) != key.Fingerprint(c.key.Public()) {
			t.Errorf("%s: %+v", name, info)
		}
	}
}

// Each is one step away from a key file that opens, and none does.
func TestNearMisses(t *testing.T) {
	t.Parallel()
	p256 := generate(t, "")
	good := string(plain(t, "PRIVATE KEY", p256))
	sealed, err := key.EncryptCosign(p256, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(sealed)
	inner := func(old, new string) string {
		changed := strings.Replace(string(block.Bytes), old, new, 1)
		if changed == string(block.Bytes) {
			t.Fatalf("%s is not in the file", old)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: []byte(changed)}))
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicPEM(p256.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ file, want string }{
		"empty":                {"", "empty"},
		"text before":          {"my key:\n" + good, "does not start"},
		"text after":           {good + "x", "something after"},
		"two blocks":           {good + good, "something after"},
		"broken block first":   {"-----BEGIN X-----\n!\n" + good, "PEM"},
		"cut short":            {good[:len(good)-20], "not a well-formed"},
		"headers":              {strings.Replace(good, "KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\n\n", 1), "headers"},
		"public half":          {string(public), "no private key"},
		"type swapped":         {strings.ReplaceAll(good, "PRIVATE KEY", "EC PRIVATE KEY"), "no key that can be read"},
		"openssh":              {strings.ReplaceAll(good, "PRIVATE KEY", "OPENSSH PRIVATE KEY"), "OpenSSH"},
		"openssl encrypted":    {strings.ReplaceAll(good, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "PKCS #8"},
		"P-224":                {string(plain(t, "PRIVATE KEY", p224)), "curve"},
		"too big":              {good + strings.Repeat("\n", key.MaxFile), "more than"},
		"sealed: not JSON":     {string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: []byte("x")})), "encrypted key"},
		"sealed: trailing":     {inner(`"}`, `"}}`), "encrypted key"},
		"sealed: unknown":      {inner(`{"kdf"`, `{"x":1,"kdf"`), "x"},
		"sealed: twice":        {inner(`{"kdf"`, `{"ciphertext":"","kdf"`), "ciphertext"},
		"sealed: letter case":  {inner(`"ciphertext"`, `"Ciphertext"`), "Ciphertext"},
		"sealed: N":            {inner(`65536`, `1073741824`), "scrypt parameters"},
		"sealed: r":            {inner(`"r":8`, `"r":800`), "scrypt parameters"},
		"sealed: kdf":          {inner(`"scrypt"`, `"none"`), "none"},
		"sealed: cipher":       {inner(`nacl/secretbox`, `aes`), "aes"},
		"sealed: short nonce":  {inner(`"nonce":"`, `"nonce":"AAAA","x":"`), "x"},
		"sealed: ciphertext":   {inner(`"ciphertext":"`, `"ciphertext":"AAAA`), "wrong password"},
		"plain under that tag": {strings.ReplaceAll(good, "PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY"), "encrypted key"},
	} {
		_, _, err := key.Parse([]byte(c.file), password("secret"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want something with %q", name, err, c.want)
		}
	}
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	sealed, err := key.EncryptCosign(generate(t, ""), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pw := range []string{"", "Secret", "secret\n", "secret "} {
		_, _, err := key.Parse(sealed, password(pw))
		if !errors.Is(err, key.ErrPassword) || strings.Contains(err.Error(), "ecret") {
			t.Errorf("%q: %v", pw, err)
		}
	}
	refused := errors.New("no terminal")
	if _, _, err := key.Parse(sealed, func(bool) ([]byte, error) { return nil, refused }); !errors.Is(err, refused) {
		t.Error(err)
	}
	if _, _, err := key.Parse(sealed, nil); err == nil {
		t.Error("no password function and no error")
	}
}

func TestWeakKeysAreRefused(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.NewSigner(small); err == nil {
		t.Error("1024 bits of RSA")
	}
	pub := &rsa.PublicKey{N: new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 2047), big.NewInt(1)), E: 3}
	file, err := key.PublicPEM(pub)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.ParsePublicPEM(file); err == nil {
		t.Error("exponent 3")
	}
}

func TestPublicPEM(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"ecdsa-p256", "ed25519", "rsa-2048"} {
		k := generate(t, alg)
		file, err := key.PublicPEM(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		public, err := key.ParsePublicPEM(file)
		if err != nil || key.Fingerprint(public) != key.Fingerprint(k.Public()) || key.Hint(public) != key.Hint(k.Public()) {
			t.Errorf("%s: %v", alg, err)
		}
		for name, bad := range map[string]string{
			"private": string(plain(t, "PRIVATE KEY", k)), "two": string(file) + string(file), "junk": "junk" + string(file),
			"cut": string(file[:40]), "type": strings.ReplaceAll(string(file), "PUBLIC", "RSA PUBLIC"),
		} {
			if _, err := key.ParsePublicPEM([]byte(bad)); err == nil {
				t.Errorf("%s %s was accepted", alg, name)
			}
		}
	}
	if fp := key.Fingerprint(ed25519.PublicKey(nil)); !strings.HasPrefix(fp, "sha256:") {
		t.Error(fp)
	}
}

// A key file is private, and never overwritten unless that was asked for.
func TestWriteFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "k.key")
	if err := key.WriteFile(path, []byte("one"), 0o600, false); err != nil {
		t.Fatal(err)
	}
	if err := key.WriteFile(path, []byte("two"), 0o600, false); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "one" {
		t.Errorf("%q", got)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st.Mode(), err)
	}
	if err := key.WriteFile(path, []byte("three"), 0o600, true); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "three" {
		t.Errorf("%q", got)
	}
}

func FuzzParse(f *testing.F) {
	p256 := generate(f, "")
	f.Add(plain(f, "PRIVATE KEY", p256))
	f.Add(plain(f, "EC PRIVATE KEY", p256))
	sealed, err := key.EncryptCosign(p256, []byte("secret"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	asked := errors.New("asked")
	f.Fuzz(func(t *testing.T, data []byte) {
		// scrypt would take all the time: what gets as far as asking is enough.
		k, _, err := key.Parse(data, func(bool) ([]byte, error) { return nil, asked })
		if err == nil {
			if _, err := key.NewSigner(k); err != nil {
				t.Errorf("parsed, but %v", err)
			}
		}
		_, _ = key.ParsePublicPEM(data)
	})
}
