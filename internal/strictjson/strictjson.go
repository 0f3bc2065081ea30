// Package strictjson reads JSON that is signed or trusted. Two readers must
// never understand one text differently, so it refuses what other readers
// forgive: duplicate and unknown members, names in another case, invalid UTF-8
// and lone surrogates, anything after the value, and texts too long or too deep.
//
// Nothing about its input is trusted: memory stays a small multiple of the
// input whatever it says.
package strictjson

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Limits on every text.
const (
	MaxSize  = 64 << 20 // bytes of input
	MaxDepth = 64       // objects and arrays inside each other

	// maxNames bounds the members of all objects that are open at one place.
	maxNames = 200_000
	// maxName bounds one name, maxCopied all that had to be unescaped of maxNames.
	maxName   = 64 << 10
	maxCopied = 16 << 20
	// maxElements bounds an array whose field sets no max=N of its own.
	maxElements = 1 << 16
)

// Error says where in a text something is wrong.
type Error struct {
	Path string // "verificationMaterial.tlogEntries[0].logIdx"; "" is the whole text
	Msg  string
}

func (e *Error) Error() string {
	if e.Path == "" {
		return e.Msg
	}
	return e.Path + ": " + e.Msg
}

// Unmarshal reads data, one JSON value, into *v.
//
// Structs name every member that may occur with a json tag; others are refused.
// It may add ",string": an integer that may also be written as a string. A tag
// strict:"…" may say required, max=N (elements of a slice) and enum (see
// [UnmarshalProto]), separated by commas.
// Supported are string, bool, the integers, float64, []byte (padded standard
// base64 without line breaks), time.Time (RFC 3339), slices, maps with string
// keys, pointers, structs and json.RawMessage, which then shares data's memory.
// null is read only into a pointer (as nil) and a json.RawMessage.
func Unmarshal(data []byte, v any) error { return unmarshal(data, v, false) }

// UnmarshalProto is Unmarshal with the freedoms that the JSON mapping of
// protocol buffers gives a writer, and no more: names may be written in
// snake_case, null stands for an absent member, base64 may use the URL
// alphabet, break lines and leave out padding (but not carry stray bits),
// integers may be strings, and a field tagged strict:"enum" may hold a number, which
// is read as its decimal text.
func UnmarshalProto(data []byte, v any) error { return unmarshal(data, v, true) }

func unmarshal(data []byte, v any, proto bool) error {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return fmt.Errorf("strictjson: cannot read into a %T", v)
	}
	d := decoder{data: data, proto: proto, maxDepth: MaxDepth}
	return d.document(func() error { return d.value(target.Elem(), options{}, 0) })
}

// Valid checks the strictness of one JSON value of any schema: no duplicate
// members, valid UTF-8, at most maxDepth levels, nothing after it.
func Valid(data []byte, maxDepth int) error {
	d := decoder{data: data, maxDepth: maxDepth}
	return d.document(func() error { return d.skip(0) })
}

type decoder struct {
	data     []byte
	pos      int
	proto    bool
	maxDepth int
	names    [][]byte // names of the members of all open objects without a schema
	copied   int      // bytes of those of them that had to be unescaped
}

func (d *decoder) document(read func() error) error {
	if len(d.data) > MaxSize {
		return &Error{Msg: fmt.Sprintf("%d bytes of JSON; at most %d are read", len(d.data), MaxSize)}
	}
	if err := read(); err != nil {
		return err
	}
	if d.space(); d.pos != len(d.data) {
		return d.errorf("something follows the JSON value")
	}
	return nil
}

func (d *decoder) errorf(format string, args ...any) error {
	return &Error{Msg: fmt.Sprintf(format, args...) + " (byte " + strconv.Itoa(d.pos) + ")"}
}

// within puts a step in front of the path of err.
func within(step string, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	if len(step) > 80 {
		step = step[:80] + "…"
	}
	switch {
	case e.Path == "":
		e.Path = step
	case len(e.Path) > 400: // deep texts need no complete path
	case strings.HasPrefix(e.Path, "["):
		e.Path = step + e.Path
	default:
		e.Path = step + "." + e.Path
	}
	return e
}

// value reads the next value into v.
func (d *decoder) value(v reflect.Value, o options, depth int) error {
	d.space()
	if d.null() && !isRaw(v) {
		return d.readNull(v)
	}
	switch {
	case isRaw(v):
		start := d.pos
		if err := d.skip(depth); err != nil {
			return err
		}
		v.SetBytes(d.data[start:d.pos:d.pos])
		return nil
	case v.Type() == reflect.TypeFor[time.Time]():
		return d.timestamp(v)
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return d.value(v.Elem(), o, depth)
	case reflect.Struct:
		return d.structure(v, depth)
	case reflect.Map:
		return d.mapping(v, depth)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return d.bytes(v)
		}
		return d.slice(v, o, depth)
	}
	return d.scalar(v, o)
}

func isRaw(v reflect.Value) bool {
	t := v.Type()
	return t.Kind() == reflect.Slice && t.PkgPath() == "encoding/json" && t.Name() == "RawMessage"
}

func (d *decoder) readNull(v reflect.Value) error {
	if v.Kind() != reflect.Pointer && !d.proto {
		return d.errorf("null where a value is wanted")
	}
	d.pos += len("null")
	return nil
}

func (d *decoder) scalar(v reflect.Value, o options) error {
	switch v.Kind() {
	case reflect.String:
		if o.enum && d.proto && d.peek() != '"' {
			n, err := d.integer()
			if err != nil {
				return err
			}
			v.SetString(string(n))
			return nil
		}
		s, err := d.str()
		if err != nil {
			return err
		}
		v.SetString(string(s))
	case reflect.Bool:
		switch {
		case d.literal("true"):
			v.SetBool(true)
		case d.literal("false"):
			v.SetBool(false)
		default:
			return d.errorf("want true or false")
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		text, err := d.intText(o)
		if err != nil {
			return err
		}
		if string(text) == "-0" {
			return d.errorf("minus zero is no integer")
		}
		n, err := strconv.ParseInt(digits(text), 10, v.Type().Bits())
		if err != nil {
			return d.errorf("the number does not fit into %d bits", v.Type().Bits())
		}
		v.SetInt(n)
	case reflect.Uint32, reflect.Uint64:
		text, err := d.intText(o)
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(digits(text), 10, v.Type().Bits())
		if err != nil {
			return d.errorf("the number does not fit into %d bits without a sign", v.Type().Bits())
		}
		v.SetUint(n)
	case reflect.Float64:
		text, err := d.number()
		if err != nil {
			return err
		}
		f, err := strconv.ParseFloat(digits(text), 64)
		if err != nil {
			return d.errorf("the number does not fit into 64 bits")
		}
		v.SetFloat(f)
	default:
		return fmt.Errorf("strictjson: cannot read into a %s", v.Type())
	}
	return nil
}

// digits is a number's text for strconv, which copies what it cannot read: of a
// text longer than any number needs it is nothing, which is no number.
func digits(text []byte) string {
	if len(text) > 1024 {
		return ""
	}
	return string(text)
}

// intText is the text of an integer, which with ",string" or in protobuf's
// mapping may be quoted.
func (d *decoder) intText(o options) ([]byte, error) {
	if (o.str || d.proto) && d.peek() == '"' {
		s, err := d.bounded(1024)
		if err != nil {
			return nil, err
		}
		inner := decoder{data: s}
		if text, err := inner.integer(); err == nil && inner.pos == len(s) {
			return text, nil
		}
		return nil, d.errorf("the string is not an integer")
	}
	return d.integer()
}

func (d *decoder) timestamp(v reflect.Value) error {
	s, err := d.str()
	if err != nil {
		return err
	}
	// time.Parse forgives a comma and one-digit hours; RFC 3339 does not.
	t, err := time.Parse(time.RFC3339Nano, string(s))
	if err != nil || len(s) < len("2006-01-02T15:04:05Z") || s[10] != 'T' || s[13] != ':' || strings.Contains(string(s), ",") {
		return d.errorf("want a time as RFC 3339 has them, such as 2026-01-31T12:00:00Z")
	}
	v.Set(reflect.ValueOf(t))
	return nil
}

func (d *decoder) bytes(v reflect.Value) error {
	start := d.pos
	if d.peek() == '"' {
		if err := d.skipString(); err != nil {
			return err
		}
	}
	size := d.pos - start
	d.pos = start
	b, err := d.base64(make([]byte, 0, size/4*3+3))
	if err != nil {
		return err
	}
	v.SetBytes(b)
	return nil
}

func (d *decoder) slice(v reflect.Value, o options, depth int) error {
	limit := o.max
	if limit == 0 {
		limit = maxElements
	}
	elem := v.Type().Elem()
	n := 0
	err := d.array(depth, func() error {
		if n == limit {
			return d.errorf("more than %d elements", limit)
		}
		if d.null() && elem.Kind() != reflect.Pointer {
			return within(index(n), d.errorf("null where a value is wanted"))
		}
		if n == v.Cap() {
			v.Grow(1)
		}
		v.SetLen(n + 1)
		v.Index(n).SetZero()
		if err := d.value(v.Index(n), options{str: o.str, enum: o.enum}, depth+1); err != nil {
			return within(index(n), err)
		}
		n++
		return nil
	})
	if err == nil && n == 0 {
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	}
	return err
}

func index(n int) string { return "[" + strconv.Itoa(n) + "]" }

func (d *decoder) mapping(v reflect.Value, depth int) error {
	t := v.Type()
	if t.Key().Kind() != reflect.String {
		return fmt.Errorf("strictjson: cannot read into a %s", t)
	}
	m := reflect.MakeMap(t)
	err := d.object(depth, func(name []byte) error {
		key := reflect.ValueOf(string(name)).Convert(t.Key())
		if m.MapIndex(key).IsValid() {
			return within(string(name), d.errorf("duplicate member"))
		}
		if m.Len() == maxNames {
			return d.errorf("more than %d members", maxNames)
		}
		elem := reflect.New(t.Elem()).Elem()
		if err := d.value(elem, options{}, depth+1); err != nil {
			return within(string(name), err)
		}
		m.SetMapIndex(key, elem)
		return nil
	})
	if err == nil {
		v.Set(m)
	}
	return err
}

func (d *decoder) structure(v reflect.Value, depth int) error {
	s, err := schemaOf(v.Type())
	if err != nil {
		return err
	}
	var seen uint64
	err = d.object(depth, func(name []byte) error {
		i, ok := s.byName[string(name)]
		if !ok && d.proto {
			i, ok = s.bySnake[string(name)]
		}
		if !ok {
			return within(string(name), d.errorf("unknown member"))
		}
		f := &s.fields[i]
		if seen&(1<<i) != 0 {
			return within(f.name, d.errorf("duplicate member"))
		}
		seen |= 1 << i
		if err := d.value(v.Field(f.index), f.options, depth+1); err != nil {
			return within(f.name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if missing := s.required &^ seen; missing != 0 {
		for i := range s.fields {
			if missing&(1<<i) != 0 {
				return within(s.fields[i].name, d.errorf("missing member"))
			}
		}
	}
	return nil
}
