package translog

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// Bundle is consecutive entries of a log.
type Bundle struct {
	First   int64 // index of Entries[0]
	Entries [][]byte
}

// scanAhead is how many bundles may be worked on or wait for their turn.
const scanAhead = 32

// Scan reads the entries from the first up to, not including, end, each once. work
// is called concurrently, with what lies in one bundle; emit gets its results in
// order, one at a time, and nothing after an error.
func Scan[T any](ctx context.Context, v *View, first, end int64, work func(Bundle) (T, error), emit func(T) error) error {
	return scan(ctx, v, first, end, false, func(n int64, l loaded) (T, error) {
		return work(clipBundle(n, l.entries, first, end))
	}, emit)
}

// scan is Scan with whole bundles, which keep puts into the cache.
func scan[T any](ctx context.Context, v *View, first, end int64, keep bool, work func(int64, loaded) (T, error), emit func(T) error) error {
	if first >= end {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	queue := make(chan chan T, scanAhead)
	fetch := func(n int64, slot chan T, bundle func() (loaded, error)) {
		g.Go(func() error {
			l, err := bundle()
			if err != nil {
				return err
			}
			out, err := work(n, l)
			if err == nil {
				slot <- out
			}
			return err
		})
	}
	g.Go(func() error { // hands out bundles in order
		defer close(queue)
		for n := first / Width; n*Width < end; {
			stop := min((n/Width+1)*Width, (end+Width-1)/Width) // one tile has their hashes
			want, err := v.bundleHashes(ctx, n, stop)
			if err != nil {
				return err
			}
			for start := n; n < stop; n++ {
				slot := make(chan T, 1)
				select {
				case queue <- slot:
				case <-ctx.Done():
					return ctx.Err()
				}
				at, hashes := n, want[n-start]
				fetch(at, slot, func() (loaded, error) { return v.bundle(ctx, at, hashes, keep) })
			}
		}
		return nil
	})
	g.Go(func() error { return drain(ctx, queue, emit) })
	return g.Wait()
}

// drain emits what the slots get, in order.
func drain[T any](ctx context.Context, queue <-chan chan T, emit func(T) error) error {
	for slot := range queue {
		select {
		case out := <-slot:
			if err := emit(out); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// clipBundle is what of bundle n lies between first and end.
func clipBundle(n int64, entries [][]byte, first, end int64) Bundle {
	b := Bundle{First: n * Width, Entries: entries}
	if skip := first - b.First; skip > 0 {
		b.First, b.Entries = first, b.Entries[skip:]
	}
	if over := b.First + int64(len(b.Entries)) - end; over > 0 {
		b.Entries = b.Entries[:int64(len(b.Entries))-over]
	}
	return b
}
