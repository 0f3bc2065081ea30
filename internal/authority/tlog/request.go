package tlog

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// parseRequest reads a dev.sigstore.rekor.v2.CreateEntryRequest and verifies
// the signature in it. It reads JSON as protojson does (camelCase and
// snake_case names, enums by name or number, both base64 alphabets, null is
// absent) and refuses what protojson refuses (unknown and repeated members, a
// oneof set twice) and two things more: line breaks and loose bits in base64.
func parseRequest(data []byte) (*entry, error) {
	root, err := readObject(data)
	if err != nil {
		return nil, err
	}
	if root["dsseRequestV002"] != nil || root["dsse_request_v002"] != nil {
		return nil, errors.New("invalid type, must be hashedrekord")
	}
	if root, err = root.only("", "hashedRekordRequestV002"); err != nil {
		return nil, err
	}
	hr, err := root.object("", "hashedRekordRequestV002", "digest", "signature")
	if err != nil {
		return nil, err
	}
	sig, err := hr.object("hashedRekordRequestV002", "signature", "content", "verifier")
	if err != nil {
		return nil, err
	}
	ver, err := sig.object("signature", "verifier", "publicKey", "x509Certificate", "keyDetails")
	if err != nil {
		return nil, err
	}
	e := new(entry)
	if e.digest, err = hr.bytes("digest"); err != nil {
		return nil, err
	}
	if e.signature, err = sig.bytes("content"); err != nil {
		return nil, err
	}
	if e.algorithm, err = ver.keyDetails(); err != nil {
		return nil, err
	}
	if err := e.readVerifier(ver); err != nil {
		return nil, err
	}
	return e, e.check()
}

func (e *entry) readVerifier(ver object) error {
	name := "publicKey"
	switch {
	case ver["publicKey"] != nil && ver["x509Certificate"] != nil:
		return errors.New("verifier: publicKey and x509Certificate are both set")
	case ver["publicKey"] == nil && ver["x509Certificate"] == nil:
		return errors.New("verifier: neither publicKey nor x509Certificate is set")
	case ver["x509Certificate"] != nil:
		name, e.certificate = "x509Certificate", true
	}
	o, err := ver.object("verifier", name, "rawBytes")
	if err != nil {
		return err
	}
	e.verifier, err = o.bytes("rawBytes")
	return err
}

// object is a JSON object: values are nil, bool, string, json.Number, object or
// []any.
type object map[string]any

// only gives every member its protobuf JSON name and refuses others.
func (o object) only(where string, names ...string) (object, error) {
	out := make(object, len(o))
	for member, v := range o {
		name := ""
		for _, n := range names {
			if member == n || member == snake(n) {
				name = n
			}
		}
		if name == "" {
			return nil, fmt.Errorf("%s: unknown member %q", orRoot(where), member)
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("%s: %s is there twice", orRoot(where), name)
		}
		out[name] = v
	}
	return out, nil
}

func (o object) object(where, name string, names ...string) (object, error) {
	switch v := o[name].(type) {
	case nil:
		return nil, fmt.Errorf("%s: %s is missing", orRoot(where), name)
	case object:
		return v.only(name, names...)
	}
	return nil, fmt.Errorf("%s: %s is not an object", orRoot(where), name)
}

func orRoot(where string) string {
	if where == "" {
		return "the request"
	}
	return where
}

// snake is the name of the same field in a .proto file.
func snake(name string) string {
	var b strings.Builder
	for _, r := range name {
		if 'A' <= r && r <= 'Z' {
			b.WriteByte('_')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (o object) bytes(name string) ([]byte, error) {
	s, ok := o[name].(string)
	if !ok && o[name] != nil {
		return nil, fmt.Errorf("%s is not a string", name)
	}
	if s == "" {
		return nil, fmt.Errorf("%s is missing", name)
	}
	enc := base64.StdEncoding
	if strings.ContainsAny(s, "-_") {
		enc = base64.URLEncoding
	}
	if len(s)%4 != 0 {
		enc = enc.WithPadding(base64.NoPadding)
	}
	b, err := enc.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("%s is not base64", name)
	}
	return b, nil
}

func (o object) keyDetails() (*algorithm, error) {
	v := o["keyDetails"]
	number := int64(-1)
	if n, ok := v.(json.Number); ok {
		var err error
		if number, err = n.Int64(); err != nil {
			return nil, errors.New("keyDetails is not a PublicKeyDetails")
		}
	}
	for i := range algorithms {
		if a := &algorithms[i]; v == a.name || number == a.number {
			return a, nil
		}
	}
	switch v.(type) {
	case string, json.Number:
		return nil, fmt.Errorf("keyDetails %.64v is not a kind of key that this log takes", v)
	case nil:
		return nil, errors.New("verifier: keyDetails is missing")
	}
	return nil, errors.New("keyDetails is not a PublicKeyDetails")
}

// maxDepth is twice what a request needs.
const maxDepth = 8

// readObject reads one JSON object (RFC 8259) of valid UTF-8 without repeated
// member names and with nothing behind it.
func readObject(data []byte) (object, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("the request is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := readValue(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something behind the request")
	}
	o, ok := v.(object)
	if !ok {
		return nil, errors.New("the request is not a JSON object")
	}
	return o, nil
}

func readValue(dec *json.Decoder, depth int) (any, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, errors.New("the request is not JSON")
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	if depth == maxDepth {
		return nil, errors.New("the request is nested too deeply")
	}
	if delim == '[' {
		return readArray(dec, depth)
	}
	o := object{}
	for dec.More() {
		tok, err := dec.Token()
		name, ok := tok.(string)
		if err != nil || !ok {
			return nil, errors.New("the request is not JSON")
		}
		if _, twice := o[name]; twice {
			return nil, fmt.Errorf("member %q is there twice", name)
		}
		if o[name], err = readValue(dec, depth+1); err != nil {
			return nil, err
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("the request is not JSON")
	}
	return o, nil
}

func readArray(dec *json.Decoder, depth int) (any, error) {
	out := []any{}
	for dec.More() {
		v, err := readValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("the request is not JSON")
	}
	return out, nil
}
