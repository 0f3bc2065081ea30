package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// signer is the demo's release identity; its token comes from the embedded issuer.
const signer = "rita@example.com"

// policySentences say what demo/policy demands.
var policySentences = []string{"the tag looks like v1.2.3", `it is signed by the key named "release"`}

// build checks the tag, builds from its commit, pushes and signs.
func (d *demo) build(ctx context.Context) error {
	r, err := d.must(ctx, "token", "--data", d.path("authority"), "--email", signer)
	if err != nil {
		return err
	}
	token := d.path("token")
	if err := os.WriteFile(token, []byte(strings.TrimSpace(r.stdout)), 0o600); err != nil {
		return err
	}
	d.identity = signer
	args := append([]string{"build", d.source, "--ref", d.tag, "--policy", d.rules, "-t", d.image, "--identity-token", token}, d.args...)
	r, err = d.must(ctx, args...)
	if err != nil {
		return err
	}
	d.digest = digestPattern.FindString(r.stdout)
	if d.digest == "" {
		return fmt.Errorf("hallmark build did not print a digest:\n%s", r.stdout)
	}
	d.page.add(chapter{
		title:   "Gate one: may this be built? Then it is built and signed",
		text:    "The tag is checked against the policy before anything runs. Then BuildKit builds exactly that commit, writes down what went in (provenance), and the result is signed: a certificate for " + signer + ", an entry in the log, a timestamp, attached to the image in the registry.",
		command: d.shown(args...),
		seen:    lines(r.stdout),
	})
	return nil
}

// verify asks who signed the image, as a user of the image would.
func (d *demo) verify(ctx context.Context) error {
	args := []string{"verify", d.image, "--identity", d.identity, "--issuer", d.authority.Issuer}
	r, err := d.must(ctx, args...)
	if err != nil {
		return err
	}
	d.page.add(chapter{
		title:   "Gate two: is it really theirs?",
		text:    "Anyone who has the authority's public keys can check this; nothing but the registry is asked.",
		command: d.shown(args...),
		seen:    lines(r.stdout),
	})
	args = []string{"show", d.image}
	if r, err = d.must(ctx, args...); err != nil {
		return err
	}
	d.page.add(chapter{
		title:   "What hangs on the image",
		text:    "Everything that was attached, each with a reference of its own.",
		command: d.shown(args...),
		seen:    lines(r.stdout),
	})
	return nil
}

const podYAML = `apiVersion: v1
kind: Pod
metadata:
  name: demo
spec:
  containers:
    - name: main
      image: %s
`

const clusterPolicy = `apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata:
  name: released-by-rita
spec:
  images:
    - glob: "%s/demo/**"
  authorities:
    - name: rita
      keyless:
        trustRootRef: %s
        identities:
          - issuer: %s
            subject: %s
`

// admit writes a cluster policy that trusts the signer and asks about a Pod.
func (d *demo) admit(ctx context.Context) error {
	dir := d.path("cluster")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.ReadFile(filepath.Join(d.path("authority"), "trust-root.yaml"))
	if err != nil {
		return err
	}
	name := fieldAfter(string(root), "name:")
	if name == "" {
		return errors.New("trust-root.yaml has no name")
	}
	policy := fmt.Sprintf(clusterPolicy, d.authority.Registry, name, d.authority.Issuer, d.identity)
	for file, content := range map[string]string{"trust-root.yaml": string(root), "policy.yaml": policy} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
			return err
		}
	}
	args, err := d.podArgs("pod.yaml", d.image)
	if err != nil {
		return err
	}
	r, err := d.must(ctx, args...)
	if err != nil {
		return err
	}
	if !strings.Contains(r.stdout, d.digest) {
		return fmt.Errorf("the Pod's image was not pinned to %s:\n%s", d.digest, r.stdout)
	}
	d.page.add(chapter{
		title:   "Gate three: may it run?",
		text:    "The cluster's policy wants images signed by " + d.identity + ". The Pod is allowed, and its image is pinned by digest, so that what was checked is what runs, whatever happens to the tag.",
		command: d.shown(args...),
		seen:    lines(r.stdout),
	})
	return nil
}

// podArgs writes a Pod with the image and returns the call that asks about it.
func (d *demo) podArgs(file, image string) ([]string, error) {
	path := d.path(file)
	return []string{"admit", "check", "-f", path, "--policy", d.path("cluster")},
		os.WriteFile(path, fmt.Appendf(nil, podYAML, image), 0o644)
}

func fieldAfter(text, field string) string {
	for _, l := range strings.Split(text, "\n") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(l), field); ok {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}

func lines(s string) []string {
	return strings.Split(strings.TrimRight(s, "\n"), "\n")
}
