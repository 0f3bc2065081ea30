package key

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// isSSHPublic reports whether a file is an OpenSSH public key, one line as in id_ed25519.pub.
func isSSHPublic(data []byte) bool {
	return bytes.HasPrefix(data, []byte("ssh-")) || bytes.HasPrefix(data, []byte("ecdsa-sha2-"))
}

// parseSSHPublic reads one OpenSSH public key, with a comment perhaps (sshd(8),
// "AUTHORIZED_KEYS FILE FORMAT", without options). Certificates and keys of security
// devices are none that we verify with.
func parseSSHPublic(data []byte) (crypto.PublicKey, error) {
	k, _, _, rest, err := ssh.ParseAuthorizedKey(data)
	switch {
	case err != nil:
		return nil, errors.New("public key: not the line of an OpenSSH public key")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("public key: more than one line")
	}
	_, cert := k.(*ssh.Certificate)
	c, ok := k.(ssh.CryptoPublicKey)
	if !ok || cert || k.Type() == ssh.KeyAlgoSKED25519 || k.Type() == ssh.KeyAlgoSKECDSA256 {
		return nil, fmt.Errorf("public key: an OpenSSH key of type %s is not supported", k.Type())
	}
	public := c.CryptoPublicKey()
	if _, err := newSigner(PublicOnly{public}); err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return public, nil
}
