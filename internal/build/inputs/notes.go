package inputs

import (
	"strings"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/pattern"
)

// Notes say which inputs have less effect than in docker/github-builder.
func (in *Inputs) Notes() []string {
	notes := []string{}
	switch {
	case !in.Cache && in.CacheScope != "":
		notes = append(notes, "cache-scope: without cache: true nothing is cached")
	case in.Cache && !in.Sign:
		notes = append(notes, "cache: nothing is left in it by a build that is not kept; what is in it is used when there is an identity")
	case in.Cache && in.Output == OutputLocal:
		notes = append(notes, "cache: files have no image whose cache could lie beside it; nothing is cached where --cache names no repository")
	}
	if in.Distribute && len(in.Platforms) > 1 && !in.spread() {
		notes = append(notes, "distribute: one job builds the files of all platforms")
	}
	if labels := in.idleRunners(); len(labels) > 0 {
		notes = append(notes, "runner: the one job is on "+Machine+", and nothing is built on "+strings.Join(labels, ", "))
	}
	if list, on := in.emulated(); len(list) > 0 && !in.SetupQEMU {
		notes = append(notes, "setup-qemu: without it no step of "+strings.Join(list, ", ")+" can run on "+on)
	}
	if in.Output == OutputLocal && !in.Sign {
		notes = append(notes, "output: the files are built and not kept, since they are not signed; artifact-upload, or sign, keeps them")
	}
	return notes
}

var otherProcessor = pattern.New(`(?i)(^|[._-])(arm|arm64|armv?[0-9]+|aarch64|s390x|ppc64le|riscv64)([._-]|$)`)

// checkRunner refuses a label that alone says for which processor is built: the image would
// be one for ours.
func (in *Inputs) checkRunner(file string) error {
	if len(in.Platforms) > 0 {
		return in.checkParts(file)
	}
	if !otherProcessor().MatchString(in.Runner.Default) {
		return nil
	}
	err := fault.Usagef("%s: runner: %s is of another processor than %s, where the one job is, and decides nothing here", file, in.Runner.Default, Machine)
	if in.Bake {
		return fault.Hint(err, "say for which processor in platforms of the bake file's target, with setup-qemu: true for their steps, and leave runner out")
	}
	return fault.Hint(err, "say for which processor in platforms (linux/arm64), each of which is built on a machine of its own")
}
