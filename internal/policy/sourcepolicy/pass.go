package sourcepolicy

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/sorted"
)

// pass is one evaluation of one policy, and what its functions work on.
type pass struct {
	evaluation *Evaluation
	policy     *Policy
	document   *rego.Document
	test       bool // of a policy's tests: the input is whatever a test says

	leftOut  map[string]bool // of said, what the document lacks
	wants    map[*known]*Want
	failed   []string // facts that were read and are not known, with why
	failures []error
	pins     map[evidence.Digest]bool
	notes    []string // what did not verify, and why
	printed  []string
	asked    int          // facts, once each
	asks     *askMessages // in a sandboxed process: who called finds out what is known
	decision policy.Decision
}

// ask is called when a policy reads what is not known.
func (p *pass) ask(n *node, a Ask) {
	if p.asks != nil {
		p.asks.add(n, a)
		p.asked = len(p.asks.list)
		return
	}
	if err := cmp.Or(n.known.failed[a.Key()], notSaid[a.Fact]); err != nil {
		p.failures = append(p.failures, err)
		p.failed = append(p.failed, fmt.Sprintf("%s of %s: %v", label(n, a), cmp.Or(n.src.shown(), p.unnamed(n)), err))
		return
	}
	w := p.wants[n.known]
	if w == nil {
		w = &Want{Source: n.src, Root: n == p.evaluation.root, node: n, keys: map[string]bool{}}
		p.wants[n.known] = w
	}
	if key := a.Key(); !w.keys[key] && p.asked <= maxPassAsks {
		w.keys[key] = true
		w.Asks = append(w.Asks, a)
		p.asked++
	}
}

// unnamed is what has no name of a source.
func (p *pass) unnamed(n *node) string {
	if n == p.evaluation.root {
		return "the question about capabilities"
	}
	return "a material of an unknown kind"
}

// list are the wants in an order that does not change from run to run.
func (p *pass) list() []Want {
	var wants []Want
	for _, w := range p.wants {
		for i := range w.Asks {
			w.Asks[i].Material = w.node.known != p.evaluation.root.known
		}
		sorted.Func(w.Asks, func(a, b Ask) int { return cmp.Compare(a.Key(), b.Key()) })
		wants = append(wants, *w)
	}
	sorted.Func(wants, func(a, b Want) int { return cmp.Compare(a.Source.key(), b.Source.key()) })
	return wants
}

// newPass is a pass that has not begun.
func (e *Evaluation) newPass(policy *Policy) *pass {
	p := &pass{evaluation: e, policy: policy, leftOut: map[string]bool{}, wants: map[*known]*Want{}, pins: map[evidence.Digest]bool{}}
	if e.sandboxed {
		p.asks = &askMessages{seen: map[string]bool{}}
	}
	return p
}

// pass evaluates one policy once, and again when it has asked for what its document
// lacked.
func (e *Evaluation) pass(ctx context.Context, policy *Policy) (*pass, any, *policy.Reason, error) {
	for {
		p := e.newPass(policy)
		value, denied, named, err := p.run(ctx)
		if err != nil {
			return nil, nil, nil, err
		}
		if len(named) > 0 {
			e.name(policy, named)
			continue
		}
		if p.asked > maxPassAsks {
			p.forget()
			r := reasonOf(rego.CodeEval, e.root.src, "%s asks for more than %d facts at once", policy.name, maxPassAsks)
			return p, nil, &r, nil
		}
		if policy.print != nil && len(p.wants) == 0 {
			for _, line := range p.printed {
				policy.print(fault.Redact(line))
			}
		}
		return p, value, denied, nil
	}
}

// run evaluates the policy, here or in its process. The value is nil when the rule decision
// is undefined; a failure is a reason; named is what the document lacked; an error means that
// ctx ended.
func (p *pass) run(ctx context.Context) (value any, denied *policy.Reason, named []string, err error) {
	if p.policy.process != nil {
		value, denied, err = p.policy.process.run(ctx, p)
		return value, denied, nil, err
	}
	e := p.evaluation
	o := p.object(e.root)
	p.document = rego.NewDocument(o, slices.Sorted(maps.Keys(p.leftOut))...)
	value, denied, err = p.policy.program.Run(ctx, p.document, e.req.Now, p, func(line string) { p.printed = append(p.printed, line) })
	if err != nil {
		return nil, nil, nil, err
	}
	return value, denied, p.document.Named(), nil
}

// forget takes back what the pass read: it decided nothing, and asks for nothing.
func (p *pass) forget() {
	p.wants, p.failed, p.failures, p.pins = map[*known]*Want{}, nil, nil, map[evidence.Digest]bool{}
	if p.asks != nil {
		p.asks.list = nil
	}
}

// incomplete are reasons for what was read and is not known.
func (p *pass) incomplete() []policy.Reason {
	slices.Sort(p.failed)
	var reasons []policy.Reason
	for _, f := range slices.Compact(p.failed) {
		reasons = append(reasons, policy.Reason{Code: rego.CodeIncomplete,
			Message: "the policy asks for what is not known: " + f, Subject: p.evaluation.root.src.shown()})
	}
	return reasons
}

// decide makes the decision of a pass that wants nothing more.
func (p *pass) decide(value any, denied *policy.Reason) {
	src := p.evaluation.root.src
	if p.decision.Reasons = p.incomplete(); len(p.decision.Reasons) > 0 {
		return
	}
	if denied != nil {
		denied.Subject = cmp.Or(denied.Subject, src.shown())
		p.decision = policy.Deny(*denied)
		return
	}
	d, messages, err := readDecision(value)
	switch {
	case err != nil:
		r := reasonOf(rego.CodeEval, src, "%s: %v", p.policy.name, err)
		if value == nil {
			r.Hint = "a value or condition of it is not there: hallmark policy explain says which"
		}
		p.decision = policy.Deny(r)
	case !d.allow:
		for _, m := range messages {
			p.decision.Reasons = append(p.decision.Reasons, p.policy.as(reasonOf(rego.CodeDenied, src, "%s", fault.Redact(m)), value))
		}
		if len(messages) == 0 {
			p.decision.Reasons = []policy.Reason{reasonOf(rego.CodeDenied, src, "%s does not allow %s, and gives no deny_msg", p.policy.name, src.shown())}
		}
		if first := &p.decision.Reasons[0]; first.Hint == "" {
			first.Hint = strings.Join(p.why(), "; ")
		} else if why := p.why(); len(why) > 0 {
			first.Message += " (" + strings.Join(why, "; ") + ")"
		}
	default:
		p.decision.Allowed = true
		for _, m := range messages { // buildx, too, allows then
			p.decision.Warnings = append(p.decision.Warnings, reasonOf("POLICY_WARNING", src, "%s", fault.Redact(m)))
		}
	}
}

// why is what did not verify, for whoever wonders about a denial.
func (p *pass) why() []string {
	notes := append(slices.Clone(p.notes), p.evaluation.root.known.facts.Notes...)
	slices.Sort(notes)
	if notes = slices.Compact(notes); len(notes) > 5 {
		notes = append(notes[:5], fmt.Sprintf("and %d more", len(notes)-5))
	}
	return notes
}

// answer is what the rule decision evaluates to.
type answer struct {
	allow bool
	caps  map[string]bool
}

// maxMessages bounds what one policy may say.
const maxMessages = 100

// Capabilities that a policy can ask for.
const CapExecProxy = "exec.proxy" // RUN steps reach the network through the policy

// readDecision reads {"allow": bool, "deny_msg": [string], "caps": {name: bool}}.
func readDecision(value any) (a answer, messages []string, err error) {
	if value == nil {
		return a, nil, fmt.Errorf("the rule decision is undefined")
	}
	o, ok := value.(map[string]any)
	if !ok {
		return a, nil, fmt.Errorf("the rule decision is %s; it must be an object", rego.TypeName(value))
	}
	if v, defined := o["allow"]; defined {
		if a.allow, ok = v.(bool); !ok {
			return a, nil, fmt.Errorf("decision.allow is %s; it must be a boolean", rego.TypeName(v))
		}
	}
	if messages, err = denyMessages(o["deny_msg"]); err != nil {
		return a, nil, err
	}
	v, defined := o["caps"]
	if !defined {
		return a, messages, nil
	}
	caps, ok := v.(map[string]any)
	if !ok {
		return a, nil, fmt.Errorf("decision.caps is %s; it must be an object", rego.TypeName(v))
	}
	a.caps = map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(caps)) {
		if name != CapExecProxy {
			return a, nil, fmt.Errorf("decision.caps has %q, which is not known; known is %q", name, CapExecProxy)
		}
		if a.caps[name], ok = caps[name].(bool); !ok {
			return a, nil, fmt.Errorf("decision.caps[%q] is %s; it must be a boolean", name, rego.TypeName(caps[name]))
		}
	}
	return a, messages, nil
}

// denyMessages reads one string, or a list or set of them.
func denyMessages(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{rego.Clean(v)}, nil
	case []any:
		var out []string
		for _, m := range v[:min(len(v), maxMessages)] {
			s, ok := m.(string)
			if !ok {
				return nil, fmt.Errorf("decision.deny_msg holds %s; it must be a list of strings", rego.TypeName(m))
			}
			out = append(out, rego.Clean(s))
		}
		return out, nil
	}
	return nil, fmt.Errorf("decision.deny_msg is %s; it must be a list of strings", rego.TypeName(v))
}

// Caps asks which capabilities the policies want of the build: those that any wants.
// The decision denies when one of them could not say; an error means that ctx ended.
func (s *Set) Caps(ctx context.Context, env Env, build *Build) (map[string]bool, policy.Decision, error) {
	env.Depth, env.CapsRequest = 0, true
	caps := map[string]bool{}
	e := &Evaluation{set: s, req: Request{Env: env, Build: build, Now: time.Now()}, root: &node{named: &Input{}, known: &known{}}}
	for _, p := range s.policies {
		run, value, denied, err := e.pass(ctx, p)
		if err != nil {
			return nil, policy.Decision{}, err
		}
		if reasons := run.incomplete(); len(reasons) > 0 {
			for i := range reasons {
				reasons[i].Subject = p.name
			}
			return nil, policy.Deny(reasons...), nil
		}
		if denied != nil {
			return nil, policy.Deny(*denied), nil
		}
		d, _, err := readDecision(value)
		if err != nil {
			return nil, policy.Deny(policy.Reason{Code: rego.CodeEval, Message: fmt.Sprintf("%s, asked for capabilities: %v", p.name, err)}), nil
		}
		for name, on := range d.caps {
			caps[name] = caps[name] || on
		}
	}
	return caps, policy.Decision{Allowed: true}, nil
}
