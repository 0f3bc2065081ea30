package main

import (
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-dev/hallmark/internal/build/inputs"
	"github.com/hallmark-dev/hallmark/internal/build/meta"
	"github.com/hallmark-dev/hallmark/internal/build/part"
	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/fault"
)

// inputsAnswer is what inputs --json prints; docs/json.md has the table.
type inputsAnswer struct {
	Output             string                       `json:"output"`
	Push               bool                         `json:"push"`
	Sign               bool                         `json:"sign"`
	Parts              []inputs.Part                `json:"parts"`
	Distributed        bool                         `json:"distributed"` // they are put together
	RegistryIdentities map[string]map[string]string `json:"registryIdentities"`
	Artifact           *inputsArtifact              `json:"artifact,omitempty"`
	SetupQEMU          bool                         `json:"setupQEMU"`
	Notes              []string                     `json:"notes"`
}

type inputsArtifact struct {
	Name string `json:"name"`
	Days int    `json:"days"`
}

func newInputsCommand(a *app) *cobra.Command {
	var bake, asJSON bool
	c := &cobra.Command{
		Use:    "inputs FILE",
		Hidden: true, // for workflows; docs/github.md
		Short:  "Check the inputs of a trusted build, and say what a workflow needs of them",
		Long: `Check inputs of docker/github-builder's build.yml or bake.yml (JSON or YAML; - is
stdin) before anything is built: names, forms, what is at odds with each other,
the rules for tags and the templates. docs/github.md has the list.`,
		Example: `  printf 'output: image\nmeta-images: ghcr.io/org/app\nmeta-tags: type=sha\n' | hallmark inputs -
  printf '{"output":"image","meta-images":"ghcr.io/org/app","push":true}' | hallmark inputs --json -
  printf 'output: local\nfiles: docker-bake.hcl\n' | hallmark inputs --bake -
  printf 'output: image\nmeta-images: ghcr.io/org/app\nplatfroms: linux/amd64\n' | hallmark inputs -    # exit 2: platforms is meant`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, argv []string) error {
			in, err := a.readInputs(argv[0], bake)
			if err != nil {
				return err
			}
			return a.printInputs(in, asJSON)
		},
	}
	c.Flags().BoolVar(&bake, "bake", false, "those of bake.yml")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// readInputs reads a file of inputs, "-" for stdin, and checks all that can be checked
// without knowing the ref.
func (a *app) readInputs(name string, bake bool) (*inputs.Inputs, error) {
	var src io.Reader = a.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fault.Usagef("no file %s", name)
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		src = f
	} else {
		name = "inputs"
	}
	data, err := io.ReadAll(io.LimitReader(src, inputs.MaxSize+1))
	if err != nil {
		return nil, err
	}
	read := inputs.Read
	if bake {
		read = inputs.ReadBake
	}
	in, err := read(name, data)
	if err != nil {
		return nil, err
	}
	if in.Distribute {
		if _, err := part.Normals(in.Platforms); err != nil { // which every part would say, and late
			return nil, fault.Usagef("%s: %w", name, err)
		}
	}
	if err := meta.Check(in.Meta); err != nil {
		return nil, err
	}
	if names, _ := meta.Images(in.Meta.Images); bake && len(names) > 1 { // its errors are those of Check
		return nil, fault.Usagef("meta-images: %d names; the image of a bake file's target has one", len(names))
	}
	_, err = in.Pairs(in.Sample())
	return in, err
}

func (a *app) printInputs(in *inputs.Inputs, asJSON bool) error {
	answer := inputsAnswer{Output: in.Output, Push: in.Push, Sign: in.Sign, SetupQEMU: in.SetupQEMU,
		Parts: in.Parts(), RegistryIdentities: map[string]map[string]string{}, Notes: in.Notes()}
	answer.Distributed = len(answer.Parts) > 1
	for _, id := range in.RegistryIdentities {
		answer.RegistryIdentities[id.Type] = id.Fields
	}
	if in.ArtifactUpload {
		answer.Artifact = &inputsArtifact{in.ArtifactName, in.RetentionDays}
	}
	if asJSON {
		return a.PrintJSON(answer)
	}
	what := map[bool]string{true: "signed", false: "not signed"}[in.Sign]
	if in.Output == inputs.OutputImage {
		what += map[bool]string{true: ", pushed", false: ", not pushed"}[in.Push]
	}
	a.Print("these inputs can be used: %s, %s", in.Output, what)
	for _, p := range answer.Parts {
		a.Print("  part       %s", strings.TrimSpace(p.Platform+" on "+p.Runner))
	}
	for _, n := range answer.Notes {
		a.Print("  note       %s", n)
	}
	return nil
}
