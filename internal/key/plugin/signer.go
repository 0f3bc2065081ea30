package plugin

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// Signer is a key that a plugin holds. It implements crypto.Signer: for ECDSA and RSA
// (PKCS #1 v1.5) it signs digests, for Ed25519 whole messages (crypto.Hash(0)). Every
// signature is verified with the public key before anybody gets it. It is safe for
// concurrent use.
type Signer struct {
	client *Client
	public crypto.PublicKey
	about  Extension
	// ours: the plugin knows the extension, so that it may say of a login that it is not
	// to be repeated. Those of others say nothing, and run at the same time.
	ours bool
}

var _ crypto.Signer = (*Signer)(nil)

// Open asks the plugin for the public key, which parse reads and judges.
func Open(c *Client, parse func(pem []byte) (crypto.PublicKey, error)) (*Signer, error) {
	resp, err := c.ask(Request{Method: MethodPublicKey, PublicKey: &PublicKey{Options: &PublicKeyOptions{RPC: noRPC()}}}, uint(crypto.SHA256), nil, true)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(c.program)
	if resp.PublicKey == nil || len(resp.PublicKey.PEM) == 0 {
		return nil, fmt.Errorf("%s answered without a public key", name)
	}
	public, err := parse(resp.PublicKey.PEM)
	if err != nil {
		return nil, fmt.Errorf("%s answered with a key that cannot be used: %w", name, err)
	}
	s := &Signer{client: c, public: public, ours: resp.Hallmark != nil}
	if resp.Hallmark != nil {
		s.about = Extension{Plugin: c.clean(resp.Hallmark.Plugin), Where: c.clean(resp.Hallmark.Where), WantsPIN: resp.Hallmark.WantsPIN, Stays: resp.Hallmark.Stays}
	}
	return s, nil
}

func noRPC() RPC {
	version, remote := "", false
	return RPC{KeyVersion: &version, RemoteVerification: &remote}
}

// With is the same key, asked by another client, which knows more.
func (s *Signer) With(c *Client) *Signer {
	return &Signer{client: c, public: s.public, about: s.about, ours: s.ours}
}

// Public is the key's public half.
func (s *Signer) Public() crypto.PublicKey { return s.public }

// About is what the plugin says of itself and of where the key is; most say nothing.
func (s *Signer) About() Extension { return s.about }

// Program is the path of the plugin.
func (s *Signer) Program() string { return s.client.program }

// Sign asks the plugin for one signature; random is not used.
func (s *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, pss := opts.(*rsa.PSSOptions); pss {
		return nil, errors.New("a key behind a plugin signs RSA with PKCS #1 v1.5, not with PSS")
	}
	hash := opts.HashFunc()
	_, isEd25519 := s.public.(ed25519.PublicKey)
	switch {
	case isEd25519 && hash != 0:
		return nil, errors.New("an Ed25519 key behind a plugin signs whole messages, no digests (Ed25519ph), which transparency logs want; take a P-256 key for what is logged")
	case !isEd25519 && (!hash.Available() || len(digest) != hash.Size()):
		return nil, fmt.Errorf("a digest of %d bytes does not fit to the hash", len(digest))
	}
	if err := s.client.failed(); err != nil {
		return nil, err
	}
	req := Request{Method: MethodSign, Sign: &SignMessage{Options: &MessageOptions{RPC: noRPC()}}}
	var message []byte
	h := uint(hash)
	if isEd25519 {
		// What it is hashed with within Ed25519; a plugin's client wants one.
		message, h = digest, uint(crypto.SHA512)
	} else {
		req.Sign.Options.Message = Message{Digest: digest, Hash: &h}
	}
	var sig []byte
	check := func(resp *Response) (err error) {
		sig, err = s.signature(resp, digest, hash)
		return err
	}
	if s.about.Stays && len(message) <= maxStaying {
		err := s.client.askStaying(req, h, message, check)
		return sig, err
	}
	resp, err := s.client.ask(req, h, message, s.ours)
	if err != nil {
		return nil, err
	}
	err = check(resp)
	return sig, err
}

// signature is that of an answer, verified.
func (s *Signer) signature(resp *Response, digest []byte, hash crypto.Hash) ([]byte, error) {
	name := filepath.Base(s.client.program)
	if resp.Sign == nil || len(resp.Sign.Bytes) == 0 {
		return nil, fmt.Errorf("%s answered without a signature", name)
	}
	if err := checkSignature(s.public, digest, resp.Sign.Bytes, hash); err != nil {
		return nil, fmt.Errorf("%s gave %w", name, err)
	}
	return resp.Sign.Bytes, nil
}

// checkSignature says what is wrong with a signature, as a noun.
func checkSignature(public crypto.PublicKey, digest, sig []byte, hash crypto.Hash) error {
	switch pub := public.(type) {
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(pub, digest, sig) {
			return nil
		}
	case ed25519.PublicKey:
		if ed25519.Verify(pub, digest, sig) {
			return nil
		}
	case *rsa.PublicKey:
		if rsa.VerifyPKCS1v15(pub, hash, digest, sig) == nil {
			return nil
		}
		if rsa.VerifyPSS(pub, hash, digest, sig, nil) == nil {
			return errors.New("an RSA-PSS signature; this key can only be used when it signs with PKCS #1 v1.5")
		}
	}
	return errors.New("a signature that is not of the key that it names: it is thrown away")
}
