package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/translog/watch"
)

// logWatchAnswer is what log watch --once --json prints.
type logWatchAnswer struct {
	Log         logAnswer        `json:"log"`
	Looked      int64            `json:"looked"`      // entries that were new
	Explained   int              `json:"explained"`   // by the identity, and now explained
	Untrusted   int              `json:"untrusted"`   // name the identity in certificates that no trusted authority issued
	NotRead     int              `json:"notRead"`     // new entries that were not understood
	Unexplained []logEntryAnswer `json:"unexplained"` // all that nothing explains, of earlier calls too
	Reasons     []policy.Reason  `json:"reasons,omitempty"`
}

type watchOptions struct {
	*logOptions
	identity, issuer string
	expected         []string
	once             bool
	interval         time.Duration
	json             bool
}

// minInterval keeps a watch from being a load on the log.
const minInterval = time.Second

func newLogWatchCommand(a *app, o *logOptions) *cobra.Command {
	w := watchOptions{logOptions: o}
	c := &cobra.Command{
		Use:   "watch --identity ID --expected FILE|REPOSITORY",
		Short: "Follow what is signed under an identity, and list what is not yours",
		Long: `Follow the log, and list each entry by an identity that no artifact of yours explains: a
signature that you did not make, or do not know of. What explains entries are the
signatures in a repository and its attestations, bundle files, and lists of digests, one
on a line. Then the exit code is 3.

It looks every --interval until Ctrl-C, and lists what stayed unexplained for one: an
entry is in the log before its signature is in the registry. With --once it looks once.
How far it looked is kept, and so is what was not explained, until something does.`,
		Example: `  hallmark log watch --identity alice@example.com --expected 127.0.0.1:8420/app --once  # exit 3
  hallmark log watch --identity bob@example.com --issuer http://127.0.0.1:8420 --expected app.sigstore.json --once`,
		Args: cli.Args(cobra.NoArgs),
		RunE: a.logRun(func(c *cobra.Command, _ []string) error { return a.logWatch(c.Context(), w) }),
	}
	f := c.Flags()
	f.StringVar(&w.identity, "identity", "", "`ID` in the certificate: an e-mail address or a URI")
	f.StringVar(&w.issuer, "issuer", "", "`URL` of the issuer that vouched for it (default: any)")
	f.StringArrayVar(&w.expected, "expected", nil, "`FILE|REPOSITORY` that explains entries; may be repeated")
	f.BoolVar(&w.once, "once", false, "look once")
	f.DurationVar(&w.interval, "interval", 30*time.Second, "`TIME` between looks")
	f.BoolVar(&w.json, "json", false, "with --once, print one JSON object")
	return c
}

func (a *app) logWatch(ctx context.Context, o watchOptions) error {
	switch {
	case o.identity == "" || len(o.expected) == 0:
		return fault.Usagef("--identity says who is watched, --expected what is yours")
	case o.json && !o.once:
		return fault.Usagef("--json goes with --once")
	case o.interval < minInterval:
		return fault.Usagef("--interval: at least %v", minInterval)
	}
	expected, err := watch.NewExpected(a.RegistryClient(), o.expected)
	if err != nil {
		return err
	}
	l, err := a.openLog(ctx, o.logOptions)
	if err != nil {
		return err
	}
	f, err := a.keptFolder(l)
	if err != nil {
		return err
	}
	w, err := watch.Open(ctx, f, watch.Config{Identity: o.identity, Issuer: o.issuer, CAs: l.cas, Expected: expected})
	if err != nil {
		return err
	}
	defer w.Close()
	look := func() (*watch.Seen, *translog.Advanced, error) {
		v, err := f.Advance(ctx, l.source)
		if err != nil {
			return nil, nil, err
		}
		seen, err := w.Look(ctx, v.View, a.reading())
		return seen, v, err
	}
	if o.once {
		return a.watchOnce(l, o, look)
	}
	return a.watchOn(ctx, l, o, look)
}

// looking is one look at the log.
type looking func() (*watch.Seen, *translog.Advanced, error)

func (a *app) watchOnce(l *openLog, o watchOptions, look looking) error {
	seen, v, err := look()
	if err != nil {
		return err
	}
	d := unexplained(l, o, len(seen.Unexplained))
	if o.json {
		answer := logWatchAnswer{Log: answerOfLog(v.Checkpoint, l.source), Looked: seen.Looked, Explained: seen.Explained,
			Untrusted: seen.Untrusted, NotRead: len(seen.Unread), Unexplained: []logEntryAnswer{}, Reasons: d.Reasons}
		for _, e := range seen.Unexplained {
			answer.Unexplained = append(answer.Unexplained, answerOfEntry(e, false))
		}
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	}
	a.watchNotes(seen)
	if !o.json {
		for _, e := range seen.Unexplained {
			a.printEntry(e)
		}
	}
	if !d.Allowed {
		return a.Deny(d)
	}
	if !o.json {
		a.Print("%s: nothing unexplained by %s in %s, of which %d were new", l.log.Origin, cli.Plain(o.identity), entries(v.Size()), seen.Looked)
	}
	return nil
}

// watchNotes says what was looked at and not judged.
func (a *app) watchNotes(seen *watch.Seen) {
	if n := len(seen.Unread); n > 0 {
		a.Warn("%s of the log were not understood, the first with index %d", entries(int64(n)), seen.Unread[0])
	}
	if seen.Untrusted > 0 {
		a.Warn("%s name the identity in certificates that no trusted authority issued, and verify nowhere", entries(int64(seen.Untrusted)))
	}
}

// unexplained is the decision about n entries that nothing explains.
func unexplained(l *openLog, o watchOptions, n int) policy.Decision {
	if n == 0 {
		return policy.Decision{Allowed: true}
	}
	return policy.Deny(policy.Reason{Code: watch.CodeUnexplained, Subject: o.identity,
		Message: fmt.Sprintf("nothing in %s explains %s by %s in the log %s", strings.Join(o.expected, ", "), entries(int64(n)), o.identity, l.log.Origin),
		Hint:    "find out who signed; what is yours after all, name with --expected: its bundle, its repository or its digest"})
}

// watchOn looks until it is interrupted. What cannot be reached now may be later.
func (a *app) watchOn(ctx context.Context, l *openLog, o watchOptions, look looking) error {
	reported, waiting := map[int64]bool{}, map[int64]bool{}
	for {
		seen, _, err := look()
		switch {
		case ctx.Err() != nil:
		case err != nil && fault.KindOf(err) != fault.Unreachable:
			return err
		case err != nil:
			a.Warn("%s; trying again in %v", cli.OneLine(err.Error()), o.interval)
		default:
			a.watchNotes(seen)
			next := map[int64]bool{}
			for _, e := range seen.Unexplained {
				if waiting[e.Index] && !reported[e.Index] {
					reported[e.Index] = true
					a.printEntry(e)
				}
				next[e.Index] = true
			}
			waiting = next
		}
		select {
		case <-ctx.Done():
			if d := unexplained(l, o, len(reported)); !d.Allowed {
				return a.Deny(d)
			}
			return ctx.Err()
		case <-time.After(o.interval):
		}
	}
}
