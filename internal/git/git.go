// Package git reads the source of a build: it fetches one ref of a repository
// with a hardened git, parses the tag and the commit itself, verifies who
// signed the tag, and writes out exactly the tree of the commit.
//
// Trusted: the git program and the files of the policy directory (allowed
// signers, keyring). Not trusted: the repository, its server and everything in
// it. An attacker who can modify the repository can withhold or replace refs;
// they cannot make an object pass under another id, make a tag pass that is
// not signed by a listed key under its own name, or run code here.
//
// The parser accepts less than git does. git verify-tag says yes to a signed
// tag under another name, to a tag of a tag, to bytes behind the signature and
// to an expired key with a backdated tagger line; each of these is refused
// here with its own reason code (docs/reasons.md, TAG_*).
package git

import (
	"crypto/sha1" //nolint:gosec // git's object ids; collisions are refused: see collides
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Reason codes of this package. KEY_KIND, KEY_TOO_WEAK and FETCH_REFUSED say
// that a key or a repository is of a sort that is never accepted.
const (
	CodeNotAnnotated   = "TAG_NOT_ANNOTATED"
	CodeUnsigned       = "TAG_UNSIGNED"
	CodeSigner         = "TAG_SIGNER"
	CodeTargetType     = "TAG_TARGET_TYPE"
	CodeMalformed      = "TAG_MALFORMED"
	CodeKeyExpired     = "TAG_KEY_EXPIRED"
	CodeWrongNamespace = "TAG_WRONG_NAMESPACE"
	CodeNameMismatch   = "TAG_NAME_MISMATCH"
	CodeMoved          = "TAG_MOVED"
	CodeKeyKind        = "KEY_KIND"
	CodeKeyTooWeak     = "KEY_TOO_WEAK"
	CodeFetchRefused   = "FETCH_REFUSED"
	CodeUnreachable    = "COMMIT_UNREACHABLE"
)

// Limits of what is read; anything longer is refused unread.
const (
	MaxTagSize     = 1 << 20
	MaxCommitSize  = 4 << 20
	MaxSignersSize = 1 << 20
	MaxKeyringSize = 16 << 20
)

// newObjectHash begins the id of an object: the hash over "type SP size NUL
// content" (gitformat-loose). hexLen 40 means SHA-1, 64 SHA-256.
func newObjectHash(kind string, size int64, hexLen int) hash.Hash {
	h := sha1.New() //nolint:gosec // see above
	if hexLen == hex.EncodedLen(sha256.Size) {
		h = sha256.New()
	}
	fmt.Fprintf(h, "%s %d\x00", kind, size)
	return h
}

// hashObject is the id of an object.
func hashObject(kind string, content []byte, hexLen int) string {
	h := newObjectHash(kind, int64(len(content)), hexLen)
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))
}

// validID reports whether s is an object id: 40 (SHA-1) or 64 (SHA-256)
// lower-case hexadecimal digits, and not the null id.
func validID(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	zero := true
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
		zero = zero && c == '0'
	}
	return !zero
}

func reason(code, subject, hint, format string, args ...any) *policy.Reason {
	return &policy.Reason{Code: code, Message: fmt.Sprintf(format, args...), Subject: subject, Hint: hint}
}

func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
