package revocation

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"hash/maphash"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var errCRL = errors.New("not a CRL in DER")

// entries are the revokedCertificates of a CRL (RFC 5280, 5.1.2.6), in DER, each of
// which was read once and can be read.
type entries []byte

// splitCRL reads a CRL in two parts: everything but its entries, with the standard
// library, which would make structures of every entry; and the entries, of which
// a list of 32 MiB holds more than a million.
func splitCRL(der []byte) (*x509.RevocationList, entries, error) {
	in := cryptobyte.String(der)
	var outer, signed, inner cryptobyte.String
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !in.Empty() || !outer.ReadASN1Element(&signed, cbasn1.SEQUENCE) {
		return nil, nil, errCRL
	}
	tbs := signed
	if !tbs.ReadASN1(&inner, cbasn1.SEQUENCE) {
		return nil, nil, errCRL
	}
	rest, all := inner, cryptobyte.String(nil)
	if !rest.SkipOptionalASN1(cbasn1.INTEGER) || !rest.SkipASN1(cbasn1.SEQUENCE) || !rest.SkipASN1(cbasn1.SEQUENCE) ||
		!skipTime(&rest) || isTime(rest) && !skipTime(&rest) {
		return nil, nil, errCRL
	}
	head := inner[:len(inner)-len(rest)]
	if rest.PeekASN1Tag(cbasn1.SEQUENCE) && !rest.ReadASN1(&all, cbasn1.SEQUENCE) {
		return nil, nil, errCRL
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(head); b.AddBytes(rest) })
		b.AddBytes(outer) // algorithm and signature
	})
	small, err := b.Bytes()
	if err != nil {
		return nil, nil, errCRL
	}
	list, err := x509.ParseRevocationList(small)
	if err != nil || len(list.Raw) != len(small) { // the reader forgives what follows
		return nil, nil, errCRL
	}
	list.RawTBSRevocationList = signed // what the signature is over
	for e := all; !e.Empty(); {
		var one cryptobyte.String
		if !e.ReadASN1(&one, cbasn1.SEQUENCE) {
			return nil, nil, errCRL
		}
		if _, err := parseEntry(one); err != nil {
			return nil, nil, err
		}
	}
	return list, entries(all), nil
}

func isTime(s cryptobyte.String) bool {
	return s.PeekASN1Tag(cbasn1.UTCTime) || s.PeekASN1Tag(cbasn1.GeneralizedTime)
}

func skipTime(s *cryptobyte.String) bool {
	var t cryptobyte.String
	var tag cbasn1.Tag
	return isTime(*s) && s.ReadAnyASN1(&t, &tag)
}

var oidReason = asn1.ObjectIdentifier{2, 5, 29, 21}

// parseEntry reads the content of one entry: its time, reason and extensions.
func parseEntry(in cryptobyte.String) (*x509.RevocationListEntry, error) {
	e := &x509.RevocationListEntry{}
	var serial, extensions cryptobyte.String
	var present bool
	if !in.ReadASN1(&serial, cbasn1.INTEGER) || !minimal(serial) {
		return nil, errCRL
	}
	read := in.ReadASN1GeneralizedTime
	if in.PeekASN1Tag(cbasn1.UTCTime) {
		read = in.ReadASN1UTCTime
	}
	if !read(&e.RevocationTime) || !in.ReadOptionalASN1(&extensions, &present, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, errCRL
	}
	for !extensions.Empty() {
		var one cryptobyte.String
		var x pkix.Extension
		if !extensions.ReadASN1(&one, cbasn1.SEQUENCE) || !one.ReadASN1ObjectIdentifier(&x.Id) ||
			one.PeekASN1Tag(cbasn1.BOOLEAN) && !one.ReadASN1Boolean(&x.Critical) ||
			!one.ReadASN1((*cryptobyte.String)(&x.Value), cbasn1.OCTET_STRING) || !one.Empty() {
			return nil, errCRL
		}
		if value := cryptobyte.String(x.Value); x.Id.Equal(oidReason) && !value.ReadASN1Enum(&e.ReasonCode) {
			return nil, errCRL
		}
		e.Extensions = append(e.Extensions, x)
	}
	return e, nil
}

// minimal reports whether an INTEGER's content has no byte that says nothing.
func minimal(n []byte) bool {
	switch {
	case len(n) == 0:
		return false
	case len(n) == 1:
		return true
	}
	return !(n[0] == 0 && n[1] < 0x80 || n[0] == 0xff && n[1] >= 0x80)
}

// serialContent is a serial number as the content of an INTEGER.
func serialContent(n *big.Int) []byte {
	b := n.Bytes()
	if len(b) == 0 || b[0] >= 0x80 {
		return append([]byte{0}, b...)
	}
	return b
}

// one is the content of the entry that begins at an offset, and the offset of the
// next one.
func (a entries) one(offset int) (content cryptobyte.String, next int) {
	in := cryptobyte.String(a[offset:])
	in.ReadASN1(&content, cbasn1.SEQUENCE)
	return content, len(a) - len(in)
}

// serialOf is the serial number of an entry by its content.
func serialOf(content cryptobyte.String) (serial cryptobyte.String) {
	content.ReadASN1(&serial, cbasn1.INTEGER)
	return serial
}

// serials finds entries by serial number: a hash table of offsets, each plus one,
// with free places and linear probing. It takes eight bytes or so an entry.
type serials struct {
	table []uint32
	seed  maphash.Seed
}

// index makes the table. Of several entries with one number it keeps one that
// holds for ever rather than one that lifts another.
func (a entries) index() *serials {
	n := 0
	for in := cryptobyte.String(a); !in.Empty() && in.SkipASN1(cbasn1.SEQUENCE); {
		n++
	}
	size := 4
	for size < 3*n/2 {
		size *= 2
	}
	s := &serials{make([]uint32, size), maphash.MakeSeed()}
	for offset := 0; offset < len(a); {
		content, next := a.one(offset)
		place, taken := s.place(a, serialOf(content))
		if !taken || lasts(content) {
			s.table[place] = uint32(offset) + 1
		}
		offset = next
	}
	return s
}

// lasts reports whether an entry does not lift another.
func lasts(content cryptobyte.String) bool {
	e, err := parseEntry(content)
	return err != nil || e.ReasonCode != removeFromCRL
}

// place is where a serial number is, or would be.
func (s *serials) place(a entries, serial []byte) (at int, taken bool) {
	mask := uint64(len(s.table) - 1)
	for i := maphash.Bytes(s.seed, serial) & mask; ; i = (i + 1) & mask {
		if s.table[i] == 0 {
			return int(i), false
		}
		if content, _ := a.one(int(s.table[i]) - 1); bytes.Equal(serialOf(content), serial) {
			return int(i), true
		}
	}
}

// find is the entry with a serial number, nil without one.
func (s *serials) find(a entries, serial []byte) *x509.RevocationListEntry {
	at, taken := s.place(a, serial)
	if !taken {
		return nil
	}
	content, _ := a.one(int(s.table[at]) - 1)
	e, err := parseEntry(content)
	if err != nil { // it held when the list was read
		return &x509.RevocationListEntry{}
	}
	return e
}
