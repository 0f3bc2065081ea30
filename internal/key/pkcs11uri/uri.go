// Package pkcs11uri reads PKCS #11 URIs (RFC 7512), which name a key in a token: an
// HSM, a smart card, SoftHSM.
package pkcs11uri

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Scheme begins every such URI.
const Scheme = "pkcs11:"

// MaxLength bounds a URI, in bytes.
const MaxLength = 4 << 10

// URI says which token and which object in it; "" and nil match any.
type URI struct {
	Token, Manufacturer, Model, Serial string // of the token
	SlotID                             *uint64
	SlotDescription, SlotManufacturer  string
	Object                             string // the object's label, CKA_LABEL
	ID                                 []byte // CKA_ID
	Type                               string // "private", "public", or "" for either

	ModulePath string // absolute path of the module, of module-path
	ModuleName string // of module-name: a module by its name without folder and ending
	PinSource  string // absolute path of the file with the PIN, of pin-source
	PinValue   string // of pin-value: a secret
}

// The attributes of RFC 7512, 2.3, that are of a library, not of a key.
var libraryAttributes = []string{"library-manufacturer", "library-description", "library-version"}

// Parse reads a URI. Every attribute must be understood and be there once: one that is
// ignored (a misspelt pin-source, the other half of an id) would lead to another key or
// another PIN. Errors never quote a value, because it may be a PIN.
func Parse(text string) (*URI, error) {
	rest, ok := strings.CutPrefix(text, Scheme)
	if !ok {
		return nil, fmt.Errorf("a PKCS #11 URI begins with %s", Scheme)
	}
	if len(text) > MaxLength {
		return nil, fmt.Errorf("a PKCS #11 URI of more than %d bytes", MaxLength)
	}
	if strings.HasPrefix(rest, "//") {
		return nil, fmt.Errorf("a PKCS #11 URI has no // after %s", Scheme)
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	u := &URI{}
	if err := eachAttribute(path, ";", u.setPath); err != nil {
		return nil, err
	}
	if hasQuery {
		if err := eachAttribute(query, "&", u.setQuery); err != nil {
			return nil, err
		}
	}
	switch {
	case u.ModulePath != "" && u.ModuleName != "":
		return nil, errors.New("module-path and module-name: one says which module")
	case u.PinSource != "" && u.PinValue != "":
		return nil, errors.New("pin-source and pin-value: one says which PIN")
	case u.Object == "" && u.ID == nil && u.Token == "" && u.Serial == "" && u.SlotID == nil:
		return nil, errors.New("it names neither a token nor an object; write for example pkcs11:token=NAME;object=KEY")
	}
	return u, nil
}

func eachAttribute(text, separator string, set func(name, value string) error) error {
	if text == "" {
		return nil
	}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, separator) {
		name, raw, ok := strings.Cut(part, "=")
		if !ok || name == "" {
			return fmt.Errorf("an attribute that is not name=value (they are parted by %s)", separator)
		}
		if strings.ContainsFunc(name, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			return errors.New("an attribute with a name of other characters than letters, digits, - and _")
		}
		if seen[name] {
			return fmt.Errorf("the attribute %s is there twice", name)
		}
		seen[name] = true
		if err := checkRaw(raw, separator); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		value, err := url.PathUnescape(raw)
		if err != nil {
			return fmt.Errorf("%s: a %% that two hexadecimal digits do not follow", name)
		}
		if value == "" {
			return fmt.Errorf("%s is empty", name)
		}
		if name != "id" && (!utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f })) {
			return fmt.Errorf("%s: not text in UTF-8, or with control characters", name)
		}
		if err := set(name, value); err != nil {
			return err
		}
	}
	return nil
}

// checkRaw wants the characters of RFC 7512, 2.3 (pk11-pchar, pk11-qchar): all others
// are to be percent-encoded.
func checkRaw(raw, separator string) error {
	allowed := "-._~%:[]@!$'()*+,=&/?|"
	if separator == ";" {
		allowed = "-._~%:[]@!$'()*+,=&"
	}
	for _, r := range raw {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(allowed, r) {
			if r == ' ' || r == '/' || r == '#' {
				return fmt.Errorf("%q must be written %%%02X", r, r)
			}
			return errors.New("a character that must be percent-encoded")
		}
	}
	return nil
}

func (u *URI) setPath(name, value string) error {
	switch name {
	case "token":
		u.Token = value
	case "manufacturer":
		u.Manufacturer = value
	case "model":
		u.Model = value
	case "serial":
		u.Serial = value
	case "slot-description":
		u.SlotDescription = value
	case "slot-manufacturer":
		u.SlotManufacturer = value
	case "slot-id":
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return errors.New("slot-id is not a decimal number")
		}
		u.SlotID = &n
	case "object":
		u.Object = value
	case "id":
		u.ID = []byte(value)
	case "type":
		if value != "private" && value != "public" {
			return errors.New("type: a signing key is type=private, its public half type=public")
		}
		u.Type = value
	case "pin-source", "pin-value", "module-path", "module-name":
		return fmt.Errorf("%s belongs behind a ?, not behind a ;", name)
	default:
		if slices.Contains(libraryAttributes, name) {
			return fmt.Errorf("%s: name the module with module-path", name)
		}
		return fmt.Errorf("the attribute %q is not known", name)
	}
	return nil
}

func (u *URI) setQuery(name, value string) error {
	switch name {
	case "module-path":
		if !filepath.IsAbs(value) {
			return errors.New("module-path: not an absolute path; which file would be loaded would depend on where one is")
		}
		u.ModulePath = filepath.Clean(value)
	case "module-name":
		if strings.ContainsAny(value, "/\\") || strings.HasPrefix(value, ".") {
			return errors.New("module-name: a name, not a path; write module-path for that")
		}
		u.ModuleName = value
	case "pin-source":
		if strings.HasPrefix(value, "|") {
			return errors.New("pin-source: no program is run for a PIN; name a file")
		}
		path := strings.TrimPrefix(value, "file:")
		path = strings.TrimPrefix(path, "//") // file:///path, with no host
		if !filepath.IsAbs(path) {
			return errors.New("pin-source: want file:/absolute/path of the file with the PIN")
		}
		u.PinSource = filepath.Clean(path)
	case "pin-value":
		u.PinValue = value
	default:
		return fmt.Errorf("the attribute %q is not known behind the ?", name)
	}
	return nil
}
