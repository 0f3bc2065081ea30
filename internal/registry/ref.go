package registry

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// The schemes of a [Ref].
const (
	SchemeRegistry      = "registry"
	SchemeLayout        = "oci"            // an OCI image layout in a folder
	SchemeOCIArchive    = "oci-archive"    // an OCI image layout in a tar file; read only
	SchemeDockerArchive = "docker-archive" // what docker save wrote; read only
)

// defaultTag is what a registry reference without tag and digest means.
const defaultTag = "latest"

// Ref names an image or a repository, in a registry, in an OCI image layout
// on disk or in an archive. The zero Ref names nothing. A digest, where there is one, decides;
// a tag beside it is kept for people.
type Ref struct {
	Scheme     string // one of the Scheme constants
	Host       string // registry: "ghcr.io", "127.0.0.1:5000", "docker.io"; lower case
	Repository string // registry: "library/busybox"
	Dir        string // layout: the folder; archive: the file
	Tag        string // "" only beside a digest, or in a layout
	Digest     evidence.Digest
}

// ParseRef reads "[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]" or
// "oci:DIR[:TAG][@DIGEST]", and the same with oci-archive:FILE and
// docker-archive:FILE. Names without a host mean docker.io, one-part names
// there mean library/NAME, a registry reference without tag and digest means
// the tag "latest". It is strict: what is not exactly of this form is a usage
// error that says what is wrong (distribution-spec, "Pulling manifests").
func ParseRef(s string) (Ref, error) {
	ref, err := parseRef(s)
	if err != nil {
		return Ref{}, fault.Usagef("reference %q: %w", clip(s), err)
	}
	return ref, nil
}

func parseRef(s string) (Ref, error) {
	if s == "" {
		return Ref{}, fmt.Errorf("it is empty")
	}
	if len(s) > 4096 {
		return Ref{}, fmt.Errorf("it is longer than 4096 characters")
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r < 0x21 || r == 0x7f || r == 0xfffd }); i >= 0 {
		return Ref{}, fmt.Errorf("character %d is a space, a control character or not UTF-8", i+1)
	}
	for _, scheme := range []string{SchemeLayout, SchemeOCIArchive, SchemeDockerArchive} {
		if rest, ok := strings.CutPrefix(s, scheme+":"); ok {
			return parseLayoutRef(scheme, rest)
		}
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		return Ref{}, fmt.Errorf("leave out %s://", scheme)
	}
	return parseRegistryRef(s)
}

func parseRegistryRef(s string) (Ref, error) {
	ref := Ref{Scheme: SchemeRegistry}
	name, err := ref.cutDigest(s)
	if err != nil {
		return Ref{}, err
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		ref.Tag, name = name[i+1:], name[:i]
		if err := checkTag(ref.Tag); err != nil {
			return Ref{}, err
		}
	}
	host, repo, found := strings.Cut(name, "/")
	if !found && strings.ContainsAny(name, ".[") && strings.Trim(ref.Tag, "0123456789") == "" && ref.Tag != "" {
		return Ref{}, fmt.Errorf("%s:%s is a host and a port: no repository name", name, ref.Tag)
	}
	if !found || !(strings.ContainsAny(host, ".:[") || strings.EqualFold(host, "localhost")) {
		host, repo = "docker.io", name
	}
	if ref.Host, err = checkHost(host); err != nil {
		return Ref{}, err
	}
	if ref.Host == "index.docker.io" {
		ref.Host = "docker.io"
	}
	if ref.Host == "docker.io" && repo != "" && !strings.Contains(repo, "/") {
		repo = "library/" + repo
	}
	if err := checkRepository(repo); err != nil {
		return Ref{}, err
	}
	ref.Repository = repo
	if ref.Tag == "" && ref.Digest == "" {
		ref.Tag = defaultTag
	}
	return ref, nil
}

func parseLayoutRef(scheme, s string) (Ref, error) {
	ref := Ref{Scheme: scheme}
	dir, err := ref.cutDigest(s)
	if err != nil {
		return Ref{}, err
	}
	if i := strings.LastIndexByte(dir, ':'); i > strings.LastIndexByte(dir, '/') {
		ref.Tag, dir = dir[i+1:], dir[:i]
		if err := checkTag(ref.Tag); err != nil {
			return Ref{}, err
		}
	}
	if dir == "" {
		if scheme != SchemeLayout {
			return Ref{}, fmt.Errorf("there is no file after %q", scheme+":")
		}
		return Ref{}, fmt.Errorf("there is no folder after %q", scheme+":")
	}
	ref.Dir = dir
	return ref, nil
}

// cutDigest takes "@DIGEST" off the end of s.
func (r *Ref) cutDigest(s string) (string, error) {
	name, dig, found := strings.Cut(s, "@")
	if !found {
		return s, nil
	}
	d, err := evidence.ParseDigest(dig)
	if err != nil {
		return "", err
	}
	r.Digest = d
	return name, nil
}

// checkTag holds tags to [A-Za-z0-9_][A-Za-z0-9._-]{0,127}.
func checkTag(tag string) error {
	if tag == "" {
		return fmt.Errorf("the tag is empty")
	}
	if len(tag) > 128 {
		return fmt.Errorf("the tag is longer than 128 characters")
	}
	for i, c := range []byte(tag) {
		if !isAlnum(c) && c != '_' && (i == 0 || (c != '.' && c != '-')) {
			return fmt.Errorf("tag %q: a tag has letters, digits and _ . - and does not begin with . or -", tag)
		}
	}
	return nil
}

// checkRepository holds names to the distribution specification's grammar: parts
// of lower-case letters and digits, joined by ".", "_", "__" or dashes.
func checkRepository(repo string) error {
	if repo == "" {
		return fmt.Errorf("no repository name")
	}
	if len(repo) > 255 {
		return fmt.Errorf("the repository name is longer than 255 characters")
	}
	for part := range strings.SplitSeq(repo, "/") {
		if err := checkPart(part); err != nil {
			return fmt.Errorf("repository %q: %w", repo, err)
		}
	}
	return nil
}

func checkPart(part string) error {
	if part == "" {
		return fmt.Errorf("a part between slashes is empty")
	}
	sep := "" // the separator that is being read
	for i, c := range []byte(part) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			if sep != "" && sep != "." && sep != "_" && sep != "__" && strings.Trim(sep, "-") != "" {
				return fmt.Errorf("%q is not a separator", sep)
			}
			sep = ""
		case c == '.' || c == '_' || c == '-':
			if i == 0 {
				return fmt.Errorf("%q begins with %q", part, c)
			}
			sep += string(c)
		case c >= 'A' && c <= 'Z':
			return fmt.Errorf("%q has upper-case letters", part)
		default:
			return fmt.Errorf("%q has the character %q", part, rune(c))
		}
	}
	if sep != "" {
		return fmt.Errorf("%q ends with %q", part, sep)
	}
	return nil
}

// checkHost accepts a DNS name, an IPv4 address or a bracketed IPv6 address,
// each with an optional port, and returns it in lower case.
func checkHost(s string) (string, error) {
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host, port = s[:i], s[i+1:]
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return "", fmt.Errorf("host %q: %q is not a port number", s, port)
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !strings.HasSuffix(inner, "]") || !ip.Is6() || ip.Zone() != "" {
			return "", fmt.Errorf("host %q is not an IPv6 address in brackets", s)
		}
		return strings.ToLower(s), nil
	}
	if host == "" || len(host) > 253 {
		return "", fmt.Errorf("host %q has no name or too long a name", s)
	}
	for label := range strings.SplitSeq(host, ".") {
		if !isLabel(label) {
			return "", fmt.Errorf("host %q is not a host name", s)
		}
	}
	return strings.ToLower(s), nil
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !isAlnum(c) && c != '-' {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// Name is the repository: "host/repository", "oci:DIR" or "oci-archive:FILE".
func (r Ref) Name() string {
	if r.Scheme != SchemeRegistry && r.Scheme != "" {
		return r.Scheme + ":" + r.Dir
	}
	return r.Host + "/" + r.Repository
}

// String is the reference in full, so that ParseRef gives r back.
func (r Ref) String() string {
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + string(r.Digest)
	}
	return s
}

// WithDigest is the same repository at a digest, without a tag.
func (r Ref) WithDigest(d evidence.Digest) Ref {
	r.Tag, r.Digest = "", d
	return r
}

// short is what of r is told apart within its repository.
func (r Ref) short() string {
	if r.Digest != "" {
		return string(r.Digest)
	}
	return r.Tag
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
