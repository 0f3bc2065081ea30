package interop_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/authority"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/hmtest"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// signedOnce is a blob that was signed at some point of an authority's life, by cosign
// 3 (Rekor v2) and by cosign 2 (Rekor v1), with the trusted root of that moment.
type signedOnce struct {
	when   string
	issuer string
	blob   string
	b3, b2 string // bundles
	root   []byte
}

// TestRotationOfEveryKey replaces every key, one after the other, and the log's twice.
// After each rotation stock cosign 3 and 2 with a fresh TUF client, and we, believe all
// that was ever signed; the trusted root of the time of signing goes on to do for what
// was signed until then; and what was signed later is refused under it with the reason.
func TestRotationOfEveryKey(t *testing.T) {
	t.Parallel()
	r := hmtest.Authority(t)
	var past []signedOnce
	// one signs something, and verifies all that there is.
	one := func(when string) signedOnce {
		t.Helper()
		c3, c2 := newCosign(t, r), newCosign2(t, r)
		s := signedOnce{when: when, issuer: r.URL, blob: writeFile(t, "blob", when)}
		s.b3, s.b2 = s.blob+".3.json", s.blob+".2.json"
		c3.must("sign-blob", "--yes", "--identity-token", r.Token(alice), "--bundle", s.b3, s.blob)
		c2.must(args("sign-blob", "--new-bundle-format", services(r), "--bundle", s.b2, s.blob)...)
		var err error
		if s.root, err = os.ReadFile(r.TrustedRoot); err != nil {
			t.Fatal(err)
		}
		past = append(past, s)
		now := readRoot(t, r)
		for _, old := range past {
			by := []string{"--certificate-identity", alice, "--certificate-oidc-issuer", old.issuer}
			c3.must(args("verify-blob", by, "--bundle", old.b3, old.blob)...)
			c3.must(args("verify-blob", by, "--bundle", old.b2, old.blob)...)
			c2.must(args("verify-blob", "--new-bundle-format", by, "--bundle", old.b2, old.blob)...)
			then := filepath.Join(t.TempDir(), "trusted_root.json")
			if err := os.WriteFile(then, old.root, 0o600); err != nil {
				t.Fatal(err)
			}
			c3.must(args("verify-blob", by, "--trusted-root", then, "--bundle", old.b3, old.blob)...)
			c2.must(args("verify-blob", "--new-bundle-format", by, "--trusted-root", then, "--bundle", old.b2, old.blob)...)
			stale, err := trust.ParseTrustedRoot(old.root)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range []string{old.b2, old.b3} {
				for _, root := range []*trust.Root{now, stale} {
					if why := judged(t, root, b, old.when); why != "" {
						t.Errorf("signed %s, now %s: %s: %s", old.when, when, filepath.Base(b), why)
					}
				}
			}
		}
		return s
	}
	first := one("with the first keys")
	firstRoot := writeFile(t, "root.json", get(t, r.Info.TUF+"/1.root.json"))
	// The URL that the log is at, and what a verifier with the root before is told.
	for i, step := range []struct {
		service string
		refused string // under the root before; "": nothing is
		in2     bool   // also what cosign 2 signed, or only that
		in3     bool
	}{
		{authority.ServiceCA, "the signing certificate of ", true, true},
		{authority.ServiceTSA, "the timestamp of ", false, true},
		{authority.ServiceLog, "the log entry is by a key of the log 127.0.0.1", false, true},
		{authority.ServiceLogV1, "the log entry is by a key of the log 127.0.0.1", true, false},
		{authority.ServiceCT, "the trust root is older than the certificate of ", true, true},
		{authority.ServiceTUF, "", false, false},
		{authority.ServiceOIDC, "", false, false},
		{authority.ServiceLog, "the log entry is by a key of the log 127.0.0.1", false, true},
	} {
		before, err := trust.ParseTrustedRoot(past[len(past)-1].root)
		if err != nil {
			t.Fatal(err)
		}
		r.Stop()
		if _, err := authority.Rotate(authority.RotateConfig{Dir: r.Dir, Service: step.service}); err != nil {
			t.Fatalf("%s: %v", step.service, err)
		}
		r = hmtest.Start(t, authority.Config{Dir: r.Dir})
		s := one("after " + step.service + " " + string(rune('a'+i)))
		for b, changed := range map[string]bool{s.b2: step.in2, s.b3: step.in3} {
			why := judged(t, before, b, s.when)
			switch {
			case !changed && why != "":
				t.Errorf("%s, %s: %s", s.when, filepath.Base(b), why)
			case changed && (!strings.Contains(why, step.refused) || !strings.Contains(why, "trust root is older than the") || !strings.Contains(why, "hallmark trust update")):
				t.Errorf("%s, %s: %q", s.when, filepath.Base(b), why)
			}
		}
	}
	// A client with a TUF root of the first day follows all rotations.
	home := t.TempDir()
	c := &cosign{t, hmtest.Tool(t, "cosign"), []string{"HOME=" + home, "TUF_ROOT=" + filepath.Join(home, "tuf"), "PATH=" + os.Getenv("PATH"), "NO_COLOR=1"}}
	c.must("initialize", "--mirror", r.Info.TUF, "--root", firstRoot)
	for _, s := range []signedOnce{first, past[len(past)-1]} {
		c.must("verify-blob", "--certificate-identity", alice, "--certificate-oidc-issuer", s.issuer, "--bundle", s.b3, s.blob)
	}
	if got, err := authority.Check(r.Dir); err != nil || len(got.Damage) > 0 || got.Entries != int64(len(past)) || got.EntriesV1 != int64(len(past)) {
		t.Errorf("%+v, %v", got, err)
	}
}

// judged is why a bundle is refused under a root, "" when it is not.
func judged(t *testing.T, root *trust.Root, path, content string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	claim, err := bundle.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(verify.Config{Roots: []*trust.Root{root}})
	if err != nil {
		t.Fatal(err)
	}
	artifact, err := verify.HashFile(bytes.NewReader([]byte(content)))
	if err != nil {
		t.Fatal(err)
	}
	ok, why := v.Claim(claim, artifact)
	if ok != nil {
		return ""
	}
	text := ""
	for _, r := range why {
		text += r.Message + " | " + r.Hint + "\n"
	}
	return text
}
