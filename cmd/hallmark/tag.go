package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/sshsigner"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/tagging"
)

type tagOptions struct {
	repo       string
	key        string
	gitSigns   bool
	message    string
	repository string
	push       string
	dirty      bool
	asJSON     bool
}

// tagAnswer is what tag prints with --json; docs/json.md has the table.
type tagAnswer struct {
	Ref        string `json:"ref"`
	ID         string `json:"id"`
	Commit     string `json:"commit"`
	Repository string `json:"repository,omitempty"`
	Key        string `json:"key,omitempty"`
	Pushed     string `json:"pushed,omitempty"`
}

func newTagCommand(a *app) *cobra.Command {
	o := &tagOptions{}
	c := &cobra.Command{
		Use:   "tag NAME [COMMIT]",
		Short: "Make a release tag: annotated, signed, of a named repository",
		Long: `Make a release tag: annotated, signed, and with the repository's key in what is
signed (--repository), so that it is of no use in another one.

The key is an SSH key of your ssh-agent, where those of tokens and HSMs (ssh-add
-s MODULE) and security keys are, too, or a file. With --git-signs git itself
signs, by your configuration (gpg.format, user.signingKey): OpenPGP and x509.`,
		Example: `  hallmark tag v1.5.0 --key hsm --repository github.com/id/123456
  hallmark tag v1.5.1 --key hsm --repository github.com/id/123456 --push origin
  hallmark tag v1.5.2 --git-signs`,
		Args: cli.Args(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, argv []string) error { return a.tag(c.Context(), o, argv) },
	}
	f := c.Flags()
	f.StringVarP(&o.repo, "repo", "C", ".", "your clone of the repository, a `DIR`")
	f.StringVar(&o.key, "key", "", "your SSH `KEY`: a file, or SHA256:… or the comment of one in the ssh-agent (default: the only one there)")
	f.BoolVar(&o.gitSigns, "git-signs", false, "let git sign by your configuration")
	f.StringVarP(&o.message, "message", "m", "", "the tag's `MESSAGE` (default its name)")
	f.StringVar(&o.repository, "repository", "", "the repository's `KEY`, which is signed: github.com/id/123456")
	f.StringVar(&o.push, "push", "", "push the tag to this `REMOTE` of the clone")
	f.BoolVar(&o.dirty, "allow-dirty", false, "tag HEAD although files are changed")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) tag(ctx context.Context, o *tagOptions, argv []string) (err error) {
	if o.repository != "" && !git.ValidRepositoryKey(o.repository) {
		return fault.Usagef("--repository %s: want HOST/id/NUMBER, such as github.com/id/123456", cli.OneLine(o.repository))
	}
	if o.gitSigns && o.key != "" {
		return fault.Usagef("--key and --git-signs: git takes the key of your configuration (user.signingKey)")
	}
	want := tagging.Request{Clone: o.repo, Name: strings.TrimPrefix(argv[0], "refs/tags/"), Message: o.message, Repository: o.repository, AllowDirty: o.dirty}
	if len(argv) == 2 {
		want.Target = argv[1]
	}
	if !o.gitSigns {
		want.Signer, err = sshsigner.Open(o.key, func() ([]byte, error) { return a.ReadPassword("passphrase of " + o.key + ": ") })
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, want.Signer.Close()) }()
		if strings.HasPrefix(want.Signer.PublicKey().Type(), "sk-") {
			a.Say("touch your security key")
		}
	}
	made, err := tagging.Make(ctx, want)
	if err != nil {
		return err
	}
	answer := tagAnswer{Ref: made.Ref, ID: made.ID, Commit: made.Commit, Repository: o.repository}
	if want.Signer != nil {
		answer.Key = fingerprintOf(want.Signer)
	}
	if o.push != "" {
		if err := made.Push(ctx, o.repo, o.push); err != nil {
			return fault.Hint(fmt.Errorf("the tag is in your clone, but not pushed: %w", err), "git push %s %s", cli.ShellQuote(o.push), made.Ref)
		}
		answer.Pushed = o.push
	}
	if o.asJSON {
		return a.PrintJSON(answer)
	}
	a.Print("tag        %s %s", strings.TrimPrefix(made.Ref, "refs/tags/"), made.ID)
	a.Print("commit     %s", made.Commit)
	if answer.Key != "" {
		a.Print("signed by  ssh %s", answer.Key)
	}
	if o.repository != "" {
		a.Print("repository %s", o.repository)
	} else {
		a.Warn("the tag does not say of which repository it is; --repository does, and a policy may demand it")
	}
	if answer.Pushed != "" {
		a.Print("pushed     %s", answer.Pushed)
	}
	return nil
}
