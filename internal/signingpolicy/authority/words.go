package authority

import "strings"

// What words of the formats may be. Expressions with counted repetitions would cost more to
// compile than a whole document to read.

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	digits = "0123456789"
)

// only reports whether s has from 1 to limit bytes, all of them in set.
func only(s, set string, limit int) bool {
	return s != "" && len(s) <= limit && strings.Trim(s, set) == ""
}

// IsName reports whether s can name a principal or role: up to 64 of a-z, 0-9, dot, dash and
// underscore, beginning with a letter or digit.
func IsName(s string) bool { return only(s, lower+digits+"._-", 64) && only(s[:1], lower+digits, 1) }

// IsNumber reports whether s is the decimal number of an account, owner or repository: up to 20
// digits without a leading zero.
func IsNumber(s string) bool { return only(s, digits, 20) && s[0] != '0' }

// IsHost reports whether s can be a host in lower case.
func IsHost(s string) bool { return only(s, lower+digits+".-", 253) && only(s[:1], lower+digits, 1) }

// IsDigest reports whether s is "sha256:" and 64 lower-case hexadecimal digits.
func IsDigest(s string) bool {
	hexed, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hexed) == 64 && only(hexed, digits+"abcdef", 64)
}

// IsRepositoryKey reports whether s names a repository or an owner: HOST/id/NUMBER,
// HOST/owner/NUMBER, or local (also local/id/local) where there is no CI to say it.
func IsRepositoryKey(s string) bool {
	if s == "local" || s == "local/id/local" {
		return true
	}
	parts := strings.Split(s, "/")
	return len(parts) == 3 && IsHost(parts[0]) && (parts[1] == "id" || parts[1] == "owner") && IsNumber(parts[2])
}
