package bundlefile

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// PredicateRule is the type of a publisher's statement about who signs its releases.
const PredicateRule = "https://github.com/hallmark-dev/hallmark/release-rule/v1"

// Codes of reasons about such rules (docs/reasons.md).
const (
	CodeRuleForeign  = "RULE_FOREIGN"  // it speaks of another repository than the one it lies in
	CodeRuleSigner   = "RULE_SIGNER"   // it is not signed by whom it must be signed
	CodeRuleRollback = "RULE_ROLLBACK" // a newer one is pinned, or another one of the same version
	CodeRuleInvalid  = "RULE_INVALID"  // it is none
)

// maxRule bounds a rule, in bytes.
const maxRule = 16 << 10

// Rule is what a publisher says about who signs the images of one repository, as the
// predicate of a signed statement about one of them. Who pins it follows it: a later version
// takes its place, when the signer that is pinned until then has signed it.
type Rule struct {
	Version          int    `json:"version" strict:"required"`    // 1, 2, 3, …
	Repository       string `json:"repository" strict:"required"` // HOST/REPOSITORY, the image's own
	Identity         string `json:"identity,omitempty"`
	Issuer           string `json:"issuer,omitempty"`
	SourceRepository string `json:"sourceRepository,omitempty"`
	Log              string `json:"log,omitempty"`
	PublicKey        []byte `json:"publicKey,omitempty"` // DER SubjectPublicKeyInfo
}

// ParseRule reads a rule strictly.
func ParseRule(data []byte) (Rule, error) {
	var r Rule
	if len(data) > maxRule {
		return r, fmt.Errorf("%d bytes; a rule has at most %d", len(data), maxRule)
	}
	if err := strictjson.Unmarshal(data, &r); err != nil {
		return r, err
	}
	return r, r.check()
}

func (r Rule) check() error {
	if r.Version < 1 {
		return errors.New("version: want 1 or more")
	}
	for _, s := range []string{r.Identity, r.Issuer, r.SourceRepository, r.Log} {
		// With these a value could go on as a sentence of its own, where people read it.
		if strings.ContainsFunc(s, func(c rune) bool { return c == ',' || unicode.IsSpace(c) || unicode.IsControl(c) }) {
			return fmt.Errorf("%q: a rule's values have no spaces and no commas", clip(s))
		}
	}
	return r.Pin(time.Unix(1, 0)).check()
}

// Encode is the rule as a predicate.
func (r Rule) Encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// Pin is what the rule asks to be pinned.
func (r Rule) Pin(now time.Time) Pin {
	return Pin{Repository: r.Repository, Identity: r.Identity, Issuer: r.Issuer, SourceRepository: r.SourceRepository, Log: r.Log,
		PublicKey: r.PublicKey, PinnedAt: now, Rule: r.Version}
}

// Words is the rule for people.
func (r Rule) Words() string {
	p := r.Pin(time.Time{})
	s := "releases of " + r.Repository + " are signed by "
	if p.Identity != "" {
		s += plain(p.Identity) + " via issuer " + plain(p.Issuer)
	} else {
		s += p.Signer()
	}
	if r.SourceRepository != "" {
		s += ", from the source repository " + plain(r.SourceRepository)
	}
	if r.Log != "" {
		s += ", in the log " + plain(r.Log)
	}
	return s
}

// plain quotes what has letters that look like others.
func plain(s string) string {
	if strings.ContainsFunc(s, func(c rune) bool { return c > unicode.MaxASCII }) {
		return fmt.Sprintf("%+q", s)
	}
	return s
}

// RuleOf reads the rule of a verified statement that is attached to an image of a repository.
func RuleOf(repository string, f policy.Fact) (Rule, *policy.Reason) {
	r, err := ParseRule(f.Predicate)
	if err != nil {
		return r, &policy.Reason{Code: CodeRuleInvalid, Subject: repository, Message: fmt.Sprintf("the rule that %s signed is none: %v", f.Signer, err)}
	}
	if r.Repository != repository {
		return r, &policy.Reason{Code: CodeRuleForeign, Subject: repository,
			Message: fmt.Sprintf("the rule that %s signed speaks of %s; it lies in %s, and can speak of nothing else", f.Signer, clip(r.Repository), repository),
			Hint:    "ask the publisher for a rule in its own repository"}
	}
	return r, nil
}

// Follow pins what a rule says, if whom it must be signed by has signed the statement f: who is
// pinned already, or, where nobody is, the very signer that it names. A rule that is pinned
// already changes nothing.
func (f *File) Follow(r Rule, by policy.Fact, now time.Time) *policy.Reason {
	next := r.Pin(now)
	for i, old := range f.Pins {
		if old.Repository != r.Repository {
			continue
		}
		switch who := old.mismatch(by); {
		case who != "":
			return &policy.Reason{Code: CodeRuleSigner, Subject: r.Repository,
				Message: fmt.Sprintf("rule %d is signed by %s; pinned for %s is %s, who must sign each new one", r.Version, who, r.Repository, old.words()),
				Hint:    "ask the publisher for a rule that the pinned signer signed"}
		case r.Version < old.Rule, r.Version == old.Rule && !old.Same(next):
			return &policy.Reason{Code: CodeRuleRollback, Subject: r.Repository,
				Message: fmt.Sprintf("rule %d says %s; rule %d is pinned, and says %s", r.Version, next.words(), old.Rule, old.words()),
				Hint:    "ask the publisher which rule is in force"}
		case r.Version > old.Rule:
			f.Pins[i] = next
		}
		return nil
	}
	if who := next.mismatch(by); who != "" {
		return &policy.Reason{Code: CodeRuleSigner, Subject: r.Repository,
			Message: fmt.Sprintf("the rule names %s and is signed by %s; who is to be pinned must have signed the first one", next.words(), who),
			Hint:    "ask the publisher for a rule that its releases' signer signed"}
	}
	f.Pins = append(f.Pins, next)
	return nil
}

// Newest orders rules, the newest first.
func Newest(a, b Rule) int { return cmp.Compare(b.Version, a.Version) }
