package git

import "github.com/hallmark-dev/hallmark/internal/policy"

// CodeOtherRepository is a tag that says, in what is signed, that it is of another repository.
const CodeOtherRepository = "TAG_OTHER_REPOSITORY"

// Trailers are the Hallmark-* lines of the last paragraph of a signed message; "" is none.
type Trailers struct {
	Repository string // "github.com/id/123456"
	Policy     string // "sha256:…" of the policy that the tagger saw
}

// ParseTrailers reads the trailers of a message (without signature). A line that looks
// like one and is not exactly one (another name, case or place, twice, a value of another
// form) is TAG_MALFORMED.
func ParseTrailers(message string) (Trailers, *policy.Reason) {
	panic("not yet")
}

// OfRepository reports whether the tag says that it is of the repository with this key
// ("github.com/id/123456"). A tag without the trailer is not, and is no reason; one that
// names another is TAG_OTHER_REPOSITORY.
func (t *Tag) OfRepository(key string) (matches bool, why *policy.Reason) {
	panic("not yet")
}
