package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// attach pushes a referrer and sees to it that it is listed: at once when the
// registry says that it took note of the subject, else by asking the API, else
// through the fallback tag.
func (b *remoteBackend) attach(ctx context.Context, subject, desc ocispec.Descriptor, data []byte) error {
	var noted string
	pushed := context.WithValue(ctx, subjectKey{}, &noted)
	if err := b.pushManifest(pushed, desc, data, ""); err != nil {
		return err
	}
	if noted == subject.Digest.String() {
		return nil
	}
	if !b.client.lacksAPI(b.name) {
		err := b.awaitListed(ctx, subject, desc)
		if !errors.Is(err, errNoAPI) {
			return err
		}
	}
	return b.attachByTag(ctx, subject, desc)
}

// awaitListed asks the referrers API whether it lists a manifest that was
// pushed, and gives it two seconds to do so.
func (b *remoteBackend) awaitListed(ctx context.Context, subject, desc ocispec.Descriptor) error {
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		list, err := b.referrersByAPI(ctx, subject)
		if slices.ContainsFunc(list, func(r Referrer) bool { return r.Digest == desc.Digest }) {
			return nil
		}
		if err != nil {
			return err
		}
		if wait > time.Second {
			return fmt.Errorf("the registry took the manifest %s but its referrers API does not list it", desc.Digest)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// fallbackTag is where a subject's referrers are listed on registries without
// the API (distribution-spec, "Referrers Tag Schema").
func fallbackTag(subject ocispec.Descriptor) string {
	d := evidence.Digest(subject.Digest)
	return d.Algorithm() + "-" + d.Hex()[:min(len(d.Hex()), 64)]
}

// fallbackIndex is the index behind a fallback tag. Entries of others are kept
// as the bytes that they wrote.
type fallbackIndex struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Manifests     []json.RawMessage `json:"manifests"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// getFallback fetches the index; one that is not there is empty.
func (b *remoteBackend) getFallback(ctx context.Context, subject ocispec.Descriptor) (*fallbackIndex, error) {
	desc, data, err := b.getManifest(ctx, fallbackTag(subject))
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		return newFallbackIndex(), nil
	case err != nil:
		return nil, err
	case Describe("", data).Digest == subject.Digest:
		return newFallbackIndex(), nil // some registries answer with the subject itself
	case desc.MediaType != ocispec.MediaTypeImageIndex:
		return nil, fmt.Errorf("the tag %s is no list of referrers but %s", fallbackTag(subject), clip(printable(desc.MediaType)))
	}
	return parseFallback(data)
}

func newFallbackIndex() *fallbackIndex {
	return &fallbackIndex{SchemaVersion: 2, MediaType: ocispec.MediaTypeImageIndex, Manifests: []json.RawMessage{}}
}

func parseFallback(data []byte) (*fallbackIndex, error) {
	if err := strictjson.Valid(data, maxIndexDepth); err != nil {
		return nil, fmt.Errorf("the fallback tag's index: %w", err)
	}
	var index fallbackIndex
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("the fallback tag's index: %w", err)
	}
	if index.SchemaVersion != 2 {
		return nil, fmt.Errorf("the fallback tag's index: schemaVersion %d", index.SchemaVersion)
	}
	index.MediaType = ocispec.MediaTypeImageIndex
	return &index, nil
}

func (x *fallbackIndex) referrers() []Referrer {
	var list []Referrer
	for _, raw := range x.Manifests {
		if d, ok := entryOf(raw); ok {
			list = append(list, Referrer{Descriptor: d, How: HowTag})
		}
		if len(list) > MaxReferrers {
			break
		}
	}
	return list
}

func entryOf(raw json.RawMessage) (ocispec.Descriptor, bool) {
	var d ocispec.Descriptor
	if json.Unmarshal(raw, &d) != nil || checkDigest(d) != nil {
		return ocispec.Descriptor{}, false
	}
	return d, true
}

// entries are the index's usable entries by digest.
func (x *fallbackIndex) entries() map[digest.Digest]json.RawMessage {
	m := make(map[digest.Digest]json.RawMessage, len(x.Manifests))
	for _, raw := range x.Manifests {
		if d, ok := entryOf(raw); ok {
			m[d.Digest] = raw
		}
	}
	return m
}

// The read-back of the fallback tag: how many reads in a row must show every
// entry, how often it is written at most, and how long the pauses between are.
const (
	cleanReads   = 3
	maxWrites    = 24
	shortestWait = 25 * time.Millisecond
	longestWait  = 400 * time.Millisecond
)

// attachByTag adds an entry to the subject's fallback tag.
//
// No registry honours conditional writes, so two writers can overwrite each
// other. Three things keep entries alive: writers of this process take turns;
// each writer restores every entry that it has ever read, not only its own; and
// it is done only after several reads in a row, apart by more than its own
// read-to-write time, showed everything. Against a writer that reads, sleeps for
// long and then writes there is no protection; the registry would have to give it.
func (b *remoteBackend) attachByTag(ctx context.Context, subject, desc ocispec.Descriptor) error {
	turn := b.client.turn(b.name, subject)
	turn.Lock()
	defer turn.Unlock()
	known, order := ownEntry(desc)
	pause := shortestWait
	for clean, writes := 0, 0; ; {
		start := time.Now()
		index, err := b.getFallback(ctx, subject)
		if err != nil {
			return err
		}
		if !index.merge(known, &order) {
			if clean++; clean == cleanReads {
				return nil
			}
		} else {
			if writes++; writes > maxWrites {
				return fmt.Errorf("the manifest %s was pushed, but others keep overwriting the tag %s that would list it", desc.Digest, fallbackTag(subject))
			}
			clean = 0
			if err := b.putFallback(ctx, subject, index); err != nil {
				return err
			}
			pause = min(max(pause, 2*time.Since(start)), longestWait)
		}
		if err := sleep(ctx, pause+rand.N(pause)); err != nil {
			return err
		}
	}
}

// ownEntry starts what a writer knows with its own entry.
func ownEntry(desc ocispec.Descriptor) (map[digest.Digest]json.RawMessage, []digest.Digest) {
	raw, _ := json.Marshal(desc) // strings, numbers and maps of strings cannot fail
	return map[digest.Digest]json.RawMessage{desc.Digest: raw}, []digest.Digest{desc.Digest}
}

// merge learns the index's entries and adds those it lacks; it reports whether
// it lacked any.
func (x *fallbackIndex) merge(known map[digest.Digest]json.RawMessage, order *[]digest.Digest) bool {
	present := x.entries()
	for d, raw := range present {
		if _, ok := known[d]; !ok {
			known[d] = raw
			*order = append(*order, d)
		}
	}
	lacked := false
	for _, d := range *order {
		if _, ok := present[d]; !ok {
			x.Manifests = append(x.Manifests, known[d])
			lacked = true
		}
	}
	return lacked
}

func (b *remoteBackend) putFallback(ctx context.Context, subject ocispec.Descriptor, index *fallbackIndex) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(index); err != nil {
		return err
	}
	data := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	if len(data) > MaxManifest {
		return fmt.Errorf("the list of referrers at the tag %s is full (4 MiB)", fallbackTag(subject))
	}
	return b.pushManifest(ctx, Describe(index.MediaType, data), data, fallbackTag(subject))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
