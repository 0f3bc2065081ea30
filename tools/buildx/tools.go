//go:build tools

// Package tools pins docker buildx, the peer of source policies that the benchmarks run.
package tools

import _ "github.com/docker/buildx/cmd/buildx"
