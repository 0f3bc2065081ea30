package collect

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/attestation"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/ociartifact"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// belowAttestations adds what is attached to the attestation manifests about the
// subject, and the attestation manifests themselves where the referrers do not
// list them. An error means that the subject's manifest could not be read.
func (c *Collection) belowAttestations(ctx context.Context) error {
	reader := &collector{repo: c.repo, subject: c.subject, opts: c.opts}
	seen := map[evidence.Digest]bool{}
	var manifests []ocispec.Descriptor
	for _, it := range c.Items {
		if it.Format == FormatBuildKit && it.Err == nil {
			seen[it.Where.Digest] = true
			manifests = append(manifests, it.Manifest)
		}
	}
	x, err := c.Index(ctx)
	if err != nil {
		return err
	}
	for _, a := range x.Attestations {
		if !seen[evidence.Digest(a.Manifest.Digest)] {
			seen[evidence.Digest(a.Manifest.Digest)] = true
			manifests = append(manifests, a.Manifest)
			c.Items = append(c.Items, reader.attestationManifest(ctx, a))
		}
	}
	if n := len(manifests); n > maxAttestations {
		manifests = manifests[:maxAttestations]
		c.Items = append(c.Items, Item{Format: FormatBuildKit, Subject: evidence.Digest(c.subject.Digest), Where: evidence.Location{Ref: c.repo.RefOf(c.subject.Digest)},
			Err: malformed("%d attestation manifests; what is attached to more than %d is not looked for", n, maxAttestations)})
	}
	below := make([][]Item, len(manifests))
	which := make([]int, len(manifests))
	for i := range which {
		which[i] = i
	}
	reader.eachConcurrently(which, func(i int) {
		items, err := attached(ctx, c.repo, manifests[i], c.opts)
		if err != nil {
			items = []Item{{Format: FormatOther, Subject: evidence.Digest(manifests[i].Digest), Where: evidence.Location{Ref: c.repo.RefOf(manifests[i].Digest)}, Err: err}}
		}
		below[i] = items
	})
	for _, items := range below {
		c.Items = append(c.Items, items...)
	}
	return nil
}

// attestationManifest reads an attestation manifest that an index lists.
func (c *collector) attestationManifest(ctx context.Context, a attestation.Entry) Item {
	it := c.item("", a.Manifest)
	it.Format, it.About, it.Subject = FormatBuildKit, string(a.About), a.About
	m, err := c.manifest(ctx, a.Manifest)
	if err != nil {
		it.Err = err
		return it
	}
	it.describe(m)
	switch own := attestation.Of(m); {
	case own == nil:
		it.Err = malformed("the index lists it as an attestation manifest; it has no statements")
	case own.About != "" && own.About != a.About:
		it.Err = malformed("the index says that it is about %s, it says %s", a.About, own.About)
	default:
		it.attestation(own)
	}
	return it
}

// maxStatement is the largest statement that is read, bytes.
const maxStatement = 64 << 20

// ReadStatement fetches an unsigned statement of an attestation manifest, of at
// most 64 MiB, and reads it. It says what somebody with push rights wrote, unless
// a verified signature covers the attestation manifest or an index that lists it.
func ReadStatement(ctx context.Context, repo *registry.Repository, s Statement) (*attestation.Statement, error) {
	data, err := repo.Blob(ctx, s.Layer, maxStatement)
	if err != nil {
		return nil, err
	}
	st, err := attestation.ParseStatement(data, s.PredicateType)
	if err != nil {
		return nil, &MalformedError{Err: err}
	}
	return st, nil
}

// Index is what an index lists, and which manifests thereby are covered by a
// signature of the index.
type Index struct {
	Is           bool                 // an index: what its bytes say, whatever it was said to be
	Images       []ocispec.Descriptor // with their platforms
	Attestations []attestation.Entry
	Others       []ocispec.Descriptor // without a platform; may be further indexes
	All          []ocispec.Descriptor // all of these, as the index has them
}

// Index reads the subject's manifest, once, as an index: what a signature of the
// index covers is exactly what it lists. An image's is empty.
func (c *Collection) Index(ctx context.Context) (*Index, error) {
	if c.index != nil {
		return c.index, nil
	}
	reader := &collector{repo: c.repo, subject: c.subject, opts: c.opts}
	m, err := reader.manifest(ctx, c.subject)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.repo.RefOf(c.subject.Digest), err)
	}
	c.index = newIndex(m)
	return c.index, nil
}

// ReadIndex reads what a manifest lists, without what is attached to it.
func ReadIndex(ctx context.Context, repo *registry.Repository, subject ocispec.Descriptor) (*Index, error) {
	c := &Collection{repo: repo, subject: subject, opts: Options{}.withDefaults()}
	return c.Index(ctx)
}

func newIndex(m *ociartifact.Manifest) *Index {
	x := &Index{Is: m.IsIndex(), Attestations: attestation.Listed(m), All: m.Manifests}
	for _, d := range m.Manifests {
		switch {
		case attestation.IsEntry(d):
		case platformOf(d) != "":
			x.Images = append(x.Images, d)
		default:
			x.Others = append(x.Others, d)
		}
	}
	return x
}

// Used is the entry that BuildKit uses for a platform: the first that means it, whatever else it
// says of itself. Where there is none BuildKit would take one for an older processor, or
// without a platform; such an index is an error here, as one of images for features of the system.
func (x *Index) Used(platform string) (ocispec.Descriptor, error) {
	system, rest, _ := strings.Cut(platform, "/")
	arch, variant, _ := strings.Cut(rest, "/")
	want := meaning(&ocispec.Platform{OS: system, Architecture: arch, Variant: variant})
	for _, d := range x.All {
		if d.Platform != nil && meaning(d.Platform) == want {
			if len(d.Platform.OSFeatures) > 0 {
				break
			}
			return d, nil
		}
	}
	return ocispec.Descriptor{}, fault.Usagef("the index has no plain image for the platform %s", platform)
}

// meaning is a platform in one spelling, as containerd reads it (containerd/platforms, database.go).
func meaning(p *ocispec.Platform) [3]string {
	system, arch, variant := cmp.Or(strings.ToLower(p.OS), "linux"), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch arch {
	case "x86_64", "x86-64":
		arch = "amd64"
	case "aarch64":
		arch = "arm64"
	case "i386":
		arch, variant = "386", ""
	case "armhf":
		arch, variant = "arm", "7"
	case "armel":
		arch, variant = "arm", "6"
	}
	variant = strings.TrimSuffix(strings.TrimPrefix(variant, "v"), ".0")
	switch {
	case arch == "amd64" && variant == "1", arch == "arm64" && variant == "8", arch == "arm" && variant == "7":
		variant = ""
	}
	return [3]string{system, arch, variant}
}

// Platform is a descriptor's "linux/arm64/v8", "" when it names none.
func Platform(d ocispec.Descriptor) string { return platformOf(d) }

// Image is the one image of the index for a platform, OS/ARCH[/VARIANT]; without a
// variant any will do when there is one. Runtimes compare what platforms mean and take the first: an
// entry in front of it that means the same, as linux/x86_64, is an error.
func (x *Index) Image(platform string) (ocispec.Descriptor, error) {
	list, err := ofPlatform(x.Images, platform)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, d := range list {
		if len(list) > 1 && platformOf(d) != platform {
			continue
		}
		for _, before := range x.All {
			if before.Digest == d.Digest {
				break
			}
			if before.Platform != nil && meaning(before.Platform) == meaning(d.Platform) {
				return ocispec.Descriptor{}, malformed("the index lists two images for %s, in different spellings", platform)
			}
		}
		return d, nil
	}
	return ocispec.Descriptor{}, fault.Usagef("the platform %s names %d images of the index: add the variant", platform, len(list))
}
