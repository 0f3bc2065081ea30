// Package part has the parts of a distributed build: each machine builds one platform of
// an image, and hands over a [Part], which says in a signed statement what it built and
// for which run. A [Plan] is what whoever puts the parts together expects of each of them,
// and says no to a part of anything else.
//
// Nothing of a part is believed before its signature was verified: it travels through
// places that others can write to (a run's artifacts at GitHub are open to every job of
// the run). A part names no more than one thing, an index of one image and its attestation
// manifest, by digest.
package part

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// PredicateType is the type of the statement.
const PredicateType = "https://github.com/hallmark-dev/hallmark/build-part/v1"

// Limits of what is read.
const (
	MaxFile = 2 << 20 // bytes of the bundle with the statement
	MaxList = 20      // parts of one build

	maxStatement = 1 << 20 // most of it the files that source policies read: a thousand each
	maxText      = 2048    // bytes of one value
	maxShown     = 160     // bytes of one that is shown
	maxTools     = 8
)

// Codes of this package (docs/reasons.md).
const (
	CodeInvalid    = "PART_INVALID"    // it is none
	CodeSigner     = "PART_SIGNER"     // not signed by whoever puts the parts together
	CodeRun        = "PART_RUN"        // of another run
	CodeSource     = "PART_SOURCE"     // of another repository, ref or commit
	CodeBuilder    = "PART_BUILDER"    // made by another builder
	CodeParameters = "PART_PARAMETERS" // made with other parameters
	CodePlatform   = "PART_PLATFORM"   // of a platform that is not wanted, or there twice, or missing
	CodeImage      = "PART_IMAGE"      // of another image, or the registry has not what it says
)

// Part is what one machine says of the platform that it built.
type Part struct {
	Run        string   `json:"run" strict:"required"`
	Repository string   `json:"repository" strict:"required"` // URL of the source
	Ref        string   `json:"ref"`                          // full name; "" when a commit was asked for
	Commit     string   `json:"commit" strict:"required"`
	Platform   string   `json:"platform" strict:"required"`      // as [Normal] writes it
	Images     []string `json:"images" strict:"required,max=10"` // HOST/REPOSITORY that it was pushed to
	Builder    string   `json:"builder" strict:"required"`       // builder.id of its provenance
	// Facts are what its provenance says beside that, with the tools of that machine.
	Facts trusted.Facts `json:"facts" strict:"required"`
	// Parameters are digests of what all parts must have alike; see [Parameters].
	Parameters map[string]evidence.Digest `json:"parameters" strict:"required"`

	// Policies are the source policies that were asked, with the files that they read, as
	// the text that the provenance has; "" when none were.
	Policies string `json:"policies"`

	// Index lists the image and its attestation manifest: the statement's subject.
	Index evidence.Digest `json:"-"`
}

// Predicate is the part as the predicate of a statement about its Index.
func (p *Part) Predicate() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(p)
	if over := len(data) + 512 - maxStatement; err == nil && over > 0 { // with the statement around it
		err = fault.Hint(fmt.Errorf("what a part says has %d bytes too many, %d of them about the files that source policies read", over, len(p.Policies)),
			"have the policies read fewer files: one list in the place of many")
	}
	return data, err
}

// Parse reads a statement strictly. That it is signed is for the caller to see to.
func Parse(statement []byte) (*Part, error) {
	p := &Part{}
	if len(statement) > maxStatement {
		return p, fmt.Errorf("%d bytes; a part has at most %d", len(statement), maxStatement)
	}
	st, err := bundle.ParseStatement(statement)
	if err != nil {
		return p, err
	}
	if st.Type != evidence.StatementV1 || st.PredicateType != PredicateType {
		return p, fmt.Errorf("it is a %q, and no part of a build", clip(st.PredicateType))
	}
	if len(st.Subject) != 1 || len(st.Subject[0].Digest) != 1 || len(st.Subject[0].Annotations) != 0 {
		return p, errors.New("a part is about one index, by its sha256 digest")
	}
	if p.Index, err = evidence.ParseDigest("sha256:" + st.Subject[0].Digest["sha256"]); err != nil {
		return p, fmt.Errorf("subject: %w", err)
	}
	if err := strictjson.Unmarshal(st.Predicate, p); err != nil {
		return p, err
	}
	return p, p.check()
}

func (p *Part) check() error {
	f := &p.Facts
	must := append([]string{p.Run, p.Repository, p.Commit, p.Platform, p.Builder, f.Hallmark, f.Frontend, f.Network}, p.Images...)
	for i, text := range append(must, p.Ref) {
		// They are shown, and must not pass for lines of our own.
		if text == "" && i < len(must) || len(text) > maxText || !utf8.ValidString(text) || strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsGraphic(c) }) {
			return fmt.Errorf("the value %q is empty, too long, or has characters that cannot be shown", clip(text))
		}
	}
	if normal, err := Normal(p.Platform); err != nil || normal != p.Platform {
		return fmt.Errorf("platform: %q is none", clip(p.Platform))
	}
	if n := len(p.Facts.Tools); n == 0 || n > maxTools {
		return fmt.Errorf("facts.tools: %d", n)
	}
	if _, err := readPolicies(p.Policies); err != nil {
		return fmt.Errorf("policies: %w", err)
	}
	if len(p.Images) == 0 {
		return errors.New("images: none")
	}
	if len(p.Parameters) != len(parameters) {
		return fmt.Errorf("parameters: %d; want %d", len(p.Parameters), len(parameters))
	}
	for _, name := range parameters {
		if _, err := evidence.ParseDigest(string(p.Parameters[name])); err != nil {
			return fmt.Errorf("parameters.%s: %w", name, err)
		}
	}
	return nil
}

// parameters are the names of the groups of parameters, as reasons call them.
var parameters = [...]string{"annotations", "build arguments", "Dockerfile", "labels", "named contexts", "settings of steps", "visibility of the source"}

// Parameters digests what is chosen about a build and is no platform, in the order of
// parameters: a build argument may be nobody else's business, so that only its being the
// same goes along.
func Parameters(values [len(parameters)]any) (map[string]evidence.Digest, error) {
	digests := map[string]evidence.Digest{}
	for i, name := range parameters {
		data, err := json.Marshal(values[i]) // which sorts maps
		if err != nil {
			return nil, err
		}
		digests[name] = evidence.SHA256(data)
	}
	return digests, nil
}

// Normal is how a platform is written here: OS/ARCH[/VARIANT] by the rules of BuildKit,
// for which linux/aarch64 is linux/arm64.
func Normal(platform string) (string, error) {
	p, err := platforms.Parse(platform)
	// "amd64" would be one of this machine's system, and a release of Windows nothing here compares.
	if err != nil || strings.Count(platform, "/") == 0 || p.OSVersion != "" {
		return "", fault.Usagef("platform %q: want OS/ARCH or OS/ARCH/VARIANT, like linux/arm64", clip(platform))
	}
	return NameOf(p), nil
}

// NameOf is Normal of what an index says of an image.
func NameOf(p ocispec.Platform) string { return platforms.Format(platforms.Normalize(p)) }

// Normals is Normal of each, which must be several different ones.
func Normals(list []string) ([]string, error) {
	var out []string
	for _, p := range list {
		normal, err := Normal(p)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, normal) {
			return nil, fault.Usagef("platform %s is given twice", normal)
		}
		out = append(out, normal)
	}
	if len(out) > MaxList {
		return nil, fault.Usagef("%d platforms; a distributed build has at most %d", len(out), MaxList)
	}
	return out, nil
}

// clip cuts what is too long to be shown.
func clip(s string) string {
	if len(s) > maxShown {
		s = s[:maxShown] + "…"
	}
	return strings.ToValidUTF8(s, "") // it may be cut in a character
}
