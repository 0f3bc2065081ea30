package oracle_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/gate"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// cosignMutants is how many changed image signatures cosign's binary judges.
var cosignMutants = flag.Int("cosign-mutants", 300, "mutations of image signatures against cosign's binary")

// cosignStricter is all that we refuse and cosign accepts, by the words of our
// refusal, with the reason why.
var cosignStricter = []struct{ words, why string }{
	// What the registry serves.
	{"PARSE manifest: schemaVersion", "image-spec: an OCI manifest is of schema version 2"},
	{"the registry sent other bytes than asked for", "size and digest of what is fetched must be what was listed; cosign looks at sizes nowhere"},
	{"names another subject or none", "distribution-spec: what is listed as a referrer must name the image as its subject; a list alone is the registry's word"},
	{"there is no signature of", "a layer's media type says what it is; cosign takes any layer under the tag for a signature"},
	{"attestation of 127.0.0.1", "the same of an attestation"},
	{"something follows the JSON value", "a manifest is one JSON value"},
	{"PARSE manifest: ", "a manifest whose descriptors cannot be read is not read in part"},
	// The payload.
	{"the signed payload is a", "a payload of another type (atomic container signature) was signed for another purpose; cosign does not look at the type"},
	{"missing member", "what must be there must not be guessed"},
	{"duplicate member", "two readers would take two values"},
	{"unknown member", "a payload has the members that cosign, podman and skopeo write; one that is critical and unknown must not be passed over"},
	// What the signature brings.
	{"not base64", "one value, one spelling: no line breaks, no stray bits"},
	{"not certificates in PEM alone", "PEM with nothing beside certificates: no text, headers or blocks of other types"},
	{"holds a second certificate that is no CA's", "a chain has one leaf"},
	{"null where a value is wanted", "null is no value"},
	{"invalid UTF-8", "RFC 8259"},
	{"half a surrogate pair", "RFC 8259: no character"},
	{"minus zero", "minus zero is a second spelling of zero"},
	{"not lower-case hexadecimal", "one value, one spelling"},
	{"a chain without the signer's certificate", "a chain belongs to a certificate"},
	{"is of another signature than the envelope's", "a signature that is written twice must be the same"},
	{"cosign writes exactly one, not 2", "one signature that counts: cosign asks whether any does"},
	{"TIME_UNTRUSTED a timestamp of the claim cannot be believed", "RFC 3161 tokens are read in DER, with what nothing signs as it must be"},
	{"LOG_PROOF_BAD the log's checkpoint is of another tree", "size and root of the proof must be the checkpoint's (cosign takes the checkpoint's)"},
	{"inclusionProof.rootHash: ", "a proof must name the root that it leads to (cosign takes it from the checkpoint)"},
	{"inclusionProof.logIndex: ", "a proof must be about a leaf of its tree"},
	{"LOG_PROOF_BAD the checkpoint of", "an entry that does not say that it is of Rekor v2 is judged by the rules of v1"},
	{"certificates; the signer has one", "the annotation is the signer's certificate, the chain has one of its own"},
	{"the signature has no timestamp by a trusted authority", "a timestamp that is demanded must be there; cosign's --use-signed-timestamps passes over one that is not"},
	{"LOG_MISMATCH the log entry is about another signature, signer or artifact", "the leaf of Rekor v2 that the bundle brings must be the one that is proven (cosign only looks at the one that it builds)"},
	{"TIME_UNTRUSTED a timestamp of the claim is about another signature", "a timestamp that is about something else is not passed over"},
}

// explainedToCosign is the reason that fits; cosign judges bundles by sigstore-go, so
// that what is listed of that is as good.
func explainedToCosign(refusal string) string {
	for _, s := range cosignStricter {
		if strings.Contains(refusal, s.words) {
			return s.why
		}
	}
	for _, one := range strings.Split(refusal, " | ") {
		for _, r := range reasons {
			if strings.HasPrefix(one, r.code+" ") && strings.Contains(one, r.message) {
				return r.why
			}
		}
	}
	return ""
}

// ours is what we say to an image: "", or why not.
func (w *cosignWorld) ours(b *cosignBase, image string) string {
	ref, err := registry.ParseRef(image)
	if err != nil {
		return "ERROR " + err.Error()
	}
	repo, err := registry.NewClient(registry.Options{}).Open(context.Background(), ref)
	if err != nil {
		return "ERROR " + err.Error()
	}
	result, err := gate.Image(context.Background(), gate.Request{Repo: repo, Ref: ref, Verifier: b.verifier, Policy: b.wants})
	if err != nil {
		return "ERROR " + err.Error()
	}
	if result.Decision.Allowed {
		return ""
	}
	var why []string
	for _, t := range result.Tried {
		for _, r := range t.Reasons {
			why = append(why, r.String())
		}
		if t.Item.Err != nil {
			why = append(why, "PARSE "+t.Item.Err.Error())
		}
	}
	for _, r := range result.Decision.Reasons {
		why = append(why, r.String())
	}
	return strings.Join(why, " | ")
}

// judged are both verdicts about a case.
func (w *cosignWorld) judged(c cosignCase, repository string) (ours, talk string, theirs error) {
	for _, image := range w.images {
		w.hostile.put(repository, image)
	}
	c.m.publish(w.hostile, repository, w.images[0])
	image := fmt.Sprintf("%s/%s@%s", w.hostile.host, repository, w.digest(0))
	ours = w.ours(c.base, image)
	talk, theirs = w.cosign(c.base.env, append(append([]string{}, c.base.args...), image)...)
	return ours, talk, theirs
}

// cases are as many as the flag says: of the deliberate changes each for one base,
// then of the rest of them and of changes by chance as many of one as of the other.
func (w *cosignWorld) cases() []cosignCase {
	r := rand.New(rand.NewPCG(*seed, 0))
	all := w.deliberate()
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	seen := map[string]bool{}
	var out, rest []cosignCase
	for _, c := range all {
		if seen[c.what] {
			rest = append(rest, c)
			continue
		}
		seen[c.what] = true
		out = append(out, c)
	}
	for i := 0; len(out) < *cosignMutants; i++ {
		if i%2 == 0 && i/2 < len(rest) {
			out = append(out, rest[i/2])
		} else {
			out = append(out, w.random(rand.New(rand.NewPCG(*seed, uint64(i))), w.bases[i/2%len(w.bases)]))
		}
	}
	return out
}

// TestCosignOracle: of image signatures that are changed as whoever writes to a
// registry can change them, we accept none that cosign's binary refuses, and
// refuse what it accepts only for the listed reasons.
func TestCosignOracle(t *testing.T) {
	w := newCosignWorld(t)
	for i, b := range w.bases {
		for j, m := range b.good {
			if ours, talk, theirs := w.judged(cosignCase{"", b, m.clone()}, fmt.Sprintf("made/%d-%d", i, j)); ours != "" || theirs != nil {
				t.Fatalf("%s, as it was made: ours %q, cosign %v\n%s", b.name, ours, theirs, talk)
			}
		}
	}
	var mu sync.Mutex
	var accepted, refused, strict, laxer int
	used := map[string]int{}
	cases := w.cases()
	next := make(chan int)
	var wg sync.WaitGroup
	for range 2 { // a run of cosign uses more than one core
		wg.Go(func() {
			for n := range next {
				c := cases[n]
				ours, talk, theirs := w.judged(c, fmt.Sprintf("mutants/%d", n))
				mu.Lock()
				switch {
				case ours == "" && theirs == nil:
					accepted++
				case ours == "":
					laxer++
					t.Errorf("%s, %s: laxer than cosign, which says %s", c.base.name, c.what, lastLine(talk))
				case theirs != nil:
					refused++
				default:
					strict++
					why := explainedToCosign(ours)
					if used[why]++; why == "" {
						t.Errorf("%s, %s: stricter than cosign for no listed reason: %s", c.base.name, c.what, ours)
					}
				}
				mu.Unlock()
			}
		})
	}
	for n := range cases {
		next <- n
	}
	close(next)
	wg.Wait()
	if least := len(cases) / 10; accepted < least || refused < 4*least {
		t.Errorf("only %d accepted and %d refused by both: the mutations say nothing", accepted, refused)
	}
	t.Logf("%d mutations of %d kinds of signatures: %d accepted by both, %d refused by both, %d refused by us alone, %d by cosign alone", len(cases), len(w.bases), accepted, refused, strict, laxer)
	for _, why := range slices.Sorted(mapKeys(used)) {
		t.Logf("stricter %3d times: %s", used[why], why)
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
