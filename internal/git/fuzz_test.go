package git_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
)

const goodTag = pgpHead + "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n"

const goodCommit = "tree aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nparent bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n" +
	"author A <a@x> 1700000000 +0530\ncommitter C <c@x> 1700000001 -0800\n" +
	"gpgsig -----BEGIN SSH SIGNATURE-----\n U1NIU0lH\n -----END SSH SIGNATURE-----\n\nmessage\n"

// Near-misses of a good tag: each is refused.
func TestParseTagNearMisses(t *testing.T) {
	t.Parallel()
	tag, why := git.ParseTag([]byte(goodTag))
	if why != nil {
		t.Fatal(why)
	}
	if tag.Name != "v1" || tag.Signature.Kind != "ssh" || string(tag.Signature.Payload)+string(tag.Signature.Armored) != goodTag || tag.Message != "x\n" {
		t.Errorf("%+v", tag)
	}
	for _, c := range [][2]string{ // replace the first by the second
		{"object a", "object A"}, {"object a", "object "}, {"object a", "object  a"}, {"object a", "Object a"}, {"object a", "\nobject a"},
		{strings.Repeat("a", 40), strings.Repeat("0", 40)}, {strings.Repeat("a", 40), strings.Repeat("a", 41)}, {"aa\n", "aa \n"},
		{"type commit", "type commits"}, {"type commit", "type Commit"}, {"type commit", "type"}, {"type commit\n", ""}, {"type commit", "type commit "},
		{"tag v1", "tag "}, {"tag v1", "tag v 1"}, {"tag v1", "tag ../v1"}, {"tag v1", "tag -v1"}, {"tag v1", "tag v1.lock"}, {"tag v1", "tag v1\t"}, {"tag v1", "tag v1\ntag v2"},
		{"tag v1", "tag v1^{}"}, {"tag v1", "tag v\xff"}, {"tag v1", "tag v1/"}, {"tag v1", "tag v@{1"},
		{"tagger R", "tagger"}, {"<r@x>", "<r@x"}, {"<r@x>", "r@x"}, {"<r@x>", "<r@x> <s@x>"}, {"1700000000", "01700000000"}, {"1700000000", "-1"}, {"1700000000", "1e9"},
		{"1700000000", "99999999999999999999"}, {"+0000", "0000"}, {"+0000", "+00"}, {"+0000", "+0060"}, {"+0000", "+00000"}, {"+0000", "UTC"}, {"+0000\n", "+0000\ngpgsig x\n"},
		{"\n\nx\n", "\nx\n"}, {"x\n-----B", "x -----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n-----B"},
		{"-----BEGIN SSH SIGNATURE-----\n", "-----BEGIN SSH SIGNATURE----- \n"}, {"-----BEGIN SSH", "-----BEGIN PGP"}, {"-----END SSH SIGNATURE-----\n", "-----END SSH SIGNATURE-----"},
		{"-----END SSH SIGNATURE-----\n", ""}, {"-----END SSH SIGNATURE-----\n", "-----END SSH SIGNATURE-----\n\n"}, {"x\n-----B", "x\n-----END SSH SIGNATURE-----\n-----B"},
		{"\nx\n", "\nx\r\n"}, {"\nx\n", "\nx\x00\n"}, {"\nx\n", "\nx\x7f\n"}, {"\nx\n", "\n\xff\n"},
	} {
		raw := strings.Replace(goodTag, c[0], c[1], 1)
		if raw == goodTag {
			t.Fatalf("%q does not occur", c[0])
		}
		if _, why := git.ParseTag([]byte(raw)); why == nil || why.Code != "TAG_MALFORMED" {
			t.Errorf("%q for %q: %v", c[1], c[0], why)
		}
	}
}

func TestParseCommitNearMisses(t *testing.T) {
	t.Parallel()
	c, why := git.ParseCommit([]byte(goodCommit))
	if why != nil {
		t.Fatal(why)
	}
	if c.Signature.Kind != "ssh" || !bytes.Equal(c.Signature.Payload, []byte(strings.Replace(goodCommit, "gpgsig -----BEGIN SSH SIGNATURE-----\n U1NIU0lH\n -----END SSH SIGNATURE-----\n", "", 1))) {
		t.Errorf("%q", c.Signature.Payload)
	}
	const header = "committer C <c@x> 1700000001 -0800\n"
	for _, r := range [][2]string{
		{"tree a", "tree A"}, {"tree a", "parent a"}, {"tree a", "\ntree a"}, {strings.Repeat("b", 40), strings.Repeat("b", 64)}, {"author", "committer"},
		{header, ""}, {header, header + header}, {header, header + "tree x\n"}, {header, header + "encoding a\nencoding b\n"}, {header, header + "noblank\n"},
		{"gpgsig -", "gpgsig x-"}, {"\n -----END", "\n x\n----END"}, {"SIGNATURE-----\n\n", "SIGNATURE-----\n"}, {"message", "mess\x00age"}, {"-0800", "-0800\r"},
		{"gpgsig -", "gpgsig -----BEGIN SSH SIGNATURE-----\n U1NI\n -----END SSH SIGNATURE-----\ngpgsig-sha256 -"},
	} {
		raw := strings.Replace(goodCommit, r[0], r[1], 1)
		if raw == goodCommit {
			t.Fatalf("%q does not occur", r[0])
		}
		if _, why := git.ParseCommit([]byte(raw)); why == nil {
			t.Errorf("%q for %q: accepted", r[1], r[0])
		}
	}
	for _, ok := range []string{
		strings.Replace(goodCommit, header, header+"change-id abc\nmergetag object x\n y\nmergetag object z\n", 1),
		strings.Replace(goodCommit, "message", "caf\xe9", 1), strings.Replace(goodCommit, "parent "+strings.Repeat("b", 40)+"\n", "", 1),
	} {
		if _, why := git.ParseCommit([]byte(ok)); why != nil {
			t.Errorf("%q: %v", ok, why)
		}
	}
}

// A commit signed by real git verifies, with both hashes.
func TestVerifyCommit(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"sha1", "sha256"} {
		f := newFixture(t, format)
		f.Git("-c", "gpg.format=ssh", "-c", "user.signingKey="+f.key.Path, "commit", "-q", "-S", "--allow-empty", "-m", "signed")
		id := f.Git("rev-parse", "HEAD")
		c, why := git.ParseCommit(f.Raw("commit", id))
		if why != nil || c.ID != id {
			t.Fatal(format, why)
		}
		if _, why := trust(t, f.key, "").VerifyCommit(c, now); why != nil {
			t.Error(format, why)
		}
		_, why = trust(t, gitrepo.NewKey(t, "ed25519", 0), "").VerifyCommit(c, now)
		wantCode(t, why, "TAG_SIGNER", "not listed")
	}
}

// Every single-byte change of a good signed tag is refused by us; and where git
// refuses, we do. Bytes of the signature's base64 padding included.
func TestFlippedTag(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	f.SignTag(f.key, "v1", f.commit)
	raw, tr := f.Raw("tag", "v1"), trust(t, f.key, "")
	for i := range raw {
		for _, bit := range []byte{1, 0x20, 0x80} {
			changed := bytes.Clone(raw)
			changed[i] ^= bit
			tag, why := git.ParseTag(changed)
			if why == nil {
				_, why = tr.VerifyTag(tag, "refs/tags/v1", now)
			}
			if why == nil {
				t.Fatalf("byte %d ^ %#x accepted: %q", i, bit, changed)
			}
		}
	}
}

func FuzzParseTag(f *testing.F) {
	f.Add([]byte(goodTag))
	f.Add([]byte(pgpHead))
	f.Add([]byte(strings.ReplaceAll(goodTag, "SSH SIGNATURE", "SIGNED MESSAGE")))
	f.Add([]byte(strings.ReplaceAll(goodTag, "SSH", "PGP") + "\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tag, why := git.ParseTag(raw)
		if (tag == nil) == (why == nil) {
			t.Fatal("want exactly one answer")
		}
		if tag == nil {
			return
		}
		if tag.Signature.Kind != "" && !bytes.Equal(append(bytes.Clone(tag.Signature.Payload), tag.Signature.Armored...), raw) {
			t.Error("payload and signature are not the whole object")
		}
		for _, s := range []string{tag.Name, tag.Type, tag.Object, tag.Message} {
			if strings.ContainsAny(s, "\x00\r\x1b") {
				t.Errorf("control character in %q", s)
			}
		}
		if _, why := (git.Trust{}).VerifyTag(tag, "refs/tags/"+tag.Name, now); why == nil {
			t.Error("nobody is trusted and yet it verifies")
		}
		// A tag that we can read is one that git can read.
		cmd := exec.Command("git", "hash-object", "-t", "tag", "--stdin")
		cmd.Stdin, cmd.Env = bytes.NewReader(raw), gitrepo.Env()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("git refuses what we accept: %s", out)
		} else if id := strings.TrimSpace(string(out)); len(tag.ID) == 40 && id != tag.ID {
			t.Errorf("git's id %s, ours %s", id, tag.ID)
		}
	})
}

// FuzzVerifyTag: whatever is signed by a listed key and accepted here, git fsck --strict and
// git verify-tag accept, too: we refuse more than git does, never less. The tag is signed as
// it was before something was put behind it.
func FuzzVerifyTag(f *testing.F) {
	fix := newFixture(f, "sha1")
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		f.Fatal(err)
	}
	public, err := ssh.NewPublicKey(pub)
	if err != nil {
		f.Fatal(err)
	}
	key := git.TagKey{Principal: "release", Kind: "ssh", SSH: public}
	list := filepath.Join(f.TempDir(), "allowed_signers")
	fix.must(os.WriteFile(list, append([]byte("release "), ssh.MarshalAuthorizedKey(public)...), 0o600))
	head := "object " + fix.commit + "\ntype commit\ntag v1\n" + taggerLine
	f.Add(head, "release v1\n", "", "git")
	f.Add(head, "release v1\n\nHallmark-Repository: github.com/id/1\n", "", "git")
	f.Add(head, "x\n-----BEGIN SSH SIGNATURE-----\nU1NI\n-----END SSH SIGNATURE-----\n", "", "git")
	f.Add(head, "no line feed", "behind\n", "git")
	f.Add(head+"gpgsig x\n", "\n", "-----BEGIN PGP SIGNATURE-----\n", "file")
	f.Fuzz(func(t *testing.T, head, message, tail, namespace string) {
		unsigned := head + "\n" + message
		sum := sha512.Sum512([]byte(unsigned))
		sig, err := signer.Sign(nil, append([]byte("SSHSIG"), ssh.Marshal(struct {
			Namespace, Reserved, Hash string
			Sum                       []byte
		}{namespace, "", "sha512", sum[:]})...))
		if err != nil {
			t.Fatal(err)
		}
		raw := unsigned + wire{Version: 1, Key: public.Marshal(), Namespace: namespace, Hash: "sha512", Sig: ssh.Marshal(sig)}.armored() + tail
		tag, why := git.ParseTag([]byte(raw))
		if why != nil {
			return
		}
		if _, why := git.VerifyTag(tag, "refs/tags/"+tag.Name, []git.TagKey{key}, now); why != nil {
			return
		}
		if tail != "" || namespace != "git" {
			t.Errorf("accepted with %q behind it, of namespace %q", tail, namespace)
		}
		out, err := fix.Try([]byte(raw), "hash-object", "-t", "tag", "-w", "--stdin")
		if err != nil || out != tag.ID {
			t.Fatalf("git does not take what we accept: %v %s", err, out)
		}
		if out, err := fix.Try(nil, "-c", "gpg.ssh.allowedSignersFile="+list, "verify-tag", out); err != nil {
			t.Errorf("git does not verify what we accept: %v %s", err, out)
		}
		if tag.Object != fix.commit { // fsck wants what the tag points to
			return
		}
		if out, err := fix.Try(nil, "fsck", "--strict", "--no-dangling", tag.ID); err != nil {
			t.Errorf("git fsck: %v %s", err, out)
		}
	})
}

func FuzzParseCommit(f *testing.F) {
	f.Add([]byte(goodCommit))
	f.Add([]byte(strings.Replace(goodCommit, "gpgsig", "gpgsig-sha256", 1)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, why := git.ParseCommit(raw)
		if (c == nil) == (why == nil) {
			t.Fatal("want exactly one answer")
		}
		if c != nil && c.Signature.Kind != "" && len(c.Signature.Payload) >= len(raw) {
			t.Error("the payload still holds the signature")
		}
	})
}

func FuzzAllowedSigners(f *testing.F) {
	f.Add([]byte("release namespaces=\"git\",valid-before=\"20300101Z\" " + edKey + " x\n# c\n"))
	f.Add([]byte("a,b cert-authority " + edKey))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := git.ParseSigners(data)
		if (s == nil) == (err == nil) {
			t.Fatal("want exactly one answer")
		}
		if s.Len() > bytes.Count(data, []byte("\n"))+1 {
			t.Error("more keys than lines")
		}
	})
}

func FuzzKeyring(f *testing.F) {
	f.Add([]byte("# principals: a\n-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := git.ParseKeyring(data)
		if (k == nil) == (err == nil) {
			t.Fatal("want exactly one answer")
		}
	})
}
