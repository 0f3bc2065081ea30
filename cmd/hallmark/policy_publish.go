package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/pattern"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policybundle"
	"github.com/hallmark-dev/hallmark/internal/registry"
	"github.com/hallmark-dev/hallmark/internal/sign"
)

// policyPublishAnswer is what policy publish prints with --json; docs/json.md has the table.
type policyPublishAnswer struct {
	Reference string            `json:"reference"`
	Version   string            `json:"version"`
	Digest    digest.Digest     `json:"digest"`
	Files     int               `json:"files"`
	Imports   map[string]string `json:"imports,omitempty"`
	Signed    signedImage       `json:"signed"`
	Signer    string            `json:"signer"`
	Made      *madePublic       `json:"madePublic,omitempty"`
}

func newPolicyPublishCommand(a *app) *cobra.Command {
	o := &signerOptions{}
	c := &cobra.Command{
		Use:   "publish FOLDER REFERENCE",
		Short: "Store a policy with all that it reads in a registry, signed",
		Long: `Store the files of a folder, a policy with its tests, data and keys, in a registry:
one artifact, whose tag is its version, as 1.2.0. It is pushed by its digest, signed,
and only then named by the tag. All *.rego files of it outside of its folders, but for
tests, are one policy; another policy has a folder of its own. Hidden files are left out, links are refused.

A version never changes, and none is published that is older than what is there.
Folders of it that hallmark policy pull wrote are imports: they must be what was
published, and are named, by digest, in the artifact.

Who signs and with which services: see hallmark sign --help.`,
		Example: `  hallmark policy publish policies 127.0.0.1:8420/policies:1.1.0 --key release.key
  hallmark policy publish policies 127.0.0.1:8420/team/policies:1.0.0 --identity-token token`,
		Args: cli.Args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, argv []string) error {
			return a.policyPublish(c.Context(), o, argv[0], argv[1])
		},
	}
	o.addWho(c)
	c.Flags().BoolVar(&o.json, "json", false, "print one JSON object")
	return c
}

func (a *app) policyPublish(ctx context.Context, o *signerOptions, dir, name string) error {
	if err := o.check(); err != nil {
		return err
	}
	ref, version, err := policyVersion(name)
	if err != nil {
		return err
	}
	bundle, err := policybundle.Read(dir)
	if err != nil {
		return err
	}
	bundle.Repository, bundle.Version = ref.Name(), version
	if err := checkPolicyBundle(bundle); err != nil {
		return a.denyMistakes(err)
	}
	client := a.RegistryClient()
	if err := bundle.CheckImports(ctx, client.Open); err != nil {
		return err
	}
	repo, err := client.Open(ctx, ref)
	if err != nil {
		return err
	}
	_, desc, err := bundle.Manifest()
	if err != nil {
		return err
	}
	why, err := publishedBefore(ctx, repo, ref, version, desc)
	if err != nil {
		return err
	}
	if why != nil {
		return a.Deny(policy.Deny(*why))
	}
	desc, manifest, err := bundle.Push(ctx, repo)
	if err != nil {
		return err
	}
	signed, err := a.signPolicy(ctx, o, repo, desc)
	if err != nil {
		return err
	}
	if err := repo.PushManifest(ctx, desc, manifest, ref.Tag); err != nil {
		return err
	}
	answer := policyPublishAnswer{Reference: ref.String(), Version: version, Digest: desc.Digest, Files: len(bundle.Files),
		Imports: map[string]string{}, Signed: signed, Signer: signed.signer.String(), Made: o.madePublic}
	for folder, i := range bundle.Imports {
		answer.Imports[folder] = i.String()
	}
	if o.json {
		return a.PrintJSON(answer)
	}
	a.reportSigned(signed)
	a.Print("published  %s, version %s, %d files", ref.WithDigest(evidence.Digest(desc.Digest)), version, answer.Files)
	a.sayMadePublic(o, true)
	return nil
}

// policyVersion reads a reference whose tag is a version.
func policyVersion(name string) (registry.Ref, string, error) {
	ref, err := registry.ParseRef(name)
	switch {
	case err != nil:
		return ref, "", err
	case ref.Scheme != registry.SchemeRegistry || ref.Digest != "":
		return ref, "", fault.Usagef("%s: want REGISTRY/REPOSITORY:VERSION", name)
	}
	version, err := policybundle.CheckVersion(ref.Tag)
	if err != nil {
		return ref, "", fault.Hint(err, "the tag is the policy's version: %s:1.0.0", ref.Name())
	}
	return ref, version, nil
}

var packageDocker = pattern.New(`(?m)^\s*package\s+docker\s*(#.*)?$`)

// oneOf is why files that are right each by itself are wrong together.
const oneOf = "all *.rego files outside of folders are one policy, here %s; publish each of several policies from a folder of its own"

// checkPolicyBundle compiles what is a source policy: nobody is helped by one that denies all.
func checkPolicyBundle(b *policybundle.Bundle) error {
	names := b.Top()
	for _, name := range names {
		if packageDocker().Match(b.Files[name]) {
			_, err := compileBundle(b, names, nil)
			if bad := mistakes(err); len(bad) > 0 && len(names) > 1 {
				bad[len(bad)-1].Hint = fmt.Sprintf(oneOf, strings.Join(names, ", "))
			}
			return err
		}
	}
	return nil
}

// publishedBefore is why a version cannot be published: it, or a later one, is there. The very
// same bundle may be published again.
func publishedBefore(ctx context.Context, repo *registry.Repository, ref registry.Ref, version string, desc ocispec.Descriptor) (*policy.Reason, error) {
	tags, err := repo.Tags(ctx)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil // nothing of that name is there yet
	}
	if err != nil {
		return nil, err
	}
	for _, tag := range tags {
		v, err := policybundle.CheckVersion(tag)
		if err != nil {
			continue
		}
		at := ref
		at.Tag = tag
		switch {
		case policybundle.Older(version, v):
			return &policy.Reason{Code: policybundle.CodeRollback, Subject: at.String(),
				Message: fmt.Sprintf("version %s is older than %s, which is published", version, v), Hint: "give it a version above that"}, nil
		case policybundle.Older(v, version):
			continue
		}
		there, err := policybundle.Resolve(ctx, repo, at)
		if err != nil {
			return nil, err
		}
		if there != nil && there.Digest != desc.Digest {
			return &policy.Reason{Code: policybundle.CodeRollback, Subject: at.String(),
				Message: fmt.Sprintf("version %s is published, and is %s; this would be %s", version, there.Digest, desc.Digest), Hint: "a version never changes: give it the next one"}, nil
		}
	}
	return nil, nil
}

// signPolicy signs what was pushed, by its digest.
func (a *app) signPolicy(ctx context.Context, o *signerOptions, repo *registry.Repository, desc ocispec.Descriptor) (signedImage, error) {
	target := sign.Target{Repo: repo, Desc: desc}
	st, err := sign.ImageStatement(target.Digest(), nil)
	if err != nil {
		return signedImage{}, err
	}
	o.private = a.privateImages(target.String())
	signer, err := a.newSigner(ctx, o)
	if err != nil {
		return signedImage{}, err
	}
	if err := a.consent(signer, o, []*sign.Statement{st}); err != nil {
		return signedImage{}, err
	}
	r := attachJob{name: target.String(), target: target, statement: st}.run(ctx, signer)
	return r, r.err
}
