package oracle_test

import (
	"encoding/base64"
	"math/rand/v2"
	"strconv"
	"strings"
)

// mutation changes a valid bundle; other is another valid one of the same format.
// It says what it did where the kind alone does not.
type mutation struct {
	kind   string
	weight int
	change func(r *rand.Rand, data []byte, tree, other *node) (mutant []byte, what string)
}

func choice[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// onTree is a mutation of the parsed bundle.
func onTree(change func(r *rand.Rand, tree, other *node) string) func(*rand.Rand, []byte, *node, *node) ([]byte, string) {
	return func(r *rand.Rand, _ []byte, tree, other *node) ([]byte, string) {
		tree = tree.clone()
		what := change(r, tree, other)
		return []byte(tree.String()), what
	}
}

// found is a value with its path.
type found struct {
	path string
	*node
}

// all are the values below tree that want holds of.
func all(tree *node, want func(path string, n *node) bool) []found {
	var out []found
	tree.walk("", func(path string, n *node) {
		if want(path, n) {
			out = append(out, found{path, n})
		}
	})
	return out
}

func isObject(_ string, n *node) bool { return n.kind == '{' && len(n.members) > 0 }
func isArray(_ string, n *node) bool  { return n.kind == '[' && len(n.elements) > 0 }

func isBytes(path string, n *node) bool {
	_, err := base64.StdEncoding.DecodeString(n.str())
	name := path[strings.LastIndexByte(path, '.')+1:]
	return err == nil && n.str() != "" && !isTextName(name)
}

func isTextName(name string) bool {
	switch name {
	case "mediaType", "kind", "version", "payloadType", "algorithm", "envelope", "hint", "keyid", "logIndex", "treeSize", "integratedTime":
		return true
	}
	return false
}

func isText(path string, n *node) bool {
	return n.str() != "" && isTextName(path[strings.LastIndexByte(path, '.')+1:])
}

func isInt(path string, n *node) bool {
	switch path[strings.LastIndexByte(path, '.')+1:] {
	case "logIndex", "treeSize", "integratedTime":
		return true
	}
	return false
}

var mutations = []mutation{
	{"bit", 20, func(r *rand.Rand, data []byte, _, _ *node) ([]byte, string) {
		out := append([]byte{}, data...)
		out[r.IntN(len(out))] ^= 1 << r.IntN(8)
		return out, ""
	}},
	{"byte", 10, func(r *rand.Rand, data []byte, _, _ *node) ([]byte, string) {
		at, n := r.IntN(len(data)), 1+r.IntN(3)
		end := min(at+n, len(data))
		switch r.IntN(4) {
		case 0: // delete
			return append(append([]byte{}, data[:at]...), data[end:]...), ""
		case 1: // twice
			return append(append([]byte{}, data[:end]...), data[at:]...), ""
		case 2:
			return append(append(append([]byte{}, data[:at]...), choice(r, []string{" ", "\n", "\t", "\x00", "\xff", "\u00e9", `"`, `\`, "{", "}", ",", "null"})...), data[at:]...), ""
		}
		return append([]byte{}, data[:at]...), "" // cut off
	}},
	{"decoded bit", 25, onTree(func(r *rand.Rand, tree, _ *node) string {
		f := choice(r, all(tree, isBytes))
		b, _ := base64.StdEncoding.DecodeString(f.str())
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		f.literal = text(base64.StdEncoding.EncodeToString(b)).literal
		return f.path
	})},
	{"decoded length", 8, onTree(func(r *rand.Rand, tree, _ *node) string {
		f := choice(r, all(tree, isBytes))
		b, _ := base64.StdEncoding.DecodeString(f.str())
		switch r.IntN(3) {
		case 0:
			b = b[:r.IntN(len(b))]
		case 1:
			b = append(b, byte(r.IntN(256)))
		default:
			b = b[1:]
		}
		f.literal = text(base64.StdEncoding.EncodeToString(b)).literal
		return f.path
	})},
	{"swap", 15, onTree(func(r *rand.Rand, tree, other *node) string {
		f := choice(r, all(tree, func(path string, _ *node) bool { return path != "" }))
		if theirs := other.at(f.path); theirs != nil {
			*f.node = *theirs.clone()
		}
		return f.path
	})},
	{"reorder", 3, onTree(func(r *rand.Rand, tree, _ *node) string {
		for range 4 {
			f := choice(r, all(tree, isObject))
			r.Shuffle(len(f.members), func(i, j int) { f.members[i], f.members[j] = f.members[j], f.members[i] })
		}
		return ""
	})},
	{"duplicate", 5, onTree(func(r *rand.Rand, tree, other *node) string {
		f := choice(r, all(tree, isObject))
		m := choice(r, f.members)
		if theirs := other.at(f.path + "." + m.name); theirs != nil && r.IntN(2) == 0 {
			m.value = theirs.clone()
		}
		if r.IntN(2) == 0 {
			m.name = snake(m.name)
		}
		f.members = append(f.members, m)
		return f.path + "." + m.name
	})},
	{"array", 6, onTree(func(r *rand.Rand, tree, other *node) string {
		arrays := all(tree, isArray)
		if len(arrays) == 0 {
			return ""
		}
		f := choice(r, arrays)
		i := r.IntN(len(f.elements))
		switch r.IntN(5) {
		case 0: // one less
			f.elements = append(f.elements[:i:i], f.elements[i+1:]...)
		case 1: // one twice
			f.elements = append(f.elements, f.elements[i].clone())
		case 2: // the other's too
			if theirs := other.at(f.path); theirs != nil && len(theirs.elements) > 0 {
				f.elements = append(f.elements, theirs.clone().elements[0])
			}
		case 3:
			f.elements = append(f.elements, choice(r, []*node{{literal: "null"}, {kind: '{'}, {literal: `""`}, {literal: "1"}}))
		default:
			r.Shuffle(len(f.elements), func(i, j int) { f.elements[i], f.elements[j] = f.elements[j], f.elements[i] })
		}
		return f.path
	})},
	{"proof", 4, onTree(func(r *rand.Rand, tree, other *node) string {
		proofs := all(tree, func(path string, _ *node) bool { return strings.HasSuffix(path, ".hashes") })
		if len(proofs) == 0 {
			return ""
		}
		f := choice(r, proofs)
		n := len(f.elements)
		if r.IntN(2) == 0 {
			f.elements = f.elements[:r.IntN(n)]
		} else {
			f.elements = f.elements[1+r.IntN(n):]
		}
		return f.path
	})},
	{"checkpoint", 6, onTree(func(r *rand.Rand, tree, other *node) string {
		notes := all(tree, func(path string, _ *node) bool { return strings.HasSuffix(path, ".envelope") })
		if len(notes) == 0 {
			return ""
		}
		f := choice(r, notes)
		theirs := other.at(f.path)
		head, sigs, _ := strings.Cut(f.str(), "\n\n")
		lines := strings.Split(head, "\n")
		var note string
		switch r.IntN(9) {
		case 0: // the other's head
			otherHead, _, _ := strings.Cut(theirs.str(), "\n\n")
			note = otherHead + "\n\n" + sigs
		case 1: // the other's signature
			_, otherSigs, _ := strings.Cut(theirs.str(), "\n\n")
			note = head + "\n\n" + otherSigs
		case 2: // both signatures
			_, otherSigs, _ := strings.Cut(theirs.str(), "\n\n")
			note = head + "\n\n" + sigs + otherSigs
		case 3: // a stranger's signature
			note = f.str() + "— stranger.test AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
		case 4: // another tree
			lines[1] = choice(r, []string{"0", "1", "2", "-1", "03", "3 ", "9223372036854775808", "", "x"})
			note = strings.Join(lines, "\n") + "\n\n" + sigs
		case 5: // another name
			name := choice(r, []string{"", "x", "rekor.test", "log2.test ", "LOG2.TEST", "log2.test - 77"})
			note = strings.Join(append([]string{name}, lines[1:]...), "\n") + "\n\n" + sigs
		case 6: // another signer's name
			note = head + "\n\n" + strings.Replace(sigs, ".test ", choice(r, []string{".tes ", ".test  ", ".test.x ", " "}), 1)
		case 7: // a line more
			note = head + "\nmore\n\n" + sigs
		default: // line ends
			note = choice(r, []string{strings.TrimSuffix(f.str(), "\n"), f.str() + "\n", strings.ReplaceAll(f.str(), "\n", "\r\n"), head + "\n" + sigs, head + "\n\n"})
		}
		f.literal = text(note).literal
		return f.path
	})},
	{"base64", 10, onTree(func(r *rand.Rand, tree, _ *node) string {
		f := choice(r, all(tree, isBytes))
		s := f.str()
		switch r.IntN(9) {
		case 0:
			s = strings.NewReplacer("+", "-", "/", "_").Replace(s)
		case 1:
			s = strings.TrimRight(s, "=")
		case 2:
			at := r.IntN(len(s))
			s = s[:at] + choice(r, []string{"\n", "\r\n"}) + s[at:]
		case 3:
			s = strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(s), "=")
		case 4:
			s = strings.Replace(s, "+", "-", 1)
		case 5: // stray bits in the last digit
			if i := strings.IndexByte(s, '='); i > 0 {
				s = s[:i-1] + string(s[i-1]+1) + s[i:]
			}
		case 6:
			s += "="
		case 7:
			s = " " + s
		default:
			f.literal = `"` + strings.NewReplacer("/", `\/`, "+", `\u002b`, "A", `\u0041`).Replace(s) + `"`
			return f.path + " escaped"
		}
		f.literal = text(s).literal
		return f.path
	})},
	{"integer", 6, onTree(func(r *rand.Rand, tree, _ *node) string {
		ints := all(tree, isInt)
		if len(ints) == 0 {
			return ""
		}
		f := choice(r, ints)
		n, _ := strconv.ParseInt(f.str(), 10, 64)
		s := f.str()
		f.literal = choice(r, []string{s, s + ".0", s + "e0", `"` + s + `.0"`, `"0` + s + `"`, "0" + s, "-" + s, `"+` + s + `"`, `" ` + s + `"`, `"` + s + ` "`, "-0", `"-0"`,
			strconv.FormatInt(n+1, 10), `"` + strconv.FormatInt(n-1, 10) + `"`, "9223372036854775808", `"-1"`, "0", `"0x1"`, `""`, "1e3", `"1e3"`})
		return f.path
	})},
	{"null", 5, onTree(func(r *rand.Rand, tree, _ *node) string {
		f := choice(r, all(tree, func(path string, _ *node) bool { return path != "" }))
		*f.node = node{literal: "null"}
		return f.path
	})},
	{"name", 6, onTree(func(r *rand.Rand, tree, _ *node) string {
		f := choice(r, all(tree, isObject))
		i := r.IntN(len(f.members))
		m := &f.members[i]
		switch r.IntN(6) {
		case 0, 1:
			m.name = snake(m.name)
		case 2:
			m.name = strings.ToUpper(m.name)
		case 3:
			f.members = append(f.members, member{"unknown", &node{literal: "1"}})
		case 4:
			f.members = append(f.members, member{m.name + "x", m.value.clone()})
		default:
			f.members = append(f.members, member{"unknown", &node{literal: "null"}})
		}
		return f.path
	})},
	{"missing", 5, onTree(func(r *rand.Rand, tree, _ *node) string {
		f := choice(r, all(tree, isObject))
		i := r.IntN(len(f.members))
		what := f.path + "." + f.members[i].name
		f.members = append(f.members[:i:i], f.members[i+1:]...)
		return what
	})},
	{"type", 5, onTree(func(r *rand.Rand, tree, _ *node) string {
		f := choice(r, all(tree, func(string, *node) bool { return true }))
		*f.node = *choice(r, []*node{{literal: "1"}, {literal: "true"}, {kind: '{'}, {kind: '['}, {literal: `""`}, {literal: `"x"`}, {kind: '[', elements: []*node{f.clone()}}, {literal: "-1.5e7"}})
		return f.path
	})},
	{"text", 8, onTree(func(r *rand.Rand, tree, _ *node) string {
		f := choice(r, all(tree, isText))
		s := f.str()
		const media = "application/vnd.dev.sigstore.bundle"
		s = choice(r, []string{s + " ", strings.ToUpper(s), s[:len(s)-1], "\u00e9" + s, s + "\x00", "x",
			media + "+json;version=0.1", media + "+json;version=0.2", media + "+json;version=0.3", media + ".v0.3+json", media + ".v0.3.0+json",
			media + ".v0.3.1+json", media + ".v0.4+json", media + "+json; version=0.3", "hashedrekord", "dsse", "intoto", "0.0.1", "0.0.2",
			"SHA2_256", "SHA2_384", "SHA2_512", "HASH_ALGORITHM_UNSPECIFIED", "application/vnd.in-toto+json", "text/plain"})
		f.literal = text(s).literal
		if r.IntN(8) == 0 {
			f.literal = strconv.Itoa(r.IntN(7)) // an enumeration's number
		}
		return f.path
	})},
	{"tail", 2, func(r *rand.Rand, data []byte, _, _ *node) ([]byte, string) {
		return append(append([]byte{}, data...), choice(r, []string{"{}", " ", "\n", "x", "\x00", ",", "]"})...), ""
	}},
	{"head", 1, func(r *rand.Rand, data []byte, _, _ *node) ([]byte, string) {
		return append([]byte(choice(r, []string{" ", "\ufeff", "\x00", "[", "//\n"})), data...), ""
	}},
}

func snake(name string) string {
	var b strings.Builder
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}

// choose is a mutation by weight.
func choose(r *rand.Rand) *mutation {
	total := 0
	for i := range mutations {
		total += mutations[i].weight
	}
	n := r.IntN(total)
	for i := range mutations {
		if n -= mutations[i].weight; n < 0 {
			return &mutations[i]
		}
	}
	panic("unreachable")
}
