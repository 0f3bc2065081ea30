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
		answer.P50, answer.P99 = taken[count/2], taken[count*99/100]
	}
	if err := l.Close(); err != nil {
		return err
	}
	answer.RSS = peakMemory(self)
	return json.NewEncoder(os.Stdout).Encode(answer)
}

// appendMany appends count new entries and gives how long each took, in milliseconds.
func appendMany(l *tlog.Log, count, length, clients int) ([]float64, error) {
	first := l.Size()
	taken := make([]float64, count)
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
				taken[i], failed[c] = time.Since(t0).Seconds()*1e3, err
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
	fmt.Printf("%10s  %12s  %10s  %10s  %10s  %12s  %12s  %12s  %14s  %14s\n", "entries", "µs/append", "CPU µs", "p99 ms", "one, ms",
		"open, ms", "process, MB", "filling, MB", "hallmark up, ms", "up loaded, MB")
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
		start, memory, err := b.startOn(ctx, folder, keys)
		if err != nil {
			return err
		}
		fmt.Printf("%10d  %12.1f  %10.1f  %10.2f  %10.2f  %12.1f  %12.1f  %12.1f  %14.1f  %14.1f\n",
			size, many.Each, many.CPU, many.P99, one.P50, many.Open, max(many.RSS, one.RSS), filled.RSS, start, memory)
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
// answered, in milliseconds, and, when there are keys to make requests with, its
// peak of memory after two seconds of load by as many clients as elsewhere.
func (b *bench) startOn(ctx context.Context, folder string, keys []signer) (start, memory float64, err error) {
	up := exec.CommandContext(ctx, b.hallmark, "up", "--data", folder, "--listen", "127.0.0.1:0", "--json")
	up.Env, up.Stderr = b.env, os.Stderr
	out, err := up.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	t0 := time.Now()
	if err := up.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		_ = up.Process.Signal(os.Interrupt)
		_ = up.Wait()
	}()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return 0, 0, fmt.Errorf("hallmark up did not become ready: %w", err)
	}
	start = time.Since(t0).Seconds() * 1e3
	if keys == nil {
		return start, 0, nil
	}
	var answer struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return 0, 0, err
	}
	u, err := url.Parse(answer.URL)
	if err != nil {
		return 0, 0, err
	}
	p := period{manyClients, 0, 2 * time.Second, 10_000}
	requests, err := entryRequests(p.operations, int(time.Now().UnixNano()&0xffffff), keys)
	if err != nil {
		return 0, 0, err
	}
	f, err := p.run(ctx, newLogSide(u.Host, nil, &requests, up.Process.Pid).side)
	return start, f.memory, err
}
