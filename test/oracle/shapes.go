package oracle

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"

	sgverify "github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/hallmark-dev/hallmark/internal/hmtest/forge"
)

// Shape is a kind of bundle that is measured: many bundles, each with a key and
// certificate of its own, so that no verdict about a leaf can be used twice.
type Shape struct {
	Name    string
	Task    Task
	Bundles [][]byte
	// MinRatio is how many times sigstore-go's speed ours must have at least;
	// MaxAllocs which part of its allocations ours may make at most.
	MinRatio, MaxAllocs float64
	// Extra are options of sigstore-go's.
	Extra []sgverify.VerifierOption
	floor [][]bare
}

// bare is one signature verification and nothing else.
type bare struct {
	key    crypto.PublicKey
	digest []byte
	sig    []byte
}

func (b *bare) verify() bool {
	if k, ok := b.key.(*ecdsa.PublicKey); ok {
		return ecdsa.VerifyASN1(k, b.digest, b.sig)
	}
	return ed25519.Verify(b.key.(ed25519.PublicKey), b.digest, b.sig)
}

// Floor makes the bare signature verifications of bundle i, one after the other
// as a verifier must, and reports whether all hold.
func (s *Shape) Floor(i int) bool {
	ok := true
	for j := range s.floor[i] {
		ok = s.floor[i][j].verify() && ok
	}
	return ok
}

// Shapes forges n bundles of each shape.
func Shapes(n int) []*Shape {
	statement := forge.StatementAbout(forge.ArtifactSubject())
	p384 := forge.Options{CA: elliptic.P384(), TSA: elliptic.P384(), TreeSize: 1 << 24}
	v2 := forge.ClaimOptions{Logs: []string{"v2"}, Token: true}
	return []*Shape{
		newShape("public instance, Rekor v1", 2.3, 1./8, forge.Public(), forge.ClaimOptions{Logs: []string{"v1 hashedrekord"}}, n),
		newShape("Rekor v2 + TSA, P-384 roots", 1.9, 1./8, p384, v2, n),
		newShape("Rekor v2 + TSA, P-256 roots", 1.8, 1./8, forge.Options{TreeSize: 1 << 24}, v2, n),
		newShape("key only, DSSE", 1.3, 1./5, forge.Options{}, forge.ClaimOptions{KeyOnly: true, Payload: statement}, n),
		newShape("key only, DSSE, no predicate", 1.3, 1./5, forge.Options{}, forge.ClaimOptions{KeyOnly: true, Payload: statement}, n, sgverify.WithoutStatementPredicate()),
	}
}

func newShape(name string, ratio, allocs float64, world forge.Options, o forge.ClaimOptions, n int, extra ...sgverify.VerifierOption) *Shape {
	w := forge.New(world)
	leaf := forge.Workflow()
	s := &Shape{Name: name, MinRatio: ratio, MaxAllocs: allocs, Extra: extra,
		Task: Task{TrustedRoot: w.TrustedRoot(nil), Identity: leaf.URI, Issuer: leaf.IssuerV2, Artifact: forge.Artifact, ByDigest: true}}
	if o.Leaf = &leaf; o.KeyOnly {
		o.Signer = forge.NewKey(elliptic.P256())
		s.Task.Key = forge.PublicPEM(o.Signer.Public())
	}
	for range n {
		c := o
		if !o.KeyOnly {
			c.Signer = forge.NewKey(elliptic.P256())
		}
		s.Bundles = append(s.Bundles, forge.Bundle(w.Claim(c), "0.3"))
		s.floor = append(s.floor, floor(w, c))
	}
	return s
}

// floor are signatures by the keys that sign a claim made like this, over
// digests of their own.
func floor(w *forge.World, o forge.ClaimOptions) []bare {
	keys := []*ecdsa.PrivateKey{o.Signer.(*ecdsa.PrivateKey)}
	if !o.KeyOnly {
		keys = append(keys, w.CA.Key, w.CT)
	}
	if o.Token {
		keys = append(keys, w.TSA.Key)
	}
	var out []bare
	for _, kind := range o.Logs {
		if kind == "v2" {
			note := make([]byte, 80) // as long as a checkpoint
			_, _ = rand.Read(note)
			out = append(out, bare{w.V2Public, note, ed25519.Sign(w.V2, note)})
		} else {
			keys = append(keys, w.V1, w.V1) // promise and checkpoint
		}
	}
	for i, k := range keys {
		nonce := make([]byte, 32)
		_, _ = rand.Read(nonce)
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nonce, uint64(i)))
		digest := append(sum[:], sum[:k.Params().BitSize/8-32]...) // SHA-384 with P-384
		out = append(out, bare{k.Public(), digest, forge.Must(ecdsa.SignASN1(rand.Reader, k, digest))})
	}
	return out
}
