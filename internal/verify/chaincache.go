package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"sync"
	"time"

	"github.com/hallmark-dev/hallmark/internal/trust"
)

// ChainCache remembers that chains of long-lived certificates held: what lies
// above an issuing CA, timestamp authorities' chains, and those of the Notary
// Project, whose signers use one certificate for months. It never holds a word
// about a certificate of Sigstore's, which is for one signature, about a log or a
// signature, and no refusal.
//
// A verdict is kept for exactly what was asked: every certificate in order, the
// anchor, the purpose and the generation of the trust that named the anchor. It
// is of use only at times when all of its certificates are valid.
//
// It is safe for concurrent use, and several verifiers may share one.
type ChainCache struct {
	mu     sync.RWMutex
	chains map[chainKey]chainVerdict
}

// NewChainCache is an empty cache.
func NewChainCache() *ChainCache { return &ChainCache{chains: map[chainKey]chainVerdict{}} }

// purpose is what a chain was verified for; the rules differ, so a verdict for
// one purpose says nothing about another.
type purpose string

const (
	forSigning    purpose = "issues signing certificates" // Sigstore's CAs: code signing
	forTimestamps purpose = "stamps times"                // RFC 3161, with its leaf
)

// chainKey is the SHA-256 of all that a verdict depends on.
type chainKey [sha256.Size]byte

// chainVerdict is a chain that held: its certificates, anchor last, and when all
// of them are valid.
type chainVerdict struct {
	certs  []*x509.Certificate
	window trust.Window
}

// maxChains bounds the cache; an entry is some hundred bytes besides its certificates.
const maxChains = 1024

// keyOf is the key of a question: do certificates, in order, the anchor last,
// hold for a purpose, under a generation of the trust?
func keyOf(p purpose, generation string, ders ...[]byte) chainKey {
	h := sha256.New()
	var size [8]byte
	add := func(b []byte) {
		binary.BigEndian.PutUint64(size[:], uint64(len(b)))
		h.Write(size[:])
		h.Write(b)
	}
	add([]byte(p))
	add([]byte(generation))
	for _, der := range ders {
		add(der)
	}
	var k chainKey
	h.Sum(k[:0])
	return k
}

// pathKey is the key of the question whether first leads, through some of others,
// to an authority's anchor.
func pathKey(p purpose, generation string, first *x509.Certificate, others []*x509.Certificate, anchor *x509.Certificate) chainKey {
	var few [8][]byte
	ders := append(few[:0], first.Raw)
	for _, c := range others {
		ders = append(ders, c.Raw)
	}
	return keyOf(p, generation, append(ders, anchor.Raw)...)
}

// find is the remembered verdict, if it holds at all of the times.
func (c *ChainCache) find(k chainKey, times []time.Time) (chainVerdict, bool) {
	c.mu.RLock()
	v, ok := c.chains[k]
	c.mu.RUnlock()
	return v, ok && covers(v.window, times)
}

// keep remembers a chain that held; when the cache is full, another one goes.
func (c *ChainCache) keep(k chainKey, certs []*x509.Certificate) chainVerdict {
	v := chainVerdict{certs, validity(certs)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.chains[k]; !known && len(c.chains) >= maxChains {
		for old := range c.chains {
			delete(c.chains, old)
			break
		}
	}
	c.chains[k] = v
	return v
}

// throughCache verifies the leaf by a CA whose own chain is remembered: of the
// path only the leaf's signature is checked anew. It decides nothing that needs
// the whole path: then, and when it finds none, the caller must ask x509.Verify.
func (j judge) throughCache(leaf *x509.Certificate, a *trust.Authority, times []time.Time) *chain {
	if len(leaf.UnhandledCriticalExtensions) > 0 || constrained(leaf) || !covers(trust.Window{Start: leaf.NotBefore, End: leaf.NotAfter}, times) {
		return nil
	}
	for i := 0; i <= len(a.Intermediates); i++ {
		issuer := a.Anchor
		if i < len(a.Intermediates) {
			issuer = a.Intermediates[i]
		}
		if !mayIssue(issuer, leaf) {
			continue
		}
		above, ok := j.above(issuer, a, times)
		if !ok || !roomFor(above.certs) || leaf.CheckSignatureFrom(issuer) != nil {
			continue
		}
		certs := append(make([]*x509.Certificate, 0, 1+len(above.certs)), leaf)
		certs = append(certs, above.certs...)
		return &chain{authority: a, certs: certs, window: validity(certs)}
	}
	return nil
}

// above is the chain from a CA to the authority's anchor. Only chains whose
// verdict does not depend on the certificates below are remembered.
func (j judge) above(issuer *x509.Certificate, a *trust.Authority, times []time.Time) (chainVerdict, bool) {
	k := pathKey(forSigning, j.root.Generation, issuer, a.Intermediates, a.Anchor)
	if v, ok := j.chains.find(k, times); ok {
		return v, true
	}
	for _, c := range fullPaths(issuer, a, nil, x509.ExtKeyUsageCodeSigning, times) {
		free := true
		for _, cert := range c.certs {
			free = free && !constrained(cert)
		}
		if free {
			return j.chains.keep(k, c.certs), true
		}
	}
	return chainVerdict{}, false
}

// mayIssue compares names and key identifiers; what else an issuer must be is
// checked with the signature (x509's CheckSignatureFrom).
func mayIssue(issuer, leaf *x509.Certificate) bool {
	if string(issuer.RawSubject) != string(leaf.RawIssuer) || !issuer.IsCA {
		return false
	}
	return len(leaf.AuthorityKeyId) == 0 || len(issuer.SubjectKeyId) == 0 || string(leaf.AuthorityKeyId) == string(issuer.SubjectKeyId)
}

// roomFor checks the CAs' path lengths with one certificate more below them than
// x509.Verify saw: the leaf. CAs, issuer first.
func roomFor(cas []*x509.Certificate) bool {
	for below, c := range cas {
		if c.BasicConstraintsValid && c.MaxPathLen >= 0 && below > c.MaxPathLen {
			return false
		}
	}
	return true
}

var (
	oidNameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidPolicyMappings   = asn1.ObjectIdentifier{2, 5, 29, 33}
	oidPolicyConstraint = asn1.ObjectIdentifier{2, 5, 29, 36}
	oidInhibitAnyPolicy = asn1.ObjectIdentifier{2, 5, 29, 54}
)

// constrained reports whether a certificate limits what may stand below it by
// names or policies, which only a look at the whole path can judge.
func constrained(c *x509.Certificate) bool {
	for i := range c.Extensions {
		id := c.Extensions[i].Id
		if len(id) == 4 && (id.Equal(oidNameConstraints) || id.Equal(oidPolicyMappings) || id.Equal(oidPolicyConstraint) || id.Equal(oidInhibitAnyPolicy)) {
			return true
		}
	}
	return false
}

// stamper reports whether a timestamp authority's certificate leads to its
// anchor at a time. The verdict is about the whole chain, so all of it is kept.
func (j judge) stamper(signer *x509.Certificate, a *trust.Authority, extra []*x509.Certificate, at time.Time) bool {
	times := []time.Time{at}
	if a.Anchor == nil {
		return false
	}
	others := a.Intermediates
	if len(extra) > 0 {
		others = append(others[:len(others):len(others)], extra...)
	}
	k := pathKey(forTimestamps, j.root.Generation, signer, others, a.Anchor)
	if _, ok := j.chains.find(k, times); ok {
		return true
	}
	found := fullPaths(signer, a, extra, x509.ExtKeyUsageTimeStamping, times)
	if len(found) > 0 {
		j.chains.keep(k, found[0].certs)
	}
	return len(found) > 0
}
