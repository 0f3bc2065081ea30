package clusterimage

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

// The wire types follow policy-controller's Go types; Refused fields are those
// that it reads and we do not yet.
type (
	wireHead struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
		_          strictyaml.Open
	}
	wireMeta struct {
		Name                       string             `yaml:"name"`
		GenerateName               strictyaml.Refused `yaml:"generateName"`
		Labels                     strictyaml.Ignored `yaml:"labels"`
		Annotations                strictyaml.Ignored `yaml:"annotations"`
		UID                        strictyaml.Ignored `yaml:"uid"`
		ResourceVersion            strictyaml.Ignored `yaml:"resourceVersion"`
		Generation                 strictyaml.Ignored `yaml:"generation"`
		CreationTimestamp          strictyaml.Ignored `yaml:"creationTimestamp"`
		DeletionTimestamp          strictyaml.Refused `yaml:"deletionTimestamp"`
		DeletionGracePeriodSeconds strictyaml.Refused `yaml:"deletionGracePeriodSeconds"`
		ManagedFields              strictyaml.Ignored `yaml:"managedFields"`
		Finalizers                 strictyaml.Ignored `yaml:"finalizers"`
		OwnerReferences            strictyaml.Ignored `yaml:"ownerReferences"`
		SelfLink                   strictyaml.Ignored `yaml:"selfLink"`
		Pos                        strictyaml.Pos
	}
	wirePolicy struct {
		APIVersion string             `yaml:"apiVersion"`
		Kind       string             `yaml:"kind"`
		Metadata   wireMeta           `yaml:"metadata"`
		Spec       wireSpec           `yaml:"spec"`
		Status     strictyaml.Ignored `yaml:"status"`
	}
	wireSpec struct {
		Images      []wireImage        `yaml:"images"`
		Authorities []wireAuthority    `yaml:"authorities"`
		Mode        string             `yaml:"mode"`
		Match       strictyaml.Refused `yaml:"match"`
		Policy      *wireContentRule   `yaml:"policy"`
		Pos         strictyaml.Pos
	}
	wireImage struct {
		Glob string `yaml:"glob"`
		Pos  strictyaml.Pos
	}
	wireAuthority struct {
		Name             string             `yaml:"name"`
		Key              *wireKey           `yaml:"key"`
		Keyless          *wireKeyless       `yaml:"keyless"`
		Static           *wireStatic        `yaml:"static"`
		Attestations     []wireAttestation  `yaml:"attestations"`
		SignatureFormat  string             `yaml:"signatureFormat"`
		Source           strictyaml.Refused `yaml:"source"`
		CTLog            strictyaml.Refused `yaml:"ctlog"`
		RFC3161Timestamp strictyaml.Refused `yaml:"rfc3161timestamp"`
		Pos              strictyaml.Pos
	}
	wireKey struct {
		Data          string             `yaml:"data"`
		HashAlgorithm string             `yaml:"hashAlgorithm"`
		SecretRef     strictyaml.Refused `yaml:"secretRef"`
		KMS           strictyaml.Refused `yaml:"kms"`
		Pos           strictyaml.Pos
	}
	wireKeyless struct {
		URL               string             `yaml:"url"`
		Identities        []wireIdentity     `yaml:"identities"`
		TrustRootRef      string             `yaml:"trustRootRef"`
		CACert            strictyaml.Refused `yaml:"ca-cert"`
		InsecureIgnoreSCT strictyaml.Refused `yaml:"insecureIgnoreSCT"`
		Pos               strictyaml.Pos
	}
	wireIdentity struct {
		Issuer        string `yaml:"issuer"`
		IssuerRegExp  string `yaml:"issuerRegExp"`
		Subject       string `yaml:"subject"`
		SubjectRegExp string `yaml:"subjectRegExp"`
		Pos           strictyaml.Pos
	}
	wireStatic struct {
		Action  string `yaml:"action"`
		Message string `yaml:"message"`
		Pos     strictyaml.Pos
	}
	wireAttestation struct {
		Name          string           `yaml:"name"`
		PredicateType string           `yaml:"predicateType"`
		Policy        *wireContentRule `yaml:"policy"`
		Pos           strictyaml.Pos
	}
	wireContentRule struct {
		Type              string             `yaml:"type"`
		Data              string             `yaml:"data"`
		ConfigMapRef      strictyaml.Refused `yaml:"configMapRef"`
		Remote            strictyaml.Refused `yaml:"remote"`
		FetchConfigFile   strictyaml.Refused `yaml:"fetchConfigFile"`
		IncludeSpec       strictyaml.Refused `yaml:"includeSpec"`
		IncludeObjectMeta strictyaml.Refused `yaml:"includeObjectMeta"`
		IncludeTypeMeta   strictyaml.Refused `yaml:"includeTypeMeta"`
		Pos               strictyaml.Pos
	}
)

const group = "policy.sigstore.dev/"

// Parse reads policies and trust roots from the files together.
func Parse(files []File, c Compilers) (*Set, error) {
	s := &Set{TrustRoots: map[string]*TrustRoot{}}
	p := parser{set: s, compilers: c, policies: map[string]strictyaml.Pos{}}
	for _, f := range files {
		docs, err := strictyaml.Documents(f.Name, f.Data)
		if err != nil {
			return nil, err
		}
		for _, d := range docs {
			if err := p.document(d); err != nil {
				return nil, err
			}
		}
	}
	if len(s.Policies) == 0 {
		return nil, errors.New("no ClusterImagePolicy: every image would be denied")
	}
	return s, p.checkRefs()
}

type parser struct {
	set       *Set
	compilers Compilers
	policies  map[string]strictyaml.Pos
	refs      []reference
}

// reference is a use of a TrustRoot, looked up after everything was read.
type reference struct {
	pos  strictyaml.Pos
	name string
}

func (p *parser) checkRefs() error {
	for _, r := range p.refs {
		if p.set.TrustRoots[r.name] == nil {
			return r.pos.Errorf("trustRootRef %q: no TrustRoot of that name was given", r.name)
		}
	}
	return nil
}

func (p *parser) document(d *strictyaml.Document) error {
	var head wireHead
	if err := d.Decode(&head); err != nil {
		return err
	}
	switch {
	case head.Kind == "ClusterImagePolicy" && (head.APIVersion == group+"v1beta1" || head.APIVersion == group+"v1alpha1"):
		return p.policy(d)
	case head.Kind == "TrustRoot" && (head.APIVersion == group+"v1beta1" || head.APIVersion == group+"v1alpha1"):
		return p.trustRoot(d)
	case head.Kind == "" || head.APIVersion == "":
		return d.Pos.Errorf("apiVersion and kind are missing")
	}
	return d.Pos.Errorf("%s %s is no policy; known are ClusterImagePolicy and TrustRoot of %sv1beta1 and v1alpha1", head.APIVersion, head.Kind, group)
}

// checkName wants a name such as Kubernetes demands of cluster-scoped objects
// (RFC 1123 subdomain).
func (m wireMeta) checkName(at strictyaml.Pos) error {
	if m.Pos.Line == 0 || m.Name == "" {
		return at.Errorf("metadata.name is missing")
	}
	bad := len(m.Name) > 253 || strings.Trim(m.Name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != ""
	for _, label := range strings.Split(m.Name, ".") {
		bad = bad || label == "" || label[0] == '-' || label[len(label)-1] == '-'
	}
	if bad {
		return m.Pos.Errorf("name %q: want lower-case letters, digits, - and .", m.Name)
	}
	return nil
}

func (p *parser) policy(d *strictyaml.Document) error {
	var w wirePolicy
	if err := d.Decode(&w); err != nil {
		return err
	}
	if err := w.Metadata.checkName(d.Pos); err != nil {
		return err
	}
	if first, ok := p.policies[w.Metadata.Name]; ok {
		return w.Metadata.Pos.Errorf("a second ClusterImagePolicy %q; the first is at %s:%d", w.Metadata.Name, first.File, first.Line)
	}
	p.policies[w.Metadata.Name] = d.Pos
	at := w.Spec.Pos
	switch {
	case at.Line == 0:
		return d.Pos.Errorf("spec is missing")
	case len(w.Spec.Images) == 0:
		return at.Errorf("images is missing: the policy would match nothing")
	case len(w.Spec.Authorities) == 0:
		return at.Errorf("authorities is missing: nobody could vouch for an image")
	}
	out := &Policy{Name: w.Metadata.Name}
	switch w.Spec.Mode {
	case "", "enforce":
	case "warn":
		out.Warn = true
	default:
		return at.Errorf("mode %q: want enforce or warn", w.Spec.Mode)
	}
	for _, i := range w.Spec.Images {
		g, err := ParseGlob(i.Glob)
		if err != nil {
			return i.Pos.Errorf("%v", err)
		}
		out.globs = append(out.globs, g)
	}
	var err error
	if out.Authorities, err = p.authorities(w.Spec.Authorities); err != nil {
		return err
	}
	if w.Spec.Policy != nil {
		if w.Spec.Policy.Type == "cue" {
			return w.Spec.Policy.Pos.Errorf("spec.policy of type cue is not supported yet; want rego")
		}
		if out.Rule, err = p.contentRule(w.Spec.Policy); err != nil {
			return err
		}
	}
	p.set.Policies = append(p.set.Policies, out)
	return nil
}

func (p *parser) authorities(ws []wireAuthority) ([]Authority, error) {
	var out []Authority
	names := map[string]bool{}
	for i := range ws {
		a, err := p.authority(&ws[i], fmt.Sprintf("authority-%d", i))
		if err != nil {
			return nil, err
		}
		if names[a.Name] {
			return nil, ws[i].Pos.Errorf("a second authority %q", a.Name)
		}
		names[a.Name] = true
		out = append(out, a)
	}
	return out, nil
}

func (p *parser) authority(w *wireAuthority, defaultName string) (Authority, error) {
	a := Authority{Name: w.Name}
	if a.Name == "" {
		a.Name = defaultName
	}
	kinds := 0
	for _, given := range []bool{w.Key != nil, w.Keyless != nil, w.Static != nil} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return a, w.Pos.Errorf("want exactly one of key, keyless and static, have %d", kinds)
	}
	switch w.SignatureFormat {
	case "":
	case "bundle":
		a.BundlesOnly = true
	case "legacy":
		return a, w.Pos.Errorf("signatureFormat: legacy is not supported yet; leave it out or say bundle")
	default:
		return a, w.Pos.Errorf("signatureFormat %q: want bundle", w.SignatureFormat)
	}
	var err error
	switch {
	case w.Static != nil:
		a.Static, err = w.static()
	case w.Keyless != nil:
		a.Keyless, err = p.keyless(w.Keyless)
	default:
		a.Key, err = w.Key.parse()
	}
	if err != nil {
		return a, err
	}
	a.Attestations, err = p.attestations(w.Attestations)
	return a, err
}

func (p *parser) attestations(ws []wireAttestation) ([]Attestation, error) {
	var out []Attestation
	names := map[string]bool{}
	for i := range ws {
		a, err := p.attestation(&ws[i])
		if err != nil {
			return nil, err
		}
		if names[a.Name] {
			return nil, ws[i].Pos.Errorf("a second attestation %q", a.Name)
		}
		names[a.Name] = true
		out = append(out, a)
	}
	return out, nil
}

func (w *wireAuthority) static() (*Static, error) {
	at := w.Static.Pos
	switch {
	case len(w.Attestations) > 0:
		return nil, w.Pos.Errorf("static decides without evidence and cannot have attestations")
	case w.SignatureFormat != "":
		return nil, w.Pos.Errorf("static decides without evidence and cannot have a signatureFormat")
	case w.Static.Action == "pass" && w.Static.Message != "":
		return nil, at.Errorf("message is only for action: fail")
	case w.Static.Action != "pass" && w.Static.Action != "fail":
		return nil, at.Errorf("action %q: want pass or fail", w.Static.Action)
	}
	return &Static{Pass: w.Static.Action == "pass", Message: w.Static.Message}, nil
}

func (w *wireKey) parse() (*Key, error) {
	switch {
	case w.Data == "":
		return nil, w.Pos.Errorf("data is missing: a PEM public key")
	case w.HashAlgorithm != "" && w.HashAlgorithm != "sha256":
		return nil, w.Pos.Errorf("hashAlgorithm %q is not supported yet; want sha256", w.HashAlgorithm)
	}
	pub, err := key.ParsePublicPEM([]byte(w.Data))
	if err != nil {
		return nil, w.Pos.Errorf("data: %v", err)
	}
	return &Key{Public: pub, Fingerprint: key.Fingerprint(pub)}, nil
}

// publicGoodCA is the URL that policy-controller assumes when none is given.
const publicGoodCA = "https://fulcio.sigstore.dev"

func (p *parser) keyless(w *wireKeyless) (*Keyless, error) {
	k := &Keyless{TrustRootRef: w.TrustRootRef}
	if w.URL != "" {
		if u, err := url.Parse(w.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
			return nil, w.Pos.Errorf("url %q: want the http(s) URL of the certificate authority", w.URL)
		}
	}
	if w.TrustRootRef != "" {
		p.refs = append(p.refs, reference{pos: w.Pos, name: w.TrustRootRef})
	} else if w.URL != "" && strings.TrimSuffix(w.URL, "/") != publicGoodCA {
		return nil, w.Pos.Errorf("url %s needs a trustRootRef: the URL alone does not say which certificates to believe", w.URL)
	}
	if len(w.Identities) == 0 {
		return nil, w.Pos.Errorf("identities is missing: anybody with an account could sign")
	}
	for _, i := range w.Identities {
		m, err := policy.Identity{Subject: i.Subject, SubjectRegexp: i.SubjectRegExp, Issuer: i.Issuer, IssuerRegexp: i.IssuerRegExp}.Compile()
		if err != nil {
			return nil, fault.Hint(i.Pos.Errorf("%v", err), "policy-controller matches unanchored expressions anywhere in the text; say what you mean with ^ and $")
		}
		k.Identities = append(k.Identities, m)
	}
	return k, nil
}

// predicateTypes are policy-controller's short names.
func predicateTypes() map[string]string {
	return map[string]string{
		"custom":         "https://cosign.sigstore.dev/attestation/v1",
		"slsaprovenance": evidence.PredicateSLSA02,
		"spdx":           evidence.PredicateSPDX,
		"spdxjson":       evidence.PredicateSPDX,
		"cyclonedx":      evidence.PredicateCycloneDX,
		"link":           "https://in-toto.io/Link/v1",
		"vuln":           evidence.PredicateVuln,
	}
}

func (p *parser) attestation(w *wireAttestation) (Attestation, error) {
	a := Attestation{Name: w.Name, PredicateType: w.PredicateType}
	switch {
	case w.Name == "":
		return a, w.Pos.Errorf("name is missing")
	case w.PredicateType == "":
		return a, w.Pos.Errorf("predicateType is missing")
	}
	if uri, ok := predicateTypes()[w.PredicateType]; ok {
		a.PredicateType = uri
	} else if u, err := url.Parse(w.PredicateType); err != nil || u.Scheme == "" {
		return a, w.Pos.Errorf("predicateType %q: want a URI", w.PredicateType)
	}
	if a.PredicateType == evidence.PredicateSign {
		return a, w.Pos.Errorf("predicateType %s is an image signature, not an attestation; leave attestations out to demand it", a.PredicateType)
	}
	if w.Policy == nil {
		return a, nil
	}
	var err error
	a.Policy, err = p.contentRule(w.Policy)
	return a, err
}

func (p *parser) contentRule(w *wireContentRule) (StatementPolicy, error) {
	if w.Data == "" {
		return nil, w.Pos.Errorf("data is missing: the text of the policy")
	}
	compile := p.compilers.CUE
	switch w.Type {
	case "cue":
	case "rego":
		compile = p.compilers.Rego
	default:
		return nil, w.Pos.Errorf("type %q: want cue or rego", w.Type)
	}
	if compile == nil {
		return nil, w.Pos.Errorf("type %s cannot be evaluated by this program", w.Type)
	}
	rule, err := compile("data."+w.Type, []byte(w.Data))
	if err != nil {
		return nil, w.Pos.Errorf("%v", err)
	}
	return rule, nil
}
