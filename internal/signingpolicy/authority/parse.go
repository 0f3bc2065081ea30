package authority

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/jcs"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/strictjson"
)

// Codes of refusals; KEY_KIND and KEY_TOO_WEAK are those of signatures, too.
const (
	CodeMalformed = "AUTHORITY_MALFORMED"  // not JSON of the schema, or a value that its field does not take
	CodeUse       = "AUTHORITY_USE"        // no, or an unknown, use of a key
	CodeShared    = "AUTHORITY_SHARED_KEY" // one key under two principals, or twice under one
	CodeThreshold = "AUTHORITY_THRESHOLD"  // 0, or more than there are people who could agree
	CodeMachine   = "AUTHORITY_MACHINE"    // a machine's key that may do what people do
	CodeRole      = "AUTHORITY_ROLE"       // a role that is missing, or says what its kind has not
	// CodeWeakEvidence is a warning: a role accepts what one access token can give.
	CodeWeakEvidence = "AUTHORITY_WEAK_EVIDENCE"
	CodeKeyKind      = "KEY_KIND"
	CodeTooWeak      = "KEY_TOO_WEAK"
)

// wire is the document as it is written (predicate.authority of a policy record).
type wire struct {
	Principals     map[string]wirePrincipal `json:"principals" strict:"required"`
	Roles          map[string]wireRole      `json:"roles" strict:"required"`
	Approval       *wireApproval            `json:"approval"`
	WeakeningDelay *string                  `json:"weakeningDelay"`
}

type wirePrincipal struct {
	Keys     []wireKey         `json:"keys" strict:"required,max=8"`
	Accounts map[string]string `json:"accounts"`
	Machine  bool              `json:"machine"`
}

type wireKey struct {
	Kind            string     `json:"kind" strict:"required"`
	PublicKey       *string    `json:"publicKey"`
	Issuer          *string    `json:"issuer"`
	Subject         *string    `json:"subject"`
	Protection      string     `json:"protection" strict:"required"`
	RequireUV       bool       `json:"requireUV"`
	Uses            []string   `json:"uses" strict:"required,max=4"`
	NotBefore       *time.Time `json:"notBefore"`
	NotAfter        *time.Time `json:"notAfter"`
	Attested        bool       `json:"attested"`
	AttestationRoot *string    `json:"attestationRoot"`
}

type wireRole struct {
	Threshold  *int      `json:"threshold"`
	Principals []string  `json:"principals" strict:"required,max=64"`
	Evidence   *[]string `json:"evidence"`
	Delay      *string   `json:"delay"`
}

type wireApproval struct {
	MaxAge    *string `json:"maxAge"`
	CarryOver bool    `json:"carryOver"`
	SingleUse bool    `json:"singleUse"`
}

// Parse reads an authority document. All that is wrong with it comes back as reasons, whose
// Subject is the place: "principals.alice.keys[0].uses"; then the document is nil. A text that is
// not of the schema has one reason.
func Parse(data []byte) (*Document, []policy.Reason) {
	p := parser{doc: &Document{
		Principals: map[string]*Principal{}, Roles: map[string]*Role{},
		byID: map[string]Holder{}, byAlias: map[string]Holder{}, byMatter: map[string]Holder{},
	}}
	if len(data) > MaxSize {
		p.wrong(CodeMalformed, "", "keep the people, keys and roles that are needed", "the document has %d bytes; at most %d are read", len(data), MaxSize)
		return nil, p.reasons
	}
	var w wire
	if err := strictjson.Unmarshal(data, &w); err != nil {
		p.unreadable(err)
		return nil, p.reasons
	}
	if strictjson.HasNull(data) {
		p.wrong(CodeMalformed, "", "leave the member out", "the document has a null")
	}
	p.principals(w.Principals)
	p.roles(w.Roles)
	p.rules(w)
	canonical, err := jcs.Transform(data)
	if err != nil {
		p.unreadable(err)
	}
	if len(p.reasons) > 0 {
		return nil, p.reasons
	}
	p.doc.canonical = canonical
	return p.doc, nil
}

type parser struct {
	doc     *Document
	reasons []policy.Reason
}

func (p *parser) wrong(code, place, hint, format string, args ...any) {
	p.reasons = append(p.reasons, policy.Reason{Code: code, Message: fmt.Sprintf(format, args...), Subject: place, Hint: hint})
}

func (p *parser) unreadable(err error) {
	place, msg := "", err.Error()
	var e *strictjson.Error
	if errors.As(err, &e) {
		place, msg = e.Path, e.Msg
	}
	p.wrong(CodeMalformed, place, "docs/signing-policy.md has all fields of authority.json", "the document cannot be read: %s", msg)
}

func (p *parser) principals(all map[string]wirePrincipal) {
	if n := len(all); n == 0 || n > MaxPrincipals {
		p.wrong(CodeMalformed, "principals", "", "%d principals; from 1 to %d are accepted", n, MaxPrincipals)
		return
	}
	for _, n := range slices.Sorted(maps.Keys(all)) {
		w, place := all[n], "principals."+clip(n)
		if !IsName(n) {
			p.wrong(CodeMalformed, place, "", "%q is no name: up to 64 of a-z, 0-9, dot, dash and underscore, beginning with a letter or digit", clip(n))
			continue
		}
		pr := &Principal{Name: n, Machine: w.Machine, Accounts: map[string]string{}}
		p.doc.Principals[n] = pr
		p.accounts(pr, w.Accounts, place+".accounts")
		if len(w.Keys) == 0 && len(w.Accounts) == 0 {
			p.wrong(CodeMalformed, place+".keys", "add a key or an account", "%s has neither a key nor an account", n)
		}
		for i, k := range w.Keys {
			p.key(pr, k, fmt.Sprintf("%s.keys[%d]", place, i))
		}
	}
}

func (p *parser) accounts(pr *Principal, accounts map[string]string, place string) {
	if len(accounts) > accountsMax {
		p.wrong(CodeMalformed, place, "", "%d accounts; at most %d are accepted", len(accounts), accountsMax)
		return
	}
	for _, h := range slices.Sorted(maps.Keys(accounts)) {
		id := accounts[h]
		switch {
		case !IsHost(h):
			p.wrong(CodeMalformed, place, "", "%q is no host", clip(h))
		case !IsNumber(id):
			p.wrong(CodeMalformed, place+"."+h, "names can be taken by others: use the id, https://api.github.com/users/NAME has it for GitHub",
				"%q is not the numeric id of an account", clip(id))
		default:
			if other, ok := p.doc.ByAccount(h, id); ok {
				p.wrong(CodeShared, place+"."+h, "one account is one person's", "account %s of %s is also %s's", id, h, other.Name)
			}
			pr.Accounts[h] = id
		}
	}
}

func (p *parser) roles(all map[string]wireRole) {
	if len(all) > MaxRoles {
		p.wrong(CodeMalformed, "roles", "", "%d roles; at most %d are accepted", len(all), MaxRoles)
		return
	}
	if _, ok := all[RoleUpdate]; !ok {
		p.wrong(CodeRole, "roles", "add roles.update: its threshold and principals", "there is no role update: nobody could change the policy")
	}
	for _, n := range slices.Sorted(maps.Keys(all)) {
		if !IsName(n) {
			p.wrong(CodeMalformed, "roles."+clip(n), "", "%q is no name", clip(n))
			continue
		}
		p.role(n, all[n])
	}
}

func (p *parser) role(n string, w wireRole) {
	place := "roles." + n
	r := &Role{Name: n, Principals: slices.Sorted(slices.Values(w.Principals))}
	p.doc.Roles[n] = r
	if len(r.Principals) == 0 {
		p.wrong(CodeMalformed, place+".principals", "", "role %s has no principals", n)
	}
	for i, member := range r.Principals {
		switch {
		case i > 0 && r.Principals[i-1] == member:
			p.wrong(CodeMalformed, place+".principals", "", "%q stands twice in role %s", clip(member), n)
		case p.doc.Principals[member] == nil:
			p.wrong(CodeMalformed, place+".principals", "", "%q in role %s is no principal of this document", clip(member), n)
		}
	}
	if w.Threshold == nil {
		switch {
		case n == RoleUpdate || n == RoleRecover:
			p.wrong(CodeThreshold, place, "say how many of its principals must agree", "role %s has no threshold", n)
		case w.Delay != nil || w.Evidence != nil:
			p.wrong(CodeRole, place, "leave evidence and delay out, or give the role a threshold", "role %s has no threshold and is a list: nobody acts by it", n)
		}
		return
	}
	r.Threshold = *w.Threshold
	p.evidence(r, w.Evidence, place+".evidence")
	if n == RoleRecover {
		r.Delay = p.duration(w.Delay, place+".delay", DefaultDelay)
	} else if w.Delay != nil {
		p.wrong(CodeRole, place+".delay", "", "only the role recover has a delay")
	}
	if able := p.able(r); r.Threshold < 1 || r.Threshold > able {
		p.wrong(CodeThreshold, place+".threshold", "a threshold is at least 1, and at most the number of people who can agree; machines do not count",
			"role %s wants %d to agree; %d of its principals are people who could", n, r.Threshold, able)
	}
}

func (p *parser) evidence(r *Role, list *[]string, place string) {
	if list == nil {
		r.Evidence = []string{Signed}
		return
	}
	r.Evidence = slices.Sorted(slices.Values(*list))
	known := slices.ContainsFunc(r.Evidence, func(e string) bool { return e != Signed && e != GitHubEnvironment && e != GitHubReview })
	if len(r.Evidence) == 0 || known || len(slices.Compact(slices.Clone(r.Evidence))) != len(r.Evidence) {
		p.wrong(CodeMalformed, place, "", "want one or more of %s, %s and %s, each once", Signed, GitHubEnvironment, GitHubReview)
	}
}

// able counts the role's people who could give evidence that it accepts.
func (p *parser) able(r *Role) int {
	use := UseApprove
	if r.Name == RoleUpdate || r.Name == RoleRecover {
		use = r.Name
	}
	people := map[string]bool{}
	for _, n := range r.Principals {
		pr := p.doc.Principals[n]
		if pr == nil || pr.Machine {
			continue
		}
		signs := r.Accepts(Signed) && slices.ContainsFunc(pr.Keys, func(k *Key) bool { return k.May(use) })
		account := (r.Accepts(GitHubEnvironment) || r.Accepts(GitHubReview)) && pr.Accounts["github.com"] != ""
		if signs || account {
			people[n] = true
		}
	}
	return len(people)
}

func (p *parser) rules(w wire) {
	a := w.Approval
	if a == nil {
		a = &wireApproval{}
	}
	p.doc.Approval = ApprovalRules{
		MaxAge:    p.duration(a.MaxAge, "approval.maxAge", DefaultMaxAge),
		CarryOver: a.CarryOver, SingleUse: a.SingleUse,
	}
	p.doc.WeakeningDelay = p.duration(w.WeakeningDelay, "weakeningDelay", DefaultWeakening)
}

// duration reads a Go duration; a missing one is def.
func (p *parser) duration(s *string, place string, def time.Duration) time.Duration {
	if s == nil {
		return def
	}
	d, err := time.ParseDuration(*s)
	if err != nil || len(*s) > 32 || d < time.Second || d > MaxDuration {
		p.wrong(CodeMalformed, place, "write hours, such as 168h", "%q is not a duration from 1s to %d h", clip(*s), int(MaxDuration.Hours()))
	}
	return d
}

func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
