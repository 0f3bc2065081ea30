// Package sshsigner finds the SSH key with which a person signs at their desk: in their
// ssh-agent, where keys of tokens (PKCS #11) and security keys (FIDO) are, too, or in a file.
package sshsigner

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/sshsignature"
)

// patience is how long an agent may take: a person may have to touch a key.
const patience = 2 * time.Minute

// maxFile bounds a key file, in bytes.
const maxFile = 64 << 10

// minRSABits is what a signing policy accepts.
const minRSABits = 3072

// Signer signs with one key. Close ends the connection to the agent.
type Signer struct {
	ssh.Signer
	Where string // "ssh-agent" or the path of the file
	close func() error
}

// Close ends it.
func (s *Signer) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

// Open finds a key: "SHA256:…" or a comment of a key in the ssh-agent, "" for the one key
// that the agent has, or the path of a private key or of a public one whose private part
// the agent has. password is asked for an encrypted file. A security key must be in the
// agent, which alone can reach it.
func Open(ref string, password func() ([]byte, error)) (*Signer, error) {
	data, isFile, err := readKey(ref)
	switch {
	case err != nil:
		return nil, err
	case !isFile:
		return inAgent(what(ref), func(public ssh.PublicKey, comment string) bool {
			return ref == "" || ssh.FingerprintSHA256(public) == ref || comment == ref
		})
	}
	if public, _, _, _, err := ssh.ParseAuthorizedKey(data); err == nil {
		return inAgent("the key of "+ref, same(public))
	}
	key, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		if locked.PublicKey != nil { // the agent may have it open
			if s, err := inAgent("", same(locked.PublicKey)); err == nil {
				return s, nil
			}
		}
		if password == nil {
			return nil, fault.Hint(fmt.Errorf("the key in %s is locked with a password", ref), "ssh-add %s", ref)
		}
		secret, perr := password()
		if perr != nil {
			return nil, perr
		}
		key, err = ssh.ParsePrivateKeyWithPassphrase(data, secret)
	}
	if err != nil {
		// What the library says could repeat what is in the file.
		return nil, fault.Hint(fault.Usagef("%s holds no SSH key that can be used", ref), "of a security key, add it to the agent: ssh-add %s", ref)
	}
	return &Signer{Signer: key, Where: ref}, nil
}

// Find is the first key of the agent that is one of these; nil when it has none, or when
// there is no agent.
func Find(keys []ssh.PublicKey) (*Signer, error) {
	if os.Getenv("SSH_AUTH_SOCK") == "" {
		return nil, nil
	}
	for _, k := range keys {
		s, err := inAgent("", same(k))
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, errNone) {
			return nil, err
		}
	}
	return nil, nil
}

func what(ref string) string {
	if ref == "" {
		return "a key"
	}
	return "the key " + ref
}

func same(public ssh.PublicKey) func(ssh.PublicKey, string) bool {
	return func(k ssh.PublicKey, _ string) bool { return string(k.Marshal()) == string(public.Marshal()) }
}

func readKey(ref string) (data []byte, isFile bool, err error) {
	st, err := os.Stat(ref)
	if err != nil || st.IsDir() {
		if strings.ContainsRune(ref, '/') && !strings.HasPrefix(ref, "SHA256:") {
			return nil, false, fault.Usagef("%s: no such key file", ref)
		}
		return nil, false, nil
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, false, fault.Usagef("%s is no key file", ref)
	}
	f, err := os.Open(ref)
	if err != nil {
		return nil, false, err
	}
	defer f.Close() //nolint:errcheck // only read
	data, err = io.ReadAll(io.LimitReader(f, maxFile))
	return data, true, err
}

var errNone = errors.New("the ssh-agent does not have it")

// inAgent finds the one key of the agent that is meant. Certificates are passed over.
func inAgent(what string, is func(public ssh.PublicKey, comment string) bool) (*Signer, error) {
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, fault.Hint(fault.Usagef("no ssh-agent is known: SSH_AUTH_SOCK is not set"), "start one, and add the key: ssh-add")
	}
	conn, err := net.DialTimeout("unix", socket, patience)
	if err != nil {
		return nil, fault.Unreachablef("no ssh-agent answers at SSH_AUTH_SOCK")
	}
	client := agent.NewClient(conn)
	var found ssh.Signer
	n := 0
	err = conn.SetDeadline(time.Now().Add(patience))
	if err == nil {
		n, found, err = pick(client, is)
	}
	switch {
	case err != nil:
	case n == 0:
		err = fault.Hint(fmt.Errorf("%s: %w", what, errNone), "ssh-add -l lists what it has, by fingerprint and comment; ssh-add adds a key")
	case n > 1:
		err = fault.Hint(fault.Usagef("%s: the ssh-agent has %d, and it is not said which is meant", what, n), "give its fingerprint or comment, which ssh-add -l prints: --key SHA256:…")
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &Signer{Signer: patient{found, conn}, Where: "ssh-agent", close: conn.Close}, nil
}

func pick(client agent.ExtendedAgent, is func(ssh.PublicKey, string) bool) (n int, found ssh.Signer, err error) {
	keys, err := client.List()
	if err != nil {
		return 0, nil, fault.Unreachablef("ssh-agent: %w", err)
	}
	signers, err := client.Signers()
	if err != nil {
		return 0, nil, fault.Unreachablef("ssh-agent: %w", err)
	}
	for _, k := range keys {
		public, err := ssh.ParsePublicKey(k.Blob)
		if err != nil || sshsignature.CheckKey(public, 0) != nil || !is(public, k.Comment) {
			continue
		}
		for _, s := range signers {
			if string(s.PublicKey().Marshal()) == string(k.Blob) {
				n, found = n+1, s
				break
			}
		}
	}
	return n, found, nil
}

// patient gives each signature its time anew.
type patient struct {
	ssh.Signer
	conn net.Conn
}

func (p patient) SignWithAlgorithm(random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	if err := p.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	return p.Signer.(ssh.AlgorithmSigner).SignWithAlgorithm(random, data, algorithm)
}

func (p patient) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return p.SignWithAlgorithm(random, data, p.PublicKey().Type())
}

// SSHSIG makes a signature (OpenSSH's PROTOCOL.sshsig) with SHA-512 for a namespace, as a
// blob that is not armored. It is verified before it is returned, as strictly as a signing
// policy does it.
func (s *Signer) SSHSIG(message []byte, namespace string) ([]byte, error) {
	blob, err := sshsignature.Sign(message, namespace, s.Signer, minRSABits)
	if err != nil {
		return nil, fault.Hint(fmt.Errorf("%s: %w", s.Where, err), "a security key wants to be touched, a token may have been taken out")
	}
	return blob, nil
}

// Armor is the form of a blob that ssh-keygen writes and git keeps.
func Armor(blob []byte) []byte {
	text := base64.StdEncoding.EncodeToString(blob)
	out := []byte("-----BEGIN SSH SIGNATURE-----\n")
	for len(text) > 0 {
		n := min(len(text), 70)
		out = append(append(out, text[:n]...), '\n')
		text = text[n:]
	}
	return append(out, "-----END SSH SIGNATURE-----\n"...)
}
