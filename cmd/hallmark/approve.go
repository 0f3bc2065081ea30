package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/sshsigner"
)

type approveOptions struct {
	releaseOptions
	decision string
	key      string
	as       string
	note     string
	base     string
	expires  time.Duration
	remote   string
	out      string
	export   string
	attach   string
	proposal string
}

func newApproveCommand(a *app) *cobra.Command {
	return a.approvalCommand(approval.Approve, &cobra.Command{
		Use:   "approve REF",
		Short: "Approve a release by signing that you looked at it",
		Long: `Approve a release: sign a statement about its commit, tag, tree, repository and
policy, and put it into the repository, as a ref of its own that never conflicts
(docs/signing-policy.md). You are who the signing policy's authority.json says that
your key is of; the key is looked for in your ssh-agent, where those of tokens and
security keys are, too, or is the file that --key names.

The approval is pushed to --remote of your clone (default origin, where there is
one), by your own git. Without Hallmark's key handling: --export, ssh-keygen -Y sign
-n hallmark-approval, --attach.

With --proposal it is a change of the signing policy that is approved; what it changes
is shown first. (--policy names the folder of a policy, here as everywhere.)`,
		Example: `  hallmark approve v1.4.0 --key alice -m "read the diff"
  hallmark approve --proposal proposal.json --key alice -o approvals
  hallmark approve --attach approval.pae.sig
  hallmark approve v1.4.0 --as alice --export alice.pae`,
	})
}

func newRejectCommand(a *app) *cobra.Command {
	return a.approvalCommand(approval.Reject, &cobra.Command{
		Use:   "reject REF -m REASON",
		Short: "Reject a release, so that it is denied whoever approves it",
		Long: `Reject a release: a signed statement as of hallmark approve that says no. As long
as it lies in the repository the gate denies the release, with your reason.`,
		Example: `  hallmark reject v1.4.0 --key alice -m "the workflow change was not reviewed"`,
	})
}

func (a *app) approvalCommand(decision string, c *cobra.Command) *cobra.Command {
	o := &approveOptions{decision: decision}
	c.Args = cli.Args(cobra.MaximumNArgs(1))
	c.RunE = func(c *cobra.Command, argv []string) error {
		if o.proposal != "" {
			return a.approveProposal(c.Context(), o, argv)
		}
		ref, err := o.which(argv)
		if err != nil {
			return err
		}
		return a.approve(c.Context(), o, ref)
	}
	o.add(c)
	f := c.Flags()
	f.StringVarP(&o.repo, "repo", "C", ".", "your clone of the repository, a `DIR`")
	f.StringVar(&o.key, "key", "", "your SSH `KEY`: a file, or SHA256:… or the comment of one in the ssh-agent (default: the one there that the policy lists)")
	f.StringVar(&o.as, "as", "", "the principal's `NAME`, to export for somebody whose key is not here")
	f.StringVarP(&o.note, "message", "m", "", "a `NOTE` that is signed, too")
	f.StringVar(&o.base, "base", "", "the `COMMIT` from which you read the difference")
	f.DurationVar(&o.expires, "expires", 0, "how long it counts, a `DURATION` (default: as long as the policy lets it)")
	f.StringVar(&o.remote, "remote", "", "the `REMOTE` of the clone that it is pushed to; none: only into the clone (default origin, where there is one)")
	f.StringVarP(&o.out, "output", "o", "", "write it into the folder `DIR` instead, for --approval-dir")
	f.StringVar(&o.export, "export", "", "write what is to be signed to `FILE`, and sign nothing")
	f.StringVar(&o.proposal, "proposal", "", "instead of a release, a change of the policy: the `FILE` of hallmark signing-policy propose")
	f.StringVar(&o.attach, "attach", "", "take the signature `FILE.sig` over the exported FILE, which lies beside it")
	return c
}

func (a *app) approve(ctx context.Context, o *approveOptions, ref string) error {
	if err := o.checkApprove(); err != nil {
		return err
	}
	r, err := a.openRelease(ctx, &o.releaseOptions)
	if err != nil {
		return err
	}
	defer r.close()
	res, err := r.check(ctx, ref)
	if err != nil {
		return err
	}
	if res.Release == nil || res.Key == "" {
		return a.Deny(res.Decision)
	}
	made, err := a.signedApproval(o, r, res)
	if err != nil || made == nil {
		return err
	}
	return a.placeApproval(ctx, o, r, res, made, ref)
}

// which is the release that is meant: an approval that was exported says it itself.
func (o *approveOptions) which(argv []string) (string, error) {
	if len(argv) == 1 {
		return argv[0], nil
	}
	if o.attach == "" {
		return "", fault.Usagef("which release? hallmark %s REF", o.decision)
	}
	e, _, err := o.attached()
	if err != nil {
		return "", err
	}
	if e.Statement.Proposal != "" {
		return "", fault.Usagef("--attach %s: it is about a change of the policy; name it: --proposal FILE", o.attach)
	}
	return e.Statement.Ref, nil
}

func (o *approveOptions) checkApprove() error {
	switch {
	case strings.Contains(o.repo, "://"):
		return fault.Hint(fault.Usagef("-C %s: want your clone", cli.OneLine(o.repo)), "clone it, so that you look at what you approve")
	case o.decision == approval.Reject && o.note == "" && o.attach == "":
		return fault.Usagef("reject wants a reason: -m REASON")
	case o.expires < 0:
		return fault.Usagef("--expires %v: want a duration such as 72h", o.expires)
	case o.export != "" && o.attach != "":
		return fault.Usagef("--export and --attach: one at a time")
	case o.export != "" && o.as == "":
		return fault.Usagef("--export wants --as NAME: whose approval it is to be")
	case o.attach != "" && (o.key != "" || o.note != "" || o.base != "" || o.expires != 0):
		return fault.Usagef("--attach takes what was exported as it is: --key, --message, --base and --expires were for --export")
	}
	return nil
}

// approvalMade is an approval that was signed, as it will be judged.
type approvalMade struct {
	envelope []byte
	id       string
	who      authority.Holder
	where    string // of the key
}

// signedApproval makes the approval, or with --export writes what is to be signed and
// returns nil.
func (a *app) signedApproval(o *approveOptions, r *opened, res *judge.Result) (*approvalMade, error) {
	if o.attach != "" {
		e, envelope, err := o.attached()
		if err != nil {
			return nil, err
		}
		return &approvalMade{envelope: envelope, id: e.ID, where: o.attach}, nil
	}
	if o.export != "" {
		return nil, a.exportApproval(o, r, res)
	}
	signer, who, err := a.approverKey(o, authority.UseApprove, r.folder.Authority)
	if err != nil {
		return nil, err
	}
	defer signer.Close() //nolint:errcheck // the signature is there, or an error
	payload, err := o.payload(r, res, who.Principal.Name)
	if err != nil {
		return nil, err
	}
	return a.signApproval(payload, signer, who)
}

func (a *app) signApproval(payload []byte, signer *sshsigner.Signer, who authority.Holder) (*approvalMade, error) {
	if strings.HasPrefix(who.Key.SSH().Type(), "sk-") {
		a.Say("touch your security key %s", who.Key.ID())
	}
	envelope, err := approval.SignSSH(payload, signer)
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", who.Key.ID(), err)
	}
	return &approvalMade{envelope: envelope, id: approval.ID(payload), who: who, where: signer.Where}, nil
}

// payload is the statement about the release as it is now.
func (o *approveOptions) payload(r *opened, res *judge.Result, principal string) ([]byte, error) {
	now := time.Now().UTC().Truncate(time.Second)
	lasts, err := o.lasts(r.folder.Authority.Approval.MaxAge)
	if err != nil {
		return nil, err
	}
	base, err := o.baseCommit(r)
	if err != nil {
		return nil, err
	}
	rel := res.Release
	s := approval.Statement{Action: approval.ActionBuild, Decision: o.decision, Principal: principal,
		Repository: approval.Repository{Key: res.Key, URI: sourceURI(r.repo.Location)},
		Commit:     rel.Git.CommitChecksum, Ref: rel.Git.Ref, Tree: rel.Commit.Tree, Policy: res.Policy,
		Reviewed: approval.Reviewed{Base: base, Note: o.note}, IssuedAt: now, ExpiresAt: now.Add(lasts)}
	if rel.Tag != nil {
		s.TagObject = rel.Tag.ID
	}
	payload, err := approval.Build(s)
	if err != nil {
		return nil, fault.As(fault.Usage, err)
	}
	return payload, nil
}

// lasts is for how long the approval counts, at most as long as the policy lets it.
func (o *approveOptions) lasts(most time.Duration) (time.Duration, error) {
	if o.expires > most {
		return 0, fault.Usagef("--expires %v: the policy lets an approval count for at most %v", o.expires, most)
	}
	return cmp.Or(o.expires, most), nil
}

func (o *approveOptions) baseCommit(r *opened) (string, error) {
	if o.base == "" || git.IsCommit(o.base) {
		return o.base, nil
	}
	return "", fault.Usagef("--base %s: want the whole id of a commit; git rev-parse prints it", cli.OneLine(o.base))
}

// sourceURI is a repository as a statement may name it: of a clone what it was cloned from,
// and nothing that only means something on this machine.
func sourceURI(at git.Location) string {
	if at.URL != "" {
		return at.URL
	}
	for _, remote := range remotes(filepath.Join(commonDir(at.Path), "config")) {
		if from, err := git.ParseLocation(remote, false); err == nil && from.URL != "" {
			return from.URL
		}
	}
	return input.Local
}

// approverKey finds the key that signs, and whose it is by the first of the documents that lists
// it for a use.
func (a *app) approverKey(o *approveOptions, use string, docs ...*authority.Document) (*sshsigner.Signer, authority.Holder, error) {
	var none authority.Holder
	names := strings.Join(approverNames(use, docs...), ", ")
	if o.key == "" {
		var keys []ssh.PublicKey
		for _, people := range docs {
			for _, h := range people.Keys(use) {
				if h.Key.Kind == authority.SSH && (o.as == "" || h.Principal.Name == o.as) {
					keys = append(keys, h.Key.SSH())
				}
			}
		}
		signer, err := sshsigner.Find(keys)
		if err != nil {
			return nil, none, err
		}
		if signer == nil && a.Env("SSH_AUTH_SOCK") == "" {
			return nil, none, fault.Hint(fault.Usagef("no key is named, and no ssh-agent is known: SSH_AUTH_SOCK is not set"),
				"start one and ssh-add the key, or name its file: --key FILE; those who may approve: %s", names)
		}
		if signer == nil {
			return nil, none, fault.Hint(fault.Usagef("your ssh-agent has no key that the policy lists to %s", use),
				"ssh-add the key, or name its file: --key FILE; they are of %s", names)
		}
		who, _ := holderOf(signer.PublicKey(), use, docs)
		return signer, who, nil
	}
	signer, err := sshsigner.Open(o.key, func() ([]byte, error) { return a.ReadPassword("passphrase of " + o.key + ": ") })
	if err != nil {
		return nil, none, fmt.Errorf("--key %s: %w", cli.OneLine(o.key), err)
	}
	who, ok := holderOf(signer.PublicKey(), use, docs)
	switch {
	case !ok:
		err = fault.Hint(fault.Usagef("%s is a key of nobody whom the policy names", ssh.FingerprintSHA256(signer.PublicKey())), "those who may %s: %s", use, names)
	case !who.Key.May(use):
		err = fault.Usagef("%s is a key of %s that may %s, and not %s", who.Key.ID(), who.Principal.Name, strings.Join(who.Key.Uses, ", "), use)
	case o.as != "" && who.Principal.Name != o.as:
		err = fault.Usagef("--as %s: %s is a key of %s", o.as, who.Key.ID(), who.Principal.Name)
	}
	if err != nil {
		return nil, none, errors.Join(err, signer.Close())
	}
	return signer, who, nil
}

// holderOf is whose a key is: preferably by a document that gives it the use.
func holderOf(key ssh.PublicKey, use string, docs []*authority.Document) (found authority.Holder, ok bool) {
	for _, people := range docs {
		h, listed := people.BySSH(key)
		switch {
		case listed && h.Key.May(use):
			return h, true
		case listed && !ok:
			found, ok = h, true
		}
	}
	return found, ok
}

// approverNames are the people with keys for a use.
func approverNames(use string, docs ...*authority.Document) []string {
	var out []string
	for _, people := range docs {
		for _, h := range people.Keys(use) {
			if !h.Principal.Machine && !slices.Contains(out, h.Principal.Name) {
				out = append(out, h.Principal.Name)
			}
		}
	}
	return out
}

func (a *app) exportApproval(o *approveOptions, r *opened, res *judge.Result) error {
	if err := o.checkAs(authority.UseApprove, r.folder.Authority); err != nil {
		return err
	}
	payload, err := o.payload(r, res, o.as)
	if err != nil {
		return err
	}
	return a.writeExport(o, payload, authority.UseApprove, r.folder.Authority)
}

// checkAs makes sure that --as names somebody with a key for a use.
func (o *approveOptions) checkAs(use string, docs ...*authority.Document) error {
	if names := approverNames(use, docs...); !slices.Contains(names, o.as) {
		return fault.Usagef("--as %s: the policy lists no such approver; it has %s", cli.OneLine(o.as), strings.Join(names, ", "))
	}
	return nil
}

// writeExport writes what is to be signed, and says how.
func (a *app) writeExport(o *approveOptions, payload []byte, use string, docs ...*authority.Document) error {
	if err := durable.WriteFile(o.export, approval.PAE(payload), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", o.export, err)
	}
	said := "sign it:  "
	for _, how := range o.waysToSign(use, docs) {
		a.Say("%s %s", said, how)
		said = "or:       "
	}
	then := "hallmark " + o.decision + " --attach " + cli.ShellQuote(o.export+".sig")
	if o.proposal != "" {
		then += " --proposal " + cli.ShellQuote(o.proposal)
	}
	if o.policy != "" {
		then += " --policy " + cli.ShellQuote(o.policy)
	}
	if o.repo != "." {
		then += " -C " + cli.ShellQuote(o.repo)
	}
	a.Say("then:      %s", then)
	return nil
}

// waysToSign are the commands that sign what was exported with the kinds of keys that the
// policy lists of this person. What cosign writes is attached under its own name.
func (o *approveOptions) waysToSign(use string, docs []*authority.Document) []string {
	file := cli.ShellQuote(o.export)
	var out []string
	var keys []authority.Holder
	for _, people := range docs {
		keys = append(keys, people.Keys(use)...)
	}
	for _, h := range keys {
		how := map[string]string{
			authority.SSH:      "ssh-keygen -Y sign -n " + approval.Namespace + " -f KEY " + file,
			authority.OpenPGP:  "gpg --detach-sign -u " + h.Key.ID() + " " + file,
			authority.X509:     "openssl cms -sign -binary -in " + file + " -signer CERT -inkey KEY -outform DER -out " + cli.ShellQuote(o.export+".sig"),
			authority.Sigstore: "cosign sign-blob --bundle " + cli.ShellQuote(o.export+".sig") + " " + file,
		}[h.Key.Kind]
		if h.Principal.Name == o.as && !slices.Contains(out, how) {
			out = append(out, how)
		}
	}
	return out
}

// attached joins what was exported and its signature.
func (o *approveOptions) attached() (*approval.Envelope, []byte, error) {
	exported := strings.TrimSuffix(o.attach, filepath.Ext(o.attach))
	if exported == o.attach {
		return nil, nil, fault.Hint(fault.Usagef("--attach %s: want the signature, as FILE.sig, beside the exported FILE", o.attach),
			"ssh-keygen -Y sign -n %s -f KEY %s makes it", approval.Namespace, o.attach)
	}
	pae, err := readSmall(exported, approval.MaxSize)
	if err != nil {
		return nil, nil, fault.As(fault.Usage, err)
	}
	sig, err := readSmall(o.attach, approval.MaxSize)
	if err != nil {
		return nil, nil, fault.Hint(fault.As(fault.Usage, err), "ssh-keygen -Y sign -n %s -f KEY %s makes it", approval.Namespace, exported)
	}
	envelope, err := approval.Attach(pae, sig)
	if err != nil {
		return nil, nil, fault.As(fault.Usage, fmt.Errorf("--attach %s: %w", o.attach, err))
	}
	e, why := approval.Parse(envelope)
	if why != nil {
		return nil, nil, fault.Usagef("--attach %s: %s", o.attach, why.Message)
	}
	if e.Statement.Decision != o.decision {
		return nil, nil, fault.Usagef("--attach %s: it says %s; use hallmark %s", o.attach, e.Statement.Decision, e.Statement.Decision)
	}
	return e, envelope, nil
}
