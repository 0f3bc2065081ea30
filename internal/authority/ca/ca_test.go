package ca_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sigstore/fulcio/pkg/certificate"
	"golang.org/x/crypto/cryptobyte"

	"github.com/hallmark-dev/hallmark/internal/authority/ca"
	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
	"github.com/hallmark-dev/hallmark/internal/authority/oidc"
	"github.com/hallmark-dev/hallmark/internal/hmtest/ctlog"
)

const issuerURL = "http://127.0.0.1:8420"

// provider is one real issuer for all tests: its RSA key takes long to make.
var provider = sync.OnceValues(func() (*oidc.Provider, error) {
	return oidc.Open(tempDir, oidc.Config{Issuer: issuerURL})
})

// ec is an issuer with one ES256 key.
type ec struct{ key *ecdsa.PrivateKey }

func (e ec) PublicKey(string) crypto.PublicKey { return &e.key.PublicKey }

type authority struct {
	url    string
	oidc   *oidc.Provider
	root   *x509.Certificate
	ct     *ecdsa.PrivateKey
	es     *ecdsa.PrivateKey // of http://es256.example
	client *http.Client
}

func start(t *testing.T) *authority {
	t.Helper()
	p, err := provider()
	if err != nil {
		t.Fatal(err)
	}
	private, root, err := ca.NewRoot(time.Now(), "Hallmark", "test CA")
	if err != nil {
		t.Fatal(err)
	}
	ct, es := p256(t), p256(t)
	c, err := ca.New(ca.Config{CAKey: private, Chain: []*x509.Certificate{root}, CTKey: ct, Issuers: set(t,
		issuers.Issuer{URL: issuerURL, ClientID: "sigstore", Type: issuers.TypeEmail, Keys: p},
		issuers.Issuer{URL: issuerURL, ClientID: "sigstore", Type: issuers.TypeGitHubWorkflow, Keys: p},
		issuers.Issuer{URL: "http://es256.example", ClientID: "sigstore", Type: issuers.TypeEmail, Algorithms: []string{"ES256"}, Keys: ec{es}},
	)})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(c.Handler())
	t.Cleanup(s.Close)
	return &authority{s.URL, p, root, ct, es, s.Client()}
}

func publicPEM(t testing.TB, public crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// prove signs a subject as Sigstore's clients do for that kind of key.
func prove(t testing.TB, private crypto.Signer, subject string) []byte {
	t.Helper()
	message, hash := []byte(subject), crypto.SHA256
	switch k := private.Public().(type) {
	case ed25519.PublicKey:
		hash = 0
	case *ecdsa.PublicKey:
		hash = map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384, 521: crypto.SHA512}[k.Params().BitSize]
	}
	if hash != 0 {
		h := hash.New()
		h.Write(message)
		message = h.Sum(nil)
	}
	sig, err := private.Sign(rand.Reader, message, hash)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func body(public string, proof []byte) map[string]any {
	return map[string]any{"publicKeyRequest": map[string]any{
		"publicKey": map[string]any{"algorithm": "ECDSA", "content": public}, "proofOfPossession": proof}}
}

func (a *authority) post(t *testing.T, token string, request any) (int, string) {
	t.Helper()
	data, ok := request.([]byte)
	if !ok {
		data, _ = json.Marshal(request)
	}
	req, _ := http.NewRequest(http.MethodPost, a.url+"/api/v2/signingCert", bytes.NewReader(data))
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func (a *authority) email(t *testing.T, email string) string {
	t.Helper()
	raw, err := a.oidc.Mint(email, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (a *authority) mint(t *testing.T, claims map[string]any, audience string) string {
	t.Helper()
	raw, err := a.oidc.MintClaims(claims, audience, 0)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// certificate reads the answer and checks everything that a verifier would.
func (a *authority) certificate(t *testing.T, status int, answer string) *x509.Certificate {
	t.Helper()
	var got struct {
		Embedded struct {
			Chain struct{ Certificates []string }
		} `json:"signedCertificateEmbeddedSct"`
	}
	if err := json.Unmarshal([]byte(answer), &got); err != nil || status != 200 || len(got.Embedded.Chain.Certificates) != 2 {
		t.Fatalf("%d %s", status, answer)
	}
	var certs []*x509.Certificate
	for _, text := range got.Embedded.Chain.Certificates {
		block, rest := pem.Decode([]byte(text))
		if block == nil || len(rest) != 0 {
			t.Fatalf("not one PEM block: %s", text)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, cert)
	}
	leaf := certs[0]
	if !certs[1].Equal(a.root) {
		t.Fatal("the chain does not end at the root")
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.root)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}); err != nil {
		t.Fatal(err)
	}
	if leaf.NotAfter.Sub(leaf.NotBefore) != 10*time.Minute || leaf.NotBefore.After(time.Now()) || leaf.IsCA ||
		leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.ExtKeyUsage) != 1 || len(leaf.RawSubject) != 2 {
		t.Fatalf("certificate %+v", leaf)
	}
	checkSCT(t, leaf, a.root, &a.ct.PublicKey)
	return leaf
}

// checkSCT is RFC 6962, 3.2 and 3.3 from the verifier's side: take the SCT list
// out of the certificate, rebuild what was signed, verify.
func checkSCT(t *testing.T, leaf, issuer *x509.Certificate, ct *ecdsa.PublicKey) {
	t.Helper()
	tbs, list := without(t, leaf.RawTBSCertificate, "1.3.6.1.4.1.11129.2.4.2")
	var octets []byte
	if rest, err := asn1.Unmarshal(list, &octets); err != nil || len(rest) != 0 {
		t.Fatalf("SCT extension: %v", err)
	}
	s := cryptobyte.String(octets)
	var all, sct cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&all) || !s.Empty() || !all.ReadUint16LengthPrefixed(&sct) || !all.Empty() {
		t.Fatal("SCT list")
	}
	var version, hash, alg uint8
	var ms uint64
	var id []byte
	var extensions, sig cryptobyte.String
	if !sct.ReadUint8(&version) || !sct.ReadBytes(&id, 32) || !sct.ReadUint64(&ms) || !sct.ReadUint16LengthPrefixed(&extensions) ||
		!sct.ReadUint8(&hash) || !sct.ReadUint8(&alg) || !sct.ReadUint16LengthPrefixed(&sig) || !sct.Empty() || version != 0 || hash != 4 || alg != 3 {
		t.Fatal("SCT")
	}
	spki, _ := x509.MarshalPKIXPublicKey(ct)
	if want := sha256.Sum256(spki); !bytes.Equal(id, want[:]) {
		t.Fatal("log id")
	}
	at := time.UnixMilli(int64(ms))
	if at.Before(leaf.NotBefore) || at.After(time.Now().Add(time.Second)) {
		t.Fatalf("SCT of %s", at)
	}
	issuerKey := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	signed := append([]byte{0, 0}, binary.BigEndian.AppendUint64(nil, ms)...)
	signed = append(append(signed, 0, 1), issuerKey[:]...)
	signed = append(signed, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs)))
	signed = append(append(signed, tbs...), 0, 0)
	digest := sha256.Sum256(signed)
	if !ecdsa.VerifyASN1(ct, digest[:], sig) {
		t.Fatal("the SCT's signature does not match")
	}
}

// without cuts an extension out of a TBSCertificate and returns its value.
func without(t *testing.T, raw []byte, extension string) (tbs, cut []byte) {
	t.Helper()
	tbs, cut, err := ctlog.Without(raw, extension)
	if err != nil || cut == nil {
		t.Fatalf("extension %s: %v", extension, err)
	}
	return tbs, cut
}

func TestEmailCertificates(t *testing.T) {
	t.Parallel()
	a := start(t)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	for name, private := range map[string]crypto.Signer{"P-256": p256(t), "P-384": p384, "P-521": p521, "Ed25519": ed, "RSA": rsaKey} {
		status, answer := a.post(t, a.email(t, "alice@example.com"), body(publicPEM(t, private.Public()), prove(t, private, "alice@example.com")))
		leaf := a.certificate(t, status, answer)
		if !private.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(leaf.PublicKey) {
			t.Errorf("%s: the certificate has another key", name)
		}
		if diff := cmp.Diff([]string{"alice@example.com"}, leaf.EmailAddresses); diff != "" || len(leaf.URIs)+len(leaf.DNSNames) != 0 {
			t.Error(diff)
		}
		got, err := certificate.ParseExtensions(leaf.Extensions)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(certificate.Extensions{Issuer: issuerURL, Subject: "alice@example.com"}, got); diff != "" {
			t.Error(diff)
		}
	}
	// The token in the body, snake case as protocol buffers allow.
	private := p256(t)
	status, answer := a.post(t, "", map[string]any{"credentials": map[string]any{"oidc_identity_token": a.email(t, "bob@example.com")},
		"public_key_request": map[string]any{"public_key": map[string]any{"content": publicPEM(t, private.Public())}, "proof_of_possession": prove(t, private, "bob@example.com")}})
	a.certificate(t, status, answer)
	// An issuer that is configured with ES256.
	status, answer = a.post(t, a.es256(t, nil), body(publicPEM(t, private.Public()), prove(t, private, "carol@example.com")))
	a.certificate(t, status, answer)
}

// jwt signs any header and claims.
func jwt(t *testing.T, header, claims map[string]any, sign func([]byte) []byte) string {
	t.Helper()
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	input := b64(h) + "." + b64(c)
	return input + "." + b64(sign([]byte(input)))
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (a *authority) es256(t *testing.T, change func(header, claims map[string]any)) string {
	now := time.Now().Unix()
	header := map[string]any{"alg": "ES256"}
	claims := map[string]any{"iss": "http://es256.example", "sub": "carol", "aud": "sigstore", "email": "carol@example.com",
		"email_verified": true, "iat": now, "exp": now + 60}
	if change != nil {
		change(header, claims)
	}
	return jwt(t, header, claims, func(in []byte) []byte {
		digest := sha256.Sum256(in)
		r, s, _ := ecdsa.Sign(rand.Reader, a.es, digest[:])
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	})
}

func workflow() map[string]any {
	return map[string]any{
		"sub": "repo:acme/app:ref:refs/tags/v1", "job_workflow_ref": "acme/ci/.github/workflows/build.yml@refs/heads/main",
		"job_workflow_sha": "jobsha", "sha": "sha", "ref": "refs/tags/v1", "event_name": "push", "repository": "acme/app",
		"repository_id": "1", "repository_owner": "acme", "repository_owner_id": "2", "repository_visibility": "public",
		"workflow": "Release it", "workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/v1", "workflow_sha": "wsha",
		"runner_environment": "github-hosted", "run_id": "3", "run_attempt": "4", "environment": "prod",
	}
}

func TestWorkflowCertificate(t *testing.T) {
	t.Parallel()
	a := start(t)
	private := p256(t)
	status, answer := a.post(t, a.mint(t, workflow(), ""), body(publicPEM(t, private.Public()), prove(t, private, "repo:acme/app:ref:refs/tags/v1")))
	leaf := a.certificate(t, status, answer)
	const signer = "https://github.com/acme/ci/.github/workflows/build.yml@refs/heads/main"
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != signer || len(leaf.EmailAddresses) != 0 {
		t.Fatalf("names %v %v", leaf.URIs, leaf.EmailAddresses)
	}
	got, err := certificate.ParseExtensions(leaf.Extensions)
	if err != nil {
		t.Fatal(err)
	}
	want := certificate.Extensions{Issuer: issuerURL, Subject: "repo:acme/app:ref:refs/tags/v1",
		GithubWorkflowTrigger: "push", GithubWorkflowSHA: "sha", GithubWorkflowName: "Release it", GithubWorkflowRepository: "acme/app",
		GithubWorkflowRef: "refs/tags/v1", BuildSignerURI: signer, BuildSignerDigest: "jobsha", RunnerEnvironment: "github-hosted",
		SourceRepositoryURI: "https://github.com/acme/app", SourceRepositoryDigest: "sha", SourceRepositoryRef: "refs/tags/v1",
		SourceRepositoryIdentifier: "1", SourceRepositoryOwnerURI: "https://github.com/acme", SourceRepositoryOwnerIdentifier: "2",
		BuildConfigURI:    "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1",
		BuildConfigDigest: "wsha", BuildTrigger: "push", RunInvocationURI: "https://github.com/acme/app/actions/runs/3/attempts/4",
		SourceRepositoryVisibilityAtSigning: "public", DeploymentEnvironment: "prod"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// Every arc from 1 to 24 but 7 (otherName), each once; 1-6 raw, the rest DER UTF8String.
	seen := map[int]bool{}
	for _, e := range leaf.Extensions {
		if arc := e.Id; len(arc) == 9 && arc[:8].String() == "1.3.6.1.4.1.57264.1" {
			if seen[arc[8]] || (arc[8] > 6 && e.Value[0] != 0x0c) || (arc[8] <= 6 && e.Value[0] == 0x0c) {
				t.Errorf("extension %s", arc)
			}
			seen[arc[8]] = true
		}
	}
	if len(seen) != 23 || seen[7] {
		t.Errorf("extensions %v", seen)
	}
}

func TestTokensAreRefused(t *testing.T) {
	t.Parallel()
	a := start(t)
	private := p256(t)
	now := time.Now()
	good := map[string]any{"iss": issuerURL, "sub": "x", "aud": "sigstore", "email": "alice@example.com", "email_verified": true,
		"iat": now.Unix(), "exp": now.Unix() + 60}
	kid := keyID(t, a)
	own := func(alg string, sign func([]byte) []byte) string {
		return jwt(t, map[string]any{"alg": alg, "kid": kid}, good, sign)
	}
	stranger, _ := rsa.GenerateKey(rand.Reader, 2048)
	claims := func(name string, value any) string {
		return a.es256(t, func(_, c map[string]any) {
			if c[name] = value; value == nil {
				delete(c, name)
			}
		})
	}
	flow := func(name string, value any) string {
		c := workflow()
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return a.mint(t, c, "")
	}
	real := a.email(t, "alice@example.com")
	parts := strings.Split(real, ".")
	for name, tc := range map[string]struct{ token, want string }{
		"none":     {"", "no identity token"},
		"no JWT":   {"abc", "base64url"},
		"alg none": {own("none", func([]byte) []byte { return []byte("x") }), `"alg"`},
		"alg None": {own("nOnE", func([]byte) []byte { return []byte("x") }), `"alg"`},
		"alg HS256": {own("HS256", func(in []byte) []byte {
			mac := hmac.New(sha256.New, []byte(publicPEM(t, a.oidc.PublicKey(kid))))
			mac.Write(in)
			return mac.Sum(nil)
		}), `"alg"`},
		"alg RS384":           {own("RS384", func([]byte) []byte { return make([]byte, 256) }), `"alg"`},
		"alg PS256":           {own("PS256", func([]byte) []byte { return make([]byte, 256) }), `"alg"`},
		"ES256 of RSA issuer": {own("ES256", func([]byte) []byte { return make([]byte, 64) }), `"alg"`},
		"a stranger's key": {own("RS256", func(in []byte) []byte {
			digest := sha256.Sum256(in)
			sig, _ := rsa.SignPKCS1v15(rand.Reader, stranger, crypto.SHA256, digest[:])
			return sig
		}), "signature"},
		"unknown kid":            {jwt(t, map[string]any{"alg": "RS256", "kid": "x"}, good, func([]byte) []byte { return []byte("x") }), `"kid"`},
		"claims changed":         {parts[0] + "." + b64([]byte(strings.Replace(string(unb64(t, parts[1])), "alice", "mally", 2))) + "." + parts[2], "signature"},
		"signature cut":          {real[:len(real)-2], "signature"},
		"padding":                {real + "==", "base64url"},
		"four parts":             {real + ".x", "base64url"},
		"RS256 of ES256 issuer":  {a.es256(t, func(h, _ map[string]any) { h["alg"] = "RS256" }), `"alg"`},
		"critical extension":     {a.es256(t, func(h, _ map[string]any) { h["crit"] = []string{"b64"} }), `"crit"`},
		"another issuer":         {claims("iss", "http://evil.example"), `"iss"`},
		"issuer with a slash":    {claims("iss", "http://es256.example/"), `"iss"`},
		"no issuer":              {claims("iss", nil), `"iss"`},
		"no subject":             {claims("sub", nil), `"sub"`},
		"another audience":       {claims("aud", "other"), `"aud"`},
		"audience like ours":     {claims("aud", "sigstore "), `"aud"`},
		"no audience":            {claims("aud", nil), `"aud"`},
		"audience a number":      {claims("aud", 1), `"aud"`},
		"two audiences":          {claims("aud", []string{"sigstore", "other"}), `"azp"`},
		"another party":          {claims("azp", "other"), `"azp"`},
		"expired":                {claims("exp", now.Unix()-1), `"exp"`},
		"no expiry":              {claims("exp", nil), `"exp"`},
		"expiry a string":        {claims("exp", "9999999999"), `"exp"`},
		"never expires":          {claims("exp", now.Unix()+10*86400), `"exp"`},
		"issued tomorrow":        {claims("iat", now.Unix()+3600), `"iat"`},
		"no time of issue":       {claims("iat", nil), `"iat"`},
		"not yet":                {claims("nbf", now.Unix()+3600), `"nbf"`},
		"unverified":             {claims("email_verified", false), `"email_verified"`},
		"verified a string":      {claims("email_verified", "true"), `"email_verified"`},
		"not said":               {claims("email_verified", nil), `"email_verified"`},
		"no e-mail":              {claims("email", nil), `"email"`},
		"no address":             {claims("email", "carol"), `"email"`},
		"two addresses":          {claims("email", "a@b.c,d@e.f"), `"email"`},
		"address with NUL":       {claims("email", "a@b.c\x00@d.e"), `"email"`},
		"person and workflow":    {flow("email", "alice@example.com"), `"job_workflow_ref"`},
		"workflow: no ref":       {flow("ref", nil), `"ref"`},
		"workflow: run a number": {flow("run_id", 3), `"run_id"`},
		"workflow: climbs up":    {flow("job_workflow_ref", "acme/ci/../../evil/x.yml@main"), `"job_workflow_ref"`},
		"workflow: escapes":      {flow("job_workflow_ref", "acme/ci%2f..%2fx"), `"job_workflow_ref"`},
		"workflow: absolute":     {flow("repository", "/acme/app"), `"repository"`},
		"workflow for others":    {a.mint(t, workflow(), "other"), `"aud"`},
	} {
		status, answer := a.post(t, tc.token, body(publicPEM(t, private.Public()), prove(t, private, "alice@example.com")))
		var e struct {
			Code    int
			Message string
			Details []any
		}
		if err := json.Unmarshal([]byte(answer), &e); err != nil || status != http.StatusUnauthorized || e.Code != 16 ||
			e.Details == nil || !strings.Contains(e.Message, tc.want) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
		for _, part := range strings.Split(tc.token, ".") {
			if len(part) > 8 && strings.Contains(answer, part[:8]) {
				t.Errorf("%s: the answer shows the token: %s", name, answer)
			}
		}
	}
}

func unb64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func keyID(t *testing.T, a *authority) string {
	t.Helper()
	var set struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal(a.oidc.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	return set.Keys[0].Kid
}

func TestKeysAndProofsAreRefused(t *testing.T) {
	t.Parallel()
	a := start(t)
	private, other := p256(t), p256(t)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	public := publicPEM(t, private.Public())
	proof := prove(t, private, "alice@example.com")
	weak := &rsa.PublicKey{N: mustRSA(t).N, E: 3}
	short := *mustRSA(t)
	short.N = new(bigInt).Rsh(short.N, 1024)
	token := a.email(t, "alice@example.com")
	digest512 := sha512.Sum512([]byte("alice@example.com"))
	otherHash, _ := private.Sign(rand.Reader, digest512[:], crypto.SHA512)
	encoded, _ := json.Marshal(body(public, proof))
	replace := func(old, new string) []byte { return []byte(strings.Replace(string(encoded), old, new, 1)) }
	for name, tc := range map[string]struct {
		request any
		want    string
	}{
		"proof over another subject": {body(public, prove(t, private, "mallory@example.com")), "proofOfPossession"},
		"proof over the whole token": {body(public, prove(t, private, token)), "proofOfPossession"},
		"proof with another key":     {body(public, prove(t, other, "alice@example.com")), "proofOfPossession"},
		"proof replayed for a key":   {body(publicPEM(t, other.Public()), proof), "proofOfPossession"},
		"proof with another hash":    {body(public, otherHash), "proofOfPossession"},
		"proof cut":                  {body(public, proof[:len(proof)-1]), "proofOfPossession"},
		"no proof":                   {body(public, nil), "proofOfPossession"},
		"weak exponent":              {body(publicPEM(t, weak), proof), "insecure"},
		"RSA-1024":                   {body(publicPEM(t, &short), proof), "insecure"},
		"P-224":                      {body(publicPEM(t, p224.Public()), proof), "insecure"},
		"no key":                     {body("", proof), "PEM"},
		"DER":                        {body("MFkwEwYHKoZIzj0CAQ==", proof), "PEM"},
		"two keys":                   {body(public+public, proof), "PEM"},
		"text before the key":        {body("x\n"+public, proof), "PEM"},
		"a certificate":              {body(strings.ReplaceAll(public, "PUBLIC KEY", "CERTIFICATE"), proof), "PEM"},
		"empty":                      {[]byte{}, "CreateSigningCertificateRequest"},
		"null key":                   {[]byte(`{"publicKeyRequest":null}`), "missing"},
		"unknown member":             {replace(`{"publicKeyRequest"`, `{"x":1,"publicKeyRequest"`), "CreateSigningCertificateRequest"},
		"member twice":               {replace(`{"publicKeyRequest"`, `{"publicKeyRequest":{},"publicKeyRequest"`), "CreateSigningCertificateRequest"},
		"other case":                 {replace(`"publicKeyRequest"`, `"PublicKeyRequest"`), "CreateSigningCertificateRequest"},
		"trailing data":              {append(append([]byte{}, encoded...), '{', '}'), "CreateSigningCertificateRequest"},
		"too large":                  {bytes.Repeat([]byte(" "), 70<<10), "longer"},
		"two tokens":                 {replace(`{"publicKeyRequest"`, `{"credentials":{"oidcIdentityToken":"eyJ"},"publicKeyRequest"`), "no other token"},
	} {
		status, answer := a.post(t, token, tc.request)
		var e struct {
			Code    int
			Message string
		}
		if err := json.Unmarshal([]byte(answer), &e); err != nil || status != http.StatusBadRequest || e.Code != 3 || !strings.Contains(e.Message, tc.want) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
}

func TestOtherRoutes(t *testing.T) {
	t.Parallel()
	a := start(t)
	get := func(path string) string {
		resp, err := a.client.Get(a.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		data, _ := io.ReadAll(resp.Body)
		return resp.Status + " " + string(data)
	}
	root, _ := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})))
	if got, want := get("/api/v2/trustBundle"), `200 OK {"chains":[{"certificates":[`+string(root)+`]}]}`+"\n"; got != want {
		t.Errorf("%s", got)
	}
	if got := get("/api/v2/configuration"); !strings.Contains(got, `"issuerUrl":"`+issuerURL+`"`) || !strings.Contains(got, `"issuerType":"github-workflow"`) ||
		!strings.Contains(got, `"challengeClaim":"email"`) || !strings.Contains(got, `"audience":"sigstore"`) {
		t.Errorf("%s", got)
	}
	if got := get("/api/v2/signingCert"); !strings.HasPrefix(got, "405") || !strings.Contains(got, `"code":12`) {
		t.Errorf("%s", got)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	p, err := provider()
	if err != nil {
		t.Fatal(err)
	}
	private, root, err := ca.NewRoot(time.Now(), "Hallmark", "test CA")
	if err != nil {
		t.Fatal(err)
	}
	issued := set(t, issuers.Issuer{URL: issuerURL, ClientID: "sigstore", Type: issuers.TypeEmail, Keys: p})
	good := func() ca.Config {
		return ca.Config{CAKey: private, Chain: []*x509.Certificate{root}, CTKey: p256(t), Issuers: issued}
	}
	if _, err := ca.New(good()); err != nil {
		t.Fatal(err)
	}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	for name, change := range maps.All(map[string]func(*ca.Config){
		"no key":         func(c *ca.Config) { c.CAKey = nil },
		"no certificate": func(c *ca.Config) { c.Chain = nil },
		"another key":    func(c *ca.Config) { c.CAKey = p256(t) },
		"no CT key":      func(c *ca.Config) { c.CTKey = nil },
		"P-384":          func(c *ca.Config) { c.CTKey = p384 },
		"one key":        func(c *ca.Config) { c.CTKey = private },
		"no issuers":     func(c *ca.Config) { c.Issuers = nil },
	}) {
		c := good()
		change(&c)
		if _, err := ca.New(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
