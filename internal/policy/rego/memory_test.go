package rego

import (
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// TestMemoryIsBounded: a policy that builds a value without end is stopped by its
// growth, long before its deadline. Not parallel: the heap is everybody's.
func TestMemoryIsBounded(t *testing.T) {
	text := "package hallmark.signing\nl := [" + strings.Repeat("1,", 999) + "1]\n" +
		"x := [[a, b, c, i, j, k] | some i, a in l; some j, b in l; some k, c in l]\nallow if count(x) > 0"
	s, err := Compile(map[string][]byte{"p.rego": []byte(text)}, Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	s.eval.growth = 32 << 20
	id := strings.Repeat("1", 40)
	d, err := s.Evaluate(t.Context(), policy.Input{Kind: "build", Now: time.Now(), Git: &policy.Git{
		Ref: "refs/heads/main", Checksum: id, CommitChecksum: id, Commit: &policy.Commit{Tree: id},
	}})
	if err != nil || d.Allowed || d.Reasons[0].Code != CodeEval || !strings.Contains(d.Reasons[0].Message, "too much memory") {
		t.Error(d, err)
	}
}
