package ledger_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
)

// TestAlone: an operator is alone where cosigners below the log's name are enough.
func TestAlone(t *testing.T) {
	t.Parallel()
	key := func() ed25519.PublicKey {
		public, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return public
	}
	const origin = "policy.example/v1"
	own, second, other, near := ledger.CosignerKey(origin+"/clock", key()), ledger.CosignerKey(origin+"/two", key()), ledger.CosignerKey("a.example", key()), ledger.CosignerKey(origin+"1/clock", key())
	for lines, want := range map[string]bool{
		"quorum own":                                            true,
		"quorum other":                                          false,
		"quorum near":                                           false,
		"group g all own other\nquorum g":                       false,
		"group g any own other\nquorum g":                       true,
		"group g 2 own second other\nquorum g":                  true,
		"group g 2 own near other\nquorum g":                    false,
		"group o any own second\ngroup g all o other\nquorum g": false,
	} {
		text := strings.Join([]string{"log " + ledger.VerifierKey(origin, key()), "witness own " + own, "witness second " + second, "witness other " + other, "witness near " + near, lines}, "\n")
		log, q, _, err := ledger.ParseTrust([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := q.Alone(log.Origin); got != want {
			t.Errorf("%s: %v", lines, got)
		}
	}
	if (ledger.Quorum{}).Alone(origin) {
		t.Error("a quorum of nobody")
	}
}
