// Command bench measures hallmark beside its peers in one run and prints the
// ratios. Whole processes are timed, in turn (A B A B …), so that both meet the
// same noise; the median is what is printed. Nothing here passes or fails:
// docs/performance.md keeps the figures.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"text/tabwriter"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == launcherArg {
		os.Exit(launch(os.Args[2], os.Args[3:]))
	}
	if len(os.Args) > 1 && os.Args[1] == appenderArg {
		if err := appendTo(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench: error:", err)
			os.Exit(1)
		}
		return
	}
	var b bench
	flag.StringVar(&b.hallmark, "hallmark", "bin/hallmark", "the hallmark binary")
	flag.StringVar(&b.verifier, "hallmark-verify", "bin/hallmark-verify", "the hallmark-verify binary")
	flag.StringVar(&b.cosign, "cosign", "cosign", "the cosign binary")
	flag.StringVar(&b.only, "only", "", "measure only `ROWS`: start, size, keyless, keyed, verify, many, requests, policy, gate, registry, log, ca, tsa, issue, growth")
	flag.StringVar(&b.distribution, "distribution", "registry", "distribution's registry binary")
	flag.StringVar(&b.rekor, "rekor", "rekor-server", "rekor-tiles' server with the POSIX driver")
	flag.StringVar(&b.fulcio, "fulcio", "fulcio", "the fulcio binary")
	flag.StringVar(&b.tsaServer, "timestamp-server", "timestamp-server", "timestamp-authority's server")
	flag.StringVar(&b.buildx, "buildx", "buildx", "the buildx binary, with buildkitd beside it")
	flag.BoolVar(&b.alone, "alone", false, "of log, ca, tsa and issue measure ours alone")
	flag.IntVar(&b.entries, "entries", largeLog, "how many entries growth ends with: a power of ten; above the default they are short")
	flag.IntVar(&b.rounds, "rounds", 5, "how often both sides of log, ca, tsa and issue are loaded, in turn")
	flag.IntVar(&b.runs, "n", 15, "counted runs of each command")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// bench is one run of the whole table.
type bench struct {
	hallmark, verifier, cosign, distribution string
	rekor, fulcio, tsaServer, buildx         string

	runs    int
	rounds  int
	entries int
	only    string
	alone   bool

	self string // this binary, which launches what is measured
	dir  string
	env  []string
	lab  *lab
}

// row is one line of the table.
type row struct {
	what       string
	ours, peer sample
	unit       string
	target     string
}

func (b *bench) run(ctx context.Context) error {
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	for _, p := range []*string{&b.hallmark, &b.verifier, &b.cosign, &b.distribution, &b.rekor, &b.fulcio, &b.tsaServer, &b.buildx} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	if b.dir, err = os.MkdirTemp("", "hallmark-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.env = append(os.Environ(), "HOME="+b.dir, "DOCKER_CONFIG="+b.dir, "TUF_ROOT="+filepath.Join(b.dir, "tuf"), "COSIGN_PASSWORD=bench", "BUILDX_CONFIG="+filepath.Join(b.dir, "buildx"))
	if b.lab, err = b.openLab(ctx); err != nil {
		return err
	}
	defer b.lab.close()
	fmt.Printf("%s, %s/%s, %d CPUs; medians of %d runs\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), b.runs)
	if err := b.table(ctx, "cosign", []group{
		{"start", b.start}, {"size", b.size}, {"keyless", b.keyless}, {"keyed", b.keyed},
		{"verify", b.verify}, {"many", b.verifyMany}, {"requests", b.requests},
	}); err != nil {
		return err
	}
	if err := b.table(ctx, "buildx", []group{{"policy", b.policies}}); err != nil {
		return err
	}
	if err := b.table(ctx, "git verify-tag", []group{{"gate", b.gates}}); err != nil {
		return err
	}
	if err := b.table(ctx, "distribution", []group{{"registry", b.registries}}); err != nil {
		return err
	}
	if services := []string{"", "log", "ca", "tsa", "issue"}; slices.Contains(services, b.only) {
		fmt.Printf("Services: medians of %d rounds; %d clients unless said, each with a connection that it keeps and requests that were made\n"+
			"before; clients, server and peer share the processors, and the aims of log and keyless are of ours alone.\n\n", b.rounds, manyClients)
	}
	if err := b.table(ctx, "Sigstore's", []group{{"log", b.logs}, {"ca", b.certificates}, {"tsa", b.timestamps}, {"issue", b.keylessIssues}}); err != nil {
		return err
	}
	if b.only != "" && b.only != "growth" {
		return nil
	}
	return b.growth(ctx)
}

// group is some rows of a table that are measured together.
type group struct {
	name string
	rows func(context.Context) ([]row, error)
}

// table measures and prints the groups beside one peer.
func (b *bench) table(ctx context.Context, peer string, groups []group) error {
	if b.only != "" {
		groups = slices.DeleteFunc(groups, func(g group) bool { return g.name != b.only })
	}
	if len(groups) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(os.Stdout, 2, 2, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "what\tours\t%s\tratio\ttarget\t\n", peer)
	for _, m := range groups {
		rows, err := m.rows(ctx)
		if err != nil {
			return err
		}
		for _, r := range rows {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t\n", r.what, show(r.ours.median(), r.unit), show(r.peer.median(), r.unit), ratio(r.ours, r.peer), r.target)
		}
	}
	fmt.Fprintln(w)
	return w.Flush()
}

func show(v float64, unit string) string {
	if v == 0 {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + unit
}

// ratio is ours over the peer's, pair by pair, as a median. What is too little to be
// measured has none.
func ratio(ours, peer sample) string {
	if peer.median() == 0 {
		return "-"
	}
	var r sample
	for i := range min(len(ours), len(peer)) {
		r = append(r, ours[i]/peer[i])
	}
	return strconv.FormatFloat(r.median(), 'f', 2, 64)
}
