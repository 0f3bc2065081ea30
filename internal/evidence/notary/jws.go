package notary

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// jwsEnvelope is the flattened JWS JSON serialization (RFC 7515, 7.2.2).
type jwsEnvelope struct {
	Payload   string `json:"payload" strict:"required"`
	Protected string `json:"protected" strict:"required"`
	Header    struct {
		X5C       [][]byte `json:"x5c" strict:"required,max=16"` // standard base64 (RFC 7515, 4.1.6)
		Agent     string   `json:"io.cncf.notary.signingAgent"`
		Timestamp []byte   `json:"io.cncf.notary.timestampSignature"`
	} `json:"header" strict:"required"`
	Signature string `json:"signature" strict:"required"`
}

func parseJWS(data []byte) (*evidence.Claim, error) {
	var w jwsEnvelope
	if err := strictjson.Unmarshal(data, &w); err != nil {
		return nil, err
	}
	if len(w.Protected) > base64.RawURLEncoding.EncodedLen(maxProtected) || len(w.Payload) > base64.RawURLEncoding.EncodedLen(MaxPayload) {
		return nil, fmt.Errorf("more than %d bytes of protected headers or %d of payload", maxProtected, MaxPayload)
	}
	headers, err := base64URL("protected", w.Protected)
	if err != nil {
		return nil, err
	}
	var p protected
	if err := p.readJWS(headers); err != nil {
		return nil, fmt.Errorf("protected: %w", err)
	}
	e := &evidence.NotaryEnvelope{SigningAgent: w.Header.Agent}
	if err := p.check(e); err != nil {
		return nil, err
	}
	if e.Payload, err = base64URL("payload", w.Payload); err != nil {
		return nil, err
	}
	if e.Signature, err = base64URL("signature", w.Signature); err != nil {
		return nil, err
	}
	c, err := claim(evidence.FormatNotaryJWS, MediaTypeJWS, e, w.Header.X5C, w.Header.Timestamp)
	if err != nil {
		return nil, err
	}
	e.Signed = slices.Concat([]byte(w.Protected), []byte{'.'}, []byte(w.Payload)) // RFC 7515, 5.1
	return c, nil
}

// base64URL decodes base64url without padding, line breaks and stray bits.
func base64URL(what, s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("%s: not base64url", what)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%s: not base64url", what)
	}
	return b, nil
}

// readJWS reads the protected headers. A header that the specification does not
// define is kept by name; one that differs from a defined one by case alone is
// refused, because others take it for that one.
func (p *protected) readJWS(data []byte) error {
	var members map[string]json.RawMessage
	if err := strictjson.Unmarshal(data, &members); err != nil {
		return err
	}
	if len(members) > maxPairs {
		return fmt.Errorf("more than %d headers", maxPairs)
	}
	if err := onlyAsWritten(members, "alg", "cty", "crit", headerScheme, headerSigningTime, headerAuthenticTime, headerExpiry); err != nil {
		return err
	}
	for name, raw := range members {
		if err := p.member(name, raw); err != nil {
			return fmt.Errorf("%s: %w", clip(name), err)
		}
	}
	slices.Sort(p.extended)
	for _, name := range p.critical {
		switch name {
		case headerScheme, headerAuthenticTime, headerExpiry:
			if _, ok := members[name]; ok {
				continue
			}
		default:
			if slices.Contains(p.extended, name) {
				continue
			}
		}
		return fmt.Errorf("crit: %s is not there, or not to be marked as critical", clip(name))
	}
	return nil
}

func (p *protected) member(name string, raw json.RawMessage) error {
	moment := func(to *time.Time, has *bool) error {
		*has = true
		return strictjson.Unmarshal(raw, to)
	}
	switch name {
	case "alg":
		return strictjson.Unmarshal(raw, &p.algorithm)
	case "cty":
		return strictjson.Unmarshal(raw, &p.contentType)
	case "crit":
		return strictjson.Unmarshal(raw, &p.critical)
	case headerScheme:
		return strictjson.Unmarshal(raw, &p.scheme)
	case headerSigningTime:
		return moment(&p.signingTime, &p.hasSigning)
	case headerAuthenticTime:
		return moment(&p.authentic, &p.hasAuthen)
	case headerExpiry:
		return moment(&p.expiry, &p.hasExpiry)
	case "b64": // RFC 7797: the payload would not be encoded
		return errors.New("is not known here")
	}
	p.extended = append(p.extended, name)
	return nil
}

// onlyAsWritten refuses members whose names equal a known one but for case.
func onlyAsWritten(members map[string]json.RawMessage, known ...string) error {
	for name := range members {
		for _, k := range known {
			if name != k && bytes.EqualFold([]byte(name), []byte(k)) {
				return fmt.Errorf("the member %q is not written %q", clip(name), k)
			}
		}
	}
	return nil
}
