package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/draft"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/sshsigner"
)

func newSigningPolicyCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "signing-policy",
		Short: "Say who must agree before a release is built and signed",
		Long: `The signing policy of a repository: its people with their keys (authority.json)
and the rules by which a release is allowed (signing.rego), in a folder
(docs/signing-policy.md).`,
		Example: `  hallmark signing-policy init policy --person alice=alice.pub --person bob=bob.pub
  hallmark signing-policy lint
  hallmark signing-policy test
  hallmark signing-policy show`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newSigningInitCommand(a), newSigningLintCommand(a), newSigningTestCommand(a), newSigningShowCommand(a),
		newSigningDiffCommand(a), newSigningProposeCommand(a), newSigningSubmitCommand(a))
	return c
}

type signingInitOptions struct {
	ready      string
	people     []string
	machines   []string
	recovery   []string
	signers    string
	protection []string
	approvals  int
	branch     string
}

func newSigningInitCommand(a *app) *cobra.Command {
	o := &signingInitOptions{}
	c := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Make the first signing policy of a repository",
		Long: `Make the first signing policy of a repository in DIR (default .hallmark): who its
people are, with which keys, and rules from a ready policy: open, solo, team or
strict (docs/signing-policy-rules.md). On a terminal it asks for what the flags do
not say.

KEYS is a file with public keys (id_ed25519.pub, a forge's list of somebody's keys,
an armored OpenPGP certificate, an X.509 certificate), or ssh-agent:COMMENT.
People approve; with --machine a key of an HSM signs the tags and does nothing else.`,
		Example: `  hallmark signing-policy init policy --person alice=alice.pub --person bob=bob.pub
  hallmark signing-policy init strict --policy strict --allowed-signers allowed_signers --machine release-hsm=hsm.pub --protection release-hsm=hsm`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error {
			return a.signingInit(c.Context(), o, append(argv, proposalFolder)[0])
		},
	}
	f := c.Flags()
	f.StringVar(&o.ready, "policy", "", "the ready `POLICY`: open, solo, team or strict (default solo for one person, team for several)")
	f.StringArrayVar(&o.people, "person", nil, "somebody who approves, `NAME=KEYS`; may repeat")
	f.StringVar(&o.signers, "allowed-signers", "", "the people of git's allowed-signers `FILE`")
	f.StringArrayVar(&o.machines, "machine", nil, "what signs tags and nothing else, `NAME=KEYS`; may repeat")
	f.StringArrayVar(&o.recovery, "recovery", nil, "a cold key that replaces the policy when the others are lost, `NAME=KEYS`; may repeat")
	f.StringArrayVar(&o.protection, "protection", nil, "how somebody's keys are kept, `NAME=hsm` or software; security keys say it themselves; may repeat")
	f.IntVar(&o.approvals, "approvals", 0, "how `MANY` people must approve (default 2, or 1 of one)")
	f.StringVar(&o.branch, "branch", "main", "the `BRANCH` that releases are made from")
	return c
}

func (a *app) signingInit(ctx context.Context, o *signingInitOptions, dir string) error {
	w, err := a.wish(ctx, o)
	if err != nil {
		return err
	}
	files, why, err := draft.Make(*w)
	if err != nil {
		return err
	}
	if len(why) > 0 {
		return a.Deny(placed(why))
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return fault.Hint(fault.Usagef("%s is there already", filepath.Join(dir, name)), "change it, or name another folder: hallmark signing-policy init DIR")
		}
	}
	slices.Sort(names)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		if err := durable.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil {
			return fmt.Errorf("write %s: %w", filepath.Join(dir, name), err)
		}
		a.Print("%s", filepath.Join(dir, name))
	}
	for _, text := range draft.Unmet(*w) {
		a.Warn("%s", text)
	}
	a.Say("try it:    hallmark gate check . TAG --policy %s", cli.ShellQuote(dir))
	a.Say("Keep it where those who push to the repository cannot change it: on the builder, or in a repository of its own.")
	return nil
}

// wish is what the flags say, and what somebody at a terminal answers.
func (a *app) wish(ctx context.Context, o *signingInitOptions) (*draft.Wish, error) {
	if len(o.people) == 0 && o.signers == "" && a.Interactive() {
		if err := a.interview(ctx).people(o); err != nil {
			return nil, err
		}
	}
	w := &draft.Wish{Ready: o.ready, Approvals: o.approvals, Branch: o.branch}
	if o.signers != "" {
		text, err := readSmall(o.signers, draft.MaxKeyFile)
		if err != nil {
			return nil, fault.As(fault.Usage, err)
		}
		if w.People, err = draft.ReadSigners(text); err != nil {
			return nil, fault.Usagef("--allowed-signers %s: %w", o.signers, err)
		}
	}
	for flag, lists := range map[string]struct {
		from []string
		into *[]draft.Principal
	}{"--person": {o.people, &w.People}, "--machine": {o.machines, &w.Machines}, "--recovery": {o.recovery, &w.Recovery}} {
		for _, one := range lists.from {
			p, err := readPrincipal(one)
			if err != nil {
				return nil, fault.As(fault.Usage, fmt.Errorf("%s %s: %w", flag, cli.OneLine(one), err))
			}
			*lists.into = append(*lists.into, *p)
		}
	}
	if len(w.People) == 0 {
		return nil, fault.Hint(fault.Usagef("who approves releases? give --person"), "hallmark signing-policy init --person alice=alice.pub --person bob=bob.pub")
	}
	return w, o.protect(w)
}

// protect applies --protection.
func (o *signingInitOptions) protect(w *draft.Wish) error {
	for _, pair := range o.protection {
		name, protection, ok := strings.Cut(pair, "=")
		found := false
		for _, list := range [][]draft.Principal{w.People, w.Machines, w.Recovery} {
			for i := range list {
				if list[i].Name == name {
					list[i].Protection, found = protection, true
				}
			}
		}
		if !ok || !found || protection != "hsm" && protection != "software" {
			return fault.Usagef("--protection %s: want NAME=hsm or NAME=software, with the name of a person, machine or recovery key", cli.OneLine(pair))
		}
	}
	return nil
}

func readPrincipal(pair string) (*draft.Principal, error) {
	name, from, ok := strings.Cut(pair, "=")
	if !ok || name == "" || from == "" {
		return nil, errors.New("want NAME=KEYS")
	}
	if key, ok := strings.CutPrefix(from, "ssh-agent:"); ok {
		signer, err := sshsigner.Open(key, nil)
		if err != nil {
			return nil, err
		}
		defer signer.Close() //nolint:errcheck // it was only looked at
		return &draft.Principal{Name: name, Keys: []draft.Key{draft.SSHKey(signer.PublicKey())}}, nil
	}
	text, err := readSmall(from, draft.MaxKeyFile)
	if err != nil {
		return nil, err
	}
	keys, err := draft.ReadKeys(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return &draft.Principal{Name: name, Keys: keys}, nil
}

func newSigningLintCommand(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "lint [DIR]",
		Short: "Find mistakes and traps in a signing policy",
		Long: `Read the signing policy in DIR (default .hallmark), people and rules, and name what is
wrong with it, and what in its rules says something else than it seems to.

Exit code 3: something was found.`,
		Example: `  hallmark signing-policy lint`,
		Args:    cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error {
			dir := append(argv, proposalFolder)[0]
			_, d, err := a.readSigningPolicy(dir)
			switch {
			case err != nil:
				return err
			case d.Allowed: // it can be read: what is left are traps
				return a.policyLint(c.Context(), []string{dir}, asJSON)
			case !asJSON:
				return a.Deny(d)
			}
			if err := a.PrintJSON(&lintAnswer{Files: []string{}, Findings: d.Reasons}); err != nil {
				return err
			}
			return cli.DeniedError{}
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func newSigningTestCommand(a *app) *cobra.Command {
	o := &policyTestOptions{}
	c := &cobra.Command{
		Use:   "test [DIR]",
		Short: "Run the tests of a signing policy",
		Long: `Run the tests of the signing policy in DIR (default .hallmark): rules test_… in its
files *_test.rego. It is hallmark policy test for that folder.`,
		Example: `  hallmark signing-policy test --coverage`,
		Args:    cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error {
			return a.policyTest(c.Context(), append(argv, proposalFolder)[0], o)
		},
	}
	c.Flags().StringVar(&o.run, "run", "", "only tests whose names contain `TEXT`")
	c.Flags().BoolVar(&o.coverage, "coverage", false, "show which lines of the policy no test came to")
	c.Flags().BoolVar(&o.asJSON, "json", false, "print one JSON object")
	return c
}

// shownPolicy is what signing-policy show prints with --json; docs/json.md has the table.
type shownPolicy struct {
	Digest     string           `json:"digest"`
	Rules      string           `json:"rules"` // digest of the bundle
	Principals []shownPrincipal `json:"principals"`
	Roles      []shownRole      `json:"roles"`
	MaxAge     string           `json:"approvalMaxAge"`
}

type shownPrincipal struct {
	Name    string     `json:"name"`
	Machine bool       `json:"machine"`
	Roles   []string   `json:"roles"`
	Keys    []shownKey `json:"keys"`
}

type shownKey struct {
	Kind       string   `json:"kind"`
	ID         string   `json:"id"`
	Protection string   `json:"protection"`
	Uses       []string `json:"uses"`
}

type shownRole struct {
	Name       string   `json:"name"`
	Threshold  int      `json:"threshold,omitempty"`
	Principals []string `json:"principals"`
}

func newSigningShowCommand(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show [DIR]",
		Short: "Show the people, keys and thresholds of a signing policy",
		Long: `Show the people, keys and thresholds of the signing policy in DIR (default
.hallmark), and the digests that approvals and verdicts name.`,
		Example: `  hallmark signing-policy show`,
		Args:    cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, argv []string) error {
			return a.signingShow(append(argv, proposalFolder)[0], asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) signingShow(dir string, asJSON bool) error {
	folder, d, err := a.readSigningPolicy(dir)
	if err != nil {
		return err
	}
	if !d.Allowed {
		return a.Deny(d)
	}
	shown, err := shownOf(folder)
	if err != nil {
		return err
	}
	if asJSON {
		return a.PrintJSON(shown)
	}
	a.Print("policy     %s", shown.Digest)
	a.Print("rules      %s", shown.Rules)
	for _, r := range shown.Roles {
		if r.Threshold > 0 {
			a.Print("role       %s: %d of %s", r.Name, r.Threshold, strings.Join(r.Principals, ", "))
		} else {
			a.Print("role       %s: %s", r.Name, strings.Join(r.Principals, ", "))
		}
	}
	for _, p := range shown.Principals {
		what := "person     "
		if p.Machine {
			what = "machine    "
		}
		for _, k := range p.Keys {
			a.Print("%s%s %s %s, %s: may %s", what, p.Name, k.Kind, k.ID, k.Protection, strings.Join(k.Uses, ", "))
		}
	}
	a.Print("approvals  count for at most %s", shown.MaxAge)
	return nil
}

func shownOf(f *judge.Folder) (*shownPolicy, error) {
	digest, err := f.Digest()
	if err != nil {
		return nil, err
	}
	out := &shownPolicy{Digest: digest, Rules: f.Rules.Digest(), MaxAge: f.Authority.Approval.MaxAge.String()}
	for _, name := range f.Authority.Names() {
		p := f.Authority.Principals[name]
		one := shownPrincipal{Name: name, Machine: p.Machine, Roles: append([]string{}, f.Authority.RolesOf(name)...)}
		for _, k := range p.Keys {
			one.Keys = append(one.Keys, shownKey{Kind: k.Kind, ID: k.ID(), Protection: k.Protection, Uses: k.Uses})
		}
		out.Principals = append(out.Principals, one)
	}
	for name, r := range f.Authority.Roles {
		out.Roles = append(out.Roles, shownRole{Name: name, Threshold: r.Threshold, Principals: r.Principals})
	}
	slices.SortFunc(out.Roles, func(x, y shownRole) int { return strings.Compare(x.Name, y.Name) })
	return out, nil
}
