// Package fault is how a failure travels to the person who must act on it: what
// kind it is (which decides the exit code), what was being done, and a hint.
//
// A denial is not a fault; see package policy.
package fault

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"
)

// Kind decides the exit code. The zero Kind is an ordinary error.
type Kind int

// The kinds, with the exit code that each becomes.
const (
	Failure     Kind = iota // 1: something failed
	Usage                   // 2: the call is wrong
	Denied                  // 3: a gate said no; already reported
	NotFound                // 4: nothing found to verify
	Unreachable             // 5: a service did not answer
)

// Error is an error with a kind and a hint. Its text is "doing what: cause".
type Error struct {
	Kind Kind
	Hint string // one sentence, optional; never suggests weakening a policy
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Usagef is a mistake in the call.
func Usagef(format string, args ...any) *Error {
	return &Error{Kind: Usage, Err: fmt.Errorf(format, args...)}
}

// Unreachablef says that a service could not be asked: name the host and the step.
func Unreachablef(format string, args ...any) *Error {
	return &Error{Kind: Unreachable, Err: fmt.Errorf(format, args...)}
}

// NotFoundf says that there is nothing to verify.
func NotFoundf(format string, args ...any) *Error {
	return &Error{Kind: NotFound, Err: fmt.Errorf(format, args...)}
}

// Hint wraps err with a hint and keeps its kind. A nil err stays nil.
func Hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: KindOf(err), Hint: fmt.Sprintf(format, args...), Err: err}
}

// As wraps err with a kind. A nil err stays nil.
func As(kind Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: kind, Err: err}
}

// KindOf is the kind of the outermost *Error in err's chain, Failure without one.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Failure
}

// HintOf is the first hint in err's chain.
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}

// HTTP describes a failed request without its query, headers or body (they may
// hold secrets): "step: host: cause". A request that got no answer is Unreachable.
func HTTP(step, rawURL string, err error) error {
	if err == nil {
		return nil
	}
	host := Redact(rawURL)
	if u, perr := url.Parse(rawURL); perr == nil && u.Host != "" {
		host = u.Host
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		err = dial.Err // without the address: the host says it
	}
	hint := ""
	if errors.Is(err, syscall.ECONNREFUSED) {
		err, hint = syscall.ECONNREFUSED, "nothing listens at "+host+"; if that is a hallmark up of yours, start it"
	}
	return &Error{Kind: Unreachable, Hint: hint, Err: fmt.Errorf("%s: %s: %w", step, host, err)}
}
