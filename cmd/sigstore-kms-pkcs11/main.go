//go:build linux || darwin || freebsd

// Command sigstore-kms-pkcs11 holds keys in PKCS #11 tokens for hallmark, cosign and
// everything else that speaks Sigstore's protocol for KMS plugins. It is run by them,
// once for each signature. The key is a PKCS #11 URI (RFC 7512), with or without the
// scheme. Programs that keep pkcs11: for themselves, as cosign does, run it by another
// name: a link sigstore-kms-hsm to it makes hsm://token=…;object=… of the same keys.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/key/pkcs11"
	"github.com/hallmark-dev/hallmark/internal/key/pkcs11uri"
	"github.com/hallmark-dev/hallmark/internal/key/plugin"
)

var version = "dev" // of the build

func main() {
	// Some modules tie sessions to the thread that they were made on.
	runtime.LockOSThread()
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

const usage = `sigstore-kms-pkcs11 keeps keys in PKCS #11 tokens. hallmark and others run it, by
Sigstore's protocol for KMS plugins:

  hallmark sign --key 'pkcs11:token=NAME;object=KEY?module-path=/path/of/module.so' IMAGE

The PIN is read from the file of pin-source=file:/path in the URI, or from the variable
HALLMARK_PKCS11_PIN or COSIGN_PKCS11_PIN. The module is that of module-path, of
module-name, or of the variable HALLMARK_PKCS11_MODULE or COSIGN_PKCS11_MODULE_PATH.
`

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] == "--help" || args[0] == "-h" {
		_, _ = io.WriteString(stderr, usage)
		return 2
	}
	if args[0] == "version" || args[0] == "--version" {
		fmt.Fprintf(stdout, "sigstore-kms-pkcs11 %s\n", version)
		return 0
	}
	if len(args) == 2 && args[0] == plugin.Version && args[1] == plugin.Stay {
		var b *backend
		err := plugin.ServeStaying(stdin, stdout, func(init plugin.Init) plugin.Backend {
			b = &backend{id: init.KeyResourceID}
			return b
		})
		if b != nil && b.opened != nil {
			b.opened.Close()
		}
		if err != nil {
			return 1 // it was answered
		}
		return 0
	}
	req, err := plugin.ParseRequest(args)
	if err != nil {
		return answer(stdout, plugin.Failed(err))
	}
	b := &backend{id: req.Init.KeyResourceID}
	resp := plugin.Serve(req, stdin, b)
	if b.opened != nil {
		b.opened.Close()
	}
	return answer(stdout, resp)
}

func answer(w io.Writer, resp *plugin.Response) int {
	data, err := json.Marshal(resp)
	if err == nil {
		_, err = w.Write(append(data, '\n'))
	}
	if err != nil || resp.Error != "" {
		return 1
	}
	return 0
}

// backend is one key, opened when it is needed.
type backend struct {
	id     string
	opened *pkcs11.Key
	public crypto.PublicKey
}

func (b *backend) open() (*pkcs11.Key, error) {
	if b.opened != nil {
		return b.opened, nil
	}
	text := b.id
	if !strings.HasPrefix(text, pkcs11uri.Scheme) {
		text = pkcs11uri.Scheme + text
	}
	u, err := pkcs11uri.Parse(text)
	if err != nil {
		return nil, err
	}
	b.opened, err = pkcs11.Open(u)
	return b.opened, err
}

func (b *backend) Algorithms() []string { return pkcs11.Algorithms() }

func (b *backend) CreateKey(algorithm string) ([]byte, error) {
	k, err := b.open()
	if err != nil {
		return nil, err
	}
	public, err := k.Create(algorithm, key.AlgorithmOf)
	if err != nil {
		return nil, err
	}
	return key.PublicPEM(public)
}

func (b *backend) publicKey() (crypto.PublicKey, error) {
	if b.public != nil {
		return b.public, nil
	}
	k, err := b.open()
	if err != nil {
		return nil, err
	}
	b.public, err = k.Public()
	return b.public, err
}

func (b *backend) PublicKey() ([]byte, error) {
	public, err := b.publicKey()
	if err != nil {
		return nil, err
	}
	return key.PublicPEM(public)
}

func (b *backend) WholeMessages() (bool, error) {
	public, err := b.publicKey()
	_, whole := public.(ed25519.PublicKey)
	return whole, err
}

func (b *backend) Sign(data []byte, hash crypto.Hash) ([]byte, error) {
	k, err := b.open()
	if err != nil {
		return nil, err
	}
	sig, err := k.Sign(data, hash)
	if err != nil {
		return nil, err
	}
	// Of two objects with one name, or a module that fails, nothing gets out.
	if err := b.Verify(data, sig, hash); err != nil {
		return nil, errors.New("the token gave a signature that is not of the public key that it shows: it is thrown away")
	}
	return sig, nil
}

func (b *backend) Verify(data, sig []byte, hash crypto.Hash) error {
	public, err := b.publicKey()
	if err != nil {
		return err
	}
	ok := false
	switch pub := public.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(pub, data, sig)
	case ed25519.PublicKey:
		ok = ed25519.Verify(pub, data, sig)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(pub, hash, data, sig) == nil
	}
	if !ok {
		return errors.New("the signature does not match")
	}
	return nil
}

func (b *backend) About() plugin.Extension {
	about := plugin.Extension{Plugin: "sigstore-kms-pkcs11 " + version, Stays: true}
	if b.opened != nil {
		about.Where, about.WantsPIN = b.opened.Where(), b.opened.WantsPIN()
	}
	return about
}
