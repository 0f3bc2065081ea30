package approval

import "github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"

// Judge says which of the envelopes count for what is expected, with the keys of the document. It
// reads all of them: approvals that others can add do not crowd out those of the principals.
func Judge(doc *authority.Document, want Expected, found []Found) *Result {
	return &Result{}
}
