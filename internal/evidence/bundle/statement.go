package bundle

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// wireStatement and wireDescriptor are in_toto_attestation.v1.Statement and
// ResourceDescriptor (in-toto/attestation, spec/v1).
type (
	wireStatement struct {
		Type          string           `json:"_type" strict:"required"`
		Subject       []wireDescriptor `json:"subject" strict:"required"`
		PredicateType string           `json:"predicateType" strict:"required"`
		Predicate     json.RawMessage  `json:"predicate"`
	}
	wireDescriptor struct {
		Name             string                     `json:"name"`
		URI              string                     `json:"uri"`
		Digest           map[string]string          `json:"digest"`
		Content          []byte                     `json:"content"`
		DownloadLocation string                     `json:"downloadLocation"`
		MediaType        string                     `json:"mediaType"`
		Annotations      map[string]json.RawMessage `json:"annotations"`
	}
)

// ParseStatement reads an in-toto statement of version 1 or 0.1, of which every
// member must be known and occur once; that holds inside the predicate too. The
// predicate, which must be an object when it is there, shares payload's memory.
//
// Of a subject's annotations only texts are kept: others cannot be demanded.
func ParseStatement(payload []byte) (*evidence.Statement, error) {
	var w wireStatement
	if err := strictjson.Unmarshal(payload, &w); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	switch {
	case w.Type != evidence.StatementV1 && w.Type != evidence.StatementV01:
		return nil, fmt.Errorf("statement: _type: %q is not an in-toto statement of version 1 or 0.1", clip(w.Type))
	case w.PredicateType == "":
		return nil, errors.New("statement: predicateType: empty")
	case len(w.Subject) == 0:
		return nil, errors.New("statement: subject: empty; a statement must be about something")
	case string(w.Predicate) == "null":
		w.Predicate = nil
	case len(w.Predicate) > 0 && w.Predicate[0] != '{':
		return nil, errors.New("statement: predicate: not an object")
	}
	st := &evidence.Statement{Type: w.Type, PredicateType: w.PredicateType, Predicate: w.Predicate,
		Subject: make([]evidence.StatementSubject, len(w.Subject))}
	for i, s := range w.Subject {
		subject, err := s.subject()
		if err != nil {
			return nil, fmt.Errorf("statement: subject[%d].%w", i, err)
		}
		st.Subject[i] = subject
	}
	return st, nil
}

func (w *wireDescriptor) subject() (evidence.StatementSubject, error) {
	s := evidence.StatementSubject{Name: w.Name, Digest: w.Digest}
	if len(w.Digest) == 0 {
		return s, errors.New("digest: missing")
	}
	for alg, value := range w.Digest {
		if alg == "" || value == "" {
			return s, errors.New("digest: an algorithm or value is empty")
		}
	}
	for key, raw := range w.Annotations {
		var text string
		if raw[0] != '"' {
			continue
		}
		if err := strictjson.Unmarshal(raw, &text); err != nil {
			return s, fmt.Errorf("annotations: %w", err)
		}
		if s.Annotations == nil {
			s.Annotations = make(map[string]string, len(w.Annotations))
		}
		s.Annotations[key] = text
	}
	return s, nil
}
