// Package notation is Notation's own trust: trustpolicy.json, the trust store
// folders and revocation material, read as they are on disk or from the parts of
// a trust bundle (notaryproject/specifications, specs/trust-store-trust-policy.md).
//
// Whoever can modify it decides what is believed; it is trusted as a whole, so it
// is read strictly, and one broken entry refuses all of it.
package notation

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/pattern"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Check is one of the checks of a signature.
type Check string

// Checks in the order in which they are made.
const (
	Integrity          Check = "integrity"
	Authenticity       Check = "authenticity"
	AuthenticTimestamp Check = "authenticTimestamp"
	Expiry             Check = "expiry"
	Revocation         Check = "revocation"
)

// Action is what a failed check does.
type Action string

// Actions. Enforce denies, Log warns, Skip does not check.
const (
	Enforce Action = "enforce"
	Log     Action = "log"
	Skip    Action = "skip"
)

// Names of levels. A level with overrides is called custom.
const (
	LevelStrict     = "strict"
	LevelPermissive = "permissive"
	LevelAudit      = "audit"
	LevelSkip       = "skip"
	LevelCustom     = "custom"
)

var checks = []Check{Integrity, Authenticity, AuthenticTimestamp, Expiry, Revocation}

// levels has the action of each check, in the order of checks.
var levels = map[string][]Action{
	LevelStrict:     {Enforce, Enforce, Enforce, Enforce, Enforce},
	LevelPermissive: {Enforce, Enforce, Log, Log, Log},
	LevelAudit:      {Enforce, Log, Log, Log, Log},
	LevelSkip:       {Skip, Skip, Skip, Skip, Skip},
}

// MaxPolicy is the most bytes of a policy that are read.
const MaxPolicy = 4 << 20

// Policy is a trustpolicy.json.
type Policy struct {
	Statements []Statement
}

// Statement says what is wanted of the signatures of some repositories.
type Statement struct {
	Name   string
	Scopes []string // host/repository, or "*" alone; none for files
	Global bool     // of a policy for files: holds where none is named
	Level  string
	// AfterExpiryOnly: timestamps are looked at only when a certificate has expired.
	AfterExpiryOnly bool
	Stores          []StoreName
	Identities      []DN // who may sign; empty with AnyIdentity, or when all others are for plugins
	AnyIdentity     bool

	actions map[Check]Action
}

// Action is what a failure of a check does under this statement.
func (s *Statement) Action(c Check) Action {
	if a, ok := s.actions[c]; ok {
		return a
	}
	return Enforce
}

// StoreName names a trust store: type and name.
type StoreName struct{ Type, Name string }

// String is the name as policies write it: "ca:acme".
func (n StoreName) String() string { return n.Type + ":" + n.Name }

// Types of trust stores.
const (
	StoreCA               = "ca"
	StoreSigningAuthority = "signingAuthority"
	StoreTSA              = "tsa"
)

type (
	wirePolicy struct {
		Version    string          `json:"version" strict:"required"`
		Statements []wireStatement `json:"trustPolicies" strict:"required,max=4096"`
	}
	wireStatement struct {
		Name         string           `json:"name" strict:"required"`
		Scopes       []string         `json:"registryScopes" strict:"max=4096"`
		Global       bool             `json:"globalPolicy"`
		Verification wireVerification `json:"signatureVerification" strict:"required"`
		Stores       []string         `json:"trustStores" strict:"max=1024"`
		Identities   []string         `json:"trustedIdentities" strict:"max=1024"`
	}
	wireVerification struct {
		Level     string            `json:"level" strict:"required"`
		Override  map[string]string `json:"override"`
		Timestamp string            `json:"verifyTimestamp"`
	}
)

// ParsePolicy reads a trustpolicy.json or trustpolicy.oci.json: for images.
func ParsePolicy(data []byte) (*Policy, error) { return parsePolicy(data, false) }

// ParseBlobPolicy reads a trustpolicy.blob.json: for files.
func ParseBlobPolicy(data []byte) (*Policy, error) { return parsePolicy(data, true) }

func parsePolicy(data []byte, blob bool) (*Policy, error) {
	if len(data) > MaxPolicy {
		return nil, fmt.Errorf("%d bytes; at most %d are read", len(data), MaxPolicy)
	}
	var w wirePolicy
	if err := strictjson.Unmarshal(data, &w); err != nil {
		return nil, err
	}
	if w.Version != "1.0" {
		return nil, fmt.Errorf("version: %q; only 1.0 is known", clip(w.Version))
	}
	if len(w.Statements) == 0 {
		return nil, errors.New("trustPolicies: empty")
	}
	p := &Policy{}
	for i := range w.Statements {
		s, err := w.Statements[i].statement(blob)
		if err != nil {
			return nil, fmt.Errorf("trustPolicies[%d] (%s).%w", i, clip(w.Statements[i].Name), err)
		}
		if err := p.add(s); err != nil {
			return nil, fmt.Errorf("trustPolicies[%d] (%s).%w", i, clip(s.Name), err)
		}
	}
	return p, nil
}

// add refuses a second statement of one name, for one scope, or for all files.
func (p *Policy) add(s Statement) error {
	for _, other := range p.Statements {
		if other.Name == s.Name {
			return errors.New("name: two statements have it")
		}
		if other.Global && s.Global {
			return errors.New("globalPolicy: two statements have it")
		}
		for _, scope := range s.Scopes {
			if slices.Contains(other.Scopes, scope) {
				return fmt.Errorf("registryScopes: %q is another statement's, too", clip(scope))
			}
		}
	}
	p.Statements = append(p.Statements, s)
	return nil
}

func (w *wireStatement) statement(blob bool) (Statement, error) {
	s := Statement{Name: w.Name, Scopes: w.Scopes, Global: w.Global}
	if w.Name == "" {
		return s, errors.New("name: empty")
	}
	if err := w.checkScopes(blob); err != nil {
		return s, err
	}
	if err := w.Verification.read(&s); err != nil {
		return s, fmt.Errorf("signatureVerification.%w", err)
	}
	if s.Level == LevelSkip {
		if len(w.Stores)+len(w.Identities) > 0 {
			return s, errors.New("signatureVerification.level: skip checks nothing, so trustStores and trustedIdentities must be empty")
		}
		if s.Global {
			return s, errors.New("globalPolicy: cannot skip the verification of every file")
		}
		return s, nil
	}
	if len(w.Stores) == 0 || len(w.Identities) == 0 {
		return s, errors.New("trustStores: they and trustedIdentities must both be given")
	}
	for _, name := range w.Stores {
		n, err := parseStoreName(name)
		if err != nil {
			return s, fmt.Errorf("trustStores: %w", err)
		}
		if !slices.Contains(s.Stores, n) {
			s.Stores = append(s.Stores, n)
		}
	}
	if err := w.readIdentities(&s); err != nil {
		return s, fmt.Errorf("trustedIdentities: %w", err)
	}
	return s, nil
}

// checkScopes wants whole repositories or everything: prefixes and patterns are
// not Notation's.
func (w *wireStatement) checkScopes(blob bool) error {
	switch {
	case blob && len(w.Scopes) > 0:
		return errors.New("registryScopes: a policy for files has none")
	case blob:
		return nil
	case w.Global:
		return errors.New("globalPolicy: only a policy for files has it")
	case len(w.Scopes) == 0:
		return errors.New("registryScopes: empty")
	}
	for i, scope := range w.Scopes {
		switch {
		case slices.Contains(w.Scopes[:i], scope):
			return fmt.Errorf("registryScopes: %q is there twice", clip(scope))
		case scope == "*" && len(w.Scopes) > 1:
			return errors.New(`registryScopes: "*" stands alone`)
		case scope != "*" && !validScope(scope):
			return fmt.Errorf("registryScopes: %q is no host/repository without scheme, tag and wildcard", clip(scope))
		}
	}
	return nil
}

var (
	hostForm = pattern.New(`^[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?$`)
	repoForm = pattern.New(`^[a-z0-9]+(?:(?:[._]|__|-*)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-*)[a-z0-9]+)*)*$`)
	nameForm = pattern.New(`^[a-zA-Z0-9_.-]+$`)
)

func validScope(scope string) bool {
	host, repo, ok := strings.Cut(scope, "/")
	return ok && len(scope) <= 512 && hostForm().MatchString(host) && repoForm().MatchString(repo)
}

// read takes level, overrides and the treatment of timestamps.
func (w *wireVerification) read(s *Statement) error {
	base, ok := levels[w.Level]
	if !ok {
		return fmt.Errorf("level: %q is none of strict, permissive, audit, skip", clip(w.Level))
	}
	switch w.Timestamp {
	case "", "always":
	case "afterCertExpiry":
		s.AfterExpiryOnly = true
	default:
		return fmt.Errorf("verifyTimestamp: %q is neither always nor afterCertExpiry", clip(w.Timestamp))
	}
	s.Level, s.actions = w.Level, map[Check]Action{}
	for i, c := range checks {
		s.actions[c] = base[i]
	}
	if len(w.Override) == 0 {
		return nil
	}
	if w.Level == LevelSkip {
		return errors.New("override: nothing can be overridden where everything is skipped")
	}
	for name, value := range w.Override {
		c, a := Check(name), Action(value)
		switch {
		case !slices.Contains(checks, c):
			return fmt.Errorf("override: there is no check %q", clip(name))
		case a != Enforce && a != Log && a != Skip:
			return fmt.Errorf("override.%s: %q is none of enforce, log, skip", name, clip(value))
		case c == Integrity:
			return errors.New("override: integrity cannot be overridden")
		case a == Skip && c != Revocation:
			return fmt.Errorf("override.%s: only revocation can be skipped", name)
		}
		s.actions[c] = a
	}
	s.Level = LevelCustom
	return nil
}

func parseStoreName(text string) (StoreName, error) {
	typ, name, ok := strings.Cut(text, ":")
	n := StoreName{typ, name}
	switch {
	case !ok || !slices.Contains([]string{StoreCA, StoreSigningAuthority, StoreTSA}, typ):
		return n, fmt.Errorf("%q does not begin with ca:, signingAuthority: or tsa: as stores do", clip(text))
	case !validStoreName(name):
		return n, fmt.Errorf("%q is not named with letters, digits, '_', '.' and '-' alone", clip(text))
	}
	return n, nil
}

// validStoreName keeps names from being paths.
func validStoreName(name string) bool {
	return nameForm().MatchString(name) && name != "." && name != ".." && len(name) <= 255
}

func (w *wireStatement) readIdentities(s *Statement) error {
	for _, id := range w.Identities {
		if id == "*" {
			if len(w.Identities) > 1 {
				return errors.New(`"*" stands alone`)
			}
			s.AnyIdentity = true
			return nil
		}
		kind, value, ok := strings.Cut(id, ":")
		switch {
		case !ok:
			return fmt.Errorf(`%q does not say of what kind it is; write "x509.subject:C=US,ST=WA,O=Acme"`, clip(id))
		case kind != "x509.subject":
			continue // for a plugin of notation's; it matches nobody here
		}
		dn, err := ParseDN(value)
		if err != nil {
			return fmt.Errorf("%q: %w", clip(id), err)
		}
		for _, other := range s.Identities {
			if dn.within(other) || other.within(dn) {
				return fmt.Errorf("%q overlaps with %q", dn.text, other.text)
			}
		}
		s.Identities = append(s.Identities, dn)
	}
	return nil
}

// OnDisk reports whether a repository is a layout or an archive. It has no
// host/repository that a scope could name, so only the statement for everything is
// for it. (notation wants to be told a scope, with --scope.)
func OnDisk(repository string) bool {
	for _, scheme := range []string{"oci:", "oci-archive:", "docker-archive:"} {
		if strings.HasPrefix(repository, scheme) && !validScope(repository) {
			return true
		}
	}
	return false
}

// For is the statement for an image's repository (host/repository): the one that
// names it, else the one for everything; nil without one.
func (p *Policy) For(repository string) *Statement {
	var all *Statement
	if p == nil || !validScope(repository) && !OnDisk(repository) {
		return nil
	}
	for i := range p.Statements {
		s := &p.Statements[i]
		if slices.Contains(s.Scopes, repository) {
			return s
		}
		if slices.Contains(s.Scopes, "*") {
			all = s
		}
	}
	return all
}

// ForFiles is the statement of a policy for files that holds where none is named.
func (p *Policy) ForFiles() *Statement {
	if p == nil {
		return nil
	}
	for i := range p.Statements {
		if p.Statements[i].Global {
			return &p.Statements[i]
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 160 {
		return s[:160] + "…"
	}
	return s
}
