package key

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key/plugin"
)

// agentPatience is how long an ssh-agent may take: a person may have to confirm.
const agentPatience = 30 * time.Second

// agentKey is a key in an ssh-agent (draft-ietf-sshm-ssh-agent). The agent hashes what
// it signs itself, so whole messages only can be signed; its signatures of plain keys
// are then the same as anybody's, in another encoding.
type agentKey struct {
	socket string
	blob   ssh.PublicKey
	public crypto.PublicKey
}

var (
	_ crypto.Signer        = (*agentKey)(nil)
	_ crypto.MessageSigner = (*agentKey)(nil)
)

// openAgent finds the one key in the agent that has the fingerprint (SHA256:…, as
// ssh-add -l prints it) or the comment.
func openAgent(ref string) (crypto.Signer, Info, error) {
	_, want, _ := plugin.SplitRef(ref)
	if want == "" {
		return nil, Info{}, fault.Usagef("what follows ssh-agent:// is a key's fingerprint or comment, as ssh-add -l prints them")
	}
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, Info{}, fault.Hint(fault.Usagef("no ssh-agent is known: SSH_AUTH_SOCK is not set"), "start one, and add the key: ssh-add")
	}
	k := &agentKey{socket: socket}
	var found []*agent.Key
	err := k.ask(func(a agent.ExtendedAgent) error {
		keys, err := a.List()
		for _, one := range keys {
			if ssh.FingerprintSHA256(one) == want || one.Comment == want {
				found = append(found, one)
			}
		}
		return err
	})
	switch {
	case err != nil:
		return nil, Info{}, err
	case len(found) == 0:
		return nil, Info{}, fault.Hint(fault.Usagef("the ssh-agent has no such key"), "ssh-add -l lists those that it has, by fingerprint and comment")
	case len(found) > 1:
		return nil, Info{}, fault.Hint(fault.Usagef("the ssh-agent has %d keys with this comment", len(found)), "name the fingerprint: ssh-add -l prints it")
	}
	parsed, err := ssh.ParsePublicKey(found[0].Blob)
	if err != nil {
		return nil, Info{}, errors.New("the ssh-agent's key cannot be read")
	}
	typ := parsed.Type()
	plain, ok := parsed.(ssh.CryptoPublicKey)
	if !ok || strings.HasPrefix(typ, "sk-") || strings.Contains(typ, "cert") {
		return nil, Info{}, fmt.Errorf("an ssh-agent's key of type %s signs what only SSH understands; plain ECDSA, Ed25519 and RSA keys can be used", typ)
	}
	k.blob, k.public = parsed, plain.CryptoPublicKey()
	s, err := newSigner(k)
	if err != nil {
		return nil, Info{}, err
	}
	return k, Info{Kind: KindAgent, Algorithm: s.name, Where: ssh.FingerprintSHA256(parsed) + " " + found[0].Comment}, nil
}

func (k *agentKey) ask(do func(agent.ExtendedAgent) error) error {
	conn, err := net.DialTimeout("unix", k.socket, agentPatience)
	if err != nil {
		return fault.Unreachablef("no ssh-agent answers at SSH_AUTH_SOCK: %w", pathlessDial(err))
	}
	defer conn.Close() //nolint:errcheck // the answer is there, or an error
	if err := conn.SetDeadline(time.Now().Add(agentPatience)); err != nil {
		return err
	}
	if err := do(agent.NewClient(conn)); err != nil {
		return fault.Unreachablef("ssh-agent: %w", err)
	}
	return nil
}

func pathlessDial(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func (k *agentKey) Public() crypto.PublicKey { return k.public }

// Sign signs an Ed25519 message; of a digest the agent would make another one.
func (k *agentKey) Sign(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if _, ok := k.public.(ed25519.PublicKey); ok && o.HashFunc() == 0 {
		return k.SignMessage(random, digest, o)
	}
	return nil, errors.New("a key in an ssh-agent signs whole messages, no digests: sign and attest can use it, but with a transparency log only ECDSA and RSA ones")
}

func (k *agentKey) SignMessage(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	var flags agent.SignatureFlags
	if _, ok := k.public.(*rsa.PublicKey); ok { // some agents refuse it for other keys
		flags = agent.SignatureFlagRsaSha256
	}
	var got *ssh.Signature
	err := k.ask(func(a agent.ExtendedAgent) (err error) {
		got, err = a.SignWithFlags(k.blob, message, flags)
		return err
	})
	if err != nil {
		return nil, err
	}
	sig := got.Blob
	if _, ok := k.public.(*ecdsa.PublicKey); ok {
		var rs struct{ R, S *big.Int } // RFC 5656, 3.1.2
		if err := ssh.Unmarshal(got.Blob, &rs); err != nil {
			return nil, errors.New("the ssh-agent gave a signature that cannot be read")
		}
		if sig, err = asn1.Marshal(rs); err != nil {
			return nil, err
		}
	}
	if _, ok := k.public.(*rsa.PublicKey); ok && got.Format != ssh.KeyAlgoRSASHA256 {
		return nil, fmt.Errorf("the ssh-agent signed with %.40q, not with %s", got.Format, ssh.KeyAlgoRSASHA256)
	}
	if err := Verify(k.public, message, sig); err != nil {
		return nil, errors.New("the ssh-agent gave a signature that is not of the key that it names: it is thrown away")
	}
	return sig, nil
}
