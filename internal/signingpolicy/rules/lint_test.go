package rules_test

import (
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/policy/rego"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

const ok = "default allow := false\n\nallow if lib.quorum(data.maintainers, 2)\n\n"

// TestLint: the traps of signing policies, each with a line that is like it and none.
func TestLint(t *testing.T) {
	t.Parallel()
	const data = `{"maintainers": ["alice", "bob", "carol"], "freeze": {"until": "2026-01-01T00:00:00Z"}}`
	for name, c := range map[string]struct{ policy, want, hint string }{
		"nothing": {ok, "", ""},

		"not of a comparison":        {ok + `deny_msg contains "x" if not input.policy.resets < 1`, "LINT_NOT_UNDEFINED", "ok if"},
		"not of a function":          {ok + `deny_msg contains "x" if not startswith(input.git.ref, "refs/tags/")`, "LINT_NOT_UNDEFINED", "not ok"},
		"not in":                     {ok + `deny_msg contains "x" if not "main" in input.ancestry.containedIn`, "LINT_NOT_UNDEFINED", ""},
		"not of what may be absent":  {ok + `deny_msg contains "x" if not lib.signed_tag_by({input.git.tag.signer.principal})`, "LINT_NOT_UNDEFINED", ""},
		"not of own function":        {ok + "trusted(p) if startswith(p, \"a\")\n\n" + `deny_msg contains "x" if not trusted(input.git.tag.signer.principal)`, "LINT_NOT_UNDEFINED", ""},
		"not of absent data":         {ok + `deny_msg contains "x" if not lib.quorum(data.freeze.people, 2)`, "LINT_NOT_UNDEFINED", ""},
		"not of a rule of one":       {ok + "people := {input.git.tag.signer.principal}\n\n" + `deny_msg contains "x" if not lib.quorum(people, 1)`, "LINT_NOT_UNDEFINED", ""},
		"not of a member":            {ok + `deny_msg contains "x" if { some s in input.scans; not startswith(s.tool.name, "a") }`, "LINT_NOT_UNDEFINED", ""},
		"not of a rule":              {ok + "tagged if startswith(input.git.ref, \"refs/tags/\")\n\n" + `deny_msg contains "x" if not tagged`, "", ""},
		"not of ==":                  {ok + `deny_msg contains "x" if not input.git.tag.signer.protection == "hsm"`, "", ""},
		"not of a field":             {ok + `deny_msg contains "x" if not input.git.tag.repositoryMatches`, "", ""},
		"not of the library":         {ok + `deny_msg contains "x" if not lib.quorum(data.maintainers, 2)`, "", ""},
		"not of the library's set":   {ok + `deny_msg contains "x" if not lib.quorum({"a", "b"} - lib.authors, 2)`, "", ""},
		"not of a constant rule":     {ok + "people := {\"a\", \"b\"}\n\n" + `deny_msg contains "x" if not lib.quorum(people, 2)`, "", ""},
		"not of a set rule":          {ok + "people contains input.git.tag.signer.principal\n\n" + `deny_msg contains "x" if not lib.quorum(people, 2)`, "", ""},
		"not of a rule with default": {ok + "default people := {\"a\"}\n\npeople := {\"a\", \"b\"} if input.build.push\n\n" + `deny_msg contains "x" if not lib.quorum(people, 2)`, "", ""},
		"not of a conditional rule":  {ok + "people := {\"a\", \"b\"} if input.build.push\n\n" + `deny_msg contains "x" if not lib.quorum(people, 2)`, "LINT_NOT_UNDEFINED", ""},

		"allow without default": {`allow if lib.quorum({"a"}, 1)`, "LINT_NO_DEFAULT", "default allow := false"},
		"constant false":        {"allow := false\n\nallow if lib.quorum({\"a\"}, 1)", "LINT_ALLOW_FALSE LINT_NO_DEFAULT", "default allow := false"},
		"false if":              {ok + "allow := false if input.build.push", "LINT_ALLOW_FALSE", ""},
		"false as default":      {"default allow = false\n\nallow if lib.quorum({\"a\"}, 1)", "", ""},

		"denial of a comparison":    {ok + `deny_msg contains "x" if input.git.tag.signer.protection != "hsm"`, "LINT_DENY_UNDEFINED", "ok if"},
		"denial of an equality":     {ok + `deny_msg contains "x" if input.git.tag.signer.protection == "software"`, "LINT_DENY_UNDEFINED", ""},
		"denial of a call":          {ok + `deny_msg contains "x" if startswith(input.git.tag.tag, "v0")`, "LINT_DENY_UNDEFINED", ""},
		"denial of a variable":      {ok + `deny_msg contains "x" if { p := input.git.tag.signer.principal; p == "mallory" }`, "LINT_DENY_UNDEFINED", ""},
		"denial with absent text":   {ok + `deny_msg contains sprintf("%v", [input.git.tag.tag]) if input.build.push`, "LINT_DENY_UNDEFINED", "object.get"},
		"denial of what is there":   {ok + `deny_msg contains "x" if input.policy.resets != 0`, "", ""},
		"denial by object.get":      {ok + `deny_msg contains "x" if object.get(input.git, "tag", {}) == {}`, "", ""},
		"denial of each rejection":  {ok + "deny_msg contains a.principal if {\n\tsome a in input.approvals\n\ta.decision == \"reject\"\n\ta.principal in {\"a\"}\n}", "", ""},
		"allowance of a comparison": {ok + `allow if input.git.tag.signer.protection == "hsm"`, "", ""},

		"count of approvals":          {ok + `allow if count(input.approvals) >= 2`, "LINT_APPROVALS", "lib.quorum"},
		"count of a list":             {ok + `allow if count([1 | some a in input.approvals; a.decision == "approve"]) >= 2`, "LINT_APPROVALS", ""},
		"count of ids":                {ok + `allow if count({a.id | some a in input.approvals}) >= 2`, "LINT_APPROVALS", ""},
		"count of accounts":           {ok + `allow if count({a.account | some a in input.approvals}) >= 2`, "LINT_APPROVALS", ""},
		"count of a variable":         {ok + "allow if {\n\tn := [a | some a in input.approvals]\n\tcount(n) >= 2\n}", "LINT_APPROVALS", ""},
		"count of a rule":             {ok + "good := [a.principal | some a in input.approvals]\n\nallow if count(good) >= 2", "LINT_APPROVALS", ""},
		"count of a set rule of ids":  {ok + "good contains a.id if some a in input.approvals\n\nallow if count(good) >= 2", "LINT_APPROVALS", ""},
		"the second approval":         {ok + `allow if input.approvals[1].decision == "approve"`, "LINT_APPROVALS", ""},
		"count of people":             {ok + `allow if count({a.principal | some a in input.approvals; a.decision == "approve"}) >= 2`, "", ""},
		"count of people by variable": {ok + `allow if count({p | some a in input.approvals; p := a.principal; a.decision == "approve"}) >= 2`, "", ""},
		"count of a set rule":         {ok + "good contains a.principal if some a in input.approvals\n\nallow if count(good) >= 2", "", ""},
		"count of scans":              {ok + `allow if count(input.scans) >= 2`, "", ""},

		"claimed ssh key":           {ok + `allow if input.git.tag.sshSignature.pubKey == "SHA256:x"`, "LINT_UNVERIFIED", "input.git.tag.signer"},
		"claimed pgp key":           {ok + `allow if input.git.tag.pgpSignature.keyID == "ABC"`, "LINT_UNVERIFIED", "lib.signed_tag_by"},
		"claimed mail":              {ok + `allow if input.git.commit.author.email == "a@example.org"`, "LINT_UNVERIFIED", ""},
		"who started":               {ok + `allow if input.run.actor == "alice"`, "LINT_ACTOR", "lib.quorum"},
		"who started, in a denial":  {ok + `deny_msg contains "x" if input.run.actor != "alice"`, "LINT_NULL LINT_ACTOR", ""},
		"whose number":              {ok + `allow if input.run.actorID in {"1"}`, "LINT_ACTOR", ""},
		"principal who started":     {ok + `allow if input.run.actorPrincipal in {"alice"}`, "LINT_ACTOR", ""},
		"all but who started":       {ok + `allow if count(lib.approvers({"signed"}) - {input.run.actorPrincipal}) >= 2`, "", ""},
		"who started, in a message": {ok + `warn_msg contains sprintf("started by %v", [input.run.actor])`, "", ""},
		"claim by a variable":       {ok + "allow if {\n\tt := input.git.tag\n\tt.sshSignature.pubKey == \"SHA256:x\"\n}", "LINT_UNVERIFIED", ""},
		"claim by two variables":    {ok + "allow if {\n\tt := input.git.tag\n\ts := t.sshSignature\n\ts.pubKey == \"SHA256:x\"\n}", "LINT_UNVERIFIED", ""},
		"claim by quotes":           {ok + `allow if input["git"]["tag"]["sshSignature"].pubKey == "SHA256:x"`, "LINT_UNVERIFIED", ""},
		"starter by a variable":     {ok + "allow if {\n\tr := input.run\n\tr.actor == \"alice\"\n}", "LINT_ACTOR", ""},
		"starter by two variables":  {ok + "allow if {\n\ta := input.run.actor\n\ta == \"alice\"\n}", "LINT_ACTOR", ""},
		"denial by a variable":      {ok + "deny_msg contains \"x\" if {\n\tg := input.git\n\tstartswith(g.tag.tag, \"v0\")\n}", "LINT_DENY_UNDEFINED", ""},
		"not, by a variable":        {ok + "deny_msg contains \"x\" if {\n\tg := input.git\n\tnot startswith(g.ref, \"v0\")\n}", "LINT_NOT_UNDEFINED", ""},
		"count by a variable":       {ok + "allow if {\n\ta := input.approvals\n\tcount(a) > 1\n}", "LINT_APPROVALS", ""},
		"signer by a variable":      {ok + "allow if {\n\tt := input.git.tag\n\tt.signer.protection == \"hsm\"\n}", "", ""},
		"rejected":                  {ok + `allow if count(input.rejected) == 0`, "LINT_REJECTED", "input.approvals"},
		"some rejected":             {ok + `allow if { some r in input.rejected; r.claimedPrincipal == "alice" }`, "LINT_REJECTED", ""},
		"rejected, as a warning":    {ok + `warn_msg contains sprintf("%s: %s", [r.claimedPrincipal, r.code]) if some r in input.rejected`, "", ""},

		"null is true":        {ok + `allow if input.run.environment`, "LINT_NULL", "is_string"},
		"null is unlike":      {ok + `allow if input.run.event != "pull_request"`, "LINT_NULL", ""},
		"null is early":       {ok + `allow if input.policy.storedAt < input.now`, "LINT_NULL", ""},
		"null is known":       {ok + "allow if {\n\tis_string(input.policy.storedAt)\n\tinput.policy.storedAt < input.now\n}", "", ""},
		"null is asked for":   {ok + `allow if input.run.id != null`, "", ""},
		"null is none of all": {ok + `allow if input.run.event == "push"`, "", ""},
	} {
		files := folder(c.policy, "data.json", data)
		if !strings.Contains(c.policy, "data.") {
			delete(files, "data.json")
		}
		found := rules.Lint(files)
		if codes(found) != c.want || c.hint != "" && !strings.Contains(found[0].Hint, c.hint) {
			t.Errorf("%s: %+v, want %s with %q", name, found, c.want, c.hint)
		}
		for _, f := range found {
			if file, line, _ := strings.Cut(f.Subject, ":"); file != "signing.rego" || line == "" || f.Hint == "" {
				t.Errorf("%s: %+v", name, f)
			}
		}
		// A policy with a finding compiles, or the finding would come too late to matter.
		if _, wrongs := rules.Load(files, rules.Options{}); wrongs != nil {
			t.Errorf("%s: %+v", name, wrongs)
		}
	}
}

// TestLintImports: a trap under the name of an import is one.
func TestLintImports(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"import input.git.tag as tag\n\ndefault allow := false\n\nallow if tag.sshSignature.pubKey == \"SHA256:x\"\n": "LINT_UNVERIFIED",
		"import input.run\n\ndefault allow := false\n\nallow if run.actor == \"alice\"\n":                             "LINT_ACTOR",
		"import input.approvals\n\ndefault allow := false\n\nallow if count(approvals) > 1\n":                         "LINT_APPROVALS",
		"import input.git.tag as tag\n\ndefault allow := false\n\nallow if tag.signer.protection == \"hsm\"\n":        "",
		"import input.git.tag as tag\n\ndefault allow := false\n\nallow if not startswith(tag.tag, \"v0\")\n":         "LINT_NOT_UNDEFINED",
		"import data.hallmark.lib as input2\n\ndefault allow := false\n\nallow if input2.quorum({\"a\", \"b\"}, 2)\n": "",
	} {
		files := map[string][]byte{"signing.rego": []byte("package hallmark.signing\n\n" + text)}
		if found := rules.Lint(files); codes(found) != want {
			t.Errorf("%s%+v, want %s", text, found, want)
		}
		if _, wrongs := rules.Load(files, rules.Options{}); wrongs != nil {
			t.Errorf("%s%+v", text, wrongs)
		}
	}
}

// FuzzLint: what parses has findings with places, whatever it says, and its mutants parse.
func FuzzLint(f *testing.F) {
	for _, name := range rules.Ready() {
		f.Add(string(rules.ReadyFiles(name)["signing.rego"]))
	}
	for _, body := range []string{
		"neq(input.run.id)", "not neq(input.run.id)", "assign(x)", "x := input.approvals; count(x) > 1", "count()", "input.approvals[1]",
		"every x in input.approvals { not x.a == 1 }", "not input.run.id < 3", "count({a: b | some a, b in input.approvals}) > 1", "is_string()",
	} {
		f.Add("package hallmark.signing\n\nallow if { " + body + " }\n\nx := x if y\n\ny := x\n\ndeny_msg contains x if { " + body + " }")
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range rules.Lint(map[string][]byte{"signing.rego": []byte(text), "data.json": []byte(`{"a": {"b": 1}}`)}) {
			if r.Code == "" || r.Message == "" || strings.HasPrefix(r.Code, "LINT_") && !strings.HasPrefix(r.Subject, "signing.rego:") {
				t.Errorf("%+v", r)
			}
		}
		if mutants, err := rego.Mutants("signing.rego", []byte(text)); err == nil {
			for _, m := range mutants {
				if len(m.Text) > len(text)+4 || m.Line < 1 {
					t.Errorf("%+v", m)
				}
			}
		}
	})
}
