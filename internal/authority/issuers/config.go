package issuers

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"sort"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/loopback"
	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

// maxIssuers bounds a configuration.
const maxIssuers = 1000

// document is the configuration in both of Fulcio's spellings: YAML's and JSON's.
type document struct {
	Define     strictyaml.Ignored      `yaml:"define"` // where Fulcio's own has its anchors
	CTLog      *ctLogYAML              `yaml:"ct-log"` // our own: Fulcio has flags for it
	Issuers    map[string]issuerYAML   `yaml:"oidc-issuers"`
	Wildcards  map[string]issuerYAML   `yaml:"meta-issuers"`
	Providers  map[string]providerYAML `yaml:"ci-issuer-metadata"`
	IssuersJ   map[string]issuerJSON   `yaml:"OIDCIssuers"`
	WildcardsJ map[string]issuerJSON   `yaml:"MetaIssuers"`
	ProvidersJ map[string]providerJSON `yaml:"CIIssuerMetadata"`
	Pos        strictyaml.Pos
}

type ctLogYAML struct {
	URL strictyaml.Scalar `yaml:"url"`
	Key strictyaml.Scalar `yaml:"public-key"` // PEM
	Pos strictyaml.Pos
}

type issuerYAML struct {
	IssuerURL     strictyaml.Scalar `yaml:"issuer-url"`
	ClientID      strictyaml.Scalar `yaml:"client-id"`
	Type          strictyaml.Scalar `yaml:"type"`
	CIProvider    strictyaml.Scalar `yaml:"ci-provider"`
	IssuerClaim   strictyaml.Scalar `yaml:"issuer-claim"`
	SubjectDomain strictyaml.Scalar `yaml:"subject-domain"`
	TrustDomain   strictyaml.Scalar `yaml:"spiffe-trust-domain"`
	Challenge     strictyaml.Scalar `yaml:"challenge-claim"`
	Description   strictyaml.Scalar `yaml:"description"`
	Contact       strictyaml.Scalar `yaml:"contact"`
	CACert        strictyaml.Scalar `yaml:"ca-cert"`
	SkipEmail     bool              `yaml:"skip-email-verification"`
	Pos           strictyaml.Pos
}

type issuerJSON struct {
	IssuerURL     strictyaml.Scalar `yaml:"IssuerURL"`
	ClientID      strictyaml.Scalar `yaml:"ClientID"`
	Type          strictyaml.Scalar `yaml:"Type"`
	CIProvider    strictyaml.Scalar `yaml:"CIProvider"`
	IssuerClaim   strictyaml.Scalar `yaml:"IssuerClaim"`
	SubjectDomain strictyaml.Scalar `yaml:"SubjectDomain"`
	TrustDomain   strictyaml.Scalar `yaml:"SPIFFETrustDomain"`
	Challenge     strictyaml.Scalar `yaml:"ChallengeClaim"`
	Description   strictyaml.Scalar `yaml:"Description"`
	Contact       strictyaml.Scalar `yaml:"Contact"`
	CACert        strictyaml.Scalar `yaml:"CACert"`
	SkipEmail     bool              `yaml:"SkipEmailVerification"`
	Pos           strictyaml.Pos
}

type providerYAML struct {
	Defaults   map[string]strictyaml.Scalar `yaml:"default-template-values"`
	Extensions map[string]strictyaml.Scalar `yaml:"extension-templates"`
	Subject    strictyaml.Scalar            `yaml:"subject-alternative-name-template"`
	Pos        strictyaml.Pos
}

type providerJSON struct {
	Defaults   map[string]strictyaml.Scalar `yaml:"DefaultTemplateValues"`
	Extensions map[string]strictyaml.Scalar `yaml:"ExtensionTemplates"`
	Subject    strictyaml.Scalar            `yaml:"SubjectAlternativeNameTemplate"`
	Pos        strictyaml.Pos
}

// Configuration is what a file says.
type Configuration struct {
	Issuers []Issuer
	// CTLog is a log that certificates are submitted to; nil: none.
	CTLog *CTLog
}

// CTLog is a certificate transparency log elsewhere.
type CTLog struct {
	URL string // base URL, without ct/v1
	Key []byte // its public key, PEM
	Pos strictyaml.Pos
}

// ParseConfig reads the configuration of a CA in the form of Fulcio's, YAML or JSON
// (docs/authority.md). What is not understood is an error that names file, line and
// member. An issuer that own, the authority's own, may be is refused.
func ParseConfig(file string, data []byte, own string) (*Configuration, error) {
	docs, err := strictyaml.DocumentsWithAliases(file, data)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, fmt.Errorf("%s: want one document, found %d", file, len(docs))
	}
	var doc document
	if err := docs[0].Decode(&doc); err != nil {
		return nil, err
	}
	if doc.Issuers != nil || doc.Wildcards != nil || doc.Providers != nil {
		if doc.IssuersJ != nil || doc.WildcardsJ != nil || doc.ProvidersJ != nil {
			return nil, doc.Pos.Errorf("members are spelled as in YAML (oidc-issuers) and as in JSON (OIDCIssuers); want one of the two")
		}
	}
	issuers, wildcards, metadata := doc.Issuers, doc.Wildcards, doc.Providers
	for name, i := range doc.IssuersJ {
		issuers = put(issuers, name, issuerYAML(i))
	}
	for name, i := range doc.WildcardsJ {
		wildcards = put(wildcards, name, issuerYAML(i))
	}
	for name, p := range doc.ProvidersJ {
		metadata = put(metadata, name, providerYAML(p))
	}
	out := new(Configuration)
	if doc.CTLog != nil {
		out.CTLog = &CTLog{doc.CTLog.URL.Value, []byte(doc.CTLog.Key.Value), doc.CTLog.Pos}
	}
	if n := len(issuers) + len(wildcards); n == 0 && out.CTLog == nil || n > maxIssuers {
		return nil, doc.Pos.Errorf("it has %d issuers under oidc-issuers and meta-issuers; want 1 to %d", n, maxIssuers)
	}
	providers := map[string]*Provider{}
	for _, name := range sortedKeys(metadata) {
		if providers[name], err = metadata[name].provider(name); err != nil {
			return nil, err
		}
	}
	for _, list := range []struct {
		entries  map[string]issuerYAML
		wildcard bool
	}{{issuers, false}, {wildcards, true}} {
		for _, key := range byLine(list.entries) {
			e := entry{issuerYAML: list.entries[key], key: key, wildcard: list.wildcard, providers: providers}
			i, err := e.issuer(own)
			if err != nil {
				return nil, err
			}
			out.Issuers = append(out.Issuers, i)
		}
	}
	return out, nil
}

func put[V any](m map[string]V, key string, v V) map[string]V {
	if m == nil {
		m = map[string]V{}
	}
	m[key] = v
	return m
}

// byLine is the order of the file, in which the first wildcard that matches counts.
func byLine(m map[string]issuerYAML) []string {
	keys := sortedKeys(m)
	sort.SliceStable(keys, func(i, j int) bool { return m[keys[i]].Pos.Line < m[keys[j]].Pos.Line })
	return keys
}

func (p providerYAML) provider(name string) (*Provider, error) {
	out := &Provider{name: name, defaults: map[string]string{}}
	for k, v := range p.Defaults {
		out.defaults[k] = v.Value
	}
	if strings.TrimSpace(p.Subject.Value) == "" {
		return nil, p.Pos.Errorf("subject-alternative-name-template is missing: it names whom a certificate is for")
	}
	var err error
	if out.subject, err = parseText(p.Subject.Value, true); err != nil {
		return nil, p.Subject.Pos.Errorf("not a template: %v", err)
	}
	fields := extensionFields()
	for _, ext := range sortedKeys(p.Extensions) {
		said := p.Extensions[ext]
		index, known := fields[ext]
		switch {
		case strings.EqualFold(ext, "issuer") || strings.EqualFold(ext, "subject"):
			return nil, said.Pos.Errorf("not taken: issuer and subject of a certificate are always the token's")
		case !known:
			return nil, said.Pos.Errorf("not an extension that Fulcio's certificates have")
		case strings.TrimSpace(said.Value) == "":
			continue
		}
		x := extensionText{name: ext, index: index}
		if x.text, err = parseText(said.Value, false); err != nil {
			return nil, said.Pos.Errorf("not a template: %v", err)
		}
		out.extensions = append(out.extensions, x)
	}
	return out, nil
}

// entry is an issuer of the file, to be checked.
type entry struct {
	issuerYAML
	key       string
	wildcard  bool
	providers map[string]*Provider
}

func (e entry) issuer(own string) (Issuer, error) {
	i := Issuer{URL: e.key, Wildcard: e.wildcard, ClientID: e.ClientID.Value, Type: e.Type.Value, SkipEmailVerification: e.SkipEmail}
	base, err := e.address()
	if err != nil {
		return i, err
	}
	if e.key == own || e.wildcard && wildcard(e.key).MatchString(own) {
		return i, e.Pos.Errorf("%s is this authority's own issuer, whose tokens are always taken; remove it here", own)
	}
	if i.ClientID == "" {
		return i, e.Pos.Errorf("client-id is missing: the audience that tokens must have, such as sigstore")
	}
	if !slices.Contains(Types(), i.Type) {
		at := e.Type.Pos
		if i.Type == "" {
			at = e.Pos
		}
		return i, at.Errorf("type %q is not known; want one of %s", i.Type, strings.Join(Types(), ", "))
	}
	if err := e.onlyOf(); err != nil {
		return i, err
	}
	if c := e.Challenge; c.Value != "" && c.Value != i.Challenge() {
		return i, c.Pos.Errorf("not taken: clients prove that they have their key by signing the claim %s of this type", i.Challenge())
	}
	if e.CACert.Value != "" {
		i.CACert = []byte(e.CACert.Value)
		if !x509.NewCertPool().AppendCertsFromPEM(i.CACert) {
			return i, e.CACert.Pos.Errorf("has no PEM certificate that can be read")
		}
	}
	return i, e.names(&i, base)
}

// names fills in what names the identities of the type.
func (e entry) names(i *Issuer, base *url.URL) error {
	switch i.Type {
	case TypeEmail:
		if e.IssuerClaim.Value == "" {
			return nil
		}
		rest, ok := strings.CutPrefix(e.IssuerClaim.Value, "$.")
		i.IssuerClaim = strings.Split(rest, ".")
		if !ok || strings.ContainsAny(rest, `[]*?()@'" `) || slices.Contains(i.IssuerClaim, "") {
			return e.IssuerClaim.Pos.Errorf("not taken: want the path of one claim, such as $.federated_claims.connector_id")
		}
	case TypeSPIFFE:
		if e.wildcard {
			return e.Type.Pos.Errorf("not taken: many issuers would share one trust domain")
		}
		i.TrustDomain = e.TrustDomain.Value
		if !ValidTrustDomain(i.TrustDomain) {
			return e.orPos(e.TrustDomain).Errorf("spiffe-trust-domain must be the name of a trust domain, such as example.org")
		}
	case TypeURI, TypeUsername:
		if e.wildcard {
			return e.Type.Pos.Errorf("not taken: many issuers would share the names of one domain")
		}
		i.SubjectDomain = e.SubjectDomain.Value
		return e.checkDomain(*i, base)
	case TypeCIProvider:
		i.Provider = e.providers[e.CIProvider.Value]
		if i.Provider == nil {
			return e.orPos(e.CIProvider).Errorf("ci-provider must name an entry of ci-issuer-metadata")
		}
	}
	return nil
}

// orPos is where a member is, or the issuer when it is missing.
func (e entry) orPos(s strictyaml.Scalar) strictyaml.Pos {
	if s.Pos.Line == 0 {
		return e.Pos
	}
	return s.Pos
}

// onlyOf refuses members that say nothing for this type: who wrote them expects
// them to hold.
func (e entry) onlyOf() error {
	for _, m := range []struct {
		name  string
		said  strictyaml.Scalar
		types []string
	}{
		{"issuer-claim", e.IssuerClaim, []string{TypeEmail}},
		{"subject-domain", e.SubjectDomain, []string{TypeURI, TypeUsername}},
		{"spiffe-trust-domain", e.TrustDomain, []string{TypeSPIFFE}},
		{"ci-provider", e.CIProvider, []string{TypeCIProvider}},
	} {
		if m.said.Value != "" && !slices.Contains(m.types, e.Type.Value) {
			return m.said.Pos.Errorf("%s is only for issuers of type %s", m.name, strings.Join(m.types, " and "))
		}
	}
	if e.SkipEmail && e.Type.Value != TypeEmail {
		return e.Pos.Errorf("skip-email-verification is only for issuers of type %s", TypeEmail)
	}
	return nil
}

// address checks the issuer's URL, which is the entry's key.
func (e entry) address() (*url.URL, error) {
	said := e.IssuerURL.Value
	if said != e.key && (said != "" || !e.wildcard) {
		return nil, e.orPos(e.IssuerURL).Errorf("issuer-url must be the same as the name of the entry, %s", e.key)
	}
	stars := strings.Count(e.key, "*")
	if e.wildcard != (stars > 0) {
		return nil, e.Pos.Errorf("issuers with a * belong under meta-issuers, others under oidc-issuers")
	}
	u, err := url.Parse(strings.ReplaceAll(e.key, "*", "x"))
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" ||
		u.Scheme != "https" && (u.Scheme != "http" || !loopback.Host(u.Host)) {
		return nil, e.Pos.Errorf("an issuer is an https URL without query and fragment (http only on this machine)")
	}
	rest, ok := strings.CutPrefix(e.key, u.Scheme+"://")
	if !ok { // url.Parse folds it, and what follows looks at what is written
		return nil, e.Pos.Errorf("the scheme of an issuer is written in lower case, %s://", u.Scheme)
	}
	if host, _, _ := strings.Cut(rest, "/"); e.wildcard {
		labels := strings.Split(host, ".")
		if n := len(labels); strings.Contains(host, "*") && (n < 3 || strings.Contains(labels[n-1]+labels[n-2], "*")) {
			return nil, e.Pos.Errorf("a * in the host must be left of a domain of two parts, such as https://*.example.com")
		}
	}
	return u, nil
}

// checkDomain holds subject-domain to the issuer's own domain, as Fulcio does:
// both have the same scheme (type uri) and the same last two labels.
func (e entry) checkDomain(i Issuer, issuer *url.URL) error {
	at := e.orPos(e.SubjectDomain)
	host := i.SubjectDomain
	if i.Type == TypeURI {
		u, err := url.Parse(i.SubjectDomain)
		if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return at.Errorf("subject-domain must be a scheme and a host, such as https://example.com")
		}
		if u.Scheme != issuer.Scheme {
			return at.Errorf("subject-domain has another scheme than the issuer")
		}
		host = u.Hostname()
	} else if host == "" || strings.ContainsAny(host, "/:@! ") {
		return at.Errorf("subject-domain must be a host without a scheme, such as example.com")
	}
	if host == issuer.Hostname() {
		return nil
	}
	h, o := strings.Split(host, "."), strings.Split(issuer.Hostname(), ".")
	if len(h) < 2 || len(o) < 2 || h[len(h)-1] != o[len(o)-1] || h[len(h)-2] != o[len(o)-2] {
		return at.Errorf("subject-domain %s is not in the domain of the issuer: nobody has shown that it may name users there", host)
	}
	return nil
}
