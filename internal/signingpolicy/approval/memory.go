package approval

import (
	"crypto/sha256"
	"sync"
)

// maxRemembered bounds a Memory, in signatures.
const maxRemembered = 4096

// Memory remembers SSH signatures that verified, so that who judges the same approvals again (under
// the documents of two versions of a policy, or while waiting for the last one) does not verify
// them again. It remembers nothing else: what an approval is about, and whose key made it, is asked
// each time. The zero Memory is ready; any number may use it at once.
type Memory struct {
	mu   sync.Mutex
	good map[[sha256.Size]byte]struct{}
}

// entry names a signature by a key over a payload.
func entry(key string, e *Envelope) [sha256.Size]byte {
	signature := sha256.Sum256(e.Signature)
	return sha256.Sum256([]byte(key + " " + e.ID + " " + string(signature[:])))
}

func (m *Memory) has(n [sha256.Size]byte) bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.good[n]
	return ok
}

func (m *Memory) add(n [sha256.Size]byte) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.good == nil || len(m.good) >= maxRemembered {
		m.good = map[[sha256.Size]byte]struct{}{}
	}
	m.good[n] = struct{}{}
}
