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
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// Item is one thing that was found. Exactly one of Claim, Note and Err is set,
// but for the items of a [Tree], which may have none.
type Item struct {
	Where         evidence.Location
	Manifest      ocispec.Descriptor // media type, digest and size of the manifest that carries it
	Claim         *evidence.Claim
	Format        string    // one of the Format constants, or an evidence.Format for a claim
	ArtifactType  string    // as the manifest itself says, not the listing
	PredicateType string    // as annotated: unsigned, for people and for sorting
	Created       time.Time // as annotated: unsigned; zero when absent
	Size          int64     // of what the manifest carries, bytes
	Statements    []Statement
	Note          string // why it was not read as a claim
	Err           error  // why it could not be read; a fault.Unreachable means that it may yet be good
}

// Statement is an in-toto statement that lies unsigned in an attestation
// manifest, by its layer.
type Statement struct {
	PredicateType string
	Layer         ocispec.Descriptor
}

// Formats of items beside evidence.Format.
const (
	FormatBundle            = "sigstore-bundle" // of a version that was not read
	FormatCosignSignature   = "cosign-signature"
	FormatCosignAttestation = "cosign-attestation"
	FormatCosignSBOM        = "cosign-sbom"
	FormatNotary            = "notary-signature"
	FormatBuildKit          = "buildkit-attestation"
	FormatImage             = "image"
	FormatIndex             = "index"
	FormatOther             = "other"
)

// HowLegacyTag is the Location.How of cosign's tags sha256-<hex>.sig, .att and .sbom.
const HowLegacyTag = "legacy-tag"

// MalformedError is evidence that cannot be read as what it says it is.
type MalformedError struct{ Err error }

func (e *MalformedError) Error() string { return e.Err.Error() }

// Unwrap is the cause.
func (e *MalformedError) Unwrap() error { return e.Err }

func malformed(format string, args ...any) error {
	return &MalformedError{Err: fmt.Errorf(format, args...)}
}

// Options are the limits of a collection; zero values are the defaults.
type Options struct {
	MaxReferrers int   // of one subject; default and most 1,000
	MaxBundle    int64 // bytes of one bundle; default 64 MiB
	MaxTotal     int64 // bytes of all bundles together; default 256 MiB; small ones are read first
	Concurrency  int   // default 8
	LegacyTags   bool  // look for cosign's tags too, also when bundles were found

	noLegacyTags bool          // not even when nothing was found: the subject is no image
	maxNodes     int           // of a tree; default 5,000
	shared       *atomic.Int64 // bytes that all collections of a tree may still read; nil: no such limit
}

// maxManifests is how many bytes all referrers' manifests of one subject may
// have; a signature's has about one thousand.
const maxManifests = 64 << 20

// take asks for room to read size bytes, of *room and of what is shared.
func (o Options) take(size int64, room *int64) bool {
	if size > *room {
		return false
	}
	if o.shared != nil && o.shared.Add(-size) < 0 {
		o.shared.Add(size)
		return false
	}
	*room -= size
	return true
}

func (o Options) withDefaults() Options {
	if o.MaxReferrers <= 0 || o.MaxReferrers > registry.MaxReferrers {
		o.MaxReferrers = registry.MaxReferrers
	}
	if o.MaxBundle <= 0 {
		o.MaxBundle = 64 << 20
	}
	if o.MaxTotal <= 0 {
		o.MaxTotal = 256 << 20
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 8
	}
	if o.maxNodes <= 0 {
		o.maxNodes = 5000
	}
	return o
}

// Image finds what is attached to subject: one listing, one manifest per
// referrer and one blob per bundle, none twice. Cosign's older tags are looked
// for only when there is no bundle (or with LegacyTags). An error means that
// nothing could be listed; what is wrong with one referrer is in its item, and
// more referrers than the limit are an item with an Err too.
func Image(ctx context.Context, repo *registry.Repository, subject ocispec.Descriptor, opts Options) ([]Item, error) {
	opts = opts.withDefaults()
	c := &collector{repo: repo, subject: subject, opts: opts}
	if err := c.list(ctx); err != nil {
		return nil, err
	}
	c.eachConcurrently(ctx, c.affordableManifests(), c.readManifest)
	c.eachConcurrently(ctx, c.affordable(), c.readBundle)
	if !opts.noLegacyTags && (opts.LegacyTags || !slices.ContainsFunc(c.items, func(i Item) bool { return i.Claim != nil })) {
		c.readLegacyTags(ctx)
	}
	return c.items, ctx.Err()
}

// collector is one collection: items by index, so that goroutines share nothing.
type collector struct {
	repo    *registry.Repository
	subject ocispec.Descriptor
	opts    Options
	items   []Item
	bundles []ocispec.Descriptor // layer that holds the bundle of the item with the same index; zero for none
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
	c.bundles = make([]ocispec.Descriptor, len(list))
	for i, r := range list {
		c.items[i] = c.item(r.How, r.Descriptor)
	}
	if many != nil {
		c.items = append(c.items, Item{Format: FormatOther, Where: evidence.Location{Ref: c.repo.RefOf(c.subject.Digest)}, Err: many})
	}
	return nil
}

func (c *collector) item(how string, d ocispec.Descriptor) Item {
	return Item{
		Where:        evidence.Location{How: how, Ref: c.repo.RefOf(d.Digest), Digest: evidence.Digest(d.Digest), Size: d.Size},
		Manifest:     ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size},
		Format:       FormatOther,
		ArtifactType: d.ArtifactType,
	}
}

// affordableManifests are the items whose manifest may be read, smallest first:
// what is fetched has the size that was listed, or is refused.
func (c *collector) affordableManifests() []int {
	which := make([]int, len(c.bundles))
	for i := range which {
		which[i] = i
	}
	slices.SortStableFunc(which, func(a, b int) int { return cmp.Compare(c.items[a].Manifest.Size, c.items[b].Manifest.Size) })
	room := int64(maxManifests)
	return slices.DeleteFunc(which, func(i int) bool {
		if size := c.items[i].Manifest.Size; !c.opts.take(size, &room) {
			c.items[i].Err = malformed("a manifest of %d bytes, more than is read of what is attached", size)
			return true
		}
		return false
	})
}

func (c *collector) eachConcurrently(ctx context.Context, which []int, fn func(context.Context, int)) {
	var g errgroup.Group
	g.SetLimit(c.opts.Concurrency)
	for _, i := range which {
		g.Go(func() error { fn(ctx, i); return nil })
	}
	_ = g.Wait()
}

// readManifest fetches an item's manifest and recognises what it carries.
func (c *collector) readManifest(ctx context.Context, i int) {
	it := &c.items[i]
	data, err := c.repo.Manifest(ctx, it.Manifest)
	if err != nil {
		it.Err = err
		return
	}
	m, err := ociartifact.Parse(data)
	if err != nil {
		it.Err = &MalformedError{Err: err}
		return
	}
	if m.Subject == nil || m.Subject.Digest != c.subject.Digest {
		it.Err = malformed("it is listed as attached to %s but names another subject or none", c.subject.Digest)
		return
	}
	c.bundles[i] = it.recognise(m)
}

// affordable are the items with a bundle that may be read, smallest first: junk
// that is large cannot take the room of a signature that is small.
func (c *collector) affordable() []int {
	var which []int
	for i := range c.bundles {
		if c.bundles[i].Digest != "" && c.items[i].Err == nil {
			which = append(which, i)
		}
	}
	slices.SortStableFunc(which, func(a, b int) int { return cmp.Compare(c.bundles[a].Size, c.bundles[b].Size) })
	room := c.opts.MaxTotal
	return slices.DeleteFunc(which, func(i int) bool {
		size := c.bundles[i].Size
		switch {
		case size > c.opts.MaxBundle:
			c.items[i].Err = malformed("a bundle of %d bytes; at most %d are read", size, c.opts.MaxBundle)
		case !c.opts.take(size, &room):
			c.items[i].Err = malformed("a bundle of %d bytes, and all bundles of one image together may have %d", size, c.opts.MaxTotal)
		default:
			return false
		}
		return true
	})
}

func (c *collector) readBundle(ctx context.Context, i int) {
	it := &c.items[i]
	data, err := c.repo.Blob(ctx, c.bundles[i], c.opts.MaxBundle)
	if err != nil {
		it.Err = err
		return
	}
	it.parse(data)
}

// parse reads a bundle's bytes into the item.
func (it *Item) parse(data []byte) {
	claim, err := bundle.Parse(data)
	if err != nil {
		it.Err = &MalformedError{Err: err}
		return
	}
	it.Claim, it.Format = claim, string(claim.Format)
}

// readLegacyTags lists what cosign stored under tags before version 3.
func (c *collector) readLegacyTags(ctx context.Context) {
	d := evidence.Digest(c.subject.Digest)
	found := make([]*Item, len(legacyTags))
	var g errgroup.Group
	for i, kind := range legacyTags {
		g.Go(func() error {
			ref := c.repo.Ref()
			ref.Digest, ref.Tag = "", d.Algorithm()+"-"+d.Hex()+kind.suffix
			desc, err := c.repo.Resolve(ctx, ref)
			if errors.Is(err, registry.ErrNotFound) {
				return nil
			}
			it := c.item(HowLegacyTag, desc)
			it.Format, it.Note, it.Err = kind.format, kind.note, err
			if err == nil {
				c.readLegacy(ctx, &it)
			} else {
				it.Where, it.Note = evidence.Location{How: HowLegacyTag, Ref: ref.String()}, ""
			}
			found[i] = &it
			return nil
		})
	}
	_ = g.Wait()
	for _, it := range found {
		if it != nil {
			c.items = append(c.items, *it)
		}
	}
}

func (c *collector) readLegacy(ctx context.Context, it *Item) {
	data, err := c.repo.Manifest(ctx, it.Manifest)
	var m *ociartifact.Manifest
	if err == nil {
		m, err = ociartifact.Parse(data)
	}
	if err != nil {
		it.Note, it.Err = "", err
		return
	}
	it.describe(m)
	for _, l := range m.Layers {
		if t := l.Annotations["predicateType"]; t != "" {
			it.PredicateType = t
		}
	}
}

// File reads a bundle file of at most 64 MiB.
func File(path string) (*Item, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	defer f.Close()
	limit := Options{}.withDefaults().MaxBundle
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, malformed("bundle %s is larger than %d bytes", path, limit)
	}
	it := &Item{
		Where:  evidence.Location{How: "file", Ref: path, Digest: evidence.SHA256(data), Size: int64(len(data))},
		Format: FormatBundle,
		Size:   int64(len(data)),
	}
	it.parse(data)
	if it.Err != nil {
		return nil, malformed("bundle %s: %w", path, it.Err)
	}
	return it, nil
}
