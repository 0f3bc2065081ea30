package check

import (
	"maps"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// VerifyAnswer is what `hallmark verify --json` prints, and what the text is made
// of. docs/json.md, "verify", says the same.
type VerifyAnswer struct {
	Ref      string           `json:"ref"` // as the call named it
	Subject  evidence.Subject `json:"subject"`
	Allowed  bool             `json:"allowed"`
	Reasons  []policy.Reason  `json:"reasons,omitempty"` // why not
	Warnings []policy.Reason  `json:"warnings,omitempty"`
	Found    []foundEvidence  `json:"found"`          // everything that is attached
	Pin      []string         `json:"pin,omitempty"`  // commands that demand exactly what was found
	Want     string           `json:"want,omitempty"` // predicate type of the wanted attestation
}

// foundEvidence is one thing that was found. What it says of itself is there
// only if it was verified.
type foundEvidence struct {
	Where    evidence.Location `json:"where"`
	Format   string            `json:"format"`
	Verified bool              `json:"verified"`
	Counts   bool              `json:"counts"`            // meets every demand of the call
	As       string            `json:"as,omitempty"`      // the signer that it counts for
	Reasons  []policy.Reason   `json:"reasons,omitempty"` // why it was not verified
	Note     string            `json:"note,omitempty"`    // why it was not read

	PredicateType string               `json:"predicateType,omitempty"` // absent: a plain signature of a file
	Signer        *evidence.Signer     `json:"signer,omitempty"`
	Certificate   *verify.Certificate  `json:"certificate,omitempty"` // absent: a bare key signed
	Times         []evidence.Timestamp `json:"times,omitempty"`
	Log           []verify.LogEntry    `json:"log,omitempty"`
	// LogUnchecked: there are log entries and no trust root to check them with.
	LogUnchecked bool              `json:"logUnchecked,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

func (o *verifyOptions) answer(arg string, q gate.Requirements, r gate.Result) *VerifyAnswer {
	answer := &VerifyAnswer{Ref: arg, Subject: r.Subject, Allowed: r.Decision.Allowed, Reasons: r.Decision.Reasons,
		Warnings: r.Decision.Warnings, Want: q.AttestationType, Found: []foundEvidence{}}
	for _, t := range r.Tried {
		if t.Fact != nil {
			if cmd := o.pin(arg, q, *t.Fact); !answer.Allowed && cmd != "" && !slices.Contains(answer.Pin, cmd) {
				answer.Pin = append(answer.Pin, cmd)
			}
		}
		answer.Found = append(answer.Found, newFound(t))
	}
	return answer
}

func isSignature(f policy.Fact) bool {
	return f.PredicateType == "" || f.PredicateType == evidence.PredicateSign
}

func newFound(t gate.Tried) foundEvidence {
	f := foundEvidence{Where: t.Item.Where, Format: t.Item.Format, Counts: t.Counts, As: t.As, Reasons: t.Reasons, Note: t.Item.Note}
	v := t.Verified
	if v == nil {
		return f
	}
	signer := v.Signer()
	f.Verified, f.Signer, f.PredicateType = true, &signer, v.PredicateType()
	f.Certificate, f.Times, f.Log, f.Annotations = v.Certificate(), v.Times(), v.LogEntries(), v.Annotations()
	f.LogUnchecked = len(f.Log) == 0 && t.Item.Claim != nil && len(t.Item.Claim.LogEntries) > 0
	return f
}

// pin is the command that demands exactly this signer; "" when the call already
// demands somebody, or nothing of the wanted type is there.
func (o *verifyOptions) pin(arg string, q gate.Requirements, f policy.Fact) string {
	wanted := isSignature(f)
	if q.AttestationType != "" {
		wanted = f.PredicateType == q.AttestationType
	}
	if !wanted || len(q.Identities) > 0 || q.Keys || f.Signer.Identity == "" {
		return ""
	}
	words := []string{"hallmark", "verify", "--identity", f.Signer.Identity, "--issuer", f.Signer.Issuer}
	add := func(flag string, values ...string) {
		for _, v := range values {
			if v != "" {
				words = append(words, flag, v)
			}
		}
	}
	add("--trusted-root", o.trustedRoot)
	add("--attestation", o.attestation)
	add("--policy", o.policies...)
	add("-a", o.annotations...)
	add("--bundle", o.bundle)
	words = append(words, arg)
	for i, w := range words {
		words[i] = cli.ShellQuote(w)
	}
	return strings.Join(words, " ")
}

// printVerified prints the answer on one screen: what counts, how we know, and
// what else is there.
func (a *Commands) printVerified(answer *VerifyAnswer) {
	if d := string(answer.Subject.Digest); strings.Contains(answer.Ref, d) {
		a.Print("%s", cli.Plain(answer.Ref))
	} else {
		a.Print("%s is %s", cli.Plain(answer.Ref), d)
	}
	var rest []foundEvidence
	for _, f := range answer.Found {
		if f.Counts {
			a.printEvidence(answer, f)
		} else {
			rest = append(rest, f)
		}
	}
	if answer.Allowed && len(rest) > 0 {
		a.Print("")
		a.Print("Also found, for nothing that was asked:")
	} else if len(rest) > 0 {
		a.Print("")
		a.Print("Found:")
	}
	a.printRest(rest)
	if len(answer.Pin) > 0 {
		a.Print("")
		a.Print("If this is who you expected, demand it:")
		for _, cmd := range answer.Pin {
			a.Print("  %s", cli.Plain(cmd))
		}
	}
}

// maxRest bounds the lines about what does not count; --json has all of it.
const maxRest = 10

func (a *Commands) printRest(rest []foundEvidence) {
	for i, f := range rest {
		if i == maxRest {
			a.Print("  … and %d more; --json has them all", len(rest)-maxRest)
			return
		}
		what := kindOf(f)
		switch {
		case f.Verified && len(f.Reasons) == 0:
			a.Print("  %s by %s (verified)", what, cli.Plain(f.Signer.String()))
		case len(f.Reasons) > 0:
			a.Print("  %s: %s %s", cli.Plain(what), f.Reasons[0].Code, cli.Plain(cli.OneLine(f.Reasons[0].Message)))
		default:
			a.Print("  %s: %s", cli.Plain(what), cli.Plain(f.Note))
		}
		a.Print("    %s", cli.Plain(f.Where.Ref))
	}
}

// kindOf says what something is; only what is verified may say so of itself.
func kindOf(f foundEvidence) string {
	switch {
	case !f.Verified:
		return f.Format
	case f.PredicateType == "" || f.PredicateType == evidence.PredicateSign:
		return "signature"
	}
	for name, uri := range evidence.PredicateTypes {
		if uri == f.PredicateType {
			return name + " attestation"
		}
	}
	return cli.Plain(f.PredicateType) + " attestation"
}

func (a *Commands) printEvidence(answer *VerifyAnswer, f foundEvidence) {
	line := func(label, format string, args ...any) {
		a.Print("  %-13s"+format, append([]any{label}, args...)...)
	}
	a.Print("")
	a.Print("Verified %s", kindOf(f))
	if f.Signer.Identity != "" {
		line("signed by", "%s", cli.Plain(f.Signer.Identity))
		line("vouched by", "%s", cli.Plain(f.Signer.Issuer))
	} else {
		line("signed by", "the key %s", f.Signer.Key)
	}
	if c := f.Certificate; c != nil {
		line("certificate", "valid %s to %s, by %s; its SCT by a trusted certificate log was checked", cli.Stamp(c.NotBefore), cli.Stamp(c.NotAfter), cli.Plain(c.Authority))
	}
	for _, t := range f.Times {
		if t.Kind == "rfc3161" {
			line("time", "%s, timestamp by %s", cli.Stamp(t.At), cli.Plain(t.By))
		} else {
			line("time", "%s, promised by log %s", cli.Stamp(t.At), cli.Plain(t.By))
		}
	}
	for _, l := range f.Log {
		how := "the log's signed promise was checked"
		if l.Included {
			how = "the proof that it is included was checked"
		}
		line("log", "%s, entry %d; %s", cli.Plain(l.Origin), l.Index, how)
	}
	switch {
	case f.LogUnchecked:
		line("log", "not checked: no trust root was given")
	case len(f.Log) == 0:
		line("log", "none")
	}
	for _, k := range slices.Sorted(maps.Keys(f.Annotations)) {
		line("annotation", "%s=%s", cli.Plain(k), cli.Plain(f.Annotations[k]))
	}
	line("found as", "%s", cli.Plain(f.Where.Ref))
}
