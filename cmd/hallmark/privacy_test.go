package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// secret is in everything that no service but the registry may learn.
const secret = "what-only-we-may-know-of-this-predicate"

// TestWhatLeavesTheMachine records what the commands send to an authority, and holds
// the table of docs/privacy.md to it: no service learns more than it says, and none
// but the registry a word of a statement.
func TestWhatLeavesTheMachine(t *testing.T) {
	t.Parallel()
	w := newPrivateWorld(t)
	image := w.image("public/app")
	who := []string{"--identity-token", w.token(nil)}
	attest := []string{"--predicate", "predicate.json", "--type", "https://example.com/scan/v1"}
	calls := map[string][]string{
		"sign":            slices.Concat([]string{"sign", "-y", image}, who),
		"sign --key":      {"sign", "--key", "k.key", image},
		"attest":          slices.Concat([]string{"attest", "-y", image}, attest, who),
		"attest --key":    slices.Concat([]string{"attest", "--key", "k.key", image}, attest),
		"sign --bundle":   slices.Concat([]string{"sign", "-y", "predicate.json", "--bundle", "f.json"}, who),
		"attest --bundle": slices.Concat([]string{"attest", "-y", "k.pub", "--bundle", "g.json"}, attest, who),
		"verify":          {"verify", "--key", "k.pub", image},
	}
	rows := tableRows(sectionOf(t, readDocument(t, "../../docs/privacy.md"), "What each service learns"))
	if len(rows) != len(calls) {
		t.Fatalf("docs/privacy.md has %d rows, %d commands are recorded", len(rows), len(calls))
	}
	for _, row := range rows { // verify is the last: it needs the others
		argv, ok := calls[quoted(row[0])[0]]
		if !ok {
			t.Errorf("%s is not recorded", row[0])
			continue
		}
		w.net.forget()
		if code, out := w.hallmark(argv...); code != cli.ExitOK {
			t.Fatalf("%v: exit code %d\n%s", argv, code, out)
		}
		for i, path := range []string{"/api/v2/signingCert", "/api/v1/timestamp", "/api/v2/log/entries"} {
			sent := w.net.sent(signerHost, path)
			if learns := row[1+i]; (learns == "nothing") != (len(sent) == 0) {
				t.Errorf("%s: the document says of %s %q, and it was sent %d requests", row[0], path, learns, len(sent))
			}
			for _, e := range sent {
				e.only(t, row[0], row[1+i])
			}
		}
		for _, e := range w.net.all() {
			known := e.host == registryHost || e.method == "POST" && slices.Contains([]string{"/api/v2/signingCert", "/api/v1/timestamp", "/api/v2/log/entries"}, e.path)
			if !known {
				t.Errorf("%s: the document says nothing of %s %s%s", row[0], e.method, e.host, e.path)
			}
			if e.host != registryHost && (holds(e.body, secret) || holds(e.body, "public/app") || strings.Contains(e.path, "app")) {
				t.Errorf("%s: %s%s was told what it may not know", row[0], e.host, e.path)
			}
		}
	}
}

// only holds a request to what the document says that is learnt.
func (e exchange) only(t *testing.T, command, learns string) {
	t.Helper()
	if len(e.body) > 8<<10 {
		t.Errorf("%s: %s was sent %d bytes", command, e.path, len(e.body))
	}
	if e.path != "/api/v2/log/entries" {
		return
	}
	var r struct {
		Entry struct {
			Digest    []byte
			Signature struct {
				Content  []byte
				Verifier struct {
					PublicKey, X509Certificate *struct{ RawBytes []byte }
					KeyDetails                 string
				}
			}
		} `json:"hashedRekordRequestV002"`
	}
	d := json.NewDecoder(strings.NewReader(e.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || len(r.Entry.Digest) != 32 {
		t.Errorf("%s: the log was sent something else than a digest and who signed it: %v\n%s", command, err, e.body)
	}
	v := r.Entry.Signature.Verifier
	if (v.X509Certificate != nil) != strings.HasSuffix(learns, "certificate") || (v.PublicKey != nil) != strings.HasSuffix(learns, "public key") {
		t.Errorf("%s: the log was sent %s, the document says %q", command, e.body, learns)
	}
}

// holds reports whether text has the word, as it is or in base64.
func holds(text, word string) bool {
	if strings.Contains(text, word) {
		return true
	}
	for shift := range 3 { // where it may begin within three bytes
		encoded := base64.StdEncoding.EncodeToString(append(make([]byte, shift), word...))
		if whole := encoded[4 : len(encoded)-4]; strings.Contains(text, whole) {
			return true
		}
	}
	return false
}

// TestPrivateSource: nothing about a private image, repository or project goes to a
// service that publishes it, unless exactly that was agreed to; then the answer says
// so. Services that are not public are asked, whatever is private.
func TestPrivateSource(t *testing.T) {
	t.Parallel()
	w := newPrivateWorld(t)
	public, private, broken := w.image("public/app"), w.image("private/app"), w.image("broken/app")
	token := func(claims map[string]any) []string { return []string{"--identity-token", w.token(claims)} }
	key := []string{"--key", "k.key"}
	attest := []string{"--predicate", "predicate.json", "--type", "https://example.com/scan/v1"}
	const byRegistry = "the registry shows registry.example.com/private/app@sha256:"
	for name, tc := range map[string]struct {
		argv []string
		code int
		says string
	}{
		"a private image, by a key":                 {slices.Concat([]string{"sign", private}, key), cli.ExitDenied, byRegistry},
		"a private image, by a person":              {slices.Concat([]string{"sign", private}, token(nil)), cli.ExitDenied, byRegistry},
		"with a plain yes":                          {slices.Concat([]string{"sign", "--yes", private}, token(nil)), cli.ExitDenied, byRegistry},
		"with yes as a switch's value":              {slices.Concat([]string{"sign", "--yes=true", private}, token(nil)), cli.ExitDenied, byRegistry},
		"one private image among public ones":       {slices.Concat([]string{"sign", public, private}, key), cli.ExitDenied, byRegistry},
		"attested":                                  {slices.Concat([]string{"attest", private}, attest, key), cli.ExitDenied, byRegistry},
		"in a registry on this machine":             {slices.Concat([]string{"sign", w.local}, key), cli.ExitDenied, "is on this machine"},
		"a private project of GitHub":               {slices.Concat([]string{"sign", "-y", public}, token(map[string]any{"repository_visibility": "private", "repository": "o/r"})), cli.ExitDenied, "o/r is not public (repository_visibility)"},
		"an internal project of GitHub":             {slices.Concat([]string{"sign", "-y", public}, token(map[string]any{"repository_visibility": "internal"})), cli.ExitDenied, "repository_visibility"},
		"a private project of GitLab":               {slices.Concat([]string{"sign", "-y", public}, token(map[string]any{"project_visibility": "private"})), cli.ExitDenied, "project_visibility"},
		"a file of a private project":               {slices.Concat([]string{"sign", "-y", "predicate.json", "--bundle", "f.json"}, token(map[string]any{"repository_visibility": "private"})), cli.ExitDenied, "repository_visibility"},
		"a claim that cannot be read":               {slices.Concat([]string{"sign", "-y", public}, token(map[string]any{"repository_visibility": true})), cli.ExitDenied, "repository_visibility"},
		"a registry that says nothing of the sort":  {slices.Concat([]string{"sign", broken}, key), cli.ExitUnreachable, "broken/app"},
		"an unknown word":                           {slices.Concat([]string{"sign", "--yes=everything", public}, key), cli.ExitUsage, "--yes=private"},
		"a build of a repository without a remote":  {w.build("alone", "--key", "k.key"), cli.ExitDenied, "no remote of the repository file://"},
		"a build of a private repository":           {w.build("https://git.example.com/private/.git", "--key", "k.key"), cli.ExitFailure, "wants a login"},
		"a build of a clone of a private one":       {w.build("clone-private", "--key", "k.key"), cli.ExitDenied, "does not show refs/tags/v1.0.0 to everybody"},
		"a build of a clone with a tag of its own":  {w.build("clone-ahead", "--key", "k.key"), cli.ExitDenied, "is something else at https://git.example.com/public/.git"},
		"a build of a public one for a local image": {w.buildTo(w.local, "https://git.example.com/public/.git", "--key", "k.key"), cli.ExitDenied, "is on this machine"},
	} {
		w.net.forget()
		code, out := w.hallmark(tc.argv...)
		if code != tc.code || !strings.Contains(out, tc.says) {
			t.Errorf("%s: exit code %d, want %d with %q\n%s", name, code, tc.code, tc.says, out)
		}
		if tc.code == cli.ExitDenied && (!strings.Contains(out, "["+CodePrivateSource+"]") || !strings.Contains(out, "hint: ") || !strings.Contains(out, signerHost)) {
			t.Errorf("%s: %s", name, out)
		}
		for _, e := range w.net.all() {
			if e.host == signerHost {
				t.Errorf("%s: and yet %s was asked for %s", name, e.host, e.path)
			}
		}
	}

	for name, tc := range map[string]struct {
		argv   []string
		public string // what madePublic says; "" when there is none
	}{
		"a public image":               {slices.Concat([]string{"sign", "-y", "--json", public}, token(nil)), ""},
		"a private one, agreed":        {slices.Concat([]string{"sign", "--yes=private", "--json", private}, token(nil)), byRegistry},
		"a private project, agreed":    {slices.Concat([]string{"attest", "--yes=private", "--json", public}, attest, []string{"--identity-token", w.job()}), "o/r is not public"},
		"a private one, no services":   {slices.Concat([]string{"sign", "--json", "--signing-config", "none", private}, key), ""},
		"a private one, only stamped":  {slices.Concat([]string{"sign", "--json", "--signing-config", "stamp.json", private}, key), ""},
		"a registry that says nothing": {slices.Concat([]string{"sign", "--yes=private", "--json", broken}, key), "could not be found out"},
	} {
		code, out := w.hallmark(tc.argv...)
		var answer signedAnswer
		if err := json.Unmarshal([]byte(out[strings.Index(out, "\n{")+1:]), &answer); err != nil && code == cli.ExitOK {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if code != cli.ExitOK || (answer.MadePublic != nil) != (tc.public != "") ||
			answer.MadePublic != nil && (!slices.Equal(answer.MadePublic.Hosts, []string{signerHost}) || !strings.Contains(answer.MadePublic.Private[0], tc.public)) {
			t.Errorf("%s: exit code %d\n%s", name, code, out)
		}
	}
	w.net.forget()
	if code, out := w.hallmark(slices.Concat([]string{"sign", "-y", "--again", public}, token(map[string]any{"repository_visibility": "public"}))...); code != cli.ExitFailure ||
		len(w.net.sent(signerHost, "/api/v2/signingCert")) != 1 { // which sees that the claim is ours
		t.Errorf("a public project: exit code %d\n%s", code, out)
	}
	if code, out := w.hallmark(slices.Concat([]string{"sign", "--again", "--yes=private", private}, key)...); code != cli.ExitOK ||
		!strings.Contains(out, "  public at "+signerHost+", though "+byRegistry) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	// A log that does not answer may have what it was sent.
	w.config("lost.json", trust.SigningConfigSpec{LogURL: "https://log.sigstore.dev"})
	if code, out := w.hallmark(slices.Concat([]string{"sign", "--again", "--yes=private", "--signing-config", "lost.json", private}, key)...); code == cli.ExitOK ||
		!strings.Contains(out, "  public perhaps, at log.sigstore.dev, though "+byRegistry) {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// TestPrivateBuildIsFound: a repository that everybody sees is no reason to refuse, by
// URL or as a clone; the gate goes on to the builder, which is not there.
func TestPrivateBuildIsFound(t *testing.T) {
	t.Parallel()
	w := newPrivateWorld(t)
	for _, source := range []string{"https://git.example.com/public/.git", "clone"} {
		code, out := w.hallmark(w.build(source, "--key", "k.key")...)
		if code == cli.ExitOK || strings.Contains(out, CodePrivateSource) || !strings.Contains(out, "BuildKit") {
			t.Errorf("%s: exit code %d\n%s", source, code, out)
		}
	}
}

// TestResumeAsksAgain: what was made for other services does not reach a public log
// later without being looked at.
func TestResumeAsksAgain(t *testing.T) {
	t.Parallel()
	w := newPrivateWorld(t)
	private := w.image("private/app")
	if code, out := w.hallmark("sign", "--key", "k.key", "--signing-config", "down.json", "--later", "unfinished", private); code != cli.ExitUnreachable {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	w.net.forget()
	code, out := w.hallmark("sign", "--resume", "unfinished")
	if code != cli.ExitDenied || !strings.Contains(out, CodePrivateSource) || len(w.net.sent(signerHost, "/api/v2/log/entries")) > 0 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if code, out = w.hallmark("sign", "--resume", "unfinished", "--yes=private"); code != cli.ExitOK || !strings.Contains(out, "  public at "+signerHost+", though ") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// token is an identity token of the authority, with other claims in the place of what
// its issuer signed: nobody but the authority, which is not asked then, would see that.
func (w *privateWorld) token(claims map[string]any) string {
	w.t.Helper()
	raw, err := w.signer.Mint("alice@example.com")
	if err != nil {
		w.t.Fatal(err)
	}
	if claims == nil {
		return raw
	}
	t, err := idtoken.Parse(raw)
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string]any{}
	for name, value := range t.Claims {
		all[name] = value
	}
	for name, value := range claims {
		all[name] = value
	}
	data, err := json.Marshal(all)
	if err != nil {
		w.t.Fatal(err)
	}
	parts := strings.Split(raw, ".")
	return parts[0] + "." + base64.RawURLEncoding.EncodeToString(data) + "." + parts[2]
}

// build is a call that builds a source for a public image.
func (w *privateWorld) build(source string, more ...string) []string {
	return w.buildTo(registryHost+"/public/built:1", source, more...)
}

func (w *privateWorld) buildTo(image, source string, more ...string) []string {
	image, _, _ = strings.Cut(image, "@")
	return append([]string{"build", source, "--ref", "v1.0.0", "--policy", "policy", "-t", image}, more...)
}

// hallmark runs a command in the world.
func (w *privateWorld) hallmark(argv ...string) (code int, out string) {
	w.t.Helper()
	cmd := exec.Command(w.bin, argv...)
	cmd.Dir, cmd.Env = w.dir, w.env
	said, err := cmd.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		w.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(said)
}

// repositories makes a repository with a signed tag, its clones, and the policy.
func (w *privateWorld) repositories() http.Handler {
	w.t.Helper()
	git := func(dir string, args ...string) {
		w.t.Helper()
		cmd := exec.Command("git", args...)
		cmd.Dir, cmd.Env = dir, gitrepo.Env()
		if out, err := cmd.CombinedOutput(); err != nil {
			w.t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	key := gitrepo.NewKey(w.t, "ed25519", 0)
	tag := func(dir, message string) {
		git(dir, "-c", "gpg.format=ssh", "-c", "user.signingKey="+key.Path, "tag", "--force", "-s", "-m", message, "v1.0.0")
	}
	repo := gitrepo.New(w.t, "sha1")
	repo.Write("Dockerfile", "FROM scratch\n")
	repo.Commit("all")
	tag(repo.Dir, "a release")
	served := w.t.TempDir()
	for _, name := range []string{"public", "private"} {
		git(served, "clone", "--quiet", repo.Dir, name)
	}
	for name, remote := range map[string]string{"alone": "", "clone": "public", "clone-private": "private", "clone-ahead": "public"} {
		git(w.dir, "clone", "--quiet", repo.Dir, name)
		dir := filepath.Join(w.dir, name)
		if remote == "" {
			git(dir, "remote", "remove", "origin")
			continue
		}
		address := "git@git.example.com:" + remote + "/.git"
		if name == "clone" {
			address = "https://git.example.com/" + remote + "/.git"
		}
		git(dir, "remote", "set-url", "origin", address)
		if name == "clone-ahead" {
			tag(dir, "another release")
		}
	}
	if err := os.MkdirAll(filepath.Join(w.dir, "policy"), 0o755); err != nil {
		w.t.Fatal(err)
	}
	writeExample(w.t, filepath.Join(w.dir, "policy", "release.rego"), "package hallmark.signing\n\nallow if \"release\" in input.git.tag.signer.principals\n")
	writeExample(w.t, filepath.Join(w.dir, "policy", "allowed_signers"), `release namespaces="git" `+key.Public+"\n")
	return gitHandler(w.t, served)
}

// exchange is a request as it was sent.
type exchange struct{ method, host, path, body string }
