package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Load on a service: so many clients, each with a connection of its own that it
// keeps, send one request after the other. Requests are made before the time is
// taken and the client is no more than a socket with a buffer, so that most of the
// two processors that both sides share is left to the server. What remains is
// counted against the server, ours and the peer's alike.

// caller is one client's connections, one to each service that it speaks to.
type caller struct {
	conns map[string]*connection
}

type connection struct {
	net.Conn
	reader  *bufio.Reader
	request []byte
	answer  []byte
}

// post sends a request and returns the body of the answer, which must have the
// status and is good until the next one.
func (c *caller) post(service, path, header string, body []byte, status int) ([]byte, error) {
	conn := c.conns[service]
	if conn == nil {
		raw, err := net.Dial("tcp", service)
		if err != nil {
			return nil, err
		}
		conn = &connection{Conn: raw, reader: bufio.NewReaderSize(raw, 16<<10)}
		c.conns[service] = conn
	}
	conn.request = append(conn.request[:0], "POST "+path+" HTTP/1.1\r\nHost: "+service+"\r\n"+header+"Content-Length: "...)
	conn.request = append(strconv.AppendInt(conn.request, int64(len(body)), 10), "\r\n\r\n"...)
	conn.request = append(conn.request, body...)
	if _, err := conn.Write(conn.request); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(conn.reader, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	conn.answer = slices.Grow(conn.answer[:0], max(int(resp.ContentLength), 4<<10))
	for {
		n, err := resp.Body.Read(conn.answer[len(conn.answer):cap(conn.answer)])
		conn.answer = conn.answer[:len(conn.answer)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		conn.answer = slices.Grow(conn.answer, 1)
	}
	if resp.StatusCode != status {
		return nil, fmt.Errorf("POST %s%s: %s, want %d: %.300s", service, path, resp.Status, status, conn.answer)
	}
	return conn.answer, nil
}

func (c *caller) close() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// side is one of the two that are compared: how a client does the i-th operation,
// and the processes that answer it.
type side struct {
	do        func(c *caller, i int) error
	processes []int
}

// figures are what one period of load gave.
type figures struct {
	rate     float64 // operations a second
	p50, p99 float64 // milliseconds
	cpu      float64 // of the processes, µs for an operation
	own      float64 // the same of this process: the clients, and the CT log that it plays
	memory   float64 // MB (10^6), their peak since they were started
}

// period is how a load is run: nothing counts before warm has passed. It ends with
// the time or when the operations are used up.
type period struct {
	clients       int
	warm, counted time.Duration
	operations    int
}

// reading is what the processors had done at a time.
type reading struct {
	at       time.Time
	cpu, own float64
}

func (s side) read() reading {
	return reading{time.Now(), processorTime(s.processes), processorTime([]int{os.Getpid()})}
}

// operation is one that has ended.
type operation struct {
	ended time.Time
	took  time.Duration
}

// run loads a side. What ends between two readings is counted, whenever it began: a
// server that takes long is charged for all that it works on, and gets as much that was
// begun before as it leaves unfinished.
func (p period) run(ctx context.Context, s side) (figures, error) {
	var next atomic.Int64
	ctx, cancel := context.WithTimeout(ctx, p.warm+p.counted)
	defer cancel()
	begin := time.NewTimer(p.warm)
	ended := make([][]operation, p.clients)
	failed := make([]error, p.clients)
	var group sync.WaitGroup
	for client := range p.clients {
		group.Go(func() {
			c := &caller{conns: map[string]*connection{}}
			defer c.close()
			for ctx.Err() == nil && failed[client] == nil {
				i := int(next.Add(1)) - 1
				if i >= p.operations {
					return
				}
				t0 := time.Now()
				failed[client] = s.do(c, i)
				t1 := time.Now()
				ended[client] = append(ended[client], operation{t1, t1.Sub(t0)})
			}
		})
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-begin.C:
	case <-done:
	}
	from := s.read()
	select {
	case <-ctx.Done():
	case <-done:
	}
	to := s.read()
	<-done
	if err := errors.Join(failed...); err != nil {
		return figures{}, err
	}
	return between(from, to, slices.Concat(ended...), peakMemory(s.processes))
}

// between is what the operations that ended between two readings give.
func between(from, to reading, all []operation, memory float64) (figures, error) {
	var taken []float64
	for _, o := range all {
		if o.ended.After(from.at) && !o.ended.After(to.at) {
			taken = append(taken, o.took.Seconds()*1e3)
		}
	}
	if len(taken) == 0 {
		return figures{}, errors.New("the load ended before anything was counted")
	}
	slices.Sort(taken)
	n := float64(len(taken))
	return figures{
		rate: n / to.at.Sub(from.at).Seconds(), p50: taken[len(taken)/2], p99: taken[len(taken)*99/100],
		cpu: (to.cpu - from.cpu) * 1e6 / n, own: (to.own - from.own) * 1e6 / n, memory: memory,
	}, nil
}

// inTurn loads both sides, ours first; prepare makes the requests of a round. With
// -alone the peer is left out.
func (b *bench) inTurn(ctx context.Context, p period, ours, peer side, prepare func(round int) error) (x, y []figures, err error) {
	for round := range b.rounds {
		if err := prepare(round); err != nil {
			return nil, nil, err
		}
		f, err := p.run(ctx, ours)
		if err != nil {
			return nil, nil, err
		}
		x = append(x, f)
		if b.alone {
			continue
		}
		if f, err = p.run(ctx, peer); err != nil {
			return nil, nil, err
		}
		y = append(y, f)
	}
	return x, y, nil
}

// rowsOf are a load's lines in the table.
func rowsOf(what, unit string, a, b []figures, rate, p50, p99 string) []row {
	line := func(name, unit, target string, f func(figures) float64) row {
		r := row{what: name, unit: unit, target: target}
		for _, x := range a {
			r.ours = append(r.ours, f(x))
		}
		for _, x := range b {
			r.peer = append(r.peer, f(x))
		}
		return r
	}
	return []row{
		line(what, unit+"/s", rate, func(f figures) float64 { return f.rate }),
		line("median", "ms", p50, func(f figures) float64 { return f.p50 }),
		line("99th percentile", "ms", p99, func(f figures) float64 { return f.p99 }),
		line("server's processor time for one", "µs", "", func(f figures) float64 { return f.cpu }),
		line("clients' processor time for one", "µs", "", func(f figures) float64 { return f.own }),
		line("server's peak memory so far", "MB", "", func(f figures) float64 { return f.memory }),
	}
}

// processorTime is what processes have used of the processors, user and system,
// in seconds (proc(5), /proc/pid/stat: fields 14 and 15, in hundredths).
func processorTime(pids []int) (seconds float64) {
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 13 {
			continue
		}
		for _, ticks := range fields[11:13] {
			n, _ := strconv.ParseFloat(ticks, 64)
			seconds += n / 100
		}
	}
	return seconds
}

// peakMemory is the sum of the peaks of the processes' resident memory, in MB (10^6).
func peakMemory(pids []int) (mb float64) {
	for _, pid := range pids {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.Lines(string(data)) {
			if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
				mb += kib * 1024 / 1e6
			}
		}
	}
	return mb
}
