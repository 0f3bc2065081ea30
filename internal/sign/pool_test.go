package sign_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/sign"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// outage is services that fail: what each answers to its first, second, … call;
// the last answer stays. nil is a good answer.
type outage struct {
	mu      sync.Mutex
	answers map[string][]error
	asked   []string
	hang    map[string]bool // never answers
}

func (o *outage) ask(ctx context.Context, url string) (string, error) {
	o.mu.Lock()
	o.asked = append(o.asked, url)
	var err error
	if all := o.answers[url]; len(all) > 0 {
		err = all[0]
		if len(all) > 1 {
			o.answers[url] = all[1:]
		}
	}
	hangs := o.hang[url]
	o.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return "", ctx.Err()
	}
	return "answer of " + url, err
}

const a, b, c = "https://a.example", "https://b.example", "https://c.example"

// TestOutages: who is asked, how often and for how long, while services fail.
func TestOutages(t *testing.T) {
	t.Parallel()
	down := fault.Unreachablef("add a log entry: a.example: HTTP 503")
	refuses := errors.New("add a log entry: b.example: HTTP 400")
	absent := fault.HTTP("add a log entry", "http://127.0.0.1:1", &syscallError{syscall.ECONNREFUSED})
	always := []error{down}
	for name, row := range map[string]struct {
		need     int
		urls     []string
		answers  map[string][]error
		hang     []string
		patience time.Duration
		want     []string // who answered, sorted
		fails    string
		kind     fault.Kind
		asked    int
		least    time.Duration // that it takes
		most     time.Duration
	}{
		"the first one answers":            {need: 1, urls: []string{a, b, c}, want: []string{a}, asked: 1},
		"the first one is down":            {need: 1, urls: []string{a, b, c}, answers: map[string][]error{a: always}, want: []string{b}, asked: 2},
		"the first one refuses":            {need: 1, urls: []string{b, c}, answers: map[string][]error{b: {refuses}}, want: []string{c}, asked: 2},
		"two of three, one is down":        {need: 2, urls: []string{a, b, c}, answers: map[string][]error{a: always}, want: []string{b, c}, asked: 3},
		"all, one is back after a while":   {need: 2, urls: []string{a, b}, answers: map[string][]error{a: {down, down, nil}}, want: []string{a, b}, asked: 4, least: 300 * time.Millisecond, most: 2 * time.Second},
		"all, one stays down":              {need: 2, urls: []string{a, b}, answers: map[string][]error{a: always}, want: []string{b}, fails: "1 of 2 services answered, 2 must: add a log entry: a.example: HTTP 503", kind: fault.Unreachable, least: 24 * time.Second, most: 31 * time.Second},
		"all, one refuses":                 {need: 2, urls: []string{a, b}, answers: map[string][]error{b: {refuses}}, want: []string{a}, fails: "1 of 2 services answered, 2 must: add a log entry: b.example: HTTP 400", asked: 2},
		"the only one is down":             {need: 1, urls: []string{a}, answers: map[string][]error{a: always}, fails: "add a log entry: a.example: HTTP 503", kind: fault.Unreachable, least: 24 * time.Second, most: 31 * time.Second},
		"the only one is down for a while": {need: 1, urls: []string{a}, answers: map[string][]error{a: {down, nil}}, want: []string{a}, asked: 2, most: 300 * time.Millisecond},
		"the only one refuses":             {need: 1, urls: []string{b}, answers: map[string][]error{b: {refuses}}, fails: refuses.Error(), asked: 1},
		"patience of a minute":             {need: 1, urls: []string{a}, answers: map[string][]error{a: always}, patience: time.Minute, fails: "503", kind: fault.Unreachable, least: 54 * time.Second, most: 61 * time.Second},
		"it says when to come again":       {need: 1, urls: []string{a}, answers: map[string][]error{a: {sign.Busy(errors.New("busy"), 7*time.Second), nil}}, want: []string{a}, asked: 2, least: 7 * time.Second, most: 7 * time.Second},
		"it says to come after the end":    {need: 1, urls: []string{a}, answers: map[string][]error{a: {sign.Busy(errors.New("busy"), time.Hour)}}, fails: "busy", kind: fault.Unreachable, asked: 1},
		"the first one hangs":              {need: 1, urls: []string{a, b}, hang: []string{a}, want: []string{b}, asked: 2, least: 10 * time.Second, most: 10 * time.Second},
		"all hang":                         {need: 1, urls: []string{a}, hang: []string{a}, fails: "a.example: no answer within 10s", kind: fault.Unreachable, least: 20 * time.Second, most: 45 * time.Second},
		"nothing runs on this machine":     {need: 1, urls: []string{"http://127.0.0.1:1"}, answers: map[string][]error{"http://127.0.0.1:1": {absent}}, fails: "connection refused", kind: fault.Unreachable, asked: 1},
		"fewer than are needed":            {need: 3, urls: []string{a, b}, want: []string{a, b}, fails: "3 services are needed and 2 are named"},
		"one comes late, one in an hour": {need: 1, urls: []string{a, b}, answers: map[string][]error{a: {sign.Busy(errors.New("busy"), time.Hour)}, b: {down, nil}},
			want: []string{b}, asked: 3, most: 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &outage{answers: row.answers, hang: map[string]bool{}}
				for _, h := range row.hang {
					o.hang[h] = true
				}
				start := time.Now()
				got, err := sign.AskAll(context.Background(), &sign.Services{Patience: row.patience}, trust.Choice{URLs: row.urls, Need: row.need}, o.ask)
				took := time.Since(start)
				slices.Sort(got)
				for i := range got {
					got[i] = strings.TrimPrefix(got[i], "answer of ")
				}
				if !slices.Equal(got, row.want) {
					t.Errorf("answered: %v, want %v", got, row.want)
				}
				if (err == nil) != (row.fails == "") || err != nil && (!strings.Contains(err.Error(), row.fails) || fault.KindOf(err) != row.kind) {
					t.Errorf("%v (kind %d); want %q", err, fault.KindOf(err), row.fails)
				}
				if row.asked > 0 && len(o.asked) != row.asked {
					t.Errorf("asked %v, want %d times", o.asked, row.asked)
				}
				if took < row.least || took > row.most {
					t.Errorf("took %s, want %s to %s", took, row.least, row.most)
				}
			})
		})
	}
}

type syscallError struct{ error }

func (e *syscallError) Unwrap() error { return e.error }

// TestOutageEndsWithItsCaller: nobody waits for services longer than the caller does.
func TestOutageEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		var told []string
		s := &sign.Services{Waiting: func(err error) { told = append(told, err.Error()) }}
		o := &outage{answers: map[string][]error{a: {fault.Unreachablef("down")}}}
		start := time.Now()
		if _, err := sign.AskAll(ctx, s, sign.One(a), o.ask); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %s", took)
		}
		if len(told) < 2 || told[0] != "down" {
			t.Errorf("told %q", fmt.Sprint(told))
		}
	})
}

// TestSeveralLogsAndTSAs: real logs and timestamp authorities, one of them gone.
func TestSeveralLogsAndTSAs(t *testing.T) {
	t.Parallel()
	one, two := newLab(t), newLab(t)
	gone := "http://127.0.0.1:1"
	stamps := func(urls ...string) (out []string) {
		for _, u := range urls {
			out = append(out, u+"/api/v1/timestamp")
		}
		return out
	}
	for name, row := range map[string]struct {
		logs, tsas []string
		need       int
		fails      bool
	}{
		"any, the first is gone": {logs: []string{gone, one.url}, tsas: stamps(gone, two.url), need: 1},
		"all":                    {logs: []string{one.url, two.url}, tsas: stamps(one.url, two.url), need: 2},
		"two, one of three gone": {logs: []string{one.url, gone, two.url}, tsas: stamps(gone, one.url, two.url), need: 2},
		"two, two of three gone": {logs: []string{gone, gone + "0", two.url}, tsas: stamps(one.url, two.url), need: 2, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := keySigner(t, sign.Services{Logs: trust.Choice{URLs: row.logs, Need: row.need}, TSAs: trust.Choice{URLs: row.tsas, Need: row.need}, Patience: time.Nanosecond}, "")
			signed, err := s.Sign(context.Background(), sentence(t))
			if row.fails {
				if fault.KindOf(err) != fault.Unreachable || !strings.Contains(err.Error(), "1 of 3 services answered, 2 must: ") {
					t.Error(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			claim := signed.Claim
			if len(claim.LogEntries) != row.need || len(claim.Timestamps) != row.need {
				t.Errorf("%d log entries and %d timestamps, want %d of each", len(claim.LogEntries), len(claim.Timestamps), row.need)
			}
			ids := map[string]bool{}
			for _, e := range claim.LogEntries {
				ids[string(e.LogID)] = true
			}
			if len(ids) != row.need {
				t.Error("two entries of one log")
			}
		})
	}
}
