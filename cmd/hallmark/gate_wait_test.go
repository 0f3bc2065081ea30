package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
)

// A server that is away for a moment does not end a wait of a day. One that never answered
// ends it, and so does every other error.
func TestWaitingForAServerThatIsAway(t *testing.T) {
	t.Parallel()
	missing := &judge.Result{Decision: policy.Deny(policy.Reason{Code: "QUORUM_MISSING", Message: "1 of 2"})}
	allowed := &judge.Result{Decision: policy.Decision{Allowed: true}}
	away, broken := fault.As(fault.Unreachable, errors.New("connection refused")), errors.New("no such tag")
	for name, tc := range map[string]struct {
		looks []any
		end   error
	}{
		"away for a moment": {[]any{missing, away, allowed}, nil},
		"never there":       {[]any{away}, away},
		"broken meanwhile":  {[]any{missing, broken}, broken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var said bytes.Buffer
			a := &app{App: &cli.App{Stderr: &said}}
			n := 0
			res, err := a.awaitRelease(t.Context(), func() (*judge.Result, error) {
				one := tc.looks[n]
				n++
				if err, bad := one.(error); bad {
					return nil, err
				}
				return one.(*judge.Result), nil
			}, "v1", time.Hour)
			if n != len(tc.looks) || !errors.Is(err, tc.end) || tc.end == nil && !res.Decision.Allowed {
				t.Errorf("%d looks of %d, then %v, %v", n, len(tc.looks), res, err)
			}
			if tc.end == nil && !strings.Contains(said.String(), "connection refused") {
				t.Errorf("said: %s", said.String())
			}
		})
	}
}
