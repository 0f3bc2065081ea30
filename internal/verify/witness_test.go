package verify_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// cosigner is a witness with its private key.
type cosigner struct {
	trust.Witness
	private ed25519.PrivateKey
	vkey    string
}

func newCosigner(t *testing.T, name string) cosigner {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	data := append([]byte{4}, public...)
	sum := sha256.Sum256(append([]byte(name+"\n"), data...))
	vkey := name + "+" + hex.EncodeToString(sum[:4]) + "+" + base64.StdEncoding.EncodeToString(data)
	w, err := trust.ParseWitness(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return cosigner{w, private, vkey}
}

// line is the cosignature of a note at a time.
func (c cosigner) line(note string, at time.Time) string {
	text, _, _ := strings.Cut(note, "\n\n")
	sig := ed25519.Sign(c.private, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", at.Unix(), text))
	raw := binary.BigEndian.AppendUint64(append([]byte{}, c.Hint[:]...), uint64(at.Unix()))
	return "— " + c.Name + " " + base64.StdEncoding.EncodeToString(append(raw, sig...)) + "\n"
}

// A checkpoint must be cosigned by as many different witnesses as are demanded.
func TestWitnesses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, stranger := newCosigner(t, "a.example"), newCosigner(t, "b.example"), newCosigner(t, "c.example")
	renamed := stranger // its key under the name and hint of a
	renamed.Witness = a.Witness
	both := trust.Witnesses{Keys: []trust.Witness{a.Witness, b.Witness}, Quorum: 2}
	one := trust.Witnesses{Keys: both.Keys, Quorum: 1}
	for name, tc := range map[string]struct {
		lines func(note string) string
		want  trust.Witnesses
		ok    bool
	}{
		"both":             {func(n string) string { return a.line(n, w.Now) + b.line(n, w.Now) }, both, true},
		"one of two":       {func(n string) string { return a.line(n, w.Now) }, both, false},
		"one, one wanted":  {func(n string) string { return b.line(n, w.Now) }, one, true},
		"none":             {func(string) string { return "" }, one, false},
		"none wanted":      {func(string) string { return "" }, trust.Witnesses{Keys: both.Keys}, true},
		"one twice":        {func(n string) string { return a.line(n, w.Now) + a.line(n, w.Now.Add(time.Second)) }, both, false},
		"a stranger":       {func(n string) string { return stranger.line(n, w.Now) }, one, false},
		"a stolen name":    {func(n string) string { return renamed.line(n, w.Now) }, one, false},
		"bad and good":     {func(n string) string { return renamed.line(n, w.Now) + a.line(n, w.Now) }, one, true},
		"of another note":  {func(n string) string { return a.line("x"+n, w.Now) }, one, false},
		"from the future":  {func(n string) string { return a.line(n, w.Now.Add(time.Hour)) }, one, false},
		"without a time":   {func(n string) string { return a.line(n, time.Unix(0, 0)) }, one, false},
		"another's key id": {func(n string) string { return strings.Replace(a.line(n, w.Now), a.Name, b.Name, 1) }, one, false},
	} {
		c := w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true})
		p := c.LogEntries[0].Proof
		p.Checkpoint += tc.lines(p.Checkpoint)
		ok, why := w.judge(c, verify.Config{Witnesses: tc.want})
		if (ok != nil) != tc.ok || !tc.ok && !strings.HasPrefix(why, verify.LogUnwitnessed+" ") {
			t.Errorf("%s: %v %s", name, ok != nil, why)
		}
	}
	v1 := func() *evidence.Claim { return w.Claim(forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}) }
	if ok, why := w.judge(v1(), verify.Config{Witnesses: one}); ok != nil || !strings.HasPrefix(why, verify.LogUnwitnessed+" ") {
		t.Errorf("a log without witnesses: %v %s", ok != nil, why)
	}
	if _, err := verify.New(verify.Config{Witnesses: trust.Witnesses{Keys: both.Keys, Quorum: 3}}); err == nil {
		t.Error("3 of 2 witnesses are demanded")
	}
	for _, vkey := range []string{"", "a.example", strings.Replace(a.vkey, "a.", "b.", 1), a.vkey[:len(a.vkey)-4] + "AAA=", strings.Replace(a.vkey, "+", "++", 1)} {
		if _, err := trust.ParseWitness(vkey); err == nil {
			t.Errorf("%q is taken for a witness", vkey)
		}
	}
}
