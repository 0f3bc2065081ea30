package check

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
)

type importOptions struct {
	name, checksum, root string
}

// maxTUFRoot bounds a TUF root.json.
const maxTUFRoot = 512 << 10

// notationSource is the word that imports Notation's folder.
const notationSource = "notation"

func (t *trustCommands) importing() *cobra.Command {
	o := &importOptions{}
	c := &cobra.Command{
		Use:   "import public | URL | notation [DIR] | FILE",
		Short: "Take over what a Sigstore, Notation or another trust bundle believes",
		Long: `Take over what others keep:

public is Sigstore's public instance, by TUF. URL is the TUF mirror of another
Sigstore, such as that of hallmark up. Its root.json says who may speak for it:
give its SHA-256 as --root-checksum, or the file as --root; else it is shown, and
a person is asked. notation is Notation's folder, its trust policies with the
stores that they name. FILE is another trust bundle.

What contradicts the trust bundle is named, and then nothing is taken over.`,
		Example: `  hallmark trust import http://127.0.0.1:8420/tuf --root root.json
  hallmark trust import notation notation-config
  hallmark trust import team-trust.json`,
		Args: cli.Args(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, argv []string) error { return t.runImport(c.Context(), o, argv) },
	}
	c.Flags().StringVar(&o.checksum, "root-checksum", "", "`HEX` SHA-256 of the mirror's root.json")
	c.Flags().StringVar(&o.root, "root", "", "`FILE` with the mirror's root.json, of any version")
	c.Flags().StringVar(&o.name, "name", "", "`NAME` of the root; default: public, or of the mirror's host")
	return c
}

func (t *trustCommands) runImport(ctx context.Context, o *importOptions, argv []string) error {
	source := argv[0]
	switch mirror := isURL(source); {
	case len(argv) == 2 && source != notationSource:
		return fault.Usagef("one thing is imported at a time")
	case !mirror && (o.root != "" || o.checksum != ""):
		return fault.Usagef("--root and --root-checksum are about the TUF mirror of a URL")
	case source == cli.PublicInstance:
		pg := trust.PublicGood()
		return t.follow(ctx, bundlefile.PublicRootName, pg.Mirror, pg.Root, o)
	case mirror:
		root, err := t.mirrorRoot(ctx, o, strings.TrimSuffix(source, "/"))
		if err != nil {
			return err
		}
		return t.follow(ctx, hostName(source), strings.TrimSuffix(source, "/"), root, o)
	case o.name != "":
		return fault.Usagef("--name names the root of a URL or of public")
	case source == notationSource:
		return t.importNotation(argv[1:])
	}
	return t.importBundle(source)
}

// hostName makes a name of a URL's host and port.
func hostName(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return strings.Trim(strings.Map(func(r rune) rune {
		if strings.ContainsRune(":[]", r) {
			return '-'
		}
		return r
	}, u.Host), "-")
}

// follow fetches the trusted root of a TUF repository and keeps it with its source.
func (t *trustCommands) follow(ctx context.Context, name, mirror string, root []byte, o *importOptions) error {
	if o.name != "" {
		name = o.name
	}
	sum := sha256.Sum256(root)
	r := bundlefile.Root{Name: name, Source: bundlefile.Source{Mirror: mirror, TUFRoot: root, RootSHA256: hex.EncodeToString(sum[:])}}
	if err := t.fetchRoot(ctx, &r); err != nil {
		return err
	}
	parsed, err := trust.ParseTrustedRoot(r.TrustedRoot)
	if err != nil {
		return fmt.Errorf("%s: %w", mirror, err)
	}
	if err := t.change(func(f *bundlefile.File) error { return usage(f.AddRoot(r)) }); err != nil {
		return err
	}
	t.done("believed: trust root %s from %s, vouched for until %s: %s", name, mirror, cli.Stamp(*r.Expires), contents(parsed))
	return nil
}

// fetchRoot brings a root that has a mirror up to date.
func (t *trustCommands) fetchRoot(ctx context.Context, r *bundlefile.Root) error {
	client := trust.TUF{Mirror: r.Source.Mirror, Root: r.Source.TUFRoot, PlainHTTP: t.PlainHTTP}
	if dir, err := t.cacheDir(); err == nil {
		client.CacheDir = dir
	}
	got, expires, err := client.Fetch(ctx, cli.TargetTrustedRoot)
	if err != nil {
		return err
	}
	r.TrustedRoot, r.FetchedAt, r.Expires = got[cli.TargetTrustedRoot], time.Now(), &expires
	return nil
}

// cacheDir is where TUF metadata is kept, so that a mirror cannot go back.
func (t *trustCommands) cacheDir() (string, error) {
	dir := t.Env("XDG_CACHE_HOME")
	if !filepath.IsAbs(dir) {
		home := t.Env("HOME")
		if home == "" {
			return "", errors.New("no home folder")
		}
		dir = filepath.Join(home, ".cache")
	}
	return filepath.Join(dir, "hallmark", "tuf"), nil
}

// mirrorRoot is the root.json of a mirror, once somebody has said that it is it.
func (t *trustCommands) mirrorRoot(ctx context.Context, o *importOptions, mirror string) ([]byte, error) {
	if o.root != "" && o.checksum != "" {
		return nil, fault.Usagef("--root is the file whose checksum --root-checksum would be: give one")
	}
	if o.root != "" {
		return readFile(o.root, maxTUFRoot)
	}
	if want, err := hex.DecodeString(o.checksum); o.checksum != "" && (err != nil || len(want) != sha256.Size) {
		return nil, fault.Usagef("--root-checksum: want the 64 hexadecimal digits of a SHA-256")
	}
	data, err := fetch(ctx, mirror+"/root.json", maxTUFRoot, t.PlainHTTP)
	if err != nil && fault.KindOf(err) == fault.Failure { // not every mirror has the newest under this name
		data, err = fetch(ctx, mirror+"/1.root.json", maxTUFRoot, t.PlainHTTP)
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	got := hex.EncodeToString(sum[:])
	switch {
	case strings.EqualFold(got, o.checksum):
		return data, nil
	case o.checksum != "":
		return nil, fault.Hint(fault.As(fault.Denied, fmt.Errorf("root.json of %s has the SHA-256 %s, not %s", mirror, got, strings.ToLower(o.checksum))),
			"it is not the one that was meant, or has a newer version: ask the operator, or give the file with --root")
	}
	t.Say("root.json of %s has the SHA-256 %s", mirror, got)
	if !t.Interactive() {
		return nil, fault.Hint(fault.Usagef("nobody has said whether that is the right root.json, and there is no terminal to ask on"),
			"compare it with what the operator says, for example the word of hallmark up, and give it as --root-checksum")
	}
	return data, t.confirm("Is that what the operator says")
}

// errNotConfirmed is a person's no.
var errNotConfirmed = fault.As(fault.Denied, errors.New("not confirmed: nothing was changed"))

// confirm asks a person on the terminal; only the whole word yes is one.
func (t *trustCommands) confirm(question string) error {
	fmt.Fprintf(t.Stderr, "%s? Type yes or no: ", question)
	line, err := bufio.NewReader(t.Stdin).ReadString('\n')
	if strings.TrimSpace(line) != "yes" {
		return errNotConfirmed
	}
	return err
}

func (t *trustCommands) importNotation(argv []string) error {
	dir := ""
	if len(argv) == 1 {
		dir = argv[0]
	} else {
		config, err := t.ConfigDir()
		if err != nil {
			return err
		}
		dir = filepath.Join(config, "notation")
	}
	parts, err := notation.ReadFolder(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.As(fault.Usage, err)
	}
	if err != nil {
		return err
	}
	if err := t.change(func(f *bundlefile.File) error { return conflict(dir, f.AddNotary(parts, time.Now())) }); err != nil {
		return err
	}
	certificates := 0
	for _, s := range parts.Stores {
		certificates += len(s.Certificates)
	}
	t.done("believed: Notation's trust policy of %s with %d stores, %d certificates", dir, len(parts.Stores), certificates)
	return nil
}

func (t *trustCommands) importBundle(path string) error {
	data, err := readFile(path, bundlefile.MaxSize)
	if err != nil {
		return err
	}
	o, err := bundlefile.Parse(data)
	if err != nil {
		hint := "a trust bundle is what hallmark trust export writes"
		if bytes.Contains(data, []byte("vnd.dev.sigstore.trustedroot")) {
			hint = "a trusted_root.json alone is added by hallmark trust add root"
		}
		return fault.Hint(fault.Usagef("%s: %w", path, err), "%s", hint)
	}
	if err := t.change(func(f *bundlefile.File) error { return conflict(path, f.Merge(o)) }); err != nil {
		return err
	}
	t.done("believed: %d trust roots, %d keys and %d pins of %s, and what it revokes", len(o.Roots), len(o.Keys), len(o.Pins), path)
	return nil
}

// conflict makes an error of what contradicts.
func conflict(source string, conflicts []string) error {
	if len(conflicts) == 0 {
		return nil
	}
	return fault.Hint(fault.As(fault.Denied, fmt.Errorf("%s contradicts the trust bundle, nothing was taken over: %s", source, strings.Join(conflicts, "; "))),
		"decide which is right; hallmark trust remove NAME takes the other away")
}

func (t *trustCommands) export() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use:   "export",
		Short: "Write the trust bundle, to hand it to others or to a machine without a network",
		Long:  "Write the trust bundle as one file, checked. hallmark trust import FILE takes it over elsewhere, and HALLMARK_TRUST uses it as it is.",
		Example: `  hallmark trust export
  hallmark trust export -o team-trust.json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			f, err := t.TrustBundle(t.file)
			if err != nil {
				return err
			}
			if to != "" {
				return f.Write(to, 0o644)
			}
			data, err := f.Encode()
			if err != nil {
				return err
			}
			_, err = t.Stdout.Write(data)
			return err
		},
	}
	c.Flags().StringVarP(&to, "output", "o", "", "write to `FILE`; default: standard output")
	return c
}

func (t *trustCommands) remove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a root, key, pin, store, policy or revocation list away",
		Long: `Take one thing out of the trust bundle: a trust root or key by its name, a pin by
HOST/REPOSITORY, a store of Notation's as TYPE:NAME, its trust policies as policy,
a revocation list by its URL or sha256:HEX. Revocations stay.`,
		Example: `  hallmark trust remove acme         # exit 4: there is none of this name`,
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, argv []string) error {
			var what string
			err := t.change(func(f *bundlefile.File) error {
				if what = f.Remove(argv[0]); what == "" {
					return fault.Hint(fault.NotFoundf("the trust bundle has nothing of the name %q", argv[0]), "hallmark trust show has the names; revocations cannot be taken back")
				}
				return nil
			})
			if err != nil {
				return err
			}
			t.done("not believed any more: %s %s", what, cli.Plain(argv[0]))
			return nil
		},
	}
}
