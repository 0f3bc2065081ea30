package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/tlog"
	"github.com/hallmark-dev/hallmark/internal/durable"
)

// Growth: what an append, a start and the memory cost with a log of 1,000 entries
// up to as many as are asked for. The entries are generated, through the log's own
// Append; they are no signatures, only as long as some. The log is that of an
// authority's folder, so that hallmark up can be started on it, too. Every step is a
// process of its own: its peak of memory is its own.

// appenderArg makes this binary append to a log, as a process of its own.
const appenderArg = "-append"

const (
	fillers  = 512   // goroutines that fill a log: as many as share a commit
	appends  = 5_000 // that are timed at each size, by as many clients as elsewhere
	entryLen = 1_000 // bytes, up to largeLog entries
	shortLen = 120   // bytes, of larger logs: ten million would be 10 GB
	largeLog = 1_000_000
)

// appended is what a process that opened a log and appended to it took.
type appended struct {
	Open float64 // milliseconds until the log was open
	Size int64   // entries when it was
	Each float64 // microseconds for one append, by the clock
	CPU  float64 // microseconds for one append
	P50  float64 // milliseconds that one waited
	P99  float64
	RSS  float64 // megabytes (10^6), peak
}

// appendTo is that process: FOLDER COUNT LENGTH CLIENTS. FOLDER is of an authority
// that is not running. Every append gives an index under a synced checkpoint, and
// the proof of its inclusion is made.
func appendTo(args []string) error {
	if len(args) != 4 {
		return errors.New("want FOLDER COUNT LENGTH CLIENTS")
	}
	var numbers [3]int
	for i, text := range args[1:] {
		n, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		numbers[i] = n
	}
	count, length, clients := numbers[0], numbers[1], numbers[2]
	key, err := logKey(args[0])
	if err != nil {
		return err
	}
	start := time.Now()
	l, err := tlog.Open(filepath.Join(args[0], "log"), tlog.Config{Origin: "127.0.0.1", Key: key})
	if err != nil {
		return err
	}
	answer := appended{Open: time.Since(start).Seconds() * 1e3, Size: l.Size()}
	self := []int{os.Getpid()}
	used := processorTime(self)
	start = time.Now()
	taken, err := appendMany(l, count, length, clients)
	if err != nil {
		return err
	}
	if count > 0 {
		answer.Each = time.Since(start).Seconds() * 1e6 / float64(count)
		answer.CPU = (processorTime(self) - used) * 1e6 / float64(count)
		slices.Sort(taken)
		answer.P50, answer.P99 = taken[len(taken)/2], taken[len(taken)*99/100]
	}
	if err := l.Close(); err != nil {
		return err
	}
	answer.RSS = peakMemory(self)
	return json.NewEncoder(os.Stdout).Encode(answer)
}

// timed is how many appends are timed at most; the times of more would be most of the
// process's memory.
const timed = 100_000

// appendMany appends count new entries and gives how long each took, in milliseconds;
// of more than timed entries the first.
func appendMany(l *tlog.Log, count, length, clients int) ([]float64, error) {
	first := l.Size()
	taken := make([]float64, min(count, timed))
	failed := make([]error, clients)
	var next atomic.Int64
	var group sync.WaitGroup
	for c := range clients {
		group.Go(func() {
			entry := bytes.Repeat([]byte("."), length)
			for i := next.Add(1) - 1; i < int64(count) && failed[c] == nil; i = next.Add(1) - 1 {
				copy(entry, fmt.Sprintf("entry %d ", first+i))
				t0 := time.Now()
				added, err := l.Append(context.Background(), slices.Clone(entry))
				if err == nil {
					_, err = added.Inclusion(added.Index)
				}
				if failed[c] = err; i < timed {
					taken[i] = time.Since(t0).Seconds() * 1e3
				}
			}
		})
	}
	group.Wait()
	return taken, errors.Join(failed...)
}

// logKey is the log's key in an authority's folder.
func logKey(folder string) (ed25519.PrivateKey, error) {
	data, err := durable.ReadSealed(filepath.Join(folder, "keys", "log.pem"))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("the log's key is no PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if key, ok := parsed.(ed25519.PrivateKey); err == nil && ok {
		return key, nil
	}
	return nil, errors.New("the log's key is no Ed25519 key")
}

// growth prints a line for each size.
func (b *bench) growth(ctx context.Context) error {
	length := entryLen
	if b.entries > largeLog {
		length = shortLen
	}
	fmt.Printf("%s, %s/%s, %d CPUs; entries of %d bytes, generated; %d appends by %d clients and by one at each size\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), length, appends, manyClients)
	fmt.Printf("aims: the same at every size, memory under 150 MB throughout, start under 1 s\n\n")
	w := tabwriter.NewWriter(os.Stdout, 2, 2, 2, ' ', tabwriter.AlignRight)
	defer func() { _ = w.Flush() }() // what was measured, also when the rest fails
	fmt.Fprintln(w, "entries\tappend\tCPU\tp99\tone alone\topen\tpeak\tfilling's peak\tup ready\tHTTP: entries\tCPU\tp99\tpeak\t")
	folder := filepath.Join(b.dir, "growing")
	keys, err := newSigners()
	if err != nil {
		return err
	}
	if _, _, err := b.startOn(ctx, folder, nil); err != nil { // makes it
		return err
	}
	for size := 1000; size <= b.entries; size *= 10 {
		now, err := b.appends(ctx, folder, 0, length, 1)
		if err != nil {
			return err
		}
		filled, err := b.appends(ctx, folder, max(0, size-int(now.Size)), length, fillers)
		if err != nil {
			return err
		}
		many, err := b.appends(ctx, folder, appends, length, manyClients)
		if err != nil {
			return err
		}
		one, err := b.appends(ctx, folder, appends/10, length, 1)
		if err != nil {
			return err
		}
		start, http, err := b.startOn(ctx, folder, keys)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%d\t%.0f µs\t%.0f µs\t%.1f ms\t%.2f ms\t%.0f ms\t%.0f MB\t%.0f MB\t%.0f ms\t%.0f/s\t%.0f µs\t%.1f ms\t%.0f MB\t\n",
			size, many.Each, many.CPU, many.P99, one.P50, many.Open, max(many.RSS, one.RSS), filled.RSS, start, http.rate, http.cpu, http.p99, http.memory)
		fmt.Fprintf(os.Stderr, "bench: measured at %d entries\n", size)
	}
	return nil
}

// appends runs an appender on a folder.
func (b *bench) appends(ctx context.Context, folder string, count, length, clients int) (a appended, err error) {
	text, err := b.output(ctx, b.self, appenderArg, folder, strconv.Itoa(count), strconv.Itoa(length), strconv.Itoa(clients))
	if err == nil {
		err = json.Unmarshal([]byte(text), &a)
	}
	return a, err
}

// startOn starts hallmark up on a folder and gives how long it took until it
// answered, in milliseconds, and, when there are keys to make requests with, what
// five seconds of load by as many clients as elsewhere gave, the last three counted.
func (b *bench) startOn(ctx context.Context, folder string, keys []signer) (start float64, load figures, err error) {
	up := exec.CommandContext(ctx, b.hallmark, "up", "--data", folder, "--listen", "127.0.0.1:0", "--json")
	up.Env, up.Stderr = b.env, os.Stderr
	out, err := up.StdoutPipe()
	if err != nil {
		return 0, figures{}, err
	}
	t0 := time.Now()
	if err := up.Start(); err != nil {
		return 0, figures{}, err
	}
	defer func() {
		_ = up.Process.Signal(os.Interrupt)
		_ = up.Wait()
	}()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return 0, figures{}, fmt.Errorf("hallmark up did not become ready: %w", err)
	}
	start = time.Since(t0).Seconds() * 1e3
	if keys == nil {
		return start, figures{}, nil
	}
	var answer struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return 0, figures{}, err
	}
	u, err := url.Parse(answer.URL)
	if err != nil {
		return 0, figures{}, err
	}
	p := period{manyClients, 2 * time.Second, 3 * time.Second, 30_000}
	requests, err := entryRequests(p.operations, int(time.Now().UnixNano()&0xffffff), keys)
	if err != nil {
		return 0, figures{}, err
	}
	load, err = p.run(ctx, newLogSide(u.Host, nil, &requests, up.Process.Pid).side)
	return start, load, err
}
