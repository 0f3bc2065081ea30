package rego

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

const imageTag = "input.image.tag"

// bindsTag reports whether a reference tells a policy what a tag stands for: whether a
// digest was written beside it, which image it is, or who signed for the tag.
func bindsTag(ref string) bool {
	switch {
	case ref == "pin_image" || ref == "docker_github_builder_tag" || ref == "docker_github_builder_signature":
		return true
	case strings.HasSuffix(ref, ".sourceRepositoryRef"):
		return true
	case strings.HasPrefix(ref, "input.image."):
		return strings.HasSuffix(ref, ".isCanonical") || strings.HasSuffix(ref, ".checksum") || strings.HasSuffix(ref, ".locked") || strings.HasSuffix(ref, ".moved")
	}
	return false
}

// tag finds a condition on a tag in a policy that never asks what it stands for. Of
// NAME:TAG@DIGEST a build fetches the digest, and nobody looks the tag up.
func (l *linter) tag(name string, r *ast.Rule) {
	if l.bindsTag {
		return
	}
	// In a text for people a tag is no condition.
	text := func(function string) bool { return function == "print" || denies(name) && function == "sprintf" }
	add := func(at *ast.Location) {
		if at != nil {
			l.add(CodeTag, at, "not input.image.isCanonical in the same rule, or a condition on input.image.checksum",
				"%s decides: of NAME:TAG@sha256:… the digest is used, and the tag may be any", imageTag)
		}
	}
	v := ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Expr:
			if t, ok := x.Terms.(*ast.Term); ok && t.String() == imageTag {
				return true // it is there, whatever it is
			}
			return x.IsCall() && text(x.Operator().String())
		case *ast.Term:
			switch v := x.Value.(type) {
			case ast.Call:
				if v[0].String() == "object.get" && len(v) > 2 && v[1].String() == "input.image" && v[2].Value.Compare(ast.String("tag")) == 0 {
					add(x.Location)
				}
				return text(v[0].String())
			case ast.Ref:
				if s := v.String(); s == imageTag {
					add(x.Location)
				}
			}
		}
		return false
	})
	v.Walk(r.Body)
	if !denies(name) {
		for _, head := range []*ast.Term{r.Head.Key, r.Head.Value} {
			if head != nil {
				v.Walk(head)
			}
		}
	}
}
