package trusted

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/evidence"
)

// Consumer is what a consumer can hold the result of a build to.
type Consumer struct {
	Repositories []string // of the image: host/repository, one at least
	Signer       evidence.Signer
	PublicKey    string // PEM of a key that signed; "" when an identity did
	TrustRoot    string // name of the TrustRoot in the cluster; "" is Sigstore's public instance
}

// ConsumerPolicies are policies that let an image of the repositories pass only when the
// signer of this build signed it, for the repository of this build.
type ConsumerPolicies struct {
	Rego               string `json:"rego,omitempty"`               // of docker buildx and hallmark build; none for a key, which buildx cannot name
	ClusterImagePolicy string `json:"clusterImagePolicy,omitempty"` // none where its rules cannot know the source repository
}

// Policies writes them. All that comes from elsewhere is quoted in the language it
// lands in: a name cannot become a rule.
func (c Consumer) Policies() ConsumerPolicies {
	if c.PublicKey != "" {
		return ConsumerPolicies{ClusterImagePolicy: c.clusterImagePolicy("")}
	}
	p := ConsumerPolicies{Rego: c.rego()}
	if workflowOf, ok := WorkflowOf(c.Signer); ok {
		p.ClusterImagePolicy = c.clusterImagePolicy(workflowOf)
	}
	return p
}

// WorkflowOf is what a program that knows only the older extensions of a certificate must
// demand beside identity and issuer, so that only the jobs of one source repository pass:
// Fulcio's GitHub Workflow Repository, OWNER/NAME. A workflow signs under its own identity
// for whoever calls it. It is "" where the identity is of one repository anyway: a person's,
// or a pipeline below its project. Not ok is a signer that such a program cannot hold to a
// repository.
func WorkflowOf(s evidence.Signer) (repository string, ok bool) {
	repository, source := s.Extensions["githubWorkflowRepository"], s.Extensions["sourceRepositoryURI"]
	return repository, repository != "" || source == "" || strings.HasPrefix(s.Identity, source+"/")
}

// quote is a text as a JSON string, which Rego and YAML read as the same text.
func quote(s string) string {
	text, _ := json.Marshal(s) // a string cannot fail
	return string(text)
}

// names are all spellings under which a registry's client finds the repositories, in lower
// case: with the default port, and Docker Hub's other hosts.
func (c Consumer) names() []string {
	var out []string
	for _, r := range c.Repositories {
		host, path, _ := strings.Cut(strings.ToLower(r), "/")
		hosts := []string{host}
		if host == "docker.io" {
			hosts = append(hosts, "index.docker.io", "registry-1.docker.io")
		}
		for _, h := range hosts {
			h = strings.TrimSuffix(strings.TrimSuffix(h, ":443"), ":80")
			out = append(out, h+"/"+path)
			if !strings.Contains(h, ":") || strings.HasSuffix(h, "]") { // no other port
				out = append(out, h+":443/"+path, h+":80/"+path)
			}
		}
	}
	return out
}

func (c Consumer) rego() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Images of these repositories come from the builder that signed them, and from nowhere else.")
	line("# It speaks of no other image: put it beside the policies that you have.")
	line("package docker\n")
	line("identity := %s\n", quote(c.Signer.Identity))
	line("issuer := %s\n", quote(c.Signer.Issuer))
	line("repositories := {")
	for _, name := range c.names() {
		line("\t%s,", quote(name))
	}
	line("}\n")
	line("default allow := false\n")
	line("ours if lower(input.image.fullRepo) in repositories\n")
	line("allow if not ours\n")
	line("allow if {")
	line("\tsome signature in input.image.signatures")
	line("\tsignature.signer.subjectAlternativeName == identity")
	line("\tsignature.signer.issuer == issuer")
	if source := c.Signer.Extensions["sourceRepositoryURI"]; source != "" {
		line("\tsignature.signer.sourceRepositoryURI == %s", quote(source))
	}
	// Who calls a workflow can have its jobs run on a machine of their own, by its label.
	if machine := c.Signer.Extensions["runnerEnvironment"]; machine != "" {
		line("\tsignature.signer.runnerEnvironment == %s", quote(machine))
	}
	line("}\n")
	line("deny_msg contains sprintf(\"%%s is not signed by %%s\", [input.image.ref, identity]) if not allow\n")
	line("decision := {\"allow\": allow, \"deny_msg\": deny_msg}")
	return b.String()
}

// maxLabel is the longest label of a name in a cluster (RFC 1123).
const maxLabel = 63

// policyName is a name in a cluster that other repositories do not have: what can be
// read, and 128 bits of the SHA-256 of them all.
func (c Consumer) policyName() string {
	sum := fmt.Sprintf("%.16x", sha256.Sum256([]byte(strings.Join(c.Repositories, "\n"))))
	name := regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(c.Repositories[0]), "-")
	return strings.Trim(name[:min(len(name), maxLabel-1-len(sum))], "-") + "-" + sum
}

func (c Consumer) clusterImagePolicy(workflowOf string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("apiVersion: policy.sigstore.dev/v1beta1")
	line("kind: ClusterImagePolicy")
	line("metadata: {name: %s}", quote(c.policyName()))
	line("spec:")
	line("  images:")
	for _, r := range c.Repositories {
		// The name that policy-controller matches: at a digest, and with Docker Hub's own host.
		glob := r + "@*"
		if hub, ok := strings.CutPrefix(glob, "docker.io/"); ok {
			glob = "index.docker.io/" + hub
		}
		line("  - glob: %s", quote(glob))
	}
	line("  authorities:")
	line("  - name: builder")
	if c.PublicKey != "" {
		line("    key: {data: %s}", quote(c.PublicKey))
		return b.String()
	}
	line("    keyless:")
	if c.TrustRoot != "" {
		line("      trustRootRef: %s", quote(c.TrustRoot))
	}
	line("      identities: [{issuer: %s, subject: %s}]", quote(c.Signer.Issuer), quote(c.Signer.Identity))
	if workflowOf != "" {
		// An authority cannot name the source repository; this rule, on
		// what the authority matched, can.
		rule := "package sigstore\n\nimport future.keywords.if\n\ndefault isCompliant := false\n\n" +
			"isCompliant if input.authorityMatches.builder.signatures[_].githubWorkflowRepo == " + quote(workflowOf) + "\n"
		line("  policy: {type: rego, data: %s}", quote(rule))
	}
	return b.String()
}
