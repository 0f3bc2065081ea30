package verify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// A checkpoint must be cosigned by as many different witnesses as are demanded.
func TestWitnesses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, stranger := forge.NewWitness("a.example"), forge.NewWitness("b.example"), forge.NewWitness("c.example")
	renamed := stranger // its key under the name and hint of a
	renamed.Witness = a.Witness
	both := trust.Witnesses{Keys: []trust.Witness{a.Witness, b.Witness}, Quorum: 2}
	one := trust.Witnesses{Keys: both.Keys, Quorum: 1}
	for name, tc := range map[string]struct {
		lines func(note string) string
		want  trust.Witnesses
		ok    bool
		who   string
	}{
		"both":              {func(n string) string { return a.Line(n, w.Now) + b.Line(n, w.Now) }, both, true, "a.example b.example"},
		"one of two":        {func(n string) string { return a.Line(n, w.Now) }, both, false, ""},
		"one, one wanted":   {func(n string) string { return b.Line(n, w.Now) }, one, true, "b.example"},
		"none":              {func(string) string { return "" }, one, false, ""},
		"none wanted":       {func(string) string { return "" }, trust.Witnesses{Keys: both.Keys}, true, ""},
		"not wanted, there": {func(n string) string { return b.Line(n, w.Now) + stranger.Line(n, w.Now) }, trust.Witnesses{Keys: both.Keys}, true, "b.example"},
		"one twice":         {func(n string) string { return a.Line(n, w.Now) + a.Line(n, w.Now.Add(time.Second)) }, both, false, ""},
		"a stranger":        {func(n string) string { return stranger.Line(n, w.Now) }, one, false, ""},
		"a stolen name":     {func(n string) string { return renamed.Line(n, w.Now) }, one, false, ""},
		"bad and good":      {func(n string) string { return renamed.Line(n, w.Now) + a.Line(n, w.Now) }, one, true, "a.example"},
		"of another note":   {func(n string) string { return a.Line("x"+n, w.Now) }, one, false, ""},
		"from the future":   {func(n string) string { return a.Line(n, w.Now.Add(time.Hour)) }, one, false, ""},
		"without a time":    {func(n string) string { return a.Line(n, time.Unix(0, 0)) }, one, false, ""},
		"another's key id":  {func(n string) string { return strings.Replace(a.Line(n, w.Now), a.Name, b.Name, 1) }, one, false, ""},
	} {
		c := w.Claim(forge.ClaimOptions{Logs: []string{"v2"}, Token: true})
		p := c.LogEntries[0].Proof
		p.Checkpoint += tc.lines(p.Checkpoint)
		ok, why := w.judge(c, verify.Config{Witnesses: tc.want})
		if (ok != nil) != tc.ok || !tc.ok && !strings.HasPrefix(why, verify.LogUnwitnessed+" ") {
			t.Errorf("%s: %v %s", name, ok != nil, why)
		}
		if ok == nil {
			continue
		}
		var who []string
		for _, c := range ok.LogEntries()[0].Witnesses {
			if who = append(who, c.Name); !c.At.Equal(w.Now) {
				t.Errorf("%s: %s at %s", name, c.Name, c.At)
			}
		}
		if got := strings.Join(who, " "); got != tc.who {
			t.Errorf("%s: cosigned by %q, want %q", name, got, tc.who)
		}
	}
	v1 := func() *evidence.Claim { return w.Claim(forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}) }
	if ok, why := w.judge(v1(), verify.Config{Witnesses: one}); ok != nil || !strings.HasPrefix(why, verify.LogUnwitnessed+" ") {
		t.Errorf("a log without witnesses: %v %s", ok != nil, why)
	}
	if _, err := verify.New(verify.Config{Witnesses: trust.Witnesses{Keys: both.Keys, Quorum: 3}}); err == nil {
		t.Error("3 of 2 witnesses are demanded")
	}
	for _, vkey := range []string{"", "a.example", strings.Replace(a.VKey, "a.", "b.", 1), a.VKey[:len(a.VKey)-4] + "AAA=", strings.Replace(a.VKey, "+", "++", 1)} {
		if _, err := trust.ParseWitness(vkey); err == nil {
			t.Errorf("%q is taken for a witness", vkey)
		}
	}
}
