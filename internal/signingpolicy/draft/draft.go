// Package draft makes the first signing policy of a repository: the people and their
// keys as an authority document, and rules from one of the ready policies
// (docs/signing-policy.md, "Begin").
package draft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/git"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/authority"
	"github.com/hallmark-dev/hallmark/internal/signingpolicy/rules"
)

// Principal is somebody, or something, that the policy is to name.
type Principal struct {
	Name       string
	Keys       []Key
	Protection string // of the keys, which are no security keys; "" is authority.Software
}

// Wish is what the policy is to be.
type Wish struct {
	Ready     string      // name of a ready policy; "" for the one that fits the people
	People    []Principal // who approve and change the policy, and sign tags where no machine does
	Machines  []Principal // which only sign tags
	Recovery  []Principal // cold keys, which replace the policy when the others cannot
	Approvals int         // how many people must approve; 0: one of one, two of several
	Branch    string      // that releases are made from; "" is main
}

// wire is authority.json as it is written.
type wire struct {
	Principals map[string]wirePrincipal `json:"principals"`
	Roles      map[string]wireRole      `json:"roles"`
}

type wirePrincipal struct {
	Keys    []wireKey `json:"keys"`
	Machine bool      `json:"machine,omitempty"`
}

type wireKey struct {
	Kind       string   `json:"kind"`
	PublicKey  string   `json:"publicKey"`
	Protection string   `json:"protection"`
	Uses       []string `json:"uses"`
}

type wireRole struct {
	Threshold  int      `json:"threshold,omitempty"`
	Principals []string `json:"principals"`
	Evidence   []string `json:"evidence,omitempty"`
	Delay      string   `json:"delay,omitempty"`
}

// Make makes the files of a policy's folder, by name. What the format does not take of
// the people and keys comes back as reasons (AUTHORITY_…, KEY_…).
func Make(w Wish) (map[string][]byte, []policy.Reason, error) {
	if err := w.complete(); err != nil {
		return nil, nil, err
	}
	text, err := w.authority()
	if err != nil {
		return nil, nil, err
	}
	if _, why := authority.Parse(text); len(why) > 0 {
		return nil, why, nil
	}
	files := rules.ReadyFiles(w.Ready)
	if files[rules.DataFile], err = w.data(files[rules.DataFile]); err != nil {
		return nil, nil, err
	}
	files["authority.json"] = text
	return files, nil, nil
}

// complete fills in what was not said.
func (w *Wish) complete() error {
	if len(w.People) == 0 {
		return fault.Usagef("a signing policy names at least one person")
	}
	if w.Approvals == 0 {
		w.Approvals = min(2, len(w.People))
	}
	if w.Approvals < 1 || w.Approvals > len(w.People) {
		return fault.Usagef("%d approvals are no number from 1 to %d, the people who could give them", w.Approvals, len(w.People))
	}
	if w.Ready == "" {
		w.Ready = "team"
		if len(w.People) == 1 {
			w.Ready = "solo"
		}
	}
	if !slices.Contains(rules.Ready(), w.Ready) {
		return fault.Usagef("%s is no ready policy: want one of %s", w.Ready, strings.Join(rules.Ready(), ", "))
	}
	if w.Branch == "" {
		w.Branch = "main"
	}
	if git.CheckTagName(w.Branch) != nil { // branches and tags have the same names
		return fault.Usagef("%q cannot be the name of a branch", w.Branch)
	}
	return nil
}

// Unmet says, in sentences, what the rules demand of a release and these keys can never
// give: a policy under which nothing is ever released.
func Unmet(w Wish) []string {
	if w.complete() != nil {
		return nil // Make says why
	}
	var out []string
	fido, hardware := 0, 0
	for _, p := range w.People {
		security := slices.ContainsFunc(p.Keys, func(k Key) bool { return k.Security })
		if security {
			fido++
		}
		if security || p.Protection == authority.HSM {
			hardware++
		}
	}
	signers := w.Machines
	if len(signers) == 0 {
		signers = w.People
	}
	switch {
	case w.Ready == "solo" && fido == 0:
		out = append(out, "under solo a release wants an approval with a FIDO security key, and nobody has one: nothing can be released")
	case w.Ready == "strict" && hardware < w.Approvals:
		out = append(out, fmt.Sprintf("under strict a release wants %d approvals with keys in hardware, and %d of the people have one (--protection NAME=hsm says it of somebody): nothing can be released", w.Approvals, hardware))
	}
	if w.Ready == "strict" && !slices.ContainsFunc(signers, func(p Principal) bool { return p.Protection == authority.HSM }) {
		out = append(out, "under strict the tag is signed with a key in an HSM, and no key that may sign tags is said to be in one (--protection NAME=hsm): nothing can be released")
	}
	return out
}

func names(list []Principal) []string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.Name
	}
	slices.Sort(out)
	return out
}

// authority is authority.json.
func (w *Wish) authority() ([]byte, error) {
	doc := wire{Principals: map[string]wirePrincipal{}, Roles: map[string]wireRole{}}
	add := func(list []Principal, machine bool, uses ...string) error {
		for _, p := range list {
			if _, twice := doc.Principals[p.Name]; twice {
				return fault.Usagef("%s stands twice", p.Name)
			}
			one := wirePrincipal{Machine: machine}
			for _, k := range p.Keys {
				protection := p.Protection
				if protection == "" {
					protection = authority.Software
				}
				if k.Security {
					protection = authority.FIDO
				}
				one.Keys = append(one.Keys, wireKey{Kind: k.Kind, PublicKey: k.Public, Protection: protection, Uses: uses})
			}
			doc.Principals[p.Name] = one
		}
		return nil
	}
	uses := []string{authority.UseApprove, authority.UseUpdate}
	signers := w.Machines
	if len(signers) == 0 {
		uses, signers = append(uses, authority.UseTag), w.People
	}
	for _, err := range []error{add(w.People, false, uses...), add(w.Machines, true, authority.UseTag), add(w.Recovery, false, authority.UseRecover)} {
		if err != nil {
			return nil, err
		}
	}
	doc.Roles[authority.RoleRelease] = wireRole{Principals: names(signers)}
	doc.Roles[authority.RoleUpdate] = wireRole{Threshold: w.Approvals, Principals: names(w.People), Evidence: []string{authority.Signed}}
	if len(w.Recovery) > 0 {
		doc.Roles[authority.RoleRecover] = wireRole{Threshold: len(w.Recovery)/2 + 1, Principals: names(w.Recovery), Delay: "72h"}
	}
	return indented(doc)
}

// data is data.json of the ready policy with what is known put in place of its examples.
func (w *Wish) data(example []byte) ([]byte, error) {
	var members map[string]any
	if err := json.Unmarshal(example, &members); err != nil {
		return nil, fmt.Errorf("data.json of %s: %w", w.Ready, err)
	}
	for name, value := range map[string]any{"maintainers": names(w.People), "approvals": w.Approvals, "branch": w.Branch} {
		if _, used := members[name]; used {
			members[name] = value
		}
	}
	return indented(members)
}

func indented(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}
