package sourcefacts

import (
	"encoding/binary"
	"errors"
)

var errSnappy = errors.New("a block that is not Snappy's")

// unsnappy decodes one block of the Snappy format (google/snappy,
// format_description.txt) of at most limit bytes: GitHub stores attestations so.
func unsnappy(src []byte, limit uint64) ([]byte, error) {
	size, n := binary.Uvarint(src)
	if n <= 0 || size > limit {
		return nil, errSnappy
	}
	src = src[n:]
	out := make([]byte, 0, size)
	for len(src) > 0 {
		tag := src[0]
		if tag&3 == 0 { // a literal
			length, rest, ok := literal(src)
			if !ok || uint64(len(out)+length) > size {
				return nil, errSnappy
			}
			out, src = append(out, rest[:length]...), rest[length:]
			continue
		}
		length, offset, rest, ok := reference(src)
		if !ok || offset == 0 || offset > len(out) || uint64(len(out)+length) > size {
			return nil, errSnappy
		}
		for range length { // may overlap what it makes
			out = append(out, out[len(out)-offset])
		}
		src = rest
	}
	if uint64(len(out)) != size {
		return nil, errSnappy
	}
	return out, nil
}

func literal(src []byte) (length int, rest []byte, ok bool) {
	length = int(src[0] >> 2)
	src = src[1:]
	if extra := length - 59; extra > 0 { // the length stands in 1 to 4 bytes
		if len(src) < extra {
			return 0, nil, false
		}
		length = 0
		for i := range extra {
			length |= int(src[i]) << (8 * i)
		}
		src = src[extra:]
	}
	length++
	return length, src, length > 0 && length <= len(src)
}

func reference(src []byte) (length, offset int, rest []byte, ok bool) {
	switch tag := src[0]; {
	case tag&3 == 1 && len(src) >= 2:
		return int(tag>>2&7) + 4, int(tag>>5)<<8 | int(src[1]), src[2:], true
	case tag&3 == 2 && len(src) >= 3:
		return int(tag>>2) + 1, int(binary.LittleEndian.Uint16(src[1:])), src[3:], true
	case tag&3 == 3 && len(src) >= 5:
		return int(tag>>2) + 1, int(binary.LittleEndian.Uint32(src[1:])), src[5:], true
	}
	return 0, 0, nil, false
}
