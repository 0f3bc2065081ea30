package inputs

import (
	"strings"

	"github.com/hallmark-dev/hallmark/internal/pattern"
)

// Runner says on which of GitHub's machines a part is built.
type Runner struct {
	Default string
	rules   []runnerRule
}

type runnerRule struct{ prefix, label string }

const defaultRunner = "default=ubuntu-24.04\nlinux/arm=ubuntu-24.04-arm\nlinux/arm64=ubuntu-24.04-arm"

var (
	labelPattern  = pattern.New(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	prefixPattern = pattern.New(`^[a-z0-9]+(/[a-z0-9_]+){0,2}$`)
)

// runner reads one label, or lines PLATFORM-PREFIX=LABEL with one for default.
func (r *reader) runner() Runner {
	text := strings.TrimSpace(r.values["runner"])
	switch text {
	case "":
		text = defaultRunner
	case "auto", "amd64", "arm64":
		r.fail("runner", "%q is no longer known; write a label such as ubuntu-24.04, or lines PLATFORM=LABEL with one for default", text)
	}
	var runner Runner
	seen := map[string]bool{}
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		prefix, label, ok := strings.Cut(line, "=")
		if !ok && line == text {
			prefix, label, ok = "default", line, true
		}
		prefix, label = strings.TrimSpace(prefix), strings.TrimSpace(label)
		switch {
		case !ok || !prefixPattern().MatchString(prefix) || !labelPattern().MatchString(label):
			r.fail("runner", "%q is not PLATFORM=LABEL, such as linux/arm64=ubuntu-24.04-arm", clip(line))
		case seen[prefix]:
			r.fail("runner", "%s is given twice", prefix)
		}
		seen[prefix] = true
		if prefix == "default" {
			runner.Default = label
		} else {
			runner.rules = append(runner.rules, runnerRule{prefix, label})
		}
	}
	if runner.Default == "" {
		r.fail("runner", "no line default=LABEL")
	}
	return runner
}

// For is the label for a platform: that of the longest prefix, counted in parts.
func (r Runner) For(platform string) string {
	label, longest := r.Default, ""
	for _, rule := range r.rules {
		if (platform == rule.prefix || strings.HasPrefix(platform, rule.prefix+"/")) && len(rule.prefix) > len(longest) {
			label, longest = rule.label, rule.prefix
		}
	}
	return label
}
