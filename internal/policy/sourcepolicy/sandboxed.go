package sourcepolicy

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/policy/sandbox"
)

// process is where a sandboxed policy is evaluated. The process knows the policy's text and
// what is told to it for one pass. It says what the policy read, what that came to, and no
// more: facts are fetched, failures named and decisions read here, as for other policies.
type process struct {
	worker  *sandbox.Worker
	number  int
	compile compileOrder
	within  time.Duration
	folder  *folder // what it reads while it decides
	imports *folder // what it read when it was compiled first
}

var policyNumber atomic.Int64

// CompileSandboxed is [Compile] for a policy that nobody vouches for: it is compiled and
// evaluated by the worker's process, of which [ServeSandbox] is the other end. What breaks
// the process's bounds denies with POLICY_EVAL, and the next pass has another process.
func CompileSandboxed(ctx context.Context, w *sandbox.Worker, files []File, o Options) (*Policy, error) {
	p := &process{
		worker: w, number: int(policyNumber.Add(1)), within: cmp.Or(o.Timeout, rego.DefaultTimeout), folder: &folder{fs: o.FS}, imports: &folder{fs: o.FS},
		compile: compileOrder{Files: files, Folder: o.FS != nil, Print: o.Print != nil, Timeout: o.Timeout},
	}
	answer, err := p.prepare(ctx)
	var breach *sandbox.Breach
	switch {
	case errors.As(err, &breach):
		return nil, &rego.CompileError{Reasons: []policy.Reason{stopped(breach)}}
	case err != nil:
		return nil, err
	case len(answer.Reasons) > 0:
		return nil, &rego.CompileError{Reasons: cleaned(answer.Reasons)}
	}
	all := map[string][]byte{}
	for _, f := range files {
		all[f.Name] = f.Data
	}
	p.imports.sealed = true
	for name, text := range p.imports.data { // all, whatever it made of them
		if _, own := all[name]; !own {
			all[name] = text
		}
	}
	made := newPolicy(files, o, all)
	made.process, made.impure, made.fields, made.folder = p, answer.Impure, answer.Fields, p.folder
	return made, nil
}

// stopped is the reason of a breach.
func stopped(b *sandbox.Breach) policy.Reason {
	return policy.Reason{Code: rego.CodeEval, Message: rego.Clean("the policy's process was stopped: " + b.Why)}
}

// cleaned are reasons that came from the process.
func cleaned(reasons []policy.Reason) []policy.Reason {
	var out []policy.Reason
	for _, r := range reasons[:min(len(reasons), maxMessages)] {
		out = append(out, policy.Reason{Code: rego.CodeCompile, Message: rego.Clean(r.Message), Subject: rego.Clean(r.Subject), Hint: rego.Clean(r.Hint)})
	}
	return out
}

// prepare has the process compile the policy.
func (p *process) prepare(ctx context.Context) (answer compileAnswer, err error) {
	err = p.worker.Call(ctx, order{Policy: p.number, Compile: &p.compile}, p.within, files(p.imports), &answer)
	return answer, err
}

// files answers questions for files of a folder, and keeps what is read there.
func files(of *folder) func(json.RawMessage) (any, error) {
	return func(question json.RawMessage) (any, error) {
		var q fileQuestion
		dec := json.NewDecoder(bytes.NewReader(question))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&q); err != nil {
			return nil, errors.New("no question that is known")
		}
		if of.fs == nil {
			return nil, fs.ErrNotExist
		}
		if !q.Read {
			if !fs.ValidPath(q.Name) {
				return nil, fs.ErrInvalid
			}
			info, err := fs.Stat(of.fs, q.Name)
			if err != nil {
				return nil, err
			}
			return fileAnswer{Size: info.Size(), Regular: info.Mode().IsRegular()}, nil
		}
		data, err := of.read(q.Name, maxBundle)
		return fileAnswer{Size: int64(len(data)), Regular: true, Data: data}, err
	}
}

// run evaluates a pass in the process.
func (p *process) run(ctx context.Context, of *pass) (any, *policy.Reason, error) {
	var answer runAnswer
	call := func() error {
		answer = runAnswer{}
		return p.worker.Call(ctx, order{Policy: p.number, Run: of.evaluation.told()}, p.within, files(p.folder), &answer)
	}
	err := call()
	if err == nil && answer.Unheard { // the process is another one since
		var again compileAnswer
		if again, err = p.prepare(ctx); err == nil && len(again.Reasons) > 0 {
			err = &sandbox.Breach{Why: "the policy compiled, and does not any more: " + again.Reasons[0].Message}
		}
		if err == nil {
			err = call()
		}
	}
	if err == nil {
		err = of.take(&answer)
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	var breach *sandbox.Breach
	if err != nil {
		of.forget()
		if !errors.As(err, &breach) {
			breach = &sandbox.Breach{Why: err.Error()}
		}
		r := stopped(breach)
		return nil, &r, nil
	}
	if answer.Denied != nil {
		r := policy.Reason{Code: rego.CodeEval, Message: rego.Clean(answer.Denied.Message), Subject: rego.Clean(answer.Denied.Subject)}
		return nil, &r, nil
	}
	return rawJSON(answer.Value), nil, nil
}

// told is what a process is told of an evaluation.
func (e *Evaluation) told() *runOrder {
	r := &runOrder{Env: e.req.Env, Build: e.req.Build, Locked: e.req.Locked, Now: e.req.Now}
	if e.root.src.Identifier == "" {
		return r
	}
	r.Source = &e.root.src
	seen := map[*known]bool{}
	var add func(*node)
	add = func(n *node) {
		if !seen[n.known] && n.src.Identifier != "" && e.known[n.src.key()] == n.known {
			seen[n.known] = true
			m := knownMessage{Source: n.src, Facts: n.known.facts, Failed: map[string]string{}}
			m.Facts.Notes = nil
			for key, err := range n.known.failed {
				m.Failed[key] = err.Error()
			}
			r.Known = append(r.Known, m)
		}
		if n.known.provenance != nil {
			e.grow(n)
		}
		for _, c := range n.children {
			add(c)
		}
	}
	add(e.root)
	return r
}

// take takes an answer over, as if the policy had been evaluated here. What no policy could
// have come to is a [sandbox.Breach].
func (p *pass) take(a *runAnswer) error {
	switch {
	case len(a.Asks) > maxPassAsks:
		return &sandbox.Breach{Why: fmt.Sprintf("it asks for more than %d facts at once", maxPassAsks)}
	case len(a.Value) > maxValue:
		return &sandbox.Breach{Why: fmt.Sprintf("its decision is a text of more than %d bytes", maxValue)}
	case len(a.Printed) > maxPrinted+1 || len(a.Notes) > maxMessages:
		return &sandbox.Breach{Why: "it prints or notes more than it may"}
	}
	nodes := map[string]*node{}
	var add func(*node)
	add = func(n *node) {
		nodes[n.name] = n
		for _, c := range n.children {
			add(c)
		}
	}
	add(p.evaluation.root)
	for _, asked := range a.Asks {
		n := nodes[asked.Node]
		if n == nil || !n.answers(asked.Ask) {
			return &sandbox.Breach{Why: "it asks for what no source has"}
		}
		asked.Ask.Material = false
		p.ask(n, asked.Ask)
	}
	for _, pin := range a.Pins {
		d, err := evidence.ParseDigest(string(pin))
		if err != nil || p.evaluation.root.named.Image == nil {
			return &sandbox.Breach{Why: "it pins what cannot be pinned"}
		}
		p.pins[d] = true
	}
	for _, note := range a.Notes {
		p.note("%s", note)
	}
	for _, line := range a.Printed {
		p.printed = append(p.printed, rego.Clean(line))
	}
	return nil
}

// answers reports whether an ask is one of the node's kind of source.
func (n *node) answers(a Ask) bool {
	switch a.Fact {
	case LockSays, BuildSays:
		return true
	case HTTPDigest:
		return n.named.HTTP != nil && slices.Contains([]string{"sha256", "sha384", "sha512"}, a.Algorithm)
	case BundleSignature:
		return n.named.HTTP != nil && a.Digest == n.known.facts.Checksum
	case GitHubAttestation:
		return n.named.HTTP != nil && a.Digest == n.known.facts.Checksum && isRepository(a.Repo)
	}
	for kind, facts := range factsOf {
		is := map[string]bool{"image": n.named.Image != nil, "git": n.named.Git != nil, "http": n.named.HTTP != nil}[kind]
		for _, f := range facts {
			if is && f.fact == a.Fact {
				return true
			}
		}
	}
	return false
}

// askMessages are what a pass asked for, once each.
type askMessages struct {
	list []askMessage
	seen map[string]bool
}

func (a *askMessages) add(n *node, ask Ask) {
	key := fmt.Sprintf("%s\x00%s\x00%s", n.name, ask.Fact, ask.Key())
	if !a.seen[key] && len(a.list) <= maxPassAsks {
		a.seen[key] = true
		a.list = append(a.list, askMessage{n.name, ask})
	}
}
