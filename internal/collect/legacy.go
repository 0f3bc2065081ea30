package collect

import (
	"context"
	"errors"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// legacyItems is what cosign stored under tags before version 3: signatures,
// attestations and SBOMs beside the image, an item for each of them.
func legacyItems(ctx context.Context, repo *registry.Repository, subject ocispec.Descriptor, opts Options) []Item {
	c := &collector{repo: repo, subject: subject, opts: opts}
	kinds := legacyTags()
	items, found := make([]*Item, len(kinds)), make([][]reading, len(kinds))
	var g errgroup.Group
	for i, kind := range kinds {
		g.Go(func() error {
			items[i], found[i] = c.legacyTag(ctx, kind.suffix, kind.format)
			return nil
		})
	}
	_ = g.Wait()
	var readings [][]reading
	for i, it := range items {
		if it != nil {
			c.items, readings = append(c.items, *it), append(readings, found[i])
		}
	}
	c.readClaims(ctx, c.spread(readings))
	return c.items
}

// legacyTag resolves one tag and reads its manifest; nil when there is none.
func (c *collector) legacyTag(ctx context.Context, suffix, format string) (*Item, []reading) {
	d := evidence.Digest(c.subject.Digest)
	ref := c.repo.Ref()
	ref.Digest, ref.Tag = "", c.opts.TagPrefix+d.Algorithm()+"-"+d.Hex()+suffix
	var desc ocispec.Descriptor
	_, err := c.inTime(ctx, func(ctx context.Context) (_ []byte, err error) {
		desc, err = c.repo.Resolve(ctx, ref)
		return nil, err
	})
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return nil, nil
	case err != nil:
		return &Item{Where: evidence.Location{How: HowLegacyTag, Ref: ref.String()}, Subject: d, Format: format, Err: err}, nil
	}
	it := c.item(HowLegacyTag, desc)
	it.Format = format
	m, err := c.manifest(ctx, desc)
	switch {
	case err != nil:
		it.Err = err
		return &it, nil
	case format == FormatCosignSBOM:
		it.describe(m)
		it.Note = noteSBOM
		return &it, nil
	}
	found := it.recognise(m)
	if len(found) == 0 && it.Err == nil {
		it.Format, it.Note = format, "under a tag of cosign's, and no signature or attestation of cosign's: listed only"
	}
	return &it, found
}
