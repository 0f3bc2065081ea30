package build

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/hallmark-dev/hallmark/internal/build/trusted"
)

// Trusted is what a trusted build has beside what its caller may choose; package trusted
// has its rules.
type Trusted struct {
	Frontend trusted.Frontend
	Scanner  string // image by digest that makes an SBOM; "" makes none
	Private  bool   // the source is: its provenance has neither steps, arguments nor the Dockerfile's text
	Facts    trusted.Facts
}

// provenance are further parameters of the attestation (docs/attestations/slsa-provenance.md).
func (t *Trusted) provenance() string {
	switch {
	case t == nil:
		return ",mode=max"
	case t.Private:
		return ",mode=min,complete-materials=true"
	}
	return ",mode=max,complete-materials=true"
}

// frontend is what BuildKit is told to use.
func (t *Trusted) frontend() string {
	if t == nil || t.Frontend.Image == "" {
		return "dockerfile.v0"
	}
	return "gateway.v0"
}

// attrs adds the frontend's options. With "cmdline" the frontend in BuildKit does not
// look for a "# syntax" line: we did.
func (t *Trusted) attrs(attrs map[string]string) {
	if t == nil {
		return
	}
	attrs["cmdline"] = "dockerfile.v0"
	if t.Frontend.Image != "" {
		attrs["source"], attrs["cmdline"] = t.Frontend.Image, t.Frontend.Cmdline
	}
	if t.Scanner != "" {
		attrs["attest:sbom"] = "generator=" + t.Scanner
	}
}

// trustedProvenance is what is checked of a trusted build's provenance beside the rest.
type trustedProvenance struct {
	BuildDefinition struct {
		ExternalParameters struct {
			Request struct {
				Frontend string            `json:"frontend"`
				Args     map[string]string `json:"args"`
				Locals   []json.RawMessage `json:"locals"`
			} `json:"request"`
		} `json:"externalParameters"`
		InternalParameters map[string]json.RawMessage `json:"internalParameters"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Metadata struct {
			StartedOn    string `json:"startedOn"`
			FinishedOn   string `json:"finishedOn"`
			Hermetic     bool   `json:"buildkit_hermetic"`
			Completeness struct {
				ResolvedDependencies bool `json:"resolvedDependencies"`
			} `json:"buildkit_completeness"`
			BuildKit struct {
				Source json.RawMessage `json:"source"`
			} `json:"buildkit_metadata"`
		} `json:"metadata"`
	} `json:"runDetails"`
}

// checkTrusted checks that a provenance says what a trusted build says: which sources
// BuildKit fetched (what steps fetch themselves only hermetic builds rule out), by which tools, and nothing that only this machine has.
func (r Request) checkTrusted(predicate []byte) error {
	t := r.Trusted
	if t == nil {
		return nil
	}
	var p trustedProvenance
	if err := json.Unmarshal(predicate, &p); err != nil {
		return err
	}
	var facts trusted.Facts
	if err := json.Unmarshal(p.BuildDefinition.InternalParameters[trusted.FactsKey], &facts); err != nil || !reflect.DeepEqual(facts, t.Facts) {
		return fmt.Errorf("it does not say by which tools it was built (%s)", trusted.FactsKey)
	}
	request, meta := p.BuildDefinition.ExternalParameters.Request, p.RunDetails.Metadata
	_, steps := p.BuildDefinition.InternalParameters["buildConfig"]
	switch {
	case request.Frontend != t.frontend() || request.Args["source"] != t.Frontend.Image:
		return fmt.Errorf("it names the frontend %q %q", request.Frontend, request.Args["source"])
	case len(request.Locals) > 0: // secrets and agents that it names were asked for, and there were none
		return fmt.Errorf("it names folders of this machine")
	case !meta.Completeness.ResolvedDependencies:
		return fmt.Errorf("it does not name all sources that BuildKit fetched")
	case r.Options.Hermetic && !meta.Hermetic:
		return fmt.Errorf("it does not say that the build had no network (buildkit_hermetic)")
	case meta.StartedOn == "" || meta.FinishedOn == "":
		return fmt.Errorf("it does not say when it was built")
	case steps == t.Private || (len(meta.BuildKit.Source) > 0) == t.Private:
		return fmt.Errorf("it is not of the mode that was asked for: private is %t, steps are there: %t", t.Private, steps)
	}
	return nil
}
