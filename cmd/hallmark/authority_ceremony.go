package main

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
)

// The ceremony of a root that stays offline (docs/authority.md): root and issue where
// the root is, csr and chain where the authority is.

// Files of a root's folder.
const (
	rootKeyFile  = "root.key"
	rootCertFile = "root.pem"
)

// year is long enough for every calendar.
const year = 8766 * time.Hour

// certificateAnswer is a certificate of a ceremony, for authority root, issue and chain.
type certificateAnswer struct {
	File      string `json:"file"`      // with the certificate; of issue and chain with those above it
	For       string `json:"for"`       // "root", "ca" or "tsa"
	Subject   string `json:"subject"`   // RFC 2253
	Key       string `json:"key"`       // "sha256:…" of the DER SubjectPublicKeyInfo
	NotBefore string `json:"notBefore"` // RFC 3339, UTC
	NotAfter  string `json:"notAfter"`  // RFC 3339, UTC
	Root      string `json:"root"`      // "sha256:…" of the root's key
}

func describeChain(file, purpose string, chain []*x509.Certificate) certificateAnswer {
	c := chain[0]
	return certificateAnswer{file, purpose, c.Subject.String(), key.Fingerprint(c.PublicKey),
		stampOf(c.NotBefore), stampOf(c.NotAfter), key.Fingerprint(chain[len(chain)-1].PublicKey)}
}

func (a *app) printCertificate(c certificateAnswer, asJSON bool) error {
	if asJSON {
		return a.PrintJSON(c)
	}
	a.Print("%s", c.File)
	a.Print("  for      %s", c.For)
	a.Print("  subject  %s", cli.OneLine(c.Subject))
	a.Print("  key      %s", c.Key)
	a.Print("  valid    %s to %s", c.NotBefore, c.NotAfter)
	a.Print("  root     %s", c.Root)
	return nil
}

type rootOptions struct {
	out, key, algorithm, organization, name string
	years                                   int
	fromStdin, json                         bool
}

func newAuthorityRootCommand(a *app) *cobra.Command {
	var o rootOptions
	c := &cobra.Command{
		Use:   "root",
		Short: "Make a root that stays offline",
		Long: `Make a root for the CA and the timestamp authority of hallmark up: a key, encrypted
as hallmark key generate does it, and its certificate. Do it on a machine without a
network, and keep the folder there or in a safe: whoever has key and password can
make certificates for any identity. docs/authority.md has the whole ceremony.`,
		Example: `  hallmark authority root --out new-root
  hallmark authority root --out team-root --organization "Example Ltd." --years 15 --password-stdin < password`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return a.runRoot(o) },
	}
	f := c.Flags()
	f.StringVar(&o.out, "out", "", "new `FOLDER` for "+rootCertFile+" and "+rootKeyFile+" (required)")
	f.StringVar(&o.key, "key", "", "`REF` of a key that exists, such as a key file, instead of a new one")
	f.StringVar(&o.algorithm, "algorithm", "ecdsa-p384", "of the new key: ecdsa-p384 or ecdsa-p256")
	f.StringVar(&o.organization, "organization", "Hallmark", "`NAME` of the organization in the certificate")
	f.StringVar(&o.name, "name", "Hallmark offline root", "common `NAME` in the certificate")
	f.IntVar(&o.years, "years", 10, "`YEARS` that the root is valid")
	f.BoolVar(&o.fromStdin, "password-stdin", false, "read the password from the first line of stdin")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return c
}

// checkYears bounds a lifetime.
func checkYears(years int) (time.Duration, error) {
	if years < 1 || years > 30 {
		return 0, fault.Usagef("--years %d: want 1 to 30", years)
	}
	return time.Duration(years) * year, nil
}

func (a *app) runRoot(o rootOptions) error {
	if o.out == "" {
		return fault.Usagef("name a folder for the root with --out")
	}
	if o.organization == "" || o.name == "" {
		return fault.Usagef("a root needs --organization and --name")
	}
	life, err := checkYears(o.years)
	if err != nil {
		return err
	}
	private, sealed, err := a.rootKey(o)
	if err != nil {
		return err
	}
	name := pkix.Name{Organization: []string{o.organization}, CommonName: o.name}
	root, err := ca.NewOfflineRoot(private, name, time.Now(), life)
	if err != nil {
		return fault.As(fault.Usage, fmt.Errorf("root: %w", err))
	}
	if err := durable.MkdirAll(o.out, 0o700); err != nil {
		return err
	}
	// The key first: a certificate alone would be a root that nobody can use.
	if sealed != nil {
		if err := key.WriteFile(filepath.Join(o.out, rootKeyFile), sealed, 0o600, false); err != nil {
			return err
		}
	}
	file := filepath.Join(o.out, rootCertFile)
	if err := key.WriteFile(file, certificatePEM(root), 0o644, false); err != nil {
		return err
	}
	return a.printCertificate(describeChain(file, "root", []*x509.Certificate{root}), o.json)
}

// rootKey is the key of a new root: one that exists, or a new one, encrypted.
func (a *app) rootKey(o rootOptions) (private crypto.Signer, sealed []byte, err error) {
	path := filepath.Join(o.out, rootKeyFile)
	if o.key != "" {
		private, _, err = key.Open(o.key, a.keyPassword(o.fromStdin, o.key))
		return private, nil, rootFault(err)
	}
	if o.algorithm != "ecdsa-p384" && o.algorithm != "ecdsa-p256" {
		return nil, nil, fault.Usagef("--algorithm %q: a root has an ecdsa-p384 or an ecdsa-p256 key", o.algorithm)
	}
	if private, err = key.Generate(o.algorithm); err != nil {
		return nil, nil, err
	}
	pw, err := a.keyPassword(o.fromStdin, path)(true)
	if err != nil {
		return nil, nil, fmt.Errorf("password: %w", err)
	}
	if len(pw) == 0 {
		return nil, nil, fault.Usagef("a root's key is never locked with an empty password")
	}
	sealed, err = key.EncryptCosign(private, pw)
	return private, sealed, err
}

func certificatePEM(chain ...*x509.Certificate) (out []byte) {
	for _, c := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

type issueOptions struct {
	root, key, csr, out, purpose, fingerprint string
	years                                     int
	fromStdin, json                           bool
}

func newAuthorityIssueCommand(a *app) *cobra.Command {
	var o issueOptions
	c := &cobra.Command{
		Use:   "issue",
		Short: "Let an offline root certify the key of a CA or a timestamp authority",
		Long: `Let an offline root certify the key in a certificate signing request, which hallmark
authority csr writes where the authority runs: as an intermediate CA for code signing
that can issue no further CAs, or as a timestamp authority. --out gets the chain for
hallmark authority chain. Compare the key's fingerprint with what csr printed, by
another way than the request came, or name it with --fingerprint.`,
		Example: `  hallmark authority issue --root offline-root --csr ca.csr --out new-ca-chain.pem
  hallmark authority issue --root offline-root --csr tsa.csr --out new-tsa-chain.pem --for tsa --years 5`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return a.runIssue(o) },
	}
	f := c.Flags()
	f.StringVar(&o.root, "root", "", "`FOLDER` that hallmark authority root made (required)")
	f.StringVar(&o.key, "key", "", "`REF` of the root's key, such as a key file, when it is not in the folder")
	f.StringVar(&o.csr, "csr", "", "certificate signing request `FILE` (required)")
	f.StringVar(&o.out, "out", "", "new `FILE` for the chain (required)")
	f.StringVar(&o.purpose, "for", ca.PurposeCA, "what the key is for: ca or tsa")
	f.StringVar(&o.fingerprint, "fingerprint", "", "sha256:… that the key in the request must have")
	f.IntVar(&o.years, "years", 3, "`YEARS` that the certificate is valid")
	f.BoolVar(&o.fromStdin, "password-stdin", false, "read the password from the first line of stdin")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return c
}

func (a *app) runIssue(o issueOptions) error {
	if o.root == "" || o.csr == "" || o.out == "" {
		return fault.Usagef("want --root, --csr and --out")
	}
	if o.purpose != ca.PurposeCA && o.purpose != ca.PurposeTSA {
		return fault.Usagef("--for %q: want ca or tsa", o.purpose)
	}
	life, err := checkYears(o.years)
	if err != nil {
		return err
	}
	root, err := readRoot(filepath.Join(o.root, rootCertFile))
	if err != nil {
		return err
	}
	request, err := readSmall(o.csr, key.MaxFile)
	if err != nil {
		return err
	}
	csr, err := ca.ParseCSR(request)
	if err != nil {
		return fault.As(fault.Usage, fmt.Errorf("%s: %w", o.csr, err))
	}
	if have := key.Fingerprint(csr.PublicKey); o.fingerprint != "" && have != o.fingerprint {
		return fault.Hint(fault.Usagef("%s is of the key %s, not of %s", o.csr, have, o.fingerprint),
			"somebody may have exchanged the request: make it again with hallmark authority csr, and compare")
	}
	if o.key == "" {
		o.key = filepath.Join(o.root, rootKeyFile)
	}
	private, _, err := key.Open(o.key, a.keyPassword(o.fromStdin, o.key))
	if err != nil {
		return rootFault(err)
	}
	made, err := ca.Certify(root, private, csr, o.purpose, time.Now(), life)
	if err != nil {
		return fault.As(fault.Usage, err)
	}
	chain := []*x509.Certificate{made, root}
	if err := key.WriteFile(o.out, certificatePEM(chain...), 0o644, false); err != nil {
		return err
	}
	return a.printCertificate(describeChain(o.out, o.purpose, chain), o.json)
}

// rootFault adds what a person can do about a root's key that does not open.
func rootFault(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Hint(err, "name the root's key with --key")
	}
	return keyFault(err)
}

func readRoot(path string) (*x509.Certificate, error) {
	data, err := readSmall(path, key.MaxFile)
	if err != nil {
		return nil, err
	}
	chain, err := ca.ParseChain(data)
	if err != nil {
		return nil, fault.As(fault.Usage, fmt.Errorf("%s: %w", path, err))
	}
	if len(chain) != 1 {
		return nil, fault.Usagef("%s: want the root's certificate alone", path)
	}
	return chain[0], nil
}

// csrAnswer is what authority csr --json prints.
type csrAnswer struct {
	File string `json:"file"`
	For  string `json:"for"` // "ca" or "tsa"
	Key  string `json:"key"` // "sha256:…" of the DER SubjectPublicKeyInfo
}

func newAuthorityCSRCommand(a *app) *cobra.Command {
	var dir, purpose, out, ref, name string
	var asJSON, fromStdin bool
	c := &cobra.Command{
		Use:   "csr",
		Short: "Write the request for a certificate of an offline root",
		Long: `Write the certificate signing request of the CA's or the timestamp authority's key,
for hallmark authority issue where the root is. An authority may be running on the
folder. The key's fingerprint is what both sides compare.

With --key the request is of a key that is elsewhere and that no folder has yet: for
hallmark up --keys, or hallmark authority rotate --key, which then get the chain.`,
		Example: `  hallmark authority csr --out new-ca.csr
  hallmark authority csr --for tsa --out new-tsa.csr --json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if out == "" {
				return fault.Usagef("name a file for the request with --out")
			}
			if (ref == "") != (name == "") {
				return fault.Usagef("--key and --name go together: whose key, and what its certificate calls it")
			}
			if ref == "" && fromStdin {
				return fault.Usagef("--password-stdin is about the key of --key")
			}
			var csr []byte
			var fingerprint string
			if ref != "" {
				private, _, err := key.Open(ref, a.keyPassword(fromStdin, ref))
				if err != nil {
					return keyFault(err)
				}
				if csr, fingerprint, err = authority.CSROf(private, purpose, name); err != nil {
					return err
				}
			} else {
				dir, err := a.dataDir(dir)
				if err != nil {
					return err
				}
				if csr, fingerprint, err = authority.CSR(dir, purpose, a.openKey); err != nil {
					return err
				}
			}
			if err := key.WriteFile(out, csr, 0o644, false); err != nil {
				return err
			}
			if asJSON {
				return a.PrintJSON(csrAnswer{out, purpose, fingerprint})
			}
			a.Print("%s", out)
			a.Print("  for  %s", purpose)
			a.Print("  key  %s", fingerprint)
			return nil
		},
	}
	addDataFlag(a, c, &dir)
	f := c.Flags()
	f.StringVar(&purpose, "for", authority.ServiceCA, "whose key: ca or tsa")
	f.StringVar(&ref, "key", "", "`REF` of a key that no folder has yet (docs/keys.md)")
	f.StringVar(&name, "name", "", "common `NAME` for the certificate of --key")
	f.BoolVar(&fromStdin, "password-stdin", false, "read the password or PIN of --key from the first line of stdin")
	f.StringVar(&out, "out", "", "new `FILE` for the request (required)")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func newAuthorityChainCommand(a *app) *cobra.Command {
	var dir string
	var asJSON bool
	c := &cobra.Command{
		Use:   "chain FILE",
		Short: "Take the chain that an offline root made into use",
		Long: `Take the chain that hallmark authority issue wrote into use, for the CA or the
timestamp authority: its first certificate says whose key it is. It is published at
once, the next hallmark up signs under it, and what was signed under an earlier one
keeps verifying. hallmark up must not be running on the folder.`,
		Example: `  hallmark authority chain ca-chain.pem --data ./stopped
  hallmark authority chain tsa-chain.pem --data ./stopped --json`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := a.dataDir(dir)
			if err != nil {
				return err
			}
			service, chain, err := authority.TakeChain(dir, args[0], time.Now())
			if err != nil {
				return err
			}
			return a.printCertificate(describeChain(args[0], service, chain), asJSON)
		},
	}
	addDataFlag(a, c, &dir)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
