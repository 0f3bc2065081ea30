package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
)

// ApprovalRefs is where approvals lie: one ref each, ApprovalRefs + subject + "/" + id.
const ApprovalRefs = "refs/hallmark/approvals/"

// CodeEvidence is evidence that could not be read, and so counts neither for nor against.
const CodeEvidence = "EVIDENCE_UNAVAILABLE"

// Limits of approvals in a repository or folder.
const (
	MaxApprovalSize = 16 << 10 // bytes of one
	MaxApprovals    = 20_000   // that are read of one subject
	MaxKept         = 64 << 20 // bytes of those that are kept in memory
)

// approvalFile is the one file of an approval's commit.
const approvalFile = "approval.json"

// fetchAtOnce is how many refs are asked for in one connection.
const fetchAtOnce = 4096

// PolicyApprovals is the subject of the approvals of a policy proposal, of its digest
// ("sha256:…"): "policy-" and the hexadecimal digits; "" of anything else.
func PolicyApprovals(proposal string) string {
	if !validDigest(proposal) {
		return ""
	}
	return "policy-" + strings.TrimPrefix(proposal, "sha256:")
}

// Found is an approval as it lies in a repository or folder. Nothing of it is verified,
// and whoever can write there put it there.
type Found struct {
	ID       string // 64 hexadecimal digits, as its ref says
	Ref      string // its ref, or its path in a folder
	Envelope []byte
}

// Listing is what was found.
type Listing struct {
	Found  []Found
	Junk   int // refs that hold no approval: too large, another form
	Unread int // approvals beyond [MaxApprovals] and [MaxKept]: APPROVALS_TOO_MANY, a warning

	kept int // bytes
}

// add takes one that somebody wants to keep.
func (l *Listing) add(f Found, keep func(Found) bool) {
	switch {
	case keep != nil && !keep(f):
	case l.kept+len(f.Envelope) > MaxKept:
		l.Unread++
	default:
		l.kept += len(f.Envelope)
		l.Found = append(l.Found, f)
	}
}

// checkApproval checks the parts of a ref's name. An approval's id is that of its
// statement without "sha256:".
func checkApproval(subject, id string) error {
	if digest, ok := strings.CutPrefix(subject, "policy-"); !validID(subject) && !(ok && validDigest("sha256:"+digest)) {
		return fault.Usagef("%q is neither the id of a commit nor of a policy proposal", clip(subject))
	}
	if id != "" && (len(id) != 64 || !validID(id)) {
		return fault.Usagef("%q is not the id of an approval: 64 hexadecimal digits", clip(id))
	}
	return nil
}

// Approvals reads the approvals of one subject: the id of a commit, or [PolicyApprovals].
// keep, when it is not nil, says of each whether it is worth keeping in memory. An error
// never means that there are none: it is EVIDENCE_UNAVAILABLE.
func (r *Repository) Approvals(ctx context.Context, subject string, keep func(Found) bool) (_ *Listing, err error) {
	if err := checkApproval(subject, ""); err != nil {
		return nil, err
	}
	refs, out, err := r.approvalRefs(ctx, ApprovalRefs+subject+"/")
	if err != nil {
		return nil, err
	}
	if len(refs) == 0 {
		return out, nil
	}
	run := r.run
	if !run.place {
		// In a repository of their own: their objects are of no further use.
		if run, err = newRunner(r.Location); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, run.remove()) }()
		if err := run.init(ctx, len(refs[0].id)); err != nil {
			return nil, err
		}
		if err := run.fetchApprovals(ctx, refs); err != nil {
			return nil, err
		}
	}
	if err := run.readApprovals(ctx, refs, keep, out); err != nil {
		return nil, err
	}
	return out, nil
}

// approvalRef is one of the refs and where it points.
type approvalRef struct{ name, id string }

func (r *Repository) approvalRefs(ctx context.Context, prefix string) ([]approvalRef, *Listing, error) {
	var refs []approvalRef
	out := &Listing{}
	err := r.run.refs(ctx, prefix, false, func(id, name string) error {
		switch {
		case checkApproval(strings.Repeat("1", 40), strings.TrimPrefix(name, prefix)) != nil || name == prefix:
			out.Junk++
		case len(refs) >= MaxApprovals:
			out.Unread++
		default:
			refs = append(refs, approvalRef{name, id})
		}
		return nil
	})
	return refs, out, err
}

// fetchApprovals fetches the refs, blobs that are too large left out where the server can
// do so, and nothing that lies behind them.
func (r *runner) fetchApprovals(ctx context.Context, refs []approvalRef) error {
	for chunk := range slices.Chunk(refs, fetchAtOnce) {
		var names strings.Builder
		for _, ref := range chunk {
			// By their ids: for names git asks the other side again, with six spellings of
			// each. And without refs here, which git would write one file each.
			names.WriteString(ref.id + "\n")
		}
		err := r.lines(ctx, "fetching the approvals of "+r.location.String(), func(string) error { return nil }, strings.NewReader(names.String()),
			"-c", "fetch.fsckObjects=false", "-c", "remote.source.promisor=true", "-c", "remote.source.url="+r.location.argument(),
			"-C", r.repo(), "fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--filter=blob:limit="+strconv.Itoa(MaxApprovalSize+1),
			"--stdin", "--end-of-options", "source")
		if err != nil {
			return err
		}
		// Or git would tell the other side with each chunk where all those before end.
		if err := os.Remove(filepath.Join(r.repo(), "shallow")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return r.forgetOrigin()
}

// fewApprovals is up to how many are read without asking for their sizes first.
const fewApprovals = 64

// maxSkipped is up to how many bytes are read over to get to the next answer.
const maxSkipped = 1 << 20

// readApprovals reads the one file of each ref's commit; the same file is read once. Of
// many, sizes are asked for first, so that what is too large is not read at all.
func (r *runner) readApprovals(ctx context.Context, refs []approvalRef, keep func(Found) bool, out *Listing) (err error) {
	good := refs
	var absent []approvalRef
	if len(refs) > fewApprovals {
		if good, absent, err = r.approvalBlobs(ctx, refs, out); err != nil || len(good)+len(absent) == 0 {
			return err
		}
	}
	b, err := r.batch(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	seen := map[string]bool{}
	for _, ref := range good {
		question := ref.id
		if len(refs) <= fewApprovals {
			question += ":" + approvalFile
		}
		content, id, err := b.approval(question)
		var missing *missingError
		if errors.As(err, &missing) {
			absent = append(absent, ref)
			out.Junk++
			continue
		}
		if err != nil {
			return err
		}
		if b, err = r.whole(ctx, b); err != nil {
			return err
		}
		if content == nil || seen[id] { // a copy under another name says nothing more
			out.Junk++
			continue
		}
		seen[id] = true
		out.add(Found{ID: ref.name[strings.LastIndexByte(ref.name, '/')+1:], Ref: ref.name, Envelope: content}, keep)
	}
	for _, ref := range absent {
		if !r.place {
			break
		}
		if b, err = r.whole(ctx, b); err != nil {
			return err
		}
		if err := b.absent(ref.id); err != nil {
			return err
		}
	}
	return nil
}

// whole is the batch, or another one when it stands in the middle of something large.
func (r *runner) whole(ctx context.Context, b *batch) (*batch, error) {
	if !b.broken {
		return b, nil
	}
	if err := b.close(); err != nil {
		return b, err
	}
	return r.batch(ctx)
}

// absent is an error where an approval's file is not here though its commit names one, as
// in a partial clone: what cannot be read is not none. Of a URL such files are those that
// are too large, which were not asked for.
func (b *batch) absent(commit string) error {
	_, kind, size, err := b.ask(commit + "^{tree}")
	var missing *missingError
	if errors.As(err, &missing) {
		// A ref can lead to a file, too.
		if _, kind, size, err = b.ask(commit); err == nil && kind == "commit" {
			err = missing
		}
	}
	if err != nil {
		return err
	}
	if kind != "tree" || size > maxSkipped {
		b.broken = true
		return nil
	}
	tree, err := b.content(size)
	if err != nil {
		return err
	}
	entries, _ := parseTree(tree, len(commit)) // of another form: no approval
	for _, e := range entries {
		if e.name == approvalFile && e.mode != modeFolder && e.mode != "160000" {
			return fmt.Errorf("approval %s: its file is not in the repository (a partial clone?)", short(commit))
		}
	}
	return nil
}

// approval reads one; nil for what is none.
func (b *batch) approval(question string) (content []byte, id string, err error) {
	id, kind, size, err := b.ask(question)
	switch {
	case err != nil:
		return nil, "", err
	case size > maxSkipped:
		b.broken = true
		return nil, "", nil
	case kind != "blob" || size > MaxApprovalSize:
		return nil, "", b.skip(size)
	}
	if content, err = b.content(size); err != nil || hashObject(kind, content, len(id)) != id {
		return nil, "", err
	}
	return content, id, nil
}

// approvalBlobs are the files of the refs that may be approvals, by their ids, and the refs
// whose file is not there.
func (r *runner) approvalBlobs(ctx context.Context, refs []approvalRef, out *Listing) (good, absent []approvalRef, err error) {
	var questions strings.Builder
	for _, ref := range refs {
		questions.WriteString(ref.id + ":" + approvalFile + "\n")
	}
	seen := map[string]bool{}
	i := 0
	err = r.lines(ctx, "reading the approvals of "+r.location.String(), func(line string) error {
		if i >= len(refs) {
			return errors.New("git gives more answers than it was asked")
		}
		ref := refs[i]
		i++
		f := strings.Split(line, " ")
		if f[len(f)-1] == "missing" {
			absent = append(absent, ref)
		}
		size, err := strconv.ParseInt(f[len(f)-1], 10, 64)
		if len(f) != 3 || f[1] != "blob" || err != nil || size > MaxApprovalSize || !validID(f[0]) || seen[f[0]] {
			out.Junk++
			return nil
		}
		seen[f[0]] = true
		good = append(good, approvalRef{ref.name, f[0]})
		return nil
	}, strings.NewReader(questions.String()), "-C", r.repo(), "cat-file", "--batch-check", "--buffer")
	if err == nil && i != len(refs) {
		err = fmt.Errorf("git gave %d answers to %d questions about approvals", i, len(refs))
	}
	return good, absent, err
}

// ListApprovals is [Repository.Approvals] of a location that is opened for it.
func ListApprovals(ctx context.Context, location Location, subject string, keep func(Found) bool) (_ *Listing, err error) {
	r, why, err := OpenRepository(ctx, location)
	if err != nil {
		return nil, err
	}
	if why != nil {
		return nil, errors.New(why.Message)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return r.Approvals(ctx, subject, keep)
}
