package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/proposal"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/repokey"
)

// policyDiff is what signing-policy diff prints with --json; docs/json.md has the table.
type policyDiff struct {
	Weakens bool              `json:"weakens"`
	Changes []proposal.Change `json:"changes"`
}

func newSigningDiffCommand(a *app) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Show what one signing policy changes of another",
		Long: `Show what the signing policy in the folder NEW changes of the one in OLD: people, keys,
roles, thresholds, delays, whether the rules are others. Lines that begin with WEAKENS let
something through that OLD does not. Whether other rules are weaker nobody can compute.`,
		Example: `  hallmark signing-policy diff .hallmark next`,
		Args:    cli.Args(cobra.ExactArgs(2)),
		RunE: func(_ *cobra.Command, argv []string) error {
			var sides [2]*record.Record
			for i, dir := range argv {
				folder, d, err := a.readSigningPolicy(dir)
				if err != nil {
					return err
				}
				if !d.Allowed {
					return a.Deny(d)
				}
				sides[i] = &record.Record{Doc: folder.Authority, Predicate: record.Predicate{Policy: recordPolicy(folder, record.Enforce)}}
			}
			changes := proposal.Diff(sides[0], sides[1])
			if asJSON {
				return a.PrintJSON(&policyDiff{Weakens: proposal.Weakens(changes), Changes: append([]proposal.Change{}, changes...)})
			}
			for _, line := range describeChanges(changes) {
				a.Print("%s", line)
			}
			if len(changes) == 0 {
				a.Say("nothing changes")
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// recordPolicy is the rules of a folder as a record names them.
func recordPolicy(f *judge.Folder, mode string) *record.Policy {
	bundle := f.Rules.Bundle()
	return &record.Policy{Bundle: evidence.SHA256(bundle), Size: int64(len(bundle)), Entrypoint: record.Entrypoint, InputSchema: "v1", Lib: "v1", Mode: mode}
}

type proposeOptions struct {
	storeRead
	key, name, ownerID string
	commit, branch     string
	previous           string
	action, mode       string
	out                string
	asJSON             bool
}

// storeRead is a store that is asked, and who is believed about it.
type storeRead struct {
	store                string
	trust                string
	trustedRoot          string
	updater, fromUpdater string
}

func newSigningProposeCommand(a *app) *cobra.Command {
	o := &proposeOptions{}
	c := &cobra.Command{
		Use:   "propose [DIR]",
		Short: "Propose a change of a repository's stored signing policy",
		Long: `Propose the signing policy in DIR (default .hallmark) as the next one of a repository: write
a file that its people approve (hallmark approve --proposal) and that becomes the record
of a store (hallmark signing-policy submit), and show what it changes of the policy in
force. The policy before it is that of --store, or of --previous, a record's file, which is
not verified here: a store takes no record that follows another. Without either it is
the first policy.`,
		Example: `  hallmark signing-policy propose next --repository github.com/id/123456 --name github.com/org/app --owner-id 42 \
    --commit 56ae342c12a9bb032e762c6fc648270f8027db40 -o proposal.json`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error {
			return a.refused(a.propose(c.Context(), o, append(argv, proposalFolder)[0]))
		},
	}
	f := c.Flags()
	f.StringVar(&o.key, "repository", "", "the `KEY` of the repository, HOST/id/NUMBER (needed)")
	f.StringVar(&o.name, "name", "", "its `NAME`, such as github.com/org/app (needed)")
	f.StringVar(&o.ownerID, "owner-id", "", "the `NUMBER` of its owner (needed)")
	f.StringVar(&o.commit, "commit", "", "the `COMMIT` that the policy is of; the updater must run at it (needed)")
	f.StringVar(&o.branch, "branch", "main", "the `BRANCH` that it is on")
	f.StringVar(&o.previous, "previous", "", "the `FILE` of the newest record")
	f.StringVar(&o.store, "store", "", "the `STORE` that has the newest record, a folder or a URL")
	f.StringVar(&o.trust, "trust", "", "`FILE` that says who the store's log is and who must cosign it")
	f.StringVar(&o.trustedRoot, "trusted-root", "", "`FILE` with the trust root; \"public\" is Sigstore's public instance")
	f.StringVar(&o.updater, "updater", "", "`IDENTITY` of the updater's workflow, whose records the store has")
	f.StringVar(&o.fromUpdater, "updater-issuer", "", "`URL` of the issuer of its token")
	f.StringVar(&o.action, "action", string(record.Set), "set, tombstone (no policy any more), rebind (other name or owner) or recover; an `ACTION`")
	f.StringVar(&o.mode, "mode", "", "enforce or warn, a `MODE` (default: as before, enforce at first)")
	f.StringVarP(&o.out, "output", "o", "", "write the proposal to `FILE` (needed)")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object")
	return c
}

// proposed is what signing-policy propose prints with --json; docs/json.md has the table.
type proposed struct {
	Proposal string            `json:"proposal"`
	File     string            `json:"file"`
	Version  int64             `json:"version"`
	Action   string            `json:"action"`
	Weakens  bool              `json:"weakens"`
	Changes  []proposal.Change `json:"changes"`
	Needs    []proposal.Need   `json:"needs"`
	Waits    string            `json:"waits"`
}

func (o *proposeOptions) check() error {
	_, kind, _ := repokey.Parts(o.key)
	switch {
	case o.key == "" || o.name == "" || o.ownerID == "" || o.commit == "" || o.out == "":
		return fault.Usagef("signing-policy propose: --repository, --name, --owner-id, --commit and -o are needed")
	case !repokey.Valid(o.key) || kind != "id":
		return fault.Usagef("--repository %s: want HOST/id/NUMBER, such as github.com/id/123456", cli.OneLine(o.key))
	case !git.IsCommit(o.commit):
		return fault.Usagef("--commit %s: want the whole id of a commit; git rev-parse prints it", cli.OneLine(o.commit))
	case o.previous != "" && o.store != "":
		return fault.Usagef("--previous and --store: one at a time")
	case o.store != "" && (o.trust == "" || o.updater == "" || o.fromUpdater == ""):
		return fault.Usagef("--store: --trust, --updater and --updater-issuer say who is believed about it")
	case o.mode != "" && o.mode != record.Enforce && o.mode != record.Warn:
		return fault.Usagef("--mode %s: want enforce or warn", cli.OneLine(o.mode))
	}
	switch record.Action(o.action) {
	case record.Set:
	case record.Tombstone, record.Rebind, record.Recover:
		if o.previous == "" && o.store == "" {
			return fault.Usagef("--action %s: of which policy? --previous or --store has it", o.action)
		}
	default:
		return fault.Usagef("--action %s: want set, tombstone, rebind or recover", cli.OneLine(o.action))
	}
	return nil
}

func (a *app) propose(ctx context.Context, o *proposeOptions, dir string) error {
	if err := o.check(); err != nil {
		return err
	}
	previous, inForce, err := a.before(ctx, o)
	if err != nil {
		return err
	}
	predicate, bundle, err := a.predicate(o, dir, inForce)
	if err != nil {
		return err
	}
	p, why := proposal.New(*predicate, bundle, previous, inForce)
	if p == nil {
		return a.Deny(policy.Deny(why...))
	}
	file, err := p.Marshal()
	if err != nil {
		return err
	}
	if err := durable.WriteFile(o.out, file, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", o.out, err)
	}
	standing := p.Judge(nil, nil, time.Now())
	if o.asJSON {
		changes := append([]proposal.Change{}, p.Changes()...)
		wait, _ := p.Delay(time.Now())
		return a.PrintJSON(&proposed{Proposal: string(p.ProposalDigest), File: o.out, Version: p.Version, Action: string(p.Action),
			Weakens: proposal.Weakens(changes), Changes: changes, Needs: standing.Needs, Waits: wait.String()})
	}
	for _, line := range append(describeProposal(p), describeNeeds(standing)...) {
		a.Print("%s", line)
	}
	a.Say("approve it: hallmark approve --proposal %s", cli.ShellQuote(o.out))
	return nil
}

// before is the newest record and the one in force, nil of a first policy.
func (a *app) before(ctx context.Context, o *proposeOptions) (previous, inForce *record.Record, err error) {
	switch {
	case o.previous != "":
		file, err := readSmall(o.previous, record.MaxFile)
		if err != nil {
			return nil, nil, fault.As(fault.Usage, err)
		}
		r, why := record.Open(file)
		if r == nil {
			return nil, nil, a.Deny(policy.Deny(why...))
		}
		if r.Version > 1 && r.EffectiveAt.After(time.Now()) {
			return nil, nil, fault.Hint(fault.Usagef("--previous %s: it is not in effect yet, and does not say which one is", o.previous), "ask the store: --store")
		}
		return r, r, nil
	case o.store != "":
		return a.stored(ctx, o)
	}
	return nil, nil, nil
}

// stored is what a store says of the repository.
func (a *app) stored(ctx context.Context, o *proposeOptions) (previous, inForce *record.Record, err error) {
	log, quorum, err := (&storeOptions{trust: o.trust}).readTrust()
	if err != nil {
		return nil, nil, err
	}
	rules, err := a.storeRules(ctx, o.trustedRoot, o.updater, o.fromUpdater)
	if err != nil {
		return nil, nil, err
	}
	source := ledger.Folder(o.store)
	if strings.Contains(o.store, "://") {
		if source, err = ledger.HTTP(o.store, ledger.HTTPOptions{UserAgent: a.UserAgent(), PlainHTTP: a.PlainHTTP}); err != nil {
			return nil, nil, err
		}
	}
	client, err := chain.New(chain.Config{Rules: *rules, Log: log, Quorum: quorum, Source: source})
	if err != nil {
		return nil, nil, err
	}
	newest, decides, err := client.Next(ctx, chain.Repository{Key: o.key, Name: o.name, OwnerID: o.ownerID})
	if err != nil || newest == nil {
		return nil, nil, err
	}
	return newest.Record, decides.Record, nil
}

// predicate is what the record is to say, without what its place in the chain says, and its rules.
func (a *app) predicate(o *proposeOptions, dir string, inForce *record.Record) (*record.Predicate, []byte, error) {
	p := &record.Predicate{Key: o.key, Name: o.name, OwnerID: o.ownerID, Action: record.Action(o.action),
		Source: record.Source{Commit: o.commit, Ref: "refs/heads/" + strings.TrimPrefix(o.branch, "refs/heads/")}}
	if p.Action == record.Tombstone {
		p.Authority = inForce.Authority // the people stay
		return p, nil, nil
	}
	folder, d, err := a.readSigningPolicy(dir)
	if err != nil {
		return nil, nil, err
	}
	if !d.Allowed {
		return nil, nil, a.Deny(d)
	}
	mode := o.mode
	if mode == "" && inForce != nil && inForce.Policy != nil {
		mode = inForce.Policy.Mode
	}
	if mode == "" {
		mode = record.Enforce
	}
	p.Policy = recordPolicy(folder, mode)
	if p.Action == record.Rebind {
		if inForce.Policy == nil || inForce.Policy.Bundle != p.Policy.Bundle || inForce.Policy.Mode != mode || !bytes.Equal(inForce.Doc.Canonical(), folder.Authority.Canonical()) {
			return nil, nil, fault.Hint(fault.Usagef("a rebind changes name and owner, and nothing else; %s has another policy", dir), "change the policy before or after it")
		}
		p.Policy, p.Authority = inForce.Policy, inForce.Authority
		return p, folder.Rules.Bundle(), nil
	}
	text, err := readSmall(folder.Dir+"/"+judge.AuthorityFile, authority.MaxSize)
	if err != nil {
		return nil, nil, err
	}
	p.Authority = text
	return p, folder.Rules.Bundle(), nil
}
