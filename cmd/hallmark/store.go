package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/store"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// Names in the folder of a store's keys.
const (
	storeLogKey   = "log.pem"
	storeClockKey = "clock.pem"
	storeTrust    = "trust"
)

type storeOptions struct {
	keys, trust string
	witnesses   []string
}

func newStoreCommand(a *app) *cobra.Command {
	var o storeOptions
	c := &cobra.Command{
		Use:   "store",
		Short: "Keep a store of signing policies",
		Long: `Keep a store of signing policies: a folder of static files that any web server, bucket
or git host can serve. Who reads it trusts neither who keeps nor who serves it
(docs/policy-store.md).`,
		Example: `  hallmark store init ./new-store --keys ./new-keys --origin policy.example/v1
  hallmark store publish ./store --keys ./store-keys   # every quarter of an hour
  hallmark store verify ./store --trust ./store-keys/trust`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newStoreInitCommand(a, &o), newStoreAppendCommand(a, &o), newStorePublishCommand(a, &o), newStoreVerifyCommand(a, &o))
	return c
}

func (o *storeOptions) keyFlags(c *cobra.Command) {
	c.Flags().StringVar(&o.keys, "keys", "", "`FOLDER` with the store's keys (needed); keep it away from what is served")
	c.Flags().StringArrayVar(&o.witnesses, "witness", nil, "`\"NAME+HASH+KEY URL\"` of a witness that cosigns heads; repeatable")
}

func (o *storeOptions) trustFlag(c *cobra.Command) {
	c.Flags().StringVar(&o.trust, "trust", "", "`FILE` that says who the log is and who must cosign it (default: trust in --keys)")
}

func newStoreInitCommand(a *app, o *storeOptions) *cobra.Command {
	var origin string
	c := &cobra.Command{
		Use:   "init FOLDER",
		Short: "Make a store and its keys, and show its first head",
		Long: `Make a store in a folder that is empty or not there. The keys of its log and of its clock,
and the trust file that clients are given, are made in the folder of --keys. Add
witnesses to the trust file when there are any.`,
		Example: `  hallmark store init ./new-store --keys ./new-keys --origin policy.example/v1`,
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.refused(a.storeInit(c.Context(), args[0], origin, o))
		},
	}
	o.keyFlags(c)
	c.Flags().StringVar(&origin, "origin", "", "the log's `NAME` for ever, such as policy.example/v1 (needed)")
	return c
}

func newStorePublishCommand(a *app, o *storeOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "publish FOLDER",
		Short: "Show a head that covers all that was appended",
		Long: `Show a head that covers all that was appended, cosigned now. Run it every quarter of an
hour, also without news: readers refuse a head that is older than a day. Without the
quorum of the trust file the head that was shown before stays.`,
		Example: `  hallmark store publish ./store --keys ./store-keys`,
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.refused(a.withStore(c.Context(), args[0], o, nil, func(s *store.Store) error {
				h, err := s.Publish(c.Context())
				if err == nil {
					a.Print("published %d leaves", h.Size)
				}
				return err
			}))
		},
	}
	o.keyFlags(c)
	o.trustFlag(c)
	return c
}

func newStoreVerifyCommand(a *app, o *storeOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "verify STORE",
		Short: "Replay a store's whole log and compare its maps and files",
		Long: `Replay the whole log of a store, a folder or a URL, and compare each map that it ever
committed to, and all files that it names. Whether people approved the records is for
who asks for a policy.`,
		Example: `  hallmark store verify ./store --trust ./store-keys/trust`,
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.refused(a.storeVerify(c.Context(), args[0], o))
		},
	}
	o.trustFlag(c)
	return c
}

// refused prints what a store refuses as a denial.
func (a *app) refused(err error) error {
	var r *ledger.Refusal
	if errors.As(err, &r) {
		return a.Deny(policy.Deny(r.Reason))
	}
	return err
}

func (a *app) storeInit(ctx context.Context, dir, origin string, o *storeOptions) error {
	if o.keys == "" || origin == "" {
		return fault.Usagef("store init: --keys and --origin are needed")
	}
	log, clock, err := newStoreKeys(o.keys, dir)
	if err != nil {
		return err
	}
	public := func(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }
	text := fmt.Sprintf("# who believes this store of signing policies (c2sp.org/tlog-policy)\nlog %s\nwitness clock %s\nquorum clock\n",
		ledger.VerifierKey(origin, public(log)), ledger.CosignerKey(origin+"/clock", public(clock)))
	if _, _, _, err := ledger.ParseTrust([]byte(text)); err != nil {
		return fault.Usagef("--origin: %w", err)
	}
	for name, data := range map[string][]byte{storeLogKey: keyPEM(log), storeClockKey: keyPEM(clock), storeTrust: []byte(text)} {
		if err := durable.WriteFile(filepath.Join(o.keys, name), data, 0o600); err != nil {
			return fmt.Errorf("store init: %w", err)
		}
	}
	cfg, done, err := a.storeConfig(dir, o)
	if err != nil {
		return err
	}
	defer done()
	if err := store.Init(ctx, cfg); err != nil {
		return err
	}
	a.Print("%s", filepath.Join(o.keys, storeTrust))
	a.Say("the store is in %s; give clients the trust file", dir)
	return nil
}

// newStoreKeys makes keys in a folder that has none and is not the store's.
func newStoreKeys(keys, dir string) (log, clock ed25519.PrivateKey, err error) {
	if inside(keys, dir) {
		return nil, nil, fault.Usagef("store init: --keys %s is in the store, which is served", keys)
	}
	if err := durable.MkdirAll(keys, 0o700); err != nil {
		return nil, nil, fmt.Errorf("store init: %w", err)
	}
	for _, name := range []string{storeLogKey, storeClockKey, storeTrust} {
		if _, err := os.Lstat(filepath.Join(keys, name)); err == nil {
			return nil, nil, fault.Usagef("store init: %s is there already", filepath.Join(keys, name))
		}
	}
	if _, log, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, nil, err
	}
	_, clock, err = ed25519.GenerateKey(rand.Reader)
	return log, clock, err
}

func keyPEM(k ed25519.PrivateKey) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		panic(err) // it cannot fail for an Ed25519 key
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func readStoreKey(path string) (ed25519.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.As(fault.Usage, fmt.Errorf("the store's key: %w", err))
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		return nil, fmt.Errorf("the store's key %s is no PEM private key", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := k.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("the store's key %s is no Ed25519 key", path)
	}
	return key, nil
}

func (o *storeOptions) readTrust() (translog.Log, ledger.Quorum, error) {
	path := o.trust
	if path == "" {
		path = filepath.Join(o.keys, storeTrust)
	}
	if o.trust == "" && o.keys == "" {
		return translog.Log{}, ledger.Quorum{}, fault.Usagef("--trust says who the store's log is")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return translog.Log{}, ledger.Quorum{}, fault.As(fault.Usage, fmt.Errorf("the store's trust file: %w", err))
	}
	log, quorum, _, err := ledger.ParseTrust(data)
	return log, quorum, err
}

// storeConfig is how a store is opened for writing, without rules.
func (a *app) storeConfig(dir string, o *storeOptions) (cfg store.Config, done func(), err error) {
	if o.keys == "" {
		return cfg, nil, fault.Usagef("--keys is needed: the folder with the store's keys")
	}
	cfg = store.Config{Dir: dir}
	log, quorum, err := o.readTrust()
	if err != nil {
		return cfg, nil, err
	}
	cfg.Origin, cfg.Quorum, cfg.ClockName = log.Origin, quorum, log.Origin+"/clock"
	if cfg.Key, err = readStoreKey(filepath.Join(o.keys, storeLogKey)); err != nil {
		return cfg, nil, err
	}
	if cfg.Clock, err = readStoreKey(filepath.Join(o.keys, storeClockKey)); err != nil {
		return cfg, nil, err
	}
	if len(o.witnesses) == 0 {
		return cfg, func() {}, nil
	}
	var targets []witness.Target
	for _, w := range o.witnesses {
		t, err := witness.ParseTarget(w, a.PlainHTTP)
		if err != nil {
			return cfg, nil, fault.Usagef("--witness: %w", err)
		}
		targets = append(targets, t)
	}
	group, err := witness.NewGroup(witness.GroupConfig{Targets: targets, Wait: 10 * time.Second})
	if err != nil {
		return cfg, nil, err
	}
	cfg.Witnesses = group
	return cfg, group.Close, nil
}

func (a *app) withStore(ctx context.Context, dir string, o *storeOptions, rules *chain.Rules, do func(*store.Store) error) error {
	cfg, done, err := a.storeConfig(dir, o)
	if err != nil {
		return err
	}
	defer done()
	cfg.Rules = rules
	s, err := store.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	return do(s)
}

func (a *app) storeVerify(ctx context.Context, where string, o *storeOptions) error {
	log, quorum, err := o.readTrust()
	if err != nil {
		return err
	}
	source := ledger.Folder(where)
	if strings.Contains(where, "://") {
		if source, err = ledger.HTTP(where, ledger.HTTPOptions{UserAgent: a.UserAgent(), PlainHTTP: a.PlainHTTP}); err != nil {
			return err
		}
	}
	c, err := store.Check(ctx, source, log, quorum)
	if err != nil {
		return err
	}
	a.Print("%d leaves, %d records, %d notices, %d maps; head of %s", c.Head.Size, c.Records, c.Notices, c.Maps, c.HeadTime.Format(time.RFC3339))
	return nil
}

// storeRules judge what is submitted, as readers do.
func (a *app) storeRules(ctx context.Context, trustedRoot, updater, issuer string) (*chain.Rules, error) {
	root, err := a.TrustedRoot(ctx, trustedRoot)
	if err != nil {
		return nil, err
	}
	v, err := verify.New(verify.Config{Roots: []*trust.Root{root}})
	if err != nil {
		return nil, err
	}
	return chain.PrepareRules(chain.Rules{Verifier: v, Updaters: []policy.Identity{{Subject: updater, Issuer: issuer}}})
}
