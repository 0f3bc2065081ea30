package issuers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/sigstore/fulcio/pkg/certificate"

	"github.com/hallmark-dev/hallmark/internal/idtoken"
)

// identity is whom a verified token of this issuer names. Which claim becomes
// which extension: Fulcio, docs/oid-info.md and pkg/identity.
func (i Issuer) identity(t idtoken.Token) (Identity, error) {
	id := Identity{Proof: t.Subject, Extensions: certificate.Extensions{Issuer: t.Issuer, Subject: t.Subject}}
	var err error
	switch i.Type {
	case TypeEmail:
		err = i.email(t, &id)
	case TypeSPIFFE:
		err = i.spiffe(t, &id)
	case TypeURI:
		err = i.uri(t, &id)
	case TypeUsername:
		err = i.username(t, &id)
	case TypeGitHubWorkflow:
		err = i.gitHub(t, &id)
	case TypeGitLabPipeline:
		err = gitLab(t, &id)
	case TypeBuildkiteJob:
		err = buildkite(t, &id)
	case TypeCodefreshWorkflow:
		err = codefresh(t, &id)
	case TypeChainguard:
		err = chainguard(t, &id)
	case TypeKubernetes:
		err = kubernetes(t, &id)
	case TypeCIProvider:
		err = i.Provider.identity(t, &id)
	default:
		err = fmt.Errorf("issuers of type %s are not known", i.Type)
	}
	if err != nil {
		return Identity{}, err
	}
	return id, nil
}

// email is a person.
func (i Issuer) email(t idtoken.Token, id *Identity) error {
	if t.Email == "" {
		return errors.New(`claim "email" is missing`)
	}
	if !i.SkipEmailVerification && !i.verified(t) {
		return errors.New(`claim "email_verified": the issuer did not verify the e-mail address`)
	}
	if !validEmail(t.Email) {
		return errors.New(`claim "email": not an e-mail address (name@host, ASCII)`)
	}
	id.Proof, id.Emails = t.Email, []string{t.Email}
	if len(i.IssuerClaim) == 0 {
		return nil
	}
	issuer, err := textAt(t, i.IssuerClaim)
	id.Extensions.Issuer = issuer
	return err
}

// verified takes the string "true" as well as true from others' issuers, some of
// which say it so.
func (i Issuer) verified(t idtoken.Token) bool {
	switch string(t.Claims["email_verified"]) {
	case "true":
		return true
	case `"true"`, `"True"`:
		return i.Keys == nil
	}
	return false
}

func validEmail(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	bad := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`@"(),:;<>[\]`, r) }
	return ok && local != "" && domain != "" && len(s) <= 254 && !strings.ContainsFunc(local, bad) && !strings.ContainsFunc(domain, bad)
}

// textAt is the string claim at a path of member names.
func textAt(t idtoken.Token, path []string) (string, error) {
	name := strings.Join(path, ".")
	members := t.Claims
	for len(path) > 1 {
		inner := map[string]json.RawMessage{}
		if json.Unmarshal(members[path[0]], &inner) != nil {
			return "", fmt.Errorf("claim %q is missing", name)
		}
		members, path = inner, path[1:]
	}
	var text string
	if json.Unmarshal(members[path[0]], &text) != nil || text == "" || strings.ContainsFunc(text, control) {
		return "", fmt.Errorf("claim %q is missing or no string", name)
	}
	return text, nil
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// spiffe is a workload (SPIFFE-ID, section 2) of the trust domain.
func (i Issuer) spiffe(t idtoken.Token, id *Identity) error {
	domain, path, ok := cutSPIFFE(t.Subject)
	if !ok {
		return errors.New(`claim "sub": not a SPIFFE ID`)
	}
	if domain != i.TrustDomain {
		return fmt.Errorf(`claim "sub": a SPIFFE ID of another trust domain than %s`, i.TrustDomain)
	}
	id.URIs = []*url.URL{{Scheme: "spiffe", Host: domain, Path: path}}
	return nil
}

// cutSPIFFE reads spiffe://TRUST-DOMAIN[/PATH] (SPIFFE-ID, 2.1 and 2.2).
func cutSPIFFE(s string) (domain, path string, ok bool) {
	rest, ok := strings.CutPrefix(s, "spiffe://")
	if !ok || len(s) > 2048 {
		return "", "", false
	}
	domain, path, slash := strings.Cut(rest, "/")
	if !ValidTrustDomain(domain) {
		return "", "", false
	}
	if !slash {
		return domain, "", true
	}
	for _, segment := range strings.Split(path, "/") {
		bad := func(r rune) bool { return !alphanumeric(r) && r != '.' && r != '-' && r != '_' }
		if segment == "" || segment == "." || segment == ".." || strings.ContainsFunc(segment, bad) {
			return "", "", false
		}
	}
	return domain, "/" + path, true
}

func alphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// ValidTrustDomain reports whether s is the name of a SPIFFE trust domain
// (SPIFFE-ID, 2.1).
func ValidTrustDomain(s string) bool {
	bad := func(r rune) bool { return !alphanumeric(r) && r != '.' && r != '-' && r != '_' }
	labels := strings.Split(s, ".")
	return len(s) <= 255 && s == strings.ToLower(s) && !strings.ContainsFunc(s, bad) && !slices.Contains(labels, "")
}

// uri is a subject that is a URI at the configured scheme and host.
func (i Issuer) uri(t idtoken.Token, id *Identity) error {
	u, err := url.Parse(t.Subject)
	if err != nil || u.Host == "" || u.User != nil || u.String() != t.Subject {
		return errors.New(`claim "sub": not a URI with a host`)
	}
	domain, err := url.Parse(i.SubjectDomain)
	if err != nil || u.Scheme != domain.Scheme || u.Hostname() != domain.Hostname() {
		return fmt.Errorf(`claim "sub": a URI that is not at %s`, i.SubjectDomain)
	}
	id.URIs = []*url.URL{u}
	return nil
}

// username is a subject that is a name among the users of the configured host.
func (i Issuer) username(t idtoken.Token, id *Identity) error {
	if strings.ContainsRune(t.Subject, '!') || strings.ContainsRune(t.Subject, '@') || strings.ContainsFunc(t.Subject, control) || len(t.Subject) > 255 {
		return errors.New(`claim "sub": not a user name (without ! and @)`)
	}
	id.OtherName = t.Subject + "!" + i.SubjectDomain
	return nil
}

// texts are claims that must be there and say something.
func texts(t idtoken.Token, names ...string) (map[string]string, error) {
	claims := make(map[string]string, len(names))
	for _, name := range names {
		value, ok := t.Text(name)
		if !ok || value == "" {
			return nil, fmt.Errorf("claim %q is missing or no string", name)
		}
		claims[name] = value
	}
	return claims, nil
}

// optional is a claim that may be missing or null.
func optional(t idtoken.Token, name string) (string, error) {
	if string(t.Claims[name]) == "null" {
		return "", nil
	}
	value, ok := t.Text(name)
	if !ok {
		return "", fmt.Errorf("claim %q is no string", name)
	}
	return value, nil
}

// cleanPath refuses what joining would rewrite: a claim must not become the name
// of another workflow.
func cleanPath(s string) bool {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '%' || r == '\\' }) {
		return false
	}
	for _, segment := range strings.Split(s, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

func cleanPaths(claims map[string]string, names ...string) error {
	for _, name := range names {
		if !cleanPath(claims[name]) {
			return fmt.Errorf("claim %q does not fit into a URL as it is", name)
		}
	}
	return nil
}

// chainguard is a subject below the issuer's own URL. Its tokens may also carry an
// e-mail address, and then clients sign that.
func chainguard(t idtoken.Token, id *Identity) error {
	if t.Email != "" {
		if string(t.Claims["email_verified"]) != "true" {
			return errors.New(`claim "email_verified": the issuer did not verify the e-mail address`)
		}
		id.Proof = t.Email
	}
	base, err := url.Parse(t.Issuer)
	if err != nil || !cleanPath(t.Subject) {
		return errors.New(`claim "sub" does not fit into a URL as it is`)
	}
	id.URIs = []*url.URL{base.JoinPath(t.Subject)}
	return nil
}

// kubernetes is a service account (Kubernetes, "Managing Service Accounts", bound
// tokens): the name that the certificate says must be the subject's.
func kubernetes(t idtoken.Token, id *Identity) error {
	namespace, err := textAt(t, []string{"kubernetes.io", "namespace"})
	if err != nil {
		return err
	}
	account, err := textAt(t, []string{"kubernetes.io", "serviceaccount", "name"})
	if err != nil {
		return err
	}
	for _, name := range []string{namespace, account} {
		bad := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' }
		if strings.ContainsFunc(name, bad) || name == "." || name == ".." {
			return errors.New(`claim "kubernetes.io" has a name that Kubernetes does not have`)
		}
	}
	if t.Subject != "system:serviceaccount:"+namespace+":"+account {
		return errors.New(`claim "sub": not the service account of claim "kubernetes.io"`)
	}
	id.URIs = []*url.URL{{Scheme: "https", Host: "kubernetes.io", Path: "/namespaces/" + namespace + "/serviceaccounts/" + account}}
	return nil
}
