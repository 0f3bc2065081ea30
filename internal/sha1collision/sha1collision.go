// Package sha1collision tells whether a message was made so that another one has the same
// SHA-1: counter-cryptanalysis after Marc Stevens (CRYPTO 2013), which finds every attack
// that uses one of the known disturbance vectors, those of SHAttered and SHA-mbles among
// them, from one of the two messages alone. A chance hit has a probability of about 2^-150.
package sha1collision

import (
	"encoding/binary"
	"math/bits"
)

// vector is a disturbance vector: its 80 message differences, and a step at which the two
// messages of an attack that uses it have the same state.
type vector struct {
	differences [80]uint32
	step        int
}

// kinds are the disturbance vectors I(k, b) and II(k, b) (Manuel 2011) that attacks can
// use: those for which Stevens and Shumow (2017, table 1) found any cheap enough.
var kinds = [...]struct {
	kind, k, b int
}{
	{1, 43, 0}, {1, 44, 0}, {1, 45, 0}, {1, 46, 0}, {1, 46, 2}, {1, 47, 0}, {1, 47, 2}, {1, 48, 0}, {1, 48, 2},
	{1, 49, 0}, {1, 49, 2}, {1, 50, 0}, {1, 50, 2}, {1, 51, 0}, {1, 51, 2}, {1, 52, 0},
	{2, 45, 0}, {2, 46, 0}, {2, 46, 2}, {2, 47, 0}, {2, 48, 0}, {2, 49, 0}, {2, 49, 2}, {2, 50, 0}, {2, 50, 2},
	{2, 51, 0}, {2, 51, 2}, {2, 52, 0}, {2, 53, 0}, {2, 54, 0}, {2, 55, 0}, {2, 56, 0},
}

// newVector computes the differences of I(k, b) or II(k, b).
func newVector(kind, k, b int) vector {
	const before = 5 // words before the first that its local collisions reach back to
	var d [before + 80]uint32
	at := func(i int) *uint32 { return &d[before+i] }
	*at(k + 15) = 1 << b
	if kind == 2 {
		*at(k + 1), *at(k + 3) = 1<<((b+31)%32), 1<<((b+31)%32)
	}
	// SHA-1's message expansion, which is linear, in both directions.
	for i := k + 16; i < 80; i++ {
		*at(i) = bits.RotateLeft32(*at(i - 3)^*at(i - 8)^*at(i - 14)^*at(i - 16), 1)
	}
	for i := k - 1; i >= -before; i-- {
		*at(i) = bits.RotateLeft32(*at(i + 16), -1) ^ *at(i + 13) ^ *at(i + 8) ^ *at(i + 2)
	}
	v := vector{step: 58}
	if kind == 2 && k >= 50 {
		v.step = 65
	}
	for i := range v.differences {
		v.differences[i] = *at(i) ^ bits.RotateLeft32(*at(i - 1), 5) ^ *at(i - 2) ^
			bits.RotateLeft32(*at(i - 3)^*at(i - 4)^*at(i - 5), 30)
	}
	return v
}

func vectors() []vector {
	all := make([]vector, len(kinds))
	for i, k := range kinds {
		all[i] = newVector(k.kind, k.k, k.b)
	}
	return all
}

// Attacked reports whether the message is one of a colliding pair. It takes some thirty
// times as long as hashing. The parts are one message.
func Attacked(parts ...[]byte) bool {
	s := scanner{state: state{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}, vectors: vectors()}
	var block []byte
	var length uint64
	for _, p := range parts {
		length += uint64(len(p))
		block = append(block, p...)
		for len(block) >= 64 {
			if s.block(block[:64]) {
				return true
			}
			block = block[64:]
		}
	}
	// The padding is part of the last blocks.
	block = append(append([]byte{}, block...), 0x80)
	for len(block)%64 != 56 {
		block = append(block, 0)
	}
	block = binary.BigEndian.AppendUint64(block, length*8)
	for ; len(block) > 0; block = block[64:] {
		if s.block(block[:64]) {
			return true
		}
	}
	return false
}

type state [5]uint32

func (s state) plus(t state) state {
	for i := range s {
		s[i] += t[i]
	}
	return s
}

type scanner struct {
	state   state
	vectors []vector
}

// block hashes one block. It reports whether a message that differs from it by one of the
// vectors, and had the same state at the vector's step, comes to the same result.
func (s *scanner) block(b []byte) bool {
	var w [80]uint32
	for i := range 16 {
		w[i] = binary.BigEndian.Uint32(b[4*i:])
	}
	for i := 16; i < 80; i++ {
		w[i] = bits.RotateLeft32(w[i-3]^w[i-8]^w[i-14]^w[i-16], 1)
	}
	at58 := forward(s.state, &w, 0, 58)
	at65 := forward(at58, &w, 58, 65)
	out := s.state.plus(forward(at65, &w, 65, 80))
	for i := range s.vectors {
		v := &s.vectors[i]
		middle := at58
		if v.step == 65 {
			middle = at65
		}
		changed := w
		for j, d := range v.differences {
			changed[j] ^= d
		}
		other := backward(middle, &changed, v.step)
		if other.plus(forward(middle, &changed, v.step, 80)) == out {
			return true
		}
	}
	s.state = out
	return false
}

// forward is the state before step to, of the one before step from (FIPS 180-4, 6.1.2).
// It and backward are written out: they are most of the time that a verdict takes.
func forward(s state, w *[80]uint32, from, to int) state {
	a, b, c, d, e := s[0], s[1], s[2], s[3], s[4]
	for i := from; i < to; i++ {
		var f uint32
		switch {
		case i < 20:
			f = (d ^ b&(c^d)) + 0x5a827999
		case i < 40:
			f = (b ^ c ^ d) + 0x6ed9eba1
		case i < 60:
			f = (b&c | d&(b|c)) + 0x8f1bbcdc
		default:
			f = (b ^ c ^ d) + 0xca62c1d6
		}
		a, b, c, d, e = bits.RotateLeft32(a, 5)+f+e+w[i], a, bits.RotateLeft32(b, 30), c, d
	}
	return state{a, b, c, d, e}
}

// backward is the state before the first step, of the one before step from.
func backward(s state, w *[80]uint32, from int) state {
	a, b, c, d, e := s[0], s[1], s[2], s[3], s[4]
	for i := from - 1; i >= 0; i-- {
		sum := a
		a, b, c, d = b, bits.RotateLeft32(c, 2), d, e
		var f uint32
		switch {
		case i < 20:
			f = (d ^ b&(c^d)) + 0x5a827999
		case i < 40:
			f = (b ^ c ^ d) + 0x6ed9eba1
		case i < 60:
			f = (b&c | d&(b|c)) + 0x8f1bbcdc
		default:
			f = (b ^ c ^ d) + 0xca62c1d6
		}
		e = sum - bits.RotateLeft32(a, 5) - f - w[i]
	}
	return state{a, b, c, d, e}
}
