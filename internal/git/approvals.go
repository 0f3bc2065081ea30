package git

import "context"

// ApprovalRefs is where approvals lie: one ref each, ApprovalRefs + subject + "/" + id.
const ApprovalRefs = "refs/hallmark/approvals/"

// CodeEvidence is evidence that could not be read, and so counts neither for nor against.
const CodeEvidence = "EVIDENCE_UNAVAILABLE"

// Limits of approvals in a repository.
const (
	MaxApprovalSize = 16 << 10 // bytes of one
	MaxApprovals    = 20_000   // that are read of one subject
)

// PolicyApprovals is the subject of the approvals of a policy proposal: "policy-" and the
// hexadecimal digest of "sha256:…".
func PolicyApprovals(proposal string) string { panic("not yet") }

// Found is an approval as it lies in a repository or folder. Nothing of it is verified,
// and whoever can write there put it there.
type Found struct {
	ID       string // 64 hexadecimal digits, as its ref says
	Ref      string // its ref, or its path in a folder
	Envelope []byte
}

// Listing is what was found.
type Listing struct {
	Found  []Found
	Junk   int // refs that hold no approval: too large, another form
	Unread int // approvals beyond [MaxApprovals]: APPROVALS_TOO_MANY, a warning
}

// Approvals reads the approvals of one subject: the id of a commit, or [PolicyApprovals].
// keep, when it is not nil, says of each whether it is worth keeping in memory. An error
// never means that there are none: it is EVIDENCE_UNAVAILABLE.
func (r *Repository) Approvals(ctx context.Context, subject string, keep func(Found) bool) (*Listing, error) {
	panic("not yet")
}

// ListApprovals is [Repository.Approvals] of a location that is opened for it.
func ListApprovals(ctx context.Context, location Location, subject string, keep func(Found) bool) (*Listing, error) {
	panic("not yet")
}

// ReadApprovalDir reads the approvals in a folder (--approval-dir): files named
// <id>.json, directly in it or in a folder in it that is named as the subject.
func ReadApprovalDir(dir, subject string, keep func(Found) bool) (*Listing, error) {
	panic("not yet")
}

// WriteApprovalDir puts an approval into a folder for [ReadApprovalDir] and returns its path.
func WriteApprovalDir(dir, subject, id string, envelope []byte) (string, error) {
	panic("not yet")
}

// PushApproval puts an approval into a repository and returns its ref. It is no error when
// it is there already. A folder of this machine is written to in place, without its hooks;
// to a URL it is pushed with the location's login, ~/.netrc or ssh-agent, and nothing else
// of anybody's configuration. People at their desk use [PushApprovalFrom].
func PushApproval(ctx context.Context, location Location, subject, id string, envelope []byte) (ref string, err error) {
	panic("not yet")
}

// PushApprovalFrom is [PushApproval] by a person's own git in their own clone: with their
// logins, configuration and hooks, to one of its remotes ("origin"). It asks for passwords
// as git push does, on their terminal.
func PushApprovalFrom(ctx context.Context, clone, remote, subject, id string, envelope []byte) (ref string, err error) {
	panic("not yet")
}
