package meta

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/pattern"
)

// version is what patterns of semver and pep440 rules can name.
type version struct {
	raw, clean          string
	major, minor, patch string
	plain               bool // no prerelease, and of PEP 440 no post or dev release
}

// scope has the expressions of patterns.
func (v version) scope() scope {
	return scope{values: map[string]string{"raw": v.raw, "version": v.clean, "major": v.major, "minor": v.minor, "patch": v.patch}}
}

// semverPattern is Semantic Versioning 2.0.0 with an optional v in front.
var semverPattern = pattern.New(`^v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?` +
	`(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$`)

// maxNumber is the largest number that JavaScript, where these rules come from,
// counts exactly.
const maxNumber = 1<<53 - 1

func parseSemver(s string) (version, bool) {
	m := semverPattern().FindStringSubmatch(s)
	if m == nil || len(s) > 256 {
		return version{}, false
	}
	for _, n := range m[1:4] {
		if i, err := strconv.ParseUint(n, 10, 64); err != nil || i > maxNumber {
			return version{}, false
		}
	}
	v := version{raw: s, major: m[1], minor: m[2], patch: m[3], plain: m[4] == ""}
	v.clean = strings.Join(m[1:4], ".")
	if !v.plain {
		v.clean += "-" + m[4]
	}
	return v, true
}

// pep440Pattern is PEP 440, appendix B.
var pep440Pattern = pattern.New(`(?i)^v?(?:(\d+)!)?(\d+(?:\.\d+)*)` +
	`(?:[-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?(\d*))?` +
	`(?:-(\d+)|[-_.]?(post|rev|r)[-_.]?(\d*))?` +
	`(?:[-_.]?(dev)[-_.]?(\d*))?` +
	`(?:\+([a-z0-9]+(?:[-_.][a-z0-9]+)*))?$`)

// parsePEP440 also gives the normal form of PEP 440, "Normalization".
func parsePEP440(s string) (version, bool) {
	m := pep440Pattern().FindStringSubmatch(s)
	if m == nil || len(s) > 256 {
		return version{}, false
	}
	release := strings.Split(m[2], ".")
	for i := range release {
		release[i] = number(release[i])
	}
	v := version{raw: s, major: release[0], minor: "0", patch: "0", plain: m[3] == "" && m[5] == "" && m[6] == "" && m[8] == ""}
	if len(release) > 1 {
		v.minor = release[1]
	}
	if len(release) > 2 {
		v.patch = release[2]
	}
	if epoch := number(m[1]); epoch != "0" {
		v.clean = epoch + "!"
	}
	v.clean += strings.Join(release, ".")
	switch phase := strings.ToLower(m[3]); phase {
	case "":
	case "a", "alpha":
		v.clean += "a" + number(m[4])
	case "b", "beta":
		v.clean += "b" + number(m[4])
	default:
		v.clean += "rc" + number(m[4])
	}
	if m[5] != "" || m[6] != "" {
		v.clean += ".post" + number(m[5]+m[7])
	}
	if m[8] != "" {
		v.clean += ".dev" + number(m[9])
	}
	if m[10] != "" {
		v.clean += "+" + strings.NewReplacer("-", ".", "_", ".").Replace(strings.ToLower(m[10]))
	}
	return v, true
}

// number is digits without zeros in front, 0 for none.
func number(digits string) string {
	if n := strings.TrimLeft(digits, "0"); n != "" {
		return n
	}
	return "0"
}

var onlyRaw = pattern.New(`^\{\{\s*raw\s*\}\}$`)

// render is the pattern of a semver or pep440 rule for v. Of a version that is not
// plain only its whole name, or its raw one when the pattern asks for that, becomes a
// tag: 2.0 must not move to 2.0.8-beta.
func (v version) render(pattern string) (string, error) {
	switch {
	case v.plain:
		return v.scope().expand(pattern)
	case onlyRaw().MatchString(pattern):
		return v.raw, nil
	}
	return v.clean, nil
}

// userPattern is a regular expression of a match rule or attribute: "expr", or
// "/expr/flags" with JavaScript's flags.
type userPattern struct {
	re  *regexp.Regexp
	all bool // flag g: groups are the matches in turn
}

var delimited = pattern.New(`^/(.+)/(.*)$`)

func compilePattern(text string) (userPattern, error) {
	if len(text) > 1000 {
		return userPattern{}, fmt.Errorf("a regular expression longer than 1000 characters")
	}
	p, flags := userPattern{}, ""
	if m := delimited().FindStringSubmatch(text); m != nil {
		text = m[1]
		for _, f := range m[2] {
			switch f {
			case 'i', 'm', 's':
				flags += string(f)
			case 'g':
				p.all = true
			case 'u':
			default:
				return p, fmt.Errorf("the flag %c of a regular expression is not supported", f)
			}
		}
	}
	if flags != "" {
		text = "(?" + flags + ":" + text + ")"
	}
	var err error
	if p.re, err = regexp.Compile(text); err != nil {
		return p, fmt.Errorf("%w; expressions are those of RE2, without look-around and back references", err)
	}
	return p, nil
}

// find is the group of the match in s.
func (p userPattern) find(s string, group int) (string, bool) {
	if p.all {
		if m := p.re.FindAllString(s, group+1); len(m) > group {
			return m[group], true
		}
		return "", false
	}
	m := p.re.FindStringSubmatchIndex(s)
	if m == nil || 2*group+1 >= len(m) || m[2*group] < 0 {
		return "", false
	}
	return s[m[2*group]:m[2*group+1]], true
}
