// Package tagging makes release tags: annotated, signed, with the name of the repository
// in what is signed.
package tagging

import (
	"context"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/sshsigner"
)

// Request is a tag that is wanted.
type Request struct {
	Clone      string // a folder in the person's clone
	Name       string // "v1.4.0", without refs/tags/
	Target     string // a commit, in any way that git understands; "" for HEAD
	Message    string // without trailers; "" for "NAME"
	Repository string // "github.com/id/123456" for the trailer Hallmark-Repository; "" for none
	Policy     string // "sha256:…" for the trailer Hallmark-Policy; "" for none
	// Signer signs natively; nil leaves it to git tag -s with the person's configuration
	// (gpg.format, user.signingKey), as for OpenPGP and x509.
	Signer *sshsigner.Signer
	// AllowDirty also tags HEAD when files of the work tree are changed.
	AllowDirty bool
}

// Made is a tag that was made.
type Made struct {
	Ref    string // refs/tags/…
	ID     string // of the tag object
	Commit string
	Tag    *git.Tag
	Raw    []byte // content of the tag object
}

// Make makes a tag and its ref in the clone. An existing tag, a name that git does not
// take, an empty repository and, for HEAD, changed files are usage errors.
func Make(ctx context.Context, want Request) (*Made, error) { panic("not yet") }

// Push pushes the tag with the person's own git to a remote of the clone.
func (m *Made) Push(ctx context.Context, clone, remote string) error { panic("not yet") }
