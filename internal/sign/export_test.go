package sign

import (
	"context"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// What fuzz targets call.
var (
	ReadTimestamp     = readTimestamp
	ReadLogEntry      = readLogEntry
	ParseCertificates = parseCertificates
)

// Discard reads the bundle to its end.
func (s *Signed) Discard() error {
	_, err := s.describe()
	return err
}

// AskAll is for tests that let services fail in a time of their own.
func AskAll(ctx context.Context, s *Services, c trust.Choice, ask func(ctx context.Context, url string) (string, error)) ([]string, error) {
	got, err := askAll(ctx, s, c, ask)
	var out []string
	for _, g := range got {
		out = append(out, g.answer)
	}
	return out, err
}

// Busy is an answer that says when to ask again.
func Busy(err error, after time.Duration) error {
	return fault.As(fault.Unreachable, busyError{err, after})
}
