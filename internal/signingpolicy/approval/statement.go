package approval

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hallmark-dev/hallmark/internal/jcs"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// The statement as it is written. Optional members are pointers: one that is there and empty is
// refused, or one statement would have two spellings.
type (
	wireStatement struct {
		Type          string        `json:"_type" strict:"required"`
		Subject       []wireSubject `json:"subject" strict:"required,max=2"`
		PredicateType string        `json:"predicateType" strict:"required"`
		Predicate     wirePredicate `json:"predicate" strict:"required"`
	}
	wireSubject struct {
		Name   string            `json:"name" strict:"required"`
		Digest map[string]string `json:"digest" strict:"required"`
	}
	wirePredicate struct {
		Action     string                     `json:"action" strict:"required"`
		Decision   string                     `json:"decision" strict:"required"`
		Principal  string                     `json:"principal" strict:"required"`
		Repository wireRepository             `json:"repository" strict:"required"`
		Ref        *string                    `json:"ref,omitempty"`
		Tree       *string                    `json:"tree,omitempty"`
		TreeSHA256 *string                    `json:"treeSha256,omitempty"`
		Policy     wirePolicy                 `json:"policy" strict:"required"`
		Reviewed   *wireReviewed              `json:"reviewed,omitempty"`
		IssuedAt   string                     `json:"issuedAt" strict:"required"`
		ExpiresAt  string                     `json:"expiresAt" strict:"required"`
		Nonce      string                     `json:"nonce" strict:"required"`
		Ext        map[string]json.RawMessage `json:"ext,omitempty"`
	}
	wireRepository struct {
		Key     string `json:"key" strict:"required"`
		OwnerID string `json:"ownerID" strict:"required"`
		URI     string `json:"uri" strict:"required"`
	}
	wirePolicy struct {
		Root    string `json:"root" strict:"required"`
		Version int64  `json:"version" strict:"required"`
		Digest  string `json:"digest" strict:"required"`
	}
	wireReviewed struct {
		Base *string `json:"base,omitempty"`
		Note *string `json:"note,omitempty"`
	}
)

const timeLayout = "2006-01-02T15:04:05Z"

func malformed(subject, format string, args ...any) *policy.Reason {
	return &policy.Reason{Code: CodeMalformed, Subject: subject, Message: "the approval " + fmt.Sprintf(format, args...)}
}

// parsePayload reads a statement and checks each of its fields by itself.
func parsePayload(payload []byte) (*Statement, *policy.Reason) {
	if len(payload) > MaxSize {
		return nil, malformed("", "has a payload of %d bytes; at most %d are read", len(payload), MaxSize)
	}
	var w wireStatement
	if err := strictjson.Unmarshal(payload, &w); err != nil {
		var e *strictjson.Error
		if errors.As(err, &e) {
			return nil, malformed(e.Path, "cannot be read: %v", err)
		}
		return nil, malformed("", "cannot be read: %v", err)
	}
	s, err := w.statement()
	if err == nil && strictjson.HasNull(payload) {
		err = errors.New("it has a null")
	}
	if err != nil {
		return nil, malformed("", "is not acceptable: %v", err)
	}
	return s, nil
}

func (w *wireStatement) statement() (*Statement, error) {
	p := &w.Predicate
	if w.Type != StatementType || w.PredicateType != PredicateType {
		return nil, fmt.Errorf("it is a statement of type %q and predicate %q, not %s", clip(w.Type), clip(w.PredicateType), PredicateType)
	}
	s := &Statement{
		Action: p.Action, Decision: p.Decision, Principal: p.Principal,
		Repository: Repository{Key: p.Repository.Key, OwnerID: p.Repository.OwnerID, URI: p.Repository.URI},
		Policy:     Policy{Root: p.Policy.Root, Version: p.Policy.Version, Digest: p.Policy.Digest},
		Nonce:      p.Nonce,
	}
	for _, o := range []struct {
		from *string
		to   *string
		name string
	}{{p.Ref, &s.Ref, "ref"}, {p.Tree, &s.Tree, "tree"}, {p.TreeSHA256, &s.TreeSHA256, "treeSha256"}} {
		if o.from != nil {
			if *o.from == "" {
				return nil, fmt.Errorf("%s is empty", o.name)
			}
			*o.to = *o.from
		}
	}
	if err := s.readReviewed(p.Reviewed); err != nil {
		return nil, err
	}
	if err := s.readExt(p.Ext); err != nil {
		return nil, err
	}
	var err error
	if s.IssuedAt, err = readTime(p.IssuedAt); err != nil {
		return nil, fmt.Errorf("issuedAt: %w", err)
	}
	if s.ExpiresAt, err = readTime(p.ExpiresAt); err != nil {
		return nil, fmt.Errorf("expiresAt: %w", err)
	}
	if err := s.subjects(w.Subject); err != nil {
		return nil, err
	}
	return s, s.check()
}

func readTime(text string) (time.Time, error) {
	t, err := time.Parse(timeLayout, text)
	if err != nil || t.Format(timeLayout) != text {
		return time.Time{}, errors.New("want a time in UTC and whole seconds, such as 2026-01-31T12:00:00Z")
	}
	return t, nil
}

func (s *Statement) readReviewed(w *wireReviewed) error {
	if w == nil {
		return nil
	}
	if w.Base == nil && w.Note == nil || w.Base != nil && *w.Base == "" || w.Note != nil && *w.Note == "" {
		return errors.New("reviewed has an empty member, or none")
	}
	if w.Base != nil {
		s.Reviewed.Base = *w.Base
	}
	if w.Note != nil {
		s.Reviewed.Note = *w.Note
	}
	return nil
}

func (s *Statement) readExt(ext map[string]json.RawMessage) error {
	if ext == nil {
		return nil
	}
	if len(ext) == 0 || len(ext) > 16 {
		return errors.New("ext has from 1 to 16 members")
	}
	s.Ext = map[string]string{}
	for name, value := range ext {
		if err := strictjson.Valid(value, 16); err != nil {
			return fmt.Errorf("ext.%s: %w", clip(name), err)
		}
		s.Ext[name] = string(value)
	}
	return nil
}

// subjects reads what the statement is about: which subjects there must be follows from the action.
func (s *Statement) subjects(list []wireSubject) error {
	only := func(i int, name, algorithm string) (string, error) {
		if list[i].Name != name {
			return "", fmt.Errorf("subject %d is named %q, and %q is wanted", i, clip(list[i].Name), clip(name))
		}
		value, ok := list[i].Digest[algorithm]
		if !ok || len(list[i].Digest) != 1 {
			return "", fmt.Errorf("subject %d has other digests than one %s", i, algorithm)
		}
		return value, nil
	}
	var err error
	if s.Action != ActionBuild {
		if len(list) != 1 {
			return fmt.Errorf("%d subjects; %s has one", len(list), clip(s.Action))
		}
		s.Proposal, err = only(0, "hallmark-policy:"+s.Repository.Key, "sha256")
		s.Proposal = "sha256:" + s.Proposal
		return err
	}
	if len(list) == 0 {
		return errors.New("it has no subject")
	}
	if s.Commit, err = only(0, "git+"+s.Repository.URI, "gitCommit"); err != nil {
		return err
	}
	if len(list) == 2 {
		if s.TagObject, err = only(1, s.Ref, "gitTag"); err == nil && s.TagObject == "" {
			err = errors.New("its tag object is empty")
		}
	}
	return err
}

// check holds what each field may be.
func (s *Statement) check() error {
	known := s.Action == ActionBuild || s.Action == ActionUpdate || s.Action == ActionRecover || s.Action == ActionTombstone
	switch {
	case !known:
		return fmt.Errorf("action %q is not known", clip(s.Action))
	case s.Decision != Approve && s.Decision != Reject:
		return fmt.Errorf("decision %q is neither approve nor reject", clip(s.Decision))
	case !authority.IsName(s.Principal):
		return fmt.Errorf("principal %q is no name", clip(s.Principal))
	case !authority.IsRepositoryKey(s.Repository.Key):
		return fmt.Errorf("repository.key %q is no key such as github.com/id/123456", clip(s.Repository.Key))
	case s.Repository.OwnerID != "" && s.Repository.OwnerID != "local" && !authority.IsNumber(s.Repository.OwnerID):
		return fmt.Errorf("repository.ownerID %q is no decimal number", clip(s.Repository.OwnerID))
	case !plain(s.Repository.URI, maxURI):
		return errors.New("repository.uri is empty, too long or not plain text")
	case s.Reviewed.Base != "" && !objectID(s.Reviewed.Base):
		return errors.New("reviewed.base is no commit")
	case !readable(s.Reviewed.Note):
		return fmt.Errorf("reviewed.note has more than %d bytes, or control characters", maxNote)
	}
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(s.Nonce); err != nil || len(raw) != 16 || strings.ContainsAny(s.Nonce, "\r\n") {
		return errors.New("nonce is not 16 bytes in unpadded base64url")
	}
	for name := range s.Ext {
		if !reverseDomain(name) {
			return fmt.Errorf("ext.%s is not named by a reverse domain name", clip(name))
		}
	}
	if err := s.checkPolicy(); err != nil {
		return err
	}
	return s.checkSubject()
}

func (s *Statement) checkPolicy() error {
	p := s.Policy
	switch {
	case p.Version < 0 || p.Version > 1<<53:
		return errors.New("policy.version is out of range")
	case (p.Version == 0) != (p.Root == ""):
		return errors.New("policy.root is empty of version 0, of no policy, and of no other")
	case p.Root != "" && !authority.IsDigest(p.Root):
		return errors.New("policy.root is no sha256 digest")
	case p.Digest == "" && (p.Version > 0 || s.Action == ActionBuild), p.Digest != "" && !authority.IsDigest(p.Digest):
		return errors.New("policy.digest is no sha256 digest")
	}
	return nil
}

func (s *Statement) checkSubject() error {
	if s.Action != ActionBuild {
		if s.Commit != "" || s.Ref != "" || s.Tree != "" || s.TreeSHA256 != "" || s.TagObject != "" || s.Reviewed.Base != "" {
			return fmt.Errorf("%s is about a policy, and has no ref, tree or reviewed.base", s.Action)
		}
		if !authority.IsDigest(s.Proposal) {
			return errors.New("the subject's digest is not 64 hexadecimal digits")
		}
		return nil
	}
	switch {
	case s.Proposal != "":
		return errors.New("a build has no proposal")
	case !objectID(s.Commit), !objectID(s.Tree) || len(s.Tree) != len(s.Commit):
		return errors.New("commit and tree are not object ids of one repository")
	case s.TagObject != "" && (!objectID(s.TagObject) || len(s.TagObject) != len(s.Commit) || !strings.HasPrefix(s.Ref, "refs/tags/")):
		return errors.New("the tag is no object id of the same repository, or the ref is no tag")
	case !strings.HasPrefix(s.Ref, "refs/") || !plain(s.Ref, maxRef) || strings.ContainsAny(s.Ref, "*?[\\~^:") || strings.Contains(s.Ref, "..") || strings.HasSuffix(s.Ref, "/"):
		return fmt.Errorf("ref %q is no full ref", clip(s.Ref))
	case s.TreeSHA256 != "" && !authority.IsDigest("sha256:"+s.TreeSHA256):
		return errors.New("treeSha256 is not 64 hexadecimal digits")
	}
	return nil
}

// objectID reports whether s is 40 or 64 lower-case hexadecimal digits, not all of them zero.
func objectID(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && (len(raw) == 20 || len(raw) == 32) && strings.ToLower(s) == s && strings.Trim(s, "0") != ""
}

// reverseDomain reports whether s is a domain name the other way round, of at least two labels.
func reverseDomain(s string) bool {
	labels := strings.Split(s, ".")
	return len(labels) >= 2 && len(labels) <= 9 && !slices.ContainsFunc(labels, func(l string) bool { return len(l) > 63 || !authority.IsHost(l) })
}

func plain(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for _, c := range []byte(s) {
		if c <= 0x20 || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// readable reports whether a note can be shown on a terminal.
func readable(s string) bool {
	for _, c := range s {
		if c < 0x20 && c != '\n' && c != '\t' || c >= 0x7f && c < 0xa0 || c == utf8.RuneError || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 {
			return false
		}
	}
	return len(s) <= maxNote
}

func build(s Statement) ([]byte, error) {
	if s.Nonce == "" {
		var nonce [16]byte
		rand.Read(nonce[:]) //nolint:errcheck // never fails
		s.Nonce = base64.RawURLEncoding.EncodeToString(nonce[:])
	}
	if s.IssuedAt.IsZero() {
		s.IssuedAt = time.Now()
	}
	s.IssuedAt = s.IssuedAt.UTC().Truncate(time.Second)
	if s.ExpiresAt.IsZero() {
		s.ExpiresAt = s.IssuedAt.Add(authority.DefaultMaxAge)
	}
	s.ExpiresAt = s.ExpiresAt.UTC().Truncate(time.Second)
	if life := s.ExpiresAt.Sub(s.IssuedAt); life <= 0 || life > authority.MaxDuration {
		return nil, fmt.Errorf("an approval is valid for more than 0 and at most %d h, not for %s", int(authority.MaxDuration.Hours()), life)
	}
	if err := s.checkSubject(); err != nil { // the payload has no place for what does not belong to the action
		return nil, err
	}
	payload, err := jcs.Marshal(s.wire())
	if err != nil {
		return nil, fmt.Errorf("the approval cannot be written: %w", err)
	}
	if _, why := parsePayload(payload); why != nil {
		return nil, errors.New(why.Message)
	}
	return payload, nil
}

func (s *Statement) wire() *wireStatement {
	w := &wireStatement{Type: StatementType, PredicateType: PredicateType, Predicate: wirePredicate{
		Action: s.Action, Decision: s.Decision, Principal: s.Principal,
		Repository: wireRepository{s.Repository.Key, s.Repository.OwnerID, s.Repository.URI},
		Ref:        optional(s.Ref), Tree: optional(s.Tree), TreeSHA256: optional(s.TreeSHA256),
		Policy:   wirePolicy{s.Policy.Root, s.Policy.Version, s.Policy.Digest},
		IssuedAt: s.IssuedAt.Format(timeLayout), ExpiresAt: s.ExpiresAt.Format(timeLayout), Nonce: s.Nonce,
	}}
	if s.Reviewed != (Reviewed{}) {
		w.Predicate.Reviewed = &wireReviewed{optional(s.Reviewed.Base), optional(s.Reviewed.Note)}
	}
	for name, value := range s.Ext {
		if w.Predicate.Ext == nil {
			w.Predicate.Ext = map[string]json.RawMessage{}
		}
		w.Predicate.Ext[name] = json.RawMessage(value)
	}
	if s.Action != ActionBuild {
		w.Subject = []wireSubject{{"hallmark-policy:" + s.Repository.Key, map[string]string{"sha256": strings.TrimPrefix(s.Proposal, "sha256:")}}}
		return w
	}
	w.Subject = []wireSubject{{"git+" + s.Repository.URI, map[string]string{"gitCommit": s.Commit}}}
	if s.TagObject != "" {
		w.Subject = append(w.Subject, wireSubject{s.Ref, map[string]string{"gitTag": s.TagObject}})
	}
	return w
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// ID is the name of an approval: "sha256:…" of its payload.
func ID(payload []byte) string {
	sum := sha256.Sum256(payload)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
