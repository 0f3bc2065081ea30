package git_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// sshTagKey is the key of a principal "release".
func sshTagKey(t testing.TB, key gitrepo.Key) git.TagKey {
	t.Helper()
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key.Public))
	if err != nil {
		t.Fatal(err)
	}
	return git.TagKey{Principal: "release", Kind: "ssh", SSH: public}
}

// judgeByKeys reads a release as the gate does and says what comes of it.
func judgeByKeys(t testing.TB, l git.Location, ref string, keys ...git.TagKey) (*git.Release, *git.Signer, *policy.Reason) {
	t.Helper()
	ctx := context.Background()
	r, why, err := git.OpenRepository(ctx, l)
	if err != nil {
		t.Fatal(err)
	}
	if why != nil {
		return nil, nil, why
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	rel, why, err := r.Release(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	if why != nil {
		return nil, nil, why
	}
	signer, why := rel.Verify(keys, now)
	return rel, signer, why
}

// verifyRaw judges the bytes of a tag.
func verifyRaw(raw string, at time.Time, keys ...git.TagKey) (*git.Signer, *policy.Reason) {
	tag, why := git.ParseTag([]byte(raw))
	if why != nil {
		return nil, why
	}
	return git.VerifyTag(tag, "refs/tags/"+tag.Name, keys, at)
}

func TestTagKeysOfSSH(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sha1")
	for _, c := range []struct {
		kind string
		bits int
		code string
	}{
		{"ed25519", 0, ""}, {"ecdsa", 256, ""}, {"ecdsa", 384, ""}, {"ecdsa", 521, ""}, {"rsa", 3072, ""},
		{"rsa", 2048, "KEY_TOO_WEAK"}, {"rsa", 1024, "KEY_TOO_WEAK"},
	} {
		key := gitrepo.NewKey(t, c.kind, c.bits)
		k := sshTagKey(t, key)
		signer, why := verifyRaw(f.sign(key, f.head("v1")), now, sshTagKey(t, f.key), k)
		if c.code != "" {
			wantCode(t, why, c.code, "3072")
			if k.Check() == nil {
				t.Errorf("%s %d may be listed", c.kind, c.bits)
			}
			continue
		}
		if why != nil || k.Check() != nil {
			t.Fatal(c.kind, why, k.Check())
		}
		if print := ssh.FingerprintSHA256(k.SSH); *signer != (git.Signer{Key: 1, Principal: "release", Kind: "ssh", KeyID: print, Fingerprint: print, Namespace: "git", Hash: "sha512"}) {
			t.Errorf("%+v", signer)
		}
	}
	raw, k := f.sign(f.key, f.head("v1")), sshTagKey(t, f.key)
	wantCode(t, second(verifyRaw(raw, now)), "TAG_SIGNER", "it lists keys of nobody") // nor one that was taken out (row 13)
	others := make([]git.TagKey, 6)
	for i := range others {
		others[i] = sshTagKey(t, gitrepo.NewKey(t, "ed25519", 0))
		others[i].Principal = string(rune('f' - i%5))
	}
	wantCode(t, second(verifyRaw(raw, now, others...)), "TAG_SIGNER", "it lists keys of b, c, d, e and 1 more")
	past, future := now.Add(-time.Second), now.Add(time.Second)
	for _, c := range []struct {
		from, to time.Time
		code     string
	}{{past, future, ""}, {now, future, ""}, {past, now, "TAG_KEY_EXPIRED"}, {future, time.Time{}, "TAG_KEY_EXPIRED"}} {
		k.NotBefore, k.NotAfter = c.from, c.to
		if _, why := verifyRaw(raw, now, k); (why == nil) != (c.code == "") || why != nil && why.Code != c.code {
			t.Errorf("%v to %v: %v", c.from, c.to, why)
		}
	}
	// A key that is listed twice counts while either entry does.
	valid := sshTagKey(t, f.key)
	valid.Principal = "other"
	if signer, why := verifyRaw(raw, now, k, valid); why != nil || signer.Principal != "other" || signer.Key != 1 {
		t.Error(signer, why)
	}
	commit, why := git.ParseCommit([]byte(goodCommit))
	if why != nil {
		t.Fatal(why)
	}
	_, why = git.VerifyCommit(commit, []git.TagKey{valid}, now)
	wantCode(t, why, "TAG_MALFORMED", "")
}

func second[T any](_ T, why *policy.Reason) *policy.Reason { return why }

// TestTagKeysOfSecurityKeys: touched, touched and verified, and neither (rows 17 and 19).
func TestTagKeysOfSecurityKeys(t *testing.T) {
	t.Parallel()
	_, priv, _ := ed25519.GenerateKey(nil)
	key := skKey{priv, "ssh:"}
	public, err := ssh.ParsePublicKey(key.public())
	if err != nil {
		t.Fatal(err)
	}
	k := git.TagKey{Principal: "alice", Kind: "ssh", SSH: public}
	strict := k
	strict.RequireUV = true
	if err := strict.Check(); err != nil {
		t.Error(err)
	}
	verify := func(k git.TagKey, flags byte, app string) (*git.Signer, *policy.Reason) {
		return verifyRaw(pgpHead+skKey{priv, app}.sign([]byte(pgpHead), flags), now, k)
	}
	if s, why := verify(k, 1, "ssh:"); why != nil || !s.SecurityKey || s.UserVerified {
		t.Error(s, why)
	}
	if s, why := verify(strict, 5, "ssh:"); why != nil || !s.UserVerified {
		t.Error(s, why)
	}
	wantCode(t, second(verify(strict, 1, "ssh:")), "TAG_SIGNER", "verify its user")
	wantCode(t, second(verify(k, 0, "ssh:")), "TAG_SIGNER", "nobody touched")
	wantCode(t, second(verify(k, 4, "ssh:")), "TAG_SIGNER", "nobody touched")
	wantCode(t, second(verify(k, 1, "ssh:evil")), "TAG_SIGNER", "does not list")
	plain := sshTagKey(t, gitrepo.NewKey(t, "ed25519", 0))
	plain.RequireUV = true
	if plain.Check() == nil {
		t.Error("a plain key cannot verify its user")
	}
}

func TestTagKeysOfOpenPGP(t *testing.T) {
	t.Parallel()
	g, other := newGPG(t), newGPG(t)
	g.key("Release <release@example.com>", "ed25519", "never")
	other.key("Release <release@example.com>", "ed25519", "never")
	sig, today := g.sign(), time.Now()
	k := git.TagKey{Principal: "carol", Kind: "openpgp", OpenPGP: g.export()}
	stranger := git.TagKey{Principal: "mallory", Kind: "openpgp", OpenPGP: other.export()}
	signer, why := verifyRaw(pgpHead+sig, today, stranger, k)
	if why != nil || signer.Key != 1 || signer.Principal != "carol" || len(signer.Fingerprint) != 40 || !strings.HasSuffix(signer.Fingerprint, signer.KeyID) || signer.Hash != "sha512" && signer.Hash != "sha256" {
		t.Fatalf("%+v %v", signer, why)
	}
	broken := git.TagKey{Principal: "x", Kind: "openpgp", OpenPGP: flip(k.OpenPGP)}
	two := git.TagKey{Principal: "x", Kind: "openpgp", OpenPGP: k.OpenPGP + stranger.OpenPGP}
	expired := k
	expired.NotAfter = today
	for _, c := range []struct {
		name, sig string
		key       git.TagKey
		at        time.Time
		code      string
	}{
		{"stranger", sig, stranger, today, "TAG_SIGNER"},
		{"SHA-1", g.sign("--digest-algo", "SHA1"), k, today, "TAG_SIGNER"},
		{"two packets", rearmor(t, sig, other.sign()), k, today, "TAG_MALFORMED"},
		{"two packets, swapped", rearmor(t, other.sign(), sig), k, today, "TAG_MALFORMED"},
		{"the policy's end", sig, expired, today, "TAG_KEY_EXPIRED"},
		{"before the key", sig, k, today.Add(-48 * time.Hour), "TAG_KEY_EXPIRED"},
		{"a broken certificate", sig, broken, today, "KEY_KIND"},
		{"two certificates", sig, two, today, "KEY_KIND"},
		{"an SSH key", sig, sshTagKey(t, gitrepo.NewKey(t, "ed25519", 0)), today, "TAG_SIGNER"},
	} {
		_, why := verifyRaw(pgpHead+c.sig, c.at, c.key)
		if why == nil || why.Code != c.code {
			t.Errorf("%s: %v, want %s", c.name, why, c.code)
		}
	}
	// A stranger's signature that claims to be by the listed key: by its 64-bit id, which
	// others can have, and by its fingerprint, too (row 22).
	mine, theirs := fingerprintOf(t, g), fingerprintOf(t, other)
	forged := dearmor(t, other.sign())
	at := bytes.LastIndex(forged, theirs[12:])
	byID := bytes.Clone(forged)
	copy(byID[at:], mine[12:])
	for name, raw := range map[string][]byte{"id": byID, "fingerprint": bytes.ReplaceAll(byID, theirs, mine)} {
		_, why := verifyRaw(pgpHead+rearmorBytes(t, raw), today, k)
		if why == nil || why.Code != "TAG_SIGNER" {
			t.Errorf("a forged %s: %v", name, why)
		}
	}
	for _, k := range []git.TagKey{broken, two, {Kind: "openpgp"}, {Kind: "ssh", OpenPGP: k.OpenPGP}, {}} {
		if k.Check() == nil {
			t.Errorf("%s may be listed", k.Kind)
		}
	}
	weak := newGPG(t)
	weak.key("weak", "rsa2048", "never")
	_, why = verifyRaw(pgpHead+weak.sign("--digest-algo", "SHA256"), time.Now(), git.TagKey{Principal: "w", Kind: "openpgp", OpenPGP: weak.export()})
	wantCode(t, why, "KEY_TOO_WEAK", "3072")
}

func fingerprintOf(t testing.TB, g *gpg) []byte {
	t.Helper()
	_, after, _ := strings.Cut(g.run("", "--with-colons", "--list-keys"), "\nfpr:::::::::")
	fp, err := hex.DecodeString(after[:40])
	if err != nil {
		t.Fatal(err)
	}
	return fp
}

func TestTrailers(t *testing.T) {
	t.Parallel()
	const repo = "Hallmark-Repository: github.com/id/123456\n"
	digest := "sha256:" + strings.Repeat("ab", 32)
	for text, want := range map[string]git.Trailers{
		"":                    {},
		"release v1\n":        {},
		"x\n\n" + repo:        {Repository: "github.com/id/123456"},
		"x\n\n" + repo + "\n": {Repository: "github.com/id/123456"},
		"x\n\nSigned-off-by: A <a@x>\n" + repo + "Hallmark-Policy: " + digest + "\n": {Repository: "github.com/id/123456", Policy: digest},
		"x\n\nsee Hallmark-Repository: in the manual\n":                              {},
		repo: {Repository: "github.com/id/123456"},
	} {
		if got, err := git.ParseTrailers(text); err != nil || got != want {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
	for _, bad := range []string{
		"x\n\n" + repo + "\nmore\n", "x\n\n" + repo + repo, "x\n\nhallmark-repository: github.com/id/1\n", "x\n\nHallmark-Repository:github.com/id/1\n",
		"x\n\nHallmark-Repository : github.com/id/1\n", "x\n\n Hallmark-Repository: github.com/id/1\n", "x\n\nHallmark-Repository:  github.com/id/1\n",
		"x\n\nHallmark-Repository: github.com/id/1 \n", "x\n\nHallmark-Repository: github.com/id/01\n", "x\n\nHallmark-Repository: github.com/id/0\n",
		"x\n\nHallmark-Repository: github.com/id/-1\n", "x\n\nHallmark-Repository: GitHub.com/id/1\n", "x\n\nHallmark-Repository: github.com/org/app\n",
		"x\n\nHallmark-Repository: github.com/id/1\n /2\n", "x\n\nHallmark-Repository: /id/1\n", "x\n\nHallmark-Repository: github.com/id/99999999999999999999\n",
		"x\n\nHallmark-Repository: \n", "x\n\nHallmark-Repository\n", "x\n\nHallmark-Policy: sha256:ab\n", "x\n\nHallmark-Policy: " + strings.ToUpper(digest) + "\n",
		"x\n\nHallmark-Approved-By: all\n", "Hallmark-Repository: github.com/id/1\n\n" + repo,
	} {
		if got, err := git.ParseTrailers(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
	tag := func(message string) *git.Tag { return &git.Tag{Name: "v1", ID: "1", Message: message} }
	if ok, why := tag("x\n\n" + repo).OfRepository("github.com/id/123456"); !ok || why != nil {
		t.Error(ok, why)
	}
	if ok, why := tag("x\n").OfRepository("github.com/id/123456"); ok || why != nil {
		t.Error(ok, why)
	}
	for _, key := range []string{"github.com/id/1234567", "gitlab.com/id/123456", ""} {
		_, why := tag("x\n\n" + repo).OfRepository(key)
		wantCode(t, why, "TAG_OTHER_REPOSITORY", "github.com/id/123456")
	}
	_, why := tag("x\n\n" + repo + repo).OfRepository("github.com/id/123456")
	wantCode(t, why, "TAG_MALFORMED", "twice")
}

func FuzzTrailers(f *testing.F) {
	f.Add("x\n\nHallmark-Repository: github.com/id/1\nHallmark-Policy: sha256:" + strings.Repeat("0a", 32) + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := git.ParseTrailers(text)
		if err == nil && strings.Contains("\n"+text, "\nHallmark-") && got == (git.Trailers{}) {
			t.Error("a trailer was overlooked")
		}
		if err == nil && got.Repository != "" && !git.ValidRepositoryKey(got.Repository) {
			t.Errorf("%+v", got)
		}
	})
}
