// Package sourcepolicy judges what a build uses: images, git checkouts, downloads
// and folders of the client, by policies written for buildx (package docker, rule
// decision) and by the same policies without a build.
//
// # How facts are found
//
// What is known of a source without asking anybody (its name, mostly) is in the
// input from the start. Everything else is a [Fact], fetched when a policy asks for
// it, and asking means reading: the member of the input that a fact decides is not a
// value but a trap, which notes that it was read (rego.Unknown). So it does not
// matter how a policy comes to the member: by a path, a variable, a function's
// argument, an iteration with some or every, a comprehension, a comparison of a
// whole object, or print. A pass in which a trap was touched decides nothing. What
// it touched is fetched, concurrently and once, and the policy is evaluated again,
// until a pass touches nothing that is not known: that pass decides. Materials of
// provenance are sources in the same way, with traps of their own. The number of
// passes is bounded by the number of facts, and by maxPasses.
//
// A fact that was asked for and could not be found out is known to be unknown.
// A pass that touches it denies, whatever the rules make of the member: a deny rule
// never stays silent because something was missing. A fact that only a pass touched
// which decided nothing (on the way of a value that was not there yet) does no harm.
//
// Two things read all of a source: to look at the names or the number of its members,
// and to put the source itself into a new array, set or object. A policy that does
// neither asks for no more than its rules come to.
//
// buildx finds out what to fetch by partial evaluation and the text of references,
// which misses createdTime and everything about materials that are iterated over.
//
// # What denies
//
// A rule that does not compile, a pattern that takes an object apart ({"user": u} =
// input.image counts members that are not known yet), an input reference that the schema does not have, a
// builtin function that fails, a decision of another shape, a deadline, a fact that
// stayed unknown, and two pins that differ. Each is a reason with a code.
package sourcepolicy

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"runtime"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/pattern"
)

// MaxIdentifier bounds a source identifier and each attribute, in bytes.
const MaxIdentifier = 8 << 10

// Attributes of a source that matter here (BuildKit, solver/pb/attr.go).
const (
	AttrFullRemoteURL = "git.fullurl"
	AttrHTTPAuth      = "http.authheadersecret"
	AttrImageChecksum = "image.checksum"

	AttrGitChecksum      = "git.checksum"
	AttrGitFetchByCommit = "git.fetchbycommit"
	AttrGitBundle        = "git.bundle"
)

// Source is something that a build uses.
type Source struct {
	// Identifier is BuildKit's: "docker-image://docker.io/library/alpine:3.19",
	// "git://github.com/org/repo.git#refs/tags/v1", "https://…", "local://context".
	Identifier string
	Attrs      map[string]string // BuildKit's attributes; may be nil
	Platform   string            // of an image: "linux/arm64"; "" is linux on this machine's architecture
}

const (
	imageScheme = "docker-image://"
	gitScheme   = "git://"
	localScheme = "local://"
)

// ParseSource reads a source as people write it: an image reference, a git URL (with
// #REF:FOLDER; https URLs whose path ends in .git), an http or https URL, a folder
// ("." or a path that begins with ./ or /), or a source identifier.
func ParseSource(s string) (Source, error) {
	switch {
	case s == "" || len(s) > MaxIdentifier:
		return Source{}, fault.Usagef("source: want an image, a git or http URL, or a folder")
	case strings.HasPrefix(s, imageScheme):
		return imageSource(s[len(imageScheme):])
	case strings.HasPrefix(s, localScheme), strings.HasPrefix(s, gitScheme):
		return Source{Identifier: s}, checkSource(Source{Identifier: s})
	case strings.HasPrefix(s, "https://"), strings.HasPrefix(s, "http://"):
		if u, err := url.Parse(s); err == nil && strings.HasSuffix(u.Path, ".git") {
			return gitSource(s)
		}
		return Source{Identifier: s}, checkSource(Source{Identifier: s})
	case strings.Contains(s, "@sha256:"), strings.Contains(s, "@sha512:"): // looks like git's USER@HOST:PATH
		return imageSource(s)
	case scpStyle().MatchString(s), strings.HasPrefix(s, "ssh://"):
		return gitSource(s)
	case s == "." || s == ".." || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") || strings.HasPrefix(s, "/"):
		return Source{Identifier: localScheme + "context"}, nil
	}
	return imageSource(s)
}

func imageSource(ref string) (Source, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return Source{}, fault.Usagef("source %q: %s", quoted(ref), fault.Redact(err.Error()))
	}
	return Source{Identifier: imageScheme + reference.TagNameOnly(named).String()}, nil
}

func gitSource(remote string) (Source, error) {
	s := Source{Identifier: gitScheme + remote, Attrs: map[string]string{AttrFullRemoteURL: remote}}
	return s, checkSource(s)
}

func checkSource(s Source) error {
	if _, err := SourceToInput(s); err != nil {
		return fault.Usagef("source %q: %w", quoted(s.Identifier), err)
	}
	return nil
}

// IsImage reports whether the source is an image.
func (s Source) IsImage() bool { return strings.HasPrefix(s.Identifier, imageScheme) }

// Reference is the image reference of a source that is an image.
func (s Source) Reference() string { return strings.TrimPrefix(s.Identifier, imageScheme) }

// Pin is the image with this digest, whatever digest it was named by.
func (s Source) Pin(d evidence.Digest) (Source, error) {
	if !s.IsImage() {
		return Source{}, fmt.Errorf("%s is not an image and cannot be pinned", s.shown())
	}
	named, err := reference.ParseNormalizedNamed(s.Reference())
	if err != nil {
		return Source{}, err
	}
	canonical, err := reference.WithDigest(named, digest.Digest(d))
	if err != nil {
		return Source{}, err
	}
	attrs := maps.Clone(s.Attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	attrs[AttrImageChecksum] = string(d)
	return Source{Identifier: imageScheme + canonical.String(), Attrs: attrs, Platform: s.Platform}, nil
}

// key tells sources apart.
func (s Source) key() string {
	return s.Identifier + "|" + s.Platform + "|" + s.Attrs[AttrFullRemoteURL] + "|" + s.Attrs[AttrHTTPAuth] +
		"|" + s.Attrs[AttrGitFetchByCommit] + "|" + s.Attrs[AttrGitChecksum]
}

// SourceToInput is what is known of a source from its name alone, as buildx has it.
// An error means that a build would not take such a source, or that we do not know
// the scheme.
func SourceToInput(s Source) (*Input, error) {
	if len(s.Identifier) > MaxIdentifier {
		return nil, fmt.Errorf("the source identifier has more than %d bytes", MaxIdentifier)
	}
	for name, v := range s.Attrs {
		if len(name)+len(v) > MaxIdentifier {
			return nil, fmt.Errorf("the attribute %q has more than %d bytes", clip(name), MaxIdentifier)
		}
	}
	scheme, rest, ok := strings.Cut(s.Identifier, "://")
	if !ok {
		return nil, fmt.Errorf("invalid source identifier: %s", quoted(s.Identifier))
	}
	in := &Input{}
	var err error
	switch scheme {
	case "http", "https":
		in.HTTP, err = httpInput(scheme, s)
	case "git":
		in.Git, err = gitInput(rest, s.Attrs)
	case "docker-image":
		in.Image, err = imageInput(rest, s.Platform)
	case "local":
		in.Local = &Local{Name: rest}
	default:
		err = fmt.Errorf("sources of scheme %q are not supported", clip(scheme))
	}
	if err != nil {
		return nil, err
	}
	return in, nil
}

func httpInput(scheme string, s Source) (*HTTP, error) {
	u, err := url.Parse(s.Identifier)
	if err != nil {
		return nil, errors.New("the URL cannot be read") // url.Error shows a password
	}
	_, auth := s.Attrs[AttrHTTPAuth]
	return &HTTP{URL: s.Identifier, Schema: scheme, Host: u.Host, Path: u.Path, Query: u.Query(), HasAuth: auth}, nil
}

func imageInput(ref, platform string) (*Image, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, fmt.Errorf("the image reference: %s", fault.Redact(err.Error()))
	}
	p, err := parsePlatform(platform)
	if err != nil {
		return nil, err
	}
	i := &Image{
		Ref: named.String(), Host: reference.Domain(named), Repo: reference.FamiliarName(named), FullRepo: named.Name(),
		Platform: platforms.Format(p), OS: p.OS, Architecture: p.Architecture, Variant: p.Variant,
	}
	if c, ok := named.(reference.Canonical); ok {
		i.Checksum, i.IsCanonical = c.Digest().String(), true
	}
	if t, ok := named.(reference.Tagged); ok {
		i.Tag = t.Tag()
	}
	return i, nil
}

func parsePlatform(s string) (platforms.Platform, error) {
	if s == "" {
		return platforms.Normalize(platforms.Platform{OS: "linux", Architecture: runtime.GOARCH}), nil
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return platforms.Platform{}, fmt.Errorf("the platform %q: %w", clip(s), err)
	}
	return platforms.Normalize(platforms.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}), nil
}

// gitURL is a git URL as BuildKit reads it (util/gitutil, ParseURL).
type gitURL struct {
	scheme, host, path, remote, ref, subdir string
	opts                                    bool
}

// scpStyle is USER@HOST:PATH[?QUERY][#REF].
var scpStyle = pattern.New(`^([a-zA-Z0-9-_]+)@([a-zA-Z0-9-.]+):(.*?)(?:\?(.*?))?(?:#(.*))?$`)

var protocol = pattern.New(`^[a-zA-Z0-9]+://`)

func isGitProtocol(scheme string) bool {
	switch scheme {
	case "http", "https", "ssh", "git":
		return true
	}
	return false
}

// isGitTransport reports whether a remote says by itself how it is reached.
func isGitTransport(remote string) bool {
	if p := protocol().FindString(remote); p != "" {
		return isGitProtocol(strings.ToLower(strings.TrimSuffix(p, "://")))
	}
	return scpStyle().MatchString(remote)
}

func parseGitURL(remote string) (gitURL, error) {
	if p := protocol().FindString(remote); p != "" {
		if p = strings.ToLower(strings.TrimSuffix(p, "://")); !isGitProtocol(p) {
			return gitURL{}, fmt.Errorf("git over %q is not supported", clip(p))
		}
		u, err := url.Parse(remote)
		if err != nil {
			return gitURL{}, errors.New("the git URL cannot be read")
		}
		bare := *u
		bare.Fragment, bare.RawFragment, bare.RawQuery = "", "", ""
		g := gitURL{scheme: u.Scheme, host: u.Host, path: u.Path, remote: bare.String()}
		g.fragment(u.Fragment)
		return g, nil
	}
	m := scpStyle().FindStringSubmatch(remote)
	if m == nil {
		return gitURL{}, errors.New("not the URL of a git repository")
	}
	if _, err := url.ParseQuery(m[4]); err != nil {
		return gitURL{}, errors.New("the query of the git URL cannot be read")
	}
	g := gitURL{scheme: "ssh", host: m[2], path: m[3], remote: m[1] + "@" + m[2] + ":" + m[3]}
	g.fragment(m[5])
	return g, nil
}

// fragment is REF:FOLDER.
func (g *gitURL) fragment(s string) {
	if s == "" {
		return
	}
	var subdir string
	g.opts = true
	g.ref, subdir, _ = strings.Cut(s, ":")
	g.subdir = strings.TrimPrefix(path.Join("/", subdir), "/")
}

func gitInput(rest string, attrs map[string]string) (*Git, error) {
	if attrs[AttrGitBundle] != "" {
		return nil, errors.New("a checkout out of a bundle is not supported: nothing shows that it is of the repository that it names")
	}
	fullURL := attrs[AttrFullRemoteURL]
	if !isGitTransport(rest) {
		rest = "https://" + rest
	}
	u, err := parseGitURL(rest)
	if err != nil {
		return nil, err
	}
	g := &Git{Schema: u.scheme, Remote: u.remote, Host: u.host, Subdir: u.subdir}
	if fullURL != "" {
		if !isGitTransport(fullURL) {
			fullURL = "https://" + fullURL
		}
		full, err := parseGitURL(fullURL)
		if err != nil {
			return nil, err
		}
		g.Schema, g.Remote, g.Host, g.FullURL = full.scheme, full.remote, full.host, fullURL
	}
	if attrs[AttrGitFetchByCommit] == "true" && !isObjectID(u.ref) {
		// BuildKit fetches the commit and believes the ref beside it unseen (v0.33.1,
		// source/git, resolveMetadata): nobody knows of which branch or tag it is.
		if u.ref = attrs[AttrGitChecksum]; !isObjectID(u.ref) {
			return nil, errors.New("fetch-by-commit wants a checksum that is a full commit id")
		}
	}
	g.setRef(u.ref)
	return g, nil
}

// setRef fills in what a full ref says by itself.
func (g *Git) setRef(ref string) {
	switch {
	case isObjectID(ref):
		g.Ref, g.IsCommitRef = ref, true
		g.setChecksum(ref, ref)
	case strings.HasPrefix(ref, "refs/tags/"):
		g.Ref, g.TagName = ref, strings.TrimPrefix(ref, "refs/tags/")
	case strings.HasPrefix(ref, "refs/heads/"):
		g.Ref, g.Branch = ref, strings.TrimPrefix(ref, "refs/heads/")
	}
}

func (g *Git) setChecksum(checksum, commit string) {
	annotated, long := checksum != commit, len(checksum) == 64
	g.Checksum, g.CommitChecksum, g.IsAnnotatedTag, g.IsSHA256 = checksum, commit, &annotated, &long
}

// isObjectID reports whether s is an object id: 40 or 64 lower-case digits.
func isObjectID(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// quoted is what somebody wrote for a message: without secrets, and then short, since of
// half a URL nobody sees where its login ends.
func quoted(s string) string { return clip(fault.Redact(s)) }

// clip keeps what is quoted in a message on one short line.
func clip(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
