package sourcepolicy

import "strings"

// LockName is the kind and the name under which hallmark.lock has the source (package
// lockfile): the name that package sources gives it. Sources that no lock has, as folders,
// have none.
func (s Source) LockName() (kind, name string) {
	in, err := SourceToInput(s)
	switch {
	case err != nil:
	case in.Image != nil:
		return "image", s.Reference()
	case in.HTTP != nil:
		return "http", s.Identifier
	case in.Git != nil:
		if ref := s.GitRef(); ref != "" {
			return "git", in.Git.Remote + "#" + ref
		}
		return "git", in.Git.Remote
	}
	return "", ""
}

// GitRef is the ref of a git source's name, "" without one: what stands after # and
// before a colon.
func (s Source) GitRef() string {
	_, fragment, _ := strings.Cut(s.Identifier, "#")
	ref, _, _ := strings.Cut(fragment, ":")
	return ref
}
