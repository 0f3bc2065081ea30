package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/cli"
)

type replicaOptions struct {
	authority.Config
	logFormat, logLevel string
}

func newAuthorityReplicaCommand(a *app) *cobra.Command {
	var o replicaOptions
	c := &cobra.Command{
		Use:   "replica",
		Short: "Serve certificates and timestamps from a copy of the folder",
		Long: `Serve the certificate authority and the timestamp authority of a data folder and
nothing else, as many times as there are machines. A replica writes nothing and takes no
lock: of the folder it needs authority.json and keys, which may be a read-only copy, and
of a key that is elsewhere its reference. It asks the authority's URL for the keys of its
issuer. Put a balancer before all of them that
keeps the Host header and routes /api/v2/signingCert, /api/v2/trustBundle,
/api/v2/configuration, /api/v1/signingCert, /api/v1/rootCert and /api/v1/timestamp to them,
and all else to hallmark up.

After hallmark authority rotate, copy the folder again and start it anew before the new
key signs. It runs until Ctrl-C.`,
		Example: `  hallmark authority replica --data ./stopped --listen 127.0.0.1:0`,
		Args:    cli.Args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return a.runReplica(c.Context(), o) },
	}
	addDataFlag(a, c, &o.Dir)
	f := c.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:8423", "`HOST:PORT` to listen on; port 0 takes a free one")
	f.StringVar(&o.URL, "url", "", "base `URL` that others use (default that of the folder's authority)")
	f.StringVar(&o.TLSCert, "tls-cert", "", "certificate chain `FILE` (PEM): speak TLS")
	f.StringVar(&o.TLSKey, "tls-key", "", "private key `FILE` (PEM) of the certificate")
	f.StringVar(&o.KeysFile, "keys", "", "YAML `FILE` that says where the services' keys are")
	f.StringVar(&o.CAConfig, "ca-config", "", "YAML or JSON `FILE` with other issuers, as hallmark up takes it")
	f.StringVar(&o.logFormat, "log-format", "text", "`FORMAT` of the log on standard error: text or json")
	f.StringVar(&o.logLevel, "log-level", "warn", "least `LEVEL` that is logged: error, warn, info (a line for every request) or debug")
	return c
}

func (a *app) runReplica(ctx context.Context, o replicaOptions) (err error) {
	if o.Dir, err = a.dataDir(o.Dir); err != nil {
		return err
	}
	if o.Log, err = newLogger(a.Stderr, o.logFormat, o.logLevel); err != nil {
		return err
	}
	o.Version, o.OpenKey = a.Version, a.openKey
	r, err := authority.OpenReplica(o.Config)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	a.Print("hallmark authority replica is ready: %s answers for %s\n\nCtrl-C ends it.", r.Address(), r.Info().URL)
	return r.Serve(ctx)
}
