package oracle_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/notary"
	"github.com/hallmark-dev/hallmark/internal/hmtest/notaryforge"
	ournotation "github.com/hallmark-dev/hallmark/internal/trust/notation"
	"github.com/hallmark-dev/hallmark/internal/verify"
)

// notaryPair is our verifier and notation-go under one trust.
type notaryPair struct {
	ours  *verify.Verifier
	peer  notation.Verifier
	a     verify.Artifact
	desc  ocispec.Descriptor
	where string
}

// memoryStore is the stores of Parts for notation-go.
type memoryStore []ournotation.Store

func (m memoryStore) GetCertificates(_ context.Context, typ truststore.Type, name string) ([]*x509.Certificate, error) {
	for _, s := range m {
		if s.Type != string(typ) || s.Name != name {
			continue
		}
		var out []*x509.Certificate
		for _, der := range s.Certificates {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
		return out, nil
	}
	return nil, fmt.Errorf("there is no store %s:%s", typ, name)
}

func newNotaryPair(tb testing.TB, w *notaryforge.World, p ournotation.Parts) *notaryPair {
	tb.Helper()
	theirs, err := ournotation.New(p)
	if err != nil {
		tb.Fatal(err)
	}
	out := &notaryPair{
		a:     verify.Artifact{Digests: []evidence.Digest{evidence.Digest(w.Digest)}, Repository: w.Repository, MediaType: w.MediaType, Size: w.Size},
		desc:  ocispec.Descriptor{MediaType: w.MediaType, Digest: digest.Digest(w.Digest), Size: w.Size},
		where: w.Repository + "@" + w.Digest,
	}
	if out.ours, err = verify.New(verify.Config{Notary: theirs}); err != nil {
		tb.Fatal(err)
	}
	var doc trustpolicy.Document
	if err := json.Unmarshal(p.Policy, &doc); err != nil {
		tb.Fatal(err)
	}
	if out.peer, err = verifier.New(&doc, memoryStore(p.Stores), nil); err != nil {
		tb.Fatal(err)
	}
	return out
}

// verdict is "" or why ours refuses, as "CODE sentence".
func (p *notaryPair) verdict(mediaType string, data []byte) string {
	c, err := notary.Parse(mediaType, data)
	if err != nil {
		return "PARSE " + err.Error()
	}
	if _, reasons := p.ours.Claim(c, p.a); len(reasons) > 0 {
		return reasons[0].String()
	}
	return ""
}

// peerVerdict is notation-go's, which panics on nothing that we know of.
func (p *notaryPair) peerVerdict(mediaType string, data []byte) error {
	_, err := p.peer.Verify(context.Background(), p.desc, data, notation.VerifierVerifyOptions{ArtifactReference: p.where, SignatureMediaType: mediaType})
	return err
}

// stricter is all that we refuse and notation-go accepts, by the words of our
// refusal, with the reason why.
var stricter = []struct{ words, why string }{
	// The signed headers.
	{"is not understood", "signature-specification.md: a critical header that is not understood fails; notation asks only plugins"},
	{"TIME_UNTRUSTED the signature says that it was made at", "a signing time in the future or outside the certificate's validity is a contradiction, which notation does not look at"},
	{"by a plugin of notation's", "a verification plugin that is wanted is not run here; notation passes over the wish when it is not critical"},
	{"is not for signatures of scheme", "the specification gives each scheme its own time; notation looks at that only in JWS"},
	{"is marked as critical twice", "a list of names is a set (RFC 7515, 4.1.11)"},
	{"is not written", "a name that differs from a known one by case is read as that one by some and as another by others"},
	{"PARSE protected: b64", "RFC 7797: others would read another payload"},
	{"null where a value is wanted", "null is no value; notation takes it for an absent one"},
	{"want a time as RFC 3339", "RFC 3339 has one spelling of an hour and no comma"},
	{"is not there, or not to be marked", "RFC 7515, 4.1.11: defined headers are not listed"},
	{"the year 9999", "RFC 3339 has four digits"},
	// JSON.
	{"duplicate member", "two readers would take two values"},
	{"unknown member", "an envelope has the members that the specification gives it"},
	{"not base64", "one value, one spelling: no line breaks, no stray bits"},
	{"invalid UTF-8", "RFC 8259"},
	{"half a surrogate pair", "RFC 8259: no character"},
	{"missing member", "what must be there must not be guessed"},
	{"levels", "nesting is bounded"},
	{"more than", "sizes and counts are bounded"},
	// CBOR.
	{"not in its shortest form", "RFC 8949, 4.2.1: one number, one spelling"},
	{"carries a tag", "a value that is not understood is not passed over"},
	{"float or a simple value", "numbers with several spellings"},
	{"is no time with tag 1", "signature-envelope-cose.md: tag 1"},
	{"is of another CBOR type", "whole seconds, texts as texts, arrays as arrays"},
	{"is not known here", "COSE headers with a meaning of their own (IV, countersignature) are not passed over"},
	{"protected bucket, where", "a chain that nobody looks at contradicts the one that counts"},
	{"too large or too deep", "sizes are bounded"},
	{"at most", "sizes are bounded"},
	{"text that is not UTF-8", "RFC 8949, 3.1"},
	{"is there twice", "RFC 9052, 3"},
	{"neither a text nor a number", "RFC 9052, 1.5"},
	// The payload and its descriptor.
	{"the signed payload cannot be read", "a descriptor has one reading: digest in its canonical spelling, no member twice"},
	// Certificates.
	{"critical extension", "RFC 5280, 4.2: a critical extension that is not understood fails; notation does not look"},
	{"names that its CAs may not certify", "RFC 5280, 4.2.1.10: name constraints; notation does not look"},
	{"something else than signing code", "signature-specification.md: no anyExtendedKeyUsage"},
	// Timestamps.
	{"TIME_UNTRUSTED the timestamp of the signature cannot be believed", "RFC 3161 tokens are read in DER, with what nothing signs as it must be"},
	{"does not bring the certificate that it says", "RFC 5652, 5.3: the signer info names the signer's certificate; notation goes by the signed attribute alone"},
	{"expires before it was made", "notation takes an expiry in the year 1 for none"},
	{"WRONG_IDENTITY signed by", "a subject with an attribute twice or without value names nobody"},
}

func explained(refusal string) bool {
	for _, s := range stricter {
		if strings.Contains(refusal, s.words) {
			return true
		}
	}
	return false
}

// notaryMutations is how many mutated envelopes of each format are judged by both.
const notaryMutations = 20_000

// TestNotaryOracle: on mutated envelopes we are never laxer than notation-go, and
// stricter only for the listed reasons.
func TestNotaryOracle(t *testing.T) {
	for _, mediaType := range []string{notary.MediaTypeCOSE, notary.MediaTypeJWS} {
		t.Run(mediaType, func(t *testing.T) {
			m := newNotaryMutator(t)
			var mu sync.Mutex
			var accepted, refused, strict int
			used := map[string]int{}
			var wg sync.WaitGroup
			workers := runtime.GOMAXPROCS(0)
			for worker := range workers {
				wg.Add(1)
				go func() {
					defer wg.Done()
					r := rand.New(rand.NewPCG(uint64(worker), 2026))
					for range (notaryMutations + workers - 1) / workers {
						what, pair, data := m.next(r, mediaType)
						ours, theirs := pair.verdict(mediaType, data), pair.peerVerdict(mediaType, data)
						mu.Lock()
						switch {
						case ours == "" && theirs != nil:
							t.Errorf("laxer than notation-go (%s): %v\n%q", what, theirs, data)
						case ours == "":
							accepted++
						case theirs != nil:
							refused++
						default:
							strict++
							used[firstWords(ours)]++
							if !explained(ours) {
								t.Errorf("stricter without a listed reason (%s): %s\n%q", what, ours, data)
							}
						}
						mu.Unlock()
					}
				}()
			}
			wg.Wait()
			t.Logf("both accept %d, both refuse %d, we alone refuse %d: %v", accepted, refused, strict, used)
			if accepted < notaryMutations/50 || refused < notaryMutations/4 {
				t.Errorf("only %d accepted and %d refused by both: the mutations say nothing", accepted, refused)
			}
		})
	}
}

func firstWords(s string) string {
	f := strings.Fields(s)
	return strings.Join(f[:min(len(f), 6)], " ")
}

// TestNotaryAgreesOnGood: both accept what nothing is wrong with, or the rest proves nothing.
func TestNotaryAgreesOnGood(t *testing.T) {
	m := newNotaryMutator(t)
	for _, mediaType := range []string{notary.MediaTypeCOSE, notary.MediaTypeJWS} {
		for i, b := range m.bases {
			data := b.e.Sign(mediaType)
			if ours, theirs := b.pair.verdict(mediaType, data), b.pair.peerVerdict(mediaType, data); ours != "" || theirs != nil {
				t.Errorf("base %d as %s: ours %q, notation-go %v", i, mediaType, ours, theirs)
			}
		}
	}
}
