package inputs

import (
	"slices"
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/pattern"
)

// Machine is the label of the machine that our workflows build on where nothing says
// another: GitHub's own, of X64.
const Machine = "ubuntu-24.04"

// Part is one job of a build.
type Part struct {
	Platform string `json:"platform"` // "" builds all of them
	Runner   string `json:"runner"`   // label
	Name     string `json:"name"`     // in names of files
}

// Parts are the jobs of a build: one per platform, or one for all. Files are signed each
// for itself, and there is no index to put together of parts; which platforms a bake file
// has nobody knows before it was read.
func (in *Inputs) Parts() []Part {
	if !in.spread() {
		return []Part{{Runner: Machine}}
	}
	var parts []Part
	for _, p := range in.Platforms {
		parts = append(parts, Part{p, in.Runner.For(p), strings.ReplaceAll(p, "/", "-")})
	}
	return parts
}

func (in *Inputs) spread() bool {
	return in.Distribute && !in.Bake && len(in.Platforms) > 0 && (in.Output == OutputImage || len(in.Platforms) == 1)
}

// hosted are labels of GitHub's own machines, with the release. Any other could be that of
// a machine of somebody's own, also one that GitHub has no more, or not yet: nobody but they
// would have a machine for ubuntu-20.04.
var hosted = pattern.New(`^ubuntu-2[24]\.04(-arm)?$`)

// checkParts refuses machines that parts would be built on and that are not GitHub's own.
func (in *Inputs) checkParts(file string) error {
	if !in.spread() {
		return nil
	}
	for _, p := range in.Parts() {
		if !hosted().MatchString(p.Runner) {
			return fault.Hint(fault.Usagef("%s: runner: %s, for %s, could be the label of a machine that is not GitHub's own", file, p.Runner, p.Platform),
				"name one with its release: %s, or %s-arm", Machine, Machine)
		}
	}
	return nil
}

// idleRunners are the labels that parts would be built on there, and are not here.
func (in *Inputs) idleRunners() []string {
	labels := []string{in.Runner.Default}
	if in.spread() {
		return nil
	}
	if in.Distribute && len(in.Platforms) > 0 {
		labels = nil
		for _, p := range in.Platforms {
			labels = append(labels, in.Runner.For(p))
		}
	}
	labels = slices.DeleteFunc(labels, func(l string) bool { return l == Machine })
	slices.Sort(labels)
	return slices.Compact(labels)
}

// emulated are the platforms whose steps the machine that builds them cannot run itself,
// with that machine's label.
func (in *Inputs) emulated() (list []string, on string) {
	for _, p := range in.Platforms {
		label := Machine
		if in.spread() {
			label = in.Runner.For(p)
		}
		_, arch, _ := strings.Cut(p, "/")
		native := strings.HasPrefix(arch, "amd64") || arch == "386"
		if strings.HasSuffix(label, "-arm") {
			native = strings.HasPrefix(arch, "arm")
		}
		if !native {
			list, on = append(list, p), label
		}
	}
	return list, on
}
