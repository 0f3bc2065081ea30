package verify

import (
	"bytes"
	"crypto/sha256"
	"math/bits"
)

// inTree reports whether an audit path leads from a leaf at an index to the root
// of a tree (RFC 6962, 2.1.1; RFC 9162, 2.1.3.2): the body's hash, hashed with
// each of the path's, on the side that the index says. Hashes are of 32 bytes.
func inTree(body []byte, index, size int64, path [][]byte, root []byte) bool {
	if index < 0 || size <= index {
		return false
	}
	// Below the first level at which the leaf's and the last leaf's subtrees are
	// one, the path has a hash for every level; above it, only where the leaf's
	// subtree is the right one.
	inner := bits.Len64(uint64(index) ^ uint64(size-1))
	if len(path) != inner+bits.OnesCount64(uint64(index)>>inner) {
		return false
	}
	h := sha256.New()
	var sum [sha256.Size]byte
	h.Write([]byte{0})
	h.Write(body)
	h.Sum(sum[:0])
	var node [1 + 2*sha256.Size]byte
	node[0] = 1
	for i, sibling := range path {
		left, right := sum[:], sibling
		if i >= inner || index>>i&1 == 1 {
			left, right = sibling, sum[:]
		}
		if len(sibling) != sha256.Size {
			return false
		}
		copy(node[1:], left)
		copy(node[1+sha256.Size:], right)
		sum = sha256.Sum256(node[:])
	}
	return bytes.Equal(sum[:], root)
}
