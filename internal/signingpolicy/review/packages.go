package review

import (
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/git"
)

// dependency is one that a manifest names.
type dependency struct{ name, version string }

// packages compares what two versions of a manifest name.
func (c *comparison) packages(name string, was, is git.Entry) error {
	if is.ID == "" {
		return nil
	}
	if is.Mode == modeModule {
		old := ""
		if was.Mode == modeModule {
			old = was.ID
		}
		if old != is.ID {
			c.add(Package{Manifest: plain(name), System: "submodule", Name: plain(name), Version: is.ID, Was: old, New: old == ""})
		}
		return nil
	}
	system, read := manifest(name)
	if read == nil || was.ID == is.ID {
		return nil
	}
	before, readable, err := c.text(was)
	if err != nil {
		return err
	}
	after, ok, err := c.text(is)
	if err != nil {
		return err
	}
	old, oldOK := read(before)
	now, nowOK := read(after)
	if !readable || !ok || !nowOK || !oldOK && before != "" {
		c.out.Unread = append(c.out.Unread, plain(name))
	}
	versions := map[string][]string{}
	for _, d := range old {
		versions[d.name] = append(versions[d.name], d.version)
	}
	seen := map[dependency]bool{}
	for _, d := range now {
		if slices.Contains(versions[d.name], d.version) || seen[d] {
			continue
		}
		seen[d] = true
		had, known := versions[d.name]
		c.add(Package{Manifest: plain(name), System: system, Name: plain(d.name), Version: plain(d.version),
			Was: plain(strings.Join(had, ", ")), New: !known})
	}
	return nil
}

func (c *comparison) add(p Package) {
	if len(c.out.NewPackages) < maxNames {
		c.out.NewPackages = append(c.out.NewPackages, p)
	} else if !slices.Contains(c.out.Unread, p.Manifest) {
		c.out.Unread = append(c.out.Unread, p.Manifest)
	}
}

// manifest is how a file that names dependencies is read; nil for others. ok is false of a
// text that cannot be read.
func manifest(name string) (system string, read func(text string) (all []dependency, ok bool)) {
	base := path.Base(name)
	lower := strings.ToLower(base)
	switch {
	case base == "go.mod":
		return "go", goModules
	case base == "package.json":
		return "npm", npmPackages
	case strings.HasPrefix(lower, "requirements") && strings.HasSuffix(lower, ".txt"), lower == "constraints.txt":
		return "pypi", pythonPackages
	case lower == "dockerfile", strings.HasPrefix(lower, "dockerfile."), strings.HasSuffix(lower, ".dockerfile"), lower == "containerfile",
		strings.HasPrefix(lower, "containerfile."):
		return "image", images
	}
	return "", nil
}

// goModules reads require, replace and tool lines of a go.mod (Go Modules Reference, "go.mod files").
func goModules(text string) (all []dependency, ok bool) {
	block := ""
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "//")
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
			continue
		case block == "" && len(f) == 2 && f[1] == "(":
			block = f[0]
			continue
		case block != "" && f[0] == ")":
			block = ""
			continue
		}
		verb := block
		if verb == "" {
			verb, f = f[0], f[1:]
		}
		for i := range f {
			f[i] = strings.Trim(f[i], "\"`")
		}
		switch {
		case verb == "require" && len(f) == 2:
			all = append(all, dependency{f[0], f[1]})
		case verb == "replace" && slices.Contains(f, "=>"):
			all = append(all, dependency{f[0] + " (replaced)", strings.Join(f[slices.Index(f, "=>")+1:], " ")})
		case verb == "tool" && len(f) == 1:
			all = append(all, dependency{f[0] + " (tool)", ""})
		case verb == "require" || verb == "replace":
			return all, false
		}
	}
	return all, block == ""
}

// npmPackages reads the dependencies of a package.json, of every sort.
func npmPackages(text string) (all []dependency, ok bool) {
	if text == "" {
		return nil, false
	}
	var m map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &m) != nil {
		return nil, false
	}
	ok = true
	for _, sort := range []string{"dependencies", "devDependencies", "optionalDependencies", "peerDependencies"} {
		var of map[string]string
		if m[sort] != nil && json.Unmarshal(m[sort], &of) != nil {
			ok = false
		}
		for name, version := range of {
			all = append(all, dependency{name, version})
		}
	}
	slices.SortFunc(all, func(a, b dependency) int { return strings.Compare(a.name+a.version, b.name+b.version) })
	return all, ok
}

// pythonPackages reads pip's requirements files: names as PEP 503 compares them, then
// whatever limits the version; addresses and included files as they are written.
func pythonPackages(text string) (all []dependency, ok bool) {
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		if i := strings.Index(line, " #"); i >= 0 {
			line = line[:i]
		}
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if i := strings.Index(line, " --hash"); i >= 0 {
			line = strings.TrimSpace(line[:i])
		}
		end := strings.IndexFunc(line, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
		})
		if end < 0 {
			end = len(line)
		}
		if line[0] == '-' || end == 0 || strings.HasPrefix(line[end:], ":") || strings.HasPrefix(line[end:], "/") {
			all = append(all, dependency{line, ""}) // an option, or an address
			continue
		}
		name := strings.ToLower(strings.NewReplacer("_", "-", ".", "-").Replace(line[:end]))
		rest := strings.TrimSpace(line[end:])
		if extras, after, has := strings.Cut(rest, "]"); has && strings.HasPrefix(extras, "[") {
			name, rest = name+extras+"]", strings.TrimSpace(after)
		}
		all = append(all, dependency{name, rest})
	}
	return all, true
}

// images reads what a Dockerfile takes from elsewhere: FROM, COPY --from, and the
// frontend of its syntax line. Names with variables are given as written.
func images(text string) (all []dependency, ok bool) {
	stages := map[string]bool{"scratch": true}
	add := func(image string) {
		if n := strings.Trim(image, "0123456789"); !stages[strings.ToLower(image)] && n != "" {
			all = append(all, splitImage(image))
		}
	}
	for line := range strings.Lines(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\\\n", " ")) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if rest, has := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(strings.TrimSpace(line)), " ", ""), "#syntax="); has {
			all = append(all, splitImage(rest))
			continue
		}
		switch strings.ToUpper(f[0]) {
		case "FROM":
			args := slices.DeleteFunc(f[1:], func(s string) bool { return strings.HasPrefix(s, "--") })
			if len(args) == 0 {
				return all, false
			}
			add(args[0])
			if len(args) == 3 && strings.EqualFold(args[1], "as") {
				stages[strings.ToLower(args[2])] = true
			}
		case "COPY", "ADD":
			for _, flag := range f[1:] {
				if from, has := strings.CutPrefix(flag, "--from="); has {
					add(from)
				}
			}
		case "RUN":
			for _, flag := range f[1:] {
				for part := range strings.SplitSeq(strings.TrimPrefix(flag, "--mount="), ",") {
					if from, has := strings.CutPrefix(part, "from="); has && strings.HasPrefix(flag, "--mount=") {
						add(from)
					}
				}
			}
		}
	}
	return all, true
}

// splitImage takes tag and digest off the name of an image.
func splitImage(s string) dependency {
	name, digest, pinned := strings.Cut(s, "@")
	tag := ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') && !strings.Contains(name[i:], "}") {
		name, tag = name[:i], name[i+1:]
	}
	if pinned {
		tag += "@" + digest
	}
	return dependency{name, tag}
}
