package gate_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/trust"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// revoking is a verifier under which these images, by reference, are revoked since a time.
func (w *world) revoking(since time.Time, images ...string) *verify.Verifier {
	w.t.Helper()
	data, err := os.ReadFile(w.TrustedRoot)
	if err != nil {
		w.t.Fatal(err)
	}
	root, err := trust.ParseTrustedRoot(data)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := verify.Config{Roots: []*trust.Root{root}}
	for _, image := range images {
		_, digest, _ := strings.Cut(image, "@")
		cfg.Revoked.Digests = append(cfg.Revoked.Digests, trust.RevokedDigest{Digest: evidence.Digest(digest), Since: since, Reason: "has a hole"})
	}
	v, err := verify.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// TestRevokedImages: a revoked image is refused by whatever way one comes to it,
// also when a signature of the index that lists it covers it.
func TestRevokedImages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	whole := w.tree("whole", nil)
	w.sign(whole.index, whole.amd64)
	now := time.Now().Add(-time.Minute)
	for name, tc := range map[string]struct {
		since    time.Time
		revoked  string
		image    string
		platform string
		images   gate.Coverage
		allowed  bool
	}{
		"image, by the index's signature":       {now, whole.arm64, whole.index, "linux/arm64", 0, false},
		"image, recursive":                      {now, whole.arm64, whole.index, "", gate.CoverAny, false},
		"image, index judged alone":             {now, whole.arm64, whole.index, "", gate.CoverIndex, false},
		"image, signed itself":                  {now, whole.amd64, whole.index, "linux/amd64", 0, false},
		"another image":                         {now, whole.amd64, whole.index, "linux/arm64", 0, true},
		"index":                                 {now, whole.index, whole.index, "", 0, false},
		"index, recursive":                      {now, whole.index, whole.index, "", gate.CoverAny, false},
		"index, image signed itself":            {now, whole.index, whole.index, "linux/amd64", 0, false},
		"index, image not reached through it":   {now, whole.index, whole.amd64, "", 0, true},
		"later":                                 {now.Add(time.Hour), whole.arm64, whole.index, "linux/arm64", 0, true},
		"attestation manifest, nobody wants it": {now, whole.att, whole.index, "linux/amd64", 0, true},
	} {
		r, err := w.ask(tc.image, w.byRita(), func(r *gate.Request) {
			r.Platform, r.Images, r.Verifier = tc.platform, tc.images, w.revoking(tc.since, tc.revoked)
		})
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case r.Decision.Allowed != tc.allowed:
			t.Errorf("%s: %+v", name, r.Decision)
		case !tc.allowed && r.Decision.Reasons[0].Code != verify.Revoked:
			t.Errorf("%s: %+v", name, r.Decision.Reasons)
		}
	}
}
