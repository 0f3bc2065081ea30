package verify_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/notary"
	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/trust/notation"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

var envelopes = []string{notaryforge.MediaTypeCOSE, notaryforge.MediaTypeJWS}

// theirs is the world's artifact.
func theirs(w *notaryforge.World) verify.Artifact {
	return verify.Artifact{Digests: []evidence.Digest{evidence.Digest(w.Digest)}, Repository: w.Repository, MediaType: w.MediaType, Size: w.Size}
}

// outcome of parse and judgement: the parser's error counts as MALFORMED.
func outcome(t *testing.T, v *verify.Verifier, a verify.Artifact, mediaType string, data []byte) (*verify.Verified, []policy.Reason) {
	t.Helper()
	c, err := notary.Parse(mediaType, data)
	if err != nil {
		return nil, []policy.Reason{{Code: verify.Malformed, Message: err.Error()}}
	}
	out, reasons := v.Claim(c, a)
	if (out == nil) == (len(reasons) == 0) {
		t.Fatalf("verified %v with reasons %v", out, reasons)
	}
	return out, reasons
}

func notaryVerifier(t *testing.T, w *notaryforge.World, p notation.Parts) *verify.Verifier {
	t.Helper()
	trust, err := notation.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return must(verify.New(verify.Config{Notary: trust, Now: func() time.Time { return w.Now }}))
}

// expect checks an outcome against "" or "CODE sentence's part".
func expect(t *testing.T, out *verify.Verified, reasons []policy.Reason, want string) {
	t.Helper()
	code, part, _ := strings.Cut(want, " ")
	switch {
	case want == "" && out == nil:
		t.Errorf("refused: %v", reasons)
	case want == "":
	case out != nil:
		t.Errorf("accepted; want %s", want)
	case reasons[0].Code != code || !strings.Contains(reasons[0].Message, part):
		t.Errorf("%v; want %s", reasons[0], want)
	}
}

// asAuthority turns an envelope into one of a signing authority.
func asAuthority(e *notaryforge.Envelope, at time.Time) {
	delete(e.Protected, notaryforge.SigningTime)
	e.Protected[notaryforge.Scheme] = "notary.x509.signingAuthority"
	e.Protected[notaryforge.AuthenticTime] = at.Truncate(time.Second)
	e.Protected["crit"] = []string{notaryforge.Scheme, notaryforge.AuthenticTime}
}

// TestNotaryFacts: what a verified signature says.
func TestNotaryFacts(t *testing.T) {
	t.Parallel()
	w := notaryforge.NewWorld(time.Now(), nil)
	v := notaryVerifier(t, w, w.Parts(w.Statement("strict")))
	e := w.Envelope()
	e.Payload = notaryforge.Target(w.MediaType, w.Digest, w.Size, map[string]string{"build": "7"})
	for _, mediaType := range envelopes {
		out, reasons := outcome(t, v, theirs(w), mediaType, e.Sign(mediaType))
		if out == nil {
			t.Fatal(reasons)
		}
		f := out.Fact(evidence.Location{})
		if f.Signer.Subject != "CN=signer,O=Acme,ST=WA,C=US" || !strings.HasPrefix(f.Signer.Certificate, "sha256:") || f.Annotations["build"] != "7" ||
			*f.TrustPolicy != (policy.TrustPolicy{Name: "acme", Level: "strict"}) || len(f.Times) != 0 || out.Statement() != nil {
			t.Errorf("%s: %+v", mediaType, f)
		}
		// Nothing here says where a revocation would be published.
		if w := f.Warnings; len(w) != 1 || w[0].Code != verify.RevocationUnchecked {
			t.Errorf("%s: warnings %v", mediaType, w)
		}
		if c := out.Certificate(); c.Authority != "CN=Acme root,O=Acme,ST=WA,C=US" || !c.SCT.IsZero() {
			t.Errorf("%s: certificate %+v", mediaType, c)
		}
	}
	// Without a trust nothing is believed; the trust of others is none.
	out, reasons := outcome(t, must(verify.New(verify.Config{})), theirs(w), envelopes[0], e.COSE())
	expect(t, out, reasons, "CERT_UNTRUSTED no trust policy")
}

// TestNotaryKeys: each kind and size of key, with its one algorithm.
func TestNotaryKeys(t *testing.T) {
	t.Parallel()
	rsaKey := func(bits int) func() crypto.Signer {
		return func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, bits)) }
	}
	ec := func(c elliptic.Curve) func() crypto.Signer {
		return func() crypto.Signer { return must(ecdsa.GenerateKey(c, rand.Reader)) }
	}
	for name, row := range map[string]struct {
		key  func() crypto.Signer
		want string
	}{
		"P-256": {ec(elliptic.P256()), ""}, "P-384": {ec(elliptic.P384()), ""}, "P-521": {ec(elliptic.P521()), ""},
		"RSA 2048": {rsaKey(2048), ""}, "RSA 3072": {rsaKey(3072), ""},
		"Ed25519": {func() crypto.Signer { _, k, _ := ed25519.GenerateKey(rand.Reader); return k }, "MALFORMED algorithm"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := notaryforge.NewWorld(time.Now(), nil)
			w.Leaf = w.IssueFor(w.CA, w.LeafTemplate(), row.key())
			v := notaryVerifier(t, w, w.Parts(w.Statement("strict")))
			for _, mediaType := range envelopes {
				e := w.Envelope()
				out, reasons := outcome(t, v, theirs(w), mediaType, e.Sign(mediaType))
				expect(t, out, reasons, row.want)
			}
		})
	}
	t.Run("salt of another length", func(t *testing.T) {
		t.Parallel()
		w := notaryforge.NewWorld(time.Now(), nil)
		key := must(rsa.GenerateKey(rand.Reader, 2048))
		w.Leaf = w.IssueFor(w.CA, w.LeafTemplate(), key)
		v := notaryVerifier(t, w, w.Parts(w.Statement("strict")))
		c := must(notary.Parse(envelopes[1], w.Envelope().JWS()))
		sum := sha256Sum(c.Notary.Signed)
		c.Notary.Signature = must(rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum, &rsa.PSSOptions{SaltLength: 20}))
		out, reasons := v.Claim(c, theirs(w))
		expect(t, out, reasons, "SIGNATURE_BAD ")
	})
}

// TestNotaryCertificates: certificates that are almost right.
func TestNotaryCertificates(t *testing.T) {
	t.Parallel()
	unknown := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}
	leaf := func(change func(c *x509.Certificate)) func(w *notaryforge.World) {
		return func(w *notaryforge.World) {
			c := w.LeafTemplate()
			change(c)
			w.Leaf = w.Issue(w.CA, c)
		}
	}
	eku := func(u ...x509.ExtKeyUsage) func(w *notaryforge.World) {
		return leaf(func(c *x509.Certificate) { c.ExtKeyUsage = u })
	}
	usage := func(u x509.KeyUsage) func(w *notaryforge.World) {
		return leaf(func(c *x509.Certificate) { c.KeyUsage = u })
	}
	ca := func(change func(c *x509.Certificate)) func(w *notaryforge.World) {
		return func(w *notaryforge.World) {
			c := w.CATemplate("Acme CA")
			change(c)
			w.CA = w.Issue(w.Root, c)
			w.Leaf = w.Issue(w.CA, w.LeafTemplate())
		}
	}
	loose := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 7, 0x80}} // digital signature, not critical
	for name, row := range map[string]struct {
		change func(w *notaryforge.World)
		want   string
	}{
		"no extended usage":          {eku(), ""},
		"code signing and another":   {leaf(func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 76}} }), ""},
		"server":                     {eku(x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageServerAuth), "CERT_UNTRUSTED something else"},
		"client":                     {eku(x509.ExtKeyUsageClientAuth), "CERT_UNTRUSTED something else"},
		"mail":                       {eku(x509.ExtKeyUsageEmailProtection), "CERT_UNTRUSTED something else"},
		"timestamps":                 {eku(x509.ExtKeyUsageTimeStamping), "CERT_UNTRUSTED something else"},
		"OCSP":                       {eku(x509.ExtKeyUsageOCSPSigning), "CERT_UNTRUSTED something else"},
		"any":                        {eku(x509.ExtKeyUsageAny), "CERT_UNTRUSTED something else"},
		"content commitment as well": {usage(x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment), ""},
		"key encipherment":           {usage(x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment), "CERT_UNTRUSTED digital signatures alone"},
		"signs certificates":         {usage(x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign), "CERT_UNTRUSTED digital signatures alone"},
		"signs CRLs":                 {usage(x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign), "CERT_UNTRUSTED digital signatures alone"},
		"no digital signature":       {usage(x509.KeyUsageContentCommitment), "CERT_UNTRUSTED digital signatures alone"},
		"no key usage":               {usage(0), "CERT_UNTRUSTED digital signatures alone"},
		"key usage not critical": {leaf(func(c *x509.Certificate) {
			c.KeyUsage, c.ExtraExtensions = 0, []pkix.Extension{loose}
		}), "CERT_UNTRUSTED digital signatures alone"},
		"a CA": {leaf(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), "CERT_UNTRUSTED a CA's"},
		"unknown critical extension": {leaf(func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{unknown} }),
			"CERT_UNTRUSTED 1.2.3.4"},
		"expired":         {leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "CERT_EXPIRED no trusted timestamp"},
		"signed before":   {leaf(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(-30 * time.Minute) }), "TIME_UNTRUSTED was valid"},
		"CA may not":      {ca(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), "CERT_UNTRUSTED signs certificates"},
		"CA no CA":        {ca(func(c *x509.Certificate) { c.IsCA = false }), "CERT_UNTRUSTED no CA's"},
		"CA critical ext": {ca(func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{unknown} }), "CERT_UNTRUSTED 1.2.3.4"},
		"CA expired":      {ca(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "CERT_EXPIRED Acme CA"},
		"CA names, leaf has none": {ca(func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"acme.example"}
		}), ""},
		"CA names another": {func(w *notaryforge.World) {
			c := w.CATemplate("Acme CA")
			c.PermittedURIDomains = []string{"acme.example"}
			w.CA = w.Issue(w.Root, c)
			l := w.LeafTemplate()
			l.URIs = []*url.URL{{Scheme: "https", Host: "other.example"}}
			w.Leaf = w.Issue(w.CA, l)
		}, "CERT_UNTRUSTED names that its CAs"},
		"path too long": {func(w *notaryforge.World) {
			c := w.CATemplate("Acme root")
			c.MaxPathLenZero = true
			w.Root = w.Issue(nil, c)
			w.CA = w.Issue(w.Root, w.CATemplate("Acme CA"))
			w.Leaf = w.Issue(w.CA, w.LeafTemplate())
		}, "CERT_UNTRUSTED may have 0 CAs"},
		"other root of the same name": {func(w *notaryforge.World) {
			w.CA = w.Issue(w.Issue(nil, w.CATemplate("Acme root")), w.CATemplate("Acme CA"))
			w.Leaf = w.Issue(w.CA, w.LeafTemplate())
		}, "CERT_UNTRUSTED not signed by the next"},
		"leaf by another key of the CA's name": {func(w *notaryforge.World) {
			w.Leaf = w.Issue(w.Issue(w.Root, w.CATemplate("Acme CA")), w.LeafTemplate())
		}, "CERT_UNTRUSTED not signed by the next"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := notaryforge.NewWorld(time.Now(), nil)
			row.change(w)
			v := notaryVerifier(t, w, w.Parts(w.Statement("strict")))
			for range 2 { // the second time what stands above the leaf is remembered
				out, reasons := outcome(t, v, theirs(w), envelopes[0], w.Envelope().COSE())
				expect(t, out, reasons, row.want)
			}
		})
	}
}

// TestNotaryStores: who is in the store is trusted, and nobody else.
func TestNotaryStores(t *testing.T) {
	t.Parallel()
	w := notaryforge.NewWorld(time.Now(), nil)
	stranger := notaryforge.NewWorld(time.Now(), nil)
	self := w.Issue(nil, w.LeafTemplate())
	selfSigned := notaryforge.New(self.Key, notaryforge.Chain(self), w.Payload(), w.Now)
	authority := w.Envelope()
	asAuthority(authority, w.Now)
	stores := func(names ...string) notaryforge.Statement {
		s := w.Statement("strict")
		s["trustStores"] = names
		return s
	}
	for name, row := range map[string]struct {
		parts notation.Parts
		e     *notaryforge.Envelope
		want  string
	}{
		"the root":                         {w.Parts(stores("ca:acme")), w.Envelope(), ""},
		"the intermediate":                 {with(w.Parts(stores("ca:more")), "ca", "more", w.CA), w.Envelope(), ""},
		"a certificate that signed itself": {with(w.Parts(stores("ca:more")), "ca", "more", self), selfSigned, ""},
		"not that one":                     {w.Parts(stores("ca:acme")), selfSigned, "CERT_UNTRUSTED in no ca store"},
		"a stranger's chain":               {w.Parts(stores("ca:acme")), stranger.Envelope(), "CERT_UNTRUSTED in no ca store"},
		"store does not exist":             {w.Parts(stores("ca:absent")), w.Envelope(), "CERT_UNTRUSTED does not exist"},
		"store of another type":            {w.Parts(stores("tsa:acme")), w.Envelope(), "CERT_UNTRUSTED names no ca store"},
		"signing authority":                {w.Parts(stores("signingAuthority:acme")), authority, ""},
		"no signing authority here":        {w.Parts(stores("signingAuthority:acme")), w.Envelope(), "CERT_UNTRUSTED names no ca store"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, reasons := outcome(t, notaryVerifier(t, w, row.parts), theirs(w), envelopes[0], row.e.COSE())
			expect(t, out, reasons, row.want)
		})
	}
}

func with(p notation.Parts, typ, name string, certs ...*notaryforge.Authority) notation.Parts {
	p.Stores = append(p.Stores, notation.Store{Type: typ, Name: name, Certificates: notaryforge.Chain(certs...)})
	return p
}

// TestNotaryLevels: what each level does with each failure.
func TestNotaryLevels(t *testing.T) {
	t.Parallel()
	w := notaryforge.NewWorld(time.Now(), nil)
	stranger := notaryforge.NewWorld(time.Now(), nil)
	expired := w.LeafTemplate()
	expired.NotAfter = w.Now.Add(-time.Minute)
	old := w.Issue(w.CA, expired)
	points := w.LeafTemplate()
	points.CRLDistributionPoints = []string{"http://crl.example/ca.crl"}
	unchecked := w.Issue(w.CA, points)
	by := func(a *notaryforge.Authority) *notaryforge.Envelope {
		return notaryforge.New(a.Key, notaryforge.Chain(a, w.CA, w.Root), w.Payload(), w.Now.Add(-time.Hour))
	}
	past := w.Envelope()
	past.Protected[notaryforge.Expiry] = w.Now.Add(-time.Minute)
	past.Protected["crit"] = []string{notaryforge.Scheme, notaryforge.Expiry}
	bad := w.Envelope()
	bad.Key = w.CA.Key
	other := w.Envelope()
	other.Payload = notaryforge.Target(w.MediaType, "sha256:"+strings.Repeat("0", 64), w.Size, nil)
	failures := map[string]struct {
		e       *notaryforge.Envelope
		code    string
		refused map[string]bool
	}{
		"integrity":          {bad, "SIGNATURE_BAD", map[string]bool{"strict": true, "permissive": true, "audit": true}},
		"subject":            {other, "WRONG_SUBJECT", map[string]bool{"strict": true, "permissive": true, "audit": true}},
		"authenticity":       {stranger.Envelope(), "CERT_UNTRUSTED", map[string]bool{"strict": true, "permissive": true}},
		"authenticTimestamp": {by(old), "CERT_EXPIRED", map[string]bool{"strict": true}},
		"expiry":             {past, "SIGNATURE_EXPIRED", map[string]bool{"strict": true}},
		"revocation":         {by(unchecked), "REVOCATION_UNKNOWN", map[string]bool{"strict": true}},
	}
	has := func(rs []policy.Reason, code string) bool {
		return slices.ContainsFunc(rs, func(r policy.Reason) bool { return r.Code == code })
	}
	for check, f := range failures {
		for _, level := range []string{"strict", "permissive", "audit", "skip"} {
			statement := w.Statement(level)
			if level == "skip" {
				delete(statement, "trustStores")
				delete(statement, "trustedIdentities")
			}
			v := notaryVerifier(t, w, w.Parts(statement))
			out, reasons := outcome(t, v, theirs(w), envelopes[0], f.e.COSE())
			switch {
			case level == "skip":
				if name, ok := v.NotarySkipped(w.Repository); out != nil || reasons[0].Code != "TRUST_POLICY_SKIPS" || !ok || name != "acme" {
					t.Errorf("%s at skip: %v, %v; skipped %v", check, out, reasons, ok)
				}
			case f.refused[level] && (out != nil || !has(reasons, f.code)):
				t.Errorf("%s at %s: %v, %v; want %s", check, level, out, reasons, f.code)
			case !f.refused[level] && (out == nil || !has(out.Warnings(), f.code) || out.TrustPolicy().Level != level):
				t.Errorf("%s at %s: %v; want a warning %s", check, level, reasons, f.code)
			}
		}
	}
	// Overrides: one check enforced more or less than its level wants.
	for _, row := range []struct {
		level, check, action string
		e                    *notaryforge.Envelope
		refused              bool
	}{
		{"strict", "expiry", "log", past, false}, {"permissive", "expiry", "enforce", past, true},
		{"strict", "authenticity", "log", stranger.Envelope(), false}, {"audit", "authenticity", "enforce", stranger.Envelope(), true},
		{"strict", "revocation", "skip", by(unchecked), false}, {"audit", "revocation", "enforce", by(unchecked), true},
		{"strict", "authenticTimestamp", "log", by(old), false},
	} {
		s := w.Statement(row.level)
		s["signatureVerification"] = map[string]any{"level": row.level, "override": map[string]string{row.check: row.action}}
		out, reasons := outcome(t, notaryVerifier(t, w, w.Parts(s)), theirs(w), envelopes[0], row.e.COSE())
		if row.refused != (out == nil) || out != nil && out.TrustPolicy().Level != "custom" {
			t.Errorf("%s with %s=%s: %v, %v", row.level, row.check, row.action, out, reasons)
		}
	}
}

// TestNotaryScopes: the statement that names the repository holds, else the one for all.
func TestNotaryScopes(t *testing.T) {
	t.Parallel()
	w := notaryforge.NewWorld(time.Now(), nil)
	exact, all := w.Statement("strict"), w.Statement("audit")
	all["name"], all["registryScopes"] = "all", []string{"*"}
	artifact := func(repository string) verify.Artifact {
		a := theirs(w)
		a.Repository = repository
		return a
	}
	both, one := notaryVerifier(t, w, w.Parts(all, exact)), notaryVerifier(t, w, w.Parts(exact))
	for _, row := range []struct {
		v          *verify.Verifier
		repository string
		want       string // name of the statement
	}{
		{both, w.Repository, "acme"}, {both, w.Repository + "/more", "all"}, {both, "other.example/team/app", "all"},
		{one, w.Repository, "acme"}, {one, w.Repository + "/more", ""}, {one, "registry.example:5000/team", ""},
		{one, "registry.example/team/app", ""}, {one, "Registry.example:5000/team/app", ""}, {one, "", ""}, {both, "*", ""}, {both, "", ""},
	} {
		out, reasons := outcome(t, row.v, artifact(row.repository), envelopes[0], w.Envelope().COSE())
		switch {
		case row.want == "" && (out != nil || reasons[0].Code != "NO_TRUST_POLICY"):
			t.Errorf("%q: %v, %v", row.repository, out, reasons)
		case row.want != "" && (out == nil || out.TrustPolicy().Name != row.want):
			t.Errorf("%q: %v, %v; want statement %s", row.repository, out, reasons, row.want)
		}
	}
	// Files have a policy of their own.
	p := w.Parts(exact)
	p.BlobPolicy = []byte(`{"version":"1.0","trustPolicies":[{"name":"files","globalPolicy":true,"signatureVerification":{"level":"strict"},"trustStores":["ca:acme"],"trustedIdentities":["*"]}]}`)
	out, reasons := outcome(t, notaryVerifier(t, w, p), artifact(""), envelopes[0], w.Envelope().COSE())
	if out == nil || out.TrustPolicy().Name != "files" {
		t.Errorf("a file: %v, %v", out, reasons)
	}
}

// TestNotaryIdentities: near-misses of the subject.
func TestNotaryIdentities(t *testing.T) {
	t.Parallel()
	name := func(change func(n *pkix.Name)) pkix.Name {
		n := notaryforge.Name("signer")
		change(&n)
		return n
	}
	plain := notaryforge.Name("signer")
	const trusted = "x509.subject:C=US,ST=WA,O=Acme"
	for what, row := range map[string]struct {
		subject    pkix.Name
		identities []string
		want       string
	}{
		"some attributes":         {plain, []string{trusted}, ""},
		"all, other order":        {plain, []string{"x509.subject:CN=signer, O=Acme, ST=WA, C=US"}, ""},
		"S for ST":                {plain, []string{"x509.subject: CN=signer,O=Acme,S=WA,C=US"}, ""},
		"everybody":               {plain, []string{"*"}, ""},
		"the second":              {plain, []string{"x509.subject:C=US,ST=WA,O=Other", trusted}, ""},
		"plugins only":            {plain, []string{"other:anything"}, "WRONG_IDENTITY plugins"},
		"other organisation":      {plain, []string{"x509.subject:C=US,ST=WA,O=Acm"}, "WRONG_IDENTITY "},
		"case":                    {plain, []string{"x509.subject:C=US,ST=WA,O=acme"}, "WRONG_IDENTITY "},
		"longer":                  {plain, []string{"x509.subject:C=US,ST=WA,O=Acme Inc"}, "WRONG_IDENTITY "},
		"look-alike":              {name(func(n *pkix.Name) { n.Organization = []string{"Аcme"} }), []string{trusted}, "WRONG_IDENTITY "},
		"one more wanted":         {plain, []string{trusted + ",OU=build"}, "WRONG_IDENTITY "},
		"attribute in lower case": {plain, []string{trusted + ",cn=signer"}, "WRONG_IDENTITY "},
		"two organisations":       {name(func(n *pkix.Name) { n.Organization = []string{"Acme", "Other"} }), []string{trusted}, "WRONG_IDENTITY several values"},
		"comma inside":            {name(func(n *pkix.Name) { n.Organization = []string{"Acme, Inc"} }), []string{`x509.subject:C=US,ST=WA,O=Acme\, Inc`}, ""},
		"injected by a comma":     {name(func(n *pkix.Name) { n.CommonName = "x,O=Acme"; n.Organization = []string{"Evil"} }), []string{trusted}, "WRONG_IDENTITY "},
		"hexadecimal inside":      {name(func(n *pkix.Name) { n.CommonName = "x=#01" }), []string{trusted}, "WRONG_IDENTITY not compared"},
		"mail address": {name(func(n *pkix.Name) {
			n.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "a@b"}}
		}), []string{trusted}, "WRONG_IDENTITY not compared"},
		"no state": {name(func(n *pkix.Name) { n.Province = nil }), []string{trusted}, "WRONG_IDENTITY "},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := notaryforge.NewWorld(time.Now(), nil)
			c := w.LeafTemplate()
			c.Subject = row.subject
			w.Leaf = w.Issue(w.CA, c)
			s := w.Statement("strict")
			s["trustedIdentities"] = row.identities
			out, reasons := outcome(t, notaryVerifier(t, w, w.Parts(s)), theirs(w), envelopes[0], w.Envelope().COSE())
			expect(t, out, reasons, row.want)
		})
	}
}

func sha256Sum(data []byte) []byte {
	h := crypto.SHA256.New()
	h.Write(data)
	return h.Sum(nil)
}
