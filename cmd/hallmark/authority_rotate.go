package main

import (
	"crypto"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/tuf"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
)

type rotateOptions struct {
	authority.RotateConfig
	key, chain, passwordEnv string
	json                    bool
}

func newAuthorityRotateCommand(a *app) *cobra.Command {
	var o rotateOptions
	c := &cobra.Command{
		Use:   "rotate SERVICE",
		Short: "Replace a key, so that nothing old stops verifying",
		Long: `Replace the key of a service: ca, ct, tsa, log or log-v1 (the log for older
clients), the four keys of tuf, or that of oidc, the issuer. hallmark up must not be
running on the folder, other than with --dry-run, which shows what would change and
who must do what, and writes nothing.

The new key is published at once and signs after --overlap, which gives every client
the time to learn it. The old key is believed for ever for what it signed until then.
A log's new key begins a new tree at an address of its own; the old one takes entries
until its time is over, and stays readable where it is. --overlap 0s lets the new key
sign at once. TUF and issuer need no overlap and take no --key.

What is interrupted is finished by the same call again, or by the next hallmark up.`,
		Example: `  hallmark authority rotate ca --dry-run
  hallmark authority rotate log --dry-run --json
  hallmark authority rotate tsa --data ./stopped --overlap 72h`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return a.runRotate(args[0], o) },
	}
	addDataFlag(a, c, &o.Dir)
	f := c.Flags()
	f.StringVar(&o.key, "key", "", "`REF` of the new key (docs/keys.md), such as a key file; without it one is made in the folder")
	f.StringVar(&o.chain, "chain", "", "PEM `FILE` with the new key's certificates, leaf first, root last (ca and tsa)")
	f.StringVar(&o.passwordEnv, "password-env", "", "environment `VARIABLE` with the password or PIN of --key, now and at each start (default COSIGN_PASSWORD)")
	f.DurationVar(&o.Overlap, "overlap", authority.DefaultOverlap, "`DURATION` from when the new key is published to when it signs")
	f.StringVar(&o.Name, "name", "", "`HOST` name of the log's new tree, so that witnesses can tell it from the others")
	f.BoolVar(&o.EndWitness, "end-witness", false, "rotate log although witnesses cosign it, which is over then")
	f.BoolVar(&o.DryRun, "dry-run", false, "only say what would be changed")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return c
}

// openKey opens a key of a service by its reference. Nobody is asked for a password: an
// authority starts without anybody there.
func (a *app) openKey(ref authority.KeyRef) (crypto.Signer, error) {
	name := ref.PasswordEnv
	if name == "" {
		name = "COSIGN_PASSWORD"
	}
	signer, info, err := key.Open(ref.Ref, func(bool) ([]byte, error) {
		pw, set := os.LookupEnv(name)
		if !set {
			what := "the key is encrypted, and there is no password in"
			if key.KindOf(ref.Ref) == key.KindPKCS11 {
				what = "the key's token wants a PIN, and there is none in"
			}
			return nil, fault.Hint(fault.Usagef("%s %s", what, name), "put it there, or name another variable with password-env")
		}
		return []byte(pw), nil
	})
	if err != nil {
		return nil, err
	}
	// What is elsewhere may be seen and yet not sign: now is the time to say so, not when
	// the first client waits for a certificate.
	if info.Kind != key.KindFile && info.Kind != key.KindEnv {
		if err := key.Try(signer, true); err != nil {
			return nil, fmt.Errorf("a signature to try it: %w", err)
		}
	}
	return signer, nil
}

func (a *app) runRotate(service string, o rotateOptions) (err error) {
	if o.Dir, err = a.dataDir(o.Dir); err != nil {
		return err
	}
	if o.key == "" && (o.chain != "" || o.passwordEnv != "") {
		return fault.Usagef("--chain and --password-env belong to --key")
	}
	o.Service, o.OpenKey = service, a.openKey
	if o.key != "" {
		here, err := os.Getwd()
		if err != nil {
			return err
		}
		ref, err := authority.NewKeyRef(service, o.key, o.chain, o.passwordEnv, here)
		if err != nil {
			return fault.As(fault.Usage, err)
		}
		o.Key = &ref
	}
	r, err := authority.Rotate(o.RotateConfig)
	if err != nil {
		return err
	}
	if o.json {
		return a.PrintJSON(r)
	}
	a.Print("%s", strings.Join(rotationLines(r), "\n"))
	return nil
}

// rotationLines is a rotation for people.
func rotationLines(r *authority.Rotation) []string {
	var lines []string
	say := func(text string) { lines = append(lines, cli.Plain(text)) }
	// row has the name of what follows only where it differs from the one above it.
	above := ""
	row := func(name, text string) {
		if name == above {
			name = ""
		} else {
			above = name
		}
		say(fmt.Sprintf("  %-8s %s", name, text))
	}
	switch {
	case r.Resumed:
		say("finished the rotation of " + r.Service + " in " + r.Data + " that was interrupted; no other key was made")
	case r.DryRun:
		say("would rotate " + r.Service + " in " + r.Data + "; nothing was written")
	default:
		say("rotated " + r.Service + " in " + r.Data)
	}
	for _, t := range []struct {
		name string
		*authority.KeyTerm
	}{{"old", r.Old}, {"new", r.New}} {
		if t.KeyTerm == nil {
			continue
		}
		fingerprint := t.Key
		if fingerprint == "" {
			fingerprint = "to be made"
		}
		row(t.name+" key", fingerprint+" ("+t.Kind+", "+t.Where+")")
		window := "believed from " + stampOf(t.From)
		if t.Until != nil {
			window += " to " + stampOf(*t.Until)
		} else {
			window += " on, signs from " + stampOf(t.Signs) + " on"
		}
		row(t.name+" key", window)
	}
	for _, k := range []struct {
		name string
		ids  []string
	}{{"old", r.OldKeys}, {"new", r.NewKeys}} {
		for _, id := range k.ids {
			row(k.name+" key", id)
		}
	}
	for _, f := range r.Files {
		row(f.What, f.Path)
	}
	if r.TUF.Before != r.TUF.After {
		row("TUF", versionsOf(r.TUF.Before)+" -> "+versionsOf(r.TUF.After))
	}
	for _, t := range r.Todo {
		say(t)
	}
	return lines
}

func stampOf(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func versionsOf(v tuf.Versions) string {
	return fmt.Sprintf("root %d, targets %d, snapshot %d, timestamp %d", v.Root, v.Targets, v.Snapshot, v.Timestamp)
}
