package policy

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Identity is what a policy demands of a keyless signer: who (Subject, the
// certificate's one SAN) and who vouched for them (Issuer). Exactly one of each
// pair is set; the Regexp forms are RE2 and must be anchored at both ends.
type Identity struct {
	Subject       string
	SubjectRegexp string
	Issuer        string
	IssuerRegexp  string
	// Source is the repository (URI) that the CA says the job built, Fulcio's Source
	// Repository URI: a reusable workflow signs for everybody who calls it. "" is any.
	Source string
	// Runner is the kind of machine that the CA says the job ran on, Fulcio's Runner
	// Environment ("github-hosted"): who calls a workflow may have one of their own. "" is any.
	Runner string
}

// String is the identity as people write it.
func (i Identity) String() string {
	who := either(i.Subject, i.SubjectRegexp) + " (issuer " + either(i.Issuer, i.IssuerRegexp) + ")"
	if i.Source != "" {
		who += " for the source repository " + i.Source
	}
	if i.Runner != "" {
		who += " on a " + i.Runner + " machine"
	}
	return who
}

func either(exact, expr string) string {
	if exact != "" {
		return exact
	}
	return "/" + expr + "/"
}

// Matcher is a checked Identity. The zero Matcher matches nobody.
type Matcher struct {
	want            Identity
	subject, issuer func(string) bool
}

// Compile checks that both sides are given once and that expressions are anchored.
func (i Identity) Compile() (Matcher, error) {
	subject, err := side("subject", i.Subject, i.SubjectRegexp)
	if err != nil {
		return Matcher{}, err
	}
	issuer, err := side("issuer", i.Issuer, i.IssuerRegexp)
	if err != nil {
		return Matcher{}, err
	}
	return Matcher{want: i, subject: subject, issuer: issuer}, nil
}

func side(name, exact, expr string) (func(string) bool, error) {
	switch {
	case exact == "" && expr == "":
		return nil, fmt.Errorf("no %s: an identity is a subject and the issuer that vouches for it", name)
	case exact != "" && expr != "":
		return nil, fmt.Errorf("%s is given both exactly and as a regular expression", name)
	case exact != "":
		return func(s string) bool { return s == exact }, nil
	}
	re, err := CompileAnchored(expr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return re.MatchString, nil
}

// Match reports whether a verified signer is this identity. Signers without an
// identity (bare keys) never are.
func (m Matcher) Match(s evidence.Signer) bool {
	return m.subject != nil && m.issuer != nil && s.Identity != "" && s.Issuer != "" &&
		m.subject(s.Identity) && m.issuer(s.Issuer) &&
		(m.want.Source == "" || m.want.Source == s.Extensions["sourceRepositoryURI"]) &&
		(m.want.Runner == "" || m.want.Runner == s.Extensions["runnerEnvironment"])
}

func (m Matcher) String() string { return m.want.String() }

// maxRegexp is the longest regular expression of a policy, in bytes.
const maxRegexp = 4096

// CompileAnchored compiles an RE2 expression that must say where the text begins
// and ends, as in ^https://github\.com/org/.*$. Without that "org/repo" would
// match "evil/org/repo-fork"; and in ^a|b$ neither alternative is anchored twice.
func CompileAnchored(expr string) (*regexp.Regexp, error) {
	if len(expr) > maxRegexp {
		return nil, fmt.Errorf("regular expression of %d bytes; at most %d", len(expr), maxRegexp)
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, fmt.Errorf("regular expression %q: %s", expr, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("regular expression %q: %w", expr, err)
	}
	if !anchored(tree) {
		return nil, fmt.Errorf("regular expression %q is not anchored: write ^ and $ around all of it, as in ^(…)$", expr)
	}
	return re, nil
}

// anchored reports whether every match of the expression spans the whole text.
func anchored(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpCapture:
		return anchored(re.Sub[0])
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			if !anchored(sub) {
				return false
			}
		}
		return true
	case syntax.OpConcat:
		return beginsText(re.Sub[0]) && endsText(re.Sub[len(re.Sub)-1])
	}
	return false
}

func beginsText(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpBeginText:
		return true
	case syntax.OpCapture, syntax.OpConcat:
		return beginsText(re.Sub[0])
	}
	return false
}

func endsText(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpEndText:
		return true
	case syntax.OpCapture, syntax.OpConcat:
		return endsText(re.Sub[len(re.Sub)-1])
	}
	return false
}
