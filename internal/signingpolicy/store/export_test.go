package store

import "github.com/hallmark-dev/hallmark/internal/signingpolicy/ledger"

// Enqueue takes in leaves without records, for measurements.
func (s *Store) Enqueue(leaves ...ledger.Leaf) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.enqueue(nil, leaves...)
}

// Integrate is Publish up to when the head is signed and nobody has seen it.
func (s *Store) Integrate() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.integrate()
}

// State is what the map must be.
func (s *Store) State() *ledger.State { return s.state }
