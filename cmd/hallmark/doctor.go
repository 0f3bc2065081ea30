package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/key"
)

func newDoctorCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "doctor",
		Short:   "Try what hallmark depends on, and say what works and why not",
		Example: `  hallmark doctor key release.key`,
		Args:    cli.Args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newDoctorKeyCommand(a))
	return c
}

// doctorKeyAnswer is what doctor key --json prints.
type doctorKeyAnswer struct {
	Reference   string      `json:"reference"`
	Kind        key.Kind    `json:"kind"`
	Where       string      `json:"where,omitempty"`       // of a key that was found, for people
	Program     string      `json:"program,omitempty"`     // path of the plugin
	Plugin      string      `json:"plugin,omitempty"`      // what it calls itself, with its version
	Algorithm   string      `json:"algorithm,omitempty"`   // as key generate names it
	Fingerprint string      `json:"fingerprint,omitempty"` // "sha256:…" of the DER SubjectPublicKeyInfo
	Encrypted   bool        `json:"encrypted"`             // of a file or variable: with a password
	Signs       bool        `json:"signs"`                 // a signature was made and verified
	Took        float64     `json:"took,omitempty"`        // milliseconds that it took
	Problem     string      `json:"problem,omitempty"`     // why it does not sign
	Uses        []doctorUse `json:"uses,omitempty"`
}

// doctorUse is one use of a key.
type doctorUse struct {
	Use string `json:"use"`
	Can bool   `json:"can"`
	Why string `json:"why,omitempty"` // why not

	name string // for people
}

func newDoctorKeyCommand(a *app) *cobra.Command {
	var fromStdin, asJSON bool
	c := &cobra.Command{
		Use:   "key REF",
		Short: "Say what a key can do and why not, and sign with it to try",
		Long: `Say where a key reference leads to, make one signature with the key, verify it, and
list what the key can be used for. A wrong PIN is tried once. Exit code 0: it signs.

A reference is a key file, env://VARIABLE, a PKCS #11 URI (pkcs11:token=…;object=…),
ssh-agent://COMMENT, or NAME://… of a KMS plugin of Sigstore (docs/keys.md).`,
		Example: `  hallmark doctor key release.key
  hallmark doctor key release.key --json`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, argv []string) error {
			d, err := a.examineKey(argv[0], fromStdin)
			if asJSON {
				return errors.Join(a.PrintJSON(d), err)
			}
			a.printKey(d)
			return err
		},
	}
	c.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the key's password or PIN from the first line of stdin")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// examineKey finds out about a key. The error is why it does not sign.
func (a *app) examineKey(ref string, fromStdin bool) (doctorKeyAnswer, error) {
	d := doctorKeyAnswer{Reference: key.Redact(ref), Kind: key.KindOf(ref)}
	fail := func(err error) (doctorKeyAnswer, error) {
		d.Problem = cli.OneLine(err.Error())
		return d, err
	}
	private, info, err := key.Open(ref, a.keyPassword(fromStdin, ref))
	if err != nil {
		return fail(keyFault(err))
	}
	s, err := key.NewSigner(private)
	if err != nil {
		return fail(fmt.Errorf("key %s: %w", d.Reference, err))
	}
	d.Where, d.Program, d.Plugin = info.Where, info.Program, info.Plugin
	d.Algorithm, d.Encrypted, d.Fingerprint = info.Algorithm, info.Encrypted, key.Fingerprint(s.Public())
	start := time.Now()
	if err := key.Try(private, false); err != nil {
		return fail(fmt.Errorf("key %s: %w", d.Reference, err))
	}
	d.Took = float64(time.Since(start).Microseconds()) / 1000
	d.Signs = true
	d.Uses = usesOf(s, info)
	return d, nil
}

// usesOf is what a key that signs can be used for.
func usesOf(s key.Signer, info key.Info) []doctorUse {
	uses := []doctorUse{{Use: "sign", Can: true, name: "sign, attest"}}
	elsewhere := info.Kind != key.KindFile && info.Kind != key.KindEnv
	logged := doctorUse{Use: "sign-logged", Can: true, name: "sign, attest with a transparency log"}
	if info.Algorithm == "ed25519" && elsewhere {
		logged.Can, logged.Why = false, "logs want Ed25519ph, which only a key that is in a file or a variable can make"
	}
	uses = append(uses, logged)
	for _, service := range authority.KeyedServices() {
		u := doctorUse{Use: "authority-" + service, name: "key of the authority's " + service}
		switch err := authority.CheckAlgorithm(service, s.Public()); {
		case err != nil:
			u.Why = err.Error()
		case info.Kind == key.KindAgent && service != authority.ServiceLog:
			u.Why = "a key in an ssh-agent signs whole messages, no digests"
		default:
			u.Can = true
		}
		uses = append(uses, u)
	}
	return uses
}

var keyKinds = map[key.Kind]string{
	key.KindFile: "a key file", key.KindEnv: "an environment variable", key.KindPKCS11: "a key in a PKCS #11 token",
	key.KindPlugin: "a key behind a KMS plugin", key.KindAgent: "a key in an ssh-agent",
}

// printKey is the answer for people.
func (a *app) printKey(d doctorKeyAnswer) {
	line := func(name, value string) {
		if value != "" {
			a.Print("%-12s %s", name, value)
		}
	}
	kind := keyKinds[d.Kind]
	if (d.Kind == key.KindFile || d.Kind == key.KindEnv) && d.Algorithm != "" {
		if d.Encrypted {
			kind += ", encrypted"
		} else {
			kind += ", not encrypted: whoever reads it can sign"
		}
	}
	line("reference", d.Reference)
	line("is", kind)
	line("where", d.Where)
	program := d.Program
	if d.Plugin != "" {
		program += " (" + d.Plugin + ")"
	}
	line("plugin", program)
	line("algorithm", d.Algorithm)
	line("fingerprint", d.Fingerprint)
	if d.Signs {
		line("signature", fmt.Sprintf("made in %.1f ms and verified", d.Took))
	}
	if len(d.Uses) > 0 {
		a.Print("can be used for")
	}
	for _, u := range d.Uses {
		if u.Can {
			a.Print("  yes  %s", u.name)
		} else {
			a.Print("  no   %s: %s", u.name, strings.TrimSpace(u.Why))
		}
	}
}
