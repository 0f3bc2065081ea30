package chain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/repokey"
	"github.com/hallmark-dev/hallmark/internal/translog"
)

// PolicyFor is which policy is in force for a repository now. A denial is a *ledger.Refusal; any
// other error means that it could not be found out.
func (c *Client) PolicyFor(ctx context.Context, repo Repository) (*Result, error) {
	q, repo, err := c.ask(ctx, repo)
	if err != nil {
		return nil, err
	}
	return q.decide(ctx, repo)
}

// Next is what the next record of a repository follows, and the one whose people decide about it: the
// one in force or, while a first policy waits, that one. Both are nil where there is none, and a
// tombstone is one. Name and owner may be others than theirs, and a policy may be required: so it is
// for who proposes a record, and says nothing of whether anything may be signed.
func (c *Client) Next(ctx context.Context, repo Repository) (newest, decides *Step, err error) {
	q, repo, err := c.ask(ctx, repo)
	if err != nil {
		return nil, nil, err
	}
	_, walk, err := q.chains(ctx, repo)
	if err != nil || len(walk.steps) == 0 {
		return nil, nil, err
	}
	decides, _ = walk.before(q.now)
	return walk.steps[len(walk.steps)-1], decides, nil
}

// ask looks at the store and makes sure that it is to be believed. Where the key alone is known the
// repository comes back with the name and owner of its newest record.
func (c *Client) ask(ctx context.Context, repo Repository) (*question, Repository, error) {
	now := c.cfg.Now()
	if err := checkClock(now, repo.IssuedAt); err != nil {
		return nil, repo, err
	}
	unbound := repo.Name == "" && repo.OwnerID == ""
	if _, kind, _ := repokey.Parts(repo.Key); !repokey.Valid(repo.Key) || kind != "id" || !unbound && (repokey.Name(repo.Name) == "" || !repokey.Number(repo.OwnerID)) {
		return nil, repo, fmt.Errorf("signing policy: %q, %q of owner %q is no repository", repo.Key, repo.Name, repo.OwnerID)
	}
	q, err := c.open(ctx, now)
	if err != nil {
		return nil, repo, err
	}
	host, _, _ := repokey.Parts(repo.Key)
	b := c.cfg.Blinding
	q.id = b.Key(repo.Key)
	if unbound {
		if repo, err = q.bind(ctx, repo); err != nil {
			return nil, repo, err
		}
	}
	if repo.Name != "" {
		q.owner, q.name = b.Key(host+"/owner/"+repo.OwnerID), b.Key(repokey.Name(repo.Name))
	}
	if err := q.look(ctx); err != nil {
		return nil, repo, err
	}
	if err := q.compare(ctx); err != nil {
		return nil, repo, err
	}
	if c.cfg.Memory != nil { // whatever becomes of the repository: the log is good
		if err := c.cfg.Memory.remember(q.head); err != nil {
			return nil, repo, err
		}
	}
	return q, repo, nil
}

// bind takes name and owner from the newest record: what that says is judged later, with its
// chain. Of a repository without a record they stay unknown.
func (q *question) bind(ctx context.Context, repo Repository) (Repository, error) {
	s, err := q.shard(ctx, q.id)
	if err != nil {
		return repo, err
	}
	e, ok := s.Entry(q.id)
	if !ok {
		return repo, nil
	}
	r, err := q.record(ctx, e.Record)
	if err != nil {
		return repo, err
	}
	if string(r.Digest) != e.Record || r.Key != repo.Key {
		return repo, refuse(CodeDigest, repo.Key, "keep what the store serves and ask its operator", "the record %s is of %s, not of %s", e.Record, r.Key, repo.Key)
	}
	repo.Name, repo.OwnerID = r.Name, r.OwnerID
	return repo, nil
}

func checkClock(now, issued time.Time) error {
	if skew := now.Sub(issued).Abs(); !issued.IsZero() && skew > maxSkew {
		return refuse(CodeClockSkew, "", "set this machine's clock", "this machine's clock says %s; the run's token was issued at %s", now.UTC().Format(time.RFC3339), issued.UTC().Format(time.RFC3339))
	}
	return nil
}

// question is one look at the store.
type question struct {
	*Client
	now      time.Time
	head     *ledger.Head
	headTime time.Time
	view     *translog.View
	closing  ledger.Leaf // the map leaf that ends the log

	id, owner, name string // keys as the map has them
	entries         map[string]ledger.Entry
	holder          string // of the name, by the map
	tail            *tail
}

// open reads the head and makes sure that it is fresh and continues what is known.
func (c *Client) open(ctx context.Context, now time.Time) (*question, error) {
	q := &question{Client: c, now: now, entries: map[string]ledger.Entry{}}
	origin := c.cfg.Log.Origin
	signed, err := c.cfg.Source.Get(ctx, ledger.CheckpointPath, translog.MaxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse(ledger.CodeBadSignature, origin, "check where the store is; a mirror may have it", "the policy store %s shows no head", c.cfg.Source.Name())
	}
	if err != nil {
		return nil, err
	}
	if q.head, err = ledger.ParseHead(c.cfg.Log, signed); err != nil {
		return nil, err
	}
	if q.headTime, err = q.head.Time(c.cfg.Quorum); err != nil {
		return nil, err
	}
	at := q.headTime.Format(time.RFC3339)
	switch age := now.Sub(q.headTime); {
	case age > c.cfg.MaxAge:
		return nil, refuse(ledger.CodeStale, origin, "ask the store's operator, or a mirror, for the present head",
			"the policy store's head is of %s, %s old; at most %s are accepted. This is not taken for \"no policy\"", at, age.Round(time.Second), c.cfg.MaxAge)
	case -age > maxSkew:
		return nil, refuse(ledger.CodeFromFuture, origin, "compare this machine's clock and the cosigners'", "the policy store's head is of %s, in the future", at)
	}
	q.view = translog.NewView(q.head.Checkpoint, c.cfg.Source, c.cfg.Cache)
	for _, known := range c.known() {
		if err := q.continues(ctx, known); err != nil {
			return nil, err
		}
	}
	return q, q.close(ctx)
}

// known are the states of the log that it must continue.
func (c *Client) known() []Point {
	var out []Point
	if c.cfg.Floor.Size > 0 {
		out = append(out, c.cfg.Floor)
	}
	if c.cfg.Memory != nil {
		if p := c.cfg.Memory.known(); p.Size > 0 {
			out = append(out, p)
		}
	}
	return out
}

func (q *question) continues(ctx context.Context, p Point) error {
	if q.head.Size < p.Size {
		return refuse(ledger.CodeRollback, q.head.Origin, "keep the head and ask the store's operator", "the policy store's log has %d leaves; it is known to have had %d", q.head.Size, p.Size)
	}
	root, err := q.view.RootAt(ctx, p.Size)
	if err != nil {
		return badLog(err, q.head.Origin)
	}
	if root != p.Root {
		return refuse(ledger.CodeForked, q.head.Origin, "keep both heads: together they show that the operator lied", "the policy store's log of %d leaves does not continue the log of %d leaves that is known", q.head.Size, p.Size)
	}
	return nil
}

// badLog is a refusal of the log's tiles as one of the store.
func badLog(err error, origin string) error {
	var r *translog.Refusal
	if errors.As(err, &r) {
		return refuse(ledger.CodeBadLog, origin, r.Hint, "the policy store's log: %s", r.Message)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(ledger.CodeBadLog, origin, "a mirror may have it", "the policy store's log: %s", err)
	}
	return err
}

// close reads the log's last leaf, which must commit to the map of all before it.
func (q *question) close(ctx context.Context) error {
	last := q.head.Size - 1
	bad := func(format string, args ...any) error {
		return refuse(ledger.CodeBadMap, q.head.Origin, "keep what the store serves and ask its operator", "the last leaf of the policy store's log %s", fmt.Sprintf(format, args...))
	}
	if last < 0 {
		return bad("is missing: the log is empty")
	}
	data, err := q.view.Entry(ctx, last)
	if err != nil {
		return badLog(err, q.head.Origin)
	}
	leaf, err := ledger.ParseLeaf(data)
	switch {
	case err != nil || leaf.Kind != ledger.KindMap:
		return bad("commits to no map")
	case leaf.Size != last:
		return bad("commits to the map of %d leaves, not of %d", leaf.Size, last)
	}
	q.closing = leaf
	return nil
}

// shard reads the shard of a key and proves it.
func (q *question) shard(ctx context.Context, key string) (*ledger.Shard, error) {
	n := ledger.ShardOf(key, q.closing.ShardBits)
	var parts [2][]byte
	g, gctx := errgroup.WithContext(ctx)
	for i, f := range []struct {
		path  string
		limit int64
	}{{ledger.ShardPath(q.closing.Size, n), ledger.MaxShard}, {ledger.ProofPath(q.closing.Size, n), ledger.MaxProof}} {
		g.Go(func() (err error) {
			if parts[i], err = q.cfg.Source.Get(gctx, f.path, f.limit); errors.Is(err, fs.ErrNotExist) {
				return refuse(ledger.CodeBadShard, f.path, "a mirror may have it", "the policy store lacks %s, to which its head commits. This is not taken for \"no policy\"", f.path)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return ledger.OpenShard(q.closing, n, parts[0], parts[1])
}

// look reads what the map says of the repository, its owner and its name.
func (q *question) look(ctx context.Context) error {
	keys := []string{q.id, q.owner, q.name}
	if q.name == "" {
		keys = keys[:1]
	}
	shards := make([]*ledger.Shard, len(keys))
	g, gctx := errgroup.WithContext(ctx)
	for i, key := range keys {
		g.Go(func() (err error) {
			shards[i], err = q.shard(gctx, key)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, key := range keys[:min(2, len(keys))] {
		if e, ok := shards[i].Entry(key); ok {
			q.entries[key] = e
		}
	}
	if q.name != "" {
		q.holder = shards[2].Holder(q.name)
	}
	return nil
}

// chains judges the chains of owner and repository.
func (q *question) chains(ctx context.Context, repo Repository) (owner, walk *Walk, err error) {
	if q.holder != "" && q.holder != q.id {
		return nil, nil, q.rebound(repo)
	}
	if err := q.formerHolders(ctx, repo); err != nil {
		return nil, nil, err
	}
	host, _, _ := repokey.Parts(repo.Key)
	if owner, err = q.walk(ctx, host+"/owner/"+repo.OwnerID, q.owner, nil); err != nil {
		return nil, nil, err
	}
	walk, err = q.walk(ctx, repo.Key, q.id, owner)
	return owner, walk, err
}

// decide says what they mean for the repository as it is now.
func (q *question) decide(ctx context.Context, repo Repository) (*Result, error) {
	owner, walk, err := q.chains(ctx, repo)
	if err != nil {
		return nil, err
	}
	r := &Result{Head: q.head, HeadTime: q.headTime}
	if s := owner.At(q.now); s != nil && s.Action != record.Tombstone {
		r.Owner = s
	}
	r.Pending = walk.Pending(q.now)
	r.Policy = walk.At(q.now)
	if r.Policy == nil || r.Policy.Action == record.Tombstone || r.Policy.Policy == nil { // the last: one that was rebound since
		r.Policy = nil
		if err := q.absent(r, repo); err != nil {
			return nil, err
		}
		return r, nil
	}
	if err := matches(r.Policy, repo); err != nil {
		return nil, err
	}
	if r.Notices, err = q.notices(ctx, q.entries[q.id], walk); err != nil {
		return nil, err
	}
	return r, nil
}

func (q *question) rebound(repo Repository) error {
	return refuse(CodeNameRebound, repo.Name, "if it was deleted and made again, its people rebind the old policy; see docs/policy-store.md",
		"%s is the name of another repository, which has a signing policy; this run is for %s", repo.Name, repo.Key)
}

func (q *question) absent(r *Result, repo Repository) error {
	where := fmt.Sprintf("%s has no signing policy in force (proven at %d leaves, %s)", repo.Key, q.head.Size, q.headTime.Format(time.RFC3339))
	if required := r.Owner != nil && r.Owner.Owner != nil && r.Owner.Owner.Require; required || q.cfg.RequirePolicy {
		who := "the configuration"
		if required {
			who = "its owner's record"
		}
		return refuse(CodeRequired, repo.Key, "begin with hallmark signing-policy init", "%s, and %s requires one", where, who)
	}
	if repo.Name == "" {
		where += "; whether its owner requires one was not asked: who that is was not said"
	}
	for _, p := range r.Pending {
		where += fmt.Sprintf("; version %d (%s) is in effect from %s, unless its people replace it", p.Version, p.Action, p.effective().Format(time.RFC3339))
	}
	r.Warnings = append(r.Warnings, policy.Reason{Code: CodeNone, Subject: repo.Key, Message: where, Hint: "hallmark signing-policy init makes one"})
	return nil
}

// matches makes sure that the policy is for the repository as it is now.
func matches(s *Step, repo Repository) error {
	hint := "its people rebind the policy to the new name or owner"
	switch {
	case repokey.Name(s.Name) != repokey.Name(repo.Name):
		return refuse(CodeRenamed, repo.Key, hint, "the signing policy of %s is for the name %s; this run is for %s", repo.Key, s.Name, repo.Name)
	case s.OwnerID != repo.OwnerID:
		return refuse(CodeOwnerChanged, repo.Key, hint, "the signing policy of %s is for the owner %s; this run is for %s", repo.Key, s.OwnerID, repo.OwnerID)
	}
	return nil
}
