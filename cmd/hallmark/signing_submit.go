package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/proposal"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/store"
)

// publishMargin is how much later than it must a record that waits is in effect when nobody says: it
// is logged when the store next publishes, and one that is in effect too soon is refused for good.
const publishMargin = time.Hour

type submitOptions struct {
	signerOptions
	store       storeOptions
	dir         string
	approvals   []string
	effective   string
	updater     string
	fromUpdater string
	out         string
	asJSON      bool
}

func newSigningSubmitCommand(a *app) *cobra.Command {
	o := &submitOptions{}
	c := &cobra.Command{
		Use:   "submit PROPOSAL",
		Short: "Sign an approved proposal as its updater, and append it to a store",
		Long: `Make the record of a proposal that its people approved: sign it with the identity of the
job that this runs in, which must be the updater's workflow, and append it to the store in
the folder of --store. What is not approved is refused before anything is signed, and the
store judges the record as its readers will. hallmark store publish shows it.`,
		Example: `  hallmark signing-policy submit proposal.json --approval alice.json --approval bob.json --store ./store --keys ./store-keys \
    --updater https://github.com/hallmark-dev/hallmark/.github/workflows/signing-policy.yml@refs/tags/v1 \
    --updater-issuer https://token.actions.githubusercontent.com  # exit 3: these are approvals of another proposal`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, argv []string) error {
			return a.refused(a.submit(c.Context(), o, argv[0]))
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.approvals, "approval", nil, "`FILE` with an approval of the proposal; repeatable")
	f.StringVar(&o.effective, "effective-at", "", "`TIME` from which it is in effect: RFC 3339, or +DURATION from now (default: as soon as it may be)")
	f.StringVar(&o.dir, "store", "", "`FOLDER` of the store (needed)")
	f.StringVar(&o.store.keys, "keys", "", "`FOLDER` with the store's keys (needed)")
	o.store.trustFlag(c)
	f.StringVar(&o.updater, "updater", "", "`IDENTITY` of the updater's workflow (needed)")
	f.StringVar(&o.fromUpdater, "updater-issuer", "", "`URL` of the issuer of its token (needed)")
	f.StringVarP(&o.out, "output", "o", "", "write the record to `FILE`, too")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object")
	o.addIdentity(c)
	o.addYes(c)
	o.addSigning(c)
	return c
}

// submitted is what signing-policy submit prints with --json; docs/json.md has the table.
type submitted struct {
	Repository string    `json:"repository"`
	Version    int64     `json:"version"`
	Record     string    `json:"record"`
	Effective  time.Time `json:"effective"`
	Approvals  []string  `json:"approvals"`
}

func (a *app) submit(ctx context.Context, o *submitOptions, file string) error {
	if o.dir == "" || o.store.keys == "" || o.updater == "" || o.fromUpdater == "" {
		return fault.Usagef("signing-policy submit: --store, --keys, --updater and --updater-issuer are needed")
	}
	if err := o.check(); err != nil {
		return err
	}
	p, err := a.readProposal(file)
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	approved, envelopes, err := a.approvedBy(o, p, now)
	if err != nil {
		return err
	}
	effective, err := o.effectiveAt(p, now)
	if err != nil {
		return err
	}
	rules, err := a.storeRules(ctx, o.trustedRoot, o.updater, o.fromUpdater)
	if err != nil {
		return err
	}
	payload, why := p.Statement(now, effective, approved)
	if payload == nil {
		return a.Deny(policy.Deny(why...))
	}
	bundle, err := a.signRecord(ctx, &o.signerOptions, payload)
	if err != nil {
		return err
	}
	r, err := a.takeIn(ctx, o.dir, &o.store, rules, store.Submission{Record: bundle, Evidence: envelopes, Policy: p.Bundle})
	if err != nil {
		return err
	}
	if o.out != "" {
		if err := durable.WriteFile(o.out, r.File, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", o.out, err)
		}
	}
	if o.asJSON {
		out := &submitted{Repository: r.Key, Version: r.Version, Record: string(r.Digest), Effective: r.EffectiveAt, Approvals: []string{}}
		for _, d := range r.Evidence {
			out.Approvals = append(out.Approvals, string(d))
		}
		return a.PrintJSON(out)
	}
	a.Print("%s version %d %s", r.Key, r.Version, r.Digest)
	a.Print("in effect  %s", r.EffectiveAt.Format(time.RFC3339))
	if wait, _ := p.Delay(now); wait > 0 {
		a.Say("publish it before %s: a record that waits less than %s from when the store shows it is refused for good", effective.Add(-wait).Format(time.RFC3339), wait)
	}
	return nil
}

// approvedBy are the approvals that count. Without enough of them nothing is signed.
func (a *app) approvedBy(o *submitOptions, p *proposal.Proposal, now time.Time) ([]approval.Approval, [][]byte, error) {
	var found []approval.Found
	byID := map[string][]byte{}
	for _, name := range o.approvals {
		data, err := readBounded(name, approval.MaxSize)
		if err != nil {
			return nil, nil, err
		}
		found = append(found, approval.Found{Where: name, Data: data})
		if e, why := approval.Parse(data); why == nil {
			byID[e.ID] = data
		}
	}
	s := p.Judge(found, nil, now)
	for _, r := range s.Rejected {
		a.Say("  ignored [%s] %s: %s", r.Code, cli.OneLine(r.Where), cli.OneLine(r.Message))
	}
	if !s.Reached() {
		lines := describeNeeds(s)
		for i := range lines {
			lines[i] = strings.TrimSpace(strings.TrimPrefix(lines[i], "needs"))
		}
		return nil, nil, a.Deny(policy.Deny(policy.Reason{Code: chain.CodeNotApproved, Subject: p.Key,
			Message: fmt.Sprintf("version %d of the policy of %s is not approved: %s", p.Version, p.Key, strings.Join(lines, "; ")),
			Hint:    "have the people who are missing look at the change and approve it"}))
	}
	var envelopes [][]byte
	for _, v := range s.Valid {
		envelopes = append(envelopes, byID[v.ID])
	}
	return s.Valid, envelopes, nil
}

// effectiveAt is from when on the record is in effect.
func (o *submitOptions) effectiveAt(p *proposal.Proposal, now time.Time) (time.Time, error) {
	wait, why := p.Delay(now)
	if o.effective == "" {
		if wait > 0 {
			wait += publishMargin
		}
		return now.Add(wait), nil
	}
	at, err := time.Parse(time.RFC3339, o.effective)
	if d, ok := strings.CutPrefix(o.effective, "+"); ok {
		var in time.Duration
		in, err = time.ParseDuration(d)
		at = now.Add(in)
	}
	switch {
	case err != nil:
		return at, fault.Usagef("--effective-at %s: want a time such as 2026-12-01T12:00:00Z, or +25h", cli.OneLine(o.effective))
	case at.Before(now.Add(wait)) && wait > 0:
		return at, fault.Usagef("--effective-at %s: %s waits %s from when the store shows it", cli.OneLine(o.effective), why, wait)
	}
	return at.UTC().Truncate(time.Second), nil
}

// signRecord signs a record keyless, as the job that this is.
func (a *app) signRecord(ctx context.Context, o *signerOptions, payload []byte) ([]byte, error) {
	st, err := sign.ReadyStatement(payload)
	if err != nil {
		return nil, err
	}
	signer, err := a.newSigner(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := a.consent(signer, o, []*sign.Statement{st}); err != nil {
		return nil, err
	}
	signed, err := signer.Sign(ctx, st)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(signed.Reader())
}
