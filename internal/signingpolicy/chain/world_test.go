package chain_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/hmtest/policyforge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
)

const hour = time.Hour

// world is a store with the first two versions of a policy, of alice, bob and carol, two of whom
// must agree, and what a client makes of it.
type world struct {
	*policyforge.World
	*policyforge.Operator
	t        testing.TB
	now      time.Time
	people   record.RawJSON
	v1, v2   *policyforge.Signed
	repo     chain.Repository
	settings []func(*chain.Config)
}

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func (w *world) at(h float64) time.Time { return start.Add(time.Duration(h * float64(hour))) }

func empty(t testing.TB) *world {
	w := &world{World: policyforge.New(start), Operator: policyforge.NewOperator(), t: t,
		repo: chain.Repository{Key: policyforge.Key, Name: policyforge.Name, OwnerID: policyforge.OwnerID}}
	w.people = w.three()
	w.now = w.at(100)
	return w
}

// three are alice, bob and carol, of whom two update, and three with cold keys, of whom two recover.
func (w *world) three(more ...func(principals, roles map[string]any)) record.RawJSON {
	more = append([]func(principals, roles map[string]any){
		w.WithRole("recover", policyforge.Role{Threshold: 2, People: []string{"cold-1", "cold-2", "cold-3"}, Delay: "72h"}),
		w.WithRole("release", policyforge.Role{People: []string{"hsm"}})}, more...)
	return w.Authority(policyforge.Role{Threshold: 2, People: []string{"alice", "bob", "carol"}}, more...)
}

func newWorld(t testing.TB) *world {
	w := empty(t)
	w.v1 = w.Sign(w.First(w.at(0), w.people, "alice", "bob"))
	w.Append(w.v1)
	w.Publish(w.at(0.5))
	w.v2 = w.Sign(w.Next(w.at(40), w.v1, w.people, "bob", "carol"))
	w.Append(w.v2)
	w.Publish(w.at(40.5))
	w.Show(w.now.Add(-5 * time.Minute))
	return w
}

// show publishes what was appended and shows it as it is shown an instant before now.
func (w *world) show() {
	w.Publish(w.now.Add(-10 * time.Minute))
	w.Show(w.now.Add(-5 * time.Minute))
}

func (w *world) config() chain.Config {
	log, quorum, _, err := ledger.ParseTrust([]byte(w.Trust()))
	if err != nil {
		w.t.Fatal(err)
	}
	now := func() time.Time { return w.now }
	cfg := chain.Config{Rules: w.Rules(now), Log: log, Quorum: quorum, Source: w.Operator, Now: now}
	for _, s := range w.settings {
		s(&cfg)
	}
	return cfg
}

func (w *world) ask() (*chain.Result, error) {
	c, err := chain.New(w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	return c.PolicyFor(w.t.Context(), w.repo)
}

// wants asks, and wants a version (0: none) or a code.
func (w *world) wants(version int64, code string) *chain.Result {
	w.t.Helper()
	r, err := w.ask()
	var refusal *ledger.Refusal
	switch {
	case code != "" && (!errors.As(err, &refusal) || refusal.Code != code):
		w.t.Fatalf("got %v, want %s", err, code)
	case code != "":
		if refusal.Hint == "" || strings.Contains(refusal.Hint, "--insecure") {
			w.t.Errorf("%s has the hint %q", code, refusal.Hint)
		}
		return nil
	case err != nil:
		w.t.Fatalf("got %v, want version %d", err, version)
	case version == 0 && r.Policy != nil:
		w.t.Fatalf("got version %d, want none", r.Policy.Version)
	case version != 0 && (r.Policy == nil || r.Policy.Version != version):
		w.t.Fatalf("got %+v, want version %d", r.Policy, version)
	}
	return r
}

func (w *world) set(f func(*chain.Config)) { w.settings = append(w.settings, f) }

func warned(r *chain.Result, code string) bool {
	for _, w := range r.Warnings {
		if w.Code == code {
			return true
		}
	}
	return false
}
