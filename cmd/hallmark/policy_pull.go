package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/cli/check"
	"github.com/hallmark-dev/hallmark/internal/evidence"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/sourcepolicy"
	"github.com/hallmark-dev/hallmark/internal/policybundle"
	"github.com/hallmark-dev/hallmark/internal/registry"
)

// policyPullAnswer is what policy pull prints with --json; docs/json.md has the table.
type policyPullAnswer struct {
	Allowed   bool              `json:"allowed"`
	Reference string            `json:"reference"` // by digest
	Version   string            `json:"version,omitempty"`
	Before    string            `json:"before,omitempty"`
	Folder    string            `json:"folder,omitempty"`
	Files     int               `json:"files,omitempty"`
	Imports   map[string]string `json:"imports,omitempty"`
	Signer    string            `json:"signer,omitempty"`
	Reasons   []policy.Reason   `json:"reasons,omitempty"`
}

func newPolicyPullCommand(a *app) *cobra.Command {
	var w check.Wanted
	var origin string
	var asJSON bool
	c := &cobra.Command{
		Use:   "pull REFERENCE FOLDER",
		Short: "Fetch a published policy into a folder, if who you want signed it",
		Long: `Fetch a policy that hallmark policy publish stored, and make FOLDER exactly its
files. The signature is checked first: by --identity and --issuer, by --key, or by
the signer that is pinned for its repository (hallmark trust pin).

A folder that has the policy already takes no older version, and not another content
of the same one. A policy that was published in another repository is none of this
one's, by whomever it is signed. FOLDER belongs to the policy: what else lies in it goes away.

Exit code 3: it is denied, and the folder is as it was.`,
		Example: `  hallmark policy pull 127.0.0.1:8420/policies:1.0.0 shared --key release.pub
  hallmark policy pull 127.0.0.1:8420/policies:1.0.0 elsewhere --identity alice@example.com --issuer http://127.0.0.1:8420    # exit 3: somebody else signed it`,
		Args: cli.Args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, argv []string) error {
			return a.policyPull(c.Context(), &w, argv[0], argv[1], origin, asJSON)
		},
	}
	w.AddFlags(c)
	c.Flags().StringVar(&origin, "origin", "", "the `REPOSITORY` that it was published in, where REFERENCE is a mirror of it")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) policyPull(ctx context.Context, w *check.Wanted, name, dir, origin string, asJSON bool) error {
	ref, err := registry.ParseRef(name)
	if err != nil {
		return err
	}
	old, err := policybundle.ReadRecord(dir)
	if err != nil {
		return err
	}
	result, err := a.checks().Signed(ctx, w, name)
	if err != nil {
		return err
	}
	answer := policyPullAnswer{Reference: ref.WithDigest(result.Subject.Digest).String()}
	d := result.Decision
	if d.Allowed {
		if f, ok := check.SignedBy(result); ok {
			answer.Signer = f.Signer.String()
		}
		if d, err = a.pullVerified(ctx, ref, subjectOf(result.Subject), dir, cmp.Or(origin, ref.Name()), old, &answer); err != nil {
			return err
		}
		d.Warnings = result.Decision.Warnings
	}
	a.WarnOf(d.Warnings)
	answer.Allowed, answer.Reasons = d.Allowed, d.Reasons
	if asJSON {
		if err := a.PrintJSON(answer); err != nil {
			return err
		}
	}
	if !d.Allowed {
		return a.Deny(d)
	}
	if !asJSON {
		a.printPulled(&answer)
	}
	return nil
}

func (a *app) printPulled(answer *policyPullAnswer) {
	word := "pulled"
	if answer.Before == answer.Version {
		word = "already there"
	}
	a.Print("%s  %s, version %s, %d files in %s", word, answer.Reference, answer.Version, answer.Files, answer.Folder)
	if answer.Signer != "" {
		a.Print("  signed by  %s", cli.Plain(answer.Signer))
	}
	if answer.Before != "" && answer.Before != answer.Version {
		a.Print("  before     version %s", answer.Before)
	}
	for _, folder := range slices.Sorted(maps.Keys(answer.Imports)) {
		a.Print("  its publisher says: %s is %s", cli.Plain(folder), cli.Plain(answer.Imports[folder]))
	}
}

func subjectOf(s evidence.Subject) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: s.MediaType, Digest: digest.Digest(s.Digest), Size: s.Size}
}

// pullVerified writes what was verified, by its digest, unless it is another repository's than
// origin, or a step back.
func (a *app) pullVerified(ctx context.Context, ref registry.Ref, desc ocispec.Descriptor, dir, origin string, old *policybundle.Record, answer *policyPullAnswer) (policy.Decision, error) {
	repo, err := a.RegistryClient().Open(ctx, ref)
	if err != nil {
		return policy.Decision{}, err
	}
	bundle, err := policybundle.Fetch(ctx, repo, desc)
	if err != nil {
		return policy.Decision{}, err
	}
	if why := bundle.Of(origin); why != nil {
		return policy.Deny(*why), nil
	}
	if v, err := policybundle.CheckVersion(ref.Tag); err == nil && ref.Digest == "" && v != bundle.Version {
		return policy.Deny(policy.Reason{Code: policybundle.CodeRollback, Subject: ref.String(),
			Message: fmt.Sprintf("the tag %s leads to version %s", ref.Tag, bundle.Version), Hint: "somebody moved the tag; ask the publisher"}), nil
	}
	next := policybundle.NewRecord(bundle.Repository, bundle.Version, evidence.Digest(desc.Digest))
	if why := next.Follows(old); why != nil {
		return policy.Deny(*why), nil
	}
	if old != nil {
		answer.Before = old.Version
	}
	answer.Version, answer.Folder, answer.Files, answer.Imports = bundle.Version, dir, len(bundle.Files), map[string]string{}
	for folder, i := range bundle.Imports {
		answer.Imports[folder] = i.String()
	}
	return policy.Decision{Allowed: true}, bundle.Write(dir, next)
}

// policyScheme is how a published policy is named where a file could be, too.
const policyScheme = "oci://"

// fetchPolicy reads a published policy that is named by digest, or that the pinned signer
// of its repository signed.
func (a *app) fetchPolicy(ctx context.Context, given string) (*policybundle.Bundle, error) {
	name := strings.TrimPrefix(given, policyScheme)
	ref, err := registry.ParseRef(name)
	if err != nil {
		return nil, err
	}
	repo, err := a.RegistryClient().Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	var desc ocispec.Descriptor
	if ref.Digest != "" {
		if desc, err = repo.Resolve(ctx, ref); err != nil {
			return nil, err
		}
	} else {
		result, err := a.checks().Signed(ctx, &check.Wanted{}, name)
		if err != nil {
			return nil, fault.Hint(err, "name the policy by its digest, or pin its signer: hallmark trust pin %s", cli.ShellQuote(name))
		}
		if !result.Decision.Allowed {
			return nil, a.Deny(result.Decision)
		}
		desc = subjectOf(result.Subject)
	}
	bundle, err := policybundle.Fetch(ctx, repo, desc)
	if err != nil || ref.Digest != "" { // a digest says which, wherever it lies
		return bundle, err
	}
	if why := bundle.Of(ref.Name()); why != nil {
		return nil, a.Deny(policy.Deny(*why))
	}
	return bundle, nil
}

// compileBundle compiles the named files of a bundle, which is all that the policy can read.
func compileBundle(b *policybundle.Bundle, names []string, print func(string)) (*sourcepolicy.Policy, error) {
	if len(names) == 0 {
		return nil, fault.Usagef("it has no policy: no *.rego file lies outside of its folders")
	}
	var files []sourcepolicy.File
	for _, name := range names {
		files = append(files, sourcepolicy.File{Name: name, Data: b.Files[name]})
	}
	return sourcepolicy.Compile(files, sourcepolicy.Options{FS: b.FS(), Print: print})
}
