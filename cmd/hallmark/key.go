package main

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
)

func newKeyCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "Make, import and show signing keys",
		Long: `Make, import and show signing keys.

Key files are cosign's: cosign reads ours and we read cosign's. The password comes
from a prompt, from COSIGN_PASSWORD or from --password-stdin.`,
		Example: `  hallmark key generate --prefix release
  hallmark key public release.key`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newKeyGenerateCommand(a), newKeyImportCommand(a), newKeyPublicCommand(a))
	return c
}

// keyOptions are the flags of the commands that write a key pair.
type keyOptions struct {
	prefix    string
	algorithm string
	fromStdin bool
	yes       bool
	json      bool
}

func (o *keyOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&o.prefix, "prefix", "o", "cosign", "write `PREFIX`.key and PREFIX.pub")
	f.BoolVar(&o.fromStdin, "password-stdin", false, "read the password from the first line of stdin")
	f.BoolVarP(&o.yes, "yes", "y", false, "overwrite files that exist")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
}

// keyAnswer is what --json prints of a key pair that was written.
type keyAnswer struct {
	Private     string `json:"private"`     // path of the encrypted private key
	Public      string `json:"public"`      // path of the public key
	Algorithm   string `json:"algorithm"`   // as --algorithm names it
	Fingerprint string `json:"fingerprint"` // "sha256:…" of the DER SubjectPublicKeyInfo
}

func newKeyGenerateCommand(a *app) *cobra.Command {
	o := &keyOptions{}
	c := &cobra.Command{
		Use:   "generate",
		Short: "Make a key pair: an encrypted private key and its public key",
		Example: `  hallmark key generate
  hallmark key generate --algorithm ed25519 --prefix release
  hallmark key generate --prefix ci --password-stdin --json < password`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			private, err := key.Generate(o.algorithm)
			if err != nil {
				return fault.Usagef("%w; choose one of %s", err, strings.Join(key.Algorithms(), ", "))
			}
			return a.writeKeyPair(o, private)
		},
	}
	o.addFlags(c)
	c.Flags().StringVar(&o.algorithm, "algorithm", key.Algorithms()[0], "one of "+strings.Join(key.Algorithms(), ", "))
	return c
}

func newKeyImportCommand(a *app) *cobra.Command {
	o := &keyOptions{}
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Encrypt an existing private key: PKCS #8, SEC1 or PKCS #1 PEM (- reads stdin)",
		Example: `  hallmark key import private.pem --prefix imported
  hallmark key import - --prefix imported --yes < private.pem`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, argv []string) error {
			var data []byte
			var err error
			if argv[0] == "-" {
				if o.fromStdin {
					return fault.Usagef("stdin cannot give both the key and the password; put the password in COSIGN_PASSWORD")
				}
				data, err = io.ReadAll(io.LimitReader(a.Stdin, key.MaxFile+1))
			} else {
				data, err = key.ReadFile(argv[0])
			}
			if err != nil {
				return err
			}
			defer clear(data)
			private, info, err := key.Parse(data, a.keyPassword(o.fromStdin, argv[0]))
			if err != nil {
				return fmt.Errorf("key %s: %w", argv[0], err)
			}
			if info.Encrypted {
				return fault.Hint(fault.Usagef("key %s is in cosign's encrypted format already", argv[0]), "use it as it is: hallmark sign --key %s IMAGE", argv[0])
			}
			return a.writeKeyPair(o, private)
		},
	}
	o.addFlags(c)
	return c
}

// publicKeyAnswer is what key public --json prints.
type publicKeyAnswer struct {
	Kind        key.Kind `json:"kind"` // "file", "env", "pkcs11", "plugin", "ssh-agent"
	Algorithm   string   `json:"algorithm"`
	Fingerprint string   `json:"fingerprint"`
	Encrypted   bool     `json:"encrypted"` // of a file or variable: with a password
	PEM         string   `json:"pem"`
}

func newKeyPublicCommand(a *app) *cobra.Command {
	var fromStdin, asJSON bool
	c := &cobra.Command{
		Use:   "public KEY",
		Short: "Print the public half of a private key",
		Example: `  hallmark key public release.key > release.pub
  hallmark key public release.key --json`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, argv []string) error {
			password := a.keyPassword(fromStdin, argv[0])
			var first key.Password // most tokens show the public half without a PIN
			if key.KindOf(argv[0]) != key.KindPKCS11 {
				first = password
			}
			s, info, err := key.Load(argv[0], first)
			if first == nil && key.WantsPIN(err) {
				s, info, err = key.Load(argv[0], password)
			}
			if err != nil {
				return keyFault(err)
			}
			public, err := key.PublicPEM(s.Public())
			if err != nil {
				return err
			}
			if asJSON {
				return a.PrintJSON(publicKeyAnswer{info.Kind, info.Algorithm, key.Fingerprint(s.Public()), info.Encrypted, string(public)})
			}
			a.Print("%s", strings.TrimSuffix(string(public), "\n"))
			return nil
		},
	}
	c.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from the first line of stdin")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, with the fingerprint")
	return c
}

// writeKeyPair encrypts and writes a key pair, and asks before it overwrites.
func (a *app) writeKeyPair(o *keyOptions, private crypto.Signer) error {
	answer := keyAnswer{Private: o.prefix + ".key", Public: o.prefix + ".pub", Fingerprint: key.Fingerprint(private.Public())}
	overwrite, err := a.mayOverwrite(o.yes, answer.Private, answer.Public)
	if err != nil {
		return err
	}
	pw, err := a.keyPassword(o.fromStdin, answer.Private)(true)
	if err != nil {
		return fmt.Errorf("password: %w", err)
	}
	if len(pw) == 0 {
		a.Warn("%s is locked with an empty password: whoever reads the file can sign with it", answer.Private)
	}
	sealed, err := key.EncryptCosign(private, pw)
	if err != nil {
		return err
	}
	public, err := key.PublicPEM(private.Public())
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		data []byte
		mode fs.FileMode
	}{{answer.Private, sealed, 0o600}, {answer.Public, public, 0o644}} {
		if err := key.WriteFile(f.path, f.data, f.mode, overwrite); err != nil {
			return err
		}
	}
	if o.json {
		return a.PrintJSON(answer)
	}
	a.Print("private key  %s  (encrypted)", answer.Private)
	a.Print("public key   %s", answer.Public)
	a.Print("fingerprint  %s", answer.Fingerprint)
	return nil
}

// mayOverwrite reports whether existing files may be replaced; without --yes a
// person is asked, and without a person the answer is no.
func (a *app) mayOverwrite(yes bool, paths ...string) (bool, error) {
	if yes {
		return true, nil
	}
	for _, p := range paths {
		if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return false, err
		}
		if !a.Interactive() {
			return false, fault.Hint(fault.Usagef("%s exists", p), "choose another --prefix, or overwrite it with --yes: a key that is gone cannot be had again")
		}
		ok, err := a.confirm("%s exists. Overwrite it? A key that is gone cannot be had again. [y/N] ", p)
		if err != nil {
			return false, err
		}
		if !ok {
			return false, fmt.Errorf("%s was left as it is", p)
		}
		return true, nil
	}
	return false, nil
}

// confirm asks a person on the terminal; anything but yes is no.
func (a *app) confirm(format string, args ...any) (bool, error) {
	fmt.Fprintf(a.Stderr, format, args...)
	line, err := readLine(a.Stdin)
	if err != nil {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(string(line))) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}

// readLine reads up to a newline, a byte at a time: what follows belongs to others.
func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	var b [1]byte
	for len(line) < 1<<12 {
		n, err := r.Read(b[:])
		if n == 1 {
			if b[0] == '\n' {
				return bytes.TrimSuffix(line, []byte("\r")), nil
			}
			line = append(line, b[0])
		}
		if errors.Is(err, io.EOF) {
			return line, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, errors.New("a line of more than 4 KiB")
}

// keyPassword is where passwords of keys come from: --password-stdin, then
// COSIGN_PASSWORD (set but empty is an empty password), then a prompt.
//
// A token's PIN comes from the same places; HALLMARK_PKCS11_PIN is before them.
func (a *app) keyPassword(fromStdin bool, ref string) key.Password {
	name := key.Redact(ref)
	prompt, hint := "Password of "+name+": ", "put the password in COSIGN_PASSWORD, or give it with --password-stdin"
	if key.KindOf(ref) == key.KindPKCS11 {
		prompt, hint = "PIN of "+name+": ", "put the PIN in "+key.EnvPIN+", name a file that holds it (pin-source=file:/path), or give it with --password-stdin"
	}
	return func(confirm bool) ([]byte, error) {
		if fromStdin {
			return readLine(a.Stdin)
		}
		if pw := a.Env("COSIGN_PASSWORD"); pw != "" {
			return []byte(pw), nil
		}
		if _, set := os.LookupEnv("COSIGN_PASSWORD"); set {
			return nil, nil
		}
		if confirm {
			prompt = "Password for " + name + ": "
		}
		pw, err := a.ReadPassword(prompt)
		if err != nil {
			return nil, fault.Hint(err, "%s", hint)
		}
		if !confirm {
			return pw, nil
		}
		again, err := a.ReadPassword("Once more: ")
		if err != nil {
			return nil, err
		}
		defer clear(again)
		if !bytes.Equal(pw, again) {
			return nil, errors.New("the two passwords differ")
		}
		return pw, nil
	}
}

// keyFault adds what a person can do about a key that does not open.
func keyFault(err error) error {
	if errors.Is(err, key.ErrPassword) {
		return fault.Hint(err, "the password is taken from --password-stdin, COSIGN_PASSWORD or the prompt, in this order")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Hint(err, "make a key with: hallmark key generate")
	}
	return err
}
