package check

import (
	"github.com/hallmark-dev/hallmark/internal/cli"
)

// printExplained prints the tree of the decision: what was resolved, what was
// found and came of it, and each question of the policy.
func (a *Commands) printExplained(answer *VerifyAnswer) {
	a.Print("")
	a.Print("How this was decided:")
	for _, line := range answer.subjectLines() {
		a.Print("├─ %s", cli.Plain(line))
	}
	a.Print("├─ what was found: %d", len(answer.Found))
	for i, f := range answer.Found {
		branch, deeper := "│  ├─ ", "│  │    "
		if i == len(answer.Found)-1 {
			branch, deeper = "│  └─ ", "│       "
		}
		a.Print("%s%s, %s", branch, cli.Plain(f.Format), f.fate())
		a.Print("%s%s", deeper, cli.Plain(f.Where.Ref))
		for _, line := range f.proofs() {
			a.Print("%s%s", deeper, cli.Plain(line))
		}
		for _, r := range f.Reasons {
			a.Print("%s%s %s", deeper, r.Code, cli.OneLine(r.Message))
		}
	}
	verdict := "denied"
	if answer.Allowed {
		verdict = "allowed"
	}
	a.Print("└─ the demands of the call: %s", verdict)
	for i, s := range answer.Steps {
		branch, mark := "   ├─ ", "yes "
		if i == len(answer.Steps)-1 {
			branch = "   └─ "
		}
		if !s.OK {
			mark = "NO  "
		}
		a.Print("%s%s%s", branch, mark, cli.Plain(s.Text))
	}
}

// fate is what became of something that was found.
func (f *foundEvidence) fate() string {
	switch {
	case f.Counts:
		return "verified, meets every demand"
	case f.Verified:
		return "verified, " + kindOf(*f) + f.ofWhat() + " by " + cli.Plain(f.Signer.String())
	case len(f.Reasons) > 0:
		return "not verified"
	}
	return "not a claim to verify: " + cli.Plain(f.Note)
}

// proofs are the checks that held, one a line.
func (f *foundEvidence) proofs() []string {
	if !f.Verified {
		return nil
	}
	lines := []string{"signature by " + f.Signer.String()}
	if c := f.Certificate; c != nil {
		lines = append(lines, "certificate "+cli.Stamp(c.NotBefore)+" to "+cli.Stamp(c.NotAfter)+" by "+c.Authority)
		if !c.SCT.IsZero() {
			lines = append(lines, "seen by certificate transparency "+cli.Stamp(c.SCT))
		}
	}
	for _, t := range f.Times {
		lines = append(lines, "trusted time "+cli.Stamp(t.At)+", "+t.Kind+" by "+t.By)
	}
	for _, l := range f.Log {
		how := "promised by"
		if l.Included {
			how = "proven to be in"
		}
		lines = append(lines, how+" log "+l.Origin)
		for _, w := range l.Witnesses {
			lines = append(lines, "its checkpoint was seen by the witness "+w.Name+" "+cli.Stamp(w.At))
		}
	}
	if p := f.TrustPolicy; p != nil {
		lines = append(lines, "accepted by Notation's trust policy "+p.Name+", level "+p.Level)
	}
	if f.LogUnchecked {
		lines = append(lines, "its log entry was not checked: no trust root was given")
	}
	return lines
}
