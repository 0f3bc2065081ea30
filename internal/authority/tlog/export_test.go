package tlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// AppendForTest adds n distinct entries that are not hashedrekords, 100 at once.
func (l *Log) AppendForTest(n int) error {
	var wg sync.WaitGroup
	errs := make([]error, 100)
	for g := range errs {
		wg.Go(func() {
			for i := g; i < n; i += len(errs) {
				if _, _, err := l.append(context.Background(), fmt.Appendf(nil, "entry %d", i)); err != nil {
					errs[g] = err
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
