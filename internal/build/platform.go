package build

import (
	"slices"
	"strings"

	"github.com/containerd/platforms"

	"github.com/hallmark-dev/hallmark/internal/fault"
	"github.com/hallmark-dev/hallmark/internal/spelling"
)

// processors are what a misspelt one was probably meant to be.
var processors = []string{"amd64", "arm64", "arm", "386", "ppc64le", "riscv64", "s390x", "loong64", "mips64le", "wasm"}

// systems are those that BuildKit builds for and package platforms does not know by itself.
var systems = []string{"wasi", "wasip1"}

// CheckPlatform refuses a platform that is none. BuildKit takes any word for an operating
// system or a processor: a misspelt one would be built, for this machine's processor, and
// signed as an image that no machine is found for.
func CheckPlatform(p string) error {
	parts := strings.Split(p, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") || strings.ContainsAny(p, ", \t\n") {
		return fault.Usagef("--platform %q: want OS/ARCH or OS/ARCH/VARIANT, like linux/arm64", p)
	}
	whole, err := platforms.Parse(p)
	if err != nil {
		return fault.Usagef("--platform %q: %v", p, err)
	}
	// Alone, a word is only taken when it is known, and then as what it is.
	system, _, _ := strings.Cut(parts[0], "(") // windows(10.0.17763)
	if one, err := platforms.Parse(system); !slices.Contains(systems, system) && (err != nil || one.OS != whole.OS) {
		return fault.Usagef("--platform %q: %s is no operating system, such as linux", p, system)
	}
	if one, err := platforms.Parse(parts[1]); err != nil || one.Architecture != whole.Architecture {
		return fault.Usagef("--platform %q: %s is no processor%s", p, parts[1], spelling.Hint(parts[1], processors))
	}
	return nil
}
