package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/authority/registry"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/durable"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// CodeDamaged: a file of the data folder is not what was written (docs/reasons.md).
const CodeDamaged = "DAMAGED"

func newAuthorityCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "authority",
		Short: "Check, back up, restore the private Sigstore, replace its keys",
		Long: `Check, back up, restore and tidy the data folder of hallmark up, replace its keys, and
put them under a root that stays offline.
All of it works on the files alone: check and backup also while an authority is
running on them. With replica and move-log it grows beyond one machine.`,
		Example: `  hallmark authority check
  hallmark authority backup sigstore-2026-11-25.tar`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newAuthorityCheckCommand(a), newAuthorityBackupCommand(a), newAuthorityRestoreCommand(a), newAuthorityGCCommand(a), newAuthorityRotateCommand(a),
		newAuthorityRootCommand(a), newAuthorityIssueCommand(a), newAuthorityCSRCommand(a), newAuthorityChainCommand(a),
		newAuthorityReplicaCommand(a), newAuthorityMoveLogCommand(a))
	return c
}

// authorityCheckAnswer is what authority check --json prints.
type authorityCheckAnswer struct {
	Data         string         `json:"data"` // the folder
	OK           bool           `json:"ok"`
	LogEntries   int64          `json:"logEntries"`
	LogV1Entries int64          `json:"logV1Entries"`
	Repositories int            `json:"repositories"`
	Manifests    int            `json:"manifests"`
	Blobs        int            `json:"blobs"`
	Tags         int            `json:"tags"`
	Bytes        int64          `json:"bytes"`
	Damage       []damageAnswer `json:"damage"`
}

type damageAnswer struct {
	Path   string `json:"path"`
	Offset *int64 `json:"offset,omitempty"` // the first byte that shows it
	Why    string `json:"why"`
}

func newAuthorityCheckCommand(a *app) *cobra.Command {
	var dir string
	var asJSON bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Derive everything in the data folder again, and name what is broken",
		Long: `Derive everything in the data folder again from its files: seals, keys and
certificates, the TUF repository's signatures, each entry of the log with its
signature, the root over all of them, and each digest, tag and referrer of the
registry. What is not what was written is named, with the first byte that shows it
where one does; the exit code is then 3. Nothing is changed.`,
		Example: `  hallmark authority check
  hallmark authority check --json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			dir, err := a.dataDir(dir)
			if err != nil {
				return err
			}
			c, err := authority.Check(dir)
			if err != nil {
				return err
			}
			return a.answerCheck(dir, c, asJSON)
		},
	}
	addDataFlag(a, c, &dir)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) answerCheck(dir string, c *authority.Checked, asJSON bool) error {
	r := c.Registry
	answer := authorityCheckAnswer{Data: dir, OK: len(c.Damage) == 0, LogEntries: c.Entries, LogV1Entries: c.EntriesV1, Repositories: r.Repositories,
		Manifests: r.Manifests, Blobs: r.Blobs, Tags: r.Tags, Bytes: r.Bytes, Damage: []damageAnswer{}}
	var decision policy.Decision
	for _, d := range c.Damage {
		one := damageAnswer{Path: d.Path, Why: d.Why}
		if d.Offset >= 0 {
			one.Offset = &d.Offset
		}
		answer.Damage = append(answer.Damage, one)
		decision.Reasons = append(decision.Reasons, damageReason(d))
	}
	if asJSON {
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	}
	if !answer.OK {
		return a.Deny(decision)
	}
	if !asJSON {
		a.Print("everything in %s is what was written: %d log entries and %d for older clients, %s", cli.Plain(dir), c.Entries, c.EntriesV1, registryWords(r))
	}
	return nil
}

func damageReason(d durable.Damage) policy.Reason {
	if d.Lost {
		return policy.Reason{Code: CodeDamaged, Message: d.String(), Subject: d.Path,
			Hint: "if a client deleted it, delete what names it, too; else push it again, or take it from a backup"}
	}
	return policy.Reason{Code: CodeDamaged, Message: d.String(), Subject: d.Path,
		Hint: "put it back from a backup (hallmark authority restore), while the authority is stopped"}
}

func registryWords(r registry.Contents) string {
	return fmt.Sprintf("%d repositories with %d manifests, %d blobs and %d tags (%d bytes)", r.Repositories, r.Manifests, r.Blobs, r.Tags, r.Bytes)
}

// authorityBackupAnswer is what authority backup --json prints.
type authorityBackupAnswer struct {
	File       string `json:"file"`
	LogEntries int64  `json:"logEntries"`
	Files      int    `json:"files"`
	Bytes      int64  `json:"bytes"`
}

func newAuthorityBackupCommand(a *app) *cobra.Command {
	var dir string
	var asJSON bool
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write the data folder to a tar archive",
		Long: `Write the data folder to a tar archive, also while an authority is running on it;
- is standard output. The archive holds every private key and every login: encrypt
it, and keep it from where the authority runs.

The log goes on after a backup, and a log must never go back. Keep a mirror of it
elsewhere: hallmark authority restore takes from it what came after the backup.`,
		Example: `  hallmark authority backup sigstore-2026-11-25.tar
  hallmark authority backup - | gzip > sigstore.tar.gz`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := a.dataDir(dir)
			if err != nil {
				return err
			}
			if asJSON && args[0] == "-" {
				return fault.Usagef("--json and the archive cannot both go to standard output")
			}
			saved, err := a.backup(dir, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return a.PrintJSON(authorityBackupAnswer{args[0], saved.Entries, saved.Files, saved.Bytes})
			}
			a.Say("saved %s: %d log entries, %d files with %d bytes, every private key among them", cli.Plain(args[0]), saved.Entries, saved.Files, saved.Bytes)
			return nil
		},
	}
	addDataFlag(a, c, &dir)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// backup writes to a new file, which appears when all of it is on disk.
func (a *app) backup(dir, name string) (_ authority.Saved, err error) {
	if name == "-" {
		if cli.IsTerminal(a.Stdout) {
			return authority.Saved{}, fault.Usagef("an archive with private keys is not printed on a terminal")
		}
		return authority.Backup(dir, a.Stdout)
	}
	if _, err := os.Lstat(name); err == nil {
		return authority.Saved{}, fault.Usagef("%s exists; a backup is never written over", name)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".backup-*")
	if err != nil {
		return authority.Saved{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	saved, err := authority.Backup(dir, f)
	if err != nil {
		return saved, err
	}
	if err := f.Sync(); err != nil {
		return saved, err
	}
	// A link, unlike a rename, never replaces what came there meanwhile.
	if err := os.Link(f.Name(), name); err != nil {
		return saved, err
	}
	return saved, errors.Join(f.Close(), os.Remove(f.Name()), durable.SyncDir(filepath.Dir(name)))
}

type authorityRestoreOptions struct {
	dir, mirror, logName         string
	checkpoints                  []string
	nothingSince, endTrees, json bool
}

// authorityRestoreAnswer is what authority restore --json prints.
type authorityRestoreAnswer struct {
	Data       string `json:"data"`
	LogEntries int64  `json:"logEntries"`
	FromMirror int64  `json:"fromMirror"` // entries that came after the backup
	// Ended are the logs, log and log-v1, in which a new tree begins.
	Ended []string `json:"ended,omitempty"`
}

func newAuthorityRestoreCommand(a *app) *cobra.Command {
	var o authorityRestoreOptions
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a data folder from a backup, without forking the log",
		Long: `Make a new data folder from a backup; - is standard input. Everything in it is
checked as hallmark authority check does before the folder appears.

A log that goes on from a backup signs other entries under numbers that it has
given away, and everyone who kept a checkpoint can prove that. So say what is known
of each log: the newest checkpoint that anybody kept (a monitor, a mirror, a
witness), with a mirror that has the entries since; or that nothing was published
since the backup, as when the authority was stopped for it. The log for older
clients has no mirrors.

Of a log that may have gone on, and whose entries since nobody has, --end-trees ends
the tree where the backup has it, and a new one begins, as after hallmark authority
rotate. What was signed since keeps verifying; it is only in no log any more.`,
		Example: `  hallmark authority restore sigstore.tar --data ./restored --nothing-since
  hallmark authority restore sigstore.tar --data ./recovered --checkpoint mirror/checkpoint --mirror mirror --end-trees`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return a.runRestore(args[0], o) },
	}
	addDataFlag(a, c, &o.dir)
	f := c.Flags()
	f.StringArrayVar(&o.checkpoints, "checkpoint", nil, "`FILE` with the newest checkpoint that is known of a log; may be repeated")
	f.StringVar(&o.mirror, "mirror", "", "`FOLDER` with a mirror of the log, in the form of C2SP tlog-tiles")
	f.BoolVar(&o.nothingSince, "nothing-since", false, "logs without --checkpoint published nothing after the backup")
	f.BoolVar(&o.endTrees, "end-trees", false, "logs without --checkpoint, or behind theirs, may have gone on: begin new trees")
	f.StringVar(&o.logName, "name", "", "`HOST` name of the log's new tree, so that witnesses can tell it from the others")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return c
}

// maxCheckpoint bounds a checkpoint's file, in bytes.
const maxCheckpoint = 64 << 10

func (a *app) runRestore(name string, o authorityRestoreOptions) error {
	dir, err := a.dataDir(o.dir)
	if err != nil {
		return err
	}
	if o.mirror != "" && len(o.checkpoints) == 0 {
		return fault.Usagef("--mirror needs --checkpoint: the checkpoint says which of the mirror's entries are the log's")
	}
	switch {
	case o.nothingSince && o.endTrees:
		return fault.Usagef("--nothing-since and --end-trees: a log that published nothing goes on")
	case o.logName != "" && !o.endTrees:
		return fault.Usagef("--name is for the tree that --end-trees begins")
	case len(o.checkpoints) == 0 && !o.nothingSince && !o.endTrees:
		return fault.Hint(fault.Usagef("say what is known of the logs since the backup: --checkpoint FILE, --nothing-since or, when it is not known, --end-trees"),
			"see hallmark authority restore --help for why")
	}
	ro := authority.RestoreOptions{NothingSince: o.nothingSince, EndTrees: o.endTrees, LogName: o.logName, OpenKey: a.openKey}
	for _, name := range o.checkpoints {
		data, err := readSmall(name, maxCheckpoint)
		if err != nil {
			return err
		}
		ro.Checkpoints = append(ro.Checkpoints, data)
	}
	if o.mirror != "" {
		ro.Mirror = os.DirFS(o.mirror)
	}
	in := a.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // it was only read
		in = f
	}
	r, err := authority.Restore(in, dir, ro)
	if err != nil {
		return err
	}
	for _, d := range r.Damage {
		a.Warn("%s", cli.OneLine(d.String()))
	}
	if o.json {
		return a.PrintJSON(authorityRestoreAnswer{r.Info.Dir, r.Entries, r.Taken, r.Ended})
	}
	a.Say("restored %s: %d log entries (%d from the mirror), %s", cli.Plain(r.Info.Dir), r.Entries, r.Taken, registryWords(r.Registry))
	for _, service := range r.Ended {
		a.Say("a new tree of %s begins: back up the folder, which has a key that no backup has", service)
	}
	a.Say("hallmark up --data %s --listen %s goes on with it", cli.ShellQuote(r.Info.Dir), cli.ShellQuote(r.Info.Registry))
	return nil
}

// readSmall reads a file of at most limit bytes.
func readSmall(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, err
}
