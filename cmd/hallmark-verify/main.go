// Command hallmark-verify has hallmark's commands that look and judge, and
// nothing that builds, signs or serves: a small binary for where images are only
// checked.
package main

import (
	"os"

	"github.com/hallmark-dev/hallmark/internal/cli"
	"github.com/hallmark-dev/hallmark/internal/cli/check"
)

// version is set by the linker (-X main.version); a plain go build leaves "dev".
var version = "dev"

func main() {
	a := cli.New(version)
	os.Exit(a.Execute(check.Root(a), os.Args[1:]))
}
