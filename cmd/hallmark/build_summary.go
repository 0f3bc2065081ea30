package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"

	"github.com/hallmark-dev/hallmark/internal/build/trusted"
	"github.com/hallmark-dev/hallmark/internal/cli"
)

// forConsumers is what who uses the result needs: of a trusted build in its part of the
// answer, of a plain one in the answer itself.
type forConsumers struct {
	LogIndex *int64            `json:"logIndex,omitempty"` // of the index's signature, or the first file's
	Verify   map[string]string `json:"verify,omitempty"`   // commands, by program
	// Policies for consumers of an image.
	Policies *trusted.ConsumerPolicies `json:"policies,omitempty"`
	written  string                    // folder that has them
}

// summarize adds to the answer what consumers need, and writes the policies.
func (j *buildJob) summarize(answer *buildAnswer) error {
	if !answer.Signed {
		return nil
	}
	t := &forConsumers{LogIndex: answer.logIndex}
	if j.trusted == nil {
		answer.forConsumers, answer.Signer.Extensions = t, answer.extensions
	} else {
		made := answer.trusted()
		t = &made.forConsumers
		t.LogIndex = answer.logIndex
		made.Facts, made.Private = j.trusted.build.Facts, j.trusted.build.Private
		answer.Signer.Extensions = j.trusted.extensions
		if answer.Image == "" {
			t.Verify = j.commands(answer, made.Files[0].toVerify(j.o.result.dest))
			return nil
		}
	}
	var pushed []string
	for _, name := range j.images() {
		pushed = append(pushed, name+"@"+answer.Digest)
	}
	t.Verify = j.commands(answer, pushed)
	c := trusted.Consumer{Repositories: j.images(), Signer: *answer.Signer, PublicKey: publicPEM(j.o.signer.public)}
	if j.app.HasTrustedRoot(j.o.signer.trustedRoot) {
		c.TrustRoot = "hallmark" // as hallmark up calls its own
	}
	p := c.Policies()
	t.Policies = &p
	if dir := j.o.result.policies; dir != "" {
		t.written = dir
		return writePolicies(dir, p)
	}
	return nil
}

func writePolicies(dir string, p trusted.ConsumerPolicies) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{"image.rego": p.Rego, "cluster-image-policy.yaml": p.ClusterImagePolicy} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func publicPEM(key crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if key == nil || err != nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// images are all repositories that the image was pushed to.
func (j *buildJob) images() []string {
	names := []string{j.image.Name()}
	for _, other := range j.others {
		names = append(names, other.Name())
	}
	return names
}

// toVerify are the arguments that name a file in the folder and its bundle.
func (f *builtFile) toVerify(dir string) []string {
	at := func(path string) string { return filepath.Join(dir, filepath.FromSlash(path)) }
	return []string{"--bundle", at(f.Bundle), at(f.Path)}
}

// commands are those with which a consumer verifies what was made: images, or a file. None is
// for a program that could not tell the source repository from others that use the same
// workflow.
func (j *buildJob) commands(answer *buildAnswer, what []string) map[string]string {
	workflowOf, cosignCan := trusted.WorkflowOf(*answer.Signer)
	who, cosigns := []string{"--key", "KEY.pub"}, []string{"--key", "KEY.pub"}
	if s := answer.Signer; s.Identity != "" {
		who = []string{"--identity", s.Identity, "--issuer", s.Issuer}
		cosigns = []string{"--certificate-identity", s.Identity, "--certificate-oidc-issuer", s.Issuer}
		if source := s.Extensions["sourceRepositoryURI"]; source != "" {
			who = append(who, "--source-repository", source)
		}
		if runner := s.Extensions["runnerEnvironment"]; runner != "" {
			who = append(who, "--runner-environment", runner)
		}
		if workflowOf != "" {
			cosigns = append(cosigns, "--certificate-github-workflow-repository", workflowOf)
		}
	}
	if path := j.o.signer.trustedRoot; j.app.HasTrustedRoot(path) {
		if path == "" {
			path = j.app.Env(cli.EnvTrustedRoot)
		}
		who, cosigns = append(who, "--trusted-root", path), append(cosigns, "--trusted-root", path)
	}
	if j.trusted != nil { // of a plain build, whose provenance names what its caller likes, the image itself is asked for
		who = append(who, "--attestation", "slsaprovenance1")
	}
	cosign := "cosign verify"
	if answer.Image == "" {
		cosign, cosigns = "cosign verify-blob-attestation", append(cosigns, "--type", "slsaprovenance1")
	}
	list := map[string]string{"hallmark": commandLine("hallmark verify", who, what)}
	if cosignCan {
		list["cosign"] = commandLine(cosign, cosigns, what)
	}
	return list
}

// commandLine quotes each word where a shell needs it.
func commandLine(command string, who, more []string) string {
	for _, word := range slices.Concat(who, more) {
		command += " " + cli.ShellQuote(word)
	}
	return command
}

// printConsumers is the end of the summary; how says of the commands what was done with them.
func (a *app) printConsumers(c *forConsumers, how string) {
	if c == nil || len(c.Verify) == 0 {
		return
	}
	if c.LogIndex != nil {
		a.Print("  log entry  %d", *c.LogIndex)
	}
	if c.written != "" {
		a.Print("  policies   for consumers, in %s", c.written)
	}
	a.Print("  %s", how)
	for _, program := range []string{"hallmark", "cosign"} {
		if command := c.Verify[program]; command != "" {
			a.Print("    %s", command)
		}
	}
}
