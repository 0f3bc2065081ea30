package check

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/verdict"

	"github.com/hallmark-dev/hallmark/internal/assess"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/attestation"
	"github.com/hallmark-dev/hallmark/internal/gate"
)

// printVerified prints the answer on one screen: what counts, how we know, and
// what else is there.
func (a *Commands) printVerified(answer *VerifyAnswer) {
	for _, line := range answer.subjectLines() {
		a.Print("%s", cli.Plain(line))
	}
	for _, i := range answer.Images {
		verdict := "ok"
		if len(i.Signers) > 0 {
			verdict += ", by " + strings.Join(i.Signers, ", ")
		}
		if !i.Allowed {
			verdict = "denied"
		}
		a.Print("  %s %s: %s", cli.Plain(cmp.Or(i.Platform, "image")), i.Digest, cli.Plain(verdict))
	}
	var rest []foundEvidence
	for _, f := range answer.Found {
		if f.Counts {
			a.printEvidence(answer, f)
		} else {
			rest = append(rest, f)
		}
	}
	if answer.Allowed && len(rest) > 0 && len(rest) < len(answer.Found) {
		a.Print("")
		a.Print("Also found, for nothing that was asked:")
	} else if len(rest) > 0 {
		a.Print("")
		a.Print("Found:")
	}
	a.printRest(rest)
	if answer.Assessment != nil {
		a.printAssessment(answer.Assessment)
	}
	if len(answer.Pin) > 0 {
		a.Print("")
		a.Print("If this is who you expected, demand it:")
		for _, cmd := range answer.Pin {
			a.Print("  %s", cli.Plain(cmd))
		}
	}
}

// subjectLines say what was judged: what the call named, and of an index which image.
func (v *VerifyAnswer) subjectLines() []string {
	of, digest := "", v.Subject.Digest
	if v.Index != "" {
		of, digest = "the index ", v.Index
	}
	lines := []string{v.Ref + " is " + of + string(digest)}
	if of == "" && strings.Contains(v.Ref, string(digest)) {
		lines[0] = v.Ref
	}
	if v.Index != "" {
		lines = append(lines, "judged is the image "+string(v.Subject.Digest)+" that it lists")
	}
	return lines
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
			a.Print("  %s%s by %s (verified)", what, f.ofWhat(), cli.Plain(f.Signer.String()))
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
	case f.PredicateType == verdict.PredicateType:
		return "verdict of a signing policy"
	}
	for name, uri := range evidence.PredicateTypes {
		if uri == f.PredicateType {
			return name + " attestation"
		}
	}
	return cli.Plain(f.PredicateType) + " attestation"
}

// ofWhat names what is signed where that is not the subject.
func (f *foundEvidence) ofWhat() string {
	if f.About == "" {
		return ""
	}
	return " of " + f.About.Short()
}

func (a *Commands) printEvidence(answer *VerifyAnswer, f foundEvidence) {
	line := func(label, format string, args ...any) {
		a.Print("  %-13s"+format, append([]any{label}, args...)...)
	}
	a.Print("")
	a.Print("Verified %s", kindOf(f))
	switch {
	case f.Signer.Identity != "":
		line("signed by", "%s", cli.Plain(f.Signer.Identity))
		line("vouched by", "%s", cli.Plain(f.Signer.Issuer))
	case f.Signer.Subject != "":
		line("signed by", "%s", cli.Plain(f.Signer.Subject))
	default:
		line("signed by", "the key %s", f.Signer.Key)
	}
	if f.Kind == attestation.KindDockerGitHubBuilder || f.Kind == attestation.KindSelfSignedGitHubRepo {
		line("kind", "%s", f.Kind)
	}
	switch f.About {
	case "":
	case answer.Index:
		line("signed is", "the index, which lists the image")
	default:
		line("signed is", "%s, which holds the statement", f.About)
	}
	if c := f.Certificate; c != nil {
		sct := ""
		if !c.SCT.IsZero() {
			sct = "; its SCT by a trusted certificate log was checked"
		}
		line("certificate", "valid %s to %s, by %s%s", cli.Stamp(c.NotBefore), cli.Stamp(c.NotAfter), cli.Plain(c.Authority), sct)
	}
	if p := f.TrustPolicy; p != nil {
		line("accepted by", "Notation's trust policy %s, level %s", cli.Plain(p.Name), p.Level)
	}
	for _, t := range f.Times {
		line("time", "%s, %s %s", cli.Stamp(t.At), cmp.Or(timeKinds[t.Kind], "by"), cli.Plain(t.By))
	}
	for _, l := range f.Log {
		how := "the log's signed promise was checked"
		if l.Included {
			how = "the proof that it is included was checked"
		}
		if len(l.Witnesses) > 0 {
			var names []string
			for _, w := range l.Witnesses {
				names = append(names, w.Name)
			}
			how += "; witnessed by " + cli.Plain(strings.Join(names, ", "))
		}
		line("log", "%s, entry %d; %s", cli.Plain(l.Origin), l.Index, how)
	}
	switch {
	case f.LogUnchecked:
		line("log", "not checked: no trust root was given")
	case len(f.Log) == 0 && f.TrustPolicy == nil:
		line("log", "none")
	}
	for _, k := range slices.Sorted(maps.Keys(f.Annotations)) {
		line("annotation", "%s=%s", cli.Plain(k), cli.Plain(f.Annotations[k]))
	}
	if f.As != "" && f.As != f.Signer.String() && f.As != gate.TheKey {
		line("counts for", "%s", cli.Plain(f.As))
	}
	line("found as", "%s", cli.Plain(f.Where.Ref))
}

// timeKinds are the kinds of trusted times in words, before who says so.
var timeKinds = map[string]string{"rfc3161": "timestamp by", "log": "promised by log", "signing-authority": "by the word of the signing authority"}

// threats in words.
var threatNames = map[string]string{
	assess.RegistryCredentials: "stolen registry credentials",
	assess.ForgeCredentials:    "stolen forge credentials",
	assess.CIToken:             "a leaked CI token",
	assess.RogueMaintainer:     "a rogue maintainer",
	assess.BuildDependency:     "a malicious build dependency",
	assess.HostLeak:            "a leak of the build host",
}

// printAssessment says what this protects against and what not, in a few lines.
func (a *Commands) printAssessment(s *assess.Assessment) {
	var shown []string
	for _, p := range s.Protections {
		if p.Shown {
			shown = append(shown, threatNames[p.Threat])
		}
	}
	a.Print("")
	a.Print("Protects against %s", strings.Join(shown, ", "))
	for _, p := range s.Protections {
		if !p.Shown {
			a.Print("  not shown against %s: %s", threatNames[p.Threat], cli.Plain(p.Why))
		}
	}
	a.Print("SLSA build level %d: %s", s.SLSA.BuildLevel, cli.Plain(s.SLSA.Why))
	if s.SLSA.Next != "" {
		a.Print("  missing for %s", cli.Plain(s.SLSA.Next))
	}
}
