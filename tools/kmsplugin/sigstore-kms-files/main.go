// Command sigstore-kms-files is a KMS plugin for tests: the key files:///path is an
// unencrypted PKCS #8 file. All that is of the protocol is Sigstore's handler, as in
// most plugins of others.
package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"os"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"
)

const algorithm = "p256"

type files struct {
	path string
	hash crypto.Hash
}

func main() {
	err := errors.New("another version of the protocol")
	if len(os.Args) > 1 && os.Args[1] == common.ProtocolVersion {
		var args *common.PluginArgs
		if args, err = handler.GetPluginArgs(os.Args); err == nil {
			f := &files{path: args.InitOptions.KeyResourceID, hash: args.InitOptions.HashFunc}
			_, err = handler.Dispatch(os.Stdout, os.Stdin, args, f)
		} else {
			_ = handler.WriteErrorResponse(os.Stdout, err)
		}
	}
	if err != nil {
		os.Exit(1)
	}
}

func (f *files) signer() (signature.SignerVerifier, error) {
	data, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	private, err := cryptoutils.UnmarshalPEMToPrivateKey(data, nil)
	if err != nil {
		return nil, err
	}
	return signature.LoadSignerVerifier(private, f.hash)
}

func (f *files) PublicKey(opts ...signature.PublicKeyOption) (crypto.PublicKey, error) {
	s, err := f.signer()
	if err != nil {
		return nil, err
	}
	return s.PublicKey(opts...)
}

func (f *files) SignMessage(message io.Reader, opts ...signature.SignOption) ([]byte, error) {
	s, err := f.signer()
	if err != nil {
		return nil, err
	}
	return s.SignMessage(message, opts...)
}

func (f *files) VerifySignature(sig, message io.Reader, opts ...signature.VerifyOption) error {
	s, err := f.signer()
	if err != nil {
		return err
	}
	return s.VerifySignature(sig, message, opts...)
}

func (f *files) CreateKey(_ context.Context, alg string) (crypto.PublicKey, error) {
	if alg != algorithm {
		return nil, errors.New("no such algorithm")
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	data, err := cryptoutils.MarshalPrivateKeyToPEM(private)
	if err != nil {
		return nil, err
	}
	return private.Public(), os.WriteFile(f.path, data, 0o600)
}

func (f *files) CryptoSigner(context.Context, func(error)) (crypto.Signer, crypto.SignerOpts, error) {
	return nil, nil, errors.New("not over the protocol")
}

func (f *files) SupportedAlgorithms() []string { return []string{algorithm} }
func (f *files) DefaultAlgorithm() string      { return algorithm }
