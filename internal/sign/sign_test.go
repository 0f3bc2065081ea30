package sign_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/key"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

func testNow() time.Time { return time.Now() }

// What is attached is what was signed: the statement, exactly, under the key,
// with a log entry and a timestamp, in cosign's layout.
func TestAttachImageSignature(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	at := l.image(t, "app")
	k := newKey(t, "")
	s, err := sign.New(sign.Config{Services: l.services(), Key: k})
	if err != nil {
		t.Fatal(err)
	}
	st, err := sign.ImageStatement(at.Digest(), map[string]string{"env": "prod", "a": "<&>"})
	if err != nil {
		t.Fatal(err)
	}
	done, err := s.Attach(context.Background(), at, st)
	if err != nil {
		t.Fatal(err)
	}
	if done.Existed || done.LogIndex == nil || *done.LogIndex != 0 || done.Signer.Key != key.Fingerprint(k.Public()) {
		t.Errorf("%+v", done)
	}
	list, err := at.Repo.Referrers(context.Background(), at.Desc)
	if err != nil || len(list) != 1 || list[0].ArtifactType != evidence.BundleMediaType || at.Repo.RefOf(list[0].Digest) != done.Ref {
		t.Fatalf("%+v %v", list, err)
	}
	claim, err := bundle.Parse(bundleOf(t, at, list[0]))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + at.Digest().Hex() +
		`"},"annotations":{"a":"<&>","env":"prod"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`
	if diff := cmp.Diff(want, string(claim.Envelope.Payload)); diff != "" {
		t.Error(diff)
	}
	if err := key.Verify(k.Public(), claim.Envelope.PAE(), claim.Signature()); err != nil {
		t.Error(err)
	}
	if claim.KeyHint != key.Hint(k.Public()) || len(claim.LogEntries) != 1 || len(claim.Timestamps) != 1 || len(claim.Certificates) != 0 {
		t.Errorf("%+v", claim)
	}
}

// Every kind of key signs, with a log and without.
func TestKinds(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, alg := range []string{"ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048"} {
		for name, services := range map[string]sign.Services{"log": l.services(), "none": {}} {
			k := newKey(t, alg)
			s, err := sign.New(sign.Config{Services: services, Key: k})
			if err != nil {
				t.Fatal(err)
			}
			st, err := sign.AttestStatement("name", evidence.SHA256([]byte("x")), "https://example.com/t", []byte(`{"a":1}`))
			if err != nil {
				t.Fatal(err)
			}
			signed, err := s.Sign(context.Background(), st)
			if err != nil {
				t.Errorf("%s %s: %v", alg, name, err)
				continue
			}
			data, err := io.ReadAll(signed.Reader())
			if err != nil || int64(len(data)) != signed.Size() {
				t.Errorf("%d bytes, said %d: %v", len(data), signed.Size(), err)
			}
			claim, err := bundle.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			if err := key.Verify(k.Public(), claim.Envelope.PAE(), claim.Signature()); err != nil {
				t.Errorf("%s %s: %v", alg, name, err)
			}
			message := []byte("the file")
			blob, data, err := s.Blob(context.Background(), bytes.NewReader(message))
			if err != nil {
				t.Errorf("%s %s: %v", alg, name, err)
				continue
			}
			if err := key.Verify(k.Public(), message, blob.Signature()); err != nil {
				t.Errorf("%s %s: %v", alg, name, err)
			}
			if again, err := bundle.Parse(data); err != nil || !bytes.Equal(again.Signature(), blob.Signature()) {
				t.Errorf("%s %s: %v", alg, name, err)
			}
		}
	}
}

// A predicate goes into the statement byte for byte, whatever its size and
// however its length falls on the pieces that it is read in.
func TestPredicateIsUntouched(t *testing.T) {
	t.Parallel()
	s := keySigner(t, sign.Services{}, "")
	for _, n := range []int{0, 1, 2, 3, 48<<10 - 3, 48 << 10, 1 << 20} {
		predicate := `{"b":1.50,  "a":"` + strings.Repeat("x", n) + `\u0041"}`
		st, err := sign.AttestStatement("r", evidence.SHA256([]byte("x")), "https://example.com/t", []byte("\n"+predicate+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := s.Sign(context.Background(), st)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(signed.Reader())
		if err != nil {
			t.Fatal(err)
		}
		claim, err := bundle.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := bundle.ParseStatement(claim.Envelope.Payload)
		if err != nil || string(parsed.Predicate) != predicate {
			t.Errorf("%d: %v", n, err)
		}
		if parsed.Type != evidence.StatementV1 || parsed.Subject[0].Name != "r" {
			t.Errorf("%+v", parsed.Subject)
		}
	}
}

func TestBadPredicates(t *testing.T) {
	t.Parallel()
	for name, predicate := range map[string]string{
		"empty": "", "text": "x", "array": "[]", "number": "1", "null": "null", "two": "{}{}", "duplicate": `{"a":1,"a":2}`,
		"UTF-8": "{\"a\":\"\xff\"}", "deep": strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70),
		"cut": `{"a":`, "comment": `{}//`, "too big": `{"a":"` + strings.Repeat("x", sign.MaxPredicate) + `"}`,
	} {
		if _, err := sign.AttestStatement("", evidence.SHA256(nil), "https://example.com/t", []byte(predicate)); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := sign.ImageStatement("sha256:x", nil); err == nil {
		t.Error("a bad digest was accepted")
	}
	if _, err := sign.ImageStatement(evidence.SHA256(nil), map[string]string{"": "x"}); err == nil {
		t.Error("an annotation without a name was accepted")
	}
	if _, err := sign.ImageStatement(evidence.SHA256(nil), map[string]string{"a": "\xff"}); err == nil {
		t.Error("an annotation that is not UTF-8 was accepted")
	}
}

// What the signer already said is not said again.
func TestExisting(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	at := l.image(t, "app")
	var asked sign.Want
	s, err := sign.New(sign.Config{Key: newKey(t, ""), Existing: func(_ context.Context, _ sign.Target, want sign.Want) (string, error) {
		asked = want
		return "r@sha256:1", nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	st, err := sign.ImageStatement(at.Digest(), nil)
	if err != nil {
		t.Fatal(err)
	}
	done, err := s.Attach(context.Background(), at, st)
	if err != nil || !done.Existed || done.Ref != "r@sha256:1" || asked.Statement != st || asked.Signer.Key == "" {
		t.Errorf("%+v %v", done, err)
	}
	if list, err := at.Repo.Referrers(context.Background(), at.Desc); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
	if _, err := s.Attach(context.Background(), l.image(t, "other"), st); err == nil {
		t.Error("a statement about another image was attached")
	}
}

// Many images are signed at once with one signer.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := keySigner(t, l.services(), "")
	at := l.image(t, "app")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			st, err := sign.ImageStatement(at.Digest(), nil)
			if err == nil {
				_, err = s.Attach(context.Background(), at, st)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if list, err := at.Repo.Referrers(context.Background(), at.Desc); err != nil || len(list) != 20 {
		t.Errorf("%d of 20 are there: %v", len(list), err)
	}
}

// An index expands to what it lists, once each; attestation manifests on demand;
// endless nesting ends.
func TestExpand(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	one := l.image(t, "app")
	two := pushImage(t, one.Repo, "two", "")
	att := pushImage(t, one.Repo, "att", "")
	att.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	index := pushManifest(t, one.Repo, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{one.Desc, two, two, att}}, "multi")
	for _, c := range []struct {
		attestations bool
		want         []ocispec.Descriptor
	}{{false, []ocispec.Descriptor{index, one.Desc, two}}, {true, []ocispec.Descriptor{index, one.Desc, two, att}}} {
		got, err := sign.Expand(context.Background(), sign.Target{Repo: one.Repo, Desc: index}, c.attestations)
		if err != nil {
			t.Fatal(err)
		}
		var digests, want []string
		for _, g := range got {
			digests = append(digests, string(g.Digest()))
		}
		for _, w := range c.want {
			want = append(want, string(w.Digest))
		}
		if diff := cmp.Diff(want, digests); diff != "" {
			t.Error(diff)
		}
	}
	for range 4 {
		index = pushManifest(t, one.Repo, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{index}}, "")
	}
	if _, err := sign.Expand(context.Background(), sign.Target{Repo: one.Repo, Desc: index}, false); err == nil {
		t.Error("five indexes in each other were expanded")
	}
	single, err := sign.Expand(context.Background(), one, true)
	if err != nil || len(single) != 1 {
		t.Errorf("%v %v", single, err)
	}
}

// 40 MiB of predicate are attested without holding them more than once.
func TestBigPredicateStreams(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	at := l.image(t, "app")
	predicate := []byte(`{"a":"` + strings.Repeat("x", 40<<20) + `"}`)
	st, err := sign.AttestStatement(at.Repo.Ref().Name(), at.Digest(), "https://example.com/t", predicate)
	if err != nil {
		t.Fatal(err)
	}
	done, err := keySigner(t, l.services(), "").Attach(context.Background(), at, st)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := registry.ParseRef(done.Ref)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := at.Repo.Resolve(context.Background(), ref)
	if err != nil {
		t.Fatal(err)
	}
	data, err := at.Repo.Manifest(context.Background(), desc)
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil || m.Layers[0].Size < 53<<20 {
		t.Errorf("%+v %v", m.Layers, err)
	}
}

// TestReadyStatement: a statement of somebody else is signed byte for byte, and
// one that nobody could look for, or that has two meanings, is refused.
func TestReadyStatement(t *testing.T) {
	const digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
	statement := func(members string) []byte {
		return []byte(`{ "_type":"https://in-toto.io/Statement/v1", "predicateType":"https://example.com/t"` + members + `}`)
	}
	good := statement(`, "subject":[{"digest":{"sha256":"` + digest + `"}}], "predicate":{ "z":1,"a":"<" }`)
	st, err := sign.ReadyStatement(good)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(st.Reader())
	if err != nil || string(got) != string(good) || st.Size() != int64(len(good)) {
		t.Errorf("%s, %v", got, err)
	}
	if st.Subject != "sha256:"+digest || st.PredicateType != "https://example.com/t" || string(st.Predicate()) != `{ "z":1,"a":"<" }` {
		t.Errorf("%+v", st)
	}
	for name, payload := range map[string][]byte{
		"no JSON":        []byte("a file\n"),
		"no subject":     statement(`,"predicate":{}`),
		"another digest": statement(`,"subject":[{"digest":{"sha1":"` + digest[:40] + `"}}],"predicate":{}`),
		"short digest":   statement(`,"subject":[{"digest":{"sha256":"` + digest[:62] + `"}}],"predicate":{}`),
		"twice":          statement(`,"predicateType":"https://example.com/u","subject":[{"digest":{"sha256":"` + digest + `"}}],"predicate":{}`),
		"too large":      append(bytes.Repeat([]byte(" "), sign.MaxPredicate), good...),
	} {
		if _, err := sign.ReadyStatement(payload); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
