package main

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/translog/index"
	"github.com/hallmark-dev/hallmark/internal/translog/rekor"
	"github.com/hallmark-dev/hallmark/internal/translog/watch"
)

// logEntriesAnswer is what log get and log search print with --json.
type logEntriesAnswer struct {
	Log     logAnswer        `json:"log"`
	Entries []logEntryAnswer `json:"entries"` // by index
	More    bool             `json:"more"`    // there are more than --limit
}

// wanted is what is looked for in the index, and how a hit is told from an entry
// that only shares its key.
type wanted struct {
	keys  []index.Key
	match func(rekor.Entry) bool
	limit int
}

func newLogGetCommand(a *app, o *logOptions) *cobra.Command {
	var digest, identity, issuer string
	var raw, asJSON bool
	c := &cobra.Command{
		Use:   "get INDEX | --digest DIGEST | --identity ID",
		Short: "Print entries of the log by index, digest or identity",
		Long: `Print entries of the log, one on a line, after they were proven to be in the tree that
the log signed: the one with an index, or all about a digest or by an identity. For the
latter an index of the log is kept, which reads what is new of it first.

Who a certificate names is what it says: whether it is to be believed, verify tells.`,
		Example: `  hallmark log get 0
  hallmark log get 0 --raw
  hallmark log get --identity alice@example.com --json`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
		RunE: a.logRun(func(c *cobra.Command, args []string) error {
			if set := boolCount(len(args) == 1, digest != "", identity != ""); set != 1 {
				return fault.Usagef("one of INDEX, --digest and --identity says which entry")
			}
			if issuer != "" && identity == "" || raw && (len(args) == 0 || asJSON) {
				return fault.Usagef("--issuer goes with --identity, and --raw with INDEX alone")
			}
			if len(args) == 1 {
				return a.logGetIndex(c.Context(), o, args[0], raw, asJSON)
			}
			w := wanted{limit: 1 << 30}
			if digest != "" {
				d, err := evidence.ParseDigest(digest)
				if err != nil {
					return fault.Usagef("--digest: %w", err)
				}
				w.digest(d)
			} else {
				w.identity(identity, issuer)
			}
			return a.logFind(c.Context(), o, w, true, asJSON)
		}),
	}
	f := c.Flags()
	f.StringVar(&digest, "digest", "", "`DIGEST` of what was signed, sha256:…")
	f.StringVar(&identity, "identity", "", "`ID` in the certificate: an e-mail address or a URI")
	f.StringVar(&issuer, "issuer", "", "`URL` of the issuer that vouched for the identity")
	f.BoolVar(&raw, "raw", false, "print the entry itself, as it is in the log")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func newLogSearchCommand(a *app, o *logOptions) *cobra.Command {
	var issuer string
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use:   "search DIGEST|IDENTITY|KEY",
		Short: "List entries about a digest, or by an identity or key",
		Long: `List the entries of the log about a digest, or by an identity or a key, one on a line.
KEY is the fingerprint of a public key that signed without a certificate, sha256:… of its
DER. The index that this needs is kept beside the log's folder and reads what is new of
the log first; a log's first search reads all of it.`,
		Example: `  hallmark log search alice@example.com
  hallmark log search alice@example.com --issuer http://127.0.0.1:8420 --json
  hallmark log search sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  # exit 4`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: a.logRun(func(c *cobra.Command, args []string) error {
			if limit < 1 || args[0] == "" {
				return fault.Usagef("what to search for is empty, or --limit below 1")
			}
			w := wanted{limit: limit}
			if d, err := evidence.ParseDigest(args[0]); err == nil {
				if issuer != "" {
					return fault.Usagef("--issuer goes with an identity")
				}
				w.digest(d)
			} else {
				w.identity(args[0], issuer)
			}
			return a.logFind(c.Context(), o, w, false, asJSON)
		}),
	}
	f := c.Flags()
	f.StringVar(&issuer, "issuer", "", "`URL` of the issuer that vouched for the identity")
	f.IntVar(&limit, "limit", 1000, "list at most `N` entries, the newest")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func boolCount(list ...bool) (n int) {
	for _, b := range list {
		if b {
			n++
		}
	}
	return n
}

// digest wants entries about a digest, or by the key that has it as fingerprint.
func (w *wanted) digest(d evidence.Digest) {
	w.keys = []index.Key{index.Digest(d), index.PublicKey(string(d))}
	w.match = func(e rekor.Entry) bool {
		return e.Digest == d || slices.ContainsFunc(e.Signers, func(s rekor.Signer) bool { return s.Key == string(d) })
	}
}

func (w *wanted) identity(identity, issuer string) {
	w.keys = []index.Key{index.Identity(identity)}
	w.match = func(e rekor.Entry) bool {
		return slices.ContainsFunc(e.Signers, func(s rekor.Signer) bool {
			return s.Certificate != nil && s.Identity == identity && (issuer == "" || s.Issuer == issuer)
		})
	}
}

func (a *app) logGetIndex(ctx context.Context, o *logOptions, arg string, raw, asJSON bool) error {
	i, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || i < 0 {
		return fault.Usagef("%s is no index of an entry; --digest and --identity find others", arg)
	}
	l, _, v, err := a.advance(ctx, o)
	if err != nil {
		return err
	}
	if i >= v.Size() {
		return fault.NotFoundf("the log %s has %s: there is none with index %d", l.log.Origin, entries(v.Size()), i)
	}
	return watch.Entries(ctx, v.View, []int64{i}, func(e watch.Entry) error {
		switch {
		case raw:
			_, err := a.Stdout.Write(e.Body)
			return err
		case asJSON:
			return a.PrintJSON(logEntriesAnswer{Log: answerOfLog(v.Checkpoint, l.source), Entries: []logEntryAnswer{answerOfEntry(e, true)}})
		}
		a.printEntry(e)
		return nil
	})
}

// logFind prints the entries that the index finds; of many the newest.
func (a *app) logFind(ctx context.Context, o *logOptions, w wanted, withBody, asJSON bool) error {
	l, f, v, err := a.advance(ctx, o)
	if err != nil {
		return err
	}
	found, err := a.logSearch(ctx, f, v.View, w.keys)
	if err != nil {
		return err
	}
	var hits []watch.Entry
	err = watch.Entries(ctx, v.View, found, func(e watch.Entry) error {
		if w.match(e.Entry) {
			hits = append(hits, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	answer := logEntriesAnswer{Log: answerOfLog(v.Checkpoint, l.source), Entries: []logEntryAnswer{}, More: len(hits) > w.limit}
	hits = hits[max(0, len(hits)-w.limit):]
	for _, e := range hits {
		answer.Entries = append(answer.Entries, answerOfEntry(e, withBody))
		if !asJSON {
			a.printEntry(e)
		}
	}
	if asJSON {
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	}
	if answer.More {
		a.Warn("these are the newest %d; --limit shows more", w.limit)
	}
	if len(hits) == 0 {
		err := fault.NotFoundf("none of the %s of the log %s is about that", entries(v.Size()), l.log.Origin)
		if asJSON {
			return cli.DeniedError{Nothing: true}
		}
		return err
	}
	return nil
}

// logSearch asks the index, after it read what is new of the log.
func (a *app) logSearch(ctx context.Context, f *translog.Folder, v *translog.View, keys []index.Key) ([]int64, error) {
	x, err := index.Open(ctx, watch.IndexDir(f))
	if err != nil {
		return nil, err
	}
	defer x.Close()
	var all []int64
	for _, k := range keys {
		found, err := x.Search(ctx, v, k, a.reading())
		if errors.Is(err, index.ErrDamaged) {
			return nil, fault.Hint(err, "remove the folder %s, and it is made again", watch.IndexDir(f))
		} else if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}
