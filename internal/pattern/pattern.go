// Package pattern has regular expressions that are compiled when they are first used.
// One that a program compiles as it starts is paid by every call of it, and a counted
// repetition such as {1,128} costs a hundred times what its text suggests.
package pattern

import (
	"regexp"
	"sync"
)

// New returns a function that compiles expr, RE2's syntax, when it is first called, and
// panics then if expr is none. The function may be called by several at once.
func New(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
