package trusted

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/trust"
)

// Release is whose signature makes the releases of a repository of images as good as a
// digest in the builder file: that of the publisher's builder, for the git ref that the
// image's tag stands for.
type Release struct {
	Repository       string   // HOST/REPOSITORY of the images
	Identities       []string // of the publisher's workflow, whole: no patterns
	Issuer           string
	SourceRepository string      // that the workflow built: Fulcio's Source Repository URI
	Ref              string      // the git ref of a release, with * for its version: "refs/tags/dockerfile/*"
	Root             *trust.Root // under which the signature must verify; nil: Sigstore's public instance
}

// wireRelease is an entry of "signed" in the builder file.
type wireRelease struct {
	Repository       string          `json:"repository" strict:"required"`
	Identities       []string        `json:"identities" strict:"required,max=16"`
	Issuer           string          `json:"issuer" strict:"required"`
	SourceRepository string          `json:"sourceRepository" strict:"required"`
	Ref              string          `json:"ref" strict:"required"`
	TrustedRoot      json.RawMessage `json:"trustedRoot" strict:"required"` // a trusted_root.json, or "public"
}

func (w *wireRelease) release() (*Release, error) {
	ref, err := registry.ParseRef(w.Repository)
	if err != nil || ref.Scheme != registry.SchemeRegistry || w.Repository != ref.Name() {
		return nil, fmt.Errorf("repository %q: want HOST/REPOSITORY, like docker.io/docker/dockerfile", w.Repository)
	}
	if len(w.Identities) == 0 || slices.Contains(w.Identities, "") || w.Issuer == "" {
		return nil, fmt.Errorf("want the identities of the publisher, and their issuer")
	}
	if u, err := url.Parse(w.SourceRepository); err != nil || u.Scheme == "" || u.Host == "" {
		return nil, fmt.Errorf("sourceRepository %q: want a URL", w.SourceRepository)
	}
	if !strings.HasPrefix(w.Ref, "refs/tags/") || strings.Count(w.Ref, "*") != 1 {
		return nil, fmt.Errorf(`ref %q: want the git tag of a release with one * for its version, like "refs/tags/v*"`, w.Ref)
	}
	r := &Release{Repository: w.Repository, Identities: w.Identities, Issuer: w.Issuer, SourceRepository: w.SourceRepository, Ref: w.Ref}
	if string(w.TrustedRoot) == `"public"` {
		return r, nil
	}
	if r.Root, err = trust.ParseTrustedRoot(w.TrustedRoot); err != nil {
		return nil, fmt.Errorf("trustedRoot: %w", err)
	}
	return r, nil
}

// Release is the entry that speaks of an image by tag; nil when none does, or when the
// tag is no version: of "latest" every release of any age would be one.
func (b *Builder) Release(ref registry.Ref) *Release {
	if ref.Scheme != registry.SchemeRegistry || !isVersion(ref.Tag) {
		return nil
	}
	i := slices.IndexFunc(b.Signed, func(r *Release) bool { return r.Repository == ref.Name() })
	if i < 0 {
		return nil
	}
	return b.Signed[i]
}

// SignedTool is an image that was believed for its publisher's signature.
type SignedTool struct {
	Image    string `json:"image"` // NAME@DIGEST
	Tag      string `json:"tag"`   // that was asked for
	Identity string `json:"identity"`
	Issuer   string `json:"issuer"`
	Source   string `json:"source"` // repository and ref that it was built from
}

// By finds, among the verified signatures of an image, one of the publisher's for a
// release that the tag stands for.
func (r *Release) By(signatures []sourcepolicy.Signature, tag string) (SignedTool, bool) {
	for _, s := range signatures {
		who := s.Signer
		if who == nil || !slices.Contains(r.Identities, who.SubjectAlternativeName) || who.Issuer != r.Issuer || who.SourceRepositoryURI != r.SourceRepository {
			continue
		}
		if r.isRelease(who.SourceRepositoryRef, tag) {
			return SignedTool{Tag: tag, Identity: who.SubjectAlternativeName, Issuer: who.Issuer, Source: who.SourceRepositoryURI + "#" + who.SourceRepositoryRef}, true
		}
	}
	return SignedTool{}, false
}

// isRelease reports whether a git ref is that of a release that an image's tag stands for:
// of its version or, where the tag leaves numbers out, of one in that line.
func (r *Release) isRelease(ref, tag string) bool {
	before, after, _ := strings.Cut(r.Ref, "*")
	version, ok := strings.CutPrefix(ref, before)
	if !ok {
		return false
	}
	if version, ok = strings.CutSuffix(version, after); !ok || !isVersion(version) {
		return false
	}
	number, kind, _ := strings.Cut(version, "-")
	line, wanted, _ := strings.Cut(tag, "-")
	return kind == wanted && (number == line || strings.HasPrefix(number, line+"."))
}

// isVersion reports whether a tag is one to three numbers, perhaps with "-labs" behind them.
func isVersion(tag string) bool {
	parts := strings.Split(strings.TrimSuffix(tag, "-labs"), ".")
	for _, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 1_000_000 || strconv.Itoa(n) != p {
			return false
		}
	}
	return len(parts) <= 3
}
