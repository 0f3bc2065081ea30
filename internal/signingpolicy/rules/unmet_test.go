package rules_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

const positive = "default allow := false\n\nallow if "

// TestUnmet: each condition of the library, what it accepts and its near misses, with the
// code that a person looks up.
func TestUnmet(t *testing.T) {
	t.Parallel()
	type change = func(*input.Document)
	tag := func(do func(*input.Tag)) change { return func(d *input.Document) { do(d.Git.Tag) } }
	scan := func(do func(*input.Scan)) change { return func(d *input.Document) { do(&d.Scans[0]) } }
	approval := func(do func(*input.Approval)) change { return func(d *input.Document) { do(&d.Approvals[0]) } }
	nothing := func(*input.Document) {}
	no := false
	for name, c := range map[string]struct {
		condition string
		change    change
		want      string // code of the first denial, "" allows
		message   string
	}{
		"release tag":          {`lib.release_tag`, nothing, "", ""},
		"candidate":            {`lib.release_tag`, func(d *input.Document) { d.Git.Tag.Tag, d.Git.Ref = "v1.4.0-rc.1", "refs/tags/v1.4.0-rc.1" }, "", ""},
		"branch":               {`lib.release_tag`, func(d *input.Document) { d.Git.Tag, d.Git.IsAnnotatedTag = nil, false }, "TAG_NOT_ANNOTATED", "refs/tags/v1.4.0"},
		"other name":           {`lib.release_tag`, tag(func(g *input.Tag) { g.NameMatchesRef = false }), "TAG_NAME_MISMATCH", `"v1.4.0"`},
		"tag of a tag":         {`lib.release_tag`, tag(func(g *input.Tag) { g.Type = "tag" }), "TAG_TARGET_TYPE", "a tag"},
		"tag of a tree":        {`lib.release_tag`, tag(func(g *input.Tag) { g.Type = "tree" }), "TAG_TARGET_TYPE", "a tree"},
		"no version":           {`lib.release_tag`, func(d *input.Document) { d.Git.Tag.Tag, d.Git.Ref = "v1.4", "refs/tags/v1.4" }, "TAG_NAME", `"v1.4"`},
		"without v":            {`lib.release_tag`, func(d *input.Document) { d.Git.Tag.Tag, d.Git.Ref = "1.4.0", "refs/tags/1.4.0" }, "TAG_NAME", ""},
		"leading zero":         {`lib.release_tag`, func(d *input.Document) { d.Git.Tag.Tag, d.Git.Ref = "v01.4.0", "refs/tags/v01.4.0" }, "TAG_NAME", ""},
		"signed by role":       {`lib.signed_tag_by({"role:release"})`, nothing, "", ""},
		"signed by key":        {`lib.signed_tag_by(["SHA256:81U6ZzwLMYj79GsqjG+6uOqs8NAP+w/qEysh4FIxUTk"])`, nothing, "", ""},
		"signed by name":       {`lib.signed_tag_by({"release-hsm"})`, nothing, "TAG_SIGNER", "release-hsm (ssh SHA256:81U6"},
		"signed by bare role":  {`lib.signed_tag_by({"release"})`, nothing, "TAG_SIGNER", ""},
		"signed by nobody":     {`lib.signed_tag_by(set())`, nothing, "TAG_SIGNER", ""},
		"keys as a text":       {`lib.signed_tag_by("role:release")`, nothing, "TAG_SIGNER", ""},
		"keys as an object":    {`lib.signed_tag_by({"k": "role:release"})`, nothing, "TAG_SIGNER", ""},
		"unsigned":             {`lib.signed_tag_by({"role:release"})`, tag(func(g *input.Tag) { g.Signer, g.SSHSignature = nil, nil }), "TAG_UNSIGNED", ""},
		"signed by a stranger": {`lib.signed_tag_by({"role:release"})`, tag(func(g *input.Tag) { g.Signer = nil }), "TAG_SIGNER", "role:release"},
		"not verified":         {`lib.signed_tag_by({"role:release"})`, tag(func(g *input.Tag) { g.Signer.Verified = false }), "TAG_SIGNER", ""},
		"signed, another name": {`lib.signed_tag_by({"role:release"})`, tag(func(g *input.Tag) { g.NameMatchesRef = false }), "TAG_NAME_MISMATCH", ""},
		"in an HSM":            {`lib.hsm_signed_tag({"role:release"})`, nothing, "", ""},
		"in a token":           {`lib.hsm_signed_tag({"role:release"})`, tag(func(g *input.Tag) { g.Signer.Protection = "fido" }), "TAG_SIGNER", "not in an HSM"},
		"in another HSM":       {`lib.hsm_signed_tag({"role:update"})`, nothing, "TAG_SIGNER", "none of role:update"},
		"quorum":               {`lib.quorum({"alice", "bob", "carol"}, 2)`, nothing, "", ""},
		"quorum of a list":     {`lib.quorum(["alice", "bob", "bob"], 2)`, nothing, "", ""},
		"quorum of one":        {`lib.quorum({"bob"}, 1)`, nothing, "", ""},
		"one of two":           {`lib.quorum({"alice", "carol", "dave"}, 2)`, nothing, "QUORUM_MISSING", "1 of 2 approvals (alice). Missing one of: carol, dave"},
		"one twice":            {`lib.quorum({"alice", "bob"}, 2)`, approval(func(a *input.Approval) { a.Principal = "bob" }), "QUORUM_MISSING", "1 of 2 approvals (bob). Missing one of: alice"},
		"names twice":          {`lib.quorum(["alice", "alice"], 2)`, nothing, "QUORUM_MISSING", ""},
		"case":                 {`lib.quorum({"Alice", "bob"}, 2)`, nothing, "QUORUM_MISSING", ""},
		"of an environment":    {`lib.quorum({"alice", "bob"}, 2)`, approval(func(a *input.Approval) { a.Source = "github-environment" }), "QUORUM_MISSING", ""},
		"rejected after all": {`lib.quorum({"alice", "bob"}, 2)`, func(d *input.Document) {
			a := d.Approvals[0]
			a.Decision = "reject"
			d.Approvals = append(d.Approvals, a)
		}, "QUORUM_MISSING", "Rejected by alice"},
		"quorum of none":      {`lib.quorum({"alice", "bob"}, 0)`, nothing, "QUORUM_MISSING", ""},
		"quorum of less":      {`lib.quorum({"alice", "bob"}, -1)`, nothing, "QUORUM_MISSING", ""},
		"quorum of null":      {`lib.quorum({"alice", "bob"}, null)`, nothing, "QUORUM_MISSING", ""},
		"quorum of true":      {`lib.quorum({"alice", "bob"}, true)`, nothing, "QUORUM_MISSING", ""},
		"quorum of a text":    {`lib.quorum({"alice", "bob"}, "2")`, nothing, "QUORUM_MISSING", ""},
		"names as a text":     {`lib.quorum("alice", 1)`, nothing, "QUORUM_MISSING", ""},
		"quorum from":         {`lib.quorum_from({"alice", "bob"}, 2, {"signed", "github-review"})`, approval(func(a *input.Approval) { a.Source = "github-review" }), "", ""},
		"quorum from others":  {`lib.quorum_from({"alice", "bob"}, 2, {"github-review"})`, approval(func(a *input.Approval) { a.Source = "github-review" }), "QUORUM_MISSING", "by github-review (alice)"},
		"sources as a text":   {`lib.quorum_from({"alice", "bob"}, 1, "signed")`, nothing, "QUORUM_MISSING", ""},
		"hardware":            {`lib.hardware_quorum({"alice", "bob"}, 2)`, nothing, "", ""},
		"software":            {`lib.hardware_quorum({"alice", "bob"}, 2)`, approval(func(a *input.Approval) { a.Protection = "software" }), "QUORUM_MISSING", "with a key in hardware (bob)"},
		"hardware not signed": {`lib.hardware_quorum({"alice", "bob"}, 2)`, approval(func(a *input.Approval) { a.Source = "github-review" }), "QUORUM_MISSING", ""},
		"hardware and rejected": {`lib.hardware_quorum({"alice", "bob"}, 2)`, func(d *input.Document) {
			a := d.Approvals[1]
			a.Decision = "reject"
			d.Approvals = append(d.Approvals, a)
		}, "QUORUM_MISSING", ""},
		"approvers":               {`lib.approvers({"signed"}) == {"alice", "bob"}`, nothing, "", ""},
		"missing approvers":       {`lib.missing_approvers({"alice", "carol"}, {"signed"}) == {"carol"}`, nothing, "", ""},
		"nobody rejected":         {`lib.not_rejected_by({"alice", "bob"})`, nothing, "", ""},
		"one rejected":            {`lib.not_rejected_by({"alice", "bob"})`, approval(func(a *input.Approval) { a.Decision, a.Comment = "reject", "not\nreviewed" }), "APPROVAL_REJECTED", `alice rejected it: "not\nreviewed"`},
		"a stranger rejected":     {`lib.not_rejected_by({"carol"})`, approval(func(a *input.Approval) { a.Decision = "reject" }), "", ""},
		"by others":               {`lib.no_self_approval`, nothing, "", ""},
		"by who started it":       {`lib.no_self_approval`, func(d *input.Document) { d.Approvals = d.Approvals[:1]; a := "alice"; d.Run.ActorPrincipal = &a }, "QUORUM_MISSING", "besides"},
		"by who signed the tag":   {`lib.no_self_approval`, func(d *input.Document) { d.Approvals = d.Approvals[:1]; d.Git.Tag.Signer.Principal = "alice" }, "QUORUM_MISSING", ""},
		"by nobody":               {`lib.no_self_approval`, func(d *input.Document) { d.Approvals = []input.Approval{} }, "QUORUM_MISSING", ""},
		"scanned":                 {`lib.scanner_passed("codeql", "low")`, nothing, "", ""},
		"scanned in the builder":  {`lib.scanner_passed("codeql", "low")`, scan(func(s *input.Scan) { s.Scope = "builder" }), "", ""},
		"scan of none":            {`lib.scanner_passed("codeql", "low")`, func(d *input.Document) { d.Scans = []input.Scan{} }, "SCAN_MISSING", "no trusted scan by codeql"},
		"scan by another tool":    {`lib.scanner_passed("trivy", "low")`, nothing, "SCAN_MISSING", "trivy"},
		"scan of another commit":  {`lib.scanner_passed("codeql", "low")`, scan(func(s *input.Scan) { s.Commit = strings.Repeat("a", 40) }), "SCAN_MISSING", "another commit"},
		"scan by the repository":  {`lib.scanner_passed("codeql", "low")`, scan(func(s *input.Scan) { s.Scope, s.Trusted = "repository", false }), "SCAN_MISSING", "not trusted"},
		"repository that says so": {`lib.scanner_passed("codeql", "low")`, scan(func(s *input.Scan) { s.Scope = "repository" }), "SCAN_MISSING", ""},
		"scan that broke off":     {`lib.scanner_passed("codeql", "low")`, scan(func(s *input.Scan) { s.Completed = false }), "SCAN_INCOMPLETE", "did not complete"},
		"scan without rules":      {`lib.scanner_passed("codeql", "low")`, scan(func(s *input.Scan) { s.Rules = 0 }), "SCAN_INCOMPLETE", "no rules"},
		"scan of what is new":     {`lib.scanner_passed("codeql", "low")`, scan(func(s *input.Scan) { s.Baseline = strings.Repeat("a", 40) }), "SCAN_INCOMPLETE", "leaves out"},
		"scan found more":         {`lib.scanner_passed("codeql", "low")`, scan(func(s *input.Scan) { s.MaxSeverity, s.Counts.Medium = "medium", 1 }), "SCAN_FAILED", "at most low"},
		"scan contradicts itself": {`lib.scanner_passed("codeql", "low")`, scan(func(s *input.Scan) { s.Counts.High = 1 }), "SCAN_FAILED", "1 high"},
		"unknown severity":        {`lib.scanner_passed("codeql", "critical")`, scan(func(s *input.Scan) { s.MaxSeverity = "catastrophic" }), "SCAN_FAILED", "catastrophic"},
		"unknown limit":           {`lib.scanner_passed("codeql", "any")`, nothing, "SCAN_FAILED", ""},
		"another scan found more": {`lib.scanner_passed("codeql", "low")`, func(d *input.Document) {
			s := d.Scans[0]
			s.MaxSeverity, s.Completed = "high", false
			d.Scans = append(d.Scans, s)
		}, "SCAN_FAILED", "high"},
		"strangers' scan is more": {`lib.scanner_passed("codeql", "low")`, func(d *input.Document) {
			s := d.Scans[0]
			s.MaxSeverity, s.Trusted = "high", false
			d.Scans = append(d.Scans, s)
		}, "", ""},
		"on the branch":           {`lib.on_branch("main")`, nothing, "", ""},
		"on no branch":            {`lib.on_branch("main")`, func(d *input.Document) { d.Ancestry.ContainedIn = []string{} }, "NOT_ON_BRANCH", "no protected branch"},
		"on another branch":       {`lib.on_branch("main")`, func(d *input.Document) { d.Ancestry.ContainedIn = []string{"mainly"} }, "NOT_ON_BRANCH", "mainly"},
		"descends":                {`lib.descends_from_last_release`, nothing, "", ""},
		"does not descend":        {`lib.descends_from_last_release`, func(d *input.Document) { d.Ancestry.LastReleaseIsAncestor = &no }, "NOT_DESCENDANT", "v1.3.2"},
		"may descend":             {`lib.descends_from_last_release`, func(d *input.Document) { d.Ancestry.LastReleaseIsAncestor = nil }, "NOT_DESCENDANT", "not known"},
		"builder":                 {`lib.builder_in({"https://github.com/docker/github-builder/"})`, nothing, "", ""},
		"builder at any ref":      {`lib.builder_in(["https://github.com/docker/github-builder/.github/workflows/build.yml@"])`, nothing, "", ""},
		"builder at one ref":      {`lib.builder_in({"https://github.com/docker/github-builder/.github/workflows/build.yml@refs/tags/v2"})`, nothing, "", ""},
		"builder at a longer ref": {`lib.builder_in({"https://github.com/docker/github-builder/.github/workflows/build.yml@refs/tags/v"})`, nothing, "BUILDER_NOT_ALLOWED", ""},
		"builder of a like name":  {`lib.builder_in({"https://github.com/docker/git"})`, nothing, "BUILDER_NOT_ALLOWED", "github-builder"},
		"builder of no name":      {`lib.builder_in({""})`, func(d *input.Document) { d.Builder.URI = "" }, "BUILDER_NOT_ALLOWED", ""},
		"old policy":              {`lib.min_policy_age("24h")`, nothing, "", ""},
		"exactly so old":          {`lib.min_policy_age("24h")`, func(d *input.Document) { at := input.Time("2026-11-19T12:00:00Z"); d.Policy.StoredAt = &at }, "", ""},
		"young policy":            {`lib.min_policy_age("24h")`, func(d *input.Document) { at := input.Time("2026-11-19T12:00:01Z"); d.Policy.StoredAt = &at }, "POLICY_TOO_YOUNG", "since 2026-11-19T12:00:01Z"},
		"not long in force":       {`lib.min_policy_age("24h")`, func(d *input.Document) { at := input.Time("2026-11-20T11:00:00Z"); d.Policy.EffectiveAt = &at }, "POLICY_TOO_YOUNG", ""},
		"stored nowhere":          {`lib.min_policy_age("24h")`, func(d *input.Document) { d.Policy.StoredAt = nil }, "POLICY_TOO_YOUNG", "not known"},
		"an age below none":       {`lib.min_policy_age("-24h")`, nothing, "POLICY_TOO_YOUNG", ""},
	} {
		p := load(t, positive+c.condition)
		in := input.Example()
		c.change(in)
		d := decide(t, p, in)
		switch {
		case c.want == "" && !d.Allowed:
			t.Errorf("%s: %+v", name, d.Denials)
		case c.want != "" && (d.Allowed || d.Denials[0].Code != c.want || !strings.Contains(d.Denials[0].Message, strings.ReplaceAll(c.message, "\n", " "))):
			t.Errorf("%s: %+v, want %s with %q", name, d.Denials, c.want, c.message)
		}
		for _, r := range d.Denials {
			if strings.ContainsAny(r.Message, "\n\x1b") {
				t.Errorf("%s: more than one line: %q", name, r.Message)
			}
		}
		// The same condition in a denial says the same.
		if strings.HasPrefix(c.condition, "lib.") && !strings.Contains(c.condition, "==") {
			q := load(t, yes+`deny_msg contains "it does not hold" if not `+c.condition)
			in.Git.IsAnnotatedTag = in.Git.Tag != nil
			if e := decide(t, q, in); e.Allowed != d.Allowed || !d.Allowed && in.Git.Tag != nil && e.Denials[0].Code != c.want {
				t.Errorf("%s, as a denial: %+v, want %s", name, e.Denials, c.want)
			}
		}
	}
}

// TestUnmetOfThisDenial: where allow is true, a way of being allowed that was not needed is
// no reason.
func TestUnmetOfThisDenial(t *testing.T) {
	t.Parallel()
	const two = "default allow := false\n\nallow if lib.on_branch(\"main\")\n\nallow if lib.quorum({\"carol\"}, 1)\n\n"
	for name, c := range map[string]struct{ policy, want string }{
		"allowed":            {two, ""},
		"denied besides":     {two + `deny_msg contains "frozen" if input.build.push`, "POLICY_DENIED"},
		"denied for that":    {two + `deny_msg contains "carol" if not lib.quorum({"carol"}, 1)`, "QUORUM_MISSING POLICY_DENIED"},
		"by a rule of its":   {"ok if lib.quorum({\"carol\"}, 1)\n\n" + yes + `deny_msg contains "carol" if not ok`, "POLICY_DENIED"},
		"neither of two":     {strings.Replace(two, `"main"`, `"develop"`, 1), "NOT_ON_BRANCH QUORUM_MISSING"},
		"decision":           {`decision := {"allow": ok, "deny_msg": []}` + "\n\ndefault ok := false\n\nok if lib.quorum({\"carol\"}, 1)", "QUORUM_MISSING"},
		"the same condition": {"default allow := false\n\nallow if {\n\tlib.quorum({\"carol\"}, 1)\n}\n\ndeny_msg contains \"x\" if not lib.quorum({\"carol\"}, 1)", "QUORUM_MISSING POLICY_DENIED"},
	} {
		d := decide(t, load(t, c.policy), input.Example())
		if codes(d.Denials) != c.want {
			t.Errorf("%s: %+v, want %s", name, d.Denials, c.want)
		}
		n := 0
		for _, r := range d.Denials {
			if r.Code == "QUORUM_MISSING" {
				n++
				if r.Subject != "v1.4.0 56ae342" || r.Hint != "hallmark approve v1.4.0" {
					t.Errorf("%s: %+v", name, r)
				}
			}
		}
		if n > 1 {
			t.Errorf("%s: the same reason %d times", name, n)
		}
	}
}

// TestApprovalsAreMonotone: of the ready policies and the examples, taking an approval away
// never allows what was denied, a stranger's never changes anything, and neither does a
// person's second.
func TestApprovalsAreMonotone(t *testing.T) {
	t.Parallel()
	for _, name := range rules.Ready() {
		p, wrongs := rules.Load(rules.ReadyFiles(name), rules.Options{Obligations: rules.ObligationTypes(), Timeout: time.Minute})
		if wrongs != nil {
			t.Fatal(wrongs)
		}
		base := input.Example()
		base.Now = "2026-11-21T12:00:00Z"
		var all []input.Approval
		for i, who := range []string{"alice", "bob", "carol", "mallory", "alice"} {
			a := base.Approvals[i%2]
			a.Principal = who
			all = append(all, a)
		}
		rejects := base.Approvals[0]
		rejects.Principal, rejects.Decision = "bob", "reject"
		all = append(all, rejects)
		allowed := map[int]bool{}
		some := 0
		for set := range 1 << len(all) {
			in := *base
			in.Approvals = []input.Approval{}
			for i := range all {
				if set&(1<<i) != 0 {
					in.Approvals = append(in.Approvals, all[i])
				}
			}
			allowed[set] = decide(t, p, &in).Allowed
			if allowed[set] {
				some++
			}
			slices.Reverse(in.Approvals)
			if decide(t, p, &in).Allowed != allowed[set] {
				t.Errorf("%s: %b depends on the order", name, set)
			}
		}
		if some == 0 || some == len(allowed) && name != "open" {
			t.Errorf("%s: allows %d of %d", name, some, len(allowed))
		}
		for set := range allowed {
			for i := range len(all) - 1 { // the last one is a rejection
				if less := set &^ (1 << i); allowed[less] && !allowed[set] {
					t.Errorf("%s: %b is denied, and %b with one approval less is allowed", name, set, less)
				}
			}
			const mallory, again = 3, 4
			if allowed[set&^(1<<mallory)] != allowed[set] || set&1 != 0 && allowed[set&^(1<<again)] != allowed[set] {
				t.Errorf("%s: %b differs by a stranger's approval or a second one", name, set)
			}
		}
	}
}

// TestBounds: row 80, what does not end.
func TestBounds(t *testing.T) {
	t.Parallel()
	digits := "many := split(\"" + strings.Repeat("1 ", 3000) + "1\", \" \")\n\n"
	slow := digits + yes + "deny_msg contains \"x\" if {\n\tsome a in many\n\tsome b in many\n\tsome c in many\n\tconcat(\"\", [a, b, c]) == \"\"\n}"
	p, wrongs := rules.Load(folder(slow), rules.Options{Timeout: 50 * time.Millisecond})
	if wrongs != nil {
		t.Fatal(wrongs)
	}
	d := decide(t, p, input.Example())
	if codes(d.Denials) != "POLICY_EVAL" {
		t.Errorf("%+v", d.Denials)
	}
	// What one call would make is bounded before it is made.
	grow := yes + "deny_msg contains \"x\" if {\n\ta := sprintf(\"%4000d\", [1])\n\tb := replace(a, \" \", a)\n\tcount(replace(b, \" \", b)) > 3\n}"
	if d := decide(t, load(t, grow), input.Example()); codes(d.Denials) != "POLICY_EVAL" || !strings.Contains(d.Denials[0].Message, "at most") {
		t.Errorf("%+v", d.Denials)
	}
}

// TestIncomplete: no rule is asked about a document that lacks something.
func TestIncomplete(t *testing.T) {
	t.Parallel()
	const open = "allow := true if {\n\tcount(deny_msg) == 0\n}\n\ndeny_msg contains \"x\" if input.git.checksum == \"\""
	p := load(t, open)
	in := input.Example()
	if d := decide(t, p, in); !d.Allowed {
		t.Errorf("%+v", d.Denials)
	}
	in.Git = input.Git{}
	if d := decide(t, p, in); d.Allowed || codes(d.Denials) != "INPUT_INCOMPLETE" || d.Denials[0].Subject != "input.git.ref" {
		t.Errorf("%+v", d.Denials)
	}
}

// TestObligations: those that the caller enforces, with their parameters.
func TestObligations(t *testing.T) {
	t.Parallel()
	const text = yes + `obligations contains {"type": "max-builds", "max": 3}` + "\n\n" + `obligations contains {"type": "notify", "to": "security@example.org"}`
	p := load(t, text)
	d := decide(t, p, input.Example())
	slices.SortFunc(d.Obligations, func(a, b rules.Obligation) int { return strings.Compare(a.Type, b.Type) })
	if len(d.Obligations) != 2 || d.Obligations[0].Type != rules.MaxBuilds || d.Obligations[0].Parameters["max"] != json.Number("3") || d.Obligations[1].Parameters["to"] != "security@example.org" {
		t.Errorf("%+v", d)
	}
	q, wrongs := rules.Load(folder(text), rules.Options{Obligations: []string{rules.Notify}, Timeout: time.Minute})
	if wrongs != nil {
		t.Fatal(wrongs)
	}
	if d := decide(t, q, input.Example()); d.Allowed || codes(d.Denials) != "POLICY_DENIED" || !strings.Contains(d.Denials[0].Message, "max-builds") || d.Obligations != nil {
		t.Errorf("%+v", d)
	}
	// A denial has none.
	r := load(t, text+"\n\n"+`deny_msg contains "x" if input.build.push`)
	if d := decide(t, r, input.Example()); d.Allowed || d.Obligations != nil {
		t.Errorf("%+v", d)
	}
}

// TestExplain: what became of each rule, with what it saw.
func TestExplain(t *testing.T) {
	t.Parallel()
	p := load(t, "default allow := false\n\nallow if {\n\tlib.release_tag\n\tinput.policy.resets == 1\n}\n\nwarn_msg contains \"x\" if input.build.push")
	steps, err := p.Explain(t.Context(), input.Example())
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, s := range steps {
		switch {
		case s.Rule == "allow" && !s.Default && !s.True && s.At == 9 && len(s.Saw) == 1 && s.Saw[0].Value == "0":
			found++
		case s.Rule == "warn_msg" && s.True && s.Line == 12:
			found++
		}
	}
	if found != 2 {
		t.Errorf("%+v", steps)
	}
	in := input.Example()
	in.Now = ""
	if steps, err := p.Explain(t.Context(), in); steps != nil || err != nil {
		t.Errorf("%v %v", steps, err)
	}
}
