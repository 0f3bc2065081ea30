package sign_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

const alice = "alice@example.com"

// identityLab adds a real issuer and CA to a lab.
type identityLab struct {
	*lab
	issuer *oidc.Provider
}

func newIdentityLab(t testing.TB) *identityLab {
	t.Helper()
	l := newLab(t)
	issuer, err := oidc.Open(t.TempDir(), oidc.Config{Issuer: l.url})
	if err != nil {
		t.Fatal(err)
	}
	caKey, caCert, err := ca.NewRoot(testNow(), "test", "test CA")
	if err != nil {
		t.Fatal(err)
	}
	ctKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	known, err := issuers.New(issuers.Config{Issuers: []issuers.Issuer{
		{URL: l.url, ClientID: "sigstore", Type: issuers.TypeEmail, Keys: issuer},
	}})
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.New(ca.Config{CAKey: caKey, Chain: []*x509.Certificate{caCert}, CTKey: ctKey, Issuers: known})
	if err != nil {
		t.Fatal(err)
	}
	l.mux.Handle("/api/v2/signingCert", authority.Handler())
	return &identityLab{l, issuer}
}

func (l *identityLab) services() sign.Services {
	s := l.lab.services()
	s.CA = l.url
	return s
}

func (l *identityLab) token(t testing.TB, email string) idtoken.Token {
	t.Helper()
	raw, err := l.issuer.Mint(email, "", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	token, err := idtoken.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A keyless signature carries the certificate of the token's identity; one run
// uses one certificate, until it is about to end.
func TestKeyless(t *testing.T) {
	t.Parallel()
	l := newIdentityLab(t)
	now := testNow()
	s, err := sign.New(sign.Config{Services: l.services(), Token: l.token(t, alice), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Sign(context.Background(), sentence(t))
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Sign(context.Background(), sentence(t))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Claim.Certificates[0], second.Claim.Certificates[0]) {
		t.Error("two certificates in one run")
	}
	leaf, err := x509.ParseCertificate(first.Claim.Certificates[0])
	if err != nil || len(leaf.EmailAddresses) != 1 || leaf.EmailAddresses[0] != alice {
		t.Errorf("%v %v", leaf.EmailAddresses, err)
	}
	if len(first.Claim.LogEntries) != 1 || len(first.Claim.Timestamps) != 1 || first.Claim.KeyHint != "" {
		t.Errorf("%+v", first.Claim)
	}
	who, err := s.Who(context.Background())
	if err != nil || who.Identity != alice || who.Issuer != l.url {
		t.Errorf("%+v %v", who, err)
	}
	now = leaf.NotAfter.Add(-30 * time.Second)
	_, _ = s.Sign(context.Background(), sentence(t)) // the other clocks do not go along; the certificate must be new
	if l.posts("/api/v2/signingCert") != 2 {
		t.Errorf("%d certificates", l.posts("/api/v2/signingCert"))
	}
}

// Each answer of the CA is one step from the right one.
func TestCertificatesThatAreRefused(t *testing.T) {
	t.Parallel()
	other := newIdentityLab(t)
	var foreign []byte
	other.falsify = func(p string, status int, body []byte) (int, []byte) {
		if strings.HasSuffix(p, "signingCert") {
			foreign = body
		}
		return status, body
	}
	s, err := sign.New(sign.Config{Services: other.services(), Token: other.token(t, alice)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sign(context.Background(), sentence(t)); err != nil {
		t.Fatal(err)
	}
	chain := func(f func([]string) []string) func([]byte) []byte {
		return func(body []byte) []byte {
			var a map[string]map[string]map[string][]string
			if err := json.Unmarshal(body, &a); err != nil {
				t.Error(err)
				return nil
			}
			c := a["signedCertificateEmbeddedSct"]["chain"]
			c["certificates"] = f(c["certificates"])
			data, err := json.Marshal(a)
			if err != nil {
				t.Error(err)
			}
			return data
		}
	}
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"another key":      {func([]byte) []byte { return foreign }, "another public key"},
		"not JSON":         {func([]byte) []byte { return []byte("<html>") }, "not the JSON"},
		"nothing":          {func([]byte) []byte { return []byte("{}") }, "no certificate"},
		"detached SCT":     {func(b []byte) []byte { return replace(t, b, "EmbeddedSct", "DetachedSct") }, "detached"},
		"empty chain":      {chain(func([]string) []string { return nil }), "no certificate"},
		"the root first":   {chain(func(c []string) []string { return []string{c[1], c[0]} }), "not a chain"},
		"the root alone":   {chain(func(c []string) []string { return c[1:] }), "another public key"},
		"a foreign root":   {chain(func(c []string) []string { return []string{c[0], selfSigned(t)} }), "not a chain"},
		"two in one block": {chain(func(c []string) []string { return []string{c[0] + c[1]} }), "not one PEM certificate"},
		"no certificate": {chain(func([]string) []string {
			return []string{"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"}
		}), "cannot be read"},
		"endless chain":     {chain(func(c []string) []string { return append(c, c[1], c[1], c[1], c[1], c[1], c[1], c[1], c[1], c[1]) }), "more than 10"},
		"key of another CA": {chain(func([]string) []string { return []string{selfSigned(t)} }), "another public key"},
	} {
		l := newIdentityLab(t)
		l.falsify = func(p string, status int, body []byte) (int, []byte) {
			if !strings.HasSuffix(p, "signingCert") {
				return status, body
			}
			return status, c.change(body)
		}
		s, err := sign.New(sign.Config{Services: l.services(), Token: l.token(t, alice)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Sign(context.Background(), sentence(t))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "get a certificate: "+hostOf(l.url)) {
			t.Errorf("%s: %v, want something with %q", name, err, c.want)
		}
	}
}

func selfSigned(t *testing.T) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: testNow(), NotAfter: testNow().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// The identity token never shows up in an error, whatever the service echoes.
func TestTokenIsNeverShown(t *testing.T) {
	t.Parallel()
	l := newIdentityLab(t)
	token := l.token(t, alice)
	l.falsify = func(string, int, []byte) (int, []byte) {
		return http.StatusUnauthorized, []byte(`{"message":"bad token ` + token.Raw + `, that is (` + token.Raw + `)"}`)
	}
	s, err := sign.New(sign.Config{Services: l.services(), Token: token})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Sign(context.Background(), sentence(t))
	if err == nil || !strings.Contains(err.Error(), "HTTP 401: bad token [token]") {
		t.Fatal(err)
	}
	for _, part := range strings.Split(token.Raw, ".") {
		if strings.Contains(err.Error(), part) {
			t.Errorf("a part of the token is in: %v", err)
		}
	}
}

// A person's identity goes to a service that others can read only with consent.
func TestConsent(t *testing.T) {
	t.Parallel()
	l := newIdentityLab(t)
	token := l.token(t, alice)
	public := sign.Services{CA: "https://ca.example", Logs: sign.One("https://log.example"), TSAs: sign.One("https://tsa.example")}
	workload := token
	workload.Email = ""
	for name, c := range map[string]struct {
		cfg  sign.Config
		asks bool
	}{
		"person, public":    {sign.Config{Services: public, Token: token}, true},
		"person, loopback":  {sign.Config{Services: l.services(), Token: token}, false},
		"person, public CA": {sign.Config{Services: sign.Services{CA: "https://ca.example", Logs: sign.One(l.url), TSAs: sign.One(l.url)}, Token: token}, true},
		"workload, public":  {sign.Config{Services: public, Token: workload}, false},
		"key, public":       {sign.Config{Services: public, Key: newKey(t, "")}, false},
	} {
		s, err := sign.New(c.cfg)
		if err != nil {
			t.Fatal(name, err)
		}
		d, asks := s.NeedsConsent()
		if asks != c.asks || asks && (d.Identity != alice || len(d.Hosts) == 0) {
			t.Errorf("%s: %+v %v", name, d, asks)
		}
		if asks {
			if _, err := s.Sign(context.Background(), sentence(t)); err == nil || !strings.Contains(err.Error(), "nobody agreed") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Who signed is what the certificate says, not what the token made us expect. A
// token that tells whose login was passed on tells whom to expect.
func TestSignerIsTheCertificates(t *testing.T) {
	t.Parallel()
	l := newIdentityLab(t)
	token := l.token(t, alice)
	for claim, want := range map[string]string{
		`{"connector_id":"https://accounts.example","user_id":"1"}`: "https://accounts.example",
		`{"connector_id":"github"}`:                                 token.Issuer,
		`"text"`:                                                    token.Issuer,
	} {
		token := token
		token.Claims = map[string]json.RawMessage{"federated_claims": json.RawMessage(claim)}
		s, err := sign.New(sign.Config{Services: l.services(), Token: token})
		if err != nil {
			t.Fatal(err)
		}
		if who, err := s.Who(t.Context()); err != nil || who.Issuer != want || who.Identity != alice {
			t.Errorf("%s: expected signer %v, %v", claim, who, err)
		}
		at := l.image(t, "app/federated")
		st, err := sign.ImageStatement(at.Digest(), nil)
		if err != nil {
			t.Fatal(err)
		}
		done, err := s.Attach(t.Context(), at, st)
		if err != nil || done.Signer.Issuer != token.Issuer || done.Signer.Identity != alice {
			t.Errorf("%s: the certificate names the issuer %s, the answer says %+v, %v", claim, token.Issuer, done, err)
		}
	}
}

// A timestamp outside the certificate's validity makes a signature that nobody
// accepts; and a certificate that has ended by our clock is of no use.
func TestTimesThatDoNotFit(t *testing.T) {
	t.Parallel()
	l := newIdentityLab(t)
	years := 1
	l.falsify = func(p string, status int, body []byte) (int, []byte) {
		at := regexp.MustCompile(`\x18[\x0f-\x19]\d{14}`).FindIndex(body)
		if at == nil || !strings.HasSuffix(p, "timestamp") {
			return status, body
		}
		year, _ := strconv.Atoi(string(body[at[0]+2 : at[0]+6]))
		copy(body[at[0]+2:], strconv.Itoa(year+years))
		return status, body
	}
	for _, years = range []int{1, -1} {
		s, err := sign.New(sign.Config{Services: l.services(), Token: l.token(t, alice)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Sign(t.Context(), sentence(t)); err == nil || !strings.Contains(err.Error(), "outside the certificate's validity") {
			t.Errorf("a timestamp %d years off: %v", years, err)
		}
	}
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		s, err := sign.New(sign.Config{Services: l.services(), Token: l.token(t, alice), Now: func() time.Time { return time.Now().Add(off) }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Sign(t.Context(), sentence(t)); err == nil || !strings.Contains(err.Error(), "not valid now by this machine's clock") {
			t.Errorf("a clock that is %v off: %v", off, err)
		}
	}
}

// A keyless signer without what makes its signatures last is refused at once.
func TestKeylessNeeds(t *testing.T) {
	t.Parallel()
	l := newIdentityLab(t)
	token := l.token(t, alice)
	for name, cfg := range map[string]sign.Config{
		"no token": {Services: l.services()},
		"no CA":    {Services: l.lab.services(), Token: token},
		"no log":   {Services: sign.Services{CA: l.url, TSAs: sign.One(l.url)}, Token: token},
		"no TSA":   {Services: sign.Services{CA: l.url, Logs: sign.One(l.url)}, Token: token},
	} {
		if _, err := sign.New(cfg); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if s, err := sign.New(sign.Config{Services: l.services(), Token: token}); err != nil || !s.Keyless() {
		t.Error(err)
	}
}
