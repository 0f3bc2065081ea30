package workflowlint

import (
	"path"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	fetch   = `\b(?:curl|wget)\b`
	before  = `(?:(?:\S*/)?(?:sudo|env|exec|command|nohup|time|nice)(?:\s+-[ugUn]\s+\S+|\s+-\S+|\s+\w+=\S*)*\s+)*` // what stands before a program
	program = `(?:\S*/)?(?:(?:ba|da|z|k|a|fi)?sh|python[0-9.]*|perl|ruby|node|php|pwsh|deno|bun|lua|tclsh)\b`
)

var (
	quotedText = regexp.MustCompile(`"[^"\n]*"|'[^'\n]*'`)
	continued  = regexp.MustCompile(`\\\n\s*`)
	piped      = regexp.MustCompile(fetch + `(?:[^\n;&]|&[^&\n])*\|\s*` + before + program)
	given      = regexp.MustCompile(`^\s+-(c|m|e|ne|pe)\b`) // the code is an argument, not what is piped in
	inserted   = regexp.MustCompile("(?:" + program + `\s+(?:-\S+\s+)*|\b(?:eval|source)\s+|(?:^|[\s;&|])\.\s+)"?(?:\$\(|` + "`" + `|<\()\s*` + fetch)
	saved      = regexp.MustCompile(fetch + `[^\n;|&]*?\s(?:-[a-zA-Z]*[oO]|--output(?:-document)?|>)[ =]*("[^"\n]+"|'[^'\n]+'|[^\s"';&|]+)`)
	checked    = regexp.MustCompile(`\b(?:sha(?:256|384|512)sum|shasum)\b[^\n]*\s(?:-c|--check)|\bgpgv?\b|\b(?:cosign|hallmark|minisign|gh attestation)\s+verify`)
	unchecked  = regexp.MustCompile(fetch + `[^\n]*(\s-k\b|--insecure|--no-check-certificate)`)
	laterStep  = regexp.MustCompile(`\$\{?GITHUB_(ENV|PATH)\b|::(set-env|add-path)`)
	evaluated  = regexp.MustCompile(`(?:^|[\s;&|(])eval\s|\b(?:ba|da|z)?sh\s+(?:-\S+\s+)*-[a-z]*c\s+"?\$[A-Za-z_{0-9@*]`)
)

func (c *checker) script(run *yaml.Node) {
	c.code("run", run)
	script := continued.ReplaceAllString(run.Value, " ")
	if runsDownload(script) || unchecked.MatchString(script) {
		c.add(run, RuleDownload, "what is downloaded is run, or not checked")
	}
	if laterStep.MatchString(script) {
		c.add(run, RuleEnvironment, "GITHUB_ENV and GITHUB_PATH decide what later steps run; use outputs")
	}
	if evaluated.MatchString(script) {
		c.add(run, RuleInjection, "the value of a variable is run as code")
	}
}

// runsDownload reports whether a script runs what it fetched: from a pipe, a substitution,
// or a file that was not compared with anything.
func runsDownload(script string) bool {
	// A text in quotes may have what ends a command; without them a substitution in one is lost.
	for _, s := range []string{script, quotedText.ReplaceAllString(script, "text")} {
		for _, at := range piped.FindAllStringIndex(s, -1) {
			if !given.MatchString(s[at[1]:]) {
				return true
			}
		}
	}
	if inserted.MatchString(script) {
		return true
	}
	for _, m := range saved.FindAllStringSubmatch(script, -1) {
		name := regexp.QuoteMeta(strings.TrimPrefix(strings.Trim(path.Base(m[1]), `"'`), "./"))
		runs := regexp.MustCompile(`(?:` + program + `|\bsource|\bchmod\s+\S+|(?:^|[\s;&|])\.)\s+(?:-\S+\s+)*["']?(?:\S*/)?` + name + `\b|(?:^|[\n;&|(]\s*|\bsudo\s+|\bexec\s+)["']?\.?[^\s"';&|]*/` + name + `\b`)
		if runs.MatchString(script) && !checked.MatchString(script) {
			return true
		}
	}
	return false
}
