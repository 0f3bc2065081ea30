package verify_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// withIntermediate is a world whose CA stands below a root; change may spoil
// either before it is issued.
func withIntermediate(t testing.TB, change func(root, ca *x509.Certificate)) *world {
	w := newWorld(t)
	rootTemplate, template := forge.CATemplate("ca root", w.Now), forge.CATemplate("ca", w.Now)
	rootTemplate.MaxPathLen, rootTemplate.MaxPathLenZero = 1, false
	if change != nil {
		change(rootTemplate, template)
	}
	w.CARoot = forge.NewCA(rootTemplate, elliptic.P256(), nil)
	w.CA = forge.NewCA(template, elliptic.P256(), w.CARoot)
	w.Root = w.TrustRoot(nil)
	return w
}

// twice asks one verifier about a good claim, so that what can be remembered is,
// and then about others. It returns the reasons, "" for accepted.
func twice(t *testing.T, cfg verify.Config, good *evidence.Claim, others ...*evidence.Claim) []string {
	t.Helper()
	v := must(verify.New(cfg))
	if ok, reasons := v.Claim(good, files()); ok == nil {
		t.Fatal(reasons)
	}
	var out []string
	for _, c := range others {
		why := ""
		if ok, reasons := v.Claim(c, files()); ok == nil {
			why = reasons[0].Code
		}
		out = append(out, why)
	}
	return out
}

func logAndTime(at time.Time) forge.ClaimOptions {
	return forge.ClaimOptions{Logs: []string{"v2"}, TokenAt: at, Token: true}
}

// TestRememberedChainExpires: a verdict is of no use at a time when one of its
// certificates was not valid, though another claim was good a moment before.
func TestRememberedChainExpires(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(w *world) func(root, ca *x509.Certificate){
		"the CA ends": func(w *world) func(root, ca *x509.Certificate) {
			return func(_, ca *x509.Certificate) { ca.NotAfter = w.Now.Add(3 * time.Second) }
		},
		"the root ends": func(w *world) func(root, ca *x509.Certificate) {
			return func(root, _ *x509.Certificate) { root.NotAfter = w.Now.Add(3 * time.Second) }
		},
		"the CA begins": func(w *world) func(root, ca *x509.Certificate) {
			return func(_, ca *x509.Certificate) { ca.NotBefore = w.Now.Add(-time.Second) }
		},
	} {
		w := withIntermediate(t, spoil(newWorld(t)))
		late := w.Now.Add(5 * time.Second)
		o := logAndTime(late)
		if name == "the CA begins" {
			late = w.Now.Add(-3 * time.Second)
			o = logAndTime(late)
			l := forge.Alice()
			l.NotBefore = w.Now.Add(-time.Minute)
			o.Leaf = &l
		}
		got := twice(t, under(w.Root), w.Claim(logAndTime(w.Now.Add(time.Second))), w.Claim(logAndTime(w.Now.Add(2*time.Second))), w.Claim(o))
		if got[0] != "" || got[1] != verify.CertUntrusted {
			t.Errorf("%s: %q", name, got)
		}
	}
	// The same of a timestamp authority's root.
	w := newWorld(t)
	template := forge.CATemplate("tsa root", w.Now)
	template.NotAfter = w.Now.Add(3 * time.Second)
	w.TSARoot = forge.NewCA(template, elliptic.P256(), nil)
	w.TSA = w.NewTSA(nil)
	got := twice(t, under(w.TrustRoot(nil)), w.Claim(logAndTime(w.Now.Add(time.Second))), w.Claim(logAndTime(w.Now.Add(2*time.Second))), w.Claim(logAndTime(w.Now.Add(5*time.Second))))
	if got[0] != "" || got[1] != verify.TimeUntrusted {
		t.Errorf("the timestamp authority's root ends: %q", got)
	}
	// The window of the trust root is no part of a verdict.
	w = newWorld(t)
	root := w.TrustRoot(func(s *trust.RootSpec) { s.CAs[0].End = w.Now.Add(3 * time.Second) })
	got = twice(t, under(root), w.Claim(logAndTime(w.Now.Add(time.Second))), w.Claim(logAndTime(w.Now.Add(5*time.Second))))
	if got[0] != verify.CertUntrusted {
		t.Errorf("the trust root's window ends: %q", got)
	}
}

// TestRememberedChainIsRevoked: what was taken out of the trust root is gone,
// although verifiers of old and new trust share a cache.
func TestRememberedChainIsRevoked(t *testing.T) {
	t.Parallel()
	w, other := withIntermediate(t, nil), newWorld(t)
	cache := verify.NewChainCache()
	claim := w.Claim(logAndTime(w.Now.Add(time.Second)))
	under := func(change func(*trust.RootSpec)) verify.Config {
		return verify.Config{Roots: []*trust.Root{w.TrustRoot(change)}, Chains: cache}
	}
	for range 2 {
		if ok, why := w.judge(claim, under(nil)); ok == nil {
			t.Fatal(why)
		}
	}
	w.refused("CA taken out", claim, under(func(s *trust.RootSpec) { s.CAs[0].Chain = []*x509.Certificate{other.CA.Cert} }), verify.CertUntrusted)
	w.refused("root taken out", claim, under(func(s *trust.RootSpec) { s.CAs[0].Chain = []*x509.Certificate{w.CA.Cert, other.CA.Cert} }), verify.CertUntrusted)
	w.refused("TSA's root taken out", claim, under(func(s *trust.RootSpec) { s.TSAs[0].Chain = []*x509.Certificate{w.TSA.Cert, other.TSARoot.Cert} }), verify.TimeUntrusted)
	w.refused("TSA taken out", claim, under(func(s *trust.RootSpec) { s.TSAs = nil }), verify.TimeUntrusted)
	if ok, why := w.judge(claim, under(nil)); ok == nil {
		t.Error("and back:", why)
	}
}

// TestRememberedChainHasOnePurpose: a CA that may issue signing certificates may
// for that not issue timestamp authorities, nor the other way round.
func TestRememberedChainHasOnePurpose(t *testing.T) {
	t.Parallel()
	w := withIntermediate(t, func(_, ca *x509.Certificate) { ca.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })
	good := w.Claim(logAndTime(w.Now.Add(time.Second)))
	// The same chain is named for both purposes.
	chain := []*x509.Certificate{w.CA.Cert, w.CARoot.Cert}
	tsaRoot := w.TSARoot
	w.TSARoot = w.CA
	tsa := w.NewTSA(nil)
	w.TSARoot = tsaRoot
	both := w.TrustRoot(func(s *trust.RootSpec) {
		s.TSAs = append(s.TSAs, trust.AuthoritySpec{URI: "https://tsa2.test", Chain: append([]*x509.Certificate{tsa.Cert}, chain...), Start: s.TSAs[0].Start})
	})
	o := logAndTime(time.Time{})
	o.Token, o.Tokens = false, []forge.TokenOptions{{By: tsa}}
	if got := twice(t, under(both), good, w.Claim(o), good); got[0] != verify.TimeUntrusted || got[1] != "" {
		t.Errorf("stamped by a code signing CA's: %q", got)
	}

	w = withIntermediate(t, func(_, ca *x509.Certificate) { ca.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping} })
	w.TSARoot = w.CA
	w.TSA = w.NewTSA(nil)
	issuer := forge.NewCA(forge.CATemplate("good", w.Now), elliptic.P256(), nil)
	chain = []*x509.Certificate{w.CA.Cert, w.CARoot.Cert}
	both = w.TrustRoot(func(s *trust.RootSpec) {
		s.TSAs[0].Chain = append([]*x509.Certificate{w.TSA.Cert}, chain...)
		s.CAs = append(s.CAs, trust.AuthoritySpec{URI: "https://ca2.test", Chain: []*x509.Certificate{issuer.Cert}, Start: s.CAs[0].Start})
	})
	bad := w.Claim(logAndTime(time.Time{}))
	w.CA = issuer
	good = w.Claim(logAndTime(time.Time{}))
	if got := twice(t, under(both), good, bad, good); got[0] != verify.CertUntrusted || got[1] != "" {
		t.Errorf("issued by a timestamp authority's CA: %q", got)
	}
}

// TestChainKeys: a verdict is found again for the same question only.
func TestChainKeys(t *testing.T) {
	t.Parallel()
	a, b, c := &x509.Certificate{Raw: []byte("a")}, &x509.Certificate{Raw: []byte("b")}, &x509.Certificate{Raw: []byte("c")}
	list := func(l ...*x509.Certificate) []*x509.Certificate { return l }
	seen := map[[32]byte]int{}
	for i, k := range [][32]byte{
		verify.KeyOf("p", "g", a, list(b), c), verify.KeyOf("q", "g", a, list(b), c), verify.KeyOf("p", "h", a, list(b), c),
		verify.KeyOf("pg", "", a, list(b), c), verify.KeyOf("p", "g", b, list(b), c), verify.KeyOf("p", "g", a, list(c), b),
		verify.KeyOf("p", "g", a, nil, c), verify.KeyOf("p", "g", a, list(b, b), c), verify.KeyOf("p", "g", a, list(b, c), c),
		verify.KeyOf("p", "g", a, list(c, b), c), verify.KeyOf("p", "ga", b, nil, c),
		verify.KeyOf("p", "g", &x509.Certificate{Raw: []byte("ab")}, nil, c),
	} {
		if j, ok := seen[k]; ok {
			t.Errorf("questions %d and %d have one key", j, i)
		}
		seen[k] = i
	}
	if one, again := verify.KeyOf("p", "g", a, list(b), c), verify.KeyOf("p", "g", a, list(b), c); one != again {
		t.Error("one question has two keys")
	}
}

// TestQuickPathIsNotLaxer: what x509.Verify refuses of a whole path is refused
// when the upper part of it is remembered, too.
func TestQuickPathIsNotLaxer(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(root, ca *x509.Certificate){
		"path too long": func(root, ca *x509.Certificate) { root.MaxPathLen, root.MaxPathLenZero = 0, true },
		"no certSign":   func(_, ca *x509.Certificate) { ca.KeyUsage = x509.KeyUsageDigitalSignature },
		"other usage":   func(_, ca *x509.Certificate) { ca.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
		"names of others": func(_, ca *x509.Certificate) {
			ca.PermittedDNSDomainsCritical, ca.PermittedEmailAddresses = true, []string{"other.example"}
		},
		"excluded name": func(root, _ *x509.Certificate) {
			root.PermittedDNSDomainsCritical, root.ExcludedEmailAddresses = true, []string{"example.com"}
		},
		"critical extension": func(_, ca *x509.Certificate) {
			ca.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		},
	} {
		w := withIntermediate(t, change)
		// A second verdict must not differ from the first.
		v := must(verify.New(under(w.Root)))
		for i := range 3 {
			if ok, reasons := v.Claim(w.Claim(logAndTime(time.Time{})), files()); ok != nil || reasons[0].Code != verify.CertUntrusted {
				t.Errorf("%s, call %d: %v", name, i, reasons)
			}
		}
	}
	// And what it accepts still is.
	for name, change := range map[string]func(root, ca *x509.Certificate){
		"permitted name": func(root, _ *x509.Certificate) {
			root.PermittedDNSDomainsCritical, root.PermittedEmailAddresses = true, []string{"example.com"}
		},
		"any usage":      func(_, ca *x509.Certificate) { ca.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
		"no path length": func(root, ca *x509.Certificate) { ca.MaxPathLen, ca.MaxPathLenZero = -1, false },
	} {
		w := withIntermediate(t, change)
		if got := twice(t, under(w.Root), w.Claim(logAndTime(time.Time{})), w.Claim(logAndTime(time.Time{}))); got[0] != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
	// The leaf's own signature is checked each time: another CA of the same name
	// and key identifier does not get by on the real one's verdict.
	w, liar := withIntermediate(t, nil), withIntermediate(t, nil)
	liar.CT, liar.V2, liar.V2Public, liar.TSA = w.CT, w.V2, w.V2Public, w.TSA
	liar.CA.Cert.SubjectKeyId = w.CA.Cert.SubjectKeyId
	if got := twice(t, under(w.Root), w.Claim(logAndTime(time.Time{})), liar.Claim(logAndTime(time.Time{}))); got[0] != verify.CertUntrusted {
		t.Errorf("a liar's certificate: %q", got)
	}
}

// TestChainCacheIsShared: verifiers of many goroutines and more authorities than
// it holds may use one cache.
func TestChainCacheIsShared(t *testing.T) {
	t.Parallel()
	w := withIntermediate(t, nil)
	claim := w.Claim(logAndTime(time.Time{}))
	cache := verify.NewChainCache()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				root := *w.Root
				root.Generation = fmt.Sprint(g, i) // as of 1,600 trust roots
				v, err := verify.New(verify.Config{Roots: []*trust.Root{&root}, Chains: cache})
				if err != nil {
					t.Error(err)
					return
				}
				if ok, reasons := v.Claim(claim, files()); ok == nil {
					t.Error(reasons)
				}
			}
		})
	}
	wg.Wait()
}

// TestInclusionAsOthersSeeIt: audit paths of trees of all shapes hold exactly
// where transparency-dev/merkle says so.
func TestInclusionAsOthersSeeIt(t *testing.T) {
	t.Parallel()
	h := rfc6962.DefaultHasher
	body := []byte("body")
	leaf := h.HashLeaf(body)
	for size := int64(1); size <= 66; size++ {
		for index := range size {
			for n := range 9 {
				var path [][]byte
				for i := range n {
					path = append(path, h.HashLeaf([]byte{byte(i)}))
				}
				root, err := proof.RootFromInclusionProof(h, uint64(index), uint64(size), leaf, path)
				if got := verify.InTree(body, index, size, path, root); got != (err == nil) {
					t.Fatalf("leaf %d of %d, %d hashes: %v, others say %v", index, size, n, got, err)
				}
				if err == nil && n > 0 {
					path[n-1] = append([]byte{}, path[n-1]...)
					path[n-1][0] ^= 1
					if verify.InTree(body, index, size, path, root) || verify.InTree(body, index, size, path, path[0]) {
						t.Fatalf("leaf %d of %d: a changed path was believed", index, size)
					}
				}
			}
		}
	}
	if verify.InTree(body, 0, 2, [][]byte{{1}}, leaf) || verify.InTree(body, -1, 2, nil, leaf) || verify.InTree(body, 2, 2, nil, leaf) {
		t.Error("a path of short hashes or of no leaf was believed")
	}
}
