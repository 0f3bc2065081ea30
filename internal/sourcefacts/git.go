package sourcefacts

import (
	"cmp"
	"context"
	"errors"
	"net/url"

	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
)

// git fetches the one ref or commit and reads its objects.
func (r *Resolver) git(ctx context.Context, src sourcepolicy.Source, in *sourcepolicy.Git, asks []sourcepolicy.Ask, f *sourcepolicy.Facts) error {
	location, err := git.ParseLocation(in.Remote, r.o.PlainHTTP)
	if err != nil {
		return err
	}
	ref := src.GitRef()
	if in.IsCommitRef {
		ref = in.Ref // also where another ref stands in the name (fetch-by-commit)
	}
	if isMaterial(asks) {
		u, err := url.Parse(location.URL)
		if err != nil || u.Scheme != "https" {
			return errPlain(cmp.Or(u.Scheme, "file"))
		}
		bounded, end, err := r.materials.begin(ctx)
		if err != nil {
			return err
		}
		defer end()
		addresses, err := publicAddresses(bounded, u.Hostname())
		if err != nil {
			return err
		}
		at, err := location.At(bounded, addresses)
		if err != nil {
			return whySpent(ctx, bounded, err)
		}
		return fetchGit(bounded, at, ref, f, func(err error) error { return whySpent(ctx, bounded, err) })
	}
	if r.o.GitLogin != nil {
		login, err := r.o.GitLogin(location.URL)
		if err != nil {
			return err
		}
		location = location.With(login)
	}
	return fetchGit(ctx, location, ref, f, func(err error) error { return err })
}

func fetchGit(ctx context.Context, location git.Location, ref string, f *sourcepolicy.Facts, failed func(error) error) error {
	objects, why, err := git.FetchObjects(ctx, location, ref)
	if err != nil {
		return failed(err)
	}
	if why != nil {
		return errors.New(why.Message)
	}
	found := sourcepolicy.GitRefFact{Ref: objects.Ref, Checksum: objects.Checksum, CommitChecksum: objects.CommitChecksum}
	f.Git = &found
	f.Objects = &sourcepolicy.GitObjectsFact{GitRefFact: found, Commit: objects.Commit, Tag: objects.Tag}
	return nil
}
