package ledger

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/sorted"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// Quorum says whose cosignatures a head must have. The zero Quorum is met by nothing.
type Quorum struct {
	root *node
}

// node is a cosigner, or a group of which k members must have cosigned.
type node struct {
	witness *trust.Witness
	k       int
	members []*node
}

// seen is the time that as many members as are wanted vouch for or a newer one: of a group, the
// k-th newest. So a single member that lies about the time moves nothing when two must agree.
func (n *node) seen(h *Head) (time.Time, bool) {
	if n.witness != nil {
		return h.cosigned(*n.witness)
	}
	var times []time.Time
	for _, m := range n.members {
		if at, ok := m.seen(h); ok {
			times = append(times, at)
		}
	}
	if len(times) < n.k || n.k < 1 {
		return time.Time{}, false
	}
	sorted.Func(times, func(a, b time.Time) int { return b.Compare(a) })
	return times[n.k-1], true
}

// Alone reports whether the operator of a log meets the quorum with cosigners of its own, whose names
// are below the log's: then nobody else vouches for the time of a head, nor that there is one log.
func (q Quorum) Alone(origin string) bool { return q.root != nil && q.root.alone(origin+"/") }

func (n *node) alone(prefix string) bool {
	if n.witness != nil {
		return strings.HasPrefix(n.witness.Name, prefix)
	}
	own := 0
	for _, m := range n.members {
		if m.alone(prefix) {
			own++
		}
	}
	return own >= n.k
}

// Limits of a trust file.
const (
	MaxTrust   = 64 << 10
	maxMembers = 64
)

// ParseTrust reads who a store's log is and whose cosignatures its heads must have: a C2SP policy
// file (c2sp.org/tlog-policy) with exactly one log and a quorum.
//
//	log VERIFIERKEY [URL]
//	witness NAME COSIGNERKEY [URL]
//	group NAME all|any|K MEMBER...
//	quorum NAME
//
// A key or a name that would count twice is refused. url is that of the log, "" without one.
func ParseTrust(data []byte) (log translog.Log, q Quorum, url string, err error) {
	if len(data) > MaxTrust {
		return log, q, "", fmt.Errorf("the store's trust file has more than %d bytes", MaxTrust)
	}
	p := trustParser{nodes: map[string]*node{}, used: map[string]bool{}, keys: map[string]bool{}}
	for i, line := range strings.Split(string(data), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if err := p.line(f); err != nil {
			return log, q, "", fmt.Errorf("the store's trust file, line %d: %w", i+1, err)
		}
	}
	switch {
	case p.log == nil:
		return log, q, "", errors.New("the store's trust file names no log")
	case p.quorum == nil:
		return log, q, "", errors.New("the store's trust file names no quorum: without cosigners nobody says how old a head is")
	}
	return *p.log, Quorum{p.quorum}, p.url, nil
}

type trustParser struct {
	log    *translog.Log
	url    string
	nodes  map[string]*node
	used   map[string]bool // is a member already
	keys   map[string]bool
	quorum *node
}

func (p *trustParser) line(f []string) error {
	if p.quorum != nil {
		return errors.New("the quorum is the last line")
	}
	switch word, args := f[0], f[1:]; word {
	case "log":
		if p.log != nil || len(args) < 1 || len(args) > 2 {
			return errors.New("want one log VERIFIERKEY [URL]")
		}
		l, err := translog.ParseKey(args[0], "")
		if err != nil {
			return err
		}
		p.log = &l
		if len(args) == 2 {
			p.url = args[1]
		}
		return nil
	case "witness":
		if len(args) < 2 || len(args) > 3 {
			return errors.New("want witness NAME COSIGNERKEY [URL]")
		}
		w, err := trust.ParseWitness(args[1])
		switch {
		case err != nil:
			return err
		case p.keys[string(w.Key)]:
			return fmt.Errorf("the key of %s is named twice, and would count twice", args[0])
		}
		p.keys[string(w.Key)] = true
		return p.define(args[0], &node{witness: &w})
	case "group":
		return p.group(args)
	case "quorum":
		n := p.nodes[strings.Join(args, " ")]
		if n == nil {
			return errors.New("the quorum is none of the witnesses and groups before it")
		}
		p.quorum = n
		return nil
	default:
		return fmt.Errorf("%q is none of log, witness, group and quorum", clip(word))
	}
}

func (p *trustParser) group(args []string) error {
	if len(args) < 3 || len(args)-2 > maxMembers {
		return errors.New("want group NAME all|any|K and the members")
	}
	g := &node{}
	for _, name := range args[2:] {
		m := p.nodes[name]
		switch {
		case m == nil:
			return fmt.Errorf("%q is no witness or group of a line before", clip(name))
		case p.used[name]:
			return fmt.Errorf("%q is a member twice, and would count twice", clip(name))
		}
		p.used[name] = true
		g.members = append(g.members, m)
	}
	switch args[1] {
	case "all":
		g.k = len(g.members)
	case "any":
		g.k = 1
	default:
		k, err := strconv.Atoi(args[1])
		if err != nil || k < 1 || k > len(g.members) || strconv.Itoa(k) != args[1] {
			return fmt.Errorf("%q of %d members cannot agree", clip(args[1]), len(g.members))
		}
		g.k = k
	}
	return p.define(args[0], g)
}

func (p *trustParser) define(name string, n *node) error {
	if p.nodes[name] != nil || name == "none" {
		return fmt.Errorf("the name %q is taken", clip(name))
	}
	p.nodes[name] = n
	return nil
}
