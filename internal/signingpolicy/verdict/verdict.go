// Package verdict is the gate's answer as a statement: the signing policy of a
// repository allowed a commit to be built, and an artifact is what was built of it.
// The builder signs it beside the provenance; who consumes the artifact can demand it,
// so that a builder without the gate gains nothing.
//
// The format is an in-toto Simple Verification Result, in whose verifier the policy
// stands, with a member of ours for what was judged.
package verdict

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/jcs"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Names of the format.
const (
	PredicateType = "https://in-toto.io/attestation/svr/v0.2"
	Passed        = "HALLMARK_SIGNING_POLICY_PASSED" // the property
	Verifier      = "https://hallmark.dev/signing-policy/v1"
)

// MaxSize bounds a predicate, in bytes.
const MaxSize = 64 << 10

// Standings of a policy: who vouches that it is the repository's.
const (
	Operator = "operator" // the folder that the builder's operator named; no store has it
	Store    = "store"    // a policy store
)

// Verdict is an allowed release.
type Verdict struct {
	Time       time.Time // of the decision
	Standing   string
	Repository string   // key: "github.com/id/123456", or "local"
	Ref        string   // full name
	Commit     string   // that was judged
	Tag        string   // object id of the annotated tag; "" without one
	Root       string   // "sha256:…" of the first record; "" of a policy that no store has
	Version    int64    // of the record; 0 of a policy that no store has
	Policy     string   // "sha256:…"
	Input      string   // "sha256:…" of the canonical JSON of what the policy saw
	Approvals  []string // ids of those that counted: "sha256:…"
	Builder    string   // the identity that built, "" for a local one
}

// predicate is the format; see the package's comment.
type predicate struct {
	Verifier   verifier `json:"verifier"`
	Created    string   `json:"timeCreated"`
	Properties []string `json:"properties"`
	Hallmark   facts    `json:"hallmark"`
}

type verifier struct {
	ID     string `json:"id"`
	Policy struct {
		Digest struct {
			SHA256 string `json:"sha256"`
		} `json:"digest"`
	} `json:"policy"`
}

type facts struct {
	Standing   string   `json:"standing"`
	Repository string   `json:"repository"`
	Ref        string   `json:"ref"`
	Commit     string   `json:"commit"`
	Tag        string   `json:"tag,omitempty"`
	Root       string   `json:"root,omitempty"`
	Version    int64    `json:"version,omitempty"`
	Input      string   `json:"inputDigest"`
	Approvals  []string `json:"approvals"`
	Builder    string   `json:"builder,omitempty"`
}

// Predicate is the verdict's JSON, in canonical form (RFC 8785).
func (v *Verdict) Predicate() ([]byte, error) {
	p := predicate{Created: v.Time.UTC().Format(time.RFC3339), Properties: []string{Passed}, Verifier: verifier{ID: Verifier},
		Hallmark: facts{Standing: v.Standing, Repository: v.Repository, Ref: v.Ref, Commit: v.Commit, Tag: v.Tag, Root: v.Root,
			Version: v.Version, Input: v.Input, Approvals: append([]string{}, v.Approvals...), Builder: v.Builder}}
	p.Verifier.Policy.Digest.SHA256 = strings.TrimPrefix(v.Policy, "sha256:")
	if _, err := check(&p); err != nil {
		return nil, err
	}
	return jcs.Marshal(p)
}

// Parse reads a predicate that [Verdict.Predicate] made. One of another verifier, or
// without the property, is an error: it is no verdict of a signing policy.
func Parse(data []byte) (*Verdict, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("a verdict of %d bytes; it has at most %d", len(data), MaxSize)
	}
	var p predicate
	if err := strictjson.Unmarshal(data, &p); err != nil {
		return nil, err
	}
	return check(&p)
}

func check(p *predicate) (*Verdict, error) {
	h := p.Hallmark
	at, err := time.Parse(time.RFC3339, p.Created)
	v := &Verdict{Time: at.UTC(), Standing: h.Standing, Repository: h.Repository, Ref: h.Ref, Commit: h.Commit, Tag: h.Tag, Root: h.Root,
		Version: h.Version, Policy: "sha256:" + p.Verifier.Policy.Digest.SHA256, Input: h.Input, Approvals: h.Approvals, Builder: h.Builder}
	switch {
	case err != nil:
		return nil, fmt.Errorf("timeCreated: %w", err)
	case p.Verifier.ID != Verifier:
		return nil, fmt.Errorf("verifier %q is not that of a signing policy", p.Verifier.ID)
	case len(p.Properties) != 1 || p.Properties[0] != Passed:
		return nil, fmt.Errorf("the properties are not just %s", Passed)
	case v.Standing != Operator && v.Standing != Store:
		return nil, fmt.Errorf("standing %q is unknown", v.Standing)
	case !isDigest(v.Policy) || !isDigest(v.Input) || v.Root != "" && !isDigest(v.Root):
		return nil, fmt.Errorf("a digest is not sha256: and 64 hexadecimal digits")
	case v.Standing == Store && (v.Root == "" || v.Version < 1) || v.Standing == Operator && (v.Root != "" || v.Version != 0):
		return nil, fmt.Errorf("root and version are those of a record, and standing is %q", v.Standing)
	case !isObject(v.Commit) || v.Tag != "" && !isObject(v.Tag):
		return nil, fmt.Errorf("commit or tag is no object id")
	case v.Repository == "" || !strings.HasPrefix(v.Ref, "refs/") && v.Ref != v.Commit:
		return nil, fmt.Errorf("repository or ref is missing")
	}
	for _, id := range v.Approvals {
		if !isDigest(id) {
			return nil, fmt.Errorf("approval %q is no id", id)
		}
	}
	return v, nil
}

func isDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && isHex(hex)
}

func isObject(s string) bool { return (len(s) == 40 || len(s) == 64) && isHex(s) }

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// InputDigest names what a policy saw, given its JSON.
func InputDigest(document any) (string, error) {
	text, err := json.Marshal(document)
	if err == nil {
		text, err = jcs.Transform(text)
	}
	if err != nil {
		return "", err
	}
	return digestOf(text), nil
}

func digestOf(text []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(text)) }
