package notation

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// DN is a distinguished name as trusted identities write it (RFC 4514): some
// attributes that a signer's subject must have, each with exactly this value.
// Country, state and organisation are always among them.
type DN struct {
	text  string
	attrs map[string]string // by short name as in Notation, "ST" for S
}

// String is the name as it was written.
func (d DN) String() string { return d.text }

// attribute is the short name of an attribute that Notation can compare, "" for
// others. All are below joint-iso-itu-t(2) ds(5) attributeType(4).
func attribute(id asn1.ObjectIdentifier) string {
	if len(id) != 4 || id[0] != 2 || id[1] != 5 || id[2] != 4 {
		return ""
	}
	switch id[3] {
	case 3:
		return "CN"
	case 5:
		return "SERIALNUMBER"
	case 6:
		return "C"
	case 7:
		return "L"
	case 8:
		return "ST"
	case 9:
		return "STREET"
	case 10:
		return "O"
	case 11:
		return "OU"
	case 17:
		return "POSTALCODE"
	}
	return ""
}

// ParseDN reads a distinguished name. Attributes with several values, one name
// twice and values in hexadecimal are refused.
func ParseDN(text string) (DN, error) {
	d := DN{text: strings.TrimSpace(text), attrs: map[string]string{}}
	if len(text) > 4096 || strings.Contains(text, "=#") {
		return d, errors.New(`a distinguished name is too long or has a value in hexadecimal ("=#")`)
	}
	parts, err := splitDN(text)
	if err != nil {
		return d, err
	}
	for _, part := range parts {
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return d, fmt.Errorf("%q is no attribute=value", clip(part))
		}
		if name = strings.TrimSpace(name); name == "S" {
			name = "ST"
		}
		if value, err = unescapeDN(value); err != nil {
			return d, err
		}
		switch _, twice := d.attrs[name]; {
		case name == "" || value == "":
			return d, fmt.Errorf("%q has no name or no value", clip(part))
		case twice:
			return d, fmt.Errorf("the attribute %s is there twice", clip(name))
		}
		d.attrs[name] = value
	}
	for _, must := range []string{"C", "ST", "O"} {
		if d.attrs[must] == "" {
			return d, fmt.Errorf("the attribute %s is missing; C, ST and O must be given", must)
		}
	}
	return d, nil
}

// splitDN splits at commas that are not escaped.
func splitDN(text string) ([]string, error) {
	var out []string
	start := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '+':
			return nil, errors.New(`an attribute with several values ("+") is not compared`)
		case ';':
			return nil, errors.New(`";" must be escaped; attributes are separated by commas`)
		case ',':
			out = append(out, text[start:i])
			start = i + 1
		}
	}
	return append(out, text[start:]), nil
}

// unescapeDN reads a value: blanks around it do not count unless escaped, a
// backslash stands before a special character or two hexadecimal digits.
func unescapeDN(s string) (string, error) {
	var out []byte
	kept := 0 // bytes of out that trailing blanks are not taken from
	s = strings.TrimLeft(s, " ")
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		switch rest := s[i+1:]; {
		case rest != "" && strings.IndexByte(` "#+,;<=>\`, rest[0]) >= 0:
			out = append(out, rest[0])
			i++
		case len(rest) >= 2:
			b, err := hex.DecodeString(rest[:2])
			if err != nil {
				return "", fmt.Errorf("%q has a backslash before something that needs none", clip(s))
			}
			out = append(out, b...)
			i += 2
		default:
			return "", fmt.Errorf("%q ends with a backslash", clip(s))
		}
		kept = len(out)
	}
	return string(out[:kept]) + strings.TrimRight(string(out[kept:]), " "), nil
}

// within reports whether every attribute of d is one of other's.
func (d DN) within(other DN) bool {
	for k, v := range d.attrs {
		if other.attrs[k] != v {
			return false
		}
	}
	return true
}

// SubjectDN is a certificate's subject in the form that identities are compared
// with. A subject that Notation cannot compare, because an attribute has several
// values, is there twice or is of another kind, is an error.
func SubjectDN(cert *x509.Certificate) (DN, error) {
	d := DN{attrs: make(map[string]string, len(cert.Subject.Names))}
	seq := cryptobyte.String(cert.RawSubject)
	if !seq.ReadASN1(&seq, cbasn1.SEQUENCE) {
		return d, errors.New("the certificate's subject cannot be read")
	}
	for !seq.Empty() {
		var set cryptobyte.String
		if !seq.ReadASN1(&set, cbasn1.SET) || !set.SkipASN1(cbasn1.SEQUENCE) || !set.Empty() {
			return d, errors.New("the certificate's subject has an attribute with several values")
		}
	}
	for _, a := range cert.Subject.Names {
		name := attribute(a.Type)
		value, ok := a.Value.(string)
		_, twice := d.attrs[name]
		switch {
		case name == "" || !ok:
			return d, fmt.Errorf("the certificate's subject has an attribute %s, which is not compared", a.Type)
		case twice:
			return d, fmt.Errorf("the certificate's subject has the attribute %s twice", name)
		case value == "" || strings.Contains(value, "=#"):
			return d, fmt.Errorf("the certificate's subject has an attribute %s that is empty or not compared", name)
		}
		d.attrs[name] = value
	}
	return d, nil
}

// Trusts reports whether a subject is one of the statement's identities.
func (s *Statement) Trusts(subject DN) bool {
	for _, id := range s.Identities {
		if id.within(subject) {
			return true
		}
	}
	return s.AnyIdentity
}
