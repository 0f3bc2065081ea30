package bundlefile_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/trust/bundlefile"
)

var day = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

// authority is a CA certificate with a revocation list of its own.
func authority(name string, thisUpdate time.Time) (cert, crl []byte) {
	k := newKey()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: day.AddDate(-1, 0, 0), NotAfter: day.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign}
	cert = must(x509.CreateCertificate(rand.Reader, template, template, k.Public(), k))
	crl = must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: thisUpdate, NextUpdate: thisUpdate.AddDate(0, 0, 7)}, must(x509.ParseCertificate(cert)), k))
	return cert, crl
}

func witness(name string) string {
	data := append([]byte{4}, must2(ed25519.GenerateKey(rand.Reader))...)
	sum := sha256.Sum256(append([]byte(name+"\n"), data...))
	return name + "+" + hex.EncodeToString(sum[:4]) + "+" + base64.StdEncoding.EncodeToString(data)
}

func must2(public ed25519.PublicKey, _ ed25519.PrivateKey, err error) ed25519.PublicKey {
	return must(public, err)
}

// full is a bundle with one of everything.
func full() *bundlefile.File {
	f := must(bundlefile.Embedded())
	until := day.AddDate(1, 0, 0)
	check(f.AddKey("release", newKey().Public(), &day, &until))
	cert, crl := authority("ca", day)
	check(f.AddCertificate("ca", "acme", cert))
	check(f.SetTrustPolicy([]byte(`{"version":"1.0","trustPolicies":[{"name":"acme","registryScopes":["*"],"signatureVerification":{"level":"strict"},"trustStores":["ca:acme"],"trustedIdentities":["*"]}]}`)))
	check(f.AddCRL("https://ca.example/crl", crl, day))
	f.RevokeDigest(trust.RevokedDigest{Digest: evidence.Digest("sha256:" + strings.Repeat("0", 64)), Since: day, Reason: "malware <script>"})
	f.RevokeIdentity(trust.RevokedIdentity{Identity: "mallory@example.com", Issuer: "https://issuer.example", Since: day, Reason: "left"})
	f.RevokeKey(trust.RevokedKey{Key: key.Fingerprint(newKey().Public()), Since: day, Reason: "stolen"})
	f.Witnesses, f.Quorum = []string{witness("w1.example"), witness("w2.example")}, 2
	f.Pins = []bundlefile.Pin{{Repository: "ghcr.io/acme/app", Identity: "alice@example.com", Issuer: "https://issuer.example", Log: "log.example", PinnedAt: day}}
	return f
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// What is written can be read, byte for byte the same again, and its generation
// does not depend on how the file is indented.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	f := full()
	data := must(f.Encode())
	read, err := bundlefile.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if again := must(read.Encode()); !bytes.Equal(again, data) {
		t.Error("written again it is another")
	}
	var compact bytes.Buffer
	check(json.Compact(&compact, data))
	flat, err := bundlefile.Parse(compact.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if must(flat.Generation()) != must(f.Generation()) {
		t.Error("indentation is another generation")
	}
	flat.RevokeKey(trust.RevokedKey{Key: key.Fingerprint(newKey().Public()), Since: day, Reason: "stolen"})
	if must(flat.Generation()) == must(f.Generation()) {
		t.Error("another bundle is the same generation")
	}
	if roots := read.SigstoreRoots(); len(roots) != 1 || roots[0].Generation != flat.SigstoreRoots()[0].Generation || len(roots[0].CAs) != 2 {
		t.Errorf("%d roots", len(roots))
	}
	if ks := read.PublicKeys(); len(ks) != 1 || ks[0].Name != "release" || !ks[0].ValidFor.Start.Equal(day) || ks[0].Fingerprint != key.Fingerprint(ks[0].Public) {
		t.Errorf("%+v", ks)
	}
	if r := read.Revocations(); len(r.Digests) != 1 || len(r.Identities) != 1 || len(r.Keys) != 1 {
		t.Errorf("%+v", r)
	}
}

// One wrong entry refuses all of the file, with its path.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := string(must(full().Encode()))
	for want, change := range map[string]func(string) string{
		"mediaType":                   func(s string) string { return strings.Replace(s, "trust.v1", "trust.v2", 1) },
		"mediaType: missing member":   func(string) string { return "{}" },
		"revocations: unknown member": func(s string) string { return strings.Replace(s, `"revoked"`, `"revocations"`, 1) },
		"Keys: unknown member":        func(s string) string { return strings.Replace(s, `"keys"`, `"Keys"`, 1) },
		"something follows":           func(s string) string { return s + "{}" },
		"no Sigstore|mediaType":       func(s string) string { return strings.Replace(s, "trustedroot+json", "other+json", 1) },
		"exactly one of file":         func(s string) string { return strings.Replace(s, `"embedded": true`, `"embedded": false`, 1) },
		"a mirror, and nothing else": func(s string) string {
			return strings.Replace(s, `"embedded": true`, `"mirror": "https://m.example"`, 1)
		},
		"rootSha256 is not": func(s string) string {
			return strings.Replace(s, `"embedded": true`, `"mirror": "https://m.example", "tufRoot": "e30=", "rootSha256": "00"`, 1)
		},
		"the name \"public\" is taken": func(s string) string { return strings.Replace(s, `"name": "release"`, `"name": "public"`, 1) },
		"a name has":                   func(s string) string { return strings.Replace(s, `"name": "release"`, `"name": "../x"`, 1) },
		"publicKey":                    func(s string) string { return strings.Replace(s, `"publicKey": "MF`, `"publicKey": "MG`, 1) },
		"until: before":                func(s string) string { return strings.Replace(s, `"until": "2027`, `"until": "2017`, 1) },
		"level":                        func(s string) string { return strings.Replace(s, `"strict"`, `"lax"`, 1) },
		"store type":                   func(s string) string { return strings.Replace(s, `"type": "ca"`, `"type": "CA"`, 1) },
		"not a CRL in DER":             func(s string) string { return strings.Replace(s, `"crl": "MI`, `"crl": "MJ`, 1) },
		"revoked.keys[0]":              func(s string) string { return strings.Replace(s, `"key": "sha256:`, `"key": "sha512:`, 1) },
		"revoked.digests[0]":           func(s string) string { return strings.Replace(s, `"sha256:000`, `"sha256:zzz`, 1) },
		"a time and a reason":          func(s string) string { return strings.Replace(s, `"stolen"`, `" "`, 1) },
		"not printed":                  func(s string) string { return strings.Replace(s, `"stolen"`, `"\u001b[2J"`, 1) },
		"an identity is a subject":     func(s string) string { return strings.Replace(s, `"mallory@example.com"`, `""`, 1) },
		"without a tag":                func(s string) string { return strings.Replace(s, "ghcr.io/acme/app", "ghcr.io/acme/app:v1", 1) },
		"HOST/REPOSITORY":              func(s string) string { return strings.Replace(s, "ghcr.io/acme/app", "app", 1) },
		"neither one identity":         func(s string) string { return strings.Replace(s, `"identity": "alice@example.com",`, ``, 1) },
		"witnessQuorum":                func(s string) string { return strings.Replace(s, `"witnessQuorum": 2`, `"witnessQuorum": 3`, 1) },
		"is not the hash":              func(s string) string { return strings.Replace(s, "w1.example+", "w3.example+", 1) },
		"is there twice: a quorum":     func(s string) string { return twice(s, "witnesses") },
		"want true or false":           func(s string) string { return strings.Replace(s, `"embedded": true`, `"embedded": 1`, 1) },
		"pinned twice":                 func(s string) string { return twice(s, "pins") },
		"is taken by sigstoreRoots[0]": func(s string) string { return twice(s, "sigstoreRoots") },
		"is taken by keys[0]":          func(s string) string { return twice(s, "keys") },
	} {
		text := change(good)
		if text == good {
			t.Errorf("%s: the text was not changed", want)
		}
		_, err := bundlefile.Parse([]byte(text))
		ok := false
		for _, w := range strings.Split(want, "|") {
			ok = ok || err != nil && strings.Contains(err.Error(), w)
		}
		if !ok {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if _, err := bundlefile.Parse(bytes.Repeat([]byte(" "), bundlefile.MaxSize+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Error(err)
	}
}

// twice repeats the first element of a list.
func twice(s, list string) string {
	var doc map[string]json.RawMessage
	check(json.Unmarshal([]byte(s), &doc))
	var elements []json.RawMessage
	check(json.Unmarshal(doc[list], &elements))
	doc[list] = must(json.Marshal(append(elements, elements[0])))
	return string(must(json.Marshal(doc)))
}

// A truncated file is refused at every length.
func TestTruncated(t *testing.T) {
	t.Parallel()
	data := must(full().Encode())
	for n := 0; n < len(data)-1; n += 101 {
		if _, err := bundlefile.Parse(data[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were accepted", n, len(data))
		}
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "deep", "trust.json")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := bundlefile.Update(path, func(f *bundlefile.File) error { return f.AddKey(fmt.Sprint("k", i), newKey().Public(), nil, nil) }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f, err := bundlefile.Read(path)
	if err != nil || len(f.Keys) != 8 {
		t.Fatalf("%v: %d keys: an update was lost", err, len(f.Keys))
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	before := must(os.ReadFile(path))
	stop := errors.New("no")
	if err := bundlefile.Update(path, func(f *bundlefile.File) error { f.Keys = nil; return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	if err := bundlefile.Update(path, func(f *bundlefile.File) error { f.Keys = append(f.Keys, f.Keys[0]); return nil }); err == nil {
		t.Error("two keys of one name were written")
	}
	if !bytes.Equal(before, must(os.ReadFile(path))) {
		t.Error("a failed update changed the file")
	}
	check(os.WriteFile(path, before[:100], 0o600))
	if err := bundlefile.Update(path, func(*bundlefile.File) error { return nil }); err == nil {
		t.Error("a damaged file was replaced")
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	a, b := must(bundlefile.Embedded()), full()
	if conflicts := a.Merge(b); conflicts != nil {
		t.Fatal(conflicts)
	}
	if must(a.Generation()) != must(b.Generation()) {
		t.Error("merged into what it contains it is another")
	}
	if conflicts := a.Merge(b); conflicts != nil || must(a.Generation()) != must(b.Generation()) {
		t.Error("merged twice it is another")
	}
	before := must(a.Generation())
	for want, o := range map[string]*bundlefile.File{
		`two different keys "release"`: {Keys: []bundlefile.Key{{Name: "release", PublicKey: must(x509.MarshalPKIXPublicKey(newKey().Public()))}}},
		`is there as "release"`:        {Keys: []bundlefile.Key{{Name: "other", PublicKey: b.Keys[0].PublicKey}}},
		"believed for another time":    {Keys: []bundlefile.Key{{Name: "release", PublicKey: b.Keys[0].PublicKey, From: &day}}},
		"two different trust roots":    {Roots: []bundlefile.Root{{Name: "public", Source: bundlefile.Source{File: "x"}, FetchedAt: day, TrustedRoot: json.RawMessage(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`)}}},
		"two different Notation":       {Notary: &bundlefile.Notary{TrustPolicy: json.RawMessage(`{"version":"1.0","trustPolicies":[{"name":"acme","registryScopes":["*"],"signatureVerification":{"level":"audit"},"trustStores":["ca:acme"],"trustedIdentities":["*"]}]}`)}},
		"is pinned to alice":           {Pins: []bundlefile.Pin{{Repository: "ghcr.io/acme/app", Identity: "mallory@example.com", Issuer: "https://issuer.example", PinnedAt: day}}},
		"witnesses are demanded":       {Witnesses: []string{witness("w9.example")}, Quorum: 1},
	} {
		o.RevokeKey(trust.RevokedKey{Key: key.Fingerprint(newKey().Public()), Since: day, Reason: "x"})
		if conflicts := a.Merge(o); len(conflicts) != 1 || !strings.Contains(conflicts[0], want) {
			t.Errorf("want %q: %q", want, conflicts)
		}
		if must(a.Generation()) != before {
			t.Fatalf("%s: a conflicting merge changed the bundle", want)
		}
	}
}

func TestCRLsAreNotRolledBack(t *testing.T) {
	t.Parallel()
	k := newKey()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: day.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign}
	ca := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, k.Public(), k))))
	list := func(at time.Time) []byte {
		return must(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: at, NextUpdate: at.AddDate(0, 0, 7)}, ca, k))
	}
	f := &bundlefile.File{}
	newest := list(day)
	for _, der := range [][]byte{list(day.AddDate(0, 0, -1)), newest, list(day.AddDate(0, 0, -2))} {
		check(f.AddCRL("https://ca.example/crl", der, day))
	}
	if len(f.Notary.CRLs) != 1 || !bytes.Equal(f.Notary.CRLs[0].DER, newest) {
		t.Errorf("%d lists, or not the newest", len(f.Notary.CRLs))
	}
	if err := f.AddCRL("", list(day.Add(time.Hour)), day); err == nil {
		t.Error("a list from the future was accepted")
	}
	if got := f.Staleness(day.AddDate(0, 0, 7)); len(got) != 0 {
		t.Errorf("stale at the last moment: %v", got)
	}
	if got := f.Staleness(day.AddDate(0, 0, 7).Add(time.Second)); len(got) != 1 || got[0].Code != bundlefile.CodeStale || !strings.Contains(got[0].Hint, "trust update") {
		t.Errorf("%v", got)
	}
}

// TestCRLsOfOthers: a list takes the place of another only where it is of the same
// issuer, and is refused where it is known not to be.
func TestCRLsOfOthers(t *testing.T) {
	t.Parallel()
	cert, own := authority("ca", day)
	_, forged := authority("ca", day.Add(time.Minute))
	_, other := authority("other", day.Add(time.Minute))
	f := &bundlefile.File{}
	check(f.AddCertificate("ca", "acme", cert))
	check(f.AddCRL("https://ca.example/crl", own, day))
	if err := f.AddCRL("https://ca.example/crl", forged, day); err == nil || !strings.Contains(err.Error(), "not signed by CN=ca") {
		t.Errorf("forged: %v", err)
	}
	check(f.AddCRL("https://ca.example/crl", other, day))
	if len(f.Notary.CRLs) != 2 || !bytes.Equal(f.Notary.CRLs[0].DER, own) || !bytes.Equal(f.Notary.CRLs[1].DER, other) {
		t.Errorf("%d lists, or others", len(f.Notary.CRLs))
	}
}

// TestRootFromElsewhere: the document of a followed root, given as a file, does not
// make it good for ever.
func TestRootFromElsewhere(t *testing.T) {
	t.Parallel()
	f := must(bundlefile.Embedded())
	followed := f.Roots[0]
	followed.Name, followed.Source = "acme", bundlefile.Source{Mirror: "https://tuf.example", TUFRoot: []byte("{}"), RootSHA256: strings.Repeat("0", 64)}
	file := followed
	file.Source, file.Expires, file.FetchedAt = bundlefile.Source{File: "trusted_root.json"}, nil, followed.FetchedAt.AddDate(0, 0, 1)
	for name, order := range map[string][]bundlefile.Root{"file last": {followed, file}, "file first": {file, followed}} {
		f := &bundlefile.File{}
		for _, r := range order {
			check(f.AddRoot(r))
		}
		if len(f.Roots) != 1 || f.Roots[0].Expires == nil || f.Roots[0].Source.Mirror == "" {
			t.Errorf("%s: %+v", name, f.Roots)
		}
	}
}

func TestStaleness(t *testing.T) {
	t.Parallel()
	f := must(bundlefile.Embedded())
	stale := *f.Roots[0].Expires
	if got := f.Staleness(stale); len(got) != 0 {
		t.Errorf("stale on the day itself: %v", got)
	}
	got := f.Staleness(stale.Add(time.Second))
	if len(got) != 1 || got[0].Code != "TRUST_STALE" || !strings.Contains(got[0].Message, stale.Format("2006-01-02")) || !strings.Contains(got[0].Hint, "hallmark trust import public") {
		t.Errorf("%v", got)
	}
	f.Roots[0].Expires = nil
	if got := f.Staleness(stale.AddDate(100, 0, 0)); len(got) != 0 {
		t.Errorf("a root without an expiry: %v", got)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	f := full()
	for name, what := range map[string]string{"public": "trust root", "release": "key", "ghcr.io/acme/app": "pin", "ca:acme": "store", "https://ca.example/crl": "revocation list", "policy": "Notation trust policy", "mallory@example.com": "", "ghcr.io/acme": "", "acme": ""} {
		if got := f.Remove(name); got != what {
			t.Errorf("%s: %q, want %q", name, got, what)
		}
	}
	must(f.Encode())
	if f.Notary != nil || len(f.Roots)+len(f.Keys)+len(f.Pins) != 0 || f.Revoked == nil {
		t.Errorf("left: %+v", f)
	}
}

// yes allows what is left.
type anySignature struct{}

func (anySignature) Evaluate(_ context.Context, in policy.Input) (policy.Decision, error) {
	if len(in.Signatures) == 0 {
		return policy.Deny(policy.Reason{Code: "NOT_SIGNED", Message: "there is no signature"}), nil
	}
	return policy.Decision{Allowed: true}, nil
}

// A pin is exactly what was seen; everything that differs in one part is refused.
func TestPin(t *testing.T) {
	t.Parallel()
	fact := policy.Fact{Signer: evidence.Signer{Identity: "https://github.com/acme/app/.github/workflows/r.yml@refs/tags/v1", Issuer: "https://token.actions.githubusercontent.com",
		Extensions: map[string]string{"sourceRepositoryURI": "https://github.com/acme/app"}}, LogOrigin: "log.example"}
	pin, err := bundlefile.NewPin("ghcr.io/acme/app", fact, nil, day)
	if err != nil {
		t.Fatal(err)
	}
	if id, public := pin.Requirement(); public != nil || id.Subject != fact.Signer.Identity || id.Issuer != fact.Signer.Issuer || id.SubjectRegexp+id.IssuerRegexp != "" {
		t.Errorf("%+v %v", id, public)
	}
	judge := func(p bundlefile.Pin, facts ...policy.Fact) policy.Decision {
		return must(p.Policy(anySignature{}).Evaluate(t.Context(), policy.Input{Signatures: facts}))
	}
	if d := judge(pin, fact); !d.Allowed {
		t.Error(d)
	}
	if d := judge(pin); d.Allowed || d.Reasons[0].Code != "NOT_SIGNED" {
		t.Error(d)
	}
	for name, change := range map[string]func(*policy.Fact){
		"identity": func(f *policy.Fact) { f.Signer.Identity += "0" },
		"case":     func(f *policy.Fact) { f.Signer.Identity = strings.ToUpper(f.Signer.Identity) },
		"issuer":   func(f *policy.Fact) { f.Signer.Issuer += "/" },
		"source": func(f *policy.Fact) {
			f.Signer.Extensions = map[string]string{"sourceRepositoryURI": "https://github.com/acme/app2"}
		},
		"none":   func(f *policy.Fact) { f.Signer.Extensions = nil },
		"log":    func(f *policy.Fact) { f.LogOrigin = "log2.example" },
		"no log": func(f *policy.Fact) { f.LogOrigin = "" },
		"key":    func(f *policy.Fact) { f.Signer = evidence.Signer{Key: "sha256:00"} },
	} {
		other := fact
		change(&other)
		d := judge(pin, other)
		if d.Allowed || len(d.Reasons) != 1 || d.Reasons[0].Code != "WRONG_IDENTITY" || !strings.Contains(d.Reasons[0].Message, fact.Signer.Identity) || !strings.Contains(d.Reasons[0].Message, other.Signer.String()) {
			t.Errorf("%s: %+v", name, d)
		}
		if d := judge(pin, other, fact); !d.Allowed {
			t.Errorf("%s hides the good one", name)
		}
		changed, err := bundlefile.NewPin("ghcr.io/acme/app", other, nil, day)
		if name == "key" {
			if err == nil {
				t.Error("a key that is not at hand was pinned")
			}
			continue
		}
		f := &bundlefile.File{Pins: []bundlefile.Pin{pin}}
		if why := f.Add(changed); err != nil || why == nil || why.Code != "PIN_CONFLICT" || len(f.Pins) != 1 {
			t.Errorf("%s: %v, %v", name, err, why)
		}
		if why := f.Add(pin); why != nil || len(f.Pins) != 1 {
			t.Errorf("the same again: %v", why)
		}
	}
	if _, ok := bundlefile.Pins([]bundlefile.Pin{pin}).For("ghcr.io/acme/app"); !ok {
		t.Error("not found")
	}
	for _, other := range []string{"ghcr.io/acme/app2", "ghcr.io/acme", "ghcr.io/acme/app/x", "docker.io/acme/app", ""} {
		if _, ok := bundlefile.Pins([]bundlefile.Pin{pin}).For(other); ok {
			t.Errorf("it holds for %q", other)
		}
	}
	for _, repository := range []string{"ghcr.io/acme/app:v1", "ghcr.io/acme/app@sha256:00", "GHCR.io/acme/app", "app", "ghcr.io/", "*/*", "ghcr.io/acme/*", "ghcr.io/a//b", "ghcr.io/acme/"} {
		if _, err := bundlefile.NewPin(repository, fact, nil, day); err == nil {
			t.Errorf("%s can be pinned", repository)
		}
	}
}

func TestPinByKey(t *testing.T) {
	t.Parallel()
	public := crypto.PublicKey(newKey().Public())
	fact := policy.Fact{Signer: evidence.Signer{Key: key.Fingerprint(public)}}
	pin, err := bundlefile.NewPin("127.0.0.1:5000/app", fact, public, day)
	if err != nil {
		t.Fatal(err)
	}
	if id, k := pin.Requirement(); id != nil || key.Fingerprint(k) != fact.Signer.Key || pin.Fingerprint() != fact.Signer.Key {
		t.Errorf("%v %v", id, k)
	}
	if _, why := pin.Filter(policy.Input{Signatures: []policy.Fact{fact}}); why != nil {
		t.Error(why)
	}
	other := policy.Fact{Signer: evidence.Signer{Key: key.Fingerprint(newKey().Public())}}
	if in, why := pin.Filter(policy.Input{Signatures: []policy.Fact{other}}); why == nil || len(in.Signatures) != 0 {
		t.Error("another key passes")
	}
	if _, err := bundlefile.NewPin("127.0.0.1:5000/app", fact, newKey().Public(), day); err == nil {
		t.Error("another key was pinned than signed")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"mediaType":"application/vnd.hallmark.trust.v1+json"}`))
	f.Add(must(full().Encode()))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := bundlefile.Parse(data)
		if err != nil {
			return
		}
		first, err := b.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again, err := bundlefile.Parse(first)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if second := must(again.Encode()); !bytes.Equal(first, second) {
			t.Fatal("written again it is another")
		}
	})
}
