package sign

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// One is a choice of one service, none for "".
func One(url string) trust.Choice {
	if url == "" {
		return trust.Choice{}
	}
	return trust.Choice{URLs: []string{url}, Need: 1}
}

const (
	// patience is how long services that do not answer are asked again, when
	// Services.Patience does not say.
	patience = 30 * time.Second
	// oneTry is how long one service may take for an answer while others, or a
	// second try, could still give one.
	oneTry = 10 * time.Second
	// minTry is what one try gets however short the patience is: a good answer of a
	// busy service takes its time, too.
	minTry = 5 * time.Second
	// The pause before services are asked again grows from firstPause to maxPause.
	firstPause = 250 * time.Millisecond
	maxPause   = 5 * time.Second
)

// busyError is a service's answer that says when to ask again.
type busyError struct {
	error
	after time.Duration
}

func (e busyError) Unwrap() error { return e.error }

// given is what a service gave.
type given[T any] struct {
	url    string
	answer T
}

// askAll asks services of a choice until as many as it needs have answered: the
// first of them at once, another one in the place of each that fails, and those
// that did not answer again, each after a pause of its own, until the patience is
// over. A service that answers with a refusal, or wrongly, is not asked again. With
// an error come the answers that there were.
//
// What is asked for must be the same however often it is asked: then a service
// that did its work and whose answer was lost does nothing twice.
func askAll[T any](ctx context.Context, s *Services, c trust.Choice, ask func(ctx context.Context, url string) (T, error)) ([]given[T], error) {
	limit := s.Patience
	if limit == 0 {
		limit = patience
	}
	deadline := time.Now().Add(limit)
	r := round[T]{ask: ask, need: c.Need, try: max(min(limit, oneTry), minTry)}
	for _, url := range c.URLs {
		r.waiting = append(r.waiting, appointment{url: url})
	}
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		// Services on many machines that fail together must not be asked together.
		r.run(ctx, pause/2+rand.N(pause/2+1))
		if len(r.got) >= c.Need {
			return r.got, nil
		}
		if err := ctx.Err(); err != nil {
			return r.got, err
		}
		next, possible := r.next(deadline)
		if len(r.got)+possible < c.Need {
			return r.got, r.failure(c)
		}
		if s.Waiting != nil {
			s.Waiting(r.failure(c))
		}
		select {
		case <-ctx.Done():
			return r.got, ctx.Err()
		case <-time.After(time.Until(next)):
		}
	}
}

// appointment is when a service may be asked.
type appointment struct {
	url string
	at  time.Time // zero: now
}

// round asks each of the services that are due at most once.
type round[T any] struct {
	ask  func(ctx context.Context, url string) (T, error)
	need int
	try  time.Duration

	mu      sync.Mutex
	got     []given[T]
	errs    map[string]error // the last error of each service that failed
	order   []string         // of errs
	queue   []string
	waiting []appointment // services that may be asked, or asked again
}

// run asks as many of the services that are due at a time as are still needed.
// Those that do not answer may be asked again after a pause, or when they say.
func (r *round[T]) run(ctx context.Context, pause time.Duration) {
	r.queue = nil
	r.waiting = slices.DeleteFunc(r.waiting, func(a appointment) bool {
		due := !a.at.After(time.Now())
		if due {
			r.queue = append(r.queue, a.url)
		}
		return due
	})
	var workers sync.WaitGroup
	for range min(r.need-len(r.got), len(r.queue)) {
		workers.Go(func() {
			for url, ok := r.take(); ok && !r.one(ctx, url, pause); url, ok = r.take() {
			}
		})
	}
	workers.Wait()
	for _, url := range r.queue { // not needed in this round
		r.waiting = append(r.waiting, appointment{url: url})
	}
}

func (r *round[T]) take() (url string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return "", false
	}
	url, r.queue = r.queue[0], r.queue[1:]
	return url, true
}

// next is when the first service may be asked again, and how many may be before a
// deadline.
func (r *round[T]) next(deadline time.Time) (first time.Time, possible int) {
	for _, a := range r.waiting {
		if a.at.After(deadline) {
			continue
		}
		if possible++; first.IsZero() || a.at.Before(first) {
			first = a.at
		}
	}
	return first, possible
}

// one asks a service and reports whether it answered.
func (r *round[T]) one(ctx context.Context, url string, pause time.Duration) bool {
	tctx, cancel := context.WithTimeoutCause(ctx, r.try, errNoAnswer)
	defer cancel()
	answer, err := r.ask(tctx, url)
	if err != nil && errors.Is(context.Cause(tctx), errNoAnswer) {
		err = fault.Unreachablef("%s: no answer within %s", hostOf(url), r.try)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.got = append(r.got, given[T]{url, answer})
		delete(r.errs, url)
		return true
	}
	if r.errs == nil {
		r.errs = map[string]error{}
	}
	if _, known := r.errs[url]; !known {
		r.order = append(r.order, url)
	}
	r.errs[url] = err
	if fault.KindOf(err) == fault.Unreachable && !absent(err, url) {
		var busy busyError
		if errors.As(err, &busy) {
			pause = max(pause, busy.after)
		}
		r.waiting = append(r.waiting, appointment{url, time.Now().Add(pause)})
	}
	return false
}

// absent reports a service of this machine that is not running: waiting does not
// start it.
func absent(err error, url string) bool {
	return errors.Is(err, syscall.ECONNREFUSED) && loopback.Host(hostOf(url))
}

var errNoAnswer = errors.New("no answer in time")

// failure says of each service why it gave nothing. It is Unreachable when asking
// again later could help.
func (r *round[T]) failure(c trust.Choice) error {
	var all []error
	kind := fault.Failure
	for _, url := range r.order {
		if err := r.errs[url]; err != nil {
			all = append(all, err)
			if fault.KindOf(err) == fault.Unreachable {
				kind = fault.Unreachable
			}
		}
	}
	switch {
	case len(all) == 0:
		return fmt.Errorf("%d services are needed and %d are named", c.Need, len(c.URLs))
	case len(c.URLs) == 1:
		return all[0]
	}
	texts := make([]string, len(all))
	for i, err := range all {
		texts[i] = err.Error()
	}
	err := fmt.Errorf("%d of %d services answered, %d must: %s", len(r.got), len(c.URLs), c.Need, strings.Join(texts, "; "))
	return &fault.Error{Kind: kind, Hint: fault.HintOf(all[0]), Err: err}
}
