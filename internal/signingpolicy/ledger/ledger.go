// Package ledger is the format of a policy store as both ends know it: the leaves of its log,
// the map that follows from them, the heads that are signed and cosigned, and where all that
// lies. A store is static files; docs/policy-store.md describes them.
//
// Trusted: the log's key and the cosigners of the configured quorum, for what they signed.
// Nothing that a [translog.Source] gives is believed before it was followed up to a head. That
// the map is the right one for the log is the operator's claim, which [State] can check.
package ledger

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/repokey"
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

// ShardOf is the shard of 2^bits that a key is in: the first bits of its SHA-256.
func ShardOf(key string, bits int) int {
	sum := sha256.Sum256([]byte(key))
	first := uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
	return int(uint64(first) >> (32 - bits))
}

// validDigest reports whether it is "sha256:" with 64 digits in lower case.
func validDigest(d string) bool {
	h, ok := strings.CutPrefix(d, "sha256:")
	return ok && repokey.Hex(h)
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
