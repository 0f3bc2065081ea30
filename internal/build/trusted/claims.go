package trusted

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/idtoken"
	"github.com/hallmark-dev/hallmark/internal/policy"
)

// Claims are what an identity says of the job that has it. "" is not said.
type Claims struct {
	Issuer     string `json:"issuer,omitempty"`
	Builder    string `json:"builder,omitempty"`    // the workflow that runs, with its ref
	Repository string `json:"repository,omitempty"` // of the source, a URL; of a token perhaps only its path
	Commit     string `json:"commit,omitempty"`
	Ref        string `json:"ref,omitempty"` // refs/tags/…
	Event      string `json:"event,omitempty"`
	Run        string `json:"run,omitempty"`
	Runner     string `json:"runner,omitempty"`
	Visibility string `json:"visibility,omitempty"`
}

// ClaimsOf is what a certificate says (Fulcio's extensions).
func ClaimsOf(s evidence.Signer) Claims {
	x := s.Extensions
	c := Claims{Issuer: s.Issuer, Builder: x["buildSignerURI"], Repository: x["sourceRepositoryURI"], Commit: x["sourceRepositoryDigest"],
		Ref: x["sourceRepositoryRef"], Event: x["buildTrigger"], Run: x["runInvocationURI"], Runner: x["runnerEnvironment"],
		Visibility: x["sourceRepositoryVisibilityAtSigning"]}
	for name, value := range x {
		if name != "tokenSubject" && !c.OfJob() { // that alone anybody may have
			c.Run = name + " " + value
		}
	}
	return c
}

// OfJob reports whether they are those of a CI job, however little it says.
func (c Claims) OfJob() bool { return c != Claims{Issuer: c.Issuer} }

// ClaimsOfToken is what an identity token itself says, in the words of GitHub ("OpenID
// Connect reference") or GitLab ("OpenID Connect authentication using ID tokens"): none
// of a token of another shape. It is not verified yet; the CA does that.
func ClaimsOfToken(t idtoken.Token) (Claims, error) {
	c := Claims{Issuer: t.Issuer}
	text := func(into *string, name string) error {
		v, ok := t.Text(name)
		if !ok {
			return fmt.Errorf("identity token: claim %q is no string", name)
		}
		*into = v
		return nil
	}
	fields := map[string]*string{"sha": &c.Commit, "ref": &c.Ref}
	var kind string
	switch {
	case has(t, "job_workflow_ref"):
		fields["repository"], fields["job_workflow_ref"] = &c.Repository, &c.Builder
		fields["event_name"], fields["repository_visibility"] = &c.Event, &c.Visibility
	case has(t, "ci_config_ref_uri"):
		fields["project_path"], fields["ci_config_ref_uri"], fields["ref_type"] = &c.Repository, &c.Builder, &kind
		fields["pipeline_source"], fields["project_visibility"] = &c.Event, &c.Visibility
	default:
		return Claims{}, nil
	}
	for name, into := range fields {
		if err := text(into, name); err != nil {
			return Claims{}, err
		}
	}
	switch kind {
	case "":
	case "branch":
		c.Ref = "refs/heads/" + c.Ref
	case "tag":
		c.Ref = "refs/tags/" + c.Ref
	default:
		return Claims{}, fmt.Errorf("identity token: claim %q is neither branch nor tag", "ref_type")
	}
	return c, nil
}

func has(t idtoken.Token, claim string) bool {
	raw, ok := t.Claims[claim]
	return ok && string(raw) != `""` && json.Valid(raw)
}

// Source is what is built.
type Source struct {
	Repository string // URL
	Ref        string // full name; "" when a commit was asked for
	Commit     string
}

// Check compares the claims of a job with what is built. Claims of anybody else say
// nothing of a source, and pass; those of a job must say all of it.
func (c Claims) Check(s Source) []policy.Reason {
	if !c.OfJob() {
		return nil
	}
	var why []policy.Reason
	differ := func(what, said, built string) {
		message, hint := fmt.Sprintf("the identity is that of a job for %s %s, and what is built is %s", what, said, built), "build the commit that the job was started for"
		if said == "" {
			message = fmt.Sprintf("the identity of the job does not say which %s it is for, and what is built is %s", what, built)
			hint = "build in a CI system whose identities name commit, ref and repository, as those of GitHub Actions and GitLab do"
		}
		why = append(why, policy.Reason{Code: CodeClaims, Message: message, Subject: built, Hint: hint})
	}
	if c.Commit != s.Commit || s.Commit == "" {
		differ("commit", c.Commit, s.Commit)
	}
	if c.Ref == "" || s.Ref != "" && c.Ref != s.Ref {
		differ("ref", c.Ref, cmp.Or(s.Ref, s.Commit))
	}
	if !sameRepository(c.Repository, s.Repository) {
		differ("repository", c.Repository, s.Repository)
	}
	return why
}

// sameRepository compares a claim with a URL. Servers say in tokens only the path.
func sameRepository(claim, repository string) bool {
	host, path := repositoryParts(repository)
	claimHost, claimPath := repositoryParts(claim)
	return path != "" && path == claimPath && (claimHost == host || claimHost == "" && !strings.Contains(claim, "://"))
}

func repositoryParts(s string) (host, path string) {
	u, err := url.Parse(s)
	if err != nil || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", ""
	}
	return strings.ToLower(u.Host), strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
}
