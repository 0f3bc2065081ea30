package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/jcs"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// later are the members that a record has and its proposal does not.
func later() []string { return []string{"createdAt", "effectiveAt", "evidence", "proposalDigest"} }

// proposed is the canonical JSON of a predicate without what comes later.
func proposed(predicate []byte) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(predicate, &members); err != nil {
		return nil, err
	}
	for _, name := range later() {
		delete(members, name)
	}
	return jcs.Marshal(members)
}

// Proposal is what people approve: the predicate without times, evidence and proposalDigest, in
// canonical JSON (RFC 8785). Its digest is the proposal's.
func (p *Predicate) Proposal() ([]byte, error) {
	data, err := p.json()
	if err != nil {
		return nil, err
	}
	return proposed(data)
}

// ParseProposal reads what [Predicate.Proposal] made, spaces between its tokens aside. What it
// returns keeps the rules of a record and has neither times nor evidence yet, no digest and no payload.
// What is wrong comes back as reasons, as of [Parse].
func ParseProposal(text []byte) (*Record, []policy.Reason) {
	broken := func(err error) (*Record, []policy.Reason) {
		return nil, []policy.Reason{{Code: CodeBroken, Message: "the proposal of a policy cannot be read: " + err.Error(), Hint: "ask for it again where it is from"}}
	}
	if len(text) > MaxSize {
		return broken(fmt.Errorf("it has %d bytes; at most %d are read", len(text), MaxSize))
	}
	if err := strictjson.Valid(text, 32); err != nil {
		return broken(err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil || members == nil {
		return broken(errors.New("it is no JSON object"))
	}
	for _, name := range later() {
		if members[name] != nil {
			return broken(fmt.Errorf("it has %s, which only its record has", name))
		}
	}
	canonical, err := jcs.Marshal(members)
	if err != nil {
		return broken(err)
	}
	// A record says more than its proposal. The rules are those of records, so it is read as one.
	digest := evidence.SHA256(canonical)
	for name, value := range map[string]any{"createdAt": "2000-01-01T00:00:00Z", "effectiveAt": "2000-01-01T00:00:00Z", "evidence": []string{string(digest)}, "proposalDigest": digest} {
		if members[name], err = json.Marshal(value); err != nil {
			return broken(err)
		}
	}
	predicate, err := jcs.Marshal(members)
	if err != nil {
		return broken(err)
	}
	var w wire
	if err := strictjson.Unmarshal(predicate, &w); err != nil {
		return broken(err)
	}
	r := &Record{}
	if err := r.read(&w); err != nil {
		return broken(err)
	}
	payload, reasons := r.Statement()
	if payload == nil {
		return nil, reasons
	}
	if r, reasons = Parse(payload); r == nil {
		return nil, reasons
	}
	again, err := r.Proposal()
	if err != nil || string(again) != string(canonical) {
		return broken(errors.New("it has members that are there and empty"))
	}
	r.CreatedAt, r.EffectiveAt, r.Evidence, r.Digest, r.Payload = time.Time{}, time.Time{}, nil, "", nil
	return r, nil
}
