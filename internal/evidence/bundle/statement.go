package bundle

import (
	"errors"
	"fmt"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// The objects are in_toto_attestation.v1.Statement and ResourceDescriptor
// (in-toto/attestation, spec/v1). The first three of a statement must be there.
var (
	statementFields  = strictjson.NewFields("_type", "subject", "predicateType", "predicate")
	descriptorFields = strictjson.NewFields("name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations")
)

// Limits of a statement. The first two are sigstore-go's, too.
const (
	maxSubjects    = 1024
	maxDigests     = 32      // of one subject
	maxAnnotations = 1 << 14 // of all subjects
)

// ParseStatement reads an in-toto statement of version 1 or 0.1, of which every
// member must be known and occur once; that holds inside the predicate too. The
// predicate, which must be an object when it is there, shares payload's memory.
//
// Of a subject's annotations only texts are kept: others cannot be demanded.
func ParseStatement(payload []byte) (*evidence.Statement, error) {
	st := &evidence.Statement{}
	p := statement{Statement: st, r: strictjson.NewReader(payload, false)}
	if err := p.r.Document(p.read); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	switch {
	case st.Type != evidence.StatementV1 && st.Type != evidence.StatementV01:
		return nil, fmt.Errorf("statement: _type: %q is not an in-toto statement of version 1 or 0.1", clip(st.Type))
	case st.PredicateType == "":
		return nil, errors.New("statement: predicateType: empty")
	case len(st.Subject) == 0:
		return nil, errors.New("statement: subject: empty; a statement must be about something")
	case string(st.Predicate) == "null":
		st.Predicate = nil
	case len(st.Predicate) > 0 && st.Predicate[0] != '{':
		return nil, errors.New("statement: predicate: not an object")
	}
	return st, nil
}

type statement struct {
	*evidence.Statement
	r           strictjson.Reader
	annotations int
}

func (p *statement) read() error {
	seen, err := p.r.Object(statementFields, func(i int) (err error) {
		switch i {
		case 0:
			p.Type, err = p.r.Text(maxText, evidence.StatementV1, evidence.StatementV01)
		case 1:
			err = p.r.Array(maxSubjects, func(int) error {
				p.Subject = append(p.Subject, evidence.StatementSubject{})
				return p.subject(&p.Subject[len(p.Subject)-1])
			})
		case 2:
			p.PredicateType, err = p.r.Text(maxText, evidence.PredicateSign)
		case 3:
			p.Predicate, err = p.r.Raw()
		}
		return err
	})
	if err != nil {
		return err
	}
	return p.r.Want(statementFields, 3, seen)
}

func (p *statement) subject(s *evidence.StatementSubject) error {
	_, err := p.r.Object(descriptorFields, func(i int) (err error) {
		switch i {
		case 0:
			s.Name, err = p.r.Text(maxText)
		case 2:
			err = p.digests(s)
		case 3:
			_, err = p.r.Bytes()
		case 6:
			err = p.annotate(s)
		default:
			_, err = p.r.Text(maxText)
		}
		return err
	})
	if err == nil && len(s.Digest) == 0 {
		return &strictjson.Error{Path: "digest", Msg: "missing"}
	}
	return err
}

func (p *statement) digests(s *evidence.StatementSubject) error {
	s.Digest = map[string]string{}
	return p.r.Map(maxDigests, func(name []byte) error {
		algorithm := "sha256"
		if string(name) != algorithm {
			algorithm = string(name)
		}
		value, err := p.r.Text(maxText)
		if err == nil && (algorithm == "" || value == "") {
			return &strictjson.Error{Msg: "an algorithm or value is empty"}
		}
		s.Digest[algorithm] = value
		return err
	})
}

func (p *statement) annotate(s *evidence.StatementSubject) error {
	return p.r.Map(maxAnnotations, func(name []byte) error {
		if p.annotations++; p.annotations > maxAnnotations {
			return &strictjson.Error{Msg: fmt.Sprintf("more than %d annotations in all", maxAnnotations)}
		}
		if !p.r.AtString() {
			_, err := p.r.Raw()
			return err
		}
		key := string(name)
		value, err := p.r.Text(maxText)
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[key] = value
		return err
	})
}
