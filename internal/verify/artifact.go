package verify

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"maps"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Artifact is what a claim is to be about. The zero Artifact matches no claim.
type Artifact struct {
	// Digests are digests of the one artifact, at most one per algorithm. For an
	// image that is its manifest's; a file has all three (see [HashFile]), because
	// what signs it chooses the algorithm.
	Digests []evidence.Digest
	// Content is the artifact itself, optional: only signatures over the plain
	// bytes of a file (pure Ed25519 without an envelope) need it.
	Content []byte
	// Repository is where an image was found, host/repository, "" for files:
	// Notation's trust policies are chosen by it.
	Repository string
	// MediaType of an image's manifest, and Size of the artifact in bytes; "" and 0
	// when they are not known. Notary Project signatures sign both.
	MediaType string
	Size      int64
}

// Image is the artifact with one digest: an image's manifest.
func Image(d evidence.Digest) Artifact { return Artifact{Digests: []evidence.Digest{d}} }

// MaxContent is the largest file that [HashFile] keeps as Content, in bytes.
const MaxContent = 64 << 20

// HashFile reads a file to its end. Files up to MaxContent are kept, too.
func HashFile(r io.Reader) (Artifact, error) {
	hashes := []struct {
		name string
		h    hash.Hash
	}{{"sha256", sha256.New()}, {"sha384", sha512.New384()}, {"sha512", sha512.New()}}
	var content bytes.Buffer
	size, err := io.CopyN(&content, r, MaxContent+1)
	if err != nil && err != io.EOF {
		return Artifact{}, err
	}
	for _, h := range hashes {
		h.h.Write(content.Bytes())
	}
	a := Artifact{Content: content.Bytes()}
	if size > MaxContent {
		a.Content = nil
		if _, err := io.Copy(io.MultiWriter(hashes[0].h, hashes[1].h, hashes[2].h), r); err != nil {
			return Artifact{}, err
		}
	}
	for _, h := range hashes {
		a.Digests = append(a.Digests, evidence.Digest(h.name+":"+hex.EncodeToString(h.h.Sum(nil))))
	}
	return a, nil
}

// digest is the artifact's digest by an algorithm, nil when it is not known.
func (a Artifact) digest(algorithm string) []byte {
	for _, d := range a.Digests {
		if d.Algorithm() == algorithm {
			return d.Bytes()
		}
	}
	return nil
}

// check refuses artifacts that are not one thing.
func (a Artifact) check() *refusal {
	if len(a.Digests) == 0 {
		return refuse(WrongSubject, "there is no digest to compare the signature with")
	}
	seen := map[string]bool{}
	for _, d := range a.Digests {
		if _, err := evidence.ParseDigest(string(d)); err != nil || seen[d.Algorithm()] {
			return refuse(WrongSubject, "%q is no usable digest of the artifact", d)
		}
		seen[d.Algorithm()] = true
	}
	return nil
}

// hashName is an OCI digest algorithm's name, "" for hashes that are not used.
func hashName(h crypto.Hash) string {
	switch h {
	case crypto.SHA256:
		return "sha256"
	case crypto.SHA384:
		return "sha384"
	case crypto.SHA512:
		return "sha512"
	}
	return ""
}

// protoHash is a hash's dev.sigstore.common.v1.HashAlgorithm.
func protoHash(h crypto.Hash) string {
	switch h {
	case crypto.SHA256:
		return "SHA2_256"
	case crypto.SHA384:
		return "SHA2_384"
	case crypto.SHA512:
		return "SHA2_512"
	}
	return ""
}

// String names the artifact in reasons.
func (a Artifact) String() string {
	if len(a.Digests) == 0 {
		return "nothing"
	}
	return string(a.Digests[0])
}

// subjects binds a statement to the artifact: one of its subjects must have the
// artifact's digest. It returns the annotations of the subjects that do.
func (a Artifact) subjects(st *evidence.Statement) (map[string]string, *refusal) {
	found, own := false, false
	var annotations map[string]string
	for i := range st.Subject {
		s := &st.Subject[i]
		match, r := a.matches(s.Digest)
		if r != nil {
			return nil, r
		}
		if !match {
			continue
		}
		found = true
		if annotations == nil { // shared until another subject adds to them
			annotations = s.Annotations
			continue
		}
		if !own && len(s.Annotations) > 0 {
			annotations, own = maps.Clone(annotations), true
		}
		for k, v := range s.Annotations {
			if old, ok := annotations[k]; ok && old != v {
				return nil, refuse(Malformed, "the statement annotates %s twice, with %s=%s and %s=%s", a, k, old, k, v)
			}
			annotations[k] = v
		}
	}
	if !found {
		return nil, refuse(WrongSubject, "the statement is about %s, not about %s", describeSubjects(st), a)
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	return annotations, nil
}

// matches compares by every algorithm that both sides know; one that differs
// while another agrees is a contradiction.
func (a Artifact) matches(digests map[string]string) (bool, *refusal) {
	equal, differs := false, false
	for _, d := range a.Digests {
		switch have, ok := digests[d.Algorithm()]; {
		case !ok:
		case have == d.Hex():
			equal = true
		default:
			differs = true
		}
	}
	if equal && differs {
		return false, refuse(Malformed, "a subject of the statement has one digest of %s and another of something else", a)
	}
	return equal, nil
}

func describeSubjects(st *evidence.Statement) string {
	s := st.Subject[0]
	text := "a subject without a sha256 digest"
	for _, alg := range []string{"sha512", "sha384", "sha256"} {
		if d, ok := s.Digest[alg]; ok {
			text = clip(alg + ":" + d)
		}
	}
	if n := len(st.Subject) - 1; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
