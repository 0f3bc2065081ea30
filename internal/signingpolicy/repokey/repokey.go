// Package repokey has the keys under which signing policies are stored: those of repositories and
// owners by the ids that a forge never gives twice, and those of names, which it does.
package repokey

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// MaxKey is the most bytes of a key or name.
const MaxKey = 512

// Valid reports whether it is the key of a repository ("github.com/id/123456") or of an owner
// ("github.com/owner/42").
func Valid(key string) bool {
	host, kind, number := Parts(key)
	return len(key) <= MaxKey && validHost(host) && (kind == "id" || kind == "owner") && validNumber(number)
}

// validHost reports whether it is a host name in lower case.
func validHost(host string) bool {
	return host != "" && len(host) <= 253 && host[0] != '.' && host[0] != '-' && only(host, "-.")
}

// validNumber reports whether it is a decimal number as forges give ids: no sign, no leading zero.
func validNumber(n string) bool {
	if n == "" || len(n) > 20 || n[0] == '0' {
		return false
	}
	for i := range len(n) {
		if n[i] < '0' || n[i] > '9' {
			return false
		}
	}
	return true
}

// only reports whether a text has nothing but lower-case letters, digits and those of more.
func only(text, more string) bool {
	for i := range len(text) {
		if c := text[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return true
}

// Name is the key in the map under which a repository's name, "github.com/Org/App", is bound to
// its id. Names are lower-cased: forges tell no cases apart. "" is no name.
func Name(name string) string {
	host, path, ok := strings.Cut(strings.ToLower(name), "/")
	key := host + "/name/" + path
	if !ok || !validName(key) {
		return ""
	}
	return key
}

// validName reports whether it is a HOST/name/OWNER/REPO, with as many segments as the forge has.
func validName(key string) bool {
	parts := strings.Split(key, "/")
	if len(key) > MaxKey || len(parts) < 3 || !validHost(parts[0]) || parts[1] != "name" {
		return false
	}
	for _, p := range parts[2:] {
		if p == "" || !only(p, "-._") {
			return false
		}
	}
	return true
}

// validBlind reports whether it is what a [Blinding] makes of a key.
func validBlind(key string) bool {
	h, ok := strings.CutPrefix(key, "hmac/")
	return ok && Hex(h)
}

// Hex reports whether it is 64 hexadecimal digits in lower case: a SHA-256.
func Hex(h string) bool {
	if len(h) != 2*sha256.Size {
		return false
	}
	for i := range len(h) {
		if c := h[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Blinding hides keys and names of a private store: with a secret they are HMACs in the log and
// in the map. The zero Blinding hides nothing.
type Blinding []byte

// Key is a key, or a name's key, as the log and the map have it.
func (b Blinding) Key(key string) string {
	if len(b) == 0 || key == "" {
		return key
	}
	mac := hmac.New(sha256.New, b)
	mac.Write([]byte(key))
	return "hmac/" + hex.EncodeToString(mac.Sum(nil))
}

// Number reports whether a text is an id as forges give them: decimal, without a leading zero.
func Number(text string) bool { return validNumber(text) }

// Parts are host, kind ("id" or "owner") and number of a valid key.
func Parts(key string) (host, kind, number string) {
	parts := strings.Split(key, "/")
	if len(parts) != 3 {
		return "", "", ""
	}
	return parts[0], parts[1], parts[2]
}

// validMapKey reports whether it can stand in a leaf or a shard as a record's key.
// Stored reports whether it can stand in a leaf or a shard as a record's key.
func Stored(key string) bool { return Valid(key) || validBlind(key) }

// StoredName reports whether it can stand there as the key of a repository's name.
func StoredName(name string) bool { return validName(name) || validBlind(name) }
