package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// launcherArg makes this binary start one command and print what it used. A
// child begins its life in its parent's memory and the kernel counts that into
// its peak, so the parent has to be small: this one, before it has done anything.
const launcherArg = "-launch"

// usage is what one run of a command took.
type usage struct {
	Wall, CPU float64 // milliseconds
	RSS       float64 // megabytes (10^6), peak
	Code      int
}

func launch(name string, args []string) int {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	t0 := time.Now()
	_ = cmd.Run()
	wall := time.Since(t0)
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "cannot start", name)
		return 1
	}
	ru := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	_ = json.NewEncoder(os.Stdout).Encode(usage{
		Wall: wall.Seconds() * 1e3,
		CPU:  (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds() * 1e3,
		RSS:  float64(ru.Maxrss) * 1024 / 1e6,
		Code: cmd.ProcessState.ExitCode(),
	})
	return 0
}

// measure runs one command through the launcher; it must exit 0.
func (b *bench) measure(ctx context.Context, name string, args ...string) (usage, error) {
	cmd := exec.CommandContext(ctx, b.self, append([]string{launcherArg, name}, args...)...)
	cmd.Env, cmd.Dir = b.env, b.dir
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return usage{}, fmt.Errorf("%s %v: %w\n%s", name, args, err, errOut.String())
	}
	var u usage
	if err := json.Unmarshal(out.Bytes(), &u); err != nil {
		return usage{}, err
	}
	if u.Code != 0 {
		return usage{}, fmt.Errorf("%s %v: exit %d\n%s", name, args, u.Code, errOut.String())
	}
	return u, nil
}

// command makes the arguments of the i-th run, so that no run repeats another's work.
type command func(i int) (name string, args []string, err error)

// pairs runs a and b in turn, once uncounted and then n times counted.
func (b *bench) pairs(ctx context.Context, n int, ours, peer command) (a, p []usage, err error) {
	for i := range n + 1 {
		for _, side := range []struct {
			make command
			into *[]usage
		}{{ours, &a}, {peer, &p}} {
			name, args, err := side.make(i)
			if err != nil {
				return nil, nil, err
			}
			u, err := b.measure(ctx, name, args...)
			if err != nil {
				return nil, nil, err
			}
			if i > 0 {
				*side.into = append(*side.into, u)
			}
		}
	}
	return a, p, nil
}

// sample is a series of figures.
type sample []float64

func (s sample) median() float64 {
	if len(s) == 0 {
		return 0
	}
	c := slices.Sorted(slices.Values(s))
	return c[len(c)/2]
}

func of(us []usage, f func(usage) float64) sample {
	var s sample
	for _, u := range us {
		s = append(s, f(u))
	}
	return s
}

func wall(u usage) float64 { return u.Wall }
func rss(u usage) float64  { return u.RSS }
