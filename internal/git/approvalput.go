package git

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// approvalIdent is author and committer of every approval's commit, so that the same
// approval is the same object wherever it is made.
const approvalIdent = "hallmark approval <approval@hallmark.invalid> 0 +0000"

// object is one that is to be written.
type object struct {
	kind    string
	content []byte
	id      string
}

// approvalObjects are the blob, tree and commit of an approval, in this order.
func approvalObjects(id string, envelope []byte, hexLen int) [3]object {
	make1 := func(kind string, content []byte) object {
		return object{kind, content, hashObject(kind, content, hexLen)}
	}
	blob := make1("blob", envelope)
	raw, _ := hex.DecodeString(blob.id)
	tree := make1("tree", append([]byte("100644 "+approvalFile+"\x00"), raw...))
	commit := make1("commit", fmt.Appendf(nil, "tree %s\nauthor %s\ncommitter %s\n\napproval sha256:%s\n", tree.id, approvalIdent, approvalIdent, id))
	return [3]object{blob, tree, commit}
}

func checkEnvelope(subject, id string, envelope []byte) error {
	if err := checkApproval(subject, id); err != nil {
		return err
	}
	if id == "" || len(envelope) == 0 || len(envelope) > MaxApprovalSize {
		return fault.Usagef("an approval has an id, and 1 to %d bytes; this one has %d", MaxApprovalSize, len(envelope))
	}
	return nil
}

// PushApproval puts an approval into a repository and returns its ref. It is no error when
// it is there already. A folder of this machine is written to in place, without its hooks;
// to a URL it is pushed with the location's login, ~/.netrc or ssh-agent, and nothing else
// of anybody's configuration. People at their desk use [PushApprovalFrom].
func PushApproval(ctx context.Context, location Location, subject, id string, envelope []byte) (ref string, err error) {
	if err := checkEnvelope(subject, id, envelope); err != nil {
		return "", err
	}
	ref = ApprovalRefs + subject + "/" + id
	repo, why, err := OpenRepository(ctx, location)
	if err != nil {
		return "", err
	}
	if why != nil {
		return "", errors.New(why.Message)
	}
	defer func() { err = errors.Join(err, repo.Close()) }()
	r := repo.run
	if !r.place {
		hexLen, err := r.idLength(ctx, subject)
		if err != nil {
			return "", err
		}
		if err := r.init(ctx, hexLen); err != nil {
			return "", err
		}
	}
	objects := approvalObjects(id, envelope, r.hexLen)
	for _, o := range objects {
		if err := r.put(ctx, o); err != nil {
			return "", err
		}
	}
	commit := objects[len(objects)-1].id
	if !r.place {
		_, err = r.run(ctx, "pushing "+ref, "-C", r.repo(), "push", "--quiet", "--end-of-options", location.argument(), commit+":"+ref)
		return ref, err
	}
	if is, err := r.listInPlace(ctx, []string{ref}); err != nil || is[ref].id == commit {
		return ref, err
	}
	// "" says that it must not be there yet.
	_, err = r.run(ctx, "writing "+ref, "-C", r.repo(), "update-ref", "--end-of-options", ref, commit, "")
	return ref, err
}

// idLength is that of the ids of the repository at a URL, in hexadecimal digits.
func (r *runner) idLength(ctx context.Context, subject string) (int, error) {
	if validID(subject) {
		return len(subject), nil
	}
	tips, err := r.list(ctx, []string{"HEAD"})
	if id := tips["HEAD"].id; err == nil && id != "" {
		return len(id), nil
	}
	return 40, err // an empty repository: it does not tell, and nearly all are
}

// put writes an object into the runner's repository.
func (r *runner) put(ctx context.Context, o object) error {
	var got string
	err := r.lines(ctx, "writing an approval", func(line string) error { got = line; return nil }, strings.NewReader(string(o.content)),
		"-C", r.repo(), "hash-object", "-t", o.kind, "-w", "--stdin")
	if err == nil && got != o.id {
		err = fmt.Errorf("git wrote object %q where %s was expected", clip(got), o.id)
	}
	return err
}

// PushApprovalFrom is [PushApproval] by a person's own git in their own clone: with their
// logins, configuration and hooks, to one of its remotes ("origin"). It asks for passwords
// as git push does, on their terminal. The ref is kept in the clone, too.
func PushApprovalFrom(ctx context.Context, clone, remote, subject, id string, envelope []byte) (ref string, err error) {
	if err := checkEnvelope(subject, id, envelope); err != nil {
		return "", err
	}
	if remote == "" || strings.HasPrefix(remote, "-") {
		return "", fault.Usagef("%q is not the name of a remote", clip(remote))
	}
	ref = ApprovalRefs + subject + "/" + id
	format, err := OwnLine(ctx, clone, nil, "rev-parse", "--show-object-format")
	if err != nil {
		return "", err
	}
	hexLen := 40
	if format == "sha256" {
		hexLen = 64
	}
	objects := approvalObjects(id, envelope, hexLen)
	for _, o := range objects {
		got, err := OwnLine(ctx, clone, o.content, "hash-object", "-t", o.kind, "-w", "--stdin")
		if err == nil && got != o.id {
			err = fmt.Errorf("git wrote object %q where %s was expected", clip(got), o.id)
		}
		if err != nil {
			return "", err
		}
	}
	if _, err := Own(ctx, clone, nil, "update-ref", ref, objects[2].id); err != nil {
		return "", err
	}
	_, err = Own(ctx, clone, nil, "push", "--quiet", "--no-follow-tags", "--recurse-submodules=no", "--end-of-options", remote, ref+":"+ref)
	return ref, err
}
