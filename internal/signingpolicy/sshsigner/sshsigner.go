// Package sshsigner finds the SSH key with which a person signs at their desk: in their
// ssh-agent, where keys of tokens (PKCS #11) and security keys (FIDO) are, too, or in a file.
package sshsigner

import (
	"golang.org/x/crypto/ssh"
)

// Signer signs with one key. Close ends the connection to the agent.
type Signer struct {
	ssh.Signer
	Where string // "ssh-agent" or the path of the file
}

// Close ends it.
func (s *Signer) Close() error { panic("not yet") }

// Open finds a key: "SHA256:…" or a comment of a key in the ssh-agent, "" for the one key
// that the agent has, or the path of a private key or of a public one whose private part
// the agent has. password is asked for an encrypted file. A security key must be in the agent.
func Open(ref string, password func() ([]byte, error)) (*Signer, error) { panic("not yet") }

// Find is the first key of the agent (or of the files, which may be none) that is one of
// these; nil when it has none.
func Find(keys []ssh.PublicKey) (*Signer, error) { panic("not yet") }

// Sign makes a SSHSIG signature (PROTOCOL.sshsig) with SHA-512 for a namespace, as a blob
// and not armored; it is verified before it is returned.
func (s *Signer) SSHSIG(message []byte, namespace string) ([]byte, error) { panic("not yet") }
