package assess

import (
	"fmt"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/pattern"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// CodeBuilder refuses provenance that names a builder which its signer's certificate
// does not support (docs/reasons.md).
const CodeBuilder = "BUILDER_UNSUPPORTED"

// LocalBuilder is the builder.id of provenance from a machine that its user controls
// (SLSA provenance v1, "builder.id"). It claims nothing, so anybody may say it.
const LocalBuilder = "https://github.com/hallmark-dev/hallmark/builder/local/v1"

// CheckBuilder compares builder.id of a signed SLSA provenance with what the CA says of
// who signed it. nil when the certificate supports it, or cannot know: a key has no
// certificate, and whoever demands the key trusts its holder for the name. What is no
// provenance passes, too.
//
// A job's certificate names the workflow that signed and the run (Fulcio's extensions
// 1.3.6.1.4.1.57264.1.9 and .21); the provenance must name one of them, or the CI's
// machine that the certificate says it ran on. Any other certificate supports no name
// but its own identity: which names are a builder's is for no list of ours to know.
func CheckBuilder(f policy.Fact) *policy.Reason {
	k := kindOf(f.Signer)
	id, err := builderID(f.PredicateType, f.Predicate)
	refuse := &policy.Reason{Code: CodeBuilder, Subject: f.Where.Ref, Hint: "have the builder sign what it says itself"}
	switch {
	case k.what == byKey:
		return nil
	case err != nil:
		refuse.Message = "the provenance does not say one thing of its builder: " + err.Error()
		refuse.Hint = "write runDetails.builder.id (v0.2: builder.id) once, as SLSA spells it"
		return refuse
	case id == "" || id == LocalBuilder || k.supports(id, f.Signer.Extensions["runInvocationURI"]):
		return nil
	}
	says := "says nothing of a builder"
	if k.builder != "" {
		says = "is that of " + k.builder
	}
	refuse.Message = fmt.Sprintf("the provenance names the builder %q, and the certificate of its signer %s %s", id, f.Signer, says)
	return refuse
}

// supports reports whether the certificate stands for the name, which is not "".
func (k kind) supports(id, run string) bool {
	if k.builder == "" {
		return id == k.identity
	}
	switch id {
	case k.builder, run:
		return true
	case "https://github.com/actions/runner", "https://github.com/actions/runner/github-hosted":
		return k.issuer == githubIssuer && k.hosted
	case "https://github.com/actions/runner/self-hosted":
		return k.issuer == githubIssuer && !k.hosted
	}
	attempt := strings.LastIndex(run, "/attempts/")
	if attempt > 0 && id == run[:attempt] {
		return true
	}
	runner, ok := strings.CutPrefix(id, k.source+"/-/runners/") // GitLab, "Generate provenance"
	return ok && k.source != "" && digits().MatchString(runner)
}

var digits = pattern.New(`^[0-9]+$`)
