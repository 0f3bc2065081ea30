package rules

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/policy/sandbox"
)

// process is where the policy of a stranger is compiled and evaluated: see [LoadSandboxed].
// It is asked what the package evaluates to, and no more. That the document is whole, what
// the value means, and which obligations can be met is decided here.
type process struct {
	worker  *sandbox.Worker
	number  int
	compile compileOrder
	reading rego.Reading
	within  time.Duration
	print   func(string)
}

// Bounds of what a process may do and say.
const (
	processGrowth = 96 << 20 // bytes that its heap may grow, so that the policy fails and not the process
	maxValue      = 1 << 20  // bytes of the decision as JSON
	maxPrinted    = 1000     // lines
	maxSteps      = 5000
)

// order is a call of the process: one of the two.
type order struct {
	Policy  int           `json:"policy"`
	Compile *compileOrder `json:"compile,omitempty"`
	Run     *runOrder     `json:"run,omitempty"`
}

type compileOrder struct {
	Files   map[string][]byte `json:"files"`
	Timeout time.Duration     `json:"timeout"`
	Print   bool              `json:"print"`
}

type compileAnswer struct {
	Reasons []policy.Reason `json:"reasons,omitempty"`
	Object  bool            `json:"object,omitempty"`
}

type runOrder struct {
	Document map[string]any `json:"document"`
	Now      time.Time      `json:"now"`
	Trace    bool           `json:"trace,omitempty"`
}

type runAnswer struct {
	Unheard bool            `json:"unheard,omitempty"` // it is another process since
	Value   json.RawMessage `json:"value,omitempty"`   // absent: undefined
	Denied  *policy.Reason  `json:"denied,omitempty"`
	Printed []string        `json:"printed,omitempty"`
	Steps   []rego.Step     `json:"steps,omitempty"`
	Unmet   []rego.Unmet    `json:"unmet,omitempty"`
}

var policyNumber atomic.Int64

// LoadSandboxed is [Load] for a policy that nobody vouches for: the worker's process, of
// which [ServeSandbox] is the other end, compiles and evaluates it, without network and
// files and with little memory. What breaks its bounds denies with POLICY_EVAL, and the
// next decision has another process. The worker belongs to the caller. An error means that
// ctx ended, or that no process can be started.
func LoadSandboxed(ctx context.Context, w *sandbox.Worker, files map[string][]byte, o Options) (*Policy, []policy.Reason, error) {
	own, _, wrongs := split(files)
	if wrongs != nil {
		return nil, wrongs, nil
	}
	p := &process{
		worker: w, number: int(policyNumber.Add(1)), within: cmp.Or(o.Timeout, rego.DefaultTimeout), print: o.Print,
		compile: compileOrder{Files: own, Timeout: o.Timeout, Print: o.Print != nil},
		reading: rego.Reading{Query: rego.SigningQuery, Obligations: o.Obligations},
	}
	object, wrongs, err := p.prepare(ctx)
	if err != nil || wrongs != nil {
		return nil, wrongs, err
	}
	p.reading.Object = object
	return &Policy{files: own, engine: p}, nil, nil
}

// prepare has the process compile the policy; object: it has a rule named decision.
func (p *process) prepare(ctx context.Context) (object bool, wrongs []policy.Reason, err error) {
	var answer compileAnswer
	err = p.worker.Call(ctx, order{Policy: p.number, Compile: &p.compile}, p.within, nothing, &answer)
	var breach *sandbox.Breach
	switch {
	case errors.As(err, &breach):
		return false, []policy.Reason{stopped(breach)}, nil
	case err != nil:
		return false, nil, err
	}
	for _, r := range answer.Reasons[:min(len(answer.Reasons), 100)] {
		wrongs = append(wrongs, policy.Reason{Code: rego.CodeCompile, Message: rego.Clean(r.Message), Subject: rego.Clean(r.Subject), Hint: rego.Clean(r.Hint)})
	}
	return answer.Object, wrongs, nil
}

// nothing answers the process's questions: it has none.
func nothing(json.RawMessage) (any, error) { return nil, errors.New("no question is answered") }

func stopped(b *sandbox.Breach) policy.Reason {
	return policy.Reason{Code: rego.CodeEval, Message: rego.Clean("the policy's process was stopped: " + b.Why)}
}

// call has the process evaluate the policy; a breach is a reason.
func (p *process) call(ctx context.Context, doc map[string]any, now time.Time, trace bool) (runAnswer, *policy.Reason, error) {
	var answer runAnswer
	again := func() error {
		answer = runAnswer{}
		return p.worker.Call(ctx, order{Policy: p.number, Run: &runOrder{Document: doc, Now: now, Trace: trace}}, p.within, nothing, &answer)
	}
	err := again()
	if err == nil && answer.Unheard { // the process is another one since
		object, wrongs, perr := p.prepare(ctx)
		switch {
		case perr != nil:
			return answer, nil, perr
		case wrongs != nil || object != p.reading.Object:
			err = &sandbox.Breach{Why: "the policy compiled, and does not any more, or to something else"}
		default:
			err = again()
		}
	}
	if err == nil {
		err = answer.bounds()
	}
	var breach *sandbox.Breach
	if errors.As(err, &breach) {
		r := stopped(breach)
		return runAnswer{}, &r, nil
	}
	return answer, nil, err
}

// bounds refuses what no policy's process has to say.
func (a *runAnswer) bounds() error {
	switch {
	case a.Unheard:
		return &sandbox.Breach{Why: "it does not know the policy that it just compiled"}
	case len(a.Value) > maxValue:
		return &sandbox.Breach{Why: fmt.Sprintf("its decision is a text of more than %d bytes", maxValue)}
	case len(a.Printed) > maxPrinted+1 || len(a.Steps) > maxSteps:
		return &sandbox.Breach{Why: "it prints or explains more than it may"}
	}
	return nil
}

// DecideValue is that of [rego.Set].
func (p *process) DecideValue(ctx context.Context, doc map[string]any, now time.Time) (rego.Answer, error) {
	answer, denied, err := p.call(ctx, doc, now, false)
	if err != nil {
		return rego.Answer{}, err
	}
	if p.print != nil {
		for _, line := range answer.Printed {
			p.print(rego.Clean(line))
		}
	}
	if answer.Denied != nil {
		denied = &policy.Reason{Code: rego.CodeEval, Message: rego.Clean(answer.Denied.Message)}
	}
	var value any
	if denied == nil && answer.Value != nil {
		dec := json.NewDecoder(bytes.NewReader(answer.Value))
		dec.UseNumber()
		if err := dec.Decode(&value); err != nil {
			r := stopped(&sandbox.Breach{Why: "its decision is no JSON"})
			denied = &r
		}
	}
	return p.reading.Answer(value, denied), nil
}

// Trace is that of [rego.Set].
func (p *process) Trace(ctx context.Context, doc map[string]any, now time.Time) ([]rego.Step, []rego.Unmet, error) {
	answer, denied, err := p.call(ctx, doc, now, true)
	if err != nil || denied != nil {
		return nil, nil, err
	}
	for i := range answer.Steps {
		s := &answer.Steps[i]
		s.File, s.Rule, s.Text = rego.Clean(s.File), rego.Clean(s.Rule), rego.Clean(s.Text)
		for j := range s.Saw {
			s.Saw[j] = rego.Seen{Ref: rego.Clean(s.Saw[j].Ref), Value: rego.Clean(s.Saw[j].Value)}
		}
	}
	return answer.Steps, answer.Unmet, nil
}

// ServeSandbox is all that the process of sandboxed policies does. It ends with its input.
func ServeSandbox(in io.Reader, out io.Writer) error {
	s := server{policies: map[int]*served{}}
	return sandbox.Serve(in, out, s.answer)
}

type server struct{ policies map[int]*served }

// served is a policy in the process, with what it printed last.
type served struct {
	set     *rego.Set
	printed []string
}

func (s *server) answer(_ *sandbox.Conn, request json.RawMessage) (any, error) {
	var o order
	dec := json.NewDecoder(bytes.NewReader(request))
	dec.DisallowUnknownFields()
	dec.UseNumber()
	if err := dec.Decode(&o); err != nil {
		return nil, err
	}
	switch {
	case o.Compile != nil:
		return s.compile(o.Policy, o.Compile)
	case o.Run == nil:
		return nil, errors.New("neither a policy to compile nor one to evaluate")
	case s.policies[o.Policy] == nil:
		return runAnswer{Unheard: true}, nil
	}
	return s.policies[o.Policy].run(o.Run)
}

func (s *server) compile(number int, o *compileOrder) (any, error) {
	p := &served{}
	opts := Options{Timeout: o.Timeout}
	if o.Print {
		opts.Print = func(line string) {
			if len(p.printed) < maxPrinted {
				p.printed = append(p.printed, line)
			}
		}
	}
	c := config(opts)
	c.Growth = processGrowth
	var err error
	if p.set, err = rego.CompileSet(o.Files, c); err != nil {
		return compileAnswer{Reasons: mistakes(err)}, nil
	}
	s.policies[number] = p
	return compileAnswer{Object: p.set.Reading().Object}, nil
}

func (p *served) run(o *runOrder) (any, error) {
	p.printed = nil
	var a runAnswer
	if o.Trace {
		var err error
		if a.Steps, a.Unmet, err = p.set.Trace(context.Background(), o.Document, o.Now); err != nil {
			return nil, err
		}
		a.Steps = a.Steps[:min(len(a.Steps), maxSteps)]
	} else {
		value, denied, err := p.set.Value(context.Background(), o.Document, o.Now)
		if err != nil {
			return nil, err
		}
		a.Denied, a.Printed = denied, slices.Clone(p.printed)
		if value != nil {
			if a.Value, err = json.Marshal(value); err != nil {
				return nil, err
			}
		}
	}
	if len(a.Value) > maxValue || !sandbox.Fits(a) {
		return runAnswer{Denied: &policy.Reason{Message: "the policy decides, prints or explains more than its process may say"}}, nil
	}
	return a, nil
}
