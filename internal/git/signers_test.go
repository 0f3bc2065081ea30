package git_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
)

const edKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAabwGFjPQyP0Kaf+Ri5Y5b2fZzXkJqR0bYJr0wD3lYx"

func TestParseSigners(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "# nobody\n\n", "release " + edKey, "release " + edKey + " a comment with \x22quotes\x22\n",
		"  release,ops@example.com\t" + edKey + "\n", `release namespaces="git,file" ` + edKey,
		`release namespaces="git",valid-after="20260101",valid-before="20270101Z" ` + edKey,
		`release valid-before="202701011530" ` + edKey, `release valid-before="20270101153059Z" ` + edKey,
		"a " + edKey + "\nb " + edKey + "\n",
	} {
		if _, err := git.ParseSigners([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	body := strings.TrimPrefix(edKey, "ssh-ed25519 ")
	for _, c := range []struct{ text, say string }{
		{"release cert-authority " + edKey, "cert-authority is not supported"},
		{`release CERT-AUTHORITY,namespaces="git" ` + edKey, "cert-authority is not supported"},
		{"*@example.com " + edKey, "plain name"},
		{"a?b " + edKey, "plain name"},
		{"!a " + edKey, "plain name"},
		{`"a b" ` + edKey, "plain name"},
		{"a,,b " + edKey, "empty or repeated"},
		{"a,a " + edKey, "empty or repeated"},
		{`a namespaces="*" ` + edKey, "plain name"},
		{`a namespaces="" ` + edKey, "empty or repeated"},
		{`a namespaces="git",namespaces="file" ` + edKey, "twice"},
		{`a namespaces=git ` + edKey, "want name="},
		{`a Namespaces="git" ` + edKey, "not known"},
		{`a no-touch-required ` + edKey, "want name="},
		{`a verify-required="" ` + edKey, "not known"},
		{`a namespaces="git", ` + edKey, "single commas"},
		{`a ,namespaces="git" ` + edKey, "want name="},
		{`a namespaces="git"valid-after="20260101" ` + edKey, "single commas"},
		{`a namespaces="git ` + edKey, "not closed"},
		{`a valid-before="2026" ` + edKey, "YYYYMMDD"},
		{`a valid-before="20261301" ` + edKey, "YYYYMMDD"},
		{`a valid-before="20260101z" ` + edKey, "YYYYMMDD"},
		{`a valid-before="+2026010" ` + edKey, "YYYYMMDD"},
		{`a valid-after="20270101",valid-before="20260101" ` + edKey, "not before"},
		{"a ssh-ed25519", "want: principals"},
		{"a " + body, "want: principals"},
		{"a ssh-dss " + body, "want name="},
		{"a ssh-rsa " + body, "not of the type"},
		{"a ssh-ed25519 " + body + "AAAA", ""},
		{"a ssh-ed25519 " + body[:len(body)-4], ""},
		{"a ssh-ed25519 " + body[:20] + "!" + body[21:], "base64"},
		{edKey, ""},
		{"a " + edKey + "\r", "control character"},
		{"a\x00b " + edKey, "control character"},
		{"ok " + edKey + "\nbad line\n", "line 2"},
		{strings.Repeat("#", git.MaxSignersSize+1), "more than"},
	} {
		_, err := git.ParseSigners([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%q: %v, want %q", c.text[:min(len(c.text), 100)], err, c.say)
		}
	}
}

// The names of all lines that list the key now, and of no other line.
func TestPrincipals(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	f.SignTag(f.key, "v1", f.commit)
	list := mustSigners(t, "release,ann "+f.key.Public+
		"\nold valid-before=\"20200101Z\" "+f.key.Public+
		"\nmail namespaces=\"email\" "+f.key.Public+
		"\nann,zoe namespaces=\"git\",valid-after=\"20200101Z\" "+f.key.Public+
		"\nother "+gitrepo.NewKey(t, "ed25519", 0).Public+"\n")
	src, why := judge(t, f.Repo, "v1", git.Trust{Signers: list})
	if why != nil {
		t.Fatal(why)
	}
	if got := strings.Join(src.Git.Tag.Signer.Principals, " "); got != "ann release zoe" {
		t.Errorf("principals %s", got)
	}
	if why := src.Verify(git.Trust{}, now); why == nil || why.Code != "TAG_SIGNER" || src.Git.Tag.Signer != nil {
		t.Errorf("with an empty trust: %v, signer %+v", why, src.Git.Tag.Signer)
	}
}

// The edges of a validity window, at our clock.
func TestValidity(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	f.SignTag(f.key, "v1", f.commit)
	tag, why := git.ParseTag(f.Raw("tag", "v1"))
	if why != nil {
		t.Fatal(why)
	}
	tr := trust(t, f.key, `valid-after="20260101Z",valid-before="20260201Z"`)
	for at, ok := range map[string]bool{
		"2025-12-31T23:59:59Z": false, "2026-01-01T00:00:00Z": true, "2026-01-31T23:59:59Z": true, "2026-02-01T00:00:00Z": false,
	} {
		when, _ := time.Parse(time.RFC3339, at)
		if _, why := tr.VerifyTag(tag, "refs/tags/v1", when); (why == nil) != ok {
			t.Errorf("at %s: %v", at, why)
		}
	}
}

// Whatever list we can read, ssh-keygen reads the same way: where it finds
// nobody for the key, neither do we.
func TestSignersAgainstSSHKeygen(t *testing.T) {
	t.Parallel()
	key := gitrepo.NewKey(t, "ed25519", 0)
	message := []byte(pgpHead)
	sig := key.Sign(t, message, "git", "sha512")
	tag, why := git.ParseTag(append(message, sig...))
	if why != nil {
		t.Fatal(why)
	}
	for _, options := range []string{
		"", `namespaces="git"`, `namespaces="file"`, `namespaces="file,git"`, `namespaces="gi"`, `valid-before="20300101"`, `valid-before="20200101"`,
		`valid-after="20200101Z"`, `valid-after="20990101"`, `valid-after="20200101",valid-before="20990101",namespaces="git"`,
	} {
		text := "release " + options + " " + key.Public + "\n"
		_, ours := git.Trust{Signers: mustSigners(t, text)}.VerifyTag(tag, "refs/tags/v1", time.Now())
		theirs := sshVerify(t, text, "release", message, sig)
		if ours == nil && theirs != nil {
			t.Errorf("%s: we accept what ssh-keygen refuses: %v", options, theirs)
		}
		if (ours == nil) != (theirs == nil) && !strings.Contains(options, "Z") { // 9.0 and older do not know the Z
			t.Errorf("%s: ours %v, ssh-keygen %v", options, ours, theirs)
		}
	}
}

func TestLoadTrust(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := git.LoadTrust(dir); err == nil || !strings.Contains(err.Error(), "nobody may sign") {
		t.Errorf("empty folder: %v", err)
	}
	path := filepath.Join(dir, "allowed_signers")
	if err := os.WriteFile(path, []byte("a "+edKey+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if tr, err := git.LoadTrust(dir); err != nil || tr.Signers.Len() != 1 {
		t.Errorf("%+v %v", tr, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "keyring.asc"), []byte("rubbish"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := git.LoadTrust(dir); err == nil || !strings.Contains(err.Error(), "keyring.asc: line 1") {
		t.Errorf("bad keyring: %v", err)
	}
}
