// Command hallmark-log keeps a log that has outgrown one process and one disk: the log
// of hallmark up, with the same key, origin, API and read layout, on one of the
// drivers of Tessera: a file system, MySQL or MariaDB, or what AWS and Google Cloud
// offer. It is a module of its own, so that none of that weighs on hallmark.
//
// Trusted: the key, the configuration, and the storage for what it keeps private
// (Tessera's own state). Not trusted: the storage for what it shows. No checkpoint is
// signed that contradicts one that was shown before, and no entry is acknowledged
// before its proof to a published checkpoint was checked. Who can write to the storage
// can make the log stop, not lie.
//
// docs/outgrown.md says when to move here and how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/klog/v2"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

const usage = `hallmark-log keeps a transparency log that has outgrown hallmark up.

  hallmark-log serve --config FILE [--create] [--log-format text|json]
  hallmark-log migrate --config FILE --from URL|FOLDER [--while-running] [--log-format text|json]

serve takes entries and shows the log until it is told to end. --create begins a log
where the storage is empty. migrate copies a log into the storage, with its tree; FOLDER
is log/ in a data folder of hallmark up, for whose end it waits, or a mirror.
--while-running copies what is there so far: the rest is copied without it when the log
stands still. All of it is explained in docs/outgrown.md.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		if hint := fault.HintOf(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint:", hint)
		}
		if errors.As(err, new(usageError)) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

type usageError string

func (e usageError) Error() string { return string(e) + "; see hallmark-log help" }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		_, err := fmt.Fprint(stdout, usage)
		return err
	}
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.SetOutput(io.Discard)
	config := f.String("config", "", "")
	format := f.String("log-format", "text", "")
	create, from, running := new(bool), new(string), new(bool)
	switch args[0] {
	case "serve":
		create = f.Bool("create", false, "")
	case "migrate":
		from = f.String("from", "", "")
		running = f.Bool("while-running", false, "")
	default:
		return usageError(fmt.Sprintf("%q is neither serve nor migrate", args[0]))
	}
	if err := f.Parse(args[1:]); err != nil {
		return usageError(err.Error())
	}
	if f.NArg() > 0 {
		return usageError(fmt.Sprintf("%q was not expected", f.Arg(0)))
	}
	if *config == "" || args[0] == "migrate" && *from == "" {
		return usageError("a flag is missing")
	}
	log, err := newLogger(stderr, *format)
	if err != nil {
		return err
	}
	cfg, err := ReadConfig(*config)
	if err != nil {
		return err
	}
	if args[0] == "migrate" {
		c, err := Migrate(ctx, cfg, *from, *running, log)
		if err == nil && *running {
			_, err = fmt.Fprintf(stdout, "copied %d entries; when nobody writes to the log any more, migrate the rest without --while-running\n", c.Size)
		} else if err == nil {
			_, err = fmt.Fprintf(stdout, "migrated %d entries with their tree; %s has the checkpoint that the log goes on from\n", c.Size, cfg.Extends)
		}
		return err
	}
	return runServe(ctx, cfg, *create, log, stdout)
}

// newLogger is the program's log, which is Tessera's, too.
func newLogger(w io.Writer, format string) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	var log *slog.Logger
	switch format {
	case "text":
		log = slog.New(slog.NewTextHandler(w, o))
	case "json":
		log = slog.New(slog.NewJSONHandler(w, o))
	default:
		return nil, usageError(fmt.Sprintf("--log-format %q is neither text nor json", format))
	}
	klog.SetSlogLogger(log)
	slog.SetDefault(log)
	return log, nil
}

func runServe(ctx context.Context, cfg *Config, create bool, log *slog.Logger, stdout io.Writer) (err error) {
	listener, address, err := listen(cfg) // before the storage: who cannot answer takes no entries
	if err != nil {
		return err
	}
	l, err := OpenLog(ctx, cfg, create, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if _, err := fmt.Fprintf(stdout, "hallmark-log is ready: %s has %d entries of %s on %s\n", address, l.current().Size(), cfg.Origin, l.opened.name); err != nil {
		return errors.Join(err, listener.Close())
	}
	return serve(ctx, listener, l, log)
}
