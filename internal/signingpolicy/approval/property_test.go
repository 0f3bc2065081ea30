package approval_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/jcs"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
)

// crowd is approvals of all kinds, good and bad.
func crowd(t testing.TB, w *world) (envelopes [][]byte, strangers [][]byte) {
	t.Helper()
	for _, name := range []string{"alice", "bob", "carol"} {
		envelopes = append(envelopes, w.sign(t, name, statement(name)),
			w.sign(t, name, change(statement(name), func(s *approval.Statement) { s.Commit = other })),
			w.sign(t, name, change(statement(name), func(s *approval.Statement) { s.ExpiresAt = now })))
	}
	envelopes = append(envelopes, w.sign(t, "alice-2", statement("alice")),
		w.sign(t, "carol", change(statement("carol"), func(s *approval.Statement) { s.Decision = approval.Reject })))
	for _, name := range []string{"alice", "eve", "machine", "cold"} {
		for _, decision := range []string{approval.Approve, approval.Reject} {
			strangers = append(strangers, w.sign(t, "stranger", change(statement(name), func(s *approval.Statement) { s.Decision = decision })))
		}
	}
	return envelopes, append(strangers, []byte("rubbish"), nil)
}

// TestRemovingAnApproval never turns a quorum true, and adding a stranger's changes nothing that
// counts; neither does the order in which they are found.
func TestRemovingAnApproval(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	envelopes, strangers := crowd(t, w)
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		some := slices.DeleteFunc(slices.Clone(envelopes), func([]byte) bool { return random.IntN(3) == 0 })
		r := judge(w, expected(), some...)
		for i, e := range some {
			removed, why := approval.Parse(e)
			if why == nil && removed.Statement.Decision == approval.Reject {
				continue // a veto is no approval
			}
			fewer := judge(w, expected(), slices.Delete(slices.Clone(some), i, i+1)...)
			for n := 1; n <= 4; n++ {
				if !approval.Quorum(r.Valid, maintainers, n) && approval.Quorum(fewer.Valid, maintainers, n) {
					t.Fatalf("without %s %d are reached", removed.Statement.Principal, n)
				}
			}
		}
		more := append(slices.Clone(some), strangers...)
		random.Shuffle(len(more), func(i, j int) { more[i], more[j] = more[j], more[i] })
		if after := judge(w, expected(), more...); !reflect.DeepEqual(nowhere(r.Valid), nowhere(after.Valid)) {
			t.Fatalf("strangers or order change what counts:\n%+v\n%+v", r.Valid, after.Valid)
		}
	}
}

// nowhere are approvals without the place where they were found.
func nowhere(list []approval.Approval) []approval.Approval {
	out := slices.Clone(list)
	for i := range out {
		out[i].Where = ""
	}
	return out
}

// TestFlips: an envelope with any other byte is no approval, or the same one.
func TestFlips(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pae := approval.PAE(payload(t, statement("erin")))
	pgp, err := approval.Attach(pae, w.pgp.sign(t, pae))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := approval.SignX509(payload(t, statement("frank")), w.cert, w.key)
	if err != nil {
		t.Fatal(err)
	}
	sk, err := approval.SignSSH(payload(t, statement("dave")), w.fido)
	if err != nil {
		t.Fatal(err)
	}
	for name, envelope := range map[string][]byte{"ed25519": w.sign(t, "alice", statement("alice")), "ecdsa": w.sign(t, "bob", statement("bob")), "sk": sk, "openpgp": pgp, "x509": cert} {
		whole := nowhere(judge(w, expected(), envelope).Valid)
		if len(whole) != 1 {
			t.Fatalf("%s: %+v", name, whole)
		}
		for i := range envelope {
			for _, bit := range []byte{1, 0x20} {
				flipped := bytes.Clone(envelope)
				flipped[i] ^= bit
				if got := nowhere(judge(w, expected(), flipped).Valid); len(got) > 0 && !reflect.DeepEqual(got, whole) {
					t.Fatalf("%s: byte %d: %+v", name, i, got)
				}
			}
		}
	}
}

// TestBuild: what is built is canonical and says what it was given.
func TestBuild(t *testing.T) {
	t.Parallel()
	s := change(statement("alice"), func(s *approval.Statement) {
		s.Ext = map[string]string{"org.example.ticket": `{"id":7}`}
		s.TreeSHA256 = strings.Repeat("a", 64)
		s.Reviewed.Note = "ü — fine\nsecond line <>&"
		s.Nonce = "5y0m6b6v0w3l1nq9b8f2zg"
	})
	p := payload(t, s)
	if canonical, err := jcs.Transform(p); err != nil || !bytes.Equal(canonical, p) {
		t.Errorf("not canonical: %s", p)
	}
	got, why := approval.ParsePayload(p)
	if why != nil || !reflect.DeepEqual(*got, s) {
		t.Errorf("%v\n%+v\n%+v", why, got, s)
	}
	a, b := payload(t, statement("alice")), payload(t, statement("alice"))
	if bytes.Equal(a, b) || approval.ID(a) == approval.ID(b) {
		t.Error("two approvals have one id")
	}
	week, err := approval.Build(change(statement("alice"), func(s *approval.Statement) { s.IssuedAt, s.ExpiresAt = time.Time{}, time.Time{} }))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := approval.ParsePayload(week); got.ExpiresAt.Sub(got.IssuedAt) != 168*time.Hour {
		t.Errorf("%+v", got)
	}
	for name, f := range map[string]func(*approval.Statement){
		"no principal": func(s *approval.Statement) { s.Principal = "" }, "a branch's tag": func(s *approval.Statement) { s.Ref = "refs/heads/main" },
		"a short ref": func(s *approval.Statement) { s.Ref = "v1.0.0" }, "no commit": func(s *approval.Statement) { s.Commit = "" },
		"the null commit": func(s *approval.Statement) { s.Commit = strings.Repeat("0", 40) }, "mixed hashes": func(s *approval.Statement) { s.Tree = strings.Repeat("a", 64) },
		"no digest": func(s *approval.Statement) { s.Policy.Digest = "" }, "version 0 of a chain": func(s *approval.Statement) { s.Policy.Version = 0 },
		"a proposal": func(s *approval.Statement) { s.Proposal = digest("5") }, "a long note": func(s *approval.Statement) { s.Reviewed.Note = strings.Repeat("x", 1025) },
		"31 days": func(s *approval.Statement) { s.ExpiresAt = s.IssuedAt.Add(721 * time.Hour) }, "no life": func(s *approval.Statement) { s.ExpiresAt = s.IssuedAt },
		"an extension without domain": func(s *approval.Statement) { s.Ext = map[string]string{"ticket": "1"} }, "no JSON": func(s *approval.Statement) { s.Ext = map[string]string{"org.example": "{"} },
		"a null":         func(s *approval.Statement) { s.Ext = map[string]string{"org.example": "null"} },
		"a policy's ref": func(s *approval.Statement) { policyAction(approval.ActionUpdate)(s); s.Ref = "refs/heads/main" },
		"no proposal":    func(s *approval.Statement) { policyAction(approval.ActionUpdate)(s); s.Proposal = "" },
	} {
		if p, err := approval.Build(change(statement("alice"), f)); err == nil {
			t.Errorf("%s is built: %s", name, p)
		}
	}
	for name, f := range map[string]func(*approval.Statement){
		"a branch": func(s *approval.Statement) { s.Ref, s.TagObject = "refs/heads/main", "" }, "SHA-256": func(s *approval.Statement) {
			s.Commit, s.Tree, s.TagObject = strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64)
		},
		"no comment": func(s *approval.Statement) { s.Reviewed = approval.Reviewed{} }, "a rehearsal": func(s *approval.Statement) { s.Policy = approval.Policy{Digest: digest("2")} },
		"local": func(s *approval.Statement) {
			s.Repository = approval.Repository{Key: "local/id/local", URI: "file:///src"}
		},
		"an owner's policy": func(s *approval.Statement) {
			policyAction(approval.ActionUpdate)(s)
			s.Repository.Key = "github.com/owner/42"
		},
	} {
		if _, err := approval.Build(change(statement("alice"), f)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// flood is n approvals that do not count, half of which say that they are by keys of principals.
func flood(t testing.TB, w *world, n int) []approval.Found {
	t.Helper()
	var out []approval.Found
	signature := sshsig(t, []byte("something else"), approval.Namespace, w.ssh["alice"], "")
	for i := range n {
		p := payload(t, change(statement("alice"), func(s *approval.Statement) { s.Reviewed.Note = fmt.Sprint("garbage ", i) }))
		data := seal(t, p, signature)
		if i%2 == 0 {
			data = w.sign(t, "stranger", change(statement("alice"), func(s *approval.Statement) { s.Reviewed.Note = fmt.Sprint("garbage ", i) }))
		}
		out = append(out, approval.Found{Where: fmt.Sprint("garbage ", i), Data: data})
	}
	return out
}

// TestFlood is row 43: no number of others' approvals hides the good ones, or is kept.
func TestFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	found := append(flood(t, w, 2000), approval.Found{Data: w.sign(t, "alice", statement("alice"))}, approval.Found{Data: w.sign(t, "bob", statement("bob"))},
		approval.Found{Data: w.sign(t, "carol", change(statement("carol"), func(s *approval.Statement) { s.Commit = other }))})
	r := approval.Judge(w.doc, expected(), found)
	if !approval.Quorum(r.Valid, maintainers, 2) || len(r.Valid) != 2 || len(r.Rejected) != approval.MaxKept || len(r.Rejected)+r.Ignored != 2001 {
		t.Errorf("%d valid, %d rejected, %d ignored", len(r.Valid), len(r.Rejected), r.Ignored)
	}
	if first := r.Rejected[0]; first.ClaimedPrincipal != "carol" || !first.Signed || first.Code != "APPROVAL_OTHER_COMMIT" {
		t.Errorf("what carol signed is not first: %+v", first)
	}
	if len(r.Warnings) != 1 || r.Warnings[0].Code != "APPROVALS_TOO_MANY" {
		t.Error(r.Warnings)
	}
	if r := approval.Judge(w.doc, expected(), found[2000:]); len(r.Warnings) != 0 {
		t.Error(r.Warnings)
	}
}

// TestOwnFlood: a principal who signs without end keeps no more than the newest.
func TestOwnFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var envelopes [][]byte
	for i := range 40 {
		envelopes = append(envelopes, w.sign(t, "alice", change(statement("alice"), func(s *approval.Statement) { s.IssuedAt = s.IssuedAt.Add(time.Duration(i) * time.Second) })))
	}
	r := judge(w, expected(), append(envelopes, w.sign(t, "bob", statement("bob")))...)
	if len(r.Valid) != 17 || !approval.Quorum(r.Valid, maintainers, 2) {
		t.Errorf("%d valid", len(r.Valid))
	}
	for _, a := range r.Valid {
		if a.Principal == "alice" && a.IssuedAt.Before(now.Add(-time.Hour+24*time.Second)) {
			t.Errorf("an old one is kept: %s", a.IssuedAt)
		}
	}
}

// BenchmarkFlood is 10,000 garbage approvals beside 2 good ones.
func BenchmarkFlood(b *testing.B) {
	w := newWorld(b)
	found := append(flood(b, w, 10_000), approval.Found{Data: w.sign(b, "alice", statement("alice"))}, approval.Found{Data: w.sign(b, "bob", statement("bob"))})
	b.ReportAllocs()
	debug.SetGCPercent(10) // so that the peak is what is held
	defer debug.SetGCPercent(100)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	defer func() {
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(int64(after.HeapInuse)-int64(before.HeapInuse))/1e6, "MB-held")
	}()
	for b.Loop() {
		if r := approval.Judge(w.doc, expected(), found); !approval.Quorum(r.Valid, maintainers, 2) {
			b.Fatal("no quorum")
		}
	}
}

func BenchmarkJudgeTwo(b *testing.B) {
	w := newWorld(b)
	found := []approval.Found{{Data: w.sign(b, "alice", statement("alice"))}, {Data: w.sign(b, "bob", statement("bob"))}}
	b.ReportAllocs()
	for b.Loop() {
		if r := approval.Judge(w.doc, expected(), found); len(r.Valid) != 2 {
			b.Fatal("not valid")
		}
	}
}

// TestMemory: what is remembered is a signature, and neither an approval nor a key.
func TestMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := expected()
	want.Memory = &approval.Memory{}
	good := w.sign(t, "alice", statement("alice"))
	for range 2 {
		if r := judge(w, want, good); len(r.Valid) != 1 {
			t.Fatalf("%+v", r)
		}
	}
	for i := range good {
		flipped := bytes.Clone(good)
		flipped[i] ^= 1
		if !reflect.DeepEqual(judge(w, want, flipped).Valid, judge(w, expected(), flipped).Valid) {
			t.Fatalf("byte %d: the memory makes a difference", i)
		}
	}
	later := want
	later.Now = now.Add(48 * time.Hour)
	if r := judge(w, later, good); len(r.Valid) != 0 || r.Rejected[0].Code != "APPROVAL_EXPIRED" {
		t.Errorf("%+v", r)
	}
	if r := approval.Judge(smallWorld(t).doc, want, []approval.Found{{Data: good}}); len(r.Valid) != 0 || r.Rejected[0].Code != "APPROVAL_KEY_NOT_OF_PRINCIPAL" {
		t.Errorf("under a document with another key of hers: %+v", r)
	}
}

func BenchmarkJudgeAgain(b *testing.B) {
	w := newWorld(b)
	want := expected()
	want.Memory = &approval.Memory{}
	found := []approval.Found{{Data: w.sign(b, "alice", statement("alice"))}, {Data: w.sign(b, "bob", statement("bob"))}}
	b.ReportAllocs()
	for b.Loop() {
		if r := approval.Judge(w.doc, want, found); len(r.Valid) != 2 {
			b.Fatal("not valid")
		}
	}
}

func FuzzParse(f *testing.F) {
	w := smallWorld(f)
	f.Add(w.sign(f, "alice", statement("alice")))
	f.Add(w.sign(f, "alice", change(statement("alice"), policyAction(approval.ActionUpdate))))
	f.Add(seal(f, []byte("{}"), []byte("SSHSIG")))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, why := approval.Parse(data)
		if (e == nil) == (why == nil) || why != nil && why.Code != "APPROVAL_MALFORMED" {
			t.Fatalf("%v %v", e, why)
		}
		if r := judge(w, expected(), data); len(r.Valid) > 0 && r.Valid[0].Principal != "alice" || len(r.Valid)+len(r.Rejected) != 1 {
			t.Fatalf("%+v", r)
		}
	})
}

// FuzzPayload: what is read can be written, and then says the same.
func FuzzPayload(f *testing.F) {
	f.Add(payload(f, statement("alice")))
	f.Add(payload(f, change(statement("alice"), policyAction(approval.ActionRecover))))
	f.Add(payload(f, change(statement("alice"), func(s *approval.Statement) { s.Ext = map[string]string{"org.example": `{"a":[1]}`} })))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, why := approval.ParsePayload(data)
		if why != nil {
			return
		}
		again, err := approval.Build(*s)
		if err != nil {
			return // times that Judge refuses
		}
		if got, why := approval.ParsePayload(again); why != nil || len(s.Ext) == 0 && !reflect.DeepEqual(got, s) {
			t.Fatalf("%v\n%+v\n%+v", why, s, got)
		}
	})
}

// TestManual: the statement in the manual is one.
func TestManual(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../../../docs/signing-policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(manual), "## Approvals")
	_, rest, _ = strings.Cut(rest, "```json\n")
	example, _, _ := strings.Cut(rest, "```")
	if s, why := approval.ParsePayload([]byte(strings.TrimSpace(example))); why != nil || s.TagObject != tagID {
		t.Error(why)
	}
}
