package pkcs11uri_test

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hallmark-dev/hallmark/internal/key/pkcs11uri"
)

func TestParse(t *testing.T) {
	t.Parallel()
	slot := uint64(18446744073709551615)
	for text, want := range map[string]pkcs11uri.URI{
		"pkcs11:token=rel;object=sign": {Token: "rel", Object: "sign"},
		"pkcs11:object=sign%20me;id=%01%ff;type=private?module-path=/usr/lib/a.so&pin-source=file:/run/pin": {
			Object: "sign me", ID: []byte{1, 0xff}, Type: "private", ModulePath: "/usr/lib/a.so", PinSource: "/run/pin"},
		"pkcs11:slot-id=18446744073709551615;serial=12ab":                        {SlotID: &slot, Serial: "12ab"},
		"pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=A+B,C": {Token: "The Software PKCS#11 Softtoken", Manufacturer: "A+B,C"},
		"pkcs11:token=t?module-name=softhsm2&pin-value=1234":                     {Token: "t", ModuleName: "softhsm2", PinValue: "1234"},
		"pkcs11:token=t?pin-source=/run/pin":                                     {Token: "t", PinSource: "/run/pin"},
		"pkcs11:token=t?pin-source=file:///run/pin":                              {Token: "t", PinSource: "/run/pin"},
		"pkcs11:id=abc":               {ID: []byte("abc")},
		"pkcs11:token=Schl%C3%BCssel": {Token: "Schlüssel"},
	} {
		u, err := pkcs11uri.Parse(text)
		if err != nil || !reflect.DeepEqual(*u, want) {
			t.Errorf("%s: %+v, %v", text, u, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for text, why := range map[string]string{
		"pkcs11":                                       "begins with",
		"PKCS11:token=a":                               "begins with",
		"pkcs11://token=a":                             "no //",
		"pkcs11:":                                      "neither a token nor an object",
		"pkcs11:?module-path=/a.so":                    "neither a token nor an object",
		"pkcs11:token":                                 "not name=value",
		"pkcs11:token=a;":                              "not name=value",
		"pkcs11:token=a;token=b":                       "twice",
		"pkcs11:token=":                                "empty",
		"pkcs11:token=a%2":                             "hexadecimal",
		"pkcs11:token=a b":                             "must be written %20",
		"pkcs11:token=a/b":                             "must be written %2F",
		"pkcs11:token=ä":                               "percent-encoded",
		"pkcs11:token=%00":                             "control characters",
		"pkcs11:token=%ff":                             "UTF-8",
		"pkcs11:token=a;tokens=b":                      "not known",
		"pkcs11:token=a;x-vendor=b":                    "not known",
		"pkcs11:token=a;pin-value=1234":                "behind a ?",
		"pkcs11:token=a;type=cert":                     "type=private",
		"pkcs11:token=a;slot-id=0x1":                   "decimal",
		"pkcs11:token=a;slot-id=18446744073709551616":  "decimal",
		"pkcs11:token=a;library-version=3":             "module-path",
		"pkcs11:token=a?pin-sorce=/x":                  "not known",
		"pkcs11:token=a?pin-source=x":                  "absolute",
		"pkcs11:token=a?pin-source=|cat":               "no program",
		"pkcs11:token=a?pin-source=file://host/x":      "absolute",
		"pkcs11:token=a?pin-source=/x&pin-value=1234":  "one says which PIN",
		"pkcs11:token=a?module-path=a.so":              "absolute",
		"pkcs11:token=a?module-name=../a":              "not a path",
		"pkcs11:token=a?module-path=/a&module-name=b":  "one says which module",
		"pkcs11:token=a?module-path=/a;pin-value=1234": "percent-encoded",
		"pkcs11:to ken=a":                              "name of other characters",
		"pkcs11:token=" + strings.Repeat("a", 5000):    "more than",
	} {
		u, err := pkcs11uri.Parse(text)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.60s: %+v, %v", text, u, err)
		} else if strings.Contains(err.Error(), "1234") {
			t.Errorf("%.60s: the error shows the PIN: %v", text, err)
		}
	}
}

// FuzzParse: what is accepted names a key by text and a module by an absolute path, and no
// message has the PIN.
func FuzzParse(f *testing.F) {
	f.Add("pkcs11:token=rel;object=a;id=%01?module-path=/x&pin-source=file:/y")
	f.Add("pkcs11:slot-id=3;type=public?module-name=softhsm2&pin-value=12")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := pkcs11uri.Parse(text)
		if err != nil {
			if _, pin, ok := strings.Cut(text, "pin-value="); ok && len(pin) > 8 && strings.Contains(err.Error(), pin) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if u.Token == "" && u.Serial == "" && u.SlotID == nil && u.Object == "" && u.ID == nil {
			t.Fatalf("%q names nothing", text)
		}
		for _, path := range []string{u.ModulePath, u.PinSource} {
			if path != "" && !filepath.IsAbs(path) {
				t.Fatalf("%q: %q", text, path)
			}
		}
		for _, word := range []string{u.Token, u.Object, u.Serial, u.ModulePath, u.PinSource} {
			if !utf8.ValidString(word) || strings.ContainsAny(word, "\x00\n") {
				t.Fatalf("%q: %q", text, word)
			}
		}
		if u.ModulePath != "" && u.ModuleName != "" || u.PinSource != "" && u.PinValue != "" {
			t.Fatalf("%q: two modules or PINs: %+v", text, u)
		}
	})
}
