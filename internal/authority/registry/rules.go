package registry

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

// Action is something that is done in a repository.
type Action string

// The actions, under the names of Docker's token protocol.
const (
	Pull   Action = "pull"   // read manifests, tags, referrers and blobs
	Push   Action = "push"   // add manifests and blobs, and move tags
	Delete Action = "delete" // remove manifests, tags and blobs
)

var allActions = []Action{Pull, Push, Delete}

// Principal is who makes a request: "user:NAME" after a login with a password,
// "identity:ADDRESS" or "identity:URI" after one with an identity token, and
// [Anonymous] without a login.
type Principal string

// Anonymous is everybody who did not log in.
const Anonymous Principal = ""

// Rules say who may do what in which repositories, how much these may hold, and
// when garbage is collected. What no rule allows is refused.
type Rules struct {
	rights []right
	quotas []quota
	// GC says when the server collects garbage.
	GC Schedule
}

type right struct {
	repositories []glob
	principals   []string
	actions      []Action
}

// quota is how many bytes the repositories of its patterns may hold together.
type quota struct {
	repositories []glob
	bytes        int64
	said         string // as the file says it
}

// Schedule is when garbage is collected, and what counts as garbage.
type Schedule struct {
	Every    time.Duration // 0: never by itself
	Grace    time.Duration // what is younger is kept; at least an hour
	Untagged bool          // manifests without a tag are garbage too
}

// DefaultGrace is how long content is kept that nothing refers to yet.
const DefaultGrace = 24 * time.Hour

// minGrace leaves a push time to name what it has uploaded.
const minGrace = time.Hour

// rulesFile is the YAML document of [ParseRules].
type rulesFile struct {
	Rights []struct {
		Repositories []string `yaml:"repositories"`
		Principals   []string `yaml:"principals"`
		Actions      []string `yaml:"actions"`
		Pos          strictyaml.Pos
	} `yaml:"rights"`
	Quotas []struct {
		Repositories []string `yaml:"repositories"`
		Bytes        string   `yaml:"bytes"`
		Pos          strictyaml.Pos
	} `yaml:"quotas"`
	GC *struct {
		Every    string `yaml:"every"`
		Grace    string `yaml:"grace"`
		Untagged string `yaml:"untagged"`
		Pos      strictyaml.Pos
	} `yaml:"gc"`
}

// ParseRules reads the registry's configuration: one YAML document whose every
// word is understood (docs/registry.md). file names it in errors.
func ParseRules(file string, data []byte) (*Rules, error) {
	docs, err := strictyaml.Documents(file, data)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, fmt.Errorf("%s: want one YAML document, found %d", file, len(docs))
	}
	var doc rulesFile
	if err := docs[0].Decode(&doc); err != nil {
		return nil, err
	}
	r := &Rules{GC: Schedule{Grace: DefaultGrace}}
	for _, one := range doc.Rights {
		out := right{principals: one.Principals}
		if out.repositories, err = globs(one.Repositories); err != nil {
			return nil, one.Pos.Errorf("%v", err)
		}
		if out.actions, err = actions(one.Actions); err != nil {
			return nil, one.Pos.Errorf("%v", err)
		}
		if err := checkPrincipals(one.Principals); err != nil {
			return nil, one.Pos.Errorf("%v", err)
		}
		r.rights = append(r.rights, out)
	}
	for _, one := range doc.Quotas {
		out := quota{said: one.Bytes}
		if out.repositories, err = globs(one.Repositories); err != nil {
			return nil, one.Pos.Errorf("%v", err)
		}
		if out.bytes, err = parseSize(one.Bytes); err != nil {
			return nil, one.Pos.Errorf("%v", err)
		}
		r.quotas = append(r.quotas, out)
	}
	if doc.GC != nil {
		if r.GC, err = parseSchedule(doc.GC.Every, doc.GC.Grace, doc.GC.Untagged); err != nil {
			return nil, doc.GC.Pos.Errorf("%v", err)
		}
	}
	return r, nil
}

func actions(words []string) ([]Action, error) {
	if len(words) == 0 {
		return nil, fmt.Errorf("actions are missing: want some of pull, push, delete")
	}
	var out []Action
	for _, w := range words {
		if !slices.Contains(allActions, Action(w)) {
			return nil, fmt.Errorf("action %q: want pull, push or delete", w)
		}
		out = append(out, Action(w))
	}
	return out, nil
}

// The principals that are no single one.
const (
	anyone        = "anyone"        // also without a login
	authenticated = "authenticated" // everybody who logged in
)

func checkPrincipals(words []string) error {
	if len(words) == 0 {
		return fmt.Errorf("principals are missing: want anyone, authenticated, user:NAME or identity:ADDRESS")
	}
	for _, w := range words {
		kind, rest, _ := strings.Cut(w, ":")
		ok := w == anyone || w == authenticated
		switch kind {
		case "user":
			ok = rest != ""
		case "identity":
			ok = validIdentityPattern(rest)
		}
		if !ok {
			return fmt.Errorf("principal %q: want anyone, authenticated, user:NAME, identity:ADDRESS, identity:*@DOMAIN, identity:URI or identity:https://HOST/PATH/*", w)
		}
	}
	return nil
}

// validIdentityPattern takes a wildcard only where it stands for whole parts
// below something that is said: a local part, or the end of a path.
func validIdentityPattern(s string) bool {
	if domain, ok := strings.CutPrefix(s, "*@"); ok {
		return domain != "" && !strings.ContainsAny(domain, "*@/")
	}
	prefix, wild := strings.CutSuffix(s, "*")
	if !wild {
		return s != "" && !strings.Contains(s, "*")
	}
	rest, ok := strings.CutPrefix(prefix, "https://")
	host, path, slash := strings.Cut(rest, "/")
	return ok && slash && host != "" && !strings.Contains(prefix, "*") && (path == "" || strings.HasSuffix(path, "/") || strings.HasSuffix(path, "@"))
}

func matchIdentity(pattern, identity string) bool {
	if domain, ok := strings.CutPrefix(pattern, "*@"); ok {
		at := strings.LastIndexByte(identity, '@')
		return at > 0 && !strings.ContainsAny(identity, "/:") && identity[at+1:] == domain
	}
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(identity, prefix)
	}
	return pattern == identity
}

func (p Principal) is(word string) bool {
	switch word {
	case anyone:
		return true
	case authenticated:
		return p != Anonymous
	}
	pattern, isIdentity := strings.CutPrefix(word, "identity:")
	identity, byToken := strings.CutPrefix(string(p), "identity:")
	if isIdentity || byToken {
		return isIdentity && byToken && matchIdentity(pattern, identity)
	}
	return p != Anonymous && word == string(p)
}

// Allows reports whether p may do a in the repository.
func (r *Rules) Allows(p Principal, repo string, a Action) bool {
	for _, one := range r.rights {
		if slices.Contains(one.actions, a) && matchAny(one.repositories, repo) && slices.ContainsFunc(one.principals, p.is) {
			return true
		}
	}
	return false
}

// glob is a pattern of repository names, in components: "*" stands for one
// component or a part of one, "**" for any number of them, also none.
type glob []string

func globs(words []string) ([]glob, error) {
	if len(words) == 0 {
		return nil, fmt.Errorf(`repositories are missing: want patterns such as "team/**"`)
	}
	var out []glob
	for _, w := range words {
		g := glob(strings.Split(w, "/"))
		for _, c := range g {
			// With every wildcard replaced by a letter the component must be one
			// that a name can have.
			if c != "**" && (strings.Contains(c, "**") || !validComponent(strings.ReplaceAll(c, "*", "a"))) {
				return nil, fmt.Errorf(`repositories: %q is no pattern of repository names: want components with "*", or "**" for any number of them`, w)
			}
		}
		if len(w) > maxName || len(g) > maxGlob {
			return nil, fmt.Errorf("repositories: a pattern has at most %d characters and %d components", maxName, maxGlob)
		}
		out = append(out, g)
	}
	return out, nil
}

const maxGlob = 16 // components, which bounds what matching costs

func matchAny(list []glob, repo string) bool {
	components := strings.Split(repo, "/")
	return slices.ContainsFunc(list, func(g glob) bool { return g.match(components) })
}

// match goes through the pattern as a list of states, so that the work is at most
// the product of both lengths.
func (g glob) match(components []string) bool {
	return wildcard(g, components, func(p string) bool { return p == "**" }, func(p, c string) bool {
		return wildcard([]byte(p), []byte(c), func(b byte) bool { return b == '*' }, func(a, b byte) bool { return a == b })
	})
}

// wildcard matches a sequence with a pattern in which some elements stand for any
// number of elements. It goes back only to the last of these.
func wildcard[T any](pattern, s []T, star func(T) bool, same func(p, e T) bool) bool {
	p, i, back, from := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && star(pattern[p]):
			back, from = p, i
			p++
		case p < len(pattern) && same(pattern[p], s[i]):
			p++
			i++
		case back >= 0:
			from++
			p, i = back+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && star(pattern[p]) {
		p++
	}
	return p == len(pattern)
}

var units = []struct {
	name string
	size int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}}

// parseSize reads a whole number with a unit: "50GiB".
func parseSize(s string) (int64, error) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.size {
			break
		}
		return n * u.size, nil
	}
	return 0, fmt.Errorf("bytes: %q is no size such as 50GiB (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)", s)
}

func parseSchedule(every, grace, untagged string) (Schedule, error) {
	s := Schedule{Grace: DefaultGrace}
	var err error
	if every != "" {
		if s.Every, err = time.ParseDuration(every); err != nil || s.Every < time.Minute {
			return s, fmt.Errorf("every: %q is no time from one minute, such as 24h", every)
		}
	}
	if grace != "" {
		if s.Grace, err = time.ParseDuration(grace); err != nil || s.Grace < minGrace {
			return s, fmt.Errorf("grace: %q is no time from one hour, such as 24h", grace)
		}
	}
	switch untagged {
	case "", "keep":
	case "remove":
		s.Untagged = true
	default:
		return s, fmt.Errorf("untagged: %q: want keep or remove", untagged)
	}
	return s, nil
}
