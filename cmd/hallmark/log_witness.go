package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// logWitnessAnswer is the one line of log witness --json: printed once it answers.
type logWitnessAnswer struct {
	URL  string   `json:"url"`  // below which add-checkpoint is
	Key  string   `json:"key"`  // NAME+HASH+KEY, for trust bundles and hallmark up --witness
	Logs []string `json:"logs"` // origins that it watches
	Data string   `json:"data"` // the folder
}

type witnessOptions struct {
	*logOptions
	listen, name, data string
	tlsCert, tlsKey    string
	json               bool
}

func newLogWitnessCommand(a *app, o *logOptions) *cobra.Command {
	w := witnessOptions{logOptions: o}
	c := &cobra.Command{
		Use:   "witness",
		Short: "Run a witness that cosigns a log's checkpoints",
		Long: `Run a witness (c2sp.org/tlog-witness): it cosigns a checkpoint of the logs that it
watches when it extends the largest that it cosigned before, and nothing else. A log that
shows different people different trees then needs witnesses who lie for it.

It watches the logs of the trust root, closed ones too, or the one of --key. Run it on another machine
than the log, under somebody else's care; its folder must never be put back from an older
copy. It runs until Ctrl-C.`,
		Example: `  hallmark log witness --data ./witness
  hallmark log witness --data ./witness --name witness.example.com/w1 --listen 127.0.0.1:0 --json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.logWitness(c.Context(), w) },
	}
	f := c.Flags()
	f.StringVar(&w.data, "data", "", "`FOLDER` with its key and what it cosigned (needed)")
	f.StringVar(&w.listen, "listen", "127.0.0.1:8421", "`HOST:PORT` to listen on; port 0 takes a free one")
	f.StringVar(&w.name, "name", "", "its `NAME` in cosignatures (default HOST/witness of --listen)")
	f.StringVar(&w.tlsCert, "tls-cert", "", "certificate chain `FILE` (PEM): speak TLS")
	f.StringVar(&w.tlsKey, "tls-key", "", "private key `FILE` (PEM) of the certificate")
	f.BoolVar(&w.json, "json", false, "when ready, print one JSON object on one line")
	return c
}

// witnessedLogs are the logs that a witness is to watch.
func (a *app) witnessedLogs(ctx context.Context, o *logOptions) ([]translog.Log, error) {
	if o.key != "" {
		l, err := parseLogKey(o.key, o.origin)
		if err != nil {
			return nil, fault.Usagef("--key: %w", err)
		}
		return []translog.Log{l}, nil
	}
	bundle, err := a.TrustBundle(o.trust)
	if err != nil {
		return nil, err
	}
	roots, err := a.logRoots(ctx, o, bundle)
	if err != nil {
		return nil, err
	}
	var logs []translog.Log
	for _, c := range logCandidates(roots, false, true) {
		logs = append(logs, c.log)
	}
	if len(logs) == 0 {
		return nil, fault.Usagef("the trust root has no log of tiles: name one with --key")
	}
	return logs, nil
}

func (a *app) logWitness(ctx context.Context, o witnessOptions) error {
	if o.data == "" {
		return fault.Usagef("--data names the folder with the witness's key")
	}
	logs, err := a.witnessedLogs(ctx, o.logOptions)
	if err != nil {
		return err
	}
	l, url, err := witness.Listen(o.listen, o.tlsCert, o.tlsKey)
	if err != nil {
		return err
	}
	defer l.Close()
	if o.name == "" {
		host, _, err := net.SplitHostPort(o.listen)
		if err != nil {
			return err
		}
		o.name = host + "/witness"
	}
	dir, err := filepath.Abs(o.data)
	if err != nil {
		return err
	}
	s, err := witness.OpenServer(witness.ServerConfig{Dir: dir, Name: o.name, Logs: logs,
		Log: slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	answer := logWitnessAnswer{URL: url, Key: s.VerifierKey(), Data: dir}
	for _, l := range logs {
		answer.Logs = append(answer.Logs, l.Origin)
	}
	if o.json {
		line, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		a.Print("%s", line)
	} else {
		a.Print("hallmark log witness is ready: %s\n  key   %s\n  data  %s", url, answer.Key, dir)
		for _, origin := range answer.Logs {
			a.Print("  log   %s", cli.Plain(origin))
		}
		a.Print("\nThe log asks it with:\n  hallmark up --witness '%s %s'\n\nCtrl-C ends it.", answer.Key, url)
	}
	return s.Serve(ctx, l)
}
