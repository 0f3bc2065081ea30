package approval_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
)

var maintainers = []string{"alice", "bob", "carol", "dave", "erin", "frank"}

// reworded is a payload with a piece of its text replaced.
func reworded(t testing.TB, s approval.Statement, old, with string) []byte {
	t.Helper()
	text := string(payload(t, s))
	out := strings.Replace(text, old, with, 1)
	if out == text {
		t.Fatalf("%q does not occur in %s", old, text)
	}
	return []byte(out)
}

// TestAttacks: one good approval by bob beside each attack must stay one of two; the attack has
// its code.
func TestAttacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	by := func(key string, f func(*approval.Statement)) []byte {
		return w.sign(t, key, change(statement("alice"), f))
	}
	raw := func(payload []byte) []byte {
		return seal(t, payload, sshsig(t, approval.PAE(payload), approval.Namespace, w.ssh["alice"], ""))
	}
	good := w.sign(t, "alice", statement("alice"))
	memory := &approval.Memory{} // that alice signed something good changes nothing
	warm := expected()
	warm.Memory = memory
	if r := judge(w, warm, good); len(r.Valid) != 1 {
		t.Fatalf("%+v", r)
	}
	daves := payload(t, statement("dave"))
	namespaced := func(namespace string) []byte {
		p := payload(t, statement("alice"))
		return seal(t, p, sshsig(t, approval.PAE(p), namespace, w.ssh["alice"], ""))
	}
	evil := *w.fido
	evil.application = "ssh:evil"
	for name, c := range map[string]struct {
		envelope []byte
		code     string
	}{
		// 16, 17, 19, 20
		"16 RSA 2048":                  {seal(t, payload(t, statement("alice")), sshsig(t, approval.PAE(payload(t, statement("alice"))), approval.Namespace, w.ssh["weak"], ssh.KeyAlgoRSASHA512)), "KEY_TOO_WEAK"},
		"16 ssh-rsa with SHA-1":        {seal(t, payload(t, statement("carol")), sshsig(t, approval.PAE(payload(t, statement("carol"))), approval.Namespace, w.ssh["carol"], ssh.KeyAlgoRSA)), "KEY_TOO_WEAK"},
		"17 not touched":               {seal(t, daves, sshsig(t, approval.PAE(daves), approval.Namespace, w.fido.with(0), "")), "APPROVAL_BAD_SIGNATURE"},
		"17 verified but not touched":  {seal(t, daves, sshsig(t, approval.PAE(daves), approval.Namespace, w.fido.with(4), "")), "APPROVAL_BAD_SIGNATURE"},
		"18 touched, must verify":      {seal(t, daves, sshsig(t, approval.PAE(daves), approval.Namespace, w.verifying.with(1), "")), "APPROVAL_NO_USER_VERIFICATION"},
		"19 another application":       {seal(t, daves, sshsig(t, approval.PAE(daves), approval.Namespace, &evil, "")), "APPROVAL_KEY_NOT_OF_PRINCIPAL"},
		"20 an SSH certificate":        {withCertificate(t, w), "KEY_KIND"},
		"22 namespace of git":          {namespaced("git"), "APPROVAL_WRONG_NAMESPACE"},
		"22 namespace of files":        {namespaced("file"), "APPROVAL_WRONG_NAMESPACE"},
		"22 no namespace":              {namespaced(""), "APPROVAL_WRONG_NAMESPACE"},
		"22 over the payload, not PAE": {seal(t, daves, sshsig(t, daves, approval.Namespace, w.fido, "")), "APPROVAL_BAD_SIGNATURE"},
		// 35
		"35 a stranger's key":     {w.sign(t, "stranger", statement("alice")), "APPROVAL_KEY_NOT_OF_PRINCIPAL"},
		"35 bob's key for alice":  {w.sign(t, "bob", statement("alice")), "APPROVAL_KEY_NOT_OF_PRINCIPAL"},
		"35 nobody of that name":  {w.sign(t, "stranger", statement("eve")), "NOT_A_NAMED_APPROVER"},
		"35 alice's key for erin": {w.sign(t, "alice", statement("erin")), "APPROVAL_KEY_NOT_OF_PRINCIPAL"},
		// 36, 37, 38, 39, 40
		"36 another commit":     {by("alice", func(s *approval.Statement) { s.Commit = other }), "APPROVAL_OTHER_COMMIT"},
		"36 another tag object": {by("alice", func(s *approval.Statement) { s.TagObject = other }), "APPROVAL_OTHER_COMMIT"},
		"36 no tag object":      {by("alice", func(s *approval.Statement) { s.TagObject = "" }), "APPROVAL_OTHER_COMMIT"},
		"36 another ref":        {by("alice", func(s *approval.Statement) { s.Ref = "refs/tags/v1.0.1" }), "APPROVAL_OTHER_COMMIT"},
		"36 another tree":       {by("alice", func(s *approval.Statement) { s.Tree = other }), "APPROVAL_OTHER_COMMIT"},
		"37 a fork":             {by("alice", func(s *approval.Statement) { s.Repository.Key = "github.com/id/777" }), "APPROVAL_OTHER_REPOSITORY"},
		"37 another host":       {by("alice", func(s *approval.Statement) { s.Repository.Key = "gitlab.com/id/123456" }), "APPROVAL_OTHER_REPOSITORY"},
		"37 another owner":      {by("alice", func(s *approval.Statement) { s.Repository.OwnerID = "43" }), "APPROVAL_OTHER_REPOSITORY"},
		"37 another name":       {by("alice", func(s *approval.Statement) { s.Repository.URI = "https://github.com/org/app2" }), "APPROVAL_OTHER_REPOSITORY"},
		"38 the version before": {by("alice", func(s *approval.Statement) {
			s.Policy = approval.Policy{Root: digest("1"), Version: 6, Digest: digest("3")}
		}), "APPROVAL_OTHER_POLICY"},
		"38 this version, not text": {by("alice", func(s *approval.Statement) { s.Policy.Digest = digest("3") }), "APPROVAL_OTHER_POLICY"},
		"39 another root":           {by("alice", func(s *approval.Statement) { s.Policy.Root = digest("9") }), "APPROVAL_OTHER_POLICY"},
		"39 no policy":              {by("alice", func(s *approval.Statement) { s.Policy = approval.Policy{Digest: digest("2")} }), "APPROVAL_OTHER_POLICY"},
		"40 of a policy":            {by("alice", policyAction(approval.ActionUpdate)), "APPROVAL_OTHER_ACTION"},
		"40 of a tombstone":         {by("alice", policyAction(approval.ActionTombstone)), "APPROVAL_OTHER_ACTION"},
		// 41
		"41 expired":                  {by("alice", func(s *approval.Statement) { s.IssuedAt, s.ExpiresAt = now.Add(-48*time.Hour), now }), "APPROVAL_EXPIRED"},
		"41 from the future":          {by("alice", func(s *approval.Statement) { s.IssuedAt = now.Add(6 * time.Minute) }), "APPROVAL_EXPIRED"},
		"41 longer than the policy's": {by("alice", func(s *approval.Statement) { s.ExpiresAt = s.IssuedAt.Add(169 * time.Hour) }), "APPROVAL_EXPIRED"},
		"41 ten years":                {raw(reworded(t, statement("alice"), `"expiresAt":"2026`, `"expiresAt":"2036`)), "APPROVAL_EXPIRED"},
		"41 ends before it begins":    {raw(reworded(t, statement("alice"), `"expiresAt":"2026`, `"expiresAt":"2025`)), "APPROVAL_EXPIRED"},
		"41 a key that has ended":     {w.sign(t, "old", statement("carol")), "APPROVAL_EXPIRED"},
		// 42
		"42 decision Approve":     {raw(reworded(t, statement("alice"), `"approve"`, `"Approve"`)), "APPROVAL_MALFORMED"},
		"42 no decision":          {raw(reworded(t, statement("alice"), `"decision":"approve",`, ``)), "APPROVAL_MALFORMED"},
		"42 a duplicate member":   {raw(reworded(t, statement("alice"), `"decision":"approve"`, `"decision":"reject","decision":"approve"`)), "APPROVAL_MALFORMED"},
		"42 an unknown member":    {raw(reworded(t, statement("alice"), `"decision":`, `"force":true,"decision":`)), "APPROVAL_MALFORMED"},
		"42 an unknown action":    {raw(reworded(t, statement("alice"), `"action":"build"`, `"action":"Build"`)), "APPROVAL_MALFORMED"},
		"42 bytes behind":         {raw(append(payload(t, statement("alice")), ' ', '1')), "APPROVAL_MALFORMED"},
		"42 UTF-16":               {raw(inUTF16(payload(t, statement("alice")))), "APPROVAL_MALFORMED"},
		"42 invalid UTF-8":        {raw(reworded(t, statement("alice"), "diff read", "diff \xff")), "APPROVAL_MALFORMED"},
		"42 an escape sequence":   {raw(reworded(t, statement("alice"), "diff read", `diff \u001b[2J`)), "APPROVAL_MALFORMED"},
		"42 text turned round":    {raw(reworded(t, statement("alice"), "diff read", `\u202ediff`)), "APPROVAL_MALFORMED"},
		"42 a wildcard":           {raw(bytes.ReplaceAll(payload(t, statement("alice")), []byte("v1.0.0"), []byte("v*"))), "APPROVAL_MALFORMED"},
		"42 another predicate":    {raw(reworded(t, statement("alice"), "approval/v1", "approval/v2")), "APPROVAL_MALFORMED"},
		"42 a leading zero":       {raw(reworded(t, statement("alice"), "id/123456", "id/0123456")), "APPROVAL_MALFORMED"},
		"42 a short commit":       {raw(reworded(t, statement("alice"), commit, commit[:12])), "APPROVAL_MALFORMED"},
		"42 a commit in capitals": {raw(reworded(t, statement("alice"), commit, strings.ToUpper(commit))), "APPROVAL_MALFORMED"},
		"42 a second digest":      {raw(reworded(t, statement("alice"), `{"gitCommit":`, `{"sha1":"x","gitCommit":`)), "APPROVAL_MALFORMED"},
		"42 another subject":      {raw(reworded(t, statement("alice"), `git+https://github.com/org/app`, `git+https://github.com/evil/app`)), "APPROVAL_MALFORMED"},
		"42 a tag for another":    {raw(reworded(t, statement("alice"), `"name":"refs/tags/v1.0.0"`, `"name":"refs/tags/v1.0.1"`)), "APPROVAL_MALFORMED"},
		"42 a fraction":           {raw(reworded(t, statement("alice"), `11:00:00Z`, `11:00:00.0Z`)), "APPROVAL_MALFORMED"},
		"42 local time":           {raw(reworded(t, statement("alice"), `11:00:00Z`, `11:00:00+00:00`)), "APPROVAL_MALFORMED"},
		"42 version as text":      {raw(reworded(t, statement("alice"), `"version":7`, `"version":"7"`)), "APPROVAL_MALFORMED"},
		"42 null":                 {raw(reworded(t, statement("alice"), `"note":"diff read"`, `"note":null`)), "APPROVAL_MALFORMED"},
		"42 a short nonce":        {raw(reworded(t, statement("alice"), `"nonce":"`, `"nonce":"`+"AA")), "APPROVAL_MALFORMED"},
		"42 two signatures":       {twoSignatures(t, good), "APPROVAL_MALFORMED"},
		"42 no signature":         {reenveloped(t, good, func(e object) { e["signatures"] = list{} }), "APPROVAL_MALFORMED"},
		"42 an empty signature":   {reenveloped(t, good, func(e object) { e["signatures"] = list{object{"sig": ""}} }), "APPROVAL_MALFORMED"},
		"42 rubbish signed":       {reenveloped(t, good, func(e object) { e["signatures"] = list{object{"sig": "AAAA"}} }), "APPROVAL_MALFORMED"},
		"42 another type":         {reenveloped(t, good, func(e object) { e["payloadType"] = "application/json" }), "APPROVAL_MALFORMED"},
		"42 an unknown part":      {reenveloped(t, good, func(e object) { e["x"] = 1 }), "APPROVAL_MALFORMED"},
		"42 base64 with a newline": {reenveloped(t, good, func(e object) {
			e["payload"] = e["payload"].(string)[:40] + "\n" + e["payload"].(string)[40:]
		}), "APPROVAL_MALFORMED"},
		"42 base64 of the URL": {reenveloped(t, good, func(e object) {
			e["signatures"].(list)[0].(object)["sig"] = base64.RawURLEncoding.EncodeToString([]byte{0xff, 0xfe, 0xfd, 0xfc})
		}), "APPROVAL_MALFORMED"},
		"42 too large": {append(bytes.Clone(good), bytes.Repeat([]byte(" "), approval.MaxSize)...), "APPROVAL_MALFORMED"},
		"42 nothing":   {nil, "APPROVAL_MALFORMED"},
		// 47, 48
		"47 a machine":           {w.sign(t, "machine", statement("machine")), "NOT_A_NAMED_APPROVER"},
		"48 a key for tags":      {w.sign(t, "tagger", statement("bob")), "APPROVAL_KEY_USE"},
		"48 a cold key":          {w.sign(t, "cold", statement("cold")), "APPROVAL_KEY_USE"},
		"48 update with approve": {w.sign(t, "alice-2", change(statement("alice"), policyAction(approval.ActionUpdate))), "APPROVAL_KEY_USE"},
		"another's signature": {reenveloped(t, good, func(e object) {
			e["payload"] = base64.StdEncoding.EncodeToString(payload(t, statement("alice")))
		}), "APPROVAL_BAD_SIGNATURE"},
	} {
		bobs := w.sign(t, "bob", statement("bob"))
		want := expected()
		want.Memory = memory
		r := judge(w, want, c.envelope, bobs)
		if len(r.Valid) != 1 || r.Valid[0].Principal != "bob" || approval.Quorum(r.Valid, maintainers, 2) || !approval.Quorum(r.Valid, maintainers, 1) {
			t.Errorf("%s: %+v", name, r.Valid)
		}
		if len(r.Rejected) != 1 || r.Rejected[0].Code != c.code || r.Rejected[0].Message == "" || r.Rejected[0].Where != "file 0" {
			t.Errorf("%s: %+v, want %s", name, r.Rejected, c.code)
		}
	}
	if r := judge(w, expected(), good, w.sign(t, "bob", statement("bob"))); !approval.Quorum(r.Valid, maintainers, 2) || len(r.Rejected) != 0 {
		t.Errorf("two good ones: %+v", r)
	}
}

func policyAction(action string) func(*approval.Statement) {
	return func(s *approval.Statement) {
		*s = approval.Statement{Action: action, Decision: s.Decision, Principal: s.Principal, Repository: s.Repository, Proposal: digest("5"),
			Policy: s.Policy, IssuedAt: s.IssuedAt, ExpiresAt: s.ExpiresAt}
	}
}

func reenveloped(t testing.TB, envelope []byte, f func(object)) []byte {
	t.Helper()
	var e object
	if err := json.Unmarshal(envelope, &e); err != nil {
		t.Fatal(err)
	}
	f(e)
	out, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func twoSignatures(t testing.TB, envelope []byte) []byte {
	t.Helper()
	return reenveloped(t, envelope, func(e object) { e["signatures"] = slices.Repeat(e["signatures"].(list), 2) })
}

func inUTF16(text []byte) []byte {
	out := []byte{0xff, 0xfe}
	for _, c := range utf16.Encode([]rune(string(text))) {
		out = append(out, byte(c), byte(c>>8))
	}
	return out
}

// withCertificate is an approval signed with a certificate for alice's key.
func withCertificate(t testing.TB, w *world) []byte {
	t.Helper()
	dir := t.TempDir()
	public := filepath.Join(dir, "id.pub")
	data, err := os.ReadFile(w.path["alice"] + ".pub")
	if err == nil {
		err = os.WriteFile(public, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ssh-keygen", "-q", "-s", w.path["stranger"], "-I", "alice", "-n", "alice", public).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cert, err := os.ReadFile(filepath.Join(dir, "id-cert.pub"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, _, _, _, err := ssh.ParseAuthorizedKey(cert)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewCertSigner(parsed.(*ssh.Certificate), w.ssh["alice"])
	if err != nil {
		t.Fatal(err)
	}
	p := payload(t, statement("alice"))
	return seal(t, p, sshsig(t, approval.PAE(p), approval.Namespace, signer, ""))
}

// TestOnePerson is rows 32 and 33: a principal counts once, over all keys and envelopes.
func TestOnePerson(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.sign(t, "alice", statement("alice"))
	r := judge(w, expected(), one, one, w.sign(t, "alice", statement("alice")), w.sign(t, "alice-2", statement("alice")))
	if got := approval.Approvers(r.Valid, maintainers); len(got) != 1 || approval.Quorum(r.Valid, maintainers, 2) {
		t.Error(got)
	}
	if len(r.Valid) != 3 || len(r.Rejected) != 0 { // the same envelope is one
		t.Errorf("%+v", r)
	}
	// Approved in the web interface, too.
	also := append(r.Valid, approval.Approval{Source: approval.SourceGitHubReview, Principal: "alice", Decision: approval.Approve})
	if approval.QuorumFrom(also, maintainers, 2, approval.SourceSigned, approval.SourceGitHubReview) {
		t.Error("one person counts twice")
	}
	bob := approval.Approval{Source: approval.SourceGitHubReview, Principal: "bob", Decision: approval.Approve}
	if approval.Quorum(append(also, bob), maintainers, 2) {
		t.Error("a review counts as signed")
	}
	if !approval.QuorumFrom(append(also, bob), maintainers, 2, approval.SourceSigned, approval.SourceGitHubReview) {
		t.Error("a review does not count where it may")
	}
	for _, n := range []int{0, -1} {
		if approval.Quorum(also, maintainers, n) {
			t.Errorf("a quorum of %d is reached", n)
		}
	}
	if approval.Quorum(r.Valid, []string{"bob"}, 1) || !slices.Equal(approval.Missing(r.Valid, []string{"bob", "alice", "carol", "bob"}), []string{"bob", "carol"}) {
		t.Error(approval.Missing(r.Valid, []string{"bob", "alice", "carol"}))
	}
}

// TestVetoes is row 44: a no of one who is named counts, a stranger's does not.
func TestVetoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	no := func(s *approval.Statement) {
		s.Decision, s.Reviewed = approval.Reject, approval.Reviewed{Note: "not read"}
	}
	good := [][]byte{w.sign(t, "alice", statement("alice")), w.sign(t, "bob", statement("bob"))}
	for name, c := range map[string]struct {
		envelope []byte
		vetoes   int
	}{
		"carol":                  {w.sign(t, "carol", change(statement("carol"), no)), 1},
		"carol, an older policy": {w.sign(t, "carol", change(statement("carol"), func(s *approval.Statement) { no(s); s.Policy.Version, s.Policy.Digest = 6, digest("3") })), 1},
		"carol, another chain":   {w.sign(t, "carol", change(statement("carol"), func(s *approval.Statement) { no(s); s.Policy.Root = digest("9") })), 0},
		"carol, another commit":  {w.sign(t, "carol", change(statement("carol"), func(s *approval.Statement) { no(s); s.Commit = other })), 0},
		"carol, long ago": {w.sign(t, "carol", change(statement("carol"), func(s *approval.Statement) {
			no(s)
			s.IssuedAt, s.ExpiresAt = now.Add(-2*time.Hour), now.Add(-time.Hour)
		})), 0},
		"a stranger":                {w.sign(t, "stranger", change(statement("eve"), no)), 0},
		"a stranger as carol":       {w.sign(t, "stranger", change(statement("carol"), no)), 0},
		"the machine":               {w.sign(t, "machine", change(statement("machine"), no)), 0},
		"bob with his key for tags": {w.sign(t, "tagger", change(statement("bob"), no)), 0},
	} {
		r := judge(w, expected(), append(good, c.envelope)...)
		if v := approval.Vetoes(r.Valid); len(v) != c.vetoes || c.vetoes > 0 && (v[0].Principal != "carol" || v[0].Comment != "not read") {
			t.Errorf("%s: %+v", name, v)
		}
		if !approval.Quorum(r.Valid, maintainers, 2) {
			t.Errorf("%s: the others' approvals are gone", name)
		}
	}
	// Who says yes and no has not said yes.
	r := judge(w, expected(), good[0], good[1], w.sign(t, "bob", change(statement("bob"), no)))
	if approval.Quorum(r.Valid, maintainers, 2) || !slices.Equal(approval.Approvers(r.Valid, maintainers), []string{"alice"}) {
		t.Error(approval.Approvers(r.Valid, maintainers))
	}
}

// TestCarryOver: with approval.carryOver those under an earlier version of the same policy count.
func TestCarryOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	doc, why := authority.Parse(bytes.Replace(w.text, []byte(`"principals"`), []byte(`"approval":{"carryOver":true},"principals"`), 1))
	if why != nil {
		t.Fatal(why)
	}
	for _, c := range []struct {
		version int64
		root    string
		counts  bool
	}{{6, digest("1"), true}, {1, digest("1"), true}, {8, digest("1"), false}, {6, digest("9"), false}} {
		data := w.sign(t, "alice", change(statement("alice"), func(s *approval.Statement) {
			s.Policy = approval.Policy{Root: c.root, Version: c.version, Digest: digest("3")}
		}))
		r := approval.Judge(doc, expected(), []approval.Found{{Data: data}})
		if (len(r.Valid) == 1) != c.counts {
			t.Errorf("version %d of %s: %+v", c.version, c.root, r)
		}
	}
}

// TestPolicyActions is row 40 the other way round, and what each action's keys are.
func TestPolicyActions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for action, who := range map[string]string{approval.ActionUpdate: "alice", approval.ActionTombstone: "bob", approval.ActionRecover: "cold"} {
		want := approval.Expected{Action: action, Repository: expected().Repository, Proposal: digest("5"), Policy: expected().Policy, Now: now}
		good := w.sign(t, who, change(statement(who), policyAction(action)))
		if r := judge(w, want, good); len(r.Valid) != 1 {
			t.Errorf("%s by %s: %+v", action, who, r.Rejected)
		}
		for name, c := range map[string]struct {
			envelope []byte
			code     string
		}{
			"of a build":       {w.sign(t, "alice", statement("alice")), "APPROVAL_OTHER_ACTION"},
			"another proposal": {w.sign(t, who, change(change(statement(who), policyAction(action)), func(s *approval.Statement) { s.Proposal = digest("6") })), "APPROVAL_OTHER_POLICY"},
			"another version":  {w.sign(t, who, change(change(statement(who), policyAction(action)), func(s *approval.Statement) { s.Policy.Version = 6 })), "APPROVAL_OTHER_POLICY"},
			"another record":   {w.sign(t, who, change(change(statement(who), policyAction(action)), func(s *approval.Statement) { s.Repository.Key = "github.com/id/7" })), "APPROVAL_OTHER_REPOSITORY"},
		} {
			if r := judge(w, want, c.envelope); len(r.Valid) != 0 || len(r.Rejected) != 1 || r.Rejected[0].Code != c.code {
				t.Errorf("%s, %s: %+v", action, name, r)
			}
		}
	}
	recovery := approval.Expected{Action: approval.ActionRecover, Repository: expected().Repository, Proposal: digest("5"), Policy: expected().Policy, Now: now}
	if r := judge(w, recovery, w.sign(t, "alice", change(statement("alice"), policyAction(approval.ActionRecover)))); len(r.Valid) != 0 || r.Rejected[0].Code != "APPROVAL_KEY_USE" {
		t.Errorf("%+v", r)
	}
	first := approval.Expected{Action: approval.ActionUpdate, Repository: expected().Repository, Proposal: digest("5"), Now: now}
	none := w.sign(t, "alice", change(change(statement("alice"), policyAction(approval.ActionUpdate)), func(s *approval.Statement) { s.Policy = approval.Policy{} }))
	if r := judge(w, first, none); len(r.Valid) != 1 {
		t.Errorf("the first policy: %+v", r.Rejected)
	}
}
