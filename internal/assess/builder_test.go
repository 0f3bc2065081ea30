package assess_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/hallmark-dev/hallmark/internal/assess"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Provenance counts under the names that its signer's certificate has, and under none
// that is a letter away from them.
func TestCheckBuilder(t *testing.T) {
	t.Parallel()
	const (
		github   = "https://token.actions.githubusercontent.com"
		workflow = "https://github.com/docker/github-builder/.github/workflows/build.yml@refs/tags/v1"
		run      = "https://github.com/acme/app/actions/runs/7"
	)
	job := map[string]string{"buildSignerURI": workflow, "sourceRepositoryURI": "https://github.com/acme/app",
		"runnerEnvironment": "github-hosted", "runInvocationURI": run + "/attempts/1"}
	but := func(name, value string) map[string]string {
		m := maps.Clone(job)
		m[name] = value
		return m
	}
	gitlab := map[string]string{"buildSignerURI": "https://gitlab.com/acme/app//.gitlab-ci.yml@refs/heads/main",
		"sourceRepositoryURI": "https://gitlab.com/acme/app", "runnerEnvironment": "gitlab-hosted"}
	person := evidence.Signer{Identity: "alice@example.com", Issuer: "https://accounts.example.com"}
	key := evidence.Signer{Key: "sha256:aa"}
	ci := evidence.Signer{Identity: workflow, Issuer: github, Extensions: job}
	for name, c := range map[string]struct {
		signer evidence.Signer
		id     string
		ok     bool
	}{
		"its workflow":                {ci, workflow, true},
		"another ref of it":           {ci, strings.Replace(workflow, "v1", "v2", 1), false},
		"another workflow":            {ci, strings.Replace(workflow, "build.yml", "bake.yml", 1), false},
		"more behind it":              {ci, workflow + "/", false},
		"a part of it":                {ci, strings.TrimSuffix(workflow, "@refs/tags/v1"), false},
		"another case":                {ci, strings.ToUpper(workflow), false},
		"its run":                     {ci, run + "/attempts/1", true},
		"its run, any attempt":        {ci, run, true},
		"another attempt":             {ci, run + "/attempts/2", false},
		"another run":                 {ci, run + "1", false},
		"the machine":                 {ci, "https://github.com/actions/runner/github-hosted", true},
		"another machine":             {ci, "https://github.com/actions/runner/self-hosted", false},
		"a name of its own":           {ci, "https://example.com/builder", false},
		"local":                       {ci, assess.LocalBuilder, true},
		"nearly local":                {ci, assess.LocalBuilder + "1", false},
		"none":                        {ci, "", true},
		"self-hosted":                 {evidence.Signer{Identity: workflow, Issuer: github, Extensions: but("runnerEnvironment", "self-hosted")}, "https://github.com/actions/runner/github-hosted", false},
		"another issuer's machine":    {evidence.Signer{Identity: workflow, Issuer: "https://sigstore.example.com", Extensions: job}, "https://github.com/actions/runner/github-hosted", false},
		"another issuer's workflow":   {evidence.Signer{Identity: workflow, Issuer: "https://sigstore.example.com", Extensions: job}, workflow, true},
		"gitlab: runner":              {evidence.Signer{Identity: "x", Issuer: "https://gitlab.com", Extensions: gitlab}, "https://gitlab.com/acme/app/-/runners/12270831", true},
		"gitlab: runner of another":   {evidence.Signer{Identity: "x", Issuer: "https://gitlab.com", Extensions: gitlab}, "https://gitlab.com/acme/app2/-/runners/12270831", false},
		"gitlab: a path for a runner": {evidence.Signer{Identity: "x", Issuer: "https://gitlab.com", Extensions: gitlab}, "https://gitlab.com/acme/app/-/runners/1/../2", false},
		"person: a workflow":          {person, workflow, false},
		"person: a run":               {person, run, false},
		"person: a machine":           {person, "https://github.com/actions/runner/github-hosted", false},
		"person: a pipeline":          {person, gitlab["buildSignerURI"], false},
		"person: local":               {person, assess.LocalBuilder, true},
		"person: no CI's name":        {person, "https://example.com/builder", false},
		"person: a cloud's builder":   {person, "https://cloudbuild.googleapis.com/GoogleHostedWorker", false},
		"person: itself":              {person, person.Identity, true},
		"person: nearly itself":       {person, person.Identity + "/", false},
		"key: a workflow":             {key, workflow, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for predicateType, shape := range map[string]string{evidence.PredicateSLSA1: `{"runDetails":{"builder":{"id":%}}}`, evidence.PredicateSLSA02: `{"builder":{"id":%}}`} {
				text, _ := json.Marshal(c.id)
				why := assess.CheckBuilder(policy.Fact{PredicateType: predicateType, Signer: c.signer, Predicate: []byte(strings.Replace(shape, "%", string(text), 1))})
				if (why == nil) != c.ok || why != nil && (why.Code != assess.CodeBuilder || !strings.Contains(why.Message, c.id)) {
					t.Errorf("%s: %+v", predicateType, why)
				}
			}
		})
	}
	if why := assess.CheckBuilder(policy.Fact{PredicateType: evidence.PredicateSign, Signer: person, Predicate: []byte(`{"builder":{"id":"` + workflow + `"}}`)}); why != nil {
		t.Errorf("what is no provenance: %+v", why)
	}
}

// What one reader takes for the builder and another for nothing is refused.
func TestAmbiguousBuilder(t *testing.T) {
	t.Parallel()
	const workflow = "https://github.com/acme/app/.github/workflows/build.yml@refs/heads/main"
	person := evidence.Signer{Identity: "alice@example.com", Issuer: "https://accounts.example.com"}
	job := evidence.Signer{Identity: workflow, Issuer: "https://token.actions.githubusercontent.com", Extensions: map[string]string{"buildSignerURI": workflow}}
	for _, c := range []struct {
		predicateType, predicate string
		ok                       bool // by a job that has the name
	}{
		{evidence.PredicateSLSA1, `{"builder":"x","buildDefinition":{},"runDetails":{"builder":{"id":"W"}}}`, true},
		{evidence.PredicateSLSA1, `{"runDetails":{"builder":{"id":"W","ID":""}}}`, false},
		{evidence.PredicateSLSA1, `{"runDetails":{"builder":{"Id":"W"}}}`, false},
		{evidence.PredicateSLSA1, `{"runDetails":{"builder":{"id":"W"},"Builder":{"id":"L"}}}`, false},
		{evidence.PredicateSLSA1, `{"runDetails":{"builder":{"id":"W"}},"rundetails":{}}`, false},
		{evidence.PredicateSLSA1, `{"runDetail\u017f":{"builder":{"id":"W"}}}`, false},
		{evidence.PredicateSLSA1, `{"runDetails":{"builder":{"id":"W","id":"L"}}}`, false},
		{evidence.PredicateSLSA1, `{"runDetails":{"builder":{"id":["W"]}}}`, false},
		{evidence.PredicateSLSA1, `{"runDetails":{"builder":["W"]}}`, false},
		{evidence.PredicateSLSA1, `{"runDetails":null}`, false},
		{evidence.PredicateSLSA1, `{"runDetails":{"builder":{"\u0069d":"W"}}}`, true},
		{evidence.PredicateSLSA02, `{"builder":{"id":"W"},"runDetails":"x"}`, true},
		{evidence.PredicateSLSA02, `{"builder":{"id":"W"},"BUILDER":{}}`, false},
		{evidence.PredicateSLSA02, `[]`, false},
	} {
		text := strings.NewReplacer(`"W"`, `"`+workflow+`"`, `"L"`, `"`+assess.LocalBuilder+`"`).Replace(c.predicate)
		for signer, ok := range map[*evidence.Signer]bool{&person: false, &job: c.ok} {
			why := assess.CheckBuilder(policy.Fact{PredicateType: c.predicateType, Signer: *signer, Predicate: []byte(text)})
			if (why == nil) != ok || why != nil && why.Code != assess.CodeBuilder {
				t.Errorf("%s by %s: %+v", c.predicate, signer, why)
			}
		}
	}
	if why := assess.CheckBuilder(policy.Fact{PredicateType: evidence.PredicateSLSA1, Signer: person, Predicate: []byte(`{"runDetails":{"metadata":{}}}`)}); why != nil {
		t.Errorf("no builder: %+v", why)
	}
}
