package main

import (
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/judge"
)

// A build may take hours. The second question is denied for the clock (CLOCK_SKEW) when the
// first one would be, and for no other reason.
func TestJobOfALongBuild(t *testing.T) {
	seen := time.Now()
	for name, age := range map[string]time.Duration{"new": time.Second, "the most": judge.MaxSkew, "too old": judge.MaxSkew + time.Second, "of the future": -judge.MaxSkew - time.Second} {
		g := &releaseGate{job: &judge.Job{IssuedAt: seen.Add(-age).UTC()}, seen: seen}
		for _, built := range []time.Duration{0, 6 * time.Minute, 5 * time.Hour} {
			now := seen.Add(built)
			if got := now.Sub(g.jobAt(now).IssuedAt); got != age {
				t.Errorf("%s, after %v: the identity seems to be %v old, want %v", name, built, got, age)
			}
		}
		// Whoever sets the clock while it is built is found out: only the wall clock moves then.
		set := seen.Round(0).Add(time.Hour)
		g.seen = seen
		if got := set.Sub(g.jobAt(time.Now()).IssuedAt); got < 50*time.Minute {
			t.Errorf("%s: the clock was set by an hour, and the identity seems to be %v old", name, got)
		}
	}
	if (&releaseGate{}).jobAt(seen) != nil {
		t.Error("a job out of nothing")
	}
}
