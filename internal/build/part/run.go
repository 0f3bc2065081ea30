package part

import (
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
)

// ofJob reports whether a certificate's Run Invocation URI is one of a single job, as
// GitLab's are; GitHub's is that of the run and its attempt.
func ofJob(uri string) bool { return strings.Contains(uri, "/-/jobs/") }

// Pipeline is the number of the pipeline that a token of GitLab's is for, which no
// extension of the certificate has; "" of any other token.
func Pipeline(t idtoken.Token) string {
	id, ok := t.Text("pipeline_id")
	if !ok || strings.Trim(id, "0123456789") != "" {
		return ""
	}
	return id
}

// Run is what all parts of one build have alike and no part of another: of a job at
// GitHub the URI of its run with the number of the attempt, as the certificate has it; of
// one at GitLab that of its pipeline; of who is no job, what all were given.
func Run(extensions map[string]string, pipeline, given string) (string, error) {
	run := extensions["runInvocationURI"]
	if ofJob(run) {
		run = ""
		if repository := extensions["sourceRepositoryURI"]; repository != "" && pipeline != "" {
			run = repository + "/-/pipelines/" + pipeline
		}
	}
	switch {
	case run != "" && given != "":
		return "", fault.Usagef("run=%s: the identity says which run this is", clip(given))
	case run == "" && given == "":
		return "", fault.Hint(fault.Usagef("the identity does not say which run this is; give all parts and the merge the same run=ID"),
			"a run is named anew each time: run=$(openssl rand -hex 16)")
	case run == "" && !runName(given):
		return "", fault.Usagef("run=%s: want 16 to 128 letters, digits and . _ - that no other run has", clip(given))
	case run == "":
		run = given
	}
	return run, nil
}

func runName(s string) bool {
	return len(s) >= 16 && len(s) <= 128 && !strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-')
	})
}
