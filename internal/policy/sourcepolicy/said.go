package sourcepolicy

import (
	"bytes"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy/rego"
)

// Members that no look-up finds out, but only the caller says: input.build, and what
// hallmark.lock has of a source. Where they are not said they are traps that always
// fail, so that no rule takes "nobody said so" for "it is not so".
//
// A policy that comes to them only by going through all members of an object is shown
// buildx's document, where they are not there. Which policy that is, its text says at
// first: it has none of their names. A name that a rule puts together (or has from a
// file, or from the input) is noticed when it is used, and the policy is asked again,
// with the traps.
var said = []string{"build", "locked", "moved"}

// namesIn are those of said that stand anywhere in a policy's files.
func namesIn(files map[string][]byte) map[string]bool {
	names := map[string]bool{}
	for _, text := range files {
		for _, name := range said {
			names[name] = names[name] || bytes.Contains(text, []byte(name))
		}
	}
	return names
}

// AsksLock reports whether the policy may ask what hallmark.lock says.
func (p *Policy) AsksLock() bool { return p.names["locked"] || p.names["moved"] }

// locked is what the lock says of a source; nil when that is not known, as of materials.
func (e *Evaluation) locked(n *node) *Locked {
	if n.depth > 0 {
		return nil
	}
	return e.req.Locked
}

// found is the digest that an image is known to have, "" without one.
func (n *node) found() evidence.Digest {
	if n.named.Image == nil || n.known.failed[string(ImageChecksum)] != nil {
		return ""
	}
	return n.known.digest(n)
}

// lock fills in what the lock says, and, once the digest is known, whether that is so.
func (i *Image) lock(l *Locked, found evidence.Digest) {
	if l == nil || l.Digest == "" {
		return
	}
	i.Locked, i.Moved = string(l.Digest), moved(string(l.Digest), string(found))
}

// lock is as that of an image. The body was hashed with the lock's algorithm, too.
func (h *HTTP) lock(l *Locked, f *Facts) {
	if l == nil || l.Digest == "" {
		return
	}
	found := h.Checksum
	if a := l.hashed(); a.Fact == HTTPDigest {
		found = string(f.Digests[a.Key()])
	}
	h.Locked, h.Moved = string(l.Digest), moved(string(l.Digest), found)
}

// lock is as that of an image, of the commit: another tag object of it is no other content.
func (g *Git) lock(l *Locked) {
	if l == nil || l.Commit == "" {
		return
	}
	g.Locked, g.Moved = l.Commit, moved(l.Commit, g.CommitChecksum)
}

// moved compares what the lock says with what was found; nil until that is known.
func moved(locked, found string) *bool {
	if found == "" {
		return nil
	}
	is := found != locked
	return &is
}

// hashed is the fact that a locked body is compared with.
func (l *Locked) hashed() Ask {
	if algorithm := l.Digest.Algorithm(); algorithm != "sha256" {
		return Ask{Fact: HTTPDigest, Algorithm: algorithm}
	}
	return Ask{Fact: HTTPChecksum}
}

// lockedInput is the source with what the lock says of it.
func (e *Evaluation) lockedInput(n *node, in *Input) {
	l := e.locked(n)
	switch {
	case in.Image != nil:
		image := *in.Image
		image.lock(l, n.found())
		in.Image = &image
	case in.HTTP != nil:
		http := *in.HTTP
		http.lock(l, &n.known.facts)
		in.HTTP = &http
	case in.Git != nil:
		g := *in.Git
		g.lock(l)
		in.Git = &g
	}
}

// unsaid puts traps where nobody said what a policy may ask for, or notes that the
// document lacks it.
func (p *pass) unsaid(n *node, o rego.Object) {
	trap := func(in rego.Object, name string, a Ask) {
		if p.policy.names[name] || p.evaluation.named[p.policy][name] {
			in[name] = rego.Unknown(func() { p.ask(n, a) })
			return
		}
		p.leftOut[name] = true
	}
	if p.evaluation.req.Build == nil {
		trap(o, "build", Ask{Fact: BuildSays})
	}
	l := p.evaluation.locked(n)
	for kind, decides := range map[string]Ask{"image": {Fact: ImageChecksum}, "http": {Fact: HTTPChecksum}, "git": {Fact: GitRef}} {
		source, ok := o[kind].(rego.Object)
		if !ok {
			continue
		}
		if l == nil {
			trap(source, "locked", Ask{Fact: LockSays})
		}
		if _, known := source["moved"]; known {
			continue
		}
		switch {
		case l == nil || *l == Locked{}:
			decides = Ask{Fact: LockSays}
		case kind == "http":
			decides = l.hashed()
		}
		trap(source, "moved", decides)
	}
}

// name notes names that a policy put together; it is asked again, with traps there.
func (e *Evaluation) name(p *Policy, names []string) {
	if e.named == nil {
		e.named = map[*Policy]map[string]bool{}
	}
	if e.named[p] == nil {
		e.named[p] = map[string]bool{}
	}
	for _, name := range names {
		e.named[p][name] = true
	}
}
