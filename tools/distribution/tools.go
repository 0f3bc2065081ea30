//go:build tools

// Package tools pins distribution's registry, the peer of hallmark up's registry
// in the benchmark.
package tools

import (
	_ "github.com/distribution/distribution/v3/cmd/registry"
)
