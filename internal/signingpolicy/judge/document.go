package judge

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/input"
)

// document is what the rules see, but for approvals.
func (r *Request) document(ctx context.Context, out *Result, matches bool) (*input.Document, error) {
	branches, err := r.Repo.Ancestry(ctx, out.Release.Git.CommitChecksum, nil)
	if err != nil {
		return nil, err
	}
	doc := &input.Document{
		Kind: input.Kind, Action: "build", Now: input.At(r.Now),
		Source:   input.Source{Provider: input.Local, ID: input.Local, URI: r.Repo.Location.String()},
		Git:      r.git(out, matches),
		Ancestry: ancestry(branches),
		// Nil says that nobody looked.
		Approvals: []input.Approval{}, Rejected: []input.Rejected{}, Scans: []input.Scan{},
		Builder: input.Builder{ID: input.Local},
		Build:   r.Build,
		Policy:  input.Policy{Key: out.Key, Digest: out.Policy.Digest, PreviousRoots: []string{}, Freshness: "rehearsal"},
	}
	fillBuild(&doc.Build)
	if s := r.Folder.Stored; s != nil {
		s.fill(doc)
	}
	if r.Job != nil {
		doc.Source, doc.Builder, doc.Run = r.Job.Source, r.Job.Builder, r.Job.Run
		head, err := r.Repo.DefaultBranch(ctx)
		if err != nil {
			return nil, err
		}
		doc.Source.DefaultBranch = strings.TrimPrefix(head, "refs/heads/")
		if p, ok := r.Folder.Authority.ByAccount(r.Job.Source.Provider, text(r.Job.Run.ActorID)); ok {
			doc.Run.ActorPrincipal = &p.Name
		}
	}
	return doc, nil
}

func fillBuild(b *input.Build) {
	if b.Type == "" {
		b.Type = "image"
	}
	if b.Platforms == nil {
		b.Platforms = []string{}
	}
	if b.Args == nil {
		b.Args = map[string]string{}
	}
	if b.Images == nil {
		b.Images = []string{}
	}
	if b.Caps == nil {
		b.Caps = []string{}
	}
}

// ancestry names branches as people do. What is not known stays nil, so that the
// document is incomplete: an empty list would say that no branch has the commit.
func ancestry(a *git.Ancestry) input.Ancestry {
	if !a.Known && len(a.ContainedIn) == 0 {
		return input.Ancestry{}
	}
	return input.Ancestry{ContainedIn: branchNames(a.ContainedIn), FirstParentIn: branchNames(a.FirstParentIn)}
}

func branchNames(refs []string) []string {
	out := make([]string, len(refs))
	for i, ref := range refs {
		out[i] = strings.TrimPrefix(ref, "refs/heads/")
	}
	return out
}

func (r *Request) git(out *Result, matches bool) input.Git {
	rel := out.Release
	g := input.Git{Remote: rel.Git.Remote, FullURL: rel.Git.Remote, Ref: rel.Git.Ref, TagName: rel.Git.TagName,
		IsCommitRef: git.IsCommit(rel.Git.Ref), IsSHA256: rel.SHA256, Checksum: rel.Git.Checksum, CommitChecksum: rel.Git.CommitChecksum,
		IsAnnotatedTag: rel.Tag != nil, Commit: commitOf(rel.Commit)}
	if u, err := url.Parse(r.Repo.Location.URL); err == nil && r.Repo.Location.URL != "" {
		g.Schema, g.Host = u.Scheme, u.Host
	}
	if branch, ok := strings.CutPrefix(rel.Git.Ref, "refs/heads/"); ok {
		g.Branch = branch
	}
	if rel.Tag != nil {
		g.Tag = tagOf(out, matches, r.Folder.Authority)
	}
	keys, _ := tagKeys(r.Folder.Authority)
	if who, _ := git.VerifyCommit(rel.Commit, keys, r.Now); who != nil {
		g.Commit.Signer, out.commitKey = signerOf(who, r.Folder.Authority)
	}
	return g
}

func tagOf(out *Result, matches bool, people *authority.Document) *input.Tag {
	tag := out.Release.Tag
	t := &input.Tag{Object: tag.Object, Type: tag.Type, Tag: tag.Name, Tagger: personOf(tag.Tagger), Message: tag.Message,
		NameMatchesRef: out.Release.Git.Ref == "refs/tags/"+tag.Name, RepositoryMatches: matches}
	if version, id, ok := tag.Signature.OpenPGP(); ok {
		t.PGPSignature = &input.PGPSignature{Version: version, KeyID: id}
	} else if tag.Signature.Kind == "ssh" {
		t.SSHSignature = &input.SSHSignature{Version: 1, PubKey: tag.Signature.KeyHint()}
	}
	if out.TagSigner != nil {
		t.Signer, out.tagKey = signerOf(out.TagSigner, people)
		if said, why := tag.Trailers(); why == nil {
			t.Trailers = input.Trailers{Repository: said.Repository, Policy: said.Policy}
		}
	}
	return t
}

// signerOf adds to who signed what the authority says of the key, and gives the key's id.
func signerOf(s *git.Signer, people *authority.Document) (*input.Signer, string) {
	out := &input.Signer{Verified: true, Kind: s.Kind, KeyID: s.KeyID, Fingerprint: s.Fingerprint, Principal: s.Principal,
		Roles: append([]string{}, people.RolesOf(s.Principal)...), Protection: authority.Software, Namespace: s.Namespace, Hash: s.Hash}
	_, holders := tagKeys(people)
	key := holders[s.Key].Key
	out.Protection, out.Attested = key.Protection, key.Attested
	return out, key.ID()
}

func commitOf(c *git.Commit) input.Commit {
	return input.Commit{Tree: c.Tree, Parents: append([]string{}, c.Parents...), Author: personOf(c.Author), Committer: personOf(c.Committer), Message: c.Message}
}

func personOf(p policy.Person) input.Person {
	return input.Person{Name: p.Name, Email: p.Email, When: input.At(p.When)}
}

func timeOf(t time.Time) *input.Time {
	if t.IsZero() { // of a source that has no time
		return nil
	}
	at := input.At(t)
	return &at
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
