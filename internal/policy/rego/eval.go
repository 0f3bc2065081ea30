package rego

import (
	"context"
	"errors"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/print"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// prepareContext is for compiling, which does no input or output.
func prepareContext() context.Context { return context.Background() }

// evaluator is a prepared query with its bounds.
type evaluator struct {
	query   rego.PreparedEvalQuery
	timeout time.Duration
	growth  uint64 // bytes that the heap may grow
	print   func(string)
}

var errMemory = errors.New("evaluation needs too much memory")

// run evaluates the query on input. The value is nil when it is undefined. A
// failure of the policy is a reason; an error means that ctx ended.
func (e evaluator) run(ctx context.Context, input ast.Value, now time.Time) (any, *policy.Reason, error) {
	bounded, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	bounded, tooMuch := context.WithCancelCause(bounded)
	defer tooMuch(nil)
	defer watchHeap(e.growth, tooMuch)()

	options := []rego.EvalOption{rego.EvalParsedInput(input), rego.EvalTime(now)}
	if e.print != nil {
		options = append(options, rego.EvalPrintHook(printHook(e.print)))
	}
	results, err := e.query.Eval(bounded, options...)
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
	case len(results) == 0:
		return nil, nil, nil
	case len(results) > 1 || len(results[0].Expressions) != 1:
		r := reason(CodeEval, "evaluation gave %d results; it must give one", len(results))
		return nil, &r, nil
	}
	return results[0].Expressions[0].Value, nil, nil
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
	h(clean(line))
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
