package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/sandbox"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/inforce"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

// storedPolicy asks a policy store. A builder, which is asked for the repositories of everybody, has
// their rules compiled in a process of its own. Who rehearses named the repository themselves.
type storedPolicy struct {
	*inforce.Client
	worker *sandbox.Worker // nil: rules are compiled here
}

// openStore reads a store's configuration. The store is not asked yet.
func (a *app) openStore(ctx context.Context, file string, require bool, worker *sandbox.Worker) (*storedPolicy, *inforce.Config, error) {
	wrong := func(err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			err = fault.As(fault.Usage, err)
		}
		return fault.Hint(fmt.Errorf("--store-config: %w", err), "docs/signing-policy.md, \"By a store\", has an example")
	}
	cfg, err := inforce.Read(file)
	if err != nil {
		return nil, nil, wrong(err)
	}
	cfg.Require = cfg.Require || require
	root, err := a.TrustedRoot(ctx, cfg.TrustedRoot)
	if err != nil {
		return nil, nil, wrong(err)
	}
	s := &storedPolicy{worker: worker}
	options := rules.Options{Obligations: rules.ObligationTypes(), Print: func(line string) { a.Say("print: %s", cli.OneLine(line)) }}
	s.Client, err = inforce.Open(cfg, inforce.Options{Root: root, UserAgent: a.UserAgent(), PlainHTTP: a.PlainHTTP,
		Load: func(ctx context.Context, files map[string][]byte) (*rules.Policy, []policy.Reason, error) {
			if worker != nil {
				return rules.LoadSandboxed(ctx, worker, files, options)
			}
			p, why := rules.Load(files, options)
			return p, why, nil
		}})
	if err != nil {
		return nil, nil, wrong(err)
	}
	return s, cfg, nil
}

func (s *storedPolicy) close() {
	if s != nil && s.worker != nil {
		s.worker.Close()
	}
}

// openStored opens the store that the call names, and asks it.
func (r *opened) openStored(ctx context.Context, a *app) (err error) {
	switch {
	case r.o.policy != "":
		return fault.Usagef("--policy and --store-config: one at a time")
	case r.o.repository == "":
		return fault.Hint(fault.Usagef("--store-config: which repository?"), "--repository names it as the forge's CI does: github.com/id/123456")
	}
	if r.store, _, err = a.openStore(ctx, r.o.storeConfig, r.o.require, nil); err != nil {
		return err
	}
	r.keyless = r.store.Keyless()
	return r.ask(ctx)
}

// ask asks the store which policy is in force now.
func (r *opened) ask(ctx context.Context) error {
	if r.store == nil {
		return nil
	}
	answer, err := r.store.Ask(ctx, chain.Repository{Key: r.o.repository})
	if err != nil {
		return fmt.Errorf("the policy store: %w", err)
	}
	r.folder, r.absent, r.denied, r.warnings = answer.Folder, answer.Absent, answer.Denied, answer.Warnings
	return nil
}
