package verify

import "crypto/x509"

// InTree is for tests that compare it with another implementation.
var InTree = inTree

// KeyOf is for the test that a key depends on all that a verdict depends on.
func KeyOf(p, generation string, first *x509.Certificate, others []*x509.Certificate, anchor *x509.Certificate) [32]byte {
	return pathKey(purpose(p), generation, first, others, anchor)
}
