package approval

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/hallmark-dev/hallmark/internal/cms"
	"github.com/hallmark-dev/hallmark/internal/sshsignature"
)

// SignSSH signs a payload with an SSH key, which may be one of an ssh-agent (also a FIDO key or one
// of a PKCS #11 token in it), and returns the envelope. What it made is verified first.
func SignSSH(payload []byte, signer ssh.Signer) ([]byte, error) {
	blob, err := sshsignature.Sign(PAE(payload), Namespace, signer, minRSABits)
	if err != nil {
		return nil, err
	}
	return seal(payload, blob, claimedKey(blob))
}

// SignWithKey signs a payload as an SSH key would: RSA, ECDSA and Ed25519 keys.
func SignWithKey(payload []byte, key crypto.Signer) ([]byte, error) {
	signer, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		return nil, err
	}
	return SignSSH(payload, signer)
}

// SignWithAgent signs a payload with the agent's key that is public.
func SignWithAgent(payload []byte, a agent.Agent, public ssh.PublicKey) ([]byte, error) {
	signers, err := a.Signers()
	if err != nil {
		return nil, fmt.Errorf("ssh-agent: %w", err)
	}
	for _, s := range signers {
		if bytes.Equal(s.PublicKey().Marshal(), public.Marshal()) {
			return SignSSH(payload, s)
		}
	}
	return nil, errors.New("the ssh-agent does not have the key " + ssh.FingerprintSHA256(public))
}

// SignX509 signs a payload with the key of a certificate and returns the envelope, which has a CMS
// signature.
func SignX509(payload []byte, cert *x509.Certificate, key crypto.Signer) ([]byte, error) {
	der, err := cms.Sign(PAE(payload), cert, key, time.Now())
	if err != nil {
		return nil, err
	}
	return seal(payload, der, cms.SPKI(cert))
}
