package check

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
)

// revokeOptions are what all revocations have.
type revokeOptions struct {
	since, reason string
}

func (o *revokeOptions) flags(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&o.since, "since", "", "`TIME` from which it is revoked, as 2026-01-31T12:00:00Z or 2026-01-31; default: now")
	c.Flags().StringVar(&o.reason, "reason", "", "`TEXT` that who is refused is told")
	return c
}

// read checks both.
func (o *revokeOptions) read() (time.Time, string, error) {
	if strings.TrimSpace(o.reason) == "" {
		return time.Time{}, "", fault.Usagef("--reason: say why; who is refused reads it")
	}
	since, err := parseTime("since", o.since)
	if err != nil {
		return time.Time{}, "", err
	}
	if since == nil {
		now := time.Now().UTC().Truncate(time.Second)
		since = &now
	}
	return *since, o.reason, nil
}

func (t *trustCommands) revoke() *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke",
		Short: "Refuse an image, an identity or a key from a time on",
		Long: `Refuse something from a time on. Signatures of an identity or key count only if
trusted times show that all of them are older; an image that is revoked does not
count at all. A revocation is not taken back.`,
		Example: `  hallmark trust revoke key release.pub --since 2026-11-01 --reason "laptop stolen"
  hallmark trust revoke identity alice@example.com --issuer http://127.0.0.1:8420 --reason "has left"`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(t.revokeDigest(), t.revokeIdentity(), t.revokeKey())
	return c
}

func (t *trustCommands) revokeDigest() *cobra.Command {
	o := &revokeOptions{}
	return o.flags(&cobra.Command{
		Use:     "digest DIGEST",
		Short:   "Refuse an image or a file, whoever signed it",
		Long:    "Refuse the image or file of this digest from --since on, whoever signed it and whenever.",
		Example: "  hallmark trust revoke digest sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 --reason \"holds malware\"",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, argv []string) error {
			since, reason, err := o.read()
			if err != nil {
				return err
			}
			d, err := evidence.ParseDigest(argv[0])
			if err != nil {
				return fault.Hint(fault.Usagef("%w", err), "hallmark verify IMAGE prints an image's digest, sha256sum FILE that of a file")
			}
			return t.revoked(argv[0], since, func(f *bundlefile.File) {
				f.RevokeDigest(trust.RevokedDigest{Digest: d, Since: since, Reason: reason})
			})
		},
	})
}

func (t *trustCommands) revokeIdentity() *cobra.Command {
	o := &revokeOptions{}
	var issuer string
	c := o.flags(&cobra.Command{
		Use:     "identity IDENTITY --issuer URL",
		Short:   "Refuse what an identity signed",
		Long:    "Refuse what this identity of this issuer signed from --since on, both exactly as certificates have them.",
		Example: "  hallmark trust revoke identity alice@example.com --issuer http://127.0.0.1:8420 --reason \"has left\"",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, argv []string) error {
			since, reason, err := o.read()
			if err != nil {
				return err
			}
			if issuer == "" {
				return fault.Usagef("--issuer: an identity is revoked with the issuer that vouches for it")
			}
			if strings.ContainsAny(argv[0]+issuer, "*^$") {
				return fault.Usagef("%q of %q: an identity is revoked exactly as certificates have it; a pattern would match none", argv[0], issuer)
			}
			return t.revoked(argv[0]+" (issuer "+issuer+")", since, func(f *bundlefile.File) {
				f.RevokeIdentity(trust.RevokedIdentity{Identity: argv[0], Issuer: issuer, Since: since, Reason: reason})
			})
		},
	})
	c.Flags().StringVar(&issuer, "issuer", "", "`URL` of the issuer that vouched for the identity")
	return c
}

func (t *trustCommands) revokeKey() *cobra.Command {
	o := &revokeOptions{}
	return o.flags(&cobra.Command{
		Use:     "key FILE | sha256:HEX",
		Short:   "Refuse what a key signed",
		Long:    "Refuse what this key signed from --since on, with or without a certificate. It is named by its public half, or by the SHA-256 of its DER SubjectPublicKeyInfo.",
		Example: "  hallmark trust revoke key release.pub --since 2026-11-01 --reason \"laptop stolen\"",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, argv []string) error {
			since, reason, err := o.read()
			if err != nil {
				return err
			}
			fingerprint := argv[0]
			if bundlefile.CheckFingerprint(fingerprint) != nil {
				public, err := cli.ReadPublicKey(argv[0])
				if err != nil {
					return err
				}
				fingerprint = key.Fingerprint(public)
			}
			return t.revoked("key "+fingerprint, since, func(f *bundlefile.File) {
				f.RevokeKey(trust.RevokedKey{Key: fingerprint, Since: since, Reason: reason})
			})
		},
	})
}

// revoked writes a revocation and says so.
func (t *trustCommands) revoked(what string, since time.Time, do func(*bundlefile.File)) error {
	err := t.change(func(f *bundlefile.File) error {
		do(f)
		_, err := f.Encode()
		return usage(err)
	})
	if err != nil {
		return err
	}
	if since.After(time.Now()) {
		t.done("to be refused from %s on: %s", cli.Stamp(since), cli.Plain(what))
		return nil
	}
	t.done("revoked since %s: %s", cli.Stamp(since), cli.Plain(what))
	return nil
}
