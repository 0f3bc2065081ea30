package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/witness"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// envData names the data folder of hallmark up; the closed list of environment
// variables is in docs/manual.md.
const envData = "HALLMARK_DATA"

const defaultListen = "127.0.0.1:8420"

type upOptions struct {
	authority.Config
	login      string // e-mail address of the one-time code
	rehearse   bool
	claimsFile string
	witnesses  []string
	json       bool
	logFormat  string
	logLevel   string
}

// upAnswer is the one line of up --json: printed once everything answers.
type upAnswer struct {
	URL           string `json:"url"`             // base URL
	Registry      string `json:"registry"`        // host:port for image names
	Issuer        string `json:"issuer"`          // of identity tokens
	TUF           string `json:"tuf"`             // base URL of the TUF repository
	TUFRootSHA256 string `json:"tuf_root_sha256"` // for cosign initialize --root-checksum
	TrustedRoot   string `json:"trusted_root"`    // path
	SigningConfig string `json:"signing_config"`  // path
	TrustRoot     string `json:"trust_root"`      // path of the TrustRoot for admission
	Data          string `json:"data"`            // the data folder
	Rehearsal     any    `json:"rehearsal,omitempty"`
}

// rehearsalAnswer is what a rehearsed GitHub Actions job needs in its environment.
type rehearsalAnswer struct {
	URL   string `json:"ACTIONS_ID_TOKEN_REQUEST_URL"`
	Token string `json:"ACTIONS_ID_TOKEN_REQUEST_TOKEN"`
}

func newUpCommand(a *app) *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use:   "up",
		Short: "Run a private Sigstore and registry on this machine",
		Long: `Run a private Sigstore and registry on this machine: identity tokens, certificates,
transparency log, timestamps, TUF and an OCI registry in one process, on one port
and in one folder. hallmark needs no flags to use it, and neither does cosign after
the cosign initialize that is printed.

It runs until Ctrl-C. Everything that it has acknowledged is on disk by then, and
also after a crash: the next start with the same folder goes on.`,
		Example: `  hallmark up
  hallmark up --data ./sigstore --listen 127.0.0.1:0 --json
  hallmark up --rehearse-github --claims claims.json
  hallmark up --data ./shared --listen 0.0.0.0:8420 --url https://sigstore.example.com:8420 \
    --tls-cert cert.pem --tls-key key.pem --registry-user-file users.htpasswd \
    --registry-config registry.yaml --ca-config issuers.yaml`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.runUp(c.Context(), o) },
	}
	addDataFlag(a, c, &o.Dir)
	f := c.Flags()
	f.StringVar(&o.Listen, "listen", defaultListen, "`HOST:PORT` to listen on; port 0 takes a free one")
	f.StringVar(&o.URL, "url", "", "base `URL` that others use, when it is not that of --listen")
	f.StringVar(&o.TLSCert, "tls-cert", "", "certificate chain `FILE` (PEM): speak TLS")
	f.StringVar(&o.TLSKey, "tls-key", "", "private key `FILE` (PEM) of the certificate")
	f.StringVar(&o.RegistryUsers, "registry-user-file", "", "htpasswd `FILE` (bcrypt): who may log in to the registry")
	f.StringVar(&o.RegistryConfig, "registry-config", "", "YAML `FILE` with the registry's rights, quotas and garbage collection")
	f.StringVar(&o.CAConfig, "ca-config", "", "YAML or JSON `FILE` as Fulcio's: other issuers of identity tokens, and a CT log")
	f.StringVar(&o.KeysFile, "keys", "", "YAML `FILE` that says where the services' keys are, when not in the data folder")
	f.StringVar(&o.login, "login", "", "`EMAIL` that the printed one-time code logs in as (default USER@localhost)")
	f.BoolVar(&o.rehearse, "rehearse-github", false, "also hand out GitHub-Actions-shaped tokens with the claims of --claims")
	f.StringVar(&o.claimsFile, "claims", "", "JSON `FILE` with the claims of rehearsed tokens")
	f.StringVar(&o.logFormat, "log-format", "text", "`FORMAT` of the log on standard error: text or json")
	f.StringVar(&o.logLevel, "log-level", "warn", "least `LEVEL` that is logged: error, warn, info (a line for every request) or debug")
	f.StringArrayVar(&o.witnesses, "witness", nil, "\"`KEY URL`\" of a witness that cosigns the log; may be repeated")
	f.IntVar(&o.WitnessQuorum, "witness-quorum", 0, "wait for `N` of the witnesses (default all), a second at most")
	f.BoolVar(&o.json, "json", false, "when ready, print one JSON object on one line")
	c.AddCommand(newUpEnvCommand(a), newUpUserCommand(a))
	return c
}

// addDataFlag adds --data with its default from the environment.
func addDataFlag(a *app, c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "data", "", "data `FOLDER` (default $"+envData+" or ~/.local/share/hallmark)")
}

// dataDir is the folder that --data, HALLMARK_DATA or the home folder names.
func (a *app) dataDir(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if dir := a.Env(envData); dir != "" {
		return dir, nil
	}
	home := a.Env("HOME")
	if home == "" {
		return "", fault.Usagef("no home folder is known: name the data folder with --data")
	}
	return filepath.Join(home, ".local", "share", "hallmark"), nil
}

func (a *app) runUp(ctx context.Context, o upOptions) error {
	if o.rehearse != (o.claimsFile != "") {
		return fault.Usagef("--rehearse-github and --claims FILE belong together")
	}
	var err error
	if o.Dir, err = a.dataDir(o.Dir); err != nil {
		return err
	}
	for _, w := range o.witnesses {
		t, err := witness.ParseTarget(w, a.PlainHTTP)
		if err != nil {
			return fault.As(fault.Usage, fmt.Errorf("--witness: %w", err))
		}
		o.Witnesses = append(o.Witnesses, t)
	}
	if o.rehearse {
		if o.RehearseClaims, err = os.ReadFile(o.claimsFile); err != nil {
			return fmt.Errorf("claims of the rehearsal: %w", err)
		}
		o.RehearseServer = a.Env("GITHUB_SERVER_URL")
	}
	if o.login == "" {
		user := a.Env("USER")
		if user == "" {
			user = "me"
		}
		o.login = user + "@localhost"
	}
	if o.Log, err = newLogger(a.Stderr, o.logFormat, o.logLevel); err != nil {
		return err
	}
	o.Version, o.OpenKey = a.Version, a.openKey
	up, err := authority.Open(o.Config)
	if err != nil {
		return err
	}
	defer func() { _ = up.Close() }()
	if err := a.announce(up, o); err != nil {
		return err
	}
	if err := up.Serve(ctx); err != nil {
		return err
	}
	if err := up.Close(); err != nil {
		return err
	}
	if !o.json {
		a.Say("stopped; everything is kept in %s", up.Info().Dir)
	}
	return nil
}

// newLogger is the log of a server, one line for each record.
func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	levels := map[string]slog.Level{"error": slog.LevelError, "warn": slog.LevelWarn, "info": slog.LevelInfo, "debug": slog.LevelDebug}
	least, ok := levels[level]
	if !ok {
		return nil, fault.Usagef("--log-level %q is none of error, warn, info and debug", level)
	}
	o := &slog.HandlerOptions{Level: least}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, fault.Usagef("--log-format %q is neither text nor json", format)
}

// announce says that the authority is ready and what to do with it. The socket
// is open: whoever reads this can connect.
func (a *app) announce(up *authority.Authority, o upOptions) error {
	i := up.Info()
	rehearsal, on := up.Rehearsal()
	if o.json {
		answer := upAnswer{
			URL: i.URL, Registry: i.Registry, Issuer: i.Issuer, TUF: i.TUF, TUFRootSHA256: i.TUFRootSHA256,
			TrustedRoot: i.TrustedRoot, SigningConfig: i.SigningConfig, TrustRoot: i.TrustRoot, Data: i.Dir,
		}
		if on {
			answer.Rehearsal = rehearsalAnswer{rehearsal.URL, rehearsal.Token}
		}
		line, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		a.Print("%s", line)
		return nil
	}
	code, err := up.NewOneTimeCode(o.login)
	if err != nil {
		return err
	}
	data := ""
	if standard, err := a.dataDir(""); err != nil || filepath.Clean(standard) != i.Dir {
		data = " --data " + cli.ShellQuote(i.Dir)
	}
	lines := []string{
		"hallmark up is ready: " + i.URL,
		"  registry  " + i.Registry,
		"  data      " + i.Dir,
		"",
		"In another terminal, for hallmark:",
		`  eval "$(hallmark up env` + data + `)"`,
		"  hallmark sign " + i.Registry + "/IMAGE",
		"",
		"For cosign, after the same eval:",
		"  cosign initialize --mirror " + i.TUF + " --root " + i.TUF + "/root.json --root-checksum " + i.TUFRootSHA256,
		"  cosign sign " + i.Registry + "/IMAGE",
		"cosign 2 also wants, with sign and attest (docs/older-clients.md):",
		"  --fulcio-url " + i.URL + " --rekor-url " + i.URL + " --oidc-issuer " + i.Issuer,
		"",
		"Who signs proves who they are with a login secret:",
		"  once    " + o.login + " with the code " + code,
		"  always  hallmark up user add" + data + " EMAIL",
		"  here    hallmark token" + data + " --email EMAIL   prints a token without a login",
	}
	if on {
		lines = append(lines, "", "For a rehearsed GitHub Actions job:",
			"  export ACTIONS_ID_TOKEN_REQUEST_URL="+cli.ShellQuote(rehearsal.URL),
			"  export ACTIONS_ID_TOKEN_REQUEST_TOKEN="+cli.ShellQuote(rehearsal.Token))
	}
	a.Print("%s\n\nCtrl-C ends it.", strings.Join(lines, "\n"))
	return nil
}
