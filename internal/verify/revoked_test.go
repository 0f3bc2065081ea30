package verify_test

import (
	"crypto"
	"crypto/elliptic"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// signedAt is a claim by signer with a timestamp of that time.
func (w *world) signedAt(signer crypto.Signer, keyOnly bool, at time.Time) *evidence.Claim {
	return w.claim(claimOptions{signer: signer, keyOnly: keyOnly, logs: []string{"v2"}, token: true, tokenAt: at})
}

// signedSometime is a claim by a bare key with nothing that says when.
func (w *world) signedSometime(signer crypto.Signer) *evidence.Claim {
	return w.claim(claimOptions{signer: signer, keyOnly: true})
}

// What was signed before a revocation stays; what was signed at that time, later,
// or nobody knows when, does not count. A revoked artifact never does.
func TestRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	signer := newKey(elliptic.P256())
	at := w.now.Add(2 * time.Second)
	keyless, byKey, undated := w.signedAt(signer, false, at), w.signedAt(signer, true, at), w.signedSometime(signer)
	identity := func(name, issuer string, since time.Time) trust.Revoked {
		return trust.Revoked{Identities: []trust.RevokedIdentity{{Identity: name, Issuer: issuer, Since: since, Reason: "left"}}}
	}
	alice := func(since time.Time) trust.Revoked {
		return identity("alice@example.com", "https://issuer.test", since)
	}
	stolen := func(since time.Time) trust.Revoked {
		return trust.Revoked{Keys: []trust.RevokedKey{{Key: key.Fingerprint(signer.Public()), Since: since, Reason: "stolen"}}}
	}
	digest := func(i int, since time.Time) trust.Revoked {
		return trust.Revoked{Digests: []trust.RevokedDigest{{Digest: w.files().Digests[i], Since: since, Reason: "malware"}}}
	}
	for _, tc := range []struct {
		name    string
		claim   *evidence.Claim
		revoked trust.Revoked
		refused bool
	}{
		{"identity, signed before", keyless, alice(at.Add(time.Second)), false},
		{"identity, signed at the time", keyless, alice(at), true},
		{"identity, signed after", keyless, alice(at.Add(-time.Second)), true},
		{"identity of another issuer", keyless, identity("alice@example.com", "https://issuer.test/", at), false},
		{"another identity", keyless, identity("Alice@example.com", "https://issuer.test", at), false},
		{"certificate's key, signed before", keyless, stolen(at.Add(time.Second)), false},
		{"certificate's key, signed at the time", keyless, stolen(at), true},
		{"key, signed before", byKey, stolen(at.Add(time.Second)), false},
		{"key, signed at the time", byKey, stolen(at), true},
		{"key, nobody knows when", undated, stolen(at.AddDate(1, 0, 0)), true},
		{"another key", undated, trust.Revoked{Keys: []trust.RevokedKey{{Key: "sha256:" + strings.Repeat("0", 64), Since: at, Reason: "x"}}}, false},
		{"identity says before, key after", keyless, trust.Revoked{Identities: alice(at.Add(time.Second)).Identities, Keys: stolen(at).Keys}, true},
		{"the earlier of two", keyless, trust.Revoked{Identities: append(alice(at.Add(time.Hour)).Identities, alice(at).Identities...)}, true},
		{"digest since long", keyless, digest(0, w.now.AddDate(-1, 0, 0)), true},
		{"digest, signed before", keyless, digest(0, at.Add(time.Minute)), true},
		{"another digest of the same file", keyless, digest(1, at), true},
		{"digest from tomorrow on", keyless, digest(0, w.now.AddDate(0, 0, 1)), false},
	} {
		v := must(verify.New(verify.Config{Roots: []*trust.Root{w.root}, Keys: []crypto.PublicKey{signer.Public()}, Revoked: tc.revoked,
			Now: func() time.Time { return w.now.Add(time.Hour) }}))
		ok, reasons := v.Claim(tc.claim, w.files())
		if (ok == nil) != tc.refused {
			t.Errorf("%s: verified %v, %v", tc.name, ok != nil, reasons)
			continue
		}
		if tc.refused && (reasons[0].Code != verify.Revoked || reasons[0].Hint == "") {
			t.Errorf("%s: %v", tc.name, reasons)
		}
	}
}

// A signature by a key with a window counts at trusted times inside it; without
// a trusted time only where every time up to now is inside.
func TestKeyWindows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	signer := newKey(elliptic.P256())
	at := w.now.Add(2 * time.Second)
	now := w.now.Add(time.Hour)
	dated, undated := w.signedAt(signer, true, at), w.signedSometime(signer)
	window := func(from, until time.Time) trust.Window { return trust.Window{Start: from, End: until} }
	var open time.Time
	for _, tc := range []struct {
		name   string
		claim  *evidence.Claim
		window trust.Window
		code   string
	}{
		{"no window", dated, trust.Window{}, ""},
		{"inside", dated, window(at.Add(-time.Second), at.Add(time.Second)), ""},
		{"first moment", dated, window(at, open), ""},
		{"last moment", dated, window(open, at), ""},
		{"before", dated, window(at.Add(time.Second), open), verify.KeyExpired},
		{"after", dated, window(open, at.Add(-time.Second)), verify.KeyExpired},
		{"undated, no window", undated, trust.Window{}, ""},
		{"undated, before the end", undated, window(open, now), ""},
		{"undated, after the end", undated, window(open, now.Add(-time.Second)), verify.TimeUntrusted},
		{"undated, a start that nothing shows", undated, window(at, open), verify.TimeUntrusted},
		{"undated, both", undated, window(at, now.Add(time.Hour)), verify.TimeUntrusted},
	} {
		v := must(verify.New(verify.Config{Roots: []*trust.Root{w.root}, NamedKeys: []verify.Key{{Public: signer.Public(), Name: "release", ValidFor: tc.window}},
			Now: func() time.Time { return now }}))
		ok, reasons := v.Claim(tc.claim, w.files())
		switch {
		case tc.code == "" && ok == nil:
			t.Errorf("%s: %v", tc.name, reasons)
		case tc.code != "" && (ok != nil || reasons[0].Code != tc.code || !strings.Contains(reasons[0].Message, "release")):
			t.Errorf("%s: %v, %v", tc.name, ok != nil, reasons)
		}
	}
	other := must(verify.New(verify.Config{NamedKeys: []verify.Key{{Public: newKey(elliptic.P256()).Public(), Name: "release"}}}))
	if _, reasons := other.Claim(undated, w.files()); reasons == nil || reasons[0].Code != verify.KeyUnknown || !strings.Contains(reasons[0].Message, "release sha256:") {
		t.Errorf("another key: %v", reasons)
	}
}
