// Package ledger is the format of a policy store as both ends know it: the leaves of its log,
// the map that follows from them, the heads that are signed and cosigned, and where all that
// lies. A store is static files; docs/policy-store.md describes them.
//
// Trusted: the log's key and the cosigners of the configured quorum, for what they signed.
// Nothing that a [translog.Source] gives is believed before it was followed up to a head. That
// the map is the right one for the log is the operator's claim, which [State] can check.
package ledger

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Codes of refusals (docs/reasons.md).
const (
	CodeBadSignature = "STORE_BAD_SIGNATURE" // the head is not signed by the log
	CodeNoQuorum     = "STORE_NO_QUORUM"     // too few cosigners saw the head
	CodeStale        = "STORE_STALE"         // the head is too old
	CodeFromFuture   = "STORE_FROM_FUTURE"   // the head is from a time to come
	CodeRollback     = "STORE_ROLLBACK"      // the log is smaller than it was
	CodeForked       = "STORE_FORKED"        // the log contradicts what it was
	CodeBadMap       = "STORE_BAD_MAP"       // the last leaf does not commit to the map
	CodeBadShard     = "STORE_BAD_SHARD"     // a part of the map is not what the head signs
	CodeBadLog       = "STORE_BAD_LOG"       // the leaves are not what the head signs, or break a rule
	CodeMapOmits     = "STORE_MAP_OMITS_KEY" // the log has a key that the map lacks
	CodeMapOld       = "STORE_MAP_OLD"       // the map has an older state of a key than the log
	CodeConflict     = "CONFLICT"            // another version was appended in between
)

// Refusal is a denial: what a store shows was found out, and must not be believed or acted on.
type Refusal struct{ policy.Reason }

func (r *Refusal) Error() string { return r.Message }

// Refuse makes a refusal.
func Refuse(code, subject, hint, format string, args ...any) *Refusal {
	return &Refusal{policy.Reason{Code: code, Subject: subject, Hint: hint, Message: fmt.Sprintf(format, args...)}}
}

// MaxKey is the most bytes of a key or name.
const MaxKey = 512

// ValidKey reports whether it is the key of a repository ("github.com/id/123456") or of an owner
// ("github.com/owner/42").
func ValidKey(key string) bool {
	host, kind, number := Parts(key)
	return len(key) <= MaxKey && validHost(host) && (kind == "id" || kind == "owner") && validNumber(number)
}

// validHost reports whether it is a host name in lower case, perhaps with a port.
func validHost(host string) bool {
	host, port, has := strings.Cut(host, ":")
	return host != "" && host[0] != '.' && host[0] != '-' && only(host, "-.") && (!has || len(port) <= 5 && validNumber(port))
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

// NameKey is the key in the map under which a repository's name, "github.com/Org/App", is bound to
// its id. Names are lower-cased: forges tell no cases apart. "" is no name.
func NameKey(name string) string {
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
	return ok && validHex(h)
}

func validHex(h string) bool {
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

// Parts are host, kind ("id" or "owner") and number of a valid key.
func Parts(key string) (host, kind, number string) {
	parts := strings.Split(key, "/")
	if len(parts) != 3 {
		return "", "", ""
	}
	return parts[0], parts[1], parts[2]
}

// validMapKey reports whether it can stand in a leaf or a shard as a record's key.
func validMapKey(key string) bool { return ValidKey(key) || validBlind(key) }

func validMapName(name string) bool { return validName(name) || validBlind(name) }

// ShardOf is the shard of 2^bits that a key is in: the first bits of its SHA-256.
func ShardOf(key string, bits int) int {
	sum := sha256.Sum256([]byte(key))
	first := uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
	return int(uint64(first) >> (32 - bits))
}

// validDigest reports whether it is "sha256:" with 64 digits in lower case.
func validDigest(d string) bool {
	h, ok := strings.CutPrefix(d, "sha256:")
	return ok && validHex(h)
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
