package gate

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// matchers are the compiled signers of Requirements.
type matchers struct {
	named []named
	loose []policy.Matcher
	keys  bool
	// notary: who Notation's trust policy accepts.
	notary bool
}

// named is a compiled Principal.
type named struct {
	name string
	ids  []policy.Matcher
	keys []string
}

func (q Requirements) matchers() (matchers, error) {
	m := matchers{keys: q.Keys, notary: q.Notary}
	var err error
	if m.loose, err = compile(q.Identities); err != nil {
		return m, fault.Usagef("%w", err)
	}
	seen := map[string]bool{}
	for _, p := range q.Principals {
		ids, err := compile(p.Identities)
		switch {
		case err != nil:
			return m, fault.Usagef("signer %s: %w", p.Name, err)
		case p.Name == "" || seen[p.Name]:
			return m, fault.Usagef("signer %q: each signer has a name of its own", p.Name)
		case len(p.Identities)+len(p.Keys) == 0:
			return m, fault.Usagef("signer %s: has neither an identity nor a key", p.Name)
		}
		seen[p.Name] = true
		m.named = append(m.named, named{p.Name, ids, p.Keys})
	}
	return m, nil
}

func compile(list []policy.Identity) ([]policy.Matcher, error) {
	var out []policy.Matcher
	for _, i := range list {
		m, err := i.Compile()
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func (m matchers) empty() bool { return len(m.named) == 0 && len(m.loose) == 0 && !m.keys && !m.notary }

const (
	// TheKey is the principal of all keys that nobody's name is known of.
	TheKey = "the given key"
	// someone is the principal of Notary signatures whose signer the trust policy
	// does not want authenticated.
	someone = "somebody whom the trust policy does not authenticate"
)

// principals are whom a signer counts as: nobody when not wanted, more than one
// when the names overlap.
func (m matchers) principals(f policy.Fact) []string {
	s := f.Signer
	if f.TrustPolicy != nil {
		return m.accepted(f)
	}
	var names []string
	for _, p := range m.named {
		if s.Identity == "" && s.Key != "" && slices.Contains(p.keys, s.Key) || slices.ContainsFunc(p.ids, func(i policy.Matcher) bool { return i.Match(s) }) {
			names = append(names, p.name)
		}
	}
	if len(names) > 0 {
		return names
	}
	if slices.ContainsFunc(m.loose, func(i policy.Matcher) bool { return i.Match(s) }) {
		return []string{s.String()}
	}
	if m.keys && s.Identity == "" && s.Subject == "" && s.Key != "" {
		return []string{TheKey}
	}
	return nil
}

// accepted is whom a Notary signature counts as. Where the trust policy let pass
// what speaks against the signer, the name in the certificate is only a claim.
func (m matchers) accepted(f policy.Fact) []string {
	if !m.notary {
		return nil
	}
	for _, w := range f.Warnings {
		switch w.Code {
		case verify.RevocationUnchecked, verify.RevocationUnknown, verify.SignatureExpired:
		default:
			return []string{someone}
		}
	}
	return []string{f.Signer.Subject}
}

// String says who is wanted.
func (m matchers) String() string {
	var names []string
	for _, p := range m.named {
		names = append(names, p.name)
	}
	for _, i := range m.loose {
		names = append(names, i.String())
	}
	if m.keys {
		names = append(names, TheKey)
	}
	if m.notary {
		names = append(names, "whom Notation's trust policy accepts")
	}
	return strings.Join(names, " or ")
}

func annotatedWith(f policy.Fact, want map[string]string) bool {
	for k, v := range want {
		if have, there := f.Annotations[k]; !there || have != v {
			return false
		}
	}
	return true
}

func subject(in policy.Input) string {
	if in.Image == nil {
		return ""
	}
	return string(in.Image.Digest)
}

// maxNamed bounds how many signers one sentence names.
const maxNamed = 10

func signers(found []candidate) string {
	var names []string
	for _, c := range found {
		if n := c.fact.Signer.String(); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return list(names)
}

func list(names []string) string {
	if n := len(names); n > maxNamed {
		return strings.Join(names[:maxNamed], ", ") + fmt.Sprintf(" and %d others", n-maxNamed)
	}
	return strings.Join(names, ", ")
}

func foundAnnotations(found []candidate) string {
	var all []string
	for _, c := range found {
		if len(all) == maxNamed {
			break
		}
		all = append(all, pairs(c.fact.Annotations))
	}
	return strings.Join(all, "; ")
}

func pairs(m map[string]string) string {
	if len(m) == 0 {
		return "none"
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for i, k := range keys {
		keys[i] = k + "=" + m[k]
	}
	return strings.Join(keys, ", ")
}
