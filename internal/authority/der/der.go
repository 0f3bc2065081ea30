// Package der encodes the few ASN.1 elements that the CA and the timestamp authority
// make for every request (X.690, DER). It is there because it is called often: an
// element takes one piece of memory. What is encoded once can be left to others.
package der

import (
	"encoding/asn1"
	"math/big"
	"time"
)

// Tags (X.690, 8).
const (
	Integer         = 0x02
	BitString       = 0x03
	OctetString     = 0x04
	UTCTime         = 0x17
	GeneralizedTime = 0x18
	Sequence        = 0x30
	Set             = 0x31
)

// Context is the tag [n], n up to 30, of an element in other elements' place;
// constructed if it has elements in it.
func Context(n int, constructed bool) byte {
	if constructed {
		return 0xa0 | byte(n)
	}
	return 0x80 | byte(n)
}

// Element is one element, with the parts one after the other as its content.
func Element(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := make([]byte, 0, n+6)
	out = append(out, tag)
	switch {
	case n < 1<<7:
		out = append(out, byte(n))
	case n < 1<<8:
		out = append(out, 0x81, byte(n))
	case n < 1<<16:
		out = append(out, 0x82, byte(n>>8), byte(n))
	case n < 1<<24:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	default:
		out = append(out, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// Natural is the INTEGER n, which must not be negative, in fewest bytes.
func Natural(n *big.Int) []byte {
	raw := n.Bytes()
	if len(raw) == 0 || raw[0]&0x80 != 0 {
		raw = append([]byte{0}, raw...)
	}
	return Element(Integer, raw)
}

// Time is UTCTime through 2049 and GeneralizedTime then, in whole seconds (RFC 5280,
// 4.1.2.5; RFC 5652, 11.3). The year must be from 1950 to 9999.
func Time(t time.Time) []byte {
	if t = t.UTC(); t.Year() < 2050 {
		return Element(UTCTime, t.AppendFormat(nil, "060102150405Z"))
	}
	return Generalized(t)
}

// Generalized is GeneralizedTime in whole seconds; the year must be at most 9999.
func Generalized(t time.Time) []byte {
	return Element(GeneralizedTime, t.UTC().AppendFormat(nil, "20060102150405Z"))
}

// Algorithm is an AlgorithmIdentifier without parameters (RFC 5754, 2 and 3.2).
func Algorithm(oid asn1.ObjectIdentifier) ([]byte, error) {
	id, err := asn1.Marshal(oid)
	return Element(Sequence, id), err
}
