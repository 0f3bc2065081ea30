package key

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// MaxFile is the most that a key file may hold, in bytes.
const MaxFile = 64 << 10

const (
	pemSigstore = "ENCRYPTED SIGSTORE PRIVATE KEY"
	pemCosign   = "ENCRYPTED COSIGN PRIVATE KEY" // cosign before 2.0
)

// Password gives the password of an encrypted key; confirm asks for it twice,
// because a new key will be locked with it. What it returns is wiped after use.
type Password func(confirm bool) ([]byte, error)

// ErrPassword is a password that does not open the key.
var ErrPassword = errors.New("wrong password, or the file is damaged")

// ReadFile reads a key file of at most [MaxFile] bytes.
func ReadFile(path string) ([]byte, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", Redact(path), err)
	}
	return data, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, pathCause(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, pathCause(err)
	}
	if len(data) > MaxFile {
		return nil, fmt.Errorf("more than %d KiB; this is no key file", MaxFile>>10)
	}
	return data, nil
}

func pathCause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Parse reads one private key in one PEM block: cosign's encrypted format, or
// plain PKCS #8 "PRIVATE KEY", SEC1 "EC PRIVATE KEY" or PKCS #1 "RSA PRIVATE
// KEY". password is called once, and only for encrypted keys.
func Parse(data []byte, password Password) (crypto.Signer, Info, error) {
	block, err := onePEM(data)
	if err != nil {
		return nil, Info{}, err
	}
	var parsed any
	info := Info{}
	switch block.Type {
	case pemSigstore, pemCosign:
		info.Encrypted = true
		if parsed, err = openCosign(block.Bytes, password); err != nil {
			return nil, Info{}, err
		}
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, Info{}, wrongBlock(block.Type)
	}
	if err != nil {
		// The cause of x509 may quote what it read of the key.
		return nil, Info{}, fmt.Errorf("the %s block holds no key that can be read", block.Type)
	}
	var private crypto.Signer
	switch k := parsed.(type) {
	case *ecdsa.PrivateKey:
		private = k
	case ed25519.PrivateKey:
		private = k
	case *rsa.PrivateKey:
		private = k
	default:
		return nil, Info{}, errors.New("neither an ECDSA, nor an Ed25519, nor an RSA key")
	}
	s, err := newSigner(private)
	if err != nil {
		return nil, Info{}, err
	}
	info.Algorithm = s.name
	return private, info, nil
}

func wrongBlock(typ string) error {
	err := fmt.Errorf("a PEM block %q is no private key", typ)
	switch typ {
	case "ENCRYPTED PRIVATE KEY":
		return fault.Hint(errors.New("an encrypted PKCS #8 key cannot be read"),
			"take OpenSSL's encryption off (openssl pkcs8 -in KEY) and put cosign's on: hallmark key import -")
	case "OPENSSH PRIVATE KEY":
		return fault.Hint(errors.New("an OpenSSH key cannot be read"), "make a key for signing images: hallmark key generate")
	case "PUBLIC KEY":
		return fault.Hint(err, "this is the public half; signing needs the private one")
	}
	return err
}

// onePEM returns the only PEM block of data; around it may be nothing but white
// space, in it no headers: bytes that nobody reads may be read by somebody else.
func onePEM(data []byte) (*pem.Block, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("more than %d KiB; this is no key", MaxFile>>10)
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return nil, errors.New("empty")
	}
	if !bytes.HasPrefix(data, []byte("-----BEGIN ")) {
		return nil, errors.New("does not start with a PEM block")
	}
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, errors.New("not a well-formed PEM block")
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		if block.Type == "EC PARAMETERS" {
			return nil, fault.Hint(errors.New("more than one PEM block"),
				"make it one block: openssl pkcs8 -topk8 -nocrypt -in KEY")
		}
		return nil, errors.New("there is something after the PEM block")
	}
	// Decode skips what does not parse until it finds something that does.
	if bytes.Count(data, []byte("-----BEGIN ")) != 1 {
		return nil, errors.New("more than one PEM block")
	}
	if len(block.Headers) != 0 {
		return nil, fault.Hint(errors.New("a PEM block with headers cannot be read"),
			"take OpenSSL's old encryption off (openssl pkcs8 -topk8 -nocrypt -in KEY) and import the result: hallmark key import -")
	}
	return block, nil
}

// sealedKey is the JSON inside cosign's PEM block, as go-securesystemslib writes it.
type sealedKey struct {
	KDF struct {
		Name   string `json:"name"`
		Params struct {
			N int64 `json:"N"`
			R int64 `json:"r"`
			P int64 `json:"p"`
		} `json:"params"`
		Salt []byte `json:"salt"`
	} `json:"kdf"`
	Cipher struct {
		Name  string `json:"name"`
		Nonce []byte `json:"nonce"`
	} `json:"cipher"`
	Ciphertext []byte `json:"ciphertext"`
}

// check refuses, before the password is asked for, what no password can open.
func (k *sealedKey) check() error {
	p := k.KDF.Params
	switch {
	case k.KDF.Name != "scrypt":
		return fmt.Errorf("key derivation %q is not scrypt", k.KDF.Name)
	case p.R != 8 || p.P != 1 || p.N != 1<<15 && p.N != 1<<16 && p.N != 1<<17:
		return errors.New("scrypt parameters that cosign never writes")
	case k.Cipher.Name != "nacl/secretbox":
		return fmt.Errorf("cipher %q is not nacl/secretbox", k.Cipher.Name)
	case len(k.KDF.Salt) != 32:
		return fmt.Errorf("a salt of %d bytes, not 32", len(k.KDF.Salt))
	case len(k.Cipher.Nonce) != 24:
		return fmt.Errorf("a nonce of %d bytes, not 24", len(k.Cipher.Nonce))
	case len(k.Ciphertext) < 17:
		return errors.New("a ciphertext that is too short")
	}
	return nil
}

func openCosign(sealed []byte, password Password) (any, error) {
	var k sealedKey
	if err := strictjson.Unmarshal(sealed, &k); err != nil {
		return nil, fmt.Errorf("encrypted key: %w", err)
	}
	if err := k.check(); err != nil {
		return nil, fmt.Errorf("encrypted key: %w", err)
	}
	if password == nil {
		return nil, errors.New("the key is encrypted and there is no password")
	}
	pw, err := password(false)
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	defer clear(pw)
	der, err := encrypted.Decrypt(sealed, pw)
	if err != nil {
		return nil, ErrPassword
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the password opens the file, but there is no PKCS #8 key in it")
	}
	return parsed, nil
}

// EncryptCosign writes a private key in cosign's format: PKCS #8, sealed with
// scrypt (N=65536) and NaCl's secretbox, in a PEM block. It wipes the password.
func EncryptCosign(private crypto.Signer, password []byte) ([]byte, error) {
	defer clear(password)
	if _, err := newSigner(private); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	sealed, err := encrypted.Encrypt(der, password)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemSigstore, Bytes: sealed}), nil
}

// ParsePublicPEM reads one public key in one PEM block, "PUBLIC KEY" (PKIX) or
// "RSA PUBLIC KEY" (PKCS #1).
func ParsePublicPEM(data []byte) (crypto.PublicKey, error) {
	block, err := onePEM(data)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	var public crypto.PublicKey
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, fmt.Errorf("public key: a PEM block %q is no public key", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	if _, err := newSigner(PublicOnly{public}); err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return public, nil
}

// PublicOnly stands for a key of which only the public half is at hand, where a private
// one is wanted; it signs nothing.
type PublicOnly struct{ Key crypto.PublicKey }

func (p PublicOnly) Public() crypto.PublicKey { return p.Key }

func (PublicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("only the public half of the key is at hand: it cannot sign")
}

// WriteFile puts a key file in place, durable and whole. Without overwrite an
// existing file is left alone and the error is fs.ErrExist. Private key files
// are made with mode 0600, public ones with 0644.
func WriteFile(path string, data []byte, mode fs.FileMode, overwrite bool) error {
	if overwrite {
		return durable.WriteFile(path, data, mode)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(path)
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}
