package rego

import (
	"context"
	"errors"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/print"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// evaluator is a query that was compiled once, with its bounds. It stands on
// OPA's ast and topdown alone: package v1/rego would link a WebAssembly compiler,
// a planner, a bundle reader and a formatter, none of which a gate uses.
type evaluator struct {
	compiler *ast.Compiler
	query    ast.Body
	queries  ast.QueryCompiler
	data     storage.Store
	txn      storage.Transaction // of data, which nobody writes: one for all evaluations

	timeout   time.Duration
	growth    uint64 // bytes that the heap may grow
	print     func(string)
	functions map[string]*topdown.Builtin // beside OPA's
	tracers   []topdown.QueryTracer
	lazy      bool // the input has members that must not be read without need
	all       bool // look at each rule, also at those that an index would leave out
}

// result is the variable that a query's document is bound to. Policies cannot
// name it: a variable of the query is no variable of a module.
var result = ast.Var("result")

// newEvaluator compiles the question what ref, such as data.hallmark.signing, is.
func newEvaluator(compiler *ast.Compiler, ref string, data map[string]any) (evaluator, error) {
	path, err := ast.ParseRef(ref)
	if err != nil {
		return evaluator{}, err
	}
	e := evaluator{compiler: compiler, queries: compiler.QueryCompiler(), data: inmem.NewFromObject(data)}
	e.query, err = e.queries.Compile(ast.NewBody(ast.Equality.Expr(ast.NewTerm(result), ast.NewTerm(path))))
	if err != nil {
		return evaluator{}, err
	}
	e.txn, err = e.data.NewTransaction(context.Background()) // in memory: it waits for nothing
	return e, err
}

var errMemory = errors.New("evaluation needs too much memory")

// run evaluates the query on input. The value is nil when it is undefined. A
// failure of the policy is a reason; an error means that ctx ended.
func (e evaluator) run(ctx context.Context, input ast.Value, now time.Time) (value any, denied *policy.Reason, err error) {
	defer func() {
		if p := recover(); p != nil { // in the engine: nobody knows what it had decided
			r := reason(CodeEval, "evaluation failed: %v", p)
			value, denied, err = nil, &r, nil
		}
	}()
	bounded, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	bounded, tooMuch := context.WithCancelCause(bounded)
	defer tooMuch(nil)
	defer watchHeap(e.growth, tooMuch)()

	stop := topdown.NewCancel()
	defer context.AfterFunc(bounded, stop.Cancel)()

	query := topdown.NewQuery(e.query).WithQueryCompiler(e.queries).WithCompiler(e.compiler).
		WithStore(e.data).WithTransaction(e.txn).
		WithStrictBuiltinErrors(true).
		WithInput(ast.NewTerm(input)).WithTime(now).WithCancel(stop)
	if e.print != nil {
		query.WithPrintHook(printHook(e.print))
	}
	for _, t := range e.tracers {
		query.WithQueryTracer(t)
	}
	if e.functions != nil {
		query.WithBuiltins(e.functions)
	}
	if e.lazy {
		// Looking rules up by value would read members that no rule comes to.
		query.WithIndexing(false).WithVirtualCache(newLazyCache())
	}
	if e.all {
		query.WithIndexing(false)
	}
	var values []any
	err = query.Iter(bounded, func(found topdown.QueryResult) error {
		if longer(found[result].Value, maxResult) {
			return exceeds("the decision", "a text that may have more bytes", maxResult)
		}
		v, err := ast.JSON(found[result].Value)
		values = append(values, v)
		return err
	})
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case errors.Is(context.Cause(bounded), errMemory):
		r := reason(CodeEval, "the policy was stopped: %v (more than %d MiB)", errMemory, e.growth>>20)
		return nil, &r, nil
	case bounded.Err() != nil:
		r := reason(CodeEval, "the policy was stopped: evaluation took longer than %v", e.timeout)
		return nil, &r, nil
	case err != nil:
		r := reason(CodeEval, "evaluation failed: %s", evalError(err))
		return nil, &r, nil
	case len(values) == 0:
		return nil, nil, nil
	case len(values) > 1:
		r := reason(CodeEval, "evaluation gave %d results; it must give one", len(values))
		return nil, &r, nil
	}
	return values[0], nil, nil
}

// evalError is "file:line: code: message".
func evalError(err error) string {
	var e *topdown.Error
	if errors.As(err, &e) && e.Location != nil {
		return strings.TrimSpace(e.Error())
	}
	return err.Error()
}

type printHook func(string)

func (h printHook) Print(_ print.Context, line string) error {
	h(Clean(line))
	return nil
}

// watchHeap calls stop when the heap grows beyond the bound; the function that
// it returns ends the watch. Short evaluations, which are nearly all, are over
// before the first look.
func watchHeap(growth uint64, stop context.CancelCauseFunc) func() {
	const interval = 20 * time.Millisecond
	done := make(chan struct{})
	start := heap()
	var look func()
	look = func() {
		select {
		case <-done:
			return
		default:
		}
		if heap() > start+growth {
			stop(errMemory)
			return
		}
		time.AfterFunc(interval, look)
	}
	timer := time.AfterFunc(interval, look)
	return func() {
		close(done)
		timer.Stop()
	}
}

func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}
