//go:build tools

// Package tools pins oras and crane, peers that the interoperability tests run.
package tools

import (
	_ "github.com/google/go-containerregistry/cmd/crane"
	_ "oras.land/oras/cmd/oras"
)
