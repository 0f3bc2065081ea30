package judge

import (
	"cmp"
	"strings"

	"golang.org/x/mod/semver"
)

// version is the semantic version that a tag's name ends in ("v1.4.0", "1.4.0",
// "release-1.4.0"), with a leading v; "" for none.
func version(ref string) string {
	name := strings.TrimPrefix(ref, "refs/tags/")
	if at := strings.IndexAny(name, "0123456789"); at >= 0 {
		if v := "v" + name[at:]; semver.IsValid(v) {
			return v
		}
	}
	return ""
}

// IsVersion reports whether a tag's name has a semantic version in it.
func IsVersion(ref string) bool { return version(ref) != "" }

// CompareVersions orders tags by the semantic versions in their names; those without
// one come first, by name.
func CompareVersions(x, y string) int {
	return cmp.Or(semver.Compare(version(x), version(y)), cmp.Compare(x, y))
}
