package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
)

// logOptions say which log is read, by which key, and where what is kept of it lies.
type logOptions struct {
	log, key, origin   string
	trustedRoot, trust string
	folder             string
}

// logAnswer is what every log command tells of the log. docs/json.md says the same.
type logAnswer struct {
	Origin     string   `json:"origin"`
	Source     string   `json:"source"`               // URL of the log's prefix, or a folder
	Size       int64    `json:"size"`                 // entries that the checkpoint covers
	RootHash   string   `json:"rootHash"`             // base64, as in the checkpoint
	CosignedBy []string `json:"cosignedBy,omitempty"` // names of the trust bundle's witnesses
}

func newLogCommand(a *app) *cobra.Command {
	var o logOptions
	c := &cobra.Command{
		Use:   "log",
		Short: "Read, verify, search and watch a transparency log",
		Long: `Read a transparency log by its tiles: the private Sigstore's, a Rekor v2 log, or any
other of the kind that c2sp.org/tlog-tiles describes. Without flags it is the log of
the trust root. Nothing is believed that does not hash to a checkpoint that the log's
key signed, and no checkpoint that does not extend the last one that was seen.

What was seen is kept in a folder for each log (docs/log.md).`,
		Example: `  hallmark log verify
  hallmark log search alice@example.com
  hallmark log watch --identity alice@example.com --expected 127.0.0.1:8420/app --once  # exit 3`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f := c.PersistentFlags()
	f.StringVar(&o.log, "log", "", "`URL` of the log, or a folder with its files (default: the trust root's log)")
	f.StringVar(&o.key, "key", "", "the log's key: `NAME+HASH+KEY`, or a file with that or a PEM key (default: the trust root's)")
	f.StringVar(&o.origin, "origin", "", "the log's `NAME` in its checkpoints, beside a PEM key")
	f.StringVar(&o.trustedRoot, "trusted-root", "", "`FILE` with the trust root; \"public\" is Sigstore's public instance")
	f.StringVar(&o.trust, "trust", "", "`FILE` with the trust bundle: its roots and witnesses")
	f.StringVar(&o.folder, "folder", "", "`FOLDER` for what was seen of this log (default below $XDG_STATE_HOME)")
	c.AddCommand(newLogGetCommand(a, &o), newLogSearchCommand(a, &o), newLogVerifyCommand(a, &o), newLogWatchCommand(a, &o), newLogMirrorCommand(a, &o), newLogWitnessCommand(a, &o))
	return c
}

// openLog is a log that a command reads.
type openLog struct {
	log    translog.Log
	source translog.Source
	cas    []trust.Authority // who may issue certificates; nil when nobody said
	folder string            // "" before it is needed
}

// candidate is a key that a log may have, and where the trust root says it is.
type candidate struct {
	log translog.Log
	url string
}

// openLog finds the log, its key and its place. Only its checkpoint is asked for.
func (a *app) openLog(ctx context.Context, o *logOptions) (*openLog, error) {
	bundle, err := a.TrustBundle(o.trust)
	if err != nil {
		return nil, err
	}
	out := &openLog{folder: o.folder}
	var candidates []candidate
	if o.key != "" {
		if o.log == "" {
			return nil, fault.Usagef("--key: --log says where the log is")
		}
		l, err := parseLogKey(o.key, o.origin)
		if err != nil {
			return nil, fault.Usagef("--key: %w", err)
		}
		candidates = []candidate{{log: l}}
	}
	// Beside --key the roots only say who may issue certificates.
	if o.key == "" || a.HasTrustedRoot(o.trustedRoot) {
		roots, err := a.logRoots(ctx, o, bundle)
		if err != nil {
			return nil, err
		}
		for _, r := range roots {
			out.cas = append(out.cas, r.CAs...)
		}
		if o.key == "" {
			candidates = logCandidates(roots, o.log != "", false)
		}
	}
	if err := a.placeLog(ctx, o, out, candidates); err != nil {
		return nil, err
	}
	out.log.Witnesses = bundle.CheckpointWitnesses()
	return out, nil
}

func parseLogKey(text, origin string) (translog.Log, error) {
	if data, err := os.ReadFile(text); err == nil {
		text = string(data[:min(len(data), 64<<10)])
	}
	return translog.ParseKey(text, origin)
}

// logRoots are the trust roots as verify chooses them.
func (a *app) logRoots(ctx context.Context, o *logOptions, bundle *bundlefile.File) ([]*trust.Root, error) {
	if a.HasTrustedRoot(o.trustedRoot) {
		root, err := a.TrustedRoot(ctx, o.trustedRoot)
		return []*trust.Root{root}, err
	}
	if len(bundle.Roots) == 0 {
		embedded, err := bundlefile.Embedded()
		if err != nil {
			return nil, err
		}
		bundle = embedded
	}
	return bundle.SigstoreRoots(), nil
}

// logCandidates are the logs of the roots that tiles can be read of. Where nobody
// named one, only those count that are Rekor v2's by their id, and are believed now or,
// with past, were.
func logCandidates(roots []*trust.Root, named, past bool) []candidate {
	var out []candidate
	for _, r := range roots {
		for _, k := range r.TLogs {
			l, err := translog.NewLog(k.Origin, k.Key)
			if err != nil {
				continue
			}
			key, isEd25519 := k.Key.(ed25519.PublicKey)
			tiled := false
			if isEd25519 {
				id := trust.NoteKeyID(k.Origin, key)
				tiled = slices.Equal(id[:], k.ID)
			}
			if named || tiled && (past || k.ValidFor.Contains(time.Now())) {
				out = append(out, candidate{l, k.BaseURL})
			}
		}
	}
	return out
}

// placeLog settles source and key.
func (a *app) placeLog(ctx context.Context, o *logOptions, out *openLog, candidates []candidate) (err error) {
	place := o.log
	if place == "" {
		switch len(candidates) {
		case 0:
			return fault.Hint(fault.Usagef("the trust root has no log that can be read by tiles"), "name one: --log URL, and --key if the trust root does not know it")
		case 1:
		default:
			var urls []string
			for _, c := range candidates {
				urls = append(urls, c.url)
			}
			return fault.Usagef("the trust root has more than one log: choose with --log among %s", strings.Join(urls, ", "))
		}
		place = candidates[0].url
	}
	if out.source, err = a.logSource(ctx, place); err != nil {
		return err
	}
	if len(candidates) == 1 {
		out.log = candidates[0].log
		return nil
	}
	signed, err := out.source.Get(ctx, "checkpoint", translog.MaxCheckpoint)
	if err != nil {
		return err
	}
	for _, c := range candidates { // a log may have had several keys
		if _, err := c.log.ParseCheckpoint(signed, time.Now()); err == nil {
			out.log = c.log
			return nil
		}
	}
	return fault.Hint(fault.Usagef("the trust root knows no key of the log %.100q", translog.OriginOf(signed)), "name the log's key with --key, or the trust root that has it with --trusted-root")
}

func (a *app) logSource(ctx context.Context, place string) (translog.Source, error) {
	if !strings.Contains(place, "://") {
		if st, err := os.Stat(place); err != nil || !st.IsDir() {
			return nil, fault.Usagef("--log %s: neither a URL nor a folder", place)
		}
		return translog.DirSource(place), nil
	}
	return translog.HTTPSource(ctx, place, translog.HTTPOptions{UserAgent: a.UserAgent(), PlainHTTP: a.PlainHTTP})
}

// keptFolder opens the folder with what was seen of the log.
func (a *app) keptFolder(l *openLog) (*translog.Folder, error) {
	if l.folder == "" {
		state := a.Env("XDG_STATE_HOME")
		if !filepath.IsAbs(state) { // the specification ignores others
			home := a.Env("HOME")
			if home == "" {
				return nil, fault.Usagef("no home folder is known: name a folder for what was seen of the log with --folder")
			}
			state = filepath.Join(home, ".local", "state")
		}
		l.folder = filepath.Join(state, "hallmark", "logs", l.log.ID())
	}
	return translog.OpenFolder(l.folder, l.log)
}

// advance opens the log and brings what is known of it to its present checkpoint.
func (a *app) advance(ctx context.Context, o *logOptions) (*openLog, *translog.Folder, *translog.Advanced, error) {
	l, err := a.openLog(ctx, o)
	if err != nil {
		return nil, nil, nil, err
	}
	f, err := a.keptFolder(l)
	if err != nil {
		return nil, nil, nil, err
	}
	v, err := f.Advance(ctx, l.source)
	return l, f, v, err
}

func answerOfLog(c *translog.Checkpoint, s translog.Source) logAnswer {
	return logAnswer{Origin: c.Origin, Source: s.Name(), Size: c.Size, RootHash: base64.StdEncoding.EncodeToString(c.Root[:]), CosignedBy: c.Cosigned}
}

// logRun makes denials of a log's refusals.
func (a *app) logRun(run func(c *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		err := run(c, args)
		var r *translog.Refusal
		if errors.As(err, &r) {
			return a.Deny(policy.Deny(r.Reason))
		}
		return err
	}
}

// reading draws how far a long reading of the log is, on a terminal.
func (a *app) reading() func(done, size int64) {
	if !a.Progress() {
		return nil
	}
	last := time.Now()
	return func(done, size int64) {
		if time.Since(last) < 500*time.Millisecond && done < size {
			return
		}
		last = time.Now()
		fmt.Fprintf(a.Stderr, "\rread %d of %d entries", done, size)
		if done >= size {
			fmt.Fprintln(a.Stderr)
		}
	}
}

// entries is a number of entries for people.
func entries(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}
