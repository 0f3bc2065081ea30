package main

import (
	"crypto"
	"crypto/ed25519"
	"fmt"
	"os"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
)

// openKey opens the log's key by its reference, docs/keys.md; a file is beside the
// configuration in dir. Nobody is asked for a password or a PIN: the variable has it.
func openKey(dir, ref, passwordEnv string) (crypto.Signer, error) {
	if passwordEnv == "" {
		passwordEnv = "COSIGN_PASSWORD"
	}
	password := func(bool) ([]byte, error) {
		value, set := os.LookupEnv(passwordEnv)
		if !set {
			return nil, fault.Hint(fault.Usagef("the key wants a password or a PIN, and there is none in %s", passwordEnv),
				"put it there, or name another variable with password_env")
		}
		return []byte(value), nil
	}
	var private crypto.Signer
	var err error
	if key.KindOf(ref) == key.KindFile {
		ref = below(dir, ref)
		private, err = readKey(ref, password)
	} else {
		private, _, err = key.Open(ref, password)
	}
	if err != nil {
		return nil, err
	}
	if _, ok := private.Public().(ed25519.PublicKey); !ok {
		return nil, fmt.Errorf("key %s is not an Ed25519 key, as a log's is", key.Redact(ref))
	}
	return private, nil
}

// readKey reads a key's file: the sealed one that hallmark up keeps, or PEM alone.
func readKey(path string, password key.Password) (crypto.Signer, error) {
	data, err := readLimited(path, maxSecretFile)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	defer clear(data)
	if !strings.HasPrefix(string(data), "-----BEGIN ") {
		if data, err = durable.Unseal(path, data); err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
	}
	private, _, err := key.Parse(data, password)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return private, nil
}

// tryKey makes a signature with a key that is elsewhere: what can be seen may yet not sign,
// and now is the time to say so.
func tryKey(private crypto.Signer) error {
	if _, here := private.(ed25519.PrivateKey); here {
		return nil
	}
	if err := key.Try(private, true); err != nil {
		return fmt.Errorf("the log's key does not sign: %w", err)
	}
	return nil
}
