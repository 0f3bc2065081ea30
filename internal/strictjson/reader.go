package strictjson

import (
	"bytes"
	"encoding/base64"
	"strconv"
)

// Reader reads one JSON value piece by piece, for schemas that are written as
// code because they are read often: it forgives exactly what [Unmarshal] and
// [UnmarshalProto] forgive, without reflection, and decodes all base64 into one
// piece of memory. It is for one goroutine.
type Reader struct {
	d     decoder
	depth int
	arena []byte // decoded base64; its capacity is all that data can hold
	few   [8][]byte
}

// NewReader reads data as [Unmarshal] does or, with proto, as [UnmarshalProto].
func NewReader(data []byte, proto bool) Reader {
	return Reader{d: decoder{data: data, proto: proto, maxDepth: MaxDepth}}
}

// Fields are the names of an object's members.
type Fields struct {
	names, snakes []string
}

// NewFields are at most 64 names.
func NewFields(names ...string) *Fields {
	if len(names) > 64 {
		panic("strictjson: more than 64 fields")
	}
	f := &Fields{names: names}
	for _, n := range names {
		f.snakes = append(f.snakes, snake(n))
	}
	return f
}

// NewExactFields are names that have no second spelling in snake_case: those of
// messages that are declared in lowerCamelCase.
func NewExactFields(names ...string) *Fields {
	f := NewFields(names...)
	f.snakes = f.names
	return f
}

func (f *Fields) index(name []byte, proto bool) int {
	for i, n := range f.names {
		if string(name) == n || proto && string(name) == f.snakes[i] {
			return i
		}
	}
	return -1
}

// Document reads the whole text with read and makes sure that nothing follows.
func (r *Reader) Document(read func() error) error {
	return r.d.document(func() error {
		r.d.space()
		return read()
	})
}

// Object reads an object and calls member at the value of each of its members
// with the member's index in f; seen has a bit for each that occurred. Unknown
// and duplicate members are refused. In protobuf's mapping null is an absent
// member, for which member is not called.
func (r *Reader) Object(f *Fields, member func(i int) error) (seen uint64, err error) {
	err = r.members(func(name []byte) error {
		i := f.index(name, r.d.proto)
		if i < 0 {
			return within(string(clip(name)), r.d.errorf("unknown member"))
		}
		if seen&(1<<i) != 0 {
			return within(f.names[i], r.d.errorf("duplicate member"))
		}
		seen |= 1 << i
		if r.d.proto && r.d.null() {
			r.d.pos += len("null")
			return nil
		}
		if err := member(i); err != nil {
			return within(f.names[i], err)
		}
		return nil
	})
	return seen, err
}

func clip(name []byte) []byte { return name[:min(len(name), 100)] }

// Want refuses an object that lacks one of the first n members of f.
func (r *Reader) Want(f *Fields, n int, seen uint64) error {
	for i := range n {
		if seen&(1<<i) == 0 {
			return within(f.names[i], r.d.errorf("missing member"))
		}
	}
	return nil
}

// members reads an object's members; what the names mean is for member to say.
func (r *Reader) members(member func(name []byte) error) error {
	r.depth++
	err := r.d.object(r.depth-1, member)
	r.depth--
	return err
}

// Map reads an object without a schema, of at most limit members. Duplicate
// members are refused; name is only valid during the call.
func (r *Reader) Map(limit int, member func(name []byte) error) error {
	base, copied := len(r.d.names), r.d.copied
	if r.d.names == nil {
		r.d.names = r.few[:0]
	}
	var set nameSet
	err := r.members(func(name []byte) error {
		if len(r.d.names)-base == limit {
			return r.d.errorf("more than %d members", limit)
		}
		r.d.names = append(r.d.names, name)
		if set.duplicate(r.d.names[base:]) {
			return within(string(clip(name)), r.d.errorf("duplicate member"))
		}
		if err := member(name); err != nil {
			return within(string(clip(name)), err)
		}
		return nil
	})
	clear(r.d.names[base:])
	r.d.names, r.d.copied = r.d.names[:base], copied
	return err
}

// Array reads an array of at most limit elements and calls element at each.
func (r *Reader) Array(limit int, element func(i int) error) error {
	n := 0
	r.depth++
	err := r.d.array(r.depth-1, func() error {
		if n == limit {
			return r.d.errorf("more than %d elements", limit)
		}
		if r.d.null() {
			return within(index(n), r.d.errorf("null where a value is wanted"))
		}
		if err := element(n); err != nil {
			return within(index(n), err)
		}
		n++
		return nil
	})
	r.depth--
	return err
}

// Text reads a string of at most limit bytes. Texts that are often met can be
// given as known: then they take no new memory.
func (r *Reader) Text(limit int, known ...string) (string, error) {
	b, err := r.d.bounded(limit)
	for _, k := range known {
		if string(b) == k {
			return k, err
		}
	}
	return string(b), err
}

// AtString reports whether the next value is a string.
func (r *Reader) AtString() bool { return r.d.peek() == '"' }

// Int64 reads an integer, which in protobuf's mapping may be a string.
func (r *Reader) Int64() (int64, error) {
	text, err := r.d.intText(options{})
	if err != nil {
		return 0, err
	}
	if string(text) == "-0" {
		return 0, r.d.errorf("minus zero is no integer")
	}
	if n, err := strconv.ParseInt(digits(text), 10, 64); err == nil {
		return n, nil
	}
	return 0, r.d.errorf("the number does not fit into 64 bits")
}

// Enum reads the name of an enumeration's value, which in protobuf's mapping may
// be its number.
func (r *Reader) Enum() (string, error) {
	if r.d.proto && r.d.peek() != '"' {
		n, err := r.d.integer()
		if len(n) > 100 {
			return "", r.d.errorf("the number of no value")
		}
		return string(n), err
	}
	return r.Text(100)
}

// Raw is the text of the next value of any schema, checked as [Valid] does. It
// shares data's memory.
func (r *Reader) Raw() ([]byte, error) {
	start := r.d.pos
	if err := r.d.skip(r.depth); err != nil {
		return nil, err
	}
	return r.d.data[start:r.d.pos:r.d.pos], nil
}

// Bytes reads base64: padded and without line breaks or, in protobuf's mapping,
// as freely as [UnmarshalProto] says. It is empty and not nil for "".
func (r *Reader) Bytes() ([]byte, error) {
	if r.arena == nil {
		r.arena = make([]byte, 0, len(r.d.data)/4*3+3)
	}
	start := len(r.arena)
	out, err := r.d.base64(r.arena)
	if err != nil {
		return nil, err
	}
	r.arena = out
	return out[start:len(out):len(out)], nil
}

// bounded reads a string that may have at most limit bytes; longer ones are
// refused before they are copied.
func (d *decoder) bounded(limit int) ([]byte, error) {
	if d.peek() != '"' {
		return nil, d.errorf("want a string")
	}
	start := d.pos + 1
	if err := d.skipString(); err != nil {
		return nil, err
	}
	s := d.data[start : d.pos-1 : d.pos-1]
	if len(s) > 6*limit { // the longest escape of one byte has six
		return nil, d.errorf("a string of %d bytes; at most %d are read", len(s), limit)
	}
	if bytes.IndexByte(s, '\\') >= 0 {
		s = unescape(s)
	}
	if len(s) > limit {
		return nil, d.errorf("a string of %d bytes; at most %d are read", len(s), limit)
	}
	return s, nil
}

// strict refuses stray bits in the last digit, or one value would have several
// spellings by accident.
var strict = base64.StdEncoding.Strict()

// base64 decodes the next string and appends it to dst, whose capacity must be
// enough for three quarters of the text.
func (d *decoder) base64(dst []byte) ([]byte, error) {
	if d.peek() != '"' {
		return nil, d.errorf("want a string")
	}
	if end := indexQuote(d.data[d.pos+1:]); end >= 0 && end%4 == 0 {
		s := d.data[d.pos+1 : d.pos+1+end]
		n, err := strict.Decode(dst[len(dst):cap(dst)], s)
		// Decode passes over line breaks, which then are missing in n.
		if err == nil && n == end/4*3-padding(s) {
			d.pos += end + 2
			return dst[:len(dst)+n], nil
		}
	}
	return d.base64Slowly(dst)
}

func padding(s []byte) int {
	n := 0
	for n < 2 && n < len(s) && s[len(s)-1-n] == '=' {
		n++
	}
	return n
}

// base64Slowly takes escapes and, in protobuf's mapping, line breaks, the URL
// alphabet and missing padding.
func (d *decoder) base64Slowly(dst []byte) ([]byte, error) {
	d.pos++
	var bits uint32
	digits, pads, breaks, standard, url := 0, 0, 0, false, false
	for {
		if d.pos >= len(d.data) {
			return nil, d.errorf("the string has no end")
		}
		c := rune(d.data[d.pos])
		switch {
		case c == '"':
			d.pos++
			rest := digits % 4
			if standard && url || !d.paddedRight(digits, pads, breaks) {
				return nil, d.errorf("not base64")
			}
			return d.lastBytes(dst, bits, rest)
		case c == '\\':
			var err error
			if c, err = d.escape(); err != nil {
				return nil, err
			}
		default:
			d.pos++
			if c < 0x20 {
				return nil, d.errorf("a control character in a string")
			}
		}
		switch {
		case (c == '\r' || c == '\n') && d.proto:
			breaks++
			continue
		case c == '=':
			pads++
			continue
		}
		v := digit(c)
		if v < 0 || pads > 0 || (c == '-' || c == '_') && !d.proto {
			return nil, d.errorf("not base64")
		}
		standard, url = standard || c == '+' || c == '/', url || c == '-' || c == '_'
		bits = bits<<6 | uint32(v)
		if digits++; digits%4 == 0 {
			dst = append(dst, byte(bits>>16), byte(bits>>8), byte(bits))
			bits = 0
		}
	}
}

// paddedRight reports whether the padding is complete or, in protobuf's mapping,
// not there at all. Which of the two protojson wants depends on the length of the
// text, line breaks included; what it refuses, we do.
func (d *decoder) paddedRight(digits, pads, breaks int) bool {
	if rest := digits % 4; !d.proto || (digits+pads+breaks)%4 == 0 {
		return rest != 1 && pads == (4-rest)%4
	}
	return pads == 0 && digits%4 != 1
}

// lastBytes appends what the last digits say when they are not four; the bits
// that they have too many must be zero.
func (d *decoder) lastBytes(dst []byte, bits uint32, digits int) ([]byte, error) {
	switch {
	case digits == 2 && bits&0xf == 0:
		return append(dst, byte(bits>>4)), nil
	case digits == 3 && bits&0x3 == 0:
		return append(dst, byte(bits>>10), byte(bits>>2)), nil
	case digits == 0:
		return dst, nil
	}
	return nil, d.errorf("not base64")
}

// digit is the value of a digit of base64 in either alphabet, -1 for others.
func digit(c rune) int {
	switch {
	case c >= 'A' && c <= 'Z':
		return int(c - 'A')
	case c >= 'a' && c <= 'z':
		return int(c-'a') + 26
	case c >= '0' && c <= '9':
		return int(c-'0') + 52
	case c == '+' || c == '-':
		return 62
	case c == '/' || c == '_':
		return 63
	}
	return -1
}
