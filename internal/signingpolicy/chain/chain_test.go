package chain_test

import (
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/hmtest/policyforge"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/chain"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
)

func TestThePolicyInForce(t *testing.T) {
	w := newWorld(t)
	r := w.wants(2, "")
	if r.Policy.Root != w.v1.Digest || r.Policy.Resets != 0 || !r.Policy.LoggedAt.Equal(w.at(40.5)) || !r.HeadTime.Equal(w.now.Add(-5*time.Minute)) || len(r.Warnings) > 0 {
		t.Errorf("%+v", r)
	}
	c, err := chain.New(w.config())
	if err != nil {
		t.Fatal(err)
	}
	if text, err := c.Bundle(t.Context(), r.Policy); err != nil || string(text) != policyforge.Text {
		t.Errorf("%q, %v", text, err)
	}
	w.Files[ledger.FilePath("bundle", string(r.Policy.Policy.Bundle))] = []byte("package hallmark.signing ")
	if _, err := c.Bundle(t.Context(), r.Policy); err == nil {
		t.Error("another policy text is taken")
	}
	w.repo.Name = "github.com/ORG/App" // forges tell no cases apart
	w.wants(2, "")
	w.repo.IssuedAt = w.now.Add(-4 * time.Minute)
	w.wants(2, "")
}

func TestHeads(t *testing.T) {
	for why, c := range map[string]struct {
		do   func(w *world)
		code string
	}{
		"57 frozen":              {func(w *world) { w.Show(w.now.Add(-25 * hour)) }, ledger.CodeStale},
		"57 a little too old":    {func(w *world) { w.Show(w.now.Add(-24*hour - time.Second)) }, ledger.CodeStale},
		"59 from the future":     {func(w *world) { w.Show(w.now.Add(6 * time.Minute)) }, ledger.CodeFromFuture},
		"59 clock alone":         {func(w *world) { w.Cosign = clockOnly(w, 1); w.Show(w.now) }, ledger.CodeNoQuorum},
		"59 same twice":          {func(w *world) { w.Cosign = clockOnly(w, 2); w.Show(w.now) }, ledger.CodeNoQuorum},
		"59 clock's as witness":  {func(w *world) { w.Cosign = clockAs(w, "a.example"); w.Show(w.now) }, ledger.CodeNoQuorum},
		"no cosigner":            {func(w *world) { w.Cosign = func(string, time.Time) string { return "" }; w.Show(w.now) }, ledger.CodeNoQuorum},
		"no head":                {func(w *world) { delete(w.Files, "checkpoint") }, ledger.CodeBadSignature},
		"another log's head":     {func(w *world) { w.Files["checkpoint"] = policyforge.NewOperator().Head(w.now) }, ledger.CodeBadSignature},
		"60 rollback":            {func(w *world) { w.floor(w.Size()); w.Files["checkpoint"] = w.Files[ledger.HeadPath(2)] }, ledger.CodeStale},
		"60 fresh rollback":      {func(w *world) { w.floor(w.Size()); rollback(w) }, ledger.CodeRollback},
		"60 forked":              {forked, ledger.CodeForked},
		"64 no map at the end":   {func(w *world) { w.Closing = func(ledger.Leaf) []byte { return w.note() }; w.show() }, ledger.CodeBadMap},
		"64 map of another size": {func(w *world) { w.Closing = func(l ledger.Leaf) []byte { l.Size--; return l.Bytes() }; w.show() }, ledger.CodeBadMap},
		"64 garbage at the end":  {func(w *world) { w.Closing = func(ledger.Leaf) []byte { return []byte("{}") }; w.show() }, ledger.CodeBadMap},
		"64 leaf edited":         {func(w *world) { w.Files["tile/entries/000.p/4"][20] ^= 1 }, ledger.CodeBadLog},
		"64 tile edited":         {func(w *world) { w.Files["tile/0/000.p/4"][20] ^= 1 }, ledger.CodeBadLog},
		"tile missing":           {func(w *world) { delete(w.Files, "tile/0/000.p/4") }, ledger.CodeBadLog},
		"leaves missing":         {func(w *world) { delete(w.Files, "tile/entries/000.p/4") }, ledger.CodeBadLog},
		"shard missing":          {func(w *world) { delete(w.Files, ledger.ShardPath(3, 0)) }, ledger.CodeBadShard},
		"proof missing":          {func(w *world) { delete(w.Files, ledger.ProofPath(3, 0)) }, ledger.CodeBadShard},
		"56 emptied":             {func(w *world) { w.Files[ledger.ShardPath(3, 0)] = nil }, ledger.CodeBadShard},
		"56 older shard":         {func(w *world) { w.Files[ledger.ShardPath(3, 0)] = w.Files[ledger.ShardPath(1, 0)] }, ledger.CodeBadShard},
		"56 unsorted":            {lies(func(lines []string) []string { lines[0], lines[1] = lines[1], lines[0]; return lines }), ledger.CodeBadShard},
		"56 twice":               {lies(func(lines []string) []string { return append(lines[:1], lines...) }), ledger.CodeBadShard},
		"key dropped":            {lies(func(lines []string) []string { return lines[1:] }), ledger.CodeMapOmits},
		"name dropped":           {lies(func(lines []string) []string { return lines[:1] }), ledger.CodeMapOmits},
		"all dropped":            {lies(func([]string) []string { return nil }), ledger.CodeMapOmits},
		"name moved": {lies(func(lines []string) []string {
			return []string{lines[0], "github.com/name/org/app -> github.com/id/777\n"}
		}), ledger.CodeBadMap},
		"old version": {func(w *world) {
			w.Map = func([]string) []string {
				return []string{ledger.Entry{Key: w.v1.Key, Version: 1, Record: string(w.v1.Digest), Index: 0, Status: "active"}.Line() + "\n", "github.com/name/org/app -> github.com/id/123456\n"}
			}
			w.show()
		}, ledger.CodeMapOld},
		"other record": {func(w *world) {
			w.Map = func([]string) []string {
				return []string{ledger.Entry{Key: w.v1.Key, Version: 2, Record: string(w.v1.Digest), Index: 2, Status: "active"}.Line() + "\n", "github.com/name/org/app -> github.com/id/123456\n"}
			}
			w.show()
		}, ledger.CodeMapOld},
		"version out of order": {func(w *world) {
			w.Leaf(ledger.Leaf{Kind: ledger.KindRecord, Key: w.v1.Key, Name: "github.com/name/org/app", Action: "set", Version: 4, Digest: string(w.v1.Digest)})
			w.show()
		}, ledger.CodeBadLog},
		"version twice": {func(w *world) {
			w.Leaf(ledger.Leaf{Kind: ledger.KindRecord, Key: w.v1.Key, Name: "github.com/name/org/app", Action: "set", Version: 2, Digest: string(w.v1.Digest)})
			w.show()
		}, ledger.CodeBadLog},
		"invented": {func(w *world) {
			w.repo.Key, w.repo.Name = "github.com/id/1", "github.com/org/other"
			w.Map = func(lines []string) []string {
				return append([]string{ledger.Entry{Key: "github.com/id/1", Version: 1, Record: string(w.v1.Digest), Index: 0, Status: "active"}.Line() + "\n"}, lines...)
			}
			w.show()
		}, ledger.CodeBadMap},
		"tombstone is a hint": {lies(func(lines []string) []string {
			return []string{lines[0][:len(lines[0])-len("active\n")] + "tombstone\n", lines[1]}
		}), ""},
		"leaf that is none": {func(w *world) { w.Spoil([]byte("{}")); w.show() }, ledger.CodeBadLog},
		"23 clock skew":     {func(w *world) { w.repo.IssuedAt = w.now.Add(-6 * time.Minute) }, chain.CodeClockSkew},
		"23 clock behind":   {func(w *world) { w.repo.IssuedAt = w.now.Add(6 * time.Minute) }, chain.CodeClockSkew},
		"long tail":         {func(w *world) { w.set(func(c *chain.Config) { c.MaxTail = 3 }) }, ledger.CodeNoQuorum},
		"floor holds":       {func(w *world) { w.floor(2) }, ""},
		"floor is the head": {func(w *world) { w.floor(4) }, ""},
	} {
		t.Run(why, func(t *testing.T) {
			w := newWorld(t)
			w.t = t
			c.do(w)
			w.wants(2, c.code)
		})
	}
}

func (w *world) floor(size int64) {
	root := w.Root(size)
	w.set(func(c *chain.Config) { c.Floor = chain.Point{Size: size, Root: root} })
}

func (w *world) note() []byte {
	return ledger.Leaf{Kind: ledger.KindNotice, Key: w.v1.Key, Digest: string(w.v1.Digest)}.Bytes()
}

func lies(change func(lines []string) []string) func(w *world) {
	return func(w *world) {
		w.Map = func(lines []string) []string { return change(lines[:len(lines)-1]) } // the last one is empty
		w.show()
	}
}

func clockOnly(w *world, times int) func(string, time.Time) string {
	return func(text string, at time.Time) string {
		out := ""
		for range times {
			out += ledger.Cosign("clock.example", w.Clock, text, at)
		}
		return out
	}
}

func clockAs(w *world, name string) func(string, time.Time) string {
	return func(text string, at time.Time) string {
		return ledger.Cosign("clock.example", w.Clock, text, at) + ledger.Cosign(name, w.Clock, text, at)
	}
}

// rollback shows the first head with fresh cosignatures.
func rollback(w *world) {
	signed := ledger.Sign(policyforge.Origin, w.Log, 2, w.Root(2))
	text := string(signed[:len(signed)-len(signed[indexOf(signed, "\n\n")+1:])])
	w.Files["checkpoint"] = append(signed, []byte(ledger.Cosign("clock.example", w.Clock, text, w.now)+ledger.Cosign("a.example", w.Witnesses["a.example"], text, w.now))...)
}

func indexOf(data []byte, s string) int {
	for i := range data {
		if string(data[i:min(len(data), i+len(s))]) == s {
			return i
		}
	}
	return -1
}

// forked shows a log that has another second version than the one that is known.
func forked(w *world) {
	w.floor(w.Size())
	f := empty(w.t)
	f.Operator.Log, f.Clock, f.Witnesses = w.Log, w.Clock, w.Witnesses
	f.Append(w.v1)
	f.Publish(w.at(0.5))
	f.Append(w.Sign(w.Next(w.at(40), w.v1, w.people, "alice", "carol")))
	f.Publish(w.at(40.5))
	f.Show(w.now)
	w.Operator = f.Operator
}

func TestNoPolicy(t *testing.T) {
	w := newWorld(t)
	w.repo = chain.Repository{Key: "github.com/id/9", Name: "github.com/org/other", OwnerID: "42"}
	if r := w.wants(0, ""); !warned(r, chain.CodeNone) { // 53
		t.Errorf("no notice: %v", r.Warnings)
	}
	w.set(func(c *chain.Config) { c.RequirePolicy = true }) // 54
	w.wants(0, chain.CodeRequired)
	for why, repo := range map[string]chain.Repository{"owner's key": {Key: "github.com/owner/42", Name: "github.com/org/x", OwnerID: "42"},
		"name": {Key: "github.com/id/1", Name: "x", OwnerID: "42"}, "owner": {Key: "github.com/id/1", Name: "github.com/org/x", OwnerID: "org"}, "nothing": {}} {
		w.repo = repo
		if _, err := w.ask(); err == nil {
			t.Errorf("%s is taken for a repository", why)
		}
	}
}

func TestNamesAndOwners(t *testing.T) {
	w := newWorld(t)
	w.repo.Name = "github.com/org/renamed"
	w.wants(0, chain.CodeRenamed) // 77
	w.repo.Name, w.repo.OwnerID = policyforge.Name, "43"
	w.wants(0, chain.CodeOwnerChanged)                                                         // 77
	w.repo = chain.Repository{Key: "github.com/id/777", Name: policyforge.Name, OwnerID: "42"} // T20
	w.wants(0, chain.CodeNameRebound)

	// A record that takes the name from its holder, which nobody approved, frees nothing.
	stolen := w.Sign(w.rebind(w.at(99), "github.com/org/gone", "42", "mallory"))
	w.Append(stolen)
	w.show()
	w.wants(0, chain.CodeNotApproved)
}

// rebind is a rebind of the second version.
func (w *world) rebind(at time.Time, name, owner string, people ...string) policyforge.Version {
	v := w.Next(at, w.v2, w.people, people...)
	v.Change = func(p *record.Predicate) { p.Action, p.Name, p.OwnerID = record.Rebind, name, owner }
	return v
}

func TestRebind(t *testing.T) {
	w := newWorld(t)
	w.Append(w.Sign(w.rebind(w.at(99), "github.com/neworg/newapp", "77", "alice", "bob")))
	w.show()
	w.wants(0, chain.CodeRenamed)
	w.repo.Name = "github.com/neworg/newapp"
	w.wants(0, chain.CodeOwnerChanged)
	w.repo.OwnerID = "77"
	w.wants(3, "")
	w.repo = chain.Repository{Key: "github.com/id/777", Name: policyforge.Name, OwnerID: "42"} // the name is free
	w.wants(0, "")

	for why, c := range map[string]struct {
		v    func(w *world) policyforge.Version
		code string
	}{
		"that changes nothing": {func(w *world) policyforge.Version { return w.rebind(w.at(99), policyforge.Name, "42", "alice", "bob") }, chain.CodeBroken},
		"that changes the people": {func(w *world) policyforge.Version {
			v := w.rebind(w.at(99), "github.com/org/x", "42", "alice", "bob")
			inner := v.Change
			v.Change = func(p *record.Predicate) {
				inner(p)
				p.Authority = w.Authority(policyforge.Role{Threshold: 1, People: []string{"alice", "bob"}})
			}
			return v
		}, chain.CodeBroken},
		"set with another name": {func(w *world) policyforge.Version {
			v := w.Next(w.at(99), w.v2, w.people, "alice", "bob")
			v.Change = func(p *record.Predicate) { p.Name = "github.com/org/x" }
			return v
		}, chain.CodeBroken},
		"by one": {func(w *world) policyforge.Version { return w.rebind(w.at(99), "github.com/org/x", "42", "alice") }, chain.CodeNotApproved},
	} {
		t.Run(why, func(t *testing.T) {
			w := newWorld(t)
			w.Append(w.Sign(c.v(w)))
			w.show()
			w.wants(0, c.code)
		})
	}
}

// TestNextVersions are third versions after the two.
func TestNextVersions(t *testing.T) {
	next := func(change func(w *world, v *policyforge.Version), people ...string) func(w *world) policyforge.Version {
		return func(w *world) policyforge.Version {
			v := w.Next(w.at(99), w.v2, w.people, people...)
			if change != nil {
				change(w, &v)
			}
			return v
		}
	}
	with := func(f func(w *world, p *record.Predicate)) func(w *world, v *policyforge.Version) {
		return func(w *world, v *policyforge.Version) { v.Change = func(p *record.Predicate) { f(w, p) } }
	}
	authority := func(role policyforge.Role) func(w *world, v *policyforge.Version) {
		return with(func(w *world, p *record.Predicate) { p.Authority = w.Authority(role) })
	}
	leaf := func(f func(l *forge.LeafOptions)) func(w *world, v *policyforge.Version) {
		return func(_ *world, v *policyforge.Version) { v.Leaf = f }
	}
	statement := func(f func(w *world, s *approval.Statement)) func(w *world, v *policyforge.Version) {
		return func(w *world, v *policyforge.Version) {
			v.Approvals[1].Change = func(s *approval.Statement) { f(w, s) }
		}
	}
	two := func(names ...string) policyforge.Role { return policyforge.Role{Threshold: 2, People: names} }
	for why, c := range map[string]struct {
		v    func(w *world) policyforge.Version
		code string // "": it is the third version
	}{
		"good":                {next(nil, "alice", "carol"), ""},
		"by all":              {next(nil, "alice", "bob", "carol"), ""},
		"stranger beside":     {next(nil, "alice", "bob", "mallory"), ""},
		"68 one person":       {next(nil, "alice"), chain.CodeNotApproved},
		"68 twice one":        {next(nil, "alice", "alice"), chain.CodeNotApproved},
		"68 nobody":           {next(nil), chain.CodeNotApproved},
		"with a stranger":     {next(nil, "alice", "mallory"), chain.CodeNotApproved},
		"in bob's name":       {next(nil, "alice", "bob=mallory"), chain.CodeNotApproved},
		"alice as bob":        {next(nil, "alice", "bob=alice"), chain.CodeNotApproved},
		"by a machine":        {next(nil, "alice", "hsm"), chain.CodeNotApproved},
		"by a cold key":       {next(nil, "alice", "cold-1"), chain.CodeNotApproved},
		"67 own authority":    {next(authority(two("mallory", "eve")), "mallory", "eve"), chain.CodeNotApproved},
		"names, other keys":   {next(authority(two("alice=mallory", "bob=eve")), "alice=mallory", "bob=eve"), chain.CodeNotApproved},
		"68 old people alone": {next(authority(two("dave", "erin")), "alice", "bob"), chain.CodeNotApproved},
		"68 new people alone": {next(authority(two("dave", "erin")), "dave", "erin"), chain.CodeNotApproved},
		"old and new people": {next(func(w *world, v *policyforge.Version) {
			authority(two("dave", "erin"))(w, v)
			v.Effective = w.at(101.5)
		}, "alice", "bob", "dave", "erin"), "pending"},
		"weaker at once":      {next(authority(policyforge.Role{Threshold: 1, People: []string{"alice", "bob", "carol"}}), "alice", "bob"), chain.CodeWeakenTooSoon},
		"people added":        {next(authority(two("alice", "bob", "carol", "dave")), "alice", "bob"), chain.CodeWeakenTooSoon},
		"key replaced":        {next(authority(two("alice", "bob", "carol=new")), "alice", "bob"), chain.CodeWeakenTooSoon},
		"mode relaxed":        {next(with(func(_ *world, p *record.Predicate) { p.Policy.Mode = record.Warn }), "alice", "bob"), chain.CodeWeakenTooSoon},
		"tombstone at once":   {next(with(tombstone), "alice", "bob"), chain.CodeWeakenTooSoon},
		"69 other proposal":   {next(statement(func(w *world, s *approval.Statement) { s.Proposal = string(w.v2.ProposalDigest) }), "alice", "bob"), chain.CodeNotApproved},
		"69 other action":     {next(statement(func(_ *world, s *approval.Statement) { s.Action = approval.ActionTombstone }), "alice", "bob"), chain.CodeNotApproved},
		"other repository":    {next(statement(func(_ *world, s *approval.Statement) { s.Repository.Key = "github.com/id/777" }), "alice", "bob"), chain.CodeNotApproved},
		"other version":       {next(statement(func(w *world, s *approval.Statement) { s.Policy.Version, s.Policy.Digest = 1, string(w.v1.Digest) }), "alice", "bob"), chain.CodeNotApproved},
		"expired when logged": {next(statement(func(w *world, s *approval.Statement) { s.IssuedAt, s.ExpiresAt = w.at(90), w.at(99) }), "alice", "bob"), chain.CodeNotApproved},
		"rejected by one":     {next(statement(func(_ *world, s *approval.Statement) { s.Decision = approval.Reject }), "alice", "bob"), chain.CodeNotApproved},
		"66 version skipped":  {next(with(func(_ *world, p *record.Predicate) { p.Version = 4 }), "alice", "bob"), ledger.CodeBadLog},
		"66 prev is v1":       {next(with(func(w *world, p *record.Predicate) { p.Prev = w.v1.Digest }), "alice", "bob"), chain.CodeBroken},
		"66 prev is missing":  {next(with(func(_ *world, p *record.Predicate) { p.Prev = evidence.SHA256(nil) }), "alice", "bob"), chain.CodeBroken},
		"66 root swapped":     {next(with(func(w *world, p *record.Predicate) { p.Root = w.v2.Digest }), "alice", "bob"), chain.CodeBroken},
		"71 fork of updater": {next(leaf(func(l *forge.LeafOptions) {
			l.URI = "https://github.com/evil/hallmark/.github/workflows/signing-policy.yml@refs/tags/v1"
		}), "alice", "bob"), chain.CodeBadUpdater},
		"71 updater's branch": {next(leaf(func(l *forge.LeafOptions) {
			l.URI = "https://github.com/hallmark-dev/hallmark/.github/workflows/signing-policy.yml@refs/heads/main"
		}), "alice", "bob"), chain.CodeBadUpdater},
		"71 other issuer": {next(leaf(func(l *forge.LeafOptions) { l.IssuerV1, l.IssuerV2 = "https://evil.test", "https://evil.test" }), "alice", "bob"), chain.CodeBadUpdater},
		"71 self-hosted":  {next(leaf(policyforge.Extension(11, "self-hosted")), "alice", "bob"), chain.CodeBadUpdater},
		"71 pull request": {next(leaf(policyforge.Extension(20, "pull_request")), "alice", "bob"), chain.CodeBadUpdater},
		"71 target":       {next(leaf(policyforge.Extension(20, "pull_request_target")), "alice", "bob"), chain.CodeBadUpdater},
		"T12 other id":    {next(leaf(policyforge.Extension(15, "777")), "alice", "bob"), chain.CodeOtherRepo},
		"other host":      {next(leaf(policyforge.Extension(12, "https://evil.test/org/app")), "alice", "bob"), chain.CodeOtherRepo},
		"other name":      {next(leaf(policyforge.Extension(12, "https://github.com/org/fork")), "alice", "bob"), chain.CodeBadUpdater},
		"other owner":     {next(leaf(policyforge.Extension(17, "43")), "alice", "bob"), chain.CodeBadUpdater},
		"other branch":    {next(leaf(policyforge.Extension(14, "refs/heads/evil")), "alice", "bob"), chain.CodeBadUpdater},
		"other commit":    {next(leaf(policyforge.Extension(13, "0000000000000000000000000000000000000000")), "alice", "bob"), chain.CodeBadUpdater},
		"no extensions":   {next(leaf(func(l *forge.LeafOptions) { l.Extra = nil }), "alice", "bob"), chain.CodeBadUpdater},
		"other CA":        {next(leaf(func(l *forge.LeafOptions) { l.SCT = func([]byte) []byte { return nil } }), "alice", "bob"), chain.CodeBadUpdater},
	} {
		t.Run(why, func(t *testing.T) {
			w := newWorld(t)
			w.Append(w.Sign(c.v(w)))
			w.show()
			switch c.code {
			case "pending":
				if r := w.wants(2, ""); len(r.Pending) != 1 {
					t.Errorf("no notice of what is pending: %v", r.Pending)
				}
				w.now = w.at(102)
				w.Show(w.now)
				w.wants(3, "")
			default:
				w.wants(3, c.code)
			}
		})
	}
}

func tombstone(_ *world, p *record.Predicate) { p.Action, p.Policy = record.Tombstone, nil }
