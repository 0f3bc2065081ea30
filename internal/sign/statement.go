package sign

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"strconv"
	"unicode/utf8"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// MaxPredicate is the largest predicate that is attested: with everything around
// it, its bundle stays below the 64 MiB that readers of bundles accept.
const MaxPredicate = 44 << 20

// maxDepth is how deep a predicate's JSON may nest, as readers allow.
const maxDepth = 64

// Statement is an in-toto statement about one subject, as the parts of its JSON:
// the predicate's bytes are part of it as they are, never copied.
type Statement struct {
	PredicateType string
	Subject       evidence.Digest
	Annotations   map[string]string // signed ones, of an image signature
	parts         [][]byte
	predicate     []byte // JSON, within parts
}

// ImageStatement is cosign v3's image signature: an empty predicate of type
// sign/v1, annotations in the subject, and no subject name: the same bytes sign
// the image wherever it is copied to.
func ImageStatement(subject evidence.Digest, annotations map[string]string) (*Statement, error) {
	st, err := newStatement(evidence.PredicateSign, "", subject, annotations, []byte("{}"))
	if err != nil {
		return nil, err
	}
	st.Annotations = maps.Clone(annotations)
	return st, nil
}

// AttestStatement is an in-toto statement v1 that carries predicate (one JSON
// value, its bytes unchanged) about a subject; name is informative and may be "".
func AttestStatement(name string, subject evidence.Digest, predicateType string, predicate []byte) (*Statement, error) {
	predicate = bytes.TrimSpace(predicate)
	if len(predicate) > MaxPredicate {
		return nil, fmt.Errorf("predicate: %d bytes; at most %d MiB can be attested", len(predicate), MaxPredicate>>20)
	}
	if err := strictjson.Valid(predicate, maxDepth-1); err != nil {
		return nil, fmt.Errorf("predicate: %w", err)
	}
	if predicate[0] != '{' {
		return nil, errors.New("predicate: not a JSON object")
	}
	return newStatement(predicateType, name, subject, nil, predicate)
}

func newStatement(predicateType, name string, subject evidence.Digest, annotations map[string]string, predicate []byte) (*Statement, error) {
	if _, err := evidence.ParseDigest(string(subject)); err != nil {
		return nil, err
	}
	for _, s := range []string{predicateType, name} {
		if !utf8.ValidString(s) {
			return nil, errors.New("statement: names must be UTF-8")
		}
	}
	for k, v := range annotations {
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return nil, fmt.Errorf("annotation %q: the name must not be empty, both must be UTF-8", k)
		}
	}
	head := struct {
		Type          string                      `json:"_type"`
		Subject       []evidence.StatementSubject `json:"subject"`
		PredicateType string                      `json:"predicateType"`
	}{evidence.StatementV1, []evidence.StatementSubject{{
		Name: name, Digest: map[string]string{subject.Algorithm(): subject.Hex()}, Annotations: annotations,
	}}, predicateType}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(head); err != nil {
		return nil, err
	}
	open := bytes.TrimSuffix(b.Bytes(), []byte("}\n"))
	return &Statement{
		PredicateType: predicateType, Subject: subject,
		parts: [][]byte{append(open, `,"predicate":`...), predicate, []byte("}")}, predicate: predicate,
	}, nil
}

// ReadyStatement is an in-toto statement that somebody else wrote, version 1 or
// 0.1, to be signed byte for byte as it is. Its Subject is the SHA-256 digest of
// the first thing that it is about; a statement without one is refused, because
// nobody could look for it.
func ReadyStatement(payload []byte) (*Statement, error) {
	if len(payload) > MaxPredicate {
		return nil, fmt.Errorf("statement: more than %d MiB", MaxPredicate>>20)
	}
	st, err := bundle.ParseStatement(payload)
	if err != nil {
		return nil, err
	}
	subject, err := evidence.ParseDigest("sha256:" + st.Subject[0].Digest["sha256"])
	if err != nil {
		return nil, fmt.Errorf("statement: subject[0].digest: %w", err)
	}
	return &Statement{PredicateType: st.PredicateType, Subject: subject, parts: [][]byte{payload}, predicate: st.Predicate}, nil
}

// Size is the length of the statement's JSON in bytes.
func (st *Statement) Size() int64 {
	n := int64(0)
	for _, p := range st.parts {
		n += int64(len(p))
	}
	return n
}

// Reader reads the statement's JSON.
func (st *Statement) Reader() io.Reader {
	readers := make([]io.Reader, len(st.parts))
	for i, p := range st.parts {
		readers[i] = bytes.NewReader(p)
	}
	return io.MultiReader(readers...)
}

// writePAE writes what is signed, DSSE's pre-authentication encoding (see
// [evidence.PAE]), without ever holding it.
func (st *Statement) writePAE(h io.Writer) {
	head := "DSSEv1 " + strconv.Itoa(len(evidence.InTotoPayloadType)) + " " + evidence.InTotoPayloadType + " " + strconv.FormatInt(st.Size(), 10) + " "
	_, _ = io.WriteString(h, head) // neither a hash nor a buffer fails
	for _, p := range st.parts {
		_, _ = h.Write(p)
	}
}

func (st *Statement) paeDigest(h hash.Hash) []byte {
	st.writePAE(h)
	return h.Sum(nil)
}

// base64Reader encodes what it reads in standard base64, a piece at a time.
type base64Reader struct {
	src     io.Reader
	raw     [48 << 10]byte // a multiple of 3
	encoded [64 << 10]byte
	left    []byte
	done    bool
}

func (r *base64Reader) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		if r.done {
			return 0, io.EOF
		}
		n, err := io.ReadFull(r.src, r.raw[:])
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			r.done = true
		case err != nil:
			return 0, err
		}
		base64.StdEncoding.Encode(r.encoded[:], r.raw[:n])
		r.left = r.encoded[:base64.StdEncoding.EncodedLen(n)]
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// SignedDigest is the SHA-256 of what is signed: all that a log learns of the
// statement when a P-256 key signs.
func (st *Statement) SignedDigest() []byte { return st.paeDigest(sha256.New()) }

// Predicate is the predicate's JSON as it was given. It is not to be modified.
func (st *Statement) Predicate() []byte { return st.predicate }
