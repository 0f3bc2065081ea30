// Package collect finds the evidence for a subject: everything that is attached
// to an image, and what lies in a bundle file. It holds the only list of formats.
//
// Nothing is believed here: an [Item] says where something was found and what it
// looks like, its claim is parsed and unverified. Whoever can push to the
// repository can add items and break their own; each item fails alone, so that
// it takes as many as the limits of [Options] to hide somebody else's, and then
// an item says that something was not read.
package collect

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// Collection is what was found for one subject.
type Collection struct {
	Items []Item

	repo    *registry.Repository
	subject ocispec.Descriptor
	opts    Options
	legacy  bool // cosign's older tags were looked for
	index   *Index
}

// Image is [Collect], for callers who do not want to ask again.
func Image(ctx context.Context, repo *registry.Repository, subject ocispec.Descriptor, opts Options) ([]Item, error) {
	c, err := Collect(ctx, repo, subject, opts)
	if err != nil {
		return nil, err
	}
	return c.Items, nil
}

// Collect finds what is attached to subject: one listing, one manifest per
// referrer and one blob per claim, none twice. Cosign's older tags are looked
// for only when there is no claim (or with LegacyTags). An error means that
// nothing could be listed; what is wrong with one referrer is in its item, and
// more referrers than the limit are an item with an Err too.
func Collect(ctx context.Context, repo *registry.Repository, subject ocispec.Descriptor, opts Options) (*Collection, error) {
	opts = opts.withDefaults()
	c := &Collection{repo: repo, subject: subject, opts: opts, legacy: opts.noLegacyTags}
	repos := []*registry.Repository{repo}
	if other := opts.SignatureRepository; other != nil && other.Ref().Name() != repo.Ref().Name() {
		repos = append(repos, other)
	}
	for _, r := range repos {
		items, err := attached(ctx, r, subject, opts)
		if err != nil {
			return nil, err
		}
		c.Items = append(c.Items, items...)
	}
	if opts.Attestations {
		if err := c.belowAttestations(ctx); err != nil {
			return nil, err
		}
	}
	if opts.LegacyTags || !slices.ContainsFunc(c.Items, func(i Item) bool { return i.Claim != nil }) {
		c.Extend(ctx)
	}
	return c, ctx.Err()
}

// Extend looks for cosign's older tags unless that was done already, adds what
// it finds to Items and returns it. It is for gates whose policy was not
// satisfied by what the referrers hold.
func (c *Collection) Extend(ctx context.Context) []Item {
	if c.legacy {
		return nil
	}
	c.legacy = true
	repo := c.repo
	if c.opts.SignatureRepository != nil {
		repo = c.opts.SignatureRepository
	}
	more := legacyItems(ctx, repo, c.subject, c.opts)
	c.Items = append(c.Items, more...)
	return more
}

// attached is what is attached to subject in one repository.
func attached(ctx context.Context, repo *registry.Repository, subject ocispec.Descriptor, opts Options) ([]Item, error) {
	c := &collector{repo: repo, subject: subject, opts: opts}
	if err := c.list(ctx); err != nil {
		return nil, err
	}
	found := make([][]reading, len(c.items)) // by item, so that goroutines share nothing
	c.eachConcurrently(c.affordableManifests(), func(i int) { found[i] = c.readManifest(ctx, i) })
	c.readClaims(ctx, c.spread(found))
	return c.items, nil
}

// collector is one listing with everything in it.
type collector struct {
	repo    *registry.Repository
	subject ocispec.Descriptor
	opts    Options
	items   []Item
	stalled atomic.Int32 // requests that were not answered in time
}

func (c *collector) list(ctx context.Context) error {
	list, err := c.repo.Referrers(ctx, c.subject)
	var many *registry.TooManyReferrersError
	if err != nil && !errors.As(err, &many) {
		return err
	}
	if len(list) > c.opts.MaxReferrers {
		list, many = list[:c.opts.MaxReferrers], &registry.TooManyReferrersError{Listed: c.opts.MaxReferrers}
	}
	c.items = make([]Item, len(list), len(list)+1)
	for i, r := range list {
		c.items[i] = c.item(r.How, r.Descriptor)
	}
	if many != nil {
		c.items = append(c.items, Item{Format: FormatOther, Subject: evidence.Digest(c.subject.Digest),
			Where: evidence.Location{Ref: c.repo.RefOf(c.subject.Digest)}, Err: many})
	}
	return nil
}

func (c *collector) item(how string, d ocispec.Descriptor) Item {
	return Item{
		Where:        evidence.Location{How: how, Ref: c.repo.RefOf(d.Digest), Digest: evidence.Digest(d.Digest), Size: d.Size},
		Manifest:     ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size},
		Subject:      evidence.Digest(c.subject.Digest),
		Format:       FormatOther,
		ArtifactType: d.ArtifactType,
	}
}

// affordableManifests are the items whose manifest may be read, smallest first:
// what is fetched has the size that was listed, or is refused.
func (c *collector) affordableManifests() []int {
	var which []int
	for i := range c.items {
		if c.items[i].Err == nil {
			which = append(which, i)
		}
	}
	slices.SortStableFunc(which, func(a, b int) int { return cmp.Compare(c.items[a].Manifest.Size, c.items[b].Manifest.Size) })
	room := int64(maxManifests)
	return slices.DeleteFunc(which, func(i int) bool {
		size := c.items[i].Manifest.Size
		switch {
		case size > c.opts.MaxManifest:
			c.items[i].Err = malformed("a manifest of %d bytes; at most %d are read", size, c.opts.MaxManifest)
		case !c.opts.take(size, &room):
			c.items[i].Err = malformed("a manifest of %d bytes, more than is read of what is attached", size)
		default:
			return false
		}
		return true
	})
}

func (c *collector) eachConcurrently(which []int, fn func(int)) {
	var g errgroup.Group
	g.SetLimit(c.opts.Concurrency)
	for _, i := range which {
		g.Go(func() error { fn(i); return nil })
	}
	_ = g.Wait()
}

// inTime does one request with the time that an item has. A registry that does
// not answer many of them is not asked for the rest.
func (c *collector) inTime(ctx context.Context, fn func(context.Context) ([]byte, error)) ([]byte, error) {
	if c.stalled.Load() >= maxStalled {
		return nil, fault.Unreachablef("not asked for: %s left %d other requests without an answer in time", c.repo.Ref().Name(), maxStalled)
	}
	one, cancel := context.WithTimeout(ctx, c.opts.ItemTimeout)
	defer cancel()
	data, err := fn(one)
	if err != nil && one.Err() != nil && ctx.Err() == nil {
		c.stalled.Add(1)
		return nil, fault.Unreachablef("no answer within %s: %s", c.opts.ItemTimeout, err)
	}
	return data, err
}

func (c *collector) manifest(ctx context.Context, d ocispec.Descriptor) (*ociartifact.Manifest, error) {
	data, err := c.inTime(ctx, func(ctx context.Context) ([]byte, error) { return c.repo.Manifest(ctx, d) })
	if err != nil {
		return nil, err
	}
	m, err := ociartifact.Parse(data)
	if err != nil {
		return nil, &MalformedError{Err: err}
	}
	return m, nil
}

// readManifest fetches an item's manifest and recognises what it carries.
func (c *collector) readManifest(ctx context.Context, i int) []reading {
	it := &c.items[i]
	m, err := c.manifest(ctx, it.Manifest)
	if err != nil {
		it.Err = err
		return nil
	}
	if m.Subject == nil || m.Subject.Digest != c.subject.Digest {
		it.Err = malformed("it is listed as attached to %s but names another subject or none", c.subject.Digest)
		return nil
	}
	return it.recognise(m)
}

// spread gives each reading an item of its own: the manifest's for its first
// one, a copy for each further one. found is by item.
func (c *collector) spread(found [][]reading) []reading {
	var all []reading
	layers := 0
	order := make([]int, len(found)) // those with few layers first
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(found[a]), len(found[b])) })
	for _, i := range order {
		list, base := found[i], c.items[i]
		for n, r := range list {
			r.item = i
			if n > 0 {
				r.item = len(c.items)
				c.items = append(c.items, base)
			}
			it := &c.items[r.item]
			if layers++; n == c.opts.MaxLayers || layers > maxClaims && !r.alone {
				it.Err = malformed("%d of its %d signatures and attestations were not read: at most %d of one manifest and %d of one image are", len(list)-n, len(list), c.opts.MaxLayers, maxClaims)
				break
			}
			it.Layer, it.Format = r.layer, r.format
			if len(list) > 1 {
				it.Size = r.layer.Size
			}
			if t := r.layer.Annotations["predicateType"]; t != "" && !r.alone {
				it.PredicateType = t
			}
			all = append(all, r)
		}
	}
	return all
}

// readClaims fetches each layer once, smallest first, and reads it for every
// item that is made of it: equal payloads that several people signed are one blob.
func (c *collector) readClaims(ctx context.Context, all []reading) {
	byLayer := map[digest.Digest][]reading{}
	var order []int // indices into all, of the first reading of each layer
	for i, r := range all {
		if c.items[r.item].Err != nil {
			continue
		}
		if len(byLayer[r.layer.Digest]) == 0 {
			order = append(order, i)
		}
		byLayer[r.layer.Digest] = append(byLayer[r.layer.Digest], r)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(all[a].layer.Size, all[b].layer.Size) })
	room := c.opts.MaxTotal
	order = slices.DeleteFunc(order, func(i int) bool {
		r := all[i]
		err := c.affordable(r, &room)
		for _, same := range byLayer[r.layer.Digest] {
			c.items[same.item].Err = err
		}
		return err != nil
	})
	c.eachConcurrently(order, func(i int) {
		layer := all[i].layer
		data, err := c.inTime(ctx, func(ctx context.Context) ([]byte, error) { return c.repo.Blob(ctx, layer, all[i].limit(c.opts)) })
		for _, r := range byLayer[layer.Digest] {
			c.items[r.item].read(r, data, err)
		}
	})
}

func (c *collector) affordable(r reading, room *int64) error {
	size := r.layer.Size
	switch most := r.limit(c.opts); {
	case size > most:
		return malformed("a %s of %d bytes; at most %d are read", r.what, size, most)
	case !c.opts.take(size, room):
		return malformed("a %s of %d bytes, and all bundles of one image together may have %d", r.what, size, c.opts.MaxTotal)
	}
	return nil
}

// read parses what was fetched for an item. Layers of one digest that say
// different sizes are not one layer: what was fetched has the first one's.
func (it *Item) read(r reading, data []byte, err error) {
	if err == nil && int64(len(data)) != r.layer.Size {
		err = malformed("it says that its %s has %d bytes; it has %d", r.what, r.layer.Size, len(data))
	}
	if err != nil {
		it.Err = err
		return
	}
	claim, err := r.parse(data, r.layer)
	if err != nil {
		it.Err = &MalformedError{Err: err}
		return
	}
	it.Claim, it.Format = claim, string(claim.Format)
}
