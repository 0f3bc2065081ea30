package issuers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"sort"
	"strings"
	"text/template"

	"github.com/sigstore/fulcio/pkg/certificate"

	"github.com/hallmark-dev/hallmark/internal/idtoken"
)

// maxExtension bounds the text of one extension, in bytes.
const maxExtension = 4 << 10

// Provider says what the jobs of a CI system are called in certificates: an entry
// of Fulcio's ci-issuer-metadata.
type Provider struct {
	name       string
	defaults   map[string]string
	subject    text
	extensions []extensionText
}

// extensionText is what one extension says; index is its field in certificate.Extensions.
type extensionText struct {
	name  string
	index int
	text
}

// text is a template over claims or, without {{, the name of one claim.
type text struct {
	claim    string
	template *template.Template
}

// parseText reads a template. In one that makes a name, strict, also index wants a
// value that is there: of its own it takes a missing claim for an empty one.
func parseText(s string, strict bool) (text, error) {
	if !strings.Contains(s, "{{") {
		return text{claim: s}, nil
	}
	t := template.New("").Option("missingkey=error")
	if strict {
		t.Funcs(template.FuncMap{"index": present})
	}
	t, err := t.Parse(s)
	if err != nil {
		return text{}, errors.New(strings.TrimPrefix(err.Error(), "template: :"))
	}
	return text{template: t}, nil
}

func present(values map[string]string, name string) (string, error) {
	value, ok := values[name]
	if !ok {
		return "", missingError(name)
	}
	return value, nil
}

// missingError is the name of a claim that a template asked for with index.
type missingError string

func (e missingError) Error() string { return string(e) }

// bounded is a strings.Builder that refuses more than maxExtension bytes.
type bounded struct{ strings.Builder }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxExtension {
		return 0, fmt.Errorf("more than %d bytes", maxExtension)
	}
	return b.Builder.Write(p)
}

// fill is the text for these values. Its error does not show them.
func (x text) fill(values map[string]string) (string, error) {
	if x.template == nil {
		value, ok := values[x.claim]
		if !ok {
			return "", fmt.Errorf("claim %q is missing, and there is no default for it", x.claim)
		}
		if len(value) > maxExtension {
			return "", fmt.Errorf("claim %q has more than %d bytes", x.claim, maxExtension)
		}
		return value, nil
	}
	var out bounded
	if err := x.template.Execute(&out, values); err != nil {
		return "", fmt.Errorf("the template wants claims that the token does not have, or gets too long: %s", missingKey(err))
	}
	return out.String(), nil
}

// missingKey keeps of a template's error what is the configuration's, not the token's.
func missingKey(err error) string {
	var missing missingError
	if errors.As(err, &missing) {
		return "no " + string(missing)
	}
	var e template.ExecError
	if errors.As(err, &e) {
		if _, name, ok := strings.Cut(err.Error(), `map has no entry for key "`); ok {
			return "no " + strings.TrimSuffix(name, `"`)
		}
	}
	return "it cannot be filled in"
}

// identity is the job that a token names.
func (p *Provider) identity(t idtoken.Token, id *Identity) error {
	claims := scalars(t)
	values := make(map[string]string, len(p.defaults)+len(claims))
	for name, value := range p.defaults {
		values[name] = value
	}
	for name, value := range claims {
		values[name] = value
	}
	out := reflect.ValueOf(&id.Extensions).Elem()
	for _, x := range p.extensions {
		value, err := x.fill(values)
		if err != nil {
			return fmt.Errorf("%s of the ci-provider %s: %w", x.name, p.name, err)
		}
		if strings.ContainsFunc(value, control) {
			return fmt.Errorf("%s of the ci-provider %s: a claim has control characters", x.name, p.name)
		}
		out.Field(x.index).SetString(value)
	}
	// An empty claim must not shorten the name to that of something larger.
	for name, value := range claims {
		if value == "" {
			if d, ok := p.defaults[name]; ok {
				values[name] = d
			} else {
				delete(values, name)
			}
		}
	}
	name, err := p.subject.fill(values)
	if err != nil {
		return fmt.Errorf("subject-alternative-name-template of the ci-provider %s: %w", p.name, err)
	}
	u, err := plainURI(name)
	if err != nil {
		return fmt.Errorf("subject-alternative-name-template of the ci-provider %s: %w", p.name, err)
	}
	id.URIs = []*url.URL{u}
	return nil
}

// plainURI is an absolute URI that says where it is and nothing in another place.
func plainURI(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || strings.ContainsFunc(s, control) {
		return nil, errors.New("no URI with a host comes out of it")
	}
	for _, segment := range strings.Split(u.Path, "/") {
		if segment == "." || segment == ".." {
			return nil, errors.New("a URI that climbs up comes out of it")
		}
	}
	return u, nil
}

// scalars are the claims that are one value, as text: numbers as the token writes
// them.
func scalars(t idtoken.Token) map[string]string {
	out := make(map[string]string, len(t.Claims))
	for name, raw := range t.Claims {
		var s string
		switch {
		case len(raw) == 0 || string(raw) == "null" || raw[0] == '{' || raw[0] == '[':
		case raw[0] == '"':
			if json.Unmarshal(raw, &s) == nil {
				out[name] = s
			}
		default:
			out[name] = string(raw)
		}
	}
	return out
}

// extensionFields are the extensions that a template may fill: their names in
// Fulcio's YAML and JSON, and the field of each in certificate.Extensions. Issuer
// and Subject are always the token's.
func extensionFields() (byName map[string]int) {
	byName = map[string]int{}
	t := reflect.TypeFor[certificate.Extensions]()
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Name == "Issuer" || f.Name == "Subject" {
			continue
		}
		for _, tag := range []string{"yaml", "json"} {
			name, _, _ := strings.Cut(f.Tag.Get(tag), ",")
			byName[name] = i
		}
	}
	return byName
}

// sortedKeys keeps errors the same from one run to the next.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
