package sourcepolicy

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Policies of ours. They are Rego like everybody's, and say beside their messages under
// which code (docs/reasons.md) and with which hint they deny.

// CodeUnverified: nobody vouches for a source (verified.rego).
const CodeUnverified = "SOURCE_UNVERIFIED"

var (
	//go:embed lock.rego
	lockPolicy []byte
	//go:embed verified.rego
	verifiedPolicy []byte
)

// Names of these policies in provenance and answers.
const (
	LockPolicy     = "hallmark:lock.rego"
	VerifiedPolicy = "hallmark:verified.rego"
)

// CompileLock is the policy that denies what moved since it was locked. The lock's text
// stands under its name among what the policy has read.
func CompileLock(name string, text []byte) (*Policy, error) {
	return compileShipped(LockPolicy, lockPolicy, map[string][]byte{name: text})
}

// CompileAny is a policy that allows everything, for a build whose sources are asked about
// for another reason.
func CompileAny() (*Policy, error) {
	return compileShipped("hallmark:any.rego", []byte("package docker\n\ndecision := {\"allow\": true}\n"), nil)
}

// Vouched is who vouches for sources in a build with --verified, beside who is pinned for
// an image's repository ([Signature.Pinned]).
type Vouched struct {
	Lock    bool     // there is a lock, and the requests say what it has
	Commit  string   // the one that is built, judged before; "" outside of a build
	Images  []string // by digest, that the operator names: NAME@DIGEST
	GitKeys [][]byte // SSH public keys as in authorized_keys, whose signed tags and commits count
}

// CompileVerified is the policy of --verified.
func CompileVerified(v Vouched) (*Policy, error) {
	keys, images := []string{}, v.Images
	files := map[string][]byte{}
	for i, key := range v.GitKeys {
		keys = append(keys, fmt.Sprintf("key%d.pub", i))
		files[keys[i]] = key
	}
	if images == nil {
		images = []string{}
	}
	text, err := json.Marshal(map[string]any{"lock": v.Lock, "commit": v.Commit, "images": images, "keys": keys})
	if err != nil {
		return nil, err
	}
	files["trust.json"] = text
	return compileShipped(VerifiedPolicy, verifiedPolicy, files)
}

func compileShipped(name string, text []byte, files map[string][]byte) (*Policy, error) {
	p, err := Compile([]File{{Name: name, Data: text}}, Options{})
	if err != nil {
		return nil, err
	}
	p.shipped, p.folder = true, &folder{data: files, sealed: true}
	return p, nil
}

// as gives a reason the code and the hint of a policy of ours.
func (p *Policy) as(r policy.Reason, value any) policy.Reason {
	if !p.shipped {
		return r
	}
	o, _ := value.(map[string]any)
	if code, ok := o["code"].(string); ok {
		r.Code = code
	}
	r.Hint, _ = o["hint"].(string)
	return r
}
