//go:build tools

// Package tools pins buildkitd, the BuildKit daemon that the demo and the tests
// build once into the cache. It is a module of its own so that the daemon's 200
// dependencies never weigh on Hallmark. Do not run "go mod tidy" here: it
// resolves test-only modules of BuildKit that cannot be had.
package tools

import (
	_ "github.com/moby/buildkit/cmd/buildctl"
	_ "github.com/moby/buildkit/cmd/buildkitd"
	_ "github.com/moby/buildkit/frontend/dockerfile/cmd/dockerfile-frontend"
)
