package notary

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Major types of CBOR (RFC 8949, 3.1).
const (
	cborUint = iota
	cborNegative
	cborBytes
	cborText
	cborArray
	cborMap
	cborTag
	cborSimple
)

const (
	cborNull  = 22 // simple value
	maxDepth  = 8
	maxPairs  = 64    // of one map
	maxValues = 4_096 // of all headers of one bucket that are only looked through
)

var errCBOR = errors.New("it is not well-formed CBOR")

// cborReader reads what deterministic encoders write (RFC 8949, 4.2.1, except
// that the order of a map's keys is free): definite lengths, each number in its
// shortest form. What it returns shares the input's memory.
type cborReader struct {
	data   []byte
	pos    int
	values int // looked through so far
}

// head reads the initial byte of an item and its argument.
func (r *cborReader) head() (major byte, arg uint64, err error) {
	if r.pos >= len(r.data) {
		return 0, 0, errCBOR
	}
	b := r.data[r.pos]
	r.pos++
	major, info := b>>5, b&31
	if info < 24 {
		return major, uint64(info), nil
	}
	if info > 27 {
		return 0, 0, errors.New("it has CBOR of indefinite length")
	}
	size := 1 << (info - 24)
	if len(r.data)-r.pos < size {
		return 0, 0, errCBOR
	}
	for _, b := range r.data[r.pos : r.pos+size] {
		arg = arg<<8 | uint64(b)
	}
	r.pos += size
	if size == 1 && arg < 24 || size > 1 && arg>>(4*size) == 0 {
		return 0, 0, errors.New("it has a CBOR number that is not in its shortest form")
	}
	return major, arg, nil
}

// want reads a head of one major type.
func (r *cborReader) want(major byte, what string) (uint64, error) {
	m, arg, err := r.head()
	if err == nil && m != major {
		err = fmt.Errorf("%s is of another CBOR type than it must be", what)
	}
	return arg, err
}

// str reads the content of a byte or text string of n bytes.
func (r *cborReader) str(n uint64) ([]byte, error) {
	if n > uint64(len(r.data)-r.pos) {
		return nil, errCBOR
	}
	start := r.pos
	r.pos += int(n)
	return r.data[start:r.pos:r.pos], nil
}

func (r *cborReader) bytes(what string) ([]byte, error) {
	n, err := r.want(cborBytes, what)
	if err != nil {
		return nil, err
	}
	return r.str(n)
}

func (r *cborReader) text(what string) (string, error) {
	n, err := r.want(cborText, what)
	if err != nil {
		return "", err
	}
	b, err := r.str(n)
	if err == nil && !utf8.Valid(b) {
		err = errors.New("it has text that is not UTF-8")
	}
	return string(b), err
}

// label is the name of a header: a text or a number.
type label struct {
	text   string
	number int64
	isText bool
}

func (l label) String() string {
	if l.isText {
		return l.text
	}
	return fmt.Sprint(l.number)
}

func (r *cborReader) label() (label, error) {
	major, arg, err := r.head()
	switch {
	case err != nil:
		return label{}, err
	case major == cborText:
		b, err := r.str(arg)
		if err == nil && (!utf8.Valid(b) || len(b) > 256) {
			err = errors.New("the name of a header is too long or not UTF-8")
		}
		return label{text: string(b), isText: true}, err
	case arg>>63 != 0 || major > cborNegative:
		return label{}, errors.New("the name of a header is neither a text nor a number of 63 bits")
	case major == cborNegative:
		return label{number: -1 - int64(arg)}, nil
	}
	return label{number: int64(arg)}, nil
}

// header reads a map of headers and calls value at each value.
func (r *cborReader) header(value func(label) error) error {
	n, err := r.want(cborMap, "a bucket of headers")
	if err != nil {
		return err
	}
	if n > maxPairs {
		return fmt.Errorf("more than %d headers", maxPairs)
	}
	seen := make([]label, 0, n)
	for range n {
		l, err := r.label()
		if err != nil {
			return err
		}
		for _, other := range seen {
			if l == other {
				return fmt.Errorf("the header %s is there twice", clip(l.String()))
			}
		}
		seen = append(seen, l)
		if err := value(l); err != nil {
			return err
		}
	}
	return nil
}

// skip looks through any value that a header may have: no tags, no simple values
// but null and the truth values, keys of maps texts or numbers and each once.
func (r *cborReader) skip(depth int) error {
	if r.values++; r.values > maxValues || depth > maxDepth {
		return errors.New("a header's value is too large or too deep")
	}
	major, arg, err := r.head()
	if err != nil {
		return err
	}
	switch major {
	case cborUint, cborNegative:
		if arg>>63 != 0 {
			return errors.New("a header has a number of more than 63 bits")
		}
	case cborBytes:
		_, err = r.str(arg)
	case cborText:
		var b []byte
		if b, err = r.str(arg); err == nil && !utf8.Valid(b) {
			err = errors.New("it has text that is not UTF-8")
		}
	case cborArray:
		for ; arg > 0 && err == nil; arg-- {
			err = r.skip(depth + 1)
		}
	case cborMap:
		err = r.skipMap(arg, depth)
	case cborTag:
		err = errors.New("a header's value carries a tag that is not understood")
	case cborSimple:
		err = r.skipSimple(arg)
	}
	return err
}

func (r *cborReader) skipMap(n uint64, depth int) error {
	if n > maxPairs {
		return fmt.Errorf("a header's value is a map of more than %d entries", maxPairs)
	}
	var keys [][]byte
	for range n {
		start := r.pos
		if _, err := r.label(); err != nil {
			return err
		}
		key := r.data[start:r.pos]
		for _, other := range keys {
			if bytes.Equal(key, other) {
				return errors.New("a header's value is a map with one key twice")
			}
		}
		keys = append(keys, key)
		if err := r.skip(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// skipSimple takes false, true and null. Floats are refused with the rest: they
// have several spellings.
func (r *cborReader) skipSimple(arg uint64) error {
	if arg == 20 || arg == 21 || arg == cborNull {
		return nil
	}
	return errors.New("a header's value is a float or a simple value that is not used")
}
