package pattern

import "testing"

func TestNew(t *testing.T) {
	p := New(`^a+$`)
	first, again := p(), p()
	if !first.MatchString("aa") || first.MatchString("ab") || first != again {
		t.Error("the expression is another, or is compiled more than once")
	}
	bad := New(`(`)
	defer func() {
		if recover() == nil {
			t.Error("an expression that is none was taken")
		}
	}()
	bad()
}
