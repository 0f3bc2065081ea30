package strictjson

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// This file is the grammar of RFC 8259.

func (d *decoder) space() {
	for d.pos < len(d.data) {
		switch d.data[d.pos] {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return
		}
	}
}

// peek is the next byte, 0 at the end.
func (d *decoder) peek() byte {
	if d.pos < len(d.data) {
		return d.data[d.pos]
	}
	return 0
}

func (d *decoder) null() bool { return bytes.HasPrefix(d.data[d.pos:], []byte("null")) }

func (d *decoder) literal(word string) bool {
	if !bytes.HasPrefix(d.data[d.pos:], []byte(word)) {
		return false
	}
	d.pos += len(word)
	return true
}

// object reads { … } and calls member with each name, at the member's value.
func (d *decoder) object(depth int, member func(name []byte) error) error {
	if d.peek() != '{' {
		return d.errorf("want an object")
	}
	return d.list(depth, '}', func() error {
		name, err := d.name()
		if err != nil {
			return err
		}
		if d.space(); d.peek() != ':' {
			return d.errorf("want a colon after a member's name")
		}
		d.pos++
		d.space()
		return member(name)
	})
}

// array reads [ … ] and calls element at each value.
func (d *decoder) array(depth int, element func() error) error {
	if d.peek() != '[' {
		return d.errorf("want an array")
	}
	return d.list(depth, ']', element)
}

func (d *decoder) list(depth int, end byte, item func() error) error {
	if depth >= d.maxDepth {
		return d.errorf("more than %d levels", d.maxDepth)
	}
	d.pos++
	if d.space(); d.peek() == end {
		d.pos++
		return nil
	}
	for {
		d.space()
		if err := item(); err != nil {
			return err
		}
		d.space()
		switch d.peek() {
		case end:
			d.pos++
			return nil
		case ',':
			d.pos++
		default:
			return d.errorf("want a comma or %q", end)
		}
	}
}

// skip reads any value, checking all that Unmarshal would.
func (d *decoder) skip(depth int) error {
	d.space()
	switch c := d.peek(); {
	case c == '{':
		return d.skipObject(depth)
	case c == '[':
		n := 0
		return d.array(depth, func() error {
			if err := d.skip(depth + 1); err != nil {
				return within(index(n), err)
			}
			n++
			return nil
		})
	case c == '"':
		return d.skipString()
	case c == '-' || c >= '0' && c <= '9':
		_, err := d.number()
		return err
	case d.literal("true"), d.literal("false"), d.literal("null"):
		return nil
	}
	return d.errorf("want a JSON value")
}

func (d *decoder) skipObject(depth int) error {
	base, copied := len(d.names), d.copied
	var seen nameSet
	err := d.object(depth, func(name []byte) error {
		if len(d.names) == maxNames {
			return d.errorf("more than %d members", maxNames)
		}
		d.names = append(d.names, name)
		if seen.duplicate(d.names[base:]) {
			return within(string(name), d.errorf("duplicate member"))
		}
		if err := d.skip(depth + 1); err != nil {
			return within(string(name), err)
		}
		return nil
	})
	clear(d.names[base:])
	d.names, d.copied = d.names[:base], copied
	return err
}

// nameSet finds duplicates among the names of one object: by comparing while
// they are few, by hash (keyed, so that nobody can prepare collisions) later.
// Names themselves are not copied.
type nameSet struct {
	table []int32 // open addressing: index+1 of a name, 0 is free; its size is a power of two
}

const fewNames = 32

var seed = maphash.MakeSeed()

// duplicate reports whether the last of names was there before.
func (s *nameSet) duplicate(names [][]byte) bool {
	last := len(names) - 1
	if last < fewNames {
		for _, n := range names[:last] {
			if bytes.Equal(n, names[last]) {
				return true
			}
		}
		return false
	}
	if 2*len(names) > len(s.table) {
		s.table = make([]int32, 1<<bits.Len(uint(4*len(names))))
		for i := range names[:last] {
			s.add(names, i)
		}
	}
	return !s.add(names, last)
}

// add reports false when a name before names[i] is the same.
func (s *nameSet) add(names [][]byte, i int) bool {
	mask := uint64(len(s.table) - 1)
	for at := maphash.Bytes(seed, names[i]); ; at++ {
		switch e := s.table[at&mask]; {
		case e == 0:
			s.table[at&mask] = int32(i + 1)
			return true
		case bytes.Equal(names[e-1], names[i]):
			return false
		}
	}
}

// number is the text of a number.
func (d *decoder) number() ([]byte, error) {
	start := d.pos
	if _, err := d.integer(); err != nil {
		return nil, err
	}
	if d.peek() == '.' {
		d.pos++
		if d.digits() == 0 {
			return nil, d.errorf("want digits after the point")
		}
	}
	if c := d.peek(); c == 'e' || c == 'E' {
		d.pos++
		if c := d.peek(); c == '+' || c == '-' {
			d.pos++
		}
		if d.digits() == 0 {
			return nil, d.errorf("want digits in the exponent")
		}
	}
	return d.data[start:d.pos], nil
}

// integer is the text of a number without fraction and exponent; what follows
// it is not looked at.
func (d *decoder) integer() ([]byte, error) {
	start := d.pos
	if d.peek() == '-' {
		d.pos++
	}
	first := d.pos
	switch n := d.digits(); {
	case n == 0:
		return nil, d.errorf("want a number")
	case n > 1 && d.data[first] == '0':
		return nil, d.errorf("a number with a leading zero")
	}
	return d.data[start:d.pos], nil
}

func (d *decoder) digits() int {
	start := d.pos
	for d.pos < len(d.data) && d.data[d.pos] >= '0' && d.data[d.pos] <= '9' {
		d.pos++
	}
	return d.pos - start
}

// plain reads a string up to its end or to the first byte that needs a closer
// look (an escape, a control character, or the beginning of something that is
// not ASCII), and reports whether it was the end.
func (d *decoder) plain() bool {
	for ; d.pos+8 <= len(d.data); d.pos += 8 {
		if special(binary.LittleEndian.Uint64(d.data[d.pos:])) {
			break
		}
	}
	for d.pos < len(d.data) {
		switch c := d.data[d.pos]; {
		case c == '"':
			return true
		case c < 0x20 || c == '\\' || c >= utf8.RuneSelf:
			return false
		}
		d.pos++
	}
	return false
}

// special reports whether one of eight bytes is a quote, a backslash, a control
// character or not ASCII.
func special(w uint64) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	zero := func(x uint64) uint64 { return (x - ones) & ^x } // high bit of a byte that is 0
	return (zero(w^ones*'"')|zero(w^ones*'\\')|(w-ones*0x20)|w)&highs != 0
}

func indexQuote(b []byte) int { return bytes.IndexByte(b, '"') }

// str is the next string, unescaped. Without escapes it shares data's memory.
func (d *decoder) str() ([]byte, error) {
	if d.peek() != '"' {
		return nil, d.errorf("want a string")
	}
	start := d.pos + 1
	if err := d.skipString(); err != nil {
		return nil, err
	}
	raw := d.data[start : d.pos-1 : d.pos-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw, nil
	}
	return unescape(raw), nil
}

// name is the next member's name.
func (d *decoder) name() ([]byte, error) {
	if d.peek() != '"' {
		return nil, d.errorf("want a string")
	}
	start := d.pos + 1
	if err := d.skipString(); err != nil {
		return nil, err
	}
	raw := d.data[start : d.pos-1 : d.pos-1]
	if len(raw) > maxName {
		return nil, d.errorf("a member's name of %d bytes; at most %d are read", len(raw), maxName)
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw, nil
	}
	if d.copied += len(raw); d.copied > maxCopied {
		return nil, d.errorf("more than %d bytes of escaped names", maxCopied)
	}
	return unescape(raw), nil
}

// skipString checks a string without keeping it.
func (d *decoder) skipString() error {
	d.pos++
	for !d.plain() {
		if d.pos >= len(d.data) {
			return d.errorf("the string has no end")
		}
		switch c := d.data[d.pos]; {
		case c < 0x20:
			return d.errorf("a control character in a string")
		case c == '\\':
			if _, err := d.escape(); err != nil {
				return err
			}
		default:
			r, size := utf8.DecodeRune(d.data[d.pos:])
			if r == utf8.RuneError && size == 1 {
				return d.errorf("invalid UTF-8")
			}
			d.pos += size
		}
	}
	d.pos++
	return nil
}

// unescape is the text of a string that was checked, in memory of its own.
func unescape(raw []byte) []byte {
	d := decoder{data: raw}
	out := make([]byte, 0, len(raw))
	for {
		next := bytes.IndexByte(raw[d.pos:], '\\')
		if next < 0 {
			return append(out, raw[d.pos:]...)
		}
		out = append(out, raw[d.pos:d.pos+next]...)
		d.pos += next
		r, _ := d.escape() // checked before
		out = utf8.AppendRune(out, r)
	}
}

// escape reads \x or \uXXXX, with both halves of a surrogate pair.
func (d *decoder) escape() (rune, error) {
	if d.pos+1 >= len(d.data) {
		return 0, d.errorf("the string has no end")
	}
	c := d.data[d.pos+1]
	d.pos += 2
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, ok := d.hex4()
		if !ok {
			return 0, d.errorf("want four hexadecimal digits")
		}
		if !utf16.IsSurrogate(r) {
			return r, nil
		}
		if d.literal(`\u`) {
			if low, ok := d.hex4(); ok {
				if r := utf16.DecodeRune(r, low); r != utf8.RuneError {
					return r, nil
				}
			}
		}
		return 0, d.errorf("half a surrogate pair")
	}
	return 0, d.errorf("unknown escape")
}

func (d *decoder) hex4() (rune, bool) {
	if d.pos+4 > len(d.data) {
		return 0, false
	}
	var r rune
	for _, c := range d.data[d.pos : d.pos+4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	d.pos += 4
	return r, true
}
