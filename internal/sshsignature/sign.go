package sshsignature

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// Sign makes a signature of message for a namespace, as a blob, with SHA-512 (RSA: rsa-sha2-512).
// The signer may be one of an ssh-agent, and a security key. What it made is verified before it
// is returned, whoever keeps the key.
func Sign(message []byte, namespace string, signer ssh.Signer, minRSA int) ([]byte, error) {
	key, err := ssh.ParsePublicKey(signer.PublicKey().Marshal()) // an agent's says nothing of its size
	if err != nil {
		return nil, fmt.Errorf("the SSH key cannot be read: %w", err)
	}
	if err := CheckKey(key, minRSA); err != nil {
		return nil, fmt.Errorf("the signature %w", err)
	}
	made, err := sshsig.Sign(bytes.NewReader(message), signer, sshsig.HashSHA512, namespace)
	if err != nil {
		return nil, fmt.Errorf("signing with ssh %s: %w", ssh.FingerprintSHA256(key), err)
	}
	blob := made.Marshal()
	s, err := Parse(blob)
	if err == nil {
		err = s.Verify(message, namespace, minRSA)
	}
	if err == nil && !bytes.Equal(s.Key.Marshal(), key.Marshal()) {
		err = errors.New("is by another key")
	}
	if err != nil {
		return nil, fmt.Errorf("the signature that was made is thrown away: it %w", err)
	}
	return blob, nil
}
