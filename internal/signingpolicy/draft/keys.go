package draft

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/sshsignature"
)

// MaxKeyFile bounds a file with public keys, in bytes.
const MaxKeyFile = 1 << 20

// Key is a public key as an authority document has it.
type Key struct {
	Kind     string // authority.SSH, OpenPGP, X509
	Public   string
	Security bool // a FIDO key
}

// errPrivate never says what is in the file.
var errPrivate = errors.New("it holds a private key: name the public one")

// ReadKeys reads what people give for their public keys: lines of id_ed25519.pub, of
// authorized_keys or of a forge's list of somebody's keys, one armored OpenPGP
// certificate, or one X.509 certificate in PEM.
func ReadKeys(data []byte) ([]Key, error) {
	text := bytes.TrimSpace(data)
	switch {
	case bytes.Contains(text, []byte("PRIVATE KEY")):
		return nil, errPrivate
	case bytes.HasPrefix(text, []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----")):
		return []Key{{Kind: authority.OpenPGP, Public: string(text) + "\n"}}, nil
	case bytes.HasPrefix(text, []byte("-----BEGIN CERTIFICATE-----")):
		block, rest := pem.Decode(text)
		if block == nil || len(bytes.TrimSpace(rest)) > 0 {
			return nil, errors.New("want one certificate, and nothing after it")
		}
		return []Key{{Kind: authority.X509, Public: string(text) + "\n"}}, nil
	}
	var out []Key
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		k, err := sshKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		out = append(out, k)
	}
	if len(out) == 0 {
		return nil, errors.New("no public key is in it")
	}
	return out, nil
}

func sshKey(line string) (Key, error) {
	public, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(rest) > 0 {
		return Key{}, errors.New("not an SSH public key")
	}
	if len(options) > 0 {
		return Key{}, fmt.Errorf("the option %q means nothing here: leave it out", options[0])
	}
	return SSHKey(public), nil
}

// SSHKey is an SSH key.
func SSHKey(public ssh.PublicKey) Key {
	return Key{Kind: authority.SSH, Public: string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(public))), Security: sshsignature.IsSecurityKey(public)}
}

// ReadSigners reads an allowed-signers file of git's: its first name of each line is a
// principal, whose part before @ becomes the name in the policy. Options do not count.
func ReadSigners(data []byte) ([]Principal, error) {
	var out []Principal
	for i, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		at := slices.IndexFunc(fields, isKeyType)
		if at < 1 || at+1 >= len(fields) {
			return nil, fmt.Errorf("line %d: want NAME KEY-TYPE KEY, as git's allowed signers have it", i+1)
		}
		if slices.Contains(fields[1:at], "cert-authority") {
			return nil, fmt.Errorf("line %d: a certificate authority is nobody's key", i+1)
		}
		k, err := sshKey(fields[at] + " " + fields[at+1])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		name, _, _ := strings.Cut(strings.Split(fields[0], ",")[0], "@")
		name = strings.ToLower(name)
		if j := slices.IndexFunc(out, func(p Principal) bool { return p.Name == name }); j >= 0 {
			out[j].Keys = append(out[j].Keys, k)
		} else {
			out = append(out, Principal{Name: name, Keys: []Key{k}})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("nobody is in it")
	}
	return out, nil
}

func isKeyType(s string) bool {
	return strings.HasPrefix(s, "ssh-") || strings.HasPrefix(s, "ecdsa-") || strings.HasPrefix(s, "sk-")
}
