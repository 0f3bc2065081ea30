package authority_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hallmark-dev/hallmark/internal/hmtest/gitrepo"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
)

type (
	object = map[string]any
	list   = []any
)

// keys are made once: by ssh-keygen, gpg and openssl.
var keys = sync.OnceValue(func() map[string]string { return map[string]string{} })

var mu sync.Mutex

func sshKey(t testing.TB, name, kind string, bits int) string {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	if keys()[name] == "" {
		keys()[name] = strings.Join(strings.Fields(gitrepo.NewKey(t, kind, bits).Public)[:2], " ")
	}
	return keys()[name]
}

func ed(t testing.TB, name string) string { t.Helper(); return sshKey(t, name, "ed25519", 0) }

// skKey is the public key of a FIDO key, as ssh-keygen -t ed25519-sk writes it.
func skKey(application string, public ed25519.PublicKey) string {
	blob := ssh.Marshal(struct {
		Type string
		Key  []byte
		App  string
	}{ssh.KeyAlgoSKED25519, public, application})
	return ssh.KeyAlgoSKED25519 + " " + base64.StdEncoding.EncodeToString(blob)
}

func key(public string, uses ...string) object {
	return object{"kind": "ssh", "publicKey": public, "protection": "software", "uses": uses}
}

// team is a document like the design's: three people, three cold keys and a machine.
func team(t testing.TB) object {
	t.Helper()
	people := object{}
	for _, n := range []string{"alice", "bob", "carol"} {
		people[n] = object{"keys": list{key(ed(t, n), "approve", "update")}, "accounts": object{"github.com": fmt.Sprint(583230 + len(n))}}
	}
	for _, n := range []string{"cold-1", "cold-2", "cold-3"} {
		people[n] = object{"keys": list{key(ed(t, n), "recover")}}
	}
	people["release-hsm"] = object{"machine": true, "keys": list{object{"kind": "ssh", "publicKey": sshKey(t, "hsm", "ecdsa", 256), "protection": "hsm", "uses": list{"tag"}}}}
	// alice and carol have the same number of letters: give each its own account.
	people["carol"].(object)["accounts"] = object{"github.com": "99"}
	return object{
		"principals": people,
		"roles": object{
			"update":  object{"threshold": 2, "principals": list{"alice", "bob", "carol"}, "evidence": list{"signed"}},
			"recover": object{"threshold": 2, "principals": list{"cold-1", "cold-2", "cold-3"}, "delay": "72h"},
			"release": object{"principals": list{"release-hsm"}},
		},
		"approval": object{"maxAge": "168h", "carryOver": false},
	}
}

func text(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// at finds "principals.alice.keys.0" in a document.
func at(v any, path string) any {
	for step := range strings.SplitSeq(path, ".") {
		switch w := v.(type) {
		case object:
			v = w[step]
		case list:
			v = w[int(step[0]-'0')]
		}
	}
	return v
}

func set(path, member string, value any) func(object) {
	return func(doc object) {
		in := at(doc, path).(object)
		if value == nil {
			delete(in, member)
			return
		}
		in[member] = value
	}
}

func all(changes ...func(object)) func(object) {
	return func(doc object) {
		for _, c := range changes {
			c(doc)
		}
	}
}

func mustParse(t testing.TB, doc any) *authority.Document {
	t.Helper()
	d, why := authority.Parse(text(t, doc))
	if why != nil {
		t.Fatal(why)
	}
	return d
}

func TestDocument(t *testing.T) {
	t.Parallel()
	d := mustParse(t, team(t))
	if got := strings.Join(d.Names(), " "); got != "alice bob carol cold-1 cold-2 cold-3 release-hsm" {
		t.Error(got)
	}
	update, _ := d.Role("update")
	recovery, _ := d.Role("recover")
	release, _ := d.Role("release")
	if update.Threshold != 2 || !update.Has("bob") || update.Has("cold-1") || !update.Accepts("signed") || update.Accepts("github-environment") ||
		recovery.Delay != 72*time.Hour || release.Threshold != 0 || release.Evidence != nil {
		t.Errorf("%+v %+v %+v", update, recovery, release)
	}
	if _, ok := d.Role("nobody"); ok {
		t.Error("a role that there is not")
	}
	if d.Approval.MaxAge != 168*time.Hour || d.Approval.CarryOver || d.Approval.SingleUse || d.WeakeningDelay != time.Hour {
		t.Errorf("%+v", d.Approval)
	}
	alice, _, _, _, err := ssh.ParseAuthorizedKey([]byte(ed(t, "alice")))
	if err != nil {
		t.Fatal(err)
	}
	h, ok := d.BySSH(alice)
	if !ok || h.Principal.Name != "alice" || h.Key.ID() != ssh.FingerprintSHA256(alice) || !h.Key.May("approve") || h.Key.May("tag") {
		t.Errorf("%+v", h)
	}
	if h, ok := d.ByFingerprint(ssh.FingerprintSHA256(alice)); !ok || h.Principal.Name != "alice" {
		t.Error("by fingerprint")
	}
	spki, err := x509.MarshalPKIXPublicKey(alice.(ssh.CryptoPublicKey).CryptoPublicKey())
	if err != nil {
		t.Fatal(err)
	}
	if h, ok := d.BySPKI(spki); !ok || h.Principal.Name != "alice" {
		t.Error("by SPKI")
	}
	if p, ok := d.ByAccount("github.com", "99"); !ok || p.Name != "carol" {
		t.Error("by account")
	}
	for _, id := range []string{"", "100"} {
		if _, ok := d.ByAccount("github.com", id); ok {
			t.Errorf("account %q", id)
		}
	}
	stranger, _, _, _, _ := ssh.ParseAuthorizedKey([]byte(ed(t, "stranger")))
	if _, ok := d.BySSH(stranger); ok {
		t.Error("a stranger's key")
	}
	if got := d.RolesOf("release-hsm"); !slices.Equal(got, []string{"release"}) {
		t.Error(got)
	}
	if n, r := len(d.Keys("approve")), d.RoleKeys("release", "tag"); n != 3 || len(r) != 1 || r[0].Key.Protection != "hsm" || d.RoleKeys("nobody", "tag") != nil {
		t.Error(n, r)
	}
}

// TestDigest: the digest is of what the document says, not of how it is written.
func TestDigest(t *testing.T) {
	t.Parallel()
	doc := team(t)
	indented, err := json.MarshalIndent(doc, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	a, why := authority.Parse(indented)
	if why != nil {
		t.Fatal(why)
	}
	b := mustParse(t, doc)
	set("roles.update", "threshold", 3)(doc)
	c := mustParse(t, doc)
	if a.Digest() != b.Digest() || b.Digest() == c.Digest() || !bytes.Equal(a.Canonical(), b.Canonical()) {
		t.Error(a.Digest(), b.Digest(), c.Digest())
	}
	again, why := authority.Parse(a.Canonical())
	if why != nil || again.Digest() != a.Digest() {
		t.Error(why)
	}
}

// TestRefused has each rule's near-misses, with the place that is named.
func TestRefused(t *testing.T) {
	t.Parallel()
	weak := sshKey(t, "weak", "rsa", 2048)
	alice := ed(t, "alice")
	_, body, _ := strings.Cut(alice, " ")
	for name, c := range map[string]struct {
		change      func(object)
		code, place string
	}{
		"threshold 0":                {set("roles.update", "threshold", 0), "AUTHORITY_THRESHOLD", "roles.update.threshold"},
		"threshold -1":               {set("roles.update", "threshold", -1), "AUTHORITY_THRESHOLD", "roles.update.threshold"},
		"threshold above people":     {set("roles.update", "threshold", 4), "AUTHORITY_THRESHOLD", "roles.update.threshold"},
		"no threshold":               {set("roles.update", "threshold", nil), "AUTHORITY_THRESHOLD", "roles.update"},
		"threshold of recover":       {set("roles.recover", "threshold", 4), "AUTHORITY_THRESHOLD", "roles.recover.threshold"},
		"met only with a machine":    {set("roles.update", "principals", list{"alice", "release-hsm"}), "AUTHORITY_THRESHOLD", "roles.update.threshold"},
		"met only with other uses":   {set("roles.update", "principals", list{"alice", "cold-1"}), "AUTHORITY_THRESHOLD", "roles.update.threshold"},
		"one person twice":           {set("roles.update", "principals", list{"alice", "alice"}), "AUTHORITY_MALFORMED", "roles.update.principals"},
		"an unknown person":          {set("roles.update", "principals", list{"alice", "bob", "eve"}), "AUTHORITY_MALFORMED", "roles.update.principals"},
		"nobody":                     {set("roles.release", "principals", list{}), "AUTHORITY_MALFORMED", "roles.release.principals"},
		"no role update":             {set("roles", "update", nil), "AUTHORITY_ROLE", "roles"},
		"delay of update":            {set("roles.update", "delay", "1h"), "AUTHORITY_ROLE", "roles.update.delay"},
		"delay of a list":            {set("roles.release", "delay", "1h"), "AUTHORITY_ROLE", "roles.release"},
		"evidence of a list":         {set("roles.release", "evidence", list{"signed"}), "AUTHORITY_ROLE", "roles.release"},
		"unknown evidence":           {set("roles.update", "evidence", list{"signed", "e-mail"}), "AUTHORITY_MALFORMED", "roles.update.evidence"},
		"evidence twice":             {set("roles.update", "evidence", list{"signed", "signed"}), "AUTHORITY_MALFORMED", "roles.update.evidence"},
		"no evidence":                {set("roles.update", "evidence", list{}), "AUTHORITY_MALFORMED", "roles.update.evidence"},
		"too few accounts":           {all(set("roles.recover", "evidence", list{"github-environment"})), "AUTHORITY_THRESHOLD", "roles.recover.threshold"},
		"a role's name":              {set("roles", "Update", object{"principals": list{"bob"}}), "AUTHORITY_MALFORMED", "roles.Update"},
		"a machine that approves":    {set("principals.release-hsm.keys.0", "uses", list{"tag", "approve"}), "AUTHORITY_MACHINE", "principals.release-hsm.keys[0].uses"},
		"a person turned machine":    {set("principals.alice", "machine", true), "AUTHORITY_MACHINE", "principals.alice.keys[0].uses"},
		"unknown use":                {set("principals.alice.keys.0", "uses", list{"approve", "Update"}), "AUTHORITY_USE", "principals.alice.keys[0].uses"},
		"a use twice":                {set("principals.alice.keys.0", "uses", list{"approve", "approve"}), "AUTHORITY_USE", "principals.alice.keys[0].uses"},
		"no use":                     {set("principals.alice.keys.0", "uses", list{}), "AUTHORITY_USE", "principals.alice.keys[0].uses"},
		"uses missing":               {set("principals.alice.keys.0", "uses", nil), "AUTHORITY_MALFORMED", "principals.alice.keys[0].uses"},
		"a shared key":               {set("principals.carol.keys.0", "publicKey", alice), "AUTHORITY_SHARED_KEY", "principals.carol.keys[0]"},
		"a key twice":                {set("principals.alice", "keys", list{key(alice, "approve"), key(alice, "update")}), "AUTHORITY_SHARED_KEY", "principals.alice.keys[1]"},
		"a shared account":           {set("principals.bob", "accounts", object{"github.com": "99"}), "AUTHORITY_SHARED_KEY", "principals.carol.accounts.github.com"},
		"RSA 2048":                   {set("principals.alice.keys.0", "publicKey", weak), "KEY_TOO_WEAK", "principals.alice.keys[0].publicKey"},
		"a kind":                     {set("principals.alice.keys.0", "kind", "pkcs11"), "KEY_KIND", "principals.alice.keys[0].kind"},
		"a protection":               {set("principals.alice.keys.0", "protection", "strong"), "AUTHORITY_MALFORMED", "principals.alice.keys[0].protection"},
		"keyless SSH":                {set("principals.alice.keys.0", "protection", "keyless"), "AUTHORITY_MALFORMED", "principals.alice.keys[0].protection"},
		"FIDO without security key":  {set("principals.alice.keys.0", "protection", "fido"), "AUTHORITY_MALFORMED", "principals.alice.keys[0].protection"},
		"UV without security key":    {set("principals.alice.keys.0", "requireUV", true), "AUTHORITY_MALFORMED", "principals.alice.keys[0].requireUV"},
		"a comment":                  {set("principals.alice.keys.0", "publicKey", alice+" alice@laptop"), "AUTHORITY_MALFORMED", "principals.alice.keys[0].publicKey"},
		"a newline":                  {set("principals.alice.keys.0", "publicKey", alice+"\n"), "AUTHORITY_MALFORMED", "principals.alice.keys[0].publicKey"},
		"another type":               {set("principals.alice.keys.0", "publicKey", "ssh-rsa "+body), "AUTHORITY_MALFORMED", "principals.alice.keys[0].publicKey"},
		"bytes behind":               {set("principals.alice.keys.0", "publicKey", alice+"AAAA"), "AUTHORITY_MALFORMED", "principals.alice.keys[0].publicKey"},
		"no key":                     {set("principals.alice.keys.0", "publicKey", nil), "AUTHORITY_MALFORMED", "principals.alice.keys[0]"},
		"an issuer of an SSH key":    {set("principals.alice.keys.0", "issuer", "https://i"), "AUTHORITY_MALFORMED", "principals.alice.keys[0]"},
		"neither key nor account":    {set("principals", "dave", object{"keys": list{}}), "AUTHORITY_MALFORMED", "principals.dave.keys"},
		"nine keys":                  {set("principals.bob", "keys", slices.Repeat(list{key(alice, "approve")}, 9)), "AUTHORITY_MALFORMED", "principals.bob.keys"},
		"a name in capitals":         {set("principals", "Dave", object{"keys": list{}}), "AUTHORITY_MALFORMED", "principals.Dave"},
		"a login for an account":     {set("principals.bob", "accounts", object{"github.com": "bob"}), "AUTHORITY_MALFORMED", "principals.bob.accounts.github.com"},
		"a leading zero":             {set("principals.bob", "accounts", object{"github.com": "012"}), "AUTHORITY_MALFORMED", "principals.bob.accounts.github.com"},
		"a number for an account":    {set("principals.bob", "accounts", object{"github.com": 12}), "AUTHORITY_MALFORMED", "principals.bob.accounts.github.com"},
		"a host":                     {set("principals.bob", "accounts", object{"GitHub.com": "12"}), "AUTHORITY_MALFORMED", "principals.bob.accounts"},
		"maxAge above 720h":          {set("approval", "maxAge", "721h"), "AUTHORITY_MALFORMED", "approval.maxAge"},
		"maxAge 0":                   {set("approval", "maxAge", "0s"), "AUTHORITY_MALFORMED", "approval.maxAge"},
		"maxAge in days":             {set("approval", "maxAge", "7d"), "AUTHORITY_MALFORMED", "approval.maxAge"},
		"a negative delay":           {set("roles.recover", "delay", "-1h"), "AUTHORITY_MALFORMED", "roles.recover.delay"},
		"unknown member":             {set("principals.bob", "admin", true), "AUTHORITY_MALFORMED", "principals.bob.admin"},
		"unknown rule":               {set("approval", "maxage", "1h"), "AUTHORITY_MALFORMED", "approval.maxage"},
		"never valid":                {all(set("principals.bob.keys.0", "notBefore", "2027-01-01T00:00:00Z"), set("principals.bob.keys.0", "notAfter", "2027-01-01T00:00:00Z")), "AUTHORITY_MALFORMED", "principals.bob.keys[0].notAfter"},
		"no time":                    {set("principals.bob.keys.0", "notAfter", "2027-01-01"), "AUTHORITY_MALFORMED", "principals.bob.keys[0].notAfter"},
		"attested by nobody":         {set("principals.bob.keys.0", "attested", true), "AUTHORITY_MALFORMED", "principals.bob.keys[0].attestationRoot"},
		"a root without attestation": {set("principals.bob.keys.0", "attestationRoot", "sha256:"+strings.Repeat("a", 64)), "AUTHORITY_MALFORMED", "principals.bob.keys[0].attestationRoot"},
	} {
		doc := team(t)
		c.change(doc)
		d, why := authority.Parse(text(t, doc))
		if d != nil || !slices.ContainsFunc(why, func(r policy.Reason) bool { return r.Code == c.code && r.Subject == c.place && r.Message != "" }) {
			t.Errorf("%s: %+v, want %s at %s", name, why, c.code, c.place)
		}
	}
}

// TestTexts: what JSON readers forgive.
func TestTexts(t *testing.T) {
	t.Parallel()
	good := string(text(t, team(t)))
	if _, why := authority.Parse([]byte(" " + good + "\n")); why != nil {
		t.Error(why)
	}
	for name, bad := range map[string]string{
		"nothing": "", "null": "null", "a list": "[]", "bytes behind": good + "x", "twice": good + good,
		"a member twice":     strings.Replace(good, `"carryOver":false`, `"carryOver":false,"carryOver":true`, 1),
		"a principal twice":  strings.Replace(good, `"bob":`, `"alice":`, 1),
		"another case":       strings.Replace(good, `"principals":`, `"Principals":`, 1),
		"null for a role":    strings.Replace(good, `"release":{"principals":["release-hsm"]}`, `"release":null`, 1),
		"null for evidence":  strings.Replace(good, `"evidence":["signed"]`, `"evidence":null`, 1),
		"a float threshold":  strings.Replace(good, `"threshold":2`, `"threshold":2.0`, 1),
		"a string threshold": strings.Replace(good, `"threshold":2`, `"threshold":"2"`, 1),
		"UTF-16":             "\xff\xfe{\x00}\x00",
		"a byte order mark":  "\xef\xbb\xbf" + good,
		"too large":          good + strings.Repeat(" ", authority.MaxSize),
	} {
		if d, why := authority.Parse([]byte(bad)); d != nil || len(why) == 0 || why[0].Code != "AUTHORITY_MALFORMED" {
			t.Errorf("%s: %+v", name, why)
		}
	}
}

// TestPeopleWithAccounts: a role whose evidence is of accounts counts people who have one.
func TestPeopleWithAccounts(t *testing.T) {
	t.Parallel()
	doc := team(t)
	set("roles.update", "evidence", list{"github-environment"})(doc)
	for _, n := range []string{"alice", "bob", "carol"} {
		set("principals."+n, "keys", list{})(doc)
	}
	if w := mustParse(t, doc).Warnings(); len(w) != 1 || w[0].Code != "AUTHORITY_WEAK_EVIDENCE" || w[0].Subject != "roles.update.evidence" {
		t.Error(w)
	}
	if w := mustParse(t, team(t)).Warnings(); len(w) != 0 {
		t.Error(w)
	}
	if d := mustParse(t, doc); !d.Roles["update"].Accepts("github-environment") || d.Roles["update"].Accepts("signed") {
		t.Errorf("%+v", d.Roles["update"])
	}
	set("principals.bob", "accounts", object{"gitlab.com": "7"})(doc)
	set("principals.carol", "accounts", object{"gitlab.com": "8"})(doc)
	if _, why := authority.Parse(text(t, doc)); len(why) != 1 || why[0].Code != "AUTHORITY_THRESHOLD" {
		t.Error(why)
	}
}

func TestSecurityKeys(t *testing.T) {
	t.Parallel()
	public, _, _ := ed25519.GenerateKey(rand.Reader)
	doc := team(t)
	set("principals.alice", "keys", list{object{"kind": "ssh", "publicKey": skKey("ssh:", public), "protection": "software", "requireUV": true, "uses": list{"approve", "update"},
		"attested": true, "attestationRoot": "sha256:" + strings.Repeat("a", 64), "notBefore": "2026-01-01T00:00:00Z", "notAfter": "2027-01-01T01:00:00+01:00"}})(doc)
	k := mustParse(t, doc).Principals["alice"].Keys[0]
	if k.Protection != "fido" || !k.RequireUV || !k.Attested {
		t.Errorf("%+v", k)
	}
	for when, valid := range map[string]bool{"2025-12-31T23:59:59Z": false, "2026-01-01T00:00:00Z": true, "2026-12-31T23:59:59Z": true, "2027-01-01T00:00:00Z": false} {
		if at, _ := time.Parse(time.RFC3339, when); k.ValidAt(at) != valid {
			t.Errorf("valid at %s: %t", when, !valid)
		}
	}
	point, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ssh.NewPublicKey(point.Public())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := point.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	blob := ssh.Marshal(struct {
		Type, Curve string
		Point       []byte
		Application string
	}{ssh.KeyAlgoSKECDSA256, "nistp256", raw, "ssh:"})
	set("principals.bob", "keys", list{key(ssh.KeyAlgoSKECDSA256+" "+base64.StdEncoding.EncodeToString(blob), "approve", "update")})(doc)
	if k := mustParse(t, doc).Principals["bob"].Keys[0]; k.Protection != "fido" {
		t.Errorf("%+v", k)
	}
	set("principals.carol", "keys", list{key(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(ec))), "approve", "update")})(doc)
	if _, why := authority.Parse(text(t, doc)); len(why) == 0 || why[0].Code != "AUTHORITY_SHARED_KEY" {
		t.Errorf("a FIDO key and its ECDSA key: %v", why)
	}
	set("principals.carol", "keys", list{key(ed(t, "carol"), "approve", "update")})(doc)
	// The same key for another application, or as a plain key, is the same key.
	plain, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{skKey("ssh:evil", public), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(plain)))} {
		set("principals.bob", "keys", list{key(other, "approve", "update")})(doc)
		if _, why := authority.Parse(text(t, doc)); len(why) == 0 || why[0].Code != "AUTHORITY_SHARED_KEY" {
			t.Errorf("%s: %v", other, why)
		}
	}
}

// certificate is a self-signed certificate of a key, in PEM.
func certificate(t testing.TB, name string, public, private any) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// gpgKey makes an OpenPGP certificate with gpg; algorithm as for --quick-generate-key.
func gpgKey(t testing.TB, algorithm, usage string) string {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg") // its agent's socket has a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "gpg-agent").Run()
		_ = os.RemoveAll(home)
	})
	for _, args := range [][]string{
		{"--batch", "--passphrase", "", "--quick-generate-key", "Alice <alice@example.org>", algorithm, usage},
		{"--armor", "--export"},
	} {
		cmd := exec.Command("gpg", append([]string{"--homedir", home}, args...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("gpg %v: %v\n%s", args, err, &stderr)
		}
		if args[0] == "--armor" {
			return string(out)
		}
	}
	return ""
}

func TestOpenPGPKeys(t *testing.T) {
	t.Parallel()
	doc := team(t)
	pgp := func(public string) object {
		return object{"kind": "openpgp", "publicKey": public, "protection": "hsm", "uses": list{"approve", "update", "tag"}}
	}
	public := gpgKey(t, "ed25519", "default")
	set("principals.alice", "keys", list{pgp(public)})(doc)
	d := mustParse(t, doc)
	k := d.Principals["alice"].Keys[0]
	if len(k.ID()) != 40 || k.OpenPGP() == nil || k.SSH() != nil || k.Certificate() != nil {
		t.Errorf("%+v", k)
	}
	for _, fp := range k.OpenPGP().Fingerprints() {
		if h, ok := d.ByOpenPGP(fp); !ok || h.Key != k {
			t.Errorf("%s is not found", fp)
		}
	}
	if _, ok := d.ByOpenPGP(strings.Repeat("0", 40)); ok {
		t.Error("an unknown fingerprint is found")
	}
	for name, c := range map[string]struct{ public, code string }{
		"two certificates": {public + gpgKey(t, "ed25519", "sign"), "AUTHORITY_MALFORMED"},
		"text before":      {"x\n" + public, "AUTHORITY_MALFORMED"},
		"names":            {"# principals: bob\n" + public, "AUTHORITY_MALFORMED"},
		"cut":              {public[:len(public)/2], "AUTHORITY_MALFORMED"},
		"RSA 2048":         {gpgKey(t, "rsa2048", "sign"), "KEY_TOO_WEAK"},
		"certifies only":   {gpgKey(t, "ed25519", "cert"), "KEY_KIND"},
	} {
		set("principals.alice", "keys", list{pgp(c.public)})(doc)
		if _, why := authority.Parse(text(t, doc)); len(why) == 0 || why[0].Code != c.code {
			t.Errorf("%s: %+v", name, why)
		}
	}
	// Bob's SSH key is alice's OpenPGP key.
	set("principals.alice", "keys", list{pgp(public)})(doc)
	spki := k.OpenPGP().Material()[0]
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	same, err := ssh.NewPublicKey(parsed)
	if err != nil {
		t.Fatal(err)
	}
	set("principals.bob", "keys", list{key(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(same))), "approve", "update")})(doc)
	if _, why := authority.Parse(text(t, doc)); len(why) == 0 || why[0].Code != "AUTHORITY_SHARED_KEY" {
		t.Errorf("an OpenPGP key as an SSH key: %+v", why)
	}
}

func TestX509AndKeyless(t *testing.T) {
	t.Parallel()
	doc := team(t)
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	cert := func(pem string) object {
		return object{"kind": "x509", "publicKey": pem, "protection": "hsm", "uses": list{"approve", "update"}}
	}
	identity := func(issuer, subject string) object {
		return object{"kind": "sigstore", "issuer": issuer, "subject": subject, "protection": "keyless", "uses": list{"approve", "update"}}
	}
	first := certificate(t, "alice", public, private)
	set("principals.alice", "keys", list{cert(first)})(doc)
	set("principals.bob", "keys", list{identity("https://issuer.example", "bob@example.org")})(doc)
	d := mustParse(t, doc)
	if h, ok := d.ByIdentity("https://issuer.example", "bob@example.org"); !ok || h.Principal.Name != "bob" || h.Key.ID() != "https://issuer.example bob@example.org" {
		t.Errorf("%+v", h)
	}
	if _, ok := d.ByIdentity("https://issuer.example", "Bob@example.org"); ok {
		t.Error("an identity in another case")
	}
	k := d.Principals["alice"].Keys[0]
	if h, ok := d.BySPKI(k.Certificate().RawSubjectPublicKeyInfo); !ok || h.Principal.Name != "alice" || !strings.HasPrefix(k.ID(), "sha256:") {
		t.Errorf("%+v", h)
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	modulus := new(big.Int).SetBit(new(big.Int).Lsh(big.NewInt(1), 8199), 0, 1) // of nobody's key, but a long one
	largeRSA := certificate(t, "carol", &rsa.PublicKey{N: modulus, E: 65537}, private)
	for name, c := range map[string]struct {
		key  object
		code string
	}{
		"another certificate of the key": {cert(certificate(t, "carol", public, private)), "AUTHORITY_SHARED_KEY"},
		"the key as an SSH key":          {key(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(plain))), "approve", "update"), "AUTHORITY_SHARED_KEY"},
		"another's identity":             {identity("https://issuer.example", "bob@example.org"), "AUTHORITY_SHARED_KEY"},
		"RSA 2048":                       {cert(certificate(t, "carol", small.Public(), small)), "KEY_TOO_WEAK"},
		"RSA 8200":                       {cert(largeRSA), "KEY_KIND"},
		"two certificates":               {cert(first + first), "AUTHORITY_MALFORMED"},
		"text before":                    {cert("x\n" + first), "AUTHORITY_MALFORMED"},
		"a key":                          {cert(strings.ReplaceAll(first, "CERTIFICATE", "PUBLIC KEY")), "AUTHORITY_MALFORMED"},
		"http":                           {identity("http://issuer.example", "c"), "AUTHORITY_MALFORMED"},
		"no host":                        {identity("https:///x", "c"), "AUTHORITY_MALFORMED"},
		"no subject":                     {identity("https://issuer.example", ""), "AUTHORITY_MALFORMED"},
		"a blank":                        {identity("https://issuer.example", "c d"), "AUTHORITY_MALFORMED"},
		"a keyless key":                  {object{"kind": "sigstore", "publicKey": "x", "protection": "keyless", "uses": list{"approve"}}, "AUTHORITY_MALFORMED"},
		"keyless in software":            {object{"kind": "sigstore", "issuer": "https://i.example", "subject": "c", "protection": "software", "uses": list{"approve"}}, "AUTHORITY_MALFORMED"},
	} {
		set("principals.carol", "keys", list{c.key})(doc)
		if _, why := authority.Parse(text(t, doc)); len(why) == 0 || why[0].Code != c.code {
			t.Errorf("%s: %+v", name, why)
		}
	}
}

// TestCertificateAuthority: an SSH certificate is no key.
func TestCertificateAuthority(t *testing.T) {
	t.Parallel()
	ca, user := gitrepo.NewKey(t, "ed25519", 0), gitrepo.NewKey(t, "ed25519", 0)
	if out, err := exec.Command("ssh-keygen", "-q", "-s", ca.Path, "-I", "alice", "-n", "alice", user.Path+".pub").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cert, err := os.ReadFile(filepath.Join(filepath.Dir(user.Path), "key-cert.pub"))
	if err != nil {
		t.Fatal(err)
	}
	doc := team(t)
	set("principals.alice.keys.0", "publicKey", strings.Join(strings.Fields(string(cert))[:2], " "))(doc)
	if _, why := authority.Parse(text(t, doc)); len(why) == 0 || why[0].Code != "KEY_KIND" {
		t.Errorf("%+v", why)
	}
}

// TestLimits: the largest document of the format is read.
func TestLimits(t *testing.T) {
	t.Parallel()
	people, names := object{}, list{}
	for i := range authority.MaxPrincipals {
		var keyList list
		for range authority.MaxKeys {
			public, _, _ := ed25519.GenerateKey(rand.Reader)
			k, err := ssh.NewPublicKey(public)
			if err != nil {
				t.Fatal(err)
			}
			keyList = append(keyList, key(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))), "update"))
			if i > 16 { // 64 principals with 8 keys each have more bytes than are read
				break
			}
		}
		name := fmt.Sprintf("p%d", i)
		people[name], names = object{"keys": keyList}, append(names, name)
	}
	doc := object{"principals": people, "roles": object{"update": object{"threshold": authority.MaxPrincipals, "principals": names}}}
	d := mustParse(t, doc)
	if len(d.Principals) != authority.MaxPrincipals || len(d.Principals["p3"].Keys) != authority.MaxKeys {
		t.Error("not all were read")
	}
	people["one-more"] = object{"keys": list{key(ed(t, "alice"), "update")}}
	if _, why := authority.Parse(text(t, doc)); len(why) == 0 || why[0].Subject != "principals" {
		t.Error(why)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(text(f, team(f)))
	f.Add([]byte(`{"principals":{"a":{"keys":[{"kind":"sigstore","issuer":"https://i","subject":"s","protection":"keyless","uses":["update"]}]}},"roles":{"update":{"threshold":1,"principals":["a"]}}}`))
	f.Add([]byte(`{"principals":{},"roles":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, why := authority.Parse(data)
		if (d == nil) != (len(why) > 0) {
			t.Fatalf("%v %v", d, why)
		}
		if d == nil {
			return
		}
		again, why := authority.Parse(d.Canonical())
		if why != nil || again.Digest() != d.Digest() {
			t.Fatalf("the canonical form is read otherwise: %v", why)
		}
		for name, r := range d.Roles {
			people := 0
			for _, p := range r.Principals {
				if !d.Principals[p].Machine {
					people++
				}
			}
			if r.Threshold > people || r.Threshold < 0 {
				t.Fatalf("role %s wants %d of %d", name, r.Threshold, people)
			}
		}
	})
}

// TestManual: the document in the manual is one.
func TestManual(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../../../docs/signing-policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(manual), "## authority.json")
	_, rest, _ = strings.Cut(rest, "```json\n")
	example, _, _ := strings.Cut(rest, "```")
	d, why := authority.Parse([]byte(example))
	if why != nil || d.Principals["alice"].Keys[0].Protection != "fido" {
		t.Error(why)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	type word struct {
		is        func(string) bool
		good, bad []string
	}
	long := strings.Repeat("a", 64)
	for name, w := range map[string]word{
		"name":   {authority.IsName, []string{"a", "0", "a.b_c-d", long}, []string{"", "A", ".a", "-a", "_a", "a b", "ä", "a\n", long + "a", "a/b"}},
		"number": {authority.IsNumber, []string{"1", "10", "18446744073709551615"}, []string{"", "0", "01", "-1", "1.0", "1 ", "184467440737095516150", "٣"}},
		"host":   {authority.IsHost, []string{"github.com", "a", "0.example"}, []string{"", "GitHub.com", "-a", ".a", "a:1", "a/b", strings.Repeat("a", 254)}},
		"digest": {authority.IsDigest, []string{"sha256:" + strings.Repeat("0", 64)}, []string{"", long, "sha256:", "sha256:" + strings.Repeat("0", 63), "sha256:" + strings.Repeat("0", 65), "sha256:" + strings.Repeat("A", 64), "sha512:" + long}},
		"repository": {authority.IsRepositoryKey, []string{"github.com/id/1", "github.com/owner/42", "local", "local/id/local"},
			[]string{"", "github.com", "github.com/id/", "github.com/id/01", "github.com/id/1/", "github.com/name/org/app", "/id/1", "github.com/ID/1", "local/id/1x", "github.com/id/1\n"}},
	} {
		for _, s := range w.good {
			if !w.is(s) {
				t.Errorf("%q is no %s", s, name)
			}
		}
		for _, s := range w.bad {
			if w.is(s) {
				t.Errorf("%q is a %s", s, name)
			}
		}
	}
}

func BenchmarkParse(b *testing.B) {
	data := text(b, team(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, why := authority.Parse(data); why != nil {
			b.Fatal(why)
		}
	}
}
