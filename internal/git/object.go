package git

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Signature is a signature found in an object: parsed, not verified.
type Signature struct {
	Kind    string // "ssh", "openpgp", "x509"; "" when there is none
	Armored []byte // the whole armor block, with its last line feed
	Payload []byte // the bytes that are signed
}

// Tag is an annotated tag object whose grammar and id were checked. What its
// headers say is the tagger's claim until [Trust.VerifyTag] has spoken.
type Tag struct {
	ID        string
	Object    string // id of what is tagged
	Type      string // "commit", "tree", "blob", "tag"
	Name      string // the name that was signed
	Tagger    policy.Person
	Message   string // without the signature
	Signature Signature
}

// Commit is a commit object whose grammar and id were checked.
type Commit struct {
	ID        string
	Tree      string
	Parents   []string
	Author    policy.Person
	Committer policy.Person
	Message   string // bytes that are not UTF-8 are replaced by U+FFFD
	Signature Signature
}

// ParseTag reads the content of a tag object (git-mktag(1), "tag format"):
// exactly the headers object, type, tag and tagger in this order, an empty
// line, the message, and at most one armored signature that ends the object.
// A tag that is anything else is TAG_MALFORMED. The id is computed here.
func ParseTag(raw []byte) (*Tag, *policy.Reason) {
	t, err := parseTag(raw)
	if err != nil {
		id := hashObject("tag", raw, 40)
		return nil, reason(CodeMalformed, id, "make the tag anew with git tag -s",
			"the tag object is not acceptable: %v", err)
	}
	return t, nil
}

func parseTag(raw []byte) (*Tag, error) {
	if len(raw) > MaxTagSize {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(raw), MaxTagSize)
	}
	if err := checkText(raw); err != nil {
		return nil, err
	}
	head, body, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		return nil, fmt.Errorf("no empty line after its headers")
	}
	values, err := exactHeaders(string(head), "object", "type", "tag", "tagger")
	if err != nil {
		return nil, err
	}
	t := &Tag{Object: values[0], Type: values[1], Name: values[2]}
	if !validID(t.Object) {
		return nil, fmt.Errorf("its object header is not an object id")
	}
	switch t.Type {
	case "commit", "tree", "blob", "tag":
	default:
		return nil, fmt.Errorf("its type header is %q", clip(t.Type))
	}
	if err := checkRefName("refs/tags/" + t.Name); err != nil {
		return nil, fmt.Errorf("its tag header: %w", err)
	}
	if t.Tagger, err = parsePerson(values[3]); err != nil {
		return nil, fmt.Errorf("its tagger header: %w", err)
	}
	at, kind, err := findArmor(body)
	if err != nil {
		return nil, err
	}
	t.Message = string(body)
	if kind != "" {
		t.Message = string(body[:at])
		start := len(head) + 2 + at
		t.Signature = Signature{Kind: kind, Armored: raw[start:], Payload: raw[:start]}
	}
	t.ID = hashObject("tag", raw, len(t.Object))
	return t, nil
}

// checkText refuses what no honest tag holds and what readers disagree on:
// NUL (git stops there), CR, other control characters, text that is not UTF-8.
func checkText(raw []byte) error {
	for i, c := range raw {
		switch {
		case c == '\n' || c == '\t':
		case c == 0:
			return fmt.Errorf("a NUL byte at offset %d", i)
		case c == '\r':
			return fmt.Errorf("a carriage return at offset %d", i)
		case c < 0x20 || c == 0x7f:
			return fmt.Errorf("a control character at offset %d", i)
		}
	}
	if !utf8.Valid(raw) {
		return fmt.Errorf("it is not UTF-8 text")
	}
	return nil
}

// exactHeaders reads "name SP value" lines that must have these names in this order.
func exactHeaders(head string, names ...string) ([]string, error) {
	lines := strings.Split(head, "\n")
	values := make([]string, 0, len(names))
	for i, line := range lines {
		if i >= len(names) {
			return nil, fmt.Errorf("a header too many: %q", clip(line))
		}
		value, ok := strings.CutPrefix(line, names[i]+" ")
		if !ok {
			return nil, fmt.Errorf("header %d is %q where %q belongs", i+1, clip(line), names[i])
		}
		if strings.ContainsRune(value, '\t') && names[i] != "tagger" {
			return nil, fmt.Errorf("a tab in its %s header", names[i])
		}
		values = append(values, value)
	}
	if len(values) < len(names) {
		return nil, fmt.Errorf("no %s header", names[len(values)])
	}
	return values, nil
}

// armors are the blocks that git takes for signatures, with our name for the kind.
var armors = [...]struct{ label, kind string }{
	{"SSH SIGNATURE", "ssh"},
	{"PGP SIGNATURE", "openpgp"},
	{"SIGNED MESSAGE", "x509"},
}

// findArmor finds the one armor block of a message. Readers disagree on which
// of two blocks counts (git: the last, BuildKit: the first) and on what may
// follow, so there must be one, and it must end the object.
func findArmor(body []byte) (at int, kind string, err error) {
	at = -1
	var end string
	for pos := 0; pos < len(body); {
		line, rest := body[pos:], len(body)
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line, rest = line[:i], pos+i+1
		}
		switch s := string(line); {
		case strings.HasPrefix(s, "-----BEGIN "):
			if at >= 0 {
				return 0, "", fmt.Errorf("more than one armored block")
			}
			for _, a := range armors {
				if s == "-----BEGIN "+a.label+"-----" {
					at, kind, end = pos, a.kind, "-----END "+a.label+"-----"
				}
			}
			if at < 0 {
				return 0, "", fmt.Errorf("an armored block %q, which is no signature", clip(s))
			}
		case strings.HasPrefix(s, "-----END "):
			if at < 0 || s != end || rest == pos+len(line) {
				return 0, "", fmt.Errorf("%q does not end a signature", clip(s))
			}
			if rest != len(body) {
				return 0, "", fmt.Errorf("bytes after its signature block")
			}
			return at, kind, nil
		}
		pos = rest
	}
	if at >= 0 {
		return 0, "", fmt.Errorf("its signature block has no end")
	}
	return 0, "", nil
}

// ParseCommit reads the content of a commit object: tree, any number of
// parents, author, committer, then further headers (each once, mergetag may
// repeat), an empty line and the message. The id is computed here.
func ParseCommit(raw []byte) (*Commit, *policy.Reason) {
	c, err := parseCommit(raw)
	if err != nil {
		return nil, reason(CodeFetchRefused, hashObject("commit", raw, 40), "",
			"the commit object is not acceptable: %v", err)
	}
	return c, nil
}

func parseCommit(raw []byte) (*Commit, error) {
	if len(raw) > MaxCommitSize {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(raw), MaxCommitSize)
	}
	if bytes.IndexByte(raw, 0) >= 0 {
		return nil, fmt.Errorf("it has a NUL byte")
	}
	r := headerReader{rest: raw}
	c := &Commit{}
	var err error
	if c.Tree, err = r.id("tree"); err != nil {
		return nil, err
	}
	for r.next("parent") {
		p, err := r.id("parent")
		if err != nil {
			return nil, err
		}
		if len(p) != len(c.Tree) {
			return nil, fmt.Errorf("ids of different lengths")
		}
		c.Parents = append(c.Parents, p)
	}
	if c.Author, err = r.person("author"); err != nil {
		return nil, err
	}
	if c.Committer, err = r.person("committer"); err != nil {
		return nil, err
	}
	if err := r.extra(c, raw); err != nil {
		return nil, err
	}
	c.Message = strings.ToValidUTF8(string(r.rest), "\uFFFD")
	c.ID = hashObject("commit", raw, len(c.Tree))
	return c, nil
}

// headerReader walks the headers of a commit.
type headerReader struct{ rest []byte }

func (r *headerReader) next(name string) bool {
	return bytes.HasPrefix(r.rest, []byte(name+" "))
}

// value takes the line "name SP value LF".
func (r *headerReader) value(name string) (string, error) {
	line, rest, ok := bytes.Cut(r.rest, []byte("\n"))
	v, has := bytes.CutPrefix(line, []byte(name+" "))
	if !ok || !has {
		return "", fmt.Errorf("no %s header where it belongs", name)
	}
	if bytes.ContainsAny(v, "\r") {
		return "", fmt.Errorf("a carriage return in its %s header", name)
	}
	r.rest = rest
	return string(v), nil
}

func (r *headerReader) id(name string) (string, error) {
	v, err := r.value(name)
	if err == nil && !validID(v) {
		err = fmt.Errorf("its %s header is not an object id", name)
	}
	return v, err
}

func (r *headerReader) person(name string) (policy.Person, error) {
	v, err := r.value(name)
	if err != nil {
		return policy.Person{}, err
	}
	p, err := parsePerson(v)
	if err != nil {
		return p, fmt.Errorf("its %s header: %w", name, err)
	}
	return p, nil
}

// extra reads the headers after committer up to and with the empty line, and
// takes the signature out. A signed commit's payload is the object without its
// signature header (git's gpgsig in SHA-1, gpgsig-sha256 in SHA-256 repositories).
func (r *headerReader) extra(c *Commit, raw []byte) error {
	seen := map[string]bool{"tree": true, "parent": true, "author": true, "committer": true}
	for {
		if rest, ok := bytes.CutPrefix(r.rest, []byte("\n")); ok {
			r.rest = rest
			return nil
		}
		start := len(raw) - len(r.rest)
		line, rest, ok := bytes.Cut(r.rest, []byte("\n"))
		name, value, has := strings.Cut(string(line), " ")
		if !ok || !has || name == "" {
			return fmt.Errorf("no empty line after its headers")
		}
		for strings.HasPrefix(string(rest), " ") {
			var more []byte
			if more, rest, ok = bytes.Cut(rest, []byte("\n")); !ok {
				return fmt.Errorf("header %q does not end", clip(name))
			}
			value += "\n" + string(more[1:])
		}
		if seen[name] && name != "mergetag" {
			return fmt.Errorf("a second %q header", clip(name))
		}
		seen[name] = true
		r.rest = rest
		if name != "gpgsig" && name != "gpgsig-sha256" {
			continue
		}
		if c.Signature.Kind != "" {
			return fmt.Errorf("two signature headers")
		}
		value += "\n"
		at, kind, err := findArmor([]byte(value))
		if err != nil || kind == "" || at != 0 {
			return fmt.Errorf("its %s header is not one signature block", name)
		}
		payload := append(bytes.Clone(raw[:start]), rest...)
		c.Signature = Signature{Kind: kind, Armored: []byte(value), Payload: payload}
	}
}

// parsePerson reads "name <email> seconds zone" (gitformat: ident). The time
// is what the author wrote; nothing is ever decided by it.
func parsePerson(s string) (policy.Person, error) {
	name, rest, ok1 := strings.Cut(s, " <")
	email, when, ok2 := strings.Cut(rest, "> ")
	seconds, zone, ok3 := strings.Cut(when, " ")
	if !ok1 || !ok2 || !ok3 || name == "" || strings.ContainsAny(name+email, "<>") {
		return policy.Person{}, fmt.Errorf("want name <email> seconds zone")
	}
	sec, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || sec < 0 || sec > 253402300799 || strconv.FormatInt(sec, 10) != seconds {
		return policy.Person{}, fmt.Errorf("its time is not seconds since 1970")
	}
	offset, err := parseZone(zone)
	if err != nil {
		return policy.Person{}, err
	}
	valid := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
	return policy.Person{Name: valid(name), Email: valid(email),
		When: time.Unix(sec, 0).In(time.FixedZone("", offset))}, nil
}

// parseZone reads "+0530" as seconds east of Greenwich.
func parseZone(s string) (int, error) {
	if len(s) != 5 || (s[0] != '+' && s[0] != '-') {
		return 0, fmt.Errorf("its time zone is not like +0000")
	}
	n, err := strconv.ParseUint(s[1:], 10, 16)
	hours, minutes := int(n)/100, int(n)%100
	if err != nil || hours > 15 || minutes > 59 {
		return 0, fmt.Errorf("its time zone is not like +0000")
	}
	offset := hours*3600 + minutes*60
	if s[0] == '-' {
		offset = -offset
	}
	return offset, nil
}

// checkRefName applies git-check-ref-format(1) to a full ref name.
func checkRefName(ref string) error {
	bad := fmt.Errorf("%q is not a valid name of a ref", clip(ref))
	if len(ref) > 1024 || strings.ContainsAny(ref, " ~^:?*[\\\x7f") || strings.Contains(ref, "..") ||
		strings.Contains(ref, "@{") || strings.HasSuffix(ref, ".") || !utf8.ValidString(ref) {
		return bad
	}
	for _, c := range []byte(ref) {
		if c < 0x20 {
			return bad
		}
	}
	parts := strings.Split(ref, "/")
	if len(parts) < 2 || parts[0] != "refs" {
		return bad
	}
	for _, p := range parts {
		if p == "" || p[0] == '.' || p[0] == '-' || strings.HasSuffix(p, ".lock") {
			return bad
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
