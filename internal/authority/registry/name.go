package registry

import (
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

const (
	maxName = 255
	maxTag  = 128
)

// checkName holds a repository name to the grammar of spec.md, "Pulling
// manifests": components of lower-case letters and digits, joined by one of
// ".", "_", "__" or dashes. Such a name cannot leave a folder, and no component
// can be one of our own names, which begin with "_".
func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return errName.with("a repository name has 1 to %d characters", maxName)
	}
	for component := range strings.SplitSeq(name, "/") {
		if !validComponent(component) {
			return errName.with("invalid repository name: components are lower-case letters and digits joined by '.', '_', '__' or '-'")
		}
	}
	return nil
}

func alnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func validComponent(s string) bool {
	for {
		n := 0
		for n < len(s) && alnum(s[n]) {
			n++
		}
		if n == 0 {
			return false
		}
		if s = s[n:]; s == "" {
			return true
		}
		switch {
		case s[0] == '.':
			s = s[1:]
		case strings.HasPrefix(s, "__"):
			s = s[2:]
		case s[0] == '_':
			s = s[1:]
		case s[0] == '-':
			s = strings.TrimLeft(s, "-")
		default:
			return false
		}
	}
}

// validTag is spec.md's [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}.
func validTag(s string) bool {
	if s == "" || len(s) > maxTag {
		return false
	}
	for i := range len(s) {
		c := s[i]
		word := alnum(c) || c >= 'A' && c <= 'Z' || c == '_'
		if !word && (i == 0 || c != '.' && c != '-') {
			return false
		}
	}
	return true
}

// parseDigest accepts the registered algorithms of image-spec descriptor.md:
// sha256 and sha512, in lower case.
func parseDigest(s string) (evidence.Digest, error) {
	d, err := evidence.ParseDigest(s)
	if err != nil || d.Algorithm() == "sha384" {
		return "", errDigest.with("a digest is sha256: or sha512: and its lower-case hexadecimal digits")
	}
	return d, nil
}

// parseReference tells a digest from a tag.
func parseReference(ref string) (tag string, d evidence.Digest, err error) {
	if strings.Contains(ref, ":") {
		d, err = parseDigest(ref)
		return "", d, err
	}
	if !validTag(ref) {
		return "", "", errTag.with("invalid tag: want up to %d letters, digits, '_', '.' and '-', beginning with a letter, digit or '_'", maxTag)
	}
	return ref, "", nil
}
