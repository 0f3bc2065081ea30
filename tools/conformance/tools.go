//go:build tools

// Package tools pins the conformance suite of the OCI distribution specification,
// which a test runs against hallmark up's registry.
package tools

import (
	_ "github.com/opencontainers/distribution-spec/conformance"
)
