package rego

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// inputSchema is the closed JSON schema of [policy.Input], derived from its
// types: OPA's type checker refuses references to members that do not exist.
func inputSchema() any { return schemaOf(reflect.TypeFor[policy.Input]()) }

func schemaOf(t reflect.Type) any {
	switch t {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string"}
	case reflect.TypeFor[json.RawMessage]():
		return map[string]any{} // a predicate: anything
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Map:
		return map[string]any{"type": "object"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Struct:
		members := map[string]any{}
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			if name != "" && name != "-" {
				members[name] = schemaOf(t.Field(i).Type)
			}
		}
		return map[string]any{"type": "object", "properties": members, "additionalProperties": false}
	}
	panic("policy.Input has a member of type " + t.String() + ", which the schema does not know")
}

// inputValue is the document that the policy reads. Lists that a gate always
// knows are there even when they are empty, so that count() of them is defined.
func inputValue(in policy.Input) (ast.Value, error) {
	if in.Kind == "image" {
		if in.Signatures == nil {
			in.Signatures = []policy.Fact{}
		}
		if in.Attestations == nil {
			in.Attestations = []policy.Fact{}
		}
	}
	data, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	if in.Kind == "image" {
		for _, name := range []string{"signatures", "attestations"} {
			if doc[name] == nil {
				doc[name] = []any{}
			}
		}
	}
	return ast.InterfaceToValue(doc)
}

// incomplete is the completeness gate: what every policy may rely on must be
// there before any rule is evaluated, because a rule about a missing member is
// undefined and a deny rule that is undefined does not deny.
func incomplete(in policy.Input) []policy.Reason {
	var c completeness
	c.need("now", !in.Now.IsZero())
	switch in.Kind {
	case "build":
		c.git(in.Git)
	case "image":
		c.image(in)
	default:
		c.missing("kind")
	}
	return c.reasons
}

type completeness struct{ reasons []policy.Reason }

func (c *completeness) missing(path string) {
	c.reasons = append(c.reasons, policy.Reason{
		Code:    CodeIncomplete,
		Message: "input." + path + " is missing or malformed; the policy is not evaluated without it",
		Subject: "input." + path,
	})
}

func (c *completeness) need(path string, present bool) {
	if !present {
		c.missing(path)
	}
}

func (c *completeness) git(g *policy.Git) {
	if g == nil {
		c.missing("git")
		return
	}
	c.need("git.ref", strings.HasPrefix(g.Ref, "refs/") || objectID(g.Ref))
	c.need("git.checksum", objectID(g.Checksum))
	c.need("git.commitChecksum", objectID(g.CommitChecksum))
	c.need("git.tag", (g.Tag != nil) == g.IsAnnotatedTag)
	if t := g.Tag; t != nil {
		c.need("git.tag.object", objectID(t.Object))
		c.need("git.tag.type", t.Type != "")
		c.need("git.tag.tag", t.Tag != "")
		if t.Signer != nil {
			c.need("git.tag.signer.kind", t.Signer.Kind != "")
			c.need("git.tag.signer.fingerprint", t.Signer.Fingerprint != "")
		}
	}
	if g.Commit == nil {
		c.missing("git.commit")
		return
	}
	c.need("git.commit.tree", objectID(g.Commit.Tree))
}

func (c *completeness) image(in policy.Input) {
	if in.Image == nil {
		c.missing("image")
		return
	}
	_, err := evidence.ParseDigest(string(in.Image.Digest))
	c.need("image.digest", err == nil)
	c.need("image.ref", in.Image.Ref != "")
	for i, f := range in.Signatures {
		c.fact(fmt.Sprintf("signatures[%d]", i), f)
	}
	for i, f := range in.Attestations {
		path := fmt.Sprintf("attestations[%d]", i)
		c.fact(path, f)
		c.need(path+".predicateType", f.PredicateType != "")
		c.need(path+".predicate", len(f.Predicate) > 0)
	}
}

func (c *completeness) fact(path string, f policy.Fact) {
	c.need(path+".format", f.Format != "")
	c.need(path+".signer", f.Signer.Key != "" || f.Signer.Identity != "" && f.Signer.Issuer != "" || f.Signer.Subject != "" && f.Signer.Certificate != "")
}

// objectID reports whether s is a git object id: 40 or 64 lower-case digits.
func objectID(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}
