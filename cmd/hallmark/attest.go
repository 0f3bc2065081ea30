package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

type attestOptions struct {
	signerOptions
	predicate     string
	predicateType string
}

func newAttestCommand(a *app) *cobra.Command {
	o := &attestOptions{}
	c := &cobra.Command{
		Use:   "attest IMAGE... --predicate FILE --type TYPE | FILE --predicate FILE --type TYPE --bundle FILE",
		Short: "Sign a statement about images or a file: an SBOM, a scan",
		Long: `Sign a statement about images, or about a file.

The predicate's JSON goes unchanged into an in-toto statement v1; of it, only a
digest goes to the log. Who signs and with which services: see hallmark sign --help.`,
		Example: `  hallmark attest --identity-token token --predicate sbom.spdx.json --type spdx 127.0.0.1:8420/app:1.0
  hallmark attest --key release.key --predicate provenance.json --type slsaprovenance1 127.0.0.1:8420/app:1.0
  hallmark attest --key release.key --predicate scan.json --type https://example.com/scan/v1 app.tar --bundle app.sigstore.json`,
		Args: cli.Args(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error { return a.runAttest(c.Context(), o, argv) },
	}
	o.addFlags(c)
	c.Flags().StringVar(&o.predicate, "predicate", "", "the predicate: a JSON `FILE` of at most 44 MiB (- reads stdin)")
	c.Flags().StringVar(&o.predicateType, "type", "", "what the predicate is: "+strings.Join(cli.PredicateNames(), ", ")+", or a `URI`")
	return c
}

func (a *app) runAttest(ctx context.Context, o *attestOptions, argv []string) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.predicate == "" || o.predicateType == "" {
		return fault.Hint(fault.Usagef("attest needs --predicate and --type"), "for example: hallmark attest --predicate sbom.json --type spdx IMAGE")
	}
	uri, err := cli.PredicateType(o.predicateType)
	if err != nil {
		return err
	}
	predicate, err := a.readPredicate(o)
	if err != nil {
		return err
	}
	if o.bundle != "" {
		return a.attestFile(ctx, o, uri, predicate, argv)
	}
	subjects, err := a.resolve(ctx, &o.signerOptions, argv)
	if err != nil {
		return err
	}
	return a.attachAll(ctx, &o.signerOptions, subjects, func(ref registry.Ref, t sign.Target) (*sign.Statement, error) {
		st, err := sign.AttestStatement(ref.Name(), t.Digest(), uri, predicate)
		return st, predicateFault(o, err)
	})
}

func predicateFault(o *attestOptions, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("--predicate %s: %w", o.predicate, err)
}

// readPredicate reads the predicate into memory, once; it is never copied there.
func (a *app) readPredicate(o *attestOptions) ([]byte, error) {
	if o.predicate == "-" {
		if o.passwordStdin {
			return nil, fault.Usagef("stdin cannot give both the predicate and the password; put the password in COSIGN_PASSWORD")
		}
		return io.ReadAll(io.LimitReader(a.Stdin, sign.MaxPredicate+1))
	}
	st, err := os.Stat(o.predicate)
	if err != nil {
		return nil, err
	}
	if st.Size() > sign.MaxPredicate {
		return nil, fmt.Errorf("--predicate %s: %d MiB; at most %d MiB can be attested", o.predicate, st.Size()>>20, sign.MaxPredicate>>20)
	}
	return os.ReadFile(o.predicate)
}

// attestFile signs a statement about a file's digest and writes the bundle.
func (a *app) attestFile(ctx context.Context, o *attestOptions, uri string, predicate []byte, argv []string) error {
	path, err := oneFile(&o.signerOptions, argv)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	digest := evidence.Digest(fmt.Sprintf("sha256:%x", h.Sum(nil)))
	st, err := sign.AttestStatement(filepath.Base(path), digest, uri, predicate)
	if err != nil {
		return predicateFault(o, err)
	}
	signer, err := a.newSigner(ctx, &o.signerOptions)
	if err != nil {
		return err
	}
	if err := a.consent(signer, &o.signerOptions, []*sign.Statement{st}); err != nil {
		return err
	}
	signed, err := signer.Sign(ctx, st)
	if err != nil {
		return err
	}
	if err := writeFileFrom(o.bundle, signed.Reader()); err != nil {
		return err
	}
	who, err := signer.Who(ctx)
	if err != nil {
		return err
	}
	return a.fileDone(&o.signerOptions, who, signed.Claim, signedFile{Path: path, Digest: digest, Bundle: o.bundle})
}
