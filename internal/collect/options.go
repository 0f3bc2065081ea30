package collect

import (
	"sync/atomic"
	"time"

	"github.com/hallmark-dev/hallmark/internal/registry"
)

// Options are the limits of a collection and what it looks for beside the
// referrers; zero values are the defaults.
type Options struct {
	MaxReferrers int           // of one subject; default and most 1,000
	MaxManifest  int64         // bytes of one referrer's manifest; default and most 4 MiB
	MaxBundle    int64         // bytes of one bundle or attestation; default 64 MiB
	MaxEnvelope  int64         // bytes of one Notary envelope; default 32 MiB
	MaxTotal     int64         // bytes of everything that is read together; default 256 MiB; small ones are read first
	MaxLayers    int           // claims in one manifest of cosign's older format; default and most 1,000
	Concurrency  int           // default 8
	ItemTimeout  time.Duration // for one manifest or claim; default one minute

	// LegacyTags looks for cosign's older tags also when claims were found.
	LegacyTags bool
	// SignatureRepository is a second repository in which signatures lie
	// (cosign's COSIGN_REPOSITORY): its referrers of the subject count too, and
	// cosign's older tags are looked for there instead.
	SignatureRepository *registry.Repository
	// TagPrefix stands before cosign's older tags (--attachment-tag-prefix).
	TagPrefix string
	// Attestations looks also for what is attached to the attestation manifests
	// about the subject, as docker/github-builder signs: of an index to all that
	// it lists, of an image to those among its referrers. It costs one request
	// for the subject's manifest, and a listing for each attestation manifest.
	Attestations bool

	noLegacyTags bool          // not even when nothing was found: the subject is no image
	maxNodes     int           // of a tree; default 5,000
	shared       *atomic.Int64 // bytes that all collections of a tree may still read; nil: no such limit
}

// Limits that are not for users to choose.
const (
	// maxManifests is how many bytes all referrers' manifests of one subject may
	// have; a signature's has about one thousand.
	maxManifests = 64 << 20
	// maxClaims bounds the layers of cosign's older format over all manifests.
	maxClaims = 2000
	// maxStalled is after how many requests without an answer in time no more are made.
	maxStalled = 16
	// maxAttestations is how many attestation manifests of one index are looked below.
	maxAttestations = 200
	// maxPayload is the largest payload of simple signing.
	maxPayload = 1 << 20
)

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
	limit := func(have *int, standard, most int) {
		if *have <= 0 || *have > most {
			*have = standard
		}
	}
	limit(&o.MaxReferrers, registry.MaxReferrers, registry.MaxReferrers)
	limit(&o.MaxLayers, 1000, 1000)
	limit(&o.Concurrency, 8, 1000)
	limit(&o.maxNodes, 5000, 1<<30)
	bytes := func(have *int64, standard, most int64) {
		if *have <= 0 || *have > most {
			*have = standard
		}
	}
	bytes(&o.MaxManifest, registry.MaxManifest, registry.MaxManifest)
	bytes(&o.MaxBundle, 64<<20, 1<<40)
	bytes(&o.MaxEnvelope, 32<<20, 1<<40)
	bytes(&o.MaxTotal, 256<<20, 1<<40)
	if o.ItemTimeout <= 0 {
		o.ItemTimeout = time.Minute
	}
	return o
}
