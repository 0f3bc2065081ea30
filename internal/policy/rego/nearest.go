package rego

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/hallmark-dev/hallmark/internal/spelling"
)

// nearest is the hint for a reference to a member that does not exist: the member
// whose name is most like it, "" when none is.
func nearest(d *ast.RefErrInvalidDetail) string {
	if d.Pos >= len(d.Ref) {
		return ""
	}
	written, ok := d.Ref[d.Pos].Value.(ast.String)
	if !ok {
		return ""
	}
	var known []string
	for _, v := range d.OneOf {
		if name, ok := v.(ast.String); ok {
			known = append(known, string(name))
		}
	}
	best := spelling.Nearest(string(written), known)
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %s.%s?", d.Ref[:d.Pos], best)
}
