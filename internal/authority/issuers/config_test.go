package issuers_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/authority/issuers"
)

const ownIssuer = "http://127.0.0.1:8420"

func TestConfigForms(t *testing.T) {
	t.Parallel()
	yaml := `define:
  - &ci "gitlab-pipeline"
oidc-issuers:
  https://gitlab.example.com:
    issuer-url: https://gitlab.example.com
    client-id: sigstore
    type: ci-provider
    ci-provider: *ci
    contact: ops@example.com
    description: "GitLab"
  https://accounts.example.com:
    issuer-url: https://accounts.example.com
    client-id: fulcio
    type: email
    challenge-claim: email
meta-issuers:
  https://oidc.eks.*.amazonaws.com/id/*:
    client-id: sigstore
    type: kubernetes
ci-issuer-metadata:
  *ci :
    default-template-values:
      url: "https://gitlab.example.com"
    extension-templates:
      build-signer-uri: "https://{{ .ci_config_ref_uri }}"
    subject-alternative-name-template: "https://{{ .ci_config_ref_uri }}"
`
	js := `{"OIDCIssuers": {
  "https://gitlab.example.com": {"IssuerURL": "https://gitlab.example.com", "ClientID": "sigstore", "Type": "ci-provider", "CIProvider": "gitlab-pipeline", "Contact": "c", "Description": "d"},
  "https://accounts.example.com": {"IssuerURL": "https://accounts.example.com", "ClientID": "fulcio", "Type": "email", "ChallengeClaim": "email", "SkipEmailVerification": false}},
 "MetaIssuers": {"https://oidc.eks.*.amazonaws.com/id/*": {"ClientID": "sigstore", "Type": "kubernetes"}},
 "CIIssuerMetadata": {"gitlab-pipeline": {"DefaultTemplateValues": {"url": "https://gitlab.example.com"},
   "ExtensionTemplates": {"BuildSignerURI": "https://{{ .ci_config_ref_uri }}"}, "SubjectAlternativeNameTemplate": "https://{{ .ci_config_ref_uri }}"}}}`
	for form, text := range map[string]string{"YAML": yaml, "JSON": js} {
		c, err := issuers.ParseConfig("ca", []byte(text), ownIssuer)
		if err != nil {
			t.Errorf("%s: %v", form, err)
			continue
		}
		var said []string
		for _, i := range c.Issuers {
			said = append(said, i.URL+" "+i.ClientID+" "+i.Type)
		}
		want := "https://gitlab.example.com sigstore ci-provider,https://accounts.example.com fulcio email,https://oidc.eks.*.amazonaws.com/id/* sigstore kubernetes"
		if strings.Join(said, ",") != want || !c.Issuers[2].Wildcard || c.Issuers[0].Provider == nil || c.CTLog != nil {
			t.Errorf("%s: %v", form, said)
		}
	}
	c, err := issuers.ParseConfig("ca", []byte("ct-log:\n  url: https://ct.example.com/2026\n  public-key: |\n    -----BEGIN PUBLIC KEY-----\n"), ownIssuer)
	if err != nil || len(c.Issuers) != 0 || c.CTLog == nil || c.CTLog.URL != "https://ct.example.com/2026" {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestConfigRefuses: the line and the member that are not taken, and why.
func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	meta := func(url string, lines ...string) string {
		return "meta-issuers:\n  " + url + ":\n    client-id: sigstore\n    " + strings.Join(lines, "\n    ") + "\n"
	}
	ci := func(lines ...string) string {
		return entry("type: ci-provider", "ci-provider: x") + "ci-issuer-metadata:\n  x:\n    " + strings.Join(lines, "\n    ") + "\n"
	}
	for text, want := range map[string]string{
		"":                                  "want one document",
		"{}":                                "0 issuers",
		"a: b":                              "ca:1: a: unknown field",
		"oidc-issuers: []":                  "must be a mapping",
		entry("type: email", "type: email"): "given twice",
		entry("type: email", "colour: red"): "ca:6: oidc-issuers[\"https://ci.example.com\"].colour: unknown field",
		entry("Type: email"):                "it is spelled type",
		entry("type: mail"):                 `ca:5: oidc-issuers["https://ci.example.com"].type: type "mail" is not known`,
		entry(""):                           `type "" is not known`,
		entry("type: &a {b: c}"):            "anchors",
		entry("type: email", "challenge-claim: sub"):                       "sign",
		entry("type: email", "issuer-claim: connector_id"):                 "path of one claim",
		entry("type: email", "issuer-claim: $..connector_id"):              "path of one claim",
		entry("type: email", "issuer-claim: $.a[0]"):                       "path of one claim",
		entry("type: spiffe", "issuer-claim: $.a"):                         "only for issuers of type email",
		entry("type: spiffe"):                                              "spiffe-trust-domain",
		entry("type: spiffe", "spiffe-trust-domain: spiffe://example.org"): "spiffe-trust-domain",
		entry("type: spiffe", "spiffe-trust-domain: Example.org"):          "spiffe-trust-domain",
		entry("type: spiffe", "spiffe-trust-domain: example.org."):         "spiffe-trust-domain",
		entry("type: spiffe", "spiffe-trust-domain: a..b"):                 "spiffe-trust-domain",
		entry("type: email", "spiffe-trust-domain: example.org"):           "only for issuers of type spiffe",
		entry("type: email", "subject-domain: example.com"):                "only for issuers of type uri and username",
		entry("type: uri"): "subject-domain",
		entry("type: uri", "subject-domain: users.example.com"):        "scheme and a host",
		entry("type: uri", "subject-domain: http://users.example.com"): "another scheme",
		entry("type: uri", "subject-domain: https://example.org"):      "not in the domain",
		entry("type: uri", "subject-domain: https://example.com/x"):    "scheme and a host",
		entry("type: username"): "without a scheme",
		entry("type: username", "subject-domain: https://example.com"):                                  "without a scheme",
		entry("type: username", "subject-domain: evilexample.com"):                                      "not in the domain",
		entry("type: kubernetes", "skip-email-verification: true"):                                      "only for issuers of type email",
		entry("type: email", "skip-email-verification: \"true\""):                                       "true or false",
		entry("type: email", "ca-cert: \"no\""):                                                         "no PEM certificate",
		entry("type: email", "ci-provider: x"):                                                          "only for issuers of type ci-provider",
		entry("type: ci-provider"):                                                                      "must name an entry",
		entry("type: ci-provider", "ci-provider: x"):                                                    "must name an entry",
		ci("default-template-values: {a: b}"):                                                           "subject-alternative-name-template is missing",
		ci(`subject-alternative-name-template: "{{ .a"`):                                                "not a template",
		ci(`subject-alternative-name-template: "{{ nothing .a }}"`):                                     "not a template",
		ci("subject-alternative-name-template: a", "extension-templates: {colour: a}"):                  "ca:10: ci-issuer-metadata.x.extension-templates.colour: not an extension",
		ci("subject-alternative-name-template: a", "extension-templates: {issuer: a}"):                  "always the token's",
		ci("subject-alternative-name-template: a", "extension-templates: {Subject: a}"):                 "always the token's",
		ci("subject-alternative-name-template: a", "extension-templates: {run-invocation-uri: \"{{\"}"): "not a template",
		strings.Replace(entry("type: email"), "client-id: sigstore", "description: x", 1):               "client-id is missing",
		strings.Replace(entry("type: email"), "issuer-url: "+issuer, "issuer-url: "+issuer+"/", 1):      "ca:3: oidc-issuers[\"https://ci.example.com\"].issuer-url: issuer-url must be the same",
		strings.Replace(entry("type: email"), "issuer-url: "+issuer, "contact: x", 1):                   "issuer-url must be the same",
		strings.ReplaceAll(entry("type: email"), "https://ci", "http://ci"):                             "an issuer is an https URL",
		strings.ReplaceAll(entry("type: email"), issuer, issuer+"?a=b"):                                 "an issuer is an https URL",
		strings.ReplaceAll(entry("type: email"), issuer, "https://u@ci.example.com"):                    "an issuer is an https URL",
		strings.ReplaceAll(entry("type: email"), issuer, ownIssuer):                                     "this authority's own issuer",
		strings.ReplaceAll(entry("type: email"), issuer, "https://*.example.com"):                       "under meta-issuers",
		meta("https://ci.example.com", "type: kubernetes"):                                              "under meta-issuers",
		meta("HTTPS://*.*", "type: email"):                                                              "in lower case",
		meta("HTTPS://*.example.com", "type: kubernetes"):                                               "in lower case",
		meta("httpS://x.example.com/*", "type: kubernetes"):                                             "in lower case",
		meta("HTTP://127.0.0.1:8420/*", "type: kubernetes"):                                             "in lower case",
		meta("https://*.*", "type: kubernetes"):                                                         "left of a domain",
		strings.ReplaceAll(entry("type: email"), "https", "HTTPS"):                                      "in lower case",
		meta("https://*", "type: kubernetes"):                                                           "left of a domain",
		meta("https://*.com", "type: kubernetes"):                                                       "left of a domain",
		meta("https://example.*", "type: kubernetes"):                                                   "left of a domain",
		meta("https://a.*.com", "type: kubernetes"):                                                     "left of a domain",
		meta("http://127.0.0.1:*", "type: kubernetes"):                                                  "",
		meta("https://x.example.com/*", "type: spiffe", "spiffe-trust-domain: example.org"):             "share one trust domain",
		meta("https://x.example.com/*", "type: uri", "subject-domain: https://example.com"):             "share the names",
		meta("https://x.example.com/*", "type: email", "issuer-url: https://x.example.com"):             "must be the same",
		"oidc-issuers: {}\nOIDCIssuers: {}\n":                                                           "want one of the two",
	} {
		_, err := issuers.ParseConfig("ca", []byte(text), ownIssuer)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "ca") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestWildcards: a * is one part of a host or a path, and nothing else.
func TestWildcards(t *testing.T) {
	t.Parallel()
	s := es256(t)
	set := oneOf(t, s, "meta-issuers:\n  https://oidc.eks.*.example.com/id/*:\n    client-id: sigstore\n    type: kubernetes\n")
	for url, ok := range map[string]bool{
		"https://oidc.eks.us-west-2.example.com/id/B02C93":                true,
		"https://oidc.eks.us-west-2.example.com/id/":                      false,
		"https://oidc.eks.us.west.example.com/id/a":                       false,
		"https://oidc.eks.a/b.example.com/id/a":                           false,
		"https://oidc.eks.a.example.com/id/a/b":                           false,
		"https://oidc.eks.a.example.com/id/a?x":                           false,
		"https://oidcXeks.a.example.com/id/a":                             false,
		"http://oidc.eks.a.example.com/id/a":                              false,
		"https://evil.example/?https://oidc.eks.a.example.com/id/a":       false,
		"https://oidc.eks.a.example.com/id/a#https://oidc.eks.a.example/": false,
	} {
		_, err := set.Authenticate(t.Context(), s.token(t, claims(url, kubernetesClaims)))
		if (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// caPEM is a certificate.
func caPEM(t testing.TB) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// FuzzConfig: a configuration is refused, or its issuers can be used.
func FuzzConfig(f *testing.F) {
	text, _ := json.Marshal(caPEM(f))
	f.Add(entry("type: email", "ca-cert: "+string(text)))
	f.Add(entry("type: ci-provider", "ci-provider: gitlab-pipeline") + gitLabTemplates)
	f.Add("meta-issuers:\n  https://*.example.com/*:\n    client-id: sigstore\n    type: kubernetes\n")
	f.Add(`{"OIDCIssuers": {"https://a.example": {"IssuerURL": "https://a.example", "ClientID": "x", "Type": "email"}}}`)
	s := es256(f)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := issuers.ParseConfig("ca", []byte(text), ownIssuer)
		if err != nil {
			return
		}
		for n := range c.Issuers {
			c.Issuers[n].Keys, c.Issuers[n].Algorithms = s, []string{s.alg}
		}
		set, err := issuers.New(issuers.Config{Issuers: c.Issuers})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range c.Issuers {
			if i.URL == ownIssuer {
				t.Fatal("our own issuer")
			}
			if !i.Wildcard && len(i.URL) < 1000 {
				_, _ = set.Authenticate(t.Context(), s.token(t, claims(i.URL, gitLabClaims)))
			}
		}
	})
}
