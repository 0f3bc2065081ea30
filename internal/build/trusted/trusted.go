// Package trusted has the rules of hallmark build --trusted: a build whose result its
// caller can choose the source and the parameters of, and nothing else.
//
// A [Builder] is the operator's list of what such a build may run: buildkitd and runc by
// their SHA-256, frontends and the SBOM scanner as images by digest. [Refused] is what
// would make the result depend on the machine or the wishes of who calls, with the
// reason. [Claims] are what a CI system's identity says of the job, which must name the
// very commit that is built. [Facts] is what the provenance says of all that, and
// [ConsumerPolicies] what others can hold the result to.
//
// Trusted: the operator's file, root on this machine and its kernel, git and unshare of
// the system. Not trusted: the source and its Dockerfile, the caller's environment, the
// registry, and whoever can replace a program between its being looked at and its being
// run: what runs is the copy that was hashed.
package trusted

import (
	"strings"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Codes of this package (docs/reasons.md).
const (
	CodeTool     = "TOOL_UNVERIFIED"     // a program is not one that the operator's file names
	CodeFrontend = "FRONTEND_UNVERIFIED" // the Dockerfile wants a frontend that it does not name
	CodeClaims   = "CLAIMS_MISMATCH"     // the identity is that of a job for another source
	CodeResult   = "RESULT_UNVERIFIED"   // what was made does not verify as a consumer would verify it
)

// Denied is a refusal on the way of errors.
type Denied struct{ Reasons []policy.Reason }

func (d *Denied) Error() string {
	var all []string
	for _, r := range d.Reasons {
		all = append(all, "["+r.Code+"] "+r.Message)
	}
	return strings.Join(all, "; ")
}
