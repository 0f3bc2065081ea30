package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"

	"github.com/hallmark-dev/hallmark/internal/trust"
)

// ChainCache remembers that chains of long-lived certificates held: what lies
// above an issuing CA, and timestamp authorities' chains. It never holds a word
// about a signing certificate, a log or a signature, and no refusal.
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

// find is the remembered verdict, if it holds at all of the times.
func (c *ChainCache) find(k chainKey, times []time.Time) (chainVerdict, bool) {
	c.mu.RLock()
	v, ok := c.chains[k]
	c.mu.RUnlock()
	return v, ok && outside(v.window, times).IsZero()
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
