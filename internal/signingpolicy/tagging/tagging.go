// Package tagging makes release tags: annotated, signed, with the name of the repository
// in what is signed. It works in a person's own clone, with their own git.
package tagging

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/sshsigner"
)

// Request is a tag that is wanted.
type Request struct {
	Clone      string // a folder in the person's clone
	Name       string // "v1.4.0", without refs/tags/
	Target     string // a commit, in any way that git understands; "" for HEAD
	Message    string // without trailers; "" for the name
	Repository string // "github.com/id/123456" for the trailer Hallmark-Repository; "" for none
	Policy     string // "sha256:…" for the trailer Hallmark-Policy; "" for none
	// Signer signs natively; nil leaves it to git tag -s with the person's configuration
	// (gpg.format, user.signingKey), as for OpenPGP and x509.
	Signer *sshsigner.Signer
	// Keys, when there are any, are those that the signing policy lists for tags: a tag that
	// none of them verifies is not kept.
	Keys []git.TagKey
	// AllowDirty also tags HEAD when files of the work tree are changed.
	AllowDirty bool
}

// Made is a tag that was made.
type Made struct {
	Ref    string // refs/tags/…
	ID     string // of the tag object
	Commit string
	Tag    *git.Tag
	Raw    []byte      // content of the tag object
	Signer *git.Signer // who signed, where Keys or a native Signer tell
}

// Make makes a tag and its ref in the clone. An existing tag, a name that git does not
// take, an empty repository and, for HEAD, changed files are usage errors.
func Make(ctx context.Context, want Request) (*Made, error) {
	if err := git.CheckTagName(want.Name); err != nil {
		return nil, err
	}
	message, err := want.message()
	if err != nil {
		return nil, err
	}
	m := &Made{Ref: "refs/tags/" + want.Name}
	there, err := git.OwnLine(ctx, want.Clone, nil, "for-each-ref", "--count=1", "--format=%(refname)", m.Ref)
	if err != nil {
		return nil, err
	}
	if there == m.Ref {
		return nil, fault.Hint(fault.Usagef("there is a tag %s already", want.Name), "a release that was tagged keeps its name: choose the next one")
	}
	if m.Commit, err = want.commit(ctx); err != nil {
		return nil, err
	}
	if want.Signer == nil {
		err = m.byGit(ctx, want, message)
	} else {
		err = m.natively(ctx, want, message)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// message is the text of the tag with its trailers.
func (want Request) message() (string, error) {
	text := strings.TrimRight(want.Message, " \t\n")
	if text == "" {
		text = want.Name
	}
	trailers := git.Trailers{Repository: want.Repository, Policy: want.Policy}
	var lines string
	for _, t := range [][2]string{{git.RepositoryTrailer, want.Repository}, {git.PolicyTrailer, want.Policy}} {
		if t[1] != "" {
			lines += t[0] + ": " + t[1] + "\n"
		}
	}
	if text += "\n"; lines != "" {
		text += "\n" + lines
	}
	if got, err := git.ParseTrailers(text); err != nil {
		return "", fault.Usagef("the message of the tag: %w", err)
	} else if got != trailers {
		return "", fault.Usagef("the message of the tag has trailers of its own")
	}
	return text, nil
}

// commit is what is to be tagged.
func (want Request) commit(ctx context.Context) (string, error) {
	target := want.Target
	if target == "" {
		target = "HEAD"
	}
	id, err := git.OwnLine(ctx, want.Clone, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", target+"^{commit}")
	if err == nil && want.Target == "" && !want.AllowDirty {
		err = want.clean(ctx)
		return id, err
	}
	if err != nil {
		return "", fault.Hint(fault.Usagef("%s is no commit in %s", target, want.Clone), "git log shows what can be tagged")
	}
	return id, nil
}

func (want Request) clean(ctx context.Context) error {
	if inside, err := git.OwnLine(ctx, want.Clone, nil, "rev-parse", "--is-inside-work-tree"); err != nil || inside != "true" {
		return err
	}
	changed, err := git.Own(ctx, want.Clone, nil, "status", "--porcelain", "--untracked-files=no")
	if err == nil && changed != "" {
		err = fault.Hint(fault.Usagef("%d files of the work tree are changed, and would not be in the release", strings.Count(changed, "\n")),
			"commit them, or name the commit that is to be tagged")
	}
	return err
}

// natively makes and signs the tag object itself, and gives it to git.
func (m *Made) natively(ctx context.Context, want Request, message string) error {
	tagger, err := git.OwnLine(ctx, want.Clone, nil, "var", "GIT_COMMITTER_IDENT")
	if err != nil {
		return err
	}
	unsigned := fmt.Sprintf("object %s\ntype commit\ntag %s\ntagger %s\n\n%s", m.Commit, want.Name, tagger, message)
	blob, err := want.Signer.SSHSIG([]byte(unsigned), git.SignatureNamespace)
	if err != nil {
		return err
	}
	m.Raw = append([]byte(unsigned), sshsigner.Armor(blob)...)
	keys := want.Keys
	if len(keys) == 0 {
		keys = []git.TagKey{{Kind: "ssh", SSH: want.Signer.PublicKey()}}
	}
	if err := m.check(want, keys); err != nil {
		return err
	}
	id, err := git.OwnLine(ctx, want.Clone, m.Raw, "hash-object", "-t", "tag", "-w", "--stdin")
	if err != nil {
		return err
	}
	if id != m.ID {
		return fmt.Errorf("git wrote object %s where %s was expected", id, m.ID)
	}
	// The null id says that it must not be there yet.
	_, err = git.Own(ctx, want.Clone, nil, "update-ref", m.Ref, id, strings.Repeat("0", len(id)))
	return err
}

// byGit has git make the tag, and takes it back when it is not what was wanted.
func (m *Made) byGit(ctx context.Context, want Request, message string) error {
	if _, err := git.Own(ctx, want.Clone, []byte(message), "tag", "--sign", "--cleanup=verbatim", "--file=-", want.Name, m.Commit); err != nil {
		return fault.Hint(err, "git signs with gpg.format and user.signingKey of its configuration")
	}
	raw, err := git.Own(ctx, want.Clone, nil, "cat-file", "tag", m.Ref)
	if err == nil {
		m.Raw = []byte(raw)
		err = m.check(want, want.Keys)
	}
	if err != nil {
		_, derr := git.Own(ctx, want.Clone, nil, "update-ref", "-d", m.Ref)
		return errors.Join(err, derr)
	}
	return nil
}

// check judges what was made as the gate will.
func (m *Made) check(want Request, keys []git.TagKey) error {
	tag, why := git.ParseTag(m.Raw)
	if why == nil && (tag.Object != m.Commit || tag.Type != "commit" || tag.Name != want.Name) {
		return errors.New("the tag that was made is another one than was wanted")
	}
	if why == nil && tag.Signature.Kind == "" {
		return fault.Hint(errors.New("git did not sign the tag"), "look at gpg.format and user.signingKey of git's configuration")
	}
	var trailers git.Trailers
	if why == nil {
		trailers, why = tag.Trailers()
	}
	if why == nil && trailers != (git.Trailers{Repository: want.Repository, Policy: want.Policy}) {
		return errors.New("the tag that was made has other trailers than were wanted")
	}
	if why == nil && len(keys) > 0 {
		m.Signer, why = git.VerifyTag(tag, m.Ref, keys, time.Now())
	}
	if why != nil {
		return fault.Hint(fmt.Errorf("[%s] %s", why.Code, why.Message), "%s", why.Hint)
	}
	m.Tag, m.ID = tag, tag.ID
	return nil
}

// Push pushes the tag with the person's own git to a remote of the clone.
func (m *Made) Push(ctx context.Context, clone, remote string) error {
	if remote == "" || strings.HasPrefix(remote, "-") {
		return fault.Usagef("%q is not the name of a remote", remote)
	}
	_, err := git.Own(ctx, clone, nil, "push", "--quiet", "--no-follow-tags", "--end-of-options", remote, m.Ref+":"+m.Ref)
	return err
}
