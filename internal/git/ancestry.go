package git

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// Ancestry is on which branches a commit lies.
type Ancestry struct {
	// Known is false when the history is not all there (a shallow or damaged repository),
	// or too long to be read; Why says so. The lists then hold what was found all the
	// same, and a branch that is missing in them may still contain the commit.
	Known bool
	Why   string

	ContainedIn   []string // full names of the branches that contain it, sorted
	FirstParentIn []string // those of them that have it among their first parents
}

// Ancestry looks on which of the branches (full names; nil: all of them) the commit lies.
// A branch that does not exist contains nothing. The parents are read from the commits
// themselves, whose ids are computed: what a repository keeps beside them does not count.
func (r *Repository) Ancestry(ctx context.Context, commit string, branches []string) (_ *Ancestry, err error) {
	if !validID(commit) {
		return nil, fault.Usagef("%q is not the id of a commit", clip(commit))
	}
	for _, b := range branches {
		if err := checkRefName(b); err != nil || !strings.HasPrefix(b, "refs/heads/") {
			return nil, fault.Usagef("%q is not the full name of a branch", clip(b))
		}
	}
	tips, err := r.branchTips(ctx, len(commit), branches)
	if err != nil {
		return nil, err
	}
	g, err := r.graph(ctx, len(commit))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.b.close()) }()
	a := &Ancestry{}
	for _, t := range tips {
		found, err := g.contains(t.ID, commit)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		a.ContainedIn = append(a.ContainedIn, t.Ref)
		if found, err = g.firstParent(t.ID, commit); err != nil {
			return nil, err
		} else if found {
			a.FirstParentIn = append(a.FirstParentIn, t.Ref)
		}
	}
	a.Known, a.Why = g.why == "", g.why
	slices.Sort(a.ContainedIn)
	slices.Sort(a.FirstParentIn)
	return a, nil
}

// Range is what lies between two commits.
type Range struct {
	Known      bool // false as in [Ancestry]; IsAncestor is true only when it was seen
	Why        string
	IsAncestor bool      // base lies in the history of head
	Count      int       // commits of head's history that are not in base's
	Unsigned   int       // those of them without a signature
	Commits    []*Commit // the same, newest first as they were reached, at most max
}

// Between reads the commits that head has and base has not; base "" for all of them. With
// dates of commits that are badly wrong it may count some that base has, too.
func (r *Repository) Between(ctx context.Context, base, head string, max int) (_ *Range, err error) {
	if !validID(head) || base != "" && (!validID(base) || len(base) != len(head)) {
		return nil, fault.Usagef("%q and %q: want ids of commits", clip(base), clip(head))
	}
	if err := r.historyOf(ctx, base, head); err != nil {
		return nil, err
	}
	g, err := r.graph(ctx, len(head))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.b.close()) }()
	out := &Range{}
	if err := g.between(base, head, max, out); err != nil {
		return nil, err
	}
	out.Known, out.Why = g.why == "", g.why
	return out, nil
}

// branchTips is where the branches are, and for a URL fetches their history.
func (r *Repository) branchTips(ctx context.Context, hexLen int, branches []string) ([]Tip, error) {
	var tips []Tip
	add := func(id, name string) error {
		if len(branches) == 0 || slices.Contains(branches, name) {
			if len(id) != hexLen {
				return fmt.Errorf("%s has ids of another length", r.Location)
			}
			tips = append(tips, Tip{Ref: name, ID: id, Commit: id})
		}
		return nil
	}
	if r.run.place {
		return tips, r.run.refs(ctx, "refs/heads/", false, add)
	}
	wanted := []string{"refs/heads/*"}
	if len(branches) > 0 {
		is, err := r.run.list(ctx, branches)
		if err != nil {
			return nil, err
		}
		wanted = slices.DeleteFunc(slices.Clone(branches), func(b string) bool { return is[b].id == "" })
		if len(wanted) == 0 {
			return nil, r.startHistory(ctx, hexLen)
		}
	}
	if err := r.fetchHistory(ctx, hexLen, wanted); err != nil {
		return nil, err
	}
	err := r.history.refsIn(ctx, fetchedHistory+"heads/", func(id, name string) error {
		return add(id, "refs/"+strings.TrimPrefix(name, fetchedHistory))
	})
	return tips, err
}

// fetchedHistory is where the refs of which the history was fetched lie.
const fetchedHistory = "refs/hallmark/history/"

func (r *Repository) startHistory(ctx context.Context, hexLen int) (err error) {
	if r.history == nil {
		if r.history, err = newRunner(r.Location); err != nil {
			return err
		}
	}
	return r.history.init(ctx, hexLen)
}

// fetchHistory fetches the commits of refs or ids, without trees where the server can do
// so. Only parents are read: what is wrong with old commits otherwise is no reason to stop.
func (r *Repository) fetchHistory(ctx context.Context, hexLen int, refs []string) error {
	if err := r.startHistory(ctx, hexLen); err != nil {
		return err
	}
	h := r.history
	args := []string{"-c", "fetch.fsckObjects=false", "-c", "remote.source.promisor=true", "-c", "remote.source.url=" + h.location.argument(),
		"-C", h.repo(), "fetch", "--quiet", "--no-tags", "--update-shallow", "--filter=tree:0", "--no-write-fetch-head", "--end-of-options", "source"}
	for _, ref := range refs {
		to := "ids/" + ref
		if name, ok := strings.CutPrefix(ref, "refs/"); ok {
			to = name
		}
		args = append(args, "+"+ref+":"+fetchedHistory+to)
	}
	if _, err := h.run(ctx, "fetching the history of "+h.location.String(), args...); err != nil {
		return err
	}
	return h.forgetOrigin()
}

// historyOf makes sure that the commits are there, with what leads to them.
func (r *Repository) historyOf(ctx context.Context, base, head string) error {
	if r.run.place {
		return nil
	}
	if err := r.startHistory(ctx, len(head)); err != nil {
		return err
	}
	missing := func() (ids []string) {
		for _, id := range []string{base, head} {
			if _, err := r.history.run(ctx, "looking for "+id, "-C", r.history.repo(), "cat-file", "-e", id); id != "" && err != nil {
				ids = append(ids, id)
			}
		}
		return ids
	}
	if len(missing()) == 0 {
		return nil
	}
	if err := r.fetchHistory(ctx, len(head), []string{"refs/heads/*", "refs/tags/*"}); err != nil {
		return err
	}
	if ids := missing(); len(ids) > 0 {
		return r.fetchHistory(ctx, len(head), ids)
	}
	return nil
}

// maxHistory is how many commits are read.
const maxHistory = 250_000

// commitNode is what the history needs of a commit. Old commits are not always of the
// form that ParseCommit accepts, and need not be.
type commitNode struct {
	parents []string
	when    int64 // committer's date: only an order in which to look
	signed  bool
}

// graph reads commits as they are needed.
type graph struct {
	ctx    context.Context
	b      *batch
	hexLen int
	nodes  map[string]*commitNode // nil for one that is not there
	clean  map[string]bool        // commits whose whole history was searched in vain
	target string                 // for which
	why    string                 // why not everything is known, of the first reason
}

func (r *Repository) graph(ctx context.Context, hexLen int) (*graph, error) {
	run := r.history
	if r.run.place {
		run = r.run
	}
	b, err := run.batch(ctx)
	if err != nil {
		return nil, err
	}
	return &graph{ctx: ctx, b: b, hexLen: hexLen, nodes: map[string]*commitNode{}, clean: map[string]bool{}}, nil
}

func (g *graph) unknown(format string, args ...any) {
	g.why = cmp.Or(g.why, fmt.Sprintf(format, args...))
}

// node reads a commit; nil when it cannot be known.
func (g *graph) node(id string) (*commitNode, error) {
	if n, ok := g.nodes[id]; ok {
		return n, nil
	}
	if err := g.ctx.Err(); err != nil {
		return nil, err
	}
	if len(g.nodes) >= maxHistory {
		g.unknown("the history has more than %d commits", maxHistory)
		return nil, nil
	}
	kind, raw, err := g.b.object(id, MaxCommitSize)
	var missing *missingError
	var n *commitNode
	switch {
	case errors.As(err, &missing):
		g.unknown("commit %s is not in the repository (a shallow clone?)", short(id))
	case err != nil:
		return nil, err
	case kind != "commit" || hashObject("commit", raw, g.hexLen) != id:
		g.unknown("object %s is not the commit that its id promises", short(id))
	default:
		if n, err = parseNode(string(raw), g.hexLen); err != nil {
			g.unknown("commit %s cannot be read: %v", short(id), err)
		}
	}
	g.nodes[id] = n
	return n, nil
}

func parseNode(raw string, hexLen int) (*commitNode, error) {
	head, _, _ := strings.Cut(raw, "\n\n")
	lines := strings.Split(head, "\n")
	if tree, ok := strings.CutPrefix(lines[0], "tree "); !ok || !validID(tree) || len(tree) != hexLen {
		return nil, errors.New("it does not begin with its tree")
	}
	n := &commitNode{}
	for _, line := range lines[1:] {
		id, ok := strings.CutPrefix(line, "parent ")
		if !ok {
			break
		}
		if !validID(id) || len(id) != hexLen {
			return nil, errors.New("a parent is no id")
		}
		n.parents = append(n.parents, id)
	}
	for _, line := range lines[1+len(n.parents):] {
		n.signed = n.signed || strings.HasPrefix(line, "gpgsig ") || strings.HasPrefix(line, "gpgsig-sha256 ")
		if _, rest, ok := strings.Cut(line, "> "); ok && n.when == 0 && strings.HasPrefix(line, "committer ") {
			seconds, _, _ := strings.Cut(rest, " ")
			n.when, _ = strconv.ParseInt(seconds, 10, 64) // 0 when it says none
		}
	}
	return n, nil
}

// contains reports whether target is in the history of tip. When it says no and why is
// set meanwhile, nobody knows.
func (g *graph) contains(tip, target string) (bool, error) {
	if g.target != target {
		g.target, g.clean = target, map[string]bool{}
	}
	seen := map[string]bool{tip: true}
	for next := []string{tip}; len(next) > 0; {
		id := next[0]
		next = next[1:]
		if id == target {
			// A ref that names the id proves nothing when there is no such commit.
			n, err := g.node(id)
			return n != nil, err
		}
		if g.clean[id] {
			continue
		}
		n, err := g.node(id)
		if err != nil {
			return false, err
		}
		if n == nil {
			continue
		}
		for _, p := range n.parents {
			if !seen[p] {
				seen[p] = true
				next = append(next, p)
			}
		}
	}
	for id := range seen {
		g.clean[id] = true
	}
	return false, nil
}

func (g *graph) firstParent(tip, target string) (bool, error) {
	seen := map[string]bool{}
	for id := tip; id != target; {
		n, err := g.node(id)
		if err != nil || n == nil || len(n.parents) == 0 || seen[id] {
			return false, err
		}
		seen[id] = true
		id = n.parents[0]
	}
	return true, nil
}

// between walks from both ends, newest first, as git rev-list does.
func (g *graph) between(base, head string, max int, out *Range) error {
	const ofHead, ofBase = 1, 2
	flags := map[string]int{}
	q := &dateQueue{}
	push := func(id string, flag int) error {
		had := flags[id]
		if had|flag == had {
			return nil
		}
		flags[id] = had | flag
		n, err := g.node(id)
		if err == nil && n != nil {
			heap.Push(q, dated{id, n.when})
		}
		return err
	}
	if base != "" {
		if err := push(base, ofBase); err != nil {
			return err
		}
	}
	if err := push(head, ofHead); err != nil {
		return err
	}
	var reached []string
	oldest, slack := int64(1<<62), 0
	for q.Len() > 0 {
		next := heap.Pop(q).(dated)
		flag, n := flags[next.id], g.nodes[next.id]
		if flag == ofHead {
			reached = append(reached, next.id)
			oldest, slack = min(oldest, next.when), 0
		} else if slack++; next.when < oldest && slack > 64 && !q.any(func(id string) bool { return flags[id] == ofHead }) {
			break // what is left is base's, and older
		}
		for _, p := range n.parents {
			if err := push(p, flag); err != nil {
				return err
			}
		}
	}
	out.IsAncestor = base != "" && g.nodes[base] != nil && flags[base]&ofHead != 0
	for _, id := range reached {
		if flags[id] != ofHead {
			continue
		}
		out.Count++
		if !g.nodes[id].signed {
			out.Unsigned++
		}
		if len(out.Commits) < max {
			_, raw, err := g.b.object(id, MaxCommitSize)
			if err != nil {
				return err
			}
			out.Commits = append(out.Commits, looseCommit(id, raw, g.nodes[id]))
		}
	}
	return nil
}

// looseCommit is what can be said of a commit that ParseCommit may refuse.
func looseCommit(id string, raw []byte, n *commitNode) *Commit {
	if c, why := ParseCommit(raw); why == nil {
		return c
	}
	c := &Commit{ID: id, Parents: n.parents}
	_, message, _ := strings.Cut(string(raw), "\n\n")
	c.Message = strings.ToValidUTF8(message, "\uFFFD")
	return c
}

type dated struct {
	id   string
	when int64
}

// dateQueue gives the newest commit first.
type dateQueue []dated

func (q dateQueue) Len() int           { return len(q) }
func (q dateQueue) Less(i, j int) bool { return q[i].when > q[j].when }
func (q dateQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *dateQueue) Push(x any)        { *q = append(*q, x.(dated)) }
func (q *dateQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func (q *dateQueue) any(is func(string) bool) bool {
	return slices.ContainsFunc(*q, func(d dated) bool { return is(d.id) })
}
