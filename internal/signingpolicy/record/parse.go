package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/evidence/bundle"
	"github.com/hallmark-dev/hallmark/internal/jcs"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/repokey"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

type statement struct {
	Type          string          `json:"_type" strict:"required"`
	Subject       []subject       `json:"subject" strict:"required,max=1"`
	PredicateType string          `json:"predicateType" strict:"required"`
	Predicate     json.RawMessage `json:"predicate" strict:"required"`
}

type subject struct {
	Name   string  `json:"name" strict:"required"`
	Digest digests `json:"digest" strict:"required"`
}

type digests struct {
	SHA256 string `json:"sha256" strict:"required"`
}

// wire is Predicate with the members that have no type of their own in JSON.
type wire struct {
	Key            string          `json:"key" strict:"required"`
	Name           string          `json:"name" strict:"required"`
	OwnerID        string          `json:"ownerID" strict:"required"`
	Version        int64           `json:"version" strict:"required"`
	Prev           string          `json:"prev" strict:"required"`
	Root           string          `json:"root" strict:"required"`
	Action         string          `json:"action" strict:"required"`
	CreatedAt      string          `json:"createdAt" strict:"required"`
	EffectiveAt    string          `json:"effectiveAt" strict:"required"`
	Policy         *wirePolicy     `json:"policy,omitempty"`
	Authority      json.RawMessage `json:"authority" strict:"required"`
	Owner          *Owner          `json:"owner,omitempty"`
	Source         Source          `json:"source" strict:"required"`
	ProposalDigest string          `json:"proposalDigest" strict:"required"`
	Evidence       []string        `json:"evidence" strict:"required,max=64"`
}

type wirePolicy struct {
	Bundle      string `json:"bundle" strict:"required"`
	Size        int64  `json:"size" strict:"required"`
	Entrypoint  string `json:"entrypoint" strict:"required"`
	InputSchema string `json:"inputSchema" strict:"required"`
	Lib         string `json:"lib" strict:"required"`
	Mode        string `json:"mode" strict:"required"`
	Files       []File `json:"files" strict:"required,max=64"`
}

const timeLayout = "2006-01-02T15:04:05Z"

// maxNumber is the largest integer that all readers of JSON understand alike.
const maxNumber = 1 << 53

// Parse reads a record as it was signed. What is wrong with it comes back as reasons, with codes
// POLICY_CHAIN_BROKEN and those of the authority document; then the record is nil.
func Parse(payload []byte) (*Record, []policy.Reason) {
	r, err := parse(payload)
	var wrong *authorityError
	switch {
	case errors.As(err, &wrong):
		return nil, wrong.reasons
	case err != nil:
		return nil, []policy.Reason{{Code: CodeBroken, Message: "the policy record cannot be read: " + err.Error(), Subject: string(evidence.SHA256(payload)),
			Hint: "keep it and ask the store's operator where it is from"}}
	}
	return r, nil
}

type authorityError struct{ reasons []policy.Reason }

func (e *authorityError) Error() string { return "its authority document is not acceptable" }

func parse(payload []byte) (*Record, error) {
	if len(payload) > MaxSize {
		return nil, fmt.Errorf("it has %d bytes; at most %d are read", len(payload), MaxSize)
	}
	var s statement
	if err := strictjson.Unmarshal(payload, &s); err != nil {
		return nil, err
	}
	if s.Type != evidence.StatementV1 || s.PredicateType != PredicateType || len(s.Subject) != 1 {
		return nil, fmt.Errorf("it is no statement of type %s about one policy", PredicateType)
	}
	var w wire
	if err := strictjson.Unmarshal(s.Predicate, &w); err != nil {
		return nil, err
	}
	r := &Record{Payload: payload, Digest: evidence.SHA256(payload)}
	if err := r.read(&w); err != nil {
		return nil, err
	}
	proposal, err := proposalDigest(s.Predicate)
	switch {
	case err != nil:
		return nil, err
	case proposal != r.ProposalDigest:
		return nil, fmt.Errorf("proposalDigest is not that of what it proposes, %s", proposal)
	case s.Subject[0].Name != subjectPrefix+r.Key || "sha256:"+s.Subject[0].Digest.SHA256 != string(r.subject()):
		return nil, errors.New("its subject is not its policy")
	}
	doc, reasons := authority.Parse(w.Authority)
	if doc == nil {
		return nil, &authorityError{reasons}
	}
	r.Doc = doc
	return r, nil
}

// subject is what the statement is about: the policy, or the proposal where there is none.
func (p *Predicate) subject() evidence.Digest {
	if p.Policy != nil {
		return p.Policy.Bundle
	}
	return p.ProposalDigest
}

func (r *Record) read(w *wire) error {
	r.Predicate = Predicate{Key: w.Key, Name: w.Name, OwnerID: w.OwnerID, Version: w.Version, Action: Action(w.Action),
		Authority: RawJSON(w.Authority), Owner: w.Owner, Source: w.Source}
	var err error
	for _, d := range []struct {
		name, text string
		to         *evidence.Digest
	}{{"prev", w.Prev, &r.Prev}, {"root", w.Root, &r.Root}, {"proposalDigest", w.ProposalDigest, &r.ProposalDigest}} {
		if d.text == "" && d.name != "proposalDigest" {
			continue
		}
		if *d.to, err = digest(d.text); err != nil {
			return fmt.Errorf("%s %w", d.name, err)
		}
	}
	seen := map[string]bool{}
	r.Evidence = make([]evidence.Digest, 0, len(w.Evidence))
	for _, text := range w.Evidence {
		d, err := digest(text)
		if err != nil || seen[text] {
			return errors.New("evidence has an entry that is no digest, or one twice")
		}
		seen[text] = true
		r.Evidence = append(r.Evidence, d)
	}
	if r.CreatedAt, err = readTime(w.CreatedAt); err != nil {
		return fmt.Errorf("createdAt %w", err)
	}
	if r.EffectiveAt, err = readTime(w.EffectiveAt); err != nil {
		return fmt.Errorf("effectiveAt %w", err)
	}
	if err := r.readPolicy(w.Policy); err != nil {
		return err
	}
	return r.check()
}

func (r *Record) readPolicy(w *wirePolicy) error {
	if w == nil {
		return nil
	}
	d, err := digest(w.Bundle)
	switch {
	case err != nil:
		return fmt.Errorf("policy.bundle %w", err)
	case w.Size < 1 || w.Size > MaxPolicy:
		return fmt.Errorf("policy.size is not between 1 and %d", MaxPolicy)
	case w.Entrypoint != Entrypoint:
		return fmt.Errorf("policy.entrypoint is not %s", Entrypoint)
	case !version(w.InputSchema) || !version(w.Lib):
		return errors.New("policy.inputSchema and policy.lib are versions, such as v1")
	case w.Mode != Enforce && w.Mode != Warn:
		return fmt.Errorf("policy.mode is neither %s nor %s", Enforce, Warn)
	}
	paths := map[string]bool{}
	for _, f := range w.Files {
		if !plainPath(f.Path) || !objectID(f.GitBlob) || paths[f.Path] {
			return errors.New("policy.files has an entry that is no path with a git object id, or one twice")
		}
		paths[f.Path] = true
	}
	r.Policy = &Policy{Bundle: d, Size: w.Size, Entrypoint: w.Entrypoint, InputSchema: w.InputSchema, Lib: w.Lib, Mode: w.Mode, Files: w.Files}
	return nil
}

// check is about how the members go together.
func (r *Record) check() error {
	kind := kindOf(r.Key)
	if !repokey.Valid(r.Key) {
		return errors.New("key is none of a repository or owner")
	}
	if err := r.checkName(kind); err != nil {
		return err
	}
	if err := r.checkPlace(); err != nil {
		return err
	}
	switch {
	case r.Owner != nil && kind != "owner":
		return errors.New("owner is of the records of owners alone")
	case r.Action == Tombstone && (r.Policy != nil || r.Owner != nil):
		return errors.New("a tombstone has no policy")
	case r.Policy == nil && kind == "id" && r.Action != Tombstone && r.Action != Rebind:
		return fmt.Errorf("a record that says %s has a policy", r.Action)
	case !objectID(r.Source.Commit):
		return errors.New("source.commit is no git object id")
	case !strings.HasPrefix(r.Source.Ref, "refs/heads/") || len(r.Source.Ref) > 512 || !plainText(r.Source.Ref):
		return errors.New("source.ref is no branch")
	case len(r.Evidence) == 0:
		return errors.New("evidence is empty: nobody approved it")
	}
	return nil
}

func (r *Record) checkName(kind string) error {
	host, _, number := repokey.Parts(r.Key)
	name := repokey.Name(r.Name)
	segments := strings.Count(r.Name, "/")
	switch {
	case name == "" || !strings.HasPrefix(name, host+"/name/"):
		return errors.New("name is none on the key's host")
	case kind == "id" && segments < 2 || kind == "owner" && segments != 1:
		return errors.New("name is not that of a repository, or of an owner, as its key is")
	case !repokey.Number(r.OwnerID):
		return errors.New("ownerID is no number")
	case kind == "owner" && r.OwnerID != number:
		return errors.New("ownerID is not the key's")
	}
	return nil
}

// checkPlace is about the record's place in the chain.
func (r *Record) checkPlace() error {
	switch r.Action {
	case Set, Tombstone, Rebind, Recover, Reset:
	default:
		return errors.New("action is unknown")
	}
	switch {
	case r.Version < 1 || r.Version > maxNumber:
		return errors.New("version is none")
	case r.Version == 1 && (r.Action != Set || r.Prev != "" || r.Root != ""):
		return errors.New("the first version sets a policy and has neither prev nor root")
	case r.Version > 1 && r.Prev == "":
		return errors.New("a later version names the record before it")
	case r.Version > 1 && (r.Root == "") != (r.Action == Reset):
		return errors.New("a later version names its root, unless it is a reset")
	}
	return nil
}

// Open reads a record's file: a Sigstore bundle of version 0.3 in the one spelling that we write.
func Open(file []byte) (*Record, []policy.Reason) {
	broken := func(err error) (*Record, []policy.Reason) {
		return nil, []policy.Reason{{Code: CodeBroken, Message: "the policy record's bundle cannot be read: " + err.Error(),
			Hint: "keep it and ask the store's operator where it is from"}}
	}
	if len(file) > MaxFile {
		return broken(fmt.Errorf("it has %d bytes; at most %d are read", len(file), MaxFile))
	}
	c, err := bundle.Parse(file)
	if err != nil {
		return broken(err)
	}
	if c.Format != evidence.FormatBundle03 || c.Envelope == nil || c.Envelope.PayloadType != evidence.InTotoPayloadType || len(c.Envelope.Signatures) != 1 {
		return broken(errors.New("it holds no signed statement in version 0.3"))
	}
	again, err := bundle.Marshal(c)
	if err != nil || !bytes.Equal(again, file) {
		return broken(errors.New("it is not written as records are: in one line, as hallmark writes bundles"))
	}
	r, reasons := Parse(c.Envelope.Payload)
	if r != nil {
		r.File, r.Claim = file, c
	}
	return r, reasons
}

// Normalize is the file of a record's bundle that others may have written with other spellings.
func Normalize(file []byte) ([]byte, error) {
	if len(file) > MaxFile {
		return nil, fmt.Errorf("the record's bundle has more than %d bytes", MaxFile)
	}
	c, err := bundle.Parse(file)
	if err != nil {
		return nil, err
	}
	return bundle.Marshal(c)
}

// proposalDigest is what people approve: the predicate without what comes later.
func proposalDigest(predicate []byte) (evidence.Digest, error) {
	data, err := proposed(predicate)
	if err != nil {
		return "", err
	}
	return evidence.SHA256(data), nil
}

// Propose fills in the proposal's digest.
func (p *Predicate) Propose() (evidence.Digest, error) {
	data, err := p.json()
	if err != nil {
		return "", err
	}
	p.ProposalDigest, err = proposalDigest(data)
	return p.ProposalDigest, err
}

// Statement is the record as it is signed, in canonical form. What Parse would refuse is refused.
func (p Predicate) Statement() ([]byte, []policy.Reason) {
	fail := func(err error) ([]byte, []policy.Reason) {
		return nil, []policy.Reason{{Code: CodeBroken, Message: "the policy record cannot be written: " + err.Error()}}
	}
	if _, err := p.Propose(); err != nil {
		return fail(err)
	}
	predicate, err := p.json()
	if err != nil {
		return fail(err)
	}
	payload, err := jcs.Marshal(statement{Type: evidence.StatementV1, PredicateType: PredicateType, Predicate: predicate,
		Subject: []subject{{subjectPrefix + p.Key, digests{p.subject().Hex()}}}})
	if err != nil {
		return fail(err)
	}
	if _, reasons := Parse(payload); len(reasons) > 0 {
		return nil, reasons
	}
	return payload, nil
}

func (p *Predicate) json() ([]byte, error) {
	w := wire{Key: p.Key, Name: p.Name, OwnerID: p.OwnerID, Version: p.Version, Prev: string(p.Prev), Root: string(p.Root), Action: string(p.Action),
		CreatedAt: p.CreatedAt.UTC().Format(timeLayout), EffectiveAt: p.EffectiveAt.UTC().Format(timeLayout),
		Authority: json.RawMessage(p.Authority), Owner: p.Owner, Source: p.Source, ProposalDigest: string(p.ProposalDigest), Evidence: []string{}}
	for _, d := range p.Evidence {
		w.Evidence = append(w.Evidence, string(d))
	}
	if q := p.Policy; q != nil {
		w.Policy = &wirePolicy{Bundle: string(q.Bundle), Size: q.Size, Entrypoint: q.Entrypoint, InputSchema: q.InputSchema, Lib: q.Lib, Mode: q.Mode, Files: q.Files}
		if w.Policy.Files == nil {
			w.Policy.Files = []File{}
		}
	}
	return json.Marshal(w)
}

func kindOf(key string) string {
	_, kind, _ := repokey.Parts(key)
	return kind
}

func digest(text string) (evidence.Digest, error) {
	d, err := evidence.ParseDigest(text)
	if err != nil || d.Algorithm() != "sha256" {
		return "", errors.New("is no SHA-256 digest")
	}
	return d, nil
}

func readTime(text string) (time.Time, error) {
	t, err := time.Parse(timeLayout, text)
	if err != nil || t.Format(timeLayout) != text || t.Year() < 2000 {
		return time.Time{}, errors.New("is no time in whole seconds of UTC")
	}
	return t, nil
}

// objectID reports whether it is a git object id, SHA-1 or SHA-256.
func objectID(text string) bool {
	if len(text) == 40 {
		text += strings.Repeat("0", 24)
	}
	return repokey.Hex(text)
}

// version reports whether it is v1, v2, ….
func version(text string) bool {
	n, ok := strings.CutPrefix(text, "v")
	return ok && len(n) < 6 && repokey.Number(n)
}

func plainPath(p string) bool {
	return len(p) <= 512 && plainText(p) && path.Clean(p) == p && !path.IsAbs(p) && p != "." && p != ".." && !strings.HasPrefix(p, "../")
}

func plainText(s string) bool {
	return s != "" && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) < 0
}
