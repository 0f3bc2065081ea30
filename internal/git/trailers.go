package git

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// CodeOtherRepository is a tag that says, in what is signed, that it is of another repository.
const CodeOtherRepository = "TAG_OTHER_REPOSITORY"

// Names of the trailers.
const (
	RepositoryTrailer = "Hallmark-Repository"
	PolicyTrailer     = "Hallmark-Policy"
	trailerPrefix     = "hallmark-" // in any case: reserved
)

// Trailers are the Hallmark-* lines of the last paragraph of a signed message; "" is none.
type Trailers struct {
	Repository string // "github.com/id/123456"
	Policy     string // "sha256:…" of the policy that the tagger saw
}

// ParseTrailers reads the trailers of a message (without signature): lines NAME: VALUE of
// its last paragraph, each at most once. A line anywhere in the message that begins with
// "Hallmark-" in any case is exactly such a trailer, or an error: what a person reads as
// one must not be overlooked.
func ParseTrailers(message string) (Trailers, error) {
	var t Trailers
	lines := strings.Split(strings.TrimRight(message, "\n"), "\n")
	last := 0 // first line of the last paragraph
	for i, line := range lines {
		if line == "" {
			last = i + 1
		}
	}
	for i, line := range lines {
		if trimmed := strings.TrimLeft(line, " \t"); len(trimmed) < len(trailerPrefix) || !strings.EqualFold(trimmed[:len(trailerPrefix)], trailerPrefix) {
			continue
		}
		name, value, ok := strings.Cut(line, ": ")
		switch {
		case !ok:
			return Trailers{}, fmt.Errorf("the line %q is no trailer: want NAME: VALUE", clip(line))
		case i < last:
			return Trailers{}, fmt.Errorf("its trailer %s is not in the last paragraph", clip(name))
		case i+1 < len(lines) && strings.HasPrefix(lines[i+1], " "):
			return Trailers{}, fmt.Errorf("its trailer %s goes on in the next line", clip(name))
		}
		if err := t.set(name, value); err != nil {
			return Trailers{}, err
		}
	}
	return t, nil
}

func (t *Trailers) set(name, value string) error {
	into, valid := &t.Repository, ValidRepositoryKey
	switch name {
	case RepositoryTrailer:
	case PolicyTrailer:
		into, valid = &t.Policy, validDigest
	default:
		return fmt.Errorf("its trailer %q is not known", clip(name))
	}
	if *into != "" {
		return fmt.Errorf("its trailer %s stands twice", name)
	}
	if !valid(value) {
		return fmt.Errorf("its trailer %s is %q, which is not of the form that it has", name, clip(value))
	}
	*into = value
	return nil
}

// ValidRepositoryKey reports whether s is the key of a repository: HOST/id/NUMBER with a
// lower-case host name and a decimal number without leading zeros.
func ValidRepositoryKey(s string) bool {
	host, number, ok := strings.Cut(s, "/id/")
	if !ok || host == "" || len(host) > 253 || host[0] == '.' || host[0] == '-' {
		return false
	}
	for _, c := range []byte(host) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != ':' {
			return false
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == number
}

func validDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && validID(hex)
}

// Trailers reads those of the tag; what is wrong with them is TAG_MALFORMED.
func (t *Tag) Trailers() (Trailers, *policy.Reason) {
	trailers, err := ParseTrailers(t.Message)
	if err != nil {
		return Trailers{}, reason(CodeMalformed, t.ID, "make the tag anew with hallmark tag", "%s is not acceptable: %v", t.what(), err)
	}
	return trailers, nil
}

// OfRepository reports whether the tag says that it is of the repository with this key
// ("github.com/id/123456"). A tag without the trailer is not, and is no reason; one that
// names another is TAG_OTHER_REPOSITORY.
func (t *Tag) OfRepository(key string) (matches bool, why *policy.Reason) {
	trailers, why := t.Trailers()
	switch {
	case why != nil:
		return false, why
	case trailers.Repository == "":
		return false, nil
	case trailers.Repository != key || key == "":
		return false, reason(CodeOtherRepository, t.ID, "have the commit tagged in this repository: hallmark tag",
			"%s was signed for repository %s, and this is %s", t.what(), trailers.Repository, key)
	}
	return true, nil
}

// CheckTagName refuses what cannot be the name of a tag: what git-check-ref-format(1)
// refuses, and parts that begin with a dash.
func CheckTagName(name string) error {
	if err := checkRefName("refs/tags/" + name); err != nil {
		return fault.Usagef("%q cannot be the name of a tag", clip(name))
	}
	return nil
}
