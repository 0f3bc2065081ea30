package collect

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/attestation"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// Limits of a tree: what an attacker with push rights could otherwise let grow.
const (
	maxDepth = 8
	maxBytes = 512 << 20 // of all manifests of referrers and all bundles
)

// Node is one manifest of a [Tree] with everything below it. The root and the
// manifests of an index have the Format FormatImage, FormatIndex or FormatBuildKit.
type Node struct {
	Item
	Platform  string  // "linux/arm64/v8"; empty when unknown or not an image
	Attached  []*Node // its referrers
	Manifests []*Node // of an index
}

// Tree finds everything that is attached to subject: to itself, to the manifests
// of an index, and to what is attached. With a platform ("linux/arm64") only
// that image of an index, with its attestation manifests, is looked at.
func Tree(ctx context.Context, repo *registry.Repository, subject ocispec.Descriptor, platform string, opts Options) (*Node, error) {
	opts = opts.withDefaults()
	opts.LegacyTags = true
	opts.shared = new(atomic.Int64)
	opts.shared.Store(maxBytes)
	t := &tree{repo: repo, opts: opts}
	root := &Node{Item: t.item(subject)}
	if err := t.image(ctx, root, platform, 0); err != nil {
		return nil, err
	}
	return root, ctx.Err()
}

type tree struct {
	repo  *registry.Repository
	opts  Options
	nodes atomic.Int64
}

func (t *tree) item(d ocispec.Descriptor) Item {
	return Item{
		Where:    evidence.Location{Ref: t.repo.RefOf(d.Digest), Digest: evidence.Digest(d.Digest), Size: d.Size},
		Manifest: ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size},
		Format:   FormatImage,
		Size:     d.Size,
	}
}

// full notes in an item that nothing more is looked at below it.
func (t *tree) full(n *Node, depth int) bool {
	if depth < maxDepth && t.nodes.Add(1) <= int64(t.opts.maxNodes) {
		return false
	}
	n.Err = fmt.Errorf("not looked further: a tree of more than %d things or %d levels", t.opts.maxNodes, maxDepth)
	return true
}

// image fills in the node of an image, an index or an attestation manifest.
// Only what is wrong with the root is an error, the rest is in the nodes.
func (t *tree) image(ctx context.Context, n *Node, platform string, depth int) error {
	if t.full(n, depth) {
		return nil
	}
	data, err := t.repo.Manifest(ctx, n.Manifest)
	if err != nil {
		return err
	}
	m, err := ociartifact.Parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Where.Ref, err)
	}
	n.ArtifactType, n.Created = m.ArtifactType, m.Created()
	switch {
	case m.IsIndex():
		n.Format = FormatIndex
		if err := t.index(ctx, n, m, platform, depth); err != nil {
			return err
		}
	case attestation.Of(m) != nil:
		about := n.About
		n.attestation(attestation.Of(m))
		n.About = about // as the index says
	}
	n.Size = 0
	for _, d := range append(m.Layers, m.Manifests...) {
		n.Size += d.Size
	}
	return t.attached(ctx, n, depth)
}

func (t *tree) index(ctx context.Context, n *Node, m *ociartifact.Manifest, platform string, depth int) error {
	list, err := ofPlatform(m.Manifests, platform)
	if err != nil {
		return err
	}
	for _, d := range list {
		child := &Node{Item: t.item(d), Platform: platformOf(d)}
		if attestation.IsEntry(d) {
			child.About = d.Annotations[attestation.AnnotationAbout]
		}
		if err := t.image(ctx, child, "", depth+1); err != nil {
			child.Err = err
		}
		n.Manifests = append(n.Manifests, child)
	}
	n.dropTwins()
	return nil
}

// dropTwins takes attestation manifests that an index lists out of what is
// attached to its images: they are both, and shown once.
func (n *Node) dropTwins() {
	for _, image := range n.Manifests {
		image.Attached = slices.DeleteFunc(image.Attached, func(a *Node) bool {
			return slices.ContainsFunc(n.Manifests, func(m *Node) bool { return m.Manifest.Digest == a.Manifest.Digest })
		})
	}
}

// ofPlatform picks an image and the attestation manifests about it.
func ofPlatform(list []ocispec.Descriptor, platform string) ([]ocispec.Descriptor, error) {
	if platform == "" {
		return list, nil
	}
	var picked []ocispec.Descriptor
	var have []string
	for _, d := range list {
		switch p := platformOf(d); {
		case p == platform || strings.HasPrefix(p, platform+"/"):
			picked = append(picked, d)
		case p != "":
			have = append(have, p)
		}
	}
	if len(picked) == 0 {
		return nil, fault.Usagef("no image for the platform %s; there are %s", platform, strings.Join(have, ", "))
	}
	for _, d := range list {
		about := d.Annotations[attestation.AnnotationAbout]
		if attestation.IsEntry(d) && slices.ContainsFunc(picked, func(p ocispec.Descriptor) bool { return p.Digest.String() == about }) {
			picked = append(picked, d)
		}
	}
	return picked, nil
}

func platformOf(d ocispec.Descriptor) string {
	p := d.Platform
	if p == nil || p.OS == "unknown" || p.OS == "" {
		return ""
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// attached lists the referrers of a node and theirs.
func (t *tree) attached(ctx context.Context, n *Node, depth int) error {
	opts := t.opts
	opts.noLegacyTags = n.Format != FormatImage && n.Format != FormatIndex
	// What is listed here counts, so that a registry that makes up referrers for
	// every referrer comes to an end.
	opts.MaxReferrers = min(opts.MaxReferrers, max(1, t.opts.maxNodes-int(t.nodes.Load())))
	items, err := Image(ctx, t.repo, n.Manifest, opts)
	if err != nil {
		return err
	}
	var below []*Node
	seen := map[evidence.Digest]bool{} // a manifest of several claims is several nodes, looked below once
	for _, it := range items {         // all are counted before the first is looked at
		child := &Node{Item: it}
		n.Attached = append(n.Attached, child)
		if it.Where.Digest != "" && !t.full(child, depth+1) && !seen[it.Where.Digest] {
			seen[it.Where.Digest] = true
			below = append(below, child)
		}
	}
	var g errgroup.Group
	g.SetLimit(t.opts.Concurrency)
	for _, child := range below {
		g.Go(func() error {
			if err := t.attached(ctx, child, depth+1); err != nil && child.Err == nil {
				child.Err = err
			}
			return nil
		})
	}
	return g.Wait()
}
