// Package chain is the client of a policy store: which signing policy is in force for a
// repository, or the proof that there is none.
//
// Trusted: the configuration (the log's key, the quorum of cosigners, the updater's identity and
// what vouches for it) and, of a policy, the people whom its own chain of records names. Not
// trusted: the store's operator, who serves it, who submitted records, and the updater alone: a
// record counts only when the people of the record before it and its own agreed. What cannot be
// proven is refused; "not found" is never "no policy".
package chain

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/approval"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/record"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/repokey"
	"github.com/hallmark-dev/hallmark/internal/translog"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// Codes of refusals (docs/reasons.md); those of the store are package ledger's.
const (
	CodeClockSkew     = "CLOCK_SKEW"                // this machine's clock is not the issuer's
	CodeDigest        = "POLICY_DIGEST_MISMATCH"    // a record is not the one that the map names
	CodeBroken        = record.CodeBroken           // a record does not follow the one before it
	CodeBadUpdater    = "POLICY_BAD_UPDATER"        // not signed by the updater, or not as it runs
	CodeOtherRepo     = "POLICY_UPDATER_OTHER_REPO" // the updater ran for another repository
	CodeNotApproved   = "POLICY_NOT_APPROVED"       // too few of the people agreed
	CodeFirstTooSoon  = "POLICY_FIRST_TOO_SOON"     // a first record in effect at once
	CodeWeakenTooSoon = "POLICY_WEAKENING_TOO_SOON" // a weaker policy in effect at once
	CodeRecoverSoon   = "POLICY_RECOVER_TOO_SOON"   // a recovery or reset in effect at once
	CodeRequired      = "POLICY_REQUIRED"           // there is none where there must be one
	CodeNone          = "POLICY_NONE"               // a notice: there is none
	CodeReserved      = "OWNER_RESERVED"            // the owner did not agree to a first record
	CodeNameRebound   = "REPO_NAME_REBOUND"         // another repository has the name
	CodeRenamed       = "REPO_RENAMED"              // the policy is for another name
	CodeOwnerChanged  = "REPO_OWNER_CHANGED"        // the policy is for another owner
	CodeNoNotices     = "NOTICES_MISSING"           // notices are counted and cannot be had
)

// Defaults.
const (
	DefaultMaxAge     = 24 * time.Hour
	DefaultFirstDelay = 24 * time.Hour
	DefaultResetDelay = 14 * 24 * time.Hour
	DefaultMaxTail    = 50_000 // leaves
	maxSkew           = 5 * time.Minute
	maxVersions       = 4096
)

// Rules are how a chain of records is judged.
type Rules struct {
	// Verifier verifies the updater's signatures. Updaters are who it may be.
	Verifier *verify.Verifier
	Updaters []policy.Identity
	// AnyRunner accepts an updater that ran on a self-hosted runner: for forges that have no others.
	AnyRunner bool
	// Keyless verifies keyless approvals; nil refuses them.
	Keyless approval.Keyless
	// Operator is who may reset a policy when nobody can agree any more: the recover role of this
	// document. nil is nobody.
	Operator *authority.Document
	// FirstDelay is how long a first record waits, from when it was logged. ResetDelay is that of a
	// reset. Negative is not at all, 0 the default.
	FirstDelay, ResetDelay time.Duration

	updaters []policy.Matcher
}

// prepare checks the rules and fills in defaults.
func (r *Rules) prepare() error {
	if r.Verifier == nil || len(r.Updaters) == 0 {
		return errors.New("signing policies: who updates them, and what vouches for that, is not configured")
	}
	for _, u := range r.Updaters {
		m, err := u.Compile()
		if err != nil {
			return fmt.Errorf("signing policies: updater: %w", err)
		}
		r.updaters = append(r.updaters, m)
	}
	r.FirstDelay = delay(r.FirstDelay, DefaultFirstDelay)
	r.ResetDelay = delay(r.ResetDelay, DefaultResetDelay)
	return nil
}

func delay(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return max(d, 0)
}

// Point is a state of the log that is known to have been: the builder's release names one. The
// zero Point is the beginning.
type Point struct {
	Size int64
	Root tlog.Hash
}

// Config says what is believed of a store.
type Config struct {
	Rules
	Log    translog.Log
	Quorum ledger.Quorum
	Source translog.Source
	// Cache keeps the log's tiles, nil none. It is not trusted.
	Cache *translog.Cache
	// Memory is the largest head that was seen before, nil none.
	Memory *Memory
	Floor  Point
	// MaxAge of the head; 0 is DefaultMaxAge. MaxTail is how many leaves after the floor are read
	// to compare the map with them; 0 is DefaultMaxTail.
	MaxAge  time.Duration
	MaxTail int64
	// RequirePolicy denies a repository without a policy.
	RequirePolicy bool
	Blinding      repokey.Blinding
	Now           func() time.Time // nil: time.Now
}

// Client asks one store. It may be used concurrently.
type Client struct{ cfg Config }

// New checks a configuration.
func New(cfg Config) (*Client, error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	if cfg.Source == nil || cfg.Log.Origin == "" {
		return nil, errors.New("signing policies: no store is configured")
	}
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = DefaultMaxAge
	}
	if cfg.MaxTail <= 0 {
		cfg.MaxTail = DefaultMaxTail
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Client{cfg}, nil
}

// Repository is the repository that a run is for, by the run's own verified identity token. A
// rehearsal without a run knows the key alone: name and owner are both "", and then those of the
// newest record are taken.
type Repository struct {
	Key      string    // "github.com/id/123456"
	Name     string    // "github.com/org/app"
	OwnerID  string    // "42"
	IssuedAt time.Time // of the token, the issuer's clock; zero where there is no token
}

// Result is what the store proves.
type Result struct {
	// Policy is the record in force, nil when there provably is none.
	Policy *Step
	// Owner is the record of the repository's owner that is in force, nil without one.
	Owner *Step
	// Head is the store's head and HeadTime when the quorum saw it.
	Head     *ledger.Head
	HeadTime time.Time
	// Notices are the envelopes of the rejections that were filed, in their order. Each is signed by
	// whom it names, by some record of the policy. Whether it still counts, the present one says.
	Notices [][]byte
	// Pending are records of the repository that wait for their time, oldest first: people must hear
	// of them.
	Pending []*Step
	// Warnings are for people: that there is no policy.
	Warnings []policy.Reason
}

func refuse(code, subject, hint, format string, args ...any) *ledger.Refusal {
	return ledger.Refuse(code, subject, hint, format, args...)
}
