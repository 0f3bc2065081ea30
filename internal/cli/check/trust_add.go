package check

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
)

// Limits of what is read from files and fetched.
const (
	maxSmallFile = 1 << 20  // certificates, policies, OCSP responses
	maxCRLFile   = 16 << 20 // revocation lists
)

func (t *trustCommands) add() *cobra.Command {
	c := &cobra.Command{
		Use:   "add",
		Short: "Add a key, a trust root, or a certificate, policy or list of Notation's",
		Long:  "Add one thing to the trust bundle. Nothing that is there is replaced: remove it first.",
		Example: `  hallmark trust add key release.pub
  hallmark trust add root trusted_root.json --name acme`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(t.addKey(), t.addRoot(), t.addCert(), t.addPolicy(), t.addCRL(), t.addOCSP())
	return c
}

func (t *trustCommands) addKey() *cobra.Command {
	var name, from, until string
	c := &cobra.Command{
		Use:   "key FILE",
		Short: "Believe a public key",
		Long: `Believe a public key, for example of hallmark key generate, or an OpenSSH one
(id_ed25519.pub). It may sign images without a certificate where verify or a pin asks
for it, and git tags and commits where a build is --verified.

With --until or --from, a signature counts only at a trusted time between them.
Without a trusted time nothing shows that it was made after --from; it then
counts only while now is before --until and there is no --from.`,
		Example: "  hallmark trust add key release.pub --name release-2026 --until 2027-01-31",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE:    func(_ *cobra.Command, argv []string) error { return t.runAddKey(argv[0], name, from, until) },
	}
	c.Flags().StringVar(&name, "name", "", "`NAME` of the key; default: of the file")
	c.Flags().StringVar(&from, "from", "", "`TIME` from which it is believed")
	c.Flags().StringVar(&until, "until", "", "`TIME` until which it is believed")
	return c
}

func (t *trustCommands) runAddKey(path, name, from, until string) error {
	public, err := cli.ReadPublicKey(path)
	if err != nil {
		return err
	}
	start, err := parseTime("from", from)
	if err != nil {
		return err
	}
	end, err := parseTime("until", until)
	if err != nil {
		return err
	}
	if name == "" {
		name = baseName(path)
	}
	err = t.change(func(f *bundlefile.File) error { return usage(f.AddKey(name, public, start, end)) })
	if err != nil {
		return err
	}
	t.done("believed: key %s %s", name, key.Fingerprint(public))
	return nil
}

// baseName makes a name of a file's: without folder and ending.
func baseName(path string) string {
	name := filepath.Base(path)
	return strings.TrimSuffix(name, filepath.Ext(name))
}

// usage makes a refused change a mistake of the call.
func usage(err error) error { return fault.As(fault.Usage, err) }

func (t *trustCommands) addRoot() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "root FILE",
		Short: "Believe a Sigstore trusted root",
		Long: `Believe a trusted_root.json: its certificate authorities, logs and timestamp
authorities. A file says nothing of how long it is current; hallmark trust import
follows a TUF repository instead.`,
		Example: `  hallmark trust add root trusted_root.json
  hallmark trust add root trusted_root.json --name acme`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, argv []string) error { return t.runAddRoot(argv[0], name) },
	}
	c.Flags().StringVar(&name, "name", "", "`NAME` of the root; default: of the file")
	return c
}

func (t *trustCommands) runAddRoot(path, name string) error {
	data, err := readFile(path, trust.MaxSize)
	if err != nil {
		return err
	}
	root, err := trust.ParseTrustedRoot(data)
	if err != nil {
		return fault.Usagef("%s: %w", path, err)
	}
	if name == "" {
		name = baseName(path)
	}
	err = t.change(func(f *bundlefile.File) error {
		return usage(f.AddRoot(bundlefile.Root{Name: name, Source: bundlefile.Source{File: path}, FetchedAt: time.Now(), TrustedRoot: data}))
	})
	if err != nil {
		return err
	}
	t.done("believed: trust root %s, %s", name, contents(root))
	return nil
}

// contents is what a trusted root holds, in numbers.
func contents(r *trust.Root) string {
	return fmt.Sprintf("%d certificate authorities, %d logs, %d certificate logs, %d timestamp authorities", len(r.CAs), len(r.TLogs), len(r.CTLogs), len(r.TSAs))
}

func (t *trustCommands) addCert() *cobra.Command {
	var store, sum string
	c := &cobra.Command{
		Use:   "cert URL | FILE",
		Short: "Put a certificate into a Notation store",
		Long: `Put a certificate, or all of a file in PEM, into one of Notation's trust stores.
--sha256 is the checksum of the file's bytes, from somebody whom you believe:
other bytes are refused. A URL is fetched over https only, or from this machine.`,
		Example: `  hallmark trust add cert ca.pem --store ca:acme --sha256 a031a6fa80fc64a0a6d913a05b24f97d821cb14e1b0ccfa5c099e909087119db`,
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE:    func(c *cobra.Command, argv []string) error { return t.runAddCert(c.Context(), argv[0], store, sum) },
	}
	c.Flags().StringVar(&sum, "sha256", "", "`HEX` SHA-256 of the file")
	c.Flags().StringVar(&store, "store", "ca:hallmark", "`TYPE:NAME` of the store; types are ca, signingAuthority and tsa")
	return c
}

func (t *trustCommands) runAddCert(ctx context.Context, from, store, sum string) error {
	kind, name, ok := strings.Cut(store, ":")
	if !ok {
		return fault.Usagef("--store %q: want TYPE:NAME, such as ca:acme", store)
	}
	if err := bundlefile.CheckStore(kind, name); err != nil {
		return fault.Usagef("--store: %w", err)
	}
	if want, err := hex.DecodeString(sum); err != nil || len(want) != sha256.Size {
		return fault.Hint(fault.Usagef("--sha256: want the 64 hexadecimal digits of the file's SHA-256"), "ask the certificate's owner for it, on another way than the certificate came")
	}
	data, err := t.read(ctx, from, maxSmallFile, false)
	if err != nil {
		return err
	}
	if got := sha256.Sum256(data); !strings.EqualFold(hex.EncodeToString(got[:]), sum) {
		return fault.Hint(fault.As(fault.Denied, fmt.Errorf("%s has the SHA-256 %x, not %s", from, got, strings.ToLower(sum))),
			"it is not the file that was meant; ask the certificate's owner")
	}
	certs, err := notation.Certificates(data)
	if err != nil {
		return fault.Usagef("%s: %w", from, err)
	}
	err = t.change(func(f *bundlefile.File) error {
		for _, der := range certs {
			if err := f.AddCertificate(kind, name, der); err != nil {
				return usage(err)
			}
		}
		_, err := f.Encode() // what the store takes is said as a mistake of the call
		return usage(err)
	})
	if err != nil {
		return err
	}
	for _, der := range certs {
		if cert, err := x509.ParseCertificate(der); err == nil {
			t.done("believed: %s in store %s:%s, until %s", cli.Plain(cert.Subject.String()), kind, name, cli.Stamp(cert.NotAfter))
		}
	}
	return nil
}

func (t *trustCommands) addPolicy() *cobra.Command {
	return &cobra.Command{
		Use:     "policy FILE",
		Short:   "Take a trust policy of Notation's",
		Long:    "Take a trustpolicy.json as Notation reads it. There is one in a trust bundle.",
		Example: "  hallmark trust add policy trustpolicy.json",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, argv []string) error {
			data, err := readFile(argv[0], maxSmallFile)
			if err != nil {
				return err
			}
			var policy *notation.Policy
			err = t.change(func(f *bundlefile.File) error {
				if err := f.SetTrustPolicy(data); err != nil {
					return fault.Usagef("%s: %w", argv[0], err)
				}
				policy, err = notation.ParsePolicy(data)
				return err
			})
			if err != nil {
				return err
			}
			t.done("believed: a Notation trust policy of %d statements", len(policy.Statements))
			return nil
		},
	}
}

func (t *trustCommands) addCRL() *cobra.Command {
	return &cobra.Command{
		Use:   "crl URL | FILE",
		Short: "Keep a certificate revocation list, for use offline",
		Long: `Keep a certificate revocation list, in DER or PEM. hallmark trust update fetches
again what came from a URL. Lists are signed; verify checks by whom.`,
		Example: "  hallmark trust add crl ca.crl",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error {
			data, err := t.read(c.Context(), argv[0], maxCRLFile, t.PlainHTTP)
			if err != nil {
				return err
			}
			url := ""
			if isURL(argv[0]) {
				url = argv[0]
			}
			err = t.change(func(f *bundlefile.File) error {
				if err := f.AddCRL(url, derOf(data), time.Now()); err != nil {
					return fault.Usagef("%s: %w", argv[0], err)
				}
				return nil
			})
			if err != nil {
				return err
			}
			t.done("kept: the revocation list %s", cli.Plain(argv[0]))
			return nil
		},
	}
}

func (t *trustCommands) addOCSP() *cobra.Command {
	return &cobra.Command{
		Use:   "ocsp FILE",
		Short: "Keep an OCSP response, for use offline",
		Long: `Keep an OCSP response in DER, as a responder gave it. Responses are signed and
about one certificate; verify checks by whom, and that it is still current.`,
		Example: "  hallmark trust add ocsp ca.ocsp",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, argv []string) error {
			data, err := readFile(argv[0], maxSmallFile)
			if err != nil {
				return err
			}
			err = t.change(func(f *bundlefile.File) error {
				f.AddOCSP(data)
				if _, err := f.Encode(); err != nil {
					return fault.Usagef("%s: %w", argv[0], err)
				}
				return nil
			})
			if err != nil {
				return err
			}
			t.done("kept: the OCSP response %s", cli.Plain(argv[0]))
			return nil
		},
	}
}

// derOf is the content of a PEM file of one block, or the bytes as they are.
func derOf(data []byte) []byte {
	if block, rest := pem.Decode(data); block != nil && len(bytes.TrimSpace(rest)) == 0 {
		return block.Bytes
	}
	return data
}

func isURL(s string) bool { return strings.Contains(s, "://") }

// read reads a file, or fetches a URL.
func (t *trustCommands) read(ctx context.Context, from string, limit int64, plainHTTP bool) ([]byte, error) {
	if !isURL(from) {
		return readFile(from, limit)
	}
	return fetch(ctx, from, limit, plainHTTP)
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.As(fault.Usage, err)
	}
	defer f.Close()
	return atMost(path, f, limit)
}

func atMost(name string, r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fault.Usagef("%s: more than %d bytes", name, limit)
	}
	return data, nil
}

// fetch gets a URL over https, or over http from this machine; so must all that
// it is redirected to be.
func fetch(ctx context.Context, url string, limit int64, plainHTTP bool) ([]byte, error) {
	if err := loopback.CheckURL("fetch", url, plainHTTP); err != nil {
		return nil, fault.Hint(fault.As(fault.Usage, errors.Unwrap(err)), "use https, or fetch it yourself and name the file")
	}
	client := &http.Client{Timeout: time.Minute, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) >= 5 {
			return errors.New("more than 5 redirects")
		}
		return loopback.CheckURL("redirect", req.URL.String(), plainHTTP)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fault.Usagef("fetch: %q is not a URL", url)
	}
	resp, err := client.Do(req)
	var refused *fault.Error
	if errors.As(err, &refused) { // a redirect
		return nil, fault.Usagef("fetch %s: %w", url, refused)
	}
	if err != nil {
		return nil, fault.HTTP("fetch", url, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError {
		return nil, fault.Unreachablef("fetch %s: status %d", url, resp.StatusCode)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch %s: status %d", url, resp.StatusCode)
	}
	return atMost(url, resp.Body, limit)
}
