package check

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/collect"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
	"github.com/hallmark-dev/hallmark/internal/trust/revocation"
	revocations "github.com/hallmark-dev/hallmark/internal/trust/revocation/fetch"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

func (t *trustCommands) update() *cobra.Command {
	var notationDir string
	c := &cobra.Command{
		Use:   "update [IMAGE...]",
		Short: "Fetch again what has a source: TUF mirrors and revocation lists",
		Long: `Fetch again everything in the trust bundle that has a source: trust roots of TUF
mirrors, revocation lists that came from a URL, and what the certificates of Notation's
stores name. What cannot be fetched stays as it is, and the exit code is 5. An older
list or root never replaces a newer one.

With images, fetch instead what tells whether the certificates of their Notary Project
signatures were revoked: the lists and OCSP answers that these certificates name. verify
needs them, and opens no socket for them. Nothing is asked for signatures by others
than the trust policy trusts.`,
		Example: `  hallmark trust update
  hallmark trust update --notation notation-config 127.0.0.1:8420/app:1.0    # exit 4: it has no such signature`,
		Args: cli.Args(cobra.ArbitraryArgs),
		RunE: func(c *cobra.Command, argv []string) error {
			if len(argv) > 0 {
				return t.runUpdateFor(c.Context(), notationDir, argv)
			}
			if notationDir != "" {
				return fault.Usagef("--notation judges the signatures of images, and none is named")
			}
			return t.runUpdate(c.Context())
		},
	}
	c.Flags().StringVar(&notationDir, "notation", "", "Notation's configuration `FOLDER`: its trust policy and stores say which signatures are trusted")
	return c
}

// news puts one thing that was fetched into a bundle.
type news func(*bundlefile.File) error

func (t *trustCommands) runUpdate(ctx context.Context) error {
	before, err := t.TrustBundle(t.file)
	if err != nil {
		return err
	}
	all, failed := t.fetchAll(ctx, before)
	if err := t.keep(all); err != nil {
		return err
	}
	if len(all)+len(failed) == 0 {
		t.done("nothing in the trust bundle has a source; hallmark trust import public follows Sigstore's public instance")
	}
	return errors.Join(failed...)
}

func (t *trustCommands) keep(all []news) error {
	if len(all) == 0 {
		return nil
	}
	return t.change(func(f *bundlefile.File) error {
		for _, n := range all {
			if err := n(f); err != nil {
				return err
			}
		}
		return nil
	})
}

// fetchAll fetches what has a source.
func (t *trustCommands) fetchAll(ctx context.Context, before *bundlefile.File) (all []news, failed []error) {
	for _, r := range before.Roots {
		if r.Source.Embedded {
			t.Say("trust root %s is embedded in hallmark: hallmark trust import public fetches the present one", r.Name)
		}
		if r.Source.Mirror == "" {
			continue
		}
		if err := t.fetchRoot(ctx, &r); err != nil {
			failed = append(failed, fmt.Errorf("trust root %s: %w", r.Name, err))
			continue
		}
		t.done("fetched: trust root %s, vouched for until %s", r.Name, cli.Stamp(*r.Expires))
		all = append(all, func(f *bundlefile.File) error { return f.AddRoot(r) })
	}
	if before.Notary == nil {
		return all, failed
	}
	chains := storeChains(before.Notary)
	for _, c := range before.Notary.CRLs {
		if c.URL == "" || named(chains, c.URL) {
			continue
		}
		data, err := fetch(ctx, c.URL, maxCRLFile, t.PlainHTTP)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		t.done("fetched: the revocation list %s", cli.Plain(c.URL))
		all = append(all, func(f *bundlefile.File) error { return f.AddCRL(c.URL, derOf(data), time.Now()) })
	}
	more, err := t.fetchRevocations(ctx, chains, before.Notary)
	if err != nil {
		failed = append(failed, err)
	}
	return append(all, more...), failed
}

// named reports whether a certificate of the chains names a list by its URL.
func named(chains [][]*x509.Certificate, url string) bool {
	return slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool { return slices.Contains(chain[0].CRLDistributionPoints, url) })
}

// storeChains are the certificates of Notation's stores that another one in them
// issued, each with its issuer.
func storeChains(n *bundlefile.Notary) [][]*x509.Certificate {
	var certs []*x509.Certificate
	for _, s := range n.Stores {
		for _, der := range s.Certificates {
			if c, err := x509.ParseCertificate(der); err == nil {
				certs = append(certs, c)
			}
		}
	}
	var chains [][]*x509.Certificate
	for _, c := range certs {
		i := slices.IndexFunc(certs, func(by *x509.Certificate) bool {
			return !by.Equal(c) && bytes.Equal(by.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(by) == nil
		})
		if i >= 0 {
			chains = append(chains, []*x509.Certificate{c, certs[i]})
		}
	}
	return chains
}

// runUpdateFor fetches what images' Notary signatures need.
func (t *trustCommands) runUpdateFor(ctx context.Context, notationDir string, images []string) error {
	path, _, err := t.TrustPath(t.file)
	if err != nil {
		return err
	}
	f, err := bundlefile.Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f = &bundlefile.File{} // what is fetched begins one
	case err != nil:
		return err
	}
	cfg := verify.Config{Notary: f.Notation()}
	if notationDir != "" {
		if cfg.Notary, err = notationFolder(notationDir, f); err != nil {
			return err
		}
	}
	if cfg.Notary == nil {
		return fault.Hint(fault.Usagef("no trust policy says which Notary Project signatures are trusted"), "hallmark trust import notation takes Notation's, and --notation names its folder")
	}
	v, err := verify.New(cfg)
	if err != nil {
		return err
	}
	var chains [][]*x509.Certificate
	for _, image := range images {
		more, err := t.notaryChains(ctx, v, image)
		if err != nil {
			return err
		}
		chains = append(chains, more...)
	}
	known := f.Notary
	if known == nil {
		known = &bundlefile.Notary{}
	}
	all, unknown := t.fetchRevocations(ctx, chains, known)
	if err := t.keep(all); err != nil {
		return err
	}
	if unknown == nil && len(all) == 0 {
		t.done("nothing to fetch: the certificates name neither a revocation list nor an OCSP responder")
	}
	return unknown
}

// notaryChains are the chains of an image's trusted Notary signatures; that there is
// none is an error.
func (t *trustCommands) notaryChains(ctx context.Context, v *verify.Verifier, image string) ([][]*x509.Certificate, error) {
	ref, err := registry.ParseRef(image)
	if err != nil {
		return nil, err
	}
	client := t.RegistryClient()
	repo, err := client.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	desc, err := repo.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	var where collect.Options
	if where.SignatureRepository, err = t.SignatureRepository(ctx, client, ""); err != nil {
		return nil, err
	}
	items, err := collect.Image(ctx, repo, desc, where)
	if err != nil {
		return nil, err
	}
	artifact := verify.Image(evidence.Digest(desc.Digest))
	artifact.Repository, artifact.MediaType, artifact.Size = ref.Name(), desc.MediaType, desc.Size
	var chains [][]*x509.Certificate
	for _, it := range items {
		if it.Claim == nil || it.Claim.Notary == nil {
			continue
		}
		more, why := v.NotaryChains(it.Claim, artifact)
		if why != nil {
			t.WarnOf([]policy.Reason{{Code: why[0].Code, Message: it.Where.Ref + " is left out: " + why[0].Message}})
		}
		chains = append(chains, more...)
	}
	if len(chains) == 0 {
		return nil, fault.NotFoundf("%s has no Notary Project signature that the trust policy trusts", image)
	}
	return chains, nil
}

// fetchRevocations fetches what says whether certificates of the chains were revoked.
// One source that fails is a warning; an error names the certificates of which then
// nothing fresh is known.
func (t *trustCommands) fetchRevocations(ctx context.Context, chains [][]*x509.Certificate, known *bundlefile.Notary) ([]news, error) {
	got := revocations.Fetcher{Client: &http.Client{}}.Chains(ctx, chains...)
	var all []news
	crls, answers := [][]byte{}, slices.Clone(known.OCSP)
	for _, c := range known.CRLs {
		crls = append(crls, c.DER)
	}
	for _, c := range got.CRLs {
		crls = append(crls, c.DER)
		t.done("fetched: the revocation list %s", cli.Plain(c.URL))
		all = append(all, func(f *bundlefile.File) error { return f.AddCRL(c.URL, c.DER, time.Now()) })
	}
	for _, r := range got.OCSP {
		answers = append(answers, r.DER)
		t.done("fetched: the OCSP answer about %s", cli.Plain(r.About.Subject.String()))
		all = append(all, func(f *bundlefile.File) error { f.RefreshOCSP(r.DER); return nil })
	}
	for _, err := range got.Errors {
		t.Warn("%s", cli.OneLine(err.Error()))
	}
	set, err := revocation.New(crls, answers)
	if err != nil {
		return nil, err
	}
	return all, t.unknown(set, chains)
}

// unknown tells what was revoked, and is the error that names what is not known.
func (t *trustCommands) unknown(set *revocation.Set, chains [][]*x509.Certificate) error {
	var names []string
	for _, chain := range chains {
		for i := range len(chain) - 1 {
			name := cli.Plain(chain[i].Subject.String())
			switch a := set.Check(chain[i], chain[i+1], time.Time{}, time.Now()); a.Status {
			case revocation.Revoked:
				t.Warn("[%s] the certificate of %s was revoked at %s", verify.Revoked, name, cli.Stamp(a.At))
			case revocation.Unknown:
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return fault.Unreachablef("nothing fresh says whether these certificates were revoked: %s", strings.Join(slices.Compact(names), "; "))
}
