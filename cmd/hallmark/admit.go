package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/admission"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/policy"
	"github.com/hallmark-dev/hallmark/internal/policy/clusterimage"
	"github.com/hallmark-dev/hallmark/internal/strictyaml"
)

// admitAnswer is what `hallmark admit check --json` prints: one object.
// docs/json.md, "admit check", says the same.
type admitAnswer struct {
	Allowed bool                `json:"allowed"`
	Objects []admission.Verdict `json:"objects"`
}

type admitOptions struct {
	files  []string
	policy string
	output string
	trust  string
	asJSON bool
}

func newAdmitCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "admit",
		Short:   "Decide whether Kubernetes objects may run",
		Example: `  hallmark admit check -f pod.yaml --policy cluster-policy`,
		Args:    cli.Args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newAdmitCheckCommand(a))
	return c
}

func newAdmitCheckCommand(a *app) *cobra.Command {
	var o admitOptions
	c := &cobra.Command{
		Use:   "check -f FILE --policy DIR",
		Short: "Judge the images of Kubernetes objects by ClusterImagePolicies",
		Long: `Judge every image of Kubernetes objects (Pods and what makes Pods) by the
ClusterImagePolicies and TrustRoots of a folder. Each image is resolved to a
digest once; an allowed object is answered with its images pinned to it.

Exit code 0: all allowed; 3: denied, with the reasons; 5: a registry or another
service did not answer, so nothing is allowed.`,
		Example: `  hallmark admit check -f pod.yaml --policy cluster-policy
  hallmark admit check -f pod.yaml --policy cluster-policy -o yaml > pinned.yaml
  hallmark admit check -f - --policy cluster-policy --json < pod.yaml`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.admitCheck(c.Context(), o) },
	}
	c.Flags().StringArrayVarP(&o.files, "filename", "f", nil, "`FILE` with Kubernetes objects, - for stdin; can be repeated")
	c.Flags().StringVar(&o.policy, "policy", "", "`DIR` (or file) with ClusterImagePolicies and TrustRoots")
	c.Flags().StringVar(&o.trust, "trust", "", "trust bundle, a `FILE`: what it revokes is denied, whatever the policies say")
	c.Flags().StringVarP(&o.output, "output", "o", "", "yaml: print the objects with their images pinned")
	c.Flags().BoolVar(&o.asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) admitCheck(ctx context.Context, o admitOptions) error {
	switch {
	case len(o.files) == 0:
		return fault.Usagef("say what to judge: -f FILE")
	case o.policy == "":
		return fault.Usagef("say by which policies: --policy DIR")
	case o.output != "" && o.output != "yaml":
		return fault.Usagef("-o %s: want yaml", o.output)
	case o.output != "" && o.asJSON:
		return fault.Usagef("-o and --json exclude each other")
	}
	set, err := clusterimage.Load(o.policy, policyCompilers())
	if err != nil {
		return err
	}
	objects, err := a.readObjects(o.files)
	if err != nil {
		return err
	}
	believed, err := a.TrustBundle(o.trust)
	if err != nil {
		return err
	}
	revoked := believed.Revocations()
	judge, err := admission.New(admission.Config{
		Policies: set, Registry: a.RegistryClient(), Verifier: a.verifierFor(set, revoked), Revoked: revoked, Now: time.Now,
	})
	if err != nil {
		return err
	}
	verdicts, err := judge.Review(ctx, objects)
	if err != nil {
		return err
	}
	return a.admitAnswer(o, objects, verdicts)
}

func (a *app) readObjects(files []string) ([]*admission.Object, error) {
	var out []*admission.Object
	for _, name := range files {
		data, err := a.readManifest(name)
		if err != nil {
			return nil, err
		}
		objects, err := admission.ParseObjects(name, data)
		if err != nil {
			return nil, err
		}
		out = append(out, objects...)
	}
	return out, nil
}

func (a *app) readManifest(name string) ([]byte, error) {
	r := a.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fault.Usagef("-f: %w", err)
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, strictyaml.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// admitAnswer prints the verdicts and decides on the exit code: a certain denial
// weighs more than a service that did not answer.
func (a *app) admitAnswer(o admitOptions, objects []*admission.Object, verdicts []admission.Verdict) error {
	all := policy.Decision{Allowed: true}
	var undecided error
	certain := false
	for _, v := range verdicts {
		all.Allowed = all.Allowed && v.Allowed
		for _, i := range v.Images {
			where := fmt.Sprintf("%s, %s: ", objectName(v), i.Field)
			for _, r := range i.Reasons {
				r.Message = where + r.Message
				all.Reasons = append(all.Reasons, r)
			}
			for _, w := range i.Warnings {
				a.Warn("[%s] %s%s", w.Code, where, cli.OneLine(w.Message))
			}
			if i.Err != nil && undecided == nil {
				undecided = fmt.Errorf("%s%w", where, i.Err)
			}
			certain = certain || !i.Allowed && i.Err == nil
		}
	}
	if err := a.printVerdicts(o, objects, verdicts, all.Allowed); err != nil {
		return err
	}
	switch {
	case all.Allowed:
		return nil
	case certain:
		return a.Deny(all)
	}
	_ = a.Deny(all) // prints the reasons; the exit code is the undecided one's
	return fault.Hint(undecided, "nothing is allowed for want of an answer; try again when the service answers")
}

func objectName(v admission.Verdict) string {
	if v.Namespace != "" {
		return v.Kind + " " + v.Namespace + "/" + v.Name
	}
	return v.Kind + " " + v.Name
}

func (a *app) printVerdicts(o admitOptions, objects []*admission.Object, verdicts []admission.Verdict, allowed bool) error {
	switch {
	case o.asJSON:
		return a.PrintJSON(admitAnswer{Allowed: allowed, Objects: verdicts})
	case o.output == "yaml":
		if !allowed {
			return nil
		}
		return admission.WriteYAML(a.Stdout, objects)
	}
	for _, v := range verdicts {
		word := "denied"
		if v.Allowed {
			word = "allowed"
		}
		a.Print("%s  %s", word, objectName(v))
		for _, i := range v.Images {
			name := i.Image
			if i.Pinned != "" {
				name = i.Pinned
			}
			a.Print("  %s  %s", i.Field, name)
		}
	}
	return nil
}
