package clusterimage

import (
	"fmt"
	"regexp"
	"strings"
)

// Glob is spec.images[].glob: ** stands for any characters, * for any but "/",
// and the whole name must match. Names are what policy-controller matches: the
// host docker.io is spelled index.docker.io, and an image is name@digest.
type Glob struct {
	text string
	re   *regexp.Regexp
}

// maxGlob is the longest glob, in bytes.
const maxGlob = 1024

// ParseGlob compiles a glob. A lone * means the official images of Docker Hub
// (index.docker.io/library/*), a lone */* its users' images (index.docker.io/*/*).
func ParseGlob(glob string) (Glob, error) {
	if glob == "" {
		return Glob{}, fmt.Errorf("a glob must not be empty")
	}
	if len(glob) > maxGlob {
		return Glob{}, fmt.Errorf("a glob has at most %d characters", maxGlob)
	}
	if i := strings.IndexFunc(glob, func(r rune) bool { return !globRune(r) }); i >= 0 {
		return Glob{}, fmt.Errorf("invalid glob %q: character %d; allowed are letters, digits and - _ : / * . @", glob, i+1)
	}
	full := glob
	switch glob {
	case "*":
		full = "index.docker.io/library/*"
	case "*/*":
		full = "index.docker.io/*/*"
	}
	var b strings.Builder
	b.WriteString("^")
	for rest := full; rest != ""; {
		switch {
		case strings.HasPrefix(rest, "**"):
			b.WriteString(".*")
			rest = rest[2:]
		case rest[0] == '*':
			b.WriteString("[^/]*")
			rest = rest[1:]
		default:
			b.WriteString(regexp.QuoteMeta(rest[:1]))
			rest = rest[1:]
		}
	}
	b.WriteString("$")
	re, err := regexp.Compile(b.String())
	if err != nil {
		return Glob{}, fmt.Errorf("invalid glob %q: %w", glob, err)
	}
	return Glob{text: glob, re: re}, nil
}

func globRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_:/*.@", r)
}

// Match reports whether name, a full name as [FullName] makes it, matches.
func (g Glob) Match(name string) bool { return g.re != nil && g.re.MatchString(name) }

func (g Glob) String() string { return g.text }

// FullName is the name that globs match, host/repository@digest, with Docker Hub
// spelled index.docker.io. A tag is never part of it: next to a digest a tag is
// only somebody's claim.
func FullName(host, repository, digest string) string {
	if host == "docker.io" {
		host = "index.docker.io"
	}
	return host + "/" + repository + "@" + digest
}
