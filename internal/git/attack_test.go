package git_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// trust lists key as principal "release", with options.
func trust(t testing.TB, key gitrepo.Key, options string) git.Trust {
	t.Helper()
	if options != "" {
		options += " "
	}
	s, err := git.ParseSigners([]byte("release " + options + key.Public + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return git.Trust{Signers: s}
}

// judge opens a ref of a repository as a build does and says what came of it.
func judge(t testing.TB, repo *gitrepo.Repo, ref string, tr git.Trust) (*git.Source, *policy.Reason) {
	t.Helper()
	loc, err := git.ParseLocation(repo.Dir, false)
	if err != nil {
		t.Fatal(err)
	}
	src, why, err := git.Open(context.Background(), loc, ref)
	if err != nil {
		t.Fatal(err)
	}
	if why != nil {
		return nil, why
	}
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
	return src, src.Verify(tr, now)
}

func wantCode(t testing.TB, why *policy.Reason, code, inMessage string) {
	t.Helper()
	switch {
	case why == nil:
		t.Fatalf("accepted, want %s", code)
	case why.Code != code:
		t.Fatalf("denied with %v, want %s", why, code)
	case !strings.Contains(why.Message, inMessage):
		t.Fatalf("message %q does not say %q", why.Message, inMessage)
	case strings.Contains(why.Message, "\n"):
		t.Fatalf("message has more than one line: %q", why.Message)
	}
}

// verifyTag is what git says about the same tag with the same list.
func verifyTag(t testing.TB, repo *gitrepo.Repo, ref, signers string) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "allowed_signers")
	if err := os.WriteFile(path, []byte(signers), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := repo.Try(nil, "-c", "gpg.ssh.allowedSignersFile="+path, "verify-tag", ref)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// fixture is a repository with one commit and a key.
type fixture struct {
	*gitrepo.Repo
	t      testing.TB
	key    gitrepo.Key
	commit string
}

func newFixture(t testing.TB, format string) *fixture {
	f := &fixture{Repo: gitrepo.New(t, format), t: t, key: gitrepo.NewKey(t, "ed25519", 0)}
	f.Write("Dockerfile", "FROM scratch\n")
	f.commit = f.Commit("first")
	return f
}

const taggerLine = "tagger Rel Ease <rel@example.com> 1700000000 +0100\n"

// head is the unsigned part of a good tag.
func (f *fixture) head(name string) string {
	return "object " + f.commit + "\ntype commit\ntag " + name + "\n" + taggerLine + "\nrelease " + name + "\n"
}

// sign makes the bytes of a tag from its unsigned part.
func (f *fixture) sign(key gitrepo.Key, unsigned string) string {
	return unsigned + string(key.Sign(f.t, []byte(unsigned), "git", "sha512"))
}

// put stores the bytes as a tag object under a ref.
func (f *fixture) put(name, raw string) { f.SetRef("refs/tags/"+name, f.Object("tag", []byte(raw))) }

func TestGoodTag(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"sha1", "sha256"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, format)
			id := f.SignTag(f.key, "v1.0.0", f.commit)
			src, why := judge(t, f.Repo, "v1.0.0", trust(t, f.key, `namespaces="git"`))
			if why != nil {
				t.Fatal(why)
			}
			g := src.Git
			switch {
			case g.Ref != "refs/tags/v1.0.0", g.TagName != "v1.0.0", g.Checksum != id, g.CommitChecksum != f.commit,
				!g.IsAnnotatedTag, !g.Tag.NameMatchesRef, g.Tag.SignatureKind != "ssh", g.Tag.Message != "release v1.0.0\n",
				g.Commit.Tree != f.Git("rev-parse", "HEAD^{tree}"), g.Commit.Message != "first\n",
				g.Commit.Author.Name != "Ann Author", g.Remote != "file://"+f.Dir:
				t.Errorf("%+v %+v %+v", g, g.Tag, g.Commit)
			}
			if s := g.Tag.Signer; s == nil || s.Principals[0] != "release" || s.Fingerprint != g.Tag.SignatureKeyHint ||
				!strings.HasPrefix(s.Fingerprint, "SHA256:") {
				t.Errorf("signer %+v", s)
			}
		})
	}
}

// Each row makes one tag that must be refused, and says what git does with it:
// where git accepts it, we are stricter for the reason that the code names. All of them
// are judged twice: fetched, with a list of allowed signers, and in place, with keys of a
// signing policy. Attacks on tags that need more than a tag object are in
// TestTagKeysOfSSH (weak keys, removed ones), TestTagKeysOfSecurityKeys, TestOddBlobs
// (certificates), TestTagKeysOfOpenPGP, TestTagKeysOfX509, TestTrailers (other
// repositories), TestAncestry (branches), TestShallow, TestCollision, TestHostileFolder and
// TestHostileRepository (code in a repository), and BenchmarkApprovalFlood.
func TestAttacks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		setup     func(f *fixture) (ref string)
		options   string // of the allowed-signers line
		code, say string
		gitOK     bool
	}{
		{"lightweight tag", func(f *fixture) string { f.Git("tag", "v1"); return "v1" }, "", "TAG_NOT_ANNOTATED", "lightweight", false},
		{"branch", func(f *fixture) string { return "main" }, "", "TAG_NOT_ANNOTATED", "not a tag", false},
		{"unsigned annotated tag", func(f *fixture) string { f.Git("tag", "-a", "-m", "x", "v1"); return "v1" }, "", "TAG_UNSIGNED", "not signed", false},
		{"stranger's key", func(f *fixture) string { f.SignTag(gitrepo.NewKey(f.t, "ed25519", 0), "v1", f.commit); return "v1" }, "", "TAG_SIGNER", "not listed", false},
		{"tag of a tag", func(f *fixture) string {
			inner := f.SignTag(f.key, "inner", f.commit)
			f.put("v1", f.sign(f.key, "object "+inner+"\ntype tag\ntag v1\n"+taggerLine+"\nx\n"))
			return "v1"
		}, "", "TAG_TARGET_TYPE", "points to a tag", true},
		{"tag of a tree", func(f *fixture) string { f.SignTag(f.key, "v1", f.Git("rev-parse", "HEAD^{tree}")); return "v1" }, "", "TAG_TARGET_TYPE", "points to a tree", true},
		{"tag of a blob", func(f *fixture) string { f.SignTag(f.key, "v1", f.Git("rev-parse", "HEAD:Dockerfile")); return "v1" }, "", "TAG_TARGET_TYPE", "points to a blob", true},
		{"old tag under a new name", func(f *fixture) string {
			f.SetRef("refs/tags/v9.9.9", f.SignTag(f.key, "v1.0.0", f.commit))
			return "v9.9.9"
		}, "", "TAG_NAME_MISMATCH", `signed as "v1.0.0"`, true},
		{"signed tag as a branch", func(f *fixture) string {
			f.SetRef("refs/heads/rel", f.SignTag(f.key, "v1", f.commit))
			return "refs/heads/rel"
		}, "", "TAG_NAME_MISMATCH", "refs/heads/rel", true},
		{"signature over other bytes", func(f *fixture) string {
			good := f.sign(f.key, f.head("v1"))
			f.put("v1", strings.Replace(good, "release v1", "release v2", 1))
			return "v1"
		}, "", "TAG_SIGNER", "does not verify", false},
		{"text after the signature", func(f *fixture) string { f.put("v1", f.sign(f.key, f.head("v1"))+"and this\n"); return "v1" }, "", "TAG_MALFORMED", "after its signature", true},
		{"two blocks, the first good", func(f *fixture) string {
			s := f.sign(f.key, f.head("v1"))
			f.put("v1", f.sign(gitrepo.NewKey(f.t, "ed25519", 0), s))
			return "v1"
		}, "", "TAG_MALFORMED", "after its signature", false},
		{"two blocks, the last good", func(f *fixture) string {
			s := f.sign(gitrepo.NewKey(f.t, "ed25519", 0), f.head("v1"))
			f.put("v1", f.sign(f.key, s))
			return "v1"
		}, "", "TAG_MALFORMED", "after its signature", true},
		{"armor inside the message", func(f *fixture) string {
			f.put("v1", f.sign(f.key, f.head("v1")+"-----BEGIN CERTIFICATE-----\nAAAA\n"))
			return "v1"
		}, "", "TAG_MALFORMED", "no signature", true},
		{"a signature begun inside the message", func(f *fixture) string {
			f.put("v1", f.sign(f.key, f.head("v1")+"-----BEGIN SSH SIGNATURE-----\nAAAA\n"))
			return "v1"
		}, "", "TAG_MALFORMED", "more than one armored block", true},
		{"duplicate header", func(f *fixture) string {
			f.put("v1", f.sign(f.key, strings.Replace(f.head("v1"), "tag v1\n", "tag v1\ntag v1\n", 1)))
			return "v1"
		}, "", "TAG_MALFORMED", "", true},
		{"extra header", func(f *fixture) string {
			f.put("v1", f.sign(f.key, strings.Replace(f.head("v1"), "+0100\n", "+0100\nextra x\n", 1)))
			return "v1"
		}, "", "TAG_MALFORMED", "", true},
		{"reordered headers", func(f *fixture) string {
			f.put("v1", f.sign(f.key, "object "+f.commit+"\ntag v1\ntype commit\n"+taggerLine+"\nx\n"))
			return "v1"
		}, "", "TAG_MALFORMED", "", true},
		{"no tagger", func(f *fixture) string {
			f.put("v1", f.sign(f.key, strings.Replace(f.head("v1"), taggerLine, "", 1)))
			return "v1"
		}, "", "TAG_MALFORMED", "no tagger header", false},
		{"CR LF", func(f *fixture) string {
			f.put("v1", f.sign(f.key, strings.Replace(f.head("v1"), "release v1\n", "release v1\r\n", 1)))
			return "v1"
		}, "", "TAG_MALFORMED", "carriage return", true},
		{"NUL", func(f *fixture) string {
			f.put("v1", f.sign(f.key, strings.Replace(f.head("v1"), "release v1\n", "release\x00v1\n", 1)))
			return "v1"
		}, "", "TAG_MALFORMED", "", true},
		{"terminal escape", func(f *fixture) string { f.put("v1", f.sign(f.key, f.head("v1")+"\x1b[2J\n")); return "v1" }, "", "TAG_MALFORMED", "control character", true},
		{"5 MiB message", func(f *fixture) string {
			f.put("v1", f.sign(f.key, f.head("v1")+strings.Repeat("long line of text\n", 5<<20/18)))
			return "v1"
		}, "", "TAG_MALFORMED", "more than 1048576", true},
		{"backdated, key expired", func(f *fixture) string { f.SignTag(f.key, "v1", f.commit); return "v1" },
			`valid-before="20240101Z"`, "TAG_KEY_EXPIRED", "the date in the tag does not count", true},
		{"key not yet valid", func(f *fixture) string { f.SignTag(f.key, "v1", f.commit); return "v1" },
			`valid-after="20270101Z"`, "TAG_KEY_EXPIRED", "only after", false},
		{"key listed for other namespaces", func(f *fixture) string { f.SignTag(f.key, "v1", f.commit); return "v1" },
			`namespaces="file,hallmark-approval"`, "TAG_SIGNER", "lists for file, hallmark-approval only", false},
		{"namespace file", func(f *fixture) string {
			h := f.head("v1")
			f.put("v1", h+string(f.key.Sign(f.t, []byte(h), "file", "sha512")))
			return "v1"
		}, "", "TAG_WRONG_NAMESPACE", `"file"`, false},
		{"an approval as a tag's signature", func(f *fixture) string {
			h := f.head("v1")
			f.put("v1", h+string(f.key.Sign(f.t, []byte(h), "hallmark-approval", "sha512")))
			return "v1"
		}, "", "TAG_WRONG_NAMESPACE", `"hallmark-approval"`, false},
		{"x509", func(f *fixture) string {
			f.put("v1", f.head("v1")+"-----BEGIN SIGNED MESSAGE-----\nMIIB\n-----END SIGNED MESSAGE-----\n")
			return "v1"
		}, "", "TAG_SIGNER", "x509", false},
		{"the type header lies", func(f *fixture) string {
			tree := f.Git("rev-parse", "HEAD^{tree}")
			f.put("v1", f.sign(f.key, "object "+tree+"\ntype commit\ntag v1\n"+taggerLine+"\nx\n"))
			return "v1"
		}, "", "FETCH_REFUSED", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, "sha1")
			ref := c.setup(f)
			_, why := judgeLenient(t, f.Repo, ref, trust(t, f.key, c.options))
			wantCode(t, why, c.code, c.say)
			if !strings.HasPrefix(c.options, "namespaces") { // of allowed_signers alone
				key := sshTagKey(t, f.key)
				if c.options != "" {
					key.NotBefore, key.NotAfter = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), time.Time{}
					if strings.HasPrefix(c.options, "valid-before") {
						key.NotBefore, key.NotAfter = time.Time{}, time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
					}
				}
				want := c.code
				switch c.name {
				case "x509":
					want = "TAG_MALFORMED" // it is read, and is nothing
				case "the type header lies":
					want = "TAG_TARGET_TYPE" // nobody fetched it
				}
				_, _, why := judgeByKeys(t, git.Location{Path: f.Dir}, ref, key)
				wantCode(t, why, want, "")
			}
			list := "release " + c.options + " " + f.key.Public + "\n"
			if err := verifyTag(t, f.Repo, strings.TrimPrefix(ref, "refs/heads/"), list); (err == nil) != c.gitOK {
				t.Errorf("git verify-tag: %v; this table says accepted=%v", err, c.gitOK)
			}
		})
	}
}

// judgeLenient is judge for repositories that git itself may refuse to send.
func judgeLenient(t testing.TB, repo *gitrepo.Repo, ref string, tr git.Trust) (*git.Source, *policy.Reason) {
	t.Helper()
	loc, err := git.ParseLocation(repo.Dir, false)
	if err != nil {
		t.Fatal(err)
	}
	src, why, err := git.Open(context.Background(), loc, ref)
	if err != nil {
		return nil, &policy.Reason{Code: "FETCH_REFUSED", Message: err.Error()}
	}
	if why != nil {
		return nil, why
	}
	t.Cleanup(func() { src.Close() })
	return src, src.Verify(tr, now)
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind string
		bits int
		hash string
		code string
	}{
		{"ed25519", 0, "sha256", ""}, {"ecdsa", 256, "sha512", ""}, {"ecdsa", 384, "sha512", ""}, {"ecdsa", 521, "sha256", ""},
		{"rsa", 2048, "sha512", ""}, {"rsa", 1024, "sha512", "KEY_TOO_WEAK"},
	} {
		t.Run(fmt.Sprintf("%s-%d-%s", c.kind, c.bits, c.hash), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, "sha1")
			key := gitrepo.NewKey(t, c.kind, c.bits)
			h := f.head("v1")
			raw := h + string(key.Sign(t, []byte(h), "git", c.hash))
			tag, why := git.ParseTag([]byte(raw))
			if why != nil {
				t.Fatal(why)
			}
			_, why = trust(t, key, "").VerifyTag(tag, "refs/tags/v1", now)
			if c.code == "" && why != nil {
				t.Fatal(why)
			}
			if c.code != "" {
				wantCode(t, why, c.code, "")
			}
		})
	}
}

// wire is an SSHSIG blob (PROTOCOL.sshsig) made by hand.
type wire struct {
	Magic     [6]byte
	Version   uint32
	Key       []byte
	Namespace string
	Reserved  string
	Hash      string
	Sig       []byte
}

func (w wire) armored() string {
	copy(w.Magic[:], "SSHSIG")
	return string(pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: ssh.Marshal(w)}))
}

func signedData(message []byte) []byte {
	sum := sha512.Sum512(message)
	return append([]byte("SSHSIG"), ssh.Marshal(struct {
		Namespace, Reserved, Hash string
		Sum                       []byte
	}{"git", "", "sha512", sum[:]})...)
}

// skKey is a security key in software: it signs with the flags it is told.
type skKey struct {
	priv        ed25519.PrivateKey
	application string
}

func (k skKey) public() []byte {
	return ssh.Marshal(struct {
		Type string
		Key  []byte
		App  string
	}{ssh.KeyAlgoSKED25519, k.priv.Public().(ed25519.PublicKey), k.application})
}

func (k skKey) sign(message []byte, flags byte) string {
	app, data := sha256.Sum256([]byte(k.application)), sha256.Sum256(signedData(message))
	rest := []byte{flags, 0, 0, 0, 7}
	sig := ed25519.Sign(k.priv, slicesConcat(app[:], rest, data[:]))
	return wire{Version: 1, Key: k.public(), Namespace: "git", Hash: "sha512", Sig: ssh.Marshal(ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: sig, Rest: rest})}.armored()
}

func slicesConcat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestSecurityKeys(t *testing.T) {
	t.Parallel()
	_, priv, _ := ed25519.GenerateKey(nil)
	key := skKey{priv, "ssh:"}
	head := "object " + strings.Repeat("a", 40) + "\ntype commit\ntag v1\n" + taggerLine + "\nx\n"
	list := git.Trust{Signers: mustSigners(t, "release sk-ssh-ed25519@openssh.com "+base64.StdEncoding.EncodeToString(key.public())+"\n")}
	verify := func(armored string) *policy.Reason {
		tag, why := git.ParseTag([]byte(head + armored))
		if why != nil {
			return why
		}
		_, why = list.VerifyTag(tag, "refs/tags/v1", now)
		return why
	}
	if why := verify(key.sign([]byte(head), 1)); why != nil {
		t.Fatalf("touched: %v", why)
	}
	if why := verify(key.sign([]byte(head), 5)); why != nil {
		t.Fatalf("touched and verified: %v", why)
	}
	wantCode(t, verify(key.sign([]byte(head), 0)), "TAG_SIGNER", "nobody touched")
	wantCode(t, verify(skKey{priv, "ssh:evil"}.sign([]byte(head), 1)), "TAG_SIGNER", "not listed")
}

// A blob of the right key in a form that readers may take differently.
func TestOddBlobs(t *testing.T) {
	t.Parallel()
	pub, priv, _ := ed25519.GenerateKey(nil)
	signer, _ := ssh.NewSignerFromKey(priv)
	sshPub, _ := ssh.NewPublicKey(pub)
	head := "object " + strings.Repeat("a", 40) + "\ntype commit\ntag v1\n" + taggerLine + "\nx\n"
	list := git.Trust{Signers: mustSigners(t, "release "+string(ssh.MarshalAuthorizedKey(sshPub)))}
	sig, err := signer.Sign(nil, signedData([]byte(head)))
	if err != nil {
		t.Fatal(err)
	}
	good := wire{Version: 1, Key: sshPub.Marshal(), Namespace: "git", Hash: "sha512", Sig: ssh.Marshal(sig)}
	cert := &ssh.Certificate{Key: sshPub, CertType: ssh.UserCert, KeyId: "x", ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(strings.NewReader(strings.Repeat("r", 64)), signer); err != nil {
		t.Fatal(err)
	}
	change := func(f func(w *wire)) string { w := good; f(&w); return w.armored() }
	armored := good.armored()
	for _, c := range []struct{ name, armored, code string }{
		{"good", armored, ""},
		{"version 2", change(func(w *wire) { w.Version = 2 }), "TAG_MALFORMED"},
		{"reserved", change(func(w *wire) { w.Reserved = "x" }), "TAG_MALFORMED"},
		{"sha1", change(func(w *wire) { w.Hash = "sha1" }), "TAG_MALFORMED"},
		{"other hash", change(func(w *wire) { w.Hash = "sha256" }), "TAG_SIGNER"},
		{"namespace prefix", change(func(w *wire) { w.Namespace = "gi" }), "TAG_WRONG_NAMESPACE"},
		{"no namespace", change(func(w *wire) { w.Namespace = "" }), "TAG_WRONG_NAMESPACE"},
		{"trailing in signature", change(func(w *wire) { w.Sig = append(bytes.Clone(w.Sig), 0) }), "TAG_MALFORMED"},
		{"certificate", change(func(w *wire) { w.Key = cert.Marshal() }), "KEY_KIND"},
		{"ssh-rsa", change(func(w *wire) { w.Sig = ssh.Marshal(ssh.Signature{Format: "ssh-rsa", Blob: []byte("x")}) }), "KEY_TOO_WEAK"},
		{"magic", strings.Replace(armored, "U1NIU0lH", "U1NIU0lI", 1), "TAG_MALFORMED"},
		{"header in armor", strings.Replace(armored, "-----\n", "-----\nComment: x\n\n", 1), "TAG_MALFORMED"},
		{"blank line", strings.Replace(armored, "\n-----END", "\n\n-----END", 1), "TAG_MALFORMED"},
		{"not base64", strings.Replace(armored, "U1NI", "U1N!", 1), "TAG_MALFORMED"},
		{"no final line feed", strings.TrimSuffix(armored, "\n"), "TAG_MALFORMED"},
		{"end of another kind", strings.Replace(armored, "END SSH", "END PGP", 1), "TAG_MALFORMED"},
		{"no end", strings.Replace(armored, "-----END SSH SIGNATURE-----\n", "", 1), "TAG_MALFORMED"},
		{"empty", "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n", "TAG_MALFORMED"},
	} {
		tag, why := git.ParseTag([]byte(head + c.armored))
		if why == nil {
			_, why = list.VerifyTag(tag, "refs/tags/v1", now)
		}
		if c.code == "" {
			if why != nil {
				t.Errorf("%s: %v", c.name, why)
			}
			continue
		}
		if why == nil || why.Code != c.code {
			t.Errorf("%s: %v, want %s", c.name, why, c.code)
		}
	}
}

func mustSigners(t testing.TB, text string) *git.Signers {
	t.Helper()
	s, err := git.ParseSigners([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sshVerify(t testing.TB, signers, principal string, message, armored []byte) error {
	t.Helper()
	dir := t.TempDir()
	list, sig := filepath.Join(dir, "s"), filepath.Join(dir, "sig")
	if err := os.WriteFile(list, []byte(signers), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sig, armored, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ssh-keygen", "-Y", "verify", "-f", list, "-I", principal, "-n", "git", "-s", sig)
	cmd.Stdin = bytes.NewReader(message)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
