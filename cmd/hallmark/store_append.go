package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/store"
)

type storeAppendOptions struct {
	*storeOptions
	record, policy       string
	approvals            []string
	trustedRoot          string
	updater, fromUpdater string
}

func newStoreAppendCommand(a *app, o *storeOptions) *cobra.Command {
	w := storeAppendOptions{storeOptions: o}
	c := &cobra.Command{
		Use:   "append FOLDER",
		Short: "Take a policy record in",
		Long: `Take a policy record in, with the approvals and the policy that it names. It is judged as
every reader will judge it, under the trust root and for the updater that are named, and
is refused with the reader's code. What is acknowledged is on disk; store publish shows it.`,
		Example: `  hallmark store append ./store --keys ./store-keys --record record.json --policy policy.tar \
    --approval alice.json --approval bob.json --trusted-root updater-root.json \
    --updater https://github.com/hallmark-dev/hallmark/.github/workflows/signing-policy.yml@refs/tags/v1 \
    --updater-issuer https://token.actions.githubusercontent.com`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.refused(a.storeAppend(c.Context(), args[0], w))
		},
	}
	o.keyFlags(c)
	o.trustFlag(c)
	f := c.Flags()
	f.StringVar(&w.record, "record", "", "`FILE` with the record: the updater's Sigstore bundle (needed)")
	f.StringArrayVar(&w.approvals, "approval", nil, "`FILE` with an approval that the record names; repeatable")
	f.StringVar(&w.policy, "policy", "", "`FILE` with the policy bundle that the record names")
	f.StringVar(&w.updater, "updater", "", "`IDENTITY` of the updater's workflow (needed)")
	f.StringVar(&w.fromUpdater, "updater-issuer", "", "`URL` of the issuer of its token (needed)")
	f.StringVar(&w.trustedRoot, "trusted-root", "", "`FILE` with the trust root; \"public\" is Sigstore's public instance")
	return c
}

func (a *app) storeAppend(ctx context.Context, dir string, o storeAppendOptions) error {
	if o.record == "" || o.updater == "" || o.fromUpdater == "" {
		return fault.Usagef("store append: --record, --updater and --updater-issuer are needed")
	}
	var sub store.Submission
	var err error
	if sub.Record, err = readBounded(o.record, record.MaxFile); err != nil {
		return err
	}
	if o.policy != "" {
		if sub.Policy, err = readBounded(o.policy, record.MaxPolicy); err != nil {
			return err
		}
	}
	for _, name := range o.approvals {
		data, err := readBounded(name, approval.MaxSize)
		if err != nil {
			return err
		}
		sub.Evidence = append(sub.Evidence, data)
	}
	rules, err := a.storeRules(ctx, o.trustedRoot, o.updater, o.fromUpdater)
	if err != nil {
		return err
	}
	r, err := a.takeIn(ctx, dir, o.storeOptions, rules, sub)
	if err == nil {
		a.Print("%s version %d %s", r.Key, r.Version, r.Digest)
	}
	return err
}

// takeIn appends a record to a store, if its readers will believe it.
func (a *app) takeIn(ctx context.Context, dir string, o *storeOptions, rules *chain.Rules, sub store.Submission) (r *record.Record, err error) {
	err = a.withStore(ctx, dir, o, rules, func(s *store.Store) error {
		r, err = s.Append(ctx, sub)
		return err
	})
	return r, err
}

// readBounded reads a file that a call names, of at most limit bytes.
func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fault.As(fault.Usage, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fault.Usagef("%s has more than %d bytes", name, limit)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return data, nil
}
